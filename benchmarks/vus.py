"""Speed of VUS: ours, the naive twin, and TSB-AD's reference, on the same series in the same run.

    python benchmarks/vus.py            ours and the naive twin
    python benchmarks/vus.py FOLDER     also the peer: the folder TSB_AD/evaluation of an unpacked TSB-AD 1.5

CPU seconds of one thread, medians of 5 (the peer: 3; the twin: 1, on a share of the buffers, scaled, and says so).
The peer's files need NumPy and scikit-learn only, so it runs in this very process.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import importlib
import sys
import time
import tracemalloc
import types
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs")]

from assay.metrics.series import affiliation, events, range_scores, vus
from tables import write

SEED, THRESHOLDS, BAR = 0, 250, 80
#: Steps, buffer and events; the last for ours alone.
SIZES = [(2_000, 50, 4), (10_000, 100, 10), (100_000, 100, 20), (1_000_000, 100, 200)]
TWIN_BUFFERS = 3


def cpu(function, repeats=5):
    """Return the median CPU seconds and the result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def noisy_series(n, n_events, seed=SEED):
    """Events of 10 to 100 steps, and normal scores that are one standard deviation higher there."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(n, dtype=np.int64)
    for start in rng.integers(0, n, n_events):
        labels[start : start + rng.integers(10, 100)] = 1
    return labels, rng.normal(size=n) + labels


def twin(labels, scores, buffers):
    """Every buffer's weights by a loop over the events, then every threshold over the whole series."""
    n, runs, descending = len(labels), events(labels), np.sort(scores)[::-1]
    time_of = np.arange(n)
    for buffer in buffers:
        half, weight = buffer // 2, labels.astype(np.float64)
        for start, end in runs:
            distance = np.maximum(start - time_of, time_of - (end - 1))
            near = (distance > 0) & (distance <= half)
            weight[near] += np.sqrt(1 - distance[near] / max(buffer, 1))
        weight = np.minimum(weight, 1.0)
        for rank in np.linspace(0, n - 1, THRESHOLDS).astype(int):
            flagged = scores >= descending[rank]
            weight @ flagged, weight @ (flagged & (labels == 0)), flagged.sum()
            [flagged[max(start - half, 0) : end + half].any() for start, end in runs]


def load(folder):
    """Return the peer's modules: basic metrics and affiliation."""
    package = types.ModuleType("tsb_ad_evaluation")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    names = ("basic_metrics", "affiliation.metrics", "affiliation.generics")
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def peer_vus(module, labels, scores, max_buffer, version="opt"):
    *_, roc, pr = module.generate_curve(labels, scores, max_buffer, version, THRESHOLDS)
    return pr, roc


def differences(modules, n_cases=200):
    """Return our largest differences from the peer over small random series, with ties and events at the borders."""
    basic, metrics, generics = modules
    worst = {"VUS": 0.0, "affiliation": 0.0, "range F1": 0.0}
    for seed in range(n_cases):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(20, 300))
        labels = np.zeros(n, dtype=np.int64)
        for start in rng.integers(0, n - 1, rng.integers(1, 12)):
            labels[start : start + rng.integers(1, 15)] = 1
        labels[0], labels[-1] = max(labels[0], seed % 5 == 0), max(labels[-1], seed % 7 == 0)
        scores = rng.normal(size=n) + labels
        scores = np.round(2 * scores) if seed % 2 else scores
        if labels.all():
            continue
        max_buffer, flags = int(rng.integers(0, 40)), (scores > 1).astype(np.int64)
        volume = vus(labels, scores, max_buffer)
        gap = np.subtract((volume.pr, volume.roc), peer_vus(basic, labels, scores, max_buffer))
        worst["VUS"] = max(worst["VUS"], np.abs(gap).max())
        if not flags.any():
            continue
        runs = [generics.convert_vector_to_events(values) for values in (flags, labels)]
        theirs = metrics.pr_from_events(*runs, (0, n))
        theirs = theirs["Affiliation_Precision"], theirs["Affiliation_Recall"]
        worst["affiliation"] = max(
            worst["affiliation"], np.abs(np.subtract(affiliation(labels, flags)[:2], theirs)).max()
        )
        theirs = basic.basic_metricor().metric_RF1(labels, scores, flags)
        worst["range F1"] = max(worst["range F1"], abs(range_scores(labels, flags).f - theirs))
    return worst


