"""How a model is laid out in a file: today ``prefill_decode``, signatures with an explicit KV cache."""
