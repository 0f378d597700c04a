"""Assay: anomaly detection with synthetic anomalies that can be trusted.

The names below are loaded when first used; ``import assay`` itself is instant.
"""

from __future__ import annotations

import importlib
from typing import Any

from assay.catalogue import SYSTEMS, load_class

__version__ = "0.1.0"

_NAMES = {
    "Pipeline": "assay.base",
    "Calibrated": "assay.calibration.calibrated",
    "Fleet": "assay.detectors.series.fleet",
    "as_detector": "assay.detectors.tabular.adapters",
    "train_with_auxiliary": "assay.training.auxiliary",
    "artefact_probe": "assay.training.probe",
    "suggest": "assay.training.suggest",
    "save": "assay.core.store",
    "load": "assay.core.store",
    "silence": "assay.core.progress",
}
_SYSTEMS = {system.path.split(":")[1]: system for system in SYSTEMS}

__all__ = ["__version__", *sorted({*_NAMES, *_SYSTEMS})]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _SYSTEMS:
        return load_class(_SYSTEMS[name])
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'assay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES, *_SYSTEMS])
