"""A plugin that is broken, in whatever way, is named and costs only itself.

The packages here are really installed, as far as Python can tell: a module and the metadata that
pip writes, in a folder on ``sys.path``.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_tflite import op_coverage
from llm_tflite.errors import (
    InvalidOptionError,
    MissingOpsError,
    PluginConflictError,
    PluginError,
    UnknownPluginNameError,
)
from llm_tflite.hookspecs import hook_names
from llm_tflite.plugins import DISABLE_VARIABLE, PluginInfo, Plugins, load_plugins, plugins
from llm_tflite.quantizers.int8 import Int8
from llm_tflite.safety import ProfanityFilter

BUILTINS = [
    "none", "float16", "dynamic_range", "weight_only_int8", "int4", "int4_block32", "int4_block64",
    "int4_block128", "int4_channel", "mixed", "full_integer", "full_integer_int16",
    # As many recipes as the installed package has (test_aeq.py).
    *(name for name in load_plugins().quantizer_names() if name.startswith("aeq")),
]  # fmt: skip

PLUGIN = """
from llm_tflite.hookspecs import hookimpl
from llm_tflite.quantizers.int8 import Int8

@hookimpl
def llm_tflite_register_quantizers(register):
    register(Int8({name!r}, activations="float"))
"""

Install = Callable[..., Plugins]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package and gives the plugins found from then on."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)

    def install_package(
        name: str, source: str, *, entry_points: str | None = None, version: str = "1.2"
    ) -> Plugins:
        module = name.replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(source)
        metadata = tmp_path / f"{module}-{version}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        declared = f"[llm_tflite]\n{name} = {module}\n" if entry_points is None else entry_points
        (metadata / "entry_points.txt").write_text(declared)
        return Plugins([tmp_path])

    install_package("good", PLUGIN.format(name="good_int8"))
    return install_package


def info(found: Plugins, name: str) -> PluginInfo:
    [match] = [info for info in found.infos() if info.name == name]
    return match


def test_an_installed_strategy_stands_beside_the_built_in_ones(install: Install) -> None:
    found = install("unrelated", "", entry_points="[console_scripts]\nx = y:z\n")
    assert found.quantizer_names() == [*BUILTINS, "good_int8"]
    assert found.quantizer("good_int8").name == "good_int8"
    assert [str(info) for info in found.infos()][3:] == ["good (good 1.2)"]
    assert info(found, "good").provides == {"quantizers": ["good_int8"]}


def test_the_built_in_ones_need_no_installed_metadata(tmp_path: Path) -> None:
    quantizers, registrars, text_filters = Plugins([tmp_path]).infos()
    assert (quantizers.name, quantizers.distribution) == ("builtin_quantizers", "llm-tflite")
    assert quantizers.provides == {"quantizers": BUILTINS}
    assert (registrars.name, registrars.distribution) == ("builtin_registrars", "llm-tflite")
    assert registrars.provides == {"registrars": ["tf_text"]}
    assert (text_filters.name, text_filters.distribution) == ("builtin_text_filters", "llm-tflite")
    assert text_filters.provides == {"text_filters": ["profanity"]}
    assert quantizers.error is registrars.error is text_filters.error is None


def test_an_object_is_accepted_wherever_a_name_is_and_loads_no_plugin(install: Install) -> None:
    found = install("broken", "raise SystemExit")
    mine = Int8("mine", activations="float")
    assert found.quantizer(mine) is mine
    assert "broken" not in sys.modules
    with pytest.raises(InvalidOptionError, match="the name of this int is None"):
        found.quantizer(8)  # type: ignore[arg-type]


HOOK = """
from llm_tflite.hookspecs import hookimpl
@hookimpl{options}
def {name}({arguments}):
    {body}
