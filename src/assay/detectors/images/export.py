"""Detectors of images as ONNX files: the same scores and maps without Assay, without torch.

In: a fitted detector whose scoring is tensor operations alone. Out: a file with

    images (1, image_size, image_size, 3)  8-bit RGB, resized (bilinear, averaging where it shrinks)
    score  (1,)                            float64, higher = more anomalous
    map    (1, image_size, image_size)     float32

Everything between is inside: normalisation of the pixels, features, score of each cell, enlarging, smoothing. The
smoothing is one product with a matrix a side, so that SciPy's rule at the border is kept exactly.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.core.extras import require
from assay.core.files import new_file
from assay.core.progress import silence
from assay.core.validation import InputError
from assay.detectors.images.common import MapDetector
from assay.nn.maps import TOP_SHARE


class Exported(nn.Module):
    """What is exported: a batch of one image in, its score and map out.

    Parameters
    ----------
    scorer : function
        Batch (1, h, w, 3) -> scores of the cells (1, rows, columns), and of the image if it is not taken by `rule`.
    size : int
        Pixels a side.
    smoothing : float
        Standard deviation of the Gaussian, in pixels.
    rule : str
        How the image's score is taken.
    """

    def __init__(self, scorer: Any, size: int, smoothing: float, rule: str) -> None:
        super().__init__()
        self.scorer, self.size, self.rule = scorer, size, rule
        smooth = np.eye(size) if smoothing == 0 else gaussian_filter1d(np.eye(size), smoothing, axis=0)
        self.register_buffer("smooth", torch.from_numpy(smooth.astype(np.float32)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return score and map."""
        found = self.scorer(images)
        grid, score = found if isinstance(found, tuple) else (found, None)
        maps = F.interpolate(grid[:, None].float(), size=(self.size, self.size), mode="bilinear", align_corners=False)
        maps = self.smooth @ maps[:, 0] @ self.smooth.T
        if score is not None:
            return score, maps
        cells = (maps if self.rule == "max_map" else grid).flatten(1).double()
        if self.rule == "topk_mean":
            count = max(1, round(TOP_SHARE * cells.shape[1]))
            return cells.topk(count, dim=1).values.mean(dim=1), maps
        return cells.amax(dim=1), maps


def export_onnx(detector: MapDetector, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a fitted detector as an ONNX file.

    Parameters
    ----------
    detector : MapDetector
        Fitted.
    path : path
        Ends in ``.onnx``.
    overwrite : bool, default False
        Replace what is there.

    Raises
    ------
    InputError
        If the detector gives no maps, or its scoring is more than tensor operations.
    MissingExtra
        If onnx or onnxscript is not installed.
    """
    if not isinstance(detector, MapDetector):
        raise InputError(f"detector is a {type(detector).__name__}: only detectors with maps are exported")
    check_is_fitted(detector)
    for library in ("onnx", "onnxscript"):
        require(library, "onnx", "Exporting to ONNX")
    if Path(path).suffix.lower() != ".onnx":
        raise InputError(f"path={str(path)!r}: give a name that ends in .onnx")
    size = detector.image_size
    example = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    with new_file(path, overwrite=overwrite, name="path") as part, silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own deprecations
        logger.setLevel(logging.ERROR)  # and of torchvision, which nothing here needs
        module = Exported(detector._scorer(), size, float(detector.smoothing), detector.image_score).eval()
        try:
            program = torch.onnx.export(
                module, (example,), input_names=["images"], output_names=["score", "map"], dynamo=True, verbose=False
            )
        except Exception as error:  # the exporter raises whatever it meets
            name = type(detector).__name__
            raise InputError(f"detector: {name} cannot be exported: {str(error).splitlines()[0]}") from error
        finally:
            logger.setLevel(level)
        program.save(str(part))
    return Path(path)
