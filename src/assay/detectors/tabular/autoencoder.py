"""A plain autoencoder: what it cannot give back is unusual. The baseline of its kind, with a choice of latent space.

In: a table (n, d) of finite numbers in any units. Out: one score a row, >= 0, higher = more anomalous: the distance of
the row to its reconstruction in standardised columns (root of the mean square over columns, so 1 is one standard
deviation).

An encoder E and a decoder D, two hidden layers of 128 each, learn D(E(x)) = x on standardised rows: Adam, mean squared
error, a learning rate that falls to 0 along a cosine. The code lies in a latent space of `latent` dimensions:

- ``"euclidean"``: plain numbers. Data that close on themselves (a circle, a sphere, the momenta of a decay) do not fit
  into as many numbers as they have dimensions; somewhere normal rows get large errors, wherever the seed puts the tear.
- ``"sphere"`` (code divided by its norm, `latent` + 1 numbers), ``"torus"`` (circles, 2 · `latent` numbers),
  ``"atlas"`` (two charts; the number of the chart before the place in it): see `assay.nn.latent_spaces`.

The converse fails too: networks interpolate, and what lies on the continuation of the data is given back well although
nothing like it was ever seen. ``latent_weight`` adds how far a row's code lies from the codes of training:

    score = |x - D(E(x))| / s + latent_weight · r₅(E(x)) / r,

where r₅ is the distance to the fifth nearest training code, and s and r are both terms' means over the training rows, a
row not being its own neighbour.
With ``latent_weight=0`` the score is the first term, undivided.

Defaults are chosen here (sizes and 3 000 steps of 256 rows for data of few dimensions), not published; no paper is
followed. Scores are computed in double precision, so that a row's score does not depend on its batch. What
`assay.explain.topology` audits is this detector's `encode` and `decode`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.utils.validation import check_is_fitted
from torch import nn

from assay.base import Detector
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import Floats, InputError, Ints, as_matrix, check_number, check_option, told
from assay.kernels.neighbours import nearest
from assay.nn.latent_spaces import Atlas, Euclidean, Sphere, Torus
from assay.nn.state import arrays_of, seeded, with_arrays

SPACES = {"euclidean": Euclidean, "sphere": Sphere, "torus": Torus}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
#: Neighbour in the latent space whose distance counts.
NEIGHBOUR = 5
#: Standardised values beyond this reach the network as this; the error counts them whole.
FAR = 1e6


def perceptron(widths: Sequence[int], activation: str) -> nn.Sequential:
    """Return linear layers of these widths with an activation between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


