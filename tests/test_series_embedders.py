"""Embedders of windows and of event sequences: contract, values worked out by hand, and what each must see."""

import hashlib
import inspect
import json
import re

import numpy as np
import pytest
from scipy import stats
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

import assay
from assay.core.sequences import Sequences, joined
from assay.core.validation import InputError
from assay.embedders.events import EventCounts, EventVectors, _company, _positive_information
from assay.embedders.series import RandomConvolutions, RawWindows, SpectralWindows
from assay.generators.events import EventEdits, UnlikelyEvents
from assay.generators.series.common import StepNoise
from assay.generators.series.gutentag import GutenTAG
from assay.generators.series.tods import TODS
from test_contracts import assert_clear, entries_of, parameters_of, sections_of
from test_event_generators import EACH as EVENT_GENERATORS
from test_event_generators import chains
from test_series_generators import ALL as WINDOW_GENERATORS
from test_series_generators import waves

WINDOWS = {RawWindows: {}, SpectralWindows: {}, RandomConvolutions: {"n_kernels": 60, "random_state": 0}}
EVENTS = {EventCounts: {"n_pairs": 30}, EventVectors: {"n_components": 6}}
ALL = {**WINDOWS, **EVENTS}

each = pytest.mark.parametrize("law", ALL, ids=lambda law: law.__name__)
windowed = pytest.mark.parametrize("law", WINDOWS, ids=lambda law: law.__name__)
counted = pytest.mark.parametrize("law", EVENTS, ids=lambda law: law.__name__)


def data_for(law, n=30, seed=0):
    rng = np.random.default_rng(seed)
    X = waves(n, rng, 40) if law in WINDOWS else chains(n, rng)
    (X if law in WINDOWS else X.flat).setflags(write=False)
    return X


def make(law, **parameters):
    return law(**{**ALL[law], **parameters})


# -- the contract ----------------------------------------------------------------------------------------------------


@each
def test_each_item_alone_decides_on_its_row(law):
    train, fresh = data_for(law), data_for(law, 20, 1)
    embedder = make(law).fit(train)
    rows = embedder.transform(fresh)
    assert rows.shape[0] == 20 and rows.dtype == np.float64 and np.isfinite(rows).all()
    assert (rows.std(axis=0) > 0).any()
    for chosen in ([3], [7, 2, 2], range(19, -1, -1)):
        chosen = np.array(list(chosen))
        np.testing.assert_allclose(embedder.transform(fresh[chosen]), rows[chosen], rtol=1e-12, atol=1e-12)
    assert np.array_equal(make(law).fit_transform(train), embedder.transform(train))
    assert np.array_equal(embedder.transform(fresh), rows), "it does not learn"


@each
def test_refit_forgets_and_no_state_is_touched(law):
    before = np.random.get_state()[1].copy()
    first, other = data_for(law), data_for(law, 12, 5)
    again = make(law).fit(other).fit(first)
    assert np.array_equal(again.transform(other), make(law).fit(first).transform(other))
    assert np.array_equal(np.random.get_state()[1], before)


@each
def test_saved_and_loaded_it_gives_the_same_rows(law, tmp_path):
    embedder = make(law).fit(data_for(law))
    assay.save(embedder, tmp_path / "embedder")
    rows = assay.load(tmp_path / "embedder").transform(data_for(law, 5, 1))
    assert np.array_equal(rows, embedder.transform(data_for(law, 5, 1)))


@each
def test_documented_and_checked(law):
    assert entries_of(sections_of(law).get("Parameters", [])) == parameters_of(law)
    documented = [name for cls in law.__mro__ for name in entries_of(sections_of(cls).get("Attributes", []))]
    learned = [name for name in vars(make(law).fit(data_for(law))) if name.endswith("_")]
    assert [name for name in learned if name not in documented] == []
    page = inspect.getdoc(inspect.getmodule(law))
    assert re.search(r"\bIn: ", page) and re.search(r"\bOut: ", page)
    for name in parameters_of(law):
        with pytest.raises((InputError, TypeError)) as error:
            make(law).set_params(**{name: object()}).fit(data_for(law))
        assert_clear(error, name)
    with pytest.raises(NotFittedError):
        make(law).transform(data_for(law))


@windowed
def test_windows_of_any_size(law):
    rng = np.random.default_rng(0)
    for length, channels in ((4, 1), (5, 7), (9, 2), (200, 1)):
        X = rng.normal(size=(6, length, channels))
        assert np.isfinite(make(law).fit_transform(X)).all()
        one = make(law).fit_transform(X[:1])
        assert one.shape[0] == 1 and np.isfinite(one).all()
    X[:, :, 0] = 3.7
    assert np.isfinite(make(law).fit_transform(X)).all(), "constant"
    with pytest.raises(InputError, match="3 steps"):
        make(law).fit(np.zeros((4, 3)))
    with pytest.raises(InputError, match=r"shape \(30, 2\)"):
        make(law).fit(np.zeros((4, 40, 2))).transform(np.zeros((4, 30, 2)))


