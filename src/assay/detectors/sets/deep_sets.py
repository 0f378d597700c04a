"""Deep Sets: one score for a whole set, from labelled sets or from normal ones alone.

In: sets of members with d numbers each, see `assay.core.sets`. Out: one score a set; higher = more anomalous.

Whatever depends on a set but not on the order of its members is ρ(Σ φ(x)) for some φ and ρ: both are small networks
here (`assay.nn.sets`), so that the score sees how members go together: proportions, correlations, counts. Two systems:

    SetClassifier    log odds ρ(pool φ(x)), trained on sets of both kinds by logistic loss, either kind weighing half;
    OneClassSets     ‖ρ(pool φ(x)) - c‖², trained to be small on normal sets; then measured in units of their spread.

The anomalous sets of the first may be auxiliary ones, `assay.generators.sets`. In the second c is the mean output of
the untrained network, coordinates nearer to 0 than .1 moved to ±.1, then fixed; no layer has a bias and no activation
is bounded, or the network could answer c whatever it is given. Training makes all directions of the output small that
normal sets vary in, above all the large ones; what is left is told apart by one more linear layer W after ρ, which
makes the training outputs' covariance the identity (Ledoit and Wolf's estimate) and m their mean:

    score(X) = ‖W (ρ(pool φ(x)) - m)‖² / width.      ``whiten=False``: ‖ρ(pool φ(x)) - c‖² / its mean in training.

Defaults of the published code for population statistics: φ 50-100-50, ρ 30-30-30-10, ELU, sum, Adam 1e-3. For point
clouds that code has three equivariant layers of width 256 with tanh in the place of φ, a max, dropout .5 around one
dense layer of 256, gradient norm at most 5 (here always): ``layers="equivariant", phi=(256, 256, 256), rho=(256,),
pooling="max", activation="tanh"``; a ``dropout`` of ours also acts, set-wise, in φ.

Departures: its learning-rate plateaus, its phase of L1 loss and the weights that validate best are left out; the one-
class score is ours, in the manner of Deep SVDD; its pool is the mean, for a sum would measure above all how large a set
is; ReLU and few epochs. Whitening was chosen on simulated bags (`proportion_bags`, on which it is also measured), where
without it the score first finds and then forgets what is odd as training goes on. Members are standardised by all
training members, not cloud by cloud, and cut off at 10 standard deviations.

Not reproduced: ModelNet40; `proofs/deep_sets.py` has chairs and monitors of ModelNet10.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch.nn import functional as F

from assay.base import Detector, TakesSets
from assay.core.sets import Sets, member_moments
from assay.core.validation import ANOMALY, NORMAL, Floats, InputError, Ints, check_number, check_option
from assay.nn.sets import (
    LAYERS,
    POOLINGS,
    SetEncoder,
    blocks,
    check_training,
    check_widths,
    descend,
    standardised,
    tensors,
)
from assay.nn.state import arrays_of, seeded, with_arrays

#: Least distance of the centre's coordinates from 0, where zero weights would lead (Deep SVDD).
GUARD = 0.1
#: Share of the outputs' own size below which training sets count as alike.
UNMOVED = 1e-7


class _OnSets(TakesSets, Detector):
    """A detector with one network on sets; a system says what the network's output is and what it learns."""

    network_: Any
    centre_: Floats
    scale_: Floats

    def _shape(self) -> SetEncoder:
        raise NotImplementedError

    def _standard(self, X: Sets) -> Sets:
        return standardised(X, self.centre_, self.scale_)

    def _outputs(self, X: Sets) -> Floats:
        """Return the network's outputs, (n, k); `X` is standardised."""
        with torch.device("meta"):
            network = self._shape()
        return _outputs(with_arrays(network, self.network_), X)

    def _check_parameters(self) -> None:
        check_widths(self.phi, "phi", at_least=1)  # type: ignore[attr-defined]
        check_widths(self.rho, "rho")  # type: ignore[attr-defined]
        check_option(self.pooling, "pooling", *POOLINGS)  # type: ignore[attr-defined]
        check_training(self)


def _outputs(network: torch.nn.Module, X: Sets) -> Floats:
    # In double precision: what else is in a block, and the order of the members, must not show once it is whitened.
    network, found = copy.deepcopy(network).double(), [None] * len(X)
    for rows in blocks(X.sizes):
        members, mask = tensors(X[rows], torch.float64)
        with torch.inference_mode():
            lines = network(members, mask).numpy()
        for row, line in zip(rows, lines):
            found[row] = line
    return np.array(found)


