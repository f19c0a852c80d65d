plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

android {
    namespace = "io.github.llmtflite.app"
    compileSdk = libs.versions.compileSdk.get().toInt()

    defaultConfig {
        applicationId = "io.github.llmtflite.app"
        minSdk = libs.versions.minSdk.get().toInt()
        targetSdk = libs.versions.compileSdk.get().toInt()
        versionCode = 1
        versionName = "1.0"
    }

    androidResources {
        // Stored as they are, models are mapped instead of copied into memory.
        noCompress += listOf("tflite", "litertlm")
    }

    testOptions {
        unitTests.all { test ->
            test.useJUnitPlatform()
            test.systemProperty("llm_tflite.android_app", rootDir.path)
        }
    }
}

kotlin {
    jvmToolchain(libs.versions.java.get().toInt())
    compilerOptions {
        allWarningsAsErrors = true
    }
}

dependencies {
    implementation(project(":core"))
    implementation(libs.litert)
    // The select TensorFlow operations, if libs/build_aar built them.
    implementation(fileTree("libs") { include("*.aar") })
    testImplementation(platform(libs.junit.bom))
    testImplementation(libs.junit.jupiter)
    testRuntimeOnly(libs.junit.launcher)
}
