"""Generators of anomalous event sequences: contract, laws, and what a counter must not and a reader must see."""

import inspect
import json
from collections import Counter
from functools import cache

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import assay
from assay.core.sequences import Sequences, joined
from assay.core.validation import InputError
from assay.embedders.events import EventCounts
from assay.generators.events import EventEdits, UnlikelyEvents, least_likely, unstable
from test_contracts import assert_clear, entries_of, parameters_of, sections_of

EACH = [(EventEdits, {"kind": kind}) for kind in EventEdits.KINDS]
EACH += [(UnlikelyEvents, {}), (UnlikelyEvents, {"context_only": True}), (UnlikelyEvents, {"order": 3})]
#: A law test fails by chance once in ten thousand seeds; the seeds are fixed.
ALMOST_NEVER = 1e-4

each = pytest.mark.parametrize(
    ("law", "options"), EACH, ids=[f"{law.__name__}-{'-'.join(map(str, options.values()))}" for law, options in EACH]
)


def chains(n, rng, low=20, high=60, noise=0.0):
    """Return walks over twelve events: from each it goes to one of three, mostly the first; or, rarely, anywhere."""
    lengths = rng.integers(low, high, n)
    parts = []
    for length in lengths:
        walk, state = [], int(rng.integers(12))
        for step in rng.choice([1, 5, 7], p=[0.7, 0.2, 0.1], size=length):
            walk.append(state)
            state = (state * 5 + step) % 12 if step != 1 else (state + 1) % 12
            state = int(rng.integers(12)) if rng.random() < noise else state
        parts.append(np.array(walk))
    return joined(parts)


@cache
def walks():
    X = chains(150, np.random.default_rng(0))
    X.flat.setflags(write=False)
    return X


def make(law, options, **parameters):
    return law(**{"random_state": 0, **options, **parameters})


def state(generator):
    return {name: repr(value) for name, value in vars(generator).items() if name.endswith("_")}


# -- the contract ----------------------------------------------------------------------------------------------------


@each
def test_strength_zero_is_the_parent(law, options):
    auxiliary = make(law, options).fit(walks()).sample(10, strength=0)
    for sequence, parent in zip(auxiliary.X, auxiliary.parents):
        assert np.array_equal(sequence, walks()[parent])
    assert not auxiliary.mask.any() and all(drawn["noop"] for drawn in auxiliary.meta)


@each
@pytest.mark.parametrize("strength", [0.5, 1, 3, 30])
def test_the_layout_of_what_is_drawn(law, options, strength):
    generator = make(law, options).fit(walks())
    auxiliary = generator.sample(40, strength=strength)
    assert isinstance(auxiliary.X, Sequences) and len(auxiliary) == len(list(auxiliary)) == 40
    assert auxiliary.mask.shape == auxiliary.touched.shape == auxiliary.X.flat.shape
    assert auxiliary.mask.dtype == auxiliary.touched.dtype == bool
    assert (auxiliary.X.lengths > 0).all() and np.isin(auxiliary.X.flat, walks().flat).all()
    assert not (auxiliary.mask & ~auxiliary.touched).any()
    assert json.loads(json.dumps(auxiliary.meta)) == auxiliary.meta
    for row, (sequence, parent, drawn) in enumerate(zip(auxiliary, auxiliary.parents, auxiliary.meta)):
        mask = auxiliary.mask[auxiliary.X.offsets[row] : auxiliary.X.offsets[row + 1]]
        origin = walks()[parent]
        assert drawn["generator"] == law.__name__ and drawn["strength"] == strength
        assert not np.array_equal(sequence, origin) and not drawn["noop"] and mask.any()
        if len(sequence) == len(origin):
            assert np.array_equal(sequence[~mask], origin[~mask]) and (sequence[mask] != origin[mask]).all()


