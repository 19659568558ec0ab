# make demo | test | test-robust | bench | bench-data | results | lint | setup | clean.
# Variables: PYTHON, TORCH (what to give pip), ARGS (for demo, test-robust, bench, bench-data, results).
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
PROBLEM = $(shell sh tools/check_system.sh $(PYTHON) 2>/dev/null)
IN_ENV := . $(VENV)/env.sh && $(VENV)/bin/

# set by a Python with ROS wheels for its children: another one among them would not find its libraries
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: setup demo test test-robust bench bench-data results lint clean
.DEFAULT_GOAL := demo

setup:
	$(if $(PROBLEM),$(error $(PROBLEM)))
	@$(PYTHON) tools/setup_env.py $(VENV) --torch '$(TORCH)'

demo: setup
	@$(IN_ENV)object-centric demo $(ARGS)

bench: setup
	@$(IN_ENV)object-centric bench $(ARGS)

bench-data: setup
	@$(IN_ENV)object-centric bench-data $(ARGS)

results: setup
	@$(IN_ENV)object-centric results $(ARGS)

lint: setup
	@$(IN_ENV)ruff check .
	@$(IN_ENV)mypy

test: lint
	@$(IN_ENV)python -m pytest

# 10,000 mutated messages, 20 kills of each node, 30 minutes of memory: hours. Less by ARGS='--messages 400 --kills 2 ...'
test-robust: setup
	@$(IN_ENV)python -m pytest -o python_files='robust_*.py' test/robust $(ARGS)

clean:
	rm -rf $(VENV) build install log demo_output .pytest_cache .mypy_cache .ruff_cache
