"""Audit of an autoencoder's topology: where it must fail on normal rows, and what it cannot see.

In: a detector with `encode`, `decode` and `anomaly_score` (or the last alone, or plain functions), fitted or not, and
normal rows. Out: a `TopologyAudit`: normal points where reconstruction fails, with proofs; the share of false alarms
there; whether alarms flip with the seed; regions whose absence from training the score does not notice; advice.

An autoencoder is a composition of continuous maps M -> R^k -> R^N. It is perfect on the data's surface M only if M
embeds in R^k, and the dimension of M says little about that: a sphere of n dimensions needs n + 1 numbers. Training
puts the unavoidable tear somewhere by chance and sharpens it; the mean error hides it. And networks interpolate: a gap
in the data is reconstructed like the data.

A. Dimension of the data: the lesser of TwoNN, which noise raises, and of local principal components. Betti numbers:
   persistent homology of landmarks up to degree 2 (`assay.explain.shape`).
B. The same for the codes: a class of the data that the codes lack was torn.
C. Seams: edges between neighbours along which the code runs many times faster than elsewhere and the error is large;
   each is followed along the edge to its worst point. Twins: rows far apart with (nearly) one code; one of them is off
   by at least half of what the reconstructions do not make up for, which is a proof. Where the data are a round
   sphere, `assay.explain.borsuk_ulam` finds a pair that no training removes. Where the code jumps along an edge of any
   length, the encoder is not continuous and the theorem does not apply. Without codes: spikes of the score.
D. Seeds: the detector trained anew. Alarms raised under some seeds and not under others are artefacts of training; the
   least score over the seeds is free of tears that move.
E. Interpolation: trained without a region, does the score notice it? AUC of the region against held-out rows.

Landmarks are few (200, not 1 000) because degree 2 costs their fourth power; they are spread by farthest-first choice,
for which 200 serve. Spheres of three dimensions and more leave no class that is looked at; only C finds their seams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from assay.base import uncalibrated
from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import Bools, Floats, InputError, Ints, as_matrix, as_vector, check_number, told
from assay.explain.borsuk_ulam import Certificate, sphere_certificate
from assay.explain.shape import landmarks, local_dimension, long_classes, persistence, twonn_dimension
from assay.kernels.neighbours import nearest
from assay.metrics.ranking import roc_auc

Map = Callable[[Floats], Floats]
#: A seam: the code runs so many times faster than it does typically, and the error is as many times larger.
CONTRAST = 5.0
#: Errors below this, in standardised columns, fail nobody: a tenth of a standard deviation.
TELLING = 0.1
#: Twins: rows at least this share of the typical distance of two rows apart.
FAR = 0.5
#: A region with an AUC below this is one the detector is blind to.
BLIND = 0.7
#: Edges followed, seams and twins reported.
FOLLOWED, REPORTED = 60, 20


class Seam(NamedTuple):
    """A place where normal data cannot be given back.

    Attributes
    ----------
    x : array of shape (N,)
        The worst point found.
    error : float
        Its reconstruction error in standardised columns; its score, where there are no codes.
    stretch : float
        How many times faster than typically the code (or the score) changes there.
    rows : (int, int)
        Neighbours between which it lies.
    """

    x: Floats
    error: float
    stretch: float
    rows: tuple[int, int]


class Twins(NamedTuple):
    """Two normal points far apart with nearly one code.

    Attributes
    ----------
    x, twin : array of shape (N,)
        The points.
    distance, gap : float
        Of the points, in standardised columns, and of their codes, in standard deviations of the codes.
    proved : float
        The larger of both errors is at least this.
    row : int
        Row of `x`, or one beside it where it is a seam.
    """

    x: Floats
    twin: Floats
    distance: float
    gap: float
    proved: float
    row: int


class Region(NamedTuple):
    """A region left out of training.

    Attributes
    ----------
    mask : array of bool of shape (n,)
        Its rows.
    auc : float
        Its scores against those of held-out rows elsewhere: .5 is blind.
    blind : bool
        Whether that is below `BLIND`.
    """

    mask: Bools
    auc: float
    blind: bool


@dataclass
class TopologyAudit:
    """What an audit found.

    Attributes
    ----------
    X : array of shape (n, N)
        The normal rows.
    scores : array of shape (n,)
        Of the detector.
    threshold : float
        Above which a row is an alarm: a quantile of the scores.
    dimension, local_dimension : float
        Of the data, by TwoNN and by local principal components.
    latent : int or None
        Numbers of a code.
    bars, latent_bars : list of arrays (m, 2)
        Births and deaths by degree, of the data and of the codes.
    betti, latent_betti : tuple of int
        Long classes by degree.
    seams : list of Seam
        Worst first.
    twins : list of Twins
        Largest proof first.
    certificate : Certificate or None
        Where the data are a round sphere and the codes too short for it.
    jumps : int
        Edges at which the encoder was found to jump.
    alarm_share, near_share : float
        Share of the alarms that lie near a seam, and of all rows that do.
    seed_scores : array of shape (seeds, n)
        Scores of the detectors trained anew; empty where it cannot be.
    variance : array of shape (n,)
        Of a row's scores over the seeds.
    flipped : array of bool of shape (n,)
        Rows that are alarms under some seeds and not under others.
    flip_rate : float
        Their share among the rows that are an alarm under any seed; NaN without seeds.
    regions : list of Region
        In the order they were given.
    verdict : str
        One sentence.
    advice : list of str
        What to do.
    """

    X: Floats
    scores: Floats
    threshold: float
    dimension: float
    local_dimension: float
    latent: int | None
    bars: list[Floats]
    latent_bars: list[Floats]
    betti: tuple[int, ...]
    latent_betti: tuple[int, ...]
    seams: list[Seam]
    twins: list[Twins]
    certificate: Certificate | None
    jumps: int
    alarm_share: float
    near_share: float
    seed_scores: Floats
    variance: Floats
    flipped: Bools
    flip_rate: float
    regions: list[Region]
    verdict: str = ""
    advice: list[str] = field(default_factory=list)

    @property
    def whole_dimension(self) -> int:
        """Dimension of the data as a whole number: the lesser of both estimates."""
        return max(1, round(min(self.dimension, self.local_dimension)))

    @property
    def blind_regions(self) -> list[Region]:
        """Regions that the detector does not miss when they are missing from training."""
        return [region for region in self.regions if region.blind]


class TopologyAuditor:
    """Audits one detector.

    Parameters
    ----------
    detector : object or callable, optional
        With `anomaly_score`, and `encode` and `decode` where it has codes; fitted, or else fitted on the rows that are
        audited. A calibrated one is audited for its detector. A function X -> scores will do.
    encode, decode, score : callable, optional
        Used instead of the detector's. Without a score it is the reconstruction error.
    rate : float, default 0.05
        Share of the normal rows that counts as false alarms.
    neighbours : int, default 10
        Of the graph whose edges are followed.
    landmarks : int, default 200
        Points whose persistence is computed.
    random_state : None, int or numpy.random.Generator
        Seed of everything trained here.

    Examples
    --------
    >>> import numpy as np
    >>> from assay.datasets.simulators.manifolds import circle
    >>> from assay.explain.topology import TopologyAuditor
    >>> ring = circle(300, random_state=0)
    >>> angle = lambda X: np.arctan2(X[:, 1], X[:, 0])[:, None]
    >>> point = lambda Z: np.hstack([np.cos(Z), np.sin(Z)])
    >>> audit = TopologyAuditor(encode=angle, decode=point, landmarks=60).run(ring.X, seeds=0)
    >>> audit.betti, audit.latent_betti, audit.jumps > 0
    ((1, 1, 0), (1, 0, 0), True)
    """

    def __init__(
        self,
        detector: Any = None,
        *,
        encode: Map | None = None,
        decode: Map | None = None,
        score: Map | None = None,
        rate: float = 0.05,
        neighbours: int = 10,
        landmarks: int = 200,
        random_state: Any = None,
    ) -> None:
        self.detector = detector
        self.encode = encode
        self.decode = decode
        self.score = score
        self.rate = rate
        self.neighbours = neighbours
        self.landmarks = landmarks
        self.random_state = random_state

    def run(self, X_normal: Any, remove: int | Sequence[Any] | None = None, seeds: int = 5) -> TopologyAudit:
        """Audit.

        Parameters
        ----------
        X_normal : array or dataframe of shape (n, N)
            Normal rows, at least 30.
        remove : sequence of bool arrays (n,), or int, optional
            Regions to leave out of training in turn; a number takes that many neighbourhoods of a twentieth of the
            rows, around rows chosen by chance.
        seeds : int, default 5
            How often the detector is trained anew; 0 leaves that out.

        Returns
        -------
        TopologyAudit
            What was found.
        """
        X = as_matrix(X_normal, "X_normal", min_rows=30)
        self._check(seeds)
        rng = as_generator(self.random_state)
        center, scale = X.mean(axis=0), np.where(np.ptp(X, axis=0) > 0, X.std(axis=0), 1.0)
        if not np.ptp(X, axis=0).any():
            raise InputError("X_normal: all rows are equal; give rows that differ")
        masks = self._masks(remove, (X - center) / scale, rng)
        deployed, encode, decode, score = self._deployed(X, rng)
        if masks and deployed is None:
            raise InputError("remove: regions are left out of training, so give a detector that can be trained")
        view = _View(X, center, scale, encode, decode, score, self.neighbours)
        scores = as_vector(score(X), "scores") if score else view.errors(X)
        threshold = float(np.quantile(scores, 1 - self.rate))
        marks = landmarks(view.S, self.landmarks)
        bars = persistence(view.S[marks])
        latent_bars = persistence(view.codes[marks]) if encode else []
        seams, jumps = view.seams(), view.jumps()
        twins = view.twins(seams)
        near = view.near(seams)
        alarms = scores > threshold
        seeded = self._seeded(deployed, X, seeds, rng)
        raised = seeded > np.quantile(seeded, 1 - self.rate, axis=1)[:, None] if len(seeded) else seeded > 0
        flipped = raised.any(axis=0) & ~raised.all(axis=0) if len(seeded) else np.zeros(len(X), dtype=bool)
        audit = TopologyAudit(
            X=X,
            scores=scores,
            threshold=threshold,
            dimension=twonn_dimension(view.S),
            local_dimension=local_dimension(view.S),
            latent=view.codes.shape[1] if encode else None,
            bars=bars,
            latent_bars=latent_bars,
            betti=long_classes(bars),
            latent_betti=long_classes(latent_bars) if encode else (),
            seams=seams,
            twins=twins,
            certificate=None,
            jumps=jumps,
            alarm_share=float(near[alarms].mean()) if alarms.any() else 0.0,
            near_share=float(near.mean()),
            seed_scores=seeded,
            variance=seeded.var(axis=0) if len(seeded) else np.zeros(len(X)),
            flipped=flipped,
            flip_rate=float(flipped.sum() / max(raised.any(axis=0).sum(), 1)) if len(seeded) else float("nan"),
            regions=self._regions(deployed, X, masks, rng),
        )
        if encode and audit.latent is not None and not jumps:
            audit.certificate = _certificate(X, encode, decode, audit.latent, audit.whole_dimension)
        audit.verdict, audit.advice = _advice(audit)
        return audit

    def _check(self, seeds: int) -> None:
        check_number(self.rate, "rate", low=0.0, high=0.5, strict_low=True)
        check_number(self.neighbours, "neighbours", low=1, integer=True)
        check_number(self.landmarks, "landmarks", low=20, high=2000, integer=True)
        check_number(seeds, "seeds", low=0, integer=True)
        if (self.encode is None) != (self.decode is None):
            raise InputError("encode and decode go together: give both or none")
        if self.detector is None and self.encode is None and self.score is None:
            raise InputError("detector is missing: give one, or encode and decode, or score")

    def _deployed(self, X: Floats, rng: np.random.Generator) -> tuple[Any, Map | None, Map | None, Map | None]:
        """Return the detector that can be trained anew, if there is one, and the three functions."""
        detector: Any = self.detector
        if hasattr(detector, "fit"):
            try:
                check_is_fitted(detector)
            except NotFittedError:
                detector = seeded_clone(detector, child_seeds(rng, 1)[0]).fit(X)
        detector = uncalibrated(detector)
        encode = self.encode or getattr(detector, "encode", None)
        decode = self.decode or getattr(detector, "decode", None)
        if encode is None or decode is None:
            encode = decode = None
        score = self.score or getattr(detector, "anomaly_score", None) or (detector if callable(detector) else None)
        if score is None and encode is None:
            raise InputError(f"detector={told(detector)}: give one with anomaly_score, or with encode and decode")
        return (detector if hasattr(detector, "fit") else None), encode, decode, score

    def _masks(self, remove: int | Sequence[Any] | None, S: Floats, rng: np.random.Generator) -> list[Bools]:
        if remove is None:
            return []
        if isinstance(remove, (int, np.integer)):
            check_number(remove, "remove", low=0, high=1000, integer=True)
            size = max(len(S) // 20, 1)
            chosen = rng.choice(len(S), min(int(remove), len(S)), replace=False)
            rows = nearest(S[chosen], S, size)[1] if len(chosen) else []
            return [np.isin(np.arange(len(S)), near) for near in rows]
        masks = [np.asarray(mask) for mask in remove]
        for mask in masks:
            if mask.dtype != bool or mask.shape != (len(S),) or not mask.any() or (~mask).sum() < 10:
                raise InputError(f"remove: give masks of {len(S)} bools that keep at least 10 rows and remove some")
        return masks

    def _seeded(self, detector: Any, X: Floats, seeds: int, rng: np.random.Generator) -> Floats:
        if detector is None or not any(name.endswith("random_state") for name in detector.get_params()):
            return np.empty((0, len(X)))
        fits = (seeded_clone(detector, seed).fit(X).anomaly_score(X) for seed in child_seeds(rng, seeds))
        return np.array(list(progress(fits, "training anew", total=seeds))).reshape(seeds, len(X))

    def _regions(self, detector: Any, X: Floats, masks: list[Bools], rng: np.random.Generator) -> list[Region]:
        if detector is None:
            return []
        found = []
        for mask in progress(masks, "leaving regions out", total=len(masks)):
            kept = rng.permutation(np.flatnonzero(~mask))
            fresh, train = np.split(kept, [max(len(kept) // 5, 1)])
            scores = seeded_clone(detector, child_seeds(rng, 1)[0]).fit(X[train]).anomaly_score
            rows = np.concatenate([fresh, np.flatnonzero(mask)])
            auc = float(roc_auc(np.repeat([0, 1], [len(fresh), mask.sum()]), scores(X[rows])))
            found.append(Region(mask, auc, auc < BLIND))
        return found


class _View:
    """The rows in standardised columns, their graph, their codes and reconstructions."""

    def __init__(
        self, X: Floats, center: Floats, scale: Floats, encode: Any, decode: Any, score: Any, neighbours: int
    ) -> None:
        self.X, self.center, self.scale = X, center, scale
        self.encode, self.decode, self.score = encode, decode, score
        self.S = self.standard(X)
        self.distance, self.near_rows = nearest(self.S, self.S, min(neighbours, len(X) - 1), skip_self=True)
        self.spacing = float(np.median(self.distance[:, -1])) or 1.0
        if encode:
            self.codes = self.coded(X)
            self.spread = float(self.codes.std(axis=0).max()) or 1.0
        self.worst = self.errors(X)
        self.enough = max(CONTRAST * float(np.median(np.abs(self.worst))), TELLING if encode else 0.0)

    def standard(self, X: Floats) -> Floats:
        return (X - self.center) / self.scale

    def coded(self, X: Floats) -> Floats:
        codes = np.asarray(self.encode(X), dtype=np.float64)
        return codes[:, None] if codes.ndim == 1 else codes

    def errors(self, X: Floats) -> Floats:
        """Return the reconstruction error in standardised columns, or the score where there are no codes."""
        if not self.encode:
            return as_vector(self.score(X), "scores")
        back = np.asarray(self.decode(self.coded(X)), dtype=np.float64)
        return np.linalg.norm(self.standard(X) - self.standard(back), axis=1)

    def stretch(self) -> Floats:
        """Return for every edge (n, k) how many times faster than typically the code changes; or the score."""
        values = self.codes if self.encode else self.worst[:, None]
        change = np.linalg.norm(values[self.near_rows] - values[:, None], axis=2)
        speed = change / np.maximum(self.distance, 1e-6 * self.spacing)
        return speed / (float(np.median(speed)) or float(speed.mean()) or 1.0)

    def followed(self) -> tuple[Ints, Ints, Floats]:
        """Return both ends and the stretch of the fastest edges, each pair of rows once."""
        stretch = self.stretch()
        order = np.argsort(-stretch, axis=None)[: 2 * FOLLOWED]
        i, column = np.unravel_index(order, stretch.shape)
        j = self.near_rows[i, column]
        once = np.sort(np.unique(np.stack([np.minimum(i, j), np.maximum(i, j)]), axis=1, return_index=True)[1])
        return i[once], j[once], stretch[i, column][once]

    def seams(self) -> list[Seam]:
        i, j, stretch = self.followed()
        low, high = np.zeros(len(i)), np.ones(len(i))
        grid = np.linspace(0, 1, 17)
        for _ in range(4):  # the worst point of each edge, ever closer
            t = low[:, None] + (high - low)[:, None] * grid
            points = self.X[i][:, None] + t[..., None] * (self.X[j] - self.X[i])[:, None]
            errors = self.errors(points.reshape(-1, self.X.shape[1])).reshape(t.shape)
            best = errors.argmax(axis=1)
            rows = np.arange(len(i))
            low, high = t[rows, np.maximum(best - 1, 0)], t[rows, np.minimum(best + 1, len(grid) - 1)]
        worst = errors[rows, best]
        kept = (stretch >= CONTRAST) & (worst >= self.enough)
        found: list[Seam] = []
        for row in np.flatnonzero(kept)[np.argsort(-worst[kept], kind="stable")]:
            x = points[row, best[row]]
            apart = [np.linalg.norm(self.standard(x) - self.standard(other.x)) > self.spacing for other in found]
            if all(apart) and len(found) < REPORTED:
                found.append(Seam(x, float(worst[row]), float(stretch[row]), (int(i[row]), int(j[row]))))
        return found

    def twins(self, seams: list[Seam]) -> list[Twins]:
        """Return pairs of a row or a seam and another row that prove a telling error."""
        if not self.encode:
            return []
        points = np.vstack([self.X, *(seam.x for seam in seams)])
        rows = np.array([*range(len(self.X)), *(seam.rows[0] for seam in seams)])
        S, codes = self.standard(points), self.coded(points)
        back = self.standard(np.asarray(self.decode(codes), dtype=np.float64))
        k = self.near_rows.shape[1]
        j = nearest(codes, codes[: len(self.X)], k + 1)[1]
        distance = np.linalg.norm(self.S[j] - S[:, None], axis=2)
        proved = (distance - np.linalg.norm(back[j] - back[:, None], axis=2)) / 2
        apart = FAR * float(np.median(np.linalg.norm(self.S - self.S[::-1], axis=1)))
        proved = np.where((distance > apart) & (proved > self.enough), proved, -np.inf)
        found: list[Twins] = []
        for place in np.argsort(-proved.max(axis=1), kind="stable")[:FOLLOWED]:
            column = int(proved[place].argmax())
            far = [np.linalg.norm(S[place] - self.standard(other.x)) > self.spacing for other in found]
            if np.isfinite(proved[place, column]) and all(far) and len(found) < REPORTED:
                found.append(self._closer(points[place], int(rows[place]), int(j[place, column])))
        return found

    def _closer(self, x: Floats, row: int, other: int) -> Twins:
        """Move the twin along the edges at it to where the proof is largest."""
        ends = self.X[self.near_rows[other]]
        t = np.linspace(0, 1, 65)[:, None, None]
        path = (self.X[other] + t * (ends - self.X[other])).reshape(-1, self.X.shape[1])
        codes = self.coded(np.vstack([x, path]))
        back = self.standard(np.asarray(self.decode(codes), dtype=np.float64))
        distance = np.linalg.norm(self.standard(path) - self.standard(x), axis=1)
        proved = (distance - np.linalg.norm(back[1:] - back[0], axis=1)) / 2
        best = int(proved.argmax())
        gap = float(np.linalg.norm(codes[1 + best] - codes[0])) / self.spread
        return Twins(x, path[best], float(distance[best]), gap, float(proved[best]), row)

    def jumps(self) -> int:
        """Return how many of the fastest edges still carry a jump of the code when halved 45 times."""
        if not self.encode:
            return 0
        i, j, _ = self.followed()
        a, b = self.X[i], self.X[j]
        code_a, code_b = self.coded(a), self.coded(b)
        for _ in range(45):
            middle = (a + b) / 2
            code = self.coded(middle)
            first = np.linalg.norm(code - code_a, axis=1) >= np.linalg.norm(code_b - code, axis=1)
            a, code_a = np.where(first[:, None], a, middle), np.where(first[:, None], code_a, code)
            b, code_b = np.where(first[:, None], middle, b), np.where(first[:, None], code, code_b)
        return int((np.linalg.norm(code_a - code_b, axis=1) > 1e-3 * self.spread).sum())

    def near(self, seams: list[Seam]) -> Bools:
        """Return which rows lie within the reach of their neighbourhood of a seam."""
        if not seams:
            return np.zeros(len(self.X), dtype=bool)
        places = self.standard(np.stack([seam.x for seam in seams]))
        return nearest(self.S, places, 1)[0][:, 0] <= self.spacing


def _certificate(X: Floats, encode: Map, decode: Map | None, k: int, dimension: int) -> Certificate | None:
    """Return the proof that a round sphere's codes are too short, if the data are one and lie at both points."""
    center = X.mean(axis=0)
    _, size, axes = np.linalg.svd(X - center, full_matrices=False)
    basis = axes[: int((size > 1e-3 * size[0]).sum())]
    if len(basis) <= k or len(basis) > 8 or dimension != len(basis) - 1:
        return None
    flat = (X - center) @ basis.T
    solved = np.linalg.lstsq(np.c_[2 * flat, np.ones(len(flat))], (flat**2).sum(axis=1), rcond=None)[0]
    middle = solved[:-1]
    radius = float(np.sqrt(max(solved[-1] + middle @ middle, 0.0)))
    reach = np.linalg.norm(flat - middle, axis=1)
    if radius == 0 or reach.std() > 0.05 * radius:
        return None
    found = sphere_certificate(encode, center + middle @ basis, radius, decoder=decode, basis=basis)
    pair = np.stack([found.x, found.opposite])
    spacing = float(np.median(nearest(X, X, min(10, len(X) - 1), skip_self=True)[0][:, -1]))
    amid = nearest(pair, X, 1)[0].max() <= 3 * max(spacing, float(reach.std()))
    return found if amid and found.state == "found" else None


