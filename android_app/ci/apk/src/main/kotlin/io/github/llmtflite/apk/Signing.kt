package io.github.llmtflite.apk

import com.android.apksig.ApkSigner
import com.android.apksig.KeyConfig
import java.nio.file.Files
import java.nio.file.Path
import java.security.KeyStore
import java.security.PrivateKey
import java.security.cert.X509Certificate
import kotlin.io.path.absolutePathString

private const val ALIAS = "androiddebugkey"
private const val PASSWORD = "android"

/** Memory pages of 16 KiB, which devices from Android 15 on may have. */
const val PAGE_BYTES = 16_384

/** Aligns what is stored, and signs with a key of this build's own, named like Android's debug key. */
internal fun sign(unsigned: Path, output: Path, versions: Versions, work: Path) {
    val store = key(work.resolve("debug.keystore"))
    val signer = ApkSigner.SignerConfig.Builder(
        ALIAS,
        KeyConfig.Jca(store.getKey(ALIAS, PASSWORD.toCharArray()) as PrivateKey),
        listOf(store.getCertificate(ALIAS) as X509Certificate),
    ).build()
    ApkSigner.Builder(listOf(signer))
        .setInputApk(unsigned.toFile())
        .setOutputApk(output.toFile())
        .setMinSdkVersion(versions.minSdk)
        .setLibraryPageAlignmentBytes(PAGE_BYTES)
        .setV4SigningEnabled(false)
        .build()
        .sign()
}

private fun key(file: Path): KeyStore {
    Files.deleteIfExists(file)
    val keytool = Path.of(System.getProperty("java.home"), "bin", "keytool")
    val process = ProcessBuilder(
        keytool.absolutePathString(), "-genkeypair", "-keystore", file.absolutePathString(), "-storetype", "PKCS12",
        "-storepass", PASSWORD, "-alias", ALIAS, "-keyalg", "RSA", "-keysize", "2048", "-validity", "10000", "-dname", "CN=Android Debug",
    ).redirectErrorStream(true).start()
    val said = process.inputStream.bufferedReader().readText()
    if (process.waitFor() != 0) throw BuildFailure("keytool: $said")
    return KeyStore.getInstance(file.toFile(), PASSWORD.toCharArray())
}
