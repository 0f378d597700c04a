"""Run a peer of `rivals.py` in an environment of its own and keep its CPU seconds and its values.

    PEER_PYTHON rivals_peer.py KIND CHECKOUT GIVEN.npz OUT.npz

Nothing of the checkout is kept here. Of the reference implementation only the estimator is used: the rest of
the package (data loaders, network models) is left out by standing in for the base classes it imports.
"""

import sys
import time
import types
from pathlib import Path

import numpy as np
import torch

REPEATS = 3


class _Evaluator:
    def __init_subclass__(cls, **options):
        pass

    def embeddings(self, *tables):
        return tables

    def input_model_metric(self, model, metric):
        self.pred_model, self.metric = model, metric
        return self

    def evaluate(self, y, q, metric):
        y, flagged = y.reshape(-1) == 1, q.reshape(-1) > 0.5
        return float(2 * (y & flagged).sum() / max(int(y.sum() + flagged.sum()), 1))


class _Models:
    pass


def _estimator(checkout, package, name, module=None):
    """Import an estimator of the checkout without the rest of its package."""
    module = module or package
    # Imported at the top of a module and used by none of its estimators.
    for unused in ("torcheval", "torcheval.metrics", "torcheval.metrics.functional"):
        sys.modules.setdefault(unused, types.ModuleType(unused))
    sys.modules["torcheval.metrics.functional"].auc = None
    parts = {
        "opendataval.dataval.api": {"DataEvaluator": _Evaluator, "ModelLessMixin": _Models, "ModelMixin": _Models},
        "opendataval.model.api": {"Model": _Models},
        "opendataval.dataval.margcontrib.shap": {"ShapEvaluator": _Models},
    }
    for part, holds in parts.items():
        sys.modules[part] = types.ModuleType(part)
        vars(sys.modules[part]).update(holds)
    for folder in ("opendataval", "opendataval.model", "opendataval.dataval", f"opendataval.dataval.{package}"):
        stand_in = types.ModuleType(folder)
        stand_in.__path__ = [str(Path(checkout, *folder.split(".")))]
        sys.modules[folder] = stand_in
    return getattr(__import__(f"opendataval.dataval.{package}.{module}", fromlist=[name]), name)


def newcomers(checkout, X, y, aux, k):
    """KNN-Shapley of rows that join alone: the reference implementation's."""
    evaluator = _estimator(checkout, "knnshap", "KNNShapley")(k_neighbors=int(k), device=torch.device("cpu"))
    evaluator.verbose = False
    evaluator.x_train, evaluator.y_train = torch.from_numpy(X).float(), torch.from_numpy(y)
    evaluator.x_fakes, evaluator.y_fakes = torch.from_numpy(aux).float(), torch.ones(len(aux), dtype=torch.int64)
    return 1, lambda: evaluator.train_data_values() and evaluator.evaluate_data_values()


def validation(checkout, X, y, valid, label, k):
    """KNN-Shapley of training rows on validation rows: OpenDataVal's algorithm with its costs.

    Distances in batches of 32 rows by 32, labels in two columns that are compared anew at each rank, validation
    rows numbered by a range.
    """
    k, every = int(k), range(len(valid))
    X, valid = (torch.from_numpy(rows).float() for rows in (X, valid))
    y, label = (torch.nn.functional.one_hot(torch.from_numpy(labels)) for labels in (y, label))

    def batches(rows):
        return torch.utils.data.DataLoader(rows, batch_size=32)

    def values():
        distances = torch.cat([torch.cat([torch.cdist(a, b) for b in batches(valid)], dim=1) for a in batches(X)])
        order = torch.argsort(distances, dim=0, stable=True)
        ranked = y[order]

        def same(rank):
            return (ranked[rank] == label).all(dim=1).float()

        last, score = len(X) - 1, torch.zeros_like(distances)
        score[order[last], every] = same(last) / len(X)
        for i in reversed(range(last)):
            change = (same(i) - same(i + 1)) * (min(k, i + 1) / (k * (i + 1)))
            score[order[i], every] = score[order[i + 1], every] + change
        return score.mean(dim=1).numpy()

    return REPEATS, values


def validation_tidied(checkout, X, y, valid, label, k):
    """The same algorithm with the avoidable costs left out: no batches, labels compared once, tensors as indices."""
    k, n, every = int(k), len(X), torch.arange(len(valid))
    X, y, valid, label = (torch.from_numpy(array) for array in (X, y, valid, label))

    def values():
        order = torch.argsort(torch.cdist(X.float(), valid.float()), dim=0, stable=True)
        same = (y[order] == label).float()
        score = torch.zeros(n, len(valid))
        score[order[n - 1], every] = same[n - 1] / n
        for i in range(n - 2, -1, -1):
            change = (same[i] - same[i + 1]) * (min(k, i + 1) / (k * (i + 1)))
            score[order[i], every] = score[order[i + 1], every] + change
        return score.mean(dim=1).numpy()

    return REPEATS, values


def _with_detectors(estimator, X, y, aux, models):
    """Run an estimator that fits detectors: SSDO over an isolation forest, as in the reference experiments."""
    from eap_peer import Bridge

    evaluator = estimator(num_models=int(models), device=torch.device("cpu"))
    evaluator.input_model_metric(Bridge(float(y.mean())), "f1")
    evaluator.verbose = False
    given = torch.from_numpy(X), torch.from_numpy(np.where(y == 1, 1, -1)), torch.from_numpy(aux)
    more = torch.ones(len(aux), dtype=torch.int64), None, None, None
    names = ("x_train", "y_train", "x_fakes", "y_fakes", "y_fake_true_label", "x_test", "y_test")
    vars(evaluator).update(zip(names, (*given, *more)))
    if hasattr(evaluator, "input_data"):
        evaluator.input_data(*given, *more)

    def run():
        values = evaluator.train_data_values() and evaluator.evaluate_data_values()
        return np.asarray(values)

    return 1, run


def data_oob(checkout, X, y, aux, models):
    """Data-OOB: the reference implementation's."""
    return _with_detectors(_estimator(checkout, "oob", "DataOob"), X, y, aux, models)


def data_banzhaf(checkout, X, y, aux, models):
    """Data Banzhaf: the reference implementation's."""
    return _with_detectors(_estimator(checkout, "margcontrib", "DataBanzhaf", "banzhaf"), X, y, aux, models)


def average_marginal_effect(checkout, X, y, aux, models):
    """AME: the reference implementation's."""
    return _with_detectors(_estimator(checkout, "ame", "AME"), X, y, aux, models)


_ALL = (newcomers, validation, validation_tidied, data_oob, data_banzhaf, average_marginal_effect)
PEERS = {peer.__name__: peer for peer in _ALL}


def main(kind, checkout, given, out):
    torch.set_num_threads(1)
    with np.load(given) as arrays:
        repeats, run = PEERS[kind](checkout, **arrays)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        values = run()
        times.append(time.process_time() - start)
    np.savez(out, values=values, seconds=np.median(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
