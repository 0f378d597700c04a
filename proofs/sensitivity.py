"""What moves EAP's result: other detectors (Q4), its parameters (Q5), the pool's composition (Q6)."""

import numpy as np
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression

from assay import KNN, LOF, ExpectedAnomalyPosterior, IsolationForest, RarityDensity
from assay.benchmark.trial import OPTIONS, _pool
from assay.detectors.tabular.adapters import ClassifierDetector
from assay.metrics.ranking import quality_auc
from assay.training.auxiliary import named_learner
from tables import need_data, write

DATASETS = (
    *("annthyroid", "breastw", "cardio", "fault", "mammography", "pendigits", "pima", "satellite", "wilt"),
    *("cv_by_resnet18/mvtec-ad_grid", "cv_by_resnet18/mvtec-ad_zipper", "cv_by_vit/mvtec-ad_bottle"),
)
SEEDS, SUBSETS = range(3), 20


def eap(pool, **parameters):
    judge = ExpectedAnomalyPosterior(**{"n_subsets": SUBSETS, "random_state": 0, **parameters})
    return judge.fit(pool.X_train, pool.y_train).quality(pool.X_aux)


def share(pool):
    return float(pool.y_train.mean())


#: group -> variant -> (options of the pool, quality of its auxiliary rows)
VARIANTS = {
    "published": {"EAP": ({}, eap)},
    "detector": {
        "isolation forest, squashed": ({}, lambda pool: eap(pool, detector=IsolationForest())),
        "k-nearest neighbours, squashed": ({}, lambda pool: eap(pool, detector=KNN())),
        "local outlier factor, squashed": ({}, lambda pool: eap(pool, detector=LOF())),
        "logistic regression": (
            {},
            lambda pool: eap(pool, detector=ClassifierDetector(LogisticRegression(max_iter=2000), calibration=None)),
        ),
        "boosted trees": ({}, lambda pool: eap(pool, detector=named_learner("boosting"))),
        "random forest": ({}, lambda pool: eap(pool, detector=named_learner("forest"))),
    },
    "subsets": {
        f"M = {subsets}": ({}, lambda pool, subsets=subsets: eap(pool, n_subsets=subsets)) for subsets in (1, 5, 100)
    },
    "prior": {
        "half the share of anomalies": ({}, lambda pool: eap(pool, prior=share(pool) / 2)),
        "twice the share": ({}, lambda pool: eap(pool, prior=2 * share(pool))),
        "mean .1": ({}, lambda pool: eap(pool, prior=0.1)),
        "mean .5": ({}, lambda pool: eap(pool, prior=0.5)),
    },
    "evidence": {
        f"{scale:g} times": ({}, lambda pool, scale=scale: eap(pool, evidence_scale=scale)) for scale in (0.1, 10.0)
    },
    "smallest k": {f"{k}": ({}, lambda pool, k=k: eap(pool, min_neighbors=k)) for k in (20, 100)},
    "density": {
        "smooth": ({}, lambda pool: eap(pool, density="smooth")),
        "smooth, over k-nearest neighbours": ({}, lambda pool: eap(pool, density="smooth", detector=KNN())),
        "balls alone, k = 5 (no detector)": (
            {},
            lambda pool: RarityDensity(k=5).fit(pool.X_train, pool.y_train).quality(pool.X_aux),
        ),
    },
    "known anomalies": {"2": ({"known_anomalies": 2}, eap), "4": ({"known_anomalies": 4}, eap)},
    "pool": {"10 % realistic": ({"realistic_share": 0.1}, eap), "60 % realistic": ({"realistic_share": 0.6}, eap)},
}


def measured(dataset, seed):
    """Return group and variant -> AUC."""
    found = {}
    for group, variants in VARIANTS.items():
        for variant, (options, judge) in variants.items():
            pool, _ = _pool(dataset, seed, tuple(sorted({**OPTIONS, **options}.items())))
            found[group, variant] = quality_auc(pool.kind, judge(pool))["all"]
    return found


if __name__ == "__main__":
    need_data("adbench")
    cells = [(dataset, seed) for dataset in DATASETS for seed in SEEDS]
    rows = Parallel(n_jobs=2)(delayed(measured)(*cell) for cell in cells)
    lines = []
    reference = np.array([row["published", "EAP"] for row in rows])
    for group, variants in VARIANTS.items():
        for variant in variants:
            values = np.array([row[group, variant] for row in rows])
            per_set = (values - reference).reshape(len(DATASETS), len(SEEDS)).mean(axis=1)
            lines.append(
                [
                    group,
                    variant,
                    f"{values.mean():.3f}",
                    f"{values.reshape(len(DATASETS), len(SEEDS)).std(axis=1).mean():.3f}",
                    f"{per_set.mean():+.3f}",
                    f"{(per_set > 0).sum()} of {len(DATASETS)}",
                    f"{per_set.min():+.3f} to {per_set.max():+.3f}",
                ]
            )
    write(
        "trial_sensitivity",
        "What moves EAP",
        ["varied", "to", "AUC", "sd over seeds", "change", "better on", "change on single sets"],
        lines,
        f"""
AUC of realistic against useless auxiliary rows, {len(DATASETS)} data sets, {len(SEEDS)} seeds, {SUBSETS} subsets unless
said otherwise. The change is that against the first line on the same pools; with other known anomalies or another
composition the pools differ.
""",
        f"ADBench {', '.join(DATASETS)}",
    )
