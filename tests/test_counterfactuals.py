"""Robust counterfactuals: stability against closed forms, the bound, what is found, and what survives a retrain."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from torch import nn

from assay import Calibrated, FalseAlarmRate, Mahalanobis, Squash, UniformBox
from assay.core.validation import InputError
from assay.explain.counterfactuals import RobustCounterfactual
from assay.explain.searches import ScaledModel, nearest_on_plane
from assay.explain.stability import KINDS, Probability, judged, stability, survival, survival_bound


def logistic(weights, bias=0.0):
    weights = np.asarray(weights, dtype=float)
    return lambda rows: 1 / (1 + np.exp(-(rows @ weights + bias)))


def network(X, y, seed, epochs=40, lr=2e-3):
    """Return a trained 32-32 network of P(1)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Linear(X.shape[1], 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()
        net = nn.Sequential(*layers)
        optimiser = torch.optim.Adam(net.parameters(), lr)
        X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
        for _ in range(epochs):
            for rows in torch.randperm(len(X)).split(128):
                loss = nn.functional.binary_cross_entropy(net(X[rows])[:, 0], y[rows])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return net


@pytest.fixture(scope="module")
def blobs():
    """Return simulated training rows, a network, retrained ones (half of them on bootstraps), and rejected rows."""
    X, y = make_classification(
        900, 8, n_informative=6, n_redundant=2, flip_y=0.08, class_sep=0.8, random_state=0, shuffle=True
    )
    X = (X - X.min(axis=0)) / np.ptp(X, axis=0)
    train, labels = X[:600], y[:600]
    net, models = network(train, labels, 100), []
    for seed in range(10):
        rows = np.random.default_rng(seed).integers(600, size=600) if seed % 2 else np.arange(600)
        models.append(network(train[rows], labels[rows], seed))
    rejected = X[600:][Probability(net)(X[600:]) < 0.5][:25]
    return train, net, models, rejected


def explained(blobs, **parameters):
    train, net, models, rejected = blobs
    return RobustCounterfactual(net, train, **{"k": 200, "random_state": 0} | parameters).explain(rejected, models)


def means(found):
    return [float(np.mean([getattr(each, name) for each in found])) for name in ("cost", "survival", "stability")]


# -- stability -------------------------------------------------------------------------------------------------------


def test_relaxed_stability_is_its_definition_and_never_above_m():
    rng = np.random.default_rng(0)
    m, x, seed = logistic(rng.normal(size=3) * 10), rng.normal(size=(20, 3)), 7
    steps = 0.1 * np.random.default_rng(seed).standard_normal((50, 3))
    for row, value in zip(x, stability(x, m, sigma=0.1, k=50, random_state=seed)):
        own, near = m(row[None])[0], m(row + steps)
        assert value == pytest.approx(np.mean(near - np.abs(own - near)), abs=1e-12)
        assert value <= own + 1e-12


def test_a_constant_model_is_as_stable_as_it_is_sure_and_without_draws_so_is_any():
    def constant(rows):
        return np.full(len(rows), 0.7)

    for kind in KINDS:
        value = stability([0.0, 1.0], constant, k=50, kind=kind, lipschitz=0.0)
        assert value == pytest.approx(0.7, abs=1e-9)
    x = np.random.default_rng(0).normal(size=(10, 3))
    m = logistic([3.0, -1.0, 2.0])
    np.testing.assert_allclose(stability(x, m, sigma=0.0, k=5), m(x), atol=1e-12)
    np.testing.assert_allclose(stability(x, m, sigma=1e-7, k=50), m(x), atol=1e-5)


def test_stability_falls_as_the_draws_widen():
    values = [stability([2.0], logistic([1.0]), sigma=s, k=100_000) for s in (0.0, 0.1, 0.5, 1.0, 2.0)]
    np.testing.assert_allclose(values, [0.881, 0.872, 0.828, 0.754, 0.593], atol=0.008)


@pytest.mark.parametrize("a", [0.01, 0.05, 0.1])
def test_a_step_has_its_closed_form(a):
    value = stability([a], lambda rows: (rows[:, 0] >= 0).astype(float), sigma=0.05, k=100_000)
    assert value == pytest.approx(2 * stats.norm.cdf(a / 0.05) - 1, abs=0.01)


def test_an_isolated_ball_has_its_closed_form_in_three_dimensions():
    radius, sigma = 0.15, 0.1
    value = stability(
        np.zeros(3), lambda rows: (np.linalg.norm(rows, axis=1) <= radius).astype(float), sigma=sigma, k=50_000
    )
    assert value == pytest.approx(2 * stats.chi(3).cdf(radius / sigma) - 1, abs=0.01)


def test_lipschitz_kinds_on_a_straight_model():
    slope = np.array([0.3, -0.4])  # of length .5

    def m(rows):
        return 0.6 + rows @ slope

    size = 0.05 * np.sqrt(np.pi / 2)  # of a two-dimensional draw
    given = stability([0.0, 0.0], m, k=50_000, kind="given-lipschitz", lipschitz=0.5)
    assert given == pytest.approx(0.6 - 0.5 * size, abs=1e-3)
    # Among a thousand draws some pair lies along the slope; none can be steeper.
    same = {"k": 1000, "random_state": 0}
    sampled = stability([0.0, 0.0], m, kind="sampled-lipschitz", **same)
    known = stability([0.0, 0.0], m, kind="given-lipschitz", lipschitz=0.5, **same)
    assert known - 1e-12 <= sampled <= known + 1e-4


def test_mean_minus_deviation_for_trees():
    X = np.random.default_rng(0).uniform(size=(300, 2))
    forest = RandomForestClassifier(20, random_state=0).fit(X, (X[:, 0] > 0.5).astype(int))
    steps = 0.05 * np.random.default_rng(0).standard_normal((100, 2))
    near = forest.predict_proba(np.array([0.4, 0.5]) + steps)[:, 0]
    assert stability([0.4, 0.5], forest, k=100, kind="mean-std") == pytest.approx(near.mean() - near.std(), abs=1e-9)


def test_a_row_is_judged_alone_in_units_of_the_scale():
    m = logistic([4.0, 0.1])
    x = np.random.default_rng(0).normal(size=(6, 2))
    together = stability(x, m, k=100, scale=[1.0, 40.0])
    assert [stability(row, m, k=100, scale=[1.0, 40.0]) for row in x] == together.tolist()
    np.testing.assert_allclose(together, stability(x / [1.0, 40.0], logistic([4.0, 4.0]), k=100), atol=1e-12)


def test_as_a_filter_it_drops_the_synthetic_anomalies_whose_verdict_is_brittle():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(400, 2))
    model = Calibrated(Mahalanobis(), Squash(), random_state=0).fit(normals)
    far, near = np.array([[6.0, 6.0], [-7.0, 0.0]]), np.array([[2.2, 0.0], [0.0, -2.3]])
    assert (model.probability(near) > 0.5).all()  # confidence keeps them
    values = stability(np.vstack([far, near]), model, sigma=0.3, k=500, target=1)
    assert (values[:2] > 0.95).all() and (values[2:] < 0.5).all()


