"""OC4Seq against its definition written out in loops, against the published code's faults, and on its grammar."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from assay.core.sequences import UNKNOWN_EVENT, Vocabulary, as_sequences, padded
from assay.core.validation import InputError
from assay.datasets.simulators.grammar import KINDS, SHUFFLED, grammar_sequences
from assay.detectors.events import oc4seq
from assay.detectors.events.oc4seq import OC4Seq, guarded, shared, trailing_windows
from assay.metrics.ranking import roc_auc

TINY = {"window": 3, "embedding": 6, "hidden": 5, "epochs": 4, "batch_size": 4, "learning_rate": 0.01}
TINY |= {"random_state": 0}
#: What a grammar can be learned with in a few seconds: the defaults, for fewer epochs.
QUICK = {"epochs": 10, "random_state": 0}


def some_sequences(seed=0, n=13, longest=20, events=6):
    rng = np.random.default_rng(seed)
    return [rng.integers(10, 10 + events, size=rng.integers(1, longest + 1)) for _ in range(n)]


@pytest.fixture(scope="module")
def fitted():
    return OC4Seq(**TINY).fit(some_sequences())


@pytest.fixture(scope="module")
def grammar():
    return grammar_sequences(600, 200, 50, random_state=0)


@pytest.fixture(scope="module")
def halves(grammar):
    """Return the fitted detector, its global half and its local half."""
    return [OC4Seq(alpha=alpha, **QUICK).fit(grammar.train) for alpha in (1.0, 0.0, 1e9)]


def by_kind(data, scores):
    rows = {kind: (data.kind == kind) | (data.y == 0) for kind in KINDS}
    return {kind: roc_auc(data.y[chosen], scores[chosen]) for kind, chosen in rows.items()}


def naive(detector, sequence):
    """Return d_g and every window's distance of one sequence: events and windows one by one, in double precision."""
    network = detector._network().double()
    numbers = Vocabulary(detector.events_).numbers(as_sequences([sequence])).flat
    vectors = [network.events[number - 2] if number > 1 else network.others[1] for number in numbers]
    g = network.whole(torch.stack(vectors)[None])[0][0, -1].numpy()
    local = []
    for t in range(len(vectors)):
        window = [
            vectors[s] if s >= 0 else torch.zeros(detector.embedding) for s in range(t - detector.window + 1, t + 1)
        ]
        l = network.part(torch.stack(window).double()[None])[0][0, -1].numpy()
        local.append(((l - detector.local_centre_) ** 2).sum())
    return ((g - detector.global_centre_) ** 2).sum(), np.array(local)


# -- pieces ----------------------------------------------------------------------------------------------------------


def naive_windows(X, length):
    rows = []
    for sequence in X:
        for t in range(len(sequence)):
            rows.append([sequence[s] if s >= 0 else 0 for s in range(t - length + 1, t + 1)])
    return rows


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=60)
def test_windows_are_those_of_the_loop(seed):
    rng = np.random.default_rng(seed)
    X = as_sequences(some_sequences(seed, n=int(rng.integers(1, 6)), longest=12))
    length = int(rng.integers(1, 10))
    windows = trailing_windows(X, length)
    assert windows.tolist() == naive_windows(X, length)


@pytest.mark.parametrize("rnn", ["gru", "lstm", "rnn"])
def test_common_beginnings_change_no_output(rnn):
    network = OC4Seq(**TINY | {"epochs": 0, "rnn": rnn, "local_layers": 2}).fit(some_sequences())._network()
    windows = trailing_windows(as_sequences([np.random.default_rng(0).integers(1, 5, 400)]), 4)
    l, places = shared(network, windows)
    assert len(l) == len({tuple(row) for row in windows.tolist()}) < len(windows)
    np.testing.assert_allclose(l[places], network.windows(windows).numpy(), rtol=1e-5, atol=1e-6)


