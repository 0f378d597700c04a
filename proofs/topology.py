"""What a latent space cannot hold: autoencoders on shapes of known topology, in phase space, and on a bump hunt.

Circle, sphere, controls, the momenta of three-body decays, a circle with an arc left out, and a resonance in flat phase
space. Errors are distances in the units of the data (radius 1), on fresh rows; "audited" is the larger error at the
pair of opposite points that the certificate finds. Every fit is kept under runs/.

    python proofs/topology.py
"""

import time

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from assay.datasets.simulators import manifolds
from assay.datasets.simulators.phase_space import bump_hunt, rambo
from assay.detectors.tabular.autoencoder import Autoencoder
from assay.detectors.tabular.resonant import ResonantDetector
from assay.explain.borsuk_ulam import antipodal_certificate, sphere_certificate
from assay.metrics.ranking import roc_auc
from tables import resumed, write

SHAPES = {
    "circle": manifolds.circle,
    "sphere": manifolds.sphere,
    "segment": manifolds.segment,
    "swiss roll": manifolds.swiss_roll,
}
#: Shape, latent dimensions, kind of latent space, seeds.
CASES = [
    ("circle", 1, "euclidean", 5),
    ("circle", 2, "euclidean", 3),
    ("circle", 1, "sphere", 3),
    ("circle", 1, "atlas", 3),
    ("sphere", 2, "euclidean", 5),
    ("sphere", 3, "euclidean", 3),
    ("sphere", 2, "sphere", 3),
    ("sphere", 2, "atlas", 3),
    ("segment", 1, "euclidean", 3),
    ("swiss roll", 2, "euclidean", 3),
]


def errors(model, X):
    return np.linalg.norm(X - model.decode(model.encode(X)), axis=1)


def shape(name, latent, space, seed):
    """Return the errors on fresh rows, and at the pair that the certificate finds; the trivial baseline beside them."""
    make = SHAPES[name]
    train, fresh = make(10_000, random_state=seed).X, make(5000, random_state=1000 + seed).X
    start = time.process_time()
    model = Autoencoder(latent, space, random_state=seed).fit(train)
    seconds = time.process_time() - start
    found = errors(model, fresh)
    record = {"median": np.median(found), "max": found.max(), "errors": found.tolist(), "seconds": seconds}
    record["mean baseline"] = np.median(np.linalg.norm(fresh - train.mean(axis=0), axis=1))
    if name in ("circle", "sphere") and space == "euclidean" and latent < train.shape[1]:
        pair = sphere_certificate(model.encode, np.zeros(train.shape[1]), 1.0, decoder=model.decode)
        record |= {"gap": pair.gap, "proved": pair.error, "audited": pair.measured, "x": pair.x.tolist()}
    return record


def ensemble(name, latent):
    """Return the largest error of single models and of the least of five, on the same fresh rows."""
    make, least = SHAPES[name], None
    train, fresh = make(10_000, random_state=0).X, make(5000, random_state=1000).X
    single = []
    for seed in range(5):
        found = errors(Autoencoder(latent, random_state=seed).fit(train), fresh)
        single.append(found.max())
        least = found if least is None else np.minimum(least, found)
    return {"single": single, "least": least.max()}


def decays(latent, seed):
    """Return errors on fresh three-body decays, relative to the typical momentum, and the certificate where k < 6."""
    train, fresh = (
        rambo(n, random_state=seed + 100 * part)[:, :2, 1:].reshape(n, 6) for part, n in ((1, 20000), (2, 5000))
    )
    model = Autoencoder(latent, random_state=seed).fit(train)
    found = errors(model, fresh)
    record = {"median": np.median(found), "high": np.quantile(found, 0.999), "max": found.max()}
    record["mean baseline"] = np.median(np.linalg.norm(fresh - train.mean(axis=0), axis=1))
    if latent < 6:

        def allowed(u):
            """Return the momenta of total energy 1 in these directions: what makes a sphere of phase space."""
            p = u.reshape(-1, 2, 3)
            energy = np.linalg.norm(p, axis=2).sum(axis=1) + np.linalg.norm(p.sum(axis=1), axis=1)
            return u / energy[:, None]

        pair = antipodal_certificate(model.encode, allowed, 6, decoder=model.decode)
        record |= {"state": pair.state, "gap": pair.gap, "proved": pair.error, "audited": pair.measured}
    return record


