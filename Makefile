# Two commands: `make demo` and `make test`. Both set up .venv first; the second time that takes seconds.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup ngspice demo test test-all lint types bench clean

setup: ngspice $(STAMP)

# Under the constraints torch is the version that was tested; pip is told so that it never looks for another.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,examples]"
	touch $@

ngspice:
	@sh .ci/ngspice.sh

demo: setup
	$(BIN)/devicelab demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-all: setup
	$(BIN)/python -m pytest -m "slow or not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

bench: setup
	$(BIN)/python tests/bench/bench_simulation.py
	$(BIN)/python tests/bench/bench_crossbar.py
	$(BIN)/python tests/bench/bench_fits.py
	$(BIN)/python tests/bench/bench_characterise.py
	$(BIN)/python tests/bench/bench_networks.py

clean:
	rm -rf .venv build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache
