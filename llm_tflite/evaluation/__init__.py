"""What a file costs and what quantization took from it: figures beside the float model's."""
