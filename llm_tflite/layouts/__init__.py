"""How a model is laid out in a file; ``prefill_decode`` has an explicit KV cache."""
