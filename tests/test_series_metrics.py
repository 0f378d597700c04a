"""Series metrics: the published fixture, naive twins, hand-computed values, borders, gaps and what nobody can tell."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import f1_score

from assay.core.validation import InputError
from assay.metrics.ranking import average_precision, roc_auc
from assay.metrics.series import (
    NAB_PROFILES,
    affiliation,
    esa_scores,
    estimate_period,
    evaluate_series,
    event_scores,
    events,
    nab_score,
    oracle_best,
    oracle_f1,
    point_adjusted_f1,
    point_scores,
    range_auc,
    range_scores,
    ucr_hit,
    vus,
)


def fixture_labels():
    labels = np.zeros(1000, dtype=int)
    labels[400:450] = labels[700:705] = 1
    return labels


def last_points():
    scores = np.zeros(1000)
    scores[[449, 704]] = 1
    return scores


# Columns: AP, AUROC, VUS-PR, VUS-ROC, F1, PA-F1, event F1, range F1, affiliation F; computed with TSB-AD's reference.
FIXTURE = {
    "labels": (fixture_labels(), (1, 1, 1, 1, 1, 1, 1, 1, 1)),
    "late by 5": (
        np.roll(fixture_labels(), 5),
        (0.6794, 0.9038, 0.8001, 0.9192, 0.8182, 0.8696, 0.6207, 0.4549, 0.9885),
    ),
    "late by 60": (np.roll(fixture_labels(), 60), (0.0550, 0.4709, 0.0710, 0.4752, 0.1043, 0, 0, 0, 0.7784)),
    "last points": (last_points(), (0.0894, 0.5182, 0.1048, 0.5223, 0.1043, 1, 1, 0.4472, 0.9767)),
    "random": (
        np.random.default_rng(0).random(1000),
        (0.0653, 0.5319, 0.0845, 0.6119, 0.1190, 0.8696, 0.2069, 0.1205, 0.7641),
    ),
}


@pytest.mark.parametrize("name", FIXTURE)
def test_the_published_fixture(name):
    labels, (scores, expected) = fixture_labels(), FIXTURE[name]
    volume = vus(labels, scores, max_buffer=20)
    found = [
        average_precision(labels, scores),
        roc_auc(labels, scores),
        volume.pr,
        volume.roc,
        oracle_f1(labels, scores),
        oracle_best(labels, scores, lambda y, flags: point_adjusted_f1(y, flags).inflated_f1)[0],
        oracle_best(labels, scores, lambda y, flags: event_scores(y, flags).composite_f1)[0],
        oracle_best(labels, scores, lambda y, flags: range_scores(y, flags).f)[0],
        oracle_best(labels, scores, lambda y, flags: affiliation(y, flags).f)[0],
    ]
    np.testing.assert_allclose(found, expected, atol=5.1e-5)


def naive_range(labels, scores, buffer, thresholds):
    """Range-AP and range-AUROC as the definition says, one threshold after the other."""
    n, half = len(labels), buffer // 2
    runs = [(start, end - 1) for start, end in events(labels)]
    weight = np.zeros(n)
    for x in range(n):
        for first, last in runs:
            distance = max(first - x, x - last)
            if 0 < distance <= half:
                weight[x] += np.sqrt(1 - distance / buffer)
            elif distance <= 0:
                weight[x] += 1
    weight = np.minimum(weight, 1)
    wide = []
    for first, last in runs:
        if wide and first - half <= wide[-1][1]:
            wide[-1][1] = last + half
        else:
            wide.append([first - half, last + half])
    tprs, fprs, precisions = [0.0], [0.0], [1.0]
    for rank in np.linspace(0, n - 1, thresholds).astype(int):
        flagged = scores >= sorted(scores)[::-1][rank]
        true = weight[flagged].sum()
        positives = labels.sum() + weight[flagged & (labels == 0)].sum() / 2
        hit = np.mean([flagged[max(a, 0) : b + 1].any() for a, b in wide])
        tprs.append(min(true / positives, 1) * hit)
        fprs.append((flagged.sum() - true) / (n - positives))
        precisions.append(true / flagged.sum())
    ap = sum((b - a) * p for a, b, p in zip(tprs, tprs[1:], precisions[1:]))
    tprs, fprs = [*tprs, 1.0], [*fprs, 1.0]
    auroc = sum((b - a) * (u + v) / 2 for a, b, u, v in zip(fprs, fprs[1:], tprs, tprs[1:]))
    return ap, auroc


def scene(seed, n=None):
    """Random events, some at the borders, some close together, and scores that know a little, some with ties."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(30, 120))
    labels = np.zeros(n, dtype=int)
    for start in rng.integers(0, n, rng.integers(1, 9)):
        labels[start : start + rng.integers(1, 8)] = 1
    labels[0], labels[-1] = max(labels[0], seed % 3 == 0), max(labels[-1], seed % 4 == 0)
    scores = rng.normal(size=n) + labels
    return labels, np.round(2 * scores) if seed % 2 else scores


