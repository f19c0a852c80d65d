"""The two containers of an artifact, ``.litertlm`` and ``.tflite``, read without trust."""
