"""The trial of quality scores: one method on one pool of auxiliary anomalies whose kinds are known.

In: a cell (data set, seed, method). Out: one row of numbers. Everything a user could do with a quality score
is done with this one:

- Q1, ``auc``: does it put realistic rows before useless ones? With ``auc_indistinguishable`` and
  ``auc_unrealistic``, the same against one kind alone.
- Q1b, ``otsu_accuracy``, ``third_accuracy``: is a row kept iff it is realistic, when Otsu's split or the true
  share decides?
- Q2, ``svc_*`` and ``forest_*``: a classifier is trained on the training rows and the best auxiliary rows,
  more and more of them; accuracy on the test set at each share (``_curve``; in ascending order of quality
  ``_ascending_curve``), the area under the curve, its first third, and the accuracy at one third.
- Q3, ``selected_auc``: a model is chosen among detectors fitted on part of the training rows by its AUC on a
  synthetic validation set, held-out normals and the best third of the auxiliary rows, and gets its AUC on the
  test set; ``threshold_accuracy`` is the test accuracy of the chosen model at the threshold that is best on
  that validation set. Beside it, the same for what needs no quality score: all auxiliary rows
  (``selected_auc_by_all``), a random choice of the model, and the oracle, the best model of all.

The pool is `assay.generators.benchmark_mix`. Its unrealistic rows come from other data sets: tables for a
table, embeddings of other objects by the same network for an embedding; relatives of a data set (the same
source) never. Before the pool is built a table is cut to 20,000 normal rows and 5,000 anomalies at random: the
pool needs 1,500 and 550. A data set with fewer than `min_anomalies` is skipped. Test labels are used in
metrics alone. With the option ``foreign = "bundled"`` the foreign rows come from the tables that the package
holds, so that nothing else need be on the machine.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.integrate import trapezoid
from sklearn.ensemble import RandomForestClassifier
from sklearn.svm import SVC

from assay.benchmark.config import Cell, Trial
from assay.benchmark.engine import Skip
from assay.catalogue import find, load_class
from assay.core.random import child_seeds
from assay.core.validation import Bools, Floats, InputError, Ints
from assay.datasets.tables import available, load_table
from assay.detectors.tabular.gaussian import Mahalanobis
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.marginals import ECOD, HBOS
from assay.detectors.tabular.neighbours import KNN, LOF
from assay.detectors.tabular.ssdo import SSDO
from assay.generators.benchmark_mix import INDISTINGUISHABLE, REALISTIC, UNREALISTIC, Pool, benchmark_mix
from assay.metrics.ranking import quality_auc, roc_auc
from assay.quality.selection import keep_otsu, keep_top
from assay.training.auxiliary import LEARNERS, named_learner

#: Counts up when the same cell would give other numbers than before.
VERSION = 1
#: What a configuration may set, and its defaults.
OPTIONS: dict[str, Any] = {
    "min_anomalies": 30,
    "foreign": "family",
    "max_normals": 1000,
    "curves": True,
    "selection": True,
    "realistic_share": 1 / 3,
    "known_anomalies": 0,
}
#: Data sets taken from the same source: none may be foreign to another.
RELATIVES = (
    {"annthyroid", "thyroid"},
    {"cardio", "cardiotocography"},
    {"satellite", "landsat", "satimage-2"},
    {"breastw", "wbc", "wdbc", "wpbc"},
    {"http", "smtp"},
)
#: Shares of the pool at which the learning curves are measured; the forest is slow, so at fewer.
SVC_SHARES = (0.0, 1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0)
FOREST_SHARES = (0.0, 1 / 6, 1 / 3, 1.0)
MAX_NORMALS, MAX_ANOMALIES = 20_000, 5_000


# -- the pool ---------------------------------------------------------------------------------------------------------


def family(dataset: str) -> str:
    """Return what network an embedding comes from; ``"table"`` for a table."""
    return dataset.split("/")[0] if "/" in dataset else "table"


def foreign_names(dataset: str, source: str = "family") -> list[str]:
    """Return the data sets that may give unrealistic rows for `dataset`: of its family, or the bundled ones."""
    relatives = next((group for group in RELATIVES if dataset in group), {dataset})
    if source == "bundled":
        return [name for name in available(bundled=True) if name not in relatives]
    kin = [name for name in available() if family(name) == family(dataset) and name not in relatives]
    if kin:
        return kin
    # The only one of its kind (a text embedding): the other embeddings.
    stem = dataset.split("/")[-1]
    return [name for name in available() if family(name) != "table" and name.split("/")[-1] != stem]


def _cut(X: Floats, y: Ints, normals: int, anomalies: int, seed: int) -> tuple[Floats, Ints]:
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(y == label))[:most] for label, most in ((0, normals), (1, anomalies))]
    rows = np.sort(np.concatenate(kept))
    return X[rows], y[rows]


@lru_cache(maxsize=64)
def _foreign(name: str) -> tuple[Floats, Ints]:
    data = load_table(name)
    return _cut(data.X, data.y, 1000, 500, seed=0)


@lru_cache(maxsize=2)
def _pool(dataset: str, seed: int, options: tuple[tuple[str, Any], ...]) -> tuple[Pool, str]:
    """Return the pool and the hash of its training rows and auxiliary rows."""
    chosen = dict(options)
    data = load_table(dataset)
    anomalies = int((data.y == 1).sum())
    if anomalies < chosen["min_anomalies"]:
        raise Skip(f"{anomalies} anomalies, at least {chosen['min_anomalies']} needed")
    X, y = _cut(data.X, data.y, MAX_NORMALS, MAX_ANOMALIES, seed)
    rng = np.random.default_rng([seed, 1])
    names = [str(name) for name in rng.permutation(foreign_names(dataset, chosen["foreign"]))[:5]]
    foreign = {name: _foreign(name) for name in names}
    try:
        pool = benchmark_mix(X, y, foreign, max_normals=chosen["max_normals"], random_state=rng)
    except InputError as error:
        raise Skip(str(error)) from error
    pool = _recomposed(pool, chosen["realistic_share"], chosen["known_anomalies"], rng)
    digest = hashlib.sha256()
    for array in (pool.X_train, pool.y_train, pool.X_aux, pool.kind, pool.X_test, pool.y_test):
        digest.update(np.ascontiguousarray(array).tobytes())
    return pool, digest.hexdigest()[:16]


def _recomposed(pool: Pool, realistic: float, known: int, rng: np.random.Generator) -> Pool:
    """Return `pool` with another share of realistic rows in the pool, and fewer known anomalies."""
    train, aux = np.arange(len(pool.y_train)), np.arange(len(pool.kind))
    if known:
        anomalies = np.flatnonzero(pool.y_train == 1)
        train = np.setdiff1d(train, anomalies[known:])
    if abs(realistic - 1 / 3) > 1e-9:
        groups = [np.flatnonzero(pool.kind == kind) for kind in (REALISTIC, INDISTINGUISHABLE, UNREALISTIC)]
        good, useless = len(groups[0]), min(len(group) for group in groups[1:])
        if realistic < 1 / 3:
            good = max(1, min(good, round(2 * useless * realistic / (1 - realistic))))
        else:
            useless = max(1, min(useless, round(good * (1 - realistic) / (2 * realistic))))
        aux = rng.permutation(np.concatenate([groups[0][:good], groups[1][:useless], groups[2][:useless]]))
    return Pool(
        X_train=pool.X_train[train],
        y_train=pool.y_train[train],
        X_aux=pool.X_aux[aux],
        kind=pool.kind[aux],
        X_test=pool.X_test,
        y_test=pool.y_test,
        names=pool.names,
        notes=pool.notes,
    )


# -- what is done with the qualities ----------------------------------------------------------------------------------


def order(quality: Floats) -> Ints:
    """Return the rows from best to worst; ties in the order of storage, which is random in a pool."""
    return np.argsort(-quality, kind="stable")


def _accuracy(model: Any, pool: Pool, added: Ints) -> float:
    X = np.vstack([pool.X_train, pool.X_aux[added]])
    y = np.concatenate([pool.y_train, np.ones(len(added), dtype=np.int64)])
    return float((model.fit(X, y).predict(pool.X_test) == pool.y_test).mean())


def _learners(seed: int) -> dict[str, tuple[Any, tuple[float, ...]]]:
    forest = RandomForestClassifier(random_state=seed, n_jobs=1)
    return {"svc": (SVC(), SVC_SHARES), "forest": (forest, FOREST_SHARES)}


@lru_cache(maxsize=4)
def _ends(dataset: str, seed: int, options: tuple[tuple[str, Any], ...], learner: str) -> tuple[float, float]:
    """Return the accuracy with no auxiliary row and with all: the same whatever their order."""
    pool, _ = _pool(dataset, seed, options)
    model, _ = _learners(seed)[learner]
    return _accuracy(model, pool, np.arange(0)), _accuracy(model, pool, np.arange(len(pool.kind)))


def curve(model: Any, pool: Pool, ranking: Ints, shares: tuple[float, ...], ends: tuple[float, float]) -> list[float]:
    """Return the test accuracy when the first rows of `ranking`, in the given shares, are added as anomalies."""
    inner = [_accuracy(model, pool, ranking[: round(share * len(ranking))]) for share in shares[1:-1]]
    return [ends[0], *inner, ends[1]]


def areas(shares: tuple[float, ...], values: list[float]) -> tuple[float, float, float]:
    """Return the mean height of a curve, that of its first third, and its height at one third."""
    x, v = np.array(shares), np.array(values)
    third = int(np.flatnonzero(np.isclose(x, 1 / 3))[0])
    first = slice(0, third + 1)
    return float(trapezoid(v, x)), float(trapezoid(v[first], x[first]) * 3), float(v[third])


# -- choosing a model on a synthetic validation set -------------------------------------------------------------------


def _candidates(seed: int) -> list[Any]:
    seeds = child_seeds(np.random.default_rng(seed), 3)
    return [
        IsolationForest(random_state=seeds[0]),
        IsolationForest(sample_size=32, random_state=seeds[1]),
        KNN(n_neighbors=1),
        KNN(n_neighbors=20),
        LOF(n_neighbors=5),
        LOF(n_neighbors=30),
        ECOD(),
        HBOS(),
        Mahalanobis(),
        SSDO(random_state=seeds[2]),
        SSDO(detector=KNN(), n_neighbors=20),
    ]


@lru_cache(maxsize=2)
def _scored(dataset: str, seed: int, options: tuple[tuple[str, Any], ...]) -> list[tuple[Floats, Floats, Floats]]:
    """Return each candidate's scores of the held-out normals, the auxiliary rows and the test rows."""
    pool, _ = _pool(dataset, seed, options)
    rng = np.random.default_rng([seed, 2])
    normals = rng.permutation(np.flatnonzero(pool.y_train == 0))
    held = normals[: max(2, round(0.3 * len(normals)))]
    fitted = np.setdiff1d(np.arange(len(pool.y_train)), held)
    scores = []
    for model in _candidates(seed):
        model.fit(pool.X_train[fitted], pool.y_train[fitted])
        scores.append(tuple(model.anomaly_score(X) for X in (pool.X_train[held], pool.X_aux, pool.X_test)))
    return scores


