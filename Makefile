# Every target creates what it needs: `make demo` and `make test` work in a fresh clone. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EDGES ?= var/edges_10m.bin

# What the first minutes need: no Kafka, no browser, no servers in processes of their own, no simulation.
QUICK := -m "not kafka and not browser and not network" --ignore tests/engine/test_growth.py \
	tests/engine tests/config tests/streams/events tests/streams/log tests/streams/reading $(wildcard tests/test_*.py)

.PHONY: help demo test quick check format bench lock schemas golden clean clean-cache

# The environment: exact versions from the lock, then the project itself.
$(VENV)/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); sys.exit(None if ok else "Murmuration needs Python 3.11 to 3.13; set PYTHON=")'
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)  # also a half-made one
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.run  ## the whole path on one machine: log, society, engine, page; Ctrl-C ends it
	$(BIN)/murmuration demo

test: $(VENV)/.dev  ## every test, the files shared by two workers: many tests wait for processes
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

quick: $(VENV)/.dev  ## engine, events and log: about two minutes on two cores
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(QUICK)

check: $(VENV)/.dev  ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev  ## put the code in shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(EDGES): | $(VENV)/.run
	$(BIN)/murmuration bench make-edges $@

bench: $(VENV)/.run $(EDGES)  ## the figures of docs/benchmarks.md
	$(BIN)/murmuration bench path --json
	$(BIN)/murmuration bench freshness --json
	$(BIN)/murmuration bench lock --json
	$(BIN)/murmuration bench graph --edges $(EDGES) --json

schemas: $(VENV)/.dev  ## regenerate docs/schemas from the wire types
	$(BIN)/murmuration schemas --write docs/schemas

golden: $(VENV)/.dev  ## renew tests/replay/golden.json after a layout or model version was raised
	PYTHONPATH=. $(BIN)/python tests/replay/digests.py --renew

LOCK = $(BIN)/uv pip compile pyproject.toml build.in --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet

lock:  ## renew the locks of the environment
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)  # also a half-made one
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) -o requirements.lock
	$(LOCK) --group dev -o requirements-dev.lock

clean-cache:  ## numba does not see changes in a callee of another file
	find engine streams loadtest tests \( -name '*.nb[ic]' -o -name murmuration-kernels.json \) -delete

clean: clean-cache  ## remove everything that a target made
	rm -rf $(VENV) var build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
