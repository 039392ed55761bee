# Every habit of this repository, one command each; CI runs the same ones.

SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# One thread per process: numerical libraries that each take every core slow one another down.
export OMP_NUM_THREADS ?= 1
export DVC_NO_ANALYTICS = 1
export DO_NOT_TRACK = 1

.PHONY: help setup demo check test test-cluster test-cluster-all cluster-image schemas lock build clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: .venv/.installed ## Install the environment that requirements.lock names into .venv

.venv/.installed: requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "coalmine needs Python 3.11 or newer, and $(PYTHON) is not. Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/uv || $(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments (no ensurepip). On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements-build.lock; }
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes \
	  --build-constraints requirements-build.lock requirements.lock requirements-build.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --build-constraints requirements-build.lock --editable .
	@touch $@

demo: setup ## The main job, live, in a repository of its own (KEEP=1 leaves everything running)
	@$(BIN)/coalmine demo $(if $(KEEP),--keep) $(if $(ADDRESS),--address $(ADDRESS))

check: setup ## Lint, formatting, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

test: setup ## Every test (ARGS="-k words" for some of them)
	$(BIN)/pytest -n 2 $(ARGS)

# They make namespaces of their own, and remove them. CONTRIBUTING.md: "Tests on a cluster".
test-cluster: setup ## What must hold on a cluster, in a quarter of an hour, on the one that KUBECONFIG names
	COALMINE_TEST_CLUSTER=1 $(BIN)/pytest -n 2 -m "cluster and not slow" tests/cluster $(ARGS)

test-cluster-all: setup ## Every test of a cluster
	COALMINE_TEST_CLUSTER=1 $(BIN)/pytest -n 2 -m cluster tests/cluster $(ARGS)

cluster-image: setup ## An image for those tests, as ARCHIVE: the model server's, or IMAGE=pipelines
	$(BIN)/python -m tests.cluster.image $(ARCHIVE) $(IMAGE)

schemas: setup ## Write docs/schemas/ from the models in code
	$(BIN)/python -c 'from pathlib import Path; from coalmine.scaffold.repository import write_schemas; write_schemas(Path("."))'

lock: setup ## Resolve the lock files anew
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
	  --python-version 3.11 --extra cluster --group dev pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
	  --python-version 3.11 --constraints requirements.lock --group pyproject.toml:build -o requirements-build.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
	  --python-version 3.11 --constraints requirements.lock --group pyproject.toml:serving -o requirements-serving.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
	  --python-version 3.11 --constraints requirements.lock --extra cluster pyproject.toml -o requirements-pipelines.lock
	for client in tests/serving/clients/*.in; do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --upgrade \
	    --python-version 3.11 $$client -o $${client%.in}.lock || exit; \
	done

build: setup ## Build the wheel into dist/
	$(BIN)/uv build --quiet --wheel --build-constraints requirements-build.lock --require-hashes

clean: ## Remove what the commands above made; releases and data under .coalmine/ stay
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
