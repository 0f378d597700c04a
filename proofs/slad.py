"""SLAD against its ablations, baselines and other deep detectors.

    python proofs/slad.py            ours, baselines and PyOD's
    python proofs/slad.py PYTHON     also DeepOD's, by a Python that has deepod

Writes results/slad.md (a plane with noise, and scikit-learn's sets) and results/slad_adbench.md (ADBench).
"""

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.preprocessing import MinMaxScaler

from assay.datasets.tables import load_table
from assay.detectors.tabular import slad
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.marginals import ECOD
from assay.detectors.tabular.neighbours import KNN
from assay.detectors.tabular.slad import SLAD
from assay.metrics.ranking import average_precision, roc_auc
from tables import ROOT, need_data, resumed, write

SEEDS = (1, 2, 3)
EPOCHS = 10
# fmt: off
SETS = [
    "breastw", "cardio", "cardiotocography", "glass", "hepatitis", "ionosphere", "lymphography", "pima", "stamps",
    "vertebral", "vowels", "wbc", "wdbc", "wine", "wpbc", "yeast",
]
# fmt: on
DEEP_PEERS = "SLAD,ICL,NeuTraL"


# -- what takes part -------------------------------------------------------------------------------------------------


def random_scores(train, test, seed):
    return np.random.default_rng(seed).random(len(test))


def distance_to_mean(train, test, seed):
    return np.linalg.norm(test - train.mean(axis=0), axis=1)


def ours(train, test, seed, make=SLAD, **parameters):
    seeded = parameters if make in (KNN, ECOD) else {"random_state": seed} | parameters
    return make(**seeded).fit(train).anomaly_score(test)


def pyod(train, test, seed, name):
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.deep_svdd import DeepSVDD

    torch.manual_seed(seed)
    if name == "AutoEncoder":
        model = AutoEncoder(epoch_num=EPOCHS, batch_size=min(32, len(train)), random_state=seed, verbose=0)
    else:
        model = DeepSVDD(train.shape[1], epochs=EPOCHS, random_state=seed, verbose=0)
    return model.fit(train).decision_function(test)


METHODS = {
    'SLAD, loss="js"': partial(ours, epochs=EPOCHS),
    'SLAD, loss="official"': partial(ours, epochs=EPOCHS, loss="official"),
    "SLAD untrained": partial(ours, epochs=0),
    "isolation forest": partial(ours, make=IsolationForest),
    "KNN": partial(ours, make=KNN),
    "ECOD": partial(ours, make=ECOD),
    "distance to the mean": distance_to_mean,
    "random scores": random_scores,
    "PyOD AutoEncoder": partial(pyod, name="AutoEncoder"),
    "PyOD DeepSVDD": partial(pyod, name="DeepSVDD"),
}


def deepod(python, tables, names=DEEP_PEERS):
    """Return the answers of DeepOD's detectors on {seed: (train, test)}, scaled: see benchmarks/slad_peer.py."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "given.npz", Path(folder) / "out.npz"
        pairs = {f"{kind}_{seed}": rows for seed, both in tables.items() for kind, rows in zip(("train", "test"), both)}
        np.savez(given, **pairs)
        script = ROOT / "benchmarks" / "slad_peer.py"
        subprocess.run([python, "-W", "ignore", script, names, str(EPOCHS), given, out], check=True)
        with np.load(out) as found:
            return dict(found)


def scaled(train, test):
    """Return both by the extremes of the training rows."""
    scaler = MinMaxScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


# -- ADBench ---------------------------------------------------------------------------------------------------------


def split(X, y, seed):
    """Return half of the normals to train on, the rest and all anomalies to test on, and their labels."""
    rng = np.random.default_rng(seed)
    normals = rng.permutation(np.flatnonzero(y == 0))
    half = len(normals) // 2
    rest = np.concatenate([normals[half:], np.flatnonzero(y == 1)])
    return *scaled(X[normals[:half]], X[rest]), y[rest]


def judged(scores, truth, seconds):
    return [roc_auc(truth, scores), average_precision(truth, scores), seconds]


def of_set(name):
    """Return AUC, AP and CPU seconds of each method and seed."""
    data, found = load_table(name), {method: [] for method in METHODS}
    for seed in SEEDS:
        train, test, truth = split(data.X, data.y, seed)
        for method, run in METHODS.items():
            start = time.process_time()
            scores = run(train, test, seed)
            found[method].append(judged(scores, truth, time.process_time() - start))
    return found


def of_set_by_peers(name, python):
    data = load_table(name)
    splits = {seed: split(data.X, data.y, seed) for seed in SEEDS}
    answers = deepod(python, {seed: (train, test) for seed, (train, test, _) in splits.items()})
    return {
        f"DeepOD {peer}": [
            judged(answers[f"{peer}_{seed}"], splits[seed][2], answers[f"{peer}_{seed}_seconds"].sum())
            for seed in SEEDS
        ]
        for peer in DEEP_PEERS.split(",")
    }


def adbench(python):
    need_data("adbench")
    found = {}
    for name in SETS:
        found[name] = resumed(f"slad-{EPOCHS}-{name}", of_set, name)
        if python:
            found[name] |= resumed(f"slad-{EPOCHS}-{name}-peers", of_set_by_peers, name, python)
    methods = [method for method in next(iter(found.values()))]
    values = np.array([[found[name][method] for method in methods] for name in SETS])  # sets, methods, seeds, measures
    auc = values[:, :, :, 0]
    ranks = np.mean([rankdata(-row) for row in auc.mean(axis=2).round(6)], axis=0)
    rows = []
    for k in np.argsort(ranks):
        difference = (auc[:, 0] - auc[:, k]).mean(axis=1)
        rows.append(
            [
                methods[k],
                f"{auc[:, k].mean():.3f} ± {auc[:, k].mean(axis=0).std(ddof=1):.3f}",
                f"{values[:, k, :, 1].mean():.3f}",
                f"{ranks[k]:.2f}",
                "" if k == 0 else f"{(difference > 0.005).sum()} / {(difference < -0.005).sum()}",
                f"{np.median(values[:, k, :, 2]):.2f}",
            ]
        )
    each = ["| set | " + " | ".join(methods) + " |", "|" + "---|" * (len(methods) + 1)]
    each += [
        f"| {name} | " + " | ".join(f"{one:.3f}" for one in row.mean(axis=1)) + " |" for name, row in zip(SETS, auc)
    ]
    notes = f"""
