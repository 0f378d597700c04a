"""The review without a browser: labels that last, the queue, learning, the pages, and what must not pass."""

import csv
import io
import json
import os
import re
import socket
import struct
import threading
from datetime import timezone
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image
from pyarrow import parquet
from scipy.stats import spearmanr

from assay.core.validation import InputError
from assay.review.app import create_app
from assay.review.auxiliary import agreement_with_quality
from assay.review.guard import Signer
from assay.review.labels import LabelStore
from assay.review.project import Project, workers
from assay.review.server import is_loopback, listening, secret_of, server_of
from assay.review.session import HELD, Review, agreement, conflicts
from assay.review.stages import Stages, in_blocks, key_of_files
from commands import run
from servers import postgres, postgres_programs

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def postgres_url():
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL: install Debian's package postgresql")
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return (
        f"sqlite:///{tmp_path / 'l.sqlite'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )


# --- labels -------------------------------------------------------------------------------------------------


def test_labels_last_and_the_latest_counts(url, request):
    name = f"last {request.node.callspec.id}"
    store = LabelStore(url, name)
    store.add(3, "Ann", 4)
    store.add(3, " Bob ", 1)
    store.add(3, "Ann", 2)
    store.add(7, "Ann", 5)
    other = LabelStore(url, name + " another project")
    other.add(3, "Ann", 0)
    assert store.current() == {3: {"Ann": 2, "Bob": 1}, 7: {"Ann": 5}}
    undone = store.undo("Ann")
    assert (undone.item, undone.value) == (7, 5) and undone.undone is not None
    assert store.undo("Ann").value == 2
    # What was said before counts again.
    assert store.current() == {3: {"Ann": 4, "Bob": 1}}
    store.add(3, "Ann", -1)
    assert store.current() == {3: {"Bob": 1}}
    assert store.undo("Nobody") is None
    store.close()
    again = LabelStore(url, name)
    assert again.current() == {3: {"Bob": 1}}
    history = again.history()
    assert len(history) == 5 and all(label.given.tzinfo is not None for label in history)
    assert history == sorted(history, key=lambda label: label.given)
    assert history[0].given.astimezone(timezone.utc).utcoffset().total_seconds() == 0
    again.close()
    other.close()


def test_many_at_once_lose_nothing(url, request):
    store = LabelStore(url, f"many {request.node.callspec.id}")

    def work(number):
        for item in range(20):
            store.add(item, f"reviewer {number}", (item + number) % 6)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = store.current()
    assert len(said) == 20
    assert all(said[item][f"reviewer {number}"] == (item + number) % 6 for item in range(20) for number in range(12))
    store.close()


def test_one_bad_change_spoils_no_other(tmp_path):
    store = LabelStore(f"sqlite:///{tmp_path / 'l.sqlite'}", "p")
    failures = []

    def bad():
        try:
            store._writer.do(lambda connection: connection.execute(sa.text("SELECT * FROM nowhere")))
        except sa.exc.SQLAlchemyError as error:
            failures.append(error)

    threads = [threading.Thread(target=bad) for _ in range(5)]
    threads += [threading.Thread(target=store.add, args=(item, "Ann", 1)) for item in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 5 and len(store.current()) == 30
    store.close()


@pytest.mark.parametrize(
    ("item", "who", "value"), [(-1, "Ann", 1), (0, "", 1), (0, "a\nb", 1), (0, "Ann", 6), (0, "x" * 101, 1)]
)
def test_a_bad_label_is_refused(tmp_path, item, who, value):
    store = LabelStore(f"sqlite:///{tmp_path / 'l.sqlite'}", "p")
    with pytest.raises(InputError):
        store.add(item, who, value)
    assert store.history() == []
    store.close()


def test_a_newer_database_is_refused_and_the_password_is_not_told(tmp_path):
    url = f"sqlite:///{tmp_path / 'l.sqlite'}"
    LabelStore(url, "p").close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE assay_review_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(InputError, match="update"):
        LabelStore(url, "p")
    with pytest.raises(InputError) as told:
        LabelStore("postgresql+psycopg://ann:secret@127.0.0.1:1/x", "p")
    assert "secret" not in str(told.value)


# --- stages -------------------------------------------------------------------------------------------------


def test_a_stage_runs_once_and_again_when_something_changed(tmp_path):
    runs = []

    def compute(folder):
        runs.append(folder)
        (folder / "x").write_text("done")

    stages = Stages(tmp_path)
    first = stages.get("scores", compute, {"trees": 1})
    assert stages.get("scores", compute, {"trees": 1}) == first and len(runs) == 1
    second = stages.get("scores", compute, {"trees": 2})
    assert second != first and len(runs) == 2
    stages.get("map", compute, {}, [first])
    stages.get("map", compute, {}, [second])
    assert len(runs) == 4 and (first / "x").read_text() == "done"


def test_blocks_go_on_after_a_crash(tmp_path):
    asked = []

    def compute(start, stop, limit):
        if start >= limit:
            raise KeyboardInterrupt
        asked.append(start)
        return np.arange(start, stop)

    with pytest.raises(KeyboardInterrupt):
        in_blocks(tmp_path, "n", 95, 10, compute, (50,))
    in_blocks(tmp_path, "n", 95, 10, compute, (1000,))
    assert asked == list(range(0, 95, 10))
    assert np.load(tmp_path / "n.npy").tolist() == list(range(95))
    assert [path.name for path in tmp_path.iterdir()] == ["n.npy"]


def test_the_key_is_that_of_the_content_of_every_file(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    files = sorted(tmp_path.iterdir())
    before = key_of_files(files, tmp_path)
    # The last file, with the same size: whoever hashed only names, sizes or the first file would miss it.
    files[2].write_text("z")
    after = key_of_files(files, tmp_path)
    assert before != after
    files[2].write_text("c")
    assert key_of_files(files, tmp_path) == before
    files[2].rename(tmp_path / "d")
    assert key_of_files([*files[:2], tmp_path / "d"], tmp_path) != before


# --- a project ----------------------------------------------------------------------------------------------


def sky():
    """Return rows: 200 ordinary ones, 10 artefacts far away, 10 interesting ones not so far."""
    rng = np.random.default_rng(0)
    artefacts = rng.normal(size=(10, 4)) * 0.3 + [7, 0, 0, 0]
    interesting = rng.normal(size=(10, 4)) * 0.3 + [0, 5, 0, 0]
    return np.concatenate([rng.normal(size=(200, 4)), artefacts, interesting])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    X = sky()
    table = pa.table(
        {"name": [HOSTILE, *(f"object {i}" for i in range(1, 220))]} | {f"f{j}": X[:, j] for j in range(4)}
    )
    parquet.write_table(
        table.select(["f0", "f1", "f2", "f3"]).append_column("name", table["name"]), folder / "x.parquet"
    )
    verdicts = (["realistic", "uncertain", "unrealistic", "indistinguishable"] * 55)[:220]
    meta = pa.table({"verdict": verdicts, "quality": np.linspace(0, 1, 220), "note": [HOSTILE] * 220})
    parquet.write_table(meta, folder / "meta.parquet")
    return folder


@pytest.fixture
def project(made, tmp_path):
    return Project.create(tmp_path / "p", made / "x.parquet", drop=["name"], meta=str(made / "meta.parquet"))


@pytest.fixture
def review(project):
    review = Review(project)
    yield review
    review.close()


def learned(review):
    review._learn()
    assert review.training.error == ""


def test_opening_again_computes_nothing(project, monkeypatch):
    first = project.prepare()
    monkeypatch.setattr("assay.review.project.in_blocks", lambda *_: pytest.fail("computed again"))
    second = Project(project.folder).prepare()
    assert first.scores.tolist() == second.scores.tolist()
    assert second.features.shape == (220, 4) and not second.features.flags.writeable
    np.testing.assert_allclose(second.features.mean(axis=0), 0, atol=1e-5)


def test_more_features_become_components(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(80, 20)))
    prepared = Project.create(tmp_path / "p", tmp_path / "x.npy", components=5).prepare()
    assert prepared.features.shape == (80, 5)
    covariance = np.cov(prepared.features.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3
    assert (np.diff(np.diag(covariance)) <= 1e-6).all()


@pytest.mark.parametrize("kind", ["pca", "tsne", "umap"])
def test_every_kind_of_map_shows_groups_apart(tmp_path, kind):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", np.concatenate([rng.normal(size=(150, 4)), rng.normal(size=(30, 4)) + 9]))
    prepared = Project.create(tmp_path / "p", tmp_path / "x.npy", map=kind).prepare()
    far = prepared.rows >= 150
    middles = prepared.places[~far].mean(axis=0), prepared.places[far].mean(axis=0)
    nearest = np.linalg.norm(prepared.places[:, None] - np.stack(middles), axis=2).argmin(axis=1)
    assert (nearest == far).mean() > 0.98
    again = Project.create(tmp_path / "q", tmp_path / "x.npy", map=kind).prepare()
    assert np.array_equal(prepared.places, again.places)


def test_the_loop_finds_the_interesting_and_artefacts_sink(review):
    first = review.upcoming("Ann", 20)
    assert sum(200 <= item < 210 for item in first) >= 5
    for _ in range(25):
        item = review.next("Ann")
        review.label("Ann", item, 5 if item >= 210 else 0)
    learned(review)
    rest = review.upcoming("Ann", 10)
    assert all(review.said(item) == {} for item in rest)
    assert review.scores(rest[0])["near"]["name"]
    judged_interesting = [item for item in range(210, 220) if review.said(item)]
    assert len(judged_interesting) >= 5
    told = review.progress()
    assert told["judged"] == 25 and told["found"] == len(judged_interesting) == told["curve"][-1]


def test_an_item_says_why(review):
    # Items 200 to 209 are far in the first column, 210 to 219 in the second.
    assert review.why(203)[0][0] == "f0" and review.why(214)[0][0] == "f1"
    assert all(value > 0 for _, value in review.why(203))


def test_an_item_says_what_would_make_it_ordinary(review):
    ordinary = int(np.argmin(review.prepared.scores))
    assert review.remedy(ordinary).status == "ordinary"
    # Item 203 is far out in the first column alone.
    item = 203
    told = review.remedy(item)
    assert told.status == "found" and told.stability >= told.needed >= 0.5
    name, now, then = told.changes[0]
    row = review.items.data[item]
    assert name == "f0" and now == pytest.approx(row[0]) and abs(then) < 3
    assert told.survival >= 0.8 and review.remedy(item) is told


def test_what_would_be_ordinary_is_told_in_the_units_of_the_table(tmp_path):
    np.save(tmp_path / "x.npy", sky() * [1.0, 100.0, 1.0, 1.0] + [0.0, 0.0, 1e6, 0.0])
    review = Review(Project.create(tmp_path / "p", tmp_path / "x.npy", detector="mahalanobis"))
    item = int(np.argmax(review.prepared.scores))
    told, row = review.remedy(item), review.items.data[item].copy()
    assert told.status == "found"
    for name, now, then in told.changes:
        column = review.prepared.columns.index(name)
        assert now == row[column]
        row[column] = then
    mean, spread = review.prepared.scale
    standard = (row - review.items.data.offset - mean) / spread
    assert abs(row[2] - 1e6) < 5
    assert review.prepared.detector.anomaly_score([standard])[0] <= np.quantile(review.prepared.scores, 0.95)
    review.close()


def test_people_share_the_work_and_conflicts_are_shown(review):
    one, two = review.next("Ann"), review.next("Bob")
    assert one != two
    review.choose(overlap=2)
    three = review.next("Cleo")
    # Two people may judge an item now: both come again for whoever has not judged them.
    assert three in (one, two)
    review.label("Ann", one, 5)
    review.label("Cleo", one, 1)
    assert one not in review.upcoming("Bob", 50)
    told = review.progress()
    assert told["conflicts"] == [{"item": one, "said": {"Ann": 5, "Cleo": 1}, "apart": 4}]
    assert told["agreement"][0] == {"reviewers": ("Ann", "Cleo"), "items": 1, "apart": 4.0, "within_one": 0.0}


def test_what_someone_looks_at_is_kept_from_others_for_a_while(review, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("assay.review.session.time.monotonic", lambda: clock[0])
    one = review.next("Ann")
    assert review.next("Bob") != one
    clock[0] += HELD + 1
    assert review.next("Bob") == one


def test_agreement_by_hand():
    said = {1: {"a": 0, "b": 2}, 2: {"a": 5, "b": 5}, 3: {"a": 1}}
    assert agreement(said) == [{"reviewers": ("a", "b"), "items": 2, "apart": 1.0, "within_one": 0.5}]
    assert [one["item"] for one in conflicts(said)] == [1]


def test_undo_brings_the_item_back(review):
    item = review.next("Ann")
    review.label("Ann", item, 3)
    assert review.next("Ann") != item
    assert review.undo("Ann") == item
    assert review.said(item) == {} and review.next("Ann") == item
    assert review.undo("Ann") is None
    # So does taking a judgement back.
    review.label("Ann", item, 2)
    assert review.next("Ann") != item
    review.label("Ann", item, -1)
    assert review.next("Ann") == item


def test_the_lasso_makes_a_queue(review):
    places = np.flatnonzero(np.isin(review.prepared.rows, np.arange(210, 220)))
    assert review.select("Ann", places) == 10 == review.selected("Ann")
    assert set(review.upcoming("Ann", 50)) == set(range(210, 220))
    # It is hers alone, and learning does not take it away.
    assert len(review.upcoming("Bob", 50)) == 50 and review.selected("Bob") is None
    learned(review)
    assert review.selected("Ann") == 10
    for _ in range(10):
        review.label("Ann", review.next("Ann"), 4)
    assert review.next("Ann") is None
    assert review.select("Ann", []) == 220 and review.next("Ann") is not None
    for wrong in ([220], [-1], [0.5]):
        with pytest.raises(InputError, match="places"):
            review.select("Ann", wrong)


def test_what_is_skipped_comes_last(review):
    first, second = review.next("Ann"), None
    second = review.next("Ann", after=first)
    assert second != first
    review.label("Ann", second, 1)
    assert first not in (review.next("Ann"), *review.upcoming("Ann", 100))
    assert review.upcoming("Ann", 500)[-1] == first
    places = np.flatnonzero(np.isin(review.prepared.rows, np.arange(210, 213)))
    review.select("Ann", places)
    # All three skipped, again and again: each comes in turn.
    seen = [review.next("Ann")]
    for _ in range(5):
        seen.append(review.next("Ann", after=seen[-1]))
    assert set(seen[:3]) == set(seen[3:]) == {210, 211, 212}
    last = seen[-1]
    for item in {210, 211, 212} - {last}:
        review.label("Ann", item, 2)
    assert review.next("Ann", after=last) == last
    # What is not in the selection does not come into it by being skipped.
    review.label("Ann", last, 2)
    assert review.next("Ann", after=5) is None
    with pytest.raises(InputError, match="item"):
        review.next("Ann", after=10**6)


def test_a_second_person_gets_an_item_after_learning_too(review):
    review.choose(overlap=2)
    item = review.next("Ann")
    review.label("Ann", item, 4)
    learned(review)
    assert item in review.upcoming("Bob", 220) and item not in review.upcoming("Ann", 220)
    review.label("Bob", item, 4)
    learned(review)
    assert item not in review.upcoming("Cleo", 220)


@pytest.mark.parametrize("order", ["trained", "detector", "random"])
def test_the_queue_goes_on_beyond_its_head(review, monkeypatch, order):
    monkeypatch.setattr("assay.review.session.HEAD", 7)
    learned(review)
    review.choose(order=order)
    seen = []
    while (item := review.next("Ann")) is not None:
        seen.append(item)
        review.label("Ann", item, len(seen) % 6)
    assert sorted(seen) == list(range(220))


def test_choices_outlive_the_server(project):
    review = Review(project)
    review.choose(overlap=3, method="protege", order="random")
    review.close()
    again = Review(Project(project.folder))
    assert (again.choices.overlap, again.choices.method, again.choices.order) == (3, "protege", "random")
    again.close()
    (project.folder / "review.json").write_text('{"choices": {"overlap": "many"}}')
    with pytest.raises(InputError, match=r"review\.json is damaged"):
        Review(Project(project.folder))


def test_items_that_changed_do_not_get_the_judgements_of_others(tmp_path):
    X = sky()
    np.save(tmp_path / "x.npy", X)
    project = Project.create(tmp_path / "p", tmp_path / "x.npy")
    review = Review(project)
    review.close()
    np.save(tmp_path / "x.npy", X[1:])  # nothing was judged: fine
    review = Review(Project(project.folder))
    review.label("Ann", 3, 5)
    review.close()
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match="changed since 1 of its items"):
        Review(Project(project.folder))
    np.save(tmp_path / "x.npy", X[1:])
    again = Review(Project(project.folder))
    assert again.said(3) == {"Ann": 5}
    again.close()


def test_large_numbers_keep_their_digits(tmp_path):
    rng = np.random.default_rng(0)
    seconds = 1.7e9 + rng.uniform(0, 50, 200)
    np.save(tmp_path / "x.npy", np.column_stack([seconds, rng.normal(size=200)]))
    prepared = Project.create(tmp_path / "p", tmp_path / "x.npy").prepare()
    np.testing.assert_allclose(prepared.items.data[np.arange(200)][:, 0], seconds, atol=1e-5)
    standard = (seconds - seconds.mean()) / seconds.std()
    np.testing.assert_allclose(prepared.features[:, 0], standard, atol=1e-4)
    # One row far out, be it the first, costs the others nothing.
    np.save(tmp_path / "first.npy", np.column_stack([np.r_[1e15, seconds], rng.normal(size=201)]))
    prepared = Project.create(tmp_path / "r", tmp_path / "first.npy").prepare()
    np.testing.assert_allclose(prepared.items.data[np.arange(1, 201)][:, 0], seconds, atol=1e-5)
    np.save(tmp_path / "far.npy", np.column_stack([np.geomspace(1, 1e39, 50), rng.normal(size=50)]))
    with pytest.raises(InputError, match="beyond 1e38"):
        Project.create(tmp_path / "q", tmp_path / "far.npy").prepare()


def test_a_model_must_know_the_same_columns(tmp_path):
    from assay import Mahalanobis, save

    X = np.random.default_rng(0).normal(size=(60, 2))
    for names in ("ab", "ba"):
        parquet.write_table(pa.table(dict(zip(names, X.T))), tmp_path / f"{names}.parquet")
    model = Mahalanobis().fit(X)
    model.feature_names_in_ = np.array(["a", "b"], dtype=object)
    save(model, tmp_path / "model")
    prepared = Project.create(tmp_path / "p", tmp_path / "ab.parquet", model=str(tmp_path / "model")).prepare()
    np.testing.assert_allclose(prepared.scores, model.anomaly_score(X), rtol=1e-5)
    with pytest.raises(InputError, match="fitted on the columns"):
        Project.create(tmp_path / "q", tmp_path / "ba.parquet", model=str(tmp_path / "model")).prepare()


def test_a_heat_map_keeps_nobody_waiting(review):
    import time

    class Slow:
        def anomaly_map(self, X):
            time.sleep(1.0)
            raise RuntimeError

    review._heat = Slow()

    def look():
        with pytest.raises(RuntimeError):
            review.picture(0, heat=True)

    thread = threading.Thread(target=look)
    thread.start()
    time.sleep(0.2)
    start = time.perf_counter()
    review.label("Ann", 5, 2)
    assert time.perf_counter() - start < 0.6
    thread.join()


def test_names_that_are_no_text_harm_nothing(tmp_path):
    folder = tmp_path / "sky"
    folder.mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    os.rename(folder / "0.png", os.fsencode(folder) + b"/b\xffd.png")
    review = Review(Project.create(tmp_path / "p", folder))
    with TestClient(create_app(review, SECRET, {"127.0.0.1"}), base_url="http://127.0.0.1") as client:
        client.cookies.set(Signer(SECRET).name_cookie, Signer(SECRET).cookie("Ann"))
        for item in range(3):
            review.label("Ann", item, 1)
            assert client.get(f"/?item={item}").status_code == client.get(f"/api/items/{item}").status_code == 200
        assert len(client.get("/labels.csv").text.splitlines()) == 4
        picture = client.get("/items/0/image.jpg")
        assert "no-cache" in picture.headers["cache-control"]
        same = client.get("/items/0/image.jpg", headers={"If-None-Match": picture.headers["etag"]})
        assert same.status_code == 304 and not same.content
        assert client.get("/items/1/image.jpg").headers["etag"] != picture.headers["etag"]
    review.close()


def test_a_table_beside_the_items_is_checked(made, tmp_path):
    def prepared(**columns):
        parquet.write_table(pa.table(columns), tmp_path / "meta.parquet")
        place = tmp_path / f"p{len(list(tmp_path.iterdir()))}"
        meta = str(tmp_path / "meta.parquet")
        return Project.create(place, made / "x.parquet", drop=["name"], meta=meta).prepare()

    with pytest.raises(InputError, match="quality holds no numbers"):
        prepared(quality=["good"] * 220)
    csv_file = tmp_path / "twice.csv"
    csv_file.write_text("a,a\n" + "1,2\n" * 220)
    with pytest.raises(InputError, match="same name"):
        Project.create(tmp_path / "q", made / "x.parquet", drop=["name"], meta=str(csv_file)).prepare()
    project = Project.create(tmp_path / "gaps", made / "x.parquet", drop=["name"], meta=None)
    review = Review(project)
    review.prepared.meta = pa.table({"quality": [None if i % 2 else i / 220 for i in range(220)]})
    for item in range(30):
        review.label("Ann", item, item % 6)
    told = review.auxiliary()
    assert told.judged == 15 and told.correlation is not None
    review.close()


def test_a_row_a_file_may_count_those_that_cannot_be_read(tmp_path):
    folder = tmp_path / "sky"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((40, 40, 3), 40 * number, dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "1.png").write_bytes(b"no image")
    parquet.write_table(pa.table({"note": ["a", "b", "c", "d"]}), tmp_path / "meta.parquet")
    prepared = Project.create(tmp_path / "p", folder, meta=str(tmp_path / "meta.parquet")).prepare()
    assert prepared.meta["note"].to_pylist() == ["a", "c", "d"]


def test_names_are_found_without_walking_all_of_them(review, tmp_path):
    assert review.find("row 217") == 217 and review.find("217") == 217
    assert review.find("row 1e9") is None and review.find("row x") is None and review.find("217 rows") is None
    np.save(tmp_path / "w.npy", np.random.default_rng(0).normal(size=(30, 12)))
    windows = Review(Project.create(tmp_path / "w", tmp_path / "w.npy", "windows"))
    assert windows.find("window 29") == 29 and windows.find("window 30") is None
    windows.close()


def test_odd_places(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 1)))
    strange = Project.create(tmp_path / "what?#x", tmp_path / "x.npy", map="tsne")
    review = Review(strange)
    review.label("Ann", 0, 1)
    review.close()
    assert (strange.folder / "labels.sqlite").is_file()
    (strange.folder / "stages" / "files.json").write_text("nonsense")
    assert len(Project(strange.folder).prepare().items) == 40
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        Project.create(tmp_path / "q", tmp_path / "empty.npy")
    with pytest.raises(InputError, match="in memory"):
        LabelStore("sqlite://", "p")


@pytest.mark.parametrize("order", ["detector", "random"])
def test_other_orders(review, order):
    before = review.upcoming("Ann", 30)
    review.choose(order=order)
    after = review.upcoming("Ann", 30)
    assert after == before if order == "detector" else after != before


def test_a_failed_training_keeps_the_order_and_says_why(review, monkeypatch):
    before = review.upcoming("Ann", 5)
    monkeypatch.setattr("assay.review.session.ActiveRanker.retrain", lambda self: 1 / 0)
    review._learn()
    assert "ZeroDivisionError" in review.training.error and not review.training.running
    assert review.upcoming("Ann", 5) == before


def test_every_kind_is_shown(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "windows.npy", rng.normal(size=(12, 30, 2)))
    np.save(tmp_path / "sets.npy", rng.normal(size=(12, 40, 3)))
    (tmp_path / "events.txt").write_text(
        "\n".join("open read close" for _ in range(12)) + f"\n{HOSTILE.replace(' ', '')} a"
    )
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(pictures / f"{i}.png")
    (pictures / "bröken.png").write_bytes(b"no image")
    seen = {
        "windows": ("windows.npy", "windows", "<svg"),
        "sets": ("sets.npy", "sets", "<svg"),
        "events": ("events.txt", None, "open"),
        "images": ("pictures", None, "/items/0/image.jpg"),
    }
    for name, (source, kind, expected) in seen.items():
        prepared = Project.create(tmp_path / f"p-{name}", tmp_path / source, kind).prepare()
        shown = [str(prepared.items.show(item)) for item in range(len(prepared.items))]
        expect = {"images": [f"/items/{item}/image.jpg" for item in range(len(shown))]}.get(name, [expected] * 5)
        assert all(word in one for word, one in zip(expect, shown))
        assert "<script" not in "".join(shown) and "<img src=x" not in "".join(shown)
        assert np.isfinite(prepared.scores).all() and len(prepared.scores) == len(prepared.items)
        assert prepared.failed.keys() == ({"bröken.png"} if name == "images" else set())
        assert len(Project(tmp_path / f"p-{name}").prepare().items) == len(prepared.items)


def test_other_kinds_say_why_where_their_numbers_have_names(tmp_path):
    rng = np.random.default_rng(0)
    windows = rng.normal(size=(60, 30))
    windows[7] += 6.0
    np.save(tmp_path / "windows.npy", windows)
    review = Review(Project.create(tmp_path / "named", tmp_path / "windows.npy", "windows"))
    assert review.why(7)[0][0] in ("mean", "least value", "largest value")
    assert not review.has_remedies and review.remedy(7) is None
    review.close()
    project = Project.create(tmp_path / "without", tmp_path / "windows.npy", "windows", embedder="random_convolutions")
    review = Review(project)
    assert review.why(7) == []
    review.close()


def test_a_bad_project_is_refused(made, tmp_path):
    for settings, named in (
        ({"kind": "smells"}, "kind"),
        ({"embedder": "image_embedder"}, "embedder"),
        ({"map": "globe"}, "map"),
        ({"detector": "patchcore"}, "detector"),
    ):
        with pytest.raises(InputError, match=named):
            Project.create(tmp_path / "p", made / "x.parquet", **settings)
    with pytest.raises(InputError, match="does not exist"):
        Project.create(tmp_path / "p", tmp_path / "nothing.npy")
    with pytest.raises(InputError, match="holds no project"):
        Project(tmp_path / "p")
    Project.create(tmp_path / "p", made / "x.parquet", drop=["name"])
    with pytest.raises(InputError, match="already"):
        Project.create(tmp_path / "p", made / "x.parquet")
    told = json.loads((tmp_path / "p" / "project.json").read_text())
    for wrong in ({**told, "format": 2}, {**told, "surprise": 1}, {}):
        (tmp_path / "p" / "project.json").write_text(json.dumps(wrong))
        with pytest.raises(InputError, match="no project of this version"):
            Project(tmp_path / "p")
    parquet.write_table(pa.table({"quality": [1.0]}), tmp_path / "short.parquet")
    with pytest.raises(InputError, match="1 rows for 220 items"):
        Project.create(
            tmp_path / "q", made / "x.parquet", drop=["name"], meta=str(tmp_path / "short.parquet")
        ).prepare()


# --- people and EAP -----------------------------------------------------------------------------------------


def test_agreement_with_quality():
    rng = np.random.default_rng(0)
    everywhere = rng.random(1000)
    quality = everywhere[:60]
    said = np.clip(np.round(5 * quality + rng.normal(0, 0.7, 60)), 0, 5)
    told = agreement_with_quality(said, quality, everywhere)
    assert told.correlation == pytest.approx(spearmanr(said, quality).statistic)
    assert told.low < told.correlation < told.high and told.low > 0.5
    assert 0.35 < told.threshold < 0.65 and abs(told.kept / 1000 - (everywhere >= told.threshold).mean()) < 1e-9
    nothing = agreement_with_quality(rng.permutation(said), quality, everywhere)
    assert nothing.low < 0.1
    assert agreement_with_quality(said[:5], quality[:5], everywhere).correlation is None
    alike = agreement_with_quality(np.full(20, 4), quality[:20], everywhere)
    assert alike.correlation is None and alike.approved == 1 and alike.threshold is None


def test_the_share_is_that_of_all_though_the_best_were_seen_first():
    everywhere = np.linspace(0, 1, 1000)
    quality = np.concatenate([np.linspace(0.76, 1, 50), np.linspace(0, 0.7, 10)])
    said = np.where(quality > 0.75, 5, 0)
    assert (said >= 3).mean() > 0.8
    assert agreement_with_quality(said, quality, everywhere).approved == pytest.approx(0.25, abs=0.02)


# --- the server ---------------------------------------------------------------------------------------------

SECRET = b"k" * 32


@pytest.fixture
def client(review):
    with TestClient(
        create_app(review, SECRET, {"127.0.0.1"}), base_url="http://127.0.0.1", follow_redirects=False
    ) as client:
        client.cookies.set(Signer(SECRET).name_cookie, Signer(SECRET).cookie("Ann"))
        client.headers["X-Assay-Form"] = Signer(SECRET).form_token("Ann")
        yield client


def test_every_page_stands(client, review):
    pages = ("/", "/map", "/progress", "/settings", "/enter", "/fragment?item=0", "/?item=0", "/?item=203&remedy=true")
    for path in pages:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        assert "<script>" not in answer.text and "<img src=x" not in answer.text, path
        assert not re.search(r'style="|<script(?! src="/static/)| on[a-z]+="', answer.text), path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    shown = client.get("/?item=0").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown and "/?item=0&amp;remedy=true" in shown
    assert "detectors trained again" in client.get("/?item=203&remedy=true").text
    for name in ("app.js", "map.js", "style.css", "icon.svg"):
        assert client.get(f"/static/{name}").status_code == 200


def test_forms_work_without_a_script(client, review):
    shown = client.get("/").text
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', shown).group(1)
    item = int(re.search(r'data-item="(\d+)"', shown).group(1))
    assert client.post("/label", data={"form_token": token, "item": item, "value": 4}).status_code == 303
    assert review.said(item) == {"Ann": 4}
    assert client.post("/undo", data={"form_token": token}).headers["location"] == f"/?item={item}"
    assert review.said(item) == {}
    settings = {"form_token": token, "method": "regression", "order": "random", "overlap": 2}
    assert client.post("/settings", data=settings).status_code == 303
    assert (review.choices.method, review.choices.overlap) == ("regression", 2)
    assert client.post("/settings", data=settings | {"method": "magic"}).status_code == 422
    assert client.get("/find", params={"text": "217"}).headers["location"] == "/?item=217"
    assert client.get("/find", params={"text": "row 5"}).headers["location"] == "/?item=5"
    assert client.get("/find", params={"text": "nowhere"}).status_code == 404
    assert client.post("/retrain", data={"form_token": token}).status_code == 303


def test_a_name_is_asked_for_and_cannot_be_forged(client):
    client.cookies.clear()
    assert client.get("/").headers["location"] == "/enter"
    assert client.post("/api/labels", json={"item": 0, "value": 3}).status_code == 401
    forged = b"Ann".hex() + "." + "0" * 64
    for cookie in (forged, "nonsense", "zz.zz", Signer(b"x" * 32).cookie("Ann")):
        client.cookies.set(Signer(SECRET).name_cookie, cookie)
        assert client.get("/").headers["location"] == "/enter"
    client.cookies.clear()
    page = client.get("/enter").text
    token = re.search(r'name="form_token" value="([0-9a-f]+)"', page).group(1)
    assert client.post("/enter", data={"name": " ", "form_token": token}).status_code == 422
    done = client.post("/enter", data={"name": "Zoë", "form_token": token})
    cookie = done.headers["set-cookie"]
    assert done.status_code == 303 and "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert client.get("/").status_code == 200


def test_foreign_pages_cannot_act(client, review):
    item = {"item": 0, "value": 5}
    del client.headers["X-Assay-Form"]
    assert client.post("/api/labels", json=item).status_code == 403
    bob = Signer(SECRET).form_token("Bob")
    assert client.post("/api/labels", json=item, headers={"X-Assay-Form": bob}).status_code == 403
    assert client.post("/label", data=item | {"form_token": bob}).status_code == 403
    ann = {"X-Assay-Form": Signer(SECRET).form_token("Ann")}
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/api/labels", json=item, headers=ann | headers).status_code == 403
    assert review.store.history() == []
    fine = ann | {"Origin": "http://127.0.0.1", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/labels", json=item, headers=fine).status_code == 200


def test_other_names_of_the_host_and_long_bodies_are_refused(client):
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/api/labels", content=b"x" * (2**20 + 1)).status_code == 413
    assert client.post("/api/labels", headers={"Content-Length": "-5"}, content=b"").status_code == 413

    def pieces():
        for _ in range(40):
            yield b" " * 2**16

    assert client.post("/api/labels", content=pieces()).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/labels.py",
        "/items/..%2f..%2fsecret/image.jpg",
        "/static/app.js%00",
        "/secret",
        "/project.json",
    ],
)
def test_no_path_leads_out(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422) and b"import" not in answer.content


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"item": 0},
        {"item": "0", "value": 1},
        {"item": 10**30, "value": 1},
        {"item": 220, "value": 1},
        {"item": 0, "value": 9},
        {"item": 0, "value": 1.5},
        {"item": 0, "value": 1, "reviewer": "Bob"},
        [],
        None,
        "'; DROP TABLE labels; --",
    ],
)
def test_a_bad_label_gets_an_answer(client, review, body):
    assert client.post("/api/labels", json=body).status_code == 422
    assert review.store.history() == []


