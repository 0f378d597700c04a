"""DVRL: a network learns, by reinforcement, which rows to choose so that a detector fitted on them does well.

In: labelled rows (n, d), auxiliary rows (l, d), standardised by the caller. Out: a number a row in [0, 1], the
probability of being chosen. The value network w(x, y, |y - q(x)|) sees a row, its label, and how far the
detector fitted on all training rows contradicts it. In each of T epochs, on a batch of training rows and one
auxiliary row (label 1):

    s ~ Bernoulli(w),   reward = U(chosen rows) - (mean U of the last epochs),
    loss = -reward Σ [s log w + (1 - s) log(1 - w)] + λ (max(w̄ - τ, 0) + max(1 - τ - w̄, 0)),

with the utility U of `assay.quality.marginal` and w̄ the mean of w in the batch; Adam. The value of an
auxiliary row is w after the last epoch.

Defaults: 5 hidden layers of 100, combined with |y - q| in 10, batches of 32, learning rate .01, τ = .9, λ =
1000, T = 1000 (OpenDataVal, the reference adaptation by Perini et al., TMLR 2024), the mean over 20 epochs as
the baseline (Yoon et al.). Departure from the adaptation: one network for all auxiliary rows, T fits in all,
instead of T fits for each row in turn, whose network goes on from the row before; so the auxiliary rows are
judged together. The network sees the columns standardised. Needs the extra ``deep``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.base import QualityScore
from assay.core.extras import require
from assay.core.progress import progress
from assay.core.random import child_seeds
from assay.core.validation import Floats, Ints, check_number, check_option
from assay.kernels.marginal import METRICS
from assay.quality.marginal import utility
from assay.quality.probability import (
    fit_model,
    minority_share,
    probabilities,
    probability_model,
    standardised,
    standardiser,
)

#: Width, depth and combining width of the value network; epochs the reward's baseline looks back.
HIDDEN, LAYERS, COMBINED, MEMORY = 100, 5, 10, 20
#: Largest number the network is shown, so that its single precision stays finite.
FAR = 1e6


def value_network(d: int) -> Any:
    """Return the two halves of w: from (x, y) to a few features, and from these and |y - q| to a logit."""
    from torch import nn

    layers: list[Any] = [nn.Linear(d + 1, HIDDEN), nn.ReLU()]
    for _ in range(LAYERS - 2):
        layers += [nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
    layers += [nn.Linear(HIDDEN, COMBINED), nn.ReLU()]
    head = nn.Sequential(nn.Linear(COMBINED + 1, COMBINED), nn.ReLU(), nn.Linear(COMBINED, 1))
    return nn.ModuleList([nn.Sequential(*layers), head])


class DVRL(QualityScore):
    """Value auxiliary rows by how likely a network, rewarded by the detector's utility, chooses them.

    Parameters
    ----------
    detector : estimator, optional
        What is fitted, as for `ExpectedAnomalyPosterior`. Default: `SSDO`, squashed at the contamination.
    metric : {"f1", "auc", "brier"}, default "f1"
        The utility U (published: F1 at probability one half).
    budget : int, default 1000
        Number T of epochs, one detector fit each (OpenDataVal).
    batch_size : int, default 32
        Training rows in a batch (OpenDataVal).
    learning_rate : float, default .01
        Step size of Adam (OpenDataVal).
    random_state : None, int or numpy.random.Generator
        Seed of network, batches, choices and detectors.

    Attributes
    ----------
    X_, y_ : arrays of shape (n, d) and (n,)
        The training rows and their labels.
    model_ : estimator
        The detector fitted on all of them, with its probability.
    seed_ : int
        Seed of the network's training.

    References
    ----------
    Yoon, Arik and Pfister: Data Valuation using Reinforcement Learning. ICML 2020, arXiv 1909.11671.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import DVRL
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(80, 2)), rng.normal(4.0, 1.0, size=(8, 2))])
    >>> judge = DVRL(budget=5, random_state=0).fit(X, np.repeat([0, 1], [80, 8]))
    >>> judge.quality([[4.0, 4.0], [0.0, 0.0]]).shape
    (2,)
    """

    def __init__(
        self,
        detector: Any = None,
        metric: str = "f1",
        budget: int = 1000,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.metric = metric
        self.budget = budget
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_number(self.budget, "budget", low=1, integer=True)
        check_number(self.batch_size, "batch_size", low=2, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, strict_low=True)
        check_option(self.metric, "metric", *METRICS)

    def _fit(self, X: Floats, y: Ints, rng: np.random.Generator) -> None:
        require("torch", "deep", "DVRL")  # better missed before the detector is fitted than after
        self.X_, self.y_ = X, y
        template = probability_model(self.detector, minority_share(y))
        seed, self.seed_ = child_seeds(rng, 2)
        self.model_ = fit_model(template, X, y, np.ones(len(y), dtype=bool), seed)

    def n_fits(self, n_rows: int) -> int:
        """Return one fit an epoch, and one for the detector of all rows."""
        return int(self.budget) + 1

    def _quality(self, X_aux: Floats) -> Floats:
        torch = require("torch", "deep", "DVRL")
        rng = np.random.default_rng(self.seed_)
        n, l = len(self.X_), len(X_aux)
        X, y = np.vstack([self.X_, X_aux]), np.concatenate([self.y_, np.ones(l, dtype=np.int64)])
        gap = np.abs(y - probabilities(self.model_, X))
        template = probability_model(self.detector, float(self.y_.mean()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            trunk, head = network = value_network(X.shape[1])
        shown = np.clip(standardised(X, *standardiser(self.X_)), -FAR, FAR)
        inputs = torch.as_tensor(np.column_stack([shown, y]), dtype=torch.float32)
        gaps = torch.as_tensor(gap[:, None], dtype=torch.float32)
        adam = torch.optim.Adam(network.parameters(), lr=self.learning_rate)

        def logits(rows: Any) -> Any:
            return head(torch.cat([trunk(inputs[rows]), gaps[rows]], dim=1))[:, 0]

        rewards: list[float] = [utility(probabilities(self.model_, self.X_), self.y_, self.metric)]
        for seed in progress(child_seeds(rng, int(self.budget)), "choosing rows", total=int(self.budget)):
            batch = np.append(rng.choice(n, size=min(int(self.batch_size), n), replace=False), n + rng.integers(l))
            logit = logits(torch.as_tensor(batch))
            chance = torch.sigmoid(logit)
            chosen = rng.random(len(batch)) < chance.detach().numpy()
            if (y[batch[chosen]] == 0).sum() < 2:  # nothing to fit on: no choice, no reward
                chosen = rng.random(len(batch)) < 0.5
                chosen[np.flatnonzero(y[batch] == 0)[:2]] = True
            rows = np.zeros(len(y), dtype=bool)
            rows[batch[chosen]] = True
            reached = utility(probabilities(fit_model(template, X, y, rows, seed), self.X_), self.y_, self.metric)
            reward = reached - float(np.mean(rewards[-MEMORY:]))
            rewards.append(reached)
            picked = torch.as_tensor(chosen, dtype=torch.float32)
            unlikely = torch.nn.functional.binary_cross_entropy_with_logits(logit, picked, reduction="sum")
            mean = chance.mean()
            explore = torch.relu(mean - 0.9) + torch.relu(0.1 - mean)
            adam.zero_grad()
            (reward * unlikely + 1e3 * explore).backward()
            adam.step()
        with torch.no_grad():
            return np.asarray(torch.sigmoid(logits(torch.arange(n, n + l)).double()))
