# `make demo`, `make test` and `make docs` do all their set-up themselves, in any order, in one environment.
PYTHON ?= python3
BIN := .venv/bin
PROJECTS := pyproject.toml $(wildcard plugins/*/pyproject.toml) constraints.txt

.PHONY: demo test lint docs clean

demo: .venv/demo.stamp
	$(BIN)/latdiff demo --out demo --overwrite

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=900 --numprocesses 2 notebooks

docs: .venv/docs.stamp
	$(BIN)/python book/make_reference.py
	OMP_NUM_THREADS=1 $(BIN)/jupyter-book build . --config book/_config.yml --toc book/_toc.yml --path-output book -W --keep-going
	@echo "Open book/_build/html/index.html in a browser."

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# pip is told not to compile: it saves a third of the set-up time. What is imported is compiled then, and kept.
unexport PYTHONDONTWRITEBYTECODE
.venv/%.stamp: requirements-demo.txt requirements-docs.txt requirements-%.txt $(PROJECTS)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile -r requirements-$*.txt
	touch $@

clean:
	rm -rf .venv demo book/_build book/reference
