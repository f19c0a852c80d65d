#!/usr/bin/env bash
# Builds tftext-select-ops.aar: the select TensorFlow operations and TF-Text's, for models whose signature takes strings.
set -euo pipefail

readonly TARGET=tftext-select-ops
readonly KNOWN_ABIS="arm64-v8a armeabi-v7a x86 x86_64"

abis=arm64-v8a
version=2.19.0
commit=""
repository=https://github.com/tensorflow/text.git
sdk=${ANDROID_HOME:-${ANDROID_SDK_ROOT:-}}
ndk=${ANDROID_NDK_HOME:-}
sdk_api=34
ndk_api=26
build_tools=34.0.0
ndk_major=25
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$here/build
output=$(dirname "$here")
jobs=""
dry_run=false

usage() {
  cat <<EOF
Usage: build_aar.sh [options]

Builds $TARGET.aar from the sources of TF-Text and TensorFlow. Takes hours, and 60 GB of disk.

  --abi LIST            of $KNOWN_ABIS, joined by commas [$abis]
  --version V           release of TF-Text and TensorFlow [$version]
  --commit SHA          refuse sources that are not at this commit of TF-Text
  --repository URL      where TF-Text is cloned from [$repository]
  --sdk FOLDER          Android SDK [\$ANDROID_HOME]
  --sdk-api LEVEL       its platform [$sdk_api]
  --build-tools V       its build tools [$build_tools]
  --ndk FOLDER          Android NDK [\$ANDROID_NDK_HOME]
  --ndk-major N         the NDK's release that is expected; 0 takes any [$ndk_major]
  --ndk-api LEVEL       the oldest Android that the library runs on [$ndk_api]
  --work FOLDER         for sources and what is built [build, beside this script]
  --output FOLDER       where the archive goes [app/libs]
  --jobs N              at most N compilers at once
  --dry-run             print every command and run none; needs nothing installed
  --help                print this
EOF
}

fail() {
  printf 'build_aar.sh: %s\n' "$1" >&2
  exit "${2:-1}"
}

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  if ! $dry_run; then "$@"; fi
}

# In the sources' folder, with the Python that has TensorFlow.
run_in_sources() {
  printf '+ cd %q &&' "$work/text"
  printf ' %q' "PATH=$work/python/bin:\$PATH" "$@"
  printf '\n'
  if ! $dry_run; then (cd "$work/text" && env PATH="$work/python/bin:$PATH" "$@"); fi
}

parse() {
  while (($#)); do
    case $1 in
      --dry-run) dry_run=true; shift; continue ;;
      --help) usage; exit 0 ;;
      --abi | --version | --commit | --repository | --sdk | --sdk-api | --build-tools | --ndk | --ndk-major | --ndk-api | --work | --output | --jobs)
        (($# > 1)) || fail "$1 needs a value; see --help" 2
        ;;
      *) fail "unknown option $1; see --help" 2 ;;
    esac
    case $1 in
      --abi) abis=$2 ;;
      --version) version=$2 ;;
      --commit) commit=$2 ;;
      --repository) repository=$2 ;;
      --sdk) sdk=$2 ;;
      --sdk-api) sdk_api=$2 ;;
      --build-tools) build_tools=$2 ;;
      --ndk) ndk=$2 ;;
      --ndk-major) ndk_major=$2 ;;
      --ndk-api) ndk_api=$2 ;;
      --work) work=$2 ;;
      --output) output=$2 ;;
      --jobs) jobs=$2 ;;
    esac
    shift 2
  done
}

