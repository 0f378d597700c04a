"""VAE-GAN: the published form to the last parameter, its losses by hand, who moves whom, and what it is for."""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from torch import nn

import assay
from assay.core.validation import InputError
from assay.detectors.images.mean_image import MeanImage
from assay.detectors.images.vae_gan import (
    VAEGAN,
    Decoder,
    Discriminator,
    Encoder,
    SameConv,
    Training,
    adversarial_losses,
    kl_divergence,
    moved,
    reconstruction_loss,
)

STILL = {"rotation": 0.0, "shift": 0.0, "shear": 0.0, "zoom": 0.0, "flips": False}
TINY = {"width_mult": 0.1, "image_size": 32, "latent": 5, "epochs": 3, "batch_size": 4, "random_state": 0}


@pytest.fixture(autouse=True)
def own_randomness():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (9, 40, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny(noise):
    return VAEGAN(**TINY).fit(noise)


def size_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


def networks(size=32, width_mult=0.1):
    return Encoder(size, 5, width_mult), Decoder(size, 5, width_mult), Discriminator(size, width_mult)


def filled(network, arrays):
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return network.eval()


def as_tensor(images):
    return torch.from_numpy(np.asarray(images)).permute(0, 3, 1, 2).float()


# -- architecture ----------------------------------------------------------------------------------------------------


def test_numbers_of_parameters_are_the_published_ones():
    def conv(inputs, outputs, kernel):
        return inputs * outputs * kernel**2 + outputs

    def linear(inputs, outputs):
        return inputs * outputs + outputs

    encoder = conv(3, 32, 3) + conv(32, 64, 3) + conv(64, 128, 3) + conv(128, 256, 3) + 2 * (32 + 64 + 128)
    encoder += linear(8 * 8 * 256, 160) + 2 * linear(160, 32)
    decoder = linear(32, 8 * 8 * 64) + 2 * (256 + 128 + 64)
    for inputs, outputs in ((64, 256), (256, 128), (128, 64), (64, 32)):
        decoder += conv(inputs, outputs, 2) + conv(outputs, outputs, 3)
    decoder += conv(32, 3, 3)
    discriminator = conv(3, 128, 8) + conv(128, 64, 5) + conv(64, 32, 4) + 2 * (128 + 64)
    discriminator += linear(4 * 4 * 32, 128) + linear(128, 1)
    assert (encoder, decoder, discriminator) == (3_020_768, 1_158_819, 328_545)
    with torch.device("meta"):
        assert size_of(Encoder(128, 32)) == encoder
        assert size_of(Decoder(128, 32)) == decoder
        assert size_of(Discriminator(128)) == discriminator


def shapes_of(network, x):
    """Return the shapes after its layers, without the batch, each once in a row."""
    shapes, hooks = [], []
    for module in network.modules():
        if not list(module.children()):
            hooks.append(module.register_forward_hook(lambda _, given, out: shapes.append(tuple(out.shape[1:]))))
    network.eval()(x)
    for hook in hooks:
        hook.remove()
    return [shape for number, shape in enumerate(shapes) if number == 0 or shape != shapes[number - 1]]


def test_shapes_are_the_published_ones():
    with torch.device("meta"):
        x, z = torch.empty(2, 3, 128, 128), torch.empty(2, 32)
        assert shapes_of(Encoder(128, 32), x) == [
            *((32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8)),
            *((16_384,), (160,), (32,)),
        ]
        assert shapes_of(Decoder(128, 32), z) == [
            *((4096,), (64, 8, 8)),
            *((256, 16, 16), (128, 32, 32), (64, 64, 64), (32, 128, 128), (3, 128, 128)),
        ]
        assert shapes_of(Discriminator(128), x) == [
            *((128, 64, 64), (128, 32, 32), (64, 16, 16), (64, 8, 8), (32, 4, 4)),
            *((512,), (128,), (1,)),
        ]


def test_layers_come_in_the_published_order():
    def letters(network):
        known = {SameConv: "C", nn.ConvTranspose2d: "T", nn.BatchNorm2d: "N", nn.ReLU: "r", nn.Tanh: "h"}
        known |= {nn.Linear: "L", nn.Flatten: "f", nn.Unflatten: "u", nn.MaxPool2d: "p"}
        return "".join(known[type(module)] for module in network.modules() if type(module) in known)

    E, G, D = networks()
    assert letters(E) == "CrN" * 3 + "CrfLhLL"
    assert letters(G) == "Lru" + "TrCrN" * 3 + "TrCr" + "T", "the last block is not normalised"
    assert letters(D) == "CrpN" * 2 + "CrfLrL"


@pytest.mark.parametrize("size", [32, 48, 80, 96])
def test_other_sizes_fit(size):
    x = torch.rand(2, 3, size, size)
    E, G, D = (network.eval() for network in networks(size, 0.05))
    assert G(E(x)[0]).shape == x.shape
    assert D(x).shape == (2, 1)


@pytest.mark.parametrize(("n", "kernel", "stride"), [(8, 3, 2), (8, 8, 2), (8, 5, 2), (8, 4, 2), (7, 4, 2), (9, 3, 1)])
def test_odd_padding_goes_to_the_end(n, kernel, stride):
    layer = SameConv(1, 1, kernel, stride=stride, bias=False)
    x = torch.rand(n, n)
    cells = -(-n // stride)
    before = max((cells - 1) * stride + kernel - n, 0) // 2
    expected = torch.zeros(cells, cells)
    for row in range(cells):
        for column in range(cells):
            for i in range(kernel):
                for j in range(kernel):
                    r, c = row * stride + i - before, column * stride + j - before
                    if 0 <= r < n and 0 <= c < n:
                        expected[row, column] += layer.weight[0, 0, i, j].detach() * x[r, c]
    torch.testing.assert_close(layer(x[None, None])[0, 0], expected)


def test_weights_begin_as_glorot_s():
    layer = Decoder(128, 32, 0.5)[3]
    edge = (6 / (4 * (32 + 128))) ** 0.5
    assert layer.weight.abs().max() <= edge
    assert layer.weight.std().item() == pytest.approx(edge / 3**0.5, rel=0.05)
    assert not layer.bias.any()


# -- losses ----------------------------------------------------------------------------------------------------------


def test_kl_divergence_is_that_of_two_gaussians():
    mean, log_variance = torch.randn(2, 6, 4)
    assert kl_divergence(torch.zeros(3, 4), torch.zeros(3, 4)).item() == 0
    normal = torch.distributions.Normal
    closed = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), closed.sum(dim=1).mean())
    by_hand = 0.5 * (1.5**2 + 4 - 1 - np.log(4))
    assert kl_divergence(torch.tensor([[1.5]]), torch.tensor([[np.log(4.0)]])).item() == pytest.approx(by_hand)


