"""Inputs that are rare and legal: each once gave a wrong answer or an error of a library below."""

import numpy as np
import pytest
import torch

from assay import (
    SSDO,
    Autoencoder,
    Calibrated,
    FalseAlarmRate,
    GraphHypersphere,
    Hypersphere,
    MemberNoise,
    OddOneOut,
    OneClassSets,
)
from assay.calibration.background import bump_hunt, scan
from assay.core.validation import InputError
from assay.datasets.simulators.manifolds import circle
from assay.detectors.tabular.resonant import CATHODE, CWoLa, LaCATHODE, ResonantDetector, Template
from assay.explain.borsuk_ulam import sphere_certificate
from assay.explain.counterfactuals import RobustCounterfactual
from assay.explain.stability import stability
from assay.explain.topology import TopologyAuditor
from assay.nn import flows

QUICK = {"blocks": 2, "hidden": 8, "epochs": 2}


# -- topology --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", [False, True])
def test_a_calibrated_autoencoder_is_audited_for_its_codes(fitted):
    X = circle(120, random_state=0).X
    model = Calibrated(Autoencoder(latent=1, hidden=(16,), steps=200), FalseAlarmRate(0.1), random_state=0)
    audit = TopologyAuditor(model.fit(X) if fitted else model, landmarks=30, random_state=0).run(X, seeds=0)
    assert audit.latent == 1


def test_a_detector_that_holds_another_is_audited_itself():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 2)), np.r_[np.ones(5, int), np.zeros(75, int)]
    detector = SSDO(random_state=0).fit(X, y)
    audit = TopologyAuditor(detector, landmarks=30, random_state=0).run(X, seeds=0)
    np.testing.assert_array_equal(audit.scores, detector.anomaly_score(X))


def test_regions_cannot_be_left_out_of_functions():
    X = circle(60, random_state=0).X
    auditor = TopologyAuditor(encode=lambda X: X[:, :1], decode=lambda Z: np.hstack([Z, Z]), landmarks=30)
    with pytest.raises(InputError, match="remove"):
        auditor.run(X, remove=2, seeds=0)


def test_the_search_for_two_numbers_gives_up():
    A = np.random.default_rng(0).normal(size=(3, 2))
    found = sphere_certificate(lambda X: np.modf(1e5 * np.sin(1e7 * X @ A))[0], np.zeros(3), 1.0)
    assert found.state in ("undecided", "jump") and found.error == 0.0


# -- background and resonances ---------------------------------------------------------------------------------------


def test_events_at_the_ends_of_the_window_count_once():
    rng = np.random.default_rng(0)
    spread = rng.uniform(0, 10, 5000)
    at_the_ends = np.repeat([4.0, 6.0], 200)
    inside = np.repeat([4.0 + 1e-9, 6.0 - 1e-9], 200)
    one, two = (bump_hunt(np.r_[spread, m], (4.0, 6.0), degree=1) for m in (at_the_ends, inside))
    assert one.n_obs == two.n_obs and one.b == pytest.approx(two.b, rel=1e-6)


def test_a_scan_does_not_fit_what_the_classifier_learned_as_background():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(size=6000), rng.normal(size=(6000, 3))])
    window = (0.45, 0.55)
    settings = {"ensemble": 1, "max_iter": 20, "folds": 3, "random_state": 0}
    wide = ResonantDetector(CWoLa(width=0.3), **settings)
    [point] = scan(wide, X, [window], eps=0.2)
    assert point.bump.b == pytest.approx(point.background.b, rel=0.25)
    fitted = ResonantDetector("iad", window=window, **settings).fit(X, np.where(rng.random(6000) < 0.5, 0, -1))
    assert fitted.reach(X[:, 0]) == 0.0
    # All rows outside are sidebands of a template as wide as that: nothing is left to fit.
    with pytest.raises(InputError, match="window"):
        scan(ResonantDetector(CWoLa(width=2.0), **settings), X, [window], eps=0.2)


