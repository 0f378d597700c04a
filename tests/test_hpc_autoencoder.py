"""HPC autoencoder, fleets of it, and the simulated fleet: exact parts, what it must find, and the study's pitfalls."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import assay
from assay.calibration.false_alarm_rate import FalseAlarmRate
from assay.calibration.quantile import Quantile
from assay.core.series import Series
from assay.core.validation import InputError
from assay.datasets.simulators.fleet import fleet
from assay.detectors.series import hpc_autoencoder
from assay.detectors.series.fleet import Fleet
from assay.detectors.series.hpc_autoencoder import (
    CACHE,
    HPCAutoencoder,
    Task,
    fit_together,
    gradients,
    initial,
    power_mean,
    train,
)
from assay.detectors.series.moving_average import MovingAverageResidual

QUICK = {"epochs": 3, "width": 3, "random_state": 0}


@pytest.fixture(scope="module")
def drawn():
    """Return a simulated fleet of three nodes."""
    return fleet(n_nodes=3, n_days=30, n_sensors=20, random_state=0)


@pytest.fixture(scope="module")
def table(drawn):
    return pd.DataFrame(drawn.columns())


def util(names):
    return [name for name in names if name.startswith("util")]


@pytest.fixture(scope="module")
def learned(drawn, table):
    """Return a fleet fitted with the defaults on the healthy part."""
    base = HPCAutoencoder(utilisation=util(drawn.names))
    return Fleet(base, random_state=0).fit(table, healthy=~drawn.test)


def small(n_nodes=3, n_days=5, seed=0):
    """Return a small healthy fleet as a dataframe."""
    return pd.DataFrame(fleet(n_nodes, n_days, 6, test_share=0, random_state=seed).columns())


def quick(**parameters):
    return Fleet(HPCAutoencoder(**QUICK), **{"random_state": 0} | parameters)


def judged(drawn, node, kinds=("powersave", "performance")):
    """Return which rows of a node count: those of the test part whose truth is known."""
    chosen = (drawn.kind == "healthy") | np.isin(drawn.kind, kinds)
    return (drawn.node == node) & drawn.test & (drawn.y >= 0) & ~drawn.idle & chosen


# -- the network -----------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_the_loss():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    shapes = ((2, 4, 7), (2, 1, 7), (2, 7, 4), (2, 1, 4))
    weights = [rng.normal(size=shape) for shape in shapes]
    x, share, penalty = rng.random((2, 5, 4)), rng.random((2, 5, 4)), rng.random((2, 5, 1))
    W, b, V, c = leaves = [torch.tensor(array, requires_grad=True) for array in weights]
    h = torch.relu(torch.tensor(x) @ W + b)
    loss = (torch.tensor(share) * (h @ V + c - torch.tensor(x)).abs()).sum() + (torch.tensor(penalty) * h).sum()
    loss.backward()
    for ours, leaf in zip(gradients(weights, x, share, penalty), leaves):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-9)


def test_training_is_adam_on_mean_absolute_error_and_summed_activity(monkeypatch):
    """Holds the whole loop, last small batch included, to torch's on the same batches."""
    torch = pytest.importorskip("torch")
    # Torch adds its epsilon after the correction of the bias, Keras before: without one they are the same.
    monkeypatch.setattr(hpc_autoencoder, "EPSILON", 1e-12)
    rng = np.random.default_rng(1)
    rows, measured = rng.random((150, 5)).astype(np.float32), (rng.random((150, 5)) > 0.1).astype(np.float32)
    weights = initial(5, 50, rng)
    ours = train([Task(rows, measured, weights, np.random.default_rng(2))], 4, 64, 1e-3, 1e-3)[0]
    W, b, V, c = leaves = [torch.tensor(array.copy(), requires_grad=True) for array in weights.values()]
    adam, draw = torch.optim.Adam(leaves, lr=1e-3, eps=1e-12), np.random.default_rng(2)
    for _ in range(4):
        order = draw.permutation(150)
        for chosen in (order[:64], order[64:128], order[128:]):
            x, there = torch.tensor(rows[chosen]), torch.tensor(measured[chosen])
            h = torch.relu(x @ W + b)
            loss = ((h @ V + c - x).abs() * there).mean() + 1e-3 * h.sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
    for name, leaf in zip(weights, leaves):
        np.testing.assert_allclose(ours[name], leaf.detach().numpy(), atol=1e-6)
        assert np.abs(ours[name] - weights[name]).max() > 1e-3