@windowed
def test_the_unit_of_a_channel_does_not_matter(law):
    train, fresh = data_for(law), data_for(law, 10, 1)
    units, shift = np.array([1000.0, 1e-3, 7.0]), np.array([-5e4, 0.1, 3.0])
    rows = make(law).fit(train).transform(fresh)
    other = make(law).fit(train * units + shift).transform(fresh * units + shift)
    np.testing.assert_allclose(other, rows, rtol=1e-5, atol=1e-5)


@counted
def test_odd_sequences(law):
    embedder = make(law).fit([["a", "b"], ["b", "c", "a"]])
    rows = embedder.transform([["z"], ["a"], ["z", "y", "z"], ["c", "b", "a", "c"]])
    assert np.isfinite(rows).all() and rows.shape[0] == 4
    with pytest.raises(InputError, match="ids"):
        embedder.transform([[1, 2]])
    with pytest.raises(InputError, match="empty"):
        embedder.transform([["a"], []])
    assert np.isfinite(make(law).fit_transform([[5], [5]])).all()


def fingerprints():
    """Return a hash of what every generator and embedder computes."""
    answers = {}
    with threadpool_limits(1):
        for law in ALL:
            answers[law.__name__] = make(law).fit(data_for(law)).transform(data_for(law, 8, 1)).tobytes()
        for law in WINDOW_GENERATORS:
            drawn = law(random_state=3).fit(data_for(RawWindows)).sample(20)
            answers[law.__name__] = drawn.X.tobytes() + drawn.mask.tobytes() + json.dumps(drawn.meta).encode()
        for law, options in EVENT_GENERATORS:
            drawn = law(**options, random_state=3).fit(data_for(EventCounts)).sample(20)
            answers[f"{law.__name__} {options}"] = drawn.X.flat.tobytes() + json.dumps(drawn.meta).encode()
    return {name: hashlib.sha256(answer).hexdigest() for name, answer in answers.items()}


def test_same_seed_same_bits_in_two_processes(run_python):
    code = "import json, test_series_embedders as t; print(json.dumps(t.fingerprints()))"
    assert json.loads(run_python(code).splitlines()[-1]) == fingerprints()


# -- windows ---------------------------------------------------------------------------------------------------------


def test_raw_windows_by_hand():
    X = np.array([[[1.0, 10], [3, 10], [1, 10], [3, 10]], [[3.0, 10], [3, 10], [1, 10], [1, 10]]])
    rows = RawWindows().fit(X).transform(X[:1] + np.array([2.0, 5.0]))
    assert rows.tolist() == [[1, 5, 3, 5, 1, 5, 3, 5]]


def test_spectral_features_by_hand():
    t = np.arange(64)
    train = np.random.default_rng(0).normal(size=(500, 64, 1))
    embedder = SpectralWindows(bands=8).fit(train)
    window = 2.0 * np.sin(2 * np.pi * 6 * t / 64) + 5.0
    window[40] += 3.0
    z = (window - embedder.mean_[0]) / embedder.scale_[0]
    row = embedder.transform(window[None])[0]
    assert row.shape == (15,)
    time = (t - 31.5) / (t - 31.5).std()
    slope = (time * z).mean()
    power = np.abs(np.fft.rfft(z - z.mean() - slope * time)[1:]) ** 2 * 2 / 64**2
    assert np.allclose(row[:8], np.log(power.reshape(8, 4).sum(axis=1) + 1e-6))
    assert row[:8].argmax() == 1, "6 turns: the second band, of 5 to 8"
    steps = np.abs(np.diff(z)).max()
    bend = max(abs(z[i] - (z[i - 1] + z[i + 1]) / 2) for i in range(1, 63))
    assert np.allclose(row[8:], [z.mean(), np.log(z.std() + 1e-6), slope, z.min(), z.max(), steps, bend])
    # By Parseval the bands hold all the variance, but for the line and the doubled Nyquist frequency.
    noise = train[:50]
    whole = np.exp(embedder.transform(noise)[:, :8]).sum(axis=1)
    assert np.allclose(whole, noise.var(axis=1)[:, 0] / embedder.scale_[0] ** 2, rtol=0.35)


def novelty(embedder, train, fresh):
    seen, rows = embedder.fit_transform(train), embedder.transform(fresh)
    center, scale = seen.mean(axis=0), seen.std(axis=0) + 1e-9
    near = NearestNeighbors(n_neighbors=5).fit((seen - center) / scale)
    return near.kneighbors((rows - center) / scale)[0].mean(axis=1)


