"""OC4Seq, its two halves and the baselines: a grammar with four kinds of anomalies, and sessions of the HDFS log.

    python proofs/oc4seq.py          3000 sequences to train on: a quarter of an hour on one idle core
    python proofs/oc4seq.py 1000     another number of them

The HDFS columns need the data folder that ASSAY_DATA names.
"""

import gzip
import json
import sys

import numpy as np
import torch

from assay.datasets.simulators.grammar import KINDS, grammar_sequences
from assay.detectors.events.bag_of_events import BagOfEvents
from assay.detectors.events.next_event import NextEvent
from assay.detectors.events.oc4seq import OC4Seq
from assay.detectors.events.transitions import Transitions
from assay.metrics.ranking import average_precision, roc_auc
from tables import DATA, resumed, write

SEEDS, TRAIN, EPOCHS = range(3), 3000, 15
OURS, GLOBAL, LOCAL = "OC4Seq", "OC4Seq, global alone (α = 0)", "OC4Seq, local alone (α = 10⁹)"
#: How a detector is made from a number of epochs and a seed, how its score is changed after the fit, and whether an
#: event of its own ends every sequence.
DETECTORS = {
    OURS: (lambda epochs, seed: OC4Seq(epochs=epochs, random_state=seed), {}, False),
    GLOBAL: (lambda epochs, seed: OC4Seq(alpha=0.0, epochs=epochs, random_state=seed), {}, False),
    LOCAL: (lambda epochs, seed: OC4Seq(alpha=1e9, epochs=epochs, random_state=seed), {}, False),
    "NextEvent, misses of the top 3": (lambda epochs, seed: NextEvent(3, epochs=epochs, random_state=seed), {}, False),
    "NextEvent, misses of the top 9": ("NextEvent, misses of the top 3", {"top_k": 9}, False),
    "NextEvent, likelihood": ("NextEvent, misses of the top 3", {"score": "likelihood"}, False),
    "Transitions, worst": (lambda epochs, seed: Transitions(), {}, False),
    "Transitions, mean": (lambda epochs, seed: Transitions(score="mean"), {}, False),
    "Transitions, worst, ends marked": (lambda epochs, seed: Transitions(), {}, True),
    "BagOfEvents, tf-idf": (lambda epochs, seed: BagOfEvents(), {}, False),
    "BagOfEvents, counts": (lambda epochs, seed: BagOfEvents(weighting="counts"), {}, False),
    "random scores": (None, {}, False),
}
COLUMNS = ["mean", *KINDS, "place p", "place s", "HDFS AUROC", "HDFS AP"]


def hdfs(part):
    """Return the sessions and labels of a part of the HDFS log, "train" or "test"."""
    with gzip.open(DATA / "logs" / "hdfs_100k" / f"sessions_{part}.jsonl.gz", "rt") as lines:
        sessions = [json.loads(line) for line in lines]
    return [session["events"] for session in sessions], np.array([session["label"] for session in sessions])


def ended(sequences):
    return [[*events, 99] for events in sequences]


def runs(train, test, epochs, seed):
    """Yield name, scores and maps (None where there are none) of every detector."""
    fitted = {}
    for name, (make, changes, marked) in DETECTORS.items():
        if make is None:
            yield name, np.random.default_rng(seed).random(len(test)), None
            continue
        if isinstance(make, str):
            model = fitted[make].set_params(**changes)
        else:
            model = fitted[name] = make(epochs, seed).fit(ended(train) if marked else train)
        X = ended(test) if marked else test
        yield name, *(model.locate(X) if hasattr(model, "locate") else (model.anomaly_score(X), None))


def on_grammar(n_train, seed):
    """Return AUROC by kind, and how often the largest event score lies at the anomaly, of every detector."""
    data = grammar_sequences(n_train, random_state=seed)
    found = {}
    for name, scores, maps in runs(data.train, data.test, EPOCHS, seed):
        line = {}
        for kind in KINDS:
            rows = (data.kind == kind) | (data.y == 0)
            line[kind] = roc_auc(data.y[rows], scores[rows])
        line["mean"] = np.mean([line[kind] for kind in KINDS])
        for kind in ("p", "s") if maps is not None else ():
            # A trailing window of 7 events that ends at t holds a changed event; a score of single events, t or t + 1.
            reach = 7 if name.startswith("OC4Seq") else 2
            rows = np.flatnonzero(data.kind == kind)
            hits = [data.span[row, 0] <= np.argmax(maps[row]) < data.span[row, 1] + reach - 1 for row in rows]
            line[f"place {kind}"] = np.mean(hits)
        found[name] = line
    return found