# -- the bound -------------------------------------------------------------------------------------------------------


def test_the_bound_is_the_formula_and_says_when_it_is_vacuous():
    bound = survival_bound(1000, 0.05, 0.1, gamma=2.0, gamma_new=3.0)
    assert bound.probability == pytest.approx(1 - np.exp(-1000 * 0.1**2 / (8 * 25 * 0.05**2)))
    assert not bound.vacuous
    assert survival_bound(1000, 0.05, 0.1, 2.5) == bound
    assert survival_bound(2, 0.05, 0.1, 2.5).vacuous
    for epsilon in (0.0, -0.2):
        assert survival_bound(1000, 0.05, epsilon, 1.0) == (0.0, epsilon, True)
    assert survival_bound(10, 0.05, 0.1, 0.0).probability == 1.0
    at_the_edge = 0.05 * 2 * np.sqrt(8 * np.log(5) / 100)  # exactly a fifth may fail
    assert not survival_bound(100, 0.05, at_the_edge * 1.001, 1.0).vacuous
    assert survival_bound(100, 0.05, at_the_edge * 0.999, 1.0).vacuous


def test_the_guarantee_holds_for_smooth_random_changes():
    """New models are m plus a plane wave of random phase: zero mean, and all constants are known."""
    rng = np.random.default_rng(0)
    d, k, sigma, epsilon = 4, 10_000, 0.05, 0.01
    height, frequency = 0.05, 60.0
    weights = np.full(d, 0.5)
    m, gamma = logistic(weights), 0.25
    gamma_new = gamma + height * frequency
    left = height * np.exp(-((sigma * frequency) ** 2) / 2)  # of the wave, once averaged over the draws
    assert epsilon > 2 * left
    bound = survival_bound(k, sigma, epsilon, gamma, gamma_new)
    assert not bound.vacuous and 1 - bound.probability < 0.2
    failures, without = [], []
    for _ in range(1000):
        x = rng.normal(size=d)
        new = m(x[None])[0] + height * np.cos(rng.uniform(0, 2 * np.pi))
        same = {"k": 100, "random_state": rng}
        # The draws of one model do not matter here, R varies little; 100 of them stand in for k.
        R = stability(x, m, kind="given-lipschitz", lipschitz=gamma_new, **same)
        failures.append(new < R - epsilon)
        without.append(new < stability(x, m, kind="given-lipschitz", lipschitz=0.0, **same) - epsilon)
    assert np.mean(failures) <= 1 - bound.probability
    assert np.mean(without) > 0.3  # the Lipschitz penalty is what keeps the promise


