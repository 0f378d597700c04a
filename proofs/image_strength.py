"""EAP against strength against what a detector gains: is there a strength that is neither too weak nor too strong?

One set of real images, `SEEDS` splits as in proofs/image_suggest.py. Each generator is drawn at every strength of a
long ladder; the quality of its images and the AUROC on the test images of a support vector classifier trained on the
known normals and these images alone are averaged over the splits. Writes results/image_strength.md and
docs/images/image_strength_quality.svg and image_strength_auroc.svg.

    python proofs/image_strength.py [SET]
"""

import sys

import numpy as np
import torch

from assay import KNN, ExpectedAnomalyPosterior, PatchEmbedder, suggest
from assay.core.images import Images
from assay.metrics.ranking import roc_auc
from assay.report.svg import Series, lines
from assay.training.auxiliary import named_learner
from image_suggest import IMAGE_SIZE, split
from tables import ROOT, need_data, resumed, write

GENERATORS = ("cut_paste", "perlin_texture", "natural_patch", "pixel_noise")
STRENGTHS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SEEDS = range(1, 4)
COUNT = 20
STYLE = """<style>text{font:13px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#666}
.line{fill:none;stroke:var(--c);stroke-width:1.6}.fill{fill:var(--c)}.open{fill:none;stroke:var(--c);stroke-width:1.3}
.c-1{--c:#00795a}.c-2{--c:#a5488a}.c-3{--c:#0072b2}.c-4{--c:#b86a00}</style>"""


def measure(name, seed):
    """Return quality and AUROC of every generator at every strength."""
    normal, bad, test, y_test = split(name, seed)
    known, y = Images([*normal.items, *bad.items]), np.repeat([0, 1], [len(normal), len(bad)])
    embedder = PatchEmbedder(image_size=IMAGE_SIZE, random_state=seed)
    judge = ExpectedAnomalyPosterior(detector=KNN(), density="smooth", n_subsets=50)
    how = {"generators": GENERATORS, "strengths": STRENGTHS, "n": COUNT, "embedder": embedder, "random_state": seed}
    found = suggest(known, y, judge=judge, **how)
    Z, Z_test = embedder.fit(normal).transform(normal), embedder.transform(test)
    rows = []
    for one in found:
        labels = np.repeat([0, 1], [len(Z), len(one.rows)])
        model = named_learner("svc").fit(np.vstack([Z, one.rows]), labels)
        auc = roc_auc(y_test, model.anomaly_score(Z_test))
        rows.append({"generator": one.generator, "strength": one.strength, "quality": one.quality, "auroc": auc})
    return rows


def draw(rows, column, label):
    """Write one chart: `column` against the rung of the ladder."""
    series = []
    for place, name in enumerate(GENERATORS):
        values = np.array([rows[name, strength][column] for strength in STRENGTHS])
        marker = ("triangle", "square", "diamond", "ring")[place]
        series.append(Series(name, np.log2(STRENGTHS), values, css=f"c-{place + 1}", marker=marker))
    chart = lines(series, title=f"{label} against strength", x_label="log2 of the strength", y_label=label)
    chart = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    head, body = chart.split(">", 1)
    (ROOT / "docs" / "images" / f"image_strength_{column}.svg").write_text(f"{head}>{STYLE}{body}\n")


def main(name="magnetic_tile"):
    need_data("images")
    torch.set_num_threads(1)
    runs = [resumed(f"image_strength/{name}-{seed}", measure, name, seed) for seed in SEEDS]
    mean = {}
    for generator in GENERATORS:
        for strength in STRENGTHS:
            same = [one for run in runs for one in run if (one["generator"], one["strength"]) == (generator, strength)]
            mean[generator, strength] = {
                key: float(np.mean([one[key] for one in same])) for key in ("quality", "auroc")
            }
    draw(mean, "quality", "mean quality")
    draw(mean, "auroc", "AUROC")
    rows = [
        [f"{generator}: {label}", *[f"{mean[generator, strength][column]:.3f}" for strength in STRENGTHS]]
        for generator in GENERATORS
        for column, label in (("quality", "mean quality"), ("auroc", "AUROC"))
    ]
    write(
        "image_strength",
        f"Quality and gain against strength ({name})",
        ["generator", *[f"strength {strength:g}" for strength in STRENGTHS]],
        rows,
        notes=f"""
Mean over {len(SEEDS)} splits, {COUNT} images a batch; the set-up of results/image_suggest.md, "synthetic only". Pixels
end at 0 and 255, so that beyond strength 2 most generators saturate.
""",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
