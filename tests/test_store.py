"""Saving and loading: the same scores in a fresh process, and no folder that can do harm."""

import errno
import hashlib
import importlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.pipeline import Pipeline as SklearnPipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM

from assay.base import Calibrator, Pipeline
from assay.calibration.calibrated import Calibrated
from assay.calibration.conformal import Conformal
from assay.calibration.false_alarm_rate import FalseAlarmRate
from assay.calibration.quantile import Quantile
from assay.calibration.squash import Squash
from assay.catalogue import SYSTEMS, load_class
from assay.core import files, store
from assay.core.extras import MissingExtra
from assay.core.store import ARRAYS, FORMAT, TREE, StoreError, _digest, load, save
from assay.core.validation import InputError
from assay.detectors.tabular.adapters import ClassifierDetector, WrappedDetector
from assay.detectors.tabular.isolation_forest import IsolationForest
from assay.detectors.tabular.ssdo import SSDO
from assay.quality.eap import ExpectedAnomalyPosterior
from small import SMALL

RNG = np.random.default_rng(0)
X = np.vstack([RNG.normal(size=(150, 4)), RNG.normal(2.0, 1.0, size=(12, 4))])
Y = np.repeat([0, 1], [150, 12])
NEW = RNG.normal(size=(40, 4)) * 2.0


# -- what a system says, whatever it is: the same function runs in the fresh process --------------------------------


def answers(system, new):
    """Return everything the system computes from new rows, as arrays."""
    out = {}
    for method in ("anomaly_score", "quality", "predict", "decision_function", "probability", "per_subset"):
        if hasattr(system, method):
            out[method] = np.asarray(getattr(system, method)(new))
    if hasattr(system, "sample"):
        drawn = system.sample(20, random_state=1)
        out.update(X=drawn.X, mask=drawn.mask, parents=drawn.parents)
    return out


def fitted(system):
    role = next((entry.role for entry in SYSTEMS if entry.path.endswith(f":{type(system).__name__}")), "")
    if role == "calibrator":
        return system.fit(X[:, 0])
    if role == "generator":
        return system.fit(X[Y == 0], X[Y == 1])
    return system.fit(X, Y)


def by_default(entry):
    parameters = {"random_state": 0} if "random_state" in load_class(entry)().get_params() else {}
    return load_class(entry)(**parameters, **SMALL.get(entry.name, {}))


SYSTEMS_OF_OTHERS = {
    "eap over classifiers": lambda: ExpectedAnomalyPosterior(
        RandomForestClassifier(5), n_subsets=4, min_neighbors=60, random_state=0
    ),
    "eap over scikit-learn": lambda: ExpectedAnomalyPosterior(OneClassSVM(), n_subsets=4, random_state=0),
    "calibrated": lambda: Calibrated(SSDO(), FalseAlarmRate(0.1), random_state=0),
    "squashed": lambda: Calibrated(SSDO(IsolationForest(20)), Squash(0.1), cv=None, random_state=0),
    "pipeline": lambda: Pipeline(
        [
            ("scale", StandardScaler()),
            ("embed", PCA(2)),
            ("eap", ExpectedAnomalyPosterior(n_subsets=5, random_state=0)),
        ]
    ),
    "scikit-learn's pipeline": lambda: SklearnPipeline(
        [("impute", SimpleImputer()), ("detector", Calibrated(random_state=0))]
    ),
    "one-class svm": lambda: WrappedDetector(OneClassSVM()),
    "scikit-learn's forest": lambda: WrappedDetector(SklearnForest(n_estimators=20, random_state=0)),
    "scikit-learn's lof": lambda: WrappedDetector(LocalOutlierFactor(novelty=True)),
    "ellipse": lambda: WrappedDetector(EllipticEnvelope(random_state=0)),
    "classifier": lambda: ClassifierDetector(random_state=0),
    "neighbours": lambda: ClassifierDetector(KNeighborsClassifier(), calibration="isotonic"),
    "boosting": lambda: ClassifierDetector(HistGradientBoostingClassifier(max_iter=5), calibration=None),
}
#: Systems of images, series, windows and events are saved and loaded in the tests of their kind.
CASES = {
    entry.name: (lambda entry=entry: by_default(entry)) for entry in SYSTEMS if entry.data in ("tables", "scores")
} | SYSTEMS_OF_OTHERS