# -- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["relaxed", "mean-std", "given-lipschitz"])
def test_the_gradient_is_that_of_frozen_draws(kind):
    rng = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1), nn.Sigmoid()).double()
    low, scale, steps = rng.normal(size=4), rng.uniform(1, 3, size=4), 0.05 * rng.standard_normal((300, 4))
    model = ScaledModel(Probability(net), low, scale, 0.05, steps, kind, 1.0)
    point, h = rng.uniform(size=4), 1e-6
    value, gradient = model.gradient(point, kind)

    def R(u):
        m, near = model.around(u)
        return judged(kind, m, near, steps, 1.0)

    numeric = [(R(point + h * e) - R(point - h * e)) / (2 * h) for e in np.eye(4)]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-8)
    if kind != "given-lipschitz":
        assert value == pytest.approx(R(point), abs=1e-12)
    # Without torch: differences as wide as the draws, which point the same way.
    coarse = ScaledModel(Probability(Probability(net)), low, scale, 0.05, steps, kind, 1.0).gradient(point, kind)[1]
    assert coarse @ gradient / np.linalg.norm(coarse) / np.linalg.norm(gradient) > 0.95


def test_the_nearest_point_of_a_plane_within_limits():
    g = np.array([0.8, 0.6])
    low, high = np.zeros(2), np.ones(2)
    np.testing.assert_allclose(nearest_on_plane(np.zeros(2), g, 0.5, low, high, 2), [0.4, 0.3])
    np.testing.assert_allclose(nearest_on_plane(np.zeros(2), g, 0.4, low, high, 1), [0.5, 0.0])
    np.testing.assert_allclose(nearest_on_plane(np.zeros(2), g, 1.1, low, high, 1), [1.0, 0.5])  # the first is full


# -- what is found ---------------------------------------------------------------------------------------------------


def test_the_boundary_of_a_straight_model_is_its_projection():
    X = np.random.default_rng(0).uniform(size=(300, 3))
    m = logistic([8.0, 6.0, 0.0], -7.0)
    x = np.array([0.1, 0.2, 0.3])
    short = (7.0 - 8 * 0.1 - 6 * 0.2) / 10
    for norm, cost in ((2, short), (1, short * 10 / 8)):
        found = RobustCounterfactual(m, X, tau=-1.0, norm=norm, k=50, random_state=0).explain(x)
        # Costs count each feature in units of its range over the training rows.
        assert found.cost == pytest.approx(cost / np.ptp(X, axis=0)[0], rel=0.02)
        assert found.probability >= 0.5
        assert found.probability == pytest.approx(0.5, abs=1e-3)


def test_robust_counterfactuals_survive_where_the_nearest_ones_fall(blobs):
    cost, validity, R = means(explained(blobs, tau=-1.0))
    nearest_cost, nearest_validity, _ = means(explained(blobs, method="nearest", tau=-1.0))
    robust = {method: explained(blobs, method=method, tau=0.7) for method in ("iterative", "nearest")}
    for method, found in robust.items():
        assert {each.status for each in found} == {"found"}
        assert all(each.stability >= 0.7 and each.tau == 0.7 for each in found)
        assert means(found)[1] >= 0.97, method
        assert means(found)[1] >= validity + 0.1, method
    assert means(robust["iterative"])[1] > nearest_validity
    assert cost < means(robust["iterative"])[0] <= means(robust["nearest"])[0]
    assert all(each.gradient == "autograd" for each in robust["iterative"])