"""


def hook(
    body: str = "pass",
    *,
    name: str = "llm_tflite_register_quantizers",
    arguments: str = "register",
    options: str = "",
) -> str:
    return HOOK.format(body=body, name=name, arguments=arguments, options=options)


BROKEN = {
    "import error": ("import math\nfrom math import nothing", "ImportError: cannot import name"),
    "syntax error": ("def f(:", "SyntaxError: invalid syntax"),
    "missing dependency": ("import absent_package", "No module named 'absent_package'"),
    "error at import": ("raise RuntimeError('no GPU')", "RuntimeError: no GPU"),
    "exit at import": ("raise SystemExit(3)", "SystemExit: 3"),
    "raising hook": (hook("raise ValueError('bad day')"), "ValueError: bad day"),
    "exit in the hook": (hook("import sys; sys.exit('bye')"), "SystemExit: bye"),
    "misspelt hook": (
        hook(name="llm_tflite_register_quantisers"),
        "no hook llm_tflite_register_quantisers; did you mean llm_tflite_register_quantizers?",
    ),
    "misspelt hook of registrars": (
        hook(name="llm_tflite_register_custom_op"),
        "no hook llm_tflite_register_custom_op; did you mean llm_tflite_register_custom_ops?",
    ),
    "registers a strategy as a registrar": (
        hook(
            "from llm_tflite.quantizers.int4 import Int4; register(Int4('x'))",
            name="llm_tflite_register_custom_ops",
        ),
        "Int4.operations is None",
    ),
    "misspelt hook of text filters": (
        hook(name="llm_tflite_register_text_filter"),
        "no hook llm_tflite_register_text_filter; did you mean llm_tflite_register_text_filters?",
    ),
    "registers a strategy as a text filter": (
        hook(
            "from llm_tflite.quantizers.int4 import Int4; register(Int4('x'))",
            name="llm_tflite_register_text_filters",
        ),
        "Int4 has no method begin()",
    ),
    "unheard-of hook": (hook(name="on_load"), "no hook on_load; the hooks are llm_tflite_"),
    "extra argument": (hook(arguments="register, options"), "{'options'} are declared"),
    "no hook at all": ("x = 1", "it implements no hook"),
    "registers a name": (hook("register('int8')"), "the name of this str is None"),
    "registers nothing": (hook("register(None)"), "the name of this NoneType is None"),
    "registers a class": (
        hook("from llm_tflite.quantizers.int8 import Int8; register(Int8)"),
        "got the class Int8; pass an instance",
    ),
    "same name twice": (
        hook("from llm_tflite.quantizers.int4 import Int4; [register(Int4('x')) for _ in '12']"),
        "the quantizer 'x' is registered twice",
    ),
    "fails after its first offer": (
        hook("from llm_tflite.quantizers.int4 import Int4; register(Int4('half')); 1 / 0"),
        "ZeroDivisionError: division by zero",
    ),
    "missing file": (
        "open(__file__ + '.json')",
        "FileNotFoundError: [Errno 2] No such file or directory: 'broken_pack.py.json'",
    ),
}


@pytest.mark.parametrize(("source", "complaint"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_costs_only_itself_and_is_named(
    install: Install, tmp_path: Path, source: str, complaint: str
) -> None:
    found = install("broken-pack", source)
    assert found.quantizer_names() == [*BUILTINS, "good_int8"]
    assert found.registrar("tf_text").name == "tf_text"
    assert complaint in str(info(found, "broken-pack").error)
    assert info(found, "broken-pack").provides == {}
    with pytest.raises(UnknownPluginNameError) as caught:
        found.quantizer("half")
    message = str(caught.value)
    assert "broken-pack (broken-pack 1.2): " in message
    assert complaint in message
    assert str(tmp_path) not in message
    assert caught.value.__cause__ is not None


def test_a_plugin_that_asks_for_plugins_while_it_loads_is_broken(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install("curious", "import sys; sys.found.infos()")
    monkeypatch.setattr(sys, "found", found, raising=False)
    assert "while they are being loaded" in str(info(found, "curious").error)


def test_an_optional_hook_of_another_version_is_no_mistake(install: Install) -> None:
    newer = hook(name="llm_tflite_of_tomorrow", options="(optionalhook=True)")
    found = install("newer", newer + PLUGIN.format(name="newer_int8"))
    assert found.quantizer("newer_int8")
    assert info(found, "newer").error is None


def test_metadata_that_cannot_be_parsed_costs_only_its_package(install: Install) -> None:
    install("other-tool", "", entry_points="[console_scripts]\nnot an entry point\n")
    found = install("damaged", "", entry_points="[llm_tflite]\nno equals sign\n")
    assert found.quantizer_names() == [*BUILTINS, "good_int8"]
    assert [i.distribution for i in found.infos() if i.error] == ["damaged"]


def test_two_plugins_with_one_name_are_both_named_and_keep_their_other_names(
    install: Install,
) -> None:
    install("first", PLUGIN.format(name="shared"))
    both = PLUGIN.format(name="shared") + "    register(Int8('own', activations='float'))\n"
    found = install("second", both, version="2.0")
    with pytest.raises(PluginConflictError, match=r"first \(first 1\.2\) and second \(second 2"):
        found.quantizer("shared")
    assert found.quantizer_names() == [*BUILTINS, "good_int8", "own"]
    assert info(found, "first").error == (
        "the quantizer 'shared' is also offered by second (second 2.0)"
    )


REGISTRAR = """
from llm_tflite.hookspecs import hookimpl

