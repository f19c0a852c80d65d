"""Tracing a causal language model into signatures that keep the tensors that are fast.

``probe`` learns the cache, three *views* stand in for it, for the weights and for the mask while
Keras code runs, ``fold`` cleans the recorded graph; ``signatures`` and ``forward`` put them
together.
"""
