"""PNI: is this patch normal *here*, and *beside these neighbours*?

In: normal images, aligned ones best (or grids of features of your own, (n, h, w, E): `PNI.fit_grids`). Out: a
score an image and a map (H, W), in the unit of the features' distance; a normal patch scores about -ln λ =
.01. Wrong order, wrong place and missing parts are found although each patch alone is normal.

φ is the feature of a cell, C a bank of n cells chosen by greedy k-centre, C_m its first m elements, the
*classes*. Two gates say which elements of C may be near a cell:

    position        A_pos = {c : H[cell, c] > τ / n},   H[cell, ·] how often each element was the nearest one within
                    radius P of the cell in training, clipped at the border, normalised;
    neighbourhood   A_nb  = {c : softmax(f(N) / T)[κ(c)] > τ / n},   f a network that guesses a cell's class from N, the
                    (2P + 1)² - 1 features around it (zero beyond the border); κ(c) the class nearest to c.

    score of a gate   s = -ln max over c in A of λ exp(-λ |φ - c|) = λ |φ - nearest allowed c| - ln λ,

by the closed form on the right, for the left underflows. Where nothing is allowed the farthest element is.
The map is the mean over the gates, the image's score its largest cell. The aggregation of `patch` x `patch`
cells puts zeros into R = (patch - 1) / 2 cells at the border, which look like nothing else: they are no part
of the bank, no target, no score; the map is cropped there and filled by its own edge. With the position gate
alone, which knows the place, the bank holds these cells too and nothing is cropped.

Then, if wanted, the map is refined (`assay.nn.map_refiner`): brought to the unit of normal images by the
range of maps of held-out normals, refined to Ã by a network that saw synthetic anomalies, and blended, (1 -
b) A + b Ã.

Defaults: bank of 1 %, m = 2048, T = 2, τ = .5, λ = .99, Adam 1e-3 (a tenth after each third), dropout .5, a
tenth of the cells as validation, blend .1 (the paper's code). For a processor with few cores, with the
published value in brackets: EfficientNet-Lite0 stage3 + stage5 at 224 px (WideResNet101-2 layer2 + layer3 at
480 px, E = 1024; give ``backbone="wide_resnet101_2"`` and a file of weights), P = 2 (4), a network of 3
layers of 256 (10 of 2048) that sees each neighbour in 64 dimensions by a random projection (1024: 168 M
weights in its first layer), 3000 batches of 128 (15 epochs of batches of 2048), blur 4 (8). The number of
batches matters: a network that has learned too little lets everything through. So does one with nothing to
learn: where neighbours tell little (textures, few images) its probabilities stay flat, above τ / n at T = 2,
and the gate costs its training and changes nothing.

Departures: the released code takes cell ((2P + 1)² + 1) / 2 out of the window instead of the one in the
middle, so its network sees the very feature it is asked to guess: here it does not. m is at most n, so that τ
/ n never asks for more than a network without a clue gives. τ = 0 allows everything. Ranges come from
held-out normals, never from the test set. Images are resized without a crop, the map is not cropped by 11 px
before its refinement, and the ensemble of three backbones is left to the caller.

Time O(cells · n · E) to fit and to score; memory the training features, n·h·w·E·4 bytes, beside blocks of
fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from assay.core.clone import seeded_clone
from assay.core.images import Images, Maps, resized_mask
from assay.core.progress import progress
from assay.core.random import as_generator
from assay.core.validation import Floats, InputError, check_methods, check_number, check_option, told
from assay.detectors.images.common import PatchDetector, in_batches
from assay.nn.memory_bank import choose_bank, nearest_in_bank
from assay.nn.patch_features import PatchFeatures
from assay.nn.state import Arrays, arrays_of, seeded, with_arrays

#: λ: rate of the exponential.
RATE = 0.99
#: Share of the training cells that choose the network's moment, and how many moments there are to choose
#: from.
VALIDATION, LOOKS = 0.1, 15
#: Training cells a batch (published: 2048) and step size of the neighbourhood's network.
BATCH, LEARNING_RATE = 128, 1e-3
#: Numbers in a block of distances.
BLOCK = 2**22
GATES = ("position", "neighbourhood")


# -- the bank
# --------------------------------------------------------------------------------------------------------


def squared_distances(cells: torch.Tensor, bank: torch.Tensor) -> torch.Tensor:
    """Return |x - c|² - |x|² of cells (l, E) and bank (n, E), shape (l, n): what ranks the elements for each cell."""
    return torch.addmm(bank.square().sum(dim=1), cells, bank.T, alpha=-2.0)


def nearest_allowed(d2: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """Return each row's nearest element by distance (l, n) that `allowed` (l, n) lets through, or the farthest."""
    nearest = d2.masked_fill(~allowed, torch.inf).argmin(dim=1)
    return torch.where(allowed.any(dim=1), nearest, d2.argmax(dim=1))


