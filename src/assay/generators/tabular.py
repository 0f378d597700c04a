"""Auxiliary anomalies for tables: twelve published laws behind one knob.

In: normal rows (n, d), finite numbers of any scale; `Smote` also takes real anomalies (m, d). Out:
`Auxiliary` rows in the same columns and units, never clipped, with the mask of changed entries, the parent
rows and the drawn parameters.

Strength 0 is the parent, strength 1 the published law exactly, and in between and beyond the row moves on the
straight line ``parent + strength * (target - parent)``; `SubspaceNoise` scales its noise and `FeatureSwap`
its share of features instead. Below 1 a far target first pulls the row towards the middle of the data: rows
get stranger with strength, but strength .25 may be *less* strange than a normal row.

The laws, with Δ the range, sd the standard deviation and z the standardised columns:

    T1  UniformBox     U(min − δΔ, max + δΔ) per feature, δ = .05
        Permutation    every feature from a random normal row of its own
    T2  Global         U(centre ± 1.1 Δ/2) per feature
    T3  Local          Gaussian mixture, covariances × 5
    T4  Cluster        Gaussian mixture, means moved by 5 sd in a random direction
    T5  Dependency     every feature from the kernel density of its marginal: a value + N(0, (sd n^(−1/5))²)
    T6  SubspaceNoise  x + M ⊙ ε N(0, I), M ~ Bernoulli(.3) and not all zero, ε = .1 on the min–max scale
    T7  FeatureSwap    a share .6 of the features, each from a random normal row
    T8  Mixup          λ x_a + (1 − λ) x_b, λ ~ U(.3, .7), a and b of different clusters
        Smote          x_a + u (x_b − x_a), u ~ U(0, 1), b one of the 5 nearest real anomalies of a
    T10 Boundary       the least likely of 10 000 draws of N(mean, covariance + 1e-4 I) of z
    T11 ForeignRows    a row of another data set with the mean and sd of the normals

Mixtures have the number of components (1 to 9, full covariance) with the lowest BIC, are fitted on z, and on
at most `max_rows` random rows. Departures from the sources:

- T2, T4: ADBench multiplies bounds by 1.1, which moves a positive minimum inwards, and means by 5, which
  moves nothing where a mean is zero; `adbench_compat=True` restores both.
- T3, T4: a component has on average more rows than there are columns, else BIC prefers components that sit on
  single rows; and the search for the lowest BIC ends after three numbers of components without a lower one.
- T5: ADBench's copula models only replace its normals; the marginals are estimated here.
- T1: the permutation draws a row per feature instead of permuting a batch: one row can be drawn alone.
- T6: LUNAR's mixture with uniform rows is not repeated: join the rows of `UniformBox`.
- T8: neither mixes labels nor draws Beta weights: every row is an anomaly.
- T10: the radius of the least likely row is drawn by its law instead of drawing 10 000 rows.

A column that is constant in the normals stays constant, except in `Smote` and under `adbench_compat`.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammainccinv, logsumexp
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from assay.base import Generator
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import Floats, InputError, Ints, check_number
from assay.generators.benchmark_mix import foreign_rows, foreign_sets

Meta = list[dict[str, Any]]


class _Tabular(Generator):
    """What all share: normals that do not vary are refused; mean and deviation of each column are kept.

    A constant column has its value as the mean and the deviation 0, both exactly, so that nothing moves it.
    """

    def _fit(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        varies = (np.ptp(X, axis=0) > 0) & (X.std(axis=0) > 0)  # the squares of tiny numbers vanish
        if not varies.any():
            raise InputError("X_normal: all rows are equal, so there is nothing to vary; give normal rows that differ")
        self.center_ = np.where(varies, X.mean(axis=0), X[0])
        self.spread_ = np.where(varies, X.std(axis=0), 0.0)
        self._learn(X, X_anomalous, rng)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        """Learn what the law needs beyond mean and deviation."""

    def _standardised(self, X: Floats) -> Floats:
        return (X - self.center_) / np.where(self.spread_ > 0, self.spread_, 1.0)


class UniformBox(_Tabular):
    """Uniform in the inflated bounding box of the normals (T1).

    In many dimensions nearly every row is trivially far; in few, some fall among the normals.

    Parameters
    ----------
    delta : float, default .05
        Share of its range by which each side is moved out (Sipple 2020).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    low_, high_ : arrays of shape (d,)
        The box.

    References
    ----------
    J. Sipple: Interpretable, Multidimensional, Multimodal Anomaly Detection with Negative
    Sampling. ICML 2020.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> auxiliary = UniformBox(random_state=0).fit(X).sample(20)
    >>> auxiliary.X.shape, bool(auxiliary.mask.all())
    ((20, 3), True)
    """

    def __init__(self, delta: float = 0.05, *, random_state: Any = None) -> None:
        self.delta = delta
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.delta, "delta", low=0.0, high=1e6)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        margin = self.delta * np.ptp(X, axis=0)
        self.low_, self.high_ = X.min(axis=0) - margin, X.max(axis=0) + margin

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        return rng.uniform(self.low_, self.high_, (len(parents), len(self.low_))), [{} for _ in parents]


class Permutation(_Tabular):
    """Every feature from a random normal row of its own: marginals kept, dependence lost (T1).

    Where the features are independent, or there is only one, the rows are normal rows.

    Parameters
    ----------
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    J. Sipple: Interpretable, Multidimensional, Multimodal Anomaly Detection with Negative
    Sampling. ICML 2020.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> auxiliary = Permutation(random_state=0).fit(X).sample(20)
    >>> bool(np.isin(auxiliary.X[:, 0], X[:, 0]).all())
    True
    """

    def __init__(self, *, random_state: Any = None) -> None:
        self.random_state = random_state

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        n, d = self.parents_.shape
        donors = rng.integers(n, size=(len(parents), d))
        return self.parents_[donors, np.arange(d)], [{"donors": row} for row in donors.tolist()]


class Dependency(_Tabular):
    """Every feature on its own from a Gaussian kernel density of its marginal (T5).

    A random normal value plus Gaussian noise of Scott's bandwidth, ``sd * n ** (-1 / 5)``. Like
    `Permutation`, but smooth: on columns of whole numbers the rows can be told by their fractions.

    Parameters
    ----------
    bandwidth : float, default 1
        Multiple of Scott's bandwidth (1 as published).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    bandwidths_ : array of shape (d,)
        Standard deviation of the noise in each column.

    References
    ----------
    S. Han et al.: ADBench: Anomaly Detection Benchmark. NeurIPS 2022, arXiv 2206.09426.

    Examples
    --------
    >>> X = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 500)
    >>> auxiliary = Dependency(random_state=0).fit(X).sample(500)
    >>> bool(abs(np.corrcoef(auxiliary.X.T)[0, 1]) < 0.1)
    True
    """

    def __init__(self, bandwidth: float = 1.0, *, random_state: Any = None) -> None:
        self.bandwidth = bandwidth
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.bandwidth, "bandwidth", low=0.0, high=1e6)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        # Scott's rule takes the unbiased standard deviation.
        n = len(X)
        self.bandwidths_ = self.bandwidth * self.spread_ * np.sqrt(n / (n - 1)) * n**-0.2

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        n, d = self.parents_.shape
        donors = rng.integers(n, size=(len(parents), d))
        noise = self.bandwidths_ * rng.standard_normal(donors.shape)
        return self.parents_[donors, np.arange(d)] + noise, [{"donors": row} for row in donors.tolist()]


class _Mixture(_Tabular):
    """Fits the Gaussian mixture of T2, T3 and T4 on the standardised normals."""

    max_rows: int
    reg_covar: float

    def _check_parameters(self) -> None:
        check_number(self.alpha, "alpha", low=0.0, high=1e6, strict_low=True)
        check_number(self.max_rows, "max_rows", low=2, integer=True)
        check_number(self.reg_covar, "reg_covar", low=1e-12, high=1.0)

    def _fit_mixture(self, X: Floats, rng: np.random.Generator) -> None:
        Z = self._standardised(X)
        if len(Z) > self.max_rows:
            Z = Z[rng.choice(len(Z), self.max_rows, replace=False)]
        most = int(np.clip(len(np.unique(Z, axis=0)) // (Z.shape[1] + 1), 1, 9))
        found: list[tuple[float, GaussianMixture]] = []
        for k, seed in enumerate(progress(child_seeds(rng, 9)[:most], "mixtures", most), start=1):
            mixture = GaussianMixture(k, covariance_type="full", reg_covar=self.reg_covar, random_state=seed)
            # One thread: such small products only lose time to more, several times over on a busy machine.
            with warnings.catch_warnings(), threadpool_limits(1):
                warnings.simplefilter("ignore", ConvergenceWarning)
                found.append((float(mixture.fit(Z).bic(Z)), mixture))
            if k > 3 and min(bic for bic, _ in found[-3:]) > min(bic for bic, _ in found[:-3]):
                break
        best = min(found, key=lambda one: one[0])[1]
        self.weights_, self.means_, self.covariances_ = best.weights_, best.means_, best.covariances_

    def _components(self, parents: Ints, rng: np.random.Generator) -> Ints:
        """Draw the component of each parent by its posterior: over all rows, the mixture's weights."""
        Z = self._standardised(self.parents_[parents])
        log_joint = np.empty((len(Z), len(self.weights_)))
        for k, covariance in enumerate(self.covariances_):
            root = np.linalg.cholesky(covariance)
            white = solve_triangular(root, (Z - self.means_[k]).T, lower=True)
            log_joint[:, k] = np.log(self.weights_[k]) - np.log(np.diag(root)).sum() - 0.5 * (white**2).sum(axis=0)
        posterior = np.exp(log_joint - logsumexp(log_joint, axis=1, keepdims=True))
        above = rng.random((len(Z), 1)) > posterior.cumsum(axis=1)
        return np.minimum(above.sum(axis=1), len(self.weights_) - 1)

    def _draws(self, components: Ints, inflation: float, rng: np.random.Generator) -> Floats:
        """Draw a row of each component with `inflation` times its covariance; in the units of the columns."""
        noise = rng.standard_normal((len(components), len(self.spread_)))
        for k, covariance in enumerate(self.covariances_):
            of_k = components == k
            noise[of_k] = noise[of_k] @ np.linalg.cholesky(inflation * covariance).T
        return self.center_ + self.spread_ * (self.means_[components] + noise)


