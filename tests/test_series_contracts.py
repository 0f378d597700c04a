"""What every system of series promises."""

import hashlib
import inspect
import json
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import assay
from assay import Calibrated, FalseAlarmRate
from assay.catalogue import find, load_class, of_role
from assay.core.series import Series
from assay.core.validation import InputError
from assay.detectors.series.stream import Stream, follow
from small import SMALL_SERIES
from test_contracts import assert_clear, entries_of, parameters_of, sections_of

#: (promise, system) -> why the system cannot keep it.
EXEMPT = {}

DETECTORS = [entry.name for entry in of_role("detector", "series")]


def promise(name, systems=DETECTORS):
    return pytest.mark.parametrize("system", [system for system in systems if (name, system) not in EXEMPT])


def make(system, seed=0, **parameters):
    cls = load_class(find(system))
    seeded = {"random_state": seed} if "random_state" in parameters_of(cls) else {}
    return cls(**seeded, **{**SMALL_SERIES.get(system, {}), **parameters})


def waves(n, rng, channels=2):
    """Draw noisy waves whose channels hang together, (n, channels)."""
    phase = np.arange(n)[:, None] / 5 + np.arange(channels)
    return np.sin(phase) + rng.normal(scale=0.05, size=(n, channels))


def spoiled(series, rng, length=12, count=6):
    """Return the series with stretches that jump up and down beyond its range, and the labels."""
    series, labels = series.copy(), np.zeros(len(series), dtype=int)
    for start in np.linspace(60, len(series) - 60, count).astype(int):
        series[start : start + length] = 2.5 * rng.choice([-1, 1], (length, 1)) + rng.normal(
            scale=0.3, size=(length, 1)
        )
        labels[start : start + length] = 1
    return series, labels


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    """Return a series to train on, one to test on, and the labels of the latter."""
    rng = np.random.default_rng(0)
    return waves(600, rng), *spoiled(waves(600, rng), rng)


@pytest.fixture(scope="module")
def models(data):
    """Return a function that gives each detector, fitted once."""
    known = {}

    def fitted(system):
        if system not in known:
            known[system] = make(system).fit(data[0])
        return known[system]

    return fitted


@promise("documentation")
def test_the_docstring_names_every_fitted_attribute(system, models):
    model = models(system)
    documented = [name for cls in type(model).__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    learned = [name for name in vars(model) if name.endswith("_")]
    assert [
        name for name in learned if name not in documented and not name.startswith(("n_features", "feature_"))
    ] == []
    assert all(name.endswith("_") or name in parameters_of(type(model)) for name in vars(model))


@promise("parameters_checked")
def test_a_senseless_parameter_is_named(system, data):
    for name, parameter in inspect.signature(load_class(find(system))).parameters.items():
        if isinstance(parameter.default, bool):
            continue
        with pytest.raises((InputError, TypeError)) as error:
            make(system).set_params(**{name: object()}).fit(data[0])
        assert_clear(error, name)


@promise("not_fitted")
def test_not_fitted(system, data):
    with pytest.raises(NotFittedError, match=load_class(find(system)).__name__):
        make(system).anomaly_score(data[1])


@promise("training_matters")
def test_anomalies_score_higher(system, models, data):
    scores = models(system).anomaly_score(data[1])
    assert scores.shape == (600,) and np.isfinite(scores).all() and len(np.unique(scores)) > 300
    assert roc_auc_score(data[2], scores) > 0.85


@promise("inputs")
def test_kinds_of_series(system, models, data):
    train, test, _ = data
    expected = models(system).anomaly_score(test)
    read_only = test.copy()
    read_only.setflags(write=False)
    for same in (read_only, test.tolist(), np.asfortranarray(test), pd.DataFrame(test), Series(test)):
        np.testing.assert_allclose(models(system).anomaly_score(same), expected, rtol=1e-9)
    times = pd.date_range("2024-01-01", periods=len(test), freq="5min")
    frame = pd.DataFrame({"at": times, "a": test[:, 0], "b": test[:, 1]})
    named = make(system).fit(frame)
    scores = named.anomaly_score(frame)
    np.testing.assert_allclose(named.anomaly_score(pl.from_pandas(frame)), scores, rtol=1e-9)
    np.testing.assert_allclose(named.anomaly_score(frame.set_index("at")), scores, rtol=1e-9)
    with pytest.raises(InputError, match="another order"):
        named.anomaly_score(frame[["at", "b", "a"]])
    with pytest.raises(InputError, match=r"unexpected.*'c'"):
        named.anomaly_score(frame.assign(c=1.0))
    with pytest.raises(InputError, match=r"go backwards after row 599.*regular"):
        named.anomaly_score(pd.concat([frame, frame[:5]]))
    with pytest.raises(InputError, match="time of row 0 occurs twice"):
        named.anomaly_score(pd.concat([frame[:1], frame]))
    assert np.isfinite(make(system).fit(train[:, 0]).anomaly_score(test[:, 0])).all()


@promise("inputs")
@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 4, 5)), np.full((50, 2), np.inf), [], "text", 7, [[1, "a"]], np.full((400, 2), np.nan)]
)
def test_bad_input_is_one_clear_error(system, wrong):
    with pytest.raises(InputError) as error:
        make(system).fit(wrong)
    assert_clear(error, "X")