def test_rebuilding_sums_over_pixels_and_averages_over_channels_and_images():
    x, drawn = torch.rand(4, 3, 5, 6), torch.randn(4, 3, 5, 6)
    q = 1 / (1 + np.exp(-drawn.numpy().astype(float)))
    p = x.numpy().astype(float)
    naive = -(p * np.log(q) + (1 - p) * np.log(1 - q))
    assert reconstruction_loss(x, drawn).item() == pytest.approx(naive.sum() / (4 * 3), rel=1e-5)
    assert torch.isfinite(reconstruction_loss(torch.ones(1, 3, 2, 2), torch.full((1, 3, 2, 2), -200.0)))


def test_the_discriminator_calls_real_0_and_drawn_1():
    certain = torch.full((3, 1), 8.0)
    discerning, _ = adversarial_losses(-certain, certain)
    assert discerning.item() < 1e-3
    discerning, _ = adversarial_losses(certain, -certain)
    assert discerning.item() == pytest.approx(8.0, abs=1e-3)


def test_the_adversarial_term_is_as_written():
    real, drawn = (torch.logit(torch.tensor(p, dtype=torch.float64))[:, None] for p in ([0.2, 0.4], [0.7, 0.9]))
    of_d = -(np.log(0.8) + np.log(0.6) + np.log(0.7) + np.log(0.9)) / 4
    of_g = -(np.log(0.3) + np.log(0.1)) / 2
    discerning, adversarial = adversarial_losses(real, drawn)
    assert discerning.item() == pytest.approx(of_d)
    assert adversarial.item() == pytest.approx(of_g - of_d)
    _, deceived = adversarial_losses(drawn, real)
    assert deceived.item() == 1e-4, "D takes drawn ones for real: the difference, -1.14, is cut"