def test_validity_and_cost_rise_with_tau(blobs):
    train, net, models, rejected = blobs
    search = RobustCounterfactual(net, train, method="nearest", k=200, random_state=0)
    curve = search.curve(rejected, models, taus=[0.5, 0.6, 0.7])
    assert [point.found for point in curve] == [1.0, 1.0, 1.0]
    assert np.all(np.diff([point.validity for point in curve]) >= 0) and curve[-1].validity > curve[0].validity
    assert np.all(np.diff([point.cost for point in curve]) > 0)
    by_itself = search.curve(rejected[:2], models[:2])
    assert all(point.tau in np.quantile(search.training_stability_, np.arange(1, 10) / 10) for point in by_itself)


def test_tau_is_read_off_the_training_histogram(blobs):
    train, net, *_ = blobs
    search = RobustCounterfactual(net, train, k=200, random_state=0).prepare()
    assert search.tau_ == np.median(search.training_stability_) > 0.5
    low, middle, high = np.quantile(search.training_stability_, [0.1, 0.5, 0.9])
    assert low < 0.55 < middle < 0.85 < high + 0.1


def test_stable_points_are_those_that_survive(blobs):
    train, net, models, rejected = blobs
    between = np.vstack(
        [each.x_new for tau in (0.5, 0.55, 0.6) for each in explained(blobs, method="nearest", tau=tau)]
    )
    border = np.vstack([each.x_new for each in explained(blobs, tau=-1.0)])
    accepted = train[Probability(net)(train) >= 0.5]
    points = np.vstack([border, between, accepted])[:360]
    rank = stats.spearmanr(stability(points, net, k=200), survival(points, models)).statistic
    assert rank >= 0.5


def test_latent_counterfactuals_pass_the_same_test(blobs):
    train, net, models, rejected = blobs
    few = (train, net, models, rejected[:3])
    found = explained(few, method="latent", tau=0.6, epochs=30)
    assert {each.status for each in found} == {"found"}
    assert means(found)[1] >= 0.97
    assert all((each.x_new >= train.min(axis=0)).all() and (each.x_new <= train.max(axis=0)).all() for each in found)
    untrained = explained(few, method="latent", tau=0.6, epochs=0)
    lost = [each.cost if each.status == "found" else np.inf for each in untrained]
    assert np.mean(lost) > means(found)[0]  # what the VAE learned is what keeps x' near


# -- a sharp model ---------------------------------------------------------------------------------------------------


def test_a_spike_that_confidence_believes_is_refused():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(500, 2))
    y = (X[:, 0] > 0.6).astype(int)
    spikes = np.array([[0.2, 0.2], [0.15, 0.5], [0.25, 0.8]])
    X, y = np.vstack([X, spikes]), np.append(y, [1, 1, 1])
    model = KNeighborsClassifier(1).fit(X, y)
    assert (model.predict_proba(spikes)[:, 1] == 1).all()
    assert (stability(spikes, model, sigma=0.1, k=500, target=1) <= 0.3).all()
    rejected = spikes - [0.06, 0.03]
    assert (model.predict(rejected) == 0).all()
    cost = {}
    for method in ("nearest", "iterative"):
        settings = {"method": method, "target": 1, "sigma": 0.1, "k": 300, "random_state": 0}
        sure = RobustCounterfactual(model, X, tau=-1.0, **settings).explain(rejected)
        assert all(each.probability == 1 and each.x_new[0] < 0.35 for each in sure)  # taken in by the spikes
        robust = RobustCounterfactual(model, X, tau=0.7, **settings).explain(rejected)
        assert all(each.status == "found" and each.x_new[0] > 0.55 for each in robust)
        cost[method] = np.array([each.cost for each in robust])
    assert (cost["iterative"] < cost["nearest"]).all()


# -- anomalies -------------------------------------------------------------------------------------------------------


def test_what_makes_an_anomaly_normal_survives_other_synthetic_anomalies():
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(300, 3)) @ np.array([[1.0, 0.6, 0.0], [0.0, 0.8, 0.0], [0.0, 0.0, 1.0]])

    def detector(seed):
        some = normals if seed is None else normals[np.random.default_rng(seed).integers(300, size=300)]
        made = UniformBox(random_state=seed or 99).fit(some).sample(150).X
        head = make_pipeline(PolynomialFeatures(2), LogisticRegression(C=10.0, max_iter=2000))
        return head.fit(np.vstack([some, made]), np.repeat([0, 1], [300, 150]))

    model, later = detector(None), [detector(seed) for seed in range(1, 11)]
    flagged = np.array([[3.5, -2.0, 0.0], [0.0, 0.0, 4.0], [-3.0, 2.0, 1.0], [2.5, 3.0, -3.0]])
    assert (model.predict(flagged) == 1).all()
    train = np.vstack([normals, flagged])
    base = RobustCounterfactual(model, train, tau=-1.0, k=200, random_state=0).explain(flagged, later)
    robust = RobustCounterfactual(model, train, k=200, random_state=0).explain(flagged, later)
    assert {each.status for each in robust} == {"found"}
    assert means(robust)[1] >= 0.95 > means(base)[1]
    assert all(each.gradient == "finite differences" for each in robust)