class Global(_Mixture):
    """Uniform beyond the range of each feature (T2).

    Parameters
    ----------
    alpha : float, default 1.1
        Factor on the half-range around the centre of each feature (ADBench).
    adbench_compat : bool, default False
        As published instead: bounds ``alpha * min`` and ``alpha * max`` of as many draws of a Gaussian
        mixture as there are normals. A positive minimum then moves inwards.
    max_rows : int, default 5000
        Most rows the mixture is fitted on (ours).
    reg_covar : float, default 1e-6
        Added to the variances of the mixture (scikit-learn).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    low_, high_ : arrays of shape (d,)
        The bounds.

    References
    ----------
    S. Han et al.: ADBench: Anomaly Detection Benchmark. NeurIPS 2022, arXiv 2206.09426.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(9, 11, size=(1000, 2))
    >>> Global(random_state=0).fit(X).low_.round(1)
    array([8.9, 8.9])
    """

    def __init__(
        self,
        alpha: float = 1.1,
        *,
        adbench_compat: bool = False,
        max_rows: int = 5000,
        reg_covar: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.adbench_compat = adbench_compat
        self.max_rows = max_rows
        self.reg_covar = reg_covar
        self.random_state = random_state

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        low, high = X.min(axis=0), X.max(axis=0)
        if self.adbench_compat:
            self._fit_mixture(X, rng)
            draws = self._draws(rng.choice(len(self.weights_), size=len(X), p=self.weights_), 1.0, rng)
            bounds = self.alpha * draws.min(axis=0), self.alpha * draws.max(axis=0)
        else:
            # A constant column has no range to leave, and low + 0 is exactly its value.
            margin = (self.alpha - 1.0) * (high / 2 - low / 2)
            bounds = low - margin, high + margin
        self.low_, self.high_ = np.minimum(*bounds), np.maximum(*bounds)

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        return rng.uniform(self.low_, self.high_, (len(parents), len(self.low_))), [{} for _ in parents]


class Local(_Mixture):
    """Gaussian mixture with inflated covariances (T3).

    The target comes from the component its parent belongs to (drawn by the posterior, so that over all
    parents the components have the weights of the mixture).

    Parameters
    ----------
    alpha : float, default 5
        Factor on the covariances (ADBench).
    max_rows : int, default 5000
        Most rows the mixture is fitted on (ours).
    reg_covar : float, default 1e-6
        Added to the variances of the mixture (scikit-learn).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    weights_, means_, covariances_ : arrays of shapes (k,), (k, d), (k, d, d)
        The mixture, in standardised columns.

    References
    ----------
    S. Han et al.: ADBench: Anomaly Detection Benchmark. NeurIPS 2022, arXiv 2206.09426.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> auxiliary = Local(random_state=0).fit(X).sample(300)
    >>> bool(auxiliary.X.std() > 2)
    True
    """

    def __init__(
        self, alpha: float = 5.0, *, max_rows: int = 5000, reg_covar: float = 1e-6, random_state: Any = None
    ) -> None:
        self.alpha = alpha
        self.max_rows = max_rows
        self.reg_covar = reg_covar
        self.random_state = random_state

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        self._fit_mixture(X, rng)

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        components = self._components(parents, rng)
        return self._draws(components, self.alpha, rng), [{"component": k} for k in components.tolist()]


class Cluster(_Mixture):
    """Gaussian mixture with displaced means (T4): anomalies in clusters of their own.

    Parameters
    ----------
    alpha : float, default 5
        Displacement in standard deviations of the columns: each mean moves by ``alpha * sd * u``, with u a
        random direction of length 1, one a component, drawn at fit. With `adbench_compat` the factor on the
        means (ADBench).
    adbench_compat : bool, default False
        As published instead: means times `alpha`. Where a mean is zero nothing moves; far from the origin all
        is trivial.
    max_rows : int, default 5000
        Most rows the mixture is fitted on (ours).
    reg_covar : float, default 1e-6
        Added to the variances of the mixture (scikit-learn).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    weights_, means_, covariances_ : arrays of shapes (k,), (k, d), (k, d, d)
        The mixture, in standardised columns.
    shifts_ : array of shape (k, d)
        Displacement of each component, in the units of the columns.

    References
    ----------
    S. Han et al.: ADBench: Anomaly Detection Benchmark. NeurIPS 2022, arXiv 2206.09426.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> auxiliary = Cluster(random_state=0).fit(X).sample(300)
    >>> bool(np.linalg.norm(auxiliary.X.mean(axis=0)) > 4)
    True
    """

    def __init__(
        self,
        alpha: float = 5.0,
        *,
        adbench_compat: bool = False,
        max_rows: int = 5000,
        reg_covar: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.adbench_compat = adbench_compat
        self.max_rows = max_rows
        self.reg_covar = reg_covar
        self.random_state = random_state

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        self._fit_mixture(X, rng)
        if self.adbench_compat:
            self.shifts_ = (self.alpha - 1.0) * (self.center_ + self.spread_ * self.means_)
        else:
            # Only the columns that vary can carry the displacement.
            directions = rng.standard_normal(self.means_.shape) * (self.spread_ > 0)
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            self.shifts_ = self.alpha * self.spread_ * directions

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        components = self._components(parents, rng)
        rows = self._draws(components, 1.0, rng) + self.shifts_[components]
        return rows, [{"component": k} for k in components.tolist()]


class SubspaceNoise(_Tabular):
    """Gaussian noise on a random subset of the features (T6).

    Strength multiplies epsilon. A subset is never empty: it is drawn by the published law given that it holds
    a feature.

    Parameters
    ----------
    epsilon : float, default .1
        Standard deviation of the noise, as a share of the range of the column (LUNAR).
    p : float in (0, 1], default .3
        Probability of each feature to be changed (LUNAR).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    range_ : array of shape (d,)
        Range of each column.

    References
    ----------
    A. Goodge, B. Hooi, S.-K. Ng, W. S. Ng: LUNAR: Unifying Local Outlier Detection Methods via
    Graph Neural Networks. AAAI 2022, arXiv 2112.05355.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 10))
    >>> auxiliary = SubspaceNoise(random_state=0).fit(X).sample(1000)
    >>> bool(auxiliary.mask.any(axis=1).all()), bool(0.28 < auxiliary.mask.mean() < 0.34)
    (True, True)
    """

    def __init__(self, epsilon: float = 0.1, p: float = 0.3, *, random_state: Any = None) -> None:
        self.epsilon = epsilon
        self.p = p
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.epsilon, "epsilon", low=0.0, high=1e6, strict_low=True)
        check_number(self.p, "p", low=0.0, high=1.0, strict_low=True)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        self.range_ = np.ptp(X, axis=0)

    def _sample(self, n: int, strength: float, rng: np.random.Generator) -> tuple[Floats, Ints, Meta]:
        parents = rng.integers(len(self.parents_), size=n)
        varying = np.flatnonzero(self.range_ > 0)
        noise = np.zeros((n, len(self.range_)))
        noise[:, varying] = _subsets(n, len(varying), self.p, rng) * rng.standard_normal((n, len(varying)))
        rows = self._origin(parents) + strength * self.epsilon * self.range_ * noise
        return rows, parents, [{"features": np.flatnonzero(row).tolist()} for row in noise]


class FeatureSwap(_Tabular):
    """Some features taken from other normal rows, each from a row of its own (T7).

    Strength multiplies the share of the features, up to all of them (which is `Permutation`); at least one is
    swapped.

    Parameters
    ----------
    fraction : float in (0, 1], default .6
        Share of the features that are swapped at strength 1 (SCARF; VIME takes .3).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    D. Bahri, H. Jiang, Y. Tay, D. Metzler: SCARF: Self-Supervised Contrastive Learning using
    Random Feature Corruption. ICLR 2022, arXiv 2106.15147.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 10))
    >>> auxiliary = FeatureSwap(random_state=0).fit(X).sample(4)
    >>> auxiliary.mask.sum(axis=1)
    array([6, 6, 6, 6])
    """

    def __init__(self, fraction: float = 0.6, *, random_state: Any = None) -> None:
        self.fraction = fraction
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.fraction, "fraction", low=0.0, high=1.0, strict_low=True)

    def _sample(self, n: int, strength: float, rng: np.random.Generator) -> tuple[Floats, Ints, Meta]:
        size, d = self.parents_.shape
        parents = rng.integers(size, size=n)
        count = max(1, round(min(1.0, self.fraction * strength) * d)) if strength > 0 else 0
        features = np.sort(rng.permuted(np.tile(np.arange(d), (n, 1)), axis=1)[:, :count], axis=1)
        donors = rng.integers(size, size=features.shape)
        rows = self._origin(parents).copy()
        np.put_along_axis(rows, features, self.parents_[donors, features], axis=1)
        meta = [{"features": f, "donors": row} for f, row in zip(features.tolist(), donors.tolist())]
        return rows, parents, meta


