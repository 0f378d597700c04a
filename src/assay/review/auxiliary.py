"""People as the judge of EAP: how far their 0 to 5 order synthetic anomalies as its qualities do, and what to change.

In: what people said of some auxiliary anomalies, 0 (useless: absurd, or just normal) to 5 (could be real), and the
qualities that `assay rank` gave them. Out: Spearman's rank correlation with a bootstrap interval, the lowest quality
that people still mostly approve of, and the share they approve of, which is what EAP's prior stands for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from assay.core.random import as_generator
from assay.core.validation import InputError

#: From here on a judgement is an approval.
APPROVED = 3
#: Judged items below which nothing is said.
FEWEST = 8


class Agreement(NamedTuple):
    """How far people agree with the qualities.

    Attributes
    ----------
    judged : int
        How many auxiliary anomalies were judged.
    correlation : float or None
        Spearman's; None where it is not defined: too few, or all alike.
    low, high : float or None
        95 % bootstrap interval.
    approved : float or None
        Share that people approved of, weighted so that all qualities count as often as they occur: the prior.
    threshold : float or None
        The quality from which on keeping agrees best with approval (Youden's index); None if there is no such.
    kept : int or None
        How many of all that rule would keep.
    """

    judged: int
    correlation: float | None
    low: float | None
    high: float | None
    approved: float | None
    threshold: float | None
    kept: int | None


def agreement_with_quality(said: Any, quality: Any, everywhere: Any, random_state: Any = 0) -> Agreement:
    """Compare judgements with qualities.

    Parameters
    ----------
    said : array of shape (m,)
        What people said, 0 to 5, the mean where several did.
    quality : array of shape (m,)
        The quality of the same anomalies.
    everywhere : array of shape (n,)
        The qualities of all, judged or not: people see those on top of a queue first, which are not like the rest.
    random_state : None, int or numpy.random.Generator
        Seed of the bootstrap.
    """
    said, quality = np.asarray(said, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if said.shape != quality.shape or said.ndim != 1:
        raise InputError(f"said has shape {said.shape}, quality {quality.shape}: give one number an item in both")
    if len(said) < FEWEST:
        return Agreement(len(said), None, None, None, None, None, None)
    good = said >= APPROVED
    threshold = _youden(good, quality)
    return Agreement(
        judged=len(said),
        correlation=_spearman(said, quality),
        **_interval(said, quality, as_generator(random_state)),
        approved=_share(good, quality, np.asarray(everywhere, dtype=np.float64)),
        threshold=threshold,
        kept=None if threshold is None else int((np.asarray(everywhere) >= threshold).sum()),
    )


def _spearman(said: Any, quality: Any) -> float | None:
    if np.ptp(said) == 0 or np.ptp(quality) == 0:
        return None
    return float(spearmanr(said, quality).statistic)


def _interval(said: Any, quality: Any, rng: np.random.Generator) -> dict[str, float | None]:
    drawn = []
    for rows in rng.integers(0, len(said), size=(1000, len(said))):
        one = _spearman(said[rows], quality[rows])
        if one is not None:
            drawn.append(one)
    if len(drawn) < 500:
        return {"low": None, "high": None}
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def _share(good: Any, quality: Any, everywhere: Any) -> float:
    """Return the share of approved ones, from its mean within quarters of all qualities that were looked into."""
    edges = np.quantile(everywhere, [0.25, 0.5, 0.75])
    judged, all_of_them = np.searchsorted(edges, quality), np.searchsorted(edges, everywhere)
    seen = [quarter for quarter in range(4) if (judged == quarter).any()]
    weights = np.array([(all_of_them == quarter).mean() for quarter in seen])
    shares = np.array([good[judged == quarter].mean() for quarter in seen])
    return float((weights * shares).sum() / weights.sum()) if weights.sum() > 0 else float(good.mean())


def _youden(good: Any, quality: Any) -> float | None:
    if good.all() or not good.any():
        return None
    levels = np.unique(quality)
    gains = [(quality[good] >= level).mean() - (quality[~good] >= level).mean() for level in levels]
    best = int(np.argmax(gains))
    return float(levels[best]) if gains[best] > 0 else None
