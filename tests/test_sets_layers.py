"""Layers on sets: what permutations, masks and sizes may and may not change; the simulators; two-sample tests."""

import numpy as np
import pytest
import torch
from sklearn.covariance import empirical_covariance
from torch import nn

from assay.core.validation import InputError
from assay.datasets.simulators.sets import (
    SEEN,
    SHAPES,
    TASKS,
    UNSEEN,
    digit_sums,
    odd_digits,
    population_statistics,
    proportion_bags,
    shape_clouds,
)
from assay.metrics.sets import classifier_test, energy_test, retrieval
from assay.nn.sets import (
    ACTIVATIONS,
    LAYERS,
    POOLINGS,
    POOLS,
    Equivariant,
    Members,
    Pointwise,
    SetDropout,
    SetEncoder,
    SetExpander,
    SetTagger,
    blocks,
    descend,
    margin_ranking_loss,
    pooled,
    relative_log_probability,
)
from deep_sets import DigitSum, regress

VARIANTS = [(pool, variant) for pool in POOLS for variant in (1, 2)]
ENCODERS = [(layers, pooling) for layers in LAYERS for pooling in POOLINGS]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def batch(d=4, sizes=(7, 3, 1, 5)):
    """Return members, garbage included, and the mask."""
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    return torch.randn(len(sizes), max(sizes), d), mask


def equivariant_modules():
    yield from (Equivariant(4, 6, pool, variant) for pool, variant in VARIANTS)
    yield Pointwise(4, 6)
    for activation in ACTIVATIONS:
        yield Members(4, (8, 6), "equivariant", activation)
    yield from (SetTagger(4, (8,), (8, 6), pool, variant).eval() for pool, variant in VARIANTS)


def invariant_modules():
    yield from (SetEncoder(4, 3, pooling=pooling, layers=layers).eval() for layers, pooling in ENCODERS)
    expander, candidates = SetExpander(4), torch.randn(4, 9, 4)
    yield lambda X, mask: expander(candidates, X, mask)
    yield from (lambda X, mask, kind=kind: pooled(X, mask, kind) for kind in POOLS)


