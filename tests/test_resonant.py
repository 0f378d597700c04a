"""Resonant detection: folds, templates, what a wrong template does, what the classifier must not see, and loaders."""

import gzip
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

import assay
from assay.calibration.background import direct_background, estimate, scan, sideband_delta
from assay.core.random import as_generator
from assay.core.validation import InputError
from assay.datasets.physics import load_dilepton, load_lhco, load_lhco_spectrum
from assay.datasets.simulators.resonance import resonance
from assay.detectors.tabular.resonant import (
    ANODE,
    CATHODE,
    IAD,
    RANODE,
    TEMPLATES,
    CWoLa,
    LaCATHODE,
    ResonantDetector,
    fold_numbers,
    short_sidebands,
    smooth_masses,
    within,
)

WINDOW = (3.3, 3.7)
QUICK = {"window": WINDOW, "ensemble": 1, "max_iter": 30, "folds": 3, "random_state": 0}
FLOW = {"blocks": 3, "hidden": 24, "epochs": 15, "learning_rate": 3e-3, "keep": 3}
SPARSE = {"oversample": 2.0, "reference": 3.0}


def exact(n_background, n_signal, seed):
    """Return window events without labels, and three times as much true background of the window labelled 0."""
    data = resonance(n_background, n_signal, mass_range=WINDOW, random_state=seed)
    truth = resonance(3 * n_background, 0, mass_range=WINDOW, random_state=10_000 + seed)
    return np.vstack([data.X, truth.X]), np.repeat([-1, 0], [len(data.X), len(truth.X)]), data.y


@pytest.fixture(scope="module")
def signal():
    """Return the toy with an exact template: 90 signal events among 4000, S/√B = 1.4."""
    X, y, truth = exact(4000, 90, 0)
    return X, truth, ResonantDetector("iad", **QUICK | {"ensemble": 2}).fit(X, y)


# -- folds and regions -----------------------------------------------------------------------------------------------


def test_regions():
    m = np.array([3.0, 3.1, 3.2, 3.3, 3.5, 3.7, 3.8, 3.95])
    assert within(m, WINDOW).tolist() == [False, False, False, True, True, True, False, False]
    assert m[short_sidebands(m, WINDOW, 0.2)].tolist() == [3.1, 3.2, 3.8]
    assert m[short_sidebands(m, WINDOW, None)].tolist() == [3.1, 3.2, 3.8], "half of .4"


def test_identical_rows_share_a_fold_and_every_fold_holds_data():
    rng = np.random.default_rng(0)
    data, background = rng.normal(size=(50, 3)), rng.normal(size=(200, 3))
    twice = np.vstack([data, data])
    folds = fold_numbers(twice, np.vstack([background, data[:5]]), 5, rng)
    assert np.array_equal(folds[:50], folds[50:100])
    assert np.array_equal(folds[:5], folds[-5:])
    assert np.bincount(folds[:50]).tolist() == [10] * 5
    assert np.bincount(folds[100:300]).min() >= 35
    assert fold_numbers(data[:3], background, 5, rng).max() == 2


def test_masses_are_drawn_near_those_of_the_window_and_never_outside():
    rng = np.random.default_rng(0)
    m = rng.uniform(*WINDOW, 500)
    m[:250] = 3.4
    drawn = smooth_masses(m, WINDOW, 20_000, rng)
    assert within(drawn, WINDOW).all()
    assert (np.abs(drawn - 3.4) < 0.01).mean() == pytest.approx(0.5, abs=0.06)
    assert len(np.unique(drawn)) > 19_000


# -- the estimate at work --------------------------------------------------------------------------------------------


def test_harder_cuts_find_more_and_the_signal_is_what_they_keep(signal):
    X, truth, detector = signal
    soft, hard = direct_background(detector, 0.01), direct_background(detector, 0.002)
    inclusive = 90 / np.sqrt(4000)
    assert hard.Z > soft.Z > inclusive
    assert soft.b == pytest.approx(41, rel=0.1)
    kept = detector.held_out_scores_ >= hard.thresholds[detector.folds_]
    assert truth[detector.data_rows_[kept]].mean() > 0.7
    assert roc_auc_score(truth, detector.held_out_scores_) > 0.85
    assert detector.n_features_in_ == 5
    assert len(detector.template_scores_) == 12_000