def test_the_loss_is_taken_at_a_drawn_z():
    E, G, D = (network.eval() for network in networks())
    x = torch.rand(4, 3, 32, 32)
    training = Training(E, G, D, 1e-3)
    first, second = (training.losses(x)["rebuilding"].item() for _ in range(2))
    assert first != second
    nn.init.constant_(E.log_variance.weight, 0.0)
    nn.init.constant_(E.log_variance.bias, -200.0)
    still = [training.losses(x)["rebuilding"].item() for _ in range(2)]
    assert still[0] == still[1] == pytest.approx(reconstruction_loss(x, G(E(x)[0])).item())
    nn.init.constant_(E.log_variance.bias, 2 * np.log(3.0))
    nn.init.zeros_(E.mean.weight)
    torch.manual_seed(1)
    found = training.losses(x)["rebuilding"]
    torch.manual_seed(1)
    torch.testing.assert_close(found, reconstruction_loss(x, G(3 * torch.randn(4, 5))))


# -- who moves whom --------------------------------------------------------------------------------------------------


def test_each_optimiser_holds_its_own_network():
    training = Training(*networks(), 1e-3)
    for optimiser, network in zip(training.optimisers, (training.encoder, training.decoder, training.discriminator)):
        held = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        assert [id(one) for one in held] == [id(one) for one in network.parameters()]
        assert optimiser.defaults["lr"] == 1e-3
        assert optimiser.defaults["eps"] == 1e-7
    training.step(torch.rand(4, 3, 32, 32))
    for number, optimiser in enumerate(training.optimisers):
        before = [copy.deepcopy(network.state_dict()) for network in networks_of(training)]
        optimiser.step()
        for other, (network, state) in enumerate(zip(networks_of(training), before)):
            moves = any(not torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
            assert moves == (number == other)


def networks_of(training):
    return training.encoder, training.decoder, training.discriminator


def test_the_discriminator_follows_its_own_loss_and_the_autoencoder_the_other():
    """A D that also learned to be deceived, or an E and G that helped it, would have other gradients."""
    training = Training(*networks(), 1e-3)
    nn.init.constant_(training.discriminator[-1].bias, 2.0)
    x = torch.rand(4, 3, 32, 32)
    before = [copy.deepcopy(network) for network in networks_of(training)]
    torch.manual_seed(3)
    training.step(x)
    twin = Training(*before, 1e-3)
    torch.manual_seed(3)
    for learned, network in zip(networks_of(training), before):
        assert all(not torch.equal(one, other) for one, other in zip(learned.parameters(), network.parameters()))
    losses = twin.losses(x)
    assert losses["adversarial"] > 1e-4, "not at its least value, where it has no gradient"
    autoencoder = losses["rebuilding"] + losses["kl"] + losses["adversarial"]
    for learned, network, loss in zip(networks_of(training), before, [autoencoder] * 2 + [losses["discerning"]]):
        given = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        for parameter, gradient in zip(learned.parameters(), given):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
    reaches = torch.autograd.grad(losses["adversarial"], list(before[1].parameters()), retain_graph=True)
    assert any(gradient.any() for gradient in reaches), "the adversarial term reaches the decoder"


# -- augmentation ----------------------------------------------------------------------------------------------------


def test_nothing_moves_where_nothing_may():
    x = torch.rand(5, 3, 20, 20)
    torch.testing.assert_close(moved(x, np.random.default_rng(0), **STILL), x, rtol=1e-4, atol=1e-5)


def centre_of(x):
    """Return row and column of each image's mass, from its middle, in shares of the side."""
    mass = x.mean(dim=1).double()
    places = (torch.arange(mass.shape[1], dtype=torch.float64) + 0.5) / mass.shape[1] - 0.5
    total = mass.sum(dim=(1, 2))
    return (mass.sum(dim=2) @ places / total).numpy(), (mass.sum(dim=1) @ places / total).numpy()


def dots(n, row, column, size=60):
    """Return images with a soft dot at a place given from the middle in shares of the side."""
    places = (torch.arange(size) + 0.5) / size - 0.5
    blob = torch.exp(-((places[:, None] - row) ** 2 + (places[None] - column) ** 2) / (2 * 0.04**2))
    return blob.expand(n, 3, size, size).contiguous()


def test_images_turn_about_their_middle_by_up_to_the_angle():
    rows, columns = centre_of(moved(dots(200, 0.0, 0.25), np.random.default_rng(0), **STILL | {"rotation": 40.0}))
    np.testing.assert_allclose(np.hypot(rows, columns), 0.25, atol=0.005)
    angle = np.degrees(np.arctan2(rows, columns))
    assert -40.5 < angle.min() < -36
    assert 36 < angle.max() < 40.5


def test_images_move_scale_and_lean_as_far_as_told():
    x, rng = dots(200, 0.0, 0.25), np.random.default_rng(0)
    rows, columns = centre_of(moved(x, rng, **STILL | {"shift": 0.05}))
    for away in (rows, columns - 0.25):
        assert -0.052 < away.min() < -0.045
        assert 0.045 < away.max() < 0.052
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2, "each axis has its own draw"
    rows, columns = centre_of(moved(x, rng, **STILL | {"zoom": 0.1}))
    np.testing.assert_allclose(rows, 0, atol=1e-3)
    assert 0.25 / 1.1 - 0.003 < columns.min() < 0.235
    assert 0.265 < columns.max() < 0.25 / 0.9 + 0.003
    rows, columns = centre_of(moved(dots(200, 0.25, 0.0), rng, **STILL | {"shear": 20.0}))
    assert 0.07 < np.abs(columns).max() < 0.25 * np.tan(np.radians(21))


def test_axes_are_mirrored_half_of_the_time_each():
    rows, columns = centre_of(moved(dots(400, 0.1, 0.25), np.random.default_rng(0), **STILL | {"flips": True}))
    np.testing.assert_allclose(np.abs(rows), 0.1, atol=1e-3)
    for axis in (rows, columns):
        assert 160 < (axis > 0).sum() < 240
    assert 60 < ((rows > 0) & (columns > 0)).sum() < 140


def test_what_comes_in_is_the_nearest_pixel():
    flat = torch.full((20, 3, 16, 16), 0.7)
    wild = {"rotation": 90.0, "shift": 0.5, "shear": 20.0, "zoom": 0.5, "flips": True}
    torch.testing.assert_close(moved(flat, np.random.default_rng(0), **wild), flat)


def test_brightness_changes_by_up_to_its_share_and_stays_in_range():
    net = VAEGAN(**STILL, brightness=0.2)
    light = net._varied(torch.full((300, 3, 4, 4), 0.5), np.random.default_rng(0))[:, 0, 0, 0]
    assert 0.4 <= light.min() < 0.405
    assert 0.595 < light.max() <= 0.6
    assert net._varied(torch.ones(50, 3, 4, 4), np.random.default_rng(0)).max() == 1


# -- scores ----------------------------------------------------------------------------------------------------------


def test_reconstruction_is_that_of_the_mean(noise, tiny):
    from assay.core.images import as_images

    E, G = filled(Encoder(32, 5, 0.1), tiny.encoder_), filled(Decoder(32, 5, 0.1), tiny.decoder_)
    x = as_tensor(next(as_images(noise).batches((32, 32)))) / 255
    with torch.inference_mode():
        expected = torch.sigmoid(G(E(x)[0])).permute(0, 2, 3, 1).numpy()
    found = tiny.reconstruct(noise)
    assert found.dtype == np.float32
    assert found.shape == (9, 32, 32, 3)
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.array_equal(tiny.reconstruct(noise), found), "nothing is drawn"


@pytest.mark.parametrize("reduction", ["max", "norm"])
def test_map_and_score_are_the_differences_to_the_reconstruction(noise, reduction):
    net = VAEGAN(**TINY, reduction=reduction).fit(noise[:, :32])
    away = np.abs(noise[:, :32] / 255 - net.reconstruct(noise[:, :32]))
    expected = away.max(axis=3) if reduction == "max" else np.sqrt((away**2).sum(axis=3))
    scores, maps = net.locate(noise[:, :32])
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), atol=1e-5)
    np.testing.assert_allclose(net.anomaly_score(noise[:, :32]), scores)
    if reduction == "max":
        assert (scores <= 1).all()


