"""EAP on images: any transformer that makes rows of numbers carries it to any kind of data.

Normal: the handwritten digits 0 to 4; anomalies: 5 to 9, ten of them known. Prints the mean quality of three
kinds of candidates: other digits 5 to 9, further normal digits, and shuffled pixels.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from assay import ExpectedAnomalyPosterior, Pipeline

rng = np.random.default_rng(0)
digits = load_digits()
images, is_anomaly = digits.images, digits.target >= 5
normal, anomalous = rng.permutation(images[~is_anomaly]), rng.permutation(images[is_anomaly])

judge = Pipeline(
    [
        ("flatten", FunctionTransformer(lambda batch: batch.reshape(len(batch), -1))),
        ("embed", PCA(20, random_state=0)),
        ("eap", ExpectedAnomalyPosterior(n_subsets=30, random_state=0)),
    ]
)
judge.fit(np.concatenate([normal[:500], anomalous[:10]]), np.repeat([0, 1], [500, 10]))

candidates = {
    "digits 5 to 9": anomalous[10:110],
    "digits 0 to 4": normal[500:600],
    "shuffled pixels": rng.permuted(anomalous[110:210].reshape(100, 64), axis=1).reshape(100, 8, 8),
}
print(f"prior {judge[-1].prior_[0]:.3f}")
for name, batch in candidates.items():
    kept = judge.select(batch)
    print(f"{name:16} mean quality {judge.quality(batch).mean():.3f}, kept {kept.sum()} of {len(batch)}")