def mean_area(law, generator, seeds=3, strength=1.0, **parameters):
    areas = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        train, fresh, parents = (waves(200, rng, 60, 2) for _ in range(3))
        made = generator.set_params(random_state=seed).fit(parents).sample(200, strength=strength).X
        scores = novelty(make(law, **parameters), train, np.concatenate([fresh, made]))
        areas.append(roc_auc_score(np.repeat([0, 1], 200), scores))
    return float(np.mean(areas))


@windowed
def test_every_embedding_sees_a_single_strange_point(law):
    assert mean_area(law, GutenTAG("extremum")) > 0.85


def test_the_spectrum_knows_frequency_and_no_phase():
    t = np.arange(64)

    def wave(turns, phase):
        return np.sin(2 * np.pi * turns * t / 64 + phase)

    rng = np.random.default_rng(0)
    train = np.array([wave(8, phase) for phase in rng.uniform(0, 6.28, 50)]) + 0.1 * rng.normal(size=(50, 64))
    probes = [np.array([wave(turns, phase)] * 50) for turns, phase in ((8, 0.0), (8, 1.5), (13, 0.0))]
    probes = [probe + 0.1 * rng.normal(size=probe.shape) for probe in probes]
    apart = {}
    for law, width in ((RawWindows, 64), (SpectralWindows, 16)):
        embedder = make(law).fit(train)
        rows = [embedder.transform(probe)[:, :width] for probe in probes]
        shifted, faster = (np.linalg.norm(rows[0] - other, axis=1).mean() for other in rows[1:])
        apart[law] = faster / shifted
    assert apart[SpectralWindows] > 2 * apart[RawWindows], apart


@windowed
def test_every_embedding_sees_strong_anomalies(law):
    for generator in (StepNoise(sigma=0.6), TODS("trend"), GutenTAG("mean", length=(0.3, 0.5))):
        assert mean_area(law, generator, 1, strength=2.0) > 0.8


def test_a_change_of_level_of_the_whole_window_is_seen():
    # Standardised by themselves, as ROCKET does it, such windows are all alike.
    rng = np.random.default_rng(0)
    train, fresh = waves(200, rng, 60, 2), waves(100, rng, 60, 2)
    for law in WINDOWS:
        scores = novelty(make(law), train, np.concatenate([fresh, fresh + 6.0]))
        assert roc_auc_score(np.repeat([0, 1], 100), scores) > 0.95, law


def test_random_convolutions_equal_their_definition():
    rng = np.random.default_rng(0)
    for length, channels in ((30, 5), (6, 2)):
        X = rng.normal(3.0, 2.0, (7, length, channels))
        embedder = RandomConvolutions(50, random_state=1).fit(X)
        Z, rows = (X - embedder.mean_) / embedder.scale_, embedder.transform(X)
        weight = channel = 0
        for kernel in range(50):
            size, dilation, padding = (
                int(part[kernel]) for part in (embedder.lengths_, embedder.dilations_, embedder.paddings_)
            )
            response = embedder.biases_[kernel]
            for c in embedder.channels_[channel : channel + embedder.channel_counts_[kernel]]:
                w = embedder.weights_[weight : weight + size]
                weight += size
                padded = np.pad(Z[:, :, c], ((0, 0), (padding, padding)))
                places = np.arange(padded.shape[1] - (size - 1) * dilation)
                response = response + sum(w[j] * padded[:, places + j * dilation] for j in range(size))
            channel += embedder.channel_counts_[kernel]
            assert np.allclose(rows[:, 2 * kernel], response.max(axis=1))
            assert np.allclose(rows[:, 2 * kernel + 1], (response > 0).mean(axis=1))
        assert weight == len(embedder.weights_) and channel == len(embedder.channels_)


def test_kernels_are_drawn_by_their_law():
    embedder = RandomConvolutions(3000, random_state=0).fit(np.random.default_rng(0).normal(size=(3, 120, 8)))
    assert stats.chisquare(np.unique(embedder.lengths_, return_counts=True)[1]).pvalue > 1e-4
    assert stats.kstest(embedder.biases_, stats.uniform(-1, 2).cdf).pvalue > 1e-4
    assert stats.binomtest(int((embedder.paddings_ > 0).sum()), 3000).pvalue > 1e-4
    reach = (embedder.lengths_ - 1) * embedder.dilations_
    assert reach.max() <= 119 and reach.max() > 90 and (embedder.dilations_ == 1).mean() > 0.2
    assert set(embedder.channel_counts_) == set(range(1, 9)) and (embedder.channel_counts_ == 1).mean() > 0.25
    first = embedder.weights_[: embedder.lengths_[0]]
    assert first.mean() == pytest.approx(0, abs=1e-12)


# -- events ----------------------------------------------------------------------------------------------------------


