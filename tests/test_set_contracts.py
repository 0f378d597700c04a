"""What every detector, generator and embedder of sets promises."""

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
from assay.core.sets import Sets, as_sets
from assay.core.validation import InputError
from test_contracts import assert_clear, entries_of, parameters_of, sections_of

#: Parameters that make the networks quick.
SMALL_SETS = {
    "odd_one_out": {"context": (32,), "epochs": 25, "batch_size": 32, "learning_rate": 3e-3},
    "set_classifier": {"phi": (32, 32), "rho": (16,), "epochs": 40, "batch_size": 32, "learning_rate": 3e-3},
    # The mean, its default, would dilute a few strange members.
    "one_class_sets": {"pooling": "concat", "epochs": 5},
    "random_deep_sets": {"features": 16},
}

#: (promise, system) -> why the system cannot keep it.
EXEMPT = {}

DETECTORS = [entry.name for entry in of_role("detector", "sets")]
LOCALIZERS = [entry.name for entry in of_role("detector", "sets") if entry.localises]
GENERATORS = [entry.name for entry in of_role("generator", "sets")]
EMBEDDERS = [entry.name for entry in of_role("embedder", "sets")]
EVERYTHING = DETECTORS + GENERATORS + EMBEDDERS


def promise(name, systems=None):
    systems = DETECTORS if systems is None else systems
    return pytest.mark.parametrize("system", [system for system in systems if (name, system) not in EXEMPT])


def make(system, seed=0, **parameters):
    cls = load_class(find(system))
    seeded = {"random_state": seed} if "random_state" in parameters_of(cls) else {}
    return cls(**seeded, **{**SMALL_SETS.get(system, {}), **parameters})


