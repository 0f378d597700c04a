"""What every system promises, for every system of the catalogue."""

import contextlib
import hashlib
import inspect
import json
import re
import sys
import time
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.stats import binom
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import assay
from assay.calibration.conformal import Conformal
from assay.calibration.false_alarm_rate import FalseAlarmRate
from assay.calibration.quantile import Quantile
from assay.calibration.squash import Squash
from assay.catalogue import SYSTEMS, find, load_class, of_role
from assay.core.validation import InputError
from assay.detectors.tabular.adapters import ClassifierDetector
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.marginals import ECOD
from assay.quality.density import RarityDensity
from assay.quality.probability import ClassProbability
from small import SMALL

#: (promise, system) -> why the system cannot keep it.
EXEMPT = {
    (
        "training_matters",
        "ecod",
    ): "sums tails of single columns: blind to gaps between clusters; see test_ecod_finds_tails",
    ("moves", "random_quality"): "chance learns nothing: that is what it is there for",
    ("alone", "average_marginal_effect"): "one regression over all auxiliary rows, as published",
    ("alone", "dvrl"): "one network learns from all auxiliary rows",
    ("degenerate", "average_marginal_effect"): "sparse: it may find no effect at all; see test_rivals_with_models.py",
    ("flags", "contamination_posterior"): "finds no anomalies among plain normal scores, and says so",
}

#: Smaller than the defaults, for speed alone.
FAST = {
    "isolation_forest": {"n_trees": 50},
    "noise_contrastive": {"classifier": RandomForestClassifier(20, min_samples_leaf=5)},
    "eap": {"n_subsets": 8},
} | SMALL

DETECTORS = [entry.name for entry in of_role("detector", "tables")]
QUALITIES = [entry.name for entry in of_role("quality")]
CALIBRATORS = [entry.name for entry in of_role("calibrator")]
GENERATORS = [entry.name for entry in of_role("generator", "tables")]
SCORERS = DETECTORS + QUALITIES
EVERYTHING = [entry.name for entry in SYSTEMS]
#: What is fitted on a table here; the systems of images have test_image_contracts.py.
TABULAR = DETECTORS + QUALITIES + CALIBRATORS + GENERATORS


def promise(name, systems):
    """Parametrise a test over `systems` less those that are exempt from the promise called `name`."""
    return pytest.mark.parametrize("system", [system for system in systems if (name, system) not in EXEMPT])


def skip_if_exempt(promise, system):
    """Skip a test of the fitted `scorer`s that `promise` cannot leave out."""
    if (promise, system) in EXEMPT:
        pytest.skip(EXEMPT[promise, system])


def parameters_of(cls):
    return list(inspect.signature(cls).parameters)


def make(system, seed=0, **parameters):
    cls = load_class(find(system))
    seeded = {"random_state": seed} if "random_state" in parameters_of(cls) else {}
    return clone(cls(**seeded, **{**FAST.get(system, {}), **parameters}))


def fit(model, X, y):
    """Fit any scorer; detectors that learn normality alone get no labels."""
    return model.fit(X) if getattr(model, "labels", "required") == "normals" else model.fit(X, y)


def score(model, X):
    return model.anomaly_score(X) if hasattr(model, "anomaly_score") else model.quality(X)


def argument_of(model):
    """Return what the argument of `score` is called."""
    return "X" if hasattr(model, "anomaly_score") else "X_aux"


def assert_clear(error, argument):
    """Assert that an error is one line which names the argument."""
    message = str(error.value)
    assert "\n" not in message
    assert re.search(rf"\b{argument}\b", message), message
    assert len(message) < 300, message


@pytest.fixture(scope="module", params=SCORERS)
def scorer(request, gap):
    """Return the name, a model fitted on the gap table, fresh rows, and their scores."""
    X, y, fresh, _ = gap
    model = fit(make(request.param), X, y)
    return request.param, model, fresh, score(model, fresh)


# -- the catalogue ---------------------------------------------------------------------------------------------------


def test_names_are_unique_and_exported():
    assert len(set(EVERYTHING)) == len(EVERYTHING)
    for entry in SYSTEMS:
        assert getattr(assay, entry.path.split(":")[1]) is load_class(entry)
        assert entry.role in ("detector", "calibrator", "generator", "embedder", "quality")
        assert entry.summary and not entry.summary.endswith(".")


def test_every_exemption_is_about_a_system():
    assert all(system in EVERYTHING and reason for (_, system), reason in EXEMPT.items())


@promise("labels_as_catalogued", DETECTORS)
def test_the_catalogue_knows_what_labels_a_detector_needs(system):
    entry = find(system)
    assert (load_class(entry).labels == "normals") == (entry.labels == "normals")


# -- constructor, parameters, documentation --------------------------------------------------------------------------


@promise("constructor", EVERYTHING)
def test_the_constructor_only_stores(system):
    cls = load_class(find(system))
    given = {name: object() for name in parameters_of(cls)}
    model = cls(**given)
    assert vars(model).keys() == given.keys()
    assert all(getattr(model, name) is value for name, value in given.items())
    assert all(
        parameter.default is not inspect.Parameter.empty for parameter in inspect.signature(cls).parameters.values()
    )


