"""Resonant anomaly detection: events that are too many in a window of m, compared with a template of the background.

In: a table (n, 1 + d), one column of which is m, the variable in which an anomaly would be localised (a mass, an
energy, a position, a time), the others features x. Labels are optional. Out: one score a row, higher = more anomalous:
how much likelier its x is among the events of the window than among the background there. m itself is no feature
(lacathode, anode and ranode describe x at the row's own m).

1. Window SR = [m1, m2], sidebands SB = the rest, short sidebands SSB = within `width` of the window. A *template* gives
   background x for m in the window without looking at the events there:

   - ``"cwola"``: the short sidebands as they are (right if x and m are independent);
   - ``"cathode"``: a conditional flow p(x | m) learned on SB (`assay.nn.flows`), asked at masses m drawn from a kernel
     density of the window's (bandwidth .01 on the logit of (m - m1) / (m2 - m1));
   - ``"lacathode"``: the same flow, but the classifier sees its latent rows z(x, m) against N(0, I), so that neither m
     nor what follows m helps it;
   - ``"iad"``: rows of the window that are known to be background, y = 0: the ceiling of what a template can do;
   - ``"anode"``: no classifier, the ratio of two flows, p(x | m) of the window over p(x | m) of SB;
   - ``"ranode"``: with w = `share`, a flow p_S fitted alone in  max Σ log(w p_S + (1 - w) p_B),  p_B the flow of SB,
     frozen; the score is p_S / p_B.

2. A classifier (`ensemble` gradient-boosted forests, averaged) learns window events (1) against template (0). In k
   folds: an event is scored by the models that learned from the other folds. A finite template (cwola, iad) is folded
   too; one that can be sampled is drawn once, the first `oversample` · N_SR rows to train on, `reference` · N_SR rows
   to be scored only.

3. `assay.calibration.background.direct_background` turns the held-out scores of events and of template into an expected
   background, its error and a significance.

Labels: a row known to be an anomaly (1) counts as an event of the window wherever it lies; one known to be normal (0)
in the window is template, whichever template that is. Without labels everything is learned from m alone.

Defaults of the published code: 5 folds, 50 models, 200 iterations, 31 leaves, balanced classes, early stopping on half
of the rows, 4 template rows an event, sidebands of .2 beside a window of .4 (here: half of the window's width).
`reference` = 10 is inferred from the published errors. The published "10 runs" are fits with other seeds.

Departures: identical rows share a fold, as a copy of a row would betray it. Features are not standardised for the
trees, which need no scale. Where a class is too small to be halved (under 4 rows) there is no early stopping. Where no
event lies within the default width of the short sidebands, cwola takes all that lie outside the window. R-ANODE's
signal flow knows m as a condition, and w is given, not scanned. Not built: CURTAINs.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier

from assay.base import Detector
from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import (
    ANOMALY,
    NORMAL,
    Bools,
    Floats,
    InputError,
    Ints,
    check_methods,
    check_number,
    check_option,
)

Window = tuple[float, float]
#: Bandwidth of the masses' kernel density, on the logit scale, and how near to the window's ends a mass may lie.
BANDWIDTH, EDGE = 0.01, 1e-6


class HeldOut(NamedTuple):
    """Scores by models that never saw the rows.

    Attributes
    ----------
    scores : array of shape (n,)
        Of the events.
    folds : array of int of shape (n,)
        Which fold's models scored them.
    template_scores : array of shape (t,)
        Of the template's rows.
    template_folds : array of int of shape (t,)
        Which fold's models scored these.
    """

    scores: Floats
    folds: Ints
    template_scores: Floats
    template_folds: Ints


def within(m: Floats, window: Window) -> Bools:
    """Tell which masses lie in the window, its ends included."""
    return (m >= window[0]) & (m <= window[1])


def smooth_masses(m: Floats, window: Window, n: int, rng: np.random.Generator) -> Floats:
    """Draw `n` masses from the kernel density of those of the window; none of them lies outside it."""
    low, high = window
    share = np.clip((rng.choice(m, n) - low) / (high - low), EDGE, 1 - EDGE) if high > low else np.full(n, 0.5)
    logit = np.log(share) - np.log1p(-share) + BANDWIDTH * rng.normal(size=n)
    return low + (high - low) / (1 + np.exp(-logit))


def short_sidebands(m: Floats, window: Window, width: float | None) -> Bools:
    """Tell which masses lie beside the window, at most `width` away (None: half of the window's own width)."""
    width = (window[1] - window[0]) / 2 if width is None else width
    return ~within(m, window) & within(m, (window[0] - width, window[1] + width))


# -- templates -------------------------------------------------------------------------------------------------------


class Template(BaseEstimator):
    """Background for the window, learned without the events there: what every template does.

    Attributes
    ----------
    state_ : dict
        All that `fit` learned, as plain arrays.
    """

    #: Whether `sample` returns the rows there are, whatever the number asked for.
    finite: ClassVar[bool] = False

    def fit(self, m: Floats, x: Floats, window: Window, random_state: Any = None) -> Template:
        """Learn from masses m (n,) and features x (n, d) of all events; of those in the window only m may be used."""
        raise NotImplementedError

    def sample(self, n: int, random_state: Any = None) -> Floats:
        """Return `n` rows of background of the window, as the classifier sees them."""
        raise NotImplementedError

    def see(self, m: Floats, x: Floats) -> Floats:
        """Return events as the classifier sees them."""
        return x

    def reach(self, m: Floats, window: Window) -> float:
        """Return how far from the window rows are that the classifier learns as background."""
        return 0.0


class CWoLa(Template):
    """The short sidebands as they are.

    Parameters
    ----------
    width : float, optional
        Of each short sideband; by default half of the window's width (published: .2 beside .4), or all there is where
        no event lies so near.

    Attributes
    ----------
    state_ : dict
        The sidebands' rows.
    """

    finite: ClassVar[bool] = True

    def __init__(self, width: float | None = None) -> None:
        self.width = width

    def fit(self, m: Floats, x: Floats, window: Window, random_state: Any = None) -> CWoLa:
        """Keep the rows of the short sidebands."""
        if self.width is not None:
            check_number(self.width, "width", low=0.0, strict_low=True)
        self.state_ = {"x": x[short_sidebands(m, window, self.reach(m, window))]}
        return self

    def reach(self, m: Floats, window: Window) -> float:
        """Return the width of the short sidebands."""
        if self.width is not None:
            return float(self.width)
        if short_sidebands(m, window, None).any():
            return (window[1] - window[0]) / 2
        # All there is, the outermost event included whatever rounding does.
        return float(max(window[0] - m.min(), m.max() - window[1], 0.0)) * (1 + 1e-9)

    def sample(self, n: int, random_state: Any = None) -> Floats:
        """Return all rows there are."""
        return self.state_["x"]


class IAD(Template):
    """The idealised template: nothing but the window's rows that are known to be background (y = 0).

    Attributes
    ----------
    state_ : dict
        Holds no row.
    """

    finite: ClassVar[bool] = True

    def fit(self, m: Floats, x: Floats, window: Window, random_state: Any = None) -> IAD:
        """Learn nothing."""
        self.state_ = {"x": x[:0]}
        return self

    def sample(self, n: int, random_state: Any = None) -> Floats:
        """Return no row: the detector adds those known to be normal."""
        return self.state_["x"]


class CATHODE(Template):
    """A conditional flow, learned on the sidebands and asked in the window.

    Parameters
    ----------
    blocks, hidden : int, default 15 and 128
        Of the flow.
    epochs, batch_size : int, default 100 and 256
        Of its training.
    learning_rate, weight_decay : float, default 1e-4 and 1e-6
        Of Adam.
    keep : int, default 10
        How many epochs, those of least validation loss, take turns at sampling.
    validation : float, default 0.2
        Share of the sideband rows that validates.

    Attributes
    ----------
    state_ : dict
        The flows' weights, the scale of rows and masses, the window and the masses in it.
    """

    def __init__(
        self,
        blocks: int = 15,
        hidden: int = 128,
        epochs: int = 100,
        batch_size: int = 256,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-6,
        keep: int = 10,
        validation: float = 0.2,
    ) -> None:
        self.blocks = blocks
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.keep = keep
        self.validation = validation

    def _check_parameters(self) -> None:
        for name in ("blocks", "hidden", "epochs", "batch_size", "keep"):
            check_number(getattr(self, name), name, low=1, integer=True)
        check_number(self.learning_rate, "learning_rate", low=0.0, high=1.0)
        check_number(self.weight_decay, "weight_decay", low=0.0, high=1.0)
        check_number(self.validation, "validation", low=0.0, high=0.9)

    def fit(self, m: Floats, x: Floats, window: Window, random_state: Any = None) -> CATHODE:
        """Learn p(x | m) on the sidebands, and the density of m in the window."""
        from assay.nn.flows import fit_scale, to_logits

        self._check_parameters()
        inside, rng = within(m, window), as_generator(random_state)
        if not inside.any() or inside.all():
            where = "outside" if inside.all() else "in"
            raise InputError(f"X holds no event {where} the window {window}: a flow needs some on both sides")
        scale = fit_scale(m[~inside], x[~inside])
        if not scale["varies"].any():
            raise InputError("X: no column beside the mass varies in the sidebands; a flow needs one that does")
        flows = self._flows(*to_logits(scale, m[~inside], x[~inside]), rng)
        self.state_: dict[str, Any] = {"scale": scale, "flows": flows, "m": m[inside], "window": window}
        return self

    def _flows(self, x: Any, m: Any, rng: np.random.Generator, loss: Any = None) -> list[Any]:
        from assay.nn.flows import train_flow

        return train_flow(x, m, rng, loss=loss, **self.get_params(deep=False))

    def sample(self, n: int, random_state: Any = None) -> Floats:
        """Return `n` rows x ~ p(x | m), m drawn from the kernel density of the window's masses."""
        rng = as_generator(random_state)
        return self.sample_at(smooth_masses(self.state_["m"], self.state_["window"], n, rng), rng)

    def sample_at(self, m: Floats, random_state: Any = None) -> Floats:
        """Return one row of background for each mass, as the classifier sees it."""
        from assay.nn.flows import draw

        return draw(self.state_["flows"], self.state_["scale"], m, as_generator(random_state))


class LaCATHODE(CATHODE):
    """The latent space of CATHODE's flow, where background is N(0, I) at every m.

    Parameters
    ----------
    blocks, hidden : int, default 15 and 128
        Of the flow.
    epochs, batch_size : int, default 100 and 256
        Of its training.
    learning_rate, weight_decay : float, default 1e-4 and 1e-6
        Of Adam.
    keep : int, default 10
        How many epochs, those of least validation loss, take turns at sampling.
    validation : float, default 0.2
        Share of the sideband rows that validates.

    Attributes
    ----------
    state_ : dict
        As in `CATHODE`.
    """

    def sample_at(self, m: Floats, random_state: Any = None) -> Floats:
        """Return latent rows of background, which are the same at every mass."""
        return as_generator(random_state).normal(size=(len(m), int(self.state_["scale"]["varies"].sum())))

    def see(self, m: Floats, x: Floats) -> Floats:
        """Return the latent rows of events, by the best epoch's flow."""
        from assay.nn.flows import latent_rows, to_logits

        return latent_rows(self.state_["flows"][0], *to_logits(self.state_["scale"], m, x))


class ANODE(CATHODE):
    """The ratio of two flows, one of the window's events and one of the sidebands: no classifier.

    Parameters
    ----------
    blocks, hidden : int, default 15 and 128
        Of the flow.
    epochs, batch_size : int, default 100 and 256
        Of its training.
    learning_rate, weight_decay : float, default 1e-4 and 1e-6
        Of Adam.
    keep : int, default 10
        How many epochs, those of least validation loss, take turns at sampling.
    validation : float, default 0.2
        Share of the sideband rows that validates.

    Attributes
    ----------
    state_ : dict
        As in `CATHODE`.
    """

    def see(self, m: Floats, x: Floats) -> Floats:
        """Return m beside the features, as the densities are given m."""
        return np.column_stack([m, x])

    def sample_at(self, m: Floats, random_state: Any = None) -> Floats:
        """Return the masses and one row of background for each."""
        return np.column_stack([m, super().sample_at(m, random_state)])

    def learn(self, seen: Floats, rng: np.random.Generator) -> list[Any]:
        """Return flows of the window's events."""
        return self._flows(*self._logits(seen), rng)

    def ratio(self, learned: list[Any], seen: Floats) -> Floats:
        """Return the logarithm of the density ratio."""
        from assay.nn.flows import log_density

        logits = self._logits(seen)
        return log_density(learned, *logits) - log_density(self.state_["flows"], *logits)

    def _logits(self, seen: Floats) -> Any:
        from assay.nn.flows import to_logits

        return to_logits(self.state_["scale"], np.ascontiguousarray(seen[:, 0]), seen[:, 1:])


class RANODE(ANODE):
    """Only the signal's part of the window's density is fitted, the background's is the sidebands' flow.

    Parameters
    ----------
    share : float, default 0.01
        w, the share of signal among the window's events that is tried.
    blocks, hidden : int, default 15 and 128
        Of the flows.
    epochs, batch_size : int, default 100 and 256
        Of their training.
    learning_rate, weight_decay : float, default 1e-4 and 1e-6
        Of Adam.
    keep : int, default 10
        How many epochs, those of least validation loss, are used.
    validation : float, default 0.2
        Share of the rows that validates.

    Attributes
    ----------
    state_ : dict
        As in `CATHODE`.
    """

    def __init__(
        self,
        share: float = 0.01,
        blocks: int = 15,
        hidden: int = 128,
        epochs: int = 100,
        batch_size: int = 256,
        learning_rate: float = 1e-4,
        weight_decay: float = 1e-6,
        keep: int = 10,
        validation: float = 0.2,
    ) -> None:
        super().__init__(blocks, hidden, epochs, batch_size, learning_rate, weight_decay, keep, validation)
        self.share = share

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number(self.share, "share", low=0.0, high=1.0, strict_low=True, strict_high=True)

    def _flows(self, x: Any, m: Any, rng: np.random.Generator, loss: Any = None) -> list[Any]:
        from assay.nn.flows import train_flow

        settings = self.get_params(deep=False)
        del settings["share"]
        return train_flow(x, m, rng, loss=loss, **settings)

    def learn(self, seen: Floats, rng: np.random.Generator) -> list[Any]:
        """Return flows of the signal alone."""
        import torch

        from assay.nn.flows import log_density

        x, m = self._logits(seen)
        background = torch.from_numpy(log_density(self.state_["flows"], x, m) + np.log1p(-self.share)).float()

        def loss(flow: Any, x: Any, m: Any, rows: Any) -> Any:
            return -torch.logaddexp(np.log(self.share) + flow.log_prob(x, m), background[rows])

        return self._flows(x, m, rng, loss)


TEMPLATES: dict[str, type[Template]] = {
    "cwola": CWoLa,
    "cathode": CATHODE,
    "lacathode": LaCATHODE,
    "iad": IAD,
    "anode": ANODE,
    "ranode": RANODE,
}


# -- the detector ----------------------------------------------------------------------------------------------------


class ResonantDetector(Detector):
    """Events of a window against a background template, scored in folds.

    Parameters
    ----------
    template : str or Template, default "cwola"
        ``"cwola"``, ``"cathode"``, ``"lacathode"``, ``"iad"``, ``"anode"``, ``"ranode"``; one of the classes of this
        module with other settings; or a class of your own that does what `Template` says. All but cwola and iad need
        the extra ``deep``.
    mass : int or str, default 0
        Column of m: its number, or its name in a dataframe.
    window : pair of float, optional
        (m1, m2), where an anomaly is looked for; by default the middle third of the different values of m.
    folds : int, default 5
        Folds, at most the different events of the window.
    ensemble : int, default 50
        Forests that are averaged; one is too noisy for cuts of 1e-4.
    max_iter, max_leaf_nodes : int, default 200 and 31
        Of a forest.
    validation_fraction : float, default 0.5
        Share of the rows that stops a forest early.
    oversample : float, default 4
        Template rows an event that train, for templates that are sampled.
    reference : float, default 10
        Template rows an event that are only scored, for the same.
    random_state : None, int or numpy.random.Generator
        Seed.

    Attributes
    ----------
    window_ : pair of float
        (m1, m2).
    mass_column_ : int
        Number of the column of m.
    template_ : dict
        What the template has learned; empty for cwola and iad.
    models_ : list of lists
        The classifiers (of anode and ranode: the flows) of each fold.
    data_rows_ : array of int of shape (n_sr,)
        Numbers of the rows in the window that are not known to be normal.
    held_out_scores_, folds_ : array of shape (n_sr,)
        Their scores by models that never saw them, and the folds of these models.
    template_scores_, template_folds_ : array of shape (n_t,)
        The same of the template's rows.

    Notes
    -----
    With m as its only column a table has no features: the score is then 1 in the window and 0 outside.
    Scores of the training events by `anomaly_score` come from models that saw most of them: use `held_out_scores_`.

    References
    ----------
    R. Das, T. Finke, M. Hein, G. Kasieczka, M. Krämer, A. Mück, D. Shih: Accurate and robust methods for direct
    background estimation in resonant anomaly detection. Phys. Rev. D 111, 094041 (2025), arXiv 2411.00085.
    CWoLa: Metodiev, Nachman, Thaler, JHEP 2017, arXiv 1708.02949. CATHODE: Hallin et al., PRD 2022, arXiv 2109.00546.
    LaCATHODE: Hallin et al., PRD 2023, arXiv 2210.14924. ANODE: Nachman and Shih, PRD 2020, arXiv 2001.04990.
    R-ANODE: Das, Kasieczka, Shih, 2023, arXiv 2312.11629.

    Examples
    --------
    >>> from assay import ResonantDetector
    >>> from assay.datasets.simulators.resonance import resonance
    >>> events = resonance(2000, 100, random_state=0)
    >>> detector = ResonantDetector(window=(3.3, 3.7), ensemble=1, max_iter=20, random_state=0).fit(events.X)
    >>> score = detector.anomaly_score(events.X)
    >>> bool(score[events.y == 1].mean() > score[events.y == 0].mean() + 0.1)
    True
    """

    labels: ClassVar[str] = "optional"

    def __init__(
        self,
        template: Any = "cwola",
        mass: int | str = 0,
        window: Window | None = None,
        folds: int = 5,
        ensemble: int = 50,
        max_iter: int = 200,
        max_leaf_nodes: int = 31,
        validation_fraction: float = 0.5,
        oversample: float = 4.0,
        reference: float = 10.0,
        random_state: Any = None,
    ) -> None:
        self.template = template
        self.mass = mass
        self.window = window
        self.folds = folds
        self.ensemble = ensemble
        self.max_iter = max_iter
        self.max_leaf_nodes = max_leaf_nodes
        self.validation_fraction = validation_fraction
        self.oversample = oversample
        self.reference = reference
        self.random_state = random_state

    def _check_parameters(self) -> None:
        if isinstance(self.template, str):
            check_option(self.template, "template", *TEMPLATES)
        else:
            check_methods(self.template, "template", "fit", "sample", "see")
        if not isinstance(self.mass, str):
            check_number(self.mass, "mass", low=0, integer=True)
        _check_window(self.window)
        check_number(self.folds, "folds", low=2, integer=True)
        check_number(self.ensemble, "ensemble", low=1, integer=True)
        check_number(self.max_iter, "max_iter", low=1, integer=True)
        check_number(self.max_leaf_nodes, "max_leaf_nodes", low=2, integer=True)
        one = {"low": 0.0, "high": 1.0, "strict_low": True, "strict_high": True}
        check_number(self.validation_fraction, "validation_fraction", **one)
        for name in ("oversample", "reference"):
            check_number(getattr(self, name), name, low=0.1, high=1e4)

    # -- learning ----------------------------------------------------------------------------------------------------

    def _fit(self, X: Floats, y: Ints | None, rng: np.random.Generator) -> None:
        self.mass_column_ = self._column()
        m, x = self._split(X)
        labels, given = (np.full(len(X), -1), "X") if y is None else (y, "y")
        if m.min() == m.max():
            raise InputError(f"X: the mass (column {self.mass!r}) is constant, there is nothing to look for along it")
        self.window_ = self._window(m)
        inside = within(m, self.window_)
        events = np.where(inside, labels != NORMAL, labels == ANOMALY)
        if events.sum() < 2:
            raise InputError(
                f"{given} holds {events.sum()} events to look at, in the window and not known to be normal"
            )
        known = inside & (labels == NORMAL)
        template = self._template(int(rng.integers(2**31 - 1)))
        # Known anomalies outside the window are no background.
        use = inside | (labels != ANOMALY)
        if (~inside & use).sum() == 0 and not known.any():
            raise InputError(f"{given} holds no background: no row outside the window {self.window_}, none known in it")
        template.fit(m[use], x[use], self.window_, rng)
        n = int(events.sum())
        train, rest = self._drawn(template, template.see(m[known], x[known]), n, rng)
        if len(train) == 0 or (rest is not None and len(rest) == 0):
            raise InputError(
                f"{given} holds no background for the template {self.template!r}: widen its sidebands, or "
                "label rows of the window as normal (0)"
            )
        seen = template.see(m[events], x[events])
        self.models_, found = self._in_folds(template, seen, train, rest, rng)
        # The sidebands' own rows are needed no more.
        bare = isinstance(template, (CWoLa, IAD))
        self.template_ = {} if bare else dict(getattr(template, "state_", {}))
        here = inside[events]
        self.data_rows_ = np.flatnonzero(events & inside)
        self.held_out_scores_, self.folds_ = found.scores[here], found.folds[here]
        self.template_scores_, self.template_folds_ = found.template_scores, found.template_folds

    def _drawn(self, template: Any, known: Floats, n: int, rng: np.random.Generator) -> tuple[Floats, Floats | None]:
        """Return the template rows to train on and those only to be scored; None where all are folded."""
        if getattr(template, "finite", False):
            return np.vstack([template.sample(n, rng), known]), None
        first = max(1, round(self.oversample * n))
        drawn = template.sample(first + max(1, round(self.reference * n)), rng)
        return np.vstack([drawn[:first], known]), drawn[first:]

    def _in_folds(
        self, template: Any, data: Floats, train: Floats, rest: Floats | None, rng: np.random.Generator
    ) -> tuple[list[list[Any]], HeldOut]:
        """Return the models of each fold, and the scores of rows that they never saw."""
        folds = fold_numbers(data, train if rest is None else train[:0], self.folds, rng)
        folds, train_folds = folds[: len(data)], folds[len(data) :]
        scored = train if rest is None else rest
        scored_folds = train_folds if rest is None else rng.permutation(len(rest)) % (folds.max() + 1)
        scores, template_scores = np.full(len(data), 0.5), np.full(len(scored), 0.5)
        if folds.max() == 0:  # one event, and copies of it: none of them can be held out
            return [self._learn(template, data, train, rng)], HeldOut(scores, folds, template_scores, scored_folds)
        models = []
        for fold in progress(range(folds.max() + 1), "training in folds", total=int(folds.max()) + 1):
            background = train[train_folds != fold] if rest is None else train
            models.append(self._learn(template, data[folds != fold], background, rng))
            for out, rows, which in ((scores, data, folds), (template_scores, scored, scored_folds)):
                out[which == fold] = _judged(template, models[-1], rows[which == fold])
        return models, HeldOut(scores, folds, template_scores, scored_folds)

    def _learn(self, template: Any, data: Floats, background: Floats, rng: np.random.Generator) -> list[Any]:
        if hasattr(template, "learn"):
            return list(template.learn(data, rng)) if len(data) else []
        smaller = min(len(data), len(background))
        if smaller == 0:
            return []
        both, kinds = np.vstack([background, data]), np.repeat([0, 1], [len(background), len(data)])
        halves = smaller * min(self.validation_fraction, 1 - self.validation_fraction) >= 2
        forest = HistGradientBoostingClassifier(
            max_iter=self.max_iter,
            max_leaf_nodes=self.max_leaf_nodes,
            class_weight="balanced",
            early_stopping=halves,
            validation_fraction=self.validation_fraction,
        )
        seeds = child_seeds(rng, self.ensemble)
        return [seeded_clone(forest, seed).fit(both, kinds) for seed in progress(seeds, "boosting", total=len(seeds))]

    # -- scoring -----------------------------------------------------------------------------------------------------

    def _score(self, X: Floats) -> Floats:
        if X.shape[1] == 1:
            return within(X[:, 0], self.window_).astype(np.float64)
        return self._by_fold(X).mean(axis=0)

    def _by_fold(self, X: Floats) -> Floats:
        """Return the scores of rows by each fold's models, (folds, n)."""
        template = self._template()
        seen = template.see(*self._split(X))
        return np.stack([_judged(template, models, seen) for models in self.models_])

    def reach(self, m: Floats) -> float:
        """Return how far from the window rows of masses `m` are that were learned as background."""
        template = self._template()
        return float(template.reach(m, self.window_)) if hasattr(template, "reach") else 0.0

    def sideband_scores(self, X: Any, width: float | None = None, random_state: Any = None) -> HeldOut:
        """Run everything but the flow's training on sideband events, as if they were the window's.

        There is no signal there, so that what remains is the template's own fault: see
        `assay.calibration.background.sideband_delta`.

        Parameters
        ----------
        X : array or dataframe of shape (n, 1 + d)
            Events; those of the window are left out.
        width : float, optional
            How far from the window; half of its width by default.
        random_state : None, int or numpy.random.Generator
            Seed.
        """
        X, rng, template = self._check_table(X, reset=False), as_generator(random_state), self._template()
        if not hasattr(template, "sample_at"):
            raise InputError(f"template={self.template!r} cannot be asked at the sidebands' masses; use a simulation")
        m, x = self._split(X)
        rows = np.flatnonzero(short_sidebands(m, self.window_, width))
        rows = rng.permutation(rows)[: max(2, len(self.data_rows_))]
        if len(rows) < 2:
            raise InputError(f"X holds {len(rows)} rows within `width` of the window, at least 2 needed")
        first, last = (max(1, round(times * len(rows))) for times in (self.oversample, self.reference))
        # The kernel is narrow on the scale of the sidebands, as it is on that of the window.
        span = (float(m[rows].min()), float(m[rows].max()))
        drawn = template.sample_at(smooth_masses(m[rows], span, first + last, rng), rng)
        return self._in_folds(template, template.see(m[rows], x[rows]), drawn[:first], drawn[first:], rng)[1]

    # -- small things ------------------------------------------------------------------------------------------------

    def _column(self) -> int:
        if isinstance(self.mass, str):
            names = list(getattr(self, "feature_names_in_", []))
            if self.mass not in names:
                raise InputError(f"mass={self.mass!r} is no column of X; its columns: {names[:5] or 'are not named'}")
            return names.index(self.mass)
        if self.mass >= self.n_features_in_:
            raise InputError(f"mass={self.mass}: X has only {self.n_features_in_} columns, counted from 0")
        return int(self.mass)

    def _split(self, X: Floats) -> tuple[Floats, Floats]:
        """Return m (n,) and x (n, d); one constant feature where there is none."""
        x = np.delete(X, self.mass_column_, axis=1)
        return np.ascontiguousarray(X[:, self.mass_column_]), x if x.shape[1] else np.zeros((len(X), 1))

    def _window(self, m: Floats) -> Window:
        if self.window is not None:
            return float(self.window[0]), float(self.window[1])
        values = np.unique(m)  # of these, so that there is always something outside
        third = len(values) // 3
        return float(values[third]), float(values[max(third, 2 * len(values) // 3 - 1)])

    def _template(self, seed: int | None = None) -> Any:
        """Return the template, unfitted with a seed, or as it was fitted."""
        template = TEMPLATES[self.template]() if isinstance(self.template, str) else self.template
        if seed is not None:
            return seeded_clone(template, seed)
        template = seeded_clone(template, 0)
        if self.template_:
            template.state_ = self.template_
        return template


def fold_numbers(data: Floats, background: Floats, k: int, rng: np.random.Generator) -> Ints:
    """Return the folds of data and background rows, stacked; identical rows share one, and all folds hold data."""
    both = np.vstack([data, background])
    group = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    has_data = np.zeros(group.max() + 1, dtype=bool)
    has_data[group[: len(data)]] = True
    order = rng.permutation(len(has_data))
    order = order[np.argsort(~has_data[order], kind="stable")]
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % min(k, int(has_data.sum()))
    return fold[group]


def _judged(template: Any, models: list[Any], seen: Floats) -> Floats:
    """Return the scores of rows by one fold's models; .5 for all where one class was missing."""
    if len(seen) == 0 or not models:
        return np.full(len(seen), 0.5)
    if hasattr(template, "ratio"):
        return np.asarray(template.ratio(models, seen))
    return np.mean([model.predict_proba(seen)[:, 1] for model in models], axis=0)


def _check_window(window: Any) -> None:
    if window is None:
        return
    pair = isinstance(window, (tuple, list)) and len(window) == 2
    if not pair or any(isinstance(end, str) for end in window):
        raise InputError(f"window={window!r}: give a pair of numbers (m1, m2), m1 < m2")
    for end in window:
        check_number(end, "window", low=-1e150, high=1e150)
    if not window[0] < window[1]:
        raise InputError(f"window={window!r}: give a pair of numbers (m1, m2), m1 < m2")
