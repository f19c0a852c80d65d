"""A KerasHub causal language model goes in; one file that a phone runs comes out."""