def test_a_database_that_fails_is_said_to(client, review, monkeypatch):
    def fail(*_):
        raise sa.exc.OperationalError("INSERT", {}, Exception("disk full"))

    monkeypatch.setattr(review.store, "add", fail)
    answer = client.post("/api/labels", json={"item": 0, "value": 3})
    assert answer.status_code == 503 and "nothing was kept" in answer.json()["detail"]
    assert review.said(0) == {}


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://["}, {"Host": "[::1"}, {"Host": "[::1]evil"}, {"Content-Length": "9" * 5000}]
)
def test_headers_that_make_no_sense_are_refused(client, headers):
    answer = client.post("/api/undo", headers=headers)
    assert answer.status_code in (400, 403, 413, 421)


def test_hostile_names_stay_data(client, review):
    names = ["Robert'); DROP TABLE labels;--", HOSTILE, "=cmd|' /C calc'!A0"]
    for number, name in enumerate(names):
        client.cookies.clear()
        client.cookies.set(Signer(SECRET).name_cookie, Signer(SECRET).cookie(name))
        token = {"X-Assay-Form": Signer(SECRET).form_token(name)}
        assert client.post("/api/labels", json={"item": number, "value": 1}, headers=token).status_code == 200
    assert [label.reviewer for label in review.store.history()] == names
    page = client.get("/progress").text
    assert "<img src=x" not in page and "<script>" not in page
    rows = list(csv.reader(io.StringIO(client.get("/labels.csv").text)))
    assert rows[0][:3] == ["item", "name", "reviewer"] and len(rows) == 4
    # No spreadsheet takes a name for a formula.
    assert rows[3][2] == "'" + names[2]