class Mixup(_Tabular):
    """Points between normal rows of different clusters (T8): they lie in the gaps.

    Beyond strength 1 a row passes through the other cluster before it leaves the data: more is not always
    stranger.

    Parameters
    ----------
    low : float in [0, 1), default .3
        Least weight of the parent, drawn uniformly (ours; the paper draws from a Beta).
    high : float in [low, 1], default .7
        Largest weight of the parent (ours).
    n_clusters : int, default 5
        Clusters of k-means on the standardised normals (ours); fewer where fewer rows differ.
    max_rows : int, default 5000
        Most rows the clusters are fitted on (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    labels_ : array of int of shape (n,)
        Cluster of each normal.

    References
    ----------
    H. Zhang, M. Cisse, Y. N. Dauphin, D. Lopez-Paz: mixup: Beyond Empirical Risk Minimization. ICLR 2018,
    arXiv 1710.09412.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 2)) + np.repeat([[0.0], [20.0]], 50, axis=0)
    >>> auxiliary = Mixup(n_clusters=2, random_state=0).fit(X).sample(100)
    >>> bool(auxiliary.X.min() > 3), bool(auxiliary.X.max() < 17)
    (True, True)
    """

    def __init__(
        self,
        low: float = 0.3,
        high: float = 0.7,
        *,
        n_clusters: int = 5,
        max_rows: int = 5000,
        random_state: Any = None,
    ) -> None:
        self.low = low
        self.high = high
        self.n_clusters = n_clusters
        self.max_rows = max_rows
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.low, "low", low=0.0, high=1.0, strict_high=True)
        check_number(self.high, "high", low=self.low, high=1.0)
        check_number(self.n_clusters, "n_clusters", low=2, integer=True)
        check_number(self.max_rows, "max_rows", low=2, integer=True)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        Z = self._standardised(X)
        # Distinct rows only, so that there are as many clusters as asked for, however often a row repeats.
        distinct = np.unique(Z, axis=0)
        if len(distinct) > self.max_rows:
            distinct = distinct[rng.choice(len(distinct), self.max_rows, replace=False)]
        k = min(self.n_clusters, len(distinct))
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # distinct rows may be equal in squares
            clusters = KMeans(k, n_init=10, random_state=child_seeds(rng, 1)[0]).fit(distinct)
        self.labels_ = clusters.predict(Z).astype(np.int64)

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        # The rows sorted by cluster; a partner is any of those outside the block of the parent's own cluster.
        order = np.argsort(self.labels_, kind="stable")
        size = np.bincount(self.labels_)
        start = np.cumsum(size) - size
        own = self.labels_[parents]
        position = rng.integers(len(order) - size[own])
        partners = order[position + np.where(position >= start[own], size[own], 0)]
        weight = rng.uniform(self.low, self.high, len(parents))
        # Written so that entries equal in both rows stay exactly as they are.
        rows = self.parents_[parents] + (1 - weight[:, None]) * (self.parents_[partners] - self.parents_[parents])
        return rows, [{"partner": b, "weight": w} for b, w in zip(partners.tolist(), weight.tolist())]


