"""EfficientAD: the published form to the last parameter, its losses and scales exactly, and what each part is for."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F

from assay.core.images import resized_map
from assay.core.validation import InputError
from assay.detectors.images.efficientad import AutoEncoder, EfficientAD, changed_light, hard_quantile_loss, losses
from assay.nn.map_normaliser import QuantileMapNormaliser
from assay.nn.pdn import PatchDescriptionNetwork, as_numbers, batches, distil, read_teacher, targets

TINY = {
    "width_mult": 0.04,
    "image_size": 64,
    "steps": 4,
    "teacher_steps": 2,
    "n_penalty": 6,
    "penalty_images": "procedural",
    "weights": None,
    "random_state": 0,
}


def size_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


def pdn(outputs, size="S", width_mult=1.0, padded=False, seed=0):
    torch.manual_seed(seed)
    return PatchDescriptionNetwork(outputs, size, width_mult, padded).eval().requires_grad_(False)


@pytest.fixture(autouse=True)
def own_randomness():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (6, 70, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(noise):
    return EfficientAD(**TINY).fit(noise)


# -- architecture ----------------------------------------------------------------------------------------------------


def test_numbers_of_parameters_are_the_published_ones():
    with torch.device("meta"):
        for size, teacher, student in (("S", 2_694_144, 4_267_392), ("M", 8_026_624, 11_615_488)):
            assert size_of(PatchDescriptionNetwork(384, size)) == teacher
            assert size_of(PatchDescriptionNetwork(768, size)) == student
        assert size_of(AutoEncoder(256, 384)) == 1_096_320


@pytest.mark.parametrize("size", ["S", "M"])
def test_a_cell_sees_its_33_pixels_and_nothing_else(size):
    network = pdn(8, size, 0.05)
    assert network(torch.zeros(1, 3, 256, 256)).shape == (1, 8, 56, 56)
    x = torch.rand(1, 3, 96, 80)
    before = network(x)
    for row, column in ((0, 0), (40, 33), (95, 79), (32, 4)):
        changed = x.clone()
        changed[0, :, row, column] += 10
        moved = (network(changed) != before).any(dim=1)[0]
        rows, columns = (torch.arange(n) for n in moved.shape)
        sees = [(4 * cells <= place) & (place <= 4 * cells + 32) for cells, place in ((rows, row), (columns, column))]
        assert torch.equal(moved, sees[0][:, None] & sees[1]), f"pixel {row}, {column}"


@pytest.mark.parametrize("size", ["S", "M"])
def test_an_image_moved_by_four_pixels_gives_features_moved_by_a_cell(size):
    network = pdn(8, size, 0.05)
    wide = torch.rand(1, 3, 68, 68)
    here, there = network(wide[:, :, :64, :64].contiguous()), network(wide[:, :, 4:, 4:].contiguous())
    assert torch.equal(here[:, :, 1:, 1:], there[:, :, :-1, :-1])


@pytest.mark.parametrize("image_size", [64, 90, 97, 128, 130, 256, 300])
def test_all_three_networks_have_one_grid(image_size):
    cells = math.ceil(image_size / 4) - 8
    x = torch.rand(2, 3, image_size, image_size)
    assert pdn(5, width_mult=0.05)(x).shape == (2, 5, cells, cells)
    assert AutoEncoder(image_size, 5, 0.05)(x).shape == (2, 5, cells, cells)


def test_the_autoencoder_sees_the_whole_image_through_one_vector():
    for image_size, kernel in ((64, 2), (128, 4), (224, 7), (256, 8), (320, 8)):
        bottleneck = AutoEncoder(image_size, 5, 0.1).encoder[-1]
        assert bottleneck.kernel_size == (kernel, kernel)
    network = AutoEncoder(256, 4, 0.1)
    assert network.encoder(torch.rand(1, 3, 256, 256)).shape[2:] == (1, 1)
    assert network.sizes == (3, 8, 15, 32, 63, 127)
    assert network.grid == 56


@pytest.mark.parametrize("size", ["S", "M"])
def test_paddings_of_distillation_give_a_quarter_of_the_image_by_the_same_weights(size):
    padded, plain = pdn(6, size, 0.05, padded=True), pdn(6, size, 0.05)
    assert {name: tensor.shape for name, tensor in padded.state_dict().items()} == {
        name: tensor.shape for name, tensor in plain.state_dict().items()
    }
    for side in (64, 128, 256):
        assert padded(torch.zeros(1, 3, side, side)).shape[2:] == (side // 4, side // 4)


# -- losses ----------------------------------------------------------------------------------------------------------


def test_hard_loss_takes_what_reaches_the_quantile():
    ramp = torch.arange(1000.0).reshape(1, 10, 10, 10)
    assert hard_quantile_loss(ramp, 0.999).item() == 999.0
    assert hard_quantile_loss(ramp, 0.5).item() == np.arange(500, 1000).mean()
    squared = torch.rand(3, 4, 7, 7)
    assert hard_quantile_loss(squared, 0.0).item() == pytest.approx(squared.mean().item())
    for p in (0.1, 0.9, 0.99, 0.999):
        one_by_one = [item[item >= np.quantile(item, p)].mean() for item in squared.double().numpy()]
        assert hard_quantile_loss(squared.double(), p).item() == pytest.approx(np.mean(one_by_one))


def test_hard_loss_has_no_gradient_outside_its_choice():
    squared = torch.rand(1, 2, 20, 25, requires_grad=True)
    hard_quantile_loss(squared, 0.99).backward()
    chosen = squared.detach() >= np.quantile(squared.detach().numpy(), 0.99)
    assert torch.equal(squared.grad != 0, chosen)
    np.testing.assert_allclose(squared.grad[chosen], 1 / chosen.sum().item())


def test_hard_loss_and_quantiles_of_more_than_two_to_the_24_elements():
    many = torch.arange(2**24 + 4.0, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(many, 0.999)
    chosen = math.ceil(0.999 * (len(many) - 1))
    assert hard_quantile_loss(many[None], 0.999).item() == pytest.approx((chosen + len(many) - 1) / 2)
    low, high = QuantileMapNormaliser.quantiles_of([many.float().numpy()])[0]
    assert (low, high) == pytest.approx((0.9 * (len(many) - 1), 0.995 * (len(many) - 1)), rel=1e-6)


def test_losses_are_those_of_the_paper_and_reach_the_right_networks():
    teacher, student, autoencoder = pdn(4, width_mult=0.05), pdn(8, width_mult=0.05, seed=1), AutoEncoder(64, 4, 0.1)
    student.requires_grad_(True)
    x, other, changed = torch.rand(3, 1, 3, 64, 64)
    autoencoder.eval()
    parts = losses(teacher, student, autoencoder, x, other, changed, 0.9)
    hard = (teacher(x) - student(x)[:, :4]).square()
    torch.testing.assert_close(parts["hard"], hard[hard >= hard.flatten().quantile(0.9)].mean())
    torch.testing.assert_close(parts["penalty"], student(other)[:, :4].square().mean())
    torch.testing.assert_close(parts["autoencoder"], F.mse_loss(autoencoder(changed), teacher(changed)))
    torch.testing.assert_close(parts["second"], F.mse_loss(autoencoder(changed), student(changed)[:, 4:]))
    last, rebuilding = student[-1].weight, autoencoder.last[-1].weight
    for name, first, second, into_autoencoder in (
        ("hard", True, False, False),
        ("penalty", True, False, False),
        ("autoencoder", False, False, True),
        ("second", False, True, True),
    ):
        given = torch.autograd.grad(parts[name], (last, rebuilding), retain_graph=True, allow_unused=True)
        given = [torch.zeros(8) if gradient is None else gradient for gradient in given]
        assert bool(given[0][:4].any()) == first, name
        assert bool(given[0][4:].any()) == second, name
        assert bool(given[1].any()) == into_autoencoder, name


def test_light_changes_one_thing_by_up_to_a_fifth():
    x = 0.3 + 0.4 * torch.rand(300, 3, 8, 8)
    changed = changed_light(x, np.random.default_rng(0))
    factor = (changed / x).flatten(1)
    brighter = (factor - factor[:, :1]).abs().amax(dim=1) < 1e-4
    assert 60 < brighter.sum() < 140, "a third"
    assert 0.8 <= factor[brighter].min() < 0.82
    assert 1.18 < factor[brighter].max() <= 1.2
    greys = torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), x)
    changed_greys = torch.einsum("c,bchw->bhw", torch.tensor([0.299, 0.587, 0.114]), changed)
    saturated = ((greys - changed_greys).abs().amax(dim=(1, 2)) < 1e-4) & ~brighter
    contrasted = ((greys.mean(dim=(1, 2)) - changed_greys.mean(dim=(1, 2))).abs() < 1e-4) & ~saturated & ~brighter
    assert (saturated | contrasted | brighter).all()
    assert saturated.sum() > 60
    assert contrasted.sum() > 60


def test_every_image_comes_before_any_comes_again():
    plan = batches(5, 7, 2, np.random.default_rng(0))
    assert plan.shape == (7, 2)
    assert np.array_equal(np.sort(plan.ravel()[:10]), np.repeat(np.arange(5), 2))
    assert batches(5, 0, 2, np.random.default_rng(0)).shape == (0, 2)


# -- scales ----------------------------------------------------------------------------------------------------------


def test_quantiles_become_0_and_a_tenth_whatever_the_unit():
    rng = np.random.default_rng(0)
    maps = [rng.gamma(2.0, size=(9, 14, 14)), rng.gamma(5.0, size=(9, 14, 14))]
    normaliser = QuantileMapNormaliser(QuantileMapNormaliser.quantiles_of(maps))
    for branch in normaliser(maps):
        np.testing.assert_allclose(np.quantile(branch, [0.9, 0.995]), [0.0, 0.1], atol=1e-4)
    large = [maps[0], 1000 * maps[1]]
    rescaled = QuantileMapNormaliser(QuantileMapNormaliser.quantiles_of(large))
    np.testing.assert_allclose(rescaled.combined(large), normaliser.combined(maps), atol=1e-9)
    flat = [np.ones((2, 3, 3))] * 2
    assert np.array_equal(QuantileMapNormaliser(QuantileMapNormaliser.quantiles_of(flat)).combined(flat), 0 * flat[0])


def test_scores_and_maps_are_the_normalised_differences(noise, tiny):
    """Rebuild the map from the learned arrays, with the teacher's statistics outside the network."""
    channels = len(tiny.teacher_mean_)

    def filled(network, arrays):
        network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
        return network.eval()

    teacher = filled(PatchDescriptionNetwork(channels, "S", 0.04), tiny.teacher_)
    student = filled(PatchDescriptionNetwork(2 * channels, "S", 0.04), tiny.student_)
    autoencoder = filled(AutoEncoder(64, channels, 0.04), tiny.autoencoder_)
    from assay.core.images import as_images

    scores, maps = tiny.locate(noise)
    branch_scores = tiny.branch_scores(noise)
    mean, std = (torch.from_numpy(array)[:, None, None] for array in (tiny.teacher_mean_, tiny.teacher_std_))
    for i, image in enumerate(next(as_images(noise).batches((64, 64)))):
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            described, imitated = (teacher(x) - mean) / std, student(x)
            raw = [
                (described - imitated[:, :channels]).square().mean(dim=1)[0],
                (autoencoder(x) - imitated[:, channels:]).square().mean(dim=1)[0],
            ]
        both = [0.1 * (one.numpy() - a) / (b - a) for one, (a, b) in zip(raw, tiny.quantiles_)]
        np.testing.assert_allclose(branch_scores[i], [one.max() for one in both], rtol=1e-3, atol=1e-4)
        expected = resized_map(np.pad((both[0] + both[1]) / 2, 4), (64, 64))
        np.testing.assert_allclose(maps[i], expected, rtol=1e-3, atol=1e-4)
        assert scores[i] == maps[i].max()


