"""Auxiliary anomalies in feature space: noise on embeddings, and noise that climbs a discriminator.

In: a table of embeddings (n, d), one normal item a row, finite numbers. Out: `Auxiliary` rows in the same space, with
the mask of changed entries, the parent rows and the drawn parameters. Only `GlassFeatures` needs torch.

    FeatureNoise   x + σ 1.1^k N(0, I), k uniform in 0 … K - 1
    GlassFeatures  x + σ N(0, I), then 20 steps up the discriminator's loss, projected into a shell every 5th

For `FeatureNoise` strength multiplies σ. A feature extractor maps normal items into a small part of its space, so that
a step of random direction leaves it: that is the whole idea of SimpleNet, whose noise is drawn for every dimension of
every vector, not for a part of them. Its σ = .015 belongs to the scale of the published extractor; ``"auto"`` measures
the scale.

`GlassFeatures` is the global half of GLASS. Its discriminator learns to tell normal embeddings from noisy
ones; the noise then moves to where the discriminator errs most, towards normality, while the shell keeps it off the
normals: hard anomalies near the boundary. GLASS's lengths (.001 a step, shell .5 to 1) belong to its features, whose
noise is .015 √1536 = .588 long; they are given here in lengths of the noise, so that they fit any embedding.

Departures: a column that is constant in the normals stays constant, as in every generator for tables, since noise there
would give each anomaly away. GLASS trains its discriminator with the adaptor and with local anomalies too, and has one
centre for each place of the image; here it learns from the noise alone, and there is one centre.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.core.extras import require
from assay.core.progress import progress
from assay.core.validation import Floats, Ints, check_number, check_option
from assay.generators.tabular import Meta, _Tabular

#: Standard deviation of the noise as a multiple of the median standard deviation of a dimension.
AUTO_NOISE = 0.5
#: Ratio of the standard deviations of two neighbouring components of the mixture.
MIX_RATIO = 1.1


def check_noise(noise_std: Any, mix_noise: Any, *, strict: bool = False) -> None:
    """Refuse a standard deviation that is neither "auto" nor a number >= 0 (> 0: `strict`), and less than one part."""
    if isinstance(noise_std, str):
        check_option(noise_std, "noise_std", "auto")
    else:
        check_number(noise_std, "noise_std", low=0.0, high=1e6, strict_low=strict)
    check_number(mix_noise, "mix_noise", low=1, high=100, integer=True)


class FeatureNoise(_Tabular):
    """Gaussian noise on every dimension of an embedding.

    Strength multiplies the standard deviation.

    Parameters
    ----------
    noise_std : float or "auto", default "auto"
        Standard deviation σ, the same in every dimension; SimpleNet's is .015, for its own features. ``"auto"``: .5
        times the median standard deviation of a dimension over the normals (ours; see `assay.detectors.images.
        simplenet` for where the .5 comes from).
    mix_noise : int, default 1
        Components K of the mixture: each row takes σ · 1.1^k with k uniform in 0 … K - 1 (SimpleNet's code).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    noise_std_ : float
        σ.

    References
    ----------
    Z. Liu, Y. Zhou, Y. Xu, Z. Wang: SimpleNet: A Simple Network for Image Anomaly Detection and Localization. CVPR
    2023, arXiv 2303.15140.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> generator = FeatureNoise(0.1, random_state=0).fit(X)
    >>> auxiliary = generator.sample(1000)
    >>> float((auxiliary.X - X[auxiliary.parents]).std().round(2))
    0.1
    """

    def __init__(self, noise_std: float | str = "auto", mix_noise: int = 1, *, random_state: Any = None) -> None:
        self.noise_std = noise_std
        self.mix_noise = mix_noise
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_noise(self.noise_std, self.mix_noise, strict=True)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        median = float(np.median(self.spread_[self.spread_ > 0]))
        self.noise_std_ = AUTO_NOISE * median if isinstance(self.noise_std, str) else float(self.noise_std)

    def _sample(self, n: int, strength: float, rng: np.random.Generator) -> tuple[Floats, Ints, Meta]:
        parents = rng.integers(len(self.parents_), size=n)
        std = strength * self.noise_std_ * MIX_RATIO ** rng.integers(self.mix_noise, size=n)
        noise = rng.standard_normal((n, len(self.spread_))) * (self.spread_ > 0)
        return self._origin(parents) + std[:, None] * noise, parents, [{"std": value} for value in std.tolist()]


#: GLASS's lengths in lengths of its noise, .015 √1536.
STEP, SHELL = 0.001 / 0.588, (0.5 / 0.588, 1.0 / 0.588)
#: Steps between two projections, quantile of the normals' distances that is the radius, batch (GLASS; batch ours).
PROJECT_EVERY, RADIUS, BATCH = 5, 0.75, 256


class GlassFeatures(_Tabular):
    """Noise on an embedding that climbs the loss of a discriminator, within a shell (I6): GLASS's global part.

    Strength moves on the straight line through the normal row and the result.

    Parameters
    ----------
    noise_std : float > 0 or "auto", default "auto"
        Standard deviation σ of the noise; GLASS's is .015, for its own features. ``"auto"``: as in `FeatureNoise`.
    shell : {"manifold", "hypersphere"}, default "manifold"
        Keep the distance to the row itself in .85 to 1.70 lengths of the noise (σ √d), or the distance to the mean of
        the normals in r to 2 r, r the .75-quantile of their own distances (GLASS chooses by category).
    steps : int, default 20
        Steps of gradient ascent, each .0017 lengths of the noise; 0 leaves plain noise (GLASS).
    hidden : int, default 1024
        Width of the discriminator's hidden layer (GLASS).
    n_updates : int, default 200
        Batches of 256 rows it is trained on (ours).
    learning_rate : float, default 2e-4
        Of Adam (GLASS).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    unit_ : float
        Length of the noise, σ √d.
    radius_ : float
        r, in `unit_`.
    discriminator_ : dict of arrays
        Its weights; a large output means anomalous.

    References
    ----------
    Q. Chen, H. Luo, C. Lv, Z. Zhang: A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial
    Anomaly Detection and Localization. ECCV 2024, arXiv 2407.09359.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 8))
    >>> generator = GlassFeatures(hidden=32, n_updates=2, random_state=0).fit(X)
    >>> auxiliary = generator.sample(100)
    >>> moved = np.linalg.norm(auxiliary.X - X[auxiliary.parents], axis=1) / generator.unit_
    >>> bool(moved.min() > 0.84), bool(moved.max() < 1.71)
    (True, True)
    """

    def __init__(
        self,
        noise_std: float | str = "auto",
        shell: str = "manifold",
        *,
        steps: int = 20,
        hidden: int = 1024,
        n_updates: int = 200,
        learning_rate: float = 2e-4,
        random_state: Any = None,
    ) -> None:
        self.noise_std = noise_std
        self.shell = shell
        self.steps = steps
        self.hidden = hidden
        self.n_updates = n_updates
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_noise(self.noise_std, 1)
        if not isinstance(self.noise_std, str):
            check_number(self.noise_std, "noise_std", low=0.0, strict_low=True)
        check_option(self.shell, "shell", "manifold", "hypersphere")
        check_number(self.steps, "steps", low=0, high=10_000, integer=True)
        check_number(self.hidden, "hidden", low=1, high=2**16, integer=True)
        check_number(self.n_updates, "n_updates", low=1, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1.0, strict_low=True)
        require("torch", "deep", "GlassFeatures")

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        torch = require("torch", "deep", "GlassFeatures")
        from assay.nn.state import arrays_of, seeded

        varies = self.spread_ > 0
        std = AUTO_NOISE * np.median(self.spread_[varies]) if isinstance(self.noise_std, str) else self.noise_std
        self.unit_ = float(std * np.sqrt(varies.sum()))
        Z = self._in_units(X)
        self.radius_ = float(np.quantile(np.linalg.norm(Z, axis=1), RADIUS))
        with seeded(rng):
            network = _discriminator(X.shape[1], self.hidden)
            adam = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
            for _ in progress(range(self.n_updates), "GlassFeatures", self.n_updates):
                rows = rng.integers(len(Z), size=BATCH)
                clean = torch.from_numpy(Z[rows])
                network.eval()
                noisy = self._climbed(network, clean, torch.from_numpy(self._noisy(Z[rows], rng)))
                network.train()
                logits = network(torch.cat([clean, noisy]))[:, 0]
                truth = torch.arange(len(logits)) >= len(clean)
                # Each half is a mean of its own, as published: twice the mean over both.
                loss = 2 * torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.float())
                adam.zero_grad()
                loss.backward()
                adam.step()
        self.discriminator_ = arrays_of(network)

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        torch = require("torch", "deep", "GlassFeatures")
        from assay.nn.state import with_arrays

        with torch.device("meta"):
            network = _discriminator(len(self.spread_), self.hidden)
        network = with_arrays(network, self.discriminator_)
        origin = self.parents_[parents]
        clean = self._in_units(origin)
        climbed = self._climbed(network, torch.from_numpy(clean), torch.from_numpy(self._noisy(clean, rng)))
        # A constant column has moved by exactly nothing.
        step = climbed.numpy().astype(np.float64) - clean
        return origin + self.unit_ * step, [{"distance": far} for far in np.linalg.norm(step, axis=1).tolist()]

    def _in_units(self, X: Floats) -> Any:
        return ((X - self.center_) / self.unit_).astype(np.float32)

    def _noisy(self, Z: Any, rng: np.random.Generator) -> Any:
        varies = self.spread_ > 0
        return Z + (rng.standard_normal(Z.shape) * varies / np.sqrt(varies.sum())).astype(np.float32)

    def _climbed(self, network: Any, clean: Any, noisy: Any) -> Any:
        """Return noisy rows after the ascent. All lengths are in `unit_`."""
        torch = require("torch", "deep", "GlassFeatures")
        varies = torch.from_numpy(self.spread_ > 0)
        middle, low, high = clean, *SHELL
        if self.shell == "hypersphere":
            middle, low, high = torch.zeros_like(clean), self.radius_, 2 * self.radius_
        for step in range(1, self.steps + 1):
            noisy = noisy.detach().requires_grad_()
            # The loss of calling a row normal grows where the output falls: its gradient, at length one, is this.
            slope = -torch.autograd.grad(network(noisy).sum(), noisy)[0] * varies
            with torch.no_grad():
                noisy = noisy + STEP * slope / (slope.norm(dim=1, keepdim=True) + 1e-10)
                if step % PROJECT_EVERY == 0:
                    away = noisy - middle
                    far = away.norm(dim=1, keepdim=True)
                    noisy = middle + far.clamp(low, high) / (far + 1e-10) * away
        return noisy.detach()


def _discriminator(width: int, hidden: int) -> Any:
    nn = require("torch.nn", "deep", "GlassFeatures")
    return nn.Sequential(
        nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1, bias=False)
    )
