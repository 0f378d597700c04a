"""Do generators that EAP ranks first train better detectors of real defects than a random, or the worst, choice?

For each set of real images and each seed: half of the normal images and `KNOWN` random anomalies are known, the rest
is the test. `suggest` ranks all generators x strengths on the known images alone. Then a support vector classifier on
the images' embedding is trained once with each batch of synthetic images, on the known normals, the known anomalies
and the batch ("with known"), or on the known normals and the batch ("synthetic only"), and its AUROC on the test
images is taken. The choices: the first of the ranking, a random batch (the mean over all), the last of the ranking;
beside them the known images alone, and the best batch in hindsight (an oracle, which looks at the test).

    python proofs/image_suggest.py [SET ...]
"""

import sys

import numpy as np
import torch
from scipy.stats import spearmanr

from assay import KNN, ExpectedAnomalyPosterior, PatchEmbedder, suggest
from assay.core.images import Images
from assay.datasets.images import load_images
from assay.metrics.ranking import roc_auc
from assay.training.auxiliary import named_learner
from tables import need_data, resumed, write

SETS = ("magnetic_tile", "kolektor_sdd", "brain_mri", "chest_xray")
#: Seed 0 of the first two sets served to choose embedding, judge and ranking.
SEEDS = range(1, 6)
IMAGE_SIZE = 160
#: Known anomalies, most images of either kind, synthetic images a batch, and the ladder.
KNOWN, MOST, COUNT, STRENGTHS = 12, 200, 24, (0.25, 0.5, 1.0, 2.0)


def split(name, seed):
    """Return known normals, known anomalies, test images and their labels."""
    data = load_images(name, random_state=0)
    rng = np.random.default_rng(seed)
    normal = Images([*data.train.items, *(data.test[data.labels == 0]).items])
    bad = data.test[data.labels == 1]
    normal = normal[rng.permutation(len(normal))[:MOST]]
    bad = bad[rng.permutation(len(bad))[:MOST]]
    half = len(normal) // 2
    test = Images([*normal[half:].items, *bad[KNOWN:].items])
    return normal[:half], bad[:KNOWN], test, np.repeat([0, 1], [len(normal) - half, len(bad) - KNOWN])


def measure(name, seed):
    """Return the figures of one split."""
    normal, bad, test, y_test = split(name, seed)
    known = Images([*normal.items, *bad.items])
    y = np.repeat([0, 1], [len(normal), len(bad)])
    embedder = PatchEmbedder(image_size=IMAGE_SIZE, random_state=seed)
    judge = ExpectedAnomalyPosterior(detector=KNN(), density="smooth", n_subsets=50)
    how = {"strengths": STRENGTHS, "n": COUNT, "embedder": embedder, "rank": "lift", "random_state": seed}
    ranked = suggest(known, y, judge=judge, **how)
    Z, Z_test = embedder.fit(normal).transform(known), embedder.transform(test)

    def auc(rows, with_known=True):
        real = np.ones(len(y), dtype=bool) if with_known else y == 0
        X = np.vstack([Z[real], rows])
        labels = np.concatenate([y[real], np.ones(len(rows), dtype=int)])
        return roc_auc(y_test, named_learner("svc").fit(X, labels).anomaly_score(Z_test))

    figures = {"known images alone": auc(np.empty((0, Z.shape[1])))}
    for label, with_known in (("with known", True), ("synthetic only", False)):
        gains = np.array([auc(one.rows, with_known) for one in ranked])
        figures |= {
            f"{label}: suggested": gains[0],
            f"{label}: suggested, kept ones": auc(ranked[0].rows[ranked[0].kept], with_known),
            f"{label}: random": gains.mean(),
            f"{label}: worst": gains[-1],
            f"{label}: oracle": gains.max(),
            f"{label}: rank correlation": spearmanr(-np.arange(len(gains)), gains).statistic,
        }
    batches = [one.row() | {"auc": auc(one.rows, False)} for one in ranked]
    return {"figures": figures, "batches": batches, "first": f"{ranked[0].generator} at {ranked[0].strength:g}"}


def main(*names):
    need_data("images")
    torch.set_num_threads(1)
    names = names or SETS
    runs = {name: [resumed(f"image_suggest/{name}-{seed}", measure, name, seed) for seed in SEEDS] for name in names}
    rows = []
    for label in next(iter(runs.values()))[0]["figures"]:
        row = [label]
        for name in names:
            values = np.array([run["figures"][label] for run in runs[name]])
            row.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}")
        rows.append(row)
    row = ["synthetic only: strongest rung, mean"]
    for name in names:
        values = [
            np.mean([one["auc"] for one in run["batches"] if one["strength"] == STRENGTHS[-1]]) for run in runs[name]
        ]
        row.append(f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}")
    rows.append(row)
    firsts = "; ".join(f"{name}: {', '.join(run['first'] for run in runs[name])}" for name in names)
    rows.append(["differences of the same seeds"] + [""] * len(names))
    for label in ("with known", "synthetic only"):
        for other in ("random", "worst"):
            row = [f"{label}: suggested − {other}"]
            for name in names:
                gain = np.array(
                    [run["figures"][f"{label}: suggested"] - run["figures"][f"{label}: {other}"] for run in runs[name]]
                )
                row.append(f"{gain.mean():+.3f} ± {gain.std(ddof=1):.3f}, {int((gain > 0).sum())} of {len(gain)} won")
            rows.append(row)
    write(
        "image_suggest",
        "Generators that EAP ranks first, against a random and the worst choice, on real defects",
        ["AUROC on test images", *names],
        rows,
        notes=f"""
Mean ± standard deviation over {len(SEEDS)} seeds; {KNOWN} known anomalies, at most {MOST} normal and {MOST} anomalous
images a set, half of the normals known; {COUNT} synthetic images a batch, strengths {STRENGTHS}; embedding:
`PatchEmbedder` at {IMAGE_SIZE} pixels; judge: EAP with `detector=KNN(), density="smooth"`, ranking by lift; detector:
`named_learner("svc")`. "Rank correlation" is Spearman's between the ranking and the AUROC reached with each batch.
"Oracle" is the best batch in hindsight; "strongest rung" is the mean over all generators at the highest strength, what
one would take without a judge. First of the ranking: {firsts}.
""",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