@promise("short")
def test_a_short_series_is_scored_or_refused_by_name(system, models, data):
    for n in (1, 2, 10):
        try:
            assert np.isfinite(models(system).anomaly_score(data[1][:n])).all()
        except InputError as error:
            assert f"{n} time steps" in str(error)


@promise("missing")
def test_missing_steps_score_nan_and_teach_nothing(system, data):
    train, test, labels = data
    holes, late = train.copy(), train.copy()
    holes[100:130] = np.nan
    holes[300, 0] = np.nan
    model = make(system).fit(holes)
    gaps = test.copy()
    gaps[::50] = np.nan
    scores = model.anomaly_score(gaps)
    assert (np.isnan(scores) == np.isnan(gaps).all(axis=1)).all()
    late[:80, 1] = np.nan
    assert np.isfinite(make(system).fit(late).anomaly_score(test)).all()
    # Known anomalies are taken for not measured.
    spoiled_train = train.copy()
    spoiled_train[200:260] = 50.0
    known = np.zeros(len(train), dtype=int)
    known[200:260] = 1
    marked = make(system).fit(spoiled_train, known).anomaly_score(test)
    unmeasured = spoiled_train.copy()
    unmeasured[200:260] = np.nan
    np.testing.assert_array_equal(marked, make(system).fit(unmeasured).anomaly_score(test))
    assert np.abs(marked - make(system).fit(spoiled_train).anomaly_score(test)).max() > 0
    assert roc_auc_score(labels, marked) > 0.8 and not np.isnan(spoiled_train).any()


@promise("constant")
def test_constant_and_doubled_channels(system, data):
    train, test, _ = data
    wide = np.column_stack([train, np.full(len(train), 3.0), train[:, 0]])
    scores = make(system).fit(wide).anomaly_score(np.column_stack([test, np.full(len(test), 3.0), test[:, 0]]))
    assert np.isfinite(scores).all()
    flat = make(system).fit(np.full((400, 1), 2.0))
    assert np.isfinite(flat.anomaly_score(np.full((200, 1), 2.0))).all()


@promise("reach")
def test_a_score_depends_on_its_reach_alone(system, models, data):
    model, test = models(system), data[1]
    before, after = model.reach
    scores = model.anomaly_score(test)
    middle = 300
    piece = slice(max(0, middle - before), middle + after + 1)
    if before < middle:
        np.testing.assert_allclose(
            model.anomaly_score(test[piece])[middle - piece.start], scores[middle], rtol=1e-5, atol=1e-7
        )
    changed = test.copy()
    changed[: max(0, middle - before)] += 3
    changed[middle + after + 1 :] -= 3
    np.testing.assert_allclose(model.anomaly_score(changed)[middle], scores[middle], rtol=1e-5, atol=1e-7)


@promise("stream")
@pytest.mark.parametrize("sizes", [(1,), (7, 130), (600,)])
def test_a_stream_gets_the_scores_of_the_whole(system, models, data, sizes):
    model, test = models(system), data[1].copy()
    test[40:45] = np.nan
    test[200:230, 1] = np.nan
    whole = model.anomaly_score(test)
    stream, parts, start, turn = Stream(model, every=25 if sizes == (1,) else 1), [], 0, 0
    while start < len(test):
        size = sizes[turn % len(sizes)]
        parts.append(stream.push(test[start : start + size]))
        start, turn = start + size, turn + 1
    parts.append(stream.end())
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-6)