@pytest.mark.parametrize("seed", range(12))
def test_vus_against_the_naive_twin(seed):
    labels, scores = scene(seed)
    max_buffer, thresholds = (0, 1, 7, 20)[seed % 4], (250, 13)[seed % 2]
    slices = [naive_range(labels, scores, buffer, thresholds) for buffer in range(max_buffer + 1)]
    volume = vus(labels, scores, max_buffer, thresholds)
    np.testing.assert_allclose(np.column_stack([volume.range_ap, volume.range_auroc]), slices, atol=1e-12)
    np.testing.assert_allclose([volume.pr, volume.roc], np.mean(slices, axis=0), atol=1e-12)
    np.testing.assert_allclose(range_auc(labels, scores, max_buffer, thresholds), slices[-1], atol=1e-12)


def test_vus_without_a_buffer_is_range_ap_at_zero():
    labels, scores = scene(2)
    assert vus(labels, scores, 0).pr == range_auc(labels, scores, 0)[0] == vus(labels, scores, 30).range_ap[0]
    assert vus(labels, scores, 30).pr != vus(labels, scores, 0).pr


@pytest.mark.parametrize("seed", range(4))
def test_monotone_transforms_change_nothing_threshold_free(seed):
    labels, scores = scene(seed, 400)
    expected = evaluate_series(labels, scores, max_buffer=15)
    for transformed in (3 * scores - 7, np.exp(scores), np.argsort(np.argsort(scores)) if seed % 2 == 0 else scores**3):
        assert evaluate_series(labels, transformed, max_buffer=15) == pytest.approx(expected, abs=1e-14)


def test_scores_that_know_nothing():
    labels = fixture_labels()
    constant = evaluate_series(labels, np.full(1000, 3.0), max_buffer=20)
    assert constant["auroc"] == 0.5
    assert constant["average_precision"] == pytest.approx(0.055)
    values = [vus(labels, np.random.default_rng(seed).random(1000), 20).pr for seed in range(10)]
    assert 0.05 < np.mean(values) < 0.1


def test_the_buffer_is_the_period_of_the_series_never_of_the_scores():
    time = np.arange(3000)
    series = np.sin(2 * np.pi * time / 40) + 0.1 * np.random.default_rng(0).normal(size=3000)
    labels = ((time >= 1000) & (time < 1030)).astype(int)
    scores = np.sin(2 * np.pi * time / 60)
    assert estimate_period(series) == 40
    assert estimate_period(np.column_stack([series, scores])) == 40
    assert estimate_period(np.where(time % 17 == 3, np.nan, series)) == 40
    assert vus(labels, scores, series=series).max_buffer == 40
    assert vus(labels, scores, series=series).pr == vus(labels, scores, 40).pr
    assert vus(labels, scores).max_buffer == 125
    assert evaluate_series(labels, scores, series=series)["max_buffer"] == 40


@pytest.mark.parametrize("series", [[], [1.0], np.ones(600), np.arange(600.0), np.full(50, np.nan)])
def test_no_period(series):
    assert estimate_period(series) == 125


def test_a_peak_at_the_rim_of_the_lags_is_no_period():
    time = np.arange(6000)
    assert estimate_period(np.sin(2 * np.pi * time / 4)) != 4
    assert estimate_period(np.sin(2 * np.pi * time / 350)) == 125