class Autoencoder(Detector):
    """Distance of a row to its reconstruction through a narrow code.

    Parameters
    ----------
    latent : int, default 2
        Dimensions of the latent space.
    space : {"euclidean", "sphere", "torus", "atlas"}, default "euclidean"
        Its kind.
    hidden : sequence of int, default (128, 128)
        Widths of the encoder's hidden layers; the decoder has them in the other order.
    activation : {"relu", "tanh"}, default "relu"
        Between layers.
    latent_weight : float, default 0
        Weight of the distance to the codes of training in the score.
    steps : int, default 3000
        Steps of training; 0 leaves the networks untrained.
    batch_size : int, default 256
        Rows a step.
    learning_rate : float, default 1e-3
        Of Adam at the beginning.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    mean_, scale_ : arrays of shape (d,)
        What standardises the columns.
    encoder_, decoder_ : dict of arrays
        Weights.
    centers_ : array of shape (2, d), or None
        Of the charts of an atlas, in standardised columns.
    codes_ : array of shape (n, w), or None
        Codes of the training rows, where `latent_weight` > 0.
    error_, distance_ : float
        s and r; 1 where `latent_weight` is 0.

    References
    ----------
    Sakurada and Yairi: Anomaly Detection Using Autoencoders with Nonlinear Dimensionality Reduction. MLSDA 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.detectors.tabular.autoencoder import Autoencoder
    >>> t = np.random.default_rng(0).uniform(-1, 1, size=200)
    >>> X = np.stack([t, t**2], axis=1)
    >>> model = Autoencoder(latent=1, hidden=(16,), steps=200, learning_rate=0.01, random_state=0).fit(X)
    >>> on, off = model.anomaly_score([[0.5, 0.25], [0.0, 1.0]])
    >>> bool(off > on), model.encode(X).shape, model.decode(model.encode(X)).shape
    (True, (200, 1), (200, 2))
    """

    def __init__(
        self,
        latent: int = 2,
        space: str = "euclidean",
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        latent_weight: float = 0.0,
        steps: int = 3000,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        random_state: Any = None,
    ) -> None:
        self.latent = latent
        self.space = space
        self.hidden = hidden
        self.activation = activation
        self.latent_weight = latent_weight
        self.steps = steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.latent, "latent", low=1, high=10_000, integer=True)
        check_option(self.space, "space", *SPACES, "atlas")
        if not isinstance(self.hidden, (list, tuple)):
            raise InputError(f"hidden={told(self.hidden)}: give the widths of the hidden layers, e.g. (128, 128)")
        for width in self.hidden:
            check_number(width, "hidden", low=1, high=100_000, integer=True)
        check_option(self.activation, "activation", *ACTIVATIONS)
        check_number(self.latent_weight, "latent_weight", low=0.0, high=1e6)
        check_number(self.steps, "steps", low=0, integer=True)
        check_number(self.batch_size, "batch_size", low=1, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=10.0, strict_low=True)

    def encode(self, X: Any) -> Floats:
        """Return the codes of rows (n, d), of shape (n, w): w = latent, or as many as the space needs."""
        check_is_fitted(self)
        return self._encode(self._standardised(self._check_table(X, reset=False)))

    def decode(self, Z: Any) -> Floats:
        """Return the rows (n, d), in the units of the table, that codes (n, w) stand for."""
        check_is_fitted(self)
        Z = as_matrix(Z, "Z")
        width = self._space().width
        if Z.shape[1] != width:
            raise InputError(f"Z has {Z.shape[1]} columns, the codes of this autoencoder have {width}")
        return self._decode(Z) * self.scale_ + self.mean_

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        varies, spread = np.ptp(X, axis=0) > 0, X.std(axis=0)
        self.mean_, self.scale_ = X.mean(axis=0), np.where(varies & (spread > 0), spread, 1.0)
        rows = self._standardised(X)
        self.centers_ = _two_centers(rows, child_seeds(rng, 1)[0]) if self.space == "atlas" else None
        with seeded(rng):
            self._train(rows.astype(np.float32), rng)
        self.codes_, self.error_, self.distance_ = None, 1.0, 1.0
        if self.latent_weight:
            self.codes_ = self._encode(rows)
            self.error_ = float(self._errors(rows, self.codes_).mean()) or 1.0
            k = min(NEIGHBOUR, len(rows) - 1)
            self.distance_ = float(nearest(self.codes_, self.codes_, k, skip_self=True)[0][:, -1].mean()) or 1.0

    def _train(self, rows: Any, rng: np.random.Generator) -> None:
        space = self._space()
        encoder, decoder = self._networks(rows.shape[1])
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=self.learning_rate)
        table = torch.from_numpy(rows)
        size = min(self.batch_size, len(rows))
        for step in progress(range(self.steps), "training the autoencoder", total=self.steps):
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * (1 + np.cos(np.pi * step / self.steps)) / 2
            x = table[torch.from_numpy(rng.integers(len(rows), size=size))]
            raw = encoder(x)
            code = space.project(raw, x, training=True) if isinstance(space, Atlas) else space.project(raw, x)
            optimiser.zero_grad()
            (decoder(code) - x).square().mean().backward()
            optimiser.step()
        self.encoder_, self.decoder_ = arrays_of(encoder), arrays_of(decoder)

    def _score(self, X: Floats) -> Floats:
        scores = []
        for rows in np.array_split(X, range(4096, len(X), 4096)):  # memory bounded by the batch
            x = self._standardised(rows)
            codes = self._encode(x)
            score = self._errors(x, codes)
            if self.codes_ is not None:
                k = min(NEIGHBOUR, len(self.codes_))
                score = score / self.error_
                score += self.latent_weight * nearest(codes, self.codes_, k)[0][:, -1] / self.distance_
            scores.append(score)
        return np.concatenate(scores)

    def _errors(self, x: Floats, codes: Floats) -> Floats:
        return np.sqrt(np.square(x - self._decode(codes)).mean(axis=1))

    def _encode(self, x: Floats) -> Floats:
        encoder, _ = self._fitted()
        with torch.inference_mode():
            inputs = torch.from_numpy(np.clip(x, -FAR, FAR))
            return self._space().project(encoder(inputs), inputs).numpy()

    def _decode(self, codes: Floats) -> Floats:
        _, decoder = self._fitted()
        with torch.inference_mode():
            return decoder(torch.from_numpy(np.ascontiguousarray(codes, dtype=np.float64))).numpy()

    def _standardised(self, X: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.clip((X - self.mean_) / self.scale_, -1e100, 1e100)

    def _space(self) -> Any:
        return Atlas(self.latent, self.centers_) if self.space == "atlas" else SPACES[self.space](self.latent)

    def _networks(self, d: int) -> tuple[nn.Sequential, nn.Sequential]:
        space = self._space()
        encoder = perceptron([d, *self.hidden, space.raw_width], self.activation)
        return encoder, perceptron([space.width, *reversed(self.hidden), d], self.activation)

    def _fitted(self) -> tuple[nn.Module, nn.Module]:
        """Return both networks in double precision."""
        with torch.device("meta"):
            encoder, decoder = self._networks(len(self.mean_))
        double = [{name: array.astype(np.float64) for name, array in kept.items()} for kept in self._kept()]
        return with_arrays(encoder, double[0]), with_arrays(decoder, double[1])

    def _kept(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.encoder_, self.decoder_


def _two_centers(rows: Floats, seed: int) -> Floats:
    """Return the centres of two clusters; of rows that are all equal, the row twice."""
    if not np.ptp(rows, axis=0).any():
        return rows[[0, 0]]
    return KMeans(2, n_init=3, random_state=seed).fit(rows).cluster_centers_