def fit(model, X):
    """Fit without labels; where they are required, with a fifth as many spoiled sets."""
    if getattr(model, "labels", "") != "required":
        return model.fit(X)
    rng, n = np.random.default_rng(7), len(X)
    strange, _ = spoiled([X[row] for row in range(n - n // 5, n)], rng)
    return model.fit([*X, *strange], np.repeat([0, 1], [n, n // 5]))


def output(model, X):
    """Return what a system makes of sets: scores, rows, or what it draws."""
    if hasattr(model, "anomaly_score"):
        return model.anomaly_score(X)
    return model.transform(X) if hasattr(model, "transform") else model.sample(10).X.flat


def groups(n, rng, low=6, high=15):
    """Draw sets of members around a centre of each set's own, three numbers each: a list of arrays."""
    return [rng.normal(size=3) + 0.3 * rng.normal(size=(size, 3)) for size in rng.integers(low, high, n)]


def spoiled(sets, rng):
    """Return the sets with a fifth of the members, at least one, far from the others, and which."""
    sets, places = [one.copy() for one in sets], []
    for one in sets:
        places.append(rng.permutation(len(one))[: max(1, len(one) // 5)])
        step = rng.normal(size=3)
        one[places[-1]] += 8 * step / np.linalg.norm(step)
    return sets, places


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
    """Return sets to train on, fresh normal ones, spoiled ones, and which members of these are strange."""
    rng = np.random.default_rng(0)
    return groups(200, rng), groups(40, rng), *spoiled(groups(40, rng), rng)


@pytest.fixture(scope="module")
def models(data):
    known = {}

    def fitted(system):
        if system not in known:
            known[system] = fit(make(system), data[0])
        return known[system]

    return fitted


# -- every system ----------------------------------------------------------------------------------------------------


@promise("documentation", EVERYTHING)
def test_the_docstring_names_every_fitted_attribute(system, models):
    model = models(system)
    documented = [name for cls in type(model).__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    learned = [name for name in vars(model) if name.endswith("_") and name != "n_features_in_"]
    assert [name for name in learned if name not in documented] == []
    own = entries_of(sections_of(type(model)).get("Attributes", []))
    assert [name for name in own if not hasattr(model, name)] == []
    assert all(name.endswith("_") or name in parameters_of(type(model)) for name in vars(model))


@promise("parameters_checked", EVERYTHING)
def test_a_senseless_parameter_is_named(system, data):
    for name, parameter in inspect.signature(load_class(find(system))).parameters.items():
        if not isinstance(parameter.default, bool):
            with pytest.raises((InputError, TypeError)) as error:
                fit(make(system).set_params(**{name: object()}), data[0])
            assert_clear(error, name)


@promise("not_fitted", EVERYTHING)
def test_not_fitted(system, data):
    with pytest.raises(NotFittedError, match=load_class(find(system)).__name__):
        output(make(system), data[1])


@promise("inputs", EVERYTHING)
def test_kinds_of_sets(system, models, data):
    expected = output(models(system), data[2])
    read_only = as_sets(data[2])
    read_only.flat.setflags(write=False)
    for same in ([one.tolist() for one in data[2]], tuple(data[2]), read_only):
        np.testing.assert_allclose(output(models(system), same), expected, rtol=1e-6)
    equal = np.random.default_rng(1).normal(size=(30, 8, 3))
    assert np.isfinite(output(fit(make(system), equal), equal)).all()
    kept = [one.copy() for one in data[2]]
    as_given = as_sets([one.copy() for one in data[2]])
    as_given.flat.setflags(write=False)
    fit(make(system), as_given)
    assert all((one == other).all() for one, other in zip(as_given, kept))


@promise("inputs", EVERYTHING)
@pytest.mark.parametrize(
    "wrong",
    ["text", 7, [], [[[1.0, 2.0]], []], [[["a"]]], [[[1.0]], [[1.0, 2.0]]], [[[np.nan, 1.0]]], [[[np.inf]]], [[1.0]]],
    ids=str,
)
def test_bad_input_is_one_clear_error(system, wrong):
    with pytest.raises(InputError) as error:
        make(system).fit(wrong)
    assert_clear(error, "X_normal" if system in GENERATORS else "X")


@promise("inputs", DETECTORS + EMBEDDERS)
def test_another_width_is_refused(system, models):
    with pytest.raises(InputError, match="X has 2 features") as error:
        output(models(system), [np.zeros((4, 2))])
    assert_clear(error, "X")


@promise("degenerate", EVERYTHING)
@pytest.mark.parametrize("kind", ["constant column", "constant", "one member", "one number", "two sets", "twins"])
def test_degenerate_sets_give_a_result_or_one_clear_error(system, kind):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(20, 6, 3))
    if kind == "constant column":
        X[:, :, 1] = 4.0
    X = {
        "constant": np.full((20, 6, 3), 2.0),
        "one member": X[:, :1],
        "one number": X[:, :, :1],
        "two sets": X[:2],
        "twins": np.repeat(X[:1], 20, axis=0),
    }.get(kind, X)
    model = make(system)
    try:
        if getattr(model, "labels", "") == "required":
            model.fit(X, np.arange(len(X)) % 2)
        else:
            model.fit(X)
        assert np.isfinite(output(model, X)).all()
    except InputError as error:
        assert re.match("X.* give", str(error))


def fingerprints(systems):
    """Return a hash of what every system computes from fixed sets."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    train, test = groups(60, rng), groups(20, rng)
    with threadpool_limits(1):
        return {
            system: hashlib.sha256(output(fit(make(system), train), test).tobytes()).hexdigest() for system in systems
        }


@pytest.fixture(scope="module")
def bits_of_two_processes(run_python):
    code = "import json, test_set_contracts as t; print(json.dumps(t.fingerprints(t.EVERYTHING)))"
    return fingerprints(EVERYTHING), json.loads(run_python(code).splitlines()[-1])


@promise("same_bits", EVERYTHING)
def test_same_seed_same_bits_in_two_processes(system, bits_of_two_processes):
    here, there = bits_of_two_processes
    assert here[system] == there[system]


@promise("no_global_state", EVERYTHING)
def test_no_global_state_refit_forgets_and_input_stays(system, data):
    import torch

    train = [one.copy() for one in data[0][:60]]
    before = np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()
    model = fit(make(system), train)
    again = fit(fit(make(system), data[2]), train)
    assert (np.random.get_state()[1].tobytes(), torch.random.get_rng_state().numpy().tobytes()) == before
    assert (output(model, data[1]) == output(again, data[1])).all()
    assert all((one == kept).all() for one, kept in zip(train, data[0]))
    assert repr(clone(model)) == repr(make(system))


@promise("saving", EVERYTHING)
def test_saved_and_loaded_it_answers_the_same(system, models, data, tmp_path):
    assay.save(models(system), tmp_path / "model")
    again = assay.load(tmp_path / "model")
    assert (output(again, data[2]) == output(models(system), data[2])).all()


@promise("alone", DETECTORS + EMBEDDERS)
def test_a_set_is_judged_alone_in_any_order_of_sets_and_of_members(system, models, data):
    mixed, model, rng = [*data[1], *data[2]], models(system), np.random.default_rng(5)
    together = output(model, mixed)
    for rows in ([5], [45, 0, 7], list(range(80))[::-1]):
        np.testing.assert_allclose(output(model, [mixed[row] for row in rows]), together[rows], rtol=1e-4, atol=1e-5)
    shuffled = [rng.permutation(one) for one in mixed]
    np.testing.assert_allclose(output(model, shuffled), together, rtol=1e-4, atol=1e-5)
    beside = [*mixed, rng.normal(size=(400, 3)), np.full((2, 3), 1e149)]
    np.testing.assert_allclose(output(model, beside)[:80], together, rtol=1e-4, atol=1e-5)
    assert np.isfinite(output(model, beside)).all()


# -- detectors -------------------------------------------------------------------------------------------------------


@promise("training_matters")
def test_anomalies_score_higher(system, models, data):
    scores = models(system).anomaly_score([*data[1], *data[2]])
    assert scores.shape == (80,) and np.isfinite(scores).all() and len(np.unique(scores)) > 70
    assert roc_auc_score(np.repeat([0, 1], 40), scores) > 0.9


@promise("labels")
def test_labels_are_those_of_the_catalogue(system, data):
    model, entry = make(system), find(system)
    assert (model.labels == "normals") == (entry.labels == "normals")
    X, y = [*data[0][:60], *data[2]], np.repeat([0, 1], [60, 40])
    if model.labels == "normals":  # known anomalies teach nothing
        scores = make(system).fit(X, y).anomaly_score(data[1])
        assert (scores == make(system).fit(X[:60]).anomaly_score(data[1])).all()
        return
    with pytest.raises(InputError, match="requires y"):
        model.fit(X)
    with pytest.raises(InputError, match="both are needed") as error:
        model.fit(X, np.zeros(100, dtype=int))
    assert_clear(error, "y")
    unknown = np.where(np.arange(100) % 5 == 0, -1, y)
    rows = np.flatnonzero(unknown >= 0)
    scores = make(system).fit(X, unknown).anomaly_score(data[1])
    assert (scores == make(system).fit([X[row] for row in rows], y[rows]).anomaly_score(data[1])).all()


@promise("localises", LOCALIZERS)
def test_the_map_shows_the_member_and_moves_with_it(system, models, data):
    assert isinstance(models(system), Localizer)
    maps = models(system).anomaly_map(data[2])
    assert [one.shape for one in maps] == [(len(one),) for one in data[2]]
    assert np.mean([np.argmax(one) in places for one, places in zip(maps, data[3])]) > 0.8
    turned = models(system).anomaly_map([one[::-1] for one in data[2]])
    for one, other in zip(maps, turned):
        np.testing.assert_allclose(one[::-1], other, rtol=1e-4, atol=1e-5)


@promise("calibrated")
def test_calibrated_decides(system, data):
    strange, _ = spoiled(data[0][:40], np.random.default_rng(6))
    X, y = [*data[0], *strange], np.repeat([0, 1], [len(data[0]), 40])
    model = Calibrated(make(system), FalseAlarmRate(0.2), cv=2, random_state=0).fit(X, y)
    decisions = model.predict(data[2])
    assert set(decisions) <= {-1, 1} and (decisions == -1).mean() > 0.6 > 0.4 > (model.predict(data[1]) == -1).mean()


# -- generators ------------------------------------------------------------------------------------------------------


@promise("strength", GENERATORS)
def test_strength_zero_is_the_parent(system, models, data):
    auxiliary = models(system).sample(10, strength=0)
    assert all((one == data[0][parent]).all() for one, parent in zip(auxiliary.X, auxiliary.parents))
    assert not auxiliary.mask.any() and all(drawn["noop"] for drawn in auxiliary.meta)


@promise("layout", GENERATORS)
@pytest.mark.parametrize("strength", [0.5, 1, 3, 30])
def test_the_layout_of_what_is_drawn(system, strength, models, data):
    auxiliary = models(system).sample(40, strength=strength)
    assert isinstance(auxiliary.X, Sets) and len(auxiliary) == len(list(auxiliary)) == 40
    assert auxiliary.mask.shape == auxiliary.touched.shape == (len(auxiliary.X.flat),)
    assert auxiliary.mask.dtype == auxiliary.touched.dtype == bool
    assert np.isfinite(auxiliary.X.flat).all() and not (auxiliary.mask & ~auxiliary.touched).any()
    assert json.loads(json.dumps(auxiliary.meta)) == auxiliary.meta
    masks = np.split(auxiliary.mask, auxiliary.X.offsets[1:-1])
    for one, parent, mask, drawn in zip(auxiliary.X, auxiliary.parents, masks, auxiliary.meta):
        origin = data[0][parent]
        assert drawn["generator"] == type(models(system)).__name__ and drawn["strength"] == strength
        assert one.shape == origin.shape and mask.any() and not drawn["noop"]
        assert (one[~mask] == origin[~mask]).all() and (one[mask] != origin[mask]).any(axis=1).all()
        assert len(np.unique(one, axis=0)) == len(one), "no member twice"


@promise("seeds", GENERATORS)
def test_the_seed_decides_and_no_draw_is_idle(system, models, data):
    first, second = models(system).sample(8), models(system).sample(8)
    assert first.X.flat.tobytes() == second.X.flat.tobytes() and first.meta == second.meta
    assert models(system).sample(8, random_state=5).X.flat.tobytes() != first.X.flat.tobytes()
    for one, drawn, parent in zip(first.X, first.meta, first.parents):
        members, _, _, again, _ = models(system)._one(drawn["seed"], 1.0)
        assert again == parent and (members == one).all()
    for seed in range(200):
        assert not models(system).sample(1, random_state=seed).meta[0]["noop"]


def test_every_exemption_is_about_a_system():
    assert all(system in EVERYTHING and re.search(r"\w", reason) for (_, system), reason in EXEMPT.items())
