"""Odd one out: which member of a set does not belong to the others?

In: sets of members with d numbers each, see `assay.core.sets`: machines of a fleet, embedded images of a batch, sensors
of a plant. Out: one score a member (`anomaly_map`) and one a set; higher = more anomalous, 0 is chance.

A member is odd only beside the others, so its score must see them all, and their order must not matter: dense layers
over single members, then equivariant layers (`assay.nn.sets`), z_i one logit a member. With N members,

    softmax   one member is odd:         member score log(N p_i), p = softmax(z); loss -log p_odd
    sigmoid   none, one or several are:  member score z_i = log odds; loss the mean binary cross-entropy

and the set's score is its largest member score. The first is at most log N. It is the paper's; the default here is the
second, for it has seen sets without an odd member in training, as a detector must tell them from the others. The first
always had one to find: it grows ever more sure of some member of a normal set too, and its set scores drift with the
amount of training, so that a threshold from held-out sets does not hold for a model trained on all.

Training needs no labels: in every batch each set of normal members gets one of another set in the place of one of its
own (sigmoid: 0 to `most`, always a minority), none that it holds already, and all members are shuffled. So every set
should hold what belongs together, and different sets different things; where some sets hold the same kind of things,
a share of these insertions cannot be seen, which makes the probabilities more careful and leaves their order alone.
`OddOneOut.fit_members` learns from labelled members instead.

Defaults of the paper: equivariant widths 256, 128, 1, ELU, set-wise dropout of .5 in the first two and of .2 before,
8 sets a step, Adam. The paper's encoder, nine convolutional layers, reads images of 64 pixels; here members are
vectors, which an image embedder may make, and dense layers before the equivariant ones are an option. Γ (x - mean) and
no dense layers are ours: of two dozen settings tried on handwritten digits 0 to 6, each with some of these left out of
training, among the best for those left out. Gradients are clipped at norm 5, members at 10 standard deviations.

Not reproduced: the paper's figures on CelebA. `proofs/deep_sets.py` has a small replacement: handwritten digits, with
digits in the test that training never saw. On these the plain distance to the set's mean does better than the network;
on digits that training did see the network is far ahead of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from assay.base import Localizer, TakesSets
from assay.core.random import as_generator
from assay.core.sets import Sets, member_moments, padded_sets
from assay.core.validation import Bools, Floats, InputError, Ints, check_number, check_option
from assay.nn.sets import (
    POOLS,
    SetTagger,
    blocks,
    check_training,
    check_widths,
    descend,
    relative_log_probability,
    standardised,
    tensors,
)
from assay.nn.state import arrays_of, seeded, with_arrays

#: Fewer members do not say which of them is odd.
FEWEST = 3
#: How often a member that the set holds already is drawn anew.
DRAWS = 10

Batch = tuple[Floats, Bools, Bools]


def shuffled(table: Floats, mask: Bools, odd: Bools, rng: np.random.Generator) -> Batch:
    """Return members, mask and labels of a batch with the members of every set in an order of its own."""
    order = np.argsort(np.where(mask, rng.random(mask.shape), 2.0), axis=1)
    return np.take_along_axis(table, order[..., None], axis=1), mask, np.take_along_axis(odd, order, axis=1)


def with_odd_members(X: Sets, rows: Ints, counts: Ints, rng: np.random.Generator) -> Batch:
    """Return sets with members of other sets in the place of their own, shuffled.

    Parameters
    ----------
    X : Sets
        All sets.
    rows : array of int of shape (b,)
        Those of the batch.
    counts : array of int of shape (b,)
        How many members of each are exchanged, as far as others can be had that it does not hold already.
    rng : numpy.random.Generator
        Draws.

    Returns
    -------
    tuple
        Members (b, N, d), which of them there are (b, N), and which of these are odd (b, N).
    """
    table, mask = padded_sets(X[rows])
    odd = np.zeros(mask.shape, dtype=bool)
    places = np.argsort(np.where(mask, rng.random(mask.shape), 2.0), axis=1)
    starts, sizes, origin = X.offsets[rows], X.sizes[rows], table.copy()
    for turn in range(int(counts.max(initial=0))):
        left = np.flatnonzero((counts > turn) & (sizes < len(X.flat)))
        for _ in range(DRAWS):
            # A member of any set but this one.
            donors = rng.integers(len(X.flat) - sizes[left])
            donors += np.where(donors >= starts[left], sizes[left], 0)
            drawn = X.flat[donors][:, None]
            equal = (table[left] == drawn).all(axis=2) | (origin[left] == drawn).all(axis=2)
            known = (equal & mask[left]).any(axis=1)
            fresh, place = left[~known], places[left[~known], turn]
            table[fresh, place] = X.flat[donors[~known]]
            odd[fresh, place] = True
            left = left[known]
    return shuffled(table, mask, odd, rng)


class OddOneOut(TakesSets, Localizer):
    """Equivariant network that finds the members which do not belong.

    Parameters
    ----------
    mode : {"sigmoid", "softmax"}, default "sigmoid"
        Any number of odd members a set, or exactly one (paper).
    most : int, default 3
        Most members that are exchanged in a set in training; ``"sigmoid"`` alone (ours).
    encoder : tuple of int, default ()
        Widths of dense layers over single members (ours: none).
    context : tuple of int, default (256, 128)
        Hidden widths of the equivariant layers (paper).
    pool : {"max", "mean", "sum"}, default "mean"
        Over the members (ours).
    variant : {1, 2}, default 1
        Of the equivariant layers: Γ (x - pool) or Γ x - Λ pool (ours).
    activation : {"elu", "tanh", "relu"}, default "elu"
        Paper.
    encoder_dropout, dropout : float, default .2 and .5
        Set-wise, of the encoder and of the equivariant layers (paper).
    epochs : int, default 20
        Passes over the sets (ours); 0 leaves the network untrained.
    batch_size : int, default 8
        Sets a step (paper).
    learning_rate : float, default 1e-3
        Of Adam (ours).
    weight_decay : float, default 0
        Of Adam (ours).
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    centre_, scale_ : array of shape (d,)
        Mean and standard deviation of the training members.
    network_ : dict of arrays
        Weights.

    References
    ----------
    M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Póczos, R. Salakhutdinov, A. Smola: Deep Sets. NeurIPS 2017,
    arXiv 1703.06114.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> sets = rng.normal(size=(80, 1, 2)) * 3 + rng.normal(size=(80, 6, 2)) * 0.2
    >>> strange = sets[0].copy()
    >>> strange[4] += 2
    >>> detector = OddOneOut(encoder=(16,), context=(16,), epochs=20, dropout=0.0, random_state=0).fit(sets)
    >>> detector.anomaly_map([strange])[0].argmax()
    np.int64(4)
    """

    def __init__(
        self,
        mode: str = "sigmoid",
        most: int = 3,
        encoder: tuple[int, ...] = (),
        context: tuple[int, ...] = (256, 128),
        pool: str = "mean",
        variant: int = 1,
        activation: str = "elu",
        encoder_dropout: float = 0.2,
        dropout: float = 0.5,
        epochs: int = 20,
        batch_size: int = 8,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        random_state: Any = None,
    ) -> None:
        self.mode = mode
        self.most = most
        self.encoder = encoder
        self.context = context
        self.pool = pool
        self.variant = variant
        self.activation = activation
        self.encoder_dropout = encoder_dropout
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _check_parameters(self) -> None:
        check_option(self.mode, "mode", "sigmoid", "softmax")
        check_number(self.most, "most", low=1, integer=True)
        check_widths(self.encoder, "encoder")
        check_widths(self.context, "context")
        check_option(self.pool, "pool", *POOLS)
        check_number(self.variant, "variant", low=1, high=2, integer=True)
        for name in ("encoder_dropout", "dropout"):
            check_number(getattr(self, name), name, low=0.0, high=1.0, strict_high=True)
        check_training(self)

    def fit_members(self, X: Any, members: Any) -> OddOneOut:
        """Learn from sets whose odd members are known, instead of making some.

        Parameters
        ----------
        X : list of arrays of shape (N, d)
            Sets.
        members : list of arrays of shape (N,), or one array of shape (M,) along all members
            1 where a member is odd, else 0; ``mode="softmax"`` needs exactly one a set.

        Returns
        -------
        OddOneOut
            Itself, fitted.

        Raises
        ------
        InputError
            If a value, a label or a parameter cannot be used.
        """
        self._check_parameters()
        sets = self._check_table(X, reset=True, min_rows=1)
        odd = _member_labels(members, sets)
        per_set = np.add.reduceat(odd.astype(np.int64), sets.offsets[:-1])
        if self.mode == "softmax" and (per_set != 1).any():
            row = int(np.flatnonzero(per_set != 1)[0])
            raise InputError(f"members marks {per_set[row]} members of set {row}: mode='softmax' needs exactly one")
        if not odd.any():
            raise InputError("members marks no member at all: nothing shows what is odd; mark some, or call fit")
        self._learn(sets, as_generator(self.random_state), odd)
        return self

    def _fit(self, X: Sets, y: Ints | None, rng: np.random.Generator) -> None:
        large = X.sizes >= FEWEST
        if not large.any():
            raise InputError(f"X holds no set of {FEWEST} or more members: give larger sets, none shows what is odd")
        self._learn(X if large.all() else X[large], rng, None)

    def _learn(self, X: Sets, rng: np.random.Generator, odd: Bools | None) -> None:
        self.centre_, self.scale_ = member_moments(X)
        X = standardised(X, self.centre_, self.scale_)
        labels = None if odd is None else Sets(odd[:, None].astype(np.float64), X.offsets)
        ever_odd = False

        def loss_of(rows: Ints) -> torch.Tensor | None:
            nonlocal ever_odd
            if labels is None:
                batch = with_odd_members(X, rows, self._counts(X.sizes[rows], rng), rng)
            else:
                table, mask = padded_sets(X[rows])
                batch = shuffled(table, mask, padded_sets(labels[rows])[0][..., 0] > 0, rng)
            ever_odd |= bool(batch[2].any())
            return self._loss(network, *batch)

        with seeded(rng):
            network = self._shape()
            descend(
                network,
                len(X),
                loss_of,
                rng,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                name="OddOneOut",
            )
        if self.epochs > 0 and labels is None and not ever_odd:
            raise InputError("X: no set holds a member that another one lacks; give sets of different members")
        self.network_ = arrays_of(network)

    def _counts(self, sizes: Ints, rng: np.random.Generator) -> Ints:
        if self.mode == "softmax":
            return np.ones(len(sizes), dtype=np.int64)
        return np.minimum(rng.integers(self.most + 1, size=len(sizes)), (sizes - 1) // 2)

    def _loss(self, network: torch.nn.Module, table: Floats, mask: Bools, odd: Bools) -> torch.Tensor | None:
        if self.mode == "softmax":
            found = odd.any(axis=1)  # what could not be changed has nothing to find
            table, mask, odd = table[found], mask[found], odd[found]
            if len(table) == 0:
                return None
        marks = torch.from_numpy(mask)
        logits = network(torch.from_numpy(table.astype(np.float32)), marks)
        if self.mode == "softmax":
            return F.cross_entropy(logits, torch.from_numpy(odd.argmax(axis=1)))
        return F.binary_cross_entropy_with_logits(logits[marks], torch.from_numpy(odd)[marks].float())

    def _shape(self) -> SetTagger:
        return SetTagger(
            self.n_features_in_,
            self.encoder,
            self.context,
            self.pool,
            self.variant,
            self.activation,
            self.encoder_dropout,
            self.dropout,
        )

    def _locate(self, X: Sets) -> tuple[Floats, list[Floats]]:
        with torch.device("meta"):
            network = self._shape()
        network = with_arrays(network, self.network_)  # type: ignore[assignment]
        scaled = standardised(X, self.centre_, self.scale_)
        maps: list[Floats] = [np.empty(0)] * len(X)
        for rows in blocks(X.sizes):
            with torch.inference_mode():
                members, mask = tensors(scaled[rows])
                found = network(members, mask)
                if self.mode == "softmax":
                    found = relative_log_probability(found, mask)
            for row, line, size in zip(rows, found.double().numpy(), X.sizes[rows]):
                maps[row] = line[:size].copy()
        return np.array([one.max() for one in maps]), maps


def _member_labels(members: Any, X: Sets) -> Bools:
    """Return the labels along the members of all sets."""
    try:
        parts = list(members)
        nested = len(parts) == len(X) and all(np.ndim(part) == 1 for part in parts)
        flat = np.concatenate([np.asarray(part) for part in parts]) if nested else np.asarray(members)
    except (TypeError, ValueError) as error:
        raise InputError(f"members cannot be read as one array of 0 and 1 a set: {error}") from error
    if flat.shape != (len(X.flat),) or (nested and [len(part) for part in parts] != X.sizes.tolist()):
        raise InputError(f"members has shape {flat.shape}: give 0 or 1 for each of the {len(X.flat)} members")
    if flat.dtype.kind not in "biuf" or not np.isin(flat, (0, 1)).all():
        raise InputError("members holds something else than 0 and 1: give 1 where a member is odd, else 0")
    return flat.astype(bool)