def inner(grids: torch.Tensor, border: int) -> torch.Tensor:
    """Return grids (n, h, w, ...) without `border` cells on each side."""
    return grids[:, border : grids.shape[1] - border, border : grids.shape[2] - border]


# -- the gates
# -------------------------------------------------------------------------------------------------------


class PositionModel:
    """Which elements of a bank belong to a place.

    Parameters
    ----------
    histogram : tensor of shape (h, w, n)
        How often each element was the nearest one around each place; sums to 1 over the elements.
    """

    def __init__(self, histogram: torch.Tensor) -> None:
        self.histogram = histogram

    @classmethod
    def fit(cls, nearest: torch.Tensor, n_elements: int, radius: int) -> PositionModel:
        """Learn from the numbers (images, h, w) of the nearest elements, of `n_elements`, in windows of `radius`."""
        counts = window_counts(nearest, n_elements, radius).float()
        return cls(counts / counts.sum(dim=2, keepdim=True))

    def allowed(self, level: float) -> torch.Tensor:
        """Return (h · w, n): which elements are more frequent than `level`; all of them at level 0."""
        return ((self.histogram > level) | (level <= 0)).flatten(0, 1)


def window_counts(nearest: torch.Tensor, n_elements: int, radius: int) -> torch.Tensor:
    """Return (h, w, n_elements): how often each number occurs in `nearest` (n, h, w) within `radius` of a place."""
    h, w = nearest.shape[1:]
    places = torch.arange(h * w).reshape(h, w)
    counts = torch.bincount((places * n_elements + nearest).flatten(), minlength=h * w * n_elements)
    counts = counts.reshape(h, w, n_elements)
    for axis, size in enumerate((h, w)):
        total = torch.cat([torch.zeros_like(counts.narrow(axis, 0, 1)), counts.cumsum(dim=axis)], dim=axis)
        place = torch.arange(size)
        first, last = (place - radius).clamp(min=0), (place + radius + 1).clamp(max=size)
        counts = total.index_select(axis, last) - total.index_select(axis, first)
    return counts


class Neighbours:
    """The features around each cell, gathered when they are asked for: one copy of the grids, not (2P + 1)² of them.

    Parameters
    ----------
    grids : tensor of shape (n, h, w, e)
        Features.
    radius : int
        P: the window is (2P + 1) x (2P + 1), zero beyond the grid, its middle left out.
    border : int
        Cells on each side that are neighbours only.
    """

    def __init__(self, grids: torch.Tensor, radius: int, border: int = 0) -> None:
        padded = F.pad(grids, (0, 0, radius, radius, radius, radius))
        n, rows, columns, e = padded.shape
        self.cells = inner(torch.arange(n * rows * columns).reshape(n, rows, columns), radius + border).flatten()
        self.features = padded.reshape(-1, e)
        step = torch.arange(-radius, radius + 1)
        offsets = (step[:, None] * columns + step).flatten()
        self.offsets = offsets[offsets != 0]

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, which: Any) -> torch.Tensor:
        """Return ((2P + 1)² - 1) · e numbers for each of the chosen cells, counted row by row, image by image."""
        return self.features[self.cells[which, None] + self.offsets].flatten(1)


