# Two folders are made here, each with a virtual environment of its own: .demo as a user would have it,
# .venv for working on ingot. Python 3.11 or newer and make are all that is needed beforehand.

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$name; break; fi; done)
PYTEST_ARGS ?=

# An environment is set up again when these change, and not before.
REQUIREMENTS := $(shell cat pyproject.toml setup.py | cksum | cut -d' ' -f1)
SOURCES := $(wildcard *.py) $(shell find ir targets frontend passes codegen runtime -name '*.py')
DEV := .venv/installed-$(REQUIREMENTS)
DEMO := .demo/installed-$(REQUIREMENTS)
PIP_FLAGS := -qq --no-input --disable-pip-version-check

.PHONY: help demo test check fmt golden clean python
.DEFAULT_GOAL := help

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

demo: $(DEMO) ## Compile the example model and ask it three questions
	@.demo/venv/bin/python examples/demo.py

# Two files of tests at a time: most of a test is one thread's work. Workers tell tests by their names, which
# schemathesis' share, so that these run by themselves.
SHARED_NAMES := tests/runtime/server/test_schemathesis.py
test: $(DEV) ## Run all tests; PYTEST_ARGS="tests/ir -x" for some
ifeq ($(strip $(PYTEST_ARGS)),)
	.venv/bin/python -m pytest -n 2 --dist loadfile --ignore=$(SHARED_NAMES)
	.venv/bin/python -m pytest $(SHARED_NAMES)
else
	.venv/bin/python -m pytest $(PYTEST_ARGS)
endif

check: $(DEV) ## Formatting, lint, types, import rules
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	@mkdir -p .venv/typing && ln -sfn "$(CURDIR)" .venv/typing/ingot
	MYPYPATH=.venv/typing .venv/bin/mypy --config-file pyproject.toml -p ingot
	.venv/bin/lint-imports --no-logo

fmt: $(DEV) ## Format, and fix what lint can fix
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

golden: $(DEV) ## Rewrite what golden tests expect; read the difference before committing it
	.venv/bin/python -m pytest --update-golden $$(find tests -name 'test_golden*.py') $(PYTEST_ARGS)

clean: ## Remove both environments and what was built
	rm -rf .venv .demo build

python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Python 3.11 or newer was not found; name one, as in: make PYTHON=/path/to/python3 ..." >&2; exit 1; fi

$(DEV): | python
	@echo "Setting up .venv (PyTorch and transformers are among what tests compare with) ..."
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install $(PIP_FLAGS) --editable '.[dev,reference]'
	@rm -f .venv/installed-* && touch $@

# setuptools would put files of an older build/ into the wheel, even ones that are gone.
$(DEMO): $(SOURCES) | python
	@echo "Setting up .demo ..."
	@test -x .demo/venv/bin/python || $(PYTHON) -m venv .demo/venv
	@rm -rf build
	@.demo/venv/bin/python -m pip install $(PIP_FLAGS) .
	@rm -rf build .demo/installed-* && touch $@
