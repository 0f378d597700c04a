"""A simulated expert who likes one rare kind and not the other: what each rule of ranking finds, and how soon.

5 000 ordinary items in 8 dimensions, 60 artefacts in a far cluster, 40 interesting ones in a nearer one. The expert
scores what is on top: interesting 5, everything else 0; after every 25 items the ranking learns. Also digits: ordinary
are the images of 0 to 7, "artefacts" are inverted ones, interesting are nines. And pictures of simulated galaxies,
described by their shapes: 1 000 ordinary ones, 60 artefacts (trails, bleeding stars), 40 interesting mergers.

    python proofs/review_expert.py
"""

import numpy as np
from sklearn.datasets import load_digits

from assay import GalaxyShapes
from assay.datasets.simulators.galaxies import galaxies
from assay.metrics.ranking import rank_weighted_score
from assay.review.ranking import METHODS, ActiveRanker
from tables import write

SEEDS, ROUND, VIEWED = range(5), 25, 200


def clusters(seed):
    """Return items and kinds: 0 ordinary, 1 artefact, 2 interesting."""
    rng = np.random.default_rng(seed)
    far, near = rng.normal(size=8), rng.normal(size=8)
    artefacts = 6 * far / np.linalg.norm(far) + 0.5 * rng.normal(size=(60, 8))
    interesting = 4 * near / np.linalg.norm(near) + 0.5 * rng.normal(size=(40, 8))
    return np.concatenate([rng.normal(size=(5000, 8)), artefacts, interesting]), np.repeat([0, 1, 2], [5000, 60, 40])


def digits(seed):
    """Return 30 components of digits: ordinary 0 to 7, 60 inverted artefacts, 40 nines."""
    rng = np.random.default_rng(seed)
    X, y = load_digits(return_X_y=True)
    ordinary = rng.permutation(np.flatnonzero(y < 8))
    nines = rng.permutation(np.flatnonzero(y == 9))[:40]
    rows = np.concatenate([X[ordinary[60:]], 16 - X[ordinary[:60]], X[nines]])
    centred = rows - rows.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:30]
    return centred @ directions.T, np.repeat([0, 1, 2], [len(ordinary) - 60, 60, 40])


def pictures(seed):
    """Return scaled shapes of galaxies."""
    sky = galaxies(1000, mergers=40, artefacts=60, random_state=seed)
    X = GalaxyShapes().fit_transform(sky.images)
    # The simulator's 1 is a merger, 2 an artefact.
    return (X - X.mean(axis=0)) / (X.std(axis=0) + 1e-12), np.array([0, 2, 1])[sky.kinds]


def viewed(X, kinds, method, seed):
    """Return the kinds in the order in which the expert saw them."""
    if method == "random":
        return np.random.default_rng(seed).permutation(kinds)[:VIEWED]
    ranker = ActiveRanker("neighbours" if method == "detector" else method, random_state=seed).fit(X)
    if method == "detector":
        return kinds[ranker.rank()[:VIEWED]]
    seen = []
    while len(seen) < VIEWED:
        for item in ranker.head(ROUND):
            ranker.label(item, 5 if kinds[item] == 2 else 0)
            seen.append(kinds[item])
        ranker.retrain()
    return np.array(seen)


def once(X, kinds, seed):
    """Return the card's experiment: interesting and artefacts in the top 50 before and after one round of 100."""
    found = {}
    for method in ("neighbours", "regression"):
        ranker = ActiveRanker(method, random_state=seed).fit(X)
        before = ranker.rank()
        for item in before[:100]:
            ranker.label(item, 5 if kinds[item] == 2 else 0)
        after = kinds[ranker.retrain().rank(unlabelled_first=False)]
        found["detector"] = kinds[before]
        found[method] = after
    return {
        name: ((order[:50] == 2).sum(), (order[:50] == 1).sum(), rank_weighted_score(order == 2, 100))
        for name, order in found.items()
    }


def spread(values):
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


def main():
    rows, rounds = [], []
    for name, make in (("clusters", clusters), ("digits", digits), ("galaxies", pictures)):
        sets = [make(seed) for seed in SEEDS]
        for method in ("random", "detector", *METHODS):
            seen = [viewed(*data, method, seed) for seed, data in zip(SEEDS, sets)]
            scores = [100 * rank_weighted_score(one == 2, VIEWED) for one in seen]
            counts = [[(one[:n] == 2).sum() for one in seen] for n in (50, 100, VIEWED)]
            rows.append(
                [name, method, *map(spread, counts), spread([(one == 1).sum() for one in seen]), spread(scores)]
            )
        for seed, data in zip(SEEDS, sets):
            for method, (liked, artefacts, rws) in once(*data, seed).items():
                rounds.append([name, seed, method, int(liked), int(artefacts), f"{rws:.3f}"])
    write(
        "review_expert",
        "A simulated expert: interesting items found among those viewed",
        ["items", "ranked by", "found in 50", "in 100", f"in {VIEWED}", "artefacts viewed", "RWS × 100"],
        rows,
        notes=f"""
Mean ± standard deviation over {len(SEEDS)} seeds; 40 items are interesting, 60 are artefacts. RWS: rank-weighted score
of everything viewed, 1 (here 100) if all of it were interesting. The detector is an isolation forest of 200 trees.

One round of 100 labels from the detector's order, then all items ranked anew:

| items | seed | ranked by | interesting in the top 50 | artefacts in the top 50 | RWS of the top 100 |
|---|---|---|---|---|---|
"""
        + "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rounds),
    )


if __name__ == "__main__":
    main()
