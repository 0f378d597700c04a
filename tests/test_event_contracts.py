"""What every detector of event sequences promises."""

import hashlib
import inspect
import json
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import assay
from assay import Calibrated, FalseAlarmRate
from assay.base import Localizer
from assay.catalogue import find, load_class, of_role
from assay.core.sequences import joined
from assay.core.validation import InputError
from small import SMALL_EVENTS
from test_contracts import assert_clear, entries_of, parameters_of, sections_of

#: (promise, system) -> why the system cannot keep it.
EXEMPT = {}

DETECTORS = [entry.name for entry in of_role("detector", "events")]
LOCALIZERS = [entry.name for entry in of_role("detector", "events") if entry.localises]


def promise(name, systems=None):
    systems = DETECTORS if systems is None else systems
    return pytest.mark.parametrize("system", [system for system in systems if (name, system) not in EXEMPT])


def make(system, seed=0, **parameters):
    cls = load_class(find(system))
    seeded = {"random_state": seed} if "random_state" in parameters_of(cls) else {}
    return cls(**seeded, **{**SMALL_EVENTS.get(system, {}), **parameters})


def walks(n, rng, low=8, high=30):
    """Draw walks that mostly go on to the next of ten events: a list of arrays."""
    lengths = rng.integers(low, high, n)
    return [(rng.integers(10) + np.cumsum(rng.choice([1, 2], p=[0.9, 0.1], size=k))) % 10 for k in lengths]


def spoiled(sequences, rng):
    """Return the sequences with a stretch of events of another kind in the place of their own, and where it begins."""
    sequences, starts = [one.copy() for one in sequences], []
    for one in sequences:
        starts.append(int(rng.integers(len(one) - 5)))
        one[starts[-1] : starts[-1] + 5] = rng.integers(10, 13, 5)
    return sequences, starts


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
    """Return sequences to train on, fresh normal ones, spoiled ones, and where these are."""
    rng = np.random.default_rng(0)
    # A few of the strange events are known from training, so that they are rare, not unheard of.
    train = [*walks(200, rng), *spoiled(walks(3, rng), rng)[0]]
    return train, walks(40, rng), *spoiled(walks(40, rng), rng)


@pytest.fixture(scope="module")
def models(data):
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
    assert [name for name in vars(model) if name.endswith("_") and name not in documented] == []
    assert all(name.endswith("_") or name in parameters_of(type(model)) for name in vars(model))


@promise("parameters_checked")
def test_a_senseless_parameter_is_named(system, data):
    for name, parameter in inspect.signature(load_class(find(system))).parameters.items():
        if not isinstance(parameter.default, bool):
            with pytest.raises((InputError, TypeError)) as error:
                make(system).set_params(**{name: object()}).fit(data[0])
            assert_clear(error, name)


@promise("not_fitted")
def test_not_fitted(system, data):
    with pytest.raises(NotFittedError, match=load_class(find(system)).__name__):
        make(system).anomaly_score(data[1])


@promise("training_matters")
def test_anomalies_score_higher(system, models, data):
    scores = models(system).anomaly_score([*data[1], *data[2]])
    assert scores.shape == (80,) and np.isfinite(scores).all()
    assert roc_auc_score(np.repeat([0, 1], 40), scores) > 0.9


@promise("localises", LOCALIZERS)
def test_the_map_shows_the_place(system, models, data):
    assert isinstance(models(system), Localizer)
    maps = models(system).anomaly_map(data[2])
    assert [len(one) for one in maps] == [len(one) for one in data[2]]
    near = [start <= int(np.argmax(one)) < start + 12 for one, start in zip(maps, data[3])]
    assert np.mean(near) > 0.8


@promise("alone")
def test_a_sequence_is_scored_alone_and_in_any_order(system, models, data):
    mixed = [*data[1], *data[2]]
    together = models(system).anomaly_score(mixed)
    for rows in ([5], [45, 0, 7], list(range(80))[::-1]):
        np.testing.assert_allclose(
            models(system).anomaly_score([mixed[row] for row in rows]), together[rows], rtol=1e-5, atol=1e-6
        )