def chosen_model(scores: list[tuple[Floats, Floats, Floats]], kept: Bools) -> tuple[int, float]:
    """Return the candidate with the best AUC on held-out normals and kept rows, and its best threshold there.

    The threshold weighs both classes equally.
    """
    best = max(range(len(scores)), key=lambda i: _validation_auc(scores[i], kept))
    normal, synthetic = np.sort(scores[best][0]), np.sort(scores[best][1][kept])
    values = np.unique(np.concatenate([normal, synthetic]))
    cuts = (values[1:] + values[:-1]) / 2 if len(values) > 1 else values
    hits = 1 - np.searchsorted(synthetic, cuts, side="right") / len(synthetic)
    alarms = 1 - np.searchsorted(normal, cuts, side="right") / len(normal)
    return best, float(cuts[np.argmax(hits - alarms)])


def _validation_auc(scores: tuple[Floats, Floats, Floats], kept: Bools) -> float:
    y = np.repeat([0, 1], [len(scores[0]), int(kept.sum())])
    return roc_auc(y, np.concatenate([scores[0], scores[1][kept]]))


# -- one cell ---------------------------------------------------------------------------------------------------------


def _detector(given: Any) -> Any:
    """Return the detector that a configuration names: a catalogue name, a learner's name, or a table of either."""
    if given is None or not isinstance(given, (str, dict)):
        return given
    given = {"system": given} if isinstance(given, str) else dict(given)
    name = given.pop("system", "ssdo")
    return named_learner(name) if name in LEARNERS else load_class(find(name, "detector"))(**given)