class Smote(_Tabular):
    """Points between real anomalies (T8): at strength 0 the real anomaly itself.

    `Auxiliary.parents` number the rows of `X_anomalous`, not the normals. Neighbours are found in columns
    standardised by the normals; equal anomalies count once.

    Parameters
    ----------
    n_neighbors : int, default 5
        Nearest other anomalies of which one is drawn (Chawla et al. 2002); fewer where there are fewer.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    parents_ : array of shape (m, d)
        The real anomalies.
    neighbours_ : array of int of shape (m, k)
        Their nearest others.

    References
    ----------
    N. V. Chawla, K. W. Bowyer, L. O. Hall, W. P. Kegelmeyer: SMOTE: Synthetic Minority
    Over-sampling Technique. JAIR 16, 2002.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> auxiliary = Smote(random_state=0).fit(X, [[5.0, 5.0], [6.0, 6.0]]).sample(10)
    >>> bool(auxiliary.X.min() >= 5), bool(auxiliary.X.max() <= 6)
    (True, True)
    """

    needs_anomalies: ClassVar[bool] = True

    def __init__(self, n_neighbors: int = 5, *, random_state: Any = None) -> None:
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.n_neighbors, "n_neighbors", low=1, integer=True)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        assert X_anomalous is not None
        distinct, first, inverse = np.unique(X_anomalous, axis=0, return_index=True, return_inverse=True)
        if len(distinct) < 2:
            raise InputError("X_anomalous holds 1 distinct row, at least 2 needed to interpolate; add real anomalies")
        k = min(self.n_neighbors, len(distinct) - 1)
        nearest = NearestNeighbors(n_neighbors=k).fit(self._standardised(distinct)).kneighbors(return_distance=False)
        self.parents_ = X_anomalous
        self.neighbours_ = first[nearest][inverse.ravel()]

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        n, k = len(parents), self.neighbours_.shape[1]
        partners = self.neighbours_[parents, rng.integers(k, size=n)]
        share = rng.random(n)
        rows = self.parents_[parents] + share[:, None] * (self.parents_[partners] - self.parents_[parents])
        return rows, [{"partner": b, "share": u} for b, u in zip(partners.tolist(), share.tolist())]


