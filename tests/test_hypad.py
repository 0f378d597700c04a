"""HypAD and its ablation TadGAN: parts by hand, training against a naive twin, and what the ball is there for."""

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

import assay
from assay.core.validation import InputError
from assay.datasets.simulators.regimes import KINDS, regimes
from assay.detectors.series.common import windows
from assay.detectors.series.hypad import (
    COMBINATIONS,
    Decoder,
    Encoder,
    HypAD,
    _optimisers,
    combined,
    critic,
    critic_loss,
    generator_loss,
    gradient_penalty,
    kde_modes,
    rolling_mean,
)
from assay.nn.hyperbolic import BallAdam, distance
from assay.nn.state import arrays_of, seeded

TINY = {"window": 12, "latent": 4, "hidden": 5, "decoder_hidden": 6, "epochs": 2, "critic_passes": 2, "batch_size": 16}
QUICK = TINY | {"stride": 4, "learning_rate": 5e-4, "random_state": 0}


def waves(n=400, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(n)[:, None] / 3 + np.arange(channels)) + 0.1 * rng.normal(size=(n, channels))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def fitted():
    """Return detectors with and without the ball, recurrent and flat, of the same waves."""
    return {
        (ball, recurrent): HypAD(hyperbolic=ball, recurrent=recurrent, **QUICK).fit(waves())
        for ball in (True, False)
        for recurrent in (True, False)
    }


# -- pieces ----------------------------------------------------------------------------------------------------------


def test_the_mode_is_that_of_a_gaussian_kernel_density_over_the_covering_windows():
    rng = np.random.default_rng(0)
    for n, length in ((60, 9), (9, 9), (5, 9), (1, 4), (40, 2)):
        values = np.where(rng.uniform(size=n) < 0.3, 5.0, 0.0) + rng.normal(size=n)
        expected = []
        for step in range(n + length - 1):
            covering = values[max(0, step - length + 1) : min(step, n - 1) + 1]
            alone = len(covering) == 1
            expected.append(covering[0] if alone else covering[np.argmax(gaussian_kde(covering)(covering))])
        np.testing.assert_array_equal(kde_modes(values, length), expected)
    assert (kde_modes(np.full(20, 0.1), 6) == 0.1).all(), "the median where all are equal"
    # A mode, not a mean: one outlying window of nine moves nothing.
    values = rng.normal(scale=0.1, size=60)
    values[30] = 100.0
    assert np.abs(kde_modes(values, 9)[31:37]).max() < 1


def test_rolling_mean_is_centred_and_takes_what_there_is():
    values = np.random.default_rng(0).normal(size=30)
    for half in (0, 3, 40):
        naive = [values[max(0, t - half) : t + half + 1].mean() for t in range(30)]
        np.testing.assert_allclose(rolling_mean(values, half), naive, atol=1e-12)


def test_combinations_by_hand():
    critic_of, rec, certainty = (np.array([x]) for x in (3.0, 2.0, 0.5))
    expected = {"mult": 6, "uncertainty": 3, "sum": 2.2, "sum_uncertainty": 1.25, "rec": 2, "rec_uncertainty": 1}
    expected |= {"critic": 3, "critic_uncertainty": 1.5}
    assert sorted(expected) == sorted(COMBINATIONS)
    for how, value in expected.items():
        assert combined(how, critic_of, rec, certainty)[0] == pytest.approx(value), how


def test_the_penalty_is_of_each_windows_own_gradient():
    """Of a linear critic the gradient is its weight everywhere; one norm of a batch of 50 would be 7 times as large."""
    judge = torch.nn.Linear(6, 1)
    norm = judge.weight.norm()
    real, fake = torch.randn(50, 6), torch.randn(50, 6)
    torch.testing.assert_close(gradient_penalty(judge, real, fake), (norm - 1) ** 2)
    loss = judge(fake).mean() - judge(real).mean() + 10 * (norm - 1) ** 2
    torch.testing.assert_close(critic_loss(judge, real, fake), loss)
    # And between each real window and its fake one, not elsewhere.
    seen = []

    def spy(x):
        seen.append(x.detach())
        return x.sum(dim=1, keepdim=True)

    gradient_penalty(spy, torch.zeros(200, 6), torch.ones(200, 6))
    assert (
        (seen[0] == seen[0][:, :1]).all() and seen[0].min() >= 0 and seen[0].max() <= 1 and seen[0].std() > 0.2
    ).item()


