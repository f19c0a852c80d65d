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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import pluggy

from . import hookspecs
from ._version import __version__
from .errors import (
    InvalidOptionError,
    LLMTFLiteError,
    MissingDependencyError,
    PluginConflictError,
    PluginError,
    UnknownPluginNameError,
)
from .op_registrar import OpRegistrar, check_registrar
from .quantization import QuantizationStrategy, check_strategy, with_parameter
from .text_filter import TextFilter, check_text_filter, with_filter_parameter

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

# Third-party plugins that shall not be imported: names of entry points or of distributions,
# separated by commas, or "all".
DISABLE_VARIABLE = "LLM_TFLITE_DISABLE_PLUGINS"

_OWN_DISTRIBUTION = "llm-tflite"
# Declared in our metadata too, but a source tree that was never installed has none.
_BUILT_IN = {
    "builtin_quantizers": "llm_tflite.quantizers",
    "builtin_registrars": "llm_tflite.registrars",
    "builtin_text_filters": "llm_tflite.safety",
}

# The folders of an absolute path, which say more of the machine than of the mistake.
_FOLDERS = re.compile(r"""(?<![\w.:/\\])(?:[A-Za-z]:)?[\\/](?:[^\\/:*?"'<>|()\n]+[\\/])*""")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


@dataclass(frozen=True)
class _Kind(Generic[_T]):
    """What plugins offer through one hook, and the check that each offer passes."""

    noun: str
    hook: str
    check: Callable[[object], _T]


_QUANTIZER = _Kind("quantizer", "llm_tflite_register_quantizers", check_strategy)
_REGISTRAR = _Kind("registrar", "llm_tflite_register_custom_ops", check_registrar)
_TEXT_FILTER = _Kind("text filter", "llm_tflite_register_text_filters", check_text_filter)
_KINDS: tuple[_Kind[Any], ...] = (_QUANTIZER, _REGISTRAR, _TEXT_FILTER)