class Boundary(_Tabular):
    """The least likely of many draws of a Gaussian fitted to the normals (T10): virtual outliers.

    The draw of lowest density is the one of largest Mahalanobis radius, so the radius is drawn by its law,
    the maximum of `n_draws` chi variables with d degrees of freedom, and the direction uniformly.

    Parameters
    ----------
    n_draws : int, default 10000
        Draws of which the least likely one is kept (VOS).
    reg_covar : float, default 1e-4
        Added to the variances of the standardised columns (VOS).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    root_ : array of shape (d, d)
        Lower triangular root of the regularised covariance of the standardised columns.

    References
    ----------
    X. Du, Z. Wang, M. Cai, Y. Li: VOS: Learning What You Don't Know by Virtual Outlier Synthesis. ICLR 2022,
    arXiv 2202.01197.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> auxiliary = Boundary(random_state=0).fit(X).sample(100)
    >>> bool(np.linalg.norm(auxiliary.X, axis=1).min() > 3)
    True
    """

    def __init__(self, n_draws: int = 10_000, *, reg_covar: float = 1e-4, random_state: Any = None) -> None:
        self.n_draws = n_draws
        self.reg_covar = reg_covar
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.n_draws, "n_draws", low=1, integer=True)
        check_number(self.reg_covar, "reg_covar", low=1e-12, high=1.0)

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        Z = self._standardised(X)
        self.root_ = np.linalg.cholesky(Z.T @ Z / len(Z) + self.reg_covar * np.eye(Z.shape[1]))

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        d = len(self.root_)
        direction = rng.standard_normal((len(parents), d))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        # P(all n_draws radii <= r) = F(r) ** n_draws, hence 1 - F(r) = 1 - u ** (1 / n_draws), u uniform.
        tail = -np.expm1(np.log1p(-rng.random(len(parents))) / self.n_draws)
        radius = np.sqrt(2.0 * gammainccinv(d / 2, tail))
        rows = self.center_ + self.spread_ * (radius[:, None] * direction @ self.root_.T)
        return rows, [{"radius": r} for r in radius.tolist()]