def new_rows(system):
    return NEW[:, 0] if isinstance(system, Calibrator) else NEW


@pytest.mark.parametrize("name", CASES)
def test_round_trip(name, tmp_path):
    system = fitted(CASES[name]())
    save(system, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert type(again) is type(system)
    assert sorted(vars(again)) == sorted(vars(system))
    assert repr(again) == repr(system)
    before, after = answers(system, new_rows(system)), answers(again, new_rows(system))
    assert before and before.keys() == after.keys()
    for method, value in before.items():
        assert value.dtype == after[method].dtype
        assert np.array_equal(value, after[method]), method


@pytest.mark.parametrize("name", CASES)
def test_unfitted_round_trip(name, tmp_path):
    system = CASES[name]()
    save(system, tmp_path / "saved")
    assert repr(load(tmp_path / "saved")) == repr(system)


def test_the_same_scores_in_a_fresh_process(tmp_path):
    expected = {}
    for number, (name, make) in enumerate(CASES.items()):
        system = fitted(make())
        save(system, tmp_path / f"{number}")
        for method, value in answers(system, new_rows(system)).items():
            expected[f"{number}/{name}/{method}"] = value
    np.savez(tmp_path / "expected.npz", NEW=NEW, **{key.replace("/", "|"): v for key, v in expected.items()})
    code = f"""
import sys, numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import answers, new_rows
from assay import load
expected = np.load("expected.npz")
loaded, n = {{}}, 0
for key in expected.files:
    if key == "NEW":
        continue
    number, name, method = key.split("|")
    if number not in loaded:
        system = load(number)
        loaded[number] = answers(system, new_rows(system))
    assert np.array_equal(loaded[number][method], expected[key]), key
    n += 1
print(n)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == len(expected) >= len(CASES)


def test_eap_is_quick(tmp_path):
    eap = ExpectedAnomalyPosterior(random_state=0).fit(X, Y)
    start = time.perf_counter()
    save(eap, tmp_path / "eap")
    load(tmp_path / "eap")
    assert time.perf_counter() - start < 4.0  # 0.2 s on an idle machine


def test_import_stays_light():
    code = "import sys, assay.core.store; print([m for m in ('sklearn', 'safetensors', 'skops') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# -- values ---------------------------------------------------------------------------------------------------------


def through(value, tmp_path):
    save(Quantile(contamination=value), tmp_path / "value", overwrite=True)
    return load(tmp_path / "value").contamination


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -7,
        2**200,
        0.1,
        -0.0,
        5e-324,
        float("inf"),
        float("-inf"),
        "text é \ud800 \x00",
        (1, (2.0, ["a", None])),
        {"a": 1, 2: {"b": (3,)}, False: []},
        {},
        np.float32(0.1),
        np.float64(np.inf),
        np.float16(1.5),
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("numpy text"),
    ],
    ids=repr,
)
def test_plain_values(value, tmp_path):
    again = through(value, tmp_path)
    assert type(again) is type(value)
    assert repr(again) == repr(value)


def test_nan_is_explicit(tmp_path):
    assert np.isnan(through(float("nan"), tmp_path))
    assert "NaN" not in (tmp_path / "value" / TREE).read_text()
    again = through(np.float32("nan"), tmp_path)
    assert type(again) is np.float32 and np.isnan(again)


@pytest.mark.parametrize("dtype", sorted(store.DTYPES))
@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (5,), (2, 3, 4)])
def test_arrays(dtype, shape, tmp_path):
    array = np.asarray(np.random.default_rng(0).normal(size=shape) * 20).astype("int8").astype(dtype)
    again = through(array, tmp_path)
    assert again.dtype == array.dtype and again.shape == array.shape and np.array_equal(again, array)
    assert again.flags.writeable and again.flags.aligned and again.flags.c_contiguous


def test_memory_order_byte_order_and_views(tmp_path):
    base = np.random.default_rng(0).normal(size=(6, 4))
    again = through(np.asfortranarray(base), tmp_path)
    assert np.array_equal(again, base) and again.flags.f_contiguous and not again.flags.c_contiguous
    assert np.array_equal(through(base[::2, ::-1], tmp_path), base[::2, ::-1])
    assert np.array_equal(through(base.astype(">f8"), tmp_path), base)
    np.save(tmp_path / "map.npy", base)
    assert np.array_equal(through(np.load(tmp_path / "map.npy", mmap_mode="r"), tmp_path), base)


def test_arrays_of_texts(tmp_path):
    for array in (
        np.array([["a", "é"], ["", "long"]]),
        np.array(["x", "y"], dtype=object),
        np.array([], dtype=object),
    ):
        again = through(array, tmp_path)
        assert again.dtype == array.dtype or again.dtype.kind == array.dtype.kind == "U"
        assert again.shape == array.shape and again.tolist() == array.tolist()


def test_the_same_array_is_stored_once(tmp_path):
    array = np.arange(1000.0)
    first, second, other = through([array, array, array.copy()], tmp_path)
    assert first is second and other is not first
    assert 16_000 < (tmp_path / "value" / ARRAYS).stat().st_size < 17_000


def test_random_states(tmp_path):
    rng = np.random.default_rng(7)
    rng.integers(10, size=3, dtype=np.uint32)
    rng.spawn(2)
    again = through(rng, tmp_path)
    assert np.array_equal(again.random(9), rng.random(9))
    assert np.array_equal(again.spawn(1)[0].random(3), rng.spawn(1)[0].random(3))
    for seeds in (np.random.SeedSequence(), np.random.SeedSequence([1, 2**70], spawn_key=(3, 4))):
        seeds.spawn(2)
        again = through(seeds, tmp_path)
        assert np.array_equal(again.generate_state(8), seeds.generate_state(8))
        assert again.spawn(1)[0].spawn_key == seeds.spawn(1)[0].spawn_key


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_column_names(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "é"])
    save(IsolationForest(random_state=0).fit(frame), tmp_path / "named")
    again = load(tmp_path / "named")
    assert again.feature_names_in_.tolist() == list(frame.columns)
    with pytest.raises(InputError, match="order"):
        again.anomaly_score(frame[["b", "a", "c", "é"]])


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_plain_tree(value, tmp_path_factory):
    again = through(value, tmp_path_factory.mktemp("tree"))
    assert repr(again) == repr(value)


# -- what cannot be saved -------------------------------------------------------------------------------------------


class Stranger:
    pass


class Disguised(IsolationForest):
    pass


Disguised.__name__ = "IsolationForest"
KNOT: list = []
KNOT.append(KNOT)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda x: x, "function"),
        (Stranger(), "Stranger"),
        (Disguised(), "Disguised"),
        (IsolationForest, "ABCMeta|type"),
        (np.array([1, None], dtype=object), "object"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "datetime64"),
        (np.array([1j]), "complex"),
        (np.zeros(2, dtype=[("a", int)]), "array"),
        (np.random.RandomState(0), "RandomState"),
        (np.random.Generator(np.random.MT19937(0)), "default_rng"),
        (np.random.SeedSequence(0, pool_size=8), "SeedSequence"),
        ({(1, 2): 3}, "key"),
        ({1, 2}, "set"),
        (10**400, "int"),
        (KNOT, "levels"),
        (FunctionTransformer(lambda x: x), "FunctionTransformer"),
        (SelectKBest(Stranger()), "SelectKBest"),
        (PCA(Stranger()), "Stranger"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_cannot_be_saved_is_named(value, reason, tmp_path):
    system = Calibrated(WrappedDetector(value))
    with pytest.raises(InputError, match=rf"Calibrated\.detector\.estimator.*({reason})") as error:
        save(system, tmp_path / "saved")
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == []


def test_a_pyod_model_cannot_be_saved(tmp_path):
    pyod = pytest.importorskip("pyod.models.hbos")
    model = WrappedDetector(pyod.HBOS()).fit(X)
    with pytest.raises(InputError, match=r"WrappedDetector\.estimator: pyod\.models\.hbos\.HBOS"):
        save(model, tmp_path / "saved")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["cache", "_private", "__dunder_", "fit_later"])
def test_attributes_that_are_not_learned_cannot_be_saved(name, tmp_path):
    forest = IsolationForest().fit(X)
    setattr(forest, name, 1)
    with pytest.raises(InputError, match=rf"IsolationForest\.{name}:"):
        save(forest, tmp_path / "saved")


@pytest.mark.parametrize("system", [PCA(), 3, None, [Quantile()], Stranger(), IsolationForest])
def test_only_systems_are_saved(system, tmp_path):
    with pytest.raises(InputError, match="system is a"):
        save(system, tmp_path / "saved")


def test_skops_missing(tmp_path, monkeypatch):
    save(WrappedDetector(OneClassSVM()), tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "skops.io", None)
    save(Quantile(), tmp_path / "plain")
    with pytest.raises(MissingExtra, match=r"the extra .skops."):
        save(WrappedDetector(OneClassSVM()), tmp_path / "again")
    with pytest.raises(MissingExtra, match=r"the extra .skops."):
        load(tmp_path / "saved")
    assert sorted(os.listdir(tmp_path)) == ["plain", "saved"]


# -- where it is saved ----------------------------------------------------------------------------------------------


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "no" / "parent", tmp_path / "file" / "below", tmp_path / "file", 3, "a\0b"):
        for overwrite in (False, True):
            with pytest.raises(InputError, match="folder"):
                save(Quantile(), place, overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(InputError, match="Permission denied"):
        save(Quantile(), tmp_path / "saved")
    assert os.listdir(tmp_path) == ["file"]


def test_an_existing_folder_is_kept_unless_told(tmp_path):
    save(Quantile(0.1), tmp_path / "saved")
    with pytest.raises(InputError, match="overwrite=True"):
        save(Quantile(0.2), tmp_path / "saved")
    assert load(tmp_path / "saved").contamination == 0.1
    save(Quantile(0.2), tmp_path / "saved", overwrite=True)
    assert load(tmp_path / "saved").contamination == 0.2
    assert os.listdir(tmp_path) == ["saved"]


def test_overwrite_never_removes_what_others_wrote(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    (tmp_path / "link").symlink_to(tmp_path / "home")
    for name in ("home", "link"):
        with pytest.raises(InputError, match=r"thesis\.tex|link"):
            save(Quantile(), tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").read_text() == "years"
    assert sorted(os.listdir(tmp_path)) == ["home", "link"]


def test_relative_and_odd_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("plain", "with space é", "[glob]*", "a/../b/"):
        save(Quantile(0.3), name)
        assert load(name).contamination == 0.3


class Killed(BaseException):
    pass


def killing(monkeypatch, *calls):
    """Let `os.replace` die at the calls of these numbers (from 0)."""
    real, count = os.replace, iter(range(100))

    def replace(source, target):
        if next(count) in calls:
            raise Killed
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_killed_before_the_rename_nothing_is_left(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killing(patch, 0)
        with pytest.raises(Killed):
            save(Quantile(), tmp_path / "saved")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("moment", [0, 1])
def test_killed_while_overwriting_the_old_one_stays(moment, tmp_path, monkeypatch):
    save(Quantile(0.1), tmp_path / "saved")
    with monkeypatch.context() as patch:
        killing(patch, moment)
        with pytest.raises(Killed):
            save(Quantile(0.2), tmp_path / "saved", overwrite=True)
    assert os.listdir(tmp_path) == ["saved"]
    assert load(tmp_path / "saved").contamination == 0.1


def test_killed_outright_between_the_two_renames(tmp_path, monkeypatch):
    save(Quantile(0.1), tmp_path / "saved")
    with monkeypatch.context() as patch:
        killing(patch, 1, 2)  # nor can the old one be put back
        with pytest.raises(Killed):
            save(Quantile(0.2), tmp_path / "saved", overwrite=True)
    assert not (tmp_path / "saved").exists()
    assert load(tmp_path / "saved").contamination == 0.1
    with pytest.raises(InputError, match="exists and is not empty"):
        save(Quantile(0.3), tmp_path / "saved")
    save(Quantile(0.3), tmp_path / "saved", overwrite=True)
    assert load(tmp_path / "saved").contamination == 0.3
    assert os.listdir(tmp_path) == ["saved"]


def test_killed_for_real(tmp_path):
    """A process that is killed while it writes leaves no folder under the name, and the next save cleans up."""
    code = """
import os, signal
from assay import Quantile, save
from assay.core import files
files._publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
save(Quantile(), "saved")
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode != 0
    assert [name.startswith(".saved.assay-new-") for name in os.listdir(tmp_path)] == [True]
    with pytest.raises(StoreError):
        load(tmp_path / "saved")
    save(Quantile(), tmp_path / "saved")
    assert os.listdir(tmp_path) == ["saved"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(IsolationForest(5).fit(X), tmp_path / "saved")
    assert os.listdir(tmp_path) == []


def test_everything_is_flushed_before_the_rename(tmp_path, monkeypatch):
    events = []
    real_sync, real_replace = files._sync, os.replace
    monkeypatch.setattr(files, "_sync", lambda path: (events.append(Path(path).name), real_sync(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), real_replace(a, b)))
    save(WrappedDetector(OneClassSVM()).fit(X), tmp_path / "saved")
    before = events[: events.index("rename")]
    assert {TREE, "part_0.skops"} <= set(before) and before[-1].startswith(".saved.assay-new-")
    assert events[-1] == tmp_path.name


# -- hostile folders ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A saved folder with a tree, arrays and a skops part."""
    folder = tmp_path_factory.mktemp("template") / "saved"
    detector = Pipeline([("scale", StandardScaler()), ("forest", IsolationForest(5, random_state=0))])
    save(detector.fit(X), folder)
    return folder


@pytest.fixture
def folder(template, tmp_path):
    return Path(shutil.copytree(template, tmp_path / "saved"))


def refused(folder, match=None):
    """The folder is refused in one line, and no class was built for it."""
    built = []
    real = IsolationForest.__init__

    def spy(self, *args, **kwargs):
        built.append(self)
        real(self, *args, **kwargs)

    # The signature is part of the checks, so it must stay.
    spy.__wrapped__ = real
    IsolationForest.__init__ = spy
    try:
        with pytest.raises(StoreError, match=match) as error:
            load(folder)
    finally:
        IsolationForest.__init__ = real
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    assert built == []


def forge(folder, change=None, **parts):
    """Change the tree (and files), and write every hash anew, as an attacker would."""
    document = json.loads((folder / TREE).read_text())
    document.pop("digest")
    for name, data in parts.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    document["files"] = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != TREE and path.is_file()
    }
    document = (change(document) if change else None) or document
    (folder / TREE).write_text(json.dumps(document | {"digest": _digest(document)}))


def forest_of(document):
    return document["system"]["parameters"]["steps"][1]["tuple"][1]


def test_a_forgery_that_changes_nothing_loads(folder, template):
    forge(folder)
    assert np.array_equal(load(folder).anomaly_score(NEW), load(template).anomaly_score(NEW))


@pytest.mark.parametrize("place", ["nothing", "file", "empty"])
def test_no_saved_folder(place, tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / place, "no such folder|did not save")


@pytest.mark.parametrize("place", [None, 3, b"\0", "a\0b"])
def test_no_path(place):
    with pytest.raises(InputError):
        load(place)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", [TREE, ARRAYS, "part_0.skops"])
def test_truncated_files(name, share, folder):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * len(data))])
    refused(folder)
    if name != TREE:
        refused(folder, "changed after it was saved")
        forge(folder)  # with a right hash, too
        refused(folder)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.parametrize("name", [TREE, ARRAYS, "part_0.skops"])
