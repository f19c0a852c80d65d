"""One module per engine, each with ``measure(path, workload, **options) -> Measurement``."""
