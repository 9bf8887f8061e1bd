# Everything that is run on this tree. `make` lists the targets.
#
#   PYTHON=python3.12 make test     another interpreter; each version gets environments of its own under .venv/

PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
DEV := .venv/dev-$(VERSION)
DEMO := .venv/demo-$(VERSION)
PINS := requirements/ci.txt
WORKERS ?= auto
BARE_PINS := requirements/no-deps.txt

.DEFAULT_GOAL := help
.PHONY: help demo test stack lint format types contracts docs docs-check kit prices-check bench bench-patterns \
	matrix frameworks pins environments clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO)/.ready ## Watch agents at work: real client libraries, a provider played on this machine
	@$(DEMO)/bin/seatrace demo $(ARGS)

test: $(DEV)/.ready ## Run the test suite with the newest libraries; ARGS="-k stream" goes to pytest, WORKERS=0 is one process
	@$(DEV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

stack: $(DEV)/.ready ## Prove the backend kit with the real collector, Prometheus and Alertmanager; takes minutes
	@collector/build >/dev/null || [ $$? = 3 ]
	@$(DEV)/bin/python -m pytest tests/stack $(ARGS)

lint: $(DEV)/.ready ## Check style and formatting
	@$(DEV)/bin/ruff check .
	@$(DEV)/bin/ruff format --check .

format: $(DEV)/.ready ## Mend style and formatting
	@$(DEV)/bin/ruff check --fix .
	@$(DEV)/bin/ruff format .

types: $(DEV)/.ready ## Check types
	@$(DEV)/bin/mypy

contracts: $(DEV)/.ready ## Check who imports whom
	@$(DEV)/bin/lint-imports --no-logo

docs: $(DEV)/.ready ## Write the generated tables of docs/
	@$(DEV)/bin/python scripts/build_docs.py

docs-check: $(DEV)/.ready ## Check that the generated tables are up to date
	@$(DEV)/bin/python scripts/build_docs.py --check

kit: $(DEV)/.ready ## Write the boards, rules and alerts of dashboards/ (tests check that they are up to date)
	@$(DEV)/bin/seatrace dashboards build
	@$(DEV)/bin/seatrace rules generate --out dashboards/rules
	@$(DEV)/bin/seatrace rules generate --format grafana --out dashboards/rules
	@$(DEV)/bin/seatrace rules generate --format alertmanager --out dashboards/alertmanager

prices-check: $(DEV)/.ready ## Check that the bundled prices are those of the pinned genai-prices
	@$(DEV)/bin/python scripts/build_prices.py --check

bench: $(DEV)/.ready ## Measure overhead, cold start, memory and runs of agents against their bounds
	@$(DEV)/bin/python -m benchmarks.overhead --check
	@$(DEV)/bin/python -m benchmarks.cold_start --check
	@$(DEV)/bin/python -m benchmarks.memory --check
	@$(DEV)/bin/python -m benchmarks.agents --check

bench-patterns: $(DEV)/.ready ## Measure the patterns of seatrace.runtime beside what one would use instead; takes ten minutes
	@for each in cache sketch pool batch queue budget; do \
		echo "== $$each"; $(DEV)/bin/python -m benchmarks.$$each --check || exit 1; done

matrix: $(DEV)/.ready ## Run the contract suite against the oldest and newest libraries
	@$(DEV)/bin/python scripts/sessions.py newest oldest otel $(ARGS)

frameworks: $(DEV)/.ready ## Run the tests of the agent frameworks, each in an environment of its own; ARGS="-k langchain"
	@$(DEV)/bin/python scripts/sessions.py frameworks $(ARGS)

pins: $(DEV)/.ready ## Renew the exact versions in requirements/ci.txt
	@$(DEV)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-header --no-annotate \
		--all-extras --group dev pyproject.toml --output-file $(PINS)
	@for each in requirements/frameworks/*-*.in; do $(DEV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
		--no-header --no-annotate $$each --output-file $${each%.in}.txt || exit; done

environments: $(DEV)/.ready $(DEMO)/.ready

clean: ## Remove the environments and every cache
	rm -rf .venv .nox .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(DEV)/.ready: $(PINS) $(BARE_PINS) pyproject.toml
	$(call environment,$(DEV))
	@$(DEV)/bin/python -m pip install --quiet --requirement $(PINS)
	@$(DEV)/bin/python -m pip install --quiet --no-deps --requirement $(BARE_PINS)
	@$(DEV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEMO)/.ready: $(PINS) pyproject.toml
	$(call environment,$(DEMO))
	@$(DEMO)/bin/python -m pip install --quiet --constraint $(PINS) --editable '.[demo]'
	@touch $@

# Python's own venv; Debian ships it apart from python3.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "seatrace: needs Python 3.10 or newer as $(PYTHON): make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(1) (once, about a minute)"
	@test -x $(1)/bin/pip || $(PYTHON) -m venv --clear $(1) || { rm -rf $(1); \
		echo "seatrace: $(PYTHON) has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
endef
