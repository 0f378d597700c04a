"""Overhead of the benchmark engine: what a cell costs beyond its own time, with cells that only spin.

Two figures: the CPU time of driver and workers beyond the cells' own (its slope between a run of few cells and one
of many, so that the start does not count), and the median time that a worker waits from one cell to the next.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import resource
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

import numpy as np

from assay.benchmark import engine, results
from assay.benchmark.config import Method, Trial
from assay.core.progress import silence
from bench_measures import spin
from tables import write

PLACES = {"1 process": {"n_jobs": 1}, "2 processes": {"n_jobs": 2}, "Dask, 2 workers": {"cluster": "local:2"}}

#: Cells in the short and in the long run, for each length of a cell in seconds.
CELLS = {1.0: (4, 20), 0.2: (20, 100)}


def cpu():
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(seconds, count, options):
    """Return the CPU seconds of a run beyond those of its cells, each wait of a worker, and the start and end."""
    trial = Trial("spin", ("breastw",), tuple(range(count)), {"eap": Method("eap")}, {"pause": seconds}, "")
    with tempfile.TemporaryDirectory() as folder, silence():
        before = cpu()
        summary = engine.run(trial, folder, measure=spin, **options)
        spent = cpu() - before - sum(results.costs(folder)["cpu_seconds"].to_pylist())
        worker, began, ended = (results.table(folder)[name].to_numpy() for name in ("worker", "began", "ended"))
    assert summary.done == count
    waits = [np.sort(began[worker == one])[1:] - np.sort(ended[worker == one])[:-1] for one in np.unique(worker)]
    return spent, np.concatenate(waits), summary.seconds - (ended.max() - began.min())


def resume(count=1000):
    """Return the seconds it takes to find that `count` cells are there."""
    trial = Trial("spin", ("breastw",), tuple(range(count)), {"eap": Method("eap")}, {"pause": 0.0}, "")
    with tempfile.TemporaryDirectory() as folder, silence():
        engine.run(trial, folder, measure=spin, n_jobs=2)
        again = engine.run(trial, folder, measure=spin, n_jobs=2)
        assert again.resumed == count
        start = time.perf_counter()
        results.table(folder)
        return again.seconds, time.perf_counter() - start


if __name__ == "__main__":
    rows = []
    for seconds, (few, many) in CELLS.items():
        for place, options in PLACES.items():
            short, _, _ = measure(seconds, few, options)
            long, waits, ends = measure(seconds, many, options)
            figures = (long - short) / (many - few), float(np.median(waits))
            shares = [f"{1000 * figure:.1f} ({figure / seconds:.2%})" for figure in figures]
            rows.append([f"{seconds:g}", place, many, f"{ends:.1f}", *shares])
    found, joined = resume()
    notes = f"""
Cells spin on the clock until their time is over. A start happens once a run. To find 1,000 cells that are there
takes {found:.1f} s, to make their table {joined:.1f} s.
"""
    own = "ms a cell (share of the cell)"
    columns = [
        "seconds a cell",
        "where",
        "cells",
        "start and end (s)",
        f"CPU beyond the cell, {own}",
        f"worker waits, {own}",
    ]
    write("benchmark_engine", "Overhead of the benchmark engine", columns, rows, notes, "none")