class SetClassifier(_OnSets):
    """ρ(pool φ(x)) trained to tell normal from anomalous sets.

    Parameters
    ----------
    phi : tuple of int, default (50, 100, 50)
        Widths of φ.
    rho : tuple of int, default (30, 30, 30, 10)
        Hidden widths of ρ.
    layers : {"dense", "equivariant"}, default "dense"
        φ's layers: of single members, or equivariant with the max.
    pooling : {"sum", "mean", "max", "concat"}, default "sum"
        Over the members; ``"concat"`` is sum, max and the logarithm of the size.
    activation : {"elu", "tanh", "relu"}, default "elu"
        Everywhere.
    dropout : float, default 0
        Set-wise in φ, plain in ρ.
    epochs : int, default 100
        Passes over the sets (ours); 0 leaves the network untrained.
    batch_size : int, default 128
        Sets a step.
    learning_rate : float, default 1e-3
        Of Adam.
    weight_decay : float, default 0
        Of Adam.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    centre_, scale_ : array of shape (d,)
        Mean and standard deviation of the training members.
    network_ : dict of arrays
        Weights.

    References
    ----------
    M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Póczos, R. Salakhutdinov, A. Smola: Deep Sets. NeurIPS 2017,
    arXiv 1703.06114.

    Examples
    --------
    >>> sets = np.random.default_rng(0).normal(size=(100, 20, 2))
    >>> sets[50:, :, 1] = sets[50:, :, 0]  # either column as before, together not
    >>> classifier = SetClassifier(epochs=30, batch_size=20, random_state=0).fit(sets[::2], np.repeat([0, 1], 25))
    >>> scores = classifier.anomaly_score(sets[1::2])
    >>> bool(np.median(scores[25:]) > np.median(scores[:25]))
    True
    """

    labels: ClassVar[str] = "required"

    def __init__(
        self,
        phi: tuple[int, ...] = (50, 100, 50),
        rho: tuple[int, ...] = (30, 30, 30, 10),
        layers: str = "dense",
        pooling: str = "sum",
        activation: str = "elu",
        dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        random_state: Any = None,
    ) -> None:
        self.phi = phi
        self.rho = rho
        self.layers = layers
        self.pooling = pooling
        self.activation = activation
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_option(self.layers, "layers", *LAYERS)
        check_number(self.dropout, "dropout", low=0.0, high=1.0, strict_high=True)

    def _shape(self) -> SetEncoder:
        options = {"layers": self.layers, "activation": self.activation}
        return SetEncoder(self.n_features_in_, 1, self.phi, self.rho, self.pooling, 0, self.dropout, **options)

    def _fit(self, X: Sets, y: Ints | None, rng: np.random.Generator) -> None:
        assert y is not None  # labels are required
        X, y = (X, y) if (y >= 0).all() else (X[y >= 0], y[y >= 0])
        normals, anomalies = int((y == NORMAL).sum()), int((y == ANOMALY).sum())
        if not normals or not anomalies:
            raise InputError(f"y holds {normals} normal sets (0) and {anomalies} anomalies (1): both are needed")
        self.centre_, self.scale_ = member_moments(X)
        X = self._standard(X)
        target = torch.from_numpy(y.astype(np.float32))
        weight = torch.where(target > 0, len(y) / (2 * anomalies), len(y) / (2 * normals))

        def loss_of(rows: Ints) -> torch.Tensor:
            logits = network(*tensors(X[rows]))[:, 0]
            return F.binary_cross_entropy_with_logits(logits, target[rows], weight[rows])

        with seeded(rng):
            network = self._shape()
            descend(
                network,
                len(X),
                loss_of,
                rng,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                name="SetClassifier",
            )
        self.network_ = arrays_of(network)

    def _score(self, X: Sets) -> Floats:
        return self._outputs(self._standard(X))[:, 0]


