"""EAP: the published identities, the naive twin, and the small comparison on real data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import twins
from assay import (
    KNN,
    SSDO,
    Calibrated,
    ClassifierDetector,
    ExpectedAnomalyPosterior,
    FalseAlarmRate,
    IsolationForest,
    Pipeline,
    RarityDensity,
    Squash,
)
from assay.core.validation import InputError
from assay.datasets import load_table
from assay.detectors.tabular.ssdo import kernel_sums
from assay.generators.benchmark_mix import benchmark_mix
from assay.metrics.ranking import quality_auc
from assay.quality.density import fit_balls, k_star, smooth_distances
from assay.quality.eap import posterior_mean, posterior_variance
from assay.quality.selection import keep_otsu, keep_top, otsu_threshold, weights
from small_pools import compare, small_pools

probability = st.floats(0.0, 1.0)
count = st.floats(0.0, 1e4)
prior_mean = st.floats(1e-4, 0.5)


def gaussian_problem(seed=0, n=150, m=6, d=3):
    rng = np.random.default_rng(seed)
    X = np.vstack([rng.normal(size=(n, d)), rng.normal(2.5, 0.6, size=(m, d))])
    return X, np.repeat([0, 1], [n, m]), rng


# -- 1. the posterior


@pytest.mark.parametrize(
    ("q", "n", "expected"), [(0.95, 0.6, 0.3687), (0.95, 0, 0.02), (0.02, 1.2, 0.02), (0.5, 0.3, 0.1308)]
)
def test_posterior_mean_by_hand(q, n, expected):
    assert posterior_mean(q, n, (0.02, 0.98)) == pytest.approx(expected, abs=5e-5)


@given(probability, count, prior_mean)
def test_no_density_means_the_prior_and_quality_lies_between_prior_and_probability(q, n, pi0):
    prior = (pi0, 1 - pi0)
    assert posterior_mean(q, 0.0, prior) == pytest.approx(pi0)
    phi = posterior_mean(q, n, prior)
    assert min(q, pi0) - 1e-12 <= phi <= max(q, pi0) + 1e-12
    assert abs(phi - q) <= 1.0 / (1.0 + n) + 1e-12


@given(probability, probability, count, count, prior_mean)
def test_quality_rises_with_q_and_with_density_only_above_the_prior(q1, q2, n1, n2, pi0):
    prior = (pi0, 1 - pi0)
    low_q, high_q = sorted((q1, q2))
    low_n, high_n = sorted((n1, n2))
    assert posterior_mean(high_q, n1, prior) >= posterior_mean(low_q, n1, prior) - 1e-12
    change = posterior_mean(q1, high_n, prior) - posterior_mean(q1, low_n, prior)
    assert change * (q1 - pi0) >= -1e-12


@given(prior_mean, st.floats(1e-3, 1.0), st.floats(1e-3, 1.0), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_realistic_beats_unrealistic_beats_indistinguishable(pi0, up, down, n_real, n_indistinguishable):
    prior = (pi0, 1 - pi0)
    q_real, q_normal = pi0 + up * (1 - pi0), pi0 * (1 - down)
    unrealistic = posterior_mean(1.0, 0.0, prior)
    assert posterior_mean(q_normal, n_indistinguishable, prior) < unrealistic < posterior_mean(q_real, n_real, prior)


@given(probability, count, prior_mean)
def test_variance_splits_the_uncertainty_of_the_label(q, n, pi0):
    prior = (pi0, 1 - pi0)
    epistemic, aleatoric = posterior_variance(q, n, prior)
    phi = posterior_mean(q, n, prior)
    assert epistemic + aleatoric == pytest.approx(phi * (1 - phi), abs=1e-12)
    assert epistemic >= 0
    assert aleatoric >= 0


# -- 2-4. balls, density, k*


def line(points, **options):
    X = np.array([*points, 0.5], dtype=float)[:, None]
    return RarityDensity(**options).fit(X, [0] * len(points) + [1])


def test_rarity_by_hand():
    density = line([0, 1, 3, 7], k=1)
    assert np.sqrt(density.balls_.radii[:, 0]).tolist() == [1, 1, 2, 4]
    assert density.rarity([[0.5], [2.0], [8.0], [20.0]]).tolist() == [1.0, 2.0, 4.0, 0.0]
    assert density.pseudo_count([[20.0]]).tolist() == [0.0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 25))
def test_density_is_the_naive_one(seed, k):
    X, y, rng = gaussian_problem(seed, n=60)
    aux = rng.normal(size=(40, 3)) * 2
    density = RarityDensity(k=k).fit(X, y)
    np.testing.assert_allclose(density.pseudo_count(aux), twins.pseudo_count(X[y == 0], aux, k), rtol=1e-9)


def test_density_does_not_depend_on_place_rotation_or_scale():
    X, y, rng = gaussian_problem()
    aux = rng.normal(size=(50, 3)) * 2
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    plain = RarityDensity().fit(X, y)
    moved = RarityDensity().fit(3.0 * X @ rotation + 100.0, y)
    assert moved.k_ == plain.k_
    np.testing.assert_allclose(moved.pseudo_count(3.0 * aux @ rotation + 100.0), plain.pseudo_count(aux), rtol=1e-8)


def test_a_point_is_judged_alone():
    X, y, rng = gaussian_problem()
    aux = rng.normal(size=(50, 3)) * 2
    density = RarityDensity().fit(X, y)
    together = density.pseudo_count(aux)
    order = rng.permutation(50)
    np.testing.assert_array_equal(density.pseudo_count(aux[order]), together[order])
    np.testing.assert_array_equal(density.pseudo_count(aux[:7]), together[:7])
    np.testing.assert_array_equal(density.pseudo_count(np.vstack([aux, aux + 99])), np.r_[together, np.zeros(50)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 6.0), st.integers(1, 8), st.integers(6, 50))
def test_k_star_is_that_of_the_search(seed, distance, m, n):
    rng = np.random.default_rng(seed)
    normals, anomalies = rng.normal(size=(n, 2)), rng.normal(size=(m, 2)) * distance
    balls = fit_balls(normals, anomalies, np.ones((n, 1), dtype=np.uint8))
    assert balls.k[0] == twins.smallest_k(normals, anomalies)


def test_every_anomaly_within_reach_of_k_star_is_inside_a_ball():
    X, y, _ = gaussian_problem()
    density = RarityDensity().fit(X, y)
    anomalies = X[y == 1]
    reached = [k for k in range(5, density.k_ + 1) if twins.rarity(X[y == 0], anomalies[:1], k)[0] > 0]
    assert (density.rarity(anomalies[:1]) > 0)[0] == bool(reached)


def test_k_star_grows_as_an_anomaly_moves_outward():
    X, y, _ = gaussian_problem()
    found = []
    for factor in (0.5, 1.0, 2.0, 4.0):
        moved = X.copy()
        moved[y == 1] *= factor
        found.append(RarityDensity().fit(moved, y).k_)
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_few_anomalies_make_k_star_large_even_when_all_are_captured_at_once():
    assert k_star(np.full(20, 5), 1000) == pytest.approx(137, abs=1)
    assert k_star(np.full(2, 5), 1000) > k_star(np.full(200, 5), 1000)
    assert k_star(np.array([3]), 6) == 5


def test_identical_rows_keep_a_ball():
    X = np.vstack([np.zeros((30, 2)), np.random.default_rng(0).normal(size=(30, 2)), [[3.0, 3.0]]])
    density = RarityDensity(k=5).fit(X, np.repeat([0, 1], [60, 1]))
    counts = density.pseudo_count(X[:60])
    assert (counts[:30] > 0).all()
    assert np.isfinite(counts).all()


def test_every_row_identical():
    X = np.vstack([np.ones((30, 2)), [[3.0, 3.0]]])
    counts = RarityDensity(k=5).fit(X, np.repeat([0, 1], [30, 1])).pseudo_count([[1.0, 1.0], [1.5, 1.0]])
    assert counts[0] == pytest.approx(30 / 31)
    assert counts[1] == 0.0


def test_blocks_do_not_change_the_balls(monkeypatch):
    X, y, _ = gaussian_problem(n=200)
    members = (np.random.default_rng(0).random((200, 7)) < 0.7).astype(np.uint8)
    whole = fit_balls(X[y == 0], X[y == 1], members)
    monkeypatch.setattr("assay.quality.density.CACHE_BYTES", 12 * 200 * 4 * 33)
    parts = fit_balls(X[y == 0], X[y == 1], members)
    np.testing.assert_array_equal(whole.radii, parts.radii)
    np.testing.assert_array_equal(whole.k, parts.k)
    np.testing.assert_allclose(whole.mass, parts.mass, rtol=1e-12)


# -- 5-6. probability


def test_squash_is_one_half_at_the_contamination_quantile_and_monotone():
    scores = np.random.default_rng(0).random(500)
    squash = Squash(0.1).fit(scores)
    assert squash.threshold_ == np.percentile(scores, 90)
    assert squash.probability([squash.threshold_])[0] == pytest.approx(0.5)
    assert (np.diff(squash.probability(np.linspace(0, 1, 50))) > 0).all()
    assert squash.probability([0.0])[0] == 0.0


def test_ssdo_kernel_is_one_half_at_eta_and_the_score_is_the_published_formula():
    X, y, rng = gaussian_problem()
    ssdo = SSDO(random_state=0).fit(X, y)
    aux = rng.normal(size=(20, 3))
    distances = np.sqrt(((X[:, None] - X[None]) ** 2).sum(axis=2))
    fifth = np.sort(distances, axis=1)[:, 5]
    assert ssdo.eta_ == pytest.approx(len(X) / (1 / fifth).sum())
    train = ssdo.detector_.anomaly_score(X)
    u = np.clip((ssdo.detector_.anomaly_score(aux) - train.min()) / (train.max() - train.min()), 0, 1)
    kernel = 2.0 ** -((np.sqrt(((aux[:, None] - X[None]) ** 2).sum(axis=2)) / ssdo.eta_) ** 2)
    d_a, d_n = kernel[:, y == 1].sum(axis=1), kernel[:, y == 0].sum(axis=1)
    np.testing.assert_allclose(ssdo.anomaly_score(aux), (u + 2.3 * d_a) / (1 + 2.3 * (d_a + d_n)), rtol=1e-9)
    origin = np.zeros((1, 3))
    at_eta = kernel_sums(origin, np.array([[ssdo.eta_, 0.0, 0.0]]), ssdo.eta_)
    assert at_eta[0] == pytest.approx(0.5, rel=1e-13)


# -- the whole


def test_eap_is_the_published_procedure_given_the_same_subsets_and_detectors():
    X, y, rng = gaussian_problem(n=90)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    aux = np.vstack([rng.normal(size=(30, 3)), rng.normal(2, 1, size=(30, 3)), rng.uniform(-9, 9, size=(30, 3))])
    eap = ExpectedAnomalyPosterior(n_subsets=15, random_state=1).fit(X, y)
    expected = twins.eap(X, y, aux, eap.members_, eap.models_)
    np.testing.assert_allclose(eap.quality(aux), expected, rtol=1e-8)


def test_smooth_density_is_the_naive_one_in_every_subset():
    X, y, rng = gaussian_problem(1)
    aux = rng.normal(1.0, 3.0, size=(40, 3))
    eap = ExpectedAnomalyPosterior(density="smooth", n_subsets=12, random_state=0).fit(X, y)
    Z = (aux - eap.mean_) / eap.scale_
    counts = eap.smooth_.pseudo_count(Z)
    for b in range(12):
        normals = eap.X_[(eap.members_[:, b] == 1) & (y == 0)]
        np.testing.assert_allclose(counts[:, b], twins.smooth_count(normals, eap.X_[y == 1], Z), rtol=1e-10)
    q = np.column_stack([model.probability(Z) for model in eap.models_])
    expected = posterior_mean(q, counts, eap.prior_).mean(axis=1)
    np.testing.assert_allclose(eap.quality(aux), expected, rtol=1e-12)


def test_the_density_changes_the_evidence_and_nothing_else():
    X, y, rng = gaussian_problem(1)
    aux = rng.normal(1.0, 3.0, size=(40, 3))
    balls, smooth = (
        ExpectedAnomalyPosterior(density=density, n_subsets=12, random_state=0).fit(X, y)
        for density in ("balls", "smooth")
    )
    assert balls.smooth_ is None
    one, other = balls.evaluate(aux), smooth.evaluate(aux)
    for name in ("probability", "zero_density_share", "nearest_normal", "ball_centre"):
        np.testing.assert_array_equal(one[name], other[name])
    assert (np.asarray(one["pseudo_count"]) != np.asarray(other["pseudo_count"])).all()
    # Evidence fades with the distance and is one half where the known anomalies end.
    far = X[y == 0].mean(axis=0) + np.linspace(0, 60, 40)[:, None]
    counts = smooth.smooth_.pseudo_count((far - smooth.mean_) / smooth.scale_).mean(axis=1)
    assert counts[-1] < 1e-12 and (np.diff(counts[5:]) <= 0).all() and counts.max() <= 1


def test_smooth_density_counts_the_farthest_normal_of_a_small_subset():
    rng = np.random.default_rng(0)
    reference, X = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    members = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=np.uint8).T
    found = smooth_distances(X, reference, members)
    distances = np.linalg.norm(X[:, None] - reference, axis=2)
    np.testing.assert_allclose(found[:, 0], distances[:, :3].max(axis=1))
    np.testing.assert_allclose(found[:, 1], np.sort(distances, axis=1)[:, 4])


def test_same_seed_same_bits_other_order_other_order():
    X, y, rng = gaussian_problem()
    aux = rng.normal(size=(40, 3)) * 2
    first = ExpectedAnomalyPosterior(n_subsets=10, random_state=3).fit(X, y)
    again = ExpectedAnomalyPosterior(n_subsets=10, random_state=3, n_jobs=2).fit(X, y)
    np.testing.assert_array_equal(first.quality(aux), again.quality(aux))
    order = rng.permutation(40)
    np.testing.assert_array_equal(first.quality(aux[order]), first.quality(aux)[order])
    assert not np.array_equal(
        first.quality(aux), ExpectedAnomalyPosterior(n_subsets=10, random_state=4).fit(X, y).quality(aux)
    )


def test_spread_over_seeds_falls_with_the_number_of_subsets():
    X, y, rng = gaussian_problem()
    aux = rng.normal(1.5, 1.0, size=(40, 3))

    def spread(n_subsets):
        runs = [ExpectedAnomalyPosterior(n_subsets=n_subsets, random_state=s).fit(X, y).quality(aux) for s in range(12)]
        return np.std(runs, axis=0).mean()

    # 1 / sqrt(M): a quarter of the spread at sixteen times the subsets; half leaves room for twelve runs' noise.
    assert spread(64) < 0.5 * spread(4)


def test_subsets_are_random_in_rate_and_hold_anomalies_alike():
    X, y, _ = gaussian_problem(n=400, m=20)
    eap = ExpectedAnomalyPosterior(n_subsets=100, random_state=0).fit(X, y)
    rates = eap.members_.mean(axis=0)
    assert rates.min() < 0.2
    assert rates.max() > 0.85
    assert np.corrcoef(rates, eap.members_[y == 1].mean(axis=0))[0, 1] > 0.9


def test_standardisation_makes_units_irrelevant():
    X, y, rng = gaussian_problem()
    aux = rng.normal(size=(40, 3)) * 2
    units = np.array([1.0, 1e-6, 1e5])
    plain = ExpectedAnomalyPosterior(n_subsets=10, random_state=0).fit(X, y).quality(aux)
    scaled = ExpectedAnomalyPosterior(n_subsets=10, random_state=0).fit(X * units + 3, y).quality(aux * units + 3)
    np.testing.assert_allclose(plain, scaled, rtol=1e-6)


@pytest.mark.parametrize(
    "detector",
    [
        IsolationForest(),
        KNN(),
        Calibrated(SSDO(), Squash(0.04), cv=None),
        ClassifierDetector(LogisticRegression()),
        RandomForestClassifier(20),
        LocalOutlierFactor(5, novelty=True),
    ],
    ids=lambda detector: type(detector).__name__,
)
def test_any_detector_serves(detector):
    X, y, rng = gaussian_problem()
    eap = ExpectedAnomalyPosterior(detector, n_subsets=10, random_state=0).fit(X, y)
    realistic, normal, foreign = eap.quality(np.repeat([[2.5] * 3, [0.0] * 3, [60.0] * 3], 1, axis=0))
    assert realistic > normal
    assert realistic > foreign
    assert foreign == pytest.approx(eap.prior_[0])


def test_pyod_detector_serves():
    pyod = pytest.importorskip("pyod.models.hbos", reason="PyOD is not installed")
    X, y, _ = gaussian_problem()
    eap = ExpectedAnomalyPosterior(pyod.HBOS(), n_subsets=5, random_state=0).fit(X, y)
    realistic, foreign = eap.quality([[2.5] * 3, [60.0] * 3])
    assert realistic > foreign


def test_a_pipeline_carries_eap_to_other_data():
    X, y, rng = gaussian_problem(d=12)
    judge = Pipeline([("embed", PCA(4)), ("eap", ExpectedAnomalyPosterior(n_subsets=5, random_state=0))]).fit(X, y)
    aux = rng.normal(2.5, 0.5, size=(6, 12))
    assert judge.quality(aux).shape == (6,)
    assert judge.select(aux, rule="top", fraction=0.5).sum() == 3
    assert judge.evaluate(aux).num_rows == 6


def test_evaluate_says_which_and_why():
    X, y, _ = gaussian_problem(n=300, m=10)
    eap = ExpectedAnomalyPosterior(n_subsets=30, random_state=0).fit(X, y)
    table = eap.evaluate([[2.5, 2.5, 2.5], [0.0, 0.0, 0.0], [70.0, -70.0, 70.0]]).to_pydict()
    assert table["verdict"] == ["realistic", "indistinguishable", "unrealistic"]
    assert table["zero_density_share"][2] == 1.0
    assert table["quality"][2] == pytest.approx(eap.prior_[0])
    assert table["ball_centre"][2] == -1
    assert np.isnan(table["ball_radius"][2])
    assert "looks normal" in table["reason"][1]
    assert "off the domain" in table["reason"][2]
    assert y[table["nearest_anomaly"][0]] == 1
    assert y[table["nearest_normal"][0]] == 0
    phi = np.array(table["quality"])
    assert np.all(np.array(table["quality_p05"]) <= phi + 1e-9)
    assert np.all(phi <= np.array(table["quality_p95"]) + 1e-9)
    np.testing.assert_allclose(phi, eap.per_subset([[2.5] * 3, [0.0] * 3, [70.0, -70.0, 70.0]]).mean(axis=1))


def test_evaluate_answers_in_the_library_it_was_asked_in():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, y, rng = gaussian_problem()
    names = ["a", "b", "c"]
    eap = ExpectedAnomalyPosterior(n_subsets=3, random_state=0).fit(pandas.DataFrame(X, columns=names), y)
    aux = pandas.DataFrame(rng.normal(size=(4, 3)), columns=names, index=list("wxyz"))
    answer = eap.evaluate(aux)
    assert isinstance(answer, pandas.DataFrame)
    assert answer.index.tolist() == list("wxyz")
    assert isinstance(eap.evaluate(polars.from_pandas(aux)), polars.DataFrame)
    with pytest.raises(InputError, match="another order"):
        eap.quality(aux[["b", "a", "c"]])


# -- selection


def test_selection_rules():
    X, y, rng = gaussian_problem(n=300, m=10)
    eap = ExpectedAnomalyPosterior(n_subsets=20, random_state=0).fit(X, y)
    aux = np.vstack([rng.normal(2.5, 0.4, size=(20, 3)), rng.normal(size=(20, 3)), rng.uniform(30, 90, size=(20, 3))])
    for rule in ("prior", "otsu", "ci", "verdict"):
        kept = eap.select(aux, rule=rule)
        assert kept[:20].mean() > kept[20:40].mean(), rule
        assert not kept[40:].any(), rule
    assert eap.select(aux, rule="top", fraction=0.25).sum() == 15
    assert eap.select(aux, rule="prior", margin=1e6).sum() == 0
    assert eap.weights(aux).max() == 1.0
    with pytest.raises(InputError, match="choose one of"):
        eap.select(aux, rule="best")
    with pytest.raises(InputError, match="does not take"):
        eap.select(aux, rule="otsu", fraction=0.5)


def test_top_breaks_ties_without_regard_to_storage():
    kept = np.array([keep_top(np.zeros(90), 1 / 3, random_state=s) for s in range(200)])
    assert (kept.sum(axis=1) == 30).all()
    assert abs(kept[:, :30].mean() - 1 / 3) < 0.03


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=60))
def test_otsu_is_the_best_of_its_hundred_thresholds(values):
    values = np.array(values, dtype=float)
    if np.ptp(values) == 0:
        assert keep_otsu(values).all()
        return

    def within(t):
        sides = values[values < t], values[values >= t]
        return sum(len(side) * side.var() for side in sides) if all(map(len, sides)) else np.inf

    best = min(within(t) for t in np.linspace(values.min(), values.max(), 100))
    assert within(otsu_threshold(values)) == pytest.approx(best, abs=1e-9)


def test_weights_scale_to_one():
    assert weights([0.1, 0.2, 0.4]).tolist() == [0.25, 0.5, 1.0]


# -- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, np.zeros(len(y), int)), "0 anomalies"),
        (lambda X, y: (X, np.ones(len(y), int)), "0 normal rows"),
        (lambda X, y: (X, np.where(y == 1, 1, -1)), "unknown"),
        (lambda X, y: (X[-10:], y[-10:]), "normal rows"),
        (lambda X, y: (X, y[:-1]), "shape"),
        (lambda X, y: (X, np.full(len(y), 7)), "labels are 0"),
        (lambda X, y: (np.where(X > 2, np.nan, X), y), "NaN"),
        (lambda X, y: (np.where(X > 2, np.inf, X), y), "inf"),
    ],
)
def test_bad_training_data_gets_one_clear_line(change, message):
    X, y, _ = gaussian_problem()
    with pytest.raises(ValueError, match=message) as caught:
        ExpectedAnomalyPosterior(n_subsets=2, random_state=0).fit(*change(X, y))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [{"n_subsets": 0}, {"min_neighbors": 0}, {"prior": 1.5}, {"prior": (1, 2, 3)}, {"prior": (0.1, -1)},
     {"evidence_scale": 0}, {"density": "rough"}, {"detector": "forest"}, {"detector": KNN}, {"random_state": "x"},
     {"detector": Calibrated(KNN(), FalseAlarmRate())}],
)  # fmt: skip
def test_bad_parameters_are_named(parameters):
    X, y, _ = gaussian_problem()
    with pytest.raises(InputError, match=next(iter(parameters))):
        ExpectedAnomalyPosterior(**({"n_subsets": 2} | parameters)).fit(X, y)


def test_subsets_without_anomalies_and_constant_columns_are_no_accident():
    X, y, rng = gaussian_problem(m=1)
    X = np.column_stack([X, np.full(len(X), 7.0)])
    eap = ExpectedAnomalyPosterior(ClassifierDetector(), n_subsets=20, random_state=0).fit(X, y)
    assert (eap.members_[y == 1].sum(axis=0) == 0).any()
    assert np.isfinite(eap.quality(X)).all()


# -- the small real comparison


@pytest.fixture(scope="module")
def comparison():
    return {key: float(np.mean([auc["all"] for auc in pools])) for key, pools in compare().items()}


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "moons"])
def test_eap_beats_its_parts_by_far(comparison, name):
    assert comparison[name, "EAP"] > comparison[name, "q only"] + 0.2
    assert comparison[name, "EAP"] > comparison[name, "d only"] + 0.2


def test_eap_beats_the_naive_sum_and_a_single_fit(comparison):
    names = ["breast_cancer", "digits", "moons"]
    assert sum(comparison[name, "EAP"] > comparison[name, "n d + q"] for name in names) >= 2
    assert np.mean([comparison[name, "EAP"] for name in names]) >= np.mean(
        [comparison[name, "EAP, M = 1"] for name in names]
    )


@pytest.mark.parametrize("name", ["breast_cancer", "digits"])
def test_k_star_and_the_prior_matter(comparison, name):
    assert comparison[name, "EAP"] > comparison[name, "k = 5"] + 0.08
    assert comparison[name, "EAP"] > comparison[name, "prior (.5, .5)"] + 0.08


def test_training_on_the_best_beats_training_on_random_ones():
    gains = []
    for name, pools in small_pools():
        if name == "moons":
            continue
        for pool in pools[:3]:
            quality = (
                ExpectedAnomalyPosterior(n_subsets=20, random_state=331)
                .fit(pool.X_train, pool.y_train)
                .quality(pool.X_aux)
            )
            best = np.argsort(-quality)[:40]
            chance = np.random.default_rng(0).permutation(120)[:40]
            accuracy = []
            for rows in (best, chance):
                X = np.vstack([pool.X_train, pool.X_aux[rows]])
                y = np.r_[pool.y_train, np.ones(40, dtype=int)]
                accuracy.append(SVC(random_state=331).fit(X, y).score(pool.X_test, pool.y_test))
            gains.append(accuracy[0] - accuracy[1])
    assert np.mean(gains) > 0.05


def test_bundled_data_at_full_size():
    data = load_table("breastw")
    pool = benchmark_mix(data.X, data.y, random_state=1)
    eap = make_eap().fit(pool.X_train, pool.y_train)
    assert quality_auc(pool.kind, eap.quality(pool.X_aux))["all"] > 0.75


def make_eap():
    return ExpectedAnomalyPosterior(n_subsets=50, random_state=0)


def test_scikit_learn_pipelines_transform_first():
    X, y, rng = gaussian_problem()
    embedded = make_pipeline(StandardScaler(), PCA(2)).fit_transform(X)
    assert make_eap().set_params(n_subsets=3).fit(embedded, y).quality(embedded).shape == (len(X),)