# -- permutations, masks, sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [*equivariant_modules()], ids=str)
def test_outputs_of_members_move_with_them(module):
    X, _ = batch()
    mask = torch.ones(X.shape[:2], dtype=torch.bool)
    Y = module(X, mask)
    for _ in range(5):
        order = torch.randperm(X.shape[1])
        torch.testing.assert_close(module(X[:, order], mask), Y[:, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("module", [*invariant_modules()])
def test_outputs_of_sets_do_not_depend_on_the_order(module):
    X, _ = batch()
    mask = torch.ones(X.shape[:2], dtype=torch.bool)
    for _ in range(5):
        order = torch.randperm(X.shape[1])
        torch.testing.assert_close(module(X[:, order], mask), module(X, mask), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("garbage", [1e6, -1e6, torch.inf, torch.nan])
@pytest.mark.parametrize("kind", ["members", "sets"])
def test_what_stands_where_no_member_is_changes_nothing(garbage, kind):
    X, mask = batch()
    spoiled = X.masked_fill(~mask[..., None], garbage)
    for module in equivariant_modules() if kind == "members" else invariant_modules():
        Y, Z = module(X, mask), module(spoiled, mask)
        if kind == "members":
            assert ((Y[~mask] == 0) | (Y[~mask] == -torch.inf)).all()
            Y, Z = Y[mask], Z[mask]
        torch.testing.assert_close(Y, Z)
        assert torch.isfinite(Y).all()
        # Nor does it reach the weights' gradients.
        if isinstance(module, nn.Module):
            module.zero_grad()
            Z.square().sum().backward()
            assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_a_set_is_the_same_alone_and_among_larger_ones():
    X, mask = batch()
    for module in equivariant_modules():
        whole = module(X, mask)
        for row, size in enumerate(mask.sum(dim=1)):
            one = module(X[row : row + 1, :size], mask[row : row + 1, :size])
            torch.testing.assert_close(one[0], whole[row, :size], atol=1e-5, rtol=1e-5)
    for layers, pooling in ENCODERS:
        module = SetEncoder(4, 3, pooling=pooling, layers=layers)
        whole = module(X, mask)
        for row, size in enumerate(mask.sum(dim=1)):
            one = module(X[row : row + 1, :size], mask[row : row + 1, :size])
            torch.testing.assert_close(one[0], whole[row], atol=1e-5, rtol=1e-5)


def test_the_empty_set_has_finite_outputs():
    for X, mask in ((torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool)), batch(sizes=(3, 0))):
        for layers, pooling in ENCODERS:
            assert torch.isfinite(SetEncoder(4, 3, pooling=pooling, layers=layers)(X, mask)).all()
        for kind in POOLS:
            assert (pooled(X, mask, kind)[-1] == 0).all()
            assert (pooled(torch.empty(2, 0, 4), torch.empty(2, 0, dtype=torch.bool), kind) == 0).all()
        logits = SetTagger(4)(X, mask)
        assert (logits[-1] == -torch.inf).all()
        assert (relative_log_probability(logits, mask)[-1] == -torch.inf).all()


def test_pools_by_hand():
    X = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    assert pooled(X, mask, "max").tolist() == [[3.0, -5.0]]
    assert pooled(X, mask, "mean").tolist() == [[2.0, -6.0]]
    assert pooled(X, mask, "sum").tolist() == [[4.0, -12.0]]
    encoder = SetEncoder(2, 1, (2,), (), "concat")
    assert encoder.pool(X, mask)[0].tolist() == pytest.approx([4.0, -12.0, 3.0, -5.0, np.log(2)])


def test_both_variants_by_hand():
    X, mask = torch.tensor([[[1.0], [4.0]]]), torch.ones(1, 2, dtype=torch.bool)
    for variant, pool, expected in (
        (1, "max", [2 * (1 - 4) + 1, 1]),
        (1, "mean", [2 * (1 - 2.5) + 1, 2 * 1.5 + 1]),
        (2, "max", [2 * 1 - 3 * 4 + 1, 2 * 4 - 3 * 4 + 1]),
        (2, "sum", [2 * 1 - 3 * 5 + 1, 2 * 4 - 3 * 5 + 1]),
    ):
        layer = Equivariant(1, 1, pool, variant)
        nn.init.constant_(layer.gamma.weight, 2.0)
        nn.init.constant_(layer.gamma.bias, 1.0)
        if variant == 2:
            assert layer.lambda_.bias is None
            nn.init.constant_(layer.lambda_.weight, 3.0)
        assert layer(X, mask).flatten().tolist() == expected


def test_the_layer_is_the_linear_map_that_commutes_with_every_permutation():
    rng, n = np.random.default_rng(0), 6
    theta = rng.normal(size=(n, n))
    # Averaging P'ΘP over all permutations projects on the maps that commute with each: by pairs of places, exactly.
    same, other = np.trace(theta) / n, (theta.sum() - np.trace(theta)) / (n * (n - 1))
    projected = (same - other) * np.eye(n) + other * np.ones((n, n))
    drawn = [np.eye(n)[rng.permutation(n)] for _ in range(20_000)]
    np.testing.assert_allclose(np.mean([P.T @ theta @ P for P in drawn], axis=0), projected, atol=0.05)
    layer = Equivariant(1, 1, "sum", 2, bias=False)
    nn.init.constant_(layer.gamma.weight, same - other)
    nn.init.constant_(layer.lambda_.weight, -other)
    x = rng.normal(size=n)
    found = layer(torch.from_numpy(x[None, :, None].astype(np.float32)), torch.ones(1, n, dtype=torch.bool))
    np.testing.assert_allclose(found.detach().numpy().ravel(), projected @ x, atol=1e-5)


def test_the_mean_gives_gradient_to_all_members_the_max_to_the_largest_alone():
    X, mask = batch(d=1, sizes=(5,))
    for kind, reached in (("mean", 5), ("sum", 5), ("max", 1)):
        X = X.detach().requires_grad_()
        pooled(X, mask, kind).sum().backward()
        assert int((X.grad != 0).sum()) == reached
        if kind == "max":
            assert X.grad.argmax() == X.argmax()
        X.grad = None
    # Equal largest members: still one, as in the published code.
    X = torch.ones(1, 3, 1, requires_grad=True)
    pooled(X, torch.ones(1, 3, dtype=torch.bool), "max").sum().backward()
    assert int((X.grad != 0).sum()) == 1


def test_side_information_is_seen_by_every_member():
    X, mask = batch()
    encoder = SetEncoder(4, 2, d_side=3)
    z = torch.randn(4, 3, requires_grad=True)
    Y = encoder(X, mask, z)
    assert (encoder(X, mask, z + 1) != Y).all()
    order = torch.randperm(7)
    torch.testing.assert_close(encoder(X[:, order], mask[:, order], z), Y, atol=1e-5, rtol=1e-5)
    Y[0].sum().backward()
    assert (z.grad[0] != 0).all() and (z.grad[1:] == 0).all(), "a set's own side information alone"


def test_dropout_leaves_out_the_same_channels_for_all_members():
    dropout, X = SetDropout(0.5).train(), torch.ones(50, 7, 40)
    Y = dropout(X)
    assert (Y[:, :1] == Y).all(), "plain dropout would differ from member to member"
    assert set(Y.unique().tolist()) == {0.0, 2.0} and 0.45 < (Y == 0).float().mean() < 0.55
    assert (Y[0] != Y[1]).any()
    assert (dropout.eval()(X) == X).all()
    # So a network with it still treats members alike, in training too.
    tagger = SetTagger(4, (8,), (8,)).train()
    same = torch.randn(3, 1, 4).expand(3, 5, 4)
    logits = tagger(same, torch.ones(3, 5, dtype=torch.bool))
    torch.testing.assert_close(logits, logits[:, :1].expand(3, 5))


def test_relative_probabilities_by_hand():
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, float(np.log(3.0)), -torch.inf], [5.0, -torch.inf, -torch.inf]])
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    found = relative_log_probability(logits, mask)
    torch.testing.assert_close(found[0], torch.zeros(3))
    torch.testing.assert_close(found[1, :2], torch.tensor([2 * 0.25, 2 * 0.75]).log())
    assert found[2, 0] == 0 and (found[~mask] == -torch.inf).all()


