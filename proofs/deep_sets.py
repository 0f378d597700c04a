"""Deep Sets on sums of digits, entropies, odd digits, proportions and point clouds, with what must fail beside it.

    python proofs/deep_sets.py       a quarter of an hour on one idle core; resumes where it was stopped

The point clouds need the data folder that ASSAY_DATA names.
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

from assay.core.sets import as_sets, padded_sets
from assay.datasets.simulators.sets import digit_sums, odd_digits, population_statistics, proportion_bags
from assay.detectors.sets.deep_sets import OneClassSets, SetClassifier
from assay.detectors.sets.odd_one_out import OddOneOut, shuffled
from assay.detectors.sets.pointwise import MeanMemberDistance
from assay.detectors.tabular.gaussian import Mahalanobis
from assay.embedders.sets import RandomDeepSets, SetStatistics
from assay.generators.sets import ProportionShift
from assay.metrics.ranking import roc_auc
from assay.nn.sets import Members, SetEncoder, blocks, descend, tensors
from tables import DATA, resumed, write

SEEDS = range(3)


# -- networks and training that only proofs and tests need -----------------------------------------------------------


class DigitSum(nn.Module):
    """The published network for digits as text: embedding 100, dense 30 with tanh, pool, linear."""

    def __init__(self, pooling="sum"):
        super().__init__()
        self.embed = nn.Linear(9, 100, bias=False)
        self.rest = SetEncoder(100, 1, (30,), (), pooling, activation="tanh")

    def forward(self, X, mask):
        return self.rest(self.embed(X), mask)


class Recurrent(nn.Module):
    """The control: a GRU of width 50 over the members in the order they come in."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(9, 100, bias=False)
        self.gru = nn.GRU(100, 50, batch_first=True)
        self.last = nn.Linear(50, 1)

    def forward(self, X, mask):
        outputs = self.gru(self.embed(X))[0]
        return self.last(outputs[torch.arange(len(X)), mask.sum(dim=1) - 1])


class OfTheMean(nn.Module):
    """The control: a network on the mean of the members."""

    def __init__(self, d_in):
        super().__init__()
        self.rest = nn.Sequential(nn.Linear(d_in, 50), nn.ELU(), nn.Linear(50, 30), nn.ELU(), nn.Linear(30, 1))

    def forward(self, X, mask):
        return self.rest((X * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))


class PerElement(nn.Module):
    """The control: as wide as the equivariant network, without any sight of the others."""

    def __init__(self, d_in):
        super().__init__()
        self.layers = Members(d_in, (256, 128), dropout=0.5)
        self.last = nn.Linear(128, 1)

    def forward(self, X, mask):
        return self.last(self.layers(X, mask))[..., 0]


class Dense(nn.Module):
    """The control: dense layers over all members in a row, which do not know that order means nothing."""

    def __init__(self, d_in, size):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(d_in * size, 256), nn.ELU(), nn.Dropout(0.5), nn.Linear(256, 128), nn.ELU(), nn.Linear(128, size)
        )

    def forward(self, X, mask):
        return self.layers(X.flatten(1))


def outputs(network, X):
    """Return a network's first output for each set."""
    X, found = as_sets(X), np.empty(len(X))
    with torch.inference_mode():
        for rows in blocks(X.sizes):
            found[rows] = network(*tensors(X[rows]))[:, 0].numpy()
    return found