def test_the_guard_keeps_a_centre_away_from_zero():
    centre = np.array([0.05, -0.05, 0.0, 0.3, -0.4])
    assert guarded(centre, 0.1).tolist() == [0.1, -0.1, 0.1, 0.3, -0.4]
    assert guarded(centre, 0.0).tolist() == centre.tolist()


# -- the definition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rnn", ["gru", "lstm", "rnn"])
def test_scores_are_those_of_the_definition(rnn):
    X = some_sequences()
    detector = OC4Seq(rnn=rnn, alpha=0.7, **TINY).fit(X)
    assert f"whole.weight_ih_l{detector.global_layers - 1}" in detector.network_
    scores, maps = detector.locate(X)
    for sequence, score, local in zip(X, scores, maps):
        whole, distances = naive(detector, sequence)
        np.testing.assert_allclose(local, distances, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(score, whole + 0.7 * distances.max(), rtol=1e-4, atol=1e-6)


def test_centres_are_the_means_of_the_untrained_networks_and_stay():
    X = some_sequences()
    untrained = OC4Seq(**TINY | {"epochs": 0, "centre_guard": 0.0}).fit(X)
    detector = OC4Seq(**TINY).fit(X)
    # From every distance to the centre moved by a unit vector follows the coordinate of the output itself.
    outputs = []
    for sequence in X:
        network, numbers = untrained._network(), Vocabulary(untrained.events_).numbers(as_sequences([sequence]))
        l = network.windows(np.array(naive_windows(numbers, 3))).numpy()
        outputs.append((network.prefixes(numbers.flat[None])[0, -1].numpy(), l.mean(axis=0)))
    g, l = (np.mean(part, axis=0) for part in zip(*outputs))
    np.testing.assert_allclose(untrained.global_centre_, g, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(untrained.local_centre_, l, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(detector.global_centre_, guarded(g, 0.1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(detector.local_centre_, guarded(l, 0.1), rtol=1e-5, atol=1e-7)


def test_the_loss_has_the_gradient_of_the_maximum_over_all_windows(fitted):
    """The short cut (only the farthest window goes through the network again) changes no gradient."""
    batch = Vocabulary(fitted.events_).numbers(as_sequences(some_sequences(1, n=5)))
    gradients = []
    for short in (True, False):
        network = fitted._network().requires_grad_(True)
        if short:
            loss = fitted._loss(network, batch)
        else:
            l = network.windows(trailing_windows(batch, fitted.window))
            d = (l - torch.from_numpy(fitted.local_centre_).float()).square().sum(dim=1)
            farthest = torch.stack([part.max() for part in d.split(batch.lengths.tolist())])
            g = torch.stack([network.prefixes(batch[row][None])[0, -1] for row in range(len(batch))])
            whole = (g - torch.from_numpy(fitted.global_centre_).float()).square().sum(dim=1)
            loss = (whole + farthest).mean()
        loss.backward()
        gradients.append((loss.item(), {name: p.grad.clone() for name, p in network.named_parameters()}))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    for name, gradient in gradients[0][1].items():
        torch.testing.assert_close(gradient, gradients[1][1][name], rtol=1e-4, atol=1e-7)
    assert {name.split(".")[0].split("_")[0] for name in gradients[0][1]} == {"events", "whole", "part"}


def test_an_epoch_lowers_the_loss_and_moves_no_centre():
    X = some_sequences()
    losses, centres = [], []
    for epochs in (0, 20):
        detector = OC4Seq(**TINY | {"epochs": epochs}).fit(X)
        losses.append(detector.anomaly_score(X).mean())
        centres.append(np.concatenate([detector.global_centre_, detector.local_centre_]))
    assert losses[1] < losses[0] / 2 and (centres[0] == centres[1]).all()


# -- padding and batches ---------------------------------------------------------------------------------------------


def test_a_sequence_has_the_same_score_alone_and_beside_longer_ones(fitted):
    X = some_sequences(3)
    longer = some_sequences(4, longest=90)
    alone = np.concatenate([fitted.anomaly_score([sequence]) for sequence in X])
    together = fitted.anomaly_score(longer + X)[len(longer) :]
    np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6)
    assert np.ptp(alone) > 1e-3


def test_more_padding_changes_nothing(fitted):
    """The published code takes its maximum over padded places too, whose vector is trained."""
    X = Vocabulary(fitted.events_).numbers(as_sequences(some_sequences(3)))
    network = fitted._network()
    short, long = network.prefixes(padded(X)), network.prefixes(padded(X, 70))
    for row, length in enumerate(X.lengths):
        torch.testing.assert_close(short[row, :length], long[row, :length], rtol=0, atol=1e-6)
    assert (network.embedded(np.array([0])) == 0).all()
    assert sum(len(local) for local in fitted.anomaly_map(some_sequences(3))) == len(X.flat)


def test_scores_do_not_depend_on_the_size_of_the_pieces(fitted, monkeypatch):
    X = some_sequences(5, n=40)
    scores, maps = fitted.locate(X)
    for name, size in (("BLOCK", 31), ("SEQUENCES", 3)):
        monkeypatch.setattr(oc4seq, name, size)
    again, maps_again = fitted.locate(X)
    np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.concatenate(maps_again), np.concatenate(maps), rtol=1e-5, atol=1e-7)


def test_there_is_no_longest_sequence(fitted):
    long = np.resize([10, 11, 12, 13], 12_000)
    [before] = fitted.anomaly_map([long])
    long[11_500] = 77
    [after] = fitted.anomaly_map([long])
    assert np.flatnonzero(np.abs(after - before) > 1e-6).tolist() == [11_500, 11_501, 11_502]


# -- the vocabulary --------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_that_of_training_and_unseen_events_raise_the_score(halves, grammar):
    detector = halves[0]
    assert detector.events_.tolist() == sorted({int(event) for sequence in grammar.train for event in sequence})
    normal = grammar.test[:100]
    spoiled = []
    for strange in (1234, -5):
        spoiled.append([sequence.copy() for sequence in normal])
        for sequence in spoiled[-1]:
            sequence[len(sequence) // 2] = strange
    first, second = (detector.anomaly_score(X) for X in spoiled)
    assert (first == second).all()
    assert (first > detector.anomaly_score(normal)).mean() > 0.95


def test_the_unknown_event_keeps_the_vector_it_was_drawn_with():
    """Adam would move a vector without a gradient by a whole step, for weight decay's sake alone."""
    drawn, trained = (OC4Seq(**TINY | {"epochs": epochs}).fit(some_sequences()).network_ for epochs in (0, 9))
    assert (drawn["others"] == trained["others"]).all()
    assert (drawn["others"][0] == 0).all() and np.abs(drawn["others"][UNKNOWN_EVENT]).min() > 0
    assert (drawn["events"] != trained["events"]).all()


def test_names_are_as_good_as_ids(fitted):
    names = [[f"event {event}" for event in sequence] for sequence in some_sequences()]
    detector = OC4Seq(**TINY).fit(names)
    np.testing.assert_array_equal(detector.anomaly_score(names), fitted.anomaly_score(some_sequences()))
    with pytest.raises(InputError, match="X holds event ids, but was fitted on names"):
        detector.anomaly_score([[1, 2]])
    with pytest.raises(InputError, match="sequence"):
        detector.explain([])
    with pytest.raises(NotFittedError):
        OC4Seq().explain([1, 2])


# -- where and why ---------------------------------------------------------------------------------------------------


def test_prefixes_have_the_scores_they_have_alone(fitted):
    sequence = some_sequences(9, n=1, longest=30)[0]
    alone = [fitted.anomaly_score([sequence[:t]])[0] for t in range(1, len(sequence) + 1)]
    np.testing.assert_allclose(fitted.prefix_scores(sequence), alone, rtol=1e-6, atol=1e-6)


def test_the_explanation_adds_up_to_the_score(fitted):
    for sequence in some_sequences(6):
        why = fitted.explain(sequence)
        score, [local] = fitted.locate([sequence])
        np.testing.assert_allclose(why.local, local)
        start, end = why.window
        assert end == local.argmax() + 1 and start == max(0, end - fitted.window) and 0 <= why.global_share <= 1
        assert score[0] * (1 - why.global_share) == pytest.approx(fitted.alpha * local.max(), rel=1e-6, abs=1e-9)


def test_collapse_is_told(halves):
    assert not any(half.collapsed_ for half in halves)
    crushed = OC4Seq(**TINY | {"weight_decay": 1.0, "learning_rate": 0.05, "epochs": 30}).fit(some_sequences())
    assert crushed.collapsed_


# -- what the method is for ------------------------------------------------------------------------------------------


def test_both_scales_are_needed(halves, grammar):
    full, whole, local = (by_kind(grammar, half.anomaly_score(grammar.test)) for half in halves)
    means = [np.mean(list(kinds.values())) for kinds in (full, whole, local)]
    assert means[0] > max(means[1:])
    assert min(full["g1"], full["g2"]) > 0.95 and min(full["p"], full["s"]) > 0.85
    assert full["s"] - whole["s"] > 0.2 and full["p"] - whole["p"] > 0.15
    assert 0.3 < local["g2"] < 0.7
    normal = halves[0].anomaly_score(grammar.test)[grammar.y == 0]
    assert normal.std() > 1e-4


def test_the_oddest_window_is_where_the_anomaly_is(halves, grammar):
    maps = halves[0].anomaly_map(grammar.test)
    for kind in ("p", "s"):
        rows = np.flatnonzero(grammar.kind == kind)
        reach = halves[0].window - 1
        hits = [grammar.span[row, 0] <= maps[row].argmax() < grammar.span[row, 1] + reach for row in rows]
        assert np.mean(hits) > 0.8  # by chance about a sixth; at full size see results/oc4seq.md


def test_training_matters(halves, grammar):
    untrained = OC4Seq(**QUICK | {"epochs": 0}).fit(grammar.train)
    before, after = (by_kind(grammar, model.anomaly_score(grammar.test)) for model in (untrained, halves[0]))
    assert after["p"] - before["p"] > 0.15 and after["s"] - before["s"] > 0.15


# -- the grammar -----------------------------------------------------------------------------------------------------


def test_the_grammar_keeps_its_word():
    data = grammar_sequences(60, 40, 30, random_state=1)
    illegal = [~data.legal[events[:-1], events[1:]] for events in data.test]
    counts = {kind: [illegal[row].sum() for row in np.flatnonzero(data.kind == kind)] for kind in ("normal", *KINDS)}
    assert not any(counts["normal"]) and not any(counts["g2"])
    assert set(counts["p"]) == {2} and set(counts["g1"]) == {1} and min(counts["s"]) >= 3
    assert not any((~data.legal[events[:-1], events[1:]]).any() for events in data.train)
    for row in np.flatnonzero(data.y):
        events, (start, end), kind = data.test[row], data.span[row], data.kind[row]
        assert 0 <= start < end <= len(events) and 30 <= len(events) <= 60
        assert end - start == {"p": 1, "s": SHUFFLED, "g1": 1}.get(kind, end - start)
        places = np.flatnonzero(illegal[row]) + 1
        assert ((places >= start) & (places <= end)).all()
        if kind == "g1":
            assert events[start] < 10 <= events[start - 1]
        if kind == "g2":
            assert (events < 10).all() and end == len(events)
    assert (data.span[data.y == 0] == -1).all() and (data.legal.sum(axis=1) >= 3).all()
    again = grammar_sequences(60, 40, 30, random_state=1)
    assert all((a == b).all() for a, b in zip(data.test + data.train, again.test + again.train))