def peak_of(labels, scores, max_buffer):
    """Return the peak of memory over that of the input."""
    tracemalloc.start()
    vus(labels, scores, max_buffer)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / (labels.nbytes + scores.nbytes)


def rows_of(modules, n, max_buffer, n_events):
    labels, scores = noisy_series(n, n_events)
    seconds, volume = cpu(lambda: vus(labels, scores, max_buffer, THRESHOLDS))
    sorting, _ = cpu(lambda: np.sort(scores))
    size = f"n = {n:,}".replace(",", " ") + f", W = {max_buffer}"
    ours = [size, f"{seconds:.4f}", f"{100 * sorting / seconds:.0f} %"]
    values = f"{volume.pr:.12f}, {volume.roc:.12f}"
    if n > 100_000:
        return [[*ours, "none: not run", "–", "–", "none", values, "–"]]
    rows = []
    for version in ("opt", "opt_mem") if modules else ():
        took, theirs = cpu(lambda version=version: peer_vus(modules[0], labels, scores, max_buffer, version), repeats=3)
        gap = np.abs(np.subtract((volume.pr, volume.roc), theirs)).max()
        bar = f">= {BAR} ×" if version == "opt" and n == 100_000 else "none"
        ratio = f"{took / seconds:.0f} ×"
        rows.append([*ours, f"TSB-AD, {version}", f"{took:.2f}", ratio, bar, values, f"{gap:.0e}"])
    buffers = np.linspace(0, max_buffer, TWIN_BUFFERS).astype(int)
    took = cpu(lambda: twin(labels, scores, buffers), repeats=1)[0] * (max_buffer + 1) / TWIN_BUFFERS
    return [*rows, [*ours, "naive twin", f"{took:.2f}", f"{took / seconds:.0f} ×", "none", values, "–"]]


def main(folder=None):
    modules = load(folder) if folder else None
    vus(*noisy_series(1000, 3), 10)  # imports
    rows = [row for size in SIZES for row in rows_of(modules, *size)]
    labels, scores = noisy_series(*SIZES[-1][::2])
    agreement = "Without the peer, nothing was compared."
    if modules:
        worst = differences(modules)
        agreement = "Largest differences from the peer on 200 random series of 20 to 300 steps: "
        agreement += ", ".join(f"{name} {value:.0e}" for name, value in worst.items()) + "."
    notes = NOTES.format(agreement=agreement, peak=peak_of(labels, scores, SIZES[-1][1]))
    columns = [
        "series",
        "Assay (s)",
        "a sort of the scores, of that",
        "peer",
        "peer (s)",
        "peer / Assay",
        "bar",
        "VUS-PR, VUS-ROC",
        "difference",
    ]
    data = f"normal scores, one higher in events of 10 to 100 steps ({', '.join(str(e) for *_, e in SIZES)} events)"
    write("benchmark_vus", "Speed of VUS", columns, rows, notes, f"{data}, seed {SEED}")


NOTES = f"""
CPU seconds of one thread, median of 5 (the peer: 3). {THRESHOLDS} thresholds, buffers 0 to W. The roof is one sort of
the scores, which AUROC and average precision need too. The naive twin (all buffers, all thresholds, whole series) was
run on {TWIN_BUFFERS} buffers and scaled to W + 1. The peer's `opt` is its optimised form and its default; `opt_mem`
keeps all predictions, thresholds times n numbers, in memory.

{{agreement}} Peak memory of the longest series: {{peak:.1f}} times the input (labels and scores).
"""


if __name__ == "__main__":
    main(*sys.argv[1:])
