"""The rivals of EAP that fit no detector: each against its definition, written as plainly as possible."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import kstest, spearmanr

import twins
from assay import KNNShapley, Lava, RandomQuality, Rarity, RobustVolume
from assay.core.validation import InputError
from assay.kernels import shapley
from assay.kernels.shapley import knn_shapley_values, newcomer_values
from assay.kernels.transport import self_sinkhorn, sinkhorn, soft_minimum
from assay.quality import rarity


@pytest.fixture
def table():
    """Return labelled rows (60 of them, 6 anomalies) and 40 auxiliary rows of every kind, in two columns."""
    rng = np.random.default_rng(0)
    X = np.vstack([rng.normal(size=(54, 2)), rng.normal(1.5, 0.5, size=(6, 2))])
    auxiliary = [rng.normal(1.5, 0.5, size=(10, 2)), rng.normal(size=(10, 2)), rng.uniform(-4, 4, size=(20, 2))]
    return X, np.repeat([0, 1], [54, 6]), np.vstack(auxiliary)


# -- KNN-Shapley -----------------------------------------------------------------------------------------------------


def utility(rows, labels, e, label, k):
    """The share of e's label among its k nearest rows, over k; equally near rows in their order."""
    nearest_first = sorted(range(len(rows)), key=lambda i: (((rows[i] - e) ** 2).sum(), i))
    return sum(labels[i] == label for i in nearest_first[:k]) / k


def enumerated(X, y, e, label, k):
    """Shapley values by the definition: every coalition of the others."""
    n = len(X)
    values = np.zeros(n)
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            for chosen in combinations(others, size):
                with_i = sorted([*chosen, i])
                after, before = [utility(X[rows], y[rows], e, label, k) for rows in (with_i, list(chosen))]
                values[i] += (after - before) / (n * comb(n - 1, size))
    return values


def recursion(X, y, e, label, k):
    """Shapley values by the published recursion over sorted neighbours."""
    n = len(X)
    order = np.argsort(((X - e) ** 2).sum(axis=1), kind="stable")
    same = (y[order] == label).astype(float)
    s = np.zeros(n)
    s[n - 1] = same[n - 1] * min(k, n) / (k * n)
    for i in range(n - 2, -1, -1):
        s[i] = s[i + 1] + (same[i] - same[i + 1]) / k * min(k, i + 1) / (i + 1)
    values = np.zeros(n)
    values[order] = s
    return values


def newcomers_one_by_one(X, y, X_aux, k, values):
    joined = [(np.vstack([X, row]), np.append(y, 1)) for row in X_aux]
    return np.array([np.mean([values(*both, e, label, k)[-1] for e, label in zip(X, y)]) for both in joined])


@pytest.mark.parametrize("k", [1, 3, 6, 7, 10])
@pytest.mark.parametrize("ties", [False, True])
def test_knn_shapley_is_the_value_of_the_game_by_enumeration(k, ties):
    rng = np.random.default_rng(k)
    X, aux = rng.normal(size=(6, 2)), rng.normal(size=(4, 2))
    y = np.array([0, 0, 1, 0, 1, 0])
    if ties:
        X, aux = np.rint(X), np.vstack([np.rint(aux), np.rint(X[:2])])
    expected = newcomers_one_by_one(X, y, aux, k, enumerated)
    np.testing.assert_allclose(KNNShapley(k).fit(X, y).quality(aux), expected, atol=1e-14)
    valid, label = rng.normal(size=(3, 2)), np.array([1, 0, 1])
    values = np.mean([enumerated(X, y, e, c, k) for e, c in zip(valid, label)], axis=0)
    np.testing.assert_allclose(knn_shapley_values(X, y, valid, label, k), values, atol=1e-14)


@pytest.mark.parametrize("k", [1, 5, 10, 100])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_knn_shapley_is_the_recursion_candidate_by_candidate(monkeypatch, k, scale):
    monkeypatch.setattr(shapley, "BLOCK_BYTES", 4000)  # several blocks
    rng = np.random.default_rng(0)
    X = np.rint(scale * rng.normal(size=(70, 2)))  # scale 1: many ties and duplicates
    aux, y = np.vstack([np.rint(scale * rng.normal(size=(15, 2))), X[:5]]), (rng.uniform(size=70) < 0.2).astype(int)
    expected = newcomers_one_by_one(X, y, aux, k, recursion)
    np.testing.assert_allclose(newcomer_values(X, y, aux, 1, k), expected, atol=1e-14)
    values = np.mean([recursion(X, y, e, c, k) for e, c in zip(aux, y)], axis=0)
    np.testing.assert_allclose(knn_shapley_values(X, y, aux, y[: len(aux)], k), values, atol=1e-14)