check_values() {
  local abi value
  [[ -n $abis ]] || fail "expected at least one ABI; choose from $KNOWN_ABIS" 2
  for abi in ${abis//,/ }; do
    [[ " $KNOWN_ABIS " == *" $abi "* ]] || fail "unknown ABI '$abi'; choose from $KNOWN_ABIS" 2
  done
  [[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "expected a version such as 2.19.0; got '$version'" 2
  [[ -z $commit || $commit =~ ^[0-9a-f]{40}$ ]] || fail "expected a commit of 40 hexadecimal digits; got '$commit'" 2
  for value in "$sdk_api" "$ndk_api" "$ndk_major" "${jobs:-1}"; do
    [[ $value =~ ^[0-9]+$ ]] || fail "expected a whole number; got '$value'" 2
  done
}

check_tools() {
  local tool
  for tool in git python3 javac unzip; do
    command -v "$tool" >/dev/null || fail "$tool was not found; install it"
  done
  if ! command -v bazel >/dev/null && ! command -v bazelisk >/dev/null; then
    fail "bazel was not found; install bazelisk, which runs the version that the sources ask for"
  fi
}

check_android() {
  [[ -n $sdk ]] || fail "no Android SDK; set ANDROID_HOME or give --sdk"
  [[ -d $sdk/platforms/android-$sdk_api ]] ||
    fail "the Android SDK $sdk has no platforms/android-$sdk_api; run: sdkmanager 'platforms;android-$sdk_api'"
  [[ -d $sdk/build-tools/$build_tools ]] ||
    fail "the Android SDK $sdk has no build-tools/$build_tools; run: sdkmanager 'build-tools;$build_tools'"
  [[ -n $ndk ]] || fail "no Android NDK; set ANDROID_NDK_HOME or give --ndk"
  [[ -f $ndk/source.properties ]] || fail "$ndk is no Android NDK: it has no source.properties"
  local found
  found=$(sed -n 's/^Pkg\.Revision *= *\([0-9]*\).*/\1/p' "$ndk/source.properties")
  [[ $ndk_major == 0 || $found == "$ndk_major" ]] ||
    fail "expected NDK $ndk_major, which TensorFlow $version is built with; $ndk is NDK ${found:-unknown}. Give another by --ndk, or --ndk-major $found to try it"
}

fetch() {
  if [[ ! -d $work/text ]]; then
    run git clone --depth 1 --branch "v$version" "$repository" "$work/text"
  fi
  if [[ -n $commit ]]; then
    run git -C "$work/text" rev-parse HEAD
    if ! $dry_run; then
      local found
      found=$(git -C "$work/text" rev-parse HEAD)
      [[ $found == "$commit" ]] || fail "expected TF-Text at $commit; $work/text is at $found. Delete it, or give the right --version"
    fi
  fi
}

# A package of its own, so that no file of TF-Text is changed.
write_package() {
  run mkdir -p "$work/text/llm_tflite"
  printf '+ write %q\n' "$work/text/llm_tflite/BUILD"
  if $dry_run; then return; fi
  cat >"$work/text/llm_tflite/BUILD" <<EOF
load("@org_tensorflow//tensorflow/lite/delegates/flex:build_def.bzl", "tflite_flex_android_library")
load("@org_tensorflow//tensorflow/lite/java:aar_with_jni.bzl", "aar_with_jni")

tflite_flex_android_library(
    name = "select_ops",
    additional_deps = ["//tensorflow_text:ops_lib"],
    visibility = ["//visibility:public"],
)

aar_with_jni(
    name = "$TARGET",
    android_library = ":select_ops",
)
EOF
}

# TF-Text's configuration asks the installed TensorFlow for its flags.
configure() {
  run python3 -m venv "$work/python"
  run "$work/python/bin/python" -m pip install "tensorflow==$version"
  run_in_sources ./oss_scripts/configure.sh
}

build() {
  local bazel=bazel
  if command -v bazelisk >/dev/null; then bazel=bazelisk; fi
  run_in_sources env \
    ANDROID_SDK_HOME="$sdk" ANDROID_SDK_API_LEVEL="$sdk_api" ANDROID_BUILD_TOOLS_VERSION="$build_tools" \
    ANDROID_NDK_HOME="$ndk" ANDROID_NDK_API_LEVEL="$ndk_api" \
    "$bazel" build -c opt --config=monolithic --config=android --cpu="${abis%%,*}" --fat_apk_cpu="$abis" \
    --cxxopt=-std=c++17 --host_cxxopt=-std=c++17 ${jobs:+--jobs="$jobs"} "//llm_tflite:$TARGET"
}

deliver() {
  local archive=$work/text/bazel-bin/llm_tflite/$TARGET.aar abi
  for abi in ${abis//,/ }; do
    run unzip -l "$archive" "jni/$abi/libtensorflowlite_flex_jni.so"
  done
  run mkdir -p "$output"
  run cp -f "$archive" "$output/$TARGET.aar"
}

main() {
  parse "$@"
  check_values
  if ! $dry_run; then
    check_tools
    check_android
    mkdir -p "$work"
  fi
  fetch
  write_package
  configure
  build
  deliver
  if $dry_run; then
    echo "Nothing was run."
  else
    echo "Built $output/$TARGET.aar for $abis. The next Gradle build of app takes it in."
  fi
}

main "$@"
