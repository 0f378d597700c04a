"""Peak memory and time of EAP up to 20,000 training rows: a full float64 distance matrix alone is 3 GiB there."""

import resource
import time

import numpy as np

from assay import ExpectedAnomalyPosterior
from eap import write

ROWS = (5_000, 10_000, 20_000)


def measure(n, d=10, n_aux=5_000, subsets=100):
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(n - 20, d)), rng.normal(2.0, 1.0, size=(20, d))])
    y = np.repeat([0, 1], [n - 20, 20])
    start = time.process_time()
    ExpectedAnomalyPosterior(n_subsets=subsets, random_state=0).fit(X, y).quality(rng.normal(size=(n_aux, d)) * 2)
    # The peak of the process so far: the sizes grow, so it is this size's.
    return time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    rows = []
    for n in ROWS:
        seconds, peak = measure(n)
        rows.append([n, 5_000, f"{seconds:.0f}", f"{peak:.2f}", f"{8 * n * n / 2**30:.2f}"])
    columns = ["training rows", "auxiliary rows", "CPU seconds", "peak GiB", "one full distance matrix, GiB"]
    write("benchmark_memory", "Memory of EAP", columns, rows, "100 subsets, 10 columns, one thread.", "simulated")