def test_pixels_are_reconstructed_as_images_are(noise, tiny):
    images = noise[:, :32]
    pixels = (images / 255).astype(np.float32)
    pixels.setflags(write=False)
    found = tiny.reconstruct_pixels(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, tiny.reconstruct(images), atol=1e-5)
    many = tiny.reconstruct_pixels(np.tile(pixels, (5, 1, 1, 1)))
    np.testing.assert_allclose(many, np.tile(found, (5, 1, 1, 1)), atol=1e-5)
    assert tiny.reconstruct_pixels(pixels[:0]).shape == (0, 32, 32, 3)
    changed = pixels + np.float32(0.3 / 255)
    assert np.abs(tiny.reconstruct_pixels(changed.clip(0, 1)) - found).max() > 0, "nothing is rounded to 8 bits"


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((2, 16, 16, 3), dtype=np.float32),
        np.zeros((32, 32, 3), dtype=np.float32),
        np.zeros((2, 32, 32, 3), dtype=np.uint8),
        np.full((1, 32, 32, 3), 1.5, dtype=np.float32),
        np.full((1, 32, 32, 3), np.nan, dtype=np.float32),
    ],
)
def test_other_pixels_are_refused(tiny, batch):
    with pytest.raises(InputError, match="batch"):
        tiny.reconstruct_pixels(batch)


