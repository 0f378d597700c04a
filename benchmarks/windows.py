"""Sub-PCA without laying windows out, and a stream of ten million steps in bounded memory.

python benchmarks/windows.py
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[name] = "1"

import resource
import sys
import time
from pathlib import Path

import numpy as np
import scipy.linalg

from assay import MovingAverageResidual, SubPCA
from assay.calibration.alarms import Alarms
from assay.detectors.series.stream import Stream

sys.path.insert(0, str(Path(__file__).parent.parent / "proofs"))
from tables import write

SIZES = ((100_000, 100, 1), (20_000, 100, 1), (23_688, 20, 38))
STREAM, PIECE = 10_000_000, 50_000


def naive_fit(values, length):
    """Lay all windows out, and take the eigenvectors of their covariance."""
    views = np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)
    table = views.reshape(len(views), -1)
    centred = table - table.mean(axis=0)
    return scipy.linalg.eigh(centred.T @ centred / len(centred))


def seconds_of(function, *arguments, repeats=3):
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function(*arguments)
        best = min(best, time.process_time() - start)
    return best


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def stream_of(detector, total):
    """Return the seconds for a stream, and the peak memory in GiB after a tenth of it and after all of it."""
    rng, stream, alarms = np.random.default_rng(0), Stream(detector), Alarms(3.0)
    start, early, done = time.process_time(), None, 0
    while done < total:
        piece = np.sin(np.arange(done, done + PIECE) / 9) + 0.1 * rng.normal(size=PIECE)
        alarms.update(stream.push(piece))
        done += PIECE
        if early is None and done >= total // 10:
            early = peak()
    alarms.update(stream.end())
    return time.process_time() - start, early, peak()


def main():
    train = np.sin(np.arange(20_000) / 9) + 0.1 * np.random.default_rng(1).normal(size=20_000)
    streams = []
    for detector in (MovingAverageResidual(), SubPCA(window=50)):
        seconds, early, late = stream_of(detector.fit(train), STREAM)
        name = type(detector).__name__
        streams.append(
            f"{name}: {STREAM / seconds / 1e6:.2f} million steps a second, peak memory {early:.2f} GiB after a tenth, "
            f"{late:.2f} GiB at the end"
        )
    rows = []
    for n, length, channels in SIZES:
        rng = np.random.default_rng(0)
        values = np.sin(np.arange(n)[:, None] / 9 + np.arange(channels)) + 0.1 * rng.normal(size=(n, channels))
        ours = SubPCA(window=length)
        fit = seconds_of(ours.fit, values)
        standard = (values - ours.mean_) / ours.scale_
        eigen = seconds_of(scipy.linalg.eigh, np.cov(np.random.default_rng(0).normal(size=(length * channels, 4000))))
        naive = seconds_of(naive_fit, standard, length)
        score = seconds_of(ours.anomaly_score, values)
        kept = ours.components_.shape[1]
        rows.append([f"{n:,} × {channels}", length, fit, naive, naive / fit, eigen / fit, score, kept])
    write(
        "benchmark_windows",
        "Sub-PCA without laying windows out; a stream of ten million steps",
        [
            "series",
            "window",
            "fit, s",
            "windows laid out, s",
            "ratio",
            "of it the eigenvectors",
            "score, s",
            "components",
        ],
        rows,
        notes=f"""
CPU seconds of one thread, best of three, same input and process. "Windows laid out" is the naive twin: all windows in
memory, one product of matrices, the same eigenvectors; "of it the eigenvectors" is the share of our fit that neither
way can save. Streams of {STREAM:,} steps of one channel in pieces of {PIECE:,}, with alarms: {"; ".join(streams)}.
""",
    )


if __name__ == "__main__":
    main()