def test_the_map_is_read_as_it_is_written(client, review):
    review.label("Ann", 215, 5)
    learned(review)
    body = client.get("/api/map").content
    (count,) = struct.unpack_from("<I", body)
    assert count == 220 and len(body) == 4 + count * (5 * 4 + 4 + 1)
    said = np.frombuffer(body, "<f4", count, 4 + 16 * count)
    trained = np.frombuffer(body, "<f4", count, 4 + 12 * count)
    items = np.frombuffer(body, "<u4", count, 4 + 20 * count)
    assert items[said == 5].tolist() == [215] and (said == -1).sum() == 219
    # What was learned is the rule's score, the one that the item's page shows.
    np.testing.assert_allclose(trained[items == 100], review.scores(100)["trained"], rtol=1e-6)
    assert set(np.frombuffer(body, "u1", count, 4 + 24 * count)) == {0, 1, 2, 3}
    assert client.post("/api/selection", json={"places": [0, 1]}).json() == {"items": 2}
    assert client.post("/api/selection", json={"places": [10**6]}).status_code == 422


def test_images_are_written_anew(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (30, 30, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    with open(folder / "0.png", "ab") as file:
        file.write(b"<script>alert(1)</script>")
    review = Review(Project.create(tmp_path / "p", folder))
    with TestClient(create_app(review, SECRET, {"127.0.0.1"}), base_url="http://127.0.0.1") as client:
        client.cookies.set(Signer(SECRET).name_cookie, Signer(SECRET).cookie("Ann"))
        answer = client.get("/items/0/image.jpg")
        assert answer.headers["content-type"] == "image/jpeg" and b"script" not in answer.content
        assert client.get("/items/9/image.jpg").status_code == 422
    review.close()


def test_exposed_means_a_token(review):
    app = create_app(review, SECRET, None, token="t" * 20)
    with TestClient(app, base_url="http://10.0.0.5", follow_redirects=False) as client:
        for path in ("/", "/enter", "/api/map", "/static/app.js", "/openapi.json", f"/?token={'u' * 20}"):
            assert client.get(path).status_code == 401
        moved = client.get(f"http://10.0.0.5//evil.example/x?token={'t' * 20}&item=3")
        assert moved.headers["location"] == "/evil.example/x?item=3"
        opened = client.get(f"/?token={'t' * 20}")
        assert opened.status_code == 303 and opened.headers["location"] == "/"
        assert "HttpOnly" in opened.headers["set-cookie"]
        assert client.get("/enter").status_code == 200


def test_where_a_token_is_needed(review):
    assert is_loopback("127.0.0.1") and is_loopback("localhost") and is_loopback("::1")
    assert not is_loopback("0.0.0.0") and not is_loopback("example.org")
    assert server_of(review)[1](80) == "http://127.0.0.1:80/"
    address = server_of(review, "0.0.0.0")[1](80)
    assert len(address.partition("?token=")[2]) >= 24
    assert server_of(review, "::1")[1](80) == "http://[::1]:80/"
    told = server_of(review, token="abc{def}+ghi&jkl#%")[1](80)
    assert parse_qs(urlsplit(told).query)["token"] == ["abc{def}+ghi&jkl#%"]
    with listening("127.0.0.1", 0) as taken:
        assert taken.proto == socket.IPPROTO_TCP  # else answers wait for 40 ms
        taken.listen()
        with pytest.raises(InputError, match="choose another port"):
            listening("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="token"):
        server_of(review, "0.0.0.0", token="short")


def test_the_secret_is_kept_and_for_its_owner_alone(tmp_path):
    first = secret_of(tmp_path)
    assert secret_of(tmp_path) == first and len(first) == 32
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    (tmp_path / "secret").write_text("short")
    with pytest.raises(InputError, match="damaged"):
        secret_of(tmp_path)


# --- the command --------------------------------------------------------------------------------------------


def test_the_command_prepares_and_refuses(made, tmp_path):
    done = run("review", tmp_path / "p", "--items", made / "x.parquet", "--drop", "name", "--prepare")
    assert done.code == 0 and "220 items of kind tables" in done.out, done.err
    assert run("review", tmp_path / "p", "--prepare").code == 0
    for words, named in (
        (("--items", made / "x.parquet"), "already"),
        (("--items", tmp_path / "none.csv"), "already|does not exist"),
    ):
        done = run("review", tmp_path / "p", *words)
        assert done.code == 2 and re.search(named, done.err)
    done = run("review", tmp_path / "q", "--items", made / "x.parquet", "--kind", "smells")
    assert done.code == 2 and "--kind" in done.err
    done = run("review", tmp_path / "none")
    assert done.code == 2 and "--items" in done.err
    done = run("review", tmp_path / "p", "--prepare", "--map", "tsne", "--detector", "ecod")
    assert done.code == 2 and "--detector, --map" in done.err
    # A call that failed can be made again, with what was wrong put right.
    done = run("review", tmp_path / "r", "--items", made / "x.parquet", "--prepare")
    assert done.code == 2 and "--drop" in done.err
    done = run("review", tmp_path / "r", "--items", made / "x.parquet", "--drop", "name", "--prepare")
    assert done.code == 0, done.err


def test_the_workers_of_a_cluster_compute_the_same(made, project, tmp_path, monkeypatch):
    from distributed import LocalCluster

    # Blocks small enough for several.
    monkeypatch.setattr("assay.review.project.BLOCK", 64)
    here = project.prepare()
    workers = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with workers as cluster:
        place, address = tmp_path / "q", cluster.scheduler_address.removeprefix("tcp://")
        words = ("--items", made / "x.parquet", "--drop", "name", "--prepare", "--jobs", 2, "--cluster", address)
        done = run("review", place, *words)
        asked = cluster.scheduler.transition_counter
    assert done.code == 0, done.err
    assert asked > 0
    there = Project(place).prepare()
    assert np.array_equal(here.features, there.features) and np.array_equal(here.scores, there.scores)
    assert np.array_equal(here.places, there.places)


def test_a_cluster_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("assay.review.project.ANSWERS", 1)
    with pytest.raises(InputError, match="does not answer"), workers("127.0.0.1:9"):
        pass
