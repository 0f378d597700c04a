"""Train a classifier with the auxiliary anomalies that are worth it, and measure honestly what that gains.

Prints the ROC AUC on real rows that neither the classifier nor the judge has seen, for five ways to train. The
pool is one third real anomalies, so that there is something to keep; "at random" says what luck would give.
"""

from assay import ExpectedAnomalyPosterior, artefact_probe, train_with_auxiliary
from assay.datasets import load_table
from assay.generators.benchmark_mix import benchmark_mix
from assay.training.auxiliary import cross_checked_gain

table = load_table("annthyroid")
pool = benchmark_mix(table.X, table.y, random_state=0)
real, test = (pool.X_train, pool.y_train), (pool.X_test, pool.y_test)
judge = ExpectedAnomalyPosterior(n_subsets=20)

print("training                         ROC AUC          rows added")
for arm in cross_checked_gain(None, *real, pool.X_aux, judge, test=test, n_splits=3, random_state=0):
    print(f"{arm['training']:32} {arm['roc_auc']:.3f} ± {arm['roc_auc_std']:.3f}  {arm['auxiliary_rows']:9.0f}")

probe = artefact_probe(real[0][real[1] == 0], pool.X_aux, feature_names=table.feature_names)
print(f"\nArtefact probe: {probe.verdict}")

trained = train_with_auxiliary(None, *real, pool.X_aux, judge, random_state=0)
scores = trained.detector.anomaly_score(pool.X_test)
print(f"\nTrained with {trained.kept.sum()} of {len(pool.X_aux)} rows.")
print(
    f"Mean score of normal test rows {scores[test[1] == 0].mean():.2f}, of anomalies {scores[test[1] == 1].mean():.2f}."
)
