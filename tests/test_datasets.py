"""Bundled data, the folder that ASSAY_DATA names, checksummed downloads; and the ranking metrics."""

import hashlib
import http.server
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import assay.datasets.tables as tables
from assay.core.validation import InputError
from assay.datasets import available, load_table
from assay.metrics.ranking import average_precision, quality_auc, roc_auc

BUNDLED = {
    "annthyroid": (7200, 6, 534),
    "breastw": (683, 9, 239),
    "cardiotocography": (2114, 21, 466),
    "ionosphere": (351, 32, 126),
    "pageblocks": (5393, 10, 510),
    "vertebral": (240, 6, 30),
}


@pytest.fixture(autouse=True)
def nothing_but_the_package(monkeypatch, tmp_path):
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_tables_need_nothing(name):
    data = load_table(name)
    assert (*data.X.shape, data.y.sum()) == BUNDLED[name]
    assert np.isfinite(data.X).all()
    assert set(np.unique(data.y)) == {0, 1}
    assert len(data.feature_names) == data.X.shape[1]


def test_names_are_many_and_misspellings_are_met_halfway():
    assert len(available()) > 60
    with pytest.raises(InputError, match="annthyroid"):
        load_table("anthyroid")


def test_without_the_file_the_remedy_is_named():
    with pytest.raises(InputError, match=r"download=True.*ASSAY_DATA"):
        load_table("glass")


def test_a_folder_of_ones_own(monkeypatch, tmp_path):
    source = Path(tables.__file__).parent / "bundled" / "39_vertebral.npz"
    content = source.read_bytes()
    monkeypatch.setattr(
        tables, "_registry", lambda: {"mine": ("Classical/mine.npz", hashlib.sha256(content).hexdigest())}
    )
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    (tmp_path / "mine.npz").write_bytes(content)
    assert load_table("MINE").X.shape == (240, 6)
    (tmp_path / "mine.npz").write_bytes(content[:-1] + b"?")
    with pytest.raises(InputError, match="SHA-256 differs"):
        load_table("mine")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine that stands for the real one."""
    folder = tmp_path / "web" / "Classical"
    folder.mkdir(parents=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder.parent))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setattr(tables, "URL", f"http://127.0.0.1:{web.server_port}/")
        yield folder
        web.shutdown()


def test_downloads_are_checked_kept_and_never_asked_for_twice(server, monkeypatch):
    content = (Path(tables.__file__).parent / "bundled" / "39_vertebral.npz").read_bytes()
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(tables, "_registry", lambda: {"far": ("Classical/far.npz", checksum)})
    (server / "far.npz").write_bytes(content)
    assert load_table("far", download=True).X.shape == (240, 6)
    (server / "far.npz").unlink()
    assert load_table("far").X.shape == (240, 6)


def test_a_tampered_download_is_not_kept(server, monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "_registry", lambda: {"far": ("Classical/far.npz", "0" * 64)})
    (server / "far.npz").write_bytes(b"something else")
    with pytest.raises(InputError, match="nothing was kept"):
        load_table("far", download=True)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_server_that_does_not_answer_is_named(server, monkeypatch):
    monkeypatch.setattr(tables, "_registry", lambda: {"far": ("Classical/far.npz", "0" * 64)})
    with pytest.raises(InputError, match=r"cannot be fetched.*ASSAY_DATA"):
        load_table("far", download=True)


# -- metrics


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40))
def test_roc_auc_is_the_chance_of_the_right_order(rows):
    y, scores = np.array([label for label, _ in rows]), np.array([score for _, score in rows], dtype=float)
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[y] for b in scores[~y]]
    if pairs:
        assert roc_auc(y, scores) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(roc_auc(y, scores))
        assert np.isnan(average_precision(y, scores))


def test_average_precision_by_hand():
    assert average_precision([0, 1, 0, 1], [1, 2, 3, 4]) == pytest.approx((1 + 2 / 3) / 2)


def test_quality_auc_takes_the_kinds_apart():
    kind = np.array([0, 0, 1, 1, 2, 2])
    found = quality_auc(kind, [0.5, 0.6, 0.1, 0.2, 0.7, 0.8])
    assert found == {"all": 0.5, "indistinguishable": 1.0, "unrealistic": 0.0}


@pytest.mark.parametrize("scores", [[1.0], [np.nan, 1.0], [[1.0, 2.0]]])
def test_metrics_refuse_what_is_no_ranking(scores):
    with pytest.raises(InputError):
        roc_auc([0, 1], scores)
