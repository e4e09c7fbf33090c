# `make` lists the targets. `make PYTHON=... setup` chooses the interpreter for .venv.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.installed

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or: make PYTHON=/path/to/python setup"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24" -c constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[design,research,ray,serve,dev]"
	@touch $@

setup: $(STAMP)  ## make .venv and install everything into it

demo: $(STAMP)  ## design a model on the example data that ships, print its report
	@rm -rf demo-model
	@$(BIN)/mendel design "Route support-desk messages to the right team" \
	    --data examples/support_desk/messages.jsonl --budget 90s --yes --out demo-model
	@cat demo-model/report.md
	@$(BIN)/mendel predict demo-model "my parcel still has not arrived"
	@echo "The project lies in $(CURDIR)/demo-model: start with its README.md."

test: $(STAMP)  ## the tests: no root, no server, no browser
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(STAMP)  ## also what takes long or needs PostgreSQL
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[postgres]"
	$(BIN)/python -m pytest -n 2

check: $(STAMP)  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## list the benchmarks
	@grep -m1 -H '^"""' benchmarks/*.py | sed 's/:"""/\t/;s/"""$$//'
	@echo 'Run one: $(BIN)/python benchmarks/NAME.py; results are in benchmarks/RESULTS.md.'

clean:  ## remove what make made
	rm -rf .venv demo-model build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

.PHONY: help setup demo test test-all check bench clean
