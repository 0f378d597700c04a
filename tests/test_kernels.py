"""Kernels against naive twins, detectors against their definitions and against scikit-learn."""

import math

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from assay.detectors.tabular.gaussian import Mahalanobis
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.marginals import ECOD, HBOS
from assay.detectors.tabular.neighbours import KNN, LOF
from assay.detectors.tabular.noise_contrastive import NoiseContrastive
from assay.detectors.tabular.ssdo import harmonic_length, kernel_sums
from assay.kernels import neighbours
from assay.kernels.balls import ball_radii, capture_counts, smallest_balls
from assay.kernels.distances import squared_distances
from assay.kernels.isolation import _random, average_path, grow_trees, mean_paths
from assay.kernels.jit import jit
from assay.kernels.neighbours import nearest
from assay.quality.density import fit_balls

#: Whole numbers: many ties and duplicates, and every squared distance is exact.
GRID = st.integers(-3, 3).map(float)


@st.composite
def balls_problem(draw):
    """Draw rows, subsets that each hold at least two of them, targets, and a k for each subset."""
    n, d = draw(st.integers(2, 40)), draw(st.integers(1, 3))
    rows = draw(hnp.arrays(np.float64, (n, d), elements=GRID))
    targets = draw(hnp.arrays(np.float64, (draw(st.integers(1, 4)), d), elements=GRID))
    members = draw(hnp.arrays(np.uint8, (n, draw(st.integers(1, 5))), elements=st.integers(0, 1)))
    first = draw(st.integers(0, n - 2))
    members[first : first + 2] = 1
    k = np.array([draw(st.integers(1, int(size) - 1)) for size in members.sum(axis=0)], dtype=np.int32)
    return rows, targets, members, k


def naive_d2(A, B):
    return ((A[:, None] - B[None]) ** 2).sum(axis=2)


def sorted_distances(rows):
    d2 = naive_d2(rows, rows)
    order = np.argsort(d2, axis=1)
    return np.take_along_axis(d2, order, axis=1), order.astype(np.int32)


# -- distances and balls ---------------------------------------------------------------------------------------------


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_squared_distances(data):
    d = data.draw(st.integers(1, 5))
    numbers = st.floats(-1e6, 1e6)
    A = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(1, 6)), d), elements=numbers))
    B = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(1, 6)), d), elements=numbers))
    d2 = squared_distances(A, B)
    np.testing.assert_allclose(d2, naive_d2(A, B), rtol=1e-13)
    # To the bit: symmetric, and nothing between equal rows.
    assert d2.tobytes() == np.ascontiguousarray(squared_distances(B, A).T).tobytes()
    assert (np.diag(squared_distances(A, A)) == 0).all()


@given(balls_problem())
@settings(deadline=None, max_examples=150)
def test_ball_radii(problem):
    rows, _, members, k = problem
    radii = np.full(members.shape, np.nan)
    numbers = np.arange(len(rows))
    for part in (numbers[::2], numbers[1::2]):  # in any parts
        sorted_d2, order = sorted_distances(rows)
        ball_radii(sorted_d2[part], order[part], part, members, k, radii)
    d2 = naive_d2(rows, rows)
    for b in range(members.shape[1]):
        held = members[:, b] == 1
        for i in numbers:
            expected = np.sort(d2[i, held])[k[b]] if held[i] else 0.0
            assert radii[i, b] == expected