def test_networks_have_the_published_form():
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    lstm = lambda inside, hidden: 2 * 4 * hidden * (inside + hidden + 2)  # noqa: E731
    flat = Encoder(100, 1, 20, 50, False), Decoder(100, 1, 20, 64, False)
    assert count(flat[0]) == lstm(100, 50) + 101 * 20
    assert count(flat[1]) == 21 * 50 + lstm(50, 64) + lstm(128, 64) + 129 * 100
    assert count(critic(100, 20, 4, 0.25)) == 101 * 20 + 3 * 21 * 20 + 21
    assert count(critic(20, 20, 2, 0.2)) == 2 * 21 * 20 + 21
    assert [layer.p for layer in critic(9, 9, 4, 0.25) if isinstance(layer, torch.nn.Dropout)] == [0.25] * 4
    steps = Encoder(100, 3, 20, 50, True), Decoder(100, 3, 20, 64, True)
    assert count(steps[0]) == lstm(3, 50) + (100 * 100 + 1) * 20
    assert count(steps[1]) == 21 * 50 + lstm(1, 64) + lstm(128, 64) + 129 * 3
    for length in (7, 8):
        for recurrent in (True, False):
            x = torch.randn(5, length, 3)
            again = Decoder(length, 3, 4, 6, recurrent)(Encoder(length, 3, 4, 5, recurrent)(x))
            assert again.shape == x.shape and again.abs().max() < 1


def test_the_default_recurs_over_time_and_flat_does_not(fitted):
    """In a recurrence the same weights see every step: their number does not grow with the window's length."""
    shapes = {key: model.networks_["encoder.lstm.weight_ih_l0"].shape for key, model in fitted.items()}
    assert shapes[True, True] == (20, 2) and shapes[True, False] == (20, 24)
    assert HypAD().recurrent


# -- training --------------------------------------------------------------------------------------------------------


def tadgan(x, seed, window, latent, hidden, decoder_hidden, epochs, critic_passes, batch_size, lr=5e-4):
    """Train TadGAN in the plainest way, drawing what is random in the same order; return its networks."""
    with seeded(np.random.default_rng(seed)):
        E, D = Encoder(window, 2, latent, hidden, True), Decoder(window, 2, latent, decoder_hidden, True)
        cx, cz = critic(2 * window, latent, 4, 0.25), critic(latent, latent, 2, 0.2)
        critics = [torch.optim.Adam(c.parameters(), lr=lr) for c in (cx, cz)]
        others = [torch.optim.Adam(part.parameters(), lr=lr) for part in (E, D)]
        for _ in range(epochs):
            codes = E(x).detach()
            for _ in range(critic_passes):
                fakes = D(torch.randn(len(x), latent)).flatten(1).detach()
                for rows in torch.randperm(len(x)).split(batch_size):
                    if len(rows) < batch_size:
                        continue
                    for judge, optimiser in zip((cx, cz), critics):
                        is_x = judge is cx
                        real = x[rows].flatten(1) if is_x else torch.randn(batch_size, latent)
                        made = fakes[rows] if is_x else codes[rows]
                        loss = judge(made).mean() - judge(real).mean() + 10 * gradient_penalty(judge, real, made)
                        optimiser.zero_grad()
                        loss.backward()
                        optimiser.step()
            for rows in torch.randperm(len(x)).split(batch_size):
                if len(rows) < batch_size:
                    continue
                z = E(x[rows])
                made, again = D(torch.randn_like(z)), D(z)
                mse = ((x[rows] - again) ** 2).flatten(1).mean()
                loss = 10 * mse - cx(made.flatten(1)).mean() - cz(z).mean()
                for optimiser in others:
                    optimiser.zero_grad()
                loss.backward()
                for optimiser in others:
                    optimiser.step()
    return {"encoder": E, "decoder": D, "critic": cx}