@dataclass(frozen=True)
class PluginInfo:
    """One plugin, as ``llm-tflite plugins`` lists it.

    Attributes:
        name: Its entry point.
        distribution: The installed package that it came with.
        version: The version of that package.
        provides: Names on offer, by kind: ``quantizers``, ``registrars``, ``text_filters``.
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
    offers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by noun, by name
    failure: BaseException | None = None

    def offered(self, kind: _Kind[_T]) -> Mapping[str, _T]:
        return self.offers.get(kind.noun, {})


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

        ``NAME:PARAMETER`` is what the strategy NAME makes of the parameter, unless somebody offers
        that very name.

        Raises:
            InvalidOptionError: If ``choice`` is neither a name nor a strategy, has a parameter that
                the strategy does not take, or lacks one that it must have.
            MissingDependencyError: If parameters come from a package that is not installed.
            UnknownPluginNameError: If nobody offers that name; plugins that failed are named.
            PluginConflictError: If several plugins offer it.
        """
        if asked := self._with_parameter(_QUANTIZER, choice):
            return with_parameter(*asked)
        strategy = self._pick(_QUANTIZER, choice)
        if isinstance(choice, str) and (known := _parameters(strategy)):
            raise InvalidOptionError(
                f"expected {choice!r} with one of its parameters, as in '{choice}:{known[0]}': "
                f"{', '.join(known)}"
            )
        return strategy

    def quantizer_names(self) -> list[str]:
        """Return the names that can be asked for, built-in ones first."""
        return [
            full
            for name in self._names(_QUANTIZER)
            for full in _with_parameters(name, self._pick(_QUANTIZER, name))
        ]

    def registrar(self, choice: str | OpRegistrar) -> OpRegistrar:
        """Return the registrar of that name, or ``choice`` itself; errors as for ``quantizer``."""
        return self._pick(_REGISTRAR, choice)

    def registrars(self) -> list[tuple[PluginInfo, OpRegistrar]]:
        """Return every registrar with its plugin; names that several offer are among them."""
        return [
            (plugin.info, registrar)
            for plugin in self._load()
            for registrar in plugin.offered(_REGISTRAR).values()
        ]

    def text_filter(self, choice: str | TextFilter) -> TextFilter:
        """Return the filter of that name, or ``choice`` itself; errors as for ``quantizer``.

        ``NAME:PARAMETER`` is what the filter NAME makes of the parameter.
        """
        if asked := self._with_parameter(_TEXT_FILTER, choice):
            return with_filter_parameter(*asked)
        return self._pick(_TEXT_FILTER, choice)

    def infos(self) -> list[PluginInfo]:
        """Return every plugin, broken and disabled ones included, built-in ones first."""
        loaded = self._load()
        return [_listed(plugin, _with_conflicts(plugin, loaded)) for plugin in loaded]

    def failures(self) -> str:
        """Return a paragraph on the plugins that offer nothing, and why; "" if there are none."""
        loaded = self._load()
        infos = (_with_conflicts(plugin, loaded) for plugin in loaded)
        failed = [info for info in infos if info.error and not info.provides]
        lines = "".join(f"\n  {info}: {info.error}" for info in failed)
        return f"\nThese plugins cannot offer anything:{lines}" if failed else ""

    def _pick(self, kind: _Kind[_T], choice: str | _T) -> _T:
        if not isinstance(choice, str):
            return kind.check(choice)
        offers = self._offers(kind, choice)
        if len(offers) == 1:
            return offers[0].offered(kind)[choice]
        if offers:
            culprits = " and ".join(str(plugin.info) for plugin in offers)
            raise PluginConflictError(
                f"one plugin should offer the {kind.noun} {choice!r}, but there are {culprits}; "
                f"uninstall one, or name it in the environment variable {DISABLE_VARIABLE}"
            )
        failures = (plugin.failure for plugin in self._load() if plugin.failure)
        raise UnknownPluginNameError(self._unknown(kind, choice)) from next(failures, None)

    def _with_parameter(self, kind: _Kind[_T], choice: object) -> tuple[_T, str] | None:
        """What NAME:PARAMETER asks for, unless somebody offers that very name."""
        if not isinstance(choice, str) or ":" not in choice or self._offers(kind, choice):
            return None
        name, _, parameter = choice.partition(":")
        return (self._pick(kind, name), parameter) if self._offers(kind, name) else None

    def _offers(self, kind: _Kind[Any], name: str) -> list[_Plugin]:
        return [plugin for plugin in self._load() if name in plugin.offered(kind)]

    def _names(self, kind: _Kind[Any]) -> list[str]:
        names = [name for plugin in self._load() for name in plugin.offered(kind)]
        return [name for name in names if names.count(name) == 1]

    def _unknown(self, kind: _Kind[Any], choice: str) -> str:
        names = self._names(kind)
        message = f"expected a {kind.noun} out of {', '.join(names)}; got {choice!r:.80}"
        close = difflib.get_close_matches(choice[:80], names, n=1)
        if close:
            message += f", did you mean {close[0]!r}?"
        return message + self.failures()

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

    for name, module in _BUILT_IN.items():
        yield _load_one(
            PluginInfo(name, _OWN_DISTRIBUTION, __version__),
            EntryPoint(name, module, hookspecs.PROJECT),
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
    offers: dict[str, dict[str, Any]] = {kind.noun: {} for kind in _KINDS}
    try:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        plugin = entry_point.load()
        manager.register(plugin)
        _check_hooks(manager.get_hookcallers(plugin) or [])
        for kind in _KINDS:
            getattr(manager.hook, kind.hook)(register=partial(_register, kind, offers[kind.noun]))
    except (Exception, SystemExit) as error:  # A plugin must not end the program either.
        return _Plugin(replace(info, error=_explain(error)), {}, error)
    # Copied, so that a plugin that keeps `register` for later changes nothing.
    kept = {noun: dict(offered) for noun, offered in offers.items() if offered}
    provides = {f"{noun}s".replace(" ", "_"): list(offered) for noun, offered in kept.items()}
    return _Plugin(replace(info, provides=provides), kept)


def _register(kind: _Kind[Any], offered: dict[str, Any], offer: object) -> None:
    """Take what a plugin offers; its hooks get this function, with the first two arguments set."""
    checked = kind.check(offer)
    if checked.name in offered:
        raise PluginConflictError(f"the {kind.noun} {checked.name!r} is registered twice")
    offered[checked.name] = checked


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
        f"the {kind.noun} {name!r} is also offered by {other.info}"
        for kind in _KINDS
        for name in plugin.offered(kind)
        for other in loaded
        if other is not plugin and name in other.offered(kind)
    ]
    return replace(plugin.info, error="; ".join(clashes)) if clashes else plugin.info


def _listed(plugin: _Plugin, info: PluginInfo) -> PluginInfo:
    """Add what the quantizers of a plugin are asked for with."""
    quantizers = plugin.offered(_QUANTIZER)
    if not any(hasattr(strategy, "parameters") for strategy in quantizers.values()):
        return info
    names: list[str] = []
    for name, strategy in quantizers.items():
        try:
            names += _with_parameters(name, strategy)
        except LLMTFLiteError as error:
            names.append(name)
            info = replace(info, error="; ".join([*filter(None, [info.error]), _explain(error)]))
    return replace(info, provides={**info.provides, f"{_QUANTIZER.noun}s": names})


def _with_parameters(name: str, strategy: QuantizationStrategy) -> list[str]:
    """All names by which a strategy is asked for; its own if the package behind more is missing."""
    try:
        return [f"{name}:{parameter}" for parameter in _parameters(strategy)] or [name]
    except MissingDependencyError:
        return [name]


def _parameters(strategy: QuantizationStrategy) -> list[str]:
    """The parameters without one of which a strategy is none; empty for most."""
    step = getattr(strategy, "parameters", None)
    if step is None:
        return []
    try:
        return [str(parameter) for parameter in step()]
    except MissingDependencyError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the quantizer {strategy.name!r} cannot list its parameters: {_explain(error)}"
        ) from error


def _explain(error: BaseException) -> str:
    """Return one line for ``error``, without the folders of the paths that it mentions."""
    text = " ".join(_FOLDERS.sub("", str(error)).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _normalized(name: str) -> str:
    """Return ``name`` in the one spelling that PyPI's name rules (PEP 503) give it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
