"""All detectors of event sequences and random scores on real logs, with a threshold from held-out normal sessions.

At most `TRAIN` normal sessions, drawn by the seed, train; the threshold is set for 1 % of the last 30 % of them, which
the detector has not seen; the test sessions are scored. Networks get `EPOCHS` epochs, everything else its defaults.

    python proofs/events.py
"""

import numpy as np
import torch

from assay.calibration.false_alarm_rate import FalseAlarmRate
from assay.catalogue import find, load_class
from assay.core.clone import seeded_clone
from assay.datasets.events import load_events, read_events
from assay.metrics.ranking import average_precision, roc_auc
from tables import DATA, need_data, resumed, write

SETS = ("hdfs_sessions", "hdfs_100k", "BGL_2k")
SEEDS, TRAIN, TEST, EPOCHS = range(3), 1000, 3000, 15
#: name in the table -> name in the catalogue, what departs from its defaults.
DETECTORS = {
    "random scores": (None, {}),
    "length of the session": (None, {}),
    "bag of events": ("bag_of_events", {}),
    "bag of events, plain counts": ("bag_of_events", {"weighting": "counts"}),
    "transitions": ("transitions", {}),
    "next event, misses": ("next_event", {"epochs": EPOCHS}),
    "next event, likelihood": ("next_event", {"epochs": EPOCHS, "score": "likelihood"}),
    "OC4Seq": ("oc4seq", {"epochs": EPOCHS}),
}


def set_of(name):
    if name == "BGL_2k":
        return read_events(DATA / "logs" / "loghub_2k" / "BGL_2k.log_structured.csv.gz", length=10)
    return load_events(name)


def measure(label, name, seed):
    """Return the measures of a detector on a set."""
    data, rng = set_of(name), np.random.default_rng(seed)
    train = data.train[rng.permutation(len(data.train))[:TRAIN]]
    # As many of either kind as there are in the set, but no more sessions than are needed.
    test = rng.permutation(len(data.test))[:TEST]
    sequences, labels, cut = data.test[test], data.labels[test], int(0.7 * len(train))
    system, parameters = DETECTORS[label]
    if label == "random scores":
        held, scores = rng.random(len(train) - cut), rng.random(len(labels))
    elif label == "length of the session":
        usual = np.median(train.lengths)
        held, scores = np.abs(train[cut:].lengths - usual), np.abs(sequences.lengths - usual)
    else:
        if label == "next event, misses":
            parameters = parameters | {"top_k": min(9, len(np.unique(train[:cut].flat)) - 1)}
        detector = seeded_clone(load_class(find(system))(**parameters), seed).fit(train[:cut])
        held, scores = detector.anomaly_score(train[cut:]), detector.anomaly_score(sequences)
    flagged = scores > FalseAlarmRate(0.01).fit(held).threshold_
    return {
        "AUROC": roc_auc(labels, scores),
        "AP": average_precision(labels, scores),
        "recall": float(flagged[labels == 1].mean()),
        "false alarms": float(flagged[labels == 0].mean()),
        "share": float(labels.mean()),
    }


def main():
    need_data("logs")
    torch.set_num_threads(1)
    rows, shares = [], {}
    for label in DETECTORS:
        row = [label]
        for name in SETS:
            stem = f"events/{label}-{name}".replace(" ", "_")
            records = [resumed(f"{stem}-{seed}", measure, label, name, seed) for seed in SEEDS]
            shares[name] = records[0]["share"]
            for metric in ("AUROC", "AP", "recall", "false alarms"):
                values = np.array([record[metric] for record in records])
                row.append(f"{values.mean():.3f} ± {values.std(ddof=1):.3f}")
        rows.append(row)
        print(" | ".join(row), flush=True)
    write(
        "events",
        "Detectors of event sequences and trivial scores on real logs",
        ["detector", *(f"{name}: {metric}" for name in SETS for metric in ("AUROC", "AP", "recall", "false alarms"))],
        rows,
        notes=f"""
Mean ± standard deviation over {len(SEEDS)} seeds (choice of sessions, and of networks); at most {TRAIN} normal
sessions to train on, {TEST} to test, {EPOCHS} epochs for networks. Share of anomalies:
{", ".join(f"{name} {share:.1%}" for name, share in shares.items())}. hdfs_sessions: DeepLog's sessions, whose normal
test side is held out of its training file; hdfs_100k: the first 100,000 lines, as split by deep-loglizer; BGL_2k: 2,000
lines in windows of 10, a window being anomalous if one of its lines carries an alert: few, and 6 kinds of events in
training. "Misses": of the 9 likeliest events, as published, or all but one where there are fewer kinds. Recall and
false alarms are those of a threshold for 1 % of held-out normal sessions.
""",
    )


if __name__ == "__main__":
    main()
