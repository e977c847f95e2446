# Commands for people, hooks and CI. Every target first brings .venv up to date.

.DEFAULT_GOAL := help
.PHONY: setup serve test check bench fuzz docs screenshots lock unasync help

PYTHON ?= python3
BIN := .venv/bin
# Touched when .venv matches the lock. If it is older than either file, the environment is built again.
STAMP := .venv/.from-lock

setup: $(STAMP) ## Build .venv from requirements.lock if it is not up to date

serve: setup ## Run the service; add flags with ARGS="--port 9000"
	@exec $(BIN)/triggers serve $(ARGS)

test: setup ## Run the tests in two processes; select some with ARGS="tests/unit -k retry"
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: setup ## Check format, lint, types, the import contract, links and generated parts of the docs
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --diff --quiet .; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python sdk/python/sync_half.py --check
	@$(BIN)/mypy --config-file sdk/python/pyproject.toml
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python .ci/dead_links.py
	@$(BIN)/python .ci/generated_docs.py --check

bench: setup ## Measure and print every published figure
	@$(BIN)/python -m bench $(ARGS)

fuzz: setup ## Attack a real service for ten minutes, then fuzz its API; ARGS="--seconds 60 --seed 1 --cases 0"
	@PYTHONPATH=tests $(BIN)/python -m fuzz $(ARGS)

docs: setup ## Write the generated parts of the docs: commands, settings, metrics, errors, client libraries
	@$(BIN)/python .ci/generated_docs.py

screenshots: setup ## Write every screen of the console to screenshots/; the README's pictures with ARGS="-k readme"
	@$(BIN)/python -m pytest tests/integration/console/screenshots.py $(or $(ARGS),-k test_screens)

unasync: setup ## Write the synchronous half of triggers-client from its asynchronous half
	@$(BIN)/python sdk/python/sync_half.py

lock: ## Update requirements.lock from pyproject.toml
	@PATH="$$PATH:$(BIN)" uv pip compile --quiet --generate-hashes --universal --group dev pyproject.toml -o requirements.lock

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# uv installs in seconds what takes pip minutes, so where none is on PATH the one of the lock is used.
# The project itself comes last and without dependencies: nothing is installed that the lock does not
# name, and the check at the end fails if pyproject.toml asks for something that the lock lacks.
# All is compiled here once: where Python may not or is told not to write bytecode, each command
# would compile every module anew, which takes it several times as long as its work.
$(STAMP): pyproject.toml sdk/python/pyproject.toml requirements.lock
	@set -e; \
	if uv=$$(command -v uv); then \
		test -x $(BIN)/python || "$$uv" venv --quiet --python '$(if $(filter file,$(origin PYTHON)),>=3.11,$(PYTHON))' .venv; \
	else \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=…")'; \
		echo 'Building .venv …'; \
		test -x $(BIN)/python || $(PYTHON) -m venv .venv; \
		awk '/^uv==/, !/\\$$/' requirements.lock > .venv/uv.txt; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt; \
		uv=$(BIN)/uv; \
	fi; \
	"$$uv" pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock; \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --editable . --editable sdk/python; \
	$(BIN)/python -m compileall -q src sdk/python/src; \
	"$$uv" pip check --quiet --python $(BIN)/python
	@touch $@
