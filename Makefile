# Everything here needs Python 3.11 or later with its own pip, and a network that reaches PyPI.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Conversions keep one core busy each, and take up to 3 GB.
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

export TF_CPP_MIN_LOG_LEVEL ?= 3
export KERAS_BACKEND := tensorflow

.PHONY: demo test slow lint bench bench-codelab bench-hand-laid families quality docs clean

demo: $(VENV)/.demo
	$(BIN)/python examples/quickstart.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# Real weights, large shapes and fresh environments: about ten minutes more.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow $(PARALLEL)

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

# Every built-in quantizer on a real model, into docs/quantization.md: ten minutes. Needs npm.
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
	rm -rf $(VENV) .bench-venv .codelab-venv .cache .pytest_cache .mypy_cache .ruff_cache
