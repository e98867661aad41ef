# Everything sets itself up: the first target run makes .venv from the locks, later ones reuse it.
# make TARGET ARGS='...' passes arguments on; PYTHON=/path/to/python3.12 picks the interpreter.

.DEFAULT_GOAL := help
.PHONY: help environment demo test check bench soak mutants requirements lock clean

BIN := .venv/bin
ARGS ?=
EXPERIMENTS := $(sort $(dir $(wildcard experiments/*/*.py)))
UV := uv==0.13.8
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --strip-extras --no-header --upgrade

help: ## Say what the targets do
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' Makefile
	@echo "  ARGS='...' is passed on: make demo ARGS='--seed 7', make test ARGS='-k courier'"

environment:
	@python=$$(tools/find-python) && "$$python" tools/environment.py

demo: environment ## Two bars, a cloned wristband, a courier and a settlement: about a minute, live
	@$(BIN)/tapmesh demo $(ARGS)

test: environment ## Run the tests, all but the long sweeps
	$(BIN)/python -m pytest -m "not soak" $(ARGS)

check: environment ## Lint, formatting, types, and the directions imports may go
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@set -e; for experiment in $(EXPERIMENTS); do echo "$(BIN)/mypy $$experiment"; $(BIN)/mypy $$experiment*.py; done
	$(BIN)/python -m pytest -q tests/unit/test_imports.py

bench: environment ## Measure replication between two processes: 200,000 signed entries over TLS
	@$(BIN)/tapmesh bench sync $(or $(ARGS),--entries 200000 --logs 50)

soak: environment ## The long sweeps: every test, and each property with many more examples
	$(BIN)/python -m pytest --hypothesis-profile=soak $(ARGS)

mutants: environment ## Tests that can fail: each committed patch must turn a named test red, and be found by a seed: about a quarter of an hour
	@$(BIN)/python -m tools.mutants $(ARGS)
	@$(BIN)/python -m tools.simulated_mutants $(ARGS)

requirements: environment ## What proves each line of docs/requirements.md; fails where a proof is missing
	@$(BIN)/python -m tools.requirements

lock: ## Choose the newest allowed versions again and write both locks (needs a package index)
	@python=$$(tools/find-python) && "$$python" -m venv .venv-lock
	@.venv-lock/bin/python -m pip --disable-pip-version-check --quiet install $(UV)
	$(COMPILE) --group build --output-file requirements-build.lock
	$(COMPILE) pyproject.toml --extra pkcs11 --group dev --output-file requirements.lock

clean: ## Remove the environments and what tools remember; stores and keys are never touched
	rm -rf .venv .venv.busy .venv-lock .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find mesh reader gateway tests tools experiments -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
