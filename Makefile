# What a person needs to know of is under `make help`.

EXCHANGE ?=
# A folder belongs to one market for ever, so a live exchange gets its own beside the simulated one's.
DIR ?=
FOLDER = $(if $(strip $(DIR)),$(DIR),$(if $(filter-out simulated,$(EXCHANGE)),var/$(EXCHANGE),var))
SPEED ?=
CONFIG ?=
SYSTEM_PYTHON ?= python3
PYTHON := .venv/bin/python
STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
PYTEST_ARGUMENTS ?=
PROCESSORS := $(shell n=$$(nproc 2>/dev/null || echo 1); echo $$((n < 4 ? n : 4)))
# Each file of tests goes to one of so many processes, which has servers of its own. Tests of whole pipelines wait a lot:
# one more than there are processors.
PYTEST_WORKERS ?= $(shell echo $$(($(PROCESSORS) < 4 ? $(PROCESSORS) + 1 : 4)))
# One thread of arithmetic each: more would only wait for one another.
PYTEST = OMP_NUM_THREADS=1 $(PYTHON) -m pytest --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help install run test quick lint clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make run EXCHANGE=binanceus|coinbase|bybit   live public data instead of the simulated market"
	@echo "  make run SPEED=60 DIR=var CONFIG=my.toml     speed of the simulated market, folder, settings"

install: $(STAMP) ## make .venv and install what running needs

run: $(STAMP) ## start everything in the foreground; Ctrl-C ends it
	@exec $(PYTHON) -m cli.main up --dir "$(FOLDER)" --exchange "$(EXCHANGE)" --speed "$(SPEED)" $(if $(CONFIG),--config "$(CONFIG)")

test: $(DEV_STAMP) ## install what testing needs and run the whole suite
	$(PYTEST) -n $(PYTEST_WORKERS) $(PYTEST_ARGUMENTS)

quick: $(DEV_STAMP) ## what needs no server and little time
	$(PYTEST) -n $(PROCESSORS) -m "not slow" tests/unit tests/conformance $(PYTEST_ARGUMENTS)

lint: $(DEV_STAMP) ## ruff, mypy (strict), import-linter
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

clean: ## remove .venv and caches; ./var stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml scripts/install.py
	@$(SYSTEM_PYTHON) scripts/install.py
	@touch $@

$(DEV_STAMP): $(STAMP)
	@$(SYSTEM_PYTHON) scripts/install.py dev oracles deep tune
	@touch $@