@promise("round_trip", EVERYTHING)
def test_parameters_go_round(system):
    cls = load_class(find(system))
    changed = {name: 7 + number for number, name in enumerate(parameters_of(cls))}
    model = cls().set_params(**changed)
    assert model.get_params(deep=False) == changed
    assert clone(model).get_params(deep=False) == changed
    assert eval(repr(model), {cls.__name__: cls}).get_params(deep=False) == changed
    assert clone(cls()).get_params() == cls().get_params()
    with pytest.raises(ValueError, match="nonsense"):
        model.set_params(nonsense=1)


def sections_of(cls):
    """Return the sections of a numpydoc docstring: title -> lines."""
    lines = inspect.getdoc(cls).splitlines()
    starts = [i for i in range(len(lines) - 1) if lines[i] and re.fullmatch("-{3,}", lines[i + 1])]
    return {lines[i]: lines[i + 2 : j] for i, j in zip(starts, [*starts[1:], len(lines)])}


def entries_of(section):
    return [name.strip() for line in section if re.match(r"\w", line) for name in line.split(" : ")[0].split(",")]


@promise("documentation", EVERYTHING)
def test_the_docstring_is_the_signature(system):
    entry = find(system)
    cls = load_class(entry)
    sections = sections_of(cls)
    assert entries_of(sections.get("Parameters", [])) == parameters_of(cls)
    assert any(line.startswith(">>>") for line in sections["Examples"])
    assert ("References" in sections) or not entry.paper
    page = inspect.getdoc(sys.modules[cls.__module__])
    assert re.search(r"\bIn: ", page) and re.search(r"\bOut[:,]\s", page)


#: Kept by every system (scikit-learn's own), and by the base class of the tabular generators, whose docstring says so.
INHERITED = ("n_features_in_", "feature_names_in_", "center_", "spread_")


@promise("documentation", TABULAR)
def test_the_docstring_names_every_fitted_attribute(system, whole_numbers):
    X, y = whole_numbers
    model = make(system)
    if system in CALIBRATORS:
        model.fit(X[:, 0])
    elif system in GENERATORS:
        model.fit(X[y == 0], X[y == 1])
    else:
        fit(model, X, y)
    documented = [name for cls in type(model).__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    learned = [name for name in vars(model) if name.endswith("_") and name not in INHERITED]
    assert [name for name in learned if name not in documented] == []
    own = entries_of(sections_of(type(model)).get("Attributes", []))
    assert [name for name in own if not hasattr(model, name)] == []
    assert all(name.endswith("_") or name in parameters_of(type(model)) for name in vars(model))


@promise("parameters_checked", TABULAR)
def test_a_senseless_parameter_is_named(system, whole_numbers):
    X, y = whole_numbers
    for name, parameter in inspect.signature(load_class(find(system))).parameters.items():
        if isinstance(parameter.default, bool):  # whatever is true will do
            continue
        model = make(system).set_params(**{name: "nonsense"})
        with pytest.raises(InputError) as error:
            if system in CALIBRATORS:
                model.fit(X[:, 0])
            elif system in GENERATORS:
                model.fit(X[y == 0], X[y == 1]).sample(3)
            else:
                fit(model, X, y)
        assert_clear(error, name)


@promise("not_fitted", SCORERS + CALIBRATORS)
def test_not_fitted(system):
    model = make(system)
    with pytest.raises(NotFittedError) as error:
        model.predict([1.0]) if system in CALIBRATORS else score(model, [[1.0, 2.0]])
    assert type(model).__name__ in str(error.value)


# -- randomness ------------------------------------------------------------------------------------------------------


def fingerprints():
    """Return a hash of the bits every system computes from a fixed table."""
    rng = np.random.default_rng(3)
    X = np.vstack([rng.normal(size=(90, 3)), rng.normal(3.0, 1.0, size=(8, 3))])
    y = np.repeat([0, 1], [90, 8])
    with threadpool_limits(1):  # sums in BLAS depend on the number of threads in their last bit
        return {system: fingerprint(system, X, y) for system in TABULAR}


def fingerprint(system, X, y):
    model = make(system)
    if system in CALIBRATORS:
        answer = model.fit(X[:, 0]).predict(X[:, 1]), np.array(model.threshold_)
    elif system in GENERATORS:
        drawn = model.fit(X[y == 0], X[y == 1]).sample(20)
        answer = drawn.X, drawn.mask, drawn.parents, np.frombuffer(repr(drawn.meta).encode(), dtype=np.uint8)
    else:
        answer = (score(fit(model, X, y), X),)
    return hashlib.sha256(b"".join(part.tobytes() for part in answer)).hexdigest()


@pytest.fixture(scope="module")
def bits_of_two_processes(run_python):
    elsewhere = run_python("import json, test_contracts; print(json.dumps(test_contracts.fingerprints()))")
    return fingerprints(), json.loads(elsewhere.splitlines()[-1])


@promise("same_bits", TABULAR)
def test_same_seed_same_bits_in_two_processes(system, bits_of_two_processes):
    here, there = bits_of_two_processes
    assert here[system] == there[system]


@promise("same_bits", SCORERS)
def test_same_seed_same_bits_and_no_global_state(system, gap):
    X, y, fresh, _ = gap
    before = joblib.hash(np.random.get_state())
    first, second = (score(fit(make(system, seed=5), X, y), fresh) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert joblib.hash(np.random.get_state()) == before


@promise("seed_matters", ["isolation_forest", "ssdo", "noise_contrastive", "eap", "class_probability"])
def test_another_seed_gives_other_bits(system, gap):
    X, y, fresh, _ = gap
    first, second = (score(fit(make(system, seed=seed), X, y), fresh) for seed in (0, 1))
    assert (first != second).any()


def test_jobs_do_not_change_the_bits(gap):
    X, y, fresh, _ = gap
    one, two = (make("eap", n_jobs=jobs).fit(X, y).quality(fresh) for jobs in (1, 2))
    assert one.tobytes() == two.tobytes()


# -- what comes in ---------------------------------------------------------------------------------------------------


@promise("input_kept", SCORERS)
def test_input_stays_as_it_was_and_may_be_read_only_or_mapped(system, gap, tmp_path):
    X, y, fresh, _ = (array.copy() for array in gap)
    copies = [array.copy() for array in (X, y, fresh)]
    expected = score(fit(make(system), X, y), fresh)
    for array, copy in zip((X, y, fresh), copies):
        assert array.tobytes() == copy.tobytes()
        array.setflags(write=False)
    assert score(fit(make(system), X, y), fresh).tobytes() == expected.tobytes()
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "fresh.npy", fresh)
    on_disk = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "fresh.npy")]
    assert score(fit(make(system), on_disk[0], y), on_disk[1]).tobytes() == expected.tobytes()


