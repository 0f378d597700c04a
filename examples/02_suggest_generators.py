"""Which generator, at which strength, makes anomalies worth training on? Only ten real anomalies are shown.

Prints the ranking, then checks it against what `suggest` never saw: how near the kept rows of the first and of the
last batch come to the real anomalies that were held back.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors

from assay import ExpectedAnomalyPosterior, suggest
from assay.datasets import load_table

table = load_table("annthyroid")
rng = np.random.default_rng(0)
normals = table.X[rng.choice(np.flatnonzero(table.y == 0), 400, replace=False)]
anomalies = rng.permutation(table.X[table.y == 1])
X, y = np.vstack([normals, anomalies[:10]]), np.repeat([0, 1], [400, 10])

ranking = suggest(
    X,
    y,
    generators=["smote", "local", "cluster", "feature_swap", "permutation", "uniform_box"],
    strengths=[0.5, 1.0, 2.0],
    n=60,
    judge=ExpectedAnomalyPosterior(n_subsets=30),
    random_state=0,
)
print("generator      strength  score =  lift × coverage   realistic  indist.  unreal.")
for s in ranking:
    shares = f"{s.realistic:9.0%}  {s.indistinguishable:7.0%}  {s.unrealistic:7.0%}"
    print(f"{s.generator:14} {s.strength:8g}  {s.score:.3f}  {s.lift:.3f}  {s.coverage:8.0%}   {shares}")

scale = normals.std(axis=0)
print()
for name, suggestion in (("first", ranking[0]), ("last", ranking[-1])):
    nearest = NearestNeighbors(n_neighbors=1).fit(suggestion.auxiliary.X / scale)
    distance = np.median(nearest.kneighbors(anomalies[10:] / scale)[0])
    print(f"{name}: half of the held-back anomalies have one of its rows within {distance:.2f} standard deviations")

more = ranking[0].fitted.sample(500, ranking[0].strength, random_state=1)
print(f"\n{len(more)} more rows like the best batch: array of shape {more.X.shape}")