class NeighbourhoodModel:
    """Guesses the class of a cell from the features around it.

    Parameters
    ----------
    network : dict of arrays
        Weights of the network.
    temperature : float
        T: what logits are divided by.
    """

    def __init__(self, network: Arrays, temperature: float = 2.0) -> None:
        widths = [array.shape for array in network.values() if array.ndim == 2]
        self.network = with_arrays(perceptron([widths[0][1], *(shape[0] for shape in widths)]), network)
        self.temperature = temperature

    @torch.inference_mode()
    def probabilities(self, windows: torch.Tensor) -> torch.Tensor:
        """Return (l, m) from the features around l cells."""
        return torch.softmax(self.network(windows) / self.temperature, dim=1)

    def allowed(self, windows: torch.Tensor, class_of: torch.Tensor, level: float) -> torch.Tensor:
        """Return (l, n): which elements' classes, `class_of` (n,), are likelier than `level`; all at level 0."""
        return ((self.probabilities(windows) > level) | (level <= 0))[:, class_of]

    @staticmethod
    def fit(
        windows: Neighbours,
        classes: torch.Tensor,
        n_classes: int,
        rng: np.random.Generator,
        *,
        hidden: int = 256,
        layers: int = 3,
        dropout: float = 0.5,
        steps: int = 3000,
    ) -> Arrays:
        """Return the weights of a network trained to guess `classes` (l,) from the `windows` of l cells.

        Of `LOOKS` moments the one with the lowest loss on a tenth of the cells is kept.
        """
        order = torch.from_numpy(rng.permutation(len(windows)))
        held, seen = order.tensor_split([max(1, round(VALIDATION * len(order)))])
        if len(seen) < 2:
            raise InputError(f"{len(order)} cells are too few to learn neighbourhoods from: give more normal images")
        with seeded(rng):
            width = len(windows.offsets) * windows.features.shape[1]
            network = perceptron([width, *[hidden] * (layers - 1), n_classes], dropout)
            adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
            schedule = torch.optim.lr_scheduler.StepLR(adam, step_size=-(-steps // 3), gamma=0.1)
            best, lowest, looks = {}, math.inf, {(look + 1) * steps // LOOKS for look in range(LOOKS)}
            for step in progress(range(1, steps + 1), "learning neighbourhoods", total=steps):
                batch = seen[torch.randint(len(seen), (BATCH,))]
                loss = F.cross_entropy(network(windows[batch]), classes[batch])
                adam.zero_grad()
                loss.backward()
                adam.step()
                schedule.step()
                if step in looks:
                    found = _validation_loss(network.eval(), windows, classes, held)
                    network.train()
                    if found < lowest:
                        best, lowest = arrays_of(network), found
        return best


@torch.inference_mode()
def _validation_loss(network: nn.Module, windows: Neighbours, classes: torch.Tensor, held: torch.Tensor) -> float:
    losses = [F.cross_entropy(network(windows[part]), classes[part], reduction="sum") for part in held.split(1024)]
    return float(torch.stack(losses).sum())


def perceptron(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Return linear layers between these widths, each but the last one normalised, rectified and thinned."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


# -- the detector
# ----------------------------------------------------------------------------------------------------


class PNI(PatchDetector):
    """Distance to the nearest normal patch that fits the position and the neighbours.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite0"
        Network of the features (published: "wide_resnet101_2").
    weights : str or None, default "imagenet"
        Its weights: "imagenet", the path of a state dict, or None for random ones.
    levels : tuple of str, default ("stage3", "stage5")
        Levels of the features, shallow first (published: ("layer2", "layer3")).
    patch : odd int, default 3
        Cells that are aggregated, on a side (published: 5, of 60); 1 leaves no border.
    aggregate : {"concat", "adaptive"}, default "concat"
        How; see `assay.nn.patch_features` (published: "adaptive").
    width : int, default 1024
        Length of an adaptive feature.
    image_size : int, default 224
        Side to which images are resized (published: 480).
    gates : tuple, default ("position", "neighbourhood")
        Which gates are asked; their scores are averaged. () asks none: a plain nearest-neighbour bank.
    coreset : float, default .01
        Share of the training cells that make the bank (published).
    n_classes : int, default 2048
        Classes m that the network tells apart (published); at most as many as the bank has elements.
    radius : int, default 2
        P: reach of a window (published: 4).
    projection : int, default 64
        Dimensions of a neighbour, as the network sees it; features no longer than this are taken as they are
        (published: all).
    hidden, layers : int, default 256 and 3
        Width and number of linear layers of the network (published: 2048 and 10).
    dropout : float, default .5
        Share of the hidden units left out in training (published).
    steps : int, default 3000
        Batches of its training (published: 15 epochs, some 6900 batches for 300 images).
    temperature : float, default 2.0
        T (published).
    tau_position, tau_neighbourhood : float, default .5
        τ of each gate (published); 0 lets everything through.
    denominator : {"bank", "classes"}, default "bank"
        What the neighbourhood's τ is divided by: n as in the published code, or the m of its softmax.
    smoothing : float, default 4.0
        Standard deviation of the map's Gaussian blur in pixels (published: 8 at 480 px).
    image_score : {"max_grid", "max_map", "topk_mean"}, default "max_grid"
        The largest cell (published), the largest pixel of the finished map, or the mean of the top 1 % of the
        cells.
    refine : MapRefiner, optional
        Refines the maps: unfitted, to be trained on anomalies of `generator`, or fitted, on pairs of your own
        and with weights of your own. Scores other than "max_map" are taken before it.
    generator : Generator, optional
        Makes the refiner's training images from held-out normals.
    n_pairs : int, default 200
        How many.
    blend : float, default .1
        b: share of the refined map in the finished one (published).
    held_out : float, default .2
        Share of the normals that is kept from the bank where maps are refined: range and pairs come from it.
    random_state : None, int or numpy.random.Generator
        Seed of bank, projection, network and refiner.

    Attributes
    ----------
    backbone_ : dict of arrays
        Weights of the backbone.
    bank_ : array of shape (n, E)
        The bank C in the order of the greedy choice: its first m elements are the classes.
    class_of_ : array of shape (n,)
        κ: the class nearest to each element.
    histogram_ : array of shape (h, w, n) or None
        H, without the border; None without the position gate.
    projection_ : array of shape (E, e) or None
        What features are multiplied by before the network sees them.
    network_ : dict of arrays or None
        Weights of the neighbourhood's network; None without this gate.
    border_ : int
        R: cells cropped on each side.
    range_ : tuple of two floats or None
        Smallest and largest value of held-out normals' maps.
    refiner_ : MapRefiner or None
        The fitted refiner.

    References
    ----------
    Bae, Lee and Kim: PNI: Industrial Anomaly Detection using Position and Neighborhood Information. ICCV
    2023, arXiv 2211.12634.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.detectors.images.pni import PNI
    >>> X = np.random.default_rng(0).integers(0, 256, size=(4, 64, 64, 3), dtype=np.uint8)
    >>> pni = PNI(weights=None, image_size=64, patch=3, coreset=0.2, steps=3, random_state=0).fit(X)
    >>> scores, maps = pni.locate(X)
    >>> scores.shape, maps.shape
    ((4,), (4, 64, 64))
    """

    def __init__(
        self,
        backbone="efficientnet_lite0",
        weights="imagenet",
        levels=("stage3", "stage5"),
        patch=3,
        aggregate="concat",
        width=1024,
        image_size=224,
        gates=GATES,
        coreset=0.01,
        n_classes=2048,
        radius=2,
        projection=64,
        hidden=256,
        layers=3,
        dropout=0.5,
        steps=3000,
        temperature=2.0,
        tau_position=0.5,
        tau_neighbourhood=0.5,
        denominator="bank",
        smoothing=4.0,
        image_score="max_grid",
        refine=None,
        generator=None,
        n_pairs=200,
        blend=0.1,
        held_out=0.2,
        random_state=None,
    ):
        self.backbone = backbone
        self.weights = weights
        self.levels = levels
        self.patch = patch
        self.aggregate = aggregate
        self.width = width
        self.image_size = image_size
        self.gates = gates
        self.coreset = coreset
        self.n_classes = n_classes
        self.radius = radius
        self.projection = projection
        self.hidden = hidden
        self.layers = layers
        self.dropout = dropout
        self.steps = steps
        self.temperature = temperature
        self.tau_position = tau_position
        self.tau_neighbourhood = tau_neighbourhood
        self.denominator = denominator
        self.smoothing = smoothing
        self.image_score = image_score
        self.refine = refine
        self.generator = generator
        self.n_pairs = n_pairs
        self.blend = blend
        self.held_out = held_out
        self.random_state = random_state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.patch % 2 == 0:
            raise InputError(f"patch={self.patch}: give an odd number of cells, so that a patch has a middle")
        if not isinstance(self.gates, (list, tuple)) or not set(self.gates) <= set(GATES):
            raise InputError(f"gates={told(self.gates)}: give a tuple of some of {GATES}, or ()")
        for name in ("n_classes", "radius", "projection", "hidden", "steps", "n_pairs"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.layers, "layers", low=2, integer=True)
        check_number(self.coreset, "coreset", low=0.0, high=1.0, strict_low=True)
        check_number(self.dropout, "dropout", low=0.0, high=1.0, strict_high=True)
        check_number(self.temperature, "temperature", low=0.0, strict_low=True)
        check_number(self.tau_position, "tau_position", low=0.0)
        check_number(self.tau_neighbourhood, "tau_neighbourhood", low=0.0)
        check_option(self.denominator, "denominator", "bank", "classes")
        check_number(self.blend, "blend", low=0.0, high=1.0)
        check_number(self.held_out, "held_out", low=0.0, high=1.0, strict_low=True, strict_high=True)
        if self.generator is not None:
            check_methods(self.generator, "generator", "fit", "sample")
        if self.refine is not None:
            check_methods(self.refine, "refine", "fit", "refine")
            if self.generator is None and not hasattr(self.refine, "network_"):
                raise InputError("refine is not fitted: give a generator that makes its training images, or fit it")

    # -- features
    # ----------------------------------------------------------------------------------------------------

    def fit_grids(self, grids: Any) -> PNI:
        """Learn from normal grids of features (n, h, w, E) of your own; `score_grids` scores others."""
        self._check_parameters()
        vars(self).pop("backbone_", None)
        self._learn_grids(_as_grids(grids), as_generator(self.random_state))
        return self

    def score_grids(self, grids: Any) -> Floats:
        """Return one score a cell, (n, h, w), of grids of features (n, h, w, E)."""
        check_is_fitted(self, "bank_")
        with torch.inference_mode():
            return self._cells()(_as_grids(grids)).double().numpy()

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether images can be scored."""
        return hasattr(self, "backbone_")

    def _learn_grids(self, grids: torch.Tensor, rng: np.random.Generator) -> None:
        self.border_ = 0 if tuple(self.gates) == ("position",) else self.patch // 2
        kept = inner(grids, self.border_)
        if kept.numel() == 0:
            raise InputError(f"patch={self.patch} leaves nothing of {grids.shape[1]} x {grids.shape[2]} cells")
        cells = kept.flatten(0, 2).numpy()
        bank = cells[choose_bank(cells, self.coreset, rng)[0]]
        m = min(self.n_classes, len(bank))
        self.bank_, self.class_of_ = bank, nearest_in_bank(bank, bank[:m])[1][:, 0]
        self.histogram_ = self.projection_ = self.network_ = None
        if "position" in self.gates:
            nearest = nearest_in_bank(cells, bank)[1].reshape(kept.shape[:3])
            self.histogram_ = PositionModel.fit(torch.from_numpy(nearest), len(bank), self.radius).histogram.numpy()
        if "neighbourhood" in self.gates:
            if grids.shape[3] > self.projection:
                shape = grids.shape[3], self.projection
                self.projection_ = (rng.standard_normal(shape) / math.sqrt(self.projection)).astype(np.float32)
            self.network_ = NeighbourhoodModel.fit(
                self._neighbours(grids),
                torch.from_numpy(nearest_in_bank(cells, bank[:m])[1][:, 0]),
                m,
                rng,
                hidden=self.hidden,
                layers=self.layers,
                dropout=self.dropout,
                steps=self.steps,
            )

    def _neighbours(self, grids: torch.Tensor) -> Neighbours:
        shown = grids if self.projection_ is None else grids @ torch.from_numpy(self.projection_)
        return Neighbours(shown, self.radius, self.border_)

    def _cells(self) -> Any:
        bank, class_of = torch.from_numpy(self.bank_), torch.from_numpy(self.class_of_)
        n = len(bank)
        likely = self.tau_neighbourhood / (n if self.denominator == "bank" else int(class_of.max()) + 1)
        if self.histogram_ is not None:
            here = PositionModel(torch.from_numpy(self.histogram_)).allowed(self.tau_position / n)
        if self.network_ is not None:
            neighbourhood = NeighbourhoodModel(self.network_, self.temperature)

        def score(grids: torch.Tensor) -> torch.Tensor:
            kept = inner(grids, self.border_)
            if self.histogram_ is not None and kept.shape[1:3] != self.histogram_.shape[:2]:
                fitted = tuple(side + 2 * self.border_ for side in self.histogram_.shape[:2])
                raise InputError(f"grids of {tuple(grids.shape[1:3])} cells, fitted on {fitted}: positions must agree")
            cells = kept.flatten(0, 2)
            windows = None if self.network_ is None else self._neighbours(grids)
            scores = torch.empty(len(cells))
            for rows in torch.arange(len(cells)).split(max(1, BLOCK // n)):
                block = cells[rows]
                d2, chosen = squared_distances(block, bank), []
                if self.histogram_ is not None:
                    chosen.append(nearest_allowed(d2, here[rows % len(here)]))
                if windows is not None:
                    chosen.append(nearest_allowed(d2, neighbourhood.allowed(windows[rows], class_of, likely)))
                # The chosen one's distance anew, by subtraction: the expanded square loses digits near zero.
                far = [torch.linalg.vector_norm(block - bank[c], dim=1) for c in chosen or [d2.argmin(dim=1)]]
                scores[rows] = RATE * torch.stack(far).mean(dim=0) - math.log(RATE)
            return F.pad(scores.reshape(kept.shape[:3]), [self.border_] * 4, mode="replicate")

        return score

    # -- images
    # ------------------------------------------------------------------------------------------------------

    def _learn(self, X: Images, features: PatchFeatures, rng: np.random.Generator) -> None:
        self.range_ = self.refiner_ = None
        if self.refine is None:
            self._learn_grids(self._extract(X, features), rng)
            return
        held = max(1, round(self.held_out * len(X)))
        if held >= len(X):
            raise InputError(f"held_out={self.held_out} leaves none of {len(X)} normal images to learn from")
        order = rng.permutation(len(X))
        self._learn_grids(self._extract(X[np.sort(order[held:])], features), rng)
        normals = X[np.sort(order[:held])]
        maps = super()._locate(normals)[1]
        self.range_ = float(maps.min()), float(maps.max())
        self.refiner_ = self.refine if self.generator is None else self._trained_refiner(normals, rng)

    def _trained_refiner(self, normals: Images, rng: np.random.Generator) -> Any:
        seed, own = (int(drawn) for drawn in rng.integers(2**31 - 1, size=2))
        made = seeded_clone(self.generator, seed).fit(normals).sample(self.n_pairs)
        size = self.image_size, self.image_size
        images = np.concatenate(list(in_batches(Images(made.X), self.image_size, "making pairs")))
        masks = np.stack([resized_mask(mask, size) for mask in made.mask])
        return seeded_clone(self.refine, own).fit(images, self._coarse(Images(made.X))[1], masks)

    def _coarse(self, X: Images) -> tuple[Floats, Maps]:
        """Return scores and maps, the maps in the unit of held-out normals: 0 their smallest value, 1 their largest."""
        scores, maps = super()._locate(X)
        low, high = self.range_
        return scores, (maps - low) / max(high - low, 1e-12)

    def _locate(self, X: Images) -> tuple[Floats, Maps]:
        if self.refiner_ is None:
            return super()._locate(X)
        scores, maps = self._coarse(X)
        done = 0
        for batch in in_batches(X, self.image_size, "refining"):
            rows = slice(done, done + len(batch))
            maps[rows] += np.float32(self.blend) * (self.refiner_.refine(batch, maps[rows]) - maps[rows])
            done = rows.stop
        if self.image_score == "max_map":
            scores = maps.reshape(len(maps), -1).max(axis=1).astype(np.float64)
        return scores, maps


def _as_grids(grids: Any) -> torch.Tensor:
    array = np.array(np.asarray(grids), dtype=np.float32)
    if array.ndim != 4 or array.size == 0 or not np.isfinite(array).all():
        raise InputError(f"grids has shape {array.shape}: give finite features of shape (n, h, w, E)")
    return torch.from_numpy(array)