def on_hdfs(n_train, seed):
    """Return AUROC and average precision of every detector."""
    (train, y), (test, labels) = hdfs("train"), hdfs("test")
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(y == 0))
    train = [train[row] for row in normal[:n_train]]
    return {
        name: {"HDFS AUROC": roc_auc(labels, scores), "HDFS AP": average_precision(labels, scores)}
        for name, scores, _ in runs(train, test, EPOCHS, seed)
    }


NOTES = f"""
Mean ± standard deviation over {len(SEEDS)} seeds; a seed draws grammar, sequences and networks: {{n_train}} normal
sequences to train on, 500 normal ones and 125 of each kind to test, {EPOCHS} epochs. AUROC by kind against the
same normals. p: one illegal event; s: five events in an illegal order; g1: phases swapped, illegal at the joint alone;
g2: the first phase to the end, nothing illegal (`assay.datasets.simulators.grammar`). Place: how often the largest
event score lies at the anomaly (OC4Seq: its window of 7 holds a changed event; others: on it or right after it).
"Ends marked": every sequence ends with an event of its own. The top 3 uses the knowledge that every symbol has three
successors. The dash: a detector without places, or no data.

HDFS: sessions of the first 100 000 lines, as split by deep-loglizer; {{n_train}} normal sessions of the training part,
drawn by the seed, {EPOCHS} epochs. Many of its anomalies are sessions that stop too early, and few kinds of events
occur, so that the top 9 may be all there are.

What the method claims, per seed of the grammar:
"""


def claims(grammar):
    """Return the method's claims and whether they hold, a line each."""
    full, whole, local = ([seed[name] for seed in grammar] for name in (OURS, GLOBAL, LOCAL))
    bags = [seed["BagOfEvents, tf-idf"] for seed in grammar]
    nexts = [seed["NextEvent, misses of the top 9"] for seed in grammar]
    checks = {
        "OC4Seq >= .9 on every kind (worst kind)": [min(line[kind] for kind in KINDS) for line in full],
        "OC4Seq minus global alone, mean of kinds, >= 0": [a["mean"] - b["mean"] for a, b in zip(full, whole)],
        "OC4Seq minus local alone, mean of kinds, >= 0": [a["mean"] - b["mean"] for a, b in zip(full, local)],
        "global alone is clearly worse on s (OC4Seq minus it)": [a["s"] - b["s"] for a, b in zip(full, whole)],
        "local alone is at chance on g2": [line["g2"] for line in local],
        "BagOfEvents fails on s and on g1 (better of the two)": [max(line["s"], line["g1"]) for line in bags],
        "place of p and s >= .9 (worse of the two)": [min(line["place p"], line["place s"]) for line in full],
        "OC4Seq minus NextEvent (top 9) on g2, >= 0": [a["g2"] - b["g2"] for a, b in zip(full, nexts)],
    }
    return "\n".join(f"- {what}: {', '.join(f'{value:.3f}' for value in values)}" for what, values in checks.items())


def main(n_train=TRAIN):
    n_train = int(n_train)
    torch.set_num_threads(1)
    grammar = [resumed(f"oc4seq/grammar_{n_train}_{seed}", on_grammar, n_train, seed) for seed in SEEDS]
    real = (DATA / "logs" / "hdfs_100k").is_dir()
    log = [resumed(f"oc4seq/hdfs_{n_train}_{seed}", on_hdfs, n_train, seed) if real else {} for seed in SEEDS]
    rows = []
    for name in DETECTORS:
        lines = [part[name] | other.get(name, {}) for part, other in zip(grammar, log)]
        values = [[line[column] for line in lines] if column in lines[0] else None for column in COLUMNS]
        rows.append([name] + [f"{np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}" if v else "–" for v in values])
    data = "simulated" + (", HDFS log by loghub as split by deep-loglizer" if real else "")
    title = "OC4Seq, its halves and the baselines on event sequences"
    write("oc4seq", title, ["detector", *COLUMNS], rows, NOTES.format(n_train=n_train) + "\n" + claims(grammar), data)


if __name__ == "__main__":
    main(*sys.argv[1:])