def test_knn_shapley_values_share_the_utility_of_all_rows():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    valid, label = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    total = np.mean([utility(X, y, e, c, 7) for e, c in zip(valid, label)])
    assert knn_shapley_values(X, y, valid, label, 7).sum() == pytest.approx(total)


# -- rarity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 10])
def test_rarity_is_its_naive_twin_anomalies_included(monkeypatch, table, k):
    monkeypatch.setattr(rarity, "BLOCK_BYTES", 4000)
    X, y, aux = table
    expected = twins.rarity(X, aux, k)
    np.testing.assert_allclose(Rarity(k).fit(X, y).quality(aux), expected)
    assert (expected > 0).any() and (expected == 0).any()
    assert (expected != twins.rarity(X[y == 0], aux, k)).any()


def test_rarity_of_duplicates_and_of_few_rows():
    # Radii: 2 (k other rows at 0, so the nearest that differs), 2, 2, and 3 for the row at 5.
    model = Rarity(n_neighbors=2).fit([[0.0], [0.0], [0.0], [2.0], [5.0]], [0, 0, 0, 0, 1])
    assert model.quality([[0.0], [1.9], [-1.9], [2.5], [7.5], [-2.0], [10.0]]).tolist() == [2, 2, 2, 2, 5, 0, 0]
    assert Rarity(n_neighbors=10).fit([[0.0], [1.0]], [0, 1]).quality([[0.5], [3.0]]).tolist() == [1, 0]
    assert Rarity().fit([[0.0], [0.0]], [0, 1]).quality([[0.0]]).tolist() == [0]


# -- robust volume ---------------------------------------------------------------------------------------------------


def log_robust_volume(rows, origin, omega, ridge):
    """The definition: cube means, determinant, product over the cubes."""
    cubes = {}
    for row in rows:
        cubes.setdefault(tuple(np.floor((row - origin) / omega)), []).append(row)
    d = len(origin)
    means = np.array([np.mean(cube, axis=0) for cube in cubes.values()]).reshape(-1, d)
    a = 1 / (10 * max(len(cubes), 1))
    product = sum(np.log((1 - a ** (len(cube) + 1)) / (1 - a)) for cube in cubes.values())
    return np.linalg.slogdet(means.T @ means + ridge * np.eye(d))[1] / 2 + product


def volume_gains(model, X, aux):
    """Mean gain over the model's prefixes, in units of the largest prefix's volume; X in the model's order."""
    arguments = X.min(axis=0), model.omega, model.ridge_
    before = np.array([log_robust_volume(X[prefix], *arguments) for prefix in model.prefixes_])
    unit = before.max()
    return np.array(
        [
            np.mean(
                [
                    np.exp(log_robust_volume(np.vstack([X[prefix], row]), *arguments) - unit) - np.exp(volume - unit)
                    for prefix, volume in zip(model.prefixes_, before)
                ]
            )
            for row in aux
        ]
    )


@pytest.mark.parametrize("d", [1, 3, 30])
@pytest.mark.parametrize("omega", [0.05, 1.0])
def test_robust_volume_is_its_definition(d, omega):
    rng = np.random.default_rng(d)
    X = rng.normal(size=(20, d))
    aux = np.vstack([rng.normal(size=(8, d)), 30 * rng.normal(size=(3, d)), X[:3], X[:3] + 1e-3])
    model = RobustVolume(omega, n_permutations=12, random_state=0).fit(X, np.repeat([0, 1], 10))
    rotated_back = model.rows_[:, :-1] @ model.basis_
    in_order = X[cdist(rotated_back, X).argmin(axis=1)]
    np.testing.assert_allclose(rotated_back, in_order, atol=1e-12)
    quality = model.quality(aux)
    np.testing.assert_allclose(quality, volume_gains(model, in_order, aux), rtol=1e-6, atol=1e-9)
    assert np.ptp(quality) > 0


def test_robust_volume_is_a_shapley_value():
    rng = np.random.default_rng(0)
    X, aux = rng.normal(size=(5, 2)), rng.normal(size=(3, 2))
    model = RobustVolume(omega=0.7, n_permutations=4000, random_state=0).fit(X, [0, 0, 0, 1, 1])
    rows, arguments = model.rows_[:, :-1], (X.min(axis=0), 0.7, model.ridge_)
    exact, unit = np.zeros(3), -np.inf
    for size in range(6):
        for chosen in combinations(range(5), size):
            before = log_robust_volume(rows[list(chosen)], *arguments)
            unit = max(unit, before)
            after = [log_robust_volume(np.vstack([rows[list(chosen)], row]), *arguments) for row in aux]
            exact += (np.exp(after) - np.exp(before)) / (6 * comb(5, size))
    np.testing.assert_allclose(model.quality(aux), exact / np.exp(unit), rtol=0.05)
    # Sizes are spread evenly over 0..n.
    np.testing.assert_allclose(np.bincount(model.prefixes_.sum(axis=1)) / 4000, 1 / 6, atol=0.01)