def test_an_image_is_reconstructed_alone_and_not_by_the_statistics_of_its_batch(noise, tiny):
    images = noise[:, :32].copy()
    images[1:] = 255 * (np.arange(1, 9) % 2)[:, None, None, None]
    alone, together = tiny.reconstruct(images[:1])[0], tiny.reconstruct(images)[0]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(tiny.anomaly_score(images[:1])[0], tiny.anomaly_score(images)[0], rtol=1e-4)
    E, G = filled(Encoder(32, 5, 0.1), tiny.encoder_).train(), filled(Decoder(32, 5, 0.1), tiny.decoder_).train()
    x = as_tensor(images) / 255
    with torch.inference_mode():
        by_batch = torch.sigmoid(G(E(x)[0]))[0].permute(1, 2, 0).numpy()
    assert np.abs(by_batch - together).max() > 1e-2, "which would be another"


def test_running_statistics_are_learned(tiny):
    means = [array for name, array in tiny.encoder_.items() if name.endswith("running_mean")]
    assert len(means) == 3
    assert all(mean.any() for mean in means)


def test_fitting_moves_both_networks_and_is_repeatable(noise, tiny):
    still = VAEGAN(**TINY | {"epochs": 0}).fit(noise)
    for part in ("encoder_", "decoder_"):
        for name, array in getattr(tiny, part).items():
            assert not np.array_equal(array, getattr(still, part)[name]), name
    scores = tiny.anomaly_score(noise)
    again = VAEGAN(**TINY).fit(noise)
    assert np.array_equal(again.anomaly_score(noise), scores)
    assert np.array_equal(again.fit(noise[:3]).fit(noise).anomaly_score(noise), scores)
    assert not np.array_equal(VAEGAN(**TINY | {"random_state": 1}).fit(noise).anomaly_score(noise), scores)


@pytest.mark.parametrize(
    "change",
    [{"rotation": 1.0}, {"shift": 0.2}, {"shear": 9.0}, {"zoom": 0.5}, {"brightness": 0.7}, {"flips": True}],
)
def test_what_is_learned_from_is_varied(noise, change):
    usual, other = (VAEGAN(**TINY | {"epochs": 1} | options).fit(noise) for options in ({}, change))
    assert not np.array_equal(usual.encoder_["layers.0.weight"], other.encoder_["layers.0.weight"])


def test_saved_and_loaded_it_draws_the_same(noise, tiny, tmp_path):
    tiny.reconstruct_pixels(np.zeros((1, 32, 32, 3), dtype=np.float32))
    assert not any(isinstance(value, (nn.Module, torch.Tensor)) for value in vars(tiny).values())
    assay.save(tiny, tmp_path / "net")
    again = assay.load(tmp_path / "net")
    assert np.array_equal(again.anomaly_score(noise), tiny.anomaly_score(noise))
    assert np.array_equal(again.reconstruct(noise), tiny.reconstruct(noise))


