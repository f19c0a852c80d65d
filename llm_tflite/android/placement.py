"""Puts a model into the assets of the Android app."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..artifact import Artifact
from ..errors import ArtifactExistsError, InvalidOptionError, StorageError
from ..files import PathLike, local_path, storage_errors
from ..inspection import Inspection
from .runtime_version import AppRuntime, app_runtime, check_runtime
from .suitability import check_suitable

_MANIFEST = Path("app/src/main/AndroidManifest.xml")
_ASSETS = Path("app/src/main/assets")
# What the app looks for; one of the two is there at a time.
_NAMES = {".tflite": "autocomplete.tflite", ".litertlm": "autocomplete.litertlm"}


@dataclass(frozen=True)
class Placement:
    """A model that is in place.

    Attributes:
        path: Where it is.
        inspection: What the file holds.
        runtime: What the app runs it with; None if its version catalog does not say.
        replaced: Names of the models that were there before.
        memory_bytes: What file and caches take on the phone, at least.
    """

    path: Path
    inspection: Inspection
    runtime: AppRuntime | None
    replaced: tuple[str, ...]
    memory_bytes: int


def place(file: PathLike, app: PathLike, *, overwrite: bool = False) -> Placement:
    """Copy a model into the Android project, after checking that its app can run it.

    The copy appears whole or not at all.

    Args:
        file: A ``.tflite`` or ``.litertlm`` file of this library.
        app: The folder of the Android project.
        overwrite: Whether a model that is there may be replaced.

    Raises:
        ArtifactNotFoundError: There is no such file.
        ArtifactExistsError: There is a model already and ``overwrite`` is false.
        CorruptArtifactError: The file was changed since it was written.
        IncompatibleArtifactError: The app cannot run it.
        InvalidOptionError: ``app`` is no such project.
        StorageError: The disk refused.
    """
    project = local_path(app)
    if not (project / _MANIFEST).is_file():
        raise InvalidOptionError(
            f"expected the folder of the Android project, with {_MANIFEST}; {app} has none"
        )
    inspection = check_suitable(file)
    runtime = app_runtime(project)
    if runtime is not None:
        check_runtime(runtime)
    assets = project / _ASSETS
    target = assets / _NAMES[inspection.container]
    there = tuple(name for name in _NAMES.values() if (assets / name).is_file())
    if there and not overwrite:
        raise ArtifactExistsError(f"{assets / there[0]} exists; pass overwrite=True to replace it")
    if target.exists() and target.samefile(file):
        raise ArtifactExistsError(f"{file} is in place already")
    with storage_errors(assets):
        assets.mkdir(parents=True, exist_ok=True)
    Artifact.open(file).save_as(target, overwrite=overwrite)
    _remove_others(target)
    cache_bytes = inspection.manifest.cache_bytes if inspection.manifest else 0
    return Placement(target, inspection, runtime, there, inspection.size_bytes + cache_bytes)


def _remove_others(target: Path) -> None:
    for name in _NAMES.values():
        other = target.with_name(name)
        if other == target:
            continue
        try:
            other.unlink(missing_ok=True)
        except OSError as e:
            raise StorageError(
                f"{target} is in place, but {other} could not be removed ({e.strerror}), and the "
                "app takes one of them: remove it"
            ) from e
