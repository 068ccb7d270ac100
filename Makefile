# Each target is one or two lines; the work is in the package.
SHELL := bash
PY := .venv/bin/python
export EOFM_CACHE ?= $(CURDIR)/.cache/packages
export DS_BUILD_OPS := 0

.PHONY: setup demo test test-all test-mutants lint docs clean
setup: .venv/ready
.venv/ready: pyproject.toml constraints.txt fm/version.py
	test -x $(PY) || python3 -m venv .venv
	$(PY) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]' && touch $@

demo: setup
	.venv/bin/fm demo --out fm-demo

test: setup # files are kept together: their fixtures are made once
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile

test-all: setup
	$(PY) -m pytest -m 'not mutants' && BENCH_QUICK=1 $(PY) -m bench all && $(MAKE) test-mutants

test-mutants: setup
	$(PY) -m pytest -m mutants tests/mutants

lint: setup
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && .venv/bin/lint-imports && .venv/bin/hadolint Dockerfile

docs: setup
	$(PY) -m pytest tests/docs

bench-%: setup
	$(PY) -m bench $*