def test_without_the_ball_it_is_tadgan_bit_for_bit(fitted):
    model, train = fitted[False, True], waves()
    x = windows(model._scaled(train), 12)[::4].astype(np.float32)
    twin = tadgan(torch.from_numpy(x), 0, **TINY)
    assert not any(name.startswith("head") for name in model.networks_)
    for part, network in twin.items():
        for name, array in arrays_of(network).items():
            assert np.array_equal(model.networks_[f"{part}.{name}"], array), f"{part}.{name}"
    test = waves(200, seed=1)
    views = windows(model._scaled(test), 12)
    x = torch.from_numpy(views.astype(np.float32))
    with torch.inference_mode():
        twin = {part: network.eval().requires_grad_(False) for part, network in twin.items()}
        rec = (twin["decoder"](twin["encoder"](x)).flatten(1) - x.flatten(1)).norm(dim=1).double().numpy()
    assert np.array_equal(model._described(views)[0], rec)
    assert (model._described(views)[1] == 1).all()


def test_the_loss_of_the_ball_is_measured_in_it():
    networks = HypAD(**QUICK).fit(waves())._restored()
    cz, x = critic(4, 4, 2, 0.2).eval(), torch.randn(9, 12, 2)
    H = networks["head"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = generator_loss(networks, cz, x)
        torch.manual_seed(0)
        z = networks["encoder"](x)
        fake, again = H(networks["decoder"](torch.randn_like(z)).flatten(1)), H(networks["decoder"](z).flatten(1))
    error = distance(again, H(x.flatten(1)), 1e-7).mean()
    expected = 10 * error - networks["critic"](fake.float()).mean() - cz(z).mean()
    torch.testing.assert_close(loss, expected.double())


def test_training_moves_every_part_and_the_critics_do_not_move_the_others():
    before, after = (HypAD(**QUICK | {"epochs": epochs}).fit(waves()) for epochs in (0, 1))
    for name, array in before.networks_.items():
        # A constant cancels in what a critic learns from.
        assert np.array_equal(array, after.networks_[name]) == (name == "critic.12.bias"), name
    assert np.linalg.norm(after.networks_["head.bias"]) < 1
    only_critics = HypAD(**QUICK | {"epochs": 1, "learning_rate": 0.0}).fit(waves())
    assert all(np.array_equal(array, only_critics.networks_[name]) for name, array in before.networks_.items())
    idle = HypAD(**QUICK | {"epochs": 1, "critic_passes": 0}).fit(waves())
    assert np.array_equal(idle.networks_["critic.0.weight"], before.networks_["critic.0.weight"])


def test_the_point_of_the_head_moves_on_the_ball_and_everything_else_in_the_plain():
    model = HypAD(**QUICK).fit(waves())
    networks = model._networks()
    plain, ball = _optimisers(networks, 1e-3)
    assert isinstance(ball, BallAdam) and isinstance(plain, torch.optim.Adam)
    (on_ball,) = ball.param_groups[0]["params"]
    assert on_ball is networks["head"].bias
    moved = {id(p) for part in ("encoder", "decoder") for p in networks[part].parameters()}
    assert {id(p) for p in plain.param_groups[0]["params"]} == moved | {id(networks["head"].weight)}


# -- scores ----------------------------------------------------------------------------------------------------------


def test_scores_are_put_together_step_by_step(fitted):
    """Everything from windows to steps in plain loops; nothing is taken from the scored series."""
    model, test = fitted[True, True], waves(120, seed=1)
    low, high = waves().min(axis=0), waves().max(axis=0)
    x = 2 * (test - low) / (high - low) - 1
    views = torch.from_numpy(np.stack([x[i : i + 12] for i in range(109)]))
    networks = model._restored()
    with torch.no_grad():
        H = networks["head"]
        h, again = H(views.flatten(1)), H(networks["decoder"](networks["encoder"](views.float())).flatten(1))
        judged = networks["critic"].double()(views.flatten(1))[:, 0].numpy()
    rec, certainty = distance(h, again, 1e-7).numpy(), again.norm(dim=1).numpy()
    covering = [slice(max(0, t - 11), min(t, 108) + 1) for t in range(120)]
    modes = [
        judged[s][np.argmax(gaussian_kde(judged[s])(judged[s]))] if s.stop - s.start > 1 else judged[s][0]
        for s in covering
    ]
    unusual = np.abs(np.array(modes) - model.critic_mean_) / model.critic_scale_ + 1
    half = model.half_
    assert half == int(0.01 * 389) // 2 == 1
    unusual = np.array([unusual[max(0, t - half) : t + half + 1].mean() for t in range(120)])
    rec, certainty = (np.array([values[s].mean() for s in covering]) for values in (rec, certainty))
    np.testing.assert_allclose(model.certainty(test), certainty, rtol=1e-6)
    np.testing.assert_allclose(model.anomaly_score(test), unusual * rec * certainty, rtol=1e-4)
    for how in COMBINATIONS:
        scores = model.set_params(combine=how).anomaly_score(test)
        np.testing.assert_allclose(scores, combined(how, unusual, rec, certainty), rtol=1e-4)
    model.set_params(combine=None)


def test_the_critics_scale_is_that_of_the_middle_of_the_training_steps(fitted):
    model, train = fitted[True, True], waves()
    modes = kde_modes(model._criticised(windows(model._scaled(train), 12)), 12)
    low, high = np.quantile(modes, [0.25, 0.75])
    assert model.critic_mean_ == pytest.approx(modes[(modes >= low) & (modes <= high)].mean())
    assert model.critic_scale_ == pytest.approx(modes.std())


def test_rec_and_critic_lie_over_the_anomaly_not_a_window_before_it():
    """Cutting the critic's steps to the windows' number, as the public code does, shifts one against the other."""
    train = np.random.default_rng(0).normal(scale=0.1, size=(600, 1))
    train[::100] = [[1.0], [-1.0]] * 3
    model = HypAD(**QUICK | {"window": 20, "epochs": 3, "smoothing": 0.0}).fit(train)
    test = np.random.default_rng(1).normal(scale=0.1, size=(300, 1))
    quiet = {how: model.set_params(combine=how).anomaly_score(test) for how in ("rec", "critic")}
    test[150] = 4.0
    for how, before in quiet.items():
        changed = np.flatnonzero(~np.isclose(model.set_params(combine=how).anomaly_score(test), before, rtol=1e-6))
        assert changed.min() > 130 and changed.max() < 170
        assert abs(changed.mean() - 150) < 3, how


def test_standardised_rec_is_one_at_the_training_mean_or_below(fitted):
    train, test = waves(), waves(120, seed=1)
    model = HypAD(**QUICK, standardise=True, combine="rec").fit(train)
    raw = model._described(windows(model._scaled(train), 12)[::4])[0]
    assert (model.rec_mean_, model.rec_scale_) == pytest.approx((raw.mean(), raw.std()))
    scores = model.anomaly_score(test)
    assert scores.min() >= 1 and scores.max() > 1.2
    every = np.maximum((model._described(windows(model._scaled(test), 12))[0] - raw.mean()) / raw.std(), 0) + 1
    assert scores[60] == pytest.approx(every[49:61].mean())


def test_certainty_is_the_distance_from_the_origin_and_needs_the_ball(fitted):
    test = waves(100, seed=1)
    test[40] = np.nan
    model = fitted[True, True]
    lessons = windows(model._scaled(waves()), 12)[::4]
    assert model.spread_ == pytest.approx(model._described(lessons)[1].std(), rel=1e-6)
    certainty = model.certainty(test)
    assert np.flatnonzero(np.isnan(certainty)).tolist() == [40]
    assert np.nanmin(certainty) >= 0 and np.nanmax(certainty) < 1 and np.nanstd(certainty) > 0
    with pytest.raises(InputError, match="hyperbolic=True"):
        fitted[False, True].certainty(test)
    with pytest.raises(InputError, match="combine"):
        HypAD(hyperbolic=False, combine="uncertainty", **QUICK).fit(waves())
    scores = [fitted[key, True].anomaly_score(waves(100, seed=1)) for key in (True, False)]
    assert not np.allclose(*scores)


def test_values_far_beyond_training_stay_finite_and_score_high(fitted):
    test = waves(200, seed=1)
    test[100] = 1e12
    for key, model in fitted.items():
        scores = model.anomaly_score(test)
        assert np.isfinite(scores).all(), key
        rec = model.set_params(combine="rec").anomaly_score(test)
        model.set_params(combine=None)
        assert rec[95:105].mean() > rec[:80].mean(), key
    assert fitted[True, True]._scaled(test).max() == 5


def test_scaling_is_that_of_training_alone(fitted):
    model = fitted[True, True]
    assert np.abs(model._scaled(waves())).max() == pytest.approx(1)
    half = model._scaled(waves() / 2)
    assert np.abs(half).max() < 0.7, "a smaller series is not blown up to the range of training"


def test_a_score_depends_on_its_reach_alone(fitted):
    for key, model in fitted.items():
        test = waves(300, seed=1)
        before, after = model.reach
        assert (before, after) == (11 + model.half_,) * 2
        scores = model.anomaly_score(test)
        changed = test.copy()
        changed[: 150 - before] = 3.0
        changed[151 + after :] = -3.0
        np.testing.assert_allclose(model.anomaly_score(changed)[150], scores[150], rtol=1e-5, err_msg=str(key))
        piece = model.anomaly_score(test[150 - before : 151 + after])
        np.testing.assert_allclose(piece[before], scores[150], rtol=1e-5)


def test_windows_with_holes_and_known_anomalies_teach_nothing():
    train = waves()
    spoiled = train.copy()
    spoiled[200:230] = 40.0
    y = np.zeros(400, dtype=int)
    y[200:230] = 1
    model = HypAD(**QUICK).fit(spoiled, y)
    assert model.high_.max() < 2
    holes = train.copy()
    holes[::15] = np.nan  # runs of 14: two or three windows each
    assert np.isfinite(HypAD(**QUICK).fit(holes).anomaly_score(train)).all()
    holes[::10] = np.nan
    with pytest.raises(InputError, match="0 windows of 12 steps"):
        HypAD(**QUICK).fit(holes)


def test_saved_and_loaded_it_answers_the_same(fitted, tmp_path, monkeypatch):
    from assay.core import store

    monkeypatch.setattr(store, "_allowed", lambda: {"assay.detectors.series.hypad:HypAD"})
    test = waves(150, seed=1)
    for key, model in fitted.items():
        folder = tmp_path / str(key)
        assay.save(model, folder)
        again = assay.load(folder)
        assert (again.anomaly_score(test) == model.anomaly_score(test)).all()


def test_a_constant_series_and_a_constant_channel():
    flat = HypAD(**QUICK).fit(np.full((100, 1), 2.0))
    assert np.isfinite(flat.anomaly_score(np.full((50, 1), 2.0))).all()
    wide = np.column_stack([waves(), np.full(400, 3.0)])
    assert np.isfinite(HypAD(**QUICK).fit(wide).anomaly_score(wide)).all()


# -- what it is for --------------------------------------------------------------------------------------------------


def test_the_regimes_are_what_they_say():
    data = regimes(4000, 8000, random_state=0)
    assert data.kinds.tolist() == list(KINDS) * 2
    assert not data.test_noisy[data.y == 1].any() and data.y.sum() == 8 * 40
    for start, end in data.spans:
        assert data.y[start:end].all() and not data.y[start - 1] and not data.y[end] and end - start == 40
        assert np.abs(data.test[start:end]).max() < 1.2, "no value alone gives it away"
    quiet, loud = (np.abs(np.diff(data.train, 2))[mask[2:]].mean() for mask in (~data.train_noisy, data.train_noisy))
    assert loud > 10 * quiet
    same = regimes(4000, 8000, random_state=0)
    assert (same.test == data.test).all() and (regimes(4000, 8000, random_state=1).test != data.test).any()
    for start, kind in zip(data.spans[:4, 0], KINDS):
        values = data.test[start : start + 40]
        whole = np.abs(np.fft.rfft(values - values.mean()))
        assert {
            "flat": np.ptp(values) < 0.15,
            "shrunk": 0.5 < np.ptp(values) < 0.75,
            "fast": whole.argmax() == 2,
            "flipped": whole.argmax() == 1 and np.ptp(values) > 1.8,
        }[kind], kind
    with pytest.raises(InputError, match="segment"):
        regimes(segment=60)
