plugins {
    alias(libs.plugins.android.application)
    alias(libs.plugins.kotlin.android)
}

// An archive of its own from libs/build_aar, with the select TensorFlow operations, takes the place of LiteRT.
val ownRuntime = fileTree("libs") { include("*.aar") }

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
    if (ownRuntime.isEmpty) {
        implementation(libs.litert)
    } else {
        implementation(ownRuntime)
    }
    testImplementation(platform(libs.junit.bom))
    testImplementation(libs.junit.jupiter)
    testRuntimeOnly(libs.junit.launcher)
}
