"""Outlier exposure for images: learn to tell normal images from auxiliary outliers, and hope for the unseen ones.

In: normal images (label 0) and auxiliary outliers (label 1: synthetic anomalies, or photographs of other things), with
weights where some outliers deserve less trust. Out: one score an image, no map.

With one kind of normal images there is no classification task to spoil, so the head is binary; with pseudo-classes the
published form returns. On the pooled features of a frozen network (the mean and the largest value of each channel),
standardised by the normal images, a small network z is trained from the start with both losses:

``bce``         log odds z: mean over the normals of log(1 + exp z) + λ mean over the outliers of log(1 + exp -z); the
                score is z.
``uniform_ce``  k-means gives the normals K pseudo-classes; cross-entropy to these + λ cross-entropy of the outliers to
                the uniform distribution; the score is minus the largest softmax.

Both from `assay.nn.outlier_exposure`, which also serves classifiers of any other data, density models and language
models, with the published schedules: this file is its use where only normal images are there.

Defaults: λ = .5, batches of 128 normals and 256 outliers in one pass, SGD with Nesterov momentum .9 and weight decay
5e-4, a cosine to 1e-6, 100 epochs (the official code, training from scratch), at its rate for small networks, .01. One
hidden layer of 64 units. Departures: the published networks are trained whole, on tens of thousands of images; here the
features stay as they are, for the normal images are few. Published scores are those of a classifier of many classes:
the binary form is the limit of that idea for one. An image that is among the normals and among the outliers is refused.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import nn

from assay.base import Detector, TakesImages
from assay.core.images import Images
from assay.core.validation import ANOMALY, NORMAL, Floats, InputError, Ints, check_number, check_option
from assay.detectors.images.common import in_batches
from assay.nn.backbones import build, initial_weights
from assay.nn.outlier_exposure import expose, outputs, score, shared_items
from assay.nn.pooling import check_backbone, pooled
from assay.nn.state import arrays_of, seeded, with_arrays


def head(width: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return the small network z: `width` features -> `outputs`."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class OutlierExposure(TakesImages, Detector):
    """Trains a small network on a frozen one's features to tell normal images from auxiliary outliers.

    Parameters
    ----------
    loss : {"bce", "uniform_ce"}, default "bce"
        Log odds, or pseudo-classes; see the module.
    lam : float >= 0, default .5
        λ, weight of the outliers.
    n_classes : int, default 10
        Pseudo-classes of ``"uniform_ce"``, at most as many as normal images.
    hidden : int, default 64
        Width of the hidden layer.
    epochs : int, default 100
        Passes over the normal images.
    learning_rate : float, default .01
        First step size.
    backbone : str, default "efficientnet_lite0"
        Network; see `assay.nn.backbones`.
    weights : str or None, default "imagenet"
        Its weights; a file of yours, or None for random ones.
    levels : sequence of str, default ("stage3", "stage5")
        Levels that are pooled.
    image_size : int, default 224
        Images are brought to this size squared, in pixels.
    random_state : None, int or numpy.random.Generator
        Seed of the head, the pseudo-classes and the order.

    Attributes
    ----------
    backbone_, head_ : dict of arrays
        Weights.
    mean_, scale_ : arrays of shape (D,), float32
        What standardises the features.
    history_ : list of dict
        Mean losses of each epoch, ``task`` and ``exposure``.

    References
    ----------
    Hendrycks, Mazeika and Dietterich: Deep Anomaly Detection with Outlier Exposure. ICLR 2019, arXiv 1812.04606.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.detectors.images.outlier_exposure import OutlierExposure
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.random((8, 32, 32, 3)), np.repeat([0, 1], 4)
    >>> X[y == 1] *= 0.3
    >>> model = OutlierExposure(weights=None, image_size=32, epochs=20, random_state=0).fit(X, y)
    >>> scores = model.anomaly_score(X)
    >>> bool(scores[4:].min() > scores[:4].max())
    True
    """

    labels: ClassVar[str] = "required"
    takes_weights: ClassVar[bool] = True

    def __init__(
        self,
        loss="bce",
        lam=0.5,
        n_classes=10,
        hidden=64,
        epochs=100,
        learning_rate=0.01,
        backbone="efficientnet_lite0",
        weights="imagenet",
        levels=("stage3", "stage5"),
        image_size=224,
        random_state=None,
    ):
        self.loss = loss
        self.lam = lam
        self.n_classes = n_classes
        self.hidden = hidden
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.image_size = image_size
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_option(self.loss, "loss", "bce", "uniform_ce")
        check_number(self.lam, "lam", low=0.0)
        check_number(self.n_classes, "n_classes", low=2, integer=True)
        check_number(self.hidden, "hidden", low=1, integer=True)
        check_number(self.epochs, "epochs", low=1, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, strict_low=True)
        check_backbone(self.backbone, self.levels)
        check_number(self.image_size, "image_size", low=32, integer=True)

    def _fit(self, X: Images, y: Ints, rng: np.random.Generator) -> None:
        self._fit_weighted(X, y, np.ones(len(X)), rng)

    def _fit_weighted(self, X: Images, y: Ints, weights: Floats, rng: np.random.Generator) -> None:
        normals, outliers = np.flatnonzero(y == NORMAL), np.flatnonzero(y == ANOMALY)
        for rows, kind in ((normals, "normal images (0)"), (outliers, "outliers (1)")):
            if len(rows) == 0:
                raise InputError(f"y holds no {kind}: outlier exposure needs both kinds; add synthetic anomalies")
        both = shared_items(X[outliers], X[normals])
        if len(both):
            name = X.names[outliers[both[0]]]
            raise InputError(
                f"y: {len(both)} outliers are also among the normal images, {name} first; drop one of each"
            )
        # Read in order from a random place, outliers that are stored kind by kind would come kind by kind.
        outliers = rng.permutation(outliers)
        self.backbone_ = initial_weights(self.backbone, self.weights, rng)
        features = self._features(X)
        inside = features[normals]
        self.mean_ = inside.mean(axis=0)
        self.scale_ = np.where(np.ptp(inside, axis=0) > 0, inside.std(axis=0), np.float32(1))
        features = (features - self.mean_) / self.scale_
        classes, targets = 1, None
        if self.loss == "uniform_ce":
            classes = min(self.n_classes, len(normals))
            seed = int(rng.integers(2**31 - 1))
            targets = KMeans(classes, n_init=4, random_state=seed).fit_predict(features[normals])
        with seeded(rng):
            network = head(features.shape[1], self.hidden, classes)
        self.history_ = expose(
            network,
            features[normals],
            targets,
            features[outliers],
            rng,
            loss=self.loss,
            lam=self.lam,
            mode="scratch",
            weights=weights[normals],
            outlier_weights=weights[outliers],
            epochs=self.epochs,
            learning_rate=self.learning_rate,
        )
        self.head_ = arrays_of(network)

    def _features(self, X: Images) -> Any:
        """Return the pooled features, (n, D) float32."""
        network = build(self.backbone, self.backbone_)
        batches = in_batches(X, self.image_size, "extracting features")
        return np.concatenate([pooled(network, batch, self.levels, "both") for batch in batches])

    def _score(self, X: Images) -> Floats:
        features = (self._features(X) - self.mean_) / self.scale_
        last = self.head_["2.weight"]
        with torch.device("meta"):
            network = head(features.shape[1], last.shape[1], last.shape[0])
        return score(outputs(with_arrays(network, self.head_), features), self.loss).numpy()