def test_counts_by_hand():
    train = [[1, 2, 1, 2, 3], [2, 1, 9]]
    embedder = EventCounts(n_events=2, n_pairs=2).fit(train)
    assert embedder.pairs_.tolist() == [0 * 4 + 1, 1 * 4 + 0], "1 2 and 2 1"
    rows = embedder.transform([[1, 2, 3, 8, 8], [2, 1, 2], [7]])
    #             1  2  others unseen | 12 21 other pairs | length
    assert rows.tolist() == [[1, 1, 1, 2, 1, 0, 3, 5], [1, 2, 0, 0, 1, 1, 0, 3], [0, 0, 0, 1, 0, 0, 0, 1]]
    assert EventCounts(n_pairs=0).fit(train).transform(train).tolist() == [[2, 2, 1, 0, 0, 0, 5], [1, 1, 0, 1, 0, 0, 3]]
    total = (
        EventCounts(n_events=3, n_pairs=4)
        .fit(chains(50, np.random.default_rng(0)))
        .transform(chains(20, np.random.default_rng(1)))
    )
    assert (total[:, :5].sum(axis=1) == total[:, -1]).all() and (total[:, 5:-1].sum(axis=1) == total[:, -1] - 1).all()


def test_order_is_seen_by_pairs_alone():
    embedder, orderless = EventCounts(), EventCounts(n_pairs=0)
    X, Y = [["a", "b", "c", "a"]], [["a", "a", "c", "b"]]
    assert (embedder.fit(X + Y).transform(X) != embedder.transform(Y)).any()
    assert (orderless.fit(X + Y).transform(X) == orderless.transform(Y)).all()


def test_company_and_information_by_hand():
    numbers, offsets = np.array([0, 1, 2, 1, 2]), np.array([0, 3, 5])
    near = _company(numbers, offsets, 1, 3)
    assert near.tolist() == [[0, 1, 0], [1, 0, 2], [0, 2, 0]]
    assert _company(numbers, offsets, 2, 3)[0, 2] == 1 and _company(numbers, offsets, 9, 3)[1, 1] == 0
    table = _positive_information(near, 1.0)
    assert table[0, 1] == pytest.approx(np.log(1 * 6 / (1 * 3))) and table[1, 2] == pytest.approx(
        np.log(2 * 6 / (3 * 2))
    )
    assert table[0, 0] == 0 and np.array_equal(table, table.T)
    assert _positive_information(near, 2.0).max() == 0


def test_vectors_factor_the_information():
    train = chains(80, np.random.default_rng(0))
    embedder = EventVectors(n_components=12, reach=2).fit(train)
    table = _positive_information(_company(train.flat, train.offsets, 2, 12), 1.0)
    values, _ = np.linalg.eigh(table)
    size = np.abs(values)
    assert np.allclose(embedder.vectors_.T @ embedder.vectors_, np.diag(np.sort(size)[::-1]), atol=1e-9)
    gram = embedder.vectors_ @ embedder.vectors_.T
    assert np.allclose(gram @ gram, table @ table, atol=1e-8), "V V' is M but for the signs of its eigenvalues"
    rows = embedder.transform([[0, 3, 3], [99]])
    vectors = embedder.vectors_
    assert np.allclose(rows[0], np.concatenate([(vectors[0] + 2 * vectors[3]) / 3, np.maximum(vectors[0], vectors[3])]))
    assert not rows[1].any()
    wide = EventVectors(n_components=20, n_events=5).fit(train)
    assert wide.vectors_.shape == (5, 20) and not wide.vectors_[:, 5:].any()


def test_vectors_see_events_in_the_wrong_company():
    rng = np.random.default_rng(0)

    def topics(n, mixed):
        parts = [rng.integers(15, size=30) + 15 * rng.integers(2) for _ in range(n)]
        return joined([np.where(rng.random(30) < 0.5, part, (part + 15) % 30) if mixed else part for part in parts])

    # Both counts of events and company are there; the embedding must know what belongs together.
    train, fresh, mixed = topics(300, False), topics(100, False), topics(100, True)
    scores = novelty(EventVectors(n_components=4), train, joined([*fresh, *mixed]))
    assert roc_auc_score(np.repeat([0, 1], 100), scores) > 0.95


def test_edited_sequences_stand_out():
    rng = np.random.default_rng(0)
    train, fresh, parents = (chains(300, rng) for _ in range(3))
    made = UnlikelyEvents(random_state=0).fit(parents).sample(300, strength=3.0).X
    assert isinstance(made, Sequences)
    rare = EventEdits("replace", random_state=0).fit(parents).sample(300, strength=3.0).X
    for sequences in (made, rare):
        assert roc_auc_score(np.repeat([0, 1], 300), novelty(EventCounts(), train, joined([*fresh, *sequences]))) > 0.9