class Registrar:
    name = {name!r}
    operations = {operations!r}
    def describe(self):
        return {{}}
    def registerers(self):
        return []

@hookimpl
def llm_tflite_register_custom_ops(register):
    register(Registrar())
"""


def test_a_plugin_may_offer_quantizers_and_registrars_of_one_name(install: Install) -> None:
    registrar = REGISTRAR.format(name="both", operations=["TimesTwo"])
    found = install("double", registrar + PLUGIN.format(name="both"))
    assert info(found, "double").provides == {"quantizers": ["both"], "registrars": ["both"]}
    assert info(found, "double").error is None
    assert found.registrar("both") is not found.quantizer("both")
    assert [r.name for _, r in found.registrars()] == ["tf_text", "both"]


def test_two_registrars_of_one_name_are_both_named(install: Install) -> None:
    found = install("second", REGISTRAR.format(name="tf_text", operations=["TimesTwo"]))
    with pytest.raises(PluginConflictError, match=r"builtin_registrars .* and second \(second 1"):
        found.registrar("tf_text")
    assert "the registrar 'tf_text' is also offered by" in str(info(found, "second").error)


TEXT_FILTER = """
from llm_tflite.hookspecs import hookimpl
from llm_tflite.safety import ProfanityFilter

@hookimpl
def llm_tflite_register_text_filters(register):
    register(ProfanityFilter(["banana"], name={name!r}))
