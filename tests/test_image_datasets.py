"""Folder layouts read back, the mini data set, and the real sets where they are on this machine."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.core.validation import InputError
from assay.datasets.images import LAYOUTS, Masks, categories, load_images
from assay.datasets.mini_mvtec import CATEGORIES, DEFECTS, OBJECTS, PART_DEFECTS, write_mini_mvtec
from assay.metrics.images import count_regions, spro

MASK = np.zeros((8, 12), dtype=np.uint8)
MASK[2:4, 3:6] = 255


def put(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = np.full((8, 12, 3), len(path.stem), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mvtec(root, good="good", bad=("scratch", "höle"), mask="{}_mask.png", ending=".png"):
    for i in range(3):
        put(root / "train" / good / f"{i:03d}{ending}")
    put(root / "test" / good / f"000{ending}")
    for kind in bad:
        for stem in ("000", "Ünä.1"):
            put(root / "test" / kind / f"{stem}{ending}")
            put(root / "ground_truth" / kind / mask.format(stem), MASK)
    return root


def check(data, layout, n_train, labels):
    assert (data.layout, len(data.train), data.labels.tolist()) == (layout, n_train, labels)
    assert len(data.test) == len(data.masks) == len(data.defects) == len(labels)
    for i, label in enumerate(labels):
        mask = data.masks[i]
        assert (data.defects[i] != "good") == bool(label) == (mask is not None)
        assert mask is None or (mask.dtype == bool and np.array_equal(mask, MASK > 0))
    assert f"({layout})" in str(data) and "with masks" in str(data)


def test_mvtec(tmp_path):
    mvtec(tmp_path / "bottle")
    mvtec(tmp_path / "cable")
    data = load_images(tmp_path, "bottle")
    check(data, "mvtec", 3, [0, 1, 1, 1, 1])
    assert data.defects == ("good", "höle", "höle", "scratch", "scratch")
    assert data.test.names[1] == "bottle/test/höle/000.png"
    assert data.validation is None and data.has_masks
    assert data.test[1].shape == (8, 12, 3)
    check(load_images(tmp_path / "bottle"), "mvtec", 3, [0, 1, 1, 1, 1])
    check(load_images(str(tmp_path), "bottle", layout="mvtec"), "mvtec", 3, [0, 1, 1, 1, 1])
    assert categories(tmp_path) == ["bottle", "cable"]


def test_converted_visa_has_masks_without_suffix(tmp_path):
    mvtec(tmp_path / "candle", bad=("bad",), mask="{}.png", ending=".JPG")
    check(load_images(tmp_path, "candle"), "mvtec", 3, [1, 1, 0])


def test_btad(tmp_path):
    root = mvtec(tmp_path / "03", good="ok", bad=("ko",), mask="{}.bmp", ending=".bmp")
    put(root / "test" / "ko" / "0002.png")
    put(root / "ground_truth" / "ko" / "0002.png", MASK)
    data = load_images(tmp_path, "03")
    check(data, "btad", 3, [1, 1, 1, 0])
    assert data.defects == ("ko", "ko", "ko", "good")


def test_visa_as_published(tmp_path):
    rows = []
    for split, label, n in (("train", "normal", 3), ("test", "normal", 2), ("test", "anomaly", 2)):
        for i in range(n):
            image = f"candle/Data/Images/{label.title()}/{split}{i}.JPG"
            mask = f"candle/Data/Masks/Anomaly/{i}.png" if label == "anomaly" else ""
            put(tmp_path / image)
            if mask:
                put(tmp_path / mask, MASK // 85)  # a class number
            rows.append(dict(object="candle", split=split, label=label, image=image, mask=mask))
    rows.append(dict(object="fryum", split="train", label="normal", image="fryum/none.JPG", mask=""))
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert categories(tmp_path) == ["candle"]
    check(load_images(tmp_path, "candle"), "visa", 3, [0, 0, 1, 1])
    (tmp_path / rows[-2]["mask"]).unlink()
    with pytest.raises(InputError, match=r"test1.JPG is defective and has no mask \(1 such\)"):
        load_images(tmp_path, "candle")
    (tmp_path / rows[0]["image"]).unlink()
    with pytest.raises(InputError, match=r"names candle/Data/Images/Normal/train0\.JPG, which is not there"):
        load_images(tmp_path, "candle")


def loco(root):
    for part in ("train", "validation", "test"):
        put(root / part / "good" / "000.png")
    for stem, values in (("000", (255, 254)), ("001", (253,))):
        put(root / "test" / "logical_anomalies" / f"{stem}.png")
        for k, value in enumerate(values):
            mask = np.zeros((8, 12), dtype=np.uint8)
            mask[2 * k : 2 * k + 2, :5] = value
            put(root / "ground_truth" / "logical_anomalies" / stem / f"{k:03d}.png", mask)
    config = [
        dict(defect_name="gone", pixel_value=255, saturation_threshold=4, relative_saturation=False),
        dict(defect_name="moved", pixel_value=254, saturation_threshold=0.5, relative_saturation=True),
        dict(defect_name="more", pixel_value=253, saturation_threshold=10000, relative_saturation=False),
    ]
    (root / "defects_config.json").write_text(json.dumps(config))
    return root


def test_loco(tmp_path):
    data = load_images(loco(tmp_path / "juice"))
    assert (data.layout, len(data.train), len(data.validation), data.labels.tolist()) == ("loco", 1, 1, [0, 1, 1])
    assert data.masks[0] is None and data.masks[1].sum() == 20
    assert [len(data.masks.regions(i)) for i in range(3)] == [0, 2, 1]
    assert [data.masks.saturations(i) for i in range(3)] == [[], [4, 5], [10]]
    at_half = data.masks.at((4, 6))
    assert [at_half.saturations(i) for i in range(3)] == [[], [1, 1], [len(at_half.regions(2)[0].nonzero()[0])]]
    maps = np.zeros((3, 8, 12))
    maps[1, 0, :4] = maps[1, 2, :5] = maps[2, :2, :5] = 1.0
    regions = [data.masks.regions(i) for i in range(3)]
    assert spro(regions, maps, [data.masks.saturations(i) for i in range(3)]) == 1.0
    assert spro(regions, maps) < 0.7


def test_loco_whose_config_does_not_fit(tmp_path):
    root = loco(tmp_path / "juice")
    (root / "defects_config.json").write_text(json.dumps([dict(pixel_value=1)]))
    with pytest.raises(InputError, match="is no list of defects"):
        load_images(root)
    (root / "defects_config.json").write_text("[]")
    assert load_images(root).masks.saturations(1) == [10, 10]
    config = [dict(pixel_value=1, saturation_threshold=1, relative_saturation=True)]
    (root / "defects_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="holds the value 255"):
        load_images(root).masks.saturations(1)


def classes(root, masks=True):
    for i in range(10):
        put(root / "normal" / f"{i}.jpg")
    for kind in ("crack", "dent"):
        for i in range(3):
            put(root / kind / f"{i}.jpg")
            if masks:
                put(root / kind / f"{i}.png", MASK)
    (root / "SOURCE.md").write_text("")
    return root


def test_classes(tmp_path):
    root = classes(tmp_path / "tiles")
    data = load_images(root)
    check(data, "classes", 7, [0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert not set(data.train.names) & set(data.test.names)
    assert data.train.names == load_images(root).train.names
    assert data.train.names != load_images(root, random_state=1).train.names
    assert len(load_images(root, train_share=0.5).train) == 5
    (root / "crack" / "1.png").unlink()
    with pytest.raises(InputError, match=r"crack/1.jpg is defective and has no mask"):
        load_images(root)


def test_classes_without_masks(tmp_path):
    data = load_images(classes(tmp_path / "scans", masks=False))
    assert not data.has_masks and "without masks" in str(data)
    assert list(data.masks) == [None] * 9


def test_grey_rims_of_painted_masks_are_no_regions(tmp_path):
    root = classes(tmp_path / "tiles")
    painted = MASK.copy()
    painted[6, 9] = painted[2:4, 6] = 100
    put(root / "crack" / "0.png", painted)
    put(root / "crack" / "1.png", MASK // 255)
    data = load_images(root)
    assert np.array_equal(data.masks[3], MASK > 0) and np.array_equal(data.masks[4], MASK > 0)


def test_masks_at_a_size(tmp_path):
    data = load_images(mvtec(tmp_path / "bottle"))
    assert isinstance(data.masks[1:3], Masks) and len(data.masks[1:3]) == 2
    assert data.masks[data.labels == 1][0].any()
    own, small = data.masks.at(), data.masks.at((4, 6))
    assert own[0].shape == (8, 12) and not own[0].any() and np.array_equal(own[1], data.masks[1])
    assert [mask.shape for mask in small] == [(4, 6)] * 5
    assert count_regions(own) == count_regions(data.masks) == 4


def test_a_set_without_truth_has_no_masks(tmp_path):
    root = mvtec(tmp_path / "bottle")
    os.rename(root / "ground_truth", tmp_path / "elsewhere")
    assert not load_images(root).has_masks


def test_masks_are_paired_by_name(tmp_path):
    root = mvtec(tmp_path / "bottle")
    truth = root / "ground_truth" / "scratch"
    (truth / "000_mask.png").rename(truth / "999_mask.png")  # position would still fit
    with pytest.raises(InputError, match=r"scratch/000.png is defective and has no mask \(1 such\)"):
        load_images(root)
    put(truth / "000_mask.png", MASK)
    put(truth / "000.png", MASK)
    with pytest.raises(InputError, match=r"has several masks, 000.png and 000_mask.png"):
        load_images(root)
    (truth / "000.png").unlink()
    put(root / "test" / "scratch" / "000.bmp")
    with pytest.raises(InputError, match="a mask of that name could be of either"):
        load_images(root)


def test_what_cannot_be_loaded_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    with pytest.raises(InputError, match="'nowhere' is no folder"):
        load_images("nowhere")
    with pytest.raises(InputError, match="has no known layout"):
        load_images(tmp_path)
    root = mvtec(tmp_path / "bottle")
    with pytest.raises(InputError, match="holds categories: pass category, one of bottle"):
        load_images(tmp_path)
    with pytest.raises(InputError, match=r"category='can' is no folder in .*: one of bottle"):
        load_images(tmp_path, "can")
    with pytest.raises(InputError, match="layout='coco'"):
        load_images(root, layout="coco")
    with pytest.raises(InputError, match="train_share=0"):
        load_images(root, train_share=0)
    (root / "test" / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no images"):
        load_images(root)
    (root / "test" / "empty").rmdir()
    for path in (root / "train" / "good").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="good holds no images"):
        load_images(root)
    with pytest.raises(InputError, match="test holds no folders"):
        put(tmp_path / "other" / "train" / "good" / "0.png")
        load_images(tmp_path / "other")
    with pytest.raises(InputError, match="leaves none on one side"):
        load_images(classes(tmp_path / "tiles"), train_share=0.01)


def test_nothing_but_names_is_read(tmp_path):
    root = mvtec(tmp_path / "bottle")
    (root / "test" / "scratch" / "000.png").write_bytes(b"broken")
    data = load_images(root)
    assert list(data.test.unreadable()) == [3]


def test_a_new_layout_is_one_line(tmp_path, monkeypatch):
    mvtec(tmp_path / "bottle")
    read = LAYOUTS["mvtec"].read
    monkeypatch.setitem(LAYOUTS, "new", LAYOUTS["mvtec"]._replace(read=read))
    assert len(load_images(tmp_path / "bottle", layout="new").train) == 3


# The mini data set.


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(Path(root).rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    """Return three writings of the same scenes: obvious, medium, nearly invisible."""
    return {
        d: write_mini_mvtec(tmp_path_factory.mktemp("mini"), n_train=3, n_test_good=2, n_defects=4, difficulty=d)
        for d in (0.0, 0.5, 1.0)
    }


def test_mini_is_read_back(mini):
    assert categories(mini[0.5]) == sorted(CATEGORIES)
    for category in CATEGORIES:
        data = load_images(mini[0.5], category)
        kinds = DEFECTS + (PART_DEFECTS if category in OBJECTS else ())
        assert (data.layout, len(data.train), int(data.labels.sum())) == ("mvtec", 3, 4 * len(kinds))
        assert sorted(set(data.defects)) == sorted([*kinds, "good"])
        assert data.test[0].shape == (96, 96, 3)
        assert all(mask is None or mask.any() for mask in data.masks)


def changes(mini, category, monkeypatch):
    """Return |change| against the same scene without its defect, for each difficulty: {(kind, i): {d: change}}."""
    from assay.datasets import mini_mvtec

    kinds = DEFECTS + (PART_DEFECTS if category in OBJECTS else ())
    drawn = {}
    whole = mini_mvtec._rounded

    def remember(image):
        drawn.setdefault("images", []).append(whole(image))
        return drawn["images"][-1]

    monkeypatch.setattr(mini_mvtec, "_rounded", remember)
    out = {}
    for k, kind in enumerate(kinds):
        for i in range(4):
            rng = np.random.default_rng((0, CATEGORIES.index(category), 96, 2 + k, i))
            drawn["images"] = []
            mini_mvtec._defective(category, kind, 96, 0.5, rng)
            normal = drawn["images"][0].astype(int)
            for d, root in mini.items():
                image = np.asarray(Image.open(root / category / "test" / kind / f"{i:03d}.png")).astype(int)
                mask = np.asarray(Image.open(root / category / "ground_truth" / kind / f"{i:03d}_mask.png")) > 0
                out.setdefault((kind, i), {})[d] = np.abs(image - normal), mask
    return out


@pytest.mark.parametrize("category", CATEGORIES)
def test_masks_are_exactly_what_changed(mini, category, monkeypatch):
    for (kind, _), by_difficulty in changes(mini, category, monkeypatch).items():
        for change, mask in by_difficulty.values():
            assert np.array_equal(change.any(axis=2), mask)
            assert 0.001 < mask.mean() < 0.2
            assert count_regions([mask]) <= (2 if kind == "swapped" else 1)


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_harder_the_less_changes(mini, category, monkeypatch):
    for by_difficulty in changes(mini, category, monkeypatch).values():
        easy, medium, hard = (by_difficulty[d][0].mean() for d in (0.0, 0.5, 1.0))
        assert easy > medium > hard > 0
        assert hard < 0.2 * easy


def test_the_same_arguments_give_the_same_bits(tmp_path, mini):
    again = write_mini_mvtec(tmp_path / "again", n_train=3, n_test_good=2, n_defects=4, difficulty=0.5)
    assert files(again) == files(mini[0.5])
    other = write_mini_mvtec(tmp_path / "other", ["gear"], n_train=3, n_test_good=2, n_defects=4, random_state=1)
    assert not set(files(other / "gear" / "train").values()) & set(files(again / "gear" / "train").values())
    # More images, or one category alone, leave the others as they are.
    more = write_mini_mvtec(tmp_path / "more", ["gear"], n_train=5, n_test_good=2, n_defects=4)
    assert files(again / "gear").items() <= files(more / "gear").items()


def test_no_pixel_of_a_texture_is_in_training_and_test(tmp_path, monkeypatch):
    from assay.datasets import mini_mvtec

    rows = np.repeat(np.arange(512)[:, None], 512, axis=1)
    monkeypatch.setattr(mini_mvtec, "_photograph", lambda _: rows)
    for split, low, high in (("train", 0, 319), ("test", 320, 511)):
        crops = [mini_mvtec._Scene("brick", 96, split, np.random.default_rng(i)).crop for i in range(200)]
        assert min(crop.min() for crop in crops) >= low and max(crop.max() for crop in crops) <= high


def test_mini_refuses(tmp_path):
    with pytest.raises(InputError, match="categories='glass'"):
        write_mini_mvtec(tmp_path, ["glass"])
    with pytest.raises(InputError, match="difficulty=2"):
        write_mini_mvtec(tmp_path, difficulty=2)
    with pytest.raises(InputError, match="size=20"):
        write_mini_mvtec(tmp_path, size=20)
    write_mini_mvtec(tmp_path, ["brick"], n_train=1, n_test_good=1, n_defects=0, size=48)
    with pytest.raises(InputError, match="brick is there already"):
        write_mini_mvtec(tmp_path, ["brick"])


# Real sets.


def test_a_bare_name_is_looked_for_in_assay_data(tmp_path, monkeypatch):
    classes(tmp_path / "images" / "tiles")
    monkeypatch.setenv("ASSAY_DATA", str(tmp_path))
    assert load_images("tiles").name == "tiles"


@pytest.mark.parametrize(
    ("name", "n_train", "n_good", "n_bad", "kinds", "masks"),
    [
        ("magnetic_tile", 224, 96, 392, 5, True),
        ("kolektor_sdd", 91, 39, 52, 1, True),
        ("brain_mri", 69, 29, 154, 1, False),
        ("chest_xray", 154, 66, 160, 1, False),
    ],
)
def test_real_sets(name, n_train, n_good, n_bad, kinds, masks):
    if not (Path(os.environ.get("ASSAY_DATA", "")) / "images" / name).is_dir():
        pytest.skip(f"ASSAY_DATA names no folder that holds images/{name}")
    data = load_images(name)
    assert (data.layout, len(data.train), data.has_masks) == ("classes", n_train, masks)
    assert ((data.labels == 0).sum(), (data.labels == 1).sum(), len(set(data.defects))) == (n_good, n_bad, kinds + 1)
    for i in range(0, len(data.test), 40):
        mask = data.masks[i]
        assert mask is None or mask.shape == data.test[i].shape[:2]
