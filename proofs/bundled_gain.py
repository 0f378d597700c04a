"""What `assay demo` measures, on every bundled table: does training with the kept rows help?

The published pool of each table (a third real anomalies, a third normal rows, a third foreign rows), three seeds. A
support vector classifier learns from the real rows and some of the pool, and is judged on test rows nobody has seen.
"""

import numpy as np

from assay import ExpectedAnomalyPosterior
from assay.datasets import load_table
from assay.generators.benchmark_mix import benchmark_mix
from assay.metrics.ranking import quality_auc
from assay.training.auxiliary import ALL, KEPT, RANDOM, REAL_ONLY, cross_checked_gain
from tables import write

SETS = ("annthyroid", "breastw", "cardiotocography", "ionosphere", "pageblocks", "vertebral")
RULES = ("prior", "verdict")
SEEDS = range(3)


def one(name, seed):
    """Return the quality AUC of one pool and the ROC AUC of every way to train."""
    table = load_table(name)
    pool = benchmark_mix(table.X, table.y, random_state=seed)
    real, test = (pool.X_train, pool.y_train), (pool.X_test, pool.y_test)
    eap = ExpectedAnomalyPosterior(random_state=seed).fit(*real)
    row = {"quality": quality_auc(pool.kind, eap.quality(pool.X_aux))["all"]}
    for rule in RULES:
        judge = ExpectedAnomalyPosterior(n_subsets=30)
        for arm in cross_checked_gain(
            None, *real, pool.X_aux, judge, rule=rule, test=test, n_splits=3, random_state=seed
        ):
            row[arm["training"], rule] = arm["roc_auc"]
    return row


def spread(values):
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


if __name__ == "__main__":
    rows = []
    for name in SETS:
        runs = [one(name, seed) for seed in SEEDS]
        keys = ["quality", (REAL_ONLY, "prior"), (ALL, "prior"), (RANDOM, "prior"), (KEPT, "prior"), (KEPT, "verdict")]
        rows.append([name, *(spread([run[key] for run in runs]) for key in keys)])
    columns = ["table", "quality AUC", "real rows only", "all auxiliary", "as many at random"]
    columns += [f'kept, rule "{rule}"' for rule in RULES]
    notes = """
Quality AUC: a real anomaly ranked above a useless row. The other columns: ROC AUC on test rows, mean ± standard
deviation over three pools. A third of every pool is real anomalies, which is kinder than most generators are. Where
"all auxiliary" wins, choosing did not pay; where "real rows only" wins, auxiliary rows did not.
"""
    write(
        "bundled_gain",
        "What training with the kept rows gains on the bundled tables",
        columns,
        rows,
        notes,
        "bundled with Assay",
    )