def test_events():
    assert events([0, 0]).shape == (0, 2)
    assert events([1, 1]).tolist() == [[0, 2]]
    assert events(np.array([True, False, True])).tolist() == [[0, 1], [2, 3]]
    assert events([1, -1, 1, 0]).tolist() == [[0, 1], [2, 3]]


# What nobody can tell


@pytest.mark.parametrize("how", ["label", "score"])
@pytest.mark.parametrize("seed", range(6))
def test_unknown_steps_do_not_count_but_keep_their_place(seed, how):
    """Unknown steps far from any event: the same as a shorter series; near one: their scores must not matter."""
    labels, scores = scene(seed, 100)
    longer, higher = np.r_[labels, np.zeros(60, dtype=int)], np.r_[scores, np.full(60, 99.0)]
    gone = np.arange(160) >= 100
    gone[np.random.default_rng(seed).integers(0, 100, 12)] = True
    gone[np.flatnonzero(longer == 1)[0]] = False
    longer = np.where(gone & (how == "label"), -1, longer)
    noise = np.random.default_rng(9).normal(size=160)
    answers = []
    for filling in (higher, noise, np.full(160, np.nan)):
        given = np.where(gone, np.nan if how == "score" else filling, higher)
        answers.append(evaluate_series(longer, given, max_buffer=12))
    assert answers[0] == answers[1] == answers[2]
    kept = gone[:100]
    assert answers[0]["auroc"] == pytest.approx(roc_auc(labels[~kept], scores[~kept]))
    assert answers[0]["average_precision"] == pytest.approx(average_precision(labels[~kept], scores[~kept]))


def test_a_tail_that_nobody_saw_is_as_if_the_series_had_ended():
    labels, scores = scene(4, 100)
    expected = vus(labels, scores, 16)
    tail = np.zeros(50, dtype=int)
    for more_labels, more_scores in ((tail, tail * np.nan), (tail - 1, tail + 99.0), (tail + 1, tail * np.nan)):
        seen = np.r_[labels, [0] * 20, more_labels], np.r_[scores, [np.nan] * 20, more_scores]
        volume = vus(*seen, 16)
        np.testing.assert_allclose([volume.pr, volume.roc], [expected.pr, expected.roc], rtol=1e-14)


def test_an_event_that_nobody_saw_is_neither_found_nor_missed():
    labels = np.array([0, 1, 1, 0, 0, 1, 1, 0])
    flags = np.array([0, 0, 1, 0, 0, -1, -1, 0])
    found = event_scores(labels, flags)
    assert (found.events, found.found, found.recall, found.false_alarms) == (1, 1, 1.0, 0)
    assert range_scores(labels, flags).recall == pytest.approx(0.2 + 0.8 / 2)
    assert affiliation(labels, flags) == affiliation(np.r_[labels[:5], 0, 0, 0], np.r_[flags[:5], 0, 0, 0])
    scores = np.where(flags == -1, np.nan, flags)
    for given in (0, 1):
        found = evaluate_series(labels, scores, np.where(flags == -1, given, flags))
        assert found["event_recall"] == 1.0
        assert (found["precision"], found["recall"]) == (1.0, 0.5)
    # A missing prediction inside an event does not split it; an unknown label does.
    assert event_scores([0, 1, 1, 1, 0], [0, 1, -1, 0, 0]).events == 1
    assert event_scores([0, 1, -1, 1, 0], [0, 1, 0, 0, 0]).events == 2


def test_alarms_on_unknown_steps_are_neither_hits_nor_false():
    labels = np.array([0, -1, -1, 0, 0, 1, 1, 0, 0, 0])
    flags = np.array([0, 1, 1, 0, 0, 1, 1, 0, 0, 0])
    quiet = np.where(labels == -1, 0, flags)
    found = event_scores(labels, flags)
    assert (found.alarms, found.false_alarms, found.composite_f1, found.segment_f1) == (1, 0, 1.0, 1.0)
    assert found.false_alarms_per_1000_steps == 0
    for metric in (point_scores, range_scores, affiliation, esa_scores, point_adjusted_f1, nab_score):
        assert metric(labels, flags) == metric(labels, quiet), metric
    # Of an alarm only known steps weigh: the first of two.
    assert range_scores([1, -1, 0, 0], [1, 1, 0, 0]).precision == 1.0
    assert range_scores([0, 1, 1, 1], [0, 1, -1, 0]).recall == pytest.approx(0.2 + 0.8 / 2)
    # The known normal step of an alarm that begins on unknown ones is false.
    assert event_scores([-1, 0, 0, 1], [1, 1, 0, 0]).false_alarms == 1