def test_robust_volume_has_no_overflow_in_a_thousand_columns():
    rng = np.random.default_rng(0)
    X, aux = 1e3 * rng.normal(size=(200, 1000)), 1e3 * rng.normal(size=(20, 1000))
    quality = RobustVolume(random_state=0).fit(X, np.arange(200) < 5).quality(aux)
    assert np.isfinite(quality).all() and len(np.unique(quality)) == 20 and (quality > 0).all()
    # A row within the span adds next to nothing there.
    assert RobustVolume(random_state=0).fit(X, np.arange(200) < 5).quality(X[:5]).max() < 1e-2 * quality.min()


def test_another_seed_ranks_alike():
    rng = np.random.default_rng(0)
    X, aux = rng.normal(size=(200, 5)), rng.normal(size=(100, 5))
    first, second = (RobustVolume(random_state=seed).fit(X, np.arange(200) < 5).quality(aux) for seed in (0, 1))
    assert (first != second).any()
    assert spearmanr(first, second).statistic > 0.995


# -- LAVA ------------------------------------------------------------------------------------------------------------


def naive_potentials(C, a, b, epsilon):
    """Alternating updates from the largest cost down, until nothing moves; masses a and b."""
    f, g, level = np.zeros(len(a)), np.zeros(len(b)), max(C.max(), epsilon)
    while True:
        for _ in range(5000):
            before = f
            f = -level * logsumexp((g - C) / level, b=b, axis=1)
            g = -level * logsumexp((f[:, None] - C) / level, b=a[:, None], axis=0)
            if np.abs(f - before).max() < 1e-5 * level:
                break
        if level == epsilon:
            return f, g
        level = max(level / 2, epsilon)


def scheduled_potentials(C, a, b, epsilon):
    """A handful of averaged updates, ε divided by four at each: the schedule of the published estimator's solver."""

    def update(g, weights, cost, level):
        return -level * logsumexp((g - cost) / level, b=weights, axis=1)

    level = 2 * C.max()
    f, g = update(0 * b, b, C, level), update(0 * a, a, C.T, level)
    while True:
        f, g = (f + update(g, b, C, level)) / 2, (g + update(f, a, C.T, level)) / 2
        if level == epsilon:
            return update(g, b, C, epsilon), update(f, a, C.T, epsilon)
        level = max(level / 4, epsilon)


def lava_one_by_one(X, y, aux, blur, solve):
    """LAVA with everything solved anew for each auxiliary row."""

    def dual(C):
        return solve(C, np.full(C.shape[0], 1 / C.shape[0]), np.full(C.shape[1], 1 / C.shape[1]), blur**2)

    n, values = len(X), []
    for row in aux:
        rows, labels = np.vstack([X, row]), np.append(y, 1)
        W = [[sum(p.mean() for p in dual(half(rows[labels == c], X[y == e]))) for e in (0, 1)] for c in (0, 1)]
        f, _ = dual(half(rows, X) + np.array(W)[labels][:, y])
        values.append(-(f[-1] * (1 + 1 / n) - f.sum() / n))
    return np.array(values)


def half(A, B):
    return cdist(A, B, "sqeuclidean") / 2


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 10.0])
def test_transport_moves_every_mass(epsilon):
    rng = np.random.default_rng(0)
    C = half(rng.normal(size=(20, 2)), rng.normal(1.0, 2.0, size=(35, 2)))
    found = sinkhorn(C, epsilon, 1e-4, 100_000)
    assert found.converged and found.epsilon == epsilon and found.n_iter < 100_000
    plan = np.exp((found.f[:, None] + found.g - C) / epsilon) / C.size
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 20, rtol=1e-12)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 35, rtol=1e-3)
    f, g = naive_potentials(C, np.full(20, 1 / 20), np.full(35, 1 / 35), epsilon)
    assert found.value == pytest.approx(f.mean() + g.mean(), rel=1e-3)


def test_transport_without_entropy_is_the_assignment():
    rng = np.random.default_rng(0)
    C = half(rng.normal(size=(30, 2)), rng.normal(1.0, 2.0, size=(30, 2)))
    best = C[linear_sum_assignment(C)].mean()
    assert sinkhorn(C, 1e-4, 1e-3, 100_000).value == pytest.approx(best, rel=1e-2)


@pytest.mark.parametrize("epsilon", [0.1, 2.0])
def test_transport_onto_itself(table, epsilon):
    X, _, _ = table
    C = half(X, X)
    found = self_sinkhorn(C, epsilon, 1e-8, 1000)
    assert found.converged and found.n_iter < 200
    plan = np.exp((found.f[:, None] + found.f - C) / epsilon) / C.size
    np.testing.assert_allclose(plan.sum(axis=1), 1 / len(X), rtol=1e-6)
    f, g = naive_potentials(C, np.full(60, 1 / 60), np.full(60, 1 / 60), epsilon)
    assert found.value == pytest.approx(f.mean() + g.mean(), abs=1e-5)


