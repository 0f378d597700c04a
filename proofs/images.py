"""All detectors of images on real defects and on mini-MVTec: AUROC of images and pixels, AUPRO, time.

Features are those of EfficientNet-Lite0 with its ImageNet weights, at 224 pixels (mini-MVTec: 96 pixels enlarged to
128); "random weights" is the same network untrained. Real sets: at most 100 normal images to train on, 40 normal and
50 defective ones (as many of each kind) to test on, drawn anew for each seed. Nothing was chosen on them: every
detector has its defaults but for the sizes named in `DETECTORS`.

    python proofs/images.py [DETECTOR ...]
"""

import sys

import numpy as np
import torch

from assay.benchmark.images import evaluate_images
from assay.catalogue import find, load_class
from assay.datasets.images import ImageSet, load_images
from assay.datasets.mini_mvtec import CATEGORIES, write_mini_mvtec
from tables import ROOT, need_data, resumed, write

REAL = ("magnetic_tile", "kolektor_sdd")
SEEDS = range(3)
ALL = {"magnetic_tile": ("magnetic_tile",), "kolektor_sdd": ("kolektor_sdd",), "mini-MVTec": CATEGORIES}
#: name in the table -> name in the catalogue, and what departs from its defaults.
DETECTORS = {
    "mean image": ("mean_image", {}),
    "PatchCore, random weights": ("patchcore", {"weights": None}),
    "PatchCore": ("patchcore", {}),
    "PaDiM": ("padim", {}),
    "Gaussian-AD": ("gaussian_ad", {}),
    "SimpleNet": ("simplenet", {}),
    "PNI": ("pni", {}),
    "EfficientAD": ("efficientad", {"image_size": 128}),
    "VAE-GAN": ("vae_gan", {"image_size": 128}),
    "Mean-Shifted Contrastive": ("mean_shifted_contrastive", {"image_size": 128}),
}
METRICS = ("image_auroc", "pixel_auroc", "aupro")


def real_set(name, seed):
    """Return a set of bounded size, split by `seed`."""
    data = load_images(name, random_state=seed)
    rng = np.random.default_rng(seed)
    kinds = sorted({kind for kind in data.defects if kind != "good"})
    rows = [rng.permutation(np.flatnonzero(np.array(data.defects) == kind))[: 50 // len(kinds)] for kind in kinds]
    rows = np.concatenate([rng.permutation(np.flatnonzero(data.labels == 0))[:40], *rows])
    train = data.train[rng.permutation(len(data.train))[:100]]
    defects = tuple(data.defects[row] for row in rows)
    return ImageSet(name, data.layout, train, None, data.test[rows], data.labels[rows], defects, data.masks[rows])


def mini_set(name, seed):
    """Return a category of mini-MVTec, written once for each seed."""
    folder = ROOT / "runs" / "mini_mvtec" / str(seed)
    if not (folder / name).is_dir():
        write_mini_mvtec(folder, [name], random_state=seed)
    return load_images(folder, name)


def measure(label, name, seed):
    """Return the record of a detector on a set."""
    system, parameters = DETECTORS[label]
    cls = load_class(find(system, "detector"))
    mini = name in CATEGORIES
    if mini:
        parameters = {"image_size": 128} | parameters
    known = cls().get_params()
    detector = cls(**{key: value for key, value in parameters.items() if key in known})
    return evaluate_images(detector, (mini_set if mini else real_set)(name, seed), seed=seed)


def spread(values):
    values = np.array(values, dtype=float)
    return "–" if np.isnan(values).any() else f"{values.mean():.3f} ± {values.std(ddof=1):.3f}"


def main(*labels):
    need_data("images")
    torch.set_num_threads(1)
    labels = labels or tuple(DETECTORS)
    rows = []
    for label in labels:
        records = {
            (name, seed): resumed(f"images/{label}-{name}-{seed}".replace(" ", "_"), measure, label, name, seed)
            for names in ALL.values()
            for seed in SEEDS
            for name in names
        }
        row = [label]
        for name in ALL:
            for metric in METRICS:
                # Each category counts alike; the spread is that of the seeds.
                values = [np.mean([records[one, seed].get(metric, np.nan) for one in ALL[name]]) for seed in SEEDS]
                row.append(spread(values))
        row.append(f"{np.median([records['magnetic_tile', seed]['ms_an_image'] for seed in SEEDS]):.0f}")
        rows.append(row)
        print(" | ".join(row), flush=True)
    first = labels[0].replace(" ", "_")
    regions = {
        name: [resumed(f"images/{first}-{name}-{seed}", measure, labels[0], name, seed) for seed in SEEDS]
        for name in REAL
    }
    counted = "; ".join(
        f"{name}: {', '.join(str(record.get('regions', '–')) for record in records)} regions"
        for name, records in regions.items()
    )
    write(
        "images",
        "Detectors of images on real defects and on mini-MVTec",
        ["detector", *[f"{name}: {metric}" for name in ALL for metric in METRICS], "ms an image (magnetic_tile)"],
        rows,
        notes=f"""
Mean ± standard deviation over {len(SEEDS)} seeds (split, detector and, for mini-MVTec, data). Pixels at the masks' own
size; AUPRO up to a false-positive rate of 0.3; image score and smoothing are each detector's defaults. mini-MVTec:
mean over {", ".join(CATEGORIES)}. A dash: no map. Time: one thread, other work on the machine, scoring
alone. {counted}.
""",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
