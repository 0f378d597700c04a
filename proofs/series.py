"""All detectors of series and the one-line baselines on real series, by VUS-PR and honest event metrics.

Every detector is fitted on the first half of a series' training part, its threshold set on the second half for 1 % of
the steps (`FalseAlarmRate`), and the test part is scored; nothing of it is used before. No parameter was chosen on
these series: the detectors have their defaults, but for the windows of sub-PCA and HypAD where there are more than ten
channels (20 steps), and for the telemetry monitor's rule that a sensor which repeats itself is stuck: many of these
channels do.

    python proofs/series.py [DETECTOR ...]
"""

import re
import sys

import numpy as np
import torch

from assay.calibration.false_alarm_rate import FalseAlarmRate
from assay.catalogue import find, load_class
from assay.core.clone import seeded_clone
from assay.core.series import Series
from assay.core.validation import InputError
from assay.datasets.series import load_series
from assay.metrics.series import evaluate_series
from tables import need_data, resumed, write

SEEDS = range(3)
#: Sets -> series: of those at hand, fewer where a family has many or long ones; chosen before anything was measured but
#: for SMD, of which one machine was left out because the networks took too long.
SETS = {
    "NAB, known causes": [
        f"nab/realKnownCause/{name}"
        for name in (
            "ambient_temperature_system_failure",
            "cpu_utilization_asg_misconfiguration",
            "ec2_request_latency_system_failure",
            "machine_temperature_system_failure",
            "nyc_taxi",
            "rogue_agent_key_hold",
            "rogue_agent_key_updown",
        )
    ],
    "UCR": [f"ucr_anomaly/{name}" for name in ("135", "136", "137", "138")],
    "SMAP and MSL": [f"nasa_smap_msl/{name}" for name in ("A-1", "D-1", "E-1", "F-1", "C-1", "M-1", "T-12", "P-10")],
    "ASD": [f"asd/omi-{number}" for number in (1, 2, 5, 9)],
    "SMD": ["smd/machine-1-6"],
}
#: name in the table -> name in the catalogue, what departs from its defaults, whether a seed matters.
DETECTORS = {
    "random scores": (None, {}, True),
    "constant score": (None, {}, False),
    "median deviation": ("median_deviation", {}, False),
    "moving average": ("moving_average", {}, False),
    "sub-PCA": ("sub_pca", {}, False),
    "k-means windows": ("kmeans_windows", {}, True),
    "forest on windows": ("on_windows", {}, True),
    "RobustTSF": ("robust_tsf", {}, True),
    "TadGAN": ("hypad", {"hyperbolic": False}, True),
    "HypAD": ("hypad", {}, True),
    "telemetry monitor": ("telemetry_monitor", {"stuck": 1e9}, False),
    "HPC autoencoder": ("hpc_autoencoder", {}, True),
}
METRICS = ("vus_pr", "vus_roc", "average_precision", "composite_f1", "event_recall", "false_alarms_per_1000_steps")


def series_of(name):
    """Return the record of a series; UCR's are named by their number."""
    if name.startswith("ucr_anomaly"):
        from assay.datasets.series import available_series, read_series

        number = name.split("/")[1]
        return read_series(next(path for path in available_series() if path.name.startswith(f"{number}_UCR")))
    return load_series(name)


def measure(label, name, seed):
    """Return the measures of a detector on a series."""
    record, rng = series_of(name), np.random.default_rng(seed)
    cut = int(0.5 * len(record.train))
    system, parameters, _ = DETECTORS[label]
    # Steps are rows where the times have no meaning for a detector.
    train, test = (Series(part.values) for part in (record.train, record.test))
    if system is None:
        draw = rng.random if label == "random scores" else np.zeros
        held, scores = draw(len(train) - cut), draw(len(test))
    else:
        cls = load_class(find(system))
        # Beyond so many channels what is quadratic in the numbers of a window takes too long.
        most = {"sub-PCA": 10, "HypAD": 10}.get(label, np.inf)
        wide = {"window": 20} if test.values.shape[1] > most else {}
        detector = seeded_clone(cls(**wide, **parameters), seed)
        detector.fit(train[:cut])
        held, scores = detector.anomaly_score(train[cut:]), detector.anomaly_score(test)
    threshold = FalseAlarmRate(0.01).fit(held).threshold_
    measures = evaluate_series(
        record.labels, scores, predictions=(scores > threshold).astype(int), series=test.values[:, 0]
    )
    return {metric: measures[metric] for metric in METRICS}


def main(*labels):
    need_data("timeseries")
    torch.set_num_threads(1)
    labels = labels or tuple(DETECTORS)
    records = {}
    for label in labels:
        for names in SETS.values():
            for name in names:
                for seed in SEEDS if DETECTORS[label][2] else [0]:
                    stem = re.sub(r"\W+", "_", f"{label}-{name}-{seed}")
                    records[label, name, seed] = resumed(f"series/{stem}", measure, label, name, seed)
        print(label, np.mean([record["vus_pr"] for key, record in records.items() if key[0] == label]), flush=True)

    def mean(label, name, metric):
        values = [record[metric] for key, record in records.items() if key[:2] == (label, name)]
        return np.mean(values)

    everything = [name for names in SETS.values() for name in names]
    ranks = np.zeros(len(labels))
    for name in everything:
        scores = np.array([mean(label, name, "vus_pr") for label in labels])
        ranks += [1 + (scores > score).sum() + ((scores == score).sum() - 1) / 2 for score in scores]
    rows = []
    for number, label in enumerate(labels):
        by_seed = [
            np.mean([records[label, name, seed if DETECTORS[label][2] else 0]["vus_pr"] for name in everything])
            for seed in SEEDS
        ]
        spread = f"{np.mean(by_seed):.3f}" + (f" ± {np.std(by_seed, ddof=1):.3f}" if DETECTORS[label][2] else "")
        row = [label, spread, ranks[number] / len(everything)]
        row += [float(np.mean([mean(label, name, "vus_pr") for name in names])) for names in SETS.values()]
        row += [float(np.nanmean([mean(label, name, metric) for name in everything])) for metric in METRICS[1:]]
        rows.append(row)
    write(
        "series",
        "Detectors of series and one-line baselines on real series",
        [
            "detector",
            "VUS-PR, mean over series",
            "mean rank",
            *(f"VUS-PR: {name} ({len(names)})" for name, names in SETS.items()),
            "VUS-ROC",
            "AUC-PR",
            "composite event F1",
            "event recall",
            "false alarms in 1000 steps",
        ],
        rows,
        notes=f"""
{len(everything)} series. ± is the standard deviation over {len(SEEDS)} seeds of the mean over series; a detector
without randomness has none. Ranks are by VUS-PR on each series, 1 the best, ties shared. The last three columns are at
the threshold that was set on held-out normal steps for 1 % of them; event F1 is that of event recall and the precision
of steps. The buffer of VUS is the period of the first channel, 125 steps where it has none. Random scores reach what
the share of anomalies gives away; a detector below "median deviation" has not shown that it works on a set. Several of
these sets are known for labels that are debatable or too easy (Wu and Keogh, TKDE 2021).
""",
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InputError as error:
        raise SystemExit(str(error)) from error
