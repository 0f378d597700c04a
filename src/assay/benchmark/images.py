"""One evaluator for all detectors of images: fit on the normals, score the test, say how it was done.

In: a detector and an `ImageSet`. Out: one record, name -> number or text: the data, the settings of the detector, the
metrics of the images and of the pixels with the size they were taken at, the regions, the time.

- Training sees `ImageSet.train` alone: normals. Nothing is chosen on the test set: no best epoch, no threshold, no
  range of the scores; what looks at test labels is called ``oracle_*``.
- Maps are brought to the masks' own size bilinearly (``at="original"``), or masks to the network's by nearest pixel
  (``at="network"``: faster, and small regions may vanish; `regions` and `regions_lost` say how many).
- Pixels are pooled over all images of the category, good ones included; categories are averaged by whoever reads the
  records. Metrics that need a class that is missing are NaN, and ``undefined`` says why.
"""

from __future__ import annotations

import time
from typing import Any

from assay.base import Localizer
from assay.core.clone import seeded_clone
from assay.core.validation import check_option
from assay.datasets.images import ImageSet
from assay.metrics.images import count_pixels, count_regions, why_undefined
from assay.metrics.ranking import average_precision, roc_auc

#: Settings that decide what the figures can be compared with.
SETTINGS = ("backbone", "weights", "levels", "aggregate", "image_size", "image_score", "smoothing")


def evaluate_images(detector: Any, data: ImageSet, *, seed: int = 0, at: str = "original") -> dict[str, Any]:
    """Fit a copy of `detector` on the normals of `data` and judge it on the test images.

    Parameters
    ----------
    detector : Detector
        Of images, unfitted.
    data : ImageSet
        A category, as `assay.datasets.images.load_images` reads it.
    seed : int, default 0
        Seed of the detector.
    at : {"original", "network"}, default "original"
        Size at which pixels are compared.

    Returns
    -------
    dict
        ``image_auroc``, ``image_ap``; where the detector localises and the set has masks ``pixel_auroc``,
        ``pixel_ap``, ``aupro``, ``oracle_pixel_f1``; ``fit_seconds``, ``ms_an_image``, and the settings.
    """
    check_option(at, "at", "original", "network")
    fitted = seeded_clone(detector, seed)
    start = time.perf_counter()
    fitted.fit(data.train)
    trained = time.perf_counter()
    localises = isinstance(fitted, Localizer)
    scores, maps = fitted.locate(data.test) if localises else (fitted.anomaly_score(data.test), None)
    done = time.perf_counter()
    record = {
        "data": data.name,
        "layout": data.layout,
        "train_images": len(data.train),
        "test_good": int((data.labels == 0).sum()),
        "test_defective": int((data.labels == 1).sum()),
        "detector": type(fitted).__name__,
        "seed": seed,
        **{name: _plain(value) for name, value in fitted.get_params().items() if name in SETTINGS},
        "image_auroc": roc_auc(data.labels, scores),
        "image_ap": average_precision(data.labels, scores),
        "fit_seconds": trained - start,
        "ms_an_image": 1e3 * (done - trained) / len(data.test),
    }
    if not 0 < data.labels.sum() < len(data.labels):
        record["undefined"] = "the test set holds one kind of image alone"
    if not (localises and data.has_masks):
        return record
    masks = data.masks.at(None if at == "original" else maps.shape[1:])
    counts = count_pixels(masks, maps)
    regions = count_regions(masks)
    reason = why_undefined(masks)
    return record | {
        "at": at,
        "pixel_auroc": counts.auroc(),
        "pixel_ap": counts.average_precision(),
        "aupro": counts.aupro(),
        "aupro_limit": 0.3,
        "oracle_pixel_f1": counts.oracle_f1_max(),
        "regions": regions,
        "regions_lost": 0 if at == "original" else count_regions(data.masks.at()) - regions,
        **({} if reason is None else {"undefined": reason}),
    }


def _plain(value: Any) -> Any:
    return "+".join(value) if isinstance(value, (list, tuple)) else value if value is not None else "random"
