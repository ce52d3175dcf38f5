# Every target works on a fresh checkout: what is missing is installed below .venv and
# .tools. "make help" lists the targets.

VENV := .venv
PYTHON := python3
ARGS :=
BIN := $(VENV)/bin
UV := scripts/uv
export PYTHON
export UV_PYTHON_DOWNLOADS := never

MEMBERS := core $(wildcard plugins/*/*)
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
METADATA := pyproject.toml $(wildcard $(addsuffix /pyproject.toml,$(MEMBERS))) \
	constraints.txt scripts/setup

.DEFAULT_GOAL := help
.PHONY: demo setup format lint types test test-all soak bench docs check build constraints \
	bump ide clean help servers

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: setup ## run a scheduler with a few jobs for half a minute
	$(BIN)/apscheduler run examples/quickstart.ini --for 30s

setup: $(VENV)/.installed ## install every distribution, editable, with the tools

$(VENV)/.installed: $(METADATA)
	@scripts/setup $(VENV) dev
	@touch $@

.venv-docs/.installed: $(METADATA)
	@scripts/setup .venv-docs docs
	@touch $@

format: setup ## let the formatter decide
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lint: setup ## look for mistakes and layout
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: setup ## check the types
	MYPYPATH=$(subst $(SPACE),:,$(addsuffix /src,$(MEMBERS)) bench bench/workloads tests) $(BIN)/mypy

servers:
	@scripts/servers

test: setup servers ## run the tests (ARGS="-k words" for some of them)
	$(BIN)/pytest -n auto -W error $(ARGS)

test-all: ## run the tests on every installed Python from 3.11 to 3.13
	@MAKE="$(MAKE)" scripts/test-all

soak: setup servers ## kill schedulers on every store, then balance the books (ARGS="redis --seconds 300")
	$(BIN)/python -m apscheduler.testing.cluster --restarts --cuts 500 --report docs/reports/soak.md $(ARGS)

bench: setup ## measure, and write docs/reports/speed.md (ARGS="--help" for other things to do)
	PATH="$(CURDIR)/$(BIN):$$PATH" bench/run $(or $(ARGS),--page docs/reports/speed.md)

docs: .venv-docs/.installed ## build the documentation, warnings as errors
	.venv-docs/bin/sphinx-build -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

check: lint types test ## what must pass before a merge

build: ## build the wheels and source archives of all distributions into dist/
	rm -rf dist
	$(UV) build -q --all-packages --out-dir dist
	@echo "$$(ls dist/*.whl | wc -l) wheels in dist/: see \"In an environment of your own\" in README.md"

constraints: ## take the newest versions of everything into constraints.txt
	$(UV) lock -q --upgrade
	$(UV) export -q --no-hashes --no-emit-workspace --all-packages --all-groups \
		--all-extras --no-header --no-annotate --output-file constraints.txt

bump: ## give every distribution a new version: make bump V=3.21.0
	@test -n "$(V)" || { echo "Which version? make bump V=3.21.0" >&2; exit 1; }
	@for member in . $(MEMBERS); do $(UV) version -q --frozen --project $$member $(V); done
	@sed -i 's/^release = .*/release = "$(V)"/' core/src/apscheduler/__init__.py

ide: ## merge all sources below .ide, for type checkers that need one tree
	rm -rf .ide
	mkdir .ide
	for source in $(addsuffix /src,$(MEMBERS)); do cp -rs "$(CURDIR)/$$source/." .ide/; done
	@echo "Add .ide to extraPaths (pyright) or python.analysis.extraPaths (Pylance)"

clean: ## remove everything that make has made
	rm -rf .venv .venv-* .tools .ide dist docs/_build bench/.venv-* bench/results
	rm -rf quickstart-data
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find core plugins tests bench -name __pycache__ -prune -exec rm -rf {} +