"""


def test_an_installed_text_filter_stands_beside_the_built_in_one(install: Install) -> None:
    found = install("fruit-filter", TEXT_FILTER.format(name="fruit"))
    assert info(found, "fruit-filter").provides == {"text_filters": ["fruit"]}
    assert [found.text_filter(name).name for name in ("profanity", "fruit")] == [
        "profanity",
        "fruit",
    ]
    mine = ProfanityFilter(["pear"])
    assert found.text_filter(mine) is mine
    with pytest.raises(UnknownPluginNameError, match="a text filter out of profanity, fruit; got"):
        found.text_filter("vegetables")
    with pytest.raises(InvalidOptionError, match="the name of this int is None"):
        found.text_filter(8)  # type: ignore[arg-type]


def test_two_text_filters_of_one_name_are_both_named(install: Install) -> None:
    found = install("second", TEXT_FILTER.format(name="profanity"))
    for name in ("profanity", "profanity:words.txt"):
        with pytest.raises(PluginConflictError, match=r"builtin_text_filters .* and second \(sec"):
            found.text_filter(name)
    assert "the text filter 'profanity' is also offered by" in str(info(found, "second").error)


def test_a_filter_of_a_broken_plugin_is_missed_by_name(install: Install) -> None:
    found = install("broken-filter", "import nothing_there")
    with pytest.raises(UnknownPluginNameError, match=r"broken-filter .*nothing_there"):
        found.text_filter("fruit")
    assert found.text_filter("profanity").name == "profanity"


def test_two_plugins_that_cover_one_operation_are_both_named(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("first", REGISTRAR.format(name="first", operations=["TimesTwo", "TimesThree"]))
    found = install("second", REGISTRAR.format(name="second", operations=["TimesTwo"]))
    monkeypatch.setattr(op_coverage, "load_plugins", lambda: found)
    with pytest.raises(PluginConflictError, match=r"'first' of first \(.* and 'second' of second"):
        op_coverage.choose_registrars(["TimesTwo"], None)
    [by_both] = op_coverage.custom_operations(["TimesTwo"])
    assert str(by_both) == "TimesTwo: registrar first and second"
    [chosen], left = op_coverage.choose_registrars(["TimesThree"], None)
    assert (chosen.name, left) == ("first", [])
    [chosen], left = op_coverage.choose_registrars(["TimesTwo"], ["second"])
    assert (chosen.name, left) == ("second", [])


def test_a_missing_operation_names_the_plugins_that_are_broken(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install("broken-pack", "raise RuntimeError('no GPU')")
    monkeypatch.setattr(op_coverage, "load_plugins", lambda: found)
    with pytest.raises(MissingOpsError, match=r"broken-pack .*: RuntimeError: no GPU"):
        op_coverage.choose_registrars(["TimesTwo"], None)


def test_a_registrar_that_cannot_describe_itself_is_shown_all_the_same(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = REGISTRAR.format(name="mute", operations=["TimesTwo"])
    found = install("mute", source.replace("return {}", "return 1 / 0"))
    monkeypatch.setattr(op_coverage, "load_plugins", lambda: found)
    [operation] = op_coverage.custom_operations(["TimesTwo"])
    assert operation.registrars == ("mute",)
    assert "ZeroDivisionError" in str(operation)


def test_a_registrar_for_an_operation_of_tensorflow_goes_before_flex(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install("flexible", REGISTRAR.format(name="flexible", operations=["FlexRepeat"]))
    monkeypatch.setattr(op_coverage, "load_plugins", lambda: found)
    [chosen], left = op_coverage.choose_registrars(["FlexRepeat", "FlexTile"], None)
    assert (chosen.name, left) == ("flexible", ["FlexTile"])


def test_a_built_in_name_cannot_be_taken_over_quietly(install: Install) -> None:
    found = install("thief", PLUGIN.format(name="int4"))
    with pytest.raises(PluginConflictError, match=r"builtin_quantizers .* and thief .*DISABLE"):
        found.quantizer("int4")


@pytest.mark.parametrize("disabled", ["Broken_Pack", "x, broken-entry", "all", "ALL,"])
def test_a_disabled_plugin_is_listed_but_not_imported(
    install: Install, monkeypatch: pytest.MonkeyPatch, disabled: str
) -> None:
    found = install(
        "broken-pack",
        "raise KeyboardInterrupt",
        entry_points="[llm_tflite]\nbroken-entry = broken_pack",
    )
    monkeypatch.setenv(DISABLE_VARIABLE, disabled)
    assert found.quantizer("int4").name == "int4"
    assert "broken_pack" not in sys.modules
    assert info(found, "broken-entry").error == f"disabled by {DISABLE_VARIABLE}"


PARAMETERS = """
from llm_tflite.hookspecs import hookimpl
from llm_tflite.quantizers.int8 import Int8

class Wide(Int8):
    def parameters(self):
        {body}
    def with_parameter(self, text):
        return Int8(self.name + ":" + text, self.activations)

@hookimpl
def llm_tflite_register_quantizers(register):
    register(Wide("wide", activations="float"))
    register(Int8("narrow", activations="float"))