def test_without_anomalies_false_alarms_are_still_counted():
    flags = np.array([0, 1, 1, 0, 0, 0, 1, 0, 0, 0])
    found = evaluate_series(np.zeros(10, dtype=int), np.arange(10.0), flags, step=8640)
    counted = {"false_alarms": 2.0, "false_alarms_per_1000_steps": 200.0, "false_alarms_per_day": 2.0}
    assert {name: found.pop(name) for name in counted} == counted
    assert found.pop("max_buffer") == 125
    assert found.pop("precision") == found.pop("range_precision") == 0.0
    assert all(np.isnan(value) for value in found.values()), found
    assert np.isnan(nab_score(np.zeros(10, dtype=int), flags))
    assert np.isnan(oracle_f1(np.zeros(10, dtype=int), np.arange(10.0)))
    assert np.isnan(point_adjusted_f1(np.zeros(10, dtype=int), flags)).all()


@pytest.mark.parametrize("labels", [np.ones(20, dtype=int), -np.ones(20, dtype=int), np.zeros(0, dtype=int)])
def test_only_anomalies_only_unknown_nothing_at_all(labels):
    found = evaluate_series(labels, np.arange(float(len(labels))), np.ones(len(labels)), max_buffer=5)
    for name in ("vus_pr", "vus_roc", "auroc", "average_precision"):
        assert np.isnan(found[name])
    assert found["false_alarms"] == 0
    assert found["f1"] == 1.0 if (labels == 1).any() else np.isnan(found["f1"])


def test_without_alarms():
    labels = fixture_labels()
    found = evaluate_series(labels, labels, np.zeros(1000, dtype=int), max_buffer=5)
    for name in ("f1", "composite_f1", "segment_f1", "range_f1", "affiliation_f1", "event_recall", "range_recall"):
        assert found[name] == 0.0, name
    for name in ("precision", "range_precision", "affiliation_precision", "median_delay", "false_alarms_per_day"):
        assert np.isnan(found[name]), name


# Of predictions


@pytest.mark.parametrize("seed", range(6))
def test_point_scores(seed):
    labels, scores = scene(seed)
    flags = scores > 0.4
    assert point_scores(labels, flags).f == pytest.approx(f1_score(labels, flags))
    best = max(f1_score(labels, scores >= threshold) for threshold in scores)
    assert oracle_f1(labels, scores) == pytest.approx(best)


def test_event_scores_at_the_borders():
    labels = np.array([1, 1, 0, 0, 0, 1, 1, 1, 0, 1])
    flags = np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 0])
    found = event_scores(labels, flags, step=86_400)
    assert (found.events, found.found, found.alarms, found.false_alarms) == (3, 2, 3, 0)
    np.testing.assert_equal(found.delays, [0, 0, np.nan])  # the second alarm began before the event: no delay
    assert found.recall == pytest.approx(2 / 3)
    assert found.point_precision == pytest.approx(3 / 5)
    assert found.composite_f1 == pytest.approx(2 * (2 / 3) * 0.6 / (2 / 3 + 0.6))
    assert (found.segment_precision, found.segment_f1) == (1.0, pytest.approx(0.8))
    late = event_scores(labels, [0, 1, 1, 0, 0, 0, 0, 1, 0, 0], step=86_400)
    np.testing.assert_equal(late.delays, [1, 2, np.nan])
    assert late.median_delay == 1.5
    noisy = event_scores(labels, [0, 0, 1, 0, 1, 0, 0, 0, 1, 0], step=86_400)
    assert (noisy.false_alarms, noisy.false_alarms_per_day, noisy.false_alarms_per_1000_steps) == (3, 0.3, 300.0)
    assert np.isnan(noisy.median_delay) and noisy.segment_f1 == 0.0


