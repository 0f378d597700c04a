"""Run the peers of `aupro.py` in an environment of their own and print their CPU seconds and values as JSON.

    PEER_PYTHON aupro_peer.py GIVEN.npz REPEATS

torchvision, which anomalib imports, asks for two operators that its build without CUDA lacks; they are declared,
never called. adeval calls `np.trapz`, which NumPy 2 renamed.
"""

import json
import sys
import time

import numpy as np
import torch

torch.set_num_threads(1)
library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
vars(np)["trapz"] = np.trapezoid

import adeval
from anomalib.metrics.aupro import _AUPRO


def cpu(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return {"seconds": float(np.median(times)), "values": [float(value) for value in np.atleast_1d(result)]}


def main(given, repeats):
    with np.load(given) as file:
        masks, maps = file["masks"], file["maps"]
    scores, targets, bytes_of = torch.from_numpy(maps), torch.from_numpy(masks).int(), masks.astype(np.uint8)

    def anomalib():
        metric = _AUPRO()
        metric.update(scores, targets)
        return metric.compute()

    metric = _AUPRO()
    metric.update(scores, targets)
    regions = metric.perform_cca()

    def curve():
        fpr, pro = metric.compute_pro(regions, scores)
        return torch.trapezoid(pro, fpr) / fpr[-1]

    run = {
        "anomalib": anomalib,
        "anomalib's curve, regions given": curve,
        "adeval": lambda: adeval.auroc_aupr_aupro(maps, bytes_of),
    }
    print(json.dumps({name: cpu(function, int(repeats)) for name, function in run.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