# -- honesty ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def half():
    """Return training rows and a smooth model that accepts a large second feature."""
    return np.random.default_rng(0).uniform(size=(200, 2)), logistic([0.0, 30.0], -15.0)


def test_what_is_not_robust_is_said_to_be(half):
    X, m = half
    for method in ("nearest", "iterative", "latent"):
        settings = {"method": method, "tau": 1.0, "k": 100, "max_steps": 3, "iterations": 20, "random_state": 0}
        found = RobustCounterfactual(m, X, **settings | {"sigma": 0.3}).explain([0.5, 0.4], [m])
        if method != "latent":
            assert found.status == "not robust" and found.probability >= 0.5 and found.survival == 1.0
        assert found.status != "found" and found.stability < found.tau
    [first] = RobustCounterfactual(m, X, method="nearest", tau=1.0, k=100, sigma=0.3).explain([[0.5, 0.4]])
    accepted = X[m(X) >= 0.5]
    np.testing.assert_allclose(first.x_new, accepted[np.argmin(np.linalg.norm((accepted - [0.5, 0.4]), axis=1))])


def test_what_is_not_found_is_said_to_be(half):
    X, _ = half

    def never(rows):
        return np.full(len(rows), 0.2)

    for method in ("nearest", "iterative", "latent"):
        search = RobustCounterfactual(never, X, method=method, k=20, iterations=3, epochs=1, random_state=0)
        found = search.explain([0.5, 0.4], [lambda rows: np.ones(len(rows))])
        assert found.status == "not found" and not found.delta.any() and found.survival is None
        assert found.bound.vacuous and found.cost == 0.0
    assert search.tau_ == 0.75  # published, for want of a histogram


def test_the_climb_keeps_its_most_stable_point_not_its_last():
    """A peak of .9 beside the boundary, beyond it a plateau of .55 on which the climb ends."""
    X = np.linspace(0, 1, 300)[:, None]

    def m(rows):
        u = rows[:, 0]
        return np.where(u < 0.3, 0.1, np.where(u < 0.45, 0.3 + 4 * (u - 0.3), 0.55))

    settings = {"tau": 0.99, "step": 0.09, "sigma": 0.01, "k": 100, "random_state": 0}
    start = RobustCounterfactual(m, X, **settings, max_steps=0).explain([0.1])
    found = RobustCounterfactual(m, X, **settings, max_steps=4).explain([0.1])
    assert start.stability < 0.5 and found.status == "not robust"
    assert found.stability > 0.7 and 0.4 < found.x_new[0] < 0.45


def test_the_climb_stays_within_its_radius_and_the_limits(half):
    X, m = half
    settings = {"tau": 0.999, "k": 100, "sigma": 0.01, "random_state": 0, "limits": {1: (0.0, 0.6)}}
    base = RobustCounterfactual(m, X, **settings | {"tau": -1.0}).explain([0.5, 0.2])
    short = RobustCounterfactual(m, X, **settings, radius=0.05).explain([0.5, 0.2])
    wide = RobustCounterfactual(m, X, **settings).explain([0.5, 0.2])
    assert (short.x_new - base.x_new)[1] == pytest.approx(0.05 * np.ptp(X[:, 1]), abs=1e-6)
    assert wide.x_new[1] == pytest.approx(0.6)
    assert wide.status == short.status == "not robust"


def test_the_bound_of_an_answer_rests_on_a_lipschitz_constant(half):
    X, _ = half
    m = logistic([0.0, 8.0], -4.0)
    given = RobustCounterfactual(m, X, tau=0.9, lipschitz=2.0, k=500, random_state=0).explain([0.5, 0.2])
    steps = np.linalg.norm(RobustCounterfactual(m, X, k=500, random_state=0).prepare().steps_, axis=1).mean()
    assert given.bound.epsilon < given.stability - 0.5  # R̂ alone promises nothing
    assert given.bound.epsilon == pytest.approx(given.probability - 0.5 - 2.0 * steps, abs=0.02)
    assert not given.bound.vacuous
    brittle = RobustCounterfactual(m, X, tau=0.9, lipschitz=30.0, k=500, random_state=0).explain([0.5, 0.2])
    assert brittle.bound.vacuous and brittle.status == "found"


