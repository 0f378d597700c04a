"""What an embedder calls its numbers, checked by moving one thing and seeing which names move."""

import numpy as np
import pytest

from assay import EventCounts, GalaxyShapes, GraphStatistics, SetStatistics, SpectralWindows

RNG = np.random.default_rng(0)


def graph(n=6, d=2):
    links = np.triu(RNG.random((n, n)) < 0.5, 1).astype(float)
    return links + links.T, RNG.normal(size=(n, d))


EMBEDDED = {
    "sets": (SetStatistics(), [RNG.normal(size=(size, 3)) for size in (4, 5, 6)]),
    "events": (EventCounts(n_events=2, n_pairs=3), [["a", "b", "a"], ["b", "c"], ["a", "b"]]),
    "all events": (EventCounts(n_pairs=0), [["a", "b", "a"], ["b", "c"], ["a", "b"]]),
    "graphs": (GraphStatistics(), [graph() for _ in range(3)]),
    "windows": (SpectralWindows(), RNG.normal(size=(5, 21, 2))),
    "galaxies": (GalaxyShapes(percentiles=(80, 0)), RNG.integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)),
}


@pytest.mark.parametrize("kind", EMBEDDED)
def test_each_number_has_a_name_of_its_own(kind):
    embedder, items = EMBEDDED[kind]
    rows = embedder.fit_transform(items)
    names = embedder.get_feature_names_out()
    assert len(names) == rows.shape[1] == len(set(names)) and all(isinstance(name, str) for name in names)


def moved(embedder, before, after):
    """Return the names of the numbers in which two items differ."""
    one, two = embedder.transform([before])[0], embedder.transform([after])[0]
    return set(embedder.get_feature_names_out()[~np.isclose(one, two)])


def test_sets_by_column():
    embedder, sets = EMBEDDED["sets"]
    embedder.fit(sets)
    changed = sets[0] + [0.0, 5.0, 0.0]
    assert moved(embedder, sets[0], changed) == {"mean of number 2"} | {
        f"{quantile:g} quantile of number 2" for quantile in embedder.quantiles
    }
    assert "log of the size" in moved(embedder, sets[0], np.concatenate([sets[0], sets[0]]))


def test_events_and_pairs_by_name():
    embedder = EventCounts().fit([["a", "b"], ["b", "a", "c"]])
    assert moved(embedder, ["a", "b"], ["a", "c"]) == {"b", "c", "a, then b", "a, then c"}
    assert moved(embedder, ["a"], ["x"]) == {"a", "events never seen"}
    rare = EventCounts(n_events=1, n_pairs=1).fit([["a", "b"], ["a", "b"], ["a", "c"]])
    assert rare.get_feature_names_out().tolist() == [
        "a", "other events", "events never seen", "a, then b", "other pairs", "length",
    ]  # fmt: skip


def test_windows_by_channel_and_frequency():
    embedder, windows = EMBEDDED["windows"]
    embedder.fit(windows)
    time = np.arange(21)
    raised = windows[0] + [0.0, 3.0]
    assert moved(embedder, windows[0], raised) == {
        "mean, channel 2",
        "least value, channel 2",
        "largest value, channel 2",
    }
    wave = windows[0] + np.outer(np.cos(2 * np.pi * 4 * (time + 0.5) / 21), [5.0, 0.0])
    one, two = embedder.transform([windows[0]])[0], embedder.transform([wave])[0]
    powers = [place for place, name in enumerate(embedder.get_feature_names_out()) if name.startswith("power")]
    most = powers[int(np.argmax((two - one)[powers]))]
    assert embedder.get_feature_names_out()[most] == "power in band 4 of 10, channel 1"


def test_graphs_by_number():
    embedder, graphs = EMBEDDED["graphs"]
    embedder.fit(graphs)
    links, x = graphs[0]
    changed = x.copy()
    changed[0, 1] += 4.0
    assert moved(embedder, (links, x), (links, changed)) == {"mean of number 2", "roughness of number 2"}


def test_galaxies_by_level():
    y, x = np.mgrid[-1:1:64j, -1:1:64j]

    def galaxy(core, halo):
        light = np.exp(-60 * (x**2 + (y / core) ** 2)) + 0.3 * np.exp(-8 * (x**2 + (y / halo) ** 2))
        return np.repeat((255 * light / light.max()).astype(np.uint8)[:, :, None], 3, axis=2)

    embedder = GalaxyShapes(percentiles=(99, 0)).fit(np.array([galaxy(1.0, 0.6), galaxy(0.6, 1.0), galaxy(1.0, 1.0)]))
    names = embedder.get_feature_names_out().tolist()
    round_halo, flat_halo = (embedder.transform([galaxy(1.0, halo)])[0] for halo in (1.0, 0.5))
    place = names.index("aspect at level 0 %")
    assert flat_halo[place] < 0.8 * round_halo[place]
    assert np.isclose(flat_halo[names.index("aspect at level 99 %")], 1.0)  # the innermost, relative to itself
