"""Intervals: thresholds, padding, pruning, merging and severities worked out by hand."""

import numpy as np
import pytest
from sklearn.base import clone

from assay.calibration.intervals import IntervalThresholder, _merged, dynamic_z, padded, pruned, runs
from assay.core.validation import InputError

ONE = {"window": 1.0, "padding": 0}


def flat(n=1000, **spikes):
    """Return ones with a little deterministic unrest, and the given heights at the given places."""
    scores = 1 + 0.01 * np.cos(np.arange(n))
    for place, height in spikes.items():
        scores[int(place[1:])] = height
    return scores


def spans(found):
    return list(zip(found.start.tolist(), found.end.tolist()))


def test_flat_scores_hold_no_anomaly_and_one_spike_is_one():
    assert spans(IntervalThresholder().intervals(flat())) == []
    assert spans(IntervalThresholder(**ONE).intervals(flat(_500=9.0))) == [(500, 501)]
    assert spans(IntervalThresholder(padding=50).intervals(flat(_500=9.0))) == [(450, 551)]


def test_equal_scores_hold_no_anomaly_whatever_rounding_makes_of_their_mean():
    for value in (0.0, 0.1, 1 / 3, 7.3, 1e9):
        for n in (7, 10, 30, 1001):
            for method in ("fixed", "dynamic"):
                assert not IntervalThresholder(method=method, k=0.0).predict(np.full(n, value)).any()


def test_threshold_and_severity_by_hand():
    scores = np.zeros(100)
    scores[40:42] = 10.0
    mean, std = 0.2, np.sqrt(0.2 * 9.8)  # 98 zeros and two tens
    found = IntervalThresholder(**ONE).intervals(scores)
    assert spans(found) == [(40, 42)]
    assert found.severity[0] == pytest.approx((10 - (mean + 4 * std)) / (mean + std))
    beyond = (10 - mean) / std
    assert spans(IntervalThresholder(k=beyond - 0.01, **ONE).intervals(scores)) == [(40, 42)]
    assert spans(IntervalThresholder(k=beyond + 0.01, **ONE).intervals(scores)) == []


def test_a_second_spike_that_hardly_stands_out_is_pruned():
    # Maxima 9, 5, and 4.8 below the threshold: 9 -> 5 falls by 44 %, 5 -> 4.8 by 4 %.
    scores = flat(2000, _200=9.0, _600=5.0, _900=4.8)
    k = (4.9 - scores.mean()) / scores.std()
    assert spans(IntervalThresholder(k=k, **ONE).intervals(scores)) == [(200, 201)]
    assert spans(IntervalThresholder(k=k, min_drop=0.0, **ONE).intervals(scores)) == [(200, 201), (600, 601)]
    # A lower one that does stand out saves those between: 5.2 -> 5 falls by 4 %, 5 -> 1 by 80 %.
    close = flat(2000, _200=5.2, _600=5.0)
    assert spans(IntervalThresholder(**ONE).intervals(close)) == [(200, 201), (600, 601)]
    assert pruned([5.0, 9.0, 4.9], 4.85, 0.1) == [1]
    assert pruned([5.0, 9.0, 4.9], 3.0, 0.1) == [1, 0, 2]
    assert pruned([5.0, 4.9], 4.8, 0.1) == [] == pruned([], 1.0, 0.1)


def test_what_padding_covers_does_not_count_as_unmarked():
    # The shoulder of 8.5 lies under the threshold, within the padding of 9: it does not prune its own peak.
    scores = flat(2000, _500=9.0, _501=8.5)
    k = (8.7 - scores.mean()) / scores.std()
    assert spans(IntervalThresholder(k=k, window=1.0, padding=2).intervals(scores)) == [(498, 503)]
    assert spans(IntervalThresholder(k=k, **ONE).intervals(scores)) == []


@pytest.mark.parametrize(("place", "expected"), [(0, (0, 6)), (999, (994, 1000)), (3, (0, 9))])
def test_a_spike_at_the_border_is_padded_within_the_series(place, expected):
    scores = flat()
    scores[place] = 9.0
    thresholder = IntervalThresholder(padding=5)
    assert spans(thresholder.intervals(scores)) == [expected]
    flags = thresholder.predict(scores)
    assert flags.shape == (1000,) and flags.sum() == expected[1] - expected[0] and flags[place] == 1


def test_a_window_sees_what_the_whole_series_hides():
    scores = flat(3000, _500=3.0)
    scores[2000:] += 20 * (np.arange(1000) % 2)  # unrest later on
    assert spans(IntervalThresholder(**ONE).intervals(scores)) == []
    found = IntervalThresholder(window=0.2, padding=0).intervals(scores)
    assert [span for span in spans(found) if span[0] < 2000] == [(500, 501)]