def test_realism_tells_data_from_empty_space():
    rng = np.random.default_rng(0)
    line = rng.uniform(size=300)
    X = np.column_stack([line, line + 0.01 * rng.normal(size=300)])
    m = logistic([-20.0, 20.0], -4.0)  # accepts what lies above the line, where there is no data

    near, off = RobustCounterfactual(m, X, tau=0.5, k=50, random_state=0).explain([[0.5, 0.5], [0.1, 0.9]])
    assert off.cost == 0.0 and off.realism == -1  # accepted as it is
    inside = RobustCounterfactual(logistic([9.0, 9.0], -9.0), X, method="nearest", tau=0.5, k=50).explain([0.2, 0.2])
    assert inside.realism == 1


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def credit():
    """Return rows of two numbers and three categories, and a model that wants the third, or large numbers."""
    rng = np.random.default_rng(0)
    X = np.hstack([rng.uniform(20, 70, size=(400, 2)), np.eye(3)[rng.integers(3, size=400)]])
    return X, logistic([0.1, 0.1, -1.0, 0.0, 4.0], -11.0)


@pytest.mark.parametrize("method", ["nearest", "iterative", "latent"])
def test_limits_are_kept_and_categories_stay_whole(credit, method):
    X, m = credit
    x = np.array([30.0, 30.0, 1.0, 0.0, 0.0])
    settings = {"method": method, "one_hot": [[2, 3, 4]], "tau": 0.6, "k": 100, "random_state": 0}
    free = RobustCounterfactual(m, X, **settings).explain(x)
    bound = RobustCounterfactual(m, X, **settings, immutable=[0], limits={1: (25, 65)}).explain(x)
    no_third = RobustCounterfactual(m, X, **settings, limits={4: (0, 0)}).explain(x)
    for found in (free, bound, no_third):
        assert found.status == "found"
        assert sorted(found.x_new[2:]) == [0, 0, 1]
        assert (found.x_new >= X.min(axis=0)).all() and (found.x_new <= X.max(axis=0)).all()
    assert bound.x_new[0] == 30.0 and 25 <= bound.x_new[1] <= 65
    assert no_third.x_new[4] == 0


def test_a_category_changes_only_where_numbers_do_not_suffice(credit):
    X, m = credit
    settings = {"one_hot": [[2, 3, 4]], "tau": 0.6, "k": 100, "random_state": 0}
    easy = RobustCounterfactual(m, X, **settings).explain([55.0, 55.0, 1.0, 0.0, 0.0])
    assert easy.status == "found" and easy.x_new[2] == 1 and easy.delta[:2].all()
    # Even where every accepted training row near it is of another category.
    others = X[(X[:, 2] == 0) | (m(X) < 0.5)]
    kept = RobustCounterfactual(m, others, **settings | {"tau": -1.0}).explain([60.0, 59.0, 1.0, 0.0, 0.0])
    assert kept.x_new[2] == 1 and kept.probability >= 0.5
    # The numbers must stay: only the third category is left, and it suffices.
    fixed = RobustCounterfactual(m, X, **settings, immutable=[0, 1]).explain([55.0, 35.0, 1.0, 0.0, 0.0])
    assert fixed.status == "found" and fixed.delta.tolist() == [0, 0, -1, 0, 1]
    assert fixed.changes == {"2": (1.0, 0.0), "4": (0.0, 1.0)}
    # A row whose category is forbidden is no candidate: without any category it would be the nearest.
    strict = logistic([0.1, 0.1, -20.0, 0.0, 4.0], -11.0)
    nearest = RobustCounterfactual(strict, X, **settings | {"tau": -1.0}, method="nearest", limits={4: (0, 0)})
    assert nearest.explain([60.0, 59.0, 1.0, 0.0, 0.0]).x_new[2:].tolist() == [0, 1, 0]
    frozen = RobustCounterfactual(m, X, **settings, immutable=[0, 1, 2, 3, 4]).explain([55.0, 35.0, 1.0, 0.0, 0.0])
    assert frozen.status == "not found"
    unseen = RobustCounterfactual(m, X[X[:, 2] == 0], **settings)  # x is of a category that training never saw
    assert unseen.explain([55.0, 55.0, 1.0, 0.0, 0.0]).x_new[2] == 0
    none = RobustCounterfactual(lambda rows: 0.1 * m(rows), X[X[:, 2] == 0], **settings)
    assert none.explain([55.0, 55.0, 1.0, 0.0, 0.0]).status == "not found"


