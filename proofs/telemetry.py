"""The telemetry monitor on simulated telemetry with known causes: events found, causes named, doubts raised."""

import numpy as np

from assay.core.progress import silence
from assay.datasets.simulators.telemetry import telemetry
from assay.detectors.series import telemetry as module
from assay.detectors.series import telemetry_events as parts
from assay.detectors.series.telemetry import TelemetryMonitor
from tables import resumed, write

SEEDS = range(10, 15)
#: Variants of the monitor, and the smaller episodes of each cause before the large event.
ATTRIBUTION = {
    "as default": ({}, 4),
    "covariates at the step alone (published)": ({"covariate_lags": ()}, 4),
    "one model of the whole period": ({"folds": 1}, 4),
    "as default, causes that act once": ({}, 0),
    "one model of the whole period, causes that act once": ({"folds": 1}, 0),
}


class SeesCovariates(TelemetryMonitor):
    """The ablation: the forecast may look at the covariates."""

    def _own_past(self, y, rows):
        return np.column_stack([y[rows], self.now[rows[:, 0] + min(self.lags_)]])


def overlaps(spans, first, last):
    return [i for i, (a, b) in enumerate(spans) if a <= last and b >= first]


def recall(spans, drawn):
    return float(np.mean([bool(overlaps(spans, first, last)) for first, last, k in drawn.events if k >= 0]))


def peaks(score, k=3, separation=72):
    found = []
    for i in np.argsort(-np.nan_to_num(score, nan=-1.0)):
        if all(abs(int(i) - other) >= separation for other, _ in found):
            found.append((int(i), int(i)))
        if len(found) == k:
            return found
    return found


def rolling_z(values, window=144):
    views = np.lib.stride_tricks.sliding_window_view(values, window)[:-1]
    score = np.full(len(values), np.nan)
    score[window:] = np.abs(values[window:] - views.mean(axis=1)) / views.std(axis=1)
    return score


def seasonal_naive(values, period=144):
    score = np.full(len(values), np.nan)
    score[period:] = np.abs(values[period:] - values[:-period])
    return score


def recalls(seed, episodes):
    """Return event recall at 3 of the monitor, its ablations and the baselines."""
    drawn = telemetry(episodes=episodes, uncaused=False, random_state=seed)
    found, leaf = {}, module.LEAF
    for name, cls, least in (
        ("own past alone", TelemetryMonitor, leaf),
        ("own past alone, leaves of 1 step", TelemetryMonitor, 1),
        ("ablation: forecast sees the covariates", SeesCovariates, leaf),
        ("ablation: the same, leaves of 1 step", SeesCovariates, 1),
    ):
        model = cls(targets=["temperature"], explainer_trees=1, folds=1)
        model.now, module.LEAF = drawn.values[:, 1:], least
        model.fit(drawn.series)
        found[name] = recall([(e["onset"], e["end"]) for e in model.events_], drawn)
    module.LEAF = leaf
    T = drawn.values[:, 0]
    scores = {
        "rolling z-score, a day": rolling_z(T),
        "seasonal naive, a day": seasonal_naive(T),
        "random scores": np.random.default_rng(seed).random(len(T)),
    }
    return found | {name: recall(peaks(score), drawn) for name, score in scores.items()}


def attribution(seed, variant):
    """Return what the explanations of the four large events get right."""
    settings, episodes = ATTRIBUTION[variant]
    drawn = telemetry(episodes=episodes, random_state=seed)
    model = TelemetryMonitor(targets=["temperature"], k=4, **settings).fit(drawn.series)
    gain = np.zeros(len(model.covariates_))
    for one in model.explainers_[0]:
        for name, value in parts.from_bytes(one).get_score(importance_type="total_gain").items():
            gain[int(name[1:]) % len(gain)] += value
    spans = [(e["onset"], e["end"]) for e in model.events_]
    rows = []
    for first, last, k in drawn.events:
        for number in overlaps(spans, first, last)[:1]:
            told = model.explain(number)
            best = told.drivers[0]["covariates"]
            rows.append(
                {
                    "cause": k,
                    "first": best == [f"covariate_{k}"],
                    "decoy": any("decoy" in name for name in best),
                    "gain": int(np.argmax(gain)) == k,
                    "recovered": told.recovered,
                    "trusted": told.trustworthy,
                }
            )
    return {"events": rows, "r2": float(model.r2_[0])}


def spread(values, places=2):
    return f"{np.mean(values):.{places}f} ± {np.std(values):.{places}f}"


def main():
    rows = []
    for episodes in (0, 4):
        found = [resumed(f"telemetry_recall_{episodes}_{seed}", recalls, seed, episodes) for seed in SEEDS]
        for name in found[0]:
            rows.append(["event recall at 3", name, str(episodes), spread([one[name] for one in found]), "", "", ""])
    for number, (variant, (_, episodes)) in enumerate(ATTRIBUTION.items()):
        runs = [resumed(f"telemetry_why_{number}_{seed}", attribution, seed, variant) for seed in SEEDS]
        caused = [[one for one in run["events"] if one["cause"] >= 0] for run in runs]
        uncaused = [one for run in runs for one in run["events"] if one["cause"] < 0]
        rows.append(
            [
                "cause ranks first",
                variant,
                str(episodes),
                spread([np.mean([one["first"] for one in group]) for group in caused])
                + f", of {sum(map(len, caused))} found",
                spread([np.mean([one["decoy"] for one in group]) for group in caused]),
                f"{np.mean([one['trusted'] for group in caused for one in group]):.2f} "
                f"({spread([one['recovered'] for group in caused for one in group])})",
                f"{np.mean([not one['trusted'] for one in uncaused]):.2f} "
                f"({spread([one['recovered'] for one in uncaused])})",
            ]
        )
        if number == 0:
            by_gain = spread([np.mean([one["gain"] for one in group]) for group in caused])
            rows.append(["cause ranks first", "by total gain, one ranking for all", str(episodes), by_gain, "", "", ""])
            chance = [1 / len(parts.alike(telemetry(random_state=seed).values[:, 1:])) for seed in SEEDS]
            rows.append(["cause ranks first", "a cause drawn at random", str(episodes), spread(chance), "", "", ""])
    write(
        "telemetry",
        "Telemetry with known causes: events found, causes named, doubts raised",
        ["what", "method", "episodes", "figure", "decoy first", "caused: trusted (recovered)", "uncaused: flagged"],
        rows,
        notes="Mean ± standard deviation over seeds 10 to 14; 12,000 steps of ten minutes, 8 covariates, 2 decoys, "
        "three caused events and, below, one without a cause. *Episodes*: smaller events of each cause before the "
        "large one. "
        "*Recovered*: predicted share of an event's excess. The threshold of the flag was chosen on seeds 0 to 2.\n\n"
        "A cause that acts once in a lifetime cannot be learnt without the event itself: explanations out of fold are "
        "then flagged. One model of the whole period names what moved, but its fidelity is flattered: it never flags "
        "the uncaused event. Ranks are those of the events that were found among the four largest.\n\n"
        "Expected, and not so here: that a forecast which sees the covariates loses caused events. With the default's "
        "leaves of 20 steps it loses none of the three largest at this length, it only lowers them; with leaves of "
        "1 step, XGBoost's own default, it loses most.",
    )


if __name__ == "__main__":
    with silence():
        main()