def judge_of(trial: Trial, cell: Cell) -> Any:
    """Return the cell's quality score, unfitted; its seed follows from data set and seed alone."""
    method = trial.methods[cell.method]
    parameters = dict(method.parameters)
    if "detector" in parameters:
        parameters["detector"] = _detector(parameters["detector"])
    judge = load_class(find(method.system, "quality"))(**parameters)
    if "random_state" in judge.get_params(deep=False):
        words = hashlib.sha256(f"{cell.dataset} {cell.seed}".encode()).digest()[:4]
        judge.set_params(random_state=int.from_bytes(words, "big") >> 1)
    return judge


def measure(trial: Trial, cell: Cell) -> dict[str, Any]:
    """Judge the pool of `cell.dataset` by `cell.method` and return every measure as a named number or list."""
    from time import process_time

    options = tuple(sorted({**OPTIONS, **trial.options}.items()))
    chosen = dict(options)
    place = (cell.dataset, cell.seed, options)
    pool, digest = _pool(*place)
    judge = judge_of(trial, cell)
    start = process_time()
    quality = judge.fit(pool.X_train, pool.y_train).quality(pool.X_aux)
    cost = process_time() - start
    good = pool.kind == REALISTIC
    auc = quality_auc(pool.kind, quality)
    row: dict[str, Any] = {
        "data_hash": digest,
        "n_train": len(pool.y_train),
        "n_known": int(pool.y_train.sum()),
        "n_features": pool.X_train.shape[1],
        "n_auxiliary": len(quality),
        "n_test": len(pool.y_test),
        "fits": judge.n_fits(len(quality)),
        "quality_cpu_seconds": cost,
        "auc": auc["all"],
        "auc_indistinguishable": auc["indistinguishable"],
        "auc_unrealistic": auc["unrealistic"],
        "otsu_accuracy": float((keep_otsu(quality) == good).mean()),
        "third_accuracy": float((keep_top(quality, good.mean()) == good).mean()),
        "mean_quality": float(quality.mean()),
        "mean_quality_realistic": float(quality[good].mean()),
        "quality": quality.tolist(),
    }
    if chosen["curves"]:
        ranking = order(quality)
        for name, (model, shares) in _learners(cell.seed).items():
            ends = _ends(*place, name)
            down = curve(model, pool, ranking, shares, ends)
            up = curve(model, pool, ranking[::-1], shares, ends)
            whole, first, third = areas(shares, down)
            row |= {
                f"{name}_start": ends[0],
                f"{name}_all": ends[1],
                f"{name}_area": whole,
                f"{name}_first_third": first,
                f"{name}_third": third,
                f"{name}_ascending_area": areas(shares, up)[0],
                f"{name}_curve": down,
                f"{name}_ascending_curve": up,
            }
    if chosen["selection"]:
        scores = _scored(*place)
        aucs = [roc_auc(pool.y_test, test) for _, _, test in scores]
        best, threshold = chosen_model(scores, keep_top(quality, 1 / 3))
        by_all, _ = chosen_model(scores, np.ones(len(quality), dtype=bool))
        row |= {
            "selected_auc": aucs[best],
            "threshold_accuracy": float(((scores[best][2] > threshold) == pool.y_test).mean()),
            "selected_auc_by_all": aucs[by_all],
            "selected_auc_at_random": float(np.mean(aucs)),
            "oracle_selected_auc": max(aucs),
        }
    return row