def test_flipped_bytes(name, data, template, tmp_path_factory):
    folder = Path(shutil.copytree(template, tmp_path_factory.mktemp("flip") / "saved"))
    content = bytearray((folder / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    (folder / name).write_bytes(content)
    try:
        again = load(folder)
    except StoreError as error:
        assert "\n" not in str(error)
    else:  # white space, or the case of a hexadecimal escape
        assert name == TREE
        assert json.loads(content) == json.loads((template / TREE).read_bytes())
        assert np.array_equal(again.anomaly_score(NEW), load(template).anomaly_score(NEW))


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_flipped_bytes_with_right_hashes(data, template, tmp_path_factory):
    """Whoever can write hashes can change numbers, but any error is ours."""
    folder = Path(shutil.copytree(template, tmp_path_factory.mktemp("flip") / "saved"))
    name = data.draw(st.sampled_from([ARRAYS, "part_0.skops"]))
    content = bytearray((folder / name).read_bytes())
    head = len(content) if name != ARRAYS else 8 + int.from_bytes(content[:8], "little")
    place = data.draw(st.integers(0, head - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    forge(folder, **{name.replace(".", "__"): bytes(content)})
    try:
        load(folder)
    except StoreError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "path",
    [
        "os:system",
        "builtins:eval",
        "assay.core.store:save",
        "assay.core.store:StoreError",
        "assay.detectors.tabular.isolation_forest:np",
        "assay.detectors.tabular.isolation_forest:IsolationForest.fit",
        "sklearn.decomposition:PCA",
        "subprocess:Popen",
        "../evil:Thing",
        "IsolationForest",
        "",
        None,
        3,
        ["os:system"],
    ],
)
def test_classes_outside_the_list(path, folder, monkeypatch):
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("called"))
    forge(folder, lambda document: forest_of(document).update({"class": path}))
    refused(folder, "may not be loaded|unhashable")


@pytest.mark.parametrize("path", ["assay.base:System", "assay.base:Detector", "sklearn.base:BaseEstimator"])
def test_classes_outside_the_list_whose_signature_fits(path, folder):
    node = {"class": path, "parameters": {}, "fitted": {}}
    forge(folder, lambda document: forest_of(document)["parameters"].update(random_state=node))
    refused(folder, "may not be loaded")


@pytest.mark.parametrize("change", [{"extra": 1}, {"self": 1}, {"__class__": 1}, "missing"])
def test_parameters_that_are_not_in_the_signature(change, folder):
    def edit(document):
        parameters = forest_of(document)["parameters"]
        parameters.pop("n_trees") if change == "missing" else parameters.update(change)

    forge(folder, edit)
    refused(folder, "parameters")


@pytest.mark.parametrize(
    "name",
    [
        "__class__",
        "__dict__",
        "fit",
        "_score",
        "_fit",
        "score",
        "labels",
        "a.b_",
        "é_",
        "",
        "_",
        "_a_",
        "get_params",
        "__a_",
    ],
)
def test_attributes_that_are_not_learned(name, folder):
    forge(folder, lambda document: forest_of(document)["fitted"].update({name: 1}))
    refused(folder, "fitted")


def test_dataclasses_learn_nothing(tmp_path):
    save(ExpectedAnomalyPosterior(n_subsets=2, random_state=0).fit(X, Y), tmp_path / "saved")
    forge(tmp_path / "saved", lambda d: d["system"]["fitted"]["balls_"]["fitted"].update({"more_": 1}))
    refused(tmp_path / "saved", "Balls.more_")


@pytest.mark.parametrize(
    "node",
    [
        {"unknown": 1},
        {},
        {"tuple": 3},
        {"tuple": "text", "more": 1},
        {"dict": 3},
        {"dict": [[1]]},
        {"dict": [[[1], 2]]},
        {"dict": [[{"tuple": []}, 2]]},
        {"dict": [["a", 1], ["a", 2]]},
        {"float": "1"},
        {"float": 1},
        {"float": "__import__('os')"},
        {"numpy": "int64", "value": "3"},
        {"numpy": "int8", "value": 1000},
        {"numpy": "object", "value": 1},
        {"numpy": "float64", "value": {"float": "five"}},
        {"numpy": "float64", "value": [1]},
        {"numpy": ["int64"], "value": 1},
        {"array": "999999", "fortran": False},
        {"array": ["0"], "fortran": False},
        {"strings": ["a"], "shape": [2], "object": True},
        {"strings": [1], "shape": [1], "object": True},
        {"strings": [], "shape": [0, 10**30], "object": True},
        {"strings": ["a"], "shape": [-1], "object": False},
        {"skops": "part_9.skops"},
        {"skops": ARRAYS},
        {"skops": TREE},
        {"skops": "../../etc/passwd"},
        {"skops": ["part_0.skops"]},
        {"entropy": [-1], "key": [], "spawned": 0},
        {"entropy": 3, "key": [], "spawned": 0},
        {"entropy": [1], "key": [], "spawned": 0, "generator": "MT19937", "words": [1, 1, 0, 0]},
        {"entropy": [1], "key": [], "spawned": 0, "generator": "PCG64", "words": [1, 1]},
        {"entropy": [1], "key": [], "spawned": 0, "generator": "PCG64", "words": [2**200, 1, 0, 0]},
        {"class": "assay.base:Pipeline", "parameters": [], "fitted": {}},
    ],
    ids=lambda node: json.dumps(node)[:60],
)
def test_nodes_that_make_no_sense(node, folder):
    forge(folder, lambda document: forest_of(document)["parameters"].update(random_state=node))
    refused(folder)


@pytest.mark.parametrize(
    ("node", "match"),
    [
        ({"unknown": 1}, "unknown kind: unknown"),
        ({"tuple": [], "more": 1}, "unknown kind: more tuple"),
        ({"entropy": [True], "key": [], "spawned": 0}, "seed"),
        ({"entropy": [1], "key": [], "spawned": 0, "generator": "MT19937", "words": [1, 1, 0, 0]}, "MT19937"),
        ({"skops": "../../etc/passwd"}, "passwd' is missing"),
        ({"skops": ARRAYS}, "is missing"),
        ({"array": "99", "fortran": False}, "array '99' is missing"),
    ],
)
def test_the_reason_is_given(node, match, folder):
    forge(folder, lambda document: forest_of(document)["parameters"].update(random_state=node))
    refused(folder, match)


def test_the_head_of_the_tree(folder):
    text = (folder / TREE).read_text()
    (folder / TREE).write_text(text.replace('"random_state": 0', '"random_state": 0, "random_state": 0'))
    refused(folder, "repeats")
    (folder / TREE).write_text(text.replace('"random_state": 0', '"random_state": 1'))
    refused(folder, "changed after")
    for change in ({"format": 0}, {"format": True}, {"more": 1}):
        (folder / TREE).write_text(text)
        forge(folder, lambda document, change=change: document.update(change))
        refused(folder, "is not Assay's")


@pytest.mark.parametrize("system", [3, None, [], "text", {"tuple": []}, {"skops": "part_0.skops"}])
def test_trees_without_a_system(system, folder):
    forge(folder, lambda document: document.update(system=system))
    refused(folder, "no system")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        "{}",
        '{"format": 1}',
        '{"format": true}',
        '{"format": "1"}',
        '{"format": 0}',
        '{"format": 1.0}',
        '{"format": 1, "format": 1}',
        '{"format": NaN}',
        '{"format": Infinity}',
        '{"format": ' + "9" * 10_000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "\xff\xfe",
        "import os",
    ],
    ids=lambda text: text[:30],
)
def test_json_that_is_none(text, folder):
    (folder / TREE).write_text(text, encoding="latin-1")
    refused(folder)


