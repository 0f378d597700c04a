"""Direct background estimation: formula, closure, bias, coverage, ties, bump hunt, and the template closure test."""

import numpy as np
import pytest
from scipy import stats

from assay.calibration.background import (
    bump_hunt,
    combined,
    coverage,
    direct_background,
    estimate,
    significance,
    template_closure,
)
from assay.core.validation import InputError
from assay.datasets.simulators.resonance import resonance

WINDOW = (3.3, 3.7)

# -- significance ----------------------------------------------------------------------------------------------------


def test_significance_has_the_values_and_limits_of_its_formula():
    assert significance(100, 100) == significance(100, 100, 10) == 0.0
    assert significance(150, 100) == pytest.approx(4.65, abs=0.005)
    for n, b in ((150, 100), (12, 3.5), (1_100, 1_000)):
        limit = np.sqrt(2 * (n * np.log(n / b) - (n - b)))
        assert significance(n, b) == pytest.approx(limit, abs=1e-12)
        assert significance(n, b, 1e-4 * np.sqrt(b)) == pytest.approx(limit, abs=1e-6)
        assert significance(n, b, 1e-9) == pytest.approx(limit, abs=1e-6)
        values = [significance(n, b, share * b) for share in (0, 0.01, 0.03, 0.1, 0.3, 1.0)]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 6


def test_significance_is_the_written_formula():
    n, b, v = 150.0, 100.0, 400.0
    inside = n * np.log(n * (b + v) / (b**2 + n * v)) - b**2 / v * np.log(1 + v * (n - b) / (b * (b + v)))
    assert significance(150, 100, 20) == pytest.approx(np.sqrt(2 * inside))


def test_a_deficit_is_no_discovery():
    assert significance(50, 100) == significance(50, 100, 5) == significance(0, 3.0, 1) == 0.0


@pytest.mark.parametrize(
    ("arguments", "named"), [((-1, 2), "n"), ((1, 0), "b"), ((1, 2, -1), "sigma_b"), (("a", 1), "n")]
)
def test_senseless_counts_are_refused(arguments, named):
    with pytest.raises(InputError, match=rf"^{named}="):
        significance(*arguments)


# -- estimate --------------------------------------------------------------------------------------------------------


def test_an_estimate_worked_out_by_hand():
    template = np.arange(100.0)  # the cut that keeps 5 % is 95
    scores = np.r_[np.full(8, 95.0), np.full(92, 94.9)]
    found = estimate(scores, template, 0.05, delta_sys=0.2)
    assert (found.eps, found.n_obs, found.n_sr, found.n_template) == (0.05, 8, 100, 5)
    assert found.b0 == pytest.approx(5)
    assert found.b == pytest.approx(6)
    assert found.delta == pytest.approx(0.6)
    assert found.sigma_b == pytest.approx(6 * np.sqrt(1 / 5 + 0.04))
    assert found.sigma_stat == pytest.approx(np.sqrt(1 / 6 + 1 / 5))
    assert pytest.approx(significance(8, 6, found.sigma_b)) == found.Z
    assert estimate(scores, template, 0.05, sigma_sys=0.1).sigma_b == pytest.approx(5 * np.sqrt(1 / 5 + 0.01))


def test_every_fold_has_a_cut_of_its_own():
    rng = np.random.default_rng(0)
    folds, template_folds = rng.integers(0, 5, 20_000), rng.integers(0, 5, 50_000)
    # Models of different folds give scores on different scales.
    scores, template = rng.normal(size=20_000) + 10 * folds, rng.normal(size=50_000) + 10 * template_folds
    found = estimate(scores, template, 0.01, folds, template_folds)
    assert len(found.thresholds) == 5
    for fold in range(5):
        assert (scores[folds == fold] >= found.thresholds[fold]).mean() == pytest.approx(0.01, abs=0.007)
    assert abs(found.delta) < 3 * found.sigma_stat
    assert estimate(scores, template, 0.01).n_obs > found.n_obs * 0.5, "one cut for all takes one fold only"
    assert (folds[scores >= estimate(scores, template, 0.01).thresholds[0]] == 4).all()