@promise("own_memory", SCORERS)
def test_the_caller_may_reuse_the_training_array(system, gap):
    X, y, fresh, _ = (array.copy() for array in gap)
    model = fit(make(system), X, y)
    before = score(model, fresh)
    X[:] = 0.0
    y[:] = 0
    assert score(model, fresh).tobytes() == before.tobytes()


COLUMNS = list("abcd")
FORMATS = {
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "float32": lambda X: X.astype(np.float32),
    "int64": lambda X: X.astype(np.int64),
    "int16": lambda X: X.astype(np.int16),
    "object": lambda X: X.astype(object),
    "lists": lambda X: X.tolist(),
    "pandas": lambda X: pd.DataFrame(X, columns=COLUMNS, index=np.arange(len(X))[::-1]),
    "pandas numbered": pd.DataFrame,
    "pandas nullable": lambda X: pd.DataFrame(X.astype(int), columns=COLUMNS).astype("Int64"),
    "polars": lambda X: pl.DataFrame(X.astype(int), schema=COLUMNS),
    "pyarrow": lambda X: pa.table(dict(zip(COLUMNS, X.T.astype(np.float32)))),
}


LABELS = {
    "pandas": pd.Series,
    "pandas nullable": lambda y: pd.Series(y, dtype="Int64"),
    "pandas numbered": lambda y: pd.DataFrame({"label": y}),
    "polars": lambda y: pl.Series(y == 1),
    "pyarrow": pa.array,
    "object": lambda y: y.astype(object),
    "float32": lambda y: y.astype(np.float32),
}


@pytest.mark.parametrize("kind", FORMATS)
@promise("formats", SCORERS)
def test_every_kind_of_table_gives_the_same_scores(system, kind, whole_numbers):
    X, y = whole_numbers
    expected = score(fit(make(system), X, y), X[::3])
    model = fit(make(system), FORMATS[kind](X), LABELS.get(kind, np.ndarray.tolist)(y))
    assert score(model, FORMATS[kind](X[::3])).tobytes() == expected.tobytes()
    assert score(model, X[::3]).tobytes() == expected.tobytes()


@promise("column_names", SCORERS)
def test_other_columns_than_at_fit_are_refused(system, whole_numbers):
    X, y = whole_numbers
    model = fit(make(system), pd.DataFrame(X, columns=COLUMNS), y)
    assert list(model.feature_names_in_) == COLUMNS
    for other, said in [("abdc", "order"), ("abcz", "'d'"), ("abc", "'d'"), ("abcde", "'e'"), ("aabc", "'a'")]:
        frame = pd.DataFrame(np.ones((5, len(other))), columns=list(other))
        with pytest.raises(InputError, match=said) as error:
            score(model, frame)
        assert_clear(error, argument_of(model))
    assert not hasattr(fit(model, X, y), "feature_names_in_")


def spoiled(X):
    """Yield what X may be spoiled by: kind, table."""
    holed, endless, huge, words = X.copy(), X.copy(), X.copy(), X.astype(object)
    holed[3, 1], endless[3, 1], huge[3, 1], words[3, 1] = np.nan, -np.inf, 1e200, "three"
    return {
        "empty": X[:0],
        "no columns": X[:, :0],
        "NaN": holed,
        "infinity": endless,
        "too large": huge,
        "1-D": X[:, 0],
        "3-D": X[None],
        "0-D": np.float64(3.0),
        "None": None,
        "text": np.array([["a", "b", "c", "d"]] * 5),
        "a word": words,
        "complex": X + 1j,
        "ragged": [[1.0, 2.0, 3.0, 4.0], [1.0]],
        "missing": pl.DataFrame({name: [1.0, None, 3.0, 4.0] for name in COLUMNS}),
        "a column of words": pd.DataFrame({"a": ["x"] * 4, "b": 1.0, "c": 1.0, "d": 1.0}),
        "lazy": pl.DataFrame(X).lazy(),
    }


@pytest.mark.parametrize("kind", spoiled(np.ones((5, 4))))
def test_what_cannot_be_scored_is_refused_in_one_line(scorer, kind):
    _, model, fresh, expected = scorer
    with pytest.raises(InputError) as error:
        score(model, spoiled(fresh)[kind])
    assert_clear(error, argument_of(model))
    assert score(model, fresh).tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", spoiled(np.ones((5, 4))))
