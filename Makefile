# Three commands: `make demo`, `make ui`, `make test`. Each sets up what it needs first.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 3000
# every stage and every test worker is a process of its own: bytecode is compiled once
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo ui test test-quick lint setup clean

demo: setup
	$(BIN)/definemed demo

# What the demo built is there to see, to materialize again and to backfill.
ui: setup .dagster/dagster.yaml
	DAGSTER_HOME=$(CURDIR)/.dagster $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

test: setup
	$(BIN)/python -m pytest -n 4 --dist loadgroup

test-quick: setup
	$(BIN)/python -m pytest -n 4 --dist loadgroup -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/installed

# constraints.txt pins every package. Where pip knows of a CPU build of the pinned torch it takes that one.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv; }
	@echo "setting up .venv (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ui,s3,test]"
	@$(BIN)/python -m compileall -q definemed_pipeline
	@touch $@

.dagster/dagster.yaml: dagster.yaml
	@mkdir -p .dagster
	cp dagster.yaml $@

clean:
	rm -rf lake .dagster .venv
