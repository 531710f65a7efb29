# Every target installs what it needs into .venv, once per change of pyproject.toml.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
ENGINE ?= sqlite
PORT ?= 8000
ROUNDS ?= 40
NEXT_DJANGO := django>=6.1
# Needed from the system; tenants/embedded/needs.py says which Debian packages have it.
MYSQL_NEEDS := mariadb mysql-headers compiler python-headers
TEST_NEEDS := venv $(MYSQL_NEEDS) redis nmap chromium chromedriver
BIN := .venv/bin
NEXT := .venv-next/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

ifeq ($(filter sqlite mysql,$(ENGINE)),)
$(error ENGINE=$(ENGINE) is not known: use ENGINE=sqlite or ENGINE=mysql)
endif

.PHONY: help demo run test test-next check guards prove coverage bench faults python system-mysql system-test next-python

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(if $(filter mysql,$(ENGINE)),system-mysql) .venv/.with-demo $(if $(filter mysql,$(ENGINE)),.venv/.with-mysql) ## two customers, three targets, real scans (ENGINE=mysql: on a temporary MariaDB)
	@exec $(BIN)/python manage.py demo $(if $(filter mysql,$(ENGINE)),--engine mysql)

run: .venv/.with-redis ## all processes of the Procfile, on 127.0.0.1 (PORT=8000), state in var/
	@$(BIN)/python manage.py migrate
	@PATH="$(CURDIR)/$(BIN):$$PATH" PORT=$(PORT) exec $(BIN)/honcho start

test: system-test .venv/.with-test ## everything, on SQLite and MariaDB (NO_INSTALL=1: install no system packages)
	@exec $(BIN)/python -m pytest -n auto

test-next: next-python .venv-next/.with-test ## the same on the next Python and Django, in .venv-next
	@exec $(NEXT)/python -m pytest -n auto

check: system-mysql .venv/.with-check ## lint, format, types, import contract, migrations, deployment, API schema
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy config tenants scans
	$(BIN)/lint-imports
	@$(AS_IN_PRODUCTION) && set -x && \
	$(BIN)/python manage.py makemigrations --check --dry-run && \
	$(BIN)/python manage.py check --deploy --fail-level WARNING && \
	$(BIN)/python manage.py spectacular --validate --fail-on-warn --file "$$BULKHEAD_HOME/schema.yml"

guards: coverage ## and take each guard out of the source in turn; a test must go red
	@exec $(BIN)/python -m tools.guards

# With the names and durations of the tests, from which `python -m tools.guards --learn` chooses.
coverage: system-test .venv/.with-test ## every branch of the isolation core must be taken by a test
	@rm -f .coverage .coverage.* .coverage-durations
	@COVERAGE_FILE=$(CURDIR)/.coverage $(BIN)/python -m coverage run -m pytest -q -n auto -p tools.guards.contexts \
		tests/tenants tests/invariants tests/config tests/roles
	@$(BIN)/python -m coverage combine -q && $(BIN)/python -m coverage report

bench: system-mysql .venv/.with-test ## what isolation costs, and how soon a scan starts (ROUNDS=40; wants a quiet machine)
	@$(BIN)/python -m benchmarks.isolation --rounds $(ROUNDS)
	@$(BIN)/python -m benchmarks.isolation --rounds $(ROUNDS) --engine mysql
	@$(BIN)/python -m benchmarks.dispatching --rounds $(ROUNDS)
	@$(BIN)/python -m benchmarks.dispatching --rounds $(ROUNDS) --engine mysql

prove: system-test .venv/.with-test ## the interleaving machine, OPERATIONS=1000000 an engine; goes on where it was stopped
	@OPERATIONS="$(OPERATIONS)" exec $(BIN)/python -m tools.prove

# On MariaDB unless ENGINE says otherwise.
faults: system-test .venv/.with-test ## what breaks, on MariaDB and Redis, and KILLS=50 random kills; goes on where it was stopped
	@KILLS="$(KILLS)" SEED="$(SEED)" exec $(BIN)/python -m tools.faults --engine $(if $(filter file,$(origin ENGINE)),mysql,$(ENGINE))

define AS_IN_PRODUCTION
scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
export BULKHEAD_HOME="$$scratch" BULKHEAD_HTTPS=true BULKHEAD_ALLOWED_HOSTS=bulkhead.example \
SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))')"
endef

python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed. Bulkhead needs Python 3.11 or later."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Bulkhead needs Python 3.11 or later; $(PYTHON) is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'

system-mysql: python
	@PYTHON=$(PYTHON) tools/system-packages venv $(MYSQL_NEEDS)

system-test: python
	@PYTHON=$(PYTHON) tools/system-packages $(TEST_NEEDS)

# $(call make_venv,directory,python): pip is the last thing that venv puts in place.
define make_venv
	@$(2) -c 'import ensurepip, venv' 2>/dev/null || { echo "The venv module is missing. Try: apt-get install python3-venv"; exit 1; }
	@echo "Making $(1) with $$($(2) --version)"
	@$(2) -m venv $(1)
endef

# $(call install,directory,requirements)
define install
	@echo "Installing $(2) into $(1)"
	@$(1)/bin/python -m pip install --quiet --progress-bar off $(2)
	@touch $@
endef

.venv/bin/pip: | python
	$(call make_venv,.venv,$(PYTHON))

.venv/.with-%: pyproject.toml | .venv/bin/pip
	$(call install,.venv,-e '.[$*]')

# PYENV_VERSION: where python3.13 is pyenv's shim, it runs only if that version is chosen.
NEXT_PYTHON = $(shell PYENV_VERSION=3.13 python3.13 -c 'import sys; print(sys.executable)' 2>/dev/null)

next-python:
	@[ -n "$(NEXT_PYTHON)" ] || { echo "make test-next needs Python 3.13, on PATH or from pyenv (pyenv install 3.13)."; exit 1; }
	@PYTHON="$(NEXT_PYTHON)" tools/system-packages $(TEST_NEEDS)

.venv-next/bin/pip:
	$(call make_venv,.venv-next,$(NEXT_PYTHON))

.venv-next/.with-test: pyproject.toml | .venv-next/bin/pip
	$(call install,.venv-next,-e '.[test]' '$(NEXT_DJANGO)')