@pytest.mark.parametrize("template", [CATHODE(**QUICK), LaCATHODE(**QUICK)])
def test_flows_need_events_in_and_beside_the_window(template):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    X[:, 0] = np.r_[rng.uniform(0, 0.3, 30), rng.uniform(0.7, 1.0, 30)]
    y = np.full(60, -1)
    y[:5] = 1
    with pytest.raises(InputError, match="no event in the window"):
        ResonantDetector(template, window=(0.4, 0.6), random_state=0).fit(X, y)
    y = np.where(np.arange(60) < 20, 0, -1)
    with pytest.raises(InputError, match="no event outside the window"):
        ResonantDetector(template, window=(-1.0, 2.0), random_state=0).fit(X, y)


class Centred(Template):
    """The sidebands, all rows less their mean."""

    finite = True

    def fit(self, m, x, window, random_state=None):
        outside = x[(m < window[0]) | (m > window[1])]
        self.state_ = {"x": outside, "mean": outside.mean(axis=0)}
        return self

    def sample(self, n, random_state=None):
        return self.state_["x"] - self.state_["mean"]

    def see(self, m, x):
        return x - self.state_["mean"]


def test_a_finite_template_of_ones_own_keeps_what_it_learned():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(size=300), rng.normal(5, 1, size=(300, 2))])
    detector = ResonantDetector(Centred(), window=(0.4, 0.6), ensemble=1, max_iter=5, folds=2, random_state=0).fit(X)
    assert np.isfinite(detector.anomaly_score(X)).all()


def test_flows_score_in_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(size=200), rng.normal(size=(200, 2))])
    seen = []
    latent = flows.Flow.latent
    monkeypatch.setattr(flows.Flow, "latent", lambda flow, x, m: seen.append(len(x)) or latent(flow, x, m))
    settings = {"window": (0.4, 0.6), "ensemble": 1, "max_iter": 5, "folds": 2, "random_state": 0}
    detector = ResonantDetector(LaCATHODE(**QUICK), **settings).fit(X)
    whole = detector.anomaly_score(X)
    monkeypatch.setattr(flows, "CHUNK", 64)
    seen.clear()
    np.testing.assert_allclose(detector.anomaly_score(X), whole)
    assert max(seen) <= 64


def test_a_flow_that_diverges_says_so():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.uniform(size=200), rng.normal(size=(200, 2))])
    x, m = torch.from_numpy(X[:, 1:]), torch.from_numpy(X[:, :1])

    def loss(flow, x, m, rows):
        return -flow.log_prob(x, m) + torch.nan

    with pytest.raises(InputError, match="learning_rate"):
        flows.train_flow(x, m, rng, blocks=1, hidden=4, epochs=1, loss=loss)


# -- sets, graphs, hyperspheres --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", ["identical", "permuted", "nearly"])
def test_a_set_among_others_scores_as_it_does_alone(alike):
    rng = np.random.default_rng(0)
    one = rng.normal(size=(9, 2))
    sets = {
        "identical": [one] * 12,
        "permuted": [rng.permutation(one) for _ in range(12)],
        "nearly": [one + 1e-6 * k for k in range(12)],
    }[alike]
    detector = OneClassSets(phi=(20, 20), rho=(10,), width=8, epochs=3, random_state=0).fit(sets)
    scores = detector.anomaly_score(sets)
    larger = detector.anomaly_score([*sets, rng.normal(size=(40, 2))])[:12]
    alone = np.array([detector.anomaly_score([one])[0] for one in sets])
    turned = detector.anomaly_score([one[::-1] for one in sets])
    for other in (larger, alone, turned):
        np.testing.assert_allclose(other, scores, rtol=1e-4, atol=1e-6)
    assert scores.mean() < 2.0


