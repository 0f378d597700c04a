"""Calibrated: scikit-learn's whole contract for every detector, and the promise on fresh normal rows."""

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.ensemble import RandomForestClassifier
from assay.calibration.calibrated import Calibrated
from assay.catalogue import find, load_class, of_role
FAST = {
    "isolation_forest": {"n_trees": 20},
    "noise_contrastive": {"classifier": RandomForestClassifier(10, min_samples_leaf=5)},
}
def detector(system): return load_class(find(system))(**FAST.get(system, {}))
DETECTORS = [entry.name for entry in of_role("detector", "tables")]
@parametrize_with_checks([Calibrated(detector(s)) for s in DETECTORS])
def test_sk(estimator, check):
    check(estimator)
