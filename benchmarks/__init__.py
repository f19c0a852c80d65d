"""How fast the same models run here and elsewhere: ``python -m benchmarks.compare --help``."""
