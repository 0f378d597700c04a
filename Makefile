# Every target sets up what it needs in .venv; nothing outside this folder is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two worker processes each with one thread: the machine's cores are shared by the tests, not fought over.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: help run test check proofs bench docs clean

help:
	@echo "make run      rank auxiliary anomalies on bundled real data and say where the report is"
	@echo "make test     the fast suite, README and examples included"
	@echo "make check    lint, types, rooms, docstrings"
	@echo "make proofs   the published checks on real data; writes results/"
	@echo "make bench    speed against the naive twin and the peers; writes results/"
	@echo "make docs     the documentation, in site/"

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[test,check,docs]"
	touch $@ $(VENV)/.run

run: $(VENV)/.run
	$(BIN)/assay demo --out runs/demo --overwrite

test: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docstrings.py

proofs: $(VENV)/.dev
	$(BIN)/python proofs/small_pools.py
	$(BIN)/python proofs/official_pools.py
	$(BIN)/python proofs/suggest.py
	$(BIN)/python proofs/bundled_gain.py
	$(BIN)/python proofs/contamination.py
	$(BIN)/python proofs/rivals.py
	$(BIN)/python proofs/sensitivity.py
	$(BIN)/python proofs/generator_gain.py
	$(BIN)/python proofs/image_suggest.py
	$(BIN)/python proofs/image_strength.py
	$(BIN)/python proofs/images.py
	$(BIN)/python proofs/image_vectors.py
	$(BIN)/python proofs/series.py
	$(BIN)/python proofs/series_suggest.py
	$(BIN)/python proofs/events.py
	$(BIN)/python proofs/hypad.py
	$(BIN)/python proofs/slad.py
	$(BIN)/python proofs/deep_sets.py
	$(BIN)/python proofs/do2hsc.py
	$(BIN)/python proofs/do2hsc.py graphs
	$(BIN)/python proofs/rqgnn.py
	$(BIN)/python proofs/graphs_suggest.py
	$(BIN)/python proofs/resonant.py
	$(BIN)/python proofs/topology.py
	$(BIN)/python proofs/counterfactuals.py
	$(BIN)/python proofs/review_expert.py
	$(BIN)/python proofs/review_scale.py
	$(BIN)/python proofs/robust_tsf.py
	$(BIN)/python proofs/telemetry.py
	$(BIN)/python proofs/hpc_autoencoders.py
	$(BIN)/python proofs/oc4seq.py 1000
	$(BIN)/assay bench run proofs/trial/eap.toml --jobs 2
	$(BIN)/python proofs/trial_tables.py

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/eap.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/rivals.py
	$(BIN)/python benchmarks/contamination.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/any_size.py
	$(BIN)/python benchmarks/aupro.py
	$(BIN)/python benchmarks/coreset.py
	$(BIN)/python benchmarks/efficientad.py
	$(BIN)/python benchmarks/vus.py
	$(BIN)/python benchmarks/windows.py
	$(BIN)/python benchmarks/trend_filter.py
	$(BIN)/python benchmarks/fleet.py
	$(BIN)/python benchmarks/oc4seq.py
	$(BIN)/python benchmarks/slad.py
	$(BIN)/python benchmarks/graphs.py
	$(BIN)/python benchmarks/review.py

docs: $(VENV)/.dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site runs build dist
