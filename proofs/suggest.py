"""Does the suggested generator help a detector more than one chosen at random?

Three ADBench tables that played no part in choosing how `suggest` ranks. Twelve real anomalies and 500
normals train; the other anomalies (300 at most) and 500 other normals judge. Every generator at every
strength of the ladder is drawn, its kept rows train a detector beside the real ones, and the ROC AUC on the
held-out rows is compared with that of the real rows alone. "Random" is the mean over all generators and
strengths, kept rows each: the expectation of a blind choice.
"""

import sys

import numpy as np
from joblib import Parallel, delayed

from assay import ExpectedAnomalyPosterior, suggest
from assay.core.clone import seeded_clone
from assay.datasets import load_table
from assay.metrics.ranking import roc_auc
from assay.training.auxiliary import named_learner
from tables import need_data, write

SETS = ("cardiotocography", "annthyroid", "pageblocks")
LEARNERS = ("svc", "forest")


def one(name, seed):
    """Return per learner: the base AUC and the gain of every suggestion, best-ranked first."""
    data, rng = load_table(name), np.random.default_rng(seed)
    normals = rng.permutation(np.flatnonzero(data.y == 0))[:1000]
    anomalies = rng.permutation(np.flatnonzero(data.y == 1))[:312]
    train, test = np.r_[normals[:500], anomalies[:12]], np.r_[normals[500:], anomalies[12:]]
    X, y, X_test, y_test = data.X[train], data.y[train], data.X[test], data.y[test]
    ranked = suggest(X, y, judge=ExpectedAnomalyPosterior(n_subsets=50), random_state=seed)
    result = {}
    for learner in LEARNERS:

        def auc(rows, learner=learner):
            labels = np.r_[y, np.ones(len(rows), dtype=int)]
            model = seeded_clone(named_learner(learner), seed).fit(np.vstack([X, rows]), labels)
            return roc_auc(y_test, model.anomaly_score(X_test))

        base = auc(X[:0])
        gains = [auc(s.auxiliary.X[s.kept]) - base if s.kept.any() else 0.0 for s in ranked]
        result[learner] = base, gains
    return name, seed, f"{ranked[0].generator} × {ranked[0].strength:g}", result


def main(n_seeds=5, jobs=1):
    need_data()
    tasks = [(name, seed) for name in SETS for seed in range(int(n_seeds))]
    found = Parallel(n_jobs=int(jobs))(delayed(one)(*task) for task in tasks)
    rows = []
    for name in SETS:
        runs = [run for run in found if run[0] == name]
        for learner in LEARNERS:
            base = np.array([run[3][learner][0] for run in runs])
            top = np.array([run[3][learner][1][0] for run in runs])
            blind = np.array([np.mean(run[3][learner][1]) for run in runs])
            best = np.array([np.max(run[3][learner][1]) for run in runs])
            worst = np.array([np.min(run[3][learner][1]) for run in runs])
            rows.append(
                [name, learner, f"{base.mean():.3f} ± {base.std():.3f}", f"{top.mean():+.4f} ± {top.std():.4f}",
                 f"{blind.mean():+.4f} ± {blind.std():.4f}", f"{int((top > blind).sum())} of {len(runs)}",
                 f"{worst.mean():+.4f}", f"{best.mean():+.4f}", ", ".join(run[2] for run in runs)]
            )  # fmt: skip
    columns = ["table", "learner", "AUC, real rows", "gain, suggested", "gain, random choice", "suggested wins",
               "gain, worst choice", "gain, best choice (oracle)", "suggested"]  # fmt: skip
    notes = f"""
ROC AUC on held-out real anomalies and normals, mean ± standard deviation over {n_seeds} seeds. The oracle and
the worst choice are picked by the test labels, to show the range; nobody can pick them in practice.
"""
    write("suggest", "The suggested generator against a random one", columns, rows, notes, "ADBench " + ", ".join(SETS))


if __name__ == "__main__":
    main(*sys.argv[1:])