@each
def test_the_seed_decides_and_nothing_is_kept(law, options):
    before = np.random.get_state()[1].copy()
    generator = make(law, options).fit(walks())
    kept = state(generator)
    first, second = generator.sample(8), generator.sample(8)
    assert first.X.flat.tobytes() == second.X.flat.tobytes() and first.meta == second.meta
    assert state(generator) == kept and np.array_equal(np.random.get_state()[1], before)
    assert make(law, options).fit(walks()).sample(8).X.flat.tobytes() == first.X.flat.tobytes()
    assert generator.sample(8, random_state=5).X.flat.tobytes() != first.X.flat.tobytes()
    for sequence, parent, drawn in zip(first, first.parents, first.meta):
        numbers, _, _, again, _ = generator._one(drawn["seed"], 1.0)
        assert again == parent and np.array_equal(generator.events_[numbers], sequence)


@each
def test_names_are_as_good_as_ids(law, options):
    names = [[f"e{event:02d}" for event in sequence] for sequence in walks()]
    ids, texts = (make(law, options).fit(X).sample(10) for X in (walks(), names))
    assert texts.X.flat.dtype.kind == "U"
    assert [f"e{event:02d}" for event in ids.X.flat] == texts.X.flat.tolist()
    assert np.array_equal(ids.mask, texts.mask) and json.dumps(ids.meta) == json.dumps(texts.meta)


@each
def test_short_and_monotonous_sequences(law, options):
    short = make(law, options).fit([[1], [2], [1, 2], [2, 1, 1]]).sample(60)
    assert (short.X.lengths > 0).all()
    same = make(law, options).fit([[7, 7, 7], [7, 7]]).sample(10)
    assert set(same.X.flat.tolist()) == {7}
    rows = np.repeat(np.arange(10), same.X.lengths)
    for row, drawn in enumerate(same.meta):  # what cannot change is a noop, and says so
        assert drawn["noop"] == (len(same.X[row]) == len([[7, 7, 7], [7, 7]][same.parents[row]]))
        assert drawn["noop"] != same.mask[rows == row].any()
    one = make(law, options).fit([[3], [3]]).sample(2)
    assert (one.X.lengths > 0).all()


@each
def test_saved_and_loaded_it_draws_the_same(law, options, tmp_path):
    for X in (walks(), [["a", "b", "c"], ["b", "c", "a", "a"]]):
        generator = make(law, options).fit(X)
        assay.save(generator, tmp_path / "generator", overwrite=True)
        again = assay.load(tmp_path / "generator").sample(5)
        assert again.X.flat.tolist() == generator.sample(5).X.flat.tolist() and again.meta == generator.sample(5).meta


