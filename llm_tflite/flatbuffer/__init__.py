"""The TFLite flatbuffer: read, edit, stream out. Nothing in here knows about language models."""