def test_the_soft_minimum_is_the_derivative_of_transport_in_a_new_mass(table):
    X, _, aux = table
    n, t, epsilon = len(X), 1e-3, 2.0
    f = self_sinkhorn(half(X, X), epsilon, 1e-10, 1000).f
    derivative = soft_minimum(half(aux[:6], X), f, epsilon) - f.mean()
    for row, expected in zip(aux[:6], derivative):
        C = half(np.vstack([X, row]), X)
        values = []
        for share in (t, t / 2):
            a = np.append(np.full(n, (1 - share) / n), share)
            f_t, g_t = naive_potentials(C, a, np.full(n, 1 / n), epsilon)
            values.append((a @ f_t + g_t.mean() - 2 * f.mean()) / share)
        assert 2 * values[1] - values[0] == pytest.approx(expected, abs=0.01 * np.ptp(derivative))


@pytest.mark.parametrize("blur", [0.1**0.5, 2**0.5])
def test_exact_lava_is_transport_solved_for_each_row(table, blur):
    X, y, aux = table
    expected = lava_one_by_one(X, y, aux[::13], blur, naive_potentials)
    quality = Lava(blur, exact=True, max_iter=50_000).fit(X, y).quality(aux[::13])
    np.testing.assert_allclose(quality, expected, atol=5e-3 * np.ptp(expected))


def test_how_the_derivative_agrees_with_full_solves(table):
    X, y, aux = table

    def agreement(blur):
        derivative, exact = (Lava(blur, exact=exact).fit(X, y).quality(aux) for exact in (False, True))
        scheduled = lava_one_by_one(X, y, aux, blur, scheduled_potentials)
        return [spearmanr(derivative, other).statistic for other in (exact, scheduled)]

    converged, scheduled = agreement(2**0.5)
    assert converged > 0.99 and scheduled > 0.99
    # With ε far below the distances, mass goes by chains of short moves once all has converged.
    converged, scheduled = agreement(0.1**0.5)
    assert 0.2 < converged < 0.9 and scheduled > 0.95


def test_lava_says_when_transport_has_not_converged(table):
    X, y, aux = table
    model = Lava().fit(X, y)
    assert model.blur_ == pytest.approx(model.blur) and 1 < model.n_iter_ < 2000
    hurried = Lava(max_iter=5).fit(X, y)
    assert hurried.n_iter_ == 5 and hurried.blur_ > model.blur
    assert np.isfinite(hurried.quality(aux)).all()
    with pytest.raises(InputError, match=r"max_iter=5: .*raise max_iter or blur"):
        Lava(exact=True, max_iter=5).fit(X, y).quality(aux)


def test_lava_does_not_depend_on_its_blocks(monkeypatch, table):
    X, y, aux = table
    model = Lava().fit(X, y)
    whole = model.quality(aux)
    monkeypatch.setattr("assay.quality.lava.BLOCK_BYTES", 8 * len(X) * 7)
    assert model.quality(aux).tobytes() == whole.tobytes()


# -- random ----------------------------------------------------------------------------------------------------------


def test_random_quality_is_uniform_reproducible_and_of_the_row_alone(table):
    X, y, _ = table
    rows = np.random.default_rng(0).normal(size=(4000, 2))
    first, again, other = (RandomQuality(random_state=seed).fit(X, y).quality(rows) for seed in (0, 0, 1))
    assert first.tobytes() == again.tobytes()
    assert ((first >= 0) & (first < 1)).all() and len(np.unique(first)) == len(rows)
    for quality in (first, other):
        assert kstest(quality, "uniform").pvalue > 0.001
    assert abs(spearmanr(first, other).statistic) < 0.06 > abs(spearmanr(first, rows[:, 0]).statistic)
    # A neighbour in the last bit gets another number, at random.
    assert abs(spearmanr(first, RandomQuality(0).fit(X, y).quality(np.nextafter(rows, np.inf))).statistic) < 0.06
    model = RandomQuality(0).fit(X, y)
    assert model.quality(rows[::-7]).tobytes() == first[::-7].tobytes()
    assert model.quality(rows[5:6])[0] == first[5]
    assert model.quality([[0.0, 1.0]])[0] == model.quality([[-0.0, 1.0]])[0]
    # It learns nothing: other labels and other rows change nothing; yet it takes only what the others take.
    assert RandomQuality(0).fit(2 * X, 1 - y).quality(rows).tobytes() == first.tobytes()
    with pytest.raises(InputError, match="unknown labels"):
        model.fit(X, np.where(np.arange(len(y)) < 5, -1, y))
