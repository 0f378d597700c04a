"""RobustTSF: anomaly models, losses in closed form, which samples are left out, and forecasts that come out cleaner."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import average_precision_score
from torch import nn

import assay
from assay.core.series import Series
from assay.core.validation import InputError
from assay.datasets.simulators.contamination import KINDS, contaminate, inject, seasonal
from assay.detectors.series.robust_tsf import (
    RobustTSF,
    batch_loss,
    centre_and_scale,
    epochs_of,
    forecasts,
    robust_trend,
    sample_scores,
)
from assay.kernels.trend_filter import trend_filter
from assay.metrics.series import vus
from assay.nn.state import seeded
from assay.training.robust_baselines import (
    ImputingLSTM,
    difference_weights,
    imputing_lstm,
    loss_weights,
    offline_imputation,
)

QUICK = {"forecaster": "linear", "scaling": None, "epochs": 6, "random_state": 0}


@pytest.fixture(scope="module", autouse=True)
def one_torch_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def wave():
    return np.sqrt(2) * np.sin(2 * np.pi * np.arange(400) / 50)


# -- anomaly models --------------------------------------------------------------------------------------------------


def test_anomaly_models_at_every_step(wave):
    x = np.tile(wave, 25)
    for kind in ("const", "missing", "gaussian"):
        z, clean, mask = contaminate(x, kind, 0.3, random_state=0)
        assert (clean == x).all() and (z == x)[~mask].all()
        assert mask.mean() == pytest.approx(0.3, abs=0.02)
        hit = z[mask]
        if kind == "const":
            np.testing.assert_allclose(hit - x[mask], 0.5)
        elif kind == "missing":
            assert (hit == 1e-4).all() and not np.isnan(z).any()
        else:
            assert (hit - x[mask]).std() == pytest.approx(2.0, rel=0.05)
            assert abs((hit - x[mask]).mean()) < 0.12
    assert not contaminate(x, "const", 0.0).mask.any()


@pytest.mark.parametrize("eta", [0.1, 0.6])
def test_eta_is_the_probability_of_a_level_to_go_on(eta):
    z, x, mask = contaminate(np.zeros(50_000), "seq", eta, random_state=1)
    goes_on, begins = mask[1:][mask[:-1]], mask[1:][~mask[:-1]]
    assert goes_on.mean() == pytest.approx(eta, abs=0.02) and begins.mean() == pytest.approx(0.3, abs=0.02)
    assert mask.mean() == pytest.approx(0.3 / (1.3 - eta), abs=0.02)
    inside = mask[1:] & mask[:-1]
    assert np.diff(z)[inside].std() == pytest.approx(0.01, rel=0.1)  # stuck to the level, not to x
    assert z[1:][mask[1:] & ~mask[:-1]].std() == pytest.approx(2.0, rel=0.05)


def test_channels_are_hit_by_themselves():
    for kind in KINDS:
        z, x, mask = contaminate(np.ones((5000, 2)), kind, 0.3, random_state=0)
        assert z.shape == mask.shape == (5000, 2)
        assert abs(np.corrcoef(mask.T)[0, 1]) < 0.06
        again = contaminate(np.ones((5000, 2)), kind, 0.3, random_state=0)
        assert (again.values == z).all()


def test_injection_hits_one_place_alone():
    windows, targets = np.ones((500, 16)), np.ones(500)
    hit = {place: inject(windows, targets, place, "const", 0.3, 0) for place in ("label", "front", "middle", "back")}
    columns = {place: np.flatnonzero(found.mask.any(axis=0)).tolist() for place, found in hit.items()}
    assert columns == {
        "label": [16],
        "front": [0, 1, 2, 3, 4],
        "middle": [5, 6, 7, 8, 9],
        "back": [10, 11, 12, 13, 14, 15],
    }
    assert (hit["label"].windows == 1).all() and set(hit["label"].targets) == {1.0, 1.5}
    assert (hit["back"].targets == 1).all()


def test_seasonal_series():
    x = seasonal(168 * 30, noise=0.0, random_state=3)
    assert x.mean() == pytest.approx(0, abs=1e-9) and x.std() == pytest.approx(1)
    np.testing.assert_allclose(x[168:], x[:-168], atol=1e-9)
    assert seasonal(100, channels=2, random_state=0).shape == (100, 2)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: contaminate([1.0], "salt"), "kind"),
        (lambda: contaminate([1.0], "const", 1.0), "eta"),
        (lambda: contaminate(np.zeros((2, 2, 2)), "const"), "x"),
        (lambda: inject(np.zeros((4, 6)), np.zeros(4), "end", "const"), "where"),
        (lambda: inject(np.zeros((4, 6)), np.zeros(4), "back", "seq"), "kind"),
        (lambda: inject(np.zeros((4, 2)), np.zeros(4), "back", "const"), "length"),
        (lambda: seasonal(1), "n"),
    ],
)
def test_simulators_refuse(call, named):
    with pytest.raises(InputError, match=named):
        call()


# -- losses, scores of samples -----------------------------------------------------------------------------------------


class Constant(nn.Module):
    """Forecasts one number, whatever came before."""

    def __init__(self, window, channels):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(channels))

    def forward(self, windows):
        return self.value.expand(len(windows), -1)


@pytest.mark.parametrize(
    ("kind", "clean", "squared", "absolute"),
    [("const", 0.0, 0.15, 0.0), ("missing", 1.0, 0.70, 1.0), ("gaussian", 0.0, 0.0, 0.0)],
)
def test_where_the_losses_land_under_contaminated_labels(kind, clean, squared, absolute):
    z = contaminate(np.full(6000, clean), kind, 0.3, random_state=0).values
    for method, expected, tolerance in (("mse", squared, 0.03), ("mae", absolute, 0.02), ("robust", absolute, 0.02)):
        settings = {"forecaster": Constant, "scaling": None, "batch_size": 1024, "learning_rate": 0.05}
        model = RobustTSF(method, **settings, random_state=0).fit(z)
        assert model.network_["value"][0] == pytest.approx(expected, abs=tolerance)


def test_the_loss_is_the_mean_over_all_samples():
    forecast, target = torch.zeros(4, 1), torch.tensor([[1.0], [-3.0], [100.0], [100.0]])
    keep = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    assert float(batch_loss(forecast, target, keep, squared=False)) == 1.0  # not 2, the mean over what is kept
    assert float(batch_loss(forecast, target, keep, squared=True)) == 2.5


def test_the_score_of_a_sample_is_its_windows_end():
    deviations = np.zeros((10, 1))
    deviations[5], deviations[6] = 3.0, 1.0
    starts = np.arange(6)  # windows of 4: the last steps are 3 .. 8

    def scored(lay_back, weighting):
        return sample_scores(deviations, starts, 4, lay_back, weighting)[:, 0]

    assert scored(1, "dirac").tolist() == [0, 0, 3, 1, 0, 0]
    assert scored(2, "dirac").tolist() == [0, 0, 3, 4, 1, 0]
    np.testing.assert_allclose(
        scored(3, "exponential"), [0, 0, 3, 1 + 3 / np.e, 3 * np.exp(-4) + np.exp(-1), np.exp(-4)]
    )


def test_samples_that_end_on_an_anomaly_are_left_out_and_its_label_is_not(wave):
    wave[[100, 200, 300]] += 4
    model = RobustTSF(**QUICK).fit(wave)
    assert model.targets_.tolist() == list(range(16, 400))
    assert model.targets_[~model.kept_[:, 0]].tolist() == [101, 201, 301]
    assert RobustTSF(**QUICK | {"lay_back": 2}).fit(wave).kept_.sum() == model.kept_.sum() - 3
    assert RobustTSF("mae", **QUICK).fit(wave).kept_.all()
    deviation = np.abs(wave - trend_filter(wave, 3.0, 1 / np.sqrt(1 + (0.01 * np.median(np.abs(wave))) ** 2)))
    np.testing.assert_allclose(model.sample_scores_[:, 0], deviation[15:-1], atol=1e-9)


def test_channels_are_weighed_by_themselves(wave):
    X = np.column_stack([wave, -wave, np.full(400, 3.0)])
    X[100, 0] += 4
    model = RobustTSF(**QUICK | {"scaling": "robust"}).fit(X)
    assert [model.targets_[~kept].tolist() for kept in model.kept_.T] == [[101], [], []]
    np.testing.assert_allclose(model.trend(X)[100], [wave[100], -wave[100], 3.0], atol=0.1)
    scores = model.anomaly_score(X)
    assert np.isfinite(scores).all() and scores.shape == (400,)


def test_scales():
    values = np.column_stack([np.r_[np.arange(9.0), 1e6], np.full(10, 3.0), np.r_[np.zeros(9), 1.0]])
    centre, scale = centre_and_scale(values, "robust")
    np.testing.assert_allclose(centre, [4.5, 3.0, 0.0])
    np.testing.assert_allclose(scale, [1.4826 * 2.5, 1.0, 0.3])
    np.testing.assert_allclose(centre_and_scale(values, "standard")[1], [values[:, 0].std(), 1.0, 0.3])
    assert [part.tolist() for part in centre_and_scale(values, None)] == [[0, 0, 0], [1, 1, 1]]


# -- the system --------------------------------------------------------------------------------------------------------


def test_anomalies_hurt_most_at_the_windows_end():
    windows = np.lib.stride_tricks.sliding_window_view(seasonal(1400, random_state=0), 17)
    train, test, errors = windows[:900], windows[950:], {}
    for place in ("front", "middle", "back"):
        hit = inject(train[:, :-1], train[:, -1], place, "missing", 0.3, random_state=1)
        z, rng = np.column_stack([hit.windows, hit.targets]).reshape(-1, 1), np.random.default_rng(0)
        settings = {"squared": False, "epochs": 20, "batch_size": 128, "learning_rate": 0.01, "rng": rng}
        with seeded(rng):
            network = RobustTSF().build(1)
            list(epochs_of(network, z, 17 * np.arange(900), np.ones((900, 1)), 16, **settings))
        errors[place] = np.abs(forecasts(network, test[:, :-1, None])[:, 0] - test[:, -1]).mean()
    assert errors["back"] > 1.05 * max(errors["front"], errors["middle"])


@pytest.fixture(scope="module")
def trained():
    """Return the clean test series, and for what the series is contaminated with the model of each method."""
    # Without noise: with it, selection does not always beat absolute error (results/robust_tsf.md).
    x = seasonal(2100, noise=0.0, random_state=0)
    models = {}
    for eta, methods in ((0.3, ("robust", "mae", "mse")), (0.0, ("robust", "mae"))):
        z = contaminate(x[:1500], "missing", eta, random_state=100).values
        for method in methods:
            model = RobustTSF(method, scaling=None, validation=x[1500:1700], random_state=0)
            models[eta, method] = model.fit(z)
    return x[1700:], models


def clean_error(model, test):
    return np.abs(model.forecast(test)[16:, 0] - test[16:]).mean()


def test_selection_beats_absolute_error_beats_squared_error(trained):
    test, models = trained
    robust, mae, mse = (clean_error(models[0.3, method], test) for method in ("robust", "mae", "mse"))
    assert robust < 0.9 * mae < 0.9 * mse


def test_good_data_are_not_thrown_away(trained):
    test, models = trained
    assert models[0.0, "robust"].kept_.mean() > 0.95
    assert clean_error(models[0.0, "robust"], test) < 1.1 * clean_error(models[0.0, "mae"], test)


def test_it_detects_better_than_a_plain_model(trained):
    test, models = trained
    spoilt = contaminate(test, "missing", 0.05, random_state=7)
    y = (np.abs(spoilt.values - spoilt.clean) > 0.3).astype(int)
    volume = {
        method: vus(y, models[0.3, method].anomaly_score(spoilt.values), max_buffer=8).pr
        for method in ("robust", "mse")
    }
    assert volume["robust"] > volume["mse"] + 0.05


def test_the_clean_series_chooses_the_epoch(wave):
    train, clean = contaminate(np.tile(wave, 2), "gaussian", 0.3, random_state=0).values, wave
    settings = QUICK | {"learning_rate": 0.3, "epochs": 9}  # too fast: the error jumps from epoch to epoch
    errors = [
        np.abs(RobustTSF(**settings).fit(train).forecast(clean)[16:, 0] - clean[16:]).mean(),
        np.abs(RobustTSF(**settings, validation=clean).fit(train).forecast(clean)[16:, 0] - clean[16:]).mean(),
    ]
    chosen = RobustTSF(**settings, validation=clean).fit(train)
    assert errors[1] < errors[0] and 0 <= chosen.epoch_ < 8
    assert RobustTSF(**settings).fit(train).epoch_ == 8


def test_a_score_reaches_back_only(wave):
    model = RobustTSF(**QUICK, window=8).fit(wave)
    assert model.reach == (8, 0)
    scores, changed = model.anomaly_score(wave), wave.copy()
    changed[200] += 3
    again = model.anomaly_score(changed)
    assert np.flatnonzero(np.abs(again - scores) > 1e-9)[[0, -1]].tolist() == [200, 208]
    np.testing.assert_allclose(model.anomaly_score(wave[92:150])[8:], scores[100:150], rtol=1e-5)


def test_the_first_steps_follow_the_first_value(wave):
    model = RobustTSF(**QUICK, window=8).fit(wave)
    before = np.r_[np.full(8, wave[40]), wave[40:60]]
    np.testing.assert_allclose(model.anomaly_score(wave[40:60]), model.anomaly_score(before)[8:], rtol=1e-5)
    assert model.anomaly_score(wave[:1]).shape == (1,)


def test_a_score_is_the_residual_in_units_of_training(wave):
    X = np.column_stack([wave, 50 + 9 * np.roll(wave, 7)]) + np.random.default_rng(0).normal(size=(400, 2)) * [0.1, 0.9]
    X[::4] += [3, 30]
    model = RobustTSF(**QUICK | {"scaling": "robust"}).fit(X)
    residual = np.abs(X - model.forecast(X)) / (model.scale_ * model.unit_)
    np.testing.assert_allclose(model.anomaly_score(X), residual.mean(axis=1), rtol=1e-6)
    kept = np.where(model.kept_, residual[model.targets_], np.nan)
    np.testing.assert_allclose(np.nanmedian(kept, axis=0), 1.0, rtol=1e-5)


def test_missing_steps_gaps_and_labels_teach_nothing(wave):
    wave[100] = np.nan
    y = np.zeros(400, dtype=int)
    y[200] = 1
    time = np.datetime64("2024-01-01", "ns") + np.arange(400) * np.timedelta64(1, "h")
    time[300:] += np.timedelta64(9, "h")
    model = RobustTSF(**QUICK).fit(Series(wave[:, None], time), y)
    gone = [*range(100, 117), *range(200, 217), *range(300, 316)]
    assert sorted(set(range(16, 400)) - set(model.targets_.tolist())) == gone
    scores = model.anomaly_score(wave)
    assert np.isnan(scores[100]) and np.isfinite(np.delete(scores, 100)).all()


def test_weights_leave_samples_out(wave):
    wave[100:140] = 9.0
    weights = np.ones(400)
    weights[100:160] = 0.0
    model = RobustTSF("mae", **QUICK).fit(wave, sample_weight=weights)
    assert model.targets_[~model.kept_[:, 0]].tolist() == list(range(100, 160))
    ones = RobustTSF("mae", **QUICK).fit(wave, sample_weight=np.ones(400))
    plain = RobustTSF("mae", **QUICK).fit(wave)
    assert (ones.network_["1.weight"] == plain.network_["1.weight"]).all()
    assert (model.network_["1.weight"] != plain.network_["1.weight"]).any()


@pytest.mark.parametrize("forecaster", ["lstm", "linear"])
def test_saved_seeded_and_refitted(forecaster, wave, tmp_path):
    settings = QUICK | {"forecaster": forecaster, "epochs": 2, "validation": wave[:100]}
    before = torch.random.get_rng_state()
    model, again = RobustTSF(**settings).fit(wave), RobustTSF(**settings).fit(wave[::-1]).fit(wave)
    assert (torch.random.get_rng_state() == before).all()
    assert (model.anomaly_score(wave) == again.anomaly_score(wave)).all()
    assert (clone(model).fit(wave).anomaly_score(wave) == again.anomaly_score(wave)).all()
    if any(entry.path.endswith(":RobustTSF") for entry in assay.catalogue.SYSTEMS):
        assay.save(model, tmp_path / "model")
        assert (assay.load(tmp_path / "model").anomaly_score(wave) == model.anomaly_score(wave)).all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"method": "best"}, "method"),
        ({"forecaster": "gru"}, "forecaster"),
        ({"lay_back": 17}, "lay_back"),
        ({"tau": -1}, "tau"),
        ({"tau": 0.0}, "tau"),
        ({"penalty": 0.0}, "penalty"),
        ({"validation": np.zeros(9)}, "validation"),
        ({"validation": np.zeros((99, 2))}, "validation"),
        ({"window": 500}, "X"),
    ],
)
def test_senseless_parameters(settings, named):
    with pytest.raises(InputError, match=named):
        RobustTSF(**QUICK | settings).fit(np.random.default_rng(0).normal(size=200))


# -- other remedies ----------------------------------------------------------------------------------------------------


def test_offline_imputation_replaces_in_order(wave):
    clean = wave.copy()
    wave[100:103] += 3  # the second and third forecast see the replaced values
    wave[200] = np.nan
    plain = RobustTSF("mae", **QUICK | {"epochs": 40})
    found = offline_imputation(wave, plain)
    assert np.flatnonzero(found.replaced).tolist() == [100, 101, 102]
    np.testing.assert_allclose(found.values[100:103, 0], clean[100:103], atol=0.3)
    assert np.isnan(found.values[200, 0]) and not hasattr(plain, "network_")


def test_online_imputation_reads_its_own_forecasts():
    with seeded(np.random.default_rng(0)):
        network = ImputingLSTM(1, 4, 2, threshold=0.0)
    windows = torch.randn(3, 8, 1, generator=torch.Generator().manual_seed(0))
    # Nothing but the first step is ever read at a threshold of 0; everything is at a large one.
    other = torch.cat([windows[:, :1], windows[:, 1:] + 5], dim=1)
    torch.testing.assert_close(network(windows), network(other))
    network.threshold = 1e9
    assert (network(windows) != network(other)).all()
    by_torch = nn.LSTM(1, 4, 2, batch_first=True)
    state = {
        f"{name}_l{layer}": array
        for layer, cell in enumerate(network.cells)
        for name, array in cell.state_dict().items()
    }
    by_torch.load_state_dict(state)
    torch.testing.assert_close(network(windows), network.head(by_torch(windows)[0][:, -1]))
    with pytest.raises(InputError, match="threshold"):
        imputing_lstm(threshold=-1)


def test_selection_by_loss_drops_the_share_of_either_reason(wave):
    z = contaminate(wave, "gaussian", 0.1, random_state=0)
    weights = loss_weights(z.values, RobustTSF("mae", **QUICK), eta=0.1)
    dropped = weights == 0
    assert 38 <= dropped.sum() <= 2 * 38 and not dropped[:16].any()
    assert z.mask[dropped].mean() > 2 * z.mask.mean()
    assert (loss_weights(z.values, RobustTSF("mae", **QUICK), eta=0.0) == 1).all()


def test_differences_see_the_past_only():
    x = np.zeros((60, 1))
    x[30] = 1.0
    assert np.flatnonzero(difference_weights(x, None, width=4, tau=0.5) == 0).tolist() == [31]
    assert np.flatnonzero(difference_weights(x, None, width=2, tau=0.4) == 0).tolist() == [31, 32, 33]


def test_trend_filters_each_channel_with_its_weight():
    z = contaminate(np.zeros((200, 2)), "gaussian", 0.3, random_state=0).values + np.array([0.0, 80.0])
    trend = robust_trend(z)
    for channel in range(2):
        weight = 1 / np.sqrt(1 + (0.01 * np.median(np.abs(z[:, channel]))) ** 2)
        np.testing.assert_allclose(trend[:, channel], trend_filter(z[:, channel].copy(), 3.0, weight))
    assert average_precision_score(np.abs(z[:, 0]) > 0.3, np.abs(z - trend)[:, 0]) > 0.99