def test_ball_radii_of_many_rows():
    """More rows than the walk looks at before it asks whether it may stop."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    members = (rng.random((300, 6)) < [0.02, 0.1, 0.5, 0.9, 0.99, 1.0]).astype(np.uint8)
    members[:2] = 1
    for k in (np.ones(6, dtype=np.int32), members.sum(axis=0).astype(np.int32) - 1, np.array([1, 3, 9, 50, 7, 299])):
        k = np.minimum(k, members.sum(axis=0) - 1).astype(np.int32)
        radii = np.zeros(members.shape)
        ball_radii(*sorted_distances(rows), np.arange(300), members, k, radii)
        d2 = naive_d2(rows, rows)
        for b in range(6):
            held = members[:, b] == 1
            np.testing.assert_array_equal(radii[held, b], np.sort(d2[np.ix_(held, held)], axis=1)[:, k[b]])
            assert (radii[~held, b] == 0).all()


@given(balls_problem())
@settings(deadline=None, max_examples=150)
def test_capture_counts(problem):
    rows, targets, members, _ = problem
    captures = np.full((len(targets), members.shape[1]), len(rows), dtype=np.int32)
    numbers = np.arange(len(rows))
    d2, to_targets = naive_d2(rows, rows), naive_d2(rows, targets)
    for part in (numbers[: len(rows) // 3], numbers[len(rows) // 3 :]):
        sorted_d2, order = sorted_distances(rows)
        capture_counts(sorted_d2[part], order[part], part, members, to_targets[part], captures)
    for a in range(len(targets)):
        for b in range(members.shape[1]):
            held = np.flatnonzero(members[:, b])
            expected = min((d2[i, held] <= to_targets[i, a]).sum() for i in held)
            assert captures[a, b] == expected
            # By its meaning: the least k whose ball, strictly larger than the distance, holds the target.
            for k in range(1, len(held)):
                captured = any(np.sort(d2[i, held])[k] > to_targets[i, a] for i in held)
                assert captured == (k >= expected)


@given(balls_problem())
@settings(deadline=None, max_examples=150)
def test_smallest_balls(problem):
    rows, targets, members, k = problem
    radii = np.zeros(members.shape)
    ball_radii(*sorted_distances(rows), np.arange(len(rows)), members, k, radii)
    found = smallest_balls(targets, rows, radii)
    to_rows = naive_d2(targets, rows)
    for a in range(len(targets)):
        for b in range(members.shape[1]):
            holding = [radii[i, b] for i in range(len(rows)) if to_rows[a, i] < radii[i, b]]
            assert found[a, b] == min(holding, default=np.inf)


def test_every_subset_is_as_if_fitted_alone():
    rng = np.random.default_rng(0)
    normals, anomalies = rng.normal(size=(90, 3)), rng.normal(3.0, 1.0, size=(4, 3))
    members = (rng.random((90, 7)) < 0.7).astype(np.uint8)
    together = fit_balls(normals, anomalies, members)
    for b in range(7):
        held = members[:, b] == 1
        alone = fit_balls(normals[held], anomalies, np.ones((held.sum(), 1), dtype=np.uint8))
        np.testing.assert_array_equal(alone.radii[:, 0], together.radii[held, b])
        assert alone.k[0] == together.k[b]
        np.testing.assert_allclose(alone.mass[0], together.mass[b], rtol=1e-13)


# -- neighbours ------------------------------------------------------------------------------------------------------


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_nearest_by_brute_force(data):
    d = data.draw(st.integers(1, 4))
    reference = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(3, 30)), d), elements=GRID))
    X = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(1, 5)), d), elements=GRID))
    check_nearest(X, reference, data.draw(st.integers(1, len(reference))), skip_self=False)
    check_nearest(reference, reference, data.draw(st.integers(1, len(reference) - 1)), skip_self=True)


@pytest.fixture(params=["by tree", "by brute force"])
def way(request, monkeypatch):
    """Make every search go one way, whatever the size of the table."""
    monkeypatch.setattr(neighbours, "TREE_ROWS", 0 if request.param == "by tree" else 10**9)
    monkeypatch.setattr(neighbours, "TREE_COLUMNS", 10**9)
    return request.param


@pytest.mark.parametrize("grain", [None, 1.0, 0.25], ids=["continuous", "many duplicates", "ties"])
@pytest.mark.parametrize("d", [1, 2, 13])
def test_nearest(grain, d, way, monkeypatch):
    rng = np.random.default_rng(d)
    reference, X = rng.normal(size=(600, d)), rng.normal(size=(50, d))
    if grain:
        reference, X = np.rint(reference / grain) * grain, np.rint(X / grain) * grain
    trees, tree = [], neighbours.cKDTree
    monkeypatch.setattr(neighbours, "cKDTree", lambda rows: trees.append(rows) or tree(rows))
    for k in (1, 5, 20):
        check_nearest(X, reference, k, skip_self=False)
        check_nearest(reference, reference, k, skip_self=True)
    assert bool(trees) == (way == "by tree")


def test_a_row_with_more_duplicates_than_neighbours_is_not_its_own(way):
    reference = np.vstack([np.zeros((400, 2)), np.ones((200, 2))])
    distances, indices = nearest(reference, reference, 3, skip_self=True)
    assert (distances == 0).all()
    assert (indices != np.arange(600)[:, None]).all()


def check_nearest(X, reference, k, skip_self):
    distances, indices = nearest(X, reference, k, skip_self=skip_self)
    assert distances.shape == indices.shape == (len(X), k)
    assert indices.dtype == np.int64
    expected = np.sqrt(naive_d2(X, reference))
    if skip_self:
        np.fill_diagonal(expected, np.inf)
    np.testing.assert_allclose(distances, np.sort(expected, axis=1)[:, :k], rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(np.take_along_axis(expected, indices, axis=1), distances, rtol=1e-13, atol=1e-300)
    assert all(len(set(row)) == k for row in indices.tolist())


@pytest.mark.parametrize("d", [3, 15])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_knn_is_scikit_learns(d, k, way):
    rng = np.random.default_rng(0)
    X, fresh = rng.normal(size=(700, d)), rng.normal(size=(100, d))
    distances, _ = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(fresh)
    np.testing.assert_allclose(KNN(k).fit(X).anomaly_score(fresh), distances[:, -1], rtol=1e-10)
    np.testing.assert_allclose(KNN(k, "mean").fit(X).anomaly_score(fresh), distances.mean(axis=1), rtol=1e-10)


@pytest.mark.parametrize("d", [3, 15])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_lof_is_scikit_learns(d, k, way):
    rng = np.random.default_rng(0)
    X, fresh = rng.normal(size=(700, d)), 2 * rng.normal(size=(200, d))
    peer = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(X)
    np.testing.assert_allclose(LOF(k).fit(X).anomaly_score(fresh), -peer.score_samples(fresh), rtol=1e-9)


def test_lof_among_duplicates_is_one():
    X = np.vstack([np.zeros((30, 2)), np.random.default_rng(0).normal(5, 1, size=(30, 2))])
    assert LOF(5).fit(X).anomaly_score([[0.0, 0.0]])[0] == pytest.approx(1.0)
    assert LOF(5).fit(X).anomaly_score([[1.0, 1.0]])[0] > 1e6


def test_neighbours_beyond_the_training_rows_are_as_many_as_there_are():
    X = np.array([[0.0], [1.0], [3.0]])
    assert KNN(50).fit(X).anomaly_score([[0.0]]).tolist() == [3.0]
    assert np.isfinite(LOF(50).fit(X).anomaly_score([[9.0]])).all()


# -- isolation forest ------------------------------------------------------------------------------------------------


def test_random_numbers_are_uniform():
    state = np.array([7], dtype=np.uint64)
    draws = np.array([_random(state) for _ in range(20_000)])
    assert draws.min() >= 0 and draws.max() < 1
    assert stats.kstest(draws, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03


def test_average_path_of_random_search_trees():
    assert [average_path(float(n)) for n in (0, 1, 2)] == [0.0, 0.0, 1.0]
    for n in (16, 256, 10_000):
        harmonic = sum(1 / i for i in range(1, n))
        assert average_path(float(n)) == pytest.approx(2 * harmonic - 2 * (n - 1) / n, rel=0.02)


class Trees:
    """The trees of a forest, node by node; nothing else here knows how they are laid out."""

    def __init__(self, trees):
        self.feature, self.threshold, self.left, self.path, self.root, _ = self.arrays = trees
        self.inner = self.left != np.arange(len(self.left))
        self.sizes = np.diff(np.append(self.root, len(self.left)))

    def leaves(self, tree):
        """Return the leaves of a tree, each with its depth."""
        waiting, depths = [(self.root[tree], 0)], {}
        while waiting:
            node, depth = waiting.pop()
            if self.inner[node]:
                waiting += [(self.left[node], depth + 1), (self.left[node] + 1, depth + 1)]
            else:
                depths[node] = depth
        return depths

    def leaf_of(self, tree, row):
        node = self.root[tree]
        while self.inner[node]:
            node = self.left[node] + int(row[self.feature[node]] > self.threshold[node])
        return node


def trees_of(forest):
    return Trees((forest.feature_, forest.threshold_, forest.left_, forest.path_, forest.root_, forest.levels_))


@pytest.mark.parametrize("n", [1, 64, 1000])
def test_trees_are_whole_and_walked_as_they_stand(n):
    rng = np.random.default_rng(0)
    X, fresh = rng.normal(size=(64, 3)), rng.normal(size=(n, 3))
    trees = Trees(grow_trees(X, 10, 64, 40, 5))
    total = np.zeros(n)
    for tree in range(10):
        depths = trees.leaves(tree)
        # Every row of the sample is alone in a leaf, whose path is its depth; no node belongs to two trees.
        assert len(depths) == 64 and trees.sizes[tree] == 2 * 64 - 1
        assert all(0 <= node - trees.root[tree] < 127 and trees.path[node] == depths[node] for node in depths)
        assert len({trees.leaf_of(tree, row) for row in X}) == 64
        total += [trees.path[trees.leaf_of(tree, row)] for row in fresh]
    np.testing.assert_allclose(mean_paths(fresh, *trees.arrays), total / 10, rtol=1e-14)


def test_depth_limit_and_what_is_left_together():
    trees = Trees(grow_trees(np.random.default_rng(0).normal(size=(256, 2)), 5, 256, 8, 1))
    for tree in range(5):
        for node, depth in trees.leaves(tree).items():
            assert depth <= 8
            assert trees.path[node] == depth if depth < 8 else trees.path[node] >= 8
    assert (trees.path > 8).any()
    # Rows that no cut can part share a leaf at once.
    trees = Trees(grow_trees(np.ones((50, 2)), 3, 32, 8, 1))
    assert not trees.inner.any() and (trees.path == average_path(32.0)).all()


def test_cuts_are_uniform_over_varying_features_and_their_range():
    X = np.array([[0.0, 5.0, 0.0], [1.0, 5.0, 10.0]])
    trees = Trees(grow_trees(X, 6000, 2, 1, 3))
    feature, threshold = trees.feature[trees.root], trees.threshold[trees.root]
    assert set(feature) == {0, 2}  # never the constant one
    assert stats.binomtest(int((feature == 0).sum()), 6000).pvalue > 1e-4
    assert stats.kstest(threshold[feature == 0], "uniform").pvalue > 1e-4
    assert stats.kstest(threshold[feature == 2], "uniform", (0, 10)).pvalue > 1e-4


def test_samples_are_drawn_without_replacement_and_evenly():
    trees = Trees(grow_trees(np.arange(40.0)[:, None], 3000, 2, 1, 3))
    # The two rows of each tree lie on either side of its cut: distinct, always.
    assert trees.inner[trees.root].all()
    # Two of 0..39 with a uniform cut between them.
    rng = np.random.default_rng(0)
    pairs = np.array([rng.choice(40, 2, replace=False) for _ in range(3000)])
    cuts = pairs.min(axis=1) + rng.random(3000) * np.ptp(pairs, axis=1)
    assert stats.ks_2samp(trees.threshold[trees.root], cuts).pvalue > 1e-4


@pytest.fixture(scope="module")
def forests():
    """Return fresh rows, five of our forests and five of scikit-learn's, fitted on the same table."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4)) * [1, 2, 1, 1] + rng.choice([0.0, 4.0], size=(1000, 1))
    fresh = np.vstack([X[:300], rng.normal(2.0, 4.0, size=(100, 4))])
    ours = [IsolationForest(random_state=seed).fit(X) for seed in range(5)]
    peers = [SklearnForest(max_samples=256, random_state=seed).fit(X) for seed in range(5)]
    return fresh, ours, peers


