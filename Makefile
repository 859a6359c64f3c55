# Every target makes .venv by itself when it is missing or older than what it is made from.
PYTHON ?= python3
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Stored outputs are compared cell by cell with a run on the twin, except for times and folders.
NBVAL := --nbval --nbval-sanitize-with tests/notebooks/sanitize.cfg

.PHONY: rehearse test test-all lint bench notebooks lab clean
rehearse: .venv/ready ## all runbooks in a row on a twin of parameters/lab.yaml
	$(PY) -m labkit rehearse --lab parameters/lab.yaml

PYTEST := $(PY) -m pytest -q -n 2 --dist loadfile $(NBVAL) tests $(wildcard notebooks/[0-9]*.ipynb)
test: .venv/ready lint ## everything that must hold at every change
	$(PYTEST) -m "not thorough"

test-all: .venv/ready lint ## that, and what takes minutes: whole recoveries under each fault, killed at more points
	$(PYTEST)

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/codespell

bench: .venv/ready ## the figures of the README
	$(PY) -m bench

notebooks: .venv/ready ## refresh the stored outputs of notebooks/ from runs on the twin
	$(PY) -m bench.notebooks

lab: .venv/ready ## JupyterLab on the runbooks
	.venv/bin/jupyter lab notebooks/index.ipynb

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labkit needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[twin,dev]'
	touch $@

clean:
	rm -rf .venv outputs/2*