def gap(noise, seed):
    """Return how well the score notices an arc of 30 degrees that was never seen."""
    ring, fresh = (manifolds.circle(n, noise, random_state=seed + first) for n, first in ((10_000, 0), (5000, 1000)))
    removed = manifolds.arc(ring.place[:, 0], np.pi, np.pi / 6)
    y = manifolds.arc(fresh.place[:, 0], np.pi, np.pi / 6).astype(int)
    model = Autoencoder(2, latent_weight=1.0, random_state=seed).fit(ring.X[~removed])
    missed = errors(model, fresh.X)
    found = {"auc 0": roc_auc(y, missed), "auc 1": roc_auc(y, model.anomaly_score(fresh.X))}
    found["error 0"] = [np.median(missed[y == label]) for label in (0, 1)]
    inside = 0.5 * fresh.X[y == 0][:400]  # off the circle: what an anomaly should look like
    found["off"] = roc_auc(
        np.repeat([0, 1], [(y == 0).sum(), 400]), model.anomaly_score(np.vstack([fresh.X[y == 0], inside]))
    )
    return found


def bump(seed):
    """Return what finds the resonance: the autoencoder's error, a histogram of m12, a classifier."""
    hunt = bump_hunt(random_state=seed)
    found = {"random": roc_auc(hunt.y, np.random.default_rng(seed).uniform(size=len(hunt.y)))}
    for latent in (4, 5):
        found[f"ae {latent}"] = roc_auc(
            hunt.y, Autoencoder(latent, random_state=seed).fit(hunt.X).anomaly_score(hunt.X)
        )
    found["sigma"] = excess(hunt.m12, hunt.mass, hunt.width)
    found["sigma, background alone"] = excess(hunt.m12[hunt.y == 0], hunt.mass, hunt.width)
    # Window against side bands, on everything but m12.
    window = (hunt.mass - 2 * hunt.width, hunt.mass + 2 * hunt.width)
    table = np.c_[hunt.m12, without_mass(hunt)]
    detector = ResonantDetector("cwola", window=window, ensemble=5, random_state=seed).fit(table)
    found["window against side bands"] = roc_auc(hunt.y[detector.data_rows_], detector.held_out_scores_)
    half = np.random.default_rng(seed).uniform(size=len(hunt.y)) < 0.5
    # Data against flat phase space of the simulator, on all momenta and the pair masses.
    flat = bump_hunt(fraction=0.0, random_state=10_000 + seed)
    both = np.vstack([masses(hunt)[half], masses(flat)])
    trees = HistGradientBoostingClassifier(max_iter=100, class_weight="balanced", random_state=seed)
    trees.fit(both, np.repeat([1, 0], [half.sum(), len(flat.y)]))
    odds = trees.predict_proba(masses(hunt)[~half])[:, 1]
    found["data against simulation"] = roc_auc(hunt.y[~half], odds)
    return found


def masses(hunt):
    """Return the squared masses of the three pairs: total energy less the third particle's, doubled."""
    return 1 - 2 * hunt.momenta[:, :, 0]


def without_mass(hunt):
    """Return what an event holds besides m12: how the pair shares its energy, relative to what it may, and angles."""
    energy = hunt.momenta[..., 0]
    third = np.linalg.norm(hunt.momenta[:, 2, 1:], axis=1)
    return np.c_[(energy[:, 0] - energy[:, 1]) / third, hunt.momenta[:, 2, 1:] / third[:, None]]


def excess(m12, mass, width):
    """Return the local significance of the window over a parabola through the bins beside it."""
    edges = mass + width * np.arange(-14, 14.5, 1)
    counts, middles = np.histogram(m12, edges)[0], (edges[1:] + edges[:-1]) / 2
    inside = np.abs(middles - mass) < 2 * width
    expected = np.polyval(np.polyfit(middles[~inside], counts[~inside], 2), middles)[inside].sum()
    return float((counts[inside].sum() - expected) / np.sqrt(expected))


def told(values, places=3):
    return f"{np.mean(values):.{places}f} ± {np.std(values, ddof=1):.{places}f}"


def spread(records):
    """Return the circular distance in radians between the pairs of opposite points of the seeds: the widest two."""
    angles = [np.arctan2(record["x"][1], record["x"][0]) % np.pi for record in records]
    return max(min(abs(a - b), np.pi - abs(a - b)) for a in angles for b in angles)


