"""How well scores and alarms find anomalous stretches of a time series.

In: labels (n,), one a time step: 0 normal, 1 anomaly, -1 unknown; scores (n,), higher = more anomalous, in any unit;
predictions (n,), 1 flagged, 0 not, from a threshold chosen beforehand. Out: numbers in [0, 1] unless said otherwise.
Time is counted in steps. An event is a run of 1s among the labels, an alarm a run of 1s among the predictions.
Metrics are of steps, not of channels: of labels a channel give the largest in each step.

What is left out:

- A label of -1, a score of NaN and a prediction of -1 mean that nobody can tell. Such steps count neither as hits nor
  as misses nor as false alarms; they keep their place in time. An unknown label ends an event; a missing score or
  prediction does not. An event with no observed step is no event; an alarm with no known step is no alarm.
  Scores of windows must be brought to steps beforehand; steps that no window covers get NaN.
- Without anomalies nothing can be found: what needs one is NaN, and false alarms are still counted. Without alarms
  precision is NaN and F is 0.

**Threshold-free.** With T observed steps, P of them anomalous, and a step flagged where its score is at least t:

- *range metrics at buffer l*: steps at distance d <= l // 2 from one event weigh w = sqrt(1 - d / l), from two or
  more w = 1, steps of events w = 1, all others 0. TP = Σ w · flagged, S its part outside events, P' = P + S / 2,

      TPR = min(TP / P', 1) · share of the widened events hit,   FPR = (flagged - TP) / (T - P'),
      precision = TP / flagged,

  at the thresholds that are the scores of `thresholds` equally spaced ranks. Range-AUROC by trapezoids from (0, 0)
  to (1, 1), range-AP = Σ (change of TPR) · precision. Widened events that touch are one.
- *VUS-ROC, VUS-PR*: their means over l = 0, ..., `max_buffer`. A step enters with its distances to the two nearest
  events and with the first threshold that reaches it; so all buffers need one table of counts, distance times
  threshold, and one product with the weights. Time O(n log n + max_buffer² · thresholds), memory a few arrays of n.
- AUROC and average precision of the steps: `assay.metrics.ranking`.

**Of predictions.** Beside precision, recall and F1 of the steps:

- *events*: event recall R (share of events with a flagged step), composite F1 of R and the steps' precision, segment
  F1 (alarms that touch no event are false), false alarms, delay (first flagged step - start of the event).
- *ranges* (Tatbul): recall of an event = α [found] + (1 - α) · ω / (alarms that touch it), where ω is the part of it
  that is flagged, weighted by position; precision with the roles swapped and α = 0.
- *affiliation* (Huet): time is cut midway between events into zones; X is uniform on the zone. Precision: mean over
  flagged x of Pr(dist(X, event) > dist(x, event)); recall: mean over y in the event of
  Pr(dist(y, X) > dist(y, flagged)). A zone without alarms has no precision and recall 0. Steps are intervals of
  length 1 and the integrals exact. Random alarms get about .5 each, and sparse events an F of about .76: never
  read it alone.
- *NAB*: early detections of a window earn more, false ones cost, less so just behind a window.
- *ESA-ADB*: event-wise F0.5, the precision of events times the true-negative rate of steps.
- *point adjustment* calls an event all flagged once one step is. It flatters: 1 % random flags reach F1 .91 on an
  event of 500 in 10 000 steps. `point_adjusted_f1` therefore gives it beside what random flags get.

Best values over thresholds look at the test labels; they are named `oracle_`.

References
----------
Paparrizos et al.: Volume Under the Surface. PVLDB 15, 2022. Liu and Paparrizos: The Elephant in the Room (TSB-AD).
NeurIPS 2024. Huet, Navarro and Rossi: Local Evaluation of Time Series Anomaly Detection Algorithms. KDD 2022. Tatbul
et al.: Precision and Recall for Time Series. NeurIPS 2018. Garg et al.: An Evaluation of Anomaly Detection and
Diagnosis in Multivariate Time Series. TNNLS 2021. Lavin and Ahmad: Evaluating Real-Time Anomaly Detection Algorithms
(NAB). ICMLA 2015. Kotowski et al.: European Space Agency Benchmark for Anomaly Detection (ESA-ADB). 2024. Sehili and
Zhang: Multivariate Time Series Anomaly Detection: Fancy Algorithms and Flawed Evaluation Methodology. 2023. Kim et
al.: Towards a Rigorous Evaluation of Time-Series Anomaly Detection. AAAI 2022. Wu and Keogh: Current Time Series
Anomaly Detection Benchmarks are Flawed. TKDE 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binom

from assay.core.validation import (
    Bools,
    Floats,
    InputError,
    Ints,
    as_labels,
    as_table,
    as_vector,
    check_number,
    check_option,
)
from assay.metrics.ranking import average_precision, roc_auc

#: Buffer of VUS where a series has no period (TSB-AD).
NO_PERIOD = 125
#: NAB's weights: a found window, a false detection, a missed window.
NAB_PROFILES = {"standard": (1.0, 0.11, 1.0), "low_fp": (1.0, 0.22, 1.0), "low_fn": (1.0, 0.11, 2.0)}
_NAN = float("nan")
_BIASES = ("flat", "front", "middle", "back")


class PrecisionRecall(NamedTuple):
    """Precision, recall and F, each in [0, 1] or NaN where undefined."""

    precision: float
    recall: float
    f: float


@dataclass(frozen=True)
class Volume:
    """Volumes under the surfaces over buffers and thresholds, and the slices that they average.

    Attributes
    ----------
    pr, roc : float
        VUS-PR and VUS-ROC.
    range_ap, range_auroc : arrays of shape (max_buffer + 1,)
        Range metrics at every buffer.
    max_buffer : int
        Largest buffer, in steps.
    """

    pr: float
    roc: float
    range_ap: Floats
    range_auroc: Floats
    max_buffer: int


@dataclass(frozen=True)
class EventScores:
    """What a user meets: events found and missed, alarms for nothing, and how long it took.

    Attributes
    ----------
    events, found : int
        Events, and those with a flagged step.
    alarms, false_alarms : int
        Alarms, and those that flag normal steps only.
    recall : float
        found / events.
    point_precision : float
        Share of flagged steps that are anomalous.
    composite_f1 : float
        F1 of `recall` and `point_precision`.
    segment_precision, segment_f1 : float
        found / (found + false_alarms), and its F1 with `recall`.
    false_alarms_per_1000_steps : float
        A thousand observed steps.
    false_alarms_per_day : float
        A day of observed time; NaN where the length of a step is not given.
    delays : array of shape (events,)
        First flagged step minus start, in steps, for each event; NaN for the missed.
    median_delay : float
        Over the events found; NaN if there are none.
    """

    events: int
    found: int
    alarms: int
    false_alarms: int
    recall: float
    point_precision: float
    composite_f1: float
    segment_precision: float
    segment_f1: float
    false_alarms_per_1000_steps: float
    false_alarms_per_day: float
    delays: Floats
    median_delay: float


class PointAdjusted(NamedTuple):
    """Point-adjusted values beside what random flags get, so that nobody reads them alone.

    `inflated_f1` is F1 after adjustment, `inflated_area` the area under PA%K for K = 0, ..., 100 (an event is adjusted
    where more than K % of it is flagged); `random_f1` and `random_area` are what independent flags at the same rate
    get, in expectation of hits and false alarms; `f1` is the honest one.
    """

    inflated_f1: float
    random_f1: float
    inflated_area: float
    random_area: float
    f1: float


def events(labels: Any) -> Ints:
    """Return the runs of 1s as an int64 array of shape (k, 2): [start, end), in order.

    Parameters
    ----------
    labels : array of shape (n,)
        0, 1 and -1 (which ends a run).

    Examples
    --------
    >>> from assay.metrics.series import events
    >>> events([1, 1, 0, 1, -1, 1]).tolist()
    [[0, 2], [3, 4], [5, 6]]
    """
    return _runs(_as_labels(labels, "labels") == 1)


def estimate_period(series: Any) -> int:
    """Return the lag of the highest peak of the autocorrelation, in steps; 125 where there is none.

    As TSB-AD: of the first 20 000 steps, lags 3 to 400, a peak being higher than both neighbours; a highest peak
    below lag 6 or above lag 303 counts as none.

    Parameters
    ----------
    series : array of shape (n,) or (n, d)
        The series itself, not its scores; of several channels the first. NaN is interpolated.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.series import estimate_period
    >>> estimate_period(np.sin(np.arange(2000) * 2 * np.pi / 50)), estimate_period(np.ones(500))
    (50, 125)
    """
    values, _ = as_table(series, "series")
    values, missing = _as_scores(values[:, 0] if values.ndim == 2 and values.shape[1] else values, "series")
    values, missing = values[:20_000], missing[:20_000]
    if missing.all():
        return NO_PERIOD
    time = np.arange(len(values))
    values = np.interp(time, time[~missing], values[~missing])
    values = values - values.mean()
    spectrum = np.fft.rfft(values, 2 * len(values))
    lagged = np.fft.irfft(spectrum * spectrum.conj())[: min(401, len(values))][3:]
    peaks = np.flatnonzero((lagged[1:-1] > lagged[:-2]) & (lagged[1:-1] > lagged[2:])) + 1
    if not len(peaks) or not values.any():
        return NO_PERIOD
    best = int(peaks[lagged[peaks].argmax()])
    return best + 3 if 3 <= best <= 300 else NO_PERIOD


def vus(labels: Any, scores: Any, max_buffer: int | None = None, thresholds: int = 250, series: Any = None) -> Volume:
    """Return VUS-PR and VUS-ROC, the threshold-free metrics to report first.

    Parameters
    ----------
    labels : array of shape (n,)
        0, 1 and -1.
    scores : array of shape (n,)
        Higher = more anomalous; NaN: not observed.
    max_buffer : int in [0, max(n, 125)], optional
        Largest buffer, in steps. By default the period of `series`, or 125 where that is not given or has none
        (Paparrizos et al.). It is never guessed from the scores: detectors could then not be compared.
    thresholds : int >= 2, default 250
        Thresholds, at equally spaced ranks of the scores (Paparrizos et al.).
    series : array of shape (n,) or (n, d), optional
        The series that was scored, for its period.

    Returns
    -------
    Volume
        All NaN where a class is missing.

    Raises
    ------
    InputError
        If an argument cannot be used; the message names it.

    References
    ----------
    Paparrizos, Boniol, Palpanas, Tsay, Elmore and Franklin: Volume Under the Surface: A New Accuracy Evaluation
    Measure for Time-Series Anomaly Detection. PVLDB 15, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.series import vus
    >>> labels = np.zeros(1000, dtype=int)
    >>> labels[400:450] = labels[700:705] = 1
    >>> late = vus(labels, np.roll(labels, 5), max_buffer=20)
    >>> round(late.pr, 4), round(late.roc, 4)
    (0.8001, 0.9192)
    """
    labels, scores, missing = _as_scored(labels, scores)
    if max_buffer is None:
        max_buffer = NO_PERIOD if series is None else estimate_period(series)
    check_number(max_buffer, "max_buffer", low=0, high=max(len(labels), NO_PERIOD), integer=True)
    check_number(thresholds, "thresholds", low=2, integer=True)
    return _volume(labels, scores, missing | (labels == -1), int(max_buffer), int(thresholds))


def range_auc(labels: Any, scores: Any, buffer: int, thresholds: int = 250) -> tuple[float, float]:
    """Return range-AP and range-AUROC at one buffer; NaN where a class is missing.

    Parameters
    ----------
    labels, scores : arrays of shape (n,)
        As for `vus`.
    buffer : int >= 0
        In steps: half of it before and half behind every event.
    thresholds : int >= 2, default 250
        As for `vus`.

    Examples
    --------
    >>> from assay.metrics.series import range_auc
    >>> range_auc([0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], 0)
    (1.0, 1.0)
    """
    check_number(buffer, "buffer", low=0, integer=True)
    volume = vus(labels, scores, buffer, thresholds)
    return float(volume.range_ap[-1]), float(volume.range_auroc[-1])


def point_scores(labels: Any, predictions: Any) -> PrecisionRecall:
    """Return precision, recall and F1 of the steps.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1 (left out).

    Examples
    --------
    >>> from assay.metrics.series import point_scores
    >>> point_scores([0, 0, 1, 1], [0, 1, 1, 0])
    PrecisionRecall(precision=0.5, recall=0.5, f=0.5)
    """
    return _judged(labels, predictions).points()


def event_scores(labels: Any, predictions: Any, step: float | None = None) -> EventScores:
    """Return recall, precision and F1 of events, false alarms and delays.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1.
    step : float > 0, optional
        Seconds between two steps, for the false alarms a day.

    References
    ----------
    Garg, Zhang, Samaran, Savitha and Foo: An Evaluation of Anomaly Detection and Diagnosis in Multivariate Time
    Series. TNNLS 2021 (composite F1). Hundman et al.: Detecting Spacecraft Anomalies Using LSTMs. KDD 2018 (segments).

    Examples
    --------
    >>> from assay.metrics.series import event_scores
    >>> found = event_scores([0, 1, 1, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1, 0, 0], step=3600)
    >>> found.recall, found.composite_f1, found.segment_f1, found.false_alarms, found.false_alarms_per_day
    (0.5, 0.5, 0.5, 1, 3.0)
    >>> found.delays.tolist(), found.median_delay
    ([1.0, nan], 1.0)
    """
    if step is not None:
        check_number(step, "step", low=0.0, strict_low=True)
    case = _judged(labels, predictions)
    hit = _touching(case.events, case.alarms) > 0
    n_found, n_events = int(hit.sum()), len(case.events)
    false = _touching(case.alarms, case.events) == 0
    n_false, n_known = int(false.sum()), int(case.known.sum())
    delays = np.full(n_events, np.nan)
    if n_found:
        start = case.events[hit, 0]
        first = np.searchsorted(case.alarms[:, 1], start, side="right")
        delays[hit] = np.maximum(case.alarms[first, 0] - start, 0)
    recall, precision = _ratio(n_found, n_events), case.points().precision
    segment_precision = _ratio(n_found, n_found + n_false)
    return EventScores(
        events=n_events,
        found=n_found,
        alarms=len(case.alarms),
        false_alarms=n_false,
        recall=recall,
        point_precision=precision,
        composite_f1=_f(precision, recall),
        segment_precision=segment_precision,
        segment_f1=_f(segment_precision, recall),
        false_alarms_per_1000_steps=_ratio(1000 * n_false, n_known),
        false_alarms_per_day=_NAN if step is None else _ratio(86_400 * n_false, n_known * float(step)),
        delays=delays,
        median_delay=float(np.median(delays[hit])) if n_found else _NAN,
    )


def range_scores(
    labels: Any, predictions: Any, alpha: float = 0.2, recall_bias: str = "flat", precision_bias: str = "flat"
) -> PrecisionRecall:
    """Return range-based precision, recall and F1.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1.
    alpha : float in [0, 1], default .2
        What finding an event at all is worth of its recall (TSB-AD); precision has no such part.
    recall_bias, precision_bias : {"flat", "front", "middle", "back"}, default "flat"
        Which steps of an event, or of an alarm, weigh most.

    References
    ----------
    Tatbul, Lee, Zdonik, Alam and Gottschlich: Precision and Recall for Time Series. NeurIPS 2018.

    Examples
    --------
    >>> from assay.metrics.series import range_scores
    >>> labels, late = [0, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 0]
    >>> range_scores(labels, late, alpha=0.0).recall, range_scores(labels, late, 0.0, recall_bias="front").recall
    (0.5, 0.3)
    """
    check_number(alpha, "alpha", low=0.0, high=1.0)
    check_option(recall_bias, "recall_bias", *_BIASES)
    check_option(precision_bias, "precision_bias", *_BIASES)
    case = _judged(labels, predictions)
    recall = _range_recall(case.events, case.alarms, case.flagged, case.known, alpha, recall_bias)
    precision = _range_recall(case.alarms, case.events, case.truth, case.known, 0.0, precision_bias)
    return PrecisionRecall(precision, recall, _f(precision, recall))


def affiliation(labels: Any, predictions: Any) -> PrecisionRecall:
    """Return affiliation precision, recall and F1; random alarms get about .5 each, so never read them alone.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1. Flags on unknown steps are ignored; events, zones and distances are of the whole series.

    References
    ----------
    Huet, Navarro and Rossi: Local Evaluation of Time Series Anomaly Detection Algorithms. KDD 2022.

    Examples
    --------
    >>> from assay.metrics.series import affiliation
    >>> found = affiliation([0, 0, 0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0, 0, 0, 0])
    >>> round(found.precision, 4), round(found.recall, 4)
    (0.85, 0.95)
    """
    case = _judged(labels, predictions)
    if not len(case.events):
        return PrecisionRecall(_NAN, _NAN, _NAN)
    flagged = _runs(case.flagged).astype(np.float64)
    truth = case.events.astype(np.float64)
    middles = (truth[1:, 0] + truth[:-1, 1]) / 2
    zones = np.column_stack([np.r_[0.0, middles], np.r_[middles, float(len(case.known))]])
    first = np.searchsorted(flagged[:, 1], zones[:, 0], side="right")
    behind = np.searchsorted(flagged[:, 0], zones[:, 1])
    precisions, recalls = np.full(len(truth), np.nan), np.zeros(len(truth))
    for j in np.flatnonzero(behind > first):
        inside = np.clip(flagged[first[j] : behind[j]], *zones[j])
        precisions[j] = _zone_precision(inside, *truth[j], *zones[j])
        recalls[j] = _zone_recall(inside, *truth[j], *zones[j])
    judged = precisions[~np.isnan(precisions)]
    precision, recall = float(judged.mean()) if len(judged) else _NAN, float(recalls.mean())
    return PrecisionRecall(precision, recall, _f(precision, recall))


def nab_score(labels: Any, predictions: Any, profile: str = "standard", window: float = 0.1) -> float:
    """Return the NAB score: 100 for every window found at its left edge and no false alarm, 0 for no detection at all.

    A flagged step in a window earns A_TP σ(y) / σ(-1), the earliest alone counting, where y runs from -1 at the
    window's left edge to 0 just behind it and σ(y) = 2 / (1 + exp(5 y)) - 1. A flagged step elsewhere costs A_FP
    |σ(y)|, y = distance from the last window / (its width - 1), or A_FP in full before the first window and where
    y >= 3. A missed window costs A_FN. The first min(15 % of the steps, 750) are ignored. May be far below 0.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1 (flags there are ignored). NAB's own detectors get one threshold for each profile that is
        optimised on the test corpus: a score compared with theirs must say whether its threshold was.
    profile : {"standard", "low_fp", "low_fn"}, default "standard"
        Weights (A_TP, A_FP, A_FN): `NAB_PROFILES`.
    window : float in [0, 1], default .1
        Share of the series that is given to its windows: each event is widened by half of an equal part on either
        side, and windows that overlap are one. 0 where the events are NAB's windows already.

    Returns
    -------
    float
        NaN where no window ends after the ignored steps.

    References
    ----------
    Lavin and Ahmad: Evaluating Real-Time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark. ICMLA 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.series import nab_score
    >>> labels, found = np.zeros(1000, dtype=int), np.zeros(1000, dtype=int)
    >>> labels[600] = 1
    >>> found[550] = 1
    >>> nab_score(labels, found), nab_score(labels, 0 * found)
    (100.0, 0.0)
    """
    check_option(profile, "profile", *NAB_PROFILES)
    check_number(window, "window", low=0.0, high=1.0)
    gain, cost, loss = NAB_PROFILES[profile]
    case = _judged(labels, predictions)
    n = len(case.known)
    windows = _nab_windows(case.events, n, window)
    ignored = min(int(0.15 * n), 750)
    counted = windows[:, 1] > ignored
    if not counted.any():
        return _NAN
    steps = np.flatnonzero(case.flagged)
    steps = steps[steps >= ignored]
    last = np.searchsorted(windows[:, 0], steps, side="right") - 1  # the window that a step is in or behind
    width = np.diff(windows, axis=1)[last, 0]
    behind = steps - (windows[last, 1] - 1)
    inside = (last >= 0) & (behind <= 0)
    earned = gain * _sigmoid((behind[inside] - 1) / width[inside]) / _sigmoid(-1.0)
    found, first = np.unique(last[inside], return_index=True)
    place = behind[~inside] / np.maximum(width[~inside] - 1, 1)
    beyond = (last[~inside] < 0) | (place >= 3)
    wrong = np.where(beyond, 1.0, -_sigmoid(np.where(beyond, 3.0, place)))
    n_windows = int(counted.sum())
    score = earned[first].sum() - cost * wrong.sum() - loss * (n_windows - len(found))
    nothing, perfect = -loss * n_windows, gain * n_windows
    return float(100 * (score - nothing) / (perfect - nothing))


def ucr_hit(labels: Any, scores: Any) -> bool:
    """Return whether the highest score lies at the one event, by the rule of the UCR anomaly archive.

    At means within the event's length, or 100 steps if that is more, of either end. Of equal scores the first counts.

    Parameters
    ----------
    labels : array of shape (n,)
        With exactly one event.
    scores : array of shape (n,)
        Higher = more anomalous; NaN: not observed.

    Raises
    ------
    InputError
        If there is not exactly one event, or no score.

    References
    ----------
    Wu and Keogh: Current Time Series Anomaly Detection Benchmarks are Flawed and are Creating the Illusion of
    Progress. TKDE 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.series import ucr_hit
    >>> steps = np.arange(1000)
    >>> ucr_hit(steps == 500, -abs(steps - 599)), ucr_hit(steps == 500, -abs(steps - 600))
    (True, False)
    """
    labels, scores, missing = _as_scored(labels, scores)
    found = _runs(labels == 1)
    if len(found) != 1:
        raise InputError(f"labels holds {len(found)} events: the rule of the UCR archive is for series with one")
    seen = ~missing & (labels != -1)
    if not seen.any():
        raise InputError("scores holds no score of a known step: nothing can be the highest")
    begin, end = int(found[0, 0]), int(found[0, 1]) - 1
    reach = max(end - begin + 1, 100)
    highest = int(np.where(seen, scores, -np.inf).argmax())
    return begin - reach < highest < end + reach


def esa_scores(labels: Any, predictions: Any, beta: float = 0.5) -> PrecisionRecall:
    """Return the corrected event-wise precision, recall and F of ESA-ADB.

    Precision is found / (found + false alarms), times the share of normal steps that are not flagged: one alarm over
    everything would else be perfect.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1.
    beta : float > 0, default .5
        Weight of recall in F (ESA-ADB).

    References
    ----------
    Kotowski et al.: European Space Agency Benchmark for Anomaly Detection in Satellite Telemetry. 2024. The
    correction is by Sehili and Zhang, 2023.

    Examples
    --------
    >>> from assay.metrics.series import esa_scores
    >>> esa_scores([0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0])
    PrecisionRecall(precision=0.375, recall=1.0, f=0.42857142857142855)
    """
    check_number(beta, "beta", low=0.0, strict_low=True)
    found = event_scores(labels, predictions)
    case = _judged(labels, predictions)
    normal = case.known & ~case.truth
    quiet = 1.0 - case.flagged[normal].mean() if normal.any() else 1.0
    precision = found.segment_precision * float(quiet)
    return PrecisionRecall(precision, found.recall, _f(precision, found.recall, beta=beta))


def point_adjusted_f1(labels: Any, predictions: Any) -> PointAdjusted:
    """Return the point-adjusted F1, only for comparison with old papers, beside that of random flags.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,)
        0, 1 and -1.

    References
    ----------
    Kim, Choi, Choi, Lee and Yoon: Towards a Rigorous Evaluation of Time-Series Anomaly Detection. AAAI 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.series import point_adjusted_f1
    >>> labels, flags = np.zeros(10_000, dtype=int), np.zeros(10_000, dtype=int)
    >>> labels[3000:3500] = 1
    >>> flags[::100] = 1
    >>> found = point_adjusted_f1(labels, flags)
    >>> round(found.inflated_f1, 2), round(found.random_f1, 2), round(found.f1, 2)
    (0.91, 0.91, 0.02)
    """
    case = _judged(labels, predictions)
    if not len(case.events):
        return PointAdjusted(_NAN, _NAN, _NAN, _NAN, _NAN)
    sizes, hits = _sums(case.known, case.events), _sums(case.flagged, case.events)
    n_flagged, n_true = int(case.flagged.sum()), int(sizes.sum())
    rate = n_flagged / int(case.known.sum())
    levels = np.arange(101)[:, None] / 100
    enough = np.floor(levels * sizes + 1e-9)  # flags that do not suffice yet
    found = np.where(hits > enough, sizes, hits).sum(axis=1)
    false = n_flagged - int(hits.sum())
    by_chance = binom.sf(enough, sizes, rate) * sizes + sizes * rate * binom.cdf(enough - 1, sizes - 1, rate)
    curve = 2 * found / (n_true + found + false)
    random = by_chance.sum(axis=1)
    random = 2 * random / (n_true + random + rate * (int(case.known.sum()) - n_true))
    return PointAdjusted(
        inflated_f1=float(curve[0]),
        random_f1=float(random[0]),
        inflated_area=_area(curve) / 100,
        random_area=_area(random) / 100,
        f1=case.points().f,
    )


def oracle_f1(labels: Any, scores: Any) -> float:
    """Return the best F1 of the steps over all thresholds, which looks at the labels; parameters as for `vus`.

    Examples
    --------
    >>> from assay.metrics.series import oracle_f1
    >>> oracle_f1([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9])
    0.8
    """
    labels, scores, missing = _as_scored(labels, scores)
    seen = ~missing & (labels != -1)
    truth, scores = labels[seen] == 1, scores[seen]
    if not truth.any():
        return _NAN
    order = np.argsort(-scores, kind="stable")
    last = np.r_[scores[order][1:] != scores[order][:-1], True]
    found = np.cumsum(truth[order])
    return float((2 * found / (np.arange(1, len(order) + 1) + truth.sum()))[last].max())


def oracle_best(
    labels: Any, scores: Any, metric: Callable[[Any, Any], float], thresholds: int = 100
) -> tuple[float, float]:
    """Return the best value of a metric over thresholds, and its threshold; it looks at the labels.

    Parameters
    ----------
    labels, scores : arrays of shape (n,)
        As for `vus`.
    metric : callable
        Takes labels and predictions, returns a number.
    thresholds : int >= 1, default 100
        Equal steps from the least to the largest score; steps above are flagged (TSB-AD).

    Examples
    --------
    >>> from assay.metrics.series import affiliation, oracle_best
    >>> oracle_best([0, 1, 1, 0], [0, 2, 2, 1], lambda y, flags: affiliation(y, flags).f, thresholds=3)
    (1.0, 1.0)
    """
    check_number(thresholds, "thresholds", low=1, integer=True)
    labels, scores, missing = _as_scored(labels, scores)
    best = _NAN, _NAN
    if missing.all():
        return best
    for threshold in np.linspace(scores[~missing].min(), scores[~missing].max(), int(thresholds)):
        value = float(metric(labels, np.where(missing, -1, scores > threshold)))
        if value > best[0] or np.isnan(best[0]):
            best = value, float(threshold)
    return best


def evaluate_series(
    labels: Any,
    scores: Any,
    predictions: Any = None,
    *,
    max_buffer: int | None = None,
    series: Any = None,
    step: float | None = None,
) -> dict[str, float]:
    """Return the metrics to report, by name: those without a threshold and, with predictions, those of alarms.

    Parameters
    ----------
    labels : array of shape (n,)
        0, 1 and -1.
    scores : array of shape (n,)
        Higher = more anomalous; NaN: not observed, whatever the predictions say there.
    predictions : array of shape (n,), optional
        1 flagged, 0 not, -1 not observed; from a threshold that has not seen these labels.
    max_buffer : int >= 0, optional
        As for `vus`.
    series : array of shape (n,) or (n, d), optional
        As for `vus`.
    step : float > 0, optional
        Seconds between two steps.

    Returns
    -------
    dict
        ``vus_pr``, ``vus_roc``, ``average_precision``, ``auroc``, ``max_buffer``; with predictions also
        ``precision``, ``recall``, ``f1`` (of steps), ``event_recall``, ``composite_f1``, ``segment_f1``,
        ``range_precision``, ``range_recall``, ``range_f1``, ``affiliation_precision``, ``affiliation_recall``,
        ``affiliation_f1``, ``false_alarms``, ``false_alarms_per_1000_steps``, ``false_alarms_per_day`` (NaN without
        `step`), ``median_delay`` (steps). Undefined values are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.metrics.series import evaluate_series
    >>> labels = np.zeros(1000, dtype=int)
    >>> labels[400:450] = 1
    >>> found = evaluate_series(labels, labels, np.roll(labels, 5), max_buffer=20)
    >>> found["vus_pr"], found["f1"], found["event_recall"], found["median_delay"]
    (1.0, 0.9, 1.0, 5.0)
    """
    labels, scores, missing = _as_scored(labels, scores)
    volume = vus(labels, np.where(missing, np.nan, scores), max_buffer, series=series)
    seen = ~missing & (labels != -1)
    result = {
        "vus_pr": volume.pr,
        "vus_roc": volume.roc,
        "average_precision": average_precision(labels[seen] == 1, scores[seen]),
        "auroc": roc_auc(labels[seen] == 1, scores[seen]),
        "max_buffer": float(volume.max_buffer),
    }
    if predictions is None:
        return result
    flags = np.where(missing, -1, as_labels(predictions, len(labels), "predictions"))
    points, alarms = point_scores(labels, flags), event_scores(labels, flags, step)
    ranges, zones = range_scores(labels, flags), affiliation(labels, flags)
    return result | {
        "precision": points.precision,
        "recall": points.recall,
        "f1": points.f,
        "event_recall": alarms.recall,
        "composite_f1": alarms.composite_f1,
        "segment_f1": alarms.segment_f1,
        "range_precision": ranges.precision,
        "range_recall": ranges.recall,
        "range_f1": ranges.f,
        "affiliation_precision": zones.precision,
        "affiliation_recall": zones.recall,
        "affiliation_f1": zones.f,
        "false_alarms": float(alarms.false_alarms),
        "false_alarms_per_1000_steps": alarms.false_alarms_per_1000_steps,
        "false_alarms_per_day": alarms.false_alarms_per_day,
        "median_delay": alarms.median_delay,
    }


@dataclass(frozen=True)
class _Judged:
    """Labels and predictions, unknown steps set aside. Steps of an event in an alarm are always known."""

    known: Bools
    truth: Bools
    flagged: Bools
    events: Ints
    alarms: Ints

    def points(self) -> PrecisionRecall:
        hits, n_flagged, n_true = (self.truth & self.flagged).sum(), self.flagged.sum(), self.truth.sum()
        precision, recall = _ratio(hits, n_flagged), _ratio(hits, n_true)
        return PrecisionRecall(precision, recall, _ratio(2 * hits, n_flagged + n_true) if n_true else _NAN)


def _judged(labels: Any, predictions: Any) -> _Judged:
    labels = _as_labels(labels, "labels")
    predictions = as_labels(predictions, len(labels), "predictions")
    known = (labels != -1) & (predictions != -1)
    found, alarms = _runs(labels == 1), _runs(predictions == 1)
    return _Judged(
        known=known,
        truth=known & (labels == 1),
        flagged=known & (predictions == 1),
        events=found[_sums(known, found) > 0],
        alarms=alarms[_sums(known, alarms) > 0],
    )


def _as_labels(labels: Any, name: str) -> Ints:
    shape = np.shape(labels)
    if not shape:
        raise InputError(f"{name} is a single value: give one label a time step")
    return as_labels(labels, shape[0], name)


def _as_scores(scores: Any, name: str) -> tuple[Floats, Bools]:
    """Return finite scores, 0 where there is none, and where that is."""
    array, _ = as_table(scores, name)
    missing = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=bool)
    return as_vector(np.where(missing, 0.0, array) if missing.any() else array, name), missing


def _as_scored(labels: Any, scores: Any) -> tuple[Ints, Floats, Bools]:
    scores, missing = _as_scores(scores, "scores")
    return as_labels(labels, len(scores), "labels"), scores, missing


def _runs(flags: Bools) -> Ints:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return edges.reshape(-1, 2).astype(np.int64)


def _sums(values: Any, runs: Ints) -> Any:
    """Return the sum over each run."""
    total = np.concatenate([[0], np.cumsum(values)])
    return total[runs[:, 1]] - total[runs[:, 0]]


def _touching(runs: Ints, others: Ints) -> Ints:
    """Return for each run how many of the others share a step with it."""
    return np.searchsorted(others[:, 0], runs[:, 1]) - np.searchsorted(others[:, 1], runs[:, 0], side="right")


def _ratio(part: Any, whole: Any) -> float:
    return float(part / whole) if whole else _NAN


def _f(precision: float, recall: float, beta: float = 1.0) -> float:
    if np.isnan(recall):
        return _NAN
    if np.isnan(precision) or precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def _area(heights: Floats) -> float:
    return float((heights[1:] + heights[:-1]).sum() / 2)


def _volume(labels: Ints, scores: Floats, left_out: Bools, max_buffer: int, n_thresholds: int) -> Volume:
    seen = scores[~left_out]
    found = _runs(labels == 1)
    found = found[_sums(~left_out, found) > 0]
    n_true = int(((labels == 1) & ~left_out).sum())
    if n_true in (0, len(seen)):
        empty = np.full(max_buffer + 1, np.nan)
        return Volume(_NAN, _NAN, empty, empty, max_buffer)
    ranks = np.linspace(0, len(seen) - 1, n_thresholds).astype(np.int64)
    levels = np.sort(seen)[::-1][ranks][::-1]
    # The first threshold that reaches a step, from the highest; none where nothing was observed.
    reached = n_thresholds - np.searchsorted(levels, scores, side="right")
    reached[left_out] = n_thresholds
    n_flagged = np.bincount(reached, minlength=n_thresholds + 1)[:n_thresholds].cumsum()
    hits = np.bincount(reached[labels == 1], minlength=n_thresholds + 1)[:n_thresholds].cumsum()

    ap, auroc = np.empty(max_buffer + 1), np.empty(max_buffer + 1)
    for buffers, soft, share in _widened(found, reached, max_buffer, n_thresholds):
        true = hits + soft
        positives = n_true + soft / 2
        tpr = np.minimum(true / positives, 1.0) * share
        fpr = (n_flagged - true) / (len(seen) - positives)
        ap[buffers] = (np.diff(tpr, prepend=0.0) * true / n_flagged).sum(axis=1)
        # The curve of every buffer, from (0, 0) to (1, 1).
        curves = np.zeros((2, len(buffers), n_thresholds + 2))
        curves[:, :, 1:-1], curves[:, :, -1] = (fpr, tpr), 1.0
        x, y = curves
        auroc[buffers] = (np.diff(x) * (y[:, 1:] + y[:, :-1])).sum(axis=1) / 2
    return Volume(float(ap.mean()), float(auroc.mean()), ap, auroc, max_buffer)


def _widened(found: Ints, reached: Ints, max_buffer: int, n_thresholds: int) -> Any:
    """Yield, for each half buffer h, the buffers 2 h and 2 h + 1, S at every threshold, and the share of events hit."""
    half = max_buffer // 2
    steps, nearest, second = _distances(found, len(reached), half)
    level = reached[steps]
    shape = half + 1, n_thresholds + 1
    # alone[d, k]: steps at distance d from one event alone that the k-th threshold reaches first.
    alone = np.bincount(nearest * shape[1] + level, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    shared = np.zeros(shape[1])
    order = np.argsort(second, kind="stable")
    joins = np.searchsorted(second[order], np.arange(half + 2))
    best = np.minimum.reduceat(np.r_[reached, n_thresholds], found.ravel())[::2]
    gaps = found[1:, 0] - (found[:-1, 1] - 1)
    for h in range(half + 1):
        joining = order[joins[h] : joins[h + 1]]
        np.subtract.at(alone, (nearest[joining], level[joining]), 1.0)
        shared += np.bincount(level[joining], minlength=shape[1])
        buffers = np.arange(2 * h, min(2 * h + 1, max_buffer) + 1)
        distances = np.arange(1, h + 1)
        weights = np.sqrt(1 - distances / np.maximum(buffers, 1)[:, None])
        soft = (weights @ alone[1 : h + 1] + shared)[:, :n_thresholds].cumsum(axis=1)
        # Widened by one more step on either side, clipped to the series.
        before, behind = np.maximum(found[:, 0] - h, 0), np.minimum(found[:, 1] - 1 + h, len(reached) - 1)
        best = np.minimum(best, np.minimum(reached[before], reached[behind]))
        starts = np.r_[0, np.flatnonzero(gaps > 2 * h) + 1]
        group = np.minimum.reduceat(best, starts)
        share = np.bincount(group, minlength=shape[1])[:n_thresholds].cumsum() / len(group)
        yield buffers, soft, share


def _distances(found: Ints, n: int, half: int) -> tuple[Ints, Ints, Ints]:
    """Return the steps outside events within `half` of one, and their distances to the nearest and the next event."""
    far = n + half + 1
    padded = np.concatenate([[[-far, -far]] * 2, found, [[n + far, n + far]] * 2])
    gap = np.arange(1, len(padded) - 2)  # gap i lies between padded[i] and padded[i + 1]
    begin, end = np.maximum(padded[gap, 1], 0), np.minimum(padded[gap + 1, 0], n)
    cut = np.minimum(begin + half, end)
    back = np.maximum(end - half, cut)
    # Of a gap only both ends matter: [begin, cut) and [back, end).
    begin, end = np.column_stack([begin, back]).ravel(), np.column_stack([cut, end]).ravel()
    gap = np.repeat(gap, 2)
    length = np.maximum(end - begin, 0)
    gap = np.repeat(gap, length)
    steps = np.arange(length.sum()) + np.repeat(begin - (np.cumsum(length) - length), length)
    left, right = steps - (padded[gap, 1] - 1), padded[gap + 1, 0] - steps
    nearest = np.minimum(left, right)
    other = np.minimum(steps - (padded[gap - 1, 1] - 1), padded[gap + 2, 0] - steps)
    second = np.minimum(np.maximum(left, right), other)
    near = nearest <= half
    return steps[near], nearest[near], second[near]


def _range_recall(runs: Ints, others: Ints, flagged: Bools, known: Bools, alpha: float, bias: str) -> float:
    """Return the mean over runs of α · existence + (1 - α) · overlap / number of others that touch."""
    if not len(runs):
        return _NAN
    length = runs[:, 1] - runs[:, 0]
    first = np.cumsum(length) - length
    place = np.arange(length.sum()) - np.repeat(first, length)  # 0 at the start of its run
    steps = place + np.repeat(runs[:, 0], length)
    length = np.repeat(length, length)
    weights = {
        "flat": np.ones_like(place),
        "front": length - place,
        "middle": np.minimum(place + 1, length - place),
        "back": place + 1,
    }[bias]
    weights = weights * known[steps]
    overlap = np.add.reduceat(weights * flagged[steps], first) / np.add.reduceat(weights, first)
    touching = _touching(runs, others)
    return float((alpha * (touching > 0) + (1 - alpha) * overlap / np.maximum(touching, 1)).mean())


def _zone_precision(flagged: Floats, start: float, end: float, low: float, high: float) -> float:
    """Return the mean over flagged x of the chance that a point of the zone is further from the event than x."""
    margin = min(start - low, high - end)

    def closer(distance: Floats) -> Floats:
        """Integrate what is no further than d, up to `distance`: the event, d on one side, at most d on the other."""
        both = np.minimum(distance, margin)
        return (end - start) * distance + distance**2 / 2 + both**2 / 2 + margin * (distance - both)

    before, behind = closer(np.maximum(start - flagged, 0.0)), closer(np.maximum(flagged - end, 0.0))
    length = (flagged[:, 1] - flagged[:, 0]).sum()
    lost = (before[:, 0] - before[:, 1] + behind[:, 1] - behind[:, 0]).sum() / (high - low)
    return float(1 - lost / length)


def _zone_recall(flagged: Floats, start: float, end: float, low: float, high: float) -> float:
    """Return the mean over y of the event of the chance that a point of the zone is further from y than the flags."""
    edges = flagged.ravel()
    bends = [edges, (edges[1:] + edges[:-1]) / 2, (edges + low) / 2, (edges + high) / 2]
    # Between these the integrand is linear: trapezoids are exact.
    y = np.sort(np.clip(np.concatenate([[start, end], *bends]), start, end))
    following = np.searchsorted(flagged[:, 1], y)
    padded = np.concatenate([[-np.inf], edges, [np.inf]])
    distance = np.maximum(np.minimum(y - padded[2 * following], padded[2 * following + 1] - y), 0.0)
    closer = np.minimum(distance, y - low) + np.minimum(distance, high - y)
    area = ((closer[1:] + closer[:-1]) * np.diff(y)).sum() / 2
    return float(1 - area / ((end - start) * (high - low)))


def _nab_windows(found: Ints, n: int, share: float) -> Ints:
    """Return events widened to windows [start, end), those that overlap put together."""
    if not len(found):
        return found
    half = int(share * n / len(found)) // 2
    wide = np.column_stack([np.maximum(found[:, 0] - half, 0), np.minimum(found[:, 1] + half, n)])
    apart = np.flatnonzero(wide[1:, 0] >= wide[:-1, 1])
    return np.column_stack([wide[np.r_[0, apart + 1], 0], wide[np.r_[apart, len(wide) - 1], 1]])


def _sigmoid(place: Any) -> Any:
    return 2 / (1 + np.exp(5 * place)) - 1
