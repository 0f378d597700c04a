"""Alarms with hysteresis, and the notice that scores have drifted."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from assay.calibration.alarms import Alarms
from assay.calibration.drift import Drift
from assay.core.validation import InputError


def naive(scores, threshold, release, patience, hold):
    on, decisions = False, []
    for i in range(len(scores)):
        if not on:
            last = scores[max(0, i - patience + 1) : i + 1]
            on = len(last) == patience and all(score > threshold for score in last)
        elif (last := scores[max(0, i - hold + 1) : i + 1]) and len(last) == hold:
            on = not all(score <= release for score in last)
        decisions.append(int(on))
    return decisions


@pytest.mark.parametrize(("patience", "hold", "release"), [(1, 1, 1.0), (3, 1, 0.5), (1, 4, 0.5), (2, 3, -0.5)])
def test_decisions_by_the_definition_and_in_pieces(patience, hold, release):
    scores = np.random.default_rng(0).normal(size=2000).cumsum() * 0.2
    alarms = Alarms(1.0, release, patience, hold)
    decisions = alarms.decide(scores)
    # What fell before the alarm went on does not count towards its end, and the other way round.
    assert decisions.tolist() == naive(list(scores), 1.0, release, patience, hold)
    alarms.begin()
    pieces = np.concatenate([alarms.update(part) for part in np.split(scores, [1, 2, 700, 701])])
    assert (pieces == decisions).all() and 0 < decisions.mean() < 1


def test_hysteresis_makes_one_alarm_of_a_trembling_score():
    scores = 1 + 0.3 * np.sin(np.arange(200) * 2.0)
    plain, calm = Alarms(1.0).decide(scores), Alarms(1.0, release=0.5).decide(scores)
    assert np.diff(plain).clip(0).sum() > 20 and np.diff(calm).clip(0).sum() + calm[0] == 1


def test_missing_scores_decide_nothing():
    nan = np.nan
    assert Alarms(1.0, patience=2).decide([2, nan, 2, nan, 0, nan]).tolist() == [0, 0, 1, 1, 0, 0]
    assert Alarms(1.0).decide([nan, 2, nan]).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("wrong", "name"), [({"release": 2.0}, "release"), ({"patience": 0}, "patience"), ({"hold": 1.5}, "hold")]
)
def test_senseless_levels_are_named(wrong, name):
    with pytest.raises(InputError, match=name):
        Alarms(1.0, **wrong)
    with pytest.raises(InputError, match="scores has shape"):
        Alarms(1.0).update([[1.0]])


def test_the_distance_is_that_of_kolmogorov_and_smirnov():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=1000).round(1)
    watch = Drift(reference, window=20)
    for _ in range(20):
        block = rng.normal(0.3, size=37).round(1)
        assert watch._distance(block) == pytest.approx(ks_2samp(block, reference).statistic)


def autocorrelated(n, rng):
    noise = rng.normal(size=n)
    for i in range(1, n):
        noise[i] += 0.9 * noise[i - 1]
    return noise


def test_blocks_of_the_same_kind_are_rarely_reported_and_others_are():
    rng = np.random.default_rng(1)
    reports = []
    for _ in range(100):
        watch = Drift(autocorrelated(4000, rng), window=200)
        reports.append(len(watch.update(autocorrelated(200, rng))))
    # 20 blocks calibrate: one undrifted block in 21 is reported. A table of the test would report most of them.
    assert np.mean(reports) < 0.12
    watch = Drift(autocorrelated(4000, rng), window=200)
    pieces = np.array_split(np.r_[autocorrelated(1000, rng), 6 + autocorrelated(1000, rng)], 7)
    notices = [notice for piece in pieces for notice in watch.update(piece)]
    assert [notice.start for notice in notices if notice.start >= 1000] == [1000, 1200, 1400, 1600, 1800]
    assert all(notice.end == notice.start + 200 and notice.distance > notice.bound for notice in notices)
    assert Drift(autocorrelated(4000, rng), window=200).update(np.full(200, np.nan)) == []
    with pytest.raises(InputError, match="at least 10 needed"):
        Drift(np.zeros(100), window=50)
