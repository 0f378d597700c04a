"""Whatever comes in, out comes a result or one clear line.

More than 4,000 malformed inputs, the same ones in every run. Examples of each property, times what it is run for:

================  ====================================================  ======
random bytes      150 x 4 endings of files                                 600
damaged files     150 x 4 endings                                          600
detectors         60 x 9 systems: tables, labels, weights                  540
generators        50 x 12 systems: tables, anomalies, numbers of rows      600
quality scores    60 x 3 systems: tables, labels                           180
calibrators       80 x 4 systems: scores                                   320
calibrated        any detector with any calibrator                         100
training          train_with_auxiliary                                     100
gain              cross_checked_gain                                        40
suggest           generators, strengths, numbers of rows                    60
probe             real and synthetic rows, masks, names                     80
selection         rules and metrics                                        100
parameters        30 x 28 systems: values of the constructors              840
command line      lists of arguments                                       250
================  ====================================================  ======

In all 4,410. A refusal is an `InputError`, a `MissingExtra`, or another `ValueError` of one line; every other
exception, every warning, every score that is not finite and whatever takes longer than 20 seconds is a defect.
Sizes (rows, trees, subsets) stay small: what does not fit into memory is not malformed.
"""

import datetime
import decimal
import inspect
import os
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from assay import ExpectedAnomalyPosterior, artefact_probe, suggest, train_with_auxiliary
from assay.base import Auxiliary
from assay.calibration.calibrated import Calibrated
from assay.catalogue import SYSTEMS, find, load_class, of_role
from assay.core.extras import MissingExtra
from assay.core.tables import read_table
from assay.core.validation import LabelWarning
from assay.detectors.tabular.neighbours import KNN
from assay.metrics.ranking import average_precision, roc_auc
from assay.quality.selection import keep_otsu, keep_top, weights
from assay.training.auxiliary import cross_checked_gain
from commands import contents, run
from small import SMALL

DETECTORS = [entry.name for entry in of_role("detector", "tables")]
GENERATORS = [entry.name for entry in of_role("generator", "tables")]
QUALITIES = [entry.name for entry in of_role("quality")]
CALIBRATORS = [entry.name for entry in of_role("calibrator")]
EVERYTHING = [entry.name for entry in SYSTEMS if entry.data != "images"]
ENDINGS = [".csv", ".parquet", ".npz", ".npy"]

#: Examples, and how many systems or endings they are drawn for.
EXAMPLES = {
    "random bytes": (150, len(ENDINGS)),
    "damaged files": (150, len(ENDINGS)),
    "detectors": (60, len(DETECTORS)),
    "generators": (50, len(GENERATORS)),
    "quality scores": (60, len(QUALITIES)),
    "calibrators": (80, len(CALIBRATORS)),
    "calibrated": (100, 1),
    "training": (100, 1),
    "gain": (40, 1),
    "suggest": (60, 1),
    "probe": (80, 1),
    "selection": (100, 1),
    "parameters": (30, len(EVERYTHING)),
    "command line": (250, 1),
}

#: Small, for speed alone.
FAST = {
    "isolation_forest": {"n_trees": 10},
    "noise_contrastive": {"classifier": RandomForestClassifier(5)},
    "eap": {"n_subsets": 3},
    "foreign_rows": {"foreign": [np.random.default_rng(0).normal(size=(60, 5))]},
} | SMALL


def test_there_are_more_than_2000_examples():
    assert sum(examples * systems for examples, systems in EXAMPLES.values()) >= 2000


def fuzz(name):
    return settings(
        max_examples=EXAMPLES[name][0],
        derandomize=True,
        database=None,
        deadline=datetime.timedelta(seconds=20),
        suppress_health_check=list(HealthCheck),
    )


