"""From EAP's numbers to a verdict and a reason in words.

The rules, in this order:

- *unrealistic*: in half of the subsets or more, no ball holds the row;
- *indistinguishable*: the mean probability is under half of what unseen real anomalies get (median);
- *realistic*: the quality exceeds 1.5 times the prior, and its 5 % quantile over the subsets half the prior;
- *uncertain*: everything else.

The published method ranks and gives no verdicts; these margins are ours, and the report says so by showing
the numbers beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

REALISTIC, INDISTINGUISHABLE, UNREALISTIC, UNCERTAIN = "realistic", "indistinguishable", "unrealistic", "uncertain"


def verdicts(columns: Mapping[str, Any], prior_mean: float, reference_probability: float) -> Any:
    """Return one verdict a row, from its quality, 5 % quantile, probability and share of subsets without density.

    Parameters
    ----------
    columns : mapping of str to array of shape (l,)
        ``quality``, ``quality_p05``, ``probability`` and ``zero_density_share``.
    prior_mean : float
        π0.
    reference_probability : float
        Median probability of unseen real anomalies.
    """
    off_domain = columns["zero_density_share"] >= 0.5
    looks_normal = columns["probability"] < 0.5 * reference_probability
    stands_out = (columns["quality"] > 1.5 * prior_mean) & (columns["quality_p05"] >= 0.5 * prior_mean)
    return np.select(
        [off_domain, looks_normal, stands_out], [UNREALISTIC, INDISTINGUISHABLE, REALISTIC], default=UNCERTAIN
    )


def reasons(columns: Mapping[str, Any], prior_mean: float, reference_probability: float) -> Any:
    """Return one sentence a row that says why it got its verdict; parameters as for `verdicts`, with more columns."""
    sentences = []
    for row, verdict in enumerate(columns["verdict"]):
        here = {name: values[row] for name, values in columns.items()}
        if verdict == UNREALISTIC:
            sentence = (
                f"off the domain: no data in {here['zero_density_share']:.0%} of the subsets; nearest normal "
                f"(row {here['nearest_normal']}) {here['nearest_normal_distance']:.2g} sd away"
            )
        elif verdict == INDISTINGUISHABLE:
            sentence = (
                f"looks normal: probability {here['probability']:.2f}, under half that of unseen real anomalies "
                f"({reference_probability:.2f})"
            )
        elif verdict == REALISTIC:
            sentence = (
                f"within the domain and anomalous: quality {here['quality']:.2f} against a prior of {prior_mean:.3g}"
            )
        else:
            sentence = (
                f"not settled: quality {here['quality']:.2f} (5 % of the subsets under {here['quality_p05']:.2f}), "
                f"no data in {here['zero_density_share']:.0%} of the subsets"
            )
        sentences.append(sentence)
    return np.array(sentences)
