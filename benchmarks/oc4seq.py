"""Speed of OC4Seq: scoring grows with the events alone, and windows come from strides, equal beginnings once.

    python benchmarks/oc4seq.py

CPU seconds of one thread, medians of 3. The scored network is untrained: what it learned does not change its speed.
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "proofs"), str(ROOT / "tests")]

from assay.core.sequences import Vocabulary, as_sequences
from assay.datasets.simulators.grammar import grammar_sequences
from assay.detectors.events.oc4seq import OC4Seq, shared, trailing_windows
from tables import write
from test_oc4seq import naive_windows

REPEATS, SEED, EVENTS = 3, 0, 20_000


def cpu(function, repeats=REPEATS):
    """Return the median CPU seconds and the result."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return float(np.median(times)), result


def main():
    torch.set_num_threads(1)
    train = grammar_sequences(2200, 0, 0, random_state=SEED).train
    line = np.concatenate(train)
    detector = OC4Seq(epochs=0, random_state=SEED).fit(train[:100])
    network, rows = detector._network(), []
    detector.anomaly_score(train[:50])  # warm up

    def add(work, base, seconds, what, bar):
        rows.append([work, f"{seconds:.3f}", what, f"{seconds / base:.2f} ×", bar])

    ends = np.cumsum([len(events) for events in train])
    for kind in ("sessions of 30 to 60 events", "one sequence"):
        base = None
        for times in (1, 2, 4):
            n = EVENTS * times
            X = [line[:n]] if kind == "one sequence" else train[: np.searchsorted(ends, n) + 1]
            seconds, _ = cpu(partial(detector.anomaly_score, X))
            base = base or seconds
            add(f"scores of {n} events, {kind}", base, seconds, f"the first {EVENTS}", f"<= {times * 1.25:g} ×")

    numbers = Vocabulary(detector.events_).numbers(as_sequences(train))
    ours, windows = cpu(lambda: trailing_windows(numbers, 7))
    twin, expected = cpu(lambda: np.array(naive_windows(numbers, 7)), repeats=1)
    assert (windows == expected).all()
    add(f"windows of {len(windows)} events by strides", ours, ours, "itself", "")
    add("the same in a loop, equal windows", ours, twin, "by strides", ">= 10 ×")

    part = windows[:EVENTS]
    ours, (l, places) = cpu(lambda: shared(network, part))
    with torch.inference_mode():
        twin, plain = cpu(lambda: network.windows(part).numpy())
    worst = np.abs(l[places] - plain).max()
    add(f"local network on {EVENTS} windows, equal beginnings once", ours, ours, "itself", "")
    add(f"the same, each window on its own, largest difference {worst:.0e}", ours, twin, "equal beginnings once", "")
    notes = f"""
CPU seconds of one thread, median of {REPEATS} (the loop's: of 1). Networks of the published size. What beginnings
spare depends on the log: the grammar has three successors a symbol.
"""
    columns = ["workload", "seconds", "compared with", "ratio", "bar"]
    write("benchmark_oc4seq", "Speed of OC4Seq", columns, rows, notes, f"simulated grammar, seed {SEED}")


if __name__ == "__main__":
    main()
