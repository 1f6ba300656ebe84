.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install demo notebook test test-long test-cluster check audit wheel bench clean

help:  ## what the targets are
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(BIN)/.installed  ## make .venv with everything in it, at the tested versions

$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14) and "lstmfcn needs Python 3.11 to 3.14")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[demo,notebook,dev,bench]'
	@touch $@

demo: install  ## the whole product on real data, in a few minutes: sweep, evaluate, transform, endpoint
	$(BIN)/python -m jobs.demo --output demo-results --overwrite

notebook: install  ## run examples/notebook.ipynb again and keep what it shows, pictures too
	$(BIN)/python -m examples.execute

test: install  ## the tests
	$(BIN)/pytest

test-long: install  ## the long tests: kills, populations, a lost node, 10,000 files, a 200 MB file, the notebook
	$(BIN)/pytest -m long

test-cluster: install  ## the cluster tests: jobs on four hosts in network namespaces, and what befalls them (as root)
	$(BIN)/pytest -m cluster tests/ray/cluster

check: install  ## formatting, lint, types, import layers and the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest

audit: install  ## known vulnerabilities of all dependencies, and dist/bom.cdx.json, which lists them (asks PyPI)
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit==2.10.1 cyclonedx-bom==7.5.0
	mkdir -p dist
	build/audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON --output-file dist/bom.cdx.json $(BIN)/python
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt || { \
	    echo "make audit: not passed. A table above lists known vulnerabilities; an ERROR instead of one means that PyPI told nothing of a package, and that nothing is known" >&2; exit 1; }

wheel: install  ## a wheel in dist/, which brings the command lstmfcn along
	rm -rf build dist/*.whl
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

bench: install  ## the benchmarks, each ending in one line of JSON
	$(BIN)/python -m benchmarks.parser
	$(BIN)/python -m benchmarks.predictor
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.transform
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.endpoint

clean:  ## remove what the other targets made
	rm -rf .venv build dist demo-results .*_cache .hypothesis *.egg-info
