"""Suggest: which generator, at which strength, makes auxiliary anomalies worth training on?

Every generator of the catalogue is fitted to the normal rows and sampled at every strength of a ladder; EAP,
fitted once, judges all rows together; each batch is then summed up. Too little strength gives
indistinguishable rows, too much unrealistic ones: the best strength lies between, and where it lies depends
on the data.

Batches are ranked by lift times coverage, or by lift alone. The *lift* is the mean over the batch of the
quality above the prior, (φ - π0)⁺: how many rows are worth keeping, and how good they are. The *coverage* is
the share of the real anomalies that have a kept auxiliary row nearer than any normal row: quality alone does
not say whether the rows are anomalies of the kind that occurs here. Batches that cover nothing follow, by
lift. Where a batch holds few items, as with images, coverage is a count of one or two, and the lift alone
ranks better.

Images, windows of series, event sequences, graphs and other items that are no rows of a table are judged through an
embedder: the generators work on the items themselves, everything else on their rows.

No test label is used: the real anomalies handed in serve EAP, the coverage, and the generators that start
from them (which cover them by construction). If the known anomalies are all of one kind, the suggestion is
for that kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from assay.base import Auxiliary, Embedder, Generator
from assay.catalogue import find, load_class, of_role
from assay.core.clone import seeded_clone
from assay.core.progress import progress
from assay.core.random import as_generator, child_seeds
from assay.core.validation import (
    Bools,
    Floats,
    InputError,
    as_labels,
    as_matrix,
    check_number,
    check_option,
    normals_and_anomalies,
    told,
)
from assay.kernels.neighbours import nearest
from assay.quality.eap import ExpectedAnomalyPosterior
from assay.quality.probability import standardised
from assay.quality.verdict import INDISTINGUISHABLE, REALISTIC, UNREALISTIC

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Suggestion:
    """One generator at one strength, judged.

    Attributes
    ----------
    generator : str
        Name in the catalogue (or of the class).
    strength : float
        The strength.
    score : float
        What the ranking sorts by.
    lift : float
        Mean of (φ - π0)⁺.
    quality : float
        Mean quality.
    realistic, indistinguishable, unrealistic : float
        Shares of the verdicts; the rest is uncertain.
    coverage : float
        Share of the real anomalies that have a kept auxiliary row nearer than any normal row.
    auxiliary : Auxiliary
        What was generated.
    rows : array of shape (n, d)
        The same as rows of numbers: what was judged.
    row_quality : array of shape (n,)
        Their qualities.
    kept : array of bool of shape (n,)
        Rows worth keeping: φ > 1.5 π0, the rule "prior" of EAP.
    fitted : Generator
        Ready to draw more rows: ``fitted.sample(n, strength)``.
    judge : ExpectedAnomalyPosterior
        The fitted judge of all suggestions.
    """

    generator: str
    strength: float
    score: float
    lift: float
    quality: float
    realistic: float
    indistinguishable: float
    unrealistic: float
    coverage: float
    auxiliary: Auxiliary
    rows: Floats
    row_quality: Floats
    kept: Bools
    fitted: Generator
    judge: ExpectedAnomalyPosterior

    def row(self) -> dict[str, Any]:
        """Return the numbers, for a table."""
        names = (
            "generator",
            "strength",
            "score",
            "lift",
            "quality",
            "realistic",
            "indistinguishable",
            "unrealistic",
            "coverage",
        )
        return {name: getattr(self, name) for name in names}


def suggest(
    X: Any,
    y: Any,
    *,
    generators: Sequence[Any] | None = None,
    strengths: Sequence[float] = STRENGTHS,
    n: int = 100,
    judge: ExpectedAnomalyPosterior | None = None,
    embedder: Embedder | None = None,
    rank: str = "coverage",
    random_state: Any = None,
) -> list[Suggestion]:
    """Rank generators and strengths by what EAP says of their rows.

    Parameters
    ----------
    X : array or dataframe of shape (n, d), images, windows (n, L, C), event sequences or graphs
        Real rows, or real items if there is an embedder.
    y : array of shape (n,)
        0 normal, 1 anomaly (at least one).
    generators : sequence of str or Generator, optional
        Names in the catalogue or instances; by default every generator of the data's kind (those that start
        from real anomalies only where there are at least two). ``"name:kind"`` is one kind alone of a generator that
        has several; `every_kind` lists them.
    strengths : sequence of float, default (.25, .5, 1, 2, 4)
        The ladder; 1 is each generator's published setting.
    n : int, default 100
        Rows a batch.
    judge : ExpectedAnomalyPosterior, optional
        Unfitted; the default one if not given.
    embedder : Embedder, optional
        Unfitted; what turns items into rows: `PatchEmbedder()`, `SpectralWindows()`, `EventCounts()`,
        `GraphStatistics()`. Without it `X` is a table.
    rank : {"coverage", "lift"}, default "coverage"
        Sort by lift times coverage, or by lift.
    random_state : None, int or numpy.random.Generator
        Seed of everything.

    Returns
    -------
    list of Suggestion
        Best first.

    Examples
    --------
    >>> import numpy as np
    >>> from assay import ExpectedAnomalyPosterior, suggest
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(150, 2)), rng.normal(4.0, 0.5, size=(6, 2))])
    >>> y = np.repeat([0, 1], [150, 6])
    >>> judge = ExpectedAnomalyPosterior(n_subsets=10)
    >>> best = suggest(X, y, generators=["smote", "permutation"], strengths=[1.0], judge=judge, random_state=0)[0]
    >>> best.generator
    'smote'
    """
    items: Any = as_matrix(X) if embedder is None else clone(embedder)._check_table(X, reset=True)
    y = as_labels(y, len(items))
    normals, anomalies = normals_and_anomalies(y, min_normals=7, min_anomalies=1)
    check_number(n, "n", low=2, integer=True)
    check_option(rank, "rank", "coverage", "lift")
    _check_sequence(strengths, "strengths", "numbers > 0")
    for strength in strengths:
        check_number(strength, "strengths", low=0.0, strict_low=True)
    rng = as_generator(random_state)
    to_rows = None if embedder is None else seeded_clone(embedder, child_seeds(rng, 1)[0]).fit(items[normals])
    X = items if to_rows is None else to_rows.transform(items)
    kind = getattr(embedder, "data", "tables")
    named = _resolve(generators, kind, n_anomalies=len(np.unique(X[anomalies], axis=0)))
    seeds = child_seeds(rng, len(named) + 1)
    judge = seeded_clone(ExpectedAnomalyPosterior() if judge is None else judge, seeds[0]).fit(X, y)
    batches: list[tuple[str, float, Generator, Auxiliary]] = []
    for (name, generator), seed in progress(zip(named, seeds[1:]), "drawing auxiliary rows", total=len(named)):
        fitted = seeded_clone(generator, seed).fit(items[normals], items[anomalies])
        draws = child_seeds(np.random.default_rng(seed), len(strengths))
        batches += [
            (name, float(strength), fitted, fitted.sample(n, strength, random_state=draw))
            for strength, draw in zip(strengths, draws)
        ]
    rows = [
        batch.X if to_rows is None else to_rows.transform(batch.X)
        for _, _, _, batch in progress(batches, "embedding auxiliary items", total=len(batches))
    ]
    table = judge.evaluate(np.vstack(rows))
    quality = table["quality"].to_numpy().reshape(len(batches), n)
    verdict = np.array(table["verdict"].to_pylist()).reshape(len(batches), n)
    prior = judge.prior_[0] / sum(judge.prior_)
    suggestions = []
    for i, (name, strength, fitted, batch) in enumerate(batches):
        lift = float(np.maximum(quality[i] - prior, 0.0).mean())
        kept = quality[i] > 1.5 * prior
        coverage = _coverage(judge, X, y, rows[i][kept])
        shares = {kind: float((verdict[i] == kind).mean()) for kind in (REALISTIC, INDISTINGUISHABLE, UNREALISTIC)}
        suggestions.append(
            Suggestion(
                generator=name,
                strength=strength,
                score=lift * coverage if rank == "coverage" else lift,
                lift=lift,
                quality=float(quality[i].mean()),
                **shares,
                coverage=coverage,
                auxiliary=batch,
                rows=rows[i],
                row_quality=quality[i],
                kept=kept,
                fitted=fitted,
                judge=judge,
            )
        )
    return sorted(suggestions, key=lambda suggestion: (-suggestion.score, -suggestion.lift))


def _resolve(generators: Sequence[Any] | None, kind: str, n_anomalies: int) -> list[tuple[str, Generator]]:
    if generators is None:
        classes = [(entry.name, load_class(entry)) for entry in of_role("generator", kind)]
        return [(name, cls()) for name, cls in classes if n_anomalies >= 2 or not cls.needs_anomalies]
    _check_sequence(generators, "generators", "names or generators")
    named = []
    for generator in generators:
        if isinstance(generator, Generator):
            named.append((type(generator).__name__, generator))
            continue
        name, separator, own = str(generator).partition(":")
        try:
            entry = find(name, "generator")
        except KeyError as error:
            raise InputError(f"generators: {error.args[0]}") from error
        if entry.data != kind:
            raise InputError(f"generators: {entry.name} makes anomalies among {entry.data}, these are {kind}")
        cls = load_class(entry)
        if separator and own not in _kinds(cls):
            raise InputError(f"generators: {name} has no kind {own!r}: {' or '.join(_kinds(cls)) or 'it has none'}")
        named.append((str(generator), cls(kind=own) if separator else cls()))
    return named


def every_kind(data: str) -> list[str]:
    """Return the names of all generators of a kind of data, ``"name:kind"`` where one has several kinds.

    Examples
    --------
    >>> every_kind("events")[-2:]
    ['event_edits:splice', 'unlikely_events']
    """
    classes = [(entry.name, load_class(entry)) for entry in of_role("generator", data)]
    return [f"{name}:{kind}" if kind else name for name, cls in classes for kind in _kinds(cls) or ("",)]


def _kinds(cls: Any) -> tuple[str, ...]:
    """Return the values of a generator's parameter `kind`."""
    kinds: tuple[str, ...] = cls.KINDS if "kind" in cls._get_param_names() and hasattr(cls, "KINDS") else ()
    return kinds


def _check_sequence(values: Any, name: str, what: str) -> None:
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise InputError(f"{name}={told(values)}: give a list of {what}")
    if len(values) == 0:
        raise InputError(f"{name} is empty: give a list of {what}, at least one")


def _coverage(judge: ExpectedAnomalyPosterior, X: Floats, y: Any, kept: Floats) -> float:
    if len(kept) == 0:
        return 0.0
    Z = standardised(X, judge.mean_, judge.scale_)
    anomalies = Z[y == 1]
    to_auxiliary = nearest(anomalies, standardised(kept, judge.mean_, judge.scale_), 1)[0][:, 0]
    to_normal = nearest(anomalies, Z[y == 0], 1)[0][:, 0]
    return float((to_auxiliary < to_normal).mean())
