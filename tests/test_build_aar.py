"""The script that builds the archive with select operations: what it says before it builds."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "android_app/app/libs/build_aar/build_aar.sh"
TOOLS = ("git", "python3", "javac", "unzip", "bazel")
CORE_TOOLS = ("bash", "dirname", "mkdir", "sed", "cat", "env")


def run(*arguments, path=None, **environment):
    clean = {"PATH": str(path) if path else os.environ["PATH"], **environment}
    return subprocess.run(
        [shutil.which("bash"), SCRIPT, *arguments],
        env=clean,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def tools(tmp_path):
    """A folder with what the script calls, the large ones as stand-ins that do nothing."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in CORE_TOOLS:
        (folder / name).symlink_to(shutil.which(name))
    for name in TOOLS:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def sdk(tmp_path):
    (tmp_path / "sdk/platforms/android-34").mkdir(parents=True)
    (tmp_path / "sdk/build-tools/34.0.0").mkdir(parents=True)
    return tmp_path / "sdk"


@pytest.fixture
def ndk(tmp_path):
    (tmp_path / "ndk").mkdir()
    (tmp_path / "ndk/source.properties").write_text(
        "Pkg.Desc = Android NDK\nPkg.Revision = 25.2.9519653\n"
    )
    return tmp_path / "ndk"


def test_a_dry_run_prints_every_command_and_runs_none(tmp_path):
    work = tmp_path / "work"
    done = run(
        "--dry-run",
        "--abi",
        "arm64-v8a,x86_64",
        "--work",
        str(work),
        "--sdk",
        "/sdk",
        "--ndk",
        "/ndk",
        "--jobs",
        "3",
    )
    assert done.returncode == 0, done.stderr
    for part in (
        f"git clone --depth 1 --branch v2.19.0 https://github.com/tensorflow/text.git {work}/text",
        "tensorflow==2.19.0",
        "./oss_scripts/configure.sh",
        "ANDROID_NDK_HOME=/ndk",
        "--fat_apk_cpu=arm64-v8a",
        "--jobs=3 //llm_tflite:tftext-select-ops",
        "jni/x86_64/libtensorflowlite_flex_jni.so",
    ):
        assert part in done.stdout
    assert not work.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--abi", "mips"], "unknown ABI 'mips'; choose from arm64-v8a armeabi-v7a x86 x86_64"),
        (["--abi", ""], "expected at least one ABI"),
        (["--version", "latest"], "expected a version such as 2.19.0; got 'latest'"),
        (["--commit", "abc"], "expected a commit of 40 hexadecimal digits; got 'abc'"),
        (["--jobs", "many"], "expected a whole number; got 'many'"),
        (["--sdk"], "--sdk needs a value"),
        (["--what"], "unknown option --what"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(arguments, message):
    done = run("--dry-run", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("missing", TOOLS)
def test_a_missing_tool_is_named(tools, sdk, ndk, missing):
    (tools / missing).unlink()
    done = run("--sdk", str(sdk), "--ndk", str(ndk), path=tools)
    assert done.returncode == 1
    assert f"{missing} was not found" in done.stderr


def test_a_missing_sdk_or_ndk_says_how_to_get_it(tools, sdk, ndk):
    assert "no Android SDK; set ANDROID_HOME or give --sdk" in run(path=tools).stderr
    assert "no Android NDK; set ANDROID_NDK_HOME" in run(path=tools, ANDROID_HOME=str(sdk)).stderr
    assert (
        "sdkmanager 'platforms;android-99'"
        in run("--sdk-api", "99", path=tools, ANDROID_HOME=str(sdk)).stderr
    )
    done = run("--build-tools", "1.0", path=tools, ANDROID_HOME=str(sdk))
    assert "sdkmanager 'build-tools;1.0'" in done.stderr
    assert "is no Android NDK" in run("--ndk", str(sdk), path=tools, ANDROID_HOME=str(sdk)).stderr


def test_another_ndk_is_refused_unless_it_is_asked_for(tools, sdk, ndk):
    (ndk / "source.properties").write_text("Pkg.Revision = 29.0.1\n")
    assert "expected NDK 25" in run("--sdk", str(sdk), "--ndk", str(ndk), path=tools).stderr


def test_sources_of_another_commit_are_refused(tools, sdk, ndk, tmp_path):
    (tools / "git").write_text(f"#!/bin/sh\necho {'b' * 40}\n")
    (tmp_path / "work/text").mkdir(parents=True)
    done = run(
        "--commit",
        "a" * 40,
        "--work",
        str(tmp_path / "work"),
        "--sdk",
        str(sdk),
        "--ndk",
        str(ndk),
        path=tools,
    )
    assert done.returncode == 1
    assert f"expected TF-Text at {'a' * 40}" in done.stderr


def test_the_script_is_clean():
    checker = shutil.which("shellcheck")
    command = [checker, SCRIPT] if checker else [shutil.which("bash"), "-n", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
