# Everything here needs Python 3.11 or later with its own pip, and a network that reaches PyPI.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Conversions keep one core busy each, and take up to 3 GB.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

export TF_CPP_MIN_LOG_LEVEL ?= 3
export KERAS_BACKEND := tensorflow

# What the Android app's core is tested with: models, and what Python says of them.
GOLDEN := android_app/ci/golden

.PHONY: demo test slow android lint bench bench-codelab bench-hand-laid families quality docs clean

demo: $(VENV)/.demo
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# Real weights, large shapes and fresh environments: about ten minutes more.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow $(PARALLEL)

define FIND_NATIVE
import importlib.util as util
print(util.find_spec("litert_lm").submodule_search_locations[0] + "/liblitert-lm.so")
endef
export FIND_NATIVE

# The Android app on a plain JVM, warnings as errors, its core on the real runtime: under ten minutes.
android: $(GOLDEN)/.written
	@command -v mvn > /dev/null && command -v javac > /dev/null || { echo "make android needs Maven" \
	  "and a JDK of version 17 or later; on Debian: apt-get install maven openjdk-17-jdk-headless"; exit 1; }
	LLM_TFLITE_NATIVE="$$($(BIN)/python -c "$$FIND_NATIVE")" \
	  mvn -B --no-transfer-progress -f android_app/ci/pom.xml verify

$(GOLDEN)/.written: $(VENV)/.dev android_app/ci/golden.py $(shell find llm_tflite -name '*.py')
	$(BIN)/python android_app/ci/golden.py $(GOLDEN)
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.demo .bench-venv/.ready
	$(BIN)/python -m benchmarks --competitors .bench-venv/bin/python

# Against the recipe of TensorFlow's codelab, in the TensorFlow that runs its file: ten minutes.
bench-codelab: $(VENV)/.demo .codelab-venv/.ready
	$(BIN)/python -m benchmarks.codelab

# Against decode graphs that were laid by hand: ten minutes.
bench-hand-laid: $(VENV)/.demo
	$(BIN)/python -m benchmarks.hand_laid

# Every family of KerasHub, beside Keras and LiteRT-LM, into docs/families.md: half an hour.
families: $(VENV)/.dev
	$(BIN)/python -m benchmarks.families

# Every built-in quantizer on a real model, into docs/quantization.md: three quarters of an hour. Needs npm.
quality: $(VENV)/.dev
	$(BIN)/python -m benchmarks.quality

docs: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_documentation.py

$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

.bench-venv/.ready: benchmarks/requirements.txt
	test -x .bench-venv/bin/python || $(PYTHON) -m venv .bench-venv
	.bench-venv/bin/python -m pip install -q --upgrade pip
	CMAKE_ARGS="-DGGML_NATIVE=ON" .bench-venv/bin/python -m pip install -q -r benchmarks/requirements.txt
	touch $@

.codelab-venv/.ready: benchmarks/codelab_requirements.txt pyproject.toml
	test -x .codelab-venv/bin/python || $(PYTHON) -m venv .codelab-venv
	.codelab-venv/bin/python -m pip install -q --upgrade pip
	.codelab-venv/bin/python -m pip install -q -r benchmarks/codelab_requirements.txt -e .
	touch $@

clean:
	rm -rf $(GOLDEN) android_app/ci/target android_app/ci/*/target $(VENV) .bench-venv .codelab-venv .cache .pytest_cache .mypy_cache .ruff_cache