def test_statistics_are_the_teacher_s_over_the_training_images(noise):
    network = EfficientAD(**TINY)
    network.teacher_ = {name: array.numpy() for name, array in pdn(15, width_mult=0.04).state_dict().items()}
    mean, std = network._statistics(noise[:, :64])
    described = pdn(15, width_mult=0.04)(as_numbers(noise[:, :64])).double()
    np.testing.assert_allclose(mean, described.mean(dim=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(std, described.std(dim=(0, 2, 3), correction=0), rtol=1e-4)


# -- training --------------------------------------------------------------------------------------------------------


def test_the_teacher_is_frozen_and_the_student_and_the_autoencoder_learn(noise, tiny):
    still = EfficientAD(**TINY | {"steps": 0}).fit(noise)
    assert all(np.array_equal(still.teacher_[name], tiny.teacher_[name]) for name in tiny.teacher_)
    assert np.array_equal(still.teacher_mean_, tiny.teacher_mean_)
    assert np.array_equal(still.teacher_std_, tiny.teacher_std_)
    for part in ("student_", "autoencoder_"):
        assert all(not np.array_equal(array, getattr(still, part)[name]) for name, array in getattr(tiny, part).items())


def test_distillation_learns_the_given_maps():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    model = nn.Sequential(nn.Conv2d(3, 10, 8, stride=8), nn.ReLU())

    def features(batch):
        with torch.inference_mode():
            return model(as_numbers(batch.repeat(2, axis=1).repeat(2, axis=2))).permute(0, 2, 3, 1)

    maps = targets(features, images, 6)
    assert maps.shape == (12, 6, 16, 16)
    np.testing.assert_allclose(maps.mean(dim=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(maps.std(dim=(0, 2, 3), correction=0), 1, atol=1e-4)
    network = PatchDescriptionNetwork(6, "S", 0.1, padded=True)
    distil(network, images, maps, rng, steps=150, batch_size=4, learning_rate=3e-3)
    with torch.inference_mode():
        assert F.mse_loss(network(as_numbers(images)), maps).item() < 0.3, "of a variance of 1"


@pytest.mark.parametrize("prefix", ["", "conv"])
def test_a_published_teacher_is_read_in_either_naming(tmp_path, noise, prefix):
    given = pdn(384)
    state = given.state_dict()
    if prefix:
        state = {f"conv{i // 2 + 1}.{name.split('.')[1]}": tensor for i, (name, tensor) in enumerate(state.items())}
    torch.save(state, tmp_path / "teacher.pth")
    found = read_teacher(str(tmp_path / "teacher.pth"), "S", 1.0, 384)
    assert all(np.array_equal(found[name], tensor) for name, tensor in given.state_dict().items())
    with pytest.raises(InputError, match="width_mult"):
        EfficientAD(**TINY | {"teacher": str(tmp_path / "teacher.pth")}).fit(noise)


def test_a_teacher_given_is_the_teacher_used(tmp_path, noise):
    torch.save(pdn(15, width_mult=0.04).state_dict(), tmp_path / "teacher.pth")
    network = EfficientAD(**TINY | {"teacher": str(tmp_path / "teacher.pth")}).fit(noise)
    for name, tensor in pdn(15, width_mult=0.04).state_dict().items():
        assert np.array_equal(network.teacher_[name], tensor)


def test_one_seed_one_result_and_an_image_alone(noise, tiny):
    scores, maps = tiny.locate(noise)
    assert np.array_equal(EfficientAD(**TINY).fit(noise).anomaly_score(noise), scores)
    np.testing.assert_allclose(tiny.anomaly_score(noise[[3, 0]]), scores[[3, 0]], rtol=1e-4)
    np.testing.assert_allclose(tiny.anomaly_map(noise[2:3])[0], maps[2], rtol=1e-4, atol=1e-5)
    assert EfficientAD(**TINY | {"batch_size": 3}).fit(noise).anomaly_score(noise).shape == (6,)
    assert EfficientAD(**TINY | {"size": "M"}).fit(noise[:2]).anomaly_score(noise).shape == (6,)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"size": "L"}, "size"),
        ({"width_mult": 0}, "width_mult"),
        ({"image_size": 32}, "image_size"),
        ({"teacher": 3}, "teacher"),
        ({"teacher": "no such file"}, "no such file"),
        ({"hard_quantile": 1.0}, "hard_quantile"),
        ({"low": 0.9, "high": 0.9}, "high"),
        ({"holdout": 0.0}, "holdout"),
        ({"levels": ("layer2",)}, "levels"),
        ({"penalty_images": "nowhere"}, "penalty_images"),
    ],
)
def test_bad_parameters_are_named(noise, parameters, named):
    with pytest.raises(InputError, match=named):
        EfficientAD(**TINY | parameters).fit(noise)


