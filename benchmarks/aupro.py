"""Speed of the pixel metrics: ours, the naive twin, and peers, on the same maps in the same run.

    python benchmarks/aupro.py          ours, the naive twin and scikit-learn
    python benchmarks/aupro.py PYTHON   also the peers: a Python that has anomalib and adeval

CPU seconds of one thread, medians of 5 (the twin: 1, on a share of its thresholds, scaled, and says so).
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs")]

from assay.metrics.images import PixelHistogram, aupro, count_pixels, count_regions
from tables import write

REPEATS, SEED, LIMIT, THRESHOLDS = 5, 0, 0.3, 20


def cpu(function, repeats=REPEATS):
    """Return the median CPU seconds and the result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def test_set(n=83, size=256, defective=63):
    """Smooth maps over masks of one to four discs, as a detector's maps are: 63 defective of 83 images."""
    rng = np.random.default_rng(SEED)
    rows, columns = np.ogrid[:size, :size]
    masks = np.zeros((n, size, size), dtype=bool)
    for mask in masks[:defective]:
        for _ in range(rng.integers(1, 5)):
            r, c, radius = rng.uniform(20, size - 20), rng.uniform(20, size - 20), rng.uniform(6, 20)
            mask |= (rows - r) ** 2 + (columns - c) ** 2 < radius**2
    maps = rng.normal(size=masks.shape)
    maps = np.stack([ndimage.gaussian_filter(4 * noise + 0.8 * mask, 4.0) for noise, mask in zip(maps, masks)])
    return masks, maps.astype(np.float32)


def twin(masks, maps):
    """The curve, threshold by threshold, at `THRESHOLDS` quantiles of the normal pixels."""
    labels = [ndimage.label(mask, np.ones((3, 3)))[0] for mask in masks]
    for threshold in np.quantile(maps[~masks], np.linspace(1 - LIMIT, 1, THRESHOLDS)):
        flagged = maps >= threshold
        (flagged & ~masks).sum()
        for image, label in zip(flagged, labels):
            ndimage.mean(image, label, range(1, label.max() + 1))


def streamed(masks, maps):
    """All three metrics in two passes: the bounds, then the counts."""
    histogram = PixelHistogram.over(maps)
    for mask, values in zip(masks, maps):
        histogram.update(mask, values)
    return histogram.auroc(), histogram.average_precision(), histogram.aupro(LIMIT)


def exact(masks, maps):
    """All three metrics from one count."""
    counts = count_pixels(masks, maps)
    return counts.auroc(), counts.average_precision(), counts.aupro(LIMIT)


def peers(python, masks, maps):
    """Return the peers' CPU seconds and values; empty without peers."""
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.npz"
        np.savez(given, masks=masks, maps=maps)
        script = Path(__file__).with_name("aupro_peer.py")
        done = subprocess.run([python, "-W", "ignore", script, given, str(REPEATS)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def told(values):
    return ", ".join(f"{value:.6f}" for value in values)


def main(python=None):
    masks, maps = test_set()
    aupro(masks[:1], maps[:1]), streamed(masks[:1], maps[:1])  # compile
    alone, value = cpu(lambda: aupro(masks, maps, LIMIT))
    together, values = cpu(lambda: exact(masks, maps))
    stream, streamed_values = cpu(lambda: streamed(masks, maps))
    naive, _ = cpu(lambda: twin(masks, maps), repeats=1)
    y, scores = masks.ravel(), maps.ravel()
    sklearn, sklearn_values = cpu(lambda: (roc_auc_score(y, scores), average_precision_score(y, scores)), repeats=3)
    found = peers(python, masks, maps)
    histogram = PixelHistogram.over(maps)
    for mask, one in zip(masks, maps):
        histogram.update(mask, one)

    pro, all_three = "exact AUPRO", "AUROC, AP, AUPRO"
    ours = {
        pro: (alone, [value]),
        f"{all_three}, exact": (together, values),
        f"{all_three}, histogram": (stream, streamed_values),
    }
    pairs = [
        (pro, "anomalib", 10),
        (pro, "anomalib's curve, regions given", None),
        (f"{all_three}, histogram", "adeval", 1),
    ]
    pairs = [*pairs, (f"{all_three}, exact", "adeval", None)] if found else []
    found["naive twin, 200 thresholds"] = {"seconds": naive * 200 / THRESHOLDS, "values": []}
    found["scikit-learn, the first two"] = {"seconds": sklearn, "values": sklearn_values}
    pairs += [(pro, "naive twin, 200 thresholds", None), (f"{all_three}, exact", "scikit-learn, the first two", None)]
    rows = []
    for workload, peer, bar in pairs:
        (seconds, mine), theirs = ours[workload], found[peer]
        ratio, bar = f"{theirs['seconds'] / seconds:.1f} ×", f">= {bar} ×" if bar else "none"
        rows.append(
            [
                workload,
                f"{seconds:.3f}",
                peer,
                f"{theirs['seconds']:.3f}",
                ratio,
                bar,
                told(mine),
                told(theirs["values"]),
            ]
        )
    notes = NOTES.format(bound=histogram.error_bound(LIMIT), share=100 * masks.mean(), regions=count_regions(masks))
    columns = [
        "workload",
        "Assay (s)",
        "peer",
        "peer (s)",
        "peer / Assay",
        "bar",
        "Assay's values",
        "the peer's values",
    ]
    data = f"83 maps of 256 x 256 float32, Gaussian noise and discs smoothed with sigma 4, seed {SEED}"
    write("benchmark_aupro", "Speed of the pixel metrics", columns, rows, notes, data)


NOTES = f"""
CPU seconds of one thread, median of {REPEATS}; the twin's are of {THRESHOLDS} thresholds, scaled to 200. {{regions}}
regions, {{share:.1f}} % of the pixels defective. Values in the order of the workload's names. The histogram's two
passes (bounds, counts) are both timed; its own bound on its error here: {{bound:.1e}}.

Peers: anomalib's AUPRO class (float32 sums; update and compute); the same class's curve alone, without its search
for regions; adeval's `auroc_aupr_aupro` with its 1000 strips, whose AUPR is the trapezoid under the
precision-recall curve where ours is the step-wise average precision. The naive twin is a loop over 200 thresholds, as
much public code has it: not exact.
"""


if __name__ == "__main__":
    main(*sys.argv[1:])
