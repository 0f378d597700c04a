"""EAP on images: any transformer that makes rows of numbers carries it to any kind of data.

Normal: the handwritten digits 0 to 4; anomalies: 5 to 9, ten of them known. Prints the mean quality of four kinds of
candidates and how many of each are judged realistic. The last kind shows the limit: what the embedding throws away,
EAP cannot see.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.preprocessing import FunctionTransformer

from assay import ExpectedAnomalyPosterior, Pipeline


def flatten(images):
    return images.reshape(len(images), -1)


rng = np.random.default_rng(0)
digits = load_digits()
normal = rng.permutation(digits.images[digits.target <= 4])
anomalous = rng.permutation(digits.images[digits.target >= 5])

judge = Pipeline(
    [
        ("flatten", FunctionTransformer(flatten)),
        ("embed", PCA(20, random_state=0)),
        ("eap", ExpectedAnomalyPosterior(n_subsets=30, random_state=0)),
    ]
)
judge.fit(np.concatenate([normal[:500], anomalous[:10]]), np.repeat([0, 1], [500, 10]))

candidates = {
    "digits 5 to 9": anomalous[10:110],
    "digits 0 to 4": normal[500:600],
    "inverted digits": 16 - anomalous[110:210],
    "shuffled pixels": rng.permuted(flatten(anomalous[210:310]), axis=1).reshape(100, 8, 8),
}
print(f"prior {judge[-1].prior_[0]:.3f}")
for name, images in candidates.items():
    realistic = judge.select(images, rule="verdict")
    print(f"{name:16} mean quality {judge.quality(images).mean():.3f}, realistic {realistic.sum()} of {len(images)}")
