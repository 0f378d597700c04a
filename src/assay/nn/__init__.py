"""Blocks of neural networks that two or more systems share."""

from assay.core.extras import require

require("torch", "deep", "A neural network")
