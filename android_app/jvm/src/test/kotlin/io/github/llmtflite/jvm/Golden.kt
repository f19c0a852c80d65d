package io.github.llmtflite.jvm

import io.github.llmtflite.core.ModelFile
import io.github.llmtflite.core.Parameters
import io.github.llmtflite.core.TextEngine
import io.github.llmtflite.core.openEngine
import org.json.JSONArray
import org.json.JSONObject
import java.nio.file.Files
import java.nio.file.Path

/** What `ci/golden.py` wrote: files and the answers that Python gave with them. */
internal object Golden {
    private val folder = Path.of(checkNotNull(System.getProperty("llm_tflite.android_app")) { "run the tests by Maven" })
        .resolve("ci/golden")

    val models: List<GoldenModel> by lazy {
        val file = folder.resolve("golden.json")
        check(Files.isRegularFile(file)) { "$file is missing: `make android` writes it" }
        JSONObject(Files.readString(file)).getJSONArray("models").map(::GoldenModel)
    }

    fun path(name: String): Path = folder.resolve(name)

    fun open(name: String, threads: Int = 1): TextEngine = ModelFile.open(path(name)).openEngine(JnaRuntime(), threads)
}

internal class GoldenModel(json: JSONObject) {
    val file: String = json.getString("file")
    val cases: List<GoldenCase> = json.getJSONArray("cases").map(::GoldenCase)
}

internal class GoldenCase(json: JSONObject) {
    val prompt: String = json.getString("prompt")
    val promptTokens: Int = json.getJSONArray("prompt_ids").length()
    val parameters = Parameters(
        maxNewTokens = json.getInt("max_new_tokens"),
        temperature = json.getDouble("temperature").toFloat(),
        topK = json.getInt("top_k"),
        topP = json.getDouble("top_p").toFloat(),
        seed = if (json.isNull("seed")) null else json.getLong("seed"),
    )
    val ids: List<Int> = json.getJSONArray("ids").let { ids -> List(ids.length(), ids::getInt) }
    val text: String = json.getString("text")
    val finish: String = json.getString("finish")
}

private fun <T> JSONArray.map(read: (JSONObject) -> T): List<T> = List(length()) { read(getJSONObject(it)) }