def test_isolation_forest_scores_as_scikit_learns(forests):
    fresh, ours, peers = forests
    mine = np.mean([forest.anomaly_score(fresh) for forest in ours], axis=0)
    theirs = np.mean([-forest.score_samples(fresh) for forest in peers], axis=0)
    assert stats.spearmanr(mine, theirs).statistic > 0.98
    np.testing.assert_allclose(mine, theirs, rtol=0.05)
    assert mine.mean() == pytest.approx(theirs.mean(), rel=0.01)
    # Two of one's own differ as much as one of each.
    spread = np.abs(ours[0].anomaly_score(fresh) - ours[1].anomaly_score(fresh)).mean()
    assert np.abs(ours[0].anomaly_score(fresh) + peers[0].score_samples(fresh)).mean() < 1.5 * spread


def test_isolation_trees_are_as_large_and_deep_as_scikit_learns(forests):
    _, ours, peers = forests
    forest_trees = [trees_of(forest) for forest in ours]
    mine = np.concatenate([trees.sizes for trees in forest_trees])
    theirs = [tree.tree_.node_count for forest in peers for tree in forest.estimators_]
    assert mine.mean() == pytest.approx(np.mean(theirs), rel=0.03)
    assert mine.std() == pytest.approx(np.std(theirs), rel=0.3)
    depths = [depth for trees in forest_trees for tree in range(100) for depth in trees.leaves(tree).values()]
    peer_depths = [depth for forest in peers for tree in forest.estimators_ for depth in leaf_depths_of(tree.tree_)]
    assert max(depths) == max(peer_depths) == 8
    assert np.mean(depths) == pytest.approx(np.mean(peer_depths), rel=0.03)
    used = np.concatenate([trees.feature[trees.inner] for trees in forest_trees])
    assert np.bincount(used).min() > 0.2 * len(used)


