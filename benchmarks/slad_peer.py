"""Run DeepOD's deep detectors in an environment of their own and keep their CPU seconds and scores.

    PEER_PYTHON slad_peer.py NAME[,NAME…] EPOCHS GIVEN.npz OUT.npz

GIVEN holds scaled `train_SEED` and `test_SEED`; OUT gets for each `NAME_SEED` the scores, and the CPU seconds of fit
and scoring as `NAME_SEED_seconds`. At the end of `fit` DeepOD scores the training rows; that is left out.
"""

import sys
import time

import numpy as np
import torch

torch.set_num_threads(1)

from deepod.models import tabular


def main(names, epochs, given, out):
    with np.load(given) as file:
        tables = dict(file)
    found = {}
    for seed in sorted({int(key.split("_")[1]) for key in tables}):
        for name in names.split(","):
            model = getattr(tabular, name)(epochs=int(epochs), device="cpu", verbose=0, random_state=seed)
            decide = model.decision_function
            model.decision_function = lambda X, return_rep=False: np.zeros(len(X))
            start = time.process_time()
            model.fit(tables[f"train_{seed}"])
            middle = time.process_time()
            found[f"{name}_{seed}"] = np.asarray(decide(tables[f"test_{seed}"]), dtype=np.float64)
            found[f"{name}_{seed}_seconds"] = np.array([middle - start, time.process_time() - middle])
    np.savez(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
