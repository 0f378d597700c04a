"""Run the peers of `coreset.py` in an environment of their own and keep their CPU seconds and results.

    PEER_PYTHON coreset_peer.py KIND GIVEN.npz OUT.npz REPEATS

torchvision, which anomalib imports, asks for two operators that its build without CUDA lacks; they are declared,
never called.
"""

import sys
import time

import numpy as np
import torch

torch.set_num_threads(1)
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from anomalib.models.components import KCenterGreedy
from anomalib.models.image.patchcore.torch_model import PatchcoreModel


def greedy(X, picks):
    """The loop alone: a third axis keeps the class from projecting the rows."""
    rows = torch.from_numpy(X)[:, :, None]

    def run():
        torch.manual_seed(0)
        return np.array(KCenterGreedy(rows, (int(picks) + 0.5) / len(rows)).select_coreset_idxs())

    return run


def anomalib(queries, bank):
    """Norms expanded, all distances held, then the smallest of each row."""
    rows, elements = torch.from_numpy(queries), torch.from_numpy(bank)

    def run():
        return PatchcoreModel.euclidean_dist(rows, elements).min(1).values.numpy()

    return run


def cdist(queries, bank):
    """torch's distances, all held, then the smallest of each row."""
    rows, elements = torch.from_numpy(queries), torch.from_numpy(bank)

    def run():
        return torch.cdist(rows, elements).min(1).values.numpy()

    return run


def main(kind, given, out, repeats):
    with np.load(given) as file:
        run = {"greedy": greedy, "anomalib": anomalib, "torch.cdist": cdist}[kind](**file)
    times = []
    for _ in range(int(repeats)):
        start = time.process_time()
        result = run()
        times.append(time.process_time() - start)
    np.savez(out, seconds=np.median(times), result=result)


if __name__ == "__main__":
    main(*sys.argv[1:])