def _advice(audit: TopologyAudit) -> tuple[str, list[str]]:
    """Return what the findings mean, in words."""
    k, d = audit.latent, audit.whole_dimension
    loops, hollows = audit.betti[1:]
    closed = " and ".join(
        f"{count} {name}{'s' if count > 1 else ''}" for count, name in ((loops, "loop"), (hollows, "hollow")) if count
    )
    advice = []
    tight = bool(closed) and k is not None and k <= d
    if audit.jumps:
        advice.append(
            "The encoder jumps: it is not continuous, and the theorem that forces a tear does not apply. "
            "Look for errors where it jumps instead."
        )
    if tight and not audit.jumps:
        advice.append(
            f"The data have {closed} and about {d} dimension{'s' if d > 1 else ''}; {k} plain latent "
            f"number{'s' if k != 1 else ''} cannot hold them. Take latent={d + 1}, or a latent space of their shape "
            '(space="sphere" or "torus"), or two charts (space="atlas").'
        )
    seams = bool(audit.seams or audit.twins or audit.certificate)
    torn = any(a > b for a, b in zip(audit.betti[1:], audit.latent_betti[1:])) and not audit.jumps
    if seams and not closed:
        advice.append(
            "There are seams, but no loop or hollow was found: unless the data are a sphere of three dimensions or "
            "more, or cross themselves, training folded them. Train longer or wider, or take one latent number more."
        )
    elif seams:
        advice.append("Do not accept the detector by its mean error: it hides seams. Look at the largest errors.")
    if audit.flip_rate > 0.5 and seams:
        advice.append(
            f"{audit.flip_rate:.0%} of the alarms come and go with the seed. The least score over several seeds is "
            "free of seams that move."
        )
    if audit.blind_regions:
        advice.append(
            f"{len(audit.blind_regions)} of {len(audit.regions)} regions are not missed when they are left out of "
            "training: the decoder fills gaps. Add a distance or density in the latent space (latent_weight)."
        )
    if k is None:
        advice.append(
            "There are no codes to look at: seams are spikes of the score, and tears cannot be told from noise."
        )
    if audit.certificate is not None and audit.certificate.error > 0:
        verdict = "Some normal rows must fail, whatever the training: two opposite points of the data have one code."
    elif (tight or torn) and not audit.jumps:
        verdict = "The latent space cannot hold the shape of the data: somewhere it is torn."
    elif seams:
        verdict = "Normal rows fail at seams."
    elif audit.blind_regions:
        verdict = "No seam was found, but some gaps in the data would not be noticed."
    else:
        verdict = "No topological obstruction was found."
    return verdict, advice