class OneClassSets(_OnSets):
    """Squared distance of ρ(pool φ(x)) to a fixed centre that normal sets are pulled to.

    Parameters
    ----------
    phi : tuple of int, default (50, 100, 50)
        Widths of φ.
    rho : tuple of int, default (30,)
        Hidden widths of ρ (ours: fewer, for little must be unlearned).
    width : int, default 32
        Of the output (ours).
    pooling : {"sum", "mean", "max", "concat"}, default "mean"
        Over the members (ours).
    activation : {"elu", "relu"}, default "relu"
        Everywhere (ours); a bounded one could answer the same to all.
    whiten : bool, default True
        Measure distances in units of the training sets' covariance (ours).
    epochs : int, default 20
        Passes over the sets (ours); 0 leaves the network untrained.
    batch_size : int, default 64
        Sets a step (ours).
    learning_rate : float, default 1e-3
        Of Adam.
    weight_decay : float, default 1e-6
        Of Adam (Deep SVDD).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    centre_, scale_ : array of shape (d,)
        Mean and standard deviation of the training members.
    network_ : dict of arrays
        Weights.
    target_ : array of shape (width,)
        What distances are measured from: m, or c without whitening.
    whitening_ : array of shape (width, width)
        W / √width, or the identity by the root of the training sets' mean squared distance.

    References
    ----------
    M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Póczos, R. Salakhutdinov, A. Smola: Deep Sets. NeurIPS 2017,
    arXiv 1703.06114. L. Ruff et al.: Deep One-Class Classification. ICML 2018.

    Examples
    --------
    >>> sets = np.random.default_rng(0).normal(size=(100, 40, 2))
    >>> odd = sets[:20].copy()
    >>> odd[:, :, 1] = odd[:, :, 0]  # either column as before, together not
    >>> detector = OneClassSets(epochs=10, random_state=0).fit(sets[20:])
    >>> bool(np.median(detector.anomaly_score(odd)) > np.median(detector.anomaly_score(sets[:20])))
    True
    """

    def __init__(
        self,
        phi: tuple[int, ...] = (50, 100, 50),
        rho: tuple[int, ...] = (30,),
        width: int = 32,
        pooling: str = "mean",
        activation: str = "relu",
        whiten: bool = True,
        epochs: int = 20,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.phi = phi
        self.rho = rho
        self.width = width
        self.pooling = pooling
        self.activation = activation
        self.whiten = whiten
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.width, "width", low=1, high=100_000, integer=True)
        check_option(self.activation, "activation", "elu", "relu")

    def _shape(self) -> SetEncoder:
        return SetEncoder(
            self.n_features_in_,
            self.width,
            self.phi,
            self.rho,
            self.pooling,
            bias=False,
            activation=self.activation,
        )

    def _fit(self, X: Sets, y: Ints | None, rng: np.random.Generator) -> None:
        self.centre_, self.scale_ = member_moments(X)
        X = self._standard(X)
        with seeded(rng):
            network = self._shape()
            centre = guarded(_outputs(network.eval(), X).mean(axis=0))
            c = torch.from_numpy(centre.astype(np.float32))

            def loss_of(rows: Ints) -> torch.Tensor:
                return (network(*tensors(X[rows])) - c).square().sum(dim=1).mean()

            descend(
                network,
                len(X),
                loss_of,
                rng,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                name="OneClassSets",
            )
        self.network_ = arrays_of(network)
        outputs = self._outputs(X)
        self.target_ = outputs.mean(axis=0) if self.whiten else centre
        least = UNMOVED * float(np.sqrt(np.square(self.target_).mean()))
        self.whitening_ = whitening(outputs - self.target_, self.whiten, least)

    def _score(self, X: Sets) -> Floats:
        return np.square((self._outputs(self._standard(X)) - self.target_) @ self.whitening_).sum(axis=1)


def guarded(centre: Floats) -> Floats:
    """Return a centre whose coordinates are all at least `GUARD` away from 0."""
    return np.where(np.abs(centre) < GUARD, np.where(centre < 0, -GUARD, GUARD), centre)


def whitening(outputs: Floats, full: bool, least: float = 0.0) -> Floats:
    """Return what rows are multiplied with, so that their squared norm is about 1 on average.

    ``full``: in every direction alike, as far as Ledoit and Wolf's shrinkage leaves it. Outputs that vary by less than
    `least` are not stretched any further.
    """
    unit = max(float(np.sqrt(np.square(outputs).mean())), least, 1e-12)
    k = outputs.shape[1]
    if not full:
        return np.eye(k) / (unit * np.sqrt(k))
    covariance, _ = ledoit_wolf(outputs / unit, assume_centered=True)
    # A direction that no training set moves in at all is not stretched without end.
    root = np.linalg.cholesky(covariance + 1e-6 * np.eye(k))
    return np.linalg.inv(root).T / (unit * np.sqrt(k))
