"""Detectors of anomalous images and of the places in them."""

from assay.core.extras import require

require("torch", "images", "An image detector")