def test_blocks_hold_every_set_once_and_stay_small():
    sizes = np.random.default_rng(0).integers(1, 50, 300)
    parts = list(blocks(sizes, cells=200))
    assert sorted(np.concatenate(parts)) == list(range(300))
    assert all(len(part) == 1 or len(part) * sizes[part].max() <= 200 for part in parts)
    assert len(parts) < 120 and [part.tolist() for part in blocks(np.array([1000, 2]), cells=10)] == [[1], [0]]


# -- sum or mean: what a size does -----------------------------------------------------------------------------------


def test_the_sum_of_digits_needs_the_sum():
    train, exact = digit_sums(4000, random_state=0), {}
    for name, make in (("sum", DigitSum), ("mean", lambda: DigitSum("mean"))):
        how = {"epochs": 20, "learning_rate": 1e-2, "loss": nn.functional.l1_loss, "batch_size": 64}
        predict = regress(make, train.X, train.y, 0, **how)
        for size in (10, 50):
            test = digit_sums(200, size, size, random_state=1)
            exact[name, size] = np.mean(np.abs(predict(test.X) - test.y) < 0.5)
    assert exact["sum", 10] > 0.95 and exact["sum", 50] > 0.8, exact
    assert exact["mean", 50] < 0.1, exact


def test_the_entropy_is_learned_from_points_whose_mean_says_nothing():
    drawn = population_statistics("rotation", 500, 50, random_state=0)
    predict = regress(lambda: SetEncoder(2), drawn.X[:400], drawn.target[:400], 0, epochs=30, batch_size=32)
    of_means = np.polynomial.Polynomial.fit(drawn.X[:400].mean(axis=1)[:, 0], drawn.target[:400], 3)
    truth, variance = drawn.target[400:], drawn.target[400:].var()
    assert np.square(predict(drawn.X[400:]) - truth).mean() < 0.25 * variance
    assert np.square(of_means(drawn.X[400:].mean(axis=1)[:, 0]) - truth).mean() > 0.7 * variance


# -- set expansion ---------------------------------------------------------------------------------------------------


def test_the_ranking_loss_by_hand():
    loss = margin_ranking_loss(torch.tensor([1.0, 0.0]), torch.tensor([[0.5, 0.95], [0.0, -0.3]]))
    assert float(loss) == pytest.approx((0 + 0.05 + 0.1 + 0) / 4)