def leaf_depths_of(tree):
    depth = np.zeros(tree.node_count, dtype=int)
    for node in range(tree.node_count):
        if tree.children_left[node] >= 0:
            depth[[tree.children_left[node], tree.children_right[node]]] = depth[node] + 1
    return depth[tree.children_left < 0]


# -- detectors by their definitions ----------------------------------------------------------------------------------


def test_ecod_by_hand():
    X = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [9.0, 1.0]])
    ecod = ECOD().fit(X)
    # Column one leans right, column two is constant. Row (5, 1): three of four at or under 5, one at or over.
    left = -math.log(4 / 5) - math.log(5 / 5)
    right = -math.log(2 / 5) - math.log(5 / 5)
    assert ecod.anomaly_score([[5.0, 1.0]])[0] == pytest.approx(max(left, right))
    # Row (-1, 7): left tail 1/5 in column one, right tail 1/5 in column two.
    left = -math.log(1 / 5) - math.log(5 / 5)
    right = -math.log(5 / 5) - math.log(1 / 5)
    assert ecod.anomaly_score([[-1.0, 7.0]])[0] == pytest.approx(max(left, right))


def test_ecod_sums_the_tails_that_skewness_points_to():
    rng = np.random.default_rng(0)
    right = rng.exponential(size=200)
    X = np.column_stack([right, -right[::-1]])
    ecod = ECOD().fit(X)
    np.testing.assert_allclose(ecod.skewness_, stats.skew(X), rtol=1e-10)
    # Far right in a right-leaning and far left in a left-leaning column: neither one-sided sum sees both.
    both = ecod.anomaly_score([[20.0, -20.0]])[0]
    assert both == pytest.approx(2 * math.log(201))


