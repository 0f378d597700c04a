"""SLAD: pieces, labels and losses to the letter, the written-out gradients against torch's, and what it must find."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

import assay
from assay.core.validation import InputError
from assay.detectors.tabular import slad
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.marginals import ECOD
from assay.detectors.tabular.slad import (
    LOSSES,
    SLAD,
    SLOPE,
    Samples,
    adam,
    bootstrap_size,
    draw_pieces,
    feature_weights,
    js_terms,
    official_terms,
    size_labels,
    size_pool,
    train,
)

QUICK = {"n_groups": 6, "epochs": 15, "width": 32, "hidden": 32, "learning_rate": 3e-3, "random_state": 0}


def manifold(seed, n_train=500, n_test=200, d=20, rank=3, noise=0.05):
    """Return rows of a plane with noise, fresh ones, and fresh ones whose columns are shuffled one by one."""
    rng = np.random.default_rng(seed)
    plane = rng.normal(size=(rank, d))
    train, good, other = (
        rng.normal(size=(n, rank)) @ plane + noise * rng.normal(size=(n, d)) for n in (n_train, n_test, n_test)
    )
    return train, good, rng.permuted(other, axis=0)


def auc(model, good, bad):
    scores = model.anomaly_score(np.vstack([good, bad]))
    return roc_auc_score(np.repeat([0, 1], [len(good), len(bad)]), scores)


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).normal(size=(60, 12))


# -- pieces and labels -----------------------------------------------------------------------------------------------


def test_the_pool_is_a_sorted_choice_of_sizes_that_a_row_has():
    rng = np.random.default_rng(0)
    assert size_pool(7, 50, rng).tolist() == [1, 2, 3, 4, 5, 6, 7]
    drawn = [size_pool(200, 50, rng) for _ in range(200)]
    for pool in drawn:
        assert len(set(pool)) == 50 and (np.diff(pool) > 0).all() and pool.min() >= 1 and pool.max() <= 200
    assert np.ptp(np.bincount(np.concatenate(drawn), minlength=201)[1:]) < 60, "every size is as likely: 50 of 200"
    assert size_pool(1, 50, rng).max() > 1, "one column alone would have nothing to rank"


def test_pieces_are_drawn_with_replacement_in_narrow_tables_only():
    rng = np.random.default_rng(0)
    for d, again in ((10, True), (11, False)):
        groups = draw_pieces(d, np.arange(1, d + 1), (40, 10), rng)
        assert len(groups) == 40 and all(len(group) == 10 for group in groups)
        pieces = [piece for group in groups for piece in group]
        assert any(len(set(piece)) < len(piece) for piece in pieces) == again
        counts = np.bincount([len(piece) for piece in pieces], minlength=d + 1)[1:]
        assert counts.min() > 10, "sizes are uniform over the pool"
        assert np.bincount(np.concatenate(pieces), minlength=d).min() > 100, "and columns over the table"
    assert {len(piece) for piece in draw_pieces(60, np.array([2, 31]), (5, 8), rng)[0]} <= {2, 31}


def test_labels_are_the_summed_weights_of_the_columns():
    pieces = draw_pieces(20, np.arange(1, 21), (3, 10), np.random.default_rng(0))
    y = size_labels(pieces, np.ones(20), 128, 200.0)
    assert y.shape == (3, 10)
    np.testing.assert_allclose(y, [[200 * len(piece) / 128 for piece in group] for group in pieces])
    weights = np.linspace(0, 1, 20)
    y = size_labels(pieces, weights, 64, 10.0)
    assert y[1, 2] == pytest.approx(sum(weights[j] for j in pieces[1][2]) / 64 * 10)


def test_columns_weigh_their_mean_correlation_below_fifty_columns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6))
    X[:, 1] += X[:, 0]
    X[:, 5] = 3.0
    with np.errstate(invalid="ignore"):
        correlations = np.nan_to_num(np.abs(np.corrcoef(X.T)))
    strength = correlations.mean(axis=1)
    expected = (strength - strength.min()) / np.ptp(strength)
    np.testing.assert_allclose(feature_weights(X), expected, atol=1e-12)
    assert feature_weights(X)[5] == 0 and feature_weights(X).max() == 1
    wide = np.repeat(X, 9, axis=1)
    assert (feature_weights(wide[:, :50]) == 1).all()
    assert np.ptp(feature_weights(wide[:, :49])) == 1
    # The published code divides 0 by 0 here.
    for alike in (X[:, :2], X[:, :1], np.zeros((5, 3))):
        assert (feature_weights(alike) == 1).all()


def test_the_weights_reach_the_targets():
    X, _, _ = manifold(0, d=8)
    X[:, 6:] = np.random.default_rng(1).normal(size=(500, 2))
    model = SLAD(**QUICK | {"epochs": 0}).fit(X)
    assert model.weights_[6:].max() < 0.2 < model.weights_[:6].min()
    expected = softmax(size_labels(model.pieces_, model.weights_, 32, 200.0), axis=1)
    np.testing.assert_allclose(model.targets_, expected)
    np.testing.assert_allclose(model.targets_.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("n", "size"),
    [(15, 10), (499, 24 * 50), (500, 25 * 20), (999, 49 * 20), (1000, 50 * 5), (4999, 249 * 5), (5000, 250 * 2),
     (100_000, 10_000), (100_001, 5000)],
)  # fmt: skip
def test_small_tables_are_drawn_from_more_often(n, size):
    assert bootstrap_size(n, 20) == size


def test_each_group_draws_its_own_rows(table, monkeypatch):
    given = []
    monkeypatch.setattr(slad, "train", lambda samples, *_, **__: given.append(samples) or np.zeros(0))
    SLAD(**QUICK).fit(table)
    (samples,) = given
    assert samples.drawn.shape == (6, bootstrap_size(60, 6))
    assert len({tuple(rows) for rows in samples.drawn}) == 6
    assert np.bincount(samples.drawn.ravel(), minlength=60).min() > 0
    assert samples.x.min() == 0 and samples.x.max() == 1


# -- lifting ---------------------------------------------------------------------------------------------------------


def samples_of(table, q=30, seed=0):
    rng = np.random.default_rng(seed)
    x = ((table - table.min(axis=0)) / np.ptp(table, axis=0)).astype(np.float32)
    sizes = size_pool(x.shape[1], 50, rng)
    maps = {s: rng.normal(size=(s, 16)).astype(np.float32) for s in sizes}
    pieces = draw_pieces(x.shape[1], sizes, (4, 5), rng)
    drawn = rng.integers(len(x), size=(4, q))
    return Samples(x, drawn, pieces, [[maps[len(piece)] for piece in group] for group in pieces])


def test_samples_are_lifted_by_the_map_of_their_size(table):
    samples = samples_of(table)
    numbers = np.array([0, 7, 29, 30, 64, 119])
    lifted = samples.lifted(numbers)
    assert lifted.shape == (5, 6, 16)
    for k, number in enumerate(numbers):
        g, row = number // 30, samples.x[samples.drawn.ravel()[number]]
        for i in range(5):
            by_hand = sum(row[j] * samples.maps[g][i][place] for place, j in enumerate(samples.pieces[g][i]))
            np.testing.assert_allclose(lifted[i, k], by_hand, rtol=1e-4, atol=1e-5)


def test_pieces_of_one_size_share_one_frozen_map(table):
    model = SLAD(**QUICK).fit(table)
    untrained = SLAD(**QUICK | {"epochs": 0}).fit(table)
    assert [len(T) for T in model.maps_] == model.sizes_.tolist()
    for T, before in zip(model.maps_, untrained.maps_):
        assert np.array_equal(T, before), "training does not touch the maps"
        assert T.shape == (len(T), 32) and np.abs(T).max() <= 1 / np.sqrt(len(T))
    assert np.abs(model.maps_[-1]).max() > 0.9 / np.sqrt(12)
    assert not np.array_equal(model.hidden_, untrained.hidden_)
    assert not np.array_equal(model.out_, untrained.out_)


@pytest.mark.parametrize("batch_size", [7, 32])
def test_an_epoch_shows_every_sample_once_mixes_the_groups_and_streams_the_same(table, batch_size, monkeypatch):
    samples = samples_of(table)
    whole = samples.lifted(np.arange(120))
    for cache in (slad.CACHE, 0):
        monkeypatch.setattr(slad, "CACHE", cache)
        monkeypatch.setattr(slad, "BATCHES", 3)
        for parts in samples.epochs(2, batch_size, np.random.default_rng(5)):
            shown = []
            for lifted, order, groups in parts:
                shown += [(g, lifted[:, place].copy()) for place, g in zip(order, groups)]
                assert lifted.shape[1] <= (120 if cache else 3 * batch_size), "memory is bounded"
            numbers = [int(np.abs(whole - sample[:, None]).sum(axis=(0, 2)).argmin()) for _, sample in shown]
            assert sorted(np.bincount([number // 30 for number in numbers])) == [30] * 4
            assert [number // 30 for number in numbers] == [g for g, _ in shown]
            assert len(set(np.array([g for g, _ in shown[:batch_size]]))) > 1


def test_streamed_training_is_that_from_memory(table, monkeypatch):
    X = np.vstack([table] * 5)
    kept = SLAD(**QUICK | {"epochs": 2}).fit(X)
    monkeypatch.setattr(slad, "CACHE", 0)
    monkeypatch.setattr(slad, "BATCHES", 2)
    streamed = SLAD(**QUICK | {"epochs": 2}).fit(X)
    np.testing.assert_allclose(streamed.losses_, kept.losses_, rtol=1e-3)
    np.testing.assert_allclose(streamed.anomaly_score(table), kept.anomaly_score(table), rtol=0.05)


# -- losses and gradients --------------------------------------------------------------------------------------------


def test_js_is_a_bounded_symmetric_divergence_that_vanishes_where_both_agree():
    rng = np.random.default_rng(0)
    a, b = 3 * rng.normal(size=(2, 200, 10))
    loss = js_terms(a, softmax(b, axis=1)).sum(axis=1)
    np.testing.assert_allclose(loss, js_terms(b, softmax(a, axis=1)).sum(axis=1))
    assert (loss > 0).all() and (loss < np.log(2)).all()
    np.testing.assert_allclose(js_terms(a + 7, softmax(a, axis=1)).sum(axis=1), 0, atol=1e-15)
    assert js_terms(np.array([[800.0, 0.0]]), np.array([[0.0, 1.0]])).sum() == pytest.approx(np.log(2))
    p, t = softmax(a[0]), softmax(b[0])
    m = (p + t) / 2
    by_hand = (sum(p * np.log(p / m)) + sum(t * np.log(t / m))) / 2
    assert loss[0] == pytest.approx(by_hand)


def test_official_takes_each_softmax_twice():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = 3 * rng.normal(size=(2, 200, 10))
    p, t = (torch.softmax(torch.tensor(one), dim=1) for one in (a, b))
    m = (p + t) / 2
    expected = sum(torch.nn.functional.kl_div(torch.log_softmax(one, dim=1), m, reduction="none") for one in (p, t))
    np.testing.assert_allclose(official_terms(a, t.numpy()), expected, atol=1e-12)
    agreed = official_terms(b, t.numpy()).sum(axis=1)
    assert agreed.min() > 0.01, "not 0 where both agree"
    assert official_terms(np.zeros((1, 10)), np.full((1, 10), 0.1)).sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_is_that_of_torch(loss, table):
    torch = pytest.importorskip("torch")
    samples, rng = samples_of(table), np.random.default_rng(1)
    hidden = rng.uniform(-0.25, 0.25, (9, 16)).astype(np.float32)
    out = rng.uniform(-0.3, 0.3, 9).astype(np.float32)
    t = softmax(4 * rng.normal(size=(4, 5)), axis=1)
    W, v = (torch.tensor(array, requires_grad=True) for array in (hidden, out))
    optimiser = torch.optim.Adam([W, v], lr=0.01, weight_decay=0.1)
    losses = []
    for parts in samples.epochs(3, 50, np.random.default_rng(2)):
        total = 0.0
        for lifted, order, groups in parts:
            for start in range(0, len(order), 50):
                u = torch.tensor(lifted[:, order[start : start + 50]])
                logits = (torch.nn.functional.leaky_relu(u @ W.T, 0.01) @ v).T
                p, target = torch.softmax(logits, dim=1), torch.tensor(t[groups[start : start + 50]])
                m = (p + target) / 2
                if loss == "js":
                    each = ((p * (p / m).log()).sum(dim=1) + (target * (target / m).log()).sum(dim=1)) / 2
                else:
                    each = (m * (2 * m.log() - torch.log_softmax(p, 1) - torch.log_softmax(target, 1))).sum(dim=1)
                optimiser.zero_grad()
                each.mean().backward()
                optimiser.step()
                total += float(each.detach().sum())
        losses.append(total / 120)
    found = train(
        samples, t, hidden, out, epochs=3, batch_size=50, learning_rate=0.01, weight_decay=0.1,
        gradient_of=LOSSES[loss][1], rng=np.random.default_rng(2),
    )  # fmt: skip
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    np.testing.assert_allclose(hidden, W.detach(), atol=1e-4)
    np.testing.assert_allclose(out, v.detach(), atol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_stay_finite_where_the_softmax_saturates(loss):
    logits = np.array([[900.0, 0.0, -900.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    t = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    gradient = np.empty_like(logits)
    total = LOSSES[loss][1](logits, t, gradient)
    assert np.isfinite(gradient).all() and np.isfinite(total)
    assert total == pytest.approx(LOSSES[loss][0](logits.astype(np.float64), t).sum())


def test_adam_corrects_its_first_steps():
    weights, moments = np.ones(3, dtype=np.float32), np.zeros((2, 3), dtype=np.float32)
    gradient = np.array([5.0, -1e-3, 0.0], dtype=np.float32)
    one = np.float32(1)
    adam(weights, gradient, *moments, one / np.float32(0.1), np.float32(0), one / np.float32(1e-3))
    np.testing.assert_allclose(weights, [0.0, 2.0, 1.0], atol=1e-4)


# -- the score -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_the_score_is_the_mean_loss_of_the_groups_learned_from(loss, table):
    model = SLAD(**QUICK, loss=loss).fit(table)
    x = (table - table.min(axis=0)) / np.ptp(table, axis=0)
    losses = np.zeros((6, len(x)))
    for g, group in enumerate(model.pieces_):
        logits = np.empty((len(x), 10))
        for i, piece in enumerate(group):
            z = x[:, piece] @ model.maps_[list(model.sizes_).index(len(piece))] @ model.hidden_.T
            logits[:, i] = np.where(z > 0, z, float(SLOPE) * z) @ model.out_
        losses[g] = LOSSES[loss][0](logits, model.targets_[g]).sum(axis=1)
    np.testing.assert_allclose(model.anomaly_score(table), losses.mean(axis=0), rtol=1e-4, atol=1e-6)
    assert np.ptp(losses, axis=0).min() > 0, "every group has its own say"


def test_alone_in_a_batch_saved_and_far_away(table, tmp_path, monkeypatch):
    model = SLAD(**QUICK).fit(table)
    scores = model.anomaly_score(table)
    monkeypatch.setattr(slad, "CHUNK", 7)
    np.testing.assert_allclose(model.anomaly_score(table), scores, rtol=1e-12)
    np.testing.assert_allclose([model.anomaly_score(row[None])[0] for row in table], scores, rtol=1e-12)
    assay.save(model, tmp_path / "slad")
    assert np.array_equal(assay.load(tmp_path / "slad").anomaly_score(table), model.anomaly_score(table))
    far = np.vstack([table[:2] * 1e140, table[:2] + 1e6])
    assert np.isfinite(model.anomaly_score(far)).all() and np.isfinite(model.feature_scores(far)).all()
    tiny = SLAD(**QUICK).fit(1e-200 * table)
    assert np.isfinite(tiny.anomaly_score(far)).all()
    model.out_ = model.out_[:-1]
    with pytest.raises(InputError, match="do not fit together"):
        model._check_fitted()


def test_units_of_the_columns_do_not_matter(table):
    base, other = (SLAD(**QUICK).fit(X).anomaly_score(X) for X in (table, 1024 * table))
    np.testing.assert_allclose(other, base, rtol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 3, 60, 1200])
def test_any_width(d):
    X = np.random.default_rng(0).normal(size=(30, d))
    X[:, d // 2] = X[:, 0] if d > 1 else X[:, d // 2]
    model = SLAD(n_groups=3, epochs=2, random_state=0).fit(X)
    scores = model.anomaly_score(X)
    assert np.isfinite(scores).all() and np.ptp(scores) > 0
    if d > 3:
        X[:, -1] = 5.0
        assert np.isfinite(SLAD(n_groups=3, epochs=2, random_state=0).fit(X).anomaly_score(X)).all()


# -- what it must find -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned():
    """Return detectors of three seeds on their manifolds: n = 500, D = 20, r = 10."""
    return [SLAD(n_groups=10, epochs=10, random_state=seed).fit(manifold(seed)[0]) for seed in range(3)]


def test_broken_dependence_is_found_where_marginals_see_nothing(learned):
    found, marginal, forest, untrained = [], [], [], []
    for seed, model in enumerate(learned):
        train_rows, good, bad = manifold(seed)
        found.append(auc(model, good, bad))
        marginal.append(auc(ECOD().fit(train_rows), good, bad))
        forest.append(auc(IsolationForest(random_state=seed).fit(train_rows), good, bad))
        untrained.append(auc(SLAD(n_groups=10, epochs=0, random_state=seed).fit(train_rows), good, bad))
    assert min(found) > 0.85
    assert np.mean(marginal) < 0.6
    assert np.mean(forest) < np.mean(found) - 0.15
    assert abs(np.mean(untrained) - 0.5) < 0.1


def test_the_loss_falls_for_training_rows_and_for_fresh_ones(learned):
    train_rows, good, _ = manifold(0)
    assert learned[0].losses_.shape == (10,)
    assert learned[0].losses_[-1] < learned[0].losses_[0] / 5
    untrained = SLAD(n_groups=10, epochs=0, random_state=0).fit(train_rows)
    assert learned[0].anomaly_score(good).mean() < untrained.anomaly_score(good).mean() / 5


def test_the_official_loss_finds_them_too():
    train_rows, good, bad = manifold(0)
    assert auc(SLAD(n_groups=10, epochs=10, loss="official", random_state=0).fit(train_rows), good, bad) > 0.85


def test_the_misjudged_pieces_hold_the_broken_column():
    """With softer labels, that is: with β = 200 the largest pieces, which hold most columns, take all of the loss."""
    train_rows, good, _ = manifold(0)
    model = SLAD(magnify=20.0, epochs=30, random_state=0).fit(train_rows)
    rng = np.random.default_rng(0)
    broken, here = rng.integers(20, size=len(good)), np.arange(len(good))
    rows = good.copy()
    rows[here, broken] = good[rng.permutation(len(good)), broken]
    scores = model.feature_scores(rows)
    assert scores.shape == rows.shape
    assert (scores > scores[here, broken][:, None]).sum(axis=1).mean() < 7.5, "a random order gives 9.5"


def test_feature_scores_are_means_over_the_pieces_with_the_column(table):
    model = SLAD(**QUICK | {"n_groups": 2, "group_size": 2}).fit(table)
    terms = np.zeros((len(table), 2, 2))
    for part, g, found in model._terms(table):
        terms[part, g] = found
    scores = model.feature_scores(table)
    for j in range(12):
        holds = np.array([[j in piece for piece in group] for group in model.pieces_])
        expected = terms[:, holds].mean(axis=1) - terms.mean(axis=(1, 2)) if holds.any() else 0.0
        np.testing.assert_allclose(scores[:, j], expected, atol=1e-12)
    with pytest.raises(InputError, match="11 features"):
        model.feature_scores(table[:, :11])


def test_labels_that_say_nothing_of_the_size_teach_nothing(learned, monkeypatch):
    """The label is the signal: dealt out anew in every sample, it leaves broken dependence unseen."""
    rng = np.random.default_rng(0)
    terms, gradient = slad.LOSSES["js"]
    blind = lambda logits, t, into: gradient(logits, rng.permuted(t, axis=1), into)  # noqa: E731
    monkeypatch.setitem(slad.LOSSES, "js", (terms, blind))
    without = []
    for seed in range(3):
        train_rows, good, bad = manifold(seed)
        without.append(auc(SLAD(n_groups=10, epochs=10, random_state=seed).fit(train_rows), good, bad))
    assert np.mean([auc(model, *manifold(seed)[1:]) for seed, model in enumerate(learned)]) > np.mean(without) + 0.05


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"group_size": 1}, "group_size"),
        ({"n_groups": 0}, "n_groups"),
        ({"width": 1.5}, "width"),
        ({"pool_size": 0}, "pool_size"),
        ({"magnify": 0.0}, "magnify"),
        ({"hidden": 0}, "hidden"),
        ({"loss": "mse"}, "loss"),
        ({"epochs": -1}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"weight_decay": np.nan}, "weight_decay"),
    ],
)
def test_bad_parameters_are_named(table, parameters, named):
    with pytest.raises(InputError, match=named):
        SLAD(**QUICK | parameters).fit(table)
