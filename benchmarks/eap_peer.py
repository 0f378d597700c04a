"""Run the reference implementation of EAP on one pool and print its seconds and its scores: the peer of `eap.py`.

It runs in an environment of its own (torch, pyod, anomatools), on a checkout of the authors' repository:

    PEER_PYTHON eap_peer.py CHECKOUT POOL.npz OUT.npz [SUBSETS]

Nothing of the checkout is kept here. Only its estimator is used: the rest of the package (data loaders,
network models) is left out by standing in for the base classes it imports.
"""

import sys
import time
import types
from pathlib import Path

import numpy as np


class _Evaluator:
    pass


class _Models:
    pass


class Bridge:
    """What the reference calls a model: clone, fit, predict P(Y = 1) as a tensor."""

    def __init__(self, contamination):
        self.contamination = contamination

    def clone(self):
        return Bridge(self.contamination)

    def fit(self, X, y):
        from anomatools.models import SSDO
        from anomatools.models.scalers._scalers import SquashScaler
        from pyod.models.iforest import IForest

        class Forest:
            def __init__(self):
                self.model = IForest(random_state=1)

            def fit(self, X, sample_weight=None):
                self.model.fit(X)

            def predict_proba(self, X):
                return self.model.predict_proba(X)

        self.model = SSDO(k=5, scaler=SquashScaler(contamination=self.contamination), base_detector=Forest())
        self.model.fit(X, y)

    def predict(self, X):
        import torch

        return torch.from_numpy(self.model.predict_proba(X.numpy())[:, 1])


def main(checkout, pool, out, subsets=100):
    import torch

    torch.set_num_threads(1)
    api = types.ModuleType("opendataval.dataval.api")
    api.DataEvaluator, api.ModelMixin = _Evaluator, _Models
    for name in ("opendataval", "opendataval.dataval", "opendataval.dataval.uncertainty"):
        package = types.ModuleType(name)
        package.__path__ = [str(Path(checkout, *name.split(".")))]
        sys.modules[name] = package
    sys.modules["opendataval.dataval.api"] = api
    # Imported at the top of its distance module and used by none of its distances.
    for name in ("torchvision", "torchvision.models", "torchvision.transforms"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision"].models = sys.modules["torchvision.models"]
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    from opendataval.dataval.uncertainty.EAP import EAP

    data = np.load(pool)
    X, y = data["X_train"], np.where(data["y_train"] == 1, 1, -1)
    aux = torch.from_numpy(data["X_aux"])
    evaluator = EAP(num_subsets=int(subsets), random_state=331, device=torch.device("cpu"))
    evaluator.verbose = False
    evaluator.pred_model = Bridge(float((y == 1).mean()))
    evaluator.input_data(torch.from_numpy(X), torch.from_numpy(y), aux, torch.ones(len(aux)), None, None, None)
    start = time.process_time()
    evaluator.train_data_values()
    seconds = time.process_time() - start
    np.savez(out, quality=evaluator.evaluate_data_values(), seconds=seconds)
    print(f"{seconds:.2f} CPU seconds")


if __name__ == "__main__":
    main(*sys.argv[1:])