def test_oracle_best_by_hand_and_with_missing_scores():
    labels, scores = [0, 0, 1, 1, 0], [0.0, 1.0, 2.0, np.nan, 4.0]
    # Above 1.33: steps 2 and 4; step 3 is not observed, so not missed either.
    value, threshold = oracle_best(labels, scores, lambda y, flags: point_scores(y, flags).f, thresholds=4)
    assert (value, threshold) == (pytest.approx(2 / 3), pytest.approx(4 / 3))
    assert np.isnan(oracle_best([0, 1], [np.nan, np.nan], lambda y, flags: 1.0)).all()


def naive_ranges(runs, others, alpha, bias):
    """Tatbul's recall of the runs by the others, both as lists of sets of steps."""
    total = 0.0
    for run in runs:
        steps, length = sorted(run), len(run)
        places = range(1, length + 1)
        weight = {
            "flat": [1 for _ in places],
            "front": [length - i + 1 for i in places],
            "back": list(places),
            "middle": [i if i <= length / 2 else length - i + 1 for i in places],
        }[bias]
        touching = [other for other in others if run & other]
        mine = sum(w for w, step in zip(weight, steps) if any(step in other for other in touching))
        share = mine / sum(weight)
        total += alpha * bool(touching) + (1 - alpha) * share / max(len(touching), 1)
    return total / len(runs)


@pytest.mark.parametrize("seed", range(8))
def test_range_scores_against_the_naive_twin(seed):
    labels, scores = scene(seed)
    flags = (scores > 0.5).astype(int)
    truth, alarms = ([set(range(*run)) for run in events(flags_of)] for flags_of in (labels, flags))
    for bias, other_bias in (("flat", "flat"), ("front", "back"), ("back", "middle"), ("middle", "front")):
        found = range_scores(labels, flags, alpha=0.3, recall_bias=bias, precision_bias=other_bias)
        assert found.recall == pytest.approx(naive_ranges(truth, alarms, 0.3, bias), abs=1e-12)
        assert found.precision == pytest.approx(naive_ranges(alarms, truth, 0.0, other_bias), abs=1e-12)
        assert found.f == pytest.approx(2 * found.precision * found.recall / (found.precision + found.recall))


def intervals(*runs, n=10):
    array = np.zeros(n, dtype=int)
    for start, end in runs:
        array[start:end] = 1
    return array


@pytest.mark.parametrize(
    "flagged, truth, precision, recall",
    [
        ([(3, 5)], [(4, 6)], 0.85, 0.95),
        ([(0, 1)], [(4, 6)], 0.10, 0.2125),
        ([(8, 9)], [(2, 3), (7, 8)], 0.60, 0.40),
    ],
)
def test_affiliation_by_its_published_checks(flagged, truth, precision, recall):
    found = affiliation(intervals(*truth), intervals(*flagged))
    assert (found.precision, found.recall) == pytest.approx((precision, recall), abs=1e-12)
    assert found.f == pytest.approx(2 * precision * recall / (precision + recall))


def naive_affiliation(labels, flags, fine=8):
    """Average over midpoints of a fine grid, for every pair of points."""
    runs, n = events(labels), len(labels)
    borders = [0, *[(a + b) / 2 for (_, a), (b, _) in pairwise(runs)], n]
    grid = (np.arange(n * fine) + 0.5) / fine
    flagged, truth = np.repeat(flags, fine) == 1, np.repeat(labels, fine) == 1

    def distances(points, to):
        return np.abs(points[:, None] - to).min(axis=1)

    precisions, recalls = [], []
    for low, high in pairwise(borders):
        zone = (grid > low) & (grid < high)
        x, event, mine = grid[zone], grid[zone & truth], grid[zone & flagged]
        if not len(mine):
            recalls.append(0.0)
            continue
        of_event, to_event = distances(x, event), distances(mine, event)
        precisions.append(np.mean([np.mean(of_event > d) + np.mean(of_event == d) * (d == 0) for d in to_event]))
        to_flags = distances(event, mine)
        recalls.append(np.mean([np.mean(np.abs(x - y) > d) if d else 1.0 for y, d in zip(event, to_flags)]))
    return np.mean(precisions), np.mean(recalls)