def test_numbers_that_are_no_json(folder):
    text = (folder / TREE).read_text()
    for constant in ("NaN", "Infinity", "-Infinity"):
        (folder / TREE).write_text(text.replace('"random_state": 0', f'"random_state": {constant}'))
        refused(folder, constant)


def test_deep_trees(folder):
    deep = 1
    for _ in range(200):
        deep = [deep]
    forge(folder, lambda document: forest_of(document)["parameters"].update(random_state=deep))
    refused(folder, "levels")


def test_huge_trees(folder, monkeypatch):
    monkeypatch.setattr(store, "MAX_BYTES", 1000)
    refused(folder, "larger")
    with pytest.raises(InputError, match="bytes"):
        save(Quantile("x" * 2000), folder.parent / "new")
    assert os.listdir(folder.parent) == ["saved"]


def test_newer_formats(folder):
    text = (folder / TREE).read_text().replace(f'"format": {FORMAT}', f'"format": {FORMAT + 1}')
    (folder / TREE).write_text(text)
    refused(folder, "upgrade")
    (folder / TREE).write_text(json.dumps({"format": 10**6, "anything": "else"}))
    refused(folder, "upgrade")


@pytest.mark.parametrize("name", ["notes.txt", ".hidden", "part_7.skops", "assay.json.bak", "arrays.pkl"])
def test_files_that_do_not_belong(name, folder):
    (folder / name).write_bytes(b"more")
    refused(folder, name)
    forge(folder)
    refused(folder, "not a name|belongs to nothing")