def test_without_signal_the_estimate_closes_and_scores_of_training_rows_do_not():
    X, y, _ = exact(3000, 0, 1)
    detector = ResonantDetector("iad", **QUICK).fit(X, y)
    for eps in (0.01, 0.05):
        found = direct_background(detector, eps)
        assert abs(found.delta) < 3 * found.sigma_stat
    # The same models, asked about what they were trained on.
    scores = detector.anomaly_score(X)
    seen = estimate(scores[y == -1], scores[y == 0], 0.01)
    assert seen.delta > 3 * seen.sigma_stat


def test_copies_of_the_events_do_not_leak_into_other_folds():
    X, y, _ = exact(1500, 0, 2)
    twice, labels = np.vstack([X, X]), np.r_[y, y]
    found = direct_background(ResonantDetector("iad", **QUICK).fit(twice, labels), 0.02)
    single = direct_background(ResonantDetector("iad", **QUICK).fit(X, y), 0.02)
    assert found.n_sr == 2 * single.n_sr
    # The error counts each copy, so it is that of half as many events.
    assert abs(found.delta) < 3 * np.sqrt(2) * found.sigma_stat
    assert abs(found.delta - single.delta) < 3 * np.hypot(single.sigma_stat, np.sqrt(2) * found.sigma_stat)


def test_a_feature_that_follows_the_mass_ruins_sidebands_but_does_not_sculpt_latent_scores():
    X = resonance(8000, 0, d=2, correlated=True, random_state=0).X
    cwola = ResonantDetector("cwola", **QUICK).fit(X)
    wrong = direct_background(cwola, 0.1)
    assert wrong.delta > 3 * wrong.sigma_stat
    assert wrong.delta > 0.4
    latent = ResonantDetector(LaCATHODE(**FLOW), **QUICK | SPARSE).fit(X)
    # How the score moves with the mass, and what of each mass it lets pass; of fresh events, as no model has seen them.
    fresh = resonance(8000, 0, d=2, correlated=True, random_state=1).X
    m, near = fresh[:, 0], within(fresh[:, 0], (3.1, 3.9))
    moves, spread = {}, {}
    for name, detector in (("cwola", cwola), ("latent", latent)):
        scores = detector.anomaly_score(fresh)
        passing = scores >= np.quantile(scores, 0.8)
        moves[name] = abs(np.corrcoef(np.abs(m[near] - 3.5), scores[near])[0, 1])
        spread[name] = np.ptp([passing[(m >= low) & (m < low + 0.25)].mean() for low in (2.5, 2.75, 3.0, 3.25, 3.5)])
    assert moves["latent"] < 0.1 < 0.2 < moves["cwola"]
    assert spread["latent"] < 0.15 < 0.3 < spread["cwola"]


def test_the_mass_is_never_looked_at(signal):
    X, _, detector = signal
    moved = X[:500].copy()
    moved[:, 0] += 100.0
    assert np.array_equal(detector.anomaly_score(moved), detector.anomaly_score(X[:500]))


def test_the_window_hides_its_signal_from_no_one_but_needs_the_right_place():
    X = resonance(6000, 150, random_state=3).X
    points = scan(ResonantDetector(**QUICK | {"max_iter": 20}), X, [(2.8, 3.2), WINDOW, (3.8, 4.2)], 0.01)
    z = [point.background.Z for point in points]
    assert z[1] > 4 > max(z[0], z[2])
    assert [point.window for point in points] == [(2.8, 3.2), WINDOW, (3.8, 4.2)]
    assert points[1].bump.Z > 3 > points[0].bump.Z
    corrected = scan(ResonantDetector(**QUICK | {"max_iter": 20}), X, [WINDOW], 0.01, delta_sys=[0.5])
    assert corrected[0].background.b == pytest.approx(1.5 * points[1].background.b)


def test_sideband_events_tell_the_bias_of_the_template():
    X = resonance(6000, 0, d=2, slope=2.0, random_state=4).X
    good = ResonantDetector(CATHODE(**FLOW), **QUICK | SPARSE).fit(X)
    bad = ResonantDetector(CATHODE(**FLOW | {"epochs": 1, "learning_rate": 0.0}), **QUICK | SPARSE).fit(X)
    told = [sideband_delta(detector, X, 0.1, random_state=0) for detector in (good, bad)]
    true = [direct_background(detector, 0.1) for detector in (good, bad)]
    assert abs(true[0].delta) < 0.5 < true[1].delta
    assert abs(told[0].delta) < 0.5 < told[1].delta
    assert direct_background(bad, 0.1, told[1].delta).Z < 2 < true[1].Z
    assert told[0].n_sr == len(good.data_rows_), "as many as in the window"
    with pytest.raises(InputError, match="simulation"):
        sideband_delta(ResonantDetector(**QUICK).fit(X), X, 0.05)