@promise("bad_input", SCORERS)
def test_what_cannot_be_fitted_is_refused_in_one_line(system, kind, whole_numbers):
    X, y = whole_numbers
    table = spoiled(X)[kind]
    with pytest.raises(InputError) as error:
        fit(make(system), table, y)
    assert_clear(error, "X")


def test_another_width_is_refused_in_one_line(scorer):
    _, model, fresh, _ = scorer
    for other in (fresh[:, :3], np.hstack([fresh, fresh])):
        with pytest.raises(InputError, match=f"{other.shape[1]} features.* 4 features") as error:
            score(model, other)
        assert_clear(error, argument_of(model))


@promise("degenerate", SCORERS)
@pytest.mark.parametrize(
    "kind", ["constant column", "constant table", "few rows", "one column", "duplicates", "tiny", "large"]
)
def test_degenerate_tables_give_finite_scores_or_one_clear_error(system, kind, gap):
    X, y, fresh, _ = (array.copy() for array in gap)
    if kind == "constant column":
        X[:, 2] = fresh[:, 2] = 1e6 + 0.1
    elif kind == "constant table":
        X[:] = 3.3
    elif kind == "few rows":
        X, y = X[-17:-13], y[-17:-13]
    elif kind == "one column":
        X, fresh = X[:, :1], fresh[:, :1]
    elif kind == "duplicates":
        X = X[np.arange(len(X)) // 30 * 30]
    elif kind == "tiny":
        X, fresh = X * 1e-100, fresh * 1e-100
    elif kind == "large":
        X, fresh = X * 1e100, fresh * 1e100
    try:
        scores = score(fit(make(system), X, y), fresh)
    except InputError as error:
        assert (kind == "few rows" and "y holds" in str(error)) or kind == "constant table", error
        assert re.search(r"\b[Xy]\b", str(error)) and "\n" not in str(error)
    else:
        assert scores.shape == (len(fresh),)
        assert np.isfinite(scores).all()
        if kind in ("constant column", "duplicates", "one column"):
            assert np.ptp(scores) > 0


# -- what goes out ---------------------------------------------------------------------------------------------------


def test_scores_are_finite_and_not_constant(scorer):
    _, model, fresh, scores = scorer
    assert scores.dtype == np.float64 and scores.shape == (len(fresh),)
    assert np.isfinite(scores).all()
    # The balls of a density are few where k is large; that is its kind of coarseness.
    assert len(np.unique(scores)) > (20 if argument_of(model) == "X" else 1)
    assert np.isfinite(score(model, np.full((1, 4), 1e149))).all()


def test_a_subset_scores_as_within_the_whole_and_order_does_not_matter(scorer):
    name, model, fresh, scores = scorer
    skip_if_exempt("alone", name)
    some = np.random.default_rng(0).permutation(len(fresh))[:101]
    np.testing.assert_allclose(score(model, fresh[some]), scores[some], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(score(model, fresh[::-1]), scores[::-1], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(score(model, np.vstack([fresh[:7]] * 3))[7:14], scores[:7], rtol=1e-12, atol=1e-12)


def test_one_row_scores_as_within_the_whole(scorer):
    name, model, fresh, scores = scorer
    skip_if_exempt("alone", name)
    alone = np.concatenate([score(model, fresh[i : i + 1]) for i in range(0, 360, 60)])
    np.testing.assert_allclose(alone, scores[::60], rtol=1e-12, atol=1e-12)


def test_scoring_does_not_learn(scorer):
    _, model, fresh, scores = scorer
    before = joblib.hash(vars(model))
    score(model, fresh + 100.0)
    score(model, fresh[:1])
    assert joblib.hash(vars(model)) == before
    assert score(model, fresh).tobytes() == scores.tobytes()


@promise("refit", SCORERS)
def test_refit_forgets(system, gap, whole_numbers):
    X, y, fresh, _ = gap
    first = fit(make(system), X, y)
    again = fit(fit(make(system), pd.DataFrame(whole_numbers[0][:, :3], columns=list("abc")), whole_numbers[1]), X, y)
    assert vars(again).keys() == vars(first).keys()
    assert score(again, fresh).tobytes() == score(first, fresh).tobytes()
    assert fit(again, X, y) is again


@promise("silence", SCORERS)
def test_nothing_is_printed(system, gap, capfd, monkeypatch):
    monkeypatch.setattr("assay.core.progress.PATIENCE_SECONDS", 0.0)
    X, y, fresh, _ = gap
    score(fit(make(system), X, y), fresh)
    assert capfd.readouterr() == ("", "")


def test_memory_and_time_grow_at_most_linearly_with_the_rows_scored(scorer):
    _, model, fresh, _ = scorer
    sizes = [1000, 2000, 4000]
    tables = [np.resize(fresh, (n, 4)) + np.linspace(0.0, 1.0, n)[:, None] for n in sizes]
    peaks, seconds = [], []
    for table in tables:
        score(model, table)
        tracemalloc.start()
        score(model, table)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        took = []
        for _ in range(3):
            begin = time.process_time()
            score(model, table)
            took.append(time.process_time() - begin)
        seconds.append(min(took))
    # A quadratic law gives 16 at four times the rows.
    assert peaks[1] < 3 * peaks[0] + 100_000 and peaks[2] < 5 * peaks[0] + 100_000
    assert seconds[2] < 8 * seconds[0] + 0.02


# -- detectors: training and labels ----------------------------------------------------------------------------------


def test_on_the_gap_table_the_distance_to_the_mean_fails(gap):
    X, y, fresh, truth = gap
    distance = np.linalg.norm(fresh - X[y == 0].mean(axis=0), axis=1)
    assert roc_auc_score(truth, distance) < 0.05


@promise("training_matters", DETECTORS)
def test_training_matters(system, gap):
    X, y, fresh, truth = gap
    learned = roc_auc_score(truth, make(system).fit(X, y).anomaly_score(fresh))
    assert learned > 0.9
    # Twins learn the same from noise in the same box, with the same labels in random order.
    rng = np.random.default_rng(0)
    twins = []
    for _ in range(7):
        noise = rng.uniform(X.min(axis=0), X.max(axis=0), size=X.shape)
        twin = make(system).fit(noise, rng.permutation(y))
        twins.append(roc_auc_score(truth, twin.anomaly_score(fresh)))
    assert learned > np.median(twins) + 0.2, twins


def test_ecod_finds_tails(gap):
    rng = np.random.default_rng(0)
    skewed = rng.exponential(size=(700, 4))
    rare = rng.exponential(size=(50, 4)) + np.array([3, 3, 0, 0])
    fresh, truth = np.vstack([skewed[400:], rare]), np.repeat([0, 1], [300, 50])
    noise = rng.uniform(0, 6, size=(400, 4))
    learned = roc_auc_score(truth, ECOD().fit(skewed[:400]).anomaly_score(fresh))
    assert learned > 0.9
    assert learned > roc_auc_score(truth, ECOD().fit(noise).anomaly_score(fresh)) + 0.2
    # The tail each column's skewness points to is used: a mirrored table gives mirrored scores.
    mirrored = ECOD().fit(-skewed[:400]).anomaly_score(-fresh)
    np.testing.assert_allclose(mirrored, ECOD().fit(skewed[:400]).anomaly_score(fresh), rtol=1e-9)


@promise("labels", [name for name in DETECTORS if load_class(find(name)).labels == "normals"])
def test_known_anomalies_are_left_out_of_training(system, gap):
    X, y, fresh, _ = gap
    known = np.where(np.arange(len(y)) % 3 == 0, y, np.where(y == 1, 1, -1))
    with_labels = make(system).fit(X, known).anomaly_score(fresh)
    without_rows = make(system).fit(X[y == 0]).anomaly_score(fresh)
    assert with_labels.tobytes() == without_rows.tobytes()
    assert with_labels.tobytes() != make(system).fit(X).anomaly_score(fresh).tobytes()
    with pytest.raises(InputError) as error:
        make(system).fit(X, np.ones(len(X)))
    assert_clear(error, "y")


@promise("labels", [name for name in DETECTORS if load_class(find(name)).labels != "normals"])
def test_labels_matter(system, gap):
    X, y, fresh, truth = gap
    true = make(system).fit(X, y).anomaly_score(fresh)
    # The other way round, the anomalies are what is normal.
    false = make(system).fit(X, 1 - y).anomaly_score(fresh)
    assert roc_auc_score(truth, true) > 0.9 > 0.2 > roc_auc_score(truth, false)
    half = np.where(np.arange(len(y)) % 2 == 0, y, -1)
    partly = make(system).fit(X, half).anomaly_score(fresh)
    assert np.isfinite(partly).all() and (partly != true).any()
    assert roc_auc_score(truth, partly) > 0.9


@promise("labels", [name for name in DETECTORS if load_class(find(name)).labels != "required"])
def test_labels_may_be_left_out(system, gap):
    X, y, fresh, _ = gap
    unknown = make(system).fit(X, np.full(len(X), -1)).anomaly_score(fresh)
    assert make(system).fit(X).anomaly_score(fresh).tobytes() == unknown.tobytes()


@promise("labels", [name for name in SCORERS if getattr(load_class(find(name)), "labels", "required") == "required"])
def test_labels_are_required(system, gap):
    X, _, fresh, _ = gap
    with pytest.raises(InputError, match="requires y to be passed, but the target y is None"):
        make(system).fit(X, None)
    with pytest.raises(InputError) as error:
        make(system).fit(X, np.full(len(X), -1))
    assert_clear(error, "y")
    for kind in (0, 1):
        model = make(system)
        if system in DETECTORS:  # a subset of the rows may lack one kind
            assert (model.fit(X, np.full(len(X), kind)).anomaly_score(fresh) == kind).all()
            continue
        with pytest.raises(InputError, match=r"y holds \d+ (anomalies|normal rows)"):
            model.fit(X, np.full(len(X), kind))


@pytest.mark.parametrize(
    "wrong",
    [[2, 0], [0.5, 0], ["0", "1"], [np.nan, 0], [None, 0], [[0, 1], [0, 1]], "short", [[0], [0, 1]], [1j, 0]],
    ids=str,
)
@promise("labels", SCORERS)
def test_wrong_labels_are_refused_in_one_line(system, wrong, whole_numbers):
    X, y = whole_numbers
    labels = y[:-1] if wrong == "short" else wrong * (len(X) // 2)
    with pytest.raises(InputError) as error:
        make(system).fit(X, labels)
    assert_clear(error, "y")


@promise("weights", DETECTORS)
def test_weights_are_used_or_refused(system, gap):
    X, y, fresh, _ = gap
    model = make(system)
    if not model.takes_weights:
        with pytest.raises(InputError) as error:
            model.fit(X, y, sample_weight=np.ones(len(X)))
        assert_clear(error, "sample_weight")
        return
    even = model.fit(X, y, sample_weight=np.ones(len(X))).anomaly_score(fresh)
    assert even.tobytes() == make(system).fit(X, y).anomaly_score(fresh).tobytes()
    heavy = np.where(y == 1, 100.0, 1.0) * np.linspace(0.1, 1, len(X))
    assert (make(system).fit(X, y, sample_weight=heavy).anomaly_score(fresh) != even).any()
    for wrong in (1.0, np.ones(3), -np.ones(len(X)), np.full(len(X), np.nan), ["a"] * len(X), np.ones((len(X), 2))):
        with pytest.raises(InputError) as error:
            model.fit(X, y, sample_weight=wrong)
        assert_clear(error, "sample_weight")


@pytest.mark.parametrize("calibration", [None, "sigmoid", "isotonic"])
@pytest.mark.parametrize("estimator", [None, RandomForestClassifier(20)], ids=["pipeline", "forest"])
def test_rows_of_no_weight_do_not_mislead_the_classifier(gap, estimator, calibration):
    X, y, fresh, truth = gap
    X, misled = np.vstack([X, X, X, X]), np.concatenate([y, 1 - y, 1 - y, 1 - y])
    weights = np.repeat([1.0, 0.0, 0.0, 0.0], len(y))
    model = ClassifierDetector(estimator, calibration, random_state=0)
    scores = model.fit(X, misled, weights).anomaly_score(fresh)
    assert roc_auc_score(truth, scores) > 0.9
    assert scores[truth == 0].mean() < 0.3
    assert model.fit(X, misled).anomaly_score(fresh)[truth == 0].mean() > 0.4


def test_a_classifier_without_weights_refuses_them(gap):
    X, y, _, _ = gap
    for estimator in (KNeighborsClassifier(), make_pipeline(StandardScaler(), KNeighborsClassifier())):
        with pytest.raises(InputError, match="KNeighborsClassifier takes no weights") as error:
            ClassifierDetector(estimator).fit(X, y, np.linspace(0, 1, len(y)))
        assert_clear(error, "sample_weight")


def test_every_tree_of_the_forest_counts(gap):
    X, _, fresh, _ = gap
    forest = IsolationForest(n_trees=30, random_state=0).fit(X)
    scores, path = forest.anomaly_score(fresh), forest.path_.copy()
    assert len(set(forest.root_)) == 30
    for first, last in zip(forest.root_, [*forest.root_[1:], len(path)]):
        forest.path_ = path.copy()
        forest.path_[first:last] += 1.0
        assert (forest.anomaly_score(fresh) < scores).all()


def test_every_subset_of_eap_counts(gap):
    X, y, fresh, _ = gap
    eap = make("eap").fit(X, y)
    quality = eap.quality(fresh)
    for b in range(eap.n_subsets):
        kept = eap.models_[b]
        eap.models_[b] = SwornNormal()
        assert (eap.quality(fresh) != quality).any()
        eap.models_[b] = kept
        assert eap.members_[:, b].any()
    assert len({subset.tobytes() for subset in eap.members_.T}) == eap.n_subsets


class SwornNormal:
    def probability(self, X):
        return np.zeros(len(X))


# -- quality scores --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def triples():
    """Return training rows, labels, and (20 realistic, 20 unrealistic, 20 indistinguishable) rows, stacked."""
    rng = np.random.default_rng(4)
    X = np.vstack([rng.normal(size=(300, 3)), rng.normal(2.5, 0.4, size=(15, 3))])
    realistic = rng.normal(2.5, 0.4, size=(20, 3))
    unrealistic = rng.normal(size=(20, 3)) + 30 * rng.choice([-1.0, 1.0], size=(20, 3))
    indistinguishable = rng.normal(scale=0.7, size=(20, 3))
    return X, np.repeat([0, 1], [300, 15]), np.vstack([realistic, unrealistic, indistinguishable])


def orders(quality):
    """Return AUC of realistic over unrealistic, and of realistic over indistinguishable."""
    return [
        roc_auc_score(np.repeat([1, 0], 20), np.r_[quality[:20], other]) for other in (quality[20:40], quality[40:])
    ]


def test_eap_orders_planted_triples_where_each_half_of_it_fails(triples):
    X, y, auxiliary = triples
    over_unrealistic, over_indistinguishable = orders(make("eap", n_subsets=40).fit(X, y).quality(auxiliary))
    assert over_unrealistic > 0.95 and over_indistinguishable > 0.95
    # Density alone prefers what looks normal; the class probability alone does not mind the empty space.
    over_unrealistic, over_indistinguishable = orders(RarityDensity().fit(X, y).quality(auxiliary))
    assert over_unrealistic > 0.95 and over_indistinguishable < 0.1
    over_unrealistic, over_indistinguishable = orders(ClassProbability(random_state=0).fit(X, y).quality(auxiliary))
    assert over_unrealistic < 0.6 and over_indistinguishable > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_eap_is_bounded_and_falls_back_to_the_prior_where_there_are_no_data(triples, seed):
    X, y, auxiliary = triples
    eap = make("eap", seed=seed).fit(X, y)
    quality = eap.quality(np.vstack([auxiliary, X]))
    assert ((quality > 0) & (quality < 1)).all()
    np.testing.assert_allclose(quality[20:40], eap.contamination_, rtol=1e-9)


@promise("moves", QUALITIES)
def test_qualities_move_with_the_rows_and_with_the_labels(system, triples):
    X, y, auxiliary = triples
    quality = make(system).fit(X, y).quality(auxiliary)
    assert np.isfinite(quality).all()
    assert len(np.unique(quality)) > 8  # sparse effects and votes take few values
    # Other anomalies are known: twice as far out.
    moved = np.where(y[:, None] == 1, 2 * X, X)
    assert (make(system).fit(moved, y).quality(auxiliary) != quality).any()


@promise("alone", QUALITIES)
def test_each_row_is_judged_on_its_own(system, triples):
    X, y, auxiliary = triples
    model = make(system).fit(X, y)
    alone = np.concatenate([model.quality(row[None]) for row in auxiliary])
    among_many_far_ones = model.quality(np.vstack([auxiliary, np.full((500, 3), 1e3)]))[:60]
    np.testing.assert_allclose(alone, among_many_far_ones, rtol=1e-12)


@promise("quality", QUALITIES)
def test_unknown_labels_are_refused_by_quality_scores(system, triples):
    X, y, _ = triples
    with pytest.raises(InputError, match="unknown labels") as error:
        make(system).fit(X, np.where(np.arange(len(y)) < 5, -1, y))
    assert_clear(error, "y")


# -- calibrators -----------------------------------------------------------------------------------------------------


@promise("flags", CALIBRATORS)
def test_calibrators_on_normals_alone(system):
    scores = np.random.default_rng(0).normal(size=200)
    calibrator = make(system).fit(scores)
    assert np.isfinite(calibrator.threshold_)
    flagged = calibrator.predict(scores)
    assert flagged.dtype == np.int64 and set(flagged) == {0, 1}
    assert 0.01 < flagged.mean() < 0.15
    assert calibrator.predict([scores.max() + 1, scores.min() - 1]).tolist() == [1, 0]
    assert calibrator.predict([calibrator.threshold_]).tolist() == [0]


@promise("calibrator", CALIBRATORS)
def test_calibrators_do_not_depend_on_order_units_or_memory(system):
    scores = np.random.default_rng(0).gamma(2.0, size=200)
    copy = scores.copy()
    scores.setflags(write=False)
    expected = make(system).fit(scores)
    threshold = expected.threshold_
    assert np.array_equal(scores, copy)
    assert make(system).fit(scores[::-1].tolist()).threshold_ == threshold
    assert make(system).fit(np.arange(3.0)[[0, 0, 1]].repeat(40)).fit(scores).threshold_ == threshold
    np.testing.assert_allclose(make(system).fit(1000 * scores).threshold_, 1000 * threshold)
    expected.predict(np.full(500, 1e6))
    assert expected.threshold_ == threshold


@pytest.mark.parametrize(
    "wrong",
    [[], [np.nan, 1.0], [np.inf, 1.0], [[1.0], [2.0]], 3.0, ["a", "b"], [[1.0], [1.0, 2.0]], None, [1j, 2j]],
    ids=str,
)
@promise("calibrator", CALIBRATORS)
def test_wrong_scores_are_refused_in_one_line(system, wrong):
    with pytest.raises(InputError) as error:
        make(system).fit(wrong)
    assert_clear(error, "scores")
    if wrong != []:
        with pytest.raises(InputError) as error:
            make(system).fit(np.arange(100.0)).predict(wrong)
        assert_clear(error, "scores")


@promise("calibrator", CALIBRATORS)
def test_calibrators_take_equal_scores_and_a_single_one(system):
    for scores in (np.zeros(50), np.full(50, 2.5)):
        assert make(system).fit(scores).predict(scores).sum() == 0
    lone = contextlib.nullcontext()
    if system == "false_alarm_rate":
        lone = pytest.warns(UserWarning, match="cannot promise")
    with lone:
        assert make(system).fit([1.0]).predict([1.0]).tolist() == [0]


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("n", [60, 101])
@pytest.mark.parametrize("calibrator", [FalseAlarmRate, Conformal])
def test_the_promised_false_alarm_rate_holds_on_fresh_normals(calibrator, n, rate):
    rng = np.random.default_rng(0)
    repetitions = 20_000
    # By exchangeability, the rate averaged over calibration sets is this one, exactly.
    exact = np.floor((n + 1) * rate + 1e-9) / (n + 1)
    alarms = sum(
        int(calibrator(rate).fit(scores[:n]).predict(scores[n:])[0]) for scores in rng.normal(size=(repetitions, n + 1))
    )
    low, high = binom.ppf([1e-5, 1 - 1e-5], repetitions, exact)
    assert low <= alarms <= high
    assert rate - 1 / (n + 1) <= exact <= rate


def test_too_few_scores_promise_what_they_can():
    with pytest.warns(UserWarning, match="at least 19 normal rows"):
        calibrator = FalseAlarmRate(0.05).fit(np.arange(9.0))
    assert calibrator.guaranteed_ == pytest.approx(0.1)
    assert calibrator.threshold_ == 8.0
    assert FalseAlarmRate(0.05).fit(np.arange(19.0)).guaranteed_ == 0.05
    # No p-value is as small as .05 there: nothing may be flagged.
    assert Conformal(0.05).fit(np.arange(9.0)).predict([1e9]).tolist() == [0]


@pytest.mark.parametrize("ties", [False, True])
def test_p_values_are_super_uniform(ties):
    rng = np.random.default_rng(1)
    n, repetitions = 30, 8000
    draws = rng.normal(size=(repetitions, n + 1))
    if ties:
        draws = np.rint(draws)
    p = np.array([Conformal().fit(row[:n]).p_value(row[n:])[0] for row in draws])
    for level in (0.05, 1 / 31, 0.1, 0.3, 0.5, 0.9):
        most = np.floor(level * (n + 1) + 1e-9) / (n + 1)
        assert (p <= level + 1e-12).sum() <= binom.ppf(1 - 1e-5, repetitions, most)
        if not ties:
            assert (p <= level + 1e-12).sum() >= binom.ppf(1e-5, repetitions, most)
    assert p.min() >= 1 / (n + 1) - 1e-12 and p.max() <= 1


def test_p_values_count():
    conformal = Conformal(0.25).fit([1.0, 2.0, 2.0, 3.0])
    assert conformal.p_value([0.0, 1.0, 2.0, 2.5, 3.0, 4.0]).tolist() == [1.0, 1.0, 0.8, 0.4, 0.4, 0.2]
    assert conformal.predict([3.0, 3.1]).tolist() == (conformal.p_value([3.0, 3.1]) <= 0.25).astype(int).tolist()


def test_the_single_row_rule_is_the_p_value_rule():
    rng = np.random.default_rng(2)
    for n in range(3, 60, 7):
        for alpha in (0.02, 0.1, 1 / (n + 1), 0.5):
            conformal = Conformal(alpha).fit(np.rint(4 * rng.normal(size=n)))
            new = np.arange(-20.0, 20.0, 0.5)
            np.testing.assert_array_equal(conformal.predict(new), conformal.p_value(new) <= alpha + 1e-12)


def test_discoveries_hold_their_rate_and_find_something():
    rng = np.random.default_rng(3)
    fdr, normals, anomalies, repetitions = 0.2, 40, 10, 1000
    false_share, found = np.empty(repetitions), np.empty(repetitions)
    naive_share = np.empty(repetitions)
    truth = np.repeat([0, 1], [normals, anomalies])
    for r in range(repetitions):
        conformal = Conformal(alpha=fdr).fit(rng.normal(size=300))
        new = rng.normal(size=normals + anomalies) + 3.5 * truth
        chosen = conformal.discoveries(new, fdr)
        false_share[r] = (chosen & (truth == 0)).sum() / max(chosen.sum(), 1)
        found[r] = chosen[truth == 1].mean()
        single = conformal.predict(new) == 1
        naive_share[r] = (single & (truth == 0)).sum() / max(single.sum(), 1)
    error = false_share.std() / np.sqrt(repetitions)
    bound = fdr * normals / (normals + anomalies)
    assert false_share.mean() <= bound + 4 * error
    assert false_share.mean() > 0.5 * bound
    assert found.mean() > 0.7
    # The single-row rule at the same level does not control the share.
    assert naive_share.mean() > fdr + 4 * error


def test_discoveries_follow_benjamini_and_hochberg():
    conformal = Conformal().fit(np.arange(99.0))
    assert not conformal.discoveries([10.0, 20.0, 30.0], 0.1).any()
    # p = .01, .02, .04, 1: the thresholds are .025, .05, .075, .1 times one.
    assert conformal.discoveries([200.0, 98.0, 96.0, -1.0], 0.1).tolist() == [True, True, True, False]
    # A p-value above its own threshold is carried by a later one: p = .06, .06, .06 at .1.
    assert conformal.discoveries([94.0, 94.0, 94.0], 0.1).all()
    assert conformal.discoveries([94.0, 50.0, 40.0], 0.1).sum() == 0


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.25, 0.49])
def test_quantile_flags_its_share(share):
    scores = np.random.default_rng(0).normal(size=1000)
    assert Quantile(share).fit(scores).predict(scores).sum() == pytest.approx(1000 * share, abs=1)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25])