def test_few_and_odd_images(noise):
    assert VAEGAN(**TINY | {"batch_size": 100}).fit(noise).anomaly_score(noise).shape == (9,)
    assert np.isfinite(VAEGAN(**TINY).fit(noise[:5]).anomaly_score(noise)).all(), "a last batch of one"
    black = np.zeros((4, 32, 32, 3), dtype=np.uint8)
    assert np.isfinite(VAEGAN(**TINY).fit(black).anomaly_score(noise)).all()


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"image_size": 40}, "image_size"),
        ({"image_size": 16}, "image_size"),
        ({"width_mult": 0}, "width_mult"),
        ({"latent": 0}, "latent"),
        ({"epochs": -1}, "epochs"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"rotation": 200}, "rotation"),
        ({"shift": -0.1}, "shift"),
        ({"shear": 90}, "shear"),
        ({"zoom": 1.0}, "zoom"),
        ({"brightness": 2}, "brightness"),
        ({"reduction": "sum"}, "reduction"),
        ({"smoothing": -1}, "smoothing"),
        ({"image_score": "sum"}, "image_score"),
    ],
)
def test_bad_parameters_are_named(noise, parameters, named):
    with pytest.raises(InputError, match=named):
        VAEGAN(**TINY | parameters).fit(noise)


def test_not_fitted(noise):
    for ask in (VAEGAN().reconstruct, VAEGAN().anomaly_map):
        with pytest.raises(NotFittedError):
            ask(noise)
    with pytest.raises(NotFittedError):
        VAEGAN().reconstruct_pixels(np.zeros((1, 128, 128, 3), dtype=np.float32))


# -- what it is for --------------------------------------------------------------------------------------------------


def waves(n, rng, size=32):
    """Draw waves of a random phase and tone, lightly noisy: no pixel is alike, but few numbers tell the whole image."""
    phase, tone = rng.uniform(0, 2 * np.pi, (n, 1, 1)), rng.uniform(0.8, 1.1, (n, 1, 1))
    wave = (128 + 70 * np.sin(np.arange(size) / 3 + phase)) * tone * np.ones((1, size, 1))
    grey = np.clip(wave + rng.normal(scale=4, size=(n, size, size)), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=3)


def scratched(images, rng):
    """Return the images with a scratch, dark where the wave is bright and bright where it is dark, and the masks."""
    images, masks, along = images.copy(), np.zeros(images.shape[:3], dtype=bool), np.arange(10)
    for image, mask in zip(images, masks):
        row, column = rng.integers(3, 18, 2)
        mask[row + along, column + along * rng.integers(0, 2)] = True
        image[mask] = np.where(image[mask] > 128, image[mask] - 90, image[mask] + 90)
    return images, masks


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_scratches_on_waves_where_the_mean_image_and_the_untrained_network_do_not(seed):
    rng = np.random.default_rng(seed)
    train, good, (bad, masks) = waves(120, rng), waves(40, rng), scratched(waves(40, rng), rng)
    images, y = np.concatenate([good, bad]), np.repeat([0, 1], 40)

    def aucs(detector):
        scores, maps = detector.locate(images)
        return roc_auc_score(y, scores), roc_auc_score(masks.ravel(), maps[40:].ravel())

    options = {"image_size": 32, "latent": 8, "rotation": 0, "shift": 0, "zoom": 0, "brightness": 0}
    trained, untrained = (VAEGAN(**options, epochs=n, random_state=seed).fit(train) for n in (15, 0))
    (image, pixel), *others = (aucs(one) for one in (trained, untrained, MeanImage(32, smoothing=0).fit(train)))
    assert image >= 0.95
    assert pixel >= 0.95
    for other_image, other_pixel in others:
        assert image >= other_image + 0.2
        assert pixel >= other_pixel + 0.3
    rebuilt = 255 * trained.reconstruct(bad)
    away = np.abs(rebuilt - bad).mean(axis=3)
    assert away[masks].mean() > 3 * away[~masks].mean(), "the reconstruction leaves the scratch out"