# -- what the parts are for ------------------------------------------------------------------------------------------


def scenes(n, rng, kind="normal"):
    """Draw scenes of 128 pixels, a red disc on the left and a blue one on the right, lightly noisy.

    ``logical``: swapped, or twice the same, and no window of 33 pixels sees both discs or tells where it lies;
    ``structural``: with a scratch.
    """
    rows, columns = np.mgrid[:128, :128]
    out = np.full((n, 128, 128, 3), 120.0)
    red, blue = (200, 60, 60), (60, 60, 200)
    for i, image in enumerate(out):
        colours = [(blue, red), (red, red), (blue, blue)][i % 3] if kind == "logical" else (red, blue)
        for column, colour in zip((36, 92), colours):
            r, c = np.add((64, column), rng.integers(-2, 3, 2))
            image[(rows - r) ** 2 + (columns - c) ** 2 < 64] = colour
        if kind == "structural":
            (r, c), along = rng.integers(36, 72, 2), np.arange(16)
            image[r + along, c + rng.integers(0, 2) * along] = 230
    return np.clip(out + rng.normal(scale=4, size=out.shape), 0, 255).astype(np.uint8)


def test_the_student_finds_scratches_the_autoencoder_swapped_discs_and_both_together_either():
    rng = np.random.default_rng(0)
    train, good, *spoilt = scenes(40, rng), *(scenes(20, rng, kind) for kind in ("normal", "logical", "structural"))
    quick = {"width_mult": 0.1, "steps": 500, "teacher_steps": 150, "n_penalty": 30, "holdout": 0.2}
    network = EfficientAD(**quick, random_state=0).fit(train)

    def aucs(bad):
        y = np.repeat([0, 1], [len(good), len(bad)])
        images = np.concatenate([good, bad])
        return [roc_auc_score(y, each) for each in (*network.branch_scores(images).T, network.anomaly_score(images))]

    student, autoencoder, _ = aucs(spoilt[0])
    assert autoencoder >= student + 0.15
    student, autoencoder, _ = aucs(spoilt[1])
    assert student >= autoencoder
    student, autoencoder, both = aucs(np.concatenate(spoilt))
    assert both >= max(student, autoencoder) - 0.05