def outcome(function, *arguments, **options):
    """Return the result, or None where it was refused in one line; let everything else through."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Both say what the caller should know of data that are used all the same.
        warnings.filterwarnings("ignore", category=LabelWarning)
        warnings.filterwarnings("ignore", message=".*cannot promise a rate.*")
        warnings.filterwarnings("ignore", message="no mixture of .* met")
        warnings.filterwarnings("ignore", message="the scores of detector .* constant")
        try:
            return function(*arguments, **options)
        except (ValueError, MissingExtra) as error:
            assert not isinstance(error, UnicodeError), error
            assert str(error).strip() and len(str(error).splitlines()) == 1, repr(error)
            return None


def make(system, **parameters):
    return load_class(find(system))(**{**FAST.get(system, {}), **parameters})


# -- what comes in ---------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
NORMALS = RNG.normal(size=(40, 3))
X = np.vstack([NORMALS, RNG.normal(3.0, 0.5, size=(5, 3))])
Y = np.repeat([0, 1], [40, 5])
AUX = RNG.normal(2.0, 2.0, size=(12, 3))
WHEN = datetime.datetime(2024, 1, 1)


def with_cell(value):
    table = X.astype(object)
    table[3, 1] = value
    return table


def frame(values):
    return {"a": values, "b": [1.0] * len(values), "c": list(range(len(values)))}


ODD_COLUMNS = [
    ["x", "y", "z"],
    [1, None, 3],
    [None, None, None],
    [True, False, True],
    [1.5, float("nan"), 2.0],
    [float("inf"), 1.0, 2.0],
    [WHEN] * 3,
    [datetime.timedelta(1)] * 3,
    [decimal.Decimal("1.5"), decimal.Decimal("2"), decimal.Decimal("3.25")],
    [b"1", b"2", b"3"],
    [[1, 2], [3], []],
    [{"k": 1}, {"k": 2}, {"k": 3}],
    [2**60, 2**61, 5],
    [1e300, -1e300, 0.0],
]


def frames():
    """Return dataframes of every library with odd columns."""
    odd = [pd.DataFrame(frame(column)) for column in ODD_COLUMNS]
    odd += [pl.DataFrame(frame(column), strict=False) for column in ODD_COLUMNS]
    odd += [pa.table(frame(column)) for column in ODD_COLUMNS]
    plain = pd.DataFrame(X, columns=["a", "b", "c"])
    odd += [
        plain,
        plain.rename(columns={"a": "b"}),
        plain.astype({"a": "category"}),
        plain.astype({"a": "complex"}),
        plain.astype({"a": "string"}),
        plain.astype(object),
        plain.astype("Float64"),
        plain.astype({"a": pd.SparseDtype(float)}),
        plain.set_axis([0, 1, 2], axis=1),
        plain.set_axis([0, "b", None], axis=1),
        plain.set_axis(pd.MultiIndex.from_tuples([(0, 1), (0, 2), (1, 1)]), axis=1),
        plain.set_index("a"),
        plain.iloc[:0],
        plain[[]],
        pd.DataFrame(),
        plain["a"],
        plain.assign(a=pd.period_range("2024", periods=len(X), freq="D")),
        plain.assign(a=pd.date_range("2024", periods=len(X), tz="UTC")),
        plain.assign(a=pd.Categorical([1, 2] * 22 + [1])),
        pl.DataFrame(X),
        pl.DataFrame(X).lazy(),
        pl.DataFrame(X)["column_0"],
        pl.DataFrame({"a": ["x"] * 3}, schema={"a": pl.Categorical}),
        pl.DataFrame({"a": ["x"] * 3}, schema={"a": pl.Enum(["x"])}),
        pl.DataFrame({"a": [1, 2, 3]}, schema={"a": pl.Object}),
        pl.DataFrame(),
        pa.table({}),
        pa.table({"a": pa.array([1, 2, 3], pa.dictionary(pa.int8(), pa.int64()))}),
        pa.table({"a": pa.array([1, 2, 3], pa.time32("s"))}),
    ]
    return odd


TABLES = [
    *frames(),
    X,
    X.astype(np.float16),
    X.astype(np.longdouble) * np.longdouble("1e400"),
    X.astype(complex),
    X.astype(str),
    X.astype(object),
    X > 0,
    (X * 100).astype(np.int8),
    (X * 100).astype(np.uint64),
    X.tolist(),
    tuple(map(tuple, X)),
    np.asfortranarray(X),
    X[::-2],
    np.ma.masked_array(X, mask=X > 1),
    X * 1e140,
    X * 1e149,
    X * 1e155,
    X * 1e-160,
    X * 1e-320,
    X + 1e16,
    np.zeros((45, 3)),
    np.full((45, 3), 7.1),
    np.repeat(X[:1], 45, axis=0),
    np.column_stack([X[:, 0], np.zeros(45), X[:, 2]]),
    np.vstack([X[:22], X[:22], X[:1]]),
    np.where(RNG.random(X.shape) < 0.1, np.nan, X),
    np.where(RNG.random(X.shape) < 0.1, -np.inf, X),
    X[:1],
    X[:2],
    X[:0],
    X[:, :0],
    X[:, :1],
    X[0],
    X[None],
    np.float64(3.0),
    np.array(["a", "b"]),
    np.array([["a", "b"], ["c", "d"]]),
    np.array([["1", "2"], ["3", "4"]]),
    np.array([[b"1", b"2"]]),
    np.array([["2024-01-01", "2024-01-02"]], dtype="datetime64[D]"),
    np.array([[1, 2]], dtype="timedelta64[s]"),
    np.zeros((3, 2), dtype=[("a", float), ("b", int)]),
    np.zeros(3, dtype="V8"),
    np.recarray((2, 2), dtype=[("a", float)]),
    np.array([[None, 1.0], [2.0, 3.0]]),
    np.array([[10**400, 1], [2, 3]], dtype=object),
    with_cell(None),
    with_cell("x"),
    with_cell([1, 2]),
    with_cell(10**400),
    with_cell(1 + 2j),
    with_cell(WHEN),
    with_cell(decimal.Decimal("NaN")),
    with_cell(object()),
    with_cell(pd.NA),
    [[1.0, 2.0], [3.0]],
    [[1.0, 2.0], 3.0],
    [[[1.0]], [[2.0]]],
    [[1.0, "x"]],
    [[1.0, None]],
    [["a\nb", 1.0]],
    [[10**400, 1.0]],
    [[], []],
    [],
    [[]],
    (),
    {},
    {"a": [1.0]},
    {1.0, 2.0},
    [{"a": 1.0}],
    None,
    3,
    "table",
    "a\nb",
    b"bytes",
    object(),
    object,
    lambda: None,
    iter([[1.0]]),
    range(5),
    memoryview(X),
    np.random.default_rng(0),
    sparse.csr_matrix(X),
    sparse.coo_array(X),
    KNN(),
    Ellipsis,
]

LABELS = [
    Y,
    Y.tolist(),
    Y.astype(float),
    Y.astype(bool),
    Y.astype(object),
    Y[:, None],
    pd.Series(Y),
    pd.Series(Y, dtype="Int64"),
    pl.Series(Y),
    pa.array(Y),
    Y - 1,
    1 - Y,
    np.zeros(45, dtype=int),
    np.ones(45, dtype=int),
    np.full(45, -1),
    np.where(np.arange(45) % 3 == 0, -1, Y),
    Y[:-1],
    Y[:0],
    Y * 2,
    Y * 0.5,
    np.where(Y == 1, np.nan, 0.0),
    np.where(Y == 1, np.inf, 0.0),
    Y.astype(complex),
    Y.astype(str),
    np.array(["normal", "odd"])[Y],
    np.array(["a\nb", "c\nd"])[Y],
    np.array([None] * 45),
    [0] * 44 + [10**400],
    [[0], [1, 2]],
    np.stack([Y, Y], axis=1),
    Y.astype("datetime64[s]"),
    None,
    "y",
    1,
    {},
    object(),
    iter(Y),
    sparse.csr_matrix(Y),
    pd.DataFrame({"y": Y}),
    pd.Categorical(Y),
]

SCORES = [
    X[:, 0],
    X[:, 0].tolist(),
    [],
    [1.0],
    [1.0, 1.0, 1.0],
    [np.nan, 1.0],
    [np.inf, 1.0],
    [1e300, 1.0],
    [1e149, -1e149],
    [1e-320, 2e-320],
    ["a", "b"],
    ["a\nb"],
    [None, 1.0],
    [[1.0], [2.0]],
    [[1.0], [2.0, 3.0]],
    [1 + 2j],
    [10**400],
    [True, False],
    5.0,
    None,
    "scores",
    {},
    {1.0},
    object(),
    pd.Series([1.0, None]),
    pd.Series([1.0, 2.0]),
    pd.DataFrame({"a": [1.0, 2.0]}),
    pl.Series([1.0, 2.0]),
    pa.array([1.0, None]),
    np.array([WHEN, WHEN]),
    np.array([1, 2], dtype="timedelta64[s]"),
    np.zeros(2, dtype=[("a", float)]),
    sparse.csr_matrix([[1.0]]),
]


def table_number(place):
    return TABLES[place]


def labels_number(place):
    return LABELS[place]


def scores_number(place):
    return SCORES[place]


# By their number, so that a failure names it instead of printing them all.
one_of_tables = st.integers(0, len(TABLES) - 1).map(table_number)
one_of_labels = st.integers(0, len(LABELS) - 1).map(labels_number)
one_of_scores = st.integers(0, len(SCORES) - 1).map(scores_number)
numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.integers(-3, 3).map(float),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-200, 1e149, 9.9e149, 1e150, 1e16]),
)


@st.composite
def drawn_tables(draw):
    """Draw a small table of any numbers, most of them usable, so that what lies behind the door is reached."""
    n, d = draw(st.integers(0, 12)), draw(st.integers(0, 4))
    scale = draw(st.sampled_from([1.0, 1.0, 1.0, 1e-150, 1e100, 1e148]))
    rows = draw(st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(n, d)) * scale))
    if rows.size and draw(st.booleans()):
        rows = np.round(rows / scale) * scale
    if rows.size and draw(st.booleans()):
        rows[draw(st.integers(0, n - 1)), draw(st.integers(0, d - 1))] = draw(numbers)
    return rows


def tables():
    return st.one_of(one_of_tables, drawn_tables())


def labels_for(table):
    """Draw labels: those of a list, or ones that fit the table."""
    n = len(table) if hasattr(table, "__len__") and not sparse.issparse(table) else 0
    fitting = st.integers(0, 2**32 - 1).map(lambda seed: (np.random.default_rng(seed).random(n) < 0.3).astype(int))
    return st.one_of(fitting, one_of_labels)


@st.composite
def tables_and_labels(draw):
    table = draw(tables())
    return table, draw(labels_for(table))


def check_scores(scores, n=None):
    if scores is None:
        return
    assert isinstance(scores, np.ndarray) and scores.dtype == np.float64 and scores.ndim == 1
    assert n is None or len(scores) == n
    assert np.isfinite(scores).all()


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def good_files(folder):
    """Return the bytes of a good file of each ending, with labels and an index where it can hold some."""
    table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(label=Y, id=[f"r{row}" for row in range(len(Y))])
    arrow = pa.Table.from_pandas(table.set_index("id"))
    csv.write_csv(arrow, folder / "good.csv")
    parquet.write_table(arrow, folder / "good.parquet")
    np.savez_compressed(folder / "good.npz", X=X, y=Y)
    np.save(folder / "good.npy", X)
    return {ending: (folder / f"good{ending}").read_bytes() for ending in ENDINGS}


def read(folder, ending, content, label):
    path = folder / f"bad{ending}"
    path.write_bytes(content)
    table = outcome(read_table, path, label=label, argument="--train")
    if table is not None:
        assert np.isfinite(table.X).all() and len(table.X) == len(table.index) > 0
        assert table.X.shape[1] == len(table.names) > 0
        assert (table.y is None) == (label is None)


@pytest.mark.parametrize("ending", ENDINGS)
@fuzz("random bytes")
@given(
    content=st.one_of(
        st.binary(max_size=400),
        st.text(max_size=200).map(lambda text: text.encode()),
        st.lists(
            st.lists(st.sampled_from(["1", "2.5", "", "nan", "-inf", "1e400", "x", '"', "é", "1,2", "label", "\x00"])),
            max_size=8,
        ).map(lambda rows: "\n".join(",".join(row) for row in rows).encode()),
        st.binary(max_size=60).map(lambda tail: b"\x93NUMPY\x01\x00" + tail),
        st.binary(max_size=60).map(lambda tail: b"PK\x03\x04" + tail),
        st.binary(max_size=60).map(lambda middle: b"PAR1" + middle + b"PAR1"),
    ),
    label=st.sampled_from([None, "label", "y"]),
)
def test_random_bytes_are_no_table(folder, ending, content, label):
    read(folder, ending, content, label)


@pytest.mark.parametrize("ending", ENDINGS)
@fuzz("damaged files")
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=5),
    cut=st.one_of(st.none(), st.floats(0, 1)),
    insertion=st.one_of(st.just(b""), st.binary(max_size=20)),
    tail=st.booleans(),
    label=st.booleans(),
)
def test_damaged_files_are_read_or_refused(folder, good_files, ending, changes, cut, insertion, tail, label):
    content = bytearray(good_files[ending])
    for share, replacement in changes:
        # The end of a Parquet or NumPy archive says what the rest means.
        start = max(0, len(content) - 400) if tail else 0
        place = start + int(share * (len(content) - 1 - start))
        content[place : place + len(replacement)] = replacement
    if cut is not None:
        del content[int(cut * len(content)) :]
    middle = len(content) // 2
    content[middle:middle] = insertion
    read(folder, ending, bytes(content), ("y" if ending == ".npz" else "label") if label else None)


# -- systems ---------------------------------------------------------------------------------------------------------


@cache
def fitted(system):
    """Return the system fitted on good data."""
    return make(system, **seeded(system)).fit(X, Y)


def seeded(system):
    return {"random_state": 0} if "random_state" in inspect.signature(load_class(find(system))).parameters else {}


@pytest.mark.parametrize("system", DETECTORS)
@fuzz("detectors")
@given(given_=tables_and_labels(), other=tables(), weights_=st.one_of(st.none(), one_of_scores))
def test_detectors(system, given_, other, weights_):
    table, labels = given_
    model = outcome(make(system, **seeded(system)).fit, table, labels, weights_)
    if model is not None:
        check_scores(outcome(model.anomaly_score, table))
        check_scores(outcome(model.anomaly_score, other))
    check_scores(outcome(fitted(system).anomaly_score, other))


@pytest.mark.parametrize("system", GENERATORS)
@fuzz("generators")
@given(
    table=tables(),
    anomalies=st.one_of(st.none(), tables()),
    n=st.sampled_from([1, 3, 0, -1, 2.5, "3", None, True]),
    strength=st.sampled_from([None, 0, 0.5, 2, 1e6, -1, np.nan, np.inf, "1", 1e7]),
)
def test_generators(system, table, anomalies, n, strength):
    for normals, others in ((table, anomalies), (table, AUX), (X, anomalies)):
        model = outcome(make(system, random_state=0).fit, normals, others)
        rows = None if model is None else outcome(model.sample, n, strength)
        if rows is not None:
            assert rows.X.shape == (n, model.n_features_in_) == rows.mask.shape
            assert np.isfinite(rows.X).all()


@pytest.mark.parametrize("system", QUALITIES)
@fuzz("quality scores")
@given(given_=tables_and_labels(), other=tables())
def test_quality_scores(system, given_, other):
    table, labels = given_
    judge = outcome(make(system, **seeded(system)).fit, table, labels)
    if judge is not None:
        check_scores(outcome(judge.quality, table))
        check_scores(outcome(judge.quality, other))
    good = fitted(system)
    check_scores(outcome(good.quality, other))
    if hasattr(good, "evaluate"):
        outcome(good.evaluate, other)


@cache
def calibrated_on_a_table(system):
    return outcome(make(system).fit, X[:, 0])


@pytest.mark.parametrize("system", CALIBRATORS)
@fuzz("calibrators")
@given(
    scores=st.one_of(one_of_scores, st.lists(numbers, max_size=8)),
    fresh=st.one_of(one_of_scores, st.lists(numbers, max_size=8)),
)
def test_calibrators(system, scores, fresh):
    for calibrator in (outcome(make(system).fit, scores), calibrated_on_a_table(system)):
        if calibrator is None:
            continue
        decided = outcome(calibrator.predict, fresh)
        assert decided is None or set(np.unique(decided)) <= {0, 1}
        for method in ("probability", "p_value"):
            if hasattr(calibrator, method):
                values = outcome(getattr(calibrator, method), fresh)
                assert values is None or ((values >= 0) & (values <= 1)).all()


@fuzz("calibrated")
@given(
    given_=tables_and_labels(),
    other=tables(),
    detector=st.sampled_from(DETECTORS),
    calibrator=st.sampled_from(CALIBRATORS),
)
def test_calibrated(given_, other, detector, calibrator):
    table, labels = given_
    model = outcome(Calibrated(make(detector), make(calibrator), random_state=0).fit, table, labels)
    if model is not None:
        outcome(model.predict, other)
        check_scores(outcome(model.anomaly_score, other))


# -- training --------------------------------------------------------------------------------------------------------


QUALITY_GIVEN = [None, np.ones(12), np.ones(3), "eap", np.full(12, np.nan), ["a"] * 12, [[1.0], [1.0, 2.0]], KNN()]
GENERATORS_GIVEN = [["uniform_box"], ["nothing"], [], [3], "smote", [None], ["smote", "mixup"], [KNN()], 7]


@fuzz("training")
@given(
    given_=tables_and_labels(),
    auxiliary=tables(),
    good=st.sampled_from(["real", "auxiliary", "neither"]),
    quality=st.sampled_from(QUALITY_GIVEN),
    detector=st.sampled_from([None, LogisticRegression(), KNN(), "svc", LogisticRegression, 3]),
    how=st.sampled_from(["filter", "weight", "drop", None, ["filter"]]),
    rule=st.sampled_from(["prior", "otsu", "top", "ci", "verdict", "best", None, ["top"]]),
)
def test_training(given_, auxiliary, good, quality, detector, how, rule):
    table, labels = (X, Y) if good == "real" else given_
    auxiliary = AUX if good == "auxiliary" else auxiliary
    quality = ExpectedAnomalyPosterior(n_subsets=3) if quality is None else quality
    trained = outcome(
        train_with_auxiliary, detector, table, labels, auxiliary, quality, how=how, rule=rule, random_state=0
    )
    if trained is not None:
        check_scores(trained.quality)
        check_scores(outcome(trained.detector.anomaly_score, table))


@fuzz("gain")
@given(
    given_=tables_and_labels(),
    auxiliary=tables(),
    test=st.one_of(st.none(), st.tuples(tables(), one_of_labels), st.just((X, Y))),
    good=st.sampled_from(["real", "auxiliary", "both"]),
    rule=st.sampled_from(["prior", "otsu", "top", "best"]),
)
def test_gain(given_, auxiliary, test, good, rule):
    table, labels = given_ if good == "auxiliary" else (X, Y)
    auxiliary = auxiliary if good == "real" else AUX
    judge, learner = ExpectedAnomalyPosterior(n_subsets=3), LogisticRegression()
    options = {"rule": rule, "n_splits": 2, "test": test, "random_state": 0}
    rows = outcome(cross_checked_gain, learner, table, labels, auxiliary, judge, **options)
    assert rows is None or all(np.isfinite(row["roc_auc"]) for row in rows)


@fuzz("suggest")
@given(
    given_=tables_and_labels(),
    good=st.booleans(),
    generators=st.sampled_from(GENERATORS_GIVEN),
    strengths=st.sampled_from([(1.0,), (), (0.0,), (-1,), ("1",), (np.nan,), (np.inf,), None, 1.0, (1, 2)]),
    n=st.sampled_from([2, 5, 1, 0, 2.5, None, "3"]),
)
def test_suggest(given_, good, generators, strengths, n):
    table, labels = (X, Y) if good else given_
    judge = ExpectedAnomalyPosterior(n_subsets=3)
    found = outcome(
        suggest, table, labels, generators=generators, strengths=strengths, n=n, judge=judge, random_state=0
    )
    if found is not None:
        assert all(np.isfinite(suggestion.score) for suggestion in found)


@fuzz("probe")
@given(
    table=tables(),
    auxiliary=tables(),
    good=st.booleans(),
    masked=st.booleans(),
    names=st.sampled_from([None, ["a", "b", "c"], ["a"], [1, 2, 3], 5]),
)
def test_probe(table, auxiliary, good, masked, names):
    table = X if good else table
    if masked:
        mask = np.zeros((12, 3), dtype=bool)
        auxiliary = Auxiliary(X=AUX, mask=mask, touched=mask, parents=np.zeros(12, dtype=int), meta=[{}] * 12)
    result = outcome(artefact_probe, table, auxiliary, feature_names=names)
    assert result is None or isinstance(result.passed, bool)


@fuzz("selection")
@given(
    values=st.one_of(one_of_scores, st.lists(numbers, max_size=8)),
    labels=one_of_labels,
    fraction=st.sampled_from([0.5, 0, 1, 2, -1, np.nan, "a", None]),
)
def test_selection_and_metrics(values, labels, fraction):
    outcome(keep_top, values, fraction)
    outcome(keep_otsu, values)
    outcome(weights, values)
    outcome(roc_auc, labels, values)
    outcome(average_precision, labels, values)


# -- parameters ------------------------------------------------------------------------------------------------------

VALUES = [
    *(None, True, False, 0, 1, 2, 5, 45, -1, 0.0, 0.5, 1.0, 0.05, 1e-320, 1e149, -0.5, 1.5, np.nan, np.inf, -np.inf),
    *("", "a", "mean", "a\nb", b"a", [], [1], (0.5, 0.5), (1, 2, 3), {}, object(), 2 + 1j, 10**400, lambda X: X),
    *(np.float32(0.5), np.int64(3), np.array(2), np.array([1, 2]), np.random.default_rng(0), X, pd.DataFrame(X)),
    *(KNN(), KNN, RandomForestClassifier(3), LogisticRegression()),
]


@pytest.mark.parametrize("system", EVERYTHING)
@fuzz("parameters")
@given(data=st.data())
def test_parameters(system, data):
    names = list(inspect.signature(load_class(find(system))).parameters)
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)) if names else []
    values = {name: VALUES[data.draw(st.integers(0, len(VALUES) - 1))] for name in chosen}
    model = make(system, **values)
    if hasattr(model, "sample"):
        trained = outcome(model.fit, NORMALS, X[Y == 1])
        rows = None if trained is None else outcome(trained.sample, 5)
        assert rows is None or np.isfinite(rows.X).all()
    elif hasattr(model, "quality"):
        trained = outcome(model.fit, X, Y)
        check_scores(None if trained is None else outcome(trained.quality, AUX))
    elif hasattr(model, "anomaly_score"):
        trained = outcome(model.fit, X, Y)
        check_scores(None if trained is None else outcome(trained.anomaly_score, AUX))
    else:
        trained = outcome(model.fit, X[:, 0])
        decided = None if trained is None else outcome(trained.predict, X[:, 0])
        assert decided is None or set(np.unique(decided)) <= {0, 1}


# -- the command line ------------------------------------------------------------------------------------------------

FILES = [
    "none.csv",
    "",
    ".",
    "empty.csv",
    "text.csv",
    "nan.csv",
    "broken.parquet",
    "good.npy",
    "good.npz",
    "narrow.csv",
]
OPTIONS = {
    "--train": ["train.csv", *FILES],
    "--auxiliary": ["aux.csv", "train.csv", *FILES],
    "--data": ["aux.csv", "train.csv", *FILES],
    "--test": ["train.csv", "aux.csv", *FILES],
    "--label": ["label", "y", "a", "", "nothing", "id", "ü"],
    "--anomalous": ["1", "yes", ""],
    "--index": ["id", "a", "nothing", "label"],
    "--drop": ["id", "a", "label", "nothing", ""],
    "--out": [
        *("out", "new/deep", "out.csv", "out.parquet", "out.npz", "out.xyz", "train.csv", "train.csv/x", ".", "full"),
        *("", "o" * 200, "o" * 300, "ü ü", "/proc/none"),
    ],
    "--generate": ["uniform_box", "smote", "knn", "unifrom_box", ""],
    "--generator": ["uniform_box", "permutaton"],
    "--rule": ["prior", "otsu", "top", "ci", "verdict", "best"],
    "--learner": ["svc", "forrest", ""],
    "--count": ["3", "0", "-1", "x", "2.5", "9" * 30],
    "--strength": ["1", "0", "-1", "nan", "inf", "x", "1e9"],
    "--subsets": ["3", "0", "-1", "x"],
    "--seed": ["0", "-1", "x", "9" * 25],
    "--jobs": ["1", "0", "-5", "1000", "x"],
    "--rate": ["0.1", "0", "1", "-1", "nan", "x"],
    "--param": [
        *("n_neighbors=3", "n_neighbors=0", "n_neighbours=3", "n_neighbors=[1", "n_neighbors=NaN", "method=far"),
        *("nothing", "=", "random_state=x"),
    ],
    "--role": ["detector", "detektor", ""],
    "--strange": ["1"],
}
FLAGS = ["--overwrite", "--quiet", "--json", "--no-gain", "--help", "--version", "-q", "-x", "--", "stray"]
GIVEN = ("--train", "train.csv", "--label", "label", "--drop", "id")
COMMANDS = [
    ("rank", *GIVEN, "--auxiliary", "aux.csv", "--out", "out", "--subsets", "3", "--no-gain"),
    ("rank", *GIVEN, "--generate", "uniform_box", "--count", "5", "--out", "out", "--subsets", "3", "--no-gain"),
    ("suggest", *GIVEN, "--out", "out", "--subsets", "3", "--count", "3", "--generator", "local", "--strength", "1"),
    ("generate", "permutation", *GIVEN, "--out", "out.csv", "--count", "3"),
    ("fit", "knn", "--train", "train.csv", "--label", "label", "--index", "id", "--out", "out"),
    ("score", "model", "--data", "aux.csv", "--out", "out.csv"),
    ("list",),
    ("info", "knn"),
    ("demo", "--data", "nowhere"),
]


@st.composite
def arguments(draw):
    """Draw a command that works, spoiled in one to three places."""
    line = list(COMMANDS[draw(st.integers(0, len(COMMANDS) - 1))])
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["drop", "option", "option", "option", "flag", "text", "name"]))
        place = draw(st.integers(0, len(line)))
        if kind == "drop" and len(line) > 1:
            del line[min(place, len(line) - 1)]
        elif kind == "option":
            option = draw(st.sampled_from(sorted(OPTIONS)))
            value = draw(st.sampled_from(OPTIONS[option]))
            if option in line[:-1]:
                line[line.index(option) + 1] = value
            else:
                line += [option, value]
        elif kind == "flag":
            line.append(draw(st.sampled_from(FLAGS)))
        elif kind == "name" and len(line) > 1:
            line[1] = draw(st.sampled_from(["knnn", "ssdo", "classifier", "eap", "smote", "train.csv", ""]))
        else:
            text = draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10))
            line.insert(place, text.replace("/", "_"))
    return line


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """Go to a folder with good and bad files, a model and a filled folder; return it."""
    root = tmp_path_factory.mktemp("sandbox")
    table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(label=Y, id=[f"r{row}" for row in range(len(Y))])
    table.to_csv(root / "train.csv", index=False)
    table.assign(a="x").to_csv(root / "text.csv", index=False)
    table.assign(a=np.nan).to_csv(root / "nan.csv", index=False)
    aux = pd.DataFrame(AUX, columns=["a", "b", "c"])
    aux.to_csv(root / "aux.csv", index=False)
    aux[["a"]].to_csv(root / "narrow.csv", index=False)
    (root / "empty.csv").write_text("")
    (root / "broken.parquet").write_bytes(b"PAR1 is not all there is to it")
    np.savez(root / "good.npz", X=X, y=Y)
    np.save(root / "good.npy", AUX)
    (root / "full").mkdir()
    (root / "full" / "letter.txt").write_text("dear me")
    before = Path.cwd()
    os.chdir(root)
    assert run("fit", "knn", "--train", "train.csv", "--label", "label", "--drop", "id", "--out", "model").code == 0
    yield root
    os.chdir(before)


@fuzz("command line")
@given(line=arguments())
def test_command_lines(sandbox, line):
    before = contents(sandbox)
    code, out, err = run(*line)
    assert code in (0, 2)
    after = contents(sandbox)
    if code == 2:
        assert err.startswith("assay: ") and err.endswith("\n") and err.count("\n") == 1
        assert out == ""
        assert after == before
    assert all(after[name] == content for name, content in before.items())
    for name in sorted(set(after) - set(before), reverse=True):
        path = sandbox / name
        path.rmdir() if path.is_dir() else path.unlink()