def test_ties_count_alike_on_both_sides_and_the_share_is_what_it_is():
    template = np.repeat([0.0, 1.0, 2.0], [880, 100, 20])
    scores = np.repeat([0.0, 1.0, 2.0], [440, 50, 10])
    found = estimate(scores, template, 0.05)
    assert found.eps == pytest.approx(0.12)
    assert (found.n_template, found.n_obs) == (120, 60)
    assert found.delta == pytest.approx(0)
    assert estimate(scores, template, 1e-6).n_template == 20, "at least one row, and what ties with it"


def test_hard_cuts_have_no_bias_and_the_promised_error():
    rng = np.random.default_rng(0)
    found = [estimate(rng.normal(size=5000), rng.normal(size=20_000), 0.002) for _ in range(400)]
    deltas = np.array([one.delta for one in found])
    assert abs(deltas.mean()) < 4 * found[0].sigma_stat / 20
    assert deltas.std() == pytest.approx(found[0].sigma_stat, rel=0.15)
    # Without the template's own statistics the error would be too small by a tenth.
    assert deltas.std() > 1.05 / np.sqrt(found[0].b)


def test_a_shifted_template_is_a_false_discovery_until_control_data_correct_it():
    for shift in (0.1, 0.2, 0.3):
        rng = np.random.default_rng(3)
        data, control, template = rng.normal(size=50_000), rng.normal(size=50_000), rng.normal(size=200_000) - shift
        naive, measured = estimate(data, template, 0.01), estimate(control, template, 0.01)
        assert measured.delta > 3 * measured.sigma_stat
        assert naive.Z > 5
        corrected = estimate(data, template, 0.01, delta_sys=measured.delta)
        assert corrected.Z < 2
        assert corrected.b == pytest.approx(naive.b * (1 + measured.delta))


def test_two_sources_add_in_quadrature():
    assert combined(0.3, -0.4) == pytest.approx(0.5)
    assert combined(0.2) == pytest.approx(0.2)


def test_a_true_template_covers():
    def experiment(rng):
        return estimate(rng.normal(size=2000), rng.normal(size=4000), 0.01).Z

    found = coverage(experiment, 100, random_state=1)
    assert found.share <= 0.05
    assert len(found.z) == 100
    assert np.array_equal(found.z, coverage(experiment, 100, random_state=1).z)

    # Taking the template's count for the truth itself does not cover.
    def careless(rng):
        one = estimate(rng.normal(size=2000), rng.normal(size=2000), 0.01)
        return significance(one.n_obs, one.b)

    assert coverage(careless, 300, random_state=1).share > 0.05


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([1.0], [1.0], 0.0), "eps"),
        (([1.0], [1.0], "a"), "eps"),
        (([np.nan], [1.0], 0.1), "scores"),
        (([1.0], [[1.0]], 0.1), "template_scores"),
        (([], [1.0], 0.1), "scores"),
        (([1.0], [1.0], 0.1, [0, 1]), "folds"),
        (([1.0, 2.0], [1.0], 0.1, [0, 1], [0]), "template_folds"),
        (([1.0], [1.0], 0.1, None, None, -1.0), "delta_sys"),
        (([1.0], [1.0], 0.1, None, None, 0.0, -1.0), "sigma_sys"),
    ],
)
def test_what_cannot_be_estimated_is_refused(arguments, named):
    with pytest.raises(InputError, match=named):
        estimate(*arguments)
    with pytest.raises(InputError, match="detector"):
        direct_background(object(), 0.1)


# -- template closure ------------------------------------------------------------------------------------------------


def test_true_synthetic_normals_close_as_often_as_promised():
    rng = np.random.default_rng(0)
    p = [template_closure(rng.normal(size=1000), rng.normal(size=3000), 0.01).p_value for _ in range(400)]
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p) < level) <= level + 3 * np.sqrt(level / 400), "a discrete law keeps below its level"
    assert np.mean(np.array(p) < 0.5) > 0.3, "but uses it"