def test_windows_cover_the_series_to_its_end():
    for n in (101, 1000, 1003):
        for place in (0, n // 2, n - 1):
            scores = flat(n)
            scores[place] = 50.0
            found = IntervalThresholder(padding=0, k=2.0).predict(scores)
            assert found[place] == 1 and found.sum() == 1


def test_overlapping_and_touching_sequences_are_one_with_severity_weighted_by_length():
    # The spike at 50 is in windows of 100 that start at 0, 10, ..., 50: one interval, the mean of their severities.
    scores = flat(200, _50=9.0)
    found = IntervalThresholder(window=0.5, step=0.1, padding=0).intervals(scores)
    each = []
    for start in range(0, 51, 10):
        part = scores[start : start + 100]
        each.append((9 - part.mean() - 4 * part.std()) / (part.mean() + part.std()))
    assert spans(found) == [(50, 51)] and found.severity[0] == pytest.approx(np.mean(each))

    touching = _merged([(5, 9, 3.0), (2, 5, 1.0), (11, 12, 7.0), (13, 20, 2.0), (14, 15, 4.0)])
    assert spans(touching) == [(2, 9), (11, 12), (13, 20)]
    np.testing.assert_allclose(touching.severity, [(3 * 1 + 4 * 3) / 7, 7, (7 * 2 + 1 * 4) / 8])


def test_dynamic_threshold_parts_two_spikes_from_unrest():
    rng = np.random.default_rng(0)
    scores = np.abs(rng.normal(size=1500))
    scores[[300, 301, 302, 900, 901]] = 12.0
    found = IntervalThresholder(method="dynamic", window=1.0, padding=0).intervals(scores)
    assert spans(found) == [(300, 303), (900, 902)]
    # Against a search over a fine grid of z: none is cheaper.
    mean, std = scores.mean(), scores.std()

    def cost(z):
        above = scores > mean + z * std
        if not above.any():
            return np.inf
        below = scores[~above]
        return -((mean - below.mean()) / mean + (std - below.std()) / std) / (above.sum() + len(runs(above)) ** 2)

    assert cost(dynamic_z(scores)) == pytest.approx(min(cost(z) for z in np.linspace(0, 12, 3000)))


def test_a_dynamic_threshold_adapts_where_four_deviations_do_not():
    scores = np.ones(400) + 0.01 * np.sin(np.arange(400))
    scores[100:150] = 6.0  # an eighth of the series: only 2.6 deviations above the mean
    assert spans(IntervalThresholder(**ONE).intervals(scores)) == []
    assert spans(IntervalThresholder(method="dynamic", **ONE).intervals(scores)) == [(100, 150)]


def test_missing_scores_are_never_anomalous_and_change_no_threshold():
    scores = flat(_500=9.0)
    scores[:100], scores[503:520] = np.nan, np.nan
    thresholder = IntervalThresholder(padding=5, window=1.0)
    found = thresholder.intervals(scores)
    assert spans(found) == [(495, 503)]
    flags = thresholder.predict(scores)
    assert set(flags) == {0, 1} and not flags[np.isnan(scores)].any()
    observed = scores[~np.isnan(scores)]
    threshold = observed.mean() + 4 * observed.std()
    assert found.severity[0] == pytest.approx((9 - threshold) / (observed.mean() + observed.std()))
    nothing = IntervalThresholder().intervals(np.full(50, np.nan))
    assert spans(nothing) == [] and not IntervalThresholder().predict(np.full(50, np.nan)).any()


def test_negative_scores_are_counted_from_the_lowest():
    scores = flat(_500=9.0)
    shifted = IntervalThresholder(padding=3).intervals(scores - 100)
    assert spans(shifted) == spans(IntervalThresholder(padding=3).intervals(scores - scores.min())) == [(497, 504)]
    assert (shifted.severity > 0).all()


def test_padding_and_runs():
    above = np.zeros(12, dtype=bool)
    above[[0, 6, 7]] = True
    assert runs(padded(above, 0)) == [(0, 1), (6, 8)]
    assert runs(padded(above, 2)) == [(0, 3), (4, 10)]
    assert runs(padded(above, 99)) == [(0, 12)] and runs(np.zeros(3, dtype=bool)) == []


@pytest.mark.parametrize("name", ["method", "k", "window", "step", "padding", "min_drop"])
def test_a_senseless_parameter_is_named(name):
    with pytest.raises(InputError, match=name):
        IntervalThresholder(**{name: object()}).intervals(flat())


@pytest.mark.parametrize("scores", [[], [[1.0]], "text", [np.inf, 1.0], 3.0])
def test_bad_scores_are_named(scores):
    with pytest.raises(InputError, match="scores"):
        IntervalThresholder().predict(scores)


def test_it_is_an_estimator_that_leaves_its_input_alone():
    thresholder = IntervalThresholder(method="dynamic", k=3.0)
    assert repr(clone(thresholder)) == repr(thresholder)
    scores = flat(_500=9.0) - 5
    before = scores.copy()
    scores.setflags(write=False)
    assert thresholder.predict(scores).sum() > 0 and (scores == before).all()
