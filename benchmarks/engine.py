"""Overhead of the benchmark engine: what a cell costs beyond its own time, with cells that only spin.

Each place runs twice, with few and with many cells. The slope between both is a cell's whole cost in the steady
state; what is left of the shorter run is the start (processes, imports) and the end. Two figures: the CPU time of
driver and workers beyond the cell's own, which does not depend on who else uses the machine, and the time a worker
waits from one cell to the next, which does.
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

PLACES = {
    "1 process": (1, {"n_jobs": 1}),
    "2 processes": (2, {"n_jobs": 2}),
    "Dask, 2 workers": (2, {"cluster": "local:2"}),
}
#: Cells in the short and in the long run, for each length of a cell in seconds.
CELLS = {1.0: (4, 20), 0.2: (20, 100)}


def cpu():
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(seconds, count, options):
    """Return seconds of the run, seconds within cells, and CPU seconds of the run beyond those of its cells."""
    trial = Trial("spin", ("breastw",), tuple(range(count)), {"eap": Method("eap")}, {"pause": seconds}, "")
    with tempfile.TemporaryDirectory() as folder, silence():
        before = cpu()
        summary = engine.run(trial, folder, measure=spin, **options)
        used, costs = cpu() - before, results.costs(folder)
        assert summary.done == count
        return summary.seconds, sum(costs["seconds"].to_pylist()), used - sum(costs["cpu_seconds"].to_pylist())


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
        for place, (jobs, options) in PLACES.items():
            short, long = np.array([measure(seconds, count, options) for count in (few, many)])
            wall, work, spent = (long - short) / (many - few)
            wait = wall * jobs - work
            start = short[0] - (short[1] + few * wait) / jobs
            shares = [f"{1000 * figure:.1f} ({figure / seconds:.2%})" for figure in (spent, wait)]
            rows.append([f"{seconds:g}", place, many, f"{start:.1f}", *shares])
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
        f"waiting, {own}",
    ]
    write("benchmark_engine", "Overhead of the benchmark engine", columns, rows, notes, "none")