@pytest.mark.parametrize("law", [EventEdits, UnlikelyEvents])
def test_documented_and_checked(law):
    assert entries_of(sections_of(law)["Parameters"]) == parameters_of(law)
    documented = [name for cls in law.__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    learned = [name for name in vars(law().fit(walks())) if name.endswith("_")]
    assert [name for name in learned if name not in documented] == []
    for name in inspect.signature(law).parameters:
        with pytest.raises((InputError, TypeError)) as error:
            law().set_params(**{name: object()}).fit(walks()).sample(1)
        assert_clear(error, name)
    with pytest.raises(InputError, match="sequence 1 is empty"):
        law().fit([[1], []])


# -- E2: edits -------------------------------------------------------------------------------------------------------


def drawn_of(kind, n=300, strength=1.0, share=0.1):
    generator = EventEdits(kind, share=share, random_state=1).fit(walks())
    auxiliary = generator.sample(n, strength=strength)
    marks = np.split(auxiliary.touched, auxiliary.X.offsets[1:-1])
    return list(zip(auxiliary, [walks()[row] for row in auxiliary.parents], marks, auxiliary.meta, strict=True))


def count_of(origin, strength=1.0, share=0.1):
    return max(1, round(share * strength * len(origin)))


@pytest.mark.parametrize("strength", [0.5, 1, 4])
def test_insert_and_delete_by_hand(strength):
    for kind in ("insert", "insert_rare"):
        for sequence, origin, mark, drawn in drawn_of(kind, 50, strength):
            assert len(sequence) == len(origin) + count_of(origin, strength) and mark.sum() == len(drawn["places"])
            assert np.array_equal(sequence[~mark], origin)
    for sequence, origin, mark, drawn in drawn_of("delete", 50, strength):
        assert len(sequence) == len(origin) - count_of(origin, strength)
        assert np.array_equal(sequence, np.delete(origin, drawn["places"]))
        kept = np.delete(np.arange(len(origin)), drawn["places"])
        after = {min(np.searchsorted(kept, place), len(kept) - 1) for place in drawn["places"]}
        assert set(np.flatnonzero(mark)) == after, "the event after each cut, or the last one"


def test_inserted_events_follow_their_law():
    share = np.bincount(walks().flat) / len(walks().flat)
    drawn = drawn_of("insert")
    events = np.concatenate([sequence[mark] for sequence, _, mark, _ in drawn])
    assert stats.chisquare(np.bincount(events, minlength=12), share * len(events)).pvalue > ALMOST_NEVER
    places = np.array([(place - i + 0.5) / (len(o) + 1) for _, o, _, d in drawn for i, place in enumerate(d["places"])])
    assert stats.kstest(places, stats.uniform.cdf).pvalue > ALMOST_NEVER
    X = [[1] * 50 + [2] * 30 + [3] * 10 + [4] * 6 + [5] * 4, [1]]
    rare = EventEdits("insert_rare", random_state=0).fit(X)
    assert rare.events_[rare.rare_].tolist() == [4, 5] or rare.events_[rare.rare_].tolist() == [5]
    auxiliary = rare.sample(100)
    assert set(auxiliary.X.flat[auxiliary.touched].tolist()) <= {4, 5}


def test_replaced_events_are_others_by_frequency():
    X = [[1] * 60 + [2] * 30 + [3] * 10]
    generator = EventEdits("replace", share=0.5, random_state=0).fit([*X, [1, 2, 3]])
    auxiliary = generator.sample(200)
    marks = np.split(auxiliary.touched, auxiliary.X.offsets[1:-1])
    changes = Counter()
    for sequence, parent, mark in zip(auxiliary, auxiliary.parents, marks):
        origin = np.array([*X, [1, 2, 3]][parent])
        assert (sequence[mark] != origin[mark]).all() and np.array_equal(sequence[~mark], origin[~mark])
        assert mark.sum() == max(1, round(0.5 * len(origin)))
        changes.update(zip(origin[mark].tolist(), sequence[mark].tolist()))
    for event, others in ((1, (2, 3)), (2, (1, 3)), (3, (1, 2))):
        counts = np.array([changes[event, other] for other in others])
        weights = generator.frequencies_[[other - 1 for other in others]]
        assert stats.chisquare(counts, counts.sum() * weights / weights.sum()).pvalue > ALMOST_NEVER


@pytest.mark.parametrize("strength", [0.5, 1, 4])
def test_moves_by_hand(strength):
    for sequence, origin, mark, drawn in drawn_of("swap", 50, strength):
        expected = origin.copy()
        for i in drawn["places"]:
            expected[[i, i + 1]] = expected[[i + 1, i]]
        assert np.array_equal(sequence, expected) and mark.sum() == 2 * len(drawn["places"])
        assert len(drawn["places"]) == (count_of(origin, strength) + 1) // 2 or strength == 4
        assert sorted(sequence) == sorted(origin)
    for sequence, origin, mark, drawn in drawn_of("reverse", 50, strength):
        block = slice(drawn["start"], drawn["start"] + drawn["length"])
        assert (
            drawn["length"] == max(2, count_of(origin, strength))
            and mark[block].all()
            and mark.sum() == drawn["length"]
        )
        assert np.array_equal(sequence[block], origin[block][::-1]) and np.array_equal(sequence[~mark], origin[~mark])
    for sequence, origin, mark, drawn in drawn_of("duplicate", 50, strength):
        start, end = drawn["start"], drawn["start"] + drawn["length"]
        assert np.array_equal(sequence[~mark], origin) and np.array_equal(
            sequence[end : 2 * end - start], origin[start:end]
        )
    for sequence, origin, mark, _ in drawn_of("truncate", 50, strength):
        assert np.array_equal(sequence, origin[: len(origin) - count_of(origin, strength)])
        assert np.flatnonzero(mark).tolist() == [len(sequence) - 1], "the last one"
    for sequence, origin, mark, drawn in drawn_of("splice", 50, strength):
        kept, donor = drawn["kept"], walks()[drawn["donor"]]
        assert np.array_equal(sequence[:kept], origin[:kept]) and mark[kept:].all() and not mark[:kept].any()
        assert np.array_equal(sequence[kept:], donor[-count_of(origin, strength) :])


def test_a_whole_sequence_goes_round():
    auxiliary = EventEdits("duplicate", random_state=0).fit([[1, 2, 3], [1, 2, 3]]).sample(3, strength=20)
    assert auxiliary.X[0].tolist() == [1, 2, 3] * 3


def test_kinds_are_drawn_uniformly():
    kinds = [drawn["kind"] for drawn in EventEdits(random_state=0).fit(walks()).sample(900).meta]
    assert stats.chisquare([kinds.count(kind) for kind in EventEdits.KINDS]).pvalue > ALMOST_NEVER


# -- E3: unlikely events -----------------------------------------------------------------------------------------------


def test_least_likely_by_hand():
    assert least_likely(np.array([0.5, 0.04, 0.06, 0.4])).tolist() == [False, True, True, False]
    assert least_likely(np.array([0.6, 0.4])).tolist() == [False, True], "at least one"
    assert least_likely(np.array([0.0, 0.0, 1.0])).tolist() == [True, True, False]


def test_the_model_by_hand():
    model = UnlikelyEvents(order=3).fit([["a", "b", "a"], ["a", "c"]])
    share = np.array([3, 1, 1]) / 5
    after_a = (np.array([0, 1, 1]) + share) / 3
    sequence = np.array([0, 1, 0])
    after_two_marks = (np.array([2, 0, 0]) + (np.array([2, 0, 0]) + share) / 3) / 3
    assert np.allclose(model._probabilities(sequence, 0), after_two_marks)
    assert np.allclose(model._probabilities(sequence, 1), (np.array([0, 1, 1]) + after_a) / 3)
    after_b = (np.array([1, 0, 0]) + share) / 2
    assert np.allclose(model._probabilities(sequence, 2), (np.array([1, 0, 0]) + after_b) / 2)
    assert np.allclose(model._probabilities(np.array([2, 2, 0]), 2), share), "a context never seen"


def test_replaced_events_are_unlikely_in_their_context():
    generator = UnlikelyEvents(random_state=0).fit(walks())
    auxiliary = generator.sample(60)
    for row, (sequence, drawn) in enumerate(zip(auxiliary, auxiliary.meta)):
        for place in drawn["places"]:
            p = generator._probabilities(sequence, place)
            assert p[p <= p[sequence[place]]].sum() <= 0.1 + 1e-9 or p[sequence[place]] == p.min()
        assert len(drawn["places"]) == count_of(walks()[auxiliary.parents[row]])


def test_exchanged_events_keep_every_count():
    generator = UnlikelyEvents(context_only=True, random_state=0).fit(walks())
    for strength in (0.5, 1, 3):
        auxiliary = generator.sample(60, strength=strength)
        for sequence, parent, drawn in zip(auxiliary, auxiliary.parents, auxiliary.meta):
            assert sorted(sequence) == sorted(walks()[parent])
            assert 1 <= len(drawn["swaps"]) <= (count_of(walks()[parent], strength) + 1) // 2
            places = [place for swap in drawn["swaps"] for place in swap]
            assert len(set(places)) == len(places)
            # The first one meets the sequence as it was.
            place, partner = drawn["swaps"][0]
            origin = generator._numbers(int(parent))
            p = generator._probabilities(origin, place)
            assert origin[partner] != origin[place] and least_likely(p)[origin[partner]]


def novelty(embedder, train, sequences):
    rows, seen = embedder.transform(sequences), embedder.fit_transform(train)
    scale = seen.std(axis=0) + 1e-9
    return NearestNeighbors(n_neighbors=5).fit(seen / scale).kneighbors(rows / scale)[0].mean(axis=1)


def surprise(train, sequences):
    """Return the mean surprise of a sequence's bigrams, the model learned from `train` in the plainest way."""
    table = np.full((12, 12), 0.5)
    for sequence in train:
        np.add.at(table, (sequence[:-1], sequence[1:]), 1)
    table = -np.log(table / table.sum(axis=1, keepdims=True))
    return np.array([table[sequence[:-1], sequence[1:]].mean() for sequence in sequences])


def test_who_counts_sees_nothing_and_who_reads_sees_it():
    rng = np.random.default_rng(3)
    train, fresh = chains(300, rng), chains(300, rng)
    y = np.repeat([0, 1], 300)
    counts = EventCounts(n_pairs=0).fit(train)
    areas = {}
    for context_only in (True, False):
        # The parents are fresh sequences: what was seen in training is no help.
        made = UnlikelyEvents(context_only, random_state=0).fit(chains(300, rng)).sample(300, strength=2.0).X
        both = joined([*fresh, *made])
        areas[context_only] = roc_auc_score(y, novelty(counts, train, both)), roc_auc_score(y, surprise(train, both))
    assert abs(areas[True][0] - 0.5) < 0.07, areas
    assert areas[True][1] > 0.95 and areas[False][1] > 0.95, areas
    pairs = EventCounts().fit(train)
    made = UnlikelyEvents(True, random_state=0).fit(chains(300, rng)).sample(300, strength=2.0).X
    assert roc_auc_score(y, novelty(pairs, train, joined([*fresh, *made]))) > 0.9, "pairs of neighbours are order"


@each
def test_stronger_is_easier_to_find(law, options):
    if options.get("kind") == "splice":
        pytest.skip("one seam at any strength")
    rng = np.random.default_rng(4)
    train, fresh, parents = (chains(300, rng, noise=0.15) for _ in range(3))
    generator = make(law, options).fit(parents)
    by_length = {"truncate": -1, "duplicate": 1}.get(options.get("kind"))
    areas = []
    for strength in (0.1, 1, 4):
        both = joined([*fresh, *generator.sample(300, strength=strength).X])
        found = by_length * both.lengths if by_length else surprise(train, both)
        areas.append(roc_auc_score(np.repeat([0, 1], 300), found))
    assert areas[0] < areas[1] < areas[2] and areas[2] > max(areas[0] + 0.1, 0.65), areas


# -- E1: instability ---------------------------------------------------------------------------------------------------


def test_instability_changes_a_share_of_the_sequences_a_little():
    kept = walks().flat.copy()
    again = unstable(walks(), 0.3, random_state=0)
    assert len(again) == len(walks()) and np.array_equal(walks().flat, kept)
    changed = np.array([not np.array_equal(one, other) for one, other in zip(again, walks())])
    assert stats.binomtest(int(changed.sum()), len(changed), 0.3).pvalue > ALMOST_NEVER
    assert np.abs(again.lengths - walks().lengths).max() <= 3
    assert np.array_equal(unstable(walks(), 0.0, random_state=0).flat, walks().flat)
    twice = unstable(walks(), 0.3, random_state=0)
    assert twice.flat.tobytes() == again.flat.tobytes()
    differences = again.lengths[changed] - walks().lengths[changed]
    assert (differences > 0).any() and (differences < 0).any() and (differences == 0).any()
    assert unstable([["a"], ["b"]], 1.0, random_state=0).flat.dtype.kind == "U"


def test_instability_spares_what_is_telling():
    # "9" occurs in one sequence of forty alone, the others in all of them.
    X = [[1, 2, 3, 4] * 5 for _ in range(39)] + [[1, 2, 3, 4, 9] * 4]
    dropped = Counter()
    for seed in range(300):
        before, after = Counter(X[-1]), Counter(unstable(X, 1.0, random_state=seed)[-1].tolist())
        dropped.update(before - after)
    assert sum(dropped.values()) > 60 and dropped[9] < 0.05 * sum(dropped.values())


@pytest.mark.parametrize("ratio", [-0.1, 1.1, "much"])
def test_senseless_ratios(ratio):
    with pytest.raises(InputError, match="ratio"):
        unstable([[1, 2]], ratio)
