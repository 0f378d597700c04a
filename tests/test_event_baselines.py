"""NextEvent, Transitions and BagOfEvents: values by hand, and what each sees of the grammar and what it cannot."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.sequences import Vocabulary, as_sequences, padded
from assay.core.validation import InputError
from assay.datasets.simulators.grammar import KINDS, grammar_sequences
from assay.detectors.events.bag_of_events import BagOfEvents
from assay.detectors.events.next_event import NextEvent
from assay.detectors.events.transitions import Transitions
from assay.metrics.ranking import roc_auc
from oc4seq import ended, hdfs

QUICK = {"hidden": 16, "epochs": 12, "batch_size": 16, "learning_rate": 0.01, "random_state": 0}
HDFS = Path(os.environ.get("ASSAY_DATA", "missing")) / "logs" / "hdfs_100k"


@pytest.fixture(scope="module")
def grammar():
    return grammar_sequences(300, 200, 50, random_state=0)


@pytest.fixture(scope="module")
def predictor(grammar):
    """Return a NextEvent of the grammar; `top_k` and `score` matter to scoring alone."""
    return NextEvent(top_k=3, **QUICK).fit(grammar.train)


def by_kind(data, scores):
    rows = {kind: (data.kind == kind) | (data.y == 0) for kind in KINDS}
    return {kind: roc_auc(data.y[chosen], scores[chosen]) for kind, chosen in rows.items()}


# -- Transitions -----------------------------------------------------------------------------------------------------


def test_transitions_by_hand():
    model = Transitions(smoothing=0.5).fit([["a", "b"], ["a", "b", "b"]])
    # Two events are known, so there are three outcomes after each.
    start_a, a_b, b_b, b_a, b_new = 2.5 / 3.5, 2.5 / 3.5, 1.5 / 2.5, 0.5 / 2.5, 0.5 / 2.5
    new_new = new_a = 1 / 3
    [first, second] = model.anomaly_map([["a", "b", "b", "a"], ["a", "b", "?", "!", "a"]])
    np.testing.assert_allclose(first, -np.log([start_a, a_b, b_b, b_a]))
    np.testing.assert_allclose(second, -np.log([start_a, a_b, b_new, new_new, new_a]))
    np.testing.assert_allclose(model.anomaly_score([["a", "b", "b", "a"]]), -np.log(b_a))
    mean = Transitions(score="mean", smoothing=0.5).fit([["a", "b"], ["a", "b", "b"]])
    np.testing.assert_allclose(mean.anomaly_score([["a", "b", "b", "a"]]), first.mean())


def test_the_outcomes_after_every_event_have_probability_one():
    rng = np.random.default_rng(0)
    model = Transitions().fit([rng.integers(0, 5, 20) for _ in range(9)])
    for before in range(6):  # 5 was never seen
        surprise = [model.anomaly_map([[before, after]])[0][1] for after in range(6)]
        assert np.exp(-np.array(surprise)).sum() == pytest.approx(1)


def test_transitions_see_each_illegal_step_and_no_endless_phase(grammar):
    model = Transitions().fit(grammar.train)
    found = by_kind(grammar, model.anomaly_score(grammar.test))
    assert min(found["p"], found["s"], found["g1"]) > 0.95 and found["g2"] < 0.6
    maps = model.anomaly_map(grammar.test)
    for row in np.flatnonzero(np.isin(grammar.kind, ["p", "s"])):
        assert grammar.span[row, 0] <= maps[row].argmax() <= grammar.span[row, 1]
    # An event that ends every sequence shows what none of its steps does.
    marked = Transitions().fit(ended(grammar.train)).anomaly_score(ended(grammar.test))
    assert by_kind(grammar, marked)["g2"] > 0.95


# -- BagOfEvents -----------------------------------------------------------------------------------------------------


def test_bag_of_events_by_its_definition():
    rng = np.random.default_rng(0)
    X = [rng.integers(0, 8, rng.integers(3, 12)) for _ in range(50)]
    model = BagOfEvents(variance=0.6).fit(X)
    counts = np.array([np.bincount(sequence, minlength=9) for sequence in [*X, np.array([0, 8, 8])]], dtype=float)
    holders = (counts[:50] > 0).sum(axis=0)
    y = counts * np.log(51 / (holders + 1))
    centred = y[:50] - y[:50].mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    k = int(np.argmax(np.cumsum(singular**2) >= 0.6 * (singular**2).sum())) + 1
    left = y - y[:50].mean(axis=0)
    left = left - left @ directions[:k].T @ directions[:k]
    assert len(model.components_) == k > 1
    np.testing.assert_allclose(model.anomaly_score([*X, [0, 8, 8]]), (left**2).sum(axis=1), rtol=1e-8, atol=1e-10)
    # All events that training never saw are one.
    assert model.anomaly_score([[0, 8, 77]]) == model.anomaly_score([[0, 8, 8]])


def test_order_plays_no_part_and_so_it_fails_on_order(grammar):
    for weighting in ("tf-idf", "counts"):
        scores = BagOfEvents(weighting=weighting).fit(grammar.train).anomaly_score(grammar.test)
        found = by_kind(grammar, scores)
        assert max(abs(found["s"] - 0.5), abs(found["g1"] - 0.5)) < 0.15 and found["g2"] > found["s"]
    model = BagOfEvents().fit(grammar.train)
    np.testing.assert_allclose(model.anomaly_score([grammar.test[0][::-1]]), model.anomaly_score([grammar.test[0]]))


def test_something_is_always_left_over():
    assert BagOfEvents(variance=1.0).fit([[1], [1, 2], [1, 2, 2]]).anomaly_score([[1, 3]])[0] > 0
    same = BagOfEvents(weighting="counts").fit([[1, 2]] * 3)
    assert len(same.components_) == 0 and same.anomaly_score([[1, 2], [1, 2, 2]]).tolist() == [0.0, 1.0]
    with pytest.raises(InputError, match="every sequence holds every event"):
        BagOfEvents().fit([[1, 2]] * 3)


# -- NextEvent -------------------------------------------------------------------------------------------------------


def test_misses_and_likelihood_are_those_of_the_values(predictor, grammar):
    sequence = np.append(grammar.test[250][:20], 99)  # of kind p or s; the last was never seen
    numbers = Vocabulary(predictor.events_).numbers(as_sequences([sequence]))
    network = predictor._shape()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in predictor.network_.items()})
    with torch.no_grad():
        values = network.eval()(torch.from_numpy(padded(numbers)))[0].double().numpy()
    misses, surprise = [], []
    for place, number in enumerate(numbers.flat):
        best = np.argsort(-values[place, 1:])[:3] + 2  # known events alone can be expected
        misses.append(float(number not in best))
        p = np.exp(values[place]) / np.exp(values[place]).sum()
        surprise.append(-np.log(p[number - 1]))
    assert predictor.anomaly_map([sequence])[0].tolist() == misses
    assert misses[-1] == 1 and 0 < predictor.anomaly_score([sequence])[0] == np.mean(misses) < 1
    told = predictor.set_params(score="likelihood").anomaly_map([sequence])[0]
    predictor.set_params(score="misses")
    np.testing.assert_allclose(told, surprise, rtol=1e-4)
    assert told[-1] > 3


def test_an_event_is_predicted_from_those_before_it_alone(predictor, grammar):
    predictor.set_params(score="likelihood")
    sequence = grammar.test[0]
    [whole], [start] = predictor.anomaly_map([sequence]), predictor.anomaly_map([sequence[:15]])
    together = predictor.anomaly_map([sequence[:15], *grammar.test[:30]])[0]
    predictor.set_params(score="misses")
    np.testing.assert_allclose(whole[:15], start, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(together, start, rtol=1e-4, atol=1e-6)


def test_training_finds_the_grammar(predictor, grammar):
    found = by_kind(grammar, predictor.anomaly_score(grammar.test))
    assert min(found["p"], found["s"], found["g1"]) > 0.9
    untrained = NextEvent(top_k=3, **QUICK | {"epochs": 0}).fit(grammar.train)
    assert by_kind(grammar, untrained.anomaly_score(grammar.test))["p"] < 0.75


def test_a_top_k_that_excludes_nothing_is_refused():
    with pytest.raises(InputError, match="top_k=9"):
        NextEvent().fit([[1, 2, 3], [1, 2]])


# -- real sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not HDFS.is_dir(), reason="ASSAY_DATA names no folder that holds logs/hdfs_100k")
@pytest.mark.parametrize(
    "model", [Transitions(), BagOfEvents(weighting="counts"), NextEvent(top_k=3, **QUICK | {"epochs": 4})]
)
def test_sessions_of_hdfs(model):
    """Many of its anomalies are sessions that stop too early: what ends has to be said."""
    (train, y), (test, labels) = hdfs("train"), hdfs("test")
    normal = [events for events, label in zip(train, y) if label == 0][:800]
    assert roc_auc(labels, model.fit(ended(normal)).anomaly_score(ended(test))) > 0.7