def regress(make, X, y, seed, epochs, learning_rate=1e-3, loss=F.mse_loss, batch_size=128):
    """Return a network trained on all but a tenth of the sets; the best of ten stretches on that tenth is kept."""
    X, rng = as_sets(X), np.random.default_rng(seed)
    torch.manual_seed(seed)
    network, best, kept = make(), np.inf, None
    train, held = np.split(rng.permutation(len(X)), [len(X) - len(X) // 10])
    centre, scale = y[train].mean(), y[train].std()
    target = torch.from_numpy(((y - centre) / scale).astype(np.float32))
    for stretch in range(10):
        descend(
            network,
            len(train),
            lambda rows: loss(network(*tensors(X[train[rows]]))[:, 0], target[train[rows]]),
            rng,
            epochs=epochs // 10,
            batch_size=batch_size,
            learning_rate=learning_rate * 0.7**stretch,
        )
        error = np.abs(outputs(network, X[held]) - target[held].numpy()).mean()
        if error < best:
            best, kept = error, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(kept)
    return lambda sets: outputs(network, sets) * scale + centre


def tag(make, drawn, seed, epochs=20):
    """Return a member network trained by softmax on shuffled sets of one size."""
    torch.manual_seed(seed)
    rng, network = np.random.default_rng(seed), make()
    table, mask = padded_sets(as_sets(drawn.X))
    odd = np.eye(table.shape[1], dtype=bool)[drawn.odd]

    def loss_of(rows):
        X, marks, found = shuffled(table[rows], mask[rows], odd[rows], rng)
        logits = network(torch.from_numpy(X.astype(np.float32)), torch.from_numpy(marks))
        return F.cross_entropy(logits, torch.from_numpy(found.argmax(axis=1)))

    descend(network, len(table), loss_of, rng, epochs=epochs, batch_size=16, learning_rate=1e-3)

    def places(X):
        with torch.inference_mode():
            return network(*tensors(as_sets(X))).argmax(dim=1).numpy()

    return places


# -- what is measured -------------------------------------------------------------------------------------------------


def digits(seed):
    train = digit_sums(20_000, random_state=seed)
    found = {}
    for name, make in (
        ("φ/ρ, sum", DigitSum),
        ("φ/ρ, mean", lambda: DigitSum("mean")),
        ("GRU", Recurrent),
    ):
        predict = regress(make, train.X, train.y, seed, epochs=40, learning_rate=3e-3, loss=F.l1_loss)
        for size in (10, 50, 100):
            test = digit_sums(500, size, size, random_state=1000 + seed)
            error = np.abs(predict(test.X) - test.y)
            found[f"digit sum, MAE at {size}", name] = error.mean()
            found[f"digit sum, exact at {size}", name] = (error < 0.5).mean()
    return pairs(found)


def entropies(seed):
    found = {}
    for task in ("rotation",):
        drawn = population_statistics(task, 1536, 128, random_state=seed)
        X, y, fresh, truth = drawn.X[:1024], drawn.target[:1024], drawn.X[1024:], drawn.target[1024:]
        d = X.shape[2]
        for name, make in (
            ("φ/ρ, sum", lambda d=d: SetEncoder(d)),
            ("network on the mean", lambda d=d: OfTheMean(d)),
        ):
            predicted = regress(make, X, y, seed, epochs=40, batch_size=64)(fresh)
            found[f"{task}, error / variance", name] = np.square(predicted - truth).mean() / truth.var()
    return pairs(found)


def odd_ones(seed, size=8):
    drawn = odd_digits(1000, size, random_state=seed)
    tests = {part: odd_digits(400, size, part, random_state=1000 + seed) for part in ("seen", "unseen")}
    # Normal sets: what is left without the odd one.
    normal = [np.delete(X, place, axis=0) for X, place in zip(drawn.X, drawn.odd)]
    labelled = OddOneOut("softmax", batch_size=16, random_state=seed).fit_members(
        drawn.X, np.eye(size, dtype=int)[drawn.odd]
    )
    alone = OddOneOut("softmax", batch_size=16, random_state=seed).fit(normal)
    methods = {
        "OddOneOut, labelled members": lambda X: [np.argmax(one) for one in labelled.anomaly_map(X)],
        "OddOneOut, no labels": lambda X: [np.argmax(one) for one in alone.anomaly_map(X)],
        "network without the others": tag(lambda: PerElement(64), drawn, seed),
        "dense network on all": tag(lambda: Dense(64, size), drawn, seed),
        "distance to the set's mean": lambda X: np.square(X - X.mean(axis=1, keepdims=True)).sum(axis=2).argmax(axis=1),
    }
    found = {
        (f"odd digit, {part} digits, top 1", name): np.mean(np.asarray(places(test.X)) == test.odd)
        for part, test in tests.items()
        for name, places in methods.items()
    }
    for part, test in tests.items():
        ranked = test.digits.argmax(axis=1)
        found[f"odd digit, {part} digits, top 1", "the largest digit, by its label"] = np.mean(ranked == test.odd)
    return pairs(found)


def proportions(seed):
    train, test = proportion_bags(400, 0, random_state=seed), proportion_bags(300, 300, random_state=1000 + seed)
    both = proportion_bags(200, 200, random_state=2000 + seed)
    auxiliary = ProportionShift(random_state=seed).fit(train.X).sample(400)
    shown = [*train.X, *auxiliary.X], np.repeat([0, 1], 400)
    trained = [SetClassifier(epochs=40, batch_size=64, random_state=seed) for _ in range(2)]
    scores = {
        "OneClassSets": OneClassSets(random_state=seed).fit(train.X).anomaly_score,
        "OneClassSets, untrained": OneClassSets(epochs=0, random_state=seed).fit(train.X).anomaly_score,
        "OneClassSets, not whitened": OneClassSets(whiten=False, random_state=seed).fit(train.X).anomaly_score,
        "SetClassifier, labelled sets": trained[0].fit(both.X, both.y).anomaly_score,
        "SetClassifier, auxiliary sets": trained[1].fit(*shown).anomaly_score,
        "MeanMemberDistance": MeanMemberDistance().fit(train.X).anomaly_score,
    }
    for name, embedder in (("SetStatistics", SetStatistics()), ("RandomDeepSets", RandomDeepSets(32, random_state=0))):
        rows = embedder.fit(train.X)
        judge = Mahalanobis().fit(rows.transform(train.X))
        scores[f"{name}, Mahalanobis"] = lambda X, rows=rows, judge=judge: judge.anomaly_score(rows.transform(X))
    return pairs({("proportions, AUROC", name): roc_auc(test.y, score(test.X)) for name, score in scores.items()})


def clouds(seed):
    rng = np.random.default_rng(seed)
    sets, y = [], []
    for label, name in enumerate(("chair", "monitor")):
        points = np.load(DATA / "pointclouds" / "modelnet10" / f"{name}.npz")["points"].astype(np.float64)
        for cloud in points:
            sets.append(cloud[rng.choice(len(cloud), int(rng.integers(100, 501)), replace=False)])
            y.append(label)
    y, order = np.array(y), rng.permutation(len(sets))
    train, test = order[:280], order[280:]
    found = {}
    for kind in ("as they are", "standardised"):
        if kind == "standardised":
            sets = [(one - one.mean(axis=0)) / one.std(axis=0) for one in sets]
        X, fresh = [sets[row] for row in train], [sets[row] for row in test]
        equivariant = {"layers": "equivariant", "phi": (64, 64, 64), "rho": (64,), "pooling": "max"}
        plain = make_pipeline(StandardScaler(), LogisticRegression())
        rows = np.array([np.concatenate([one.mean(axis=0), one.std(axis=0)]) for one in sets])
        statistics = SetStatistics().fit(X)
        scores = {
            "SetClassifier, equivariant, max": SetClassifier(
                **equivariant, activation="tanh", dropout=0.5, epochs=20, batch_size=32, random_state=seed
            )
            .fit(X, y[train])
            .anomaly_score(fresh),
            "SetClassifier, φ/ρ, mean": SetClassifier(pooling="mean", epochs=20, batch_size=32, random_state=seed)
            .fit(X, y[train])
            .anomaly_score(fresh),
            "mean and deviation, logistic": plain.fit(rows[train], y[train]).decision_function(rows[test]),
            "SetStatistics, logistic": plain.fit(statistics.transform(X), y[train]).decision_function(
                statistics.transform(fresh)
            ),
        }
        for name, score in scores.items():
            found[f"chair or monitor, {kind}, AUROC", name] = roc_auc(y[test], score)
            found[f"chair or monitor, {kind}, accuracy", name] = np.mean((score > 0) == y[test])
    return pairs(found)


def pairs(found):
    """Return figures as a list, which JSON can hold."""
    return [[task, method, float(value)] for (task, method), value in found.items()]


NOTES = f"""
Mean ± standard deviation over {len(SEEDS)} seeds of data and networks.

Digit sum: 20 000 sets of 1 to 10 digits in training, all of the given size in the test; exact is an error below ½.
Rotation: 1024 sets of 128 points, entropy of the first coordinate of the Gaussian they come from; error / variance is
1 for a constant. Odd digit: sets of 8 handwritten digits, 1000 in training, chance .125; training shows
digits 0 to 6, "unseen" are sets of 7, 8 and 9 alone; "no labels" sees sets without an odd one. Any fixed order of the
digits is right in half of the sets, without a look at the others: the last line. Proportions: bags of
50 points around the corners of a square, 400 normal ones in training; odd bags prefer a diagonal. "Labelled" has
200 of each kind. Chair or monitor: ModelNet10, 280 clouds in training, 120 in the test, 100 to 500 points each; monitor
counts as the anomaly; "standardised": each cloud by itself, mean 0 and deviation 1 in each coordinate.
"""


def main():
    torch.set_num_threads(1)
    parts = [digits, entropies, odd_ones, proportions]
    real = (DATA / "pointclouds" / "modelnet10").is_dir()
    parts += [clouds] if real else []
    found = {}
    for part in parts:
        for seed in SEEDS:
            for task, method, value in resumed(f"deep_sets/{part.__name__}_{seed}", part, seed):
                found.setdefault((task, method), []).append(value)
    rows = [[*key, f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"] for key, values in found.items()]
    data = "simulated, scikit-learn's digits" + (", ModelNet10 chairs and monitors" if real else "")
    write("deep_sets", "Deep Sets and what must fail beside it", ["task", "method", "value"], rows, NOTES, data)


if __name__ == "__main__":
    main()
