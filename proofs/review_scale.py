"""Four million items of 64 numbers: what each stage of a review takes, its memory, and how long a label waits.

The table is made once as Parquet; the stages run in a process of their own, whose peak memory is the system's count
(pages of memory-mapped files that are in memory count too).

    python proofs/review_scale.py [ITEMS]
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from scipy.spatial import cKDTree

from assay.review.project import Project
from assay.review.ranking import nearest_distances
from assay.review.session import Review
from tables import ROOT, write

FOLDER = ROOT / "runs" / "review_scale"
COLUMNS, GROUP = 64, 100_000


def make(path, items):
    """Write a mixture of twenty clusters and a thousandth of far items, in groups of rows."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, COLUMNS)) * 2
    names = [f"f{column}" for column in range(COLUMNS)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    with parquet.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, items, GROUP):
            count = min(GROUP, items - start)
            X = (centres[rng.integers(20, size=count)] + rng.normal(size=(count, COLUMNS))).astype(np.float32)
            far = rng.random(count) < 0.001
            X[far] += rng.normal(size=(int(far.sum()), COLUMNS)).astype(np.float32) * 3
            writer.write_table(pa.table([pa.array(X[:, column]) for column in range(COLUMNS)], schema=schema))


def peak():
    """Return the peak memory of this process so far in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def stages(folder):
    """Run the stages of a project one by one, then a review; print what each took as JSON."""
    project = Project(folder)
    told = []

    def timed(name, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        told.append((name, time.perf_counter() - start, peak()))
        return result

    inner = project.stages.get

    def get(name, *arguments, **options):
        return timed(name, lambda: inner(name, *arguments, **options))

    project.stages.get = get
    timed("all of it, with reading the file for its key", project.prepare)
    review = timed("opening again", Review, Project(folder))
    items = review.upcoming("Ann", 100)
    timed("first item", review.next, "Ann")
    for number, item in enumerate(items):
        review.label("Ann", item, 5 if number % 3 == 0 else 0)
    timed("learning from the first 100 labels", review._learn)
    item = review.next("Ann")
    timed("a label", review.label, "Ann", item, 4)
    timed("learning from one more", review._learn)
    timed("the next item then", review.next, "Ann")
    timed("order of all items, without the short cut", review.ranker.rank)
    assert review.ranker.rank()[:1000].tolist() == review.ranker.head(1000).tolist()
    review.close()
    print(json.dumps(told))


def reference(features, judged):
    """Return seconds an item of one tree query an item, in a loop, as the reference code does."""
    tree = cKDTree(judged)
    sample = np.asarray(features[:20_000], dtype=np.float64)
    start = time.perf_counter()
    for row in sample:
        tree.query(row)
    return (time.perf_counter() - start) / len(sample)


def main(items=4_000_000):
    items = int(items)
    folder = FOLDER / str(items)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "items.parquet"
    if not source.exists():
        make(folder / "part.parquet", items)
        (folder / "part.parquet").replace(source)
    project = folder / f"project-{time.time_ns()}"
    Project.create(project, source)
    command = [sys.executable, __file__, "stages", str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    scaled = next((project / "stages").glob("scaled-*")) / "scaled.npy"
    features = np.load(scaled, mmap_mode="r")
    judged = np.asarray(features[:: max(1, items // 100)][:100])
    start = time.perf_counter()
    nearest_distances(features, judged)
    ours = time.perf_counter() - start
    theirs = reference(features, judged.astype(np.float64)) * items
    rows = [[name, f"{seconds:.2f}", f"{memory:.2f}"] for name, seconds, memory in told]
    rows.append(["distances to 100 labels, all items", f"{ours:.2f}", "–"])
    rows.append(["the same by one tree query an item (measured on 20 000)", f"{theirs:.0f}", "–"])
    write(
        "review_scale",
        f"A review of {items:,} items of {COLUMNS} numbers",
        ["step", "seconds", "peak memory so far (GiB)"],
        rows,
        notes=f"""
Stages in the order in which they ran, each only what it adds; "all of it" is their sum and the hash of the file. A
label is on the disk when its time ends. "Learning" ends when everyone's queue is in the new order: the first 1000 of it
were compared with the order of all items and are the same. Nearest labels: {theirs / ours:.0f} times the speed of the
loop. Isolation forest of 200 trees, fitted on a sample of 200 000; one process.
""",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["stages"]:
        stages(Path(sys.argv[2]))
    else:
        main(*sys.argv[1:])