@pytest.mark.parametrize("weight", [1e20, 1e39, 1e300])
def test_heavy_edges_have_finite_scores(weight):
    rng = np.random.default_rng(0)
    graphs = [(np.triu(rng.random((5, 5)) < 0.6, 1).astype(float), np.ones((5, 1))) for _ in range(12)]
    graphs = [(links + links.T, x) for links, x in graphs]
    detector = GraphHypersphere(epochs=2, batch_size=6, random_state=0).fit(graphs)
    assert np.isfinite(detector.anomaly_score([(weight * links, x) for links, x in graphs])).all()
    GraphHypersphere(epochs=2, batch_size=6, random_state=0).fit([(weight * links, x) for links, x in graphs])


def test_a_column_whose_deviation_is_nothing_counts_as_constant():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(60, 2)), 1e-170 * rng.normal(size=60)])
    detector = Hypersphere(latent=4, hidden=8, pretrain_epochs=2, epochs=2, random_state=0).fit(X)
    assert detector.scale_[2] == 1.0 and np.isfinite(detector.anomaly_score(X)).all()


def test_a_shell_without_room_is_flagged():
    rows = np.repeat(np.random.default_rng(0).normal(size=(3, 4)), 20, axis=0)
    shell = Hypersphere("shell", nu=0.4, latent=4, hidden=8, pretrain_epochs=3, warm_up=2, epochs=3, random_state=0)
    assert shell.fit(rows).collapsed_ or shell.radii_[1] - shell.radii_[0] > 1e-3 * shell.radii_[1]


def test_noise_on_members_leaves_a_column_of_rounding_at_its_size():
    members = np.random.default_rng(0).normal(size=(10, 7, 2))
    members[:, :, 1] = 0.1
    assert MemberNoise(random_state=0).fit(members).spread_[1] == 1.0


# -- counterfactuals -------------------------------------------------------------------------------------------------


class Steps(torch.nn.Module):
    """A model made of a step: nothing to differentiate."""

    def forward(self, x):
        return (x[:, 0] < 0.5).double()


@pytest.mark.parametrize("method", ["iterative", "latent"])
def test_a_network_without_a_gradient_is_searched_by_differences(method):
    X = np.random.default_rng(0).uniform(size=(60, 2))
    search = RobustCounterfactual(Steps(), X, method=method, k=100, epochs=2, iterations=20, random_state=0)
    assert search.explain(np.array([0.9, 0.5])).status in ("found", "not robust", "not found")


def test_a_constant_column_is_not_shaken():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(200, 2))

    def model(rows):
        """Sure of itself, and only at the one value that the last column ever had."""
        sure = 1 / (1 + np.exp(20 * (rows[:, 0] - 0.5)))
        return sure * (rows[:, -1] == 3.0) if rows.shape[1] == 3 else sure

    plain = RobustCounterfactual(model, X, k=200, random_state=0).prepare()
    constant = RobustCounterfactual(model, np.column_stack([X, np.full(200, 3.0)]), k=200, random_state=0).prepare()
    assert constant.tau_ == pytest.approx(plain.tau_, abs=0.03)
    assert constant.explain(np.array([0.9, 0.5, 3.0])).status == "found"


def test_groups_that_overlap_are_named():
    X = np.eye(3)[np.random.default_rng(0).integers(3, size=30)]
    with pytest.raises(InputError, match="column 1 in two groups"):
        RobustCounterfactual(lambda rows: np.ones(len(rows)), X, one_hot=[[0, 1], [1, 2]]).prepare()


def test_members_without_an_odd_one_are_refused():
    sets = np.random.default_rng(0).normal(size=(5, 6, 2))
    with pytest.raises(InputError, match="marks no member"):
        OddOneOut(mode="sigmoid", epochs=1).fit_members(sets, np.zeros((5, 6), dtype=int))


def test_widths_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="scale"):
        stability([[0.1, 0.2]], lambda rows: np.ones(len(rows)), scale=[1, 2, 3])