@promise("inputs")
def test_kinds_of_sequences(system, models, data):
    expected = models(system).anomaly_score(data[2])
    read_only = joined(data[2])
    read_only.flat.setflags(write=False)
    for same in ([one.tolist() for one in data[2]], [tuple(map(int, one)) for one in data[2]], read_only):
        np.testing.assert_allclose(models(system).anomaly_score(same), expected, rtol=1e-6)
    scores = models(system).anomaly_score([[3], [99, 99], np.arange(3000) % 10])
    assert np.isfinite(scores).all()
    named = make(system).fit([[f"e{event:02d}" for event in one] for one in data[0]])
    names = [[f"e{event:02d}" for event in one] for one in data[2]]
    np.testing.assert_allclose(named.anomaly_score(names), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match="fitted on names"):
        named.anomaly_score(data[2])


@promise("inputs")
@pytest.mark.parametrize("wrong", ["text", 7, [], [[1, 2], []], [[1], ["a"]], [[1.5, 2.5]], [["a", None]]])
def test_bad_input_is_one_clear_error(system, wrong):
    with pytest.raises(InputError) as error:
        make(system).fit(wrong)
    assert_clear(error, "X")


@promise("monotonous")
def test_one_event_alone_is_learned_or_refused_by_name(system):
    try:
        scores = make(system).fit([[4, 4, 4]] * 30).anomaly_score([[4, 4], [4, 5, 4]])
        assert np.isfinite(scores).all() and scores[1] > scores[0]
    except InputError as error:
        assert re.match("(X|top_k).* give", str(error))


def fingerprints(systems):
    """Return a hash of what every system computes from fixed sequences."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    train, test = walks(80, rng), walks(20, rng)
    with threadpool_limits(1):
        return {
            system: hashlib.sha256(make(system).fit(train).anomaly_score(test).tobytes()).hexdigest()
            for system in systems
        }


@pytest.fixture(scope="module")
def bits_of_two_processes(run_python):
    code = "import json, test_event_contracts as t; print(json.dumps(t.fingerprints(t.DETECTORS)))"
    return fingerprints(DETECTORS), json.loads(run_python(code).splitlines()[-1])


@promise("same_bits")
def test_same_seed_same_bits_in_two_processes(system, bits_of_two_processes):
    here, there = bits_of_two_processes
    assert here[system] == there[system]


@promise("no_global_state")
def test_no_global_state_refit_forgets_and_input_stays(system, data):
    import torch

    train = [one.copy() for one in data[0][:80]]
    before = np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()
    model = make(system).fit(train)
    again = make(system).fit(data[2]).fit(train)
    assert (np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()) == before
    assert (model.anomaly_score(data[1]) == again.anomaly_score(data[1])).all()
    assert all((one == kept).all() for one, kept in zip(train, data[0]))
    assert repr(clone(model)) == repr(make(system))


@promise("saving")
def test_saved_and_loaded_it_answers_the_same(system, models, data, tmp_path):
    assay.save(models(system), tmp_path / "model")
    again = assay.load(tmp_path / "model")
    assert (again.anomaly_score(data[2]) == models(system).anomaly_score(data[2])).all()


@promise("calibrated")
def test_calibrated_decides(system, data):
    model = Calibrated(make(system), FalseAlarmRate(0.2), cv=2, random_state=0).fit(data[0])
    decisions = model.predict(data[2])
    assert set(decisions) <= {-1, 1} and (decisions == -1).mean() > 0.6 > 0.4 > (model.predict(data[1]) == -1).mean()


def test_every_exemption_is_about_a_system():
    assert all(system in DETECTORS and re.search(r"\w", reason) for (_, system), reason in EXEMPT.items())
