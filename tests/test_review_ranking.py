"""Ranking by a detector and by what a person said: closed forms, the simulated expert, and the exact head."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from assay.core.validation import InputError
from assay.metrics.ranking import rank_weighted_score
from assay.review import ranking
from assay.review.ranking import (
    ActiveRanker,
    expected_improvement,
    forest_scores,
    nearest_distances,
    neighbour_scores,
    to_0_5,
)


def test_the_factor_where_it_is_known_by_hand():
    assert neighbour_scores([1, 1], [0, 5], [0, 0]) == pytest.approx([0.117, 0.95])
    assert neighbour_scores([1], [0], [1])[0] == pytest.approx(0.950392, abs=1e-6)
    grid = np.linspace(0.1, 5, 30)
    assert (np.diff(neighbour_scores(np.ones(30), grid, np.full(30, 0.3))) > 0).all()
    assert (np.diff(neighbour_scores(np.ones(30), np.full(30, 2.0), grid)) >= 0).all()
    # With α = 0 distance says nothing; far away everything is as before, without overflow.
    assert neighbour_scores([4], [5], [7], alpha=0.0)[0] == pytest.approx(3.8)
    assert neighbour_scores([4], [0], [1e9])[0] == 4


def test_scores_are_spread_over_0_to_5():
    assert to_0_5([-3, 1, 5]).tolist() == [0, 2.5, 5]
    assert to_0_5([2, 2]).tolist() == [0, 0]


def test_distances_equal_those_one_by_one_and_are_kept():
    rng = np.random.default_rng(0)
    X = (1000 + rng.normal(size=(3000, 20))).astype(np.float32)
    naive = np.linalg.norm(X[:, None].astype(float) - X[[5, 70, 900]].astype(float), axis=2)
    np.testing.assert_allclose(nearest_distances(X, X[[5, 70, 900]]), naive.min(axis=1), atol=2e-3)
    first = nearest_distances(X, X[[5]])
    both = nearest_distances(X, X[[70, 900]], first)
    np.testing.assert_allclose(both, naive.min(axis=1), atol=2e-3)
    np.testing.assert_allclose(first, naive[:, 0], atol=2e-3)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 4))

    def ranked():
        ranker = ActiveRanker(random_state=0).fit(X)
        for item, value in ((3, 5), (9, 0), (600, 2)):
            ranker.label(item, value)
        return ranker.retrain().trained_scores()

    whole = ranked()
    monkeypatch.setattr(ranking, "BLOCK", 100)
    monkeypatch.setattr(ranking, "ROWS", 64)
    # A mean over a block instead of over all items would show here.
    np.testing.assert_allclose(ranked(), whole, rtol=1e-5)


@pytest.mark.parametrize(("mean", "spread", "best"), [(2.0, 1.0, 3.0), (4.0, 0.3, 3.0), (1.0, 2.0, 5.0)])
def test_expected_improvement_is_the_integral(mean, spread, best):
    expected = quad(
        lambda u: max(u - best - 0.5, 0) * norm.pdf(u, mean, spread),
        mean - 12 * spread,
        mean + 12 * spread,
        points=[best + 0.5],
        limit=200,
    )[0]
    assert expected_improvement([mean], [spread], best)[0] == pytest.approx(expected, abs=1e-6)


def test_expected_improvement_without_doubt():
    assert expected_improvement([4.0, 3.0], [0.0, 0.0], 3.0).tolist() == [0.5, 0.0]


def expert(seed):
    """Return a sky: normals, a far cluster of artefacts (1), a nearer cluster of what is interesting (2)."""
    rng = np.random.default_rng(seed)
    far, near = rng.normal(size=8), rng.normal(size=8)
    artefacts = 6 * far / np.linalg.norm(far) + 0.5 * rng.normal(size=(60, 8))
    interesting = 4 * near / np.linalg.norm(near) + 0.5 * rng.normal(size=(40, 8))
    X = np.concatenate([rng.normal(size=(5000, 8)), artefacts, interesting])
    return X, np.repeat([0, 1, 2], [5000, 60, 40])


def after_a_hundred(method, seed):
    """Return the kinds in the order before and after the expert judged the first hundred."""
    X, kinds = expert(seed)
    ranker = ActiveRanker(method, random_state=seed).fit(X)
    before = ranker.rank()
    for item in before[:100]:
        ranker.label(item, 5 if kinds[item] == 2 else 0)
    after = ranker.retrain().rank(unlabelled_first=False)
    return kinds[before], kinds[after]


@pytest.mark.parametrize("seed", range(3))
def test_artefacts_sink_and_what_was_liked_rises(seed):
    before, after = after_a_hundred("neighbours", seed)
    assert (before[:50] == 1).sum() > 30
    assert (after[:50] == 1).sum() <= 2
    assert (after[:50] == 2).sum() > (before[:50] == 2).sum()
    assert rank_weighted_score(after == 2, 100) > rank_weighted_score(before == 2, 100)


@pytest.mark.parametrize("method", ["neighbours", "regression"])
def test_the_head_is_the_beginning_of_the_whole_order(method):
    X, kinds = expert(0)
    ranker = ActiveRanker(method, random_state=0).fit(X.astype(np.float32))
    assert ranker.head(50).tolist() == ranker.rank()[:50].tolist()
    for item in ranker.rank()[:60]:
        ranker.label(item, 5 if kinds[item] == 2 else 0)
    ranker.retrain()
    for k in (1, 40, 700, 10_000):
        assert ranker.head(k).tolist() == ranker.rank()[: min(k, len(X) - 60)].tolist()


def test_the_head_needs_few_predictions():
    X, kinds = expert(0)
    ranker = ActiveRanker(random_state=0).fit(X)
    for item in ranker.rank()[:60]:
        ranker.label(item, 5 if kinds[item] == 2 else 0)
    ranker.retrain()
    asked = []
    learned = ranker.predicted_.predict
    ranker.predicted_.predict = lambda block: asked.append(len(block)) or learned(block)
    ranker.head(20)
    assert sum(asked) < 1000


def test_judgements_count_once_and_can_be_taken_back():
    X = np.random.default_rng(0).normal(size=(300, 3))
    ranker = ActiveRanker(random_state=0).fit(X)
    order = ranker.rank().tolist()
    ranker.label(order[0], 0)
    assert ranker.retrain().rank()[-1] == order[0]
    ranker.label(order[0], 5)
    ranker.label(order[1], 1)
    assert ranker.retrain().distances_[[order[0], order[1]]].tolist() == [0, 0]
    ranker.label(order[0], -1)
    ranker.label(order[1], -1)
    assert ranker.retrain().rank().tolist() == order
    with pytest.raises(InputError, match="nothing was learned"):
        ranker.predict()


def test_protege_starts_without_labels_and_finds_the_interesting():
    X, kinds = expert(1)
    ranker = ActiveRanker("protege", random_state=0).fit(X)
    seen = []
    for _ in range(4):
        for item in ranker.head(25):
            ranker.label(item, 5 if kinds[item] == 2 else 0)
            seen.append(kinds[item])
        ranker.retrain()
    assert np.sum(np.array(seen) == 2) >= 10


def test_features_on_disk_give_the_same(tmp_path):
    X = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32)
    np.save(tmp_path / "features.npy", X)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    assert forest_scores(mapped, random_state=0).tolist() == forest_scores(X, random_state=0).tolist()
    one, two = (ActiveRanker(random_state=0).fit(features) for features in (X, mapped))
    one.label(3, 4)
    two.label(3, 4)
    assert one.retrain().rank().tolist() == two.retrain().rank().tolist()


@pytest.mark.parametrize(
    ("parameters", "features", "scores", "named"),
    [
        ({"method": "magic"}, np.ones((3, 2)), None, "method"),
        ({"alpha": -1}, np.ones((3, 2)), None, "alpha"),
        ({"n_trees": 0}, np.ones((3, 2)), None, "n_trees"),
        ({"tradeoff": "much"}, np.ones((3, 2)), None, "tradeoff"),
        ({}, np.ones(3), None, "features"),
        ({}, np.ones((3, 2), dtype=int), None, "features"),
        ({}, np.ones((3, 2)), [1, 2], "scores"),
        ({}, np.ones((3, 2)), [1, 2, np.nan], "scores"),
    ],
)
def test_bad_input_is_named(parameters, features, scores, named):
    with pytest.raises(InputError, match=named):
        ActiveRanker(**parameters).fit(features, scores)


@pytest.mark.parametrize(
    ("item", "value", "named"), [(3, 1, "item"), (-1, 1, "item"), (0, 6, "value"), (0, -0.5, "value")]
)
def test_a_bad_judgement_is_named(item, value, named):
    ranker = ActiveRanker().fit(np.random.default_rng(0).normal(size=(3, 2)))
    with pytest.raises(InputError, match=named):
        ranker.label(item, value)


def test_rank_weighted_score_by_hand():
    assert rank_weighted_score([1, 0, 1], 3) == pytest.approx((3 + 1) / 6)
    assert rank_weighted_score([1, 0, 1], 2) == pytest.approx(2 / 3)
    assert rank_weighted_score([0, 0], 2) == 0