def test_hbos_by_hand():
    X = np.array([[0.0], [0.1], [0.2], [0.9], [1.0]])
    hbos = HBOS(n_bins=2).fit(X)
    assert hbos.edges_.tolist() == [[0.0, 0.5, 1.0]]
    # Heights over the highest: 1 and 2/3; half a row beyond: 1/6. The last edge belongs to the last bin.
    expected = [math.log(6), 0.0, 0.0, math.log(1.5), math.log(1.5), math.log(6)]
    np.testing.assert_allclose(hbos.anomaly_score([[-0.1], [0.0], [0.4], [0.5], [1.0], [1.01]]), expected, atol=1e-12)
    two = HBOS(n_bins=2).fit(np.hstack([X, X])).anomaly_score([[0.9, 7.0]])
    assert two[0] == pytest.approx(math.log(1.5) + math.log(6))


def test_hbos_has_no_empty_bin_without_a_score():
    X = np.concatenate([np.zeros(50), np.ones(50)])[:, None]
    assert HBOS(n_bins=10).fit(X).anomaly_score([[0.55]])[0] == pytest.approx(math.log(100))


def test_mahalanobis_is_scikit_learns_ledoit_wolf():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) * [1, 10, 0.1, 1e4, 1] + [0, 5, 3, -1e4, 2]
    fresh = X[:20] * 1.5
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    peer = LedoitWolf(assume_centered=True).fit(standard)
    expected = peer.mahalanobis((fresh - X.mean(axis=0)) / X.std(axis=0))
    np.testing.assert_allclose(Mahalanobis().fit(X).anomaly_score(fresh), expected, rtol=1e-5)
    # Units and origins of the columns do not matter.
    moved = Mahalanobis().fit(X * [7, 1, 100, 1e-6, 3] + 5).anomaly_score(fresh * [7, 1, 100, 1e-6, 3] + 5)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_mahalanobis_of_many_gaussian_rows_is_chi_squared():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 3))
    X, fresh = rng.normal(size=(20_000, 3)) @ mixing, rng.normal(size=(2000, 3)) @ mixing
    assert stats.kstest(Mahalanobis().fit(X).anomaly_score(fresh), "chi2", (3,)).pvalue > 1e-3


