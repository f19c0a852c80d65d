"""One module per engine.

Each has ``measure(path, workload, **options) -> Measurement`` and ``DISTRIBUTIONS``, the names of
the packages that were measured.
"""