def test_a_stack_learns_what_each_network_learns_alone():
    # Of different lengths: some end early, and their last batches are of different sizes.
    lengths = (70, 300, 10, 128)

    def tasks():
        draw = np.random.default_rng(5)
        return [
            Task(
                draw.random((n, 6)).astype(np.float32),
                np.ones((n, 6), dtype=np.float32),
                initial(6, 20, draw),
                np.random.default_rng(n),
            )
            for n in lengths
        ]

    together = train(tasks(), 5, 64, 1e-2, 1e-5)
    for one, stacked in zip(tasks(), together):
        alone = train([one], 5, 64, 1e-2, 1e-5)[0]
        for name in alone:
            np.testing.assert_allclose(stacked[name], alone[name], atol=1e-6)
    before = tasks()
    train(before, 1, 64, 1e-2, 1e-5)
    assert all((a.weights[name] == b.weights[name]).all() for a, b in zip(before, tasks()) for name in a.weights)


def test_models_fitted_together_are_those_fitted_alone():
    rng = np.random.default_rng(0)
    # More models than one stack takes, of two widths.
    assert CACHE // (3 * 3 * 64) < 150
    tables = [rng.random((40, 3 if i % 2 else 4)) for i in range(300)]
    parameters = {"width": 3, "epochs": 1}
    together = [HPCAutoencoder(**parameters, random_state=i) for i in range(300)]
    fit_together(together, tables, [None] * 300)
    for i in (0, 1, 298, 299):
        alone = HPCAutoencoder(**parameters, random_state=i).fit(tables[i])
        np.testing.assert_allclose(together[i].anomaly_score(tables[i]), alone.anomaly_score(tables[i]), rtol=1e-4)


def test_power_means():
    errors = np.array([[1.0, 3.0, np.nan], [0.0, 0.0, 0.0], [np.nan] * 3, [1e200, 1e200, np.nan]])
    np.testing.assert_allclose(power_mean(errors, np.inf), [3, 0, np.nan, 1e200])
    np.testing.assert_allclose(power_mean(errors, 1), [2, 0, np.nan, 1e200])
    np.testing.assert_allclose(power_mean(errors, 2), [np.sqrt(5), 0, np.nan, 1e200])


# -- one node --------------------------------------------------------------------------------------------------------


def test_the_scale_never_sees_an_anomaly():
    """The published code scales with the extremes of all rows, known anomalies and test rows included."""
    rng = np.random.default_rng(0)
    series = rng.random((200, 3))
    spoilt, known = series.copy(), np.zeros(200, dtype=int)
    spoilt[50:60], known[50:60] = 1000.0, 1
    model = HPCAutoencoder(**QUICK).fit(spoilt, known)
    assert (model.low_ + model.scale_ <= 1).all()
    alone = HPCAutoencoder(**QUICK).fit(np.delete(series, np.s_[50:60], axis=0))
    np.testing.assert_allclose(model.low_, alone.low_)
    np.testing.assert_allclose(model.scale_, alone.scale_)
    before = model.scale_.copy()
    assert model.anomaly_score(spoilt)[50:60].min() > 100
    assert (model.scale_ == before).all()


