# Everything sets itself up from a fresh clone: Python >= 3.11 and make are all that is needed.
# The first interpreter that runs and is new enough; a version manager's shim may exist and not run.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help engines demo test lint types layers docs truth truth-llamacpp truth-torch truth-site accuracy bench wheel-test catalog clean

help:           ## Show this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python pyproject.toml requirements/dev.txt
	$(PIP) --constraint requirements/dev.txt --editable '.[cli]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) --constraint requirements/dev.txt --editable '.[dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.dev requirements/docs.txt
	$(PIP) --constraint requirements/dev.txt --constraint requirements/docs.txt --editable '.[docs]'
	@touch $@

$(VENV)/.engines: $(VENV)/.dev requirements/engines.txt requirements/docs.txt
	$(PIP) --constraint requirements/dev.txt --constraint requirements/engines.txt --constraint requirements/docs.txt \
	  --editable '.[dev,engines]' genai-prices altair
	@touch $@

engines: $(VENV)/.engines  ## pandas, polars, Arrow, DuckDB, Dask, genai-prices and altair, so that their tests run too

demo: $(VENV)/.demo  ## Verdicts for this machine and for three well-known cases
	@$(BIN)/python -m willitrun demo

test: $(VENV)/.dev lint types layers  ## Lint, types, layers and tests in random order
	$(BIN)/python -m pytest -q

lint: $(VENV)/.dev  ## ruff, lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## mypy --strict
	$(BIN)/mypy

layers: $(VENV)/.dev  ## import-linter: a floor imports only lower floors
	$(BIN)/lint-imports

wheel-test: $(VENV)/.dev  ## Build the wheel, install it elsewhere, compare verdicts; also from a zip
	$(BIN)/python tests/wheel/check_wheel.py

catalog: $(VENV)/.demo  ## Rebuild the look-up index and check every record
	@$(BIN)/python -m willitrun catalog build
	@$(BIN)/python -m willitrun catalog check

docs: $(VENV)/.docs  ## Build the documentation, warnings as errors
	$(BIN)/python docs/generate.py
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

truth: truth-llamacpp truth-torch truth-site  ## Predictions against real runtimes, built or installed here

ONE_OF ?= 1
truth-llamacpp: $(VENV)/.dev  ## Full-size models without data in a real llama.cpp (the first run builds it: minutes); ONE_OF=2: every other
	$(BIN)/python -m accuracy.memory.truth --one-of $(ONE_OF)

$(VENV)/.torch: $(VENV)/.dev requirements/torch.txt
	$(PIP) --requirement requirements/torch.txt
	@# timm asks for torchvision, whose operators must be built for the same torch; nothing here needs them.
	$(BIN)/python -m pip uninstall --quiet --yes torchvision
	@touch $@

truth-torch: $(VENV)/.torch  ## Random-weight transformers, timm and diffusers in real PyTorch on the CPU
	$(BIN)/python -m accuracy.memory.torch_truth

truth-site: docs  ## The built site in a headless Chromium: links, search, figures, phone width
	WILLITRUN_SITE=docs/_build/html $(BIN)/python -m pytest -q -p no:randomly tests/site

accuracy: $(VENV)/.dev  ## Prediction against measurement, on what is available
	$(PIP) --constraint requirements/dev.txt scipy pandas
	$(BIN)/python -m accuracy

bench: $(VENV)/.dev  ## Import cost, first verdict, verdicts and sweep rows per second
	$(BIN)/python -m benchmarks

clean:          ## Remove the environment and build products
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