@pytest.mark.parametrize("seed", range(8))
def test_affiliation_against_the_naive_twin(seed):
    labels, scores = scene(seed)
    flags = (scores > 1.4).astype(int)
    found = affiliation(labels, flags)
    # The grid rounds each distance by half of 1 / 8 step, in zones of some ten steps.
    np.testing.assert_allclose(found[:2], naive_affiliation(labels, flags), atol=0.02)
    assert affiliation(labels, labels) == (1.0, 1.0, 1.0)


def test_affiliation_flatters_random_alarms():
    rng = np.random.default_rng(0)
    labels = intervals((2000, 2010), (6000, 6005), n=10_000)
    found = affiliation(labels, rng.random(10_000) < 0.05)
    assert found.precision == pytest.approx(0.5, abs=0.05)
    assert found.recall > 0.95


def naive_nab(labels, flags, profile, window):
    """Row by row, as the benchmark's own scorer goes."""
    gain, cost, loss = NAB_PROFILES[profile]
    n, runs = len(labels), events(labels)
    half = int(window * n / len(runs)) // 2
    inside = np.zeros(n, dtype=bool)
    for start, end in runs:
        inside[max(start - half, 0) : end + half] = True
    windows, skipped = events(inside), min(int(0.15 * n), 750)

    def sigma(y):
        return -1.0 if y >= 3 else 2 / (1 + np.exp(5 * y)) - 1

    score, best = 0.0, {w: -loss for w, (_, end) in enumerate(windows) if end > skipped}
    for i in np.flatnonzero(flags):
        if i < skipped:
            continue
        at = [w for w, (start, end) in enumerate(windows) if start <= i < end]
        before = [w for w, (_, end) in enumerate(windows) if end <= i]
        if at:
            start, end = windows[at[0]]
            best[at[0]] = max(best[at[0]], gain * sigma((i - end) / (end - start)) / sigma(-1))
        else:
            start, end = windows[before[-1]] if before else (0, 0)
            score += cost * sigma((i - end + 1) / max(end - start - 1, 1) if before else 3)
    nothing = -loss * len(best)
    return 100 * (score + sum(best.values()) - nothing) / (gain * len(best) - nothing)


@pytest.mark.parametrize("profile", NAB_PROFILES)
@pytest.mark.parametrize("seed", range(8))
def test_nab_against_the_naive_twin(seed, profile):
    labels, scores = scene(seed, 300 if seed % 2 else 6000)
    flags = scores > (2.5, 0.5)[seed % 2]
    for window in (0.0, 0.1):
        found = nab_score(labels, flags, profile, window)
        expected = naive_nab(labels, flags, profile, window)
        assert found == pytest.approx(expected, abs=1e-9)


def test_nab_by_hand():
    labels, n = intervals((600, 601), n=1000), 1000  # the window is [550, 651)
    assert nab_score(labels, intervals((550, 551), n=n)) == pytest.approx(100)
    assert nab_score(labels, intervals((550, 651), n=n)) == pytest.approx(100)
    assert nab_score(labels, intervals((549, 551), n=n)) == pytest.approx(100 - 100 * 0.11 / 2)
    assert nab_score(labels, intervals((549, 551), n=n), "low_fp") == pytest.approx(100 - 100 * 0.22 / 2)
    late = 2 / (1 + np.exp(-5 / 101)) - 1
    assert nab_score(labels, intervals((650, 651), n=n)) == pytest.approx(50 + 50 * late / (2 / (1 + np.exp(-5)) - 1))
    behind = 2 / (1 + np.exp(5 / 100)) - 1
    assert nab_score(labels, intervals((651, 652), n=n)) == pytest.approx(50 * 0.11 * behind)
    assert nab_score(labels, intervals((0, 150), n=n)) == 0.0
    assert nab_score(labels, 0 * labels, "low_fn") == 0.0