def test_mahalanobis_with_more_columns_than_rows():
    rng = np.random.default_rng(0)
    detector = Mahalanobis().fit(rng.normal(size=(20, 50)))
    scores = detector.anomaly_score(np.vstack([rng.normal(size=(50, 50)), rng.normal(0, 4, size=(50, 50))]))
    assert scores[:50].max() < scores[50:].min()


def test_noise_contrastive_estimates_the_log_density():
    rng = np.random.default_rng(0)
    X, fresh = rng.normal(size=(2000, 2)), rng.uniform(-2.5, 2.5, size=(500, 2))
    detector = NoiseContrastive(classifier=RandomForestClassifier(50, min_samples_leaf=10), random_state=0).fit(X)
    truth = -stats.multivariate_normal(np.zeros(2)).logpdf(fresh)
    score = detector.anomaly_score(fresh)
    assert stats.spearmanr(score, truth).statistic > 0.9
    # -log p / q, with q uniform in the box: the level is known, too.
    box = np.log(np.prod(1.1 * np.ptp(X, axis=0)))
    assert np.median(score - (truth - box)) == pytest.approx(0.0, abs=0.3)


# -- SSDO ------------------------------------------------------------------------------------------------------------


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_kernel_sums(data):
    d = data.draw(st.integers(1, 3))
    X = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(1, 5)), d), elements=GRID))
    labelled = data.draw(hnp.arrays(np.float64, (data.draw(st.integers(0, 8)), d), elements=GRID))
    eta = data.draw(st.floats(0.2, 5.0))
    if data.draw(st.booleans()):
        X = np.resize(X, (1100, d))  # more rows than are scored together
    expected = (2.0 ** (-naive_d2(X, labelled) / eta**2)).sum(axis=1)
    np.testing.assert_allclose(kernel_sums(X, labelled, eta), expected, rtol=5e-12, atol=1e-15)


def test_harmonic_length():
    assert harmonic_length(np.array([1.0, 2.0, 4.0])) == pytest.approx(3 / (1 + 0.5 + 0.25))
    assert harmonic_length(np.array([0.0, 2.0, 2.0])) == pytest.approx(2.0)
    assert harmonic_length(np.zeros(3)) == 1.0
    assert harmonic_length(np.array([1.0, np.inf])) == 1.0


# -- compiling -------------------------------------------------------------------------------------------------------


def test_kernels_compile_where_no_cache_can_be_written(monkeypatch):
    compile_ = numba.njit

    def without_cache(*, cache, nogil):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_(cache=False, nogil=nogil)

    monkeypatch.setattr(numba, "njit", without_cache)

    @jit
    def double(x):
        return 2 * x

    assert double(3.0) == 6.0
