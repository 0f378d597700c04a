"""Do generators of windows that EAP ranks first train better detectors than a random, or the worst, choice?

For each real series and seed: windows of `WINDOW` steps, every half window; half of the normal windows and `KNOWN`
random anomalous ones are known, the rest is the test (windows within one window of a known one are left out of it).
`suggest` ranks all generators x strengths on the known windows alone, as `assay suggest --series` does. Then a
classifier on the windows' embedding is trained once with each batch of synthetic windows, on the known normals, the
known anomalies and the batch ("with known"), or on the known normals and the batch ("synthetic only"), and its AUROC on
the test windows is taken. The choices are those of `image_suggest`.

    python proofs/series_suggest.py
"""

import numpy as np
import torch
from scipy.stats import spearmanr

from assay import KNN, ExpectedAnomalyPosterior, SpectralWindows, suggest
from assay.core.series import windows_of
from assay.datasets.series import load_series
from assay.metrics.ranking import roc_auc
from assay.training.auxiliary import named_learner
from tables import need_data, resumed, write

#: Those that served to choose judge and ranking, and those that are reported.
DEVELOPMENT = ("asd/omi-1", "smd/machine-1-6", "nab/realKnownCause/machine_temperature_system_failure")
SETS = ("asd/omi-9", "smd/machine-2-1", "smd/machine-3-4", "nab/realKnownCause/nyc_taxi", "ecg/MBA_ECG805_data")
SEEDS = range(5)
WINDOW, KNOWN, MOST, COUNT, STRENGTHS = 64, 8, 400, 30, (0.25, 0.5, 1.0, 2.0, 4.0)


def split(name, seed):
    """Return known normal and anomalous windows, test windows and their labels."""
    data = load_series(name)
    rng = np.random.default_rng(seed)
    starts = np.arange(0, len(data.test) - WINDOW + 1, WINDOW // 2)
    windows = windows_of(data.test, WINDOW)[starts]
    bad = np.lib.stride_tricks.sliding_window_view(data.labels, WINDOW)[starts].any(axis=1)
    normal = rng.permutation(np.flatnonzero(~bad))[: 2 * MOST]
    anomalous = rng.permutation(np.flatnonzero(bad))
    known = normal[: len(normal) // 2], anomalous[: min(KNOWN, len(anomalous) // 2)]
    taken = np.concatenate(known)
    beside = np.isin(np.arange(len(starts)), np.concatenate([known[1] - 1, known[1], known[1] + 1]))
    test = np.array([i for i in np.concatenate([normal, anomalous]) if not beside[i] and i not in set(taken)])
    return windows[known[0]], windows[known[1]], windows[test], bad[test].astype(int)


def measure(name, seed):
    """Return the figures of one split."""
    normal, bad, test, y_test = split(name, seed)
    known, y = np.concatenate([normal, bad]), np.repeat([0, 1], [len(normal), len(bad)])
    embedder = SpectralWindows().fit(normal)
    judge = ExpectedAnomalyPosterior(detector=KNN(), density="smooth", n_subsets=50)
    how = {"strengths": STRENGTHS, "n": COUNT, "embedder": embedder, "rank": "lift", "random_state": seed}
    ranked = suggest(known, y, judge=judge, **how)
    Z, Z_test = embedder.transform(known), embedder.transform(test)

    def auc(rows, with_known=True):
        real = np.ones(len(y), dtype=bool) if with_known else y == 0
        labels = np.concatenate([y[real], np.ones(len(rows), dtype=int)])
        return roc_auc(y_test, named_learner("svc").fit(np.vstack([Z[real], rows]), labels).anomaly_score(Z_test))

    figures = {"known windows alone": auc(np.empty((0, Z.shape[1])))}
    for label, with_known in (("with known", True), ("synthetic only", False)):
        gains = np.array([auc(one.rows, with_known) for one in ranked])
        figures |= {
            f"{label}: suggested": gains[0],
            f"{label}: random": gains.mean(),
            f"{label}: worst": gains[-1],
            f"{label}: oracle": gains.max(),
            f"{label}: rank correlation": spearmanr(-np.arange(len(gains)), gains).statistic,
        }
        noise = [gain for one, gain in zip(ranked, gains) if one.generator == "step_noise" and one.strength == 1]
        figures[f"{label}: plain noise at 1"] = noise[0]
    return {"figures": figures, "first": f"{ranked[0].generator} at {ranked[0].strength:g}"}


def main():
    need_data("timeseries")
    torch.set_num_threads(1)
    runs = {
        name: [resumed(f"series_suggest/{name.replace('/', '_')}-{seed}", measure, name, seed) for seed in SEEDS]
        for name in SETS
    }
    rows = []
    for label in runs[SETS[0]][0]["figures"]:
        row = [label]
        for name in SETS:
            values = np.array([run["figures"][label] for run in runs[name]])
            row.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}")
        rows.append(row)
    rows.append(["differences of the same seeds"] + [""] * len(SETS))
    for label in ("with known", "synthetic only"):
        for other in ("random", "worst", "plain noise at 1"):
            row = [f"{label}: suggested − {other}"]
            for name in SETS:
                gain = np.array(
                    [run["figures"][f"{label}: suggested"] - run["figures"][f"{label}: {other}"] for run in runs[name]]
                )
                row.append(f"{gain.mean():+.3f} ± {gain.std(ddof=1):.3f}, {int((gain > 0).sum())} of {len(gain)} won")
            rows.append(row)
    firsts = "; ".join(f"{name}: {', '.join(run['first'] for run in runs[name])}" for name in SETS)
    write(
        "series_suggest",
        "Generators of windows that EAP ranks first, against a random and the worst choice, on real series",
        ["AUROC on test windows", *SETS],
        rows,
        notes=f"""
Mean ± standard deviation over {len(SEEDS)} seeds; windows of {WINDOW} steps, at most {KNOWN} known anomalous ones and
{MOST} normal ones; {COUNT} synthetic windows a batch, strengths {STRENGTHS}; embedding: `SpectralWindows`; judge: EAP
with `detector=KNN(), density="smooth"`, ranking by lift: of three judges and two rankings the best on other series
({", ".join(DEVELOPMENT)}; two seeds). Classifier: `named_learner("svc")`. "Random" is the mean over all batches,
"worst" the last of the ranking, "oracle" the best batch in hindsight, "plain noise" the floor `step_noise` at strength
1. First of the ranking: {firsts}.
""",
    )


if __name__ == "__main__":
    main()
