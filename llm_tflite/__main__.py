"""``python -m llm_tflite`` is the command ``llm-tflite``."""

from .cli import main

if __name__ == "__main__":
    main()
