"""Finding plugins, and keeping what one of them breaks from everything else.

Each plugin gets a plugin manager of its own: pluggy ends a hook call at the first implementation
that raises, and ``check_pending`` does not say which of several plugins misspelt a hook.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from . import hookspecs
from ._version import __version__
from .errors import PluginConflictError, PluginError, UnknownPluginNameError
from .quantization import QuantizationStrategy, check_strategy

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

# Third-party plugins that shall not be imported: names of entry points or of distributions,
# separated by commas, or "all".
DISABLE_VARIABLE = "LLM_TFLITE_DISABLE_PLUGINS"

_OWN_DISTRIBUTION = "llm-tflite"

# The folders of an absolute path, which say more of the machine than of the mistake.
_FOLDERS = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/](?:[^\\/:*?"'<>|()\n]+[\\/])*""")


@dataclass(frozen=True)
class PluginInfo:
    """One plugin, as ``llm-tflite plugins`` lists it.

    Attributes:
        name: Its entry point.
        distribution: The installed package that it came with.
        version: The version of that package.
        provides: Names on offer, by kind: ``{"quantizers": [...]}``.
        error: What is wrong with it, or ``None``.
    """

    name: str
    distribution: str
    version: str
    provides: dict[str, list[str]] = field(default_factory=dict)
    error: str | None = None

    def __str__(self) -> str:
        """Return the plugin and its package, as error messages name it."""
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class _Plugin:
    info: PluginInfo
    quantizers: Mapping[str, QuantizationStrategy] = field(default_factory=dict)
    failure: BaseException | None = None


class Plugins:
    """What the installed plugins offer; they are imported when the first name is asked for.

    Args:
        search_path: Folders whose distributions are considered; by default, ``sys.path``.
    """

    def __init__(self, search_path: Sequence[Path] | None = None) -> None:
        """Remember where to look; nothing is imported yet."""
        self._search_path = search_path
        self._lock = threading.RLock()
        self._loading = False
        self._loaded: list[_Plugin] | None = None

    def quantizer(self, choice: str | QuantizationStrategy) -> QuantizationStrategy:
        """Return the strategy of that name, or ``choice`` itself if it is a strategy.

        Raises:
            InvalidOptionError: If ``choice`` is neither a name nor a strategy.
            UnknownPluginNameError: If nobody offers that name; plugins that failed are named.
            PluginConflictError: If several plugins offer it.
        """
        if not isinstance(choice, str):
            return check_strategy(choice)
        offers = [plugin for plugin in self._load() if choice in plugin.quantizers]
        if len(offers) == 1:
            return offers[0].quantizers[choice]
        if offers:
            culprits = " and ".join(str(plugin.info) for plugin in offers)
            raise PluginConflictError(
                f"one plugin should offer the quantizer {choice!r}, but there are {culprits}; "
                f"uninstall one, or name it in the environment variable {DISABLE_VARIABLE}"
            )
        failures = (plugin.failure for plugin in self._load() if plugin.failure)
        raise UnknownPluginNameError(self._unknown(choice)) from next(failures, None)

    def quantizer_names(self) -> list[str]:
        """Return the names that can be asked for, built-in ones first."""
        names = [name for plugin in self._load() for name in plugin.quantizers]
        return [name for name in names if names.count(name) == 1]

    def infos(self) -> list[PluginInfo]:
        """Return every plugin, broken and disabled ones included, built-in ones first."""
        loaded = self._load()
        return [_with_conflicts(plugin, loaded) for plugin in loaded]

    def _unknown(self, choice: str) -> str:
        names = self.quantizer_names()
        message = f"expected a quantizer out of {', '.join(names)}; got {choice!r:.80}"
        close = difflib.get_close_matches(choice[:80], names, n=1)
        if close:
            message += f", did you mean {close[0]!r}?"
        failed = [info for info in self.infos() if info.error and not info.provides]
        if failed:
            message += "\nThese plugins cannot offer anything:"
            message += "".join(f"\n  {info}: {info.error}" for info in failed)
        return message

    def _load(self) -> list[_Plugin]:
        with self._lock:
            if self._loading:
                raise PluginError("plugins cannot be asked for while they are being loaded")
            if self._loaded is None:
                self._loading = True
                try:
                    self._loaded = list(_load_all(self._search_path))
                finally:
                    self._loading = False
            return self._loaded


_INSTALLED = Plugins()


def load_plugins() -> Plugins:
    """Return the plugins of this environment, found once per process."""
    return _INSTALLED


