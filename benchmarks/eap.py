"""Speed of EAP: ours, the naive twin, and the reference implementation, on the same pools in the same run.

    python benchmarks/eap.py                 ours and the naive twin
    python benchmarks/eap.py CHECKOUT PYTHON also the reference: a checkout of it, and a Python with its libraries

CPU seconds of one thread. The naive twin (tests/twins.py) shares our subsets and detectors and does the
density part as published; it runs on a few subsets and is scaled to all of them. The reference does
everything its own way.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

import twins
from assay import ExpectedAnomalyPosterior
from assay.metrics.ranking import quality_auc
from official_pools import POOLS
from tables import need_data, write

SUBSETS, TWIN_SUBSETS, REPEATS = 100, 2, 3


def cpu(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def ours(X, y, aux, seed=0):
    eap = ExpectedAnomalyPosterior(n_subsets=SUBSETS, random_state=seed).fit(X, y)
    return eap, eap.quality(aux)


def reference(checkout, python, path):
    """Return the reference's CPU seconds and scores."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "peer.npz"
        script = Path(__file__).with_name("eap_peer.py")
        command = [python, "-W", "ignore", script, checkout, path, out, str(SUBSETS)]
        subprocess.run(command, check=True, capture_output=True)
        with np.load(out) as peer:
            return float(peer["seconds"]), peer["quality"]


def main(checkout=None, python=None):
    rows = []
    for path in need_data(*[f"eap_official/{name}.npz" for name in POOLS]):
        pool = np.load(path)
        X, y, aux, kind = (pool[name].astype(np.float64) for name in ("X_train", "y_train", "X_aux", "kind"))
        ours(X[::2], y[::2], aux[:5])  # compile
        times, runs = zip(*[cpu(ours, X, y, aux) for _ in range(REPEATS)])
        seconds, (eap, quality) = float(np.median(times)), runs[0]
        few = eap.members_[:, :TWIN_SUBSETS]
        twin_seconds, twin = cpu(twins.eap, X, y, aux, few, eap.models_[:TWIN_SUBSETS])
        twin_seconds *= SUBSETS / TWIN_SUBSETS
        same = spearmanr(eap.per_subset(aux)[:, :TWIN_SUBSETS].mean(axis=1), twin).statistic
        row = [path.stem, f"{seconds:.2f}", f"{twin_seconds:.0f}", f"{twin_seconds / seconds:.0f} ×", f"{same:.4f}"]
        if checkout:
            peer_seconds, peer = reference(checkout, python, path)
            agreement, auc = spearmanr(quality, peer).statistic, quality_auc(kind, peer)["all"]
            row += [f"{peer_seconds:.0f}", f"{peer_seconds / seconds:.0f} ×", f"{agreement:.3f}", f"{auc:.3f}"]
        rows.append([*row, f"{quality_auc(kind, quality)['all']:.3f}"])
    columns = ["pool", "Assay (s)", "naive twin (s)", "twin / Assay", "rank correlation, same subsets"]
    if checkout:
        columns += ["reference (s)", "reference / Assay", "rank correlation", "AUC, reference"]
    columns.append("AUC, Assay")
    notes = f"""
CPU seconds of one thread, {SUBSETS} subsets. The twin has our detectors for nothing: its column is the
density alone. "Same subsets": our scores of {TWIN_SUBSETS} subsets against the twin's of the same ones.
"""
    write("benchmark_eap", "Speed of EAP against the reference implementation", columns, rows, notes, "eap_official")


if __name__ == "__main__":
    main(*sys.argv[1:])
