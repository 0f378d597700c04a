"""The command line on folders of images: what it writes, what it says, and what it does with files that are none."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from commands import run
from test_image_contracts import spoiled, stripes

FIT = (
    "fit",
    "images",
    "--train",
    "good",
    "--out",
    "model",
    "--folds",
    "2",
    "--param",
    "image_size=64",
    "--rate",
    "0.2",
)
SUGGEST = ("suggest", "--images", "known", "--out", "out", "--subsets", "5", "--count", "4")


def put(folder, images, ending="png"):
    os.makedirs(folder, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(f"{folder}/{i:02d}.{ending}")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Go to a folder of folders of images."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    put("good", stripes(16, rng))
    put("known/good", stripes(16, rng))
    put("known/blot", spoiled(stripes(4, rng), rng)[0])
    put("new/fine", stripes(5, rng))
    put("new/spöiled", spoiled(stripes(3, rng), rng)[0])
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Fit a model by the command line, once."""
    folder = tmp_path_factory.mktemp("model")
    put(folder / "good", stripes(16, np.random.default_rng(0)))
    arguments = [f"{folder}/good" if word == "good" else f"{folder}/model" if word == "model" else word for word in FIT]
    done = run(*arguments)
    assert done.code == 0, done.err
    assert "patchcore fitted on 16 images" in done.out and "false-alarm rate at most" in done.out
    return folder / "model"


def table(path):
    with open(path, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_scored(here, model):
    done = run("score", str(model), "--data", "new", "--out", "found")
    assert done.code == 0, done.err
    assert "8 images" in done.out and "images a second" in done.out
    rows = table("found/scores.csv")
    assert [row["image"] for row in rows] == sorted(row["image"] for row in rows)
    spoiled_ones = [row for row in rows if "spöiled" in row["image"]]
    assert len(spoiled_ones) == 3 and all(row["is_anomaly"] == "1" for row in spoiled_ones)
    flagged = {row["image"].replace("/", "__") + ".jpg" for row in rows if row["is_anomaly"] == "1"}
    assert set(os.listdir("found/overlays")) == flagged
    page = (here / "found/report.html").read_text(encoding="utf-8")
    assert "look anomalous" in page and page.count("<img") >= 16 and "<script" not in page
    assert json.loads((here / "found/run.json").read_text())["threshold"] > 0


def test_bad_files_are_listed_and_end_nothing(here, model):
    (here / "new/fine/bad.png").write_bytes(b"")
    whole = (here / "new/fine/00.png").read_bytes()
    (here / "new/fine/cut.png").write_bytes(whole[:100])
    done = run("score", str(model), "--data", "new", "--out", "found", "--overlays", "none")
    assert done.code == 0, done.err
    assert "2 could not be read" in done.out
    bad = [row for row in table("found/scores.csv") if row["error"]]
    assert {row["image"] for row in bad} == {"fine/bad.png", "fine/cut.png"}
    assert all(row["is_anomaly"] == "" for row in bad)
    assert "cannot be read as an image" in (here / "found/report.html").read_text(encoding="utf-8")
    assert not (here / "found/overlays").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("score", "MODEL", "--data", "nowhere", "--out", "x"), "is no folder"),
        (("score", "MODEL", "--data", "empty", "--out", "x"), "holds no images"),
        (("score", "MODEL", "--data", "new", "--out", "x", "--overlays", "some"), "--overlays"),
        (("fit", "images", "--train", "empty", "--out", "x"), "holds no images"),
        (("fit", "images", "--train", "broken", "--out", "x"), "none of its 1 images"),
        (("suggest", "--images", "good", "--out", "x"), "known anomalies"),
        (("suggest", "--images", "good", "--train", "a.csv", "--out", "x"), "give one"),
        (("suggest", "--out", "x"), "--images"),
        (("suggest", "--images", "known", "--out", "x", "--generator", "smote"), "anomalies among tables"),
    ],
)
def test_what_cannot_be_done_is_one_line(here, model, arguments, says):
    os.mkdir("empty")
    os.mkdir("broken")
    (here / "broken/a.png").write_bytes(b"no")
    done = run(*[str(model) if word == "MODEL" else word for word in arguments])
    assert done.code == 2
    assert says in done.err and "Traceback" not in done.err
    assert not os.path.exists("x")


def test_generators_are_ranked_with_pictures(here):
    generators = ("--generator", "cut_paste", "--generator", "pixel_noise", "--strength", "0.5", "--strength", "1")
    done = run(*SUGGEST, *generators)
    assert done.code == 0, done.err
    rows = table("out/suggestions.csv")
    assert len(rows) == 4 and {row["generator"] for row in rows} == {"cut_paste", "pixel_noise"}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    page = (here / "out/report.html").read_text(encoding="utf-8")
    assert "Known anomalies" in page and "Each generator" in page and page.count("<img") > 20
    assert all(name.endswith(".jpg") for name in os.listdir("out/best"))
    assert len(json.loads((here / "out/run.json").read_text())["suggestions"]) == 4
