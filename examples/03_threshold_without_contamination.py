"""A threshold without guessing the contamination: promise a false-alarm rate instead, and keep it.

Prints the false-alarm rate on fresh normal rows for the usual rule (a guessed share of the training rows) and
for a promised rate; then a batch of p-values with a controlled share of false discoveries.
"""

import numpy as np

from assay import KNN, Calibrated, Conformal, FalseAlarmRate, Quantile
from assay.datasets import load_table

table = load_table("pageblocks")
rng = np.random.default_rng(0)
scale = table.X[table.y == 0].std(axis=0)
normals, anomalies = (rng.permutation(table.X[table.y == label] / scale) for label in (0, 1))
train, fresh = normals[:1000], normals[1000:]

print("rule                              false alarms  anomalies found")
for name, calibrator in {
    "Quantile(contamination=.1), default": Quantile(),
    "Quantile(contamination=.01)": Quantile(0.01),
    "FalseAlarmRate(.05)": FalseAlarmRate(0.05),
    "FalseAlarmRate(.01)": FalseAlarmRate(0.01),
}.items():
    model = Calibrated(KNN(), calibrator, random_state=0).fit(train)
    alarms, found = ((model.predict(rows) == -1).mean() for rows in (fresh, anomalies))
    print(f"{name:36} {alarms:9.1%} {found:16.1%}")

model = Calibrated(KNN(), Conformal(), random_state=0).fit(train)
batch = np.vstack([fresh[:400], anomalies[:40]])
chosen = model.calibrator_.discoveries(model.anomaly_score(batch), fdr=0.1)
print(f"\nOf a batch of 400 normal rows and 40 anomalies {chosen.sum()} are called anomalies,")
print(f"{chosen[:400].sum()} of these are normal (promised: at most 10 % on average over batches).")
