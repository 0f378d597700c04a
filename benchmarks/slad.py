"""Speed of SLAD: an epoch against its arithmetic floor, against a loop in torch and against DeepOD's, in the same run.

    python benchmarks/slad.py            ours, the torch loop and NumPy's product of matrices
    python benchmarks/slad.py PYTHON     also DeepOD's SLAD: a Python that has deepod

CPU seconds of one thread, medians of 3 taken in turns.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs")]

from assay.detectors.tabular import slad
from assay.detectors.tabular.slad import SLAD, Samples, bootstrap_size
from tables import write

REPEATS, EPOCHS = 3, 3


def cpu(function):
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def table(n, d, seed=0):
    """Return rows of a plane with noise, scaled to [0, 1]."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d)) + 0.1 * rng.normal(size=(n, d))
    return (X - X.min(axis=0)) / np.ptp(X, axis=0)


def rate_of_products():
    """Return the multiplications and additions a second of a product of two large float32 matrices."""
    square = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    room = np.empty_like(square)
    return 2 * 2048**3 / np.median([cpu(lambda: np.matmul(square, square, out=room))[0] for _ in range(5)])


def learn(X, epochs):
    return SLAD(epochs=epochs, random_state=0).fit(X)


def torch_loop(X, epochs):
    """Train the same network on the same samples, all of them lifted beforehand, as one would write it in torch."""
    model = SLAD(epochs=0, random_state=0).fit(X)
    maps = [[model.maps_[model._size(piece)] for piece in group] for group in model.pieces_]
    drawn = np.random.default_rng(0).integers(len(X), size=(20, bootstrap_size(len(X), 20)))
    lifted = Samples(X.astype(np.float32), drawn, model.pieces_, maps).lifted(np.arange(drawn.size))
    u = torch.from_numpy(np.ascontiguousarray(lifted.transpose(1, 0, 2)))
    t = torch.from_numpy(np.repeat(model.targets_, drawn.shape[1], axis=0).astype(np.float32)).clamp(min=1e-30)
    net = nn.Sequential(nn.Linear(128, 100, bias=False), nn.LeakyReLU(), nn.Linear(100, 1, bias=False))
    adam = torch.optim.Adam(net.parameters(), weight_decay=1e-5)
    for _ in range(epochs):
        for rows in torch.randperm(len(u)).split(128):
            p, target = torch.softmax(net(u[rows])[..., 0], dim=1), t[rows]
            log_m = ((p + target) / 2).log()
            loss = (F.kl_div(log_m, p, reduction="none") + F.kl_div(log_m, target, reduction="none")).sum(dim=1) / 2
            adam.zero_grad()
            loss.mean().backward()
            adam.step()


def deepod(python, X, epochs):
    """Return the CPU seconds of DeepOD's fit and scoring of the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "given.npz", Path(folder) / "out.npz"
        np.savez(given, train_0=X, test_0=X[:2000])
        script = Path(__file__).with_name("slad_peer.py")
        command = [python, "-W", "ignore", script, "SLAD", str(epochs), given, out]
        subprocess.run(command, check=True, capture_output=True)
        with np.load(out) as found:
            return found["SLAD_0_seconds"]


def against_the_floor(n, d, more):
    """Yield the line of one epoch against the products it consists of."""
    X, epochs, floors = table(n, d), [], []
    for _ in range(REPEATS):
        rate = rate_of_products()
        (one, model), (all_of_them, _) = cpu(lambda: learn(X, 1)), cpu(lambda: learn(X, 1 + more))
        epochs.append((all_of_them - one) / more)
        samples = 20 * bootstrap_size(n, 20)
        streamed = 4 * samples * 10 * 128 > slad.CACHE
        per_sample = 2 * 2 * 10 * 128 * 100
        if streamed:
            per_sample += 2 * 128 * np.mean([sum(map(len, group)) for group in model.pieces_])
        floors.append(samples * per_sample / rate)
    ours, floor = np.median(epochs), np.median(floors)
    where = "lifted anew" if streamed else "kept lifted"
    ratio = np.median(np.divide(epochs, floors))
    share = f"{samples * per_sample / 1e9:.0f} GFLOP at {samples * per_sample / floor / 1e9:.0f} GFLOP/s"
    return [f"an epoch of {n} x {d}, {where}", f"{ours:.3f}", f"floor: {share}", f"{floor:.3f}", f"{ratio:.2f} × floor"]


def against_rivals(n, d, python):
    """Yield the lines of a whole fit, and of scoring."""
    X = table(n, d)
    times = {"ours": [], "torch loop": [], "DeepOD": []}
    scoring = {"ours": [], "DeepOD": []}
    for _ in range(REPEATS):
        seconds, model = cpu(lambda: learn(X, EPOCHS))
        times["ours"].append(seconds)
        scoring["ours"].append(cpu(lambda: model.anomaly_score(X[:2000]))[0])  # noqa: B023
        times["torch loop"].append(cpu(lambda: torch_loop(X, EPOCHS))[0])
        if python:
            fit, score = deepod(python, X, EPOCHS)
            times["DeepOD"].append(fit)
            scoring["DeepOD"].append(score)
    for work, found in ((f"fit of {n} x {d}, {EPOCHS} epochs", times), (f"scoring 2000 x {d}", scoring)):
        for rival, seconds in found.items():
            if rival != "ours" and seconds:
                ours, theirs = np.median(found["ours"]), np.median(seconds)
                yield [work, f"{ours:.3f}", rival, f"{theirs:.3f}", f"{theirs / ours:.1f} × ours"]


def peak(n, d):
    """Return the line of the memory that a fit takes."""
    X = table(n, d)
    tracemalloc.start()
    learn(X, 1)
    bytes_ = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = 4 * 20 * bootstrap_size(n, 20) * 10 * 128
    mega = f"{bytes_ / 2**20:.0f} MB"
    return [
        f"peak of a fit of {n} x {d}",
        mega,
        "all samples lifted",
        f"{whole / 2**20:.0f} MB",
        f"{whole / bytes_:.1f} × ours",
    ]


NOTES = """
Defaults. The floor of an epoch is the arithmetic of its products alone (lifting where samples are not kept, forward,
gradient of the hidden layer), at the rate of NumPy's product of two 2048 x 2048 float32 matrices just before. An
epoch's seconds are those that 2 more epochs take (20 where samples are kept), divided. The torch loop holds all
samples lifted. DeepOD scores its training rows within `fit`; that is left out. Peak: of what Python allocates, the copy
of the table included.
"""


def main(python=None):
    torch.set_num_threads(1)
    learn(table(100, 5), 1).anomaly_score(table(100, 5))  # compile
    rows = [against_the_floor(100_000, 50, more=2), against_the_floor(10_000, 50, more=20)]
    for n, d in ((2000, 20), (20_000, 50)):
        rows += against_rivals(n, d, python)
    rows.append(peak(100_000, 50))
    columns = ["work", "Assay (CPU s)", "against", "its (CPU s)", "ratio"]
    write("benchmark_slad", "Speed of SLAD", columns, rows, NOTES, "a plane with noise, seed 0")


if __name__ == "__main__":
    main(*sys.argv[1:])