@pytest.mark.parametrize(
    "name", ["../evil.skops", "/etc/passwd", "sub/part_0.skops", "..", "part_0.skops/", "part_x.skops"]
)
def test_paths_that_lead_elsewhere(name, folder):
    forge(folder, lambda document: document["files"].update({name: "0" * 64}))
    refused(folder)


@pytest.mark.parametrize("files", [[], None, {"part_0.skops": 3}, ["part_0.skops", ARRAYS]])
def test_lists_of_files_that_are_none(files, folder):
    forge(folder, lambda document: document.update(files=files))
    refused(folder)


@pytest.mark.parametrize("name", [TREE, ARRAYS, "part_0.skops"])
def test_links_and_folders_and_pipes(name, folder, tmp_path):
    shutil.move(folder / name, tmp_path / "elsewhere")
    refused(folder, name)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    refused(folder, "link")
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name)
    (folder / name).rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / name)
        refused(folder, name)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("name", [TREE, ARRAYS, "part_0.skops"])
def test_pickles_under_our_names(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    refused(folder)
    if name != TREE:
        forge(folder)
        refused(folder)
    assert os.listdir(tmp_path) == ["saved"]


def safetensors_bytes(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors_bytes({"0": {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_bytes({"0": {"dtype": "F64", "shape": [2**62, 2**62], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_bytes({"0": {"dtype": "F64", "shape": [1], "data_offsets": [0, 2**50]}}, b"\0" * 8),
        safetensors_bytes({"0": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_bytes({"0": {"dtype": "evil", "shape": [4], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_bytes({"0": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8),
        safetensors_bytes(b"[" * 1000),
        (2**60).to_bytes(8, "little"),
    ],
    ids=range(8),
)
def test_arrays_that_lie(content, folder):
    forge(folder, arrays__safetensors=content)
    refused(folder)


def test_arrays_that_nobody_asked_for(folder):
    from safetensors.numpy import load_file, save

    arrays = load_file(folder / ARRAYS)
    forge(folder, arrays__safetensors=save({**arrays, "extra": np.zeros(3)}))
    refused(folder, "extra")
    kept = arrays.pop("0")
    forge(folder, arrays__safetensors=save({**arrays, "0": kept.astype(np.complex64)}))
    refused(folder, "type of number")
    forge(folder, arrays__safetensors=save(arrays))
    refused(folder, "missing")


def skops_bytes(value):
    return importlib.import_module("skops.io").dumps(value)


class Untrusted(StandardScaler):
    pass


def test_skops_parts_that_are_not_trusted(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    honest = (folder / "part_0.skops").read_bytes()
    evil = StandardScaler()
    evil.with_mean = os.system
    for value in (Untrusted(), evil, FunctionTransformer(os.system), FunctionTransformer(Stranger())):
        forge(folder, part_0__skops=skops_bytes(value))
        refused(folder, "may not be loaded|no estimator")
    for value in ([StandardScaler()], np.zeros(3), "text", {"a": 1}):
        forge(folder, part_0__skops=skops_bytes(value))
        refused(folder)
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    schema = json.loads(members["schema.json"])
    for module, name in (
        ("os", "system"),
        ("builtins", "eval"),
        ("sklearn.utils", "deprecated"),
        ("sklearn.os", "system"),
    ):
        changed = members | {"schema.json": json.dumps(schema | {"__module__": module, "__class__": name}).encode()}
        forge(folder, part_0__skops=zipped(changed))
        refused(folder)
    forge(folder, part_0__skops=zipped(members, zipfile.ZIP_DEFLATED))
    refused(folder, "compressed")
    forge(folder, part_0__skops=zipped(members))
    assert load(folder) is not None
    assert os.listdir(tmp_path) == ["saved"]


def zipped(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_calibrators_without_normals_come_back(tmp_path):
    save(Conformal(alpha=0.01).fit([1.0, 2.0]), tmp_path / "saved")
    assert load(tmp_path / "saved").threshold_ == float("inf")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("left_", 10**6),
        ("left_", 0),
        ("left_", -1),
        ("feature_", 99),
        ("feature_", -1),
        ("root_", 10**6),
        ("levels_", 10**9),
    ],
)
def test_crafted_trees_are_refused(attribute, value, tmp_path):
    """Hashes that fit do not make a walk safe: child numbers that lead astray would crash the process or never end."""
    forest = IsolationForest(5, random_state=0).fit(X)
    getattr(forest, attribute)[1:2] = value
    save(forest, tmp_path / "saved")
    with pytest.raises(StoreError, match="hang together"):
        load(tmp_path / "saved")