def test_one_category_changes_where_every_robust_row_differs_in_two(credit):
    X, m = credit
    X = np.hstack([X, np.eye(2)[X[:, 4].astype(int)]])  # the second group follows the first, and means nothing
    settings = {"one_hot": [[2, 3, 4], [5, 6]], "limits": {0: (20, 61), 1: (20, 60)}, "k": 100, "random_state": 0}
    found = RobustCounterfactual(lambda rows: m(rows[:, :5]), X, tau=0.9, **settings).explain([60, 59, 1, 0, 0, 1, 0])
    assert found.status == "found" and found.x_new[2:].tolist() == [0, 0, 1, 1, 0]


def test_names_of_columns_are_understood_and_returned(credit):
    pandas = pytest.importorskip("pandas")
    X, m = credit
    frame = pandas.DataFrame(X, columns=["age", "income", "a", "b", "c"])
    search = RobustCounterfactual(m, frame, one_hot=[["a", "b", "c"]], immutable=["age"], k=100, random_state=0)
    [found] = search.explain(frame.iloc[[int(np.argmin(m(X)))]])
    assert "age" not in found.changes and set(found.changes) <= {"income", "a", "b", "c"}
    # A classifier that knows the names is asked without a warning.
    named = LogisticRegression(max_iter=1000).fit(frame, (m(X) < 0.5).astype(int))
    RobustCounterfactual(named, frame, k=20, max_steps=2, random_state=0).explain(frame.iloc[:2])


# -- models ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_model_is_read_the_same_way():
    X = np.random.default_rng(0).normal(size=(50, 2))
    y = (X[:, 0] > 0).astype(int)
    classifier = LogisticRegression().fit(X, y)
    expected = classifier.predict_proba(X)[:, 0]
    two = nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1)).double()
    with torch.no_grad():
        two[0].weight[:] = torch.tensor(np.vstack([-classifier.coef_, 0 * classifier.coef_]))
        two[0].bias[:] = torch.tensor([-classifier.intercept_[0], 0.0])
    np.testing.assert_allclose(Probability(classifier)(X), expected)
    np.testing.assert_allclose(Probability(classifier, target=1)(X), 1 - expected)
    np.testing.assert_allclose(Probability(lambda rows: classifier.predict_proba(rows)[:, 0])(X), expected)
    np.testing.assert_allclose(Probability(two)(X), expected, atol=1e-9)
    np.testing.assert_allclose(Probability(two, target=1)(X), 1 - expected, atol=1e-9)
    detector = Calibrated(Mahalanobis(), Squash(), random_state=0).fit(X)
    np.testing.assert_allclose(Probability(detector)(X), 1 - detector.probability(X))
    several = LogisticRegression().fit(X, np.digitize(X[:, 0], [-0.5, 0.5]))
    found = RobustCounterfactual(several, X, target=2, tau=0.5, k=50, random_state=0).explain([-2.0, 0.0])
    assert found.status == "found" and several.predict(found.x_new[None]) == 2


def test_a_network_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1), nn.Sigmoid()).train()
    X = np.random.default_rng(0).uniform(size=(60, 2))
    ask = Probability(net)
    assert (ask(X) == ask(X)).all()  # no dropout
    RobustCounterfactual(net, X, k=20, max_steps=3, random_state=0).explain(X[:2])
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())


def test_same_seed_same_bits_and_a_row_alone_is_the_row_among_others(blobs):
    train, net, _, rejected = blobs
    before = train.copy()
    for method in ("iterative", "nearest"):
        settings = {"method": method, "tau": 0.6, "k": 50, "random_state": 3}
        together = RobustCounterfactual(net, train, **settings).explain(rejected[:3])
        alone = [RobustCounterfactual(net, train, **settings).explain(row) for row in rejected[2::-1]][::-1]
        for one, other in zip(together, alone):
            assert one.x_new.tobytes() == other.x_new.tobytes() and one.stability == other.stability
    assert (train == before).all()


