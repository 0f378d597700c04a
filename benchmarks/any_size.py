"""A million auxiliary rows against 20,000 training rows: time and peak memory of EAP and the cheap rivals.

    python benchmarks/any_size.py [ROWS] [PROCESSES]

With PROCESSES the detectors are fitted and asked on a Dask cluster of so many processes on this machine.
"""

import resource
import sys
import time
from contextlib import ExitStack

import joblib
import numpy as np

from assay import ClassProbability, ExpectedAnomalyPosterior, IsolationForest, RandomQuality, Rarity
from eap import write

TRAINING, KNOWN, COLUMNS, SUBSETS = 20_000, 20, 10, 10


def judges():
    """Return name -> judge, the one that takes most memory last: the peak is the process's so far."""
    forest = IsolationForest()
    return {
        "random": RandomQuality(random_state=0),
        "class probability, isolation forest": ClassProbability(forest, random_state=0),
        "rarity": Rarity(),
        f"EAP, isolation forest, {SUBSETS} subsets": ExpectedAnomalyPosterior(
            forest, n_subsets=SUBSETS, random_state=0
        ),
    }


def main(rows=1_000_000, processes=0):
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(TRAINING - KNOWN, COLUMNS)), rng.normal(2.0, 1.0, size=(KNOWN, COLUMNS))])
    y = np.repeat([0, 1], [TRAINING - KNOWN, KNOWN])
    X_aux = 2 * rng.normal(size=(int(rows), COLUMNS))
    lines = []
    with ExitStack() as stack:
        if processes:
            from distributed import Client, LocalCluster

            workers = LocalCluster(n_workers=int(processes), threads_per_worker=1, dashboard_address=None)
            stack.enter_context(Client(stack.enter_context(workers)))
            stack.enter_context(joblib.parallel_config("dask"))
        for name, judge in judges().items():
            start = time.perf_counter()
            judge.fit(X, y)
            fitted = time.perf_counter()
            quality = judge.quality(X_aux)
            assert np.isfinite(quality).all()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            lines.append([name, f"{fitted - start:.0f}", f"{time.perf_counter() - fitted:.0f}", f"{peak:.2f}"])
    write(
        "benchmark_any_size" + ("_dask" if processes else ""),
        "A million auxiliary rows" if int(rows) == 1_000_000 else f"{int(rows):,} auxiliary rows",
        ["judge", "fit (s)", "judge (s)", "peak GiB"],
        lines,
        f"""
{int(rows):,} auxiliary rows, {TRAINING:,} training rows, {COLUMNS} columns; wall seconds, one process unless the
command says otherwise. Peak: resident memory of the process so far, data included (on a cluster: of the driving one).
""",
        "simulated",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
