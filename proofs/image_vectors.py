"""The methods that work on vectors, on MVTec AD as ADBench's ResNet-18 embeddings: one row an image, no maps.

Per category and seed 70 % of the normal images train, the others and all anomalous ones test. The image detectors'
parts that need no image are used as they are: a level of Gaussian-AD with each of its distances and reductions, the
nearest neighbour of a memory bank (PatchCore with one patch an image), the two nearest on the sphere (the score of
Mean-Shifted Contrastive before it adapts), and a classifier trained on SimpleNet's feature noise.

    python proofs/image_vectors.py
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from assay import FeatureNoise
from assay.datasets.tables import available, load_table
from assay.detectors.images.gaussian_ad import Level
from assay.detectors.images.mean_shifted import neighbour_score
from assay.metrics.ranking import roc_auc
from assay.nn.memory_bank import nearest_in_bank
from tables import need_data, write

SETS = [name for name in available() if name.startswith("cv_by_resnet18/mvtec")]
SEEDS = range(3)
LEVELS = {
    "distance to the mean (L2)": ("l2", None),
    "standardised distance (SED)": ("sed", None),
    "Gaussian-AD": ("mahalanobis", None),
    "Gaussian-AD, PCA .95": ("mahalanobis", ("pca", 0.95)),
    "Gaussian-AD, NPCA .99": ("mahalanobis", ("npca", 0.99)),
    "one-class SVM": ("ocsvm", None),
}


def on_sphere(train, test):
    train, test = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test))
    return neighbour_score(test, train)


def noise_classifier(train, test, seed):
    """Return the scores of a linear classifier of normals against as many with feature noise."""
    noisy = FeatureNoise(random_state=seed).fit(train).sample(len(train)).X
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(np.vstack([train, noisy]), np.repeat([0, 1], len(train)))
    return model.decision_function(test)


def measure(name, seed):
    """Return the AUROC of every method on a category."""
    data = load_table(name)
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(data.y == 0))
    cut = int(0.7 * len(normal))
    train = data.X[normal[:cut]]
    rows = np.concatenate([normal[cut:], np.flatnonzero(data.y == 1)])
    test, y = data.X[rows], data.y[rows]
    scores = {label: Level(*how).fit(train).distances(test) for label, how in LEVELS.items()}
    scores["nearest of the bank (PatchCore, one patch)"] = nearest_in_bank(test, train)[0][:, 0]
    scores["two nearest on the sphere (MSC, not adapted)"] = on_sphere(train, test)
    scores["linear classifier on feature noise"] = noise_classifier(train, test, seed)
    return {label: roc_auc(y, values) for label, values in scores.items()}


def main():
    need_data("adbench")
    found = {seed: [measure(name, seed) for name in SETS] for seed in SEEDS}
    rows = []
    for label in found[0][0]:
        means = np.array([np.mean([record[label] for record in found[seed]]) for seed in SEEDS])
        each = np.mean([[record[label] for record in found[seed]] for seed in SEEDS], axis=0)
        worst = SETS[int(each.argmin())].split("_")[-1]
        rows.append(
            [label, f"{means.mean():.3f} ± {means.std(ddof=1):.3f}", f"{each.min():.3f} ({worst})", f"{each.max():.3f}"]
        )
    write(
        "image_vectors",
        "Methods on vectors: MVTec AD as ResNet-18 embeddings",
        ["method", "image AUROC", "worst category", "best category"],
        rows,
        notes=f"Mean over {len(SETS)} categories, ± over {len(SEEDS)} seeds of the split.",
        data="ADBench CV_by_ResNet18",
    )


if __name__ == "__main__":
    main()