def test_torch_stays_away_until_it_is_needed(run_python):
    code = """
import sys
import numpy as np
from assay.explain.counterfactuals import RobustCounterfactual
X = np.random.default_rng(0).uniform(size=(100, 2))
m = lambda rows: 1 / (1 + np.exp(-20 * (rows[:, 0] - 0.5)))
for method in ("iterative", "nearest"):
    print(RobustCounterfactual(m, X, method=method, tau=0.6, k=50, random_state=0).explain([0.2, 0.5]).status)
print("torch" in sys.modules)
sys.modules["torch"] = None
try:
    RobustCounterfactual(m, X, method="latent", k=50).explain([0.2, 0.5])
except ImportError as error:
    print(error)
"""
    lines = run_python(code).splitlines()
    assert lines[:3] == ["found", "found", "False"]
    assert "torch" in lines[3] and "deep" in lines[3]


def test_odd_tables():
    m = logistic([20.0, 0.0], -10.0)
    flat = np.column_stack([np.random.default_rng(0).uniform(size=50), np.full(50, 3.0)])
    found = RobustCounterfactual(m, flat, tau=0.6, k=50, random_state=0).explain([0.2, 3.0])
    assert found.status == "found" and found.x_new[1] == 3.0
    twice = np.vstack([flat, flat])
    assert RobustCounterfactual(m, twice, method="nearest", tau=0.6, k=50).explain([0.2, 3.0]).realism == 1
    same = np.full((5, 2), 0.9)
    assert RobustCounterfactual(m, same, tau=0.6, k=50).explain([0.2, 0.9]).status in ("found", "not found")
    one = RobustCounterfactual(logistic([20.0], -10.0), flat[:, :1], tau=0.6, k=50, random_state=0).explain([0.2])
    assert one.status == "found" and one.x_new[0] > 0.5
    accepted = RobustCounterfactual(m, flat, tau=0.6, k=50).explain([0.95, 3.0])
    assert accepted.status == "found" and not accepted.delta.any() and accepted.cost == 0.0
    outside = RobustCounterfactual(m, flat, tau=0.6, k=50).explain([-40.0, 9.0])
    assert outside.status == "found" and outside.x_new[1] == 3.0


@pytest.mark.parametrize(
    "name, value",
    [
        *(
            (name, object())
            for name in ("method", "tau", "kind", "lipschitz", "sigma", "k", "norm", "step", "max_steps")
        ),
        *((name, object()) for name in ("radius", "immutable", "limits", "one_hot", "epochs", "iterations")),
        *((name, object()) for name in ("trade_off", "target", "random_state", "model", "X_train")),
        *(("tau", "often"), ("immutable", [2]), ("immutable", ["age"]), ("limits", {0: (1, 0)}), ("limits", {0: 1})),
        *(("one_hot", [[0, 1]]), ("kind", "given-lipschitz"), ("X_train", [[0.0, 1.0]]), ("model", Mahalanobis())),
    ],
)
def test_what_makes_no_sense_is_named(half, name, value):
    X, m = half
    with pytest.raises(InputError, match="lipschitz" if value == "given-lipschitz" else name):
        RobustCounterfactual(**{"model": m, "X_train": X, name: value}).explain([0.5, 0.4])


def test_bad_models_and_rows_are_named(half):
    X, m = half
    for model in (lambda rows: rows[:, 0] * 5, lambda rows: np.full(len(rows), np.nan), lambda rows: rows):
        with pytest.raises(InputError, match="model"):
            Probability(lambda rows, model=model: model(rows)[:1])(X)
        with pytest.raises(InputError, match="model") if model(X).ndim == 1 else pytest.raises(IndexError):
            Probability(model, target=5)(X)
    with pytest.raises(InputError, match="Squash"):
        Probability(Calibrated(Mahalanobis(), FalseAlarmRate()).fit(X))
    with pytest.raises(InputError, match="target"):
        Probability(LogisticRegression().fit(X, X[:, 0] > 0.5), target=7)
    search = RobustCounterfactual(m, X, k=20)
    for row in ([0.5], [0.5, np.nan]):
        with pytest.raises(InputError, match="x"):
            search.explain(row)
    with pytest.raises(InputError, match="models"):
        search.explain([0.5, 0.4], models=[])
    with pytest.raises(InputError, match="x: in row 0"):
        RobustCounterfactual(m, np.eye(2)[[0, 1, 0]], one_hot=[[0, 1]], k=20).explain([0.5, 0.5])
    for wrong in ({"scale": 0.0}, {"k": 0}, {"sigma": -1}, {"kind": "mean"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            stability([0.5, 0.5], m, **wrong)
