"""How many alarms would pure background give? Counted, not fitted: direct background estimation, and its closure test.

In: held-out scores of events and of a background template (`assay.detectors.tabular.resonant`, or those of any detector
on real and on synthetic normals). Out: expected number of background events above a cut, its error, the significance of
what was seen instead, and whether the template tells the truth.

A fold's threshold t is the k-th largest of its held-out template scores, k = ε · their number (rounded, at least 1),
and "above" means >= t on both sides, so that ties count alike; the ε that came out is reported. Summed over folds:

    ε = N_T / N_T,all,   b0 = ε · N_SR,   δ = (N_obs - b0) / b0,   σ_stat = sqrt(1/b + 1/N_T),
    b = b0 · (1 + δ_sys),   σ_b = b · sqrt(1/N_T + σ_sys²),   σ_sys = |δ_sys| unless given.

δ_sys is δ as measured where there is no signal, never in the window itself: on an independent simulation that went
through the whole chain (`direct_background(…).delta`), and on sideband events as if they were the window's
(`sideband_delta`); `combined` adds the two in quadrature. With s = N - b the significance is

    Z² = 2 [ N ln( N (b + σ_b²) / (b² + N σ_b²) ) - (b² / σ_b²) ln( 1 + σ_b² s / (b (b + σ_b²)) ) ],

0 for s <= 0, and 2 (N ln(N / b) - s) in the limit σ_b = 0.

For a fixed score function and a true template the count above the template's k-th largest score follows a beta-binomial
law, whatever the scores are like: `template_closure` tests with it. `bump_hunt` is the classical cross-check: a smooth
curve through the spectrum of m beside the window, exp(polynomial), fitted by maximum Poisson likelihood. `scan` moves
the window; `coverage` repeats an experiment without signal and counts false discoveries.

References: R. Das et al., Phys. Rev. D 111, 094041 (2025), arXiv 2411.00085; G. Cowan: Discovery sensitivity for a
counting experiment with background uncertainty, 2012 (Z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import xlogy
from scipy.stats import betabinom
from sklearn.base import clone

from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import Floats, InputError, as_vector, check_number


class Background(NamedTuple):
    """The background expected above a cut, and what was seen.

    Attributes
    ----------
    eps : float
        Share of the template above the cut, as it came out.
    n_obs, n_sr : int
        Events above the cut, and in all.
    n_template : int
        Rows of the template above the cut.
    b0, b : float
        Expected background, and the same corrected by δ_sys.
    sigma_b : float
        Error of b.
    delta, sigma_stat : float
        Measured bias (N_obs - b0) / b0, and the relative error that counting alone gives it.
    delta_sys : float
        The correction that was given.
    Z : float
        Significance of the excess, in standard deviations.
    thresholds : array of shape (folds,)
        Cut of each fold.
    """

    eps: float
    n_obs: int
    n_sr: int
    n_template: int
    b0: float
    b: float
    sigma_b: float
    delta: float
    sigma_stat: float
    delta_sys: float
    Z: float
    thresholds: Floats


class Closure(NamedTuple):
    """Whether synthetic normals predict the false alarms that real normals give.

    Attributes
    ----------
    eps : float
        Share of the synthetic normals above the cut.
    threshold : float
        The cut.
    predicted : float
        Expected false alarms among the real normals.
    low, high : float
        Interval that holds their number with probability `1 - alpha`, if the synthetic normals are right.
    observed : int
        False alarms there were.
    delta, sigma : float
        (observed - predicted) / predicted, and the error that counting alone gives it.
    p_value : float
        Two-sided, exact for continuous scores.
    closes : bool
        Whether it is at least `alpha`.
    """

    eps: float
    threshold: float
    predicted: float
    low: float
    high: float
    observed: int
    delta: float
    sigma: float
    p_value: float
    closes: bool


class Bump(NamedTuple):
    """What a smooth curve beside a window says about the window.

    Attributes
    ----------
    n_obs : float
        Events in the window (the sum of their weights).
    b, sigma_b : float
        What the curve expects there, and the error of its parameters.
    Z : float
        Significance of the excess.
    chi2 : float
        Pearson's χ² over degrees of freedom beside the window: about 1 for a curve that fits.
    """

    n_obs: float
    b: float
    sigma_b: float
    Z: float
    chi2: float


class ScanPoint(NamedTuple):
    """One window of a scan.

    Attributes
    ----------
    window : pair of float
        (m1, m2).
    background : Background
        The direct estimate.
    bump : Bump
        The smooth fit, of the same events above the cut.
    """

    window: tuple[float, float]
    background: Background
    bump: Bump


class Coverage(NamedTuple):
    """How often an experiment without signal claims one.

    Attributes
    ----------
    share : float
        Of the toys with Z above the level.
    z : array of shape (n_toys,)
        All of them.
    """

    share: float
    z: Floats


def significance(n: float, b: float, sigma_b: float = 0.0) -> float:
    """Return Z of `n` events where `b` ± `sigma_b` are expected; 0 where there is no excess.

    Examples
    --------
    >>> round(significance(150, 100), 2), significance(100, 100), round(significance(150, 100, 20), 2)
    (4.65, 0.0, 1.97)
    """
    check_number(n, "n", low=0.0)
    check_number(b, "b", low=0.0, strict_low=True)
    check_number(sigma_b, "sigma_b", low=0.0)
    excess, variance = n - b, float(sigma_b) ** 2
    if excess <= 0:
        return 0.0
    if variance <= 1e-9 * b:  # beyond it the two terms differ by less than they are rounded
        return float(np.sqrt(max(0.0, 2 * (xlogy(n, n / b) - excess))))
    first = xlogy(n, n * (b + variance) / (b**2 + n * variance))
    second = b**2 / variance * np.log1p(variance * excess / (b * (b + variance)))
    return float(np.sqrt(max(0.0, 2 * (first - second))))


def combined(*deltas: float) -> float:
    """Return sources of δ_sys added in quadrature."""
    return float(np.sqrt(np.sum(np.square(deltas))))


def estimate(
    scores: Any,
    template_scores: Any,
    eps: float,
    folds: Any = None,
    template_folds: Any = None,
    delta_sys: float = 0.0,
    sigma_sys: float | None = None,
) -> Background:
    """Return the background expected above a cut that keeps the share `eps` of the template.

    Parameters
    ----------
    scores, template_scores : array of shape (n,) and (t,)
        Held-out scores.
    eps : float of (0, 1)
        ε; where it keeps less than one row of a fold's template, one is kept.
    folds, template_folds : array of int, optional
        Which fold's models gave the scores; one fold by default.
    delta_sys : float, default 0
        Bias measured on control data.
    sigma_sys : float, optional
        Its error; |δ_sys| by default.
    """
    scores, template_scores = as_vector(scores, "scores"), as_vector(template_scores, "template_scores")
    check_number(eps, "eps", low=0.0, high=1.0, strict_low=True, strict_high=True)
    check_number(delta_sys, "delta_sys", low=-1.0, high=1e6, strict_low=True)
    sigma_sys = abs(delta_sys) if sigma_sys is None else sigma_sys
    check_number(sigma_sys, "sigma_sys", low=0.0, high=1e6)
    folds = np.zeros(len(scores), dtype=int) if folds is None else np.asarray(folds)
    template_folds = np.zeros(len(template_scores), dtype=int) if template_folds is None else np.asarray(template_folds)
    for name, numbers, rows in (("folds", folds, scores), ("template_folds", template_folds, template_scores)):
        if numbers.shape != rows.shape:
            raise InputError(f"{name} has shape {numbers.shape}, expected {rows.shape}: one number a score")
    if len(scores) == 0 or len(template_scores) == 0:
        raise InputError(f"scores of {len(scores)} events and {len(template_scores)} template rows: give some of both")
    n_obs = n_template = 0
    thresholds = []
    for fold in np.unique(np.concatenate([folds, template_folds])):
        ours, theirs = scores[folds == fold], template_scores[template_folds == fold]
        if len(theirs) == 0:
            raise InputError(f"template_folds: fold {fold} has events but no template row to set its cut by")
        thresholds.append(_cut(theirs, eps))
        n_obs += int((ours >= thresholds[-1]).sum())
        n_template += int((theirs >= thresholds[-1]).sum())
    share = n_template / len(template_scores)
    b0 = share * len(scores)
    b = b0 * (1 + delta_sys)
    sigma_b = b * float(np.sqrt(1 / n_template + sigma_sys**2))
    return Background(
        eps=share,
        n_obs=n_obs,
        n_sr=len(scores),
        n_template=n_template,
        b0=b0,
        b=b,
        sigma_b=sigma_b,
        delta=(n_obs - b0) / b0,
        sigma_stat=float(np.sqrt(1 / b + 1 / n_template)),
        delta_sys=float(delta_sys),
        Z=significance(n_obs, b, sigma_b),
        thresholds=np.array(thresholds),
    )


def direct_background(detector: Any, eps: float, delta_sys: float = 0.0, sigma_sys: float | None = None) -> Background:
    """Return the background that a fitted `ResonantDetector` expects above a cut in its window.

    Parameters
    ----------
    detector : ResonantDetector
        Fitted.
    eps : float of (0, 1)
        Share of the background to keep: .01, .001, .0001.
    delta_sys, sigma_sys : float, default 0 and |δ_sys|
        Bias measured on control data, and its error.

    Examples
    --------
    >>> from assay import ResonantDetector
    >>> from assay.datasets.simulators.resonance import resonance
    >>> X = resonance(4000, 100, random_state=0).X
    >>> detector = ResonantDetector(window=(3.3, 3.7), ensemble=1, max_iter=30, random_state=0).fit(X)
    >>> found = direct_background(detector, 0.01)
    >>> found.n_obs > 3 * found.b, found.Z > 3
    (True, True)
    """
    for name in ("held_out_scores_", "folds_", "template_scores_", "template_folds_"):
        if not hasattr(detector, name):
            raise InputError(f"detector has no {name}: fit a ResonantDetector first")
    return estimate(
        detector.held_out_scores_,
        detector.template_scores_,
        eps,
        detector.folds_,
        detector.template_folds_,
        delta_sys,
        sigma_sys,
    )


def sideband_delta(
    detector: Any, X: Any, eps: float, width: float | None = None, random_state: Any = None
) -> Background:
    """Return the estimate for sideband events in the place of the window's; its ``delta`` is the bias to correct by.

    The flow stays as it was trained, so this asks what the flow and the classifier get wrong, not the interpolation.

    Parameters
    ----------
    detector : ResonantDetector
        Fitted, with a template that can be asked at any mass (cathode, lacathode, anode, ranode).
    X : array or dataframe of shape (n, 1 + d)
        The events; those of the window are left out.
    eps : float of (0, 1)
        Share of the background to keep.
    width : float, optional
        How far from the window; half of its width by default.
    random_state : None, int or numpy.random.Generator
        Seed.
    """
    found = detector.sideband_scores(X, width, random_state)
    return estimate(found.scores, found.template_scores, eps, found.folds, found.template_folds)


def template_closure(real: Any, synthetic: Any, eps: float = 0.01, alpha: float = 0.0027) -> Closure:
    """Test whether synthetic normals predict how many false alarms real normals give.

    Take any detector, real normals it has never seen and synthetic normals: are the synthetic ones as rarely above a
    high cut as the real ones? If so, alarms can be budgeted with as many synthetic rows as one likes.

    Parameters
    ----------
    real : array of shape (n,)
        Scores of held-out real normals.
    synthetic : array of shape (t,)
        Scores of synthetic normals.
    eps : float of (0, 1), default 0.01
        Share of the synthetic normals above the cut.
    alpha : float of (0, 1), default 0.0027
        How improbable a count must be, two-sided, for the test to fail: three standard deviations.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> real, good, narrow = rng.normal(size=2000), rng.normal(size=20_000), rng.normal(scale=0.8, size=20_000)
    >>> template_closure(real, good).closes, template_closure(real, narrow).closes
    (True, False)
    """
    real, synthetic = as_vector(real, "real"), as_vector(synthetic, "synthetic")
    check_number(eps, "eps", low=0.0, high=1.0, strict_low=True, strict_high=True)
    check_number(alpha, "alpha", low=0.0, high=1.0, strict_low=True, strict_high=True)
    if len(real) == 0 or len(synthetic) < 2:
        raise InputError(f"real holds {len(real)} scores and synthetic {len(synthetic)}: at least 1 and 2 needed")
    threshold = _cut(synthetic, eps)
    k, observed = int((synthetic >= threshold).sum()), int((real >= threshold).sum())
    law = betabinom(len(real), k, len(synthetic) - k + 1)
    predicted = len(real) * k / len(synthetic)
    p_value = float(min(1.0, 2 * min(law.cdf(observed), law.sf(observed - 1))))
    return Closure(
        eps=k / len(synthetic),
        threshold=threshold,
        predicted=predicted,
        low=float(law.ppf(alpha / 2)),
        high=float(law.ppf(1 - alpha / 2)),
        observed=observed,
        delta=(observed - predicted) / predicted,
        sigma=float(np.sqrt(1 / predicted + 1 / k)),
        p_value=p_value,
        closes=p_value >= alpha,
    )


def bump_hunt(
    m: Any,
    window: tuple[float, float],
    weights: Any = None,
    degree: int = 3,
    bins: int = 40,
    gap: float = 0.0,
) -> Bump:
    """Compare the events of a window with a smooth curve through the spectrum beside it.

    Parameters
    ----------
    m : array of shape (n,)
        Masses of all events.
    window : pair of float
        (m1, m2), inside the range of m.
    weights : array of shape (n,), optional
        How much each event counts, e.g. 1 above a cut and 0 below.
    degree : int, default 3
        Of the polynomial whose exponential is the curve.
    bins : int, default 40
        In the whole range, about.
    gap : float, default 0
        What lies this near to the window is not used.
    """
    m = as_vector(m, "m")
    weights = np.ones(len(m)) if weights is None else as_vector(weights, "weights")
    if weights.shape != m.shape:
        raise InputError(f"weights has shape {weights.shape}, expected {m.shape}: one number an event")
    check_number(degree, "degree", low=0, high=10, integer=True)
    check_number(bins, "bins", low=4, high=10_000, integer=True)
    check_number(gap, "gap", low=0.0)
    low, high = window
    ends = (m.min(), low - gap, high + gap, m.max()) if len(m) else (0.0, 0.0, 0.0, 0.0)
    if not ends[0] < ends[1] < ends[2] < ends[3]:
        raise InputError(f"window={window}: give (m1, m2) with events on either side of it, beyond the gap of {gap:g}")
    step = (ends[3] - ends[0]) / bins
    edges = [np.linspace(a, z, max(2, round((z - a) / step) + 1)) for a, z in (ends[:2], ends[2:])]
    beside = (m < low) | (m > high)  # what lies at the window's ends is in it, and counts once
    counts = np.concatenate([np.histogram(m[beside], edge, weights=weights[beside])[0] for edge in edges])
    if (counts > 0).sum() <= degree + 1:
        raise InputError(f"m: only {(counts > 0).sum()} bins beside the window hold events; widen it or lower `degree`")

    def terms(a: Floats, z: Floats) -> tuple[Floats, Floats]:
        """Return the powers of the bins' middles, and their widths in steps."""
        middle = ((a + z) / 2 - ends[0]) / (ends[3] - ends[0]) * 2 - 1
        return np.polynomial.legendre.legvander(middle, degree), (z - a) / step

    parts = [terms(edge[:-1], edge[1:]) for edge in edges]
    powers, widths = np.vstack([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    beta, covariance = _poisson_fit(powers, np.log(widths), counts)
    mu = widths * np.exp(powers @ beta)
    fine = np.linspace(low, high, 201)
    inner, inner_widths = terms(fine[:-1], fine[1:])
    each = inner_widths * np.exp(inner @ beta)
    slope = each @ inner
    n, b, sigma_b = float(weights[(m >= low) & (m <= high)].sum()), float(each.sum()), slope @ covariance @ slope
    chi2 = float((np.square(counts - mu) / mu).sum() / max(1, len(counts) - degree - 1))
    return Bump(n, b, float(np.sqrt(sigma_b)), significance(n, b, float(np.sqrt(sigma_b))), chi2)


def scan(
    detector: Any,
    X: Any,
    windows: Sequence[tuple[float, float]],
    eps: float = 0.001,
    delta_sys: float | Sequence[float] = 0.0,
    y: Any = None,
) -> list[ScanPoint]:
    """Look through one window after another, each with a detector of its own.

    Beside the direct estimate stands a smooth fit of m of the events above the same cut. Where the score moves with m
    the cut bends the spectrum: trust that fit no further than its χ² goes.

    Parameters
    ----------
    detector : ResonantDetector
        Unfitted; its `window` is replaced.
    X : array or dataframe of shape (n, 1 + d)
        Events.
    windows : sequence of pairs
        (m1, m2) each; published: nine of width .4, .1 apart, from 2.9.
    eps : float of (0, 1), default 0.001
        Share of the background to keep.
    delta_sys : float or one for each window, default 0
        Bias measured on control data.
    y : array of shape (n,), optional
        Labels, as for `fit`.
    """
    deltas = np.broadcast_to(np.asarray(delta_sys, dtype=np.float64), (len(windows),))
    points = []
    for window, delta in progress(zip(windows, deltas), "scanning windows", total=len(windows)):
        fitted = clone(detector).set_params(window=window).fit(X, y)
        found = direct_background(fitted, eps, float(delta))
        m, weights = _above(fitted, X, found)
        # Sidebands that the classifier has learned to score low would pull the curve down.
        gap = fitted.reach(m)
        points.append(ScanPoint(fitted.window_, found, bump_hunt(m, fitted.window_, weights, gap=gap)))
    return points


def coverage(
    experiment: Callable[[np.random.Generator], float], n_toys: int = 100, level: float = 2.0, random_state: Any = None
) -> Coverage:
    """Repeat an experiment without signal and count how often its Z exceeds `level`.

    Parameters
    ----------
    experiment : callable
        ``experiment(rng)`` returns Z of one toy.
    n_toys : int, default 100
        How many.
    level : float, default 2
        In standard deviations; Gaussian errors would exceed it in 2.3 % of the toys.
    random_state : None, int or numpy.random.Generator
        Seed.

    Examples
    --------
    >>> def experiment(rng):  # fixed scores, a true template
    ...     return estimate(rng.normal(size=2000), rng.normal(size=8000), 0.01).Z
    >>> coverage(experiment, random_state=0).share <= 0.05
    True
    """
    check_number(n_toys, "n_toys", low=1, integer=True)
    check_number(level, "level", low=0.0)
    seeds = child_seeds(as_generator(random_state), n_toys)
    z = [float(experiment(np.random.default_rng(seed))) for seed in progress(seeds, "toys", total=n_toys)]
    return Coverage(float(np.mean(np.array(z) > level)), np.array(z))


def _cut(scores: Floats, eps: float) -> float:
    """Return the k-th largest score, k being the share `eps` of them, at least 1."""
    k = max(1, round(eps * len(scores)))
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _above(detector: Any, X: Any, found: Background) -> tuple[Floats, Floats]:
    """Return m of all events and the share of the folds whose cut they pass; in the window that of their own fold."""
    table = detector._check_table(X, reset=False)
    folds = np.unique(np.concatenate([detector.folds_, detector.template_folds_]))
    limits = np.full(len(detector.models_), np.inf)  # a fold without any row has no cut
    limits[folds] = found.thresholds
    weights = (detector._by_fold(table) >= limits[:, None]).sum(axis=0) / len(folds)
    weights[detector.data_rows_] = detector.held_out_scores_ >= limits[detector.folds_]
    return table[:, detector.mass_column_], weights


def _poisson_fit(powers: Floats, offset: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Return parameters and covariance of the log-linear Poisson model of greatest likelihood, by Newton's method."""
    beta = np.linalg.lstsq(powers, np.log(counts + 0.5) - offset, rcond=None)[0]

    def likelihood(beta: Floats) -> float:
        eta = np.minimum(powers @ beta + offset, 500.0)
        return float(counts @ eta - np.exp(eta).sum())

    for _ in range(100):
        mu = np.exp(np.minimum(powers @ beta + offset, 500.0))
        change = np.linalg.lstsq(powers.T @ (mu[:, None] * powers), powers.T @ (counts - mu), rcond=None)[0]
        before, step = likelihood(beta), 1.0
        while likelihood(beta + step * change) < before - 1e-9 * abs(before) and step > 1e-6:
            step /= 2
        beta = beta + step * change
        if np.abs(step * change).max() < 1e-10:
            break
    mu = np.exp(np.minimum(powers @ beta + offset, 500.0))
    return beta, np.linalg.pinv(powers.T @ (mu[:, None] * powers))
