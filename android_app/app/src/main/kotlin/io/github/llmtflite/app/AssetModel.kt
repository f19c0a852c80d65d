package io.github.llmtflite.app

import android.content.res.AssetManager
import io.github.llmtflite.core.ModelSource
import java.io.FileInputStream
import java.nio.channels.FileChannel

/** A model in the app's assets, which are stored in the APK as they are, so that they can be mapped. */
class AssetModel(private val assets: AssetManager, override val name: String) : ModelSource {
    override fun <T> read(read: (channel: FileChannel, begin: Long, size: Long) -> T): T =
        assets.openFd(name).use { asset ->
            FileInputStream(asset.fileDescriptor).channel.use { read(it, asset.startOffset, asset.declaredLength) }
        }

    companion object {
        private val ENDINGS = listOf(".tflite", ".litertlm")

        fun all(assets: AssetManager): List<AssetModel> =
            assets.list("").orEmpty().filter { name -> ENDINGS.any(name::endsWith) }.map { AssetModel(assets, it) }
    }
}