def plugins() -> list[PluginInfo]:
    """Return what is installed, from which distribution, what it provides and what failed."""
    return _INSTALLED.infos()


def _load_all(search_path: Sequence[Path] | None) -> Iterator[_Plugin]:
    # Imported late: with all that it imports, it takes longer than the rest of llm_tflite.
    from importlib.metadata import EntryPoint

    # Declared in our metadata too, but a source tree that was never installed has none.
    yield _load_one(
        PluginInfo("builtin_quantizers", _OWN_DISTRIBUTION, __version__),
        EntryPoint("builtin_quantizers", "llm_tflite.quantizers", hookspecs.PROJECT),
    )
    disabled = {_normalized(name) for name in os.environ.get(DISABLE_VARIABLE, "").split(",")}
    for distribution in _third_party(search_path):
        info = PluginInfo("?", distribution.name or "?", distribution.version or "?")
        try:
            entry_points = sorted(distribution.entry_points.select(group=hookspecs.PROJECT))
        except Exception as error:
            yield _Plugin(replace(info, error=f"damaged metadata: {_explain(error)}"), {}, error)
            continue
        for entry_point in entry_points:
            info = replace(info, name=entry_point.name)
            if disabled & {"all", _normalized(info.name), _normalized(info.distribution)}:
                yield _Plugin(replace(info, error=f"disabled by {DISABLE_VARIABLE}"))
            else:
                yield _load_one(info, entry_point)


def _third_party(search_path: Sequence[Path] | None) -> list[Distribution]:
    """Return the distributions of others that declare plugins, each once, by name."""
    from importlib.metadata import distributions

    path = sys.path if search_path is None else [str(folder) for folder in search_path]
    found: dict[str, Distribution] = {}
    for distribution in distributions(path=path):
        try:
            declared = distribution.read_text("entry_points.txt") or ""
        except UnicodeDecodeError:  # Nothing tells that it would be ours.
            continue
        # Only then parsed, as one damaged file would make `entry_points()` fail for everybody.
        if f"[{hookspecs.PROJECT}]" in declared:
            found.setdefault(_normalized(distribution.name or "?"), distribution)
    found.pop(_OWN_DISTRIBUTION, None)
    return [found[name] for name in sorted(found)]


def _load_one(info: PluginInfo, entry_point: EntryPoint) -> _Plugin:
    """Return what a plugin offers: all of it, or nothing and the reason."""
    quantizers: dict[str, QuantizationStrategy] = {}

    def register(strategy: QuantizationStrategy) -> None:
        name = check_strategy(strategy).name
        if name in quantizers:
            raise PluginConflictError(f"the quantizer {name!r} is registered twice")
        quantizers[name] = strategy

    try:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        plugin = entry_point.load()
        manager.register(plugin)
        _check_hooks(manager.get_hookcallers(plugin) or [])
        manager.hook.llm_tflite_register_quantizers(register=register)
    except (Exception, SystemExit) as error:  # A plugin must not end the program either.
        return _Plugin(replace(info, error=_explain(error)), {}, error)
    # Copied, so that a plugin that keeps `register` for later changes nothing.
    return _Plugin(replace(info, provides={"quantizers": list(quantizers)}), dict(quantizers))


def _check_hooks(hooks: Iterable[pluggy.HookCaller]) -> None:
    """Refuse hooks that nobody calls, and plugins without any."""
    names = hookspecs.hook_names()
    known = False
    for hook in hooks:
        known = known or hook.has_spec()
        if hook.has_spec() or all(impl.optionalhook for impl in hook.get_hookimpls()):
            continue
        close = difflib.get_close_matches(hook.name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the hooks are {', '.join(names)}"
        raise PluginError(f"there is no hook {hook.name}; {hint}")
    if not known:
        raise PluginError(f"it implements no hook; the hooks are {', '.join(names)}")


def _with_conflicts(plugin: _Plugin, loaded: Sequence[_Plugin]) -> PluginInfo:
    clashes = [
        f"the quantizer {name!r} is also offered by {other.info}"
        for name in plugin.quantizers
        for other in loaded
        if other is not plugin and name in other.quantizers
    ]
    return replace(plugin.info, error="; ".join(clashes)) if clashes else plugin.info


def _explain(error: BaseException) -> str:
    """Return one line for ``error``, without the folders of the paths that it mentions."""
    text = " ".join(_FOLDERS.sub("", str(error)).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _normalized(name: str) -> str:
    """Return ``name`` in the one spelling that PyPI's name rules (PEP 503) give it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
