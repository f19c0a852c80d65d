"""One measurement: ``python -m benchmarks.engines REQUEST``; the last line it prints is the result.

REQUEST is JSON: the module of the engine, the path of the file, the workload and options.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from dataclasses import asdict

from benchmarks.measurement import Workload

request = json.loads(sys.argv[1])
engine = importlib.import_module(f"benchmarks.engines.{request['module']}")
workload = Workload(**request["workload"])
measurement = engine.measure(request["path"], workload, **request["options"])
versions = {name: importlib.metadata.version(name) for name in engine.DISTRIBUTIONS}
print(json.dumps({"measurement": asdict(measurement), "versions": versions}))