def test_the_windows_signal_does_not_reach_the_sideband_control():
    X = resonance(3000, 0, d=2, random_state=5).X
    detector = ResonantDetector(CATHODE(**FLOW | {"epochs": 2}), **QUICK).fit(X)
    other = X.copy()
    other[within(X[:, 0], WINDOW), 1:] = 99.0
    first, second = (sideband_delta(detector, rows, 0.05, random_state=0) for rows in (X, other))
    assert first.delta == second.delta


# -- templates -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spectrum():
    """Return a spectrum whose background moves so that the 150 signal events lie near to the mean of all."""
    return resonance(6000, 150, d=2, slope=-3.0, random_state=6)


@pytest.mark.parametrize("template", [CATHODE, LaCATHODE, ANODE, RANODE])
def test_templates_from_flows_find_the_signal(template, spectrum):
    given = template(**FLOW | ({"share": 0.05} if template is RANODE else {}))
    detector = ResonantDetector(given, **QUICK | SPARSE).fit(spectrum.X)
    y = spectrum.y[detector.data_rows_]
    assert y.sum() == 150
    found = roc_auc_score(y, detector.held_out_scores_)
    assert found > 0.8
    distance = np.linalg.norm(spectrum.X[detector.data_rows_, 1:] - spectrum.X[:, 1:].mean(axis=0), axis=1)
    assert roc_auc_score(y, distance) < 0.6, "the trivial baseline"
    fresh = resonance(500, 100, d=2, slope=-3.0, mass_range=WINDOW, random_state=7)
    assert roc_auc_score(fresh.y, detector.anomaly_score(fresh.X)) > 0.8
    assert len(detector.template_scores_) == pytest.approx(3 * len(y), abs=1)


def test_cwola_keeps_the_short_sidebands_and_labelled_normals_join():
    X = resonance(2000, 0, random_state=0).X
    m = X[:, 0]
    wide = ResonantDetector(CWoLa(0.3), **QUICK).fit(X)
    assert len(wide.template_scores_) == within(m, (3.0, 4.0)).sum() - within(m, WINDOW).sum()
    y = np.where(within(m, WINDOW) & (np.arange(len(m)) % 4 == 0), 0, -1)
    labelled = ResonantDetector(CWoLa(0.3), **QUICK).fit(X, y)
    assert len(labelled.template_scores_) == len(wide.template_scores_) + (y == 0).sum()
    assert len(labelled.held_out_scores_) == within(m, WINDOW).sum() - (y == 0).sum()
    ideal = ResonantDetector(IAD(), **QUICK).fit(X, y)
    assert len(ideal.template_scores_) == (y == 0).sum()


def test_known_anomalies_are_events_wherever_they_lie():
    X = resonance(2000, 0, random_state=0).X
    y, far = np.full(len(X), -1), np.flatnonzero(X[:, 0] < 2.8)[:200]
    X[far, 1:] = np.random.default_rng(0).normal(4.0, 0.1, size=(len(far), 4))
    y[far] = 1
    detector = ResonantDetector(**QUICK).fit(X, y)
    assert not np.isin(far, detector.data_rows_).any()
    assert detector.anomaly_score(X[far]).mean() > 0.9


def test_a_template_of_ones_own():
    class Truth(CWoLa):
        finite = False

        def sample(self, n, random_state=None):
            return as_generator(random_state).normal(size=(n, 4))

    X = resonance(3000, 100, random_state=0).X
    detector = ResonantDetector(Truth(), **QUICK).fit(X)
    assert direct_background(detector, 0.01).Z > 3


# -- contract --------------------------------------------------------------------------------------------------------


def test_the_mass_may_be_named_and_lie_anywhere():
    X = resonance(1500, 50, d=2, random_state=0).X
    first = ResonantDetector(**QUICK).fit(X).anomaly_score(X)
    frame = pd.DataFrame(X[:, [1, 0, 2]], columns=["a", "m", "b"])
    assert np.array_equal(ResonantDetector(mass="m", **QUICK).fit(frame).anomaly_score(frame), first)
    assert np.array_equal(ResonantDetector(mass=1, **QUICK).fit(frame).anomaly_score(frame), first)