def test_ucr_hit_at_its_bounds():
    steps = np.arange(2000)
    for begin, end, reach in ((900, 909, 100), (900, 1099, 200)):
        labels = ((steps >= begin) & (steps <= end)).astype(int)
        for highest, hit in {
            begin - reach: False,
            begin - reach + 1: True,
            end + reach - 1: True,
            end + reach: False,
        }.items():
            assert ucr_hit(labels, steps == highest) is hit
    labels = intervals((5, 6), n=500)
    scores = np.arange(500.0)
    assert not ucr_hit(labels, scores)
    scores[100:] = np.nan
    assert ucr_hit(labels, scores)
    for wrong in (np.zeros(500, dtype=int), intervals((5, 6), (9, 10), n=500)):
        with pytest.raises(InputError, match="labels holds"):
            ucr_hit(wrong, scores)
    with pytest.raises(InputError, match="scores holds no"):
        ucr_hit(labels, np.full(500, np.nan))


def test_esa_corrects_one_alarm_over_everything():
    labels = intervals((40, 50), n=100)
    assert event_scores(labels, np.ones(100)).segment_f1 == 1.0
    found = esa_scores(labels, np.ones(100))
    assert (found.precision, found.recall, found.f) == (0.0, 1.0, 0.0)
    part = esa_scores(labels, intervals((45, 68), (90, 91), n=100))
    precision = 1 / 2 * (1 - 19 / 90)
    assert part.precision == pytest.approx(precision)
    assert part.f == pytest.approx(1.25 * precision / (0.25 * precision + 1))
    assert esa_scores(labels, labels).f == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_point_adjustment_only_flatters(seed):
    labels, scores = scene(seed)
    flags = scores > 0.8
    found = point_adjusted_f1(labels, flags)
    adjusted = flags.copy()
    for start, end in events(labels):
        adjusted[start:end] |= flags[start:end].any()
    assert found.inflated_f1 == pytest.approx(f1_score(labels, adjusted))
    assert found.f1 == pytest.approx(f1_score(labels, flags))
    assert found.inflated_f1 >= found.inflated_area - 1e-14
    assert found.inflated_area >= found.f1 - 1e-14
    assert found.random_f1 >= found.random_area


def test_pa_at_k_percent_by_hand():
    labels, flags = intervals((2, 6), n=10), intervals((2, 4), n=10)
    # Half of the event is flagged: adjusted (F1 1) while K < 50, F1 2 / 3 from there on.
    area = np.r_[np.ones(50), np.full(51, 2 / 3)]
    found = point_adjusted_f1(labels, flags)
    assert found.inflated_area == pytest.approx(((area[1:] + area[:-1]) / 2).mean())


def test_random_flags_under_point_adjustment():
    labels, rate = intervals((3000, 3500), n=10_000), 0.01
    rng = np.random.default_rng(0)
    runs = [point_adjusted_f1(labels, rng.random(10_000) < rate) for _ in range(30)]
    formula = 2 * 500 / (2 * 500 + rate * 9500)
    assert np.mean([run.inflated_f1 for run in runs]) == pytest.approx(0.91, abs=0.01)
    assert np.mean([run.random_f1 for run in runs]) == pytest.approx(formula, abs=0.005)
    assert np.mean([run.f1 for run in runs]) == pytest.approx(0.017, abs=0.01)
    assert np.mean([run.inflated_area for run in runs]) == pytest.approx(runs[0].random_area, abs=0.005)


def test_random_flags_by_simulation_on_short_events():
    labels = intervals((0, 1), (5, 6), (20, 24), (90, 100), n=100)
    rng = np.random.default_rng(1)
    runs = [point_adjusted_f1(labels, rng.permutation(100) < 20) for _ in range(400)]
    assert np.mean([run.inflated_f1 for run in runs]) == pytest.approx(runs[0].random_f1, abs=0.02)
    assert np.mean([run.inflated_area for run in runs]) == pytest.approx(runs[0].random_area, abs=0.02)


