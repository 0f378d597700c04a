"""NCAD's contextual exposure and its spikes (S6).

In: at least two normal windows (n, L, C), see `assay.generators.series.common`; the last ten steps of a window are
the suspect part. Out: `Auxiliary` windows.

    exposure    a random piece of the suspect part comes from another window, at the same steps, in all channels or,
                with more than three, in 3 to C − 1 of them
    spike       1 or 2 steps anywhere: x ± U(.5, 2) (q95 − q05), the quantiles of up to 100 steps on either side;
                with more than three channels 35 % of them are left out

Strength: the straight line. For `spike` it multiplies the height.

Departures: the published code may draw an empty piece, and with more than three channels leaves out others than it
meant to (its places are one too low), sometimes none. Both are put right here. A spike may reach the last step, and its
neighbourhood too. Its mixup mixes labels: this belongs to the training, not to an anomaly.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from assay.core.validation import Bools, Floats, check_number
from assay.generators.series.common import Meta, WindowGenerator, region_of, toward

#: Steps on either side that a spike is compared with, its most steps, and the share of the channels without it.
AROUND, LONGEST, LEFT_OUT = 100, 2, 0.35


class NCAD(WindowGenerator):
    """The end of another window, or a spike (S6).

    Parameters
    ----------
    kind : {None, "exposure", "spike"}, default None
        By default drawn uniformly.
    suspect : int, default 10
        Last steps of a window, in which the exposure happens (paper).
    random_state : None, int or numpy.random.Generator
        Seed.

    References
    ----------
    C. U. Carmona, F.-X. Aubet, V. Flunkert, J. Gasthaus: Neural Contextual Anomaly Detection for Time Series. IJCAI
    2022, arXiv 2107.07702.

    Examples
    --------
    >>> X = np.sin(np.arange(60) / 4 + np.arange(20)[:, None])[:, :, None]
    >>> auxiliary = NCAD("exposure", random_state=0).fit(X).sample(10)
    >>> bool(auxiliary.mask[:, :-10].any())
    False
    """

    KINDS: ClassVar[tuple[str, ...]] = ("exposure", "spike")
    min_rows: ClassVar[int] = 2

    def __init__(self, kind: str | None = None, suspect: int = 10, *, random_state: Any = None) -> None:
        self.kind = kind
        self.suspect = suspect
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.suspect, "suspect", low=1, integer=True)

    def _exposure(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        donor, varying = self._other(parent, rng), len(self.varying_)
        edges = rng.choice(np.arange(max(0, len(x) - self.suspect), len(x) + 1), 2, replace=False)
        start, end = int(edges.min()), int(edges.max())
        channels = self._channels(int(rng.integers(3, varying)) if varying > 3 else varying, rng)
        other = self.parents_[donor, start:end][:, channels]
        x[start:end, channels] = toward(x[start:end, channels], other, strength)
        drawn = {"donor": donor, "start": start, "end": end, "channels": channels.tolist()}
        return region_of(x, start, end, channels), drawn

    def _spike(self, x: Floats, strength: float, rng: np.random.Generator, parent: int) -> tuple[Bools, Meta]:
        varying = len(self.varying_)
        channels = self._channels(varying - int(LEFT_OUT * varying) if varying > 3 else varying, rng)
        length = int(rng.integers(1, LONGEST + 1))
        start = int(rng.integers(len(x) - length + 1))
        around = x[max(0, start - AROUND) : start + AROUND, channels]
        low, high = np.quantile(around, [0.05, 0.95], axis=0)
        heights = rng.choice([-1, 1], len(channels)) * rng.uniform(0.5, 2.0, len(channels))
        x[start : start + length, channels] += strength * heights * (high - low)
        drawn = {"start": start, "end": start + length, "channels": channels.tolist(), "heights": heights.tolist()}
        return region_of(x, start, start + length, channels), drawn