@pytest.mark.parametrize("template", ["cwola", "lacathode", "anode"])
def test_saved_detectors_score_and_estimate_alike(template, tmp_path, monkeypatch):
    if template != "cwola":  # the published flow is large
        small = partial(TEMPLATES[template], blocks=2, hidden=8, epochs=2, keep=2)
        monkeypatch.setitem(TEMPLATES, template, small)
    X = resonance(300, 10, d=2, random_state=0).X
    detector = ResonantDetector(template, **QUICK | {"folds": 2, "reference": 1.0}).fit(X)
    assay.save(detector, tmp_path / "saved")
    again = assay.load(tmp_path / "saved")
    assert np.array_equal(again.anomaly_score(X), detector.anomaly_score(X))
    assert direct_background(again, 0.1)[:-1] == direct_background(detector, 0.1)[:-1]


def test_a_detector_with_a_template_of_its_own_is_saved(tmp_path):
    X = resonance(300, 10, d=2, random_state=0).X
    detector = ResonantDetector(CWoLa(width=0.3), **QUICK).fit(X)
    assay.save(detector, tmp_path / "saved")
    again = assay.load(tmp_path / "saved")
    assert again.template.width == 0.3
    assert np.array_equal(again.anomaly_score(X), detector.anomaly_score(X))


def test_same_seed_same_bits_with_a_flow():
    X = resonance(500, 20, d=2, random_state=0).X
    given = ResonantDetector(CATHODE(**FLOW | {"epochs": 2}), **QUICK)
    first, second = (clone(given).fit(X) for _ in range(2))
    assert first.anomaly_score(X).tobytes() == second.anomaly_score(X).tobytes()
    other = clone(given).set_params(random_state=1).fit(X)
    assert first.anomaly_score(X).tobytes() != other.anomaly_score(X).tobytes()


@pytest.mark.parametrize("template", [CATHODE, LaCATHODE, ANODE, RANODE])
def test_odd_tables_give_finite_scores(template):
    rng = np.random.default_rng(0)
    tiny = {"blocks": 2, "hidden": 4, "epochs": 2, "keep": 1}
    for x in (np.full((60, 2), 7.0) + rng.normal(size=(60, 1)) * [1, 0], rng.normal(size=(60, 1)) * 1e-100):
        X = np.column_stack([rng.uniform(0, 1, 60), x])
        detector = ResonantDetector(template(**tiny), window=(0.4, 0.6), ensemble=1, folds=2, random_state=0).fit(X)
        far = np.column_stack([np.full(3, 50.0), np.full((3, x.shape[1]), [[1e140], [-1e140], [0.0]])])
        assert np.isfinite(detector.anomaly_score(np.vstack([X, far]))).all()
    constant = np.column_stack([rng.uniform(0, 1, 60), np.ones(60)])
    with pytest.raises(InputError, match="X: no column beside the mass varies"):
        ResonantDetector(template(**tiny), window=(0.4, 0.6), random_state=0).fit(constant)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"template": "ideal"}, "template"),
        ({"template": CWoLa}, "template"),
        ({"template": CWoLa(-1.0)}, "width"),
        ({"template": CATHODE(blocks=0)}, "blocks"),
        ({"template": CATHODE(validation=1.0)}, "validation"),
        ({"template": RANODE(share=0.0)}, "share"),
        ({"mass": 9}, "mass"),
        ({"mass": "m"}, "mass"),
        ({"window": (3.7, 3.3)}, "window"),
        ({"window": (3.3, 3.5, 3.7)}, "window"),
        ({"window": (3.3, np.nan)}, "window"),
        ({"folds": 1}, "folds"),
        ({"oversample": 0}, "oversample"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
    ],
)
def test_bad_parameters_are_named(parameters, named):
    X = resonance(200, 0, d=2, random_state=0).X
    with pytest.raises(InputError, match=named):
        ResonantDetector(**QUICK | parameters).fit(X)


def test_what_lacks_events_or_background_is_refused():
    X = resonance(200, 0, d=2, random_state=0).X
    inside = within(X[:, 0], WINDOW)
    for rows, y, said in (
        (X[~inside], None, "X holds 0 events"),
        (X[inside], None, "X holds no background"),
        (X, np.zeros(200), "y holds 0 events"),
    ):
        with pytest.raises(InputError, match=said):
            ResonantDetector(**QUICK).fit(rows, y)
    with pytest.raises(InputError, match="label"):
        ResonantDetector("iad", **QUICK).fit(X)
    with pytest.raises(InputError, match="constant"):
        ResonantDetector(**QUICK).fit(np.column_stack([np.ones(200), X[:, 1:]]))


# -- data ------------------------------------------------------------------------------------------------------------


