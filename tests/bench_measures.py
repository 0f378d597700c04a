"""What the tests of the benchmark engine measure: tiny, deterministic, and on request disastrous."""

import os
import signal
import time
import zlib
from pathlib import Path

import numpy as np

from assay.benchmark.engine import Skip

#: `bad`: which data sets meet `how`; `marker`: a file that makes it happen only once; `slow`: which take a minute.
OPTIONS = {"pause": 0.0, "slow": [], "bad": [], "how": "raise", "marker": "", "log": "", "weight": 0.5, "nothing": None}
VERSION = 1


def measure(trial, cell):
    options, method = trial.options, trial.methods[cell.method]
    if options["log"]:
        with open(options["log"], "a") as log:
            log.write(f"{cell.dataset} {cell.seed} {cell.method} {os.getpid()}\n")
    time.sleep(60.0 if cell.dataset in options["slow"] else options["pause"])
    if cell.dataset in options["bad"]:
        disaster(options["how"], options["marker"])
    print("this must not be seen")
    os.write(2, b"nor this")
    rng = np.random.default_rng([zlib.crc32(cell.dataset.encode()), cell.seed])
    curve = rng.random(3) * method.parameters.get("n_subsets", 100)
    return {
        "auc": float(curve.mean()),
        "rows": np.int64(rng.integers(100)),
        "found": bool(curve[0] > 0.5),
        "data_hash": f"{zlib.crc32(cell.dataset.encode()):08x}",
        "curve": curve,
        "mixed": 1 if cell.seed == 0 else 0.5,
        "own_seconds": time.process_time(),
    }


def disaster(how, marker):
    if marker:
        if Path(marker).exists():
            return
        Path(marker).touch()
    if how == "skip":
        raise Skip("too few anomalies")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        raise SystemExit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    raise ValueError("bad luck,\nin two lines")


def no_dict(trial, cell):
    return 0.5


def strange_value(trial, cell):
    return {"auc": object()}


def taken_name(trial, cell):
    return {"seconds": 1.0}


def changes_kind(trial, cell):
    return {"auc": 1.0 if cell.seed else "high"}


def spin(trial, cell):
    began = time.monotonic()  # the same clock in every process
    while time.monotonic() < began + trial.options["pause"]:
        pass
    return {"worker": os.getpid(), "began": began, "ended": time.monotonic()}