def test_squash_is_one_half_at_the_threshold_monotone_and_flags_its_share(share):
    scores = np.random.default_rng(0).gamma(2.0, size=1000)
    squash = Squash(share).fit(scores)
    assert squash.probability([squash.threshold_])[0] == pytest.approx(0.5)
    assert squash.probability([0.0])[0] == 0.0
    grid = squash.probability(np.linspace(0, 3 * squash.threshold_, 500))
    assert (np.diff(grid) > 0).all() and grid[-1] < 1
    assert (squash.probability(scores) > 0.5).mean() == pytest.approx(share, abs=0.002)
    np.testing.assert_array_equal(squash.predict(scores), squash.probability(scores) > 0.5)
    assert squash.probability([2 * squash.threshold_])[0] == pytest.approx(1 - 2.0**-4)


def test_squash_takes_negative_scores():
    scores = np.random.default_rng(0).normal(size=500) - 10.0
    squash = Squash(0.1).fit(scores)
    q = squash.probability(scores)
    assert q.min() == 0 and (np.diff(q[np.argsort(scores)]) >= 0).all()
    assert (q > 0.5).mean() == pytest.approx(0.1, abs=0.003)


def test_only_squash_speaks_of_probabilities():
    assert [name for name in CALIBRATORS if hasattr(load_class(find(name)), "probability")] == ["squash"]
