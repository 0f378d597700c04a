"""Run the peer of `efficientad.py` in an environment of its own: the map as a file, CPU seconds as JSON.

    PEER_PYTHON efficientad_peer.py GIVEN.npz MAP.npy REPEATS

torchvision, which anomalib imports, asks for two operators that its build without CUDA lacks; they are declared,
never called.
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

from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel


def cpu(function, repeats):
    """Return the median CPU seconds and the result, the first call aside."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def main(given, answer, repeats):
    with np.load(given) as file:
        arrays = {name: torch.from_numpy(file[name]) for name in file.files}
    model = EfficientAdModel().eval()
    for part, network in (("teacher", model.teacher), ("student", model.student), ("autoencoder", model.ae)):
        # Both have their layers in the paper's order.
        ours = [array for name, array in arrays.items() if name.startswith(f"{part}.")]
        network.load_state_dict(dict(zip(network.state_dict(), ours, strict=True)))
    for name in ("mean", "std"):
        model.mean_std[name].data = arrays[name].float()[None, :, None, None]
    for branch, (low, high) in zip(("st", "ae"), arrays["quantiles"].float()):
        model.quantiles[f"qa_{branch}"].data, model.quantiles[f"qb_{branch}"].data = low, high
    image = arrays["image"]

    def scored():
        return model(image.permute(0, 3, 1, 2).contiguous().float() / 255).anomaly_map[:, 0]

    found = {}
    with torch.inference_mode():
        found["as it comes"], maps = cpu(scored, int(repeats))
        np.save(answer, maps.numpy())
        model.to(memory_format=torch.channels_last)
        found["weights channels last"], _ = cpu(scored, int(repeats))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
