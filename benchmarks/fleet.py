"""Training 100 nodes as stacks of networks against one by one, and scoring one row: CPU time of one thread."""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs")]

from assay.datasets.simulators.fleet import fleet
from assay.detectors.series.fleet import Fleet
from assay.detectors.series.hpc_autoencoder import HPCAutoencoder, fit_together
from tables import write

NODES, ROWS, EPOCHS, BATCH = 100, 1280, 2, 64
REPEATS = 3


def cpu(function, repeats=REPEATS):
    """Return the median CPU seconds of a call."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return float(np.median(seconds))


def tables(width):
    """Return one table a node, of sensors that follow a few causes."""
    rng = np.random.default_rng(0)
    causes = rng.random((NODES, ROWS, 5))
    return list(causes @ rng.normal(size=(NODES, 5, width)) + rng.normal(scale=0.02, size=(NODES, ROWS, width)))


def models():
    return [HPCAutoencoder(epochs=EPOCHS, batch_size=BATCH, random_state=i) for i in range(NODES)]


def together(data):
    fit_together(models(), data, [None] * NODES)


def one_by_one(data):
    for model, table in zip(models(), data):
        model.fit(table)


def torch_loop(data):
    """Train as one would write it in torch: a Sequential, Adam, batches."""
    for table in data:
        low, high = table.min(axis=0), table.max(axis=0)
        rows = torch.from_numpy(((table - low) / (high - low)).astype(np.float32))
        width = rows.shape[1]
        net = nn.Sequential(nn.Linear(width, 10 * width), nn.ReLU(), nn.Linear(10 * width, width))
        adam = torch.optim.Adam(net.parameters())
        for _ in range(EPOCHS):
            for batch in rows[torch.randperm(len(rows))].split(BATCH):
                hidden = net[1](net[0](batch))
                loss = (net[2](hidden) - batch).abs().mean() + 1e-5 * hidden.sum()
                adam.zero_grad()
                loss.backward()
                adam.step()


def torch_stack(data):
    """Train all nodes as one torch network of batched products, all of them at once."""
    rows = np.stack([(table - table.min(axis=0)) / np.ptp(table, axis=0) for table in data]).astype(np.float32)
    rows, width = torch.from_numpy(rows), rows.shape[2]
    shapes = (NODES, width, 10 * width), (NODES, 1, 10 * width), (NODES, 10 * width, width), (NODES, 1, width)
    W, b, V, c = weights = [(0.1 * torch.randn(shape)).requires_grad_() for shape in shapes]
    adam = torch.optim.Adam(weights, fused=True)
    for _ in range(EPOCHS):
        for batch in rows.split(BATCH, dim=1):
            hidden = torch.relu(torch.baddbmm(b, batch, W))
            loss = (torch.baddbmm(c, hidden, V) - batch).abs().mean(dim=(1, 2)).sum() + 1e-5 * hidden.sum()
            adam.zero_grad()
            loss.backward()
            adam.step()


def training():
    for width in (8, 20, 40):
        data = tables(width)
        steps = NODES * EPOCHS * ROWS // BATCH
        seconds = {name: cpu(lambda: how(data)) for name, how in WAYS.items()}  # noqa: B023
        ours = seconds["together"]
        # Five products of B · C · H multiplications and additions each.
        flops = steps * 5 * 2 * BATCH * width * 10 * width
        for name, value in seconds.items():
            yield [
                f"training, {width} sensors: {name}",
                f"{1000 * value / steps:.3f} ms a step",
                f"{value / ours:.1f} ×",
                f"{100 * flops / value / ROOF:.0f} %",
            ]


WAYS = {
    "together": together,
    "one by one": one_by_one,
    "torch, one by one": torch_loop,
    "torch, one stack": torch_stack,
}


def roof():
    """Return the rate of a large product, in multiplications and additions a second."""
    a = np.random.default_rng(0).random((1500, 1500), dtype=np.float32)
    return 2 * 1500**3 / min(cpu(lambda: a @ a, 1) for _ in range(5))


def scoring():
    for width in (40, 166):
        rng = np.random.default_rng(0)
        model = HPCAutoencoder(epochs=1, random_state=0).fit(rng.random((500, width)))
        row, rows = rng.random((1, width)), rng.random((20_000, width))
        one = cpu(lambda: [model.anomaly_score(row) for _ in range(200)]) / 200  # noqa: B023
        many = cpu(lambda: model.anomaly_score(rows)) / len(rows)  # noqa: B023
        yield [f"scoring one row alone, {width} sensors", f"{1e6 * one:.0f} µs", "", ""]
        yield [f"scoring 20,000 rows, {width} sensors", f"{1e6 * many:.1f} µs a row", "", ""]
    frame = pa.table(fleet(2, 10, 40, test_share=0, random_state=0).columns())
    model, row = Fleet(HPCAutoencoder(epochs=1), random_state=0).fit(frame), frame.slice(1000, 1)
    one = cpu(lambda: [model.score(row) for _ in range(50)]) / 50
    yield ["a fleet scoring a dataframe of one row, 40 sensors", f"{1e6 * one:.0f} µs", "", ""]


if __name__ == "__main__":
    torch.set_num_threads(1)
    ROOF = roof()
    rows = [*training(), *scoring()]
    notes = (
        f"{NODES} nodes, {ROWS} rows each, {EPOCHS} epochs in batches of {BATCH}, medians of {REPEATS}. A step is one "
        "batch of one node. Stacks hold as many nodes as the cache does; one by one is the same code, a node at a "
        "time. Batching saves what a call costs beside its arithmetic: of 40 sensors, hardly anything. The last column "
        "is the share of the rate at which this core multiplies two large float32 matrices."
    )
    write(
        "benchmark_fleet",
        "Speed of a fleet of autoencoders",
        ["what", "CPU time", "against together", "of the roof"],
        rows,
        notes,
        "simulated",
    )
