"""Q8: does the mean quality of a generator's batch say how much training with it gains?"""

import numpy as np
from joblib import Parallel, delayed
from scipy.stats import spearmanr
from sklearn.svm import SVC

from assay import KNN, ExpectedAnomalyPosterior
from assay.benchmark.trial import OPTIONS, _pool
from assay.catalogue import load_class, of_role
from assay.metrics.ranking import roc_auc
from tables import need_data, write

DATASETS = (
    *("annthyroid", "breastw", "cardio", "fault", "mammography", "pendigits", "pima", "satellite", "wilt"),
    *("cv_by_resnet18/mvtec-ad_grid", "cv_by_resnet18/mvtec-ad_zipper", "cv_by_vit/mvtec-ad_bottle"),
)
SEEDS, ROWS = range(3), 100
JUDGES = {"EAP": {}, "EAP, smooth, k-nearest neighbours": {"detector": KNN(), "density": "smooth"}}


def gain(pool, X_aux):
    """Return the gain in test AUC of an SVC trained with the rows."""
    aucs = []
    for added in (np.empty((0, pool.X_train.shape[1])), X_aux):
        y = np.concatenate([pool.y_train, np.ones(len(added), dtype=int)])
        model = SVC().fit(np.vstack([pool.X_train, added]), y)
        aucs.append(roc_auc(pool.y_test, model.decision_function(pool.X_test)))
    return aucs[1] - aucs[0]


def measured(dataset, seed):
    pool, _ = _pool(dataset, seed, tuple(sorted(OPTIONS.items())))
    normals, anomalies = pool.X_train[pool.y_train == 0], pool.X_train[pool.y_train == 1]
    batches = {}
    for entry in of_role("generator", "tables"):
        generator = load_class(entry)(random_state=seed).fit(normals, anomalies)
        batches[entry.name] = generator.sample(ROWS).X
    for kind, name in enumerate(("held-out anomalies", "normals", "foreign")):
        batches[name] = pool.X_aux[pool.kind == kind][:ROWS]
    gains = {name: gain(pool, X) for name, X in batches.items()}
    worth = {}
    for judge, parameters in JUDGES.items():
        eap = ExpectedAnomalyPosterior(n_subsets=20, random_state=seed, **parameters).fit(pool.X_train, pool.y_train)
        worth[judge] = {name: float(eap.quality(X).mean()) for name, X in batches.items()}
    return gains, worth


if __name__ == "__main__":
    need_data("adbench")
    cells = [(dataset, seed) for dataset in DATASETS for seed in SEEDS]
    rows = Parallel(n_jobs=2)(delayed(measured)(*cell) for cell in cells)
    names = list(rows[0][0])
    synthetic = names[:-3]
    lines = []
    for judge in JUDGES:
        for said, chosen in (("generators and the three kinds", names), ("generators alone", synthetic)):
            found = [
                spearmanr([gains[name] for name in chosen], [worth[judge][name] for name in chosen]).statistic
                for gains, worth in rows
            ]
            per_set = np.nanmean(np.reshape(found, (len(DATASETS), len(SEEDS))), axis=1)
            best = [gains[max(chosen, key=worth[judge].get)] for gains, worth in rows]
            chance = [np.mean([gains[name] for name in chosen]) for gains, _ in rows]
            oracle = [max(gains[name] for name in chosen) for gains, _ in rows]
            lines.append(
                [
                    judge,
                    said,
                    f"{np.nanmean(found):+.2f}",
                    f"{per_set.min():+.2f} to {per_set.max():+.2f}",
                    f"{(per_set > 0).sum()} of {len(DATASETS)}",
                    f"{np.mean(best):+.3f}",
                    f"{np.mean(chance):+.3f}",
                    f"{np.mean(oracle):+.3f}",
                ]
            )
    columns = ["judge", "batches", "rank correlation", "on single sets", "positive on"]
    columns += ["gain of the batch with the best mean", "gain at random", "gain of the best (oracle)"]
    write(
        "trial_generators",
        "Does the mean quality of a batch predict what training with it gains?",
        columns,
        lines,
        f"""
Batches of {ROWS} rows of each generator for tables, and of the pool's three kinds; an SVC is trained with each batch;
gain in test AUC against training without. {len(DATASETS)} data sets, {len(SEEDS)} seeds.
""",
        f"ADBench {', '.join(DATASETS)}",
    )