def test_the_law_of_a_count_above_the_kth_largest():
    rng, n, t, k = np.random.default_rng(0), 50, 100, 5
    counts = [template_closure(rng.random(n), rng.random(t), k / t).observed for _ in range(1500)]
    law = stats.betabinom(n, k, t - k + 1)
    assert np.mean(counts) == pytest.approx(law.mean(), abs=0.2)
    assert np.var(counts) == pytest.approx(law.var(), rel=0.15)


def test_wrong_synthetic_normals_do_not_close_and_their_error_has_a_sign():
    rng = np.random.default_rng(0)
    real = rng.normal(size=4000)
    narrow = template_closure(real, 0.8 * rng.normal(size=40_000))
    wide = template_closure(real, 1.3 * rng.normal(size=40_000))
    good = template_closure(real, rng.normal(size=40_000))
    assert (narrow.closes, wide.closes, good.closes) == (False, False, True)
    assert narrow.delta > 3 * narrow.sigma, "more false alarms than predicted"
    assert wide.delta < 0
    assert good.low <= good.observed <= good.high
    assert good.predicted == pytest.approx(40)
    assert (real >= good.threshold).sum() == good.observed


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([], [1.0, 2.0]), "real"),
        (([1.0], [1.0]), "synthetic"),
        (([1.0], [1.0, 2.0], 1.0), "eps"),
        (([1.0], [1.0, 2.0], 0.1, 0.0), "alpha"),
    ],
)
def test_what_cannot_be_closed_is_refused(arguments, named):
    with pytest.raises(InputError, match=named):
        template_closure(*arguments)


# -- bump hunt -------------------------------------------------------------------------------------------------------


def test_the_smooth_fit_finds_a_bump_and_nothing_where_there_is_none():
    quiet, loud = (resonance(20_000, n, random_state=1).X[:, 0] for n in (0, 800))
    none, some = bump_hunt(quiet, WINDOW), bump_hunt(loud, WINDOW)
    assert none.Z < 2 < 5 < some.Z
    assert none.chi2 == pytest.approx(1, abs=0.6)
    assert some.b == pytest.approx(some.n_obs - 800, abs=4 * np.hypot(some.sigma_b, np.sqrt(some.b)))


def test_the_smooth_fit_covers():
    def experiment(rng):
        return bump_hunt(resonance(5000, 0, random_state=rng).X[:, 0], WINDOW).Z

    assert coverage(experiment, 100, random_state=0).share <= 0.05


def test_the_smooth_fit_has_the_error_it_says():
    found = [bump_hunt(resonance(4000, 0, random_state=seed).X[:, 0], WINDOW) for seed in range(200)]
    excess = np.array([one.n_obs - one.b for one in found])
    said = np.sqrt(np.mean([one.b + one.sigma_b**2 for one in found]))
    assert excess.std() == pytest.approx(said, rel=0.2)
    assert abs(excess.mean()) < 4 * said / np.sqrt(200)


def test_weights_and_gap_choose_what_the_curve_goes_through():
    m = resonance(20_000, 0, random_state=0).X[:, 0]
    assert bump_hunt(m, WINDOW).b == pytest.approx(2 * bump_hunt(m, WINDOW, np.full(len(m), 0.5)).b)
    spoilt = np.where((m > 3.7) & (m < 3.9), 0.0, 1.0)
    assert bump_hunt(m, WINDOW, spoilt).Z > bump_hunt(m, WINDOW, spoilt, gap=0.2).Z + 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([], WINDOW), "window"),
        (([1.0, 2.0, 3.0], (0.5, 0.7)), "window"),
        (([1.0, 2.0, 3.0], (1.5, 2.5)), "m"),
        (([1.0, 2.0, 3.0], (1.5, 2.5), [1.0]), "weights"),
        (([1.0, 2.0, 3.0], (1.5, 2.5), None, -1), "degree"),
        (([1.0, 2.0, 3.0], (1.5, 2.5), None, 1, 2), "bins"),
        (([1.0, 2.0, 3.0], (1.5, 2.5), None, 1, 9, -1.0), "gap"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, named):
    with pytest.raises(InputError, match=named):
        bump_hunt(*arguments)
