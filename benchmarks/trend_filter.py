"""Speed of the robust trend filter against the same linear programme given to HiGHS: CPU seconds of one thread."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

from assay.datasets.simulators.contamination import contaminate, seasonal
from assay.kernels.trend_filter import trend_filter, trend_objective
from tables import write
from test_trend_filter import generic_trend

#: How often each size is timed: ours, the generic solver.
REPEATS = {2_000: (9, 3), 5_000: (9, 3), 20_000: (9, 1)}


def cpu(function, repeats):
    """Return the median CPU seconds of a call, and its result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
    return float(np.median(seconds)), result


def main():
    rows = []
    for steps, (ours, theirs) in REPEATS.items():
        for kind in ("const", "gaussian"):
            z = contaminate(seasonal(steps, random_state=0), kind, 0.3, random_state=1).values
            own, trend = cpu(lambda z=z: trend_filter(z), ours)
            generic, (least, _) = cpu(lambda z=z: generic_trend(z, 3.0), theirs)
            excess = (trend_objective(trend, z, 3.0) - least) / least
            rows.append(
                [
                    f"{steps:,} steps, {kind} .3",
                    f"{own:.3f}",
                    f"{generic:.2f}",
                    f"{generic / own:.0f} ×",
                    f"{excess:.0e}",
                ]
            )
    columns = ["series", "Assay (s)", "HiGHS (s)", "ratio", "objective above HiGHS's, relative"]
    repeats = "; ".join(f"{steps:,} steps: {a} and {b}" for steps, (a, b) in REPEATS.items())
    notes = (
        "CPU seconds of one thread, medians of repeated runs (ours and HiGHS, "
        + repeats
        + "). HiGHS gets the programme "
        "as sparse equations, through SciPy, and chooses its own algorithm; the matrices are built within its time."
    )
    write("benchmark_trend_filter", "Speed of the robust trend filter", columns, rows, notes, "simulated")


if __name__ == "__main__":
    main()