def main():
    torch.set_num_threads(1)
    rows, notes = [], []
    for name, latent, space, seeds in CASES:
        key = f"topology_{name}_{latent}_{space}".replace(" ", "_")
        records = [resumed(f"{key}_{seed}", shape, name, latent, space, seed) for seed in range(seeds)]
        audited = told([one["audited"] for one in records]) if "audited" in records[0] else "–"
        largest = [one["max"] for one in records]
        rows.append(
            [
                name,
                f"{space} {latent}",
                seeds,
                told([one["median"] for one in records], 4),
                told(largest),
                f"{max(largest):.3f}",
                audited,
                f"{min(one['proved'] for one in records):.6f}" if "proved" in records[0] else "–",
                told([one["mean baseline"] for one in records]),
            ]
        )
        if (name, latent) == ("circle", 1) and space == "euclidean":
            notes.append(
                f"The seam moves: over five seeds the certified pair of the circle turns by up to "
                f"{spread(records):.2f} rad (π/2 is the most that pairs can differ). "
                f"Largest gap of codes: {max(r['gap'] for r in records):.1e}."
            )
    for latent in (5, 6):
        records = [resumed(f"topology_decays_{latent}_{seed}", decays, latent, seed) for seed in range(3)]
        rows.append(
            [
                "three-body decays",
                f"euclidean {latent}",
                3,
                told([one["median"] for one in records], 4),
                told([one["max"] for one in records]),
                f"{max(one['max'] for one in records):.3f}",
                told([one["audited"] for one in records]) if latent < 6 else "–",
                f"{min(one['proved'] for one in records):.6f}" if latent < 6 else "–",
                told([one["mean baseline"] for one in records]),
            ]
        )
    for name, latent in [("circle", 1)]:
        one = resumed(f"topology_ensemble_{name}", ensemble, name, latent)
        notes.append(
            f"Least of five seeds, {name}, latent {latent}: largest error {one['least']:.3f}; "
            f"single models {told(one['single'])}."
        )
    for noise in (0.0, 0.05):
        records = [resumed(f"topology_gap_{noise:g}_{seed}", gap, noise, seed) for seed in range(3)]
        notes.append(
            f"Circle with noise {noise:g} and an arc of 30° left out, latent 2: AUC of the arc against the rest "
            f"{told([one['auc 0'] for one in records])}; median error there "
            f"{told([one['error 0'][1] for one in records], 4)}, elsewhere "
            f"{told([one['error 0'][0] for one in records], 4)}. With latent_weight=1 the AUC is "
            f"{told([one['auc 1'] for one in records])}; that of points at half the radius "
            f"{told([one['off'] for one in records])}."
        )
    records = [resumed(f"topology_bump_{seed}", bump, seed) for seed in range(3)]
    notes.append(
        "Bump hunt (50 000 decays, 1 % through a resonance; AUC of resonance against background):\n\n"
        + "\n".join(
            f"- {label}: {told([one[key] for one in records], places)}"
            for label, key, places in (
                ("random numbers", "random", 3),
                ("autoencoder, latent 4", "ae 4", 3),
                ("autoencoder, latent 5", "ae 5", 3),
                (
                    "resonant detector (CWoLa: window against side bands, on all but m12), within the window",
                    "window against side bands",
                    3,
                ),
                ("boosted trees, data against simulated background, on pair masses", "data against simulation", 3),
                ("histogram of m12: local significance in standard deviations", "sigma", 1),
                ("the same without the resonance", "sigma, background alone", 1),
            )
        )
        + "\n\nGiven m12 this signal is distributed like the background, so a classifier that must not see the "
        "mass has nothing to learn from."
    )
    text = "\n\n".join(notes)
    write(
        "topology",
        "Topological obstructions to autoencoding",
        [
            "data",
            "latent space",
            "seeds",
            "median error",
            "largest error",
            "worst seed",
            "audited",
            "least proof",
            "to the mean",
        ],
        rows,
        f"""
Mean ± standard deviation over seeds; errors on 5 000 fresh rows. "Audited" is the error of the autoencoder at the pair
of opposite points that the certificate finds, "least proof" the least over seeds of what the certificate guarantees,
"to the mean" the median distance to the mean of the data, which is what a code of no numbers gives. Segment and swiss
roll are controls: no topology is in their way.

{text}
""",
        "simulated, `assay.datasets.simulators.manifolds` and `phase_space`",
    )


if __name__ == "__main__":
    main()