def test_a_gap_is_no_anomaly_of_the_steps_beside_it(models):
    series = waves(400, np.random.default_rng(8))
    hole = series.copy()
    hole[200:207] = np.nan
    scores, whole = models("sub_pca").anomaly_score(hole), models("sub_pca").anomaly_score(series)
    assert np.nanmax(scores) < 1.5 * whole.max()
    # By the definition: the mean over the windows that cover a step and hold none of the missing ones.
    model, L = models("sub_pca"), 20
    standard = (series - model.mean_) / model.scale_
    alone = model._window_scores(np.stack([standard[i : i + L] for i in range(len(series) - L + 1)]))
    for step in (190, 199, 207, 215):
        covering = [i for i in range(step - L + 1, step + 1) if i + L <= 200 or i >= 207]
        assert scores[step] == pytest.approx(alone[covering].mean())


def test_a_stream_says_what_it_cannot_take(models, data):
    with pytest.raises(InputError, match="detector is a list"):
        Stream([])
    stream = Stream(models("moving_average"))
    with pytest.raises(InputError, match="3 features"):
        stream.push(np.zeros((2, 3)))
    assert len(stream.push(data[1][:5])) == 0  # the reach is not there yet
    times = pd.date_range("2024-01-01", periods=40, freq="1min")
    stream = Stream(make("moving_average").fit(pd.DataFrame({"t": times, "a": np.arange(40.0)})))
    late = pd.DataFrame({"t": times[30:], "a": 1.0})
    stream.push(late)
    with pytest.raises(InputError, match="a clock has gone backwards"):
        stream.push(pd.DataFrame({"t": times[:3], "a": 1.0}))


def test_following_lines(models, data):
    model = models("moving_average")
    lines = [",".join(map(str, row)) + "\n" for row in data[1][:100]]
    followed = list(follow(iter(lines), Stream(model)))
    assert [step for step, _ in followed] == list(range(100))
    np.testing.assert_allclose([score for _, score in followed], model.anomaly_score(data[1][:100]), rtol=1e-9)
    lines[3] = "1.0,\n"
    lines[4] = "1.0,what\n"
    with pytest.raises(InputError, match=r'line 5 is "1.0,what'):
        list(follow(iter(lines), Stream(model)))


def fingerprints(systems):
    """Return a hash of what every system computes from a fixed series."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    train, test = waves(300, rng), waves(150, rng)
    with threadpool_limits(1):
        return {
            system: hashlib.sha256(make(system).fit(train).anomaly_score(test).tobytes()).hexdigest()
            for system in systems
        }


@pytest.fixture(scope="module")
def bits_of_two_processes(run_python):
    code = "import json, test_series_contracts as t; print(json.dumps(t.fingerprints(t.DETECTORS)))"
    return fingerprints(DETECTORS), json.loads(run_python(code).splitlines()[-1])


@promise("same_bits")
def test_same_seed_same_bits_in_two_processes(system, bits_of_two_processes):
    here, there = bits_of_two_processes
    assert here[system] == there[system]


@promise("no_global_state")
def test_no_global_state_refit_forgets_and_input_stays(system, data):
    import torch

    train, test, _ = (array.copy() for array in data)
    before = np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()
    model = make(system).fit(train[:300])
    again = make(system).fit(test[:200]).fit(train[:300])
    assert (np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()) == before
    assert (model.anomaly_score(test) == again.anomaly_score(test)).all()
    assert (train == data[0]).all() and (test == data[1]).all()
    copy = clone(model)
    assert repr(copy) == repr(make(system))


@promise("saving")
def test_saved_and_loaded_it_answers_the_same(system, models, data, tmp_path):
    assay.save(models(system), tmp_path / "model")
    again = assay.load(tmp_path / "model")
    assert (again.anomaly_score(data[1]) == models(system).anomaly_score(data[1])).all()
    assert again.reach == models(system).reach


@promise("calibrated")
def test_calibrated_decides(system, data):
    train, test, labels = data
    model = Calibrated(make(system), FalseAlarmRate(0.1), cv=3, random_state=0).fit(train)
    decisions = model.predict(test)
    assert set(decisions) <= {-1, 1}
    assert (decisions[labels == 1] == -1).mean() > 0.5
    fresh = waves(1000, np.random.default_rng(5))
    assert (model.predict(fresh) == -1).mean() < 0.2


def test_every_exemption_is_about_a_system():
    assert all(system in DETECTORS and re.search(r"\w", reason) for (_, system), reason in EXEMPT.items())