Half of the normals teach, the other half and all anomalies test; columns scaled to [0, 1] by the training rows. Means
over {len(SEEDS)} seeds (split and detector), ± standard deviation over seeds of the mean over sets. Deep detectors take
{EPOCHS} epochs each, and otherwise their own defaults: an epoch of SLAD shows its bootstraps, which are larger than
small tables. No parameter was chosen on these sets. Seconds: of one thread, median over sets and seeds, fit and
scoring. A win or loss is a difference of more than .005 in the mean AUC of a set.

ROC-AUC by set:

""" + "\n".join(each)
    write(
        "slad_adbench",
        "SLAD on ADBench",
        ["method", "ROC-AUC", "AUC-PR", "average rank", 'wins / losses of SLAD "js"', "CPU seconds"],
        rows,
        notes,
        f"ADBench, {len(SETS)} sets of at most 8000 rows",
    )


# -- a plane with noise, and ablations -------------------------------------------------------------------------------


def plane(seed, contamination=0.0, n=500, d=20, rank=3, noise=0.05):
    """Return rows of a plane with noise, of which a share are anomalies, and test rows with their labels.

    Anomalies are such rows whose columns are shuffled one by one: every marginal is the same.
    """
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(rank, d))
    draw = lambda m: rng.normal(size=(m, rank)) @ basis + noise * rng.normal(size=(m, d))  # noqa: E731
    train, good, bad, dirt = draw(n), draw(300), rng.permuted(draw(300), axis=0), rng.permuted(draw(n), axis=0)
    train = np.vstack([train, dirt[: round(n * contamination / (1 - contamination))]])
    return *scaled(train, np.vstack([good, bad])), np.repeat([0, 1], 300)


def digits(seed):
    """Return one digit to train on (which one depends on the seed), and fresh ones among all others."""
    X, y = load_digits(return_X_y=True)
    return split(X, (y != seed % 10).astype(int), seed)


def cancer(seed):
    X, y = load_breast_cancer(return_X_y=True)
    return split(X, 1 - y, seed)


def wine(seed):
    X, y = load_wine(return_X_y=True)
    return split(X, (y != seed % 3).astype(int), seed)


QUICK = {"n_groups": 10, "epochs": 30}


def permuted_for_good(train, test, seed):
    """Labels change places within each group, once: a fixed pattern still, but not that of the sizes."""
    rng, true = np.random.default_rng(seed), slad.size_labels
    with patch.object(slad, "size_labels", lambda *given: rng.permuted(true(*given), axis=1)):
        return ours(train, test, seed, **QUICK)


def permuted_always(train, test, seed):
    """Labels change places anew in every sample."""
    rng, (terms, gradient) = np.random.default_rng(seed), slad.LOSSES["js"]
    blind = lambda logits, t, into: gradient(logits, rng.permuted(t, axis=1), into)  # noqa: E731
    with patch.dict(slad.LOSSES, js=(terms, blind)):
        return ours(train, test, seed, **QUICK)


def squared_error(train, test, seed):
    """Each piece's label is regressed on its own, in units of the labels' deviation; no softmax, no group."""

    def gradient(logits, t, into):
        into[:] = 2 * (logits - t) / t.size
        return float(((logits - t) ** 2).mean(axis=1).sum())

    terms = lambda logits, t: (logits - t) ** 2  # noqa: E731
    with ExitStack() as stack:
        stack.enter_context(patch.object(slad, "softmax", lambda y, axis: y / y.std()))
        stack.enter_context(patch.dict(slad.LOSSES, js=(terms, gradient)))
        return ours(train, test, seed, **QUICK)


ABLATIONS = {
    "SLAD": partial(ours, **QUICK),
    'SLAD, loss="official"': partial(ours, **QUICK, loss="official"),
    "untrained": partial(ours, **QUICK | {"epochs": 0}),
    "labels permuted once a group": permuted_for_good,
    "labels permuted in every sample": permuted_always,
    "squared error of each label": squared_error,
    "1 group": partial(ours, **QUICK | {"n_groups": 1}),
    "20 groups": partial(ours, **QUICK | {"n_groups": 20}),
    "isolation forest": METHODS["isolation forest"],
    "KNN": METHODS["KNN"],
    "ECOD": METHODS["ECOD"],
    "PyOD AutoEncoder": METHODS["PyOD AutoEncoder"],
    "distance to the mean": distance_to_mean,
    "random scores": random_scores,
}
TABLES = {"plane with noise": plane, "breast_cancer": cancer, "digits": digits, "wine": wine}
SHARES = (0.02, 0.05, 0.1)


def of_table(table, method):
    """Return the AUC of each seed."""
    found = []
    for seed in SEEDS:
        train, test, truth = TABLES[table](seed)
        found.append(roc_auc(truth, ABLATIONS[method](train, test, seed)))
    return found


def with_contamination(share):
    found = []
    for seed in SEEDS:
        train, test, truth = plane(seed, share)
        found.append(roc_auc(truth, ABLATIONS["SLAD"](train, test, seed)))
    return found


def attribution(magnify):
    """Return the mean rank, from 0, of the one column that was replaced in each row."""
    found = []
    for seed in SEEDS:
        train, test, _ = plane(seed)
        rng, good = np.random.default_rng(seed), test[:300]
        broken, here = rng.integers(20, size=300), np.arange(300)
        rows = good.copy()
        rows[here, broken] = good[rng.permutation(300), broken]
        scores = SLAD(epochs=30, magnify=magnify, random_state=seed).fit(train).feature_scores(rows)
        found.append(float((scores > scores[here, broken][:, None]).sum(axis=1).mean()))
    return found


def agreement(python):
    """Return Spearman's correlation with DeepOD's SLAD on the plane."""
    drawn = {seed: plane(seed) for seed in SEEDS}
    theirs = deepod(python, {seed: (train, test) for seed, (train, test, _) in drawn.items()}, "SLAD")
    mine = {seed: ours(*drawn[seed][:2], seed, epochs=EPOCHS, loss="official") for seed in SEEDS}
    return [float(spearmanr(mine[seed], theirs[f"SLAD_{seed}"]).statistic) for seed in SEEDS]


def spread(values):
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def ablations(python):
    rows = []
    for method in ABLATIONS:
        cells = [resumed(f"slad-{table}-{method}".replace(" ", "_"), of_table, table, method) for table in TABLES]
        rows.append([method, *map(spread, cells), f"{np.mean(cells):.3f}"])
    for share in SHARES:
        found = resumed(f"slad-contamination-{share}", with_contamination, share)
        rows.append([f"SLAD, {100 * share:.0f} % anomalies among the training rows", spread(found), "", "", "", ""])
    ranks = {magnify: resumed(f"slad-attribution-{magnify}", attribution, magnify) for magnify in (200.0, 20.0)}
    said = "; ".join(f"{spread(values)} with β = {magnify:g}" for magnify, values in ranks.items())
    parity = (
        f"""
Spearman's correlation of the scores with DeepOD's SLAD on the plane, {EPOCHS} epochs each, `loss="official"`: {
            spread(resumed("slad-agreement", agreement, python))
        }.
"""
        if python
        else ""
    )
    notes = f"""
ROC-AUC, means ± standard deviation over {len(SEEDS)} seeds. SLAD has 10 groups and 30 epochs unless said otherwise,
PyOD's autoencoder {EPOCHS} epochs. The plane: 500 rows of 20 columns, rank 3, noise .05; anomalies are such rows whose
columns are shuffled one by one. breast_cancer: benign is normal; digits and wine: one class is normal, another each
seed; half of the normals teach.

`feature_scores`, where one column of a row is replaced by that of another row: mean rank of this column among 20,
from 0 (a random order gives 9.5): {said}.
Where labels are large, all but the largest piece of a group have hardly a say, and it holds most columns.
{parity}"""
    columns = ["method", *TABLES, "mean"]
    write("slad", "SLAD: what it finds, and its ablations", columns, rows, notes, "simulated; scikit-learn's")


if __name__ == "__main__":
    torch.set_num_threads(1)
    peer = sys.argv[1] if len(sys.argv) > 1 else None
    ablations(peer)
    adbench(peer)