def test_the_simulator_is_what_it_says():
    events = resonance(20_000, 2000, slope=2.0, correlated=True, random_state=0)
    m, x, y = events.X[:, 0], events.X[:, 1:5], events.y
    assert events.X.shape == (22_000, 6)
    assert within(m, (2.5, 4.5)).all()
    assert m[y == 1].mean() == pytest.approx(3.5, abs=0.01)
    assert m[y == 1].std() == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(x[y == 1].mean(axis=0), 1.5, atol=0.05)
    np.testing.assert_allclose(x[y == 1].std(axis=0), 0.3, rtol=0.1)
    rest = x[y == 0] - 2.0 * (m[y == 0] - 3.5)[:, None]
    np.testing.assert_allclose(rest.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(np.cov(rest.T), np.eye(4), atol=0.05)
    assert (m[y == 0] < 3.1).mean() == pytest.approx((1 - np.exp(-1)) / (1 - np.exp(-2 / 0.6)), abs=0.02)
    assert (events.X[:, 5] - m).std() == pytest.approx(0.2, rel=0.05)
    with pytest.raises(InputError, match="mass_range"):
        resonance(10, 1, mass_range=(1.0, 2.0))


def test_loaders_read_the_layouts_and_refuse_anything_else(tmp_path, monkeypatch):
    folder = tmp_path / "lhco_rnd"
    folder.mkdir()
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    for load in (load_lhco, load_lhco_spectrum, load_dilepton):
        with pytest.raises(InputError, match="ASSAY_DATA"):
            load()
        with pytest.raises(InputError, match="holds no"):
            load(folder=tmp_path)
    part, names = np.array([[3.5, 0.1, 1.0], [3.4, 0.2, 0.0]]), np.array(["mjj_TeV", "mj1", "is_signal"])
    np.savez(folder / "lhco_signal_region.npz", train=part, val=part, test=part, extrasig=part[:1], columns=names)
    loaded = load_lhco(tmp_path)
    assert loaded.train.X.tolist() == [[3.5, 0.1], [3.4, 0.2]]
    assert loaded.test.y.tolist() == [1, 0]
    assert (len(loaded.extra.X), loaded.val.names) == (1, ["mjj_TeV", "mj1"])
    columns = np.array(["evtIdx", "isSignal", "mjj", "dR"])
    np.savez(folder / "lhco_full_mjj_20k.npz", X=np.array([[0, 1, 3500.0, 3.1]]), columns=columns)
    one = load_lhco_spectrum(tmp_path)
    assert (one.X.tolist(), one.y.tolist(), one.names) == ([[3500.0, 3.1]], [1], ["mjj", "dR"])
    (folder / "lhco_signal_region.npz").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="archive"):
        load_lhco(tmp_path)
    np.savez(folder / "lhco_signal_region.npz", train=np.array([None]), val=1, test=1, extrasig=1, columns=names)
    with pytest.raises(InputError, match="archive"):
        load_lhco(tmp_path)


def test_the_mass_of_a_pair_is_computed_from_its_leptons(tmp_path):
    (tmp_path / "cms_dilepton").mkdir()
    path = tmp_path / "cms_dilepton" / "Zmumu_Run2011A.csv.gz"
    header = "pt1,eta1,phi1,Q1,pt2,eta2,phi2,Q2\n"
    with gzip.open(path, "wt") as file:
        file.write(header + "45,0,0,-1,45,0,3.141592653589793,1\n10,1,3,1,10,1,-3.283185307179586,1\n")
    pair = load_dilepton("muons", tmp_path)
    np.testing.assert_allclose(pair.X[0], [90, 45, 45, 0, 0, np.pi, -1])
    np.testing.assert_allclose(pair.X[1], [0, 10, 10, 1, 1, 0, 1], atol=1e-6)
    assert pair.y.tolist() == [-1, -1]
    with gzip.open(path, "wt") as file:
        file.write("pt1,eta1\n1,2\n")
    with pytest.raises(InputError, match="cannot be read"):
        load_dilepton("muons", tmp_path)
    with pytest.raises(InputError, match="kind"):
        load_dilepton("taus")


def test_real_data_if_there_are_any():
    try:
        olympics, muons = load_lhco(), load_dilepton("muons")
    except InputError:
        pytest.skip("ASSAY_DATA names no folder with hep/")
    assert olympics.train.X.shape[1] == 5
    assert within(olympics.train.X[:, 0], WINDOW).all()
    assert 0.005 < olympics.train.y.mean() < 0.008
    assert olympics.extra.y.all()
    heavy = muons.X[(muons.X[:, 0] > 60) & (muons.X[:, 0] < 120), 0]
    assert np.median(heavy) == pytest.approx(91, abs=1.5)