"""


def test_a_strategy_that_lists_its_parameters_is_asked_for_with_one(install: Install) -> None:
    found = install("wide", PARAMETERS.format(body="return ['2', '3']"))
    assert info(found, "wide").provides == {"quantizers": ["wide:2", "wide:3", "narrow"]}
    assert found.quantizer_names()[-3:] == ["wide:2", "wide:3", "narrow"]
    assert found.quantizer("wide:3").name == "wide:3"
    with pytest.raises(InvalidOptionError, match=r"expected 'wide' with .*'wide:2': 2, 3"):
        found.quantizer("wide")


def test_parameters_that_cannot_be_listed_cost_only_their_own_strategy(install: Install) -> None:
    found = install("wide", PARAMETERS.format(body="raise RuntimeError('bad day')"))
    assert info(found, "wide").provides == {"quantizers": ["wide", "narrow"]}
    assert "'wide' cannot list its parameters: RuntimeError: bad" in str(info(found, "wide").error)
    assert found.quantizer("narrow").name == "narrow"
    assert found.quantizer("wide:3").name == "wide:3"
    with pytest.raises(PluginError, match="'wide' cannot list its parameters"):
        found.quantizer("wide")


def test_an_interruption_by_the_user_is_passed_on_and_the_next_call_is_clean(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        found.infos()
    monkeypatch.setenv(DISABLE_VARIABLE, "slow")
    assert found.quantizer("good_int8")


def test_a_plugin_that_registers_later_changes_nothing(install: Install) -> None:
    found = install("keeper", hook("global kept; kept = register"))
    before = found.quantizer_names()
    sys.modules["keeper"].kept(Int8("late", activations="float"))
    assert found.quantizer_names() == before


def test_an_unrelated_package_named_like_ours_is_left_alone(install: Install) -> None:
    found = install(
        "llm-tflite-tools",
        "raise RuntimeError",
        entry_points="[llm_tflite_tools]\nx = llm_tflite_tools\n",
    )
    assert [i.name for i in found.infos()] == [
        "builtin_quantizers",
        "builtin_registrars",
        "builtin_text_filters",
        "good",
    ]
    assert "llm_tflite_tools" not in sys.modules


def test_the_first_of_two_versions_on_the_path_counts(install: Install, tmp_path: Path) -> None:
    found = install("Good", "raise RuntimeError('shadowed')", version="0.9")
    assert len([i for i in found.infos() if i.distribution.lower() == "good"]) == 1


def test_plugins_are_imported_once_whatever_asks_at_the_same_time(install: Install) -> None:
    source = (
        "import time\nimport sys\nsys.imports = getattr(sys, 'imports', 0) + 1\ntime.sleep(0.05)\n"
    )
    found = install("counted", source + PLUGIN.format(name="counted"))
    names: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: names.append(found.quantizer_names())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names == [[*BUILTINS, "counted", "good_int8"]] * 8
    assert vars(sys).pop("imports") == 1


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(UnknownPluginNameError, match="did you mean 'dynamic_range'"):
        load_plugins().quantizer("dynamicrange")
    with pytest.raises(UnknownPluginNameError) as caught:
        load_plugins().quantizer("x" * 100_000)
    assert len(str(caught.value)) < 1000


def test_the_process_has_one_set_of_plugins() -> None:
    assert load_plugins() is load_plugins()
    assert plugins() == load_plugins().infos()
    assert issubclass(PluginConflictError, PluginError)


def test_every_hook_is_called_by_some_plugin_of_ours() -> None:
    from llm_tflite import quantizers, registrars, safety

    implemented = vars(quantizers).keys() | vars(registrars).keys() | vars(safety).keys()
    assert implemented >= set(hook_names())


@pytest.mark.parametrize(
    ("asked", "absent"),
    [
        ("load_plugins().quantizer('int4')", ["tensorflow", "keras", "ai_edge_litert"]),
        ("plugins()", ["tensorflow", "keras"]),  # ai-edge-quantizer, whose recipes are listed
    ],
)
def test_finding_plugins_imports_no_tensorflow(asked: str, absent: list[str]) -> None:
    code = (
        f"import sys; from llm_tflite.plugins import load_plugins, plugins; {asked};"
        f"print([m for m in {absent} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_parameter_is_for_the_strategy_before_the_colon(install: Install) -> None:
    found = install("whole", PLUGIN.format(name="mixed:0.8"))
    assert found.quantizer("mixed:0.9").name == "mixed:0.9"
    assert isinstance(found.quantizer("mixed:0.8"), Int8)
    with pytest.raises(InvalidOptionError, match="'int4' takes no parameter; got '3' after ':'"):
        found.quantizer("int4:3")
    with pytest.raises(UnknownPluginNameError, match="got 'nothing:3'"):
        found.quantizer("nothing:3")
