"""Speed of the memory bank: choosing it and searching it; ours, the naive twin, and peers, in the same run.

    python benchmarks/coreset.py          ours, the naive twin and NumPy's product of matrices
    python benchmarks/coreset.py PYTHON   also the peers: a Python that has anomalib

CPU seconds of one thread, medians of 3. What is long runs on a share of the picks and is scaled, and says so. The
lines on real features need the data folder that ASSAY_DATA names.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

from assay.core.images import as_images, list_images
from assay.detectors.images.common import in_batches
from assay.detectors.images.patchcore import PatchCore
from assay.kernels.coreset import greedy_coreset
from assay.nn.backbones import initial_weights
from assay.nn.memory_bank import nearest_in_bank
from tables import DATA, write
from test_memory_bank import naive_greedy

REPEATS, SEED, PICKS, TWIN_PICKS, LONG_PEER_PICKS = 3, 0, 300, 30, 300


def cpu(function, repeats=REPEATS):
    """Return the median CPU seconds and the result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def peer(python, kind, repeats, **arrays):
    """Return a peer's CPU seconds and result."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "given.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays)
        script = Path(__file__).with_name("coreset_peer.py")
        command = [python, "-W", "ignore", script, kind, given, out, str(repeats)]
        subprocess.run(command, check=True, capture_output=True)
        with np.load(out) as found:
            return float(found["seconds"]), found["result"]


def patches(n_images=100):
    """Features of all patches of normal magnetic tiles, in the projection that the coreset is chosen in."""
    folder = DATA / "images" / "magnetic_tile" / "good"
    if not folder.is_dir():
        return None
    tiles = as_images([path for path in list_images(folder) if "mask" not in path.name.lower()][:n_images])
    detector = PatchCore()
    rng = np.random.default_rng(SEED)
    detector.backbone_ = initial_weights(detector.backbone, detector.weights, rng)
    features = detector._features()
    rows = torch.cat([features(batch).flatten(0, 2) for batch in in_batches(tiles, detector.image_size, "")]).numpy()
    return (rows @ rng.normal(size=(rows.shape[1], 128), scale=128**-0.5)).astype(np.float32)


def workloads():
    """Yield name, rows, picks and the bar on anomalib / Assay."""
    rng = np.random.default_rng(SEED)
    n, d = 30_000, 244
    centres = 3 * rng.normal(size=(60, d))
    clusters = centres[rng.integers(60, size=n)] + rng.normal(size=(n, d))
    yield f"{n} x {d}, 60 Gaussian clusters", clusters.astype(np.float32), PICKS, 15
    yield f"{n} x {d}, one Gaussian with independent columns", rng.normal(size=(n, d)).astype(np.float32), PICKS, None
    tiles = patches()
    if tiles is not None:
        lifted = (tiles @ rng.normal(size=(128, d), scale=d**-0.5)).astype(np.float32)
        yield f"{n} x {d}, patches of magnetic tiles", lifted[:n], PICKS, 15
        yield f"{n} x 128, the same as PatchCore projects them", tiles[:n], PICKS, 15
        yield f"{len(tiles)} x 128, all patches, 10 % of them", tiles, len(tiles) // 10, None


def choosing(python):
    """Lines for the greedy choice."""
    for name, X, picks, bar in workloads():
        work, start = f"{picks} picks of {name}", 0
        if python is not None:
            run = min(picks, LONG_PEER_PICKS)
            seconds, chosen = peer(python, "greedy", 1, X=X, picks=run)
            start = int(chosen[0])
        ours, (mine, _) = cpu(partial(greedy_coreset, X, picks, start))
        twin, (expected, _) = cpu(partial(naive_greedy, X, TWIN_PICKS, start), repeats=1)
        yield greedy_line(work, ours, "naive twin", twin, picks, mine, expected, None)
        if python is not None:
            yield greedy_line(work, ours, "anomalib", seconds, picks, mine, chosen, bar)


def greedy_line(work, ours, rival, seconds, picks, mine, theirs, bar):
    run = len(theirs)
    agreement = f"same picks: {(mine[:run] == theirs).sum()} of {run}"
    return [work, ours, rival, seconds * picks / run, f"{run} picks", bar, agreement]


def searching(python, q=3136, n=16_000, d=384):
    """Lines for the search, the first of them the machine's own limit."""
    rng = np.random.default_rng(SEED)
    queries, bank = (rng.normal(size=(size, d)).astype(np.float32) for size in (q, n))
    square = rng.normal(size=(2048, 2048)).astype(np.float32)
    room = np.empty_like(square)
    nearest_in_bank(queries[:9], bank)  # compile
    once, ours = [], []
    for _ in range(REPEATS):  # in turns: other work on the machine must not slow only one of them
        once.append(cpu(lambda: np.matmul(square, square, out=room), repeats=5)[0])
        seconds, (found, _) = cpu(lambda: nearest_in_bank(queries, bank), repeats=1)
        ours.append(seconds)
    once, ours = float(np.median(once)), float(np.median(ours))
    roof = once * (q * n * d) / 2048**3
    work = f"nearest of {n} x {d} to {q} queries, {2 * q * n * d / 1e9:.0f} GFLOP"
    rate = f"{2 * q * n * d / ours / 1e9:.0f} of {2 * 2048**3 / once / 1e9:.0f} GFLOP/s"
    yield [work, ours, "NumPy's product alone", roof, "all, at the rate of 2048³", 0.65, rate]
    if python is not None:
        for kind in ("anomalib", "torch.cdist"):
            seconds, distances = peer(python, kind, REPEATS, queries=queries, bank=bank)
            agreement = f"largest difference {np.abs(distances - found[:, 0]).max():.0e}"
            yield [work, ours, kind, seconds, "all", None, agreement]


NOTES = f"""
CPU seconds of one thread, median of {REPEATS} (a peer's picks and the twin's: of 1). The bar is on the ratio before
it. Picks: the greedy rule alone, from the same first row, on the same single-precision rows; two rows whose
distances agree to the last bit may be picked in either order. anomalib's class stops at the same number of picks; its
seconds grow with picks times rows, and so do the twin's (`tests/test_memory_bank.py`, double precision).

What is spared depends on the rows: their leading 32 directions must tell most of a distance. Patches of photographs
are so, a Gaussian with independent columns is the worst case: nothing can be spared, and the time is that of reading
all rows once a pick.

The search's limit is NumPy's product of two matrices of 2048 x 2048 in the same run; what is above it is the
largest of each row and the distances measured again.
"""


def main(python=None):
    greedy_coreset(np.zeros((9, 3), dtype=np.float32), 2)  # compile
    rows = []
    for work, ours, rival, theirs, share, bar, agreement in [*choosing(python), *searching(python)]:
        ratio, bar = f"{theirs / ours:.2g} ×", f">= {bar} ×" if bar else "none"
        rows.append([work, f"{ours:.3f}", rival, f"{theirs:.3f}", share, ratio, bar, agreement])
    columns = ["workload", "Assay (s)", "rival", "rival (s)", "of which run", "rival / Assay", "bar", "agreement"]
    data = f"Gaussian rows, seed {SEED}; patches of 100 normal magnetic tiles, EfficientNet-Lite0"
    write("benchmark_coreset", "Speed of the memory bank", columns, rows, NOTES, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