def test_idle_rows_teach_nothing_and_are_not_judged():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(20, 90, size=(300, 4)), columns=["a", "u", "b", "v"])
    frame.loc[::3, ["u", "v"]] = 4.9  # together below 10
    model = HPCAutoencoder(**QUICK, utilisation=["u", "v"]).fit(frame)
    assert model.utilisation_.tolist() == [1, 3] and model.low_[1] > 10
    scores, errors = model.locate(frame)
    assert (np.isnan(scores) == (np.arange(300) % 3 == 0)).all()
    assert (np.isnan(errors).all(axis=1) == np.isnan(scores)).all()
    np.testing.assert_allclose(scores, model.anomaly_score(frame))
    moved = frame.copy()
    moved.loc[::3, ["a", "b"]] = rng.normal(size=(100, 2))
    again = HPCAutoencoder(**QUICK, utilisation=[1, 3]).fit(moved)
    assert all((again.weights_[name] == model.weights_[name]).all() for name in model.weights_)
    kept = HPCAutoencoder(**QUICK).fit(frame)
    assert np.isfinite(kept.anomaly_score(frame)).all()
    for wrong, message in ((["w"], "no sensor 'w'"), ([4], "no sensor 4"), ("u", "list of sensors"), ([], "list")):
        with pytest.raises(InputError, match=f"utilisation.*{message}"):
            HPCAutoencoder(**QUICK, utilisation=wrong).fit(frame)
    with pytest.raises(InputError, match="idle_below=1000"):
        HPCAutoencoder(**QUICK, utilisation=["u", "v"], idle_below=1000.0).fit(frame)


def test_what_was_not_measured_teaches_nothing_and_has_no_place_on_the_map():
    rng = np.random.default_rng(0)
    series = rng.random((200, 3))
    series[100:, 2] = np.nan
    # The last value is carried on: it must not teach that the sensor stands still.
    model = HPCAutoencoder(**QUICK | {"epochs": 0}).fit(series)
    task = model._task(Series(series).filled(model.fill_), Series(series), np.random.default_rng(0))
    assert (task.measured == ~np.isnan(series)).all() and task.rows[100:, 2].std() == 0
    found = gradients(
        [array[None] for array in task.weights.values()], task.rows[None], task.measured[None], np.zeros((1, 200, 1))
    )
    first_half = gradients(
        [array[None] for array in task.weights.values()],
        task.rows[None, :100],
        task.measured[None, :100],
        np.zeros((1, 100, 1)),
    )
    np.testing.assert_allclose(found[3][0, 0, 2], first_half[3][0, 0, 2])
    errors = model.anomaly_map(series)
    assert (np.isnan(errors) == np.isnan(series)).all()


def test_a_constant_sensor_that_moves_is_news():
    rng = np.random.default_rng(0)
    series = np.column_stack([rng.random((300, 2)), np.full(300, 7.0)])
    model = HPCAutoencoder(epochs=20, random_state=0).fit(series)
    moved = series.copy()
    moved[10, 2] = 9.0
    scores, errors = model.locate(moved)
    assert np.argmax(scores) == 10 and np.argmax(errors[10]) == 2 and errors[10, 2] > 1