class ForeignRows(_Tabular):
    """Rows of other data sets, brought to the same width and scale (T11): outlier exposure for tables.

    Of every foreign set up to 250 random rows are brought to the width of the normals by
    `assay.generators.benchmark_mix.match_width`, standardised, and given the mean and the deviation of the
    normals: what is foreign is the shape of the distribution, not the unit. A set the normals were taken from
    is left out.

    Parameters
    ----------
    foreign : list or mapping of arrays, optional
        Other data sets, (n, p) each. Default: breast cancer, diabetes, digits, iris and wine as scikit-learn
        carries them.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    foreign_ : array of shape (m, d)
        The distinct foreign rows, ready to use.
    sources_ : array of int of shape (m,)
        Number of the set each comes from.
    names_ : list of str
        The sets.

    References
    ----------
    D. Hendrycks, M. Mazeika, T. Dietterich: Deep Anomaly Detection with Outlier Exposure. ICLR
    2019, arXiv 1812.04606.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> generator = ForeignRows(random_state=0).fit(load_wine().data)
    >>> generator.names_
    ['breast_cancer', 'diabetes', 'digits', 'iris']
    """

    def __init__(self, foreign: Any = None, *, random_state: Any = None) -> None:
        self.foreign = foreign
        self.random_state = random_state

    def _learn(self, X: Floats, X_anomalous: Floats | None, rng: np.random.Generator) -> None:
        sets = foreign_sets(X, self.foreign)
        rows, sources, _ = foreign_rows(sets, X.shape[1], rng)
        for source in range(len(sets)):
            part = rows[sources == source]
            varies = part.std(axis=0) > 1e-12 * np.abs(part).max(axis=0)
            part = (part - part.mean(axis=0)) / np.where(varies, part.std(axis=0), 1.0)
            rows[sources == source] = self.center_ + self.spread_ * np.where(varies, part, 0.0)
        self.foreign_, first = np.unique(rows, axis=0, return_index=True)
        self.sources_ = sources[first]
        self.names_ = [name for name, _, _ in sets]

    def _target(self, parents: Ints, rng: np.random.Generator) -> tuple[Floats, Meta]:
        # Without repetition as long as there are rows.
        n, m = len(parents), len(self.foreign_)
        chosen = np.concatenate([rng.permutation(m) for _ in range(-(-n // m))])[:n]
        meta = [{"source": self.names_[self.sources_[row]], "row": int(row)} for row in chosen]
        return self.foreign_[chosen], meta


def _subsets(n: int, d: int, p: float, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` Bernoulli(p) masks over `d` features, each given that it is not empty."""
    mask = rng.random((n, d)) < p
    empty = np.flatnonzero(~mask.any(axis=1))
    if len(empty):
        # The first success, given that there is one, is a truncated geometric variable; the rest is free.
        u = rng.random((len(empty), 1))
        first = np.log1p(u * np.expm1(d * np.log1p(-p))) / np.log1p(-p)
        first = np.minimum(first.astype(np.int64), d - 1)
        later = rng.random((len(empty), d)) < p
        mask[empty] = np.where(np.arange(d) > first, later, np.arange(d) == first)
    return mask
