"""Speed of EfficientAD-S at its published size, against anomalib's; and what SimpleNet's head costs.

    python benchmarks/efficientad.py          ours alone
    python benchmarks/efficientad.py PYTHON   also the peer: a Python that has anomalib

CPU seconds of one thread, one image at a time, medians. Speed does not depend on what was learned: the networks are
drawn at random, and the peer gets the same weights, so that both must give the same map.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs")]

from assay.detectors.images.efficientad import AutoEncoder, EfficientAD
from assay.detectors.images.simplenet import SimpleNet
from assay.nn.maps import full_size
from assay.nn.pdn import CHANNELS, PatchDescriptionNetwork
from assay.nn.state import arrays_of, seeded
from tables import write

REPEATS, SEED, SIZE, HEAD_SIZE = 15, 0, 256, 224
#: SimpleNet as published, but for its weights.
PUBLISHED = {"backbone": "wide_resnet50_2", "levels": ("layer2", "layer3"), "aggregate": "adaptive", "weights": None}
#: Pixels at each side that differ: the peer adds its border before the normalisation, the paper after.
EDGE = 24


def cpu(function, repeats=REPEATS):
    """Return the median CPU seconds and the result, the first call aside."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def published():
    """Return an EfficientAD-S of full width, with weights at random."""
    rng = np.random.default_rng(SEED)
    net = EfficientAD(width_mult=1.0, image_size=SIZE)
    with seeded(rng):
        net.teacher_ = arrays_of(PatchDescriptionNetwork(CHANNELS))
        net.student_ = arrays_of(PatchDescriptionNetwork(2 * CHANNELS))
        net.autoencoder_ = arrays_of(AutoEncoder(SIZE, CHANNELS))
    # Of the size of these networks' features and maps, so that a part left out would show.
    net.teacher_mean_ = rng.normal(scale=0.05, size=CHANNELS)
    net.teacher_std_ = rng.uniform(0.02, 0.1, size=CHANNELS)
    net.quantiles_ = np.array([[0.5, 2.0], [0.001, 0.004]])
    return net


def peer(python, net, image):
    """Return the peer's CPU seconds and map; None without a peer."""
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "given.npz", Path(folder) / "answer.npy"
        parts = {"teacher": net.teacher_, "student": net.student_, "autoencoder": net.autoencoder_}
        weights = {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
        learned = {"mean": net.teacher_mean_, "std": net.teacher_std_, "quantiles": net.quantiles_}
        np.savez(given, image=image, **learned, **weights)
        script = Path(__file__).with_name("efficientad_peer.py")
        command = [python, "-W", "ignore", script, given, answer, str(REPEATS)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return {**json.loads(done.stdout.splitlines()[-1]), "map": np.load(answer)}


def head(**parameters):
    """Return the CPU seconds of SimpleNet's backbone with its patch features, and of its head, for an image."""
    images = np.random.default_rng(SEED).integers(0, 256, (2, HEAD_SIZE, HEAD_SIZE, 3), dtype=np.uint8)
    net = SimpleNet(image_size=HEAD_SIZE, epochs=0, random_state=SEED, **parameters).fit(images)
    features, cells, image = net._features(), net._cells(), images[:1]
    backbone, found = cpu(lambda: features(image))
    alone, _ = cpu(lambda: cells(found))
    return backbone, alone


def main(python=None):
    torch.set_num_threads(1)
    net, image = published(), np.random.default_rng(SEED).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    with torch.inference_mode():
        scorer = net._scorer()
        ours, maps = cpu(lambda: full_size(scorer(image), (SIZE, SIZE), 0.0))
        heads = {"default": head(), "published size": head(**PUBLISHED)}
    found = peer(python, net, image)
    rows = []
    if found is None:
        rows.append(["EfficientAD-S", f"{1000 * ours:.0f}", "", "", "", ">= 1 ×"])
        difference = "not compared"
    else:
        mine, theirs = (values[:, EDGE:-EDGE, EDGE:-EDGE] for values in (maps, found["map"]))
        difference = f"{np.abs(mine - theirs).max() / np.abs(mine).max():.0e} of its largest value"
        for name, bar in (("as it comes", ">= 1 ×"), ("weights channels last", "none")):
            theirs, ratio = f"{1000 * found[name]:.0f}", f"{found[name] / ours:.2f} ×"
            rows.append(["EfficientAD-S", f"{1000 * ours:.0f}", f"anomalib, {name}", theirs, ratio, bar])
    for name, (backbone, alone) in heads.items():
        times = f"{1000 * alone:.1f}", "its backbone", f"{1000 * backbone:.1f}"
        rows.append([f"SimpleNet's head, {name}", *times, f"{100 * alone / backbone:.1f} %", "<= 10 %"])
    columns = ["workload", "Assay (ms)", "against", "that (ms)", "that / Assay; head: share", "bar"]
    data = f"noise images, {SIZE} x {SIZE} for EfficientAD, {HEAD_SIZE} x {HEAD_SIZE} for SimpleNet, seed {SEED}"
    title = "Speed of EfficientAD and of SimpleNet's head"
    write("benchmark_efficientad", title, columns, rows, NOTES.format(difference), data)


NOTES = f"""
CPU milliseconds of one thread, an image at a time, medians of {REPEATS} after one call; 8-bit pixels in, normalised map
at the image's size out. EfficientAD-S has its published width and size and weights at random, the peer the same
weights: more than {EDGE} pixels from the edge, where both have a value, the largest difference between the two maps is
{{}}.

Peer: anomalib's EfficientAD-S torch model in evaluation; "weights channels last" is the same with its weights laid out
as ours are.

SimpleNet's head is adaptor and discriminator, merged; its backbone includes the patch features. By default that is
EfficientNet-Lite0 up to stage 5 and a head of 152 x 1024; as published WideResNet50-2 up to layer 3 and 1536 x 1024.
"""


if __name__ == "__main__":
    main(*sys.argv[1:])