def test_evaluate_series_is_what_its_parts_say():
    labels, scores = scene(3, 500)
    flags = (scores > 1).astype(int)
    found = evaluate_series(labels, scores, flags, max_buffer=10, step=60)
    volume, parts = vus(labels, scores, 10), event_scores(labels, flags, 60)
    assert (found["vus_pr"], found["vus_roc"], found["max_buffer"]) == (volume.pr, volume.roc, 10)
    assert found["auroc"] == roc_auc(labels, scores)
    assert (found["precision"], found["recall"], found["f1"]) == point_scores(labels, flags)
    assert (found["range_precision"], found["range_recall"], found["range_f1"]) == range_scores(labels, flags)
    zones = affiliation(labels, flags)
    assert (found["affiliation_precision"], found["affiliation_recall"], found["affiliation_f1"]) == zones
    for name in ("composite_f1", "segment_f1", "false_alarms", "false_alarms_per_day", "median_delay"):
        assert found[name] == getattr(parts, name)
    assert not any("inflated" in name for name in found)
    assert all(type(value) is float for value in found.values())
    assert set(evaluate_series(labels, scores)) == {"vus_pr", "vus_roc", "average_precision", "auroc", "max_buffer"}


def test_inputs_are_not_changed_and_may_be_lists():
    labels, scores = scene(5, 80)
    scores[7] = np.nan
    kept = labels.copy(), scores.copy()
    labels.flags.writeable = scores.flags.writeable = False
    flags = np.nan_to_num(scores) > 1
    found = evaluate_series(labels, scores, flags)
    np.testing.assert_equal((labels, scores), kept)
    assert evaluate_series(labels.tolist(), scores.tolist(), flags.tolist()) == pytest.approx(found, nan_ok=True)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: vus([0, 1], [1, 2, 3]), r"labels has shape \(2,\), expected \(3,\)"),
        (lambda: vus([0, 2, 1], [1, 2, 3]), "labels holds 2"),
        (lambda: vus(np.zeros((3, 2)), [1, 2, 3]), "labels has shape"),
        (lambda: vus([0, 1], [[1, 2], [3, 4]]), "scores has shape"),
        (lambda: vus([0, 1], [1, np.inf]), "scores holds infinity"),
        (lambda: vus([0, 1], ["a", "b"]), "scores cannot be read"),
        (lambda: vus([0, 1], 3.0), "scores has shape"),
        (lambda: vus([0, 1], [1, 2], -1), "max_buffer=-1"),
        (lambda: vus([0, 1], [1, 2], 2.5), "max_buffer=2.5"),
        (lambda: vus([0, 1], [1, 2], 10**6), "max_buffer=1000000"),
        (lambda: vus([0, 1], [1, 2], 3, thresholds=1), "thresholds=1"),
        (lambda: vus([0, 1], [1, 2], series=np.zeros((2, 2, 2))), "series has shape"),
        (lambda: range_auc([0, 1], [1, 2], None), "buffer=None"),
        (lambda: point_scores([0, 1], [0, 1, 1]), "predictions has shape"),
        (lambda: point_scores([0, 1], [0.3, 0.9]), "predictions holds 0.3"),
        (lambda: point_scores(1, 1), "labels is a single value"),
        (lambda: events("no"), "labels is a single value"),
        (lambda: event_scores([0, 1], [0, 1], step=0), "step=0"),
        (lambda: range_scores([0, 1], [0, 1], alpha=2), "alpha=2"),
        (lambda: range_scores([0, 1], [0, 1], recall_bias="end"), "recall_bias='end'"),
        (lambda: range_scores([0, 1], [0, 1], precision_bias=None), "precision_bias=None"),
        (lambda: nab_score([0, 1], [0, 1], "best"), "profile='best'"),
        (lambda: nab_score([0, 1], [0, 1], window=1.5), "window=1.5"),
        (lambda: esa_scores([0, 1], [0, 1], beta=0), "beta=0"),
        (lambda: oracle_best([0, 1], [0, 1], lambda y, flags: 0.0, thresholds=0), "thresholds=0"),
        (lambda: evaluate_series([0, 1], [1, 2], [0]), "predictions has shape"),
    ],
)
def test_what_cannot_be_used_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_memory_is_a_few_times_the_input():
    rng = np.random.default_rng(0)
    labels = np.zeros(500_000, dtype=np.int64)
    for start in rng.integers(0, 499_000, 200):
        labels[start : start + 100] = 1
    scores = rng.normal(size=500_000) + labels
    vus(labels[:1000] | 1, scores[:1000])
    tracemalloc.start()
    vus(labels, scores, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * (labels.nbytes + scores.nbytes)