def test_sets_are_expanded_by_what_belongs_to_them():
    rng = np.random.default_rng(0)
    topics = np.repeat(np.arange(6), 10)
    words = torch.from_numpy((2 * rng.normal(size=(6, 8))[topics] + rng.normal(size=(60, 8))).astype(np.float32))
    own = [rng.permutation(np.flatnonzero(topics == t)) for t in range(6)]
    network = SetExpander(8, 16, 16)

    def drawn(size, held):
        """Return sets of words of one topic each, one that is left out of it, and a word of another topic."""
        chosen = rng.integers(6, size=64)
        # The last three words of each topic are never right answers in training.
        pool = np.stack([rng.permutation(own[t][:7])[: size + 1] for t in chosen])
        right = np.array([rng.choice(own[t][7:]) for t in chosen]) if held else pool[:, -1]
        wrong = np.array([rng.choice(np.flatnonzero(topics != t)) for t in chosen])
        return chosen, pool[:, :size], right, wrong

    def loss_of(rows):
        _, members, right, wrong = drawn(int(rng.integers(2, 6)), False)
        mask = torch.ones(members.shape, dtype=torch.bool)
        scores = network(words[np.stack([right, wrong], axis=1)], words[members], mask)
        return margin_ranking_loss(scores[:, 0], scores[:, 1:])

    def measured():
        _, members, right, _ = drawn(5, True)
        with torch.inference_mode():
            mask = torch.ones(members.shape, dtype=torch.bool)
            scores = network(words.expand(64, -1, -1), words[members], mask).double().numpy()
        return retrieval(scores, np.arange(60) == right[:, None], at=(10,))

    before = measured()
    descend(network, 64, loss_of, rng, epochs=300, batch_size=64, learning_rate=3e-3)
    after = measured()
    assert after.recall[10] > max(0.6, before.recall[10] + 0.2) and after.median_rank < 12, (before, after)


def test_retrieval_by_hand():
    scores = [[0.9, 0.8, 0.7, 0.6], [0.1, 0.5, 0.5, 0.9]]
    found = retrieval(scores, [[False, True, False, True], [False, True, False, False]], at=(2, 3))
    assert found.recall == {2: pytest.approx(1 / 3), 3: pytest.approx(2 / 3)}
    assert found.mean_reciprocal_rank == pytest.approx((1 / 2 + 1 / 2.5) / 2) and found.median_rank == 2.5
    with pytest.raises(InputError, match="relevant marks nothing in row 1"):
        retrieval(scores, [[1, 0, 0, 0], [0, 0, 0, 0]])


# -- simulators ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_population_statistics_are_those_of_the_gaussians(task):
    drawn = population_statistics(task, 5, 20_000, random_state=0)
    for X, covariance, target, parameter in zip(*drawn[:1], drawn.covariance, drawn.target, drawn.parameter):
        np.testing.assert_allclose(empirical_covariance(X, assume_centered=True), covariance, atol=0.15)
        log_det = np.linalg.slogdet
        if task == "rotation":
            # The published code squares the variance once more.
            assert target == pytest.approx(0.5 * np.log(2 * np.pi * np.e * covariance[0, 0]))
            density = np.exp(-(X[:, 0] ** 2) / 2 / covariance[0, 0]) / np.sqrt(2 * np.pi * covariance[0, 0])
            assert -np.log(density).mean() == pytest.approx(target, abs=0.03), "the mean of -log p is the entropy"
            faulty = 0.5 * np.log(2 * np.pi * np.e * covariance[0, 0] ** 2)
            assert abs(faulty - target) > 0.05
        elif task == "correlation":
            halves = log_det(covariance[:8, :8])[1] + log_det(covariance[8:, 8:])[1]
            assert 8 * target == pytest.approx(0.5 * (halves - log_det(covariance)[1]))
            for i in range(8):
                own = np.corrcoef(X[:, i], X[:, 8 + i])[0, 1]
                assert own == pytest.approx(parameter, abs=0.04)
        else:
            correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
            assert target == pytest.approx(-0.5 * log_det(correlation)[1]) and target > 0
            if task == "rank_one":
                values = np.linalg.eigvalsh(covariance)
                np.testing.assert_allclose(values[:-1], 1, atol=1e-9)
    again = population_statistics(task, 5, 20_000, random_state=0)
    assert again.X.tobytes() == drawn.X.tobytes()


def test_digit_sums_have_sizes_values_and_sums():
    drawn = digit_sums(500, 2, 9, random_state=0)
    assert {len(one) for one in drawn.X} == set(range(2, 10))
    assert all((one.sum(axis=1) == 1).all() for one in drawn.X)
    assert [float((one @ np.arange(1, 10)).sum()) for one in drawn.X] == drawn.y.tolist()


def test_odd_digits_are_split_by_image_and_by_digit():
    parts = {part: odd_digits(400, 8, part, random_state=0) for part in ("train", "seen", "unseen")}
    for part, drawn in parts.items():
        assert set(np.unique(drawn.digits)) == set(UNSEEN if part == "unseen" else SEEN)
        for digits, images, odd in zip(drawn.digits, drawn.images, drawn.odd):
            assert len(set(images)) == 8, "no image twice"
            others = np.delete(digits, odd)
            assert (others == others[0]).all() and digits[odd] != others[0]
        assert np.bincount(drawn.odd, minlength=8).min() > 25, "every place"
        assert drawn.X.min() == 0 and drawn.X.max() == 1
    used = [set(drawn.images.ravel()) for drawn in parts.values()]
    assert not used[0] & used[1] and not (used[0] | used[1]) & used[2]


