"""Which TFLite runtime the Android app is built with, by its version catalog."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import IncompatibleArtifactError, InvalidOptionError
from ..files import local_path, open_regular

CATALOG = Path("gradle/libs.versions.toml")
LITERT = "com.google.ai.edge.litert:litert"
_OLD = "org.tensorflow:tensorflow-lite"

# Measured with ai-edge-litert of the same versions: on weights in blocks of four bits, 1.1.2 ends
# the process and 1.2.0 computes something else without a word; 1.3.0 and later agree with 2.3.0.
LEAST_LITERT = (1, 3, 0)


@dataclass(frozen=True)
class AppRuntime:
    """A library of the version catalog; as a string, ``group:name:version``."""

    module: str
    version: str

    def __str__(self) -> str:
        """Return it as Gradle writes it."""
        return f"{self.module}:{self.version}"


def app_runtime(app: Path) -> AppRuntime | None:
    """Return the runtime that an Android project names in its version catalog, if it does.

    Raises:
        InvalidOptionError: The catalog cannot be read.
    """
    path = local_path(app / CATALOG)
    if not path.exists():
        return None
    with open_regular(path) as stream:
        try:
            catalog = tomllib.loads(stream.read().decode("utf-8"))
            return _runtime(catalog)
        except (ValueError, AttributeError, LookupError, TypeError) as e:
            raise InvalidOptionError(
                f"expected a version catalog of Gradle in {path}; it cannot be read: {e}"
            ) from e


def check_runtime(runtime: AppRuntime) -> None:
    """Refuse a runtime that does not run the files of this library.

    Raises:
        IncompatibleArtifactError: It is too old, or does not say how old it is.
    """
    least = ".".join(map(str, LEAST_LITERT))
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", runtime.version)
    version = tuple(int(number or 0) for number in numbers.groups()) if numbers else None
    if runtime.module != LITERT or version is None or version < LEAST_LITERT:
        raise IncompatibleArtifactError(
            f"expected an app with {LITERT}:{least} or later; {CATALOG} names {runtime}, which "
            "lacks operations of this file or computes them wrongly: raise the version there"
        )


def _runtime(catalog: Mapping[str, Any]) -> AppRuntime | None:
    found = None
    for entry in catalog.get("libraries", {}).values():
        if isinstance(entry, str):
            module, _, version = entry.rpartition(":")
        else:
            module = entry["module"] if "module" in entry else f"{entry['group']}:{entry['name']}"
            version = entry.get("version", "")
        if module not in (LITERT, _OLD):
            continue
        if isinstance(version, Mapping):
            version = catalog["versions"][version["ref"]] if "ref" in version else version
        if isinstance(version, Mapping):  # a range or a preference
            version = str(version.get("strictly") or version.get("require") or "")
        found = AppRuntime(module, version)
        if module == LITERT:
            break
    return found