def test_max_finds_what_few_sensors_show():
    """The published reason for the maximum: two of 40 sensors deviate. The mean drowns them."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(5, 40))
    draw = lambda n: np.tanh(rng.random((n, 5)) @ mix) + rng.normal(scale=0.03, size=(n, 40))  # noqa: E731
    normal, test = draw(2000), draw(400)
    where = np.stack([rng.choice(40, 2, replace=False) for _ in range(200)])
    scale = normal.std(axis=0)
    for row, two in enumerate(where):
        test[row, two] += 0.7 * scale[two] * rng.choice([-1, 1], 2)
    model = HPCAutoencoder(random_state=0).fit(normal)
    scores, errors = model.locate(test)
    labels = np.arange(400) < 200
    largest, mean = roc_auc_score(labels, scores), roc_auc_score(labels, power_mean(errors, 1))
    assert largest > mean + 0.03 and largest > 0.9
    top = np.argsort(-errors[:200], axis=1)[:, :3]
    assert np.mean([len({*a} & {*b}) > 0 for a, b in zip(top, where)]) >= 0.8
    ordered = HPCAutoencoder(random_state=0, p=1).fit(normal).anomaly_score(test)
    np.testing.assert_allclose(ordered, power_mean(errors, 1))


# -- what it must find -----------------------------------------------------------------------------------------------


def test_a_wrong_governor_is_found_though_no_sensor_leaves_its_range(drawn, table, learned):
    """Neither kind was seen in training; the farthest sensor in deviations from its mean knows nothing."""
    scores = learned.score(table)
    for node in np.unique(drawn.node):
        busy = (drawn.node == node) & ~drawn.test & ~drawn.idle
        mean, deviation = drawn.values[busy].mean(axis=0), drawn.values[busy].std(axis=0)
        for least, kinds in (0.95, ("powersave", "performance")), (0.9, ("powersave",)), (0.9, ("performance",)):
            rows = judged(drawn, node, kinds)
            far = np.abs((drawn.values[rows] - mean) / deviation).max(axis=1)
            assert roc_auc_score(drawn.y[rows], scores[rows]) > least
            assert roc_auc_score(drawn.y[rows], far) < 0.65


def test_one_network_for_all_nodes_is_worse(drawn, table, learned):
    # As many steps as a node's own: three times the rows, a third of the epochs.
    everyone = HPCAutoencoder(utilisation=util(drawn.names), epochs=3, random_state=0)
    everyone.fit(Series(drawn.values[~drawn.test], None, drawn.names))
    scores = learned.score(table)
    own, shared = [], []
    for node in np.unique(drawn.node):
        rows = judged(drawn, node)
        own.append(roc_auc_score(drawn.y[rows], scores[rows]))
        shared.append(
            roc_auc_score(drawn.y[rows], everyone.anomaly_score(Series(drawn.values[rows], None, drawn.names)))
        )
    assert np.mean(own) > np.mean(shared) + 0.03


def test_it_is_no_identity_and_the_penalty_holds_it_back(drawn):
    chosen = (drawn.node == "node_00") & ~drawn.idle
    normal = drawn.values[chosen & ~drawn.test]
    fresh = drawn.values[chosen & drawn.test & (drawn.kind == "healthy")]
    rng = np.random.default_rng(0)
    mixed = np.column_stack([rng.permutation(column) for column in fresh.T])
    rows = judged(drawn, "node_00")
    auroc = {}
    for name, parameters in {
        "default": {},
        "long": {"epochs": 60},
        "long, no penalty": {"epochs": 60, "l1": 0.0},
        "untrained": {"epochs": 0},
    }.items():
        model = HPCAutoencoder(random_state=0, **parameters).fit(normal)
        auroc[name] = roc_auc_score(drawn.y[rows], model.anomaly_score(drawn.values[rows]))
        if name == "default":
            assert model.anomaly_map(fresh).mean() < 0.3 * model.anomaly_map(mixed).mean()
    assert auroc["default"] > 0.95 and auroc["default"] > auroc["long, no penalty"] + 0.1
    assert auroc["long"] > auroc["long, no penalty"] + 0.03
    assert auroc["untrained"] < 0.7


# -- fleets ----------------------------------------------------------------------------------------------------------


def test_scores_belong_to_their_rows(table, learned):
    """The published study drops some anomalous rows but not their predictions: errors of other rows are compared."""
    scores = learned.score(table)
    chosen = np.random.default_rng(0).permutation(len(table))[: len(table) // 3]
    np.testing.assert_array_equal(learned.score(table.iloc[chosen]), scores[chosen])
    one = table[table["node"] == "node_01"]
    np.testing.assert_array_equal(learned.score(one.iloc[::-1])[::-1], scores[(table["node"] == "node_01").to_numpy()])
    np.testing.assert_array_equal(learned.score(pl.from_pandas(table)), scores)
    row = int(np.flatnonzero(~np.isnan(scores))[0])
    np.testing.assert_allclose(learned.score(table.iloc[[row]]), scores[row])
    np.testing.assert_array_equal(learned.predict(table)[np.isnan(scores)], 0)
    assert (np.isnan(scores) == learned_idle(table)).all()


def learned_idle(table):
    return (table[util(table.columns)].sum(axis=1) < 10).to_numpy()


def test_the_threshold_never_sees_an_anomaly(drawn, table):
    base = HPCAutoencoder(utilisation=util(drawn.names), **QUICK)
    model = Fleet(base, random_state=0).fit(table, healthy=drawn.kind == "healthy")
    wild = table.copy()
    wild.loc[drawn.kind != "healthy", drawn.names] *= 3
    again = Fleet(base, random_state=0).fit(wild, healthy=drawn.kind == "healthy")
    assert again.thresholds_ == model.thresholds_
    assert (again.score(table)[~drawn.idle] == model.score(table)[~drawn.idle]).all()
    blind = Fleet(base, random_state=0).fit(wild)
    assert all(blind.thresholds_[node] != model.thresholds_[node] for node in model.thresholds_)


def test_thresholds_come_from_whole_days_that_taught_nothing(drawn, table):
    one = table[table["node"] == "node_00"].copy()
    model = quick(percentile=90, holdout=0.25).fit(one)
    held = model.held_out_["node_00"]
    assert len(held) == 7 * 288  # of 30 days, every fourth
    assert Quantile(0.1).fit(held).threshold_ == model.thresholds_["node_00"]
    assert FalseAlarmRate(0.01).fit(held).threshold_ >= np.quantile(held, 0.99)
    day = np.arange(len(one)) // 288
    spoilt = one.copy()
    spoilt.loc[np.isin(day, (3, 7)), drawn.names] += 5.0
    moved = quick(percentile=90, holdout=0.25).fit(spoilt)
    weights, before = (each.detectors_["node_00"].weights_ for each in (moved, model))
    assert all((weights[name] == before[name]).all() for name in weights)
    assert moved.thresholds_["node_00"] > model.thresholds_["node_00"]
    few = quick(holdout=0.3).fit(one[:500])  # two days: parts of the rows instead
    assert len(few.held_out_["node_00"]) == 150


def test_the_alarm_rate_is_what_the_percentile_says():
    """Independent rows: at 99, one in a hundred fresh ones."""
    rng = np.random.default_rng(0)

    def draw(n):
        load = rng.random(n)
        values = np.column_stack([load, load**2, 1 - load]) + rng.normal(scale=0.05, size=(n, 3))
        return pd.DataFrame(values, columns=["a", "b", "c"]).assign(
            node=1, ts=np.datetime64("2024-01-01", "ns") + np.arange(n) * np.timedelta64(300, "s")
        )

    model = quick(holdout=0.5).fit(draw(20_000))
    rate = model.predict(draw(20_000)).mean()
    # Of 10,000 held-out rows: the threshold's own rate scatters by .1 %, and so does what 20,000 rows show.
    assert abs(rate - 0.01) < 5 * np.hypot(np.sqrt(0.01 * 0.99 / 10_000), np.sqrt(0.01 * 0.99 / 20_000))


def test_a_machine_does_not_depend_on_the_others():
    frame = small()
    everyone = quick().fit(frame)
    alone = quick().fit(frame[frame["node"] == "node_01"])
    assert alone.thresholds_["node_01"] == pytest.approx(everyone.thresholds_["node_01"], rel=1e-5)
    seeds = {detector.random_state for detector in everyone.detectors_.values()}
    assert len(seeds) == 3
    shuffled = quick().fit(frame.sample(frac=1.0, random_state=0))
    assert shuffled.thresholds_ == everyone.thresholds_


def test_one_machine_is_trained_anew_or_added():
    frame, other = small(), small(1, seed=9)
    model = quick().fit(frame[frame["node"] != "node_02"])
    before = dict(model.thresholds_)
    with pytest.raises(InputError, match="'node_02' was not fitted; add it with refit"):
        model.score(frame)
    model.refit("node_02", frame)
    assert sorted(model.thresholds_) == ["node_00", "node_01", "node_02"]
    assert {name: model.thresholds_[name] for name in before} == before
    assert model.thresholds_["node_02"] == pytest.approx(quick().fit(frame).thresholds_["node_02"], rel=1e-5)
    model.refit("node_00", other.drop(columns="node"))
    assert model.thresholds_["node_00"] != before["node_00"] and model.thresholds_["node_01"] == before["node_01"]
    wide = other.assign(node="new", spare=1.0)
    model.refit("new", wide)
    assert "spare" in model.sensors_["new"] and np.isfinite(model.score(wide)).all()
    with pytest.raises(InputError, match="no row of 'node_09'"):
        model.refit("node_09", frame)
    with pytest.raises(NotFittedError):
        quick().refit("node_00", frame)


def test_maintenance_teaches_nothing():
    frame = small(2, 8)
    times = frame["ts"]
    window = ("node_00", times[288], np.datetime64("2024-03-02T12:00"))
    inside = (frame["node"] == "node_00") & (times >= window[1]) & (times <= window[2])
    assert inside.sum() == 145
    spoilt = frame.copy()
    spoilt.loc[inside, "freq_0"] = 1e6
    model = quick().fit(spoilt, maintenance=[window])
    expected = quick().fit(frame, healthy=(~inside).to_numpy())
    assert model.thresholds_ == expected.thresholds_
    assert model.detectors_["node_00"].scale_.max() < 1e5
    everyone = quick().fit(spoilt, maintenance=[(None, *window[1:])])
    assert len(everyone.held_out_["node_01"]) <= len(model.held_out_["node_01"])
    assert quick().fit(spoilt).detectors_["node_00"].scale_.max() > 1e5
    # A step is healthy if all of its rows are.
    twice = pd.concat([frame, spoilt.assign(ts=times + pd.Timedelta(1, "s"))])
    half = quick().fit(twice, healthy=np.concatenate([np.ones(len(frame), dtype=bool), ~inside]))
    assert half.thresholds_ == pytest.approx(expected.thresholds_, rel=1e-3)
    for wrong in ([("node_00", "x", "y")], ["node_00"], [("node_00", 1)]):
        with pytest.raises(InputError, match="maintenance holds"):
            quick().fit(frame, maintenance=wrong)


def test_clocks_that_differ_meet_in_one_step():
    frame = small(1)
    sensors = [name for name in frame.columns if name not in ("node", "ts")]
    late = ["freq_0", "fan_0"]
    first, second = frame.copy(), frame.copy()
    first[late] = np.nan
    second[[name for name in sensors if name not in late]] = np.nan
    expected = quick().fit(frame)
    for seconds in (1, -1):
        apart = pd.concat([first, second.assign(ts=second["ts"] + pd.Timedelta(seconds, "s"))])
        merged = quick().fit(apart)
        np.testing.assert_array_equal(merged.score(apart)[: len(frame)], expected.score(frame))
    hour = pd.concat([first, second.assign(ts=second["ts"] + pd.Timedelta(1, "h"))])
    right = quick(late=dict.fromkeys(late, 3600)).fit(hour)
    assert right.thresholds_ == expected.thresholds_
    np.testing.assert_array_equal(right.score(hour)[: len(frame)], expected.score(frame))
    assert quick().fit(hour).thresholds_ != expected.thresholds_
    # Finer rows are averaged.
    fine = pd.concat([frame.assign(**{name: frame[name] + change for name in sensors}) for change in (-0.1, 0.1)])
    np.testing.assert_allclose(quick().fit(fine).score(fine)[: len(frame)], expected.score(frame), rtol=1e-3)


def test_a_missing_sensor_counts_for_a_few_steps_only():
    frame = small(1)
    model = quick(max_gap=3).fit(frame)
    holes = frame.copy()
    holes.loc[300:309, "freq_0"] = np.nan
    holes.loc[400:409, frame.columns.drop(["node", "ts"])] = np.nan
    scores = model.score(holes)
    where = model.explain(holes, top=6)
    assert np.isnan(scores[400:410]).all() and np.isfinite(np.delete(scores, np.s_[400:410])).all()
    shown = (where.sensors == "freq_0").any(axis=1)
    assert shown[295:303].all() and not shown[303:310].any() and shown[310:400].all()
    assert (where.sensors[300] != "").all() and (where.sensors[303] != "").sum() == 5
    np.testing.assert_allclose(np.nanmax(where.errors[303]), scores[303])
    # What stands still at an odd value counts for three steps, and no longer.
    holes.loc[299, "freq_0"] += 500
    scores, alone = model.score(holes), model.detectors_["node_00"].anomaly_score(holes[model.sensors_["node_00"]])
    assert scores[299:303].min() > 1.5 * scores[303:310].max()
    np.testing.assert_allclose(scores[299], alone[299])
    assert (alone[303:310] > 1.5 * scores[303:310]).all()
    # A sensor that a machine does not have is no input of its network.
    two = small(2)
    two.loc[two["node"] == "node_01", "fan_0"] = np.nan
    model = quick().fit(two)
    assert "fan_0" in model.sensors_["node_00"] and "fan_0" not in model.sensors_["node_01"]
    assert np.isfinite(model.score(two)).all()


def test_the_odd_sensors_are_named():
    frame = small(2)
    model = quick().fit(frame)
    odd = frame.copy()
    odd.loc[100, "freq_0"] += 500
    odd.loc[1700, "fan_0"] -= 500
    told = model.explain(odd, top=2)
    assert told.sensors.shape == told.errors.shape == (len(frame), 2)
    assert told.sensors[100, 0] == "freq_0" and told.sensors[1700, 0] == "fan_0"
    assert (told.errors[:, 0] >= told.errors[:, 1]).all()
    np.testing.assert_allclose(told.errors[:, 0], model.score(odd))
    assert (model.explain(frame, top=9).sensors[:, 6:] == "").all()


def test_any_detector_of_series_makes_a_fleet(tmp_path):
    frame = small(2).replace({"node_00": 7, "node_01": 8})
    model = Fleet(MovingAverageResidual(window=10), percentile=90, random_state=0).fit(frame)
    assert sorted(model.thresholds_) == [7, 8]
    assert np.isfinite(model.score(frame)).all() and 0.02 < model.predict(frame).mean() < 0.3
    with pytest.raises(InputError, match="MovingAverageResidual does not tell which sensors"):
        model.explain(frame)


def test_saved_and_loaded_a_fleet_answers_the_same(tmp_path):
    for frame in (small(2), small(2).replace({"node_00": 7, "node_01": 8})):
        model = quick(late={"freq_0": 1.0}).fit(frame)
        assay.save(model, tmp_path / "fleet", overwrite=True)
        again = assay.load(tmp_path / "fleet")
        np.testing.assert_array_equal(again.score(frame), model.score(frame))
        assert again.thresholds_ == model.thresholds_ and again.explain(frame).sensors[0, 0] != ""
        machine = next(iter(again.thresholds_))
        again.refit(machine, frame)
        assert again.thresholds_[machine] == pytest.approx(model.thresholds_[machine], rel=1e-5)


def test_bad_input_is_one_clear_error():
    frame = small(1)
    fits = {
        "df is a list": ([1, 2], {}),
        "entity: df has no column 'machine'": (frame, {"entity": "machine"}),
        "time: df has no column 'when'": (frame, {"time": "when"}),
        "df has no rows": (frame[:0], {}),
        "df has no sensors": (frame[["node", "ts"]], {}),
        "column 'label' holds": (frame.assign(label="x"), {}),
        "entity: column 'node' holds": (frame.assign(node=1.5), {}),
        "df holds infinity": (frame.assign(fan_0=np.inf), {}),
        "1 times are missing": (frame.assign(ts=frame["ts"].where(frame.index != 3)), {}),
        "healthy is int64": (frame, {"healthy": np.ones(len(frame), dtype=int)}),
        "healthy is bool of shape": (frame, {"healthy": np.ones(3, dtype=bool)}),
        "'node_00' has no healthy measurement": (frame, {"healthy": np.zeros(len(frame), dtype=bool)}),
    }
    for message, (table, arguments) in fits.items():
        with pytest.raises(InputError, match=message):
            quick().fit(table, **arguments)
    for name in ("base", "every", "percentile", "holdout", "max_gap", "late"):
        with pytest.raises(InputError, match=name):
            quick().set_params(**{name: object()}).fit(frame)
    with pytest.raises(InputError, match=r"late\['fan_0'\]"):
        quick(late={"fan_0": "1 s"}).fit(frame)
    with pytest.raises(InputError, match="random_state"):
        quick(random_state="x").fit(frame)
    model = quick().fit(frame)
    with pytest.raises(InputError, match=r"columns \['fan_0'\] are missing"):
        model.score(frame.drop(columns="fan_0"))
    with pytest.raises(InputError, match=r"columns \['spare'\] were not there at fit"):
        model.score(frame.assign(spare=1.0))
    with pytest.raises(InputError, match="top"):
        model.explain(frame, top=0)
    with pytest.raises(NotFittedError):
        quick().score(frame)


def test_a_fleet_is_the_same_twice_and_touches_nothing():
    frame = small(2)
    before, state = frame.copy(), np.random.get_state()[1].tobytes()
    first, second = quick().fit(frame), quick().fit(small(2, seed=4)).fit(frame)
    assert first.thresholds_ == second.thresholds_ and (first.score(frame) == second.score(frame)).all()
    assert frame.equals(before) and np.random.get_state()[1].tobytes() == state
    other = quick(random_state=1).fit(frame)
    assert other.thresholds_ != first.thresholds_
    seconds = frame.assign(ts=(frame["ts"] - frame["ts"][0]).dt.total_seconds())
    assert np.isfinite(quick().fit(seconds).score(seconds)).all()
    zoned = frame.assign(ts=frame["ts"].dt.tz_localize("UTC").dt.tz_convert("Europe/Rome"))
    assert (first.score(zoned) == first.score(frame)).all()


# -- the simulated fleet ---------------------------------------------------------------------------------------------


def test_the_simulated_governors_stay_inside_the_healthy_range(drawn):
    assert set(drawn.kind) == {"healthy", "powersave", "performance"} and not (drawn.y[~drawn.test] != 0).any()
    assert (drawn.y[drawn.idle] < 1).all() and 0.3 < drawn.idle.mean() < 0.5
    load = drawn.values[:, [number for number, name in enumerate(drawn.names) if name.startswith("util")]]
    assert ((load.sum(axis=1) < 10) == drawn.idle).all()
    outside = {0: [], 1: []}
    for node in np.unique(drawn.node):
        mine = (drawn.node == node) & ~drawn.idle
        healthy = drawn.values[mine & ~drawn.test]
        low, high = healthy.min(axis=0), healthy.max(axis=0)
        for label, shares in outside.items():
            values = drawn.values[mine & drawn.test & (drawn.y == label)]
            shares.append(((values < low) | (values > high)).any(axis=1).mean())
    # No oftener than fresh healthy rows, but for chance.
    assert np.mean(outside[1]) < np.mean(outside[0]) + 0.01
    frequency = drawn.names.index("freq_0")
    for node in np.unique(drawn.node):
        mine = (drawn.node == node) & drawn.test & ~drawn.idle
        middle = np.median(drawn.values[mine & (drawn.y == 0), frequency])
        slow = drawn.values[mine & (drawn.kind == "powersave") & (drawn.y == 1), frequency]
        assert (slow < middle).mean() > 0.8


def test_the_simulated_fleet_is_reproducible():
    first, second = fleet(2, 8, 12, random_state=3), fleet(2, 8, 12, random_state=3)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(first, second))
    assert first.values.shape == (2 * 8 * 288, 12) and list(first.columns())[:2] == ["node", "ts"]
    assert (fleet(2, 8, 12, random_state=4).values != first.values).any()
    for name, wrong in (("n_nodes", 0), ("n_days", 0), ("n_sensors", 41), ("test_share", 2)):
        with pytest.raises(InputError, match=name):
            fleet(**{name: wrong})