def test_bags_differ_in_proportions_alone():
    drawn = proportion_bags(400, 400, 100, random_state=0)
    normal, odd = drawn.X[drawn.y == 0], drawn.X[drawn.y == 1]
    for column in range(2):
        assert energy_test(normal[:, 0, column, None], odd[:, 0, column, None], 99, 0).p_value > 0.01
    same = np.sign(drawn.X).prod(axis=2).mean(axis=1)
    assert np.abs(same[drawn.y == 0]).mean() < 0.15 and np.abs(same[drawn.y == 1]).mean() > 0.5
    assert (same[drawn.y == 1] > 0).mean() == pytest.approx(0.5, abs=0.1), "either diagonal"


def test_shapes_are_standardised_and_differ():
    drawn = shape_clouds(5, 200, 300, random_state=0)
    assert drawn.y.tolist() == np.repeat(SHAPES, 5).tolist() and len({len(one) for one in drawn.X}) > 5
    for one in drawn.X:
        np.testing.assert_allclose(one.mean(axis=0), 0, atol=1e-9)
        np.testing.assert_allclose(one.std(axis=0), 1)
    radii = [np.linalg.norm(one, axis=1).std() for one in drawn.X]
    assert np.mean(radii[:5]) < 0.5 * np.mean(radii[5:10]), "a sphere is round"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: population_statistics("sums"), "task"),
        (lambda: digit_sums(3, 5, 4), "largest"),
        (lambda: odd_digits(3, 26), "size"),
        (lambda: odd_digits(3, part="test"), "part"),
        (lambda: proportion_bags(3, 3, shift=0.3), "shift"),
        (lambda: shape_clouds(0), "n_each"),
    ],
)
def test_senseless_simulations_are_refused(call, name):
    with pytest.raises(InputError, match=name):
        call()


# -- two-sample tests ------------------------------------------------------------------------------------------------


def test_the_energy_distance_by_hand():
    X, Y = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    spread = np.array([0.0, 2.0, 1.0, 5.0]).std()
    expected = (2 * (1 + 5 + 1 + 3) / 4 - 2 * 2 / 4 - 2 * 4 / 4) / spread
    assert energy_test(X, Y, 9, 0).statistic == pytest.approx(expected)
    assert energy_test(X, X, 99, 0) == (pytest.approx(0.0, abs=1e-12), 1.0)


@pytest.mark.parametrize("test", [energy_test, classifier_test])
def test_p_values_keep_their_level_and_find_differences(test):
    rng = np.random.default_rng(0)
    options = {"permutations": 99} if test is energy_test else {"permutations": 99, "classifier": _Nearest()}
    p = np.array([test(*rng.normal(size=(2, 24, 2)), random_state=s, **options)[1] for s in range(150)])
    assert (p <= 0.1).mean() < 0.19 and (p <= 0.5).mean() < 0.64 and p.min() >= 0.01
    moved, still = rng.normal(size=(24, 2)) + 2, rng.normal(size=(30, 2))
    shifted = [test(moved, still, random_state=s, **options)[1] for s in range(10)]
    assert np.mean(np.array(shifted) <= 0.05) >= 0.8


class _Nearest:
    """Log odds by distance to the two means: a classifier of one line, so that the test of the level is quick."""

    def get_params(self, deep=True):
        return {}

    def fit(self, X, y):
        self.means = [X[y == label].mean(axis=0) for label in (0, 1)]
        return self

    def predict_proba(self, X):
        far = np.stack([np.square(X - mean).sum(axis=1) for mean in self.means], axis=1)
        return far[:, ::-1] / far.sum(axis=1, keepdims=True)


def test_two_sample_tests_refuse_what_they_cannot_use():
    X = np.zeros((5, 2))
    for call, name in (
        (lambda: energy_test(X, np.zeros((5, 3))), "synthetic has 2 columns"),
        (lambda: energy_test(X[:1], X), "synthetic"),
        (lambda: classifier_test(X, X[:3]), "real"),
        (lambda: energy_test(X, X, 0), "permutations"),
        (lambda: classifier_test(X, X, "forest"), "classifier"),
    ):
        with pytest.raises(InputError, match=name):
            call()
    assert energy_test(X, X, 9, 0).p_value == classifier_test(X, X, None, 9, 0).p_value == 1.0
