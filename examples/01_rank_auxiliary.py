"""Which auxiliary anomalies are worth training on? A pool whose truth is known, judged without it.

Prints the mean quality and the verdicts of three kinds of rows: real anomalies held back, normal rows in
disguise, and rows of other data sets. Quality is no probability: compare it with the prior.
"""

from collections import Counter

from assay import ExpectedAnomalyPosterior
from assay.datasets import load_table
from assay.generators.benchmark_mix import benchmark_mix
from assay.metrics.ranking import quality_auc

table = load_table("annthyroid")
pool = benchmark_mix(table.X, table.y, random_state=0)
print(f"train: {(pool.y_train == 0).sum()} normal rows, {pool.y_train.sum()} real anomalies")

eap = ExpectedAnomalyPosterior(n_subsets=50, random_state=0).fit(pool.X_train, pool.y_train)
judged = eap.evaluate(pool.X_aux)
quality, verdict = judged["quality"].to_numpy(), judged["verdict"].to_pylist()
print(f"prior: {eap.prior_[0]:.3f} (what a row gets about which the data say nothing)\n")

for kind, name in enumerate(["real anomalies", "normal rows", "foreign rows"]):
    rows = pool.kind == kind
    counts = Counter(v for v, mine in zip(verdict, rows) if mine)
    print(f"{name:15} mean quality {quality[rows].mean():.3f}   {dict(counts.most_common())}")

print("\nWhy, for the best and the worst row:")
for row in (quality.argmax(), quality.argmin()):
    print(f"  {quality[row]:.3f} {verdict[row]}: {judged['reason'][int(row)].as_py()}")

auc = quality_auc(pool.kind, quality)
print(f"\nA real anomaly outranks a useless row in {auc['all']:.0%} of the pairs.")
