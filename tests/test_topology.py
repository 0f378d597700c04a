"""Topological audits: shapes with a known truth, certificates that cannot be stepped over, and what an audit says."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import BaseEstimator
from torch import nn
from typer.testing import CliRunner

import assay.core.extras
from assay.core.store import load, save
from assay.core.validation import InputError
from assay.datasets.simulators import manifolds
from assay.datasets.simulators.phase_space import bump_hunt, invariant_mass, rambo, resonance
from assay.detectors.tabular.autoencoder import Autoencoder
from assay.detectors.tabular.gaussian import Mahalanobis
from assay.explain.borsuk_ulam import antipodal_certificate, sphere_certificate
from assay.explain.shape import landmarks, local_dimension, long_classes, persistence, twonn_dimension
from assay.explain.topology import TopologyAuditor
from assay.nn.latent_spaces import Atlas, Euclidean, Product, Sphere, Torus
from assay.report.topology import topology_report

QUICK = {"hidden": (32, 32), "steps": 600, "learning_rate": 1e-2}


@pytest.fixture(autouse=True)
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(d, k, seed, scale=1.0, activation=nn.Tanh, width=64):
    """Return a random torch encoder R^d -> R^k in double precision, its weights times `scale`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(d, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, k)
        )
    net = net.double().requires_grad_(False)
    for parameter in net.parameters():
        parameter *= scale
    return lambda X: net(torch.from_numpy(np.asarray(X))).numpy()


def errors(model, X):
    return np.linalg.norm(X - model.decode(model.encode(X)), axis=1)


# -- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize(("scale", "width"), [(1.0, 64), (1.0, 1024), (10.0, 64), (100.0, 64)])
def test_every_encoder_of_a_circle_has_a_pair_with_one_code(scale, width, activation):
    for seed in range(3):
        encode = network(2, 1, seed, scale, activation, width)
        found = sphere_certificate(encode, [0.0, 0.0], 1.0, decoder=network(1, 2, seed + 9))
        assert found.state == "found"
        assert found.gap < 1e-6
        np.testing.assert_allclose(found.x, -found.opposite, atol=1e-15)
        assert np.linalg.norm(found.x) == pytest.approx(1.0, abs=1e-12)
        assert found.measured >= 1 - 1e-6 and found.error >= 1 - 1e-6


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_every_encoder_of_a_sphere_to_the_plane_has_one_too(scale, activation):
    encode = network(3, 2, 0, scale, activation)
    found = sphere_certificate(encode, [1.0, 2.0, 3.0], 2.0, decoder=network(2, 3, 9))
    assert found.state == "found" and found.gap < 1e-6
    assert found.measured >= 2 - 1e-6 and found.error >= 2 - 1e-6
    np.testing.assert_allclose(found.x + found.opposite, [2.0, 4.0, 6.0], atol=1e-12)


def test_the_root_is_exact_to_rounding():
    angle = 0.7
    found = sphere_certificate(lambda X: X @ [[-np.sin(angle)], [np.cos(angle)]], [0.0, 0.0], 1.0)
    place = np.arctan2(*found.x[::-1])
    assert min(abs(place - angle), abs(abs(place - angle) - np.pi)) < 1e-12


def test_a_seam_that_no_grid_sees_is_found():
    def sharp(X):
        """Return the angle, which runs back from π to -π within 1e-7 rad."""
        angle = np.arctan2(X[:, 1], X[:, 0])
        return (angle * np.tanh(1e7 * (np.pi - np.abs(angle))))[:, None]

    grid = np.linspace(0.1, 0.1 + 2 * np.pi, 10_000, endpoint=False)
    ring = np.stack([np.cos(grid), np.sin(grid)], axis=1)
    assert np.abs(sharp(ring) - sharp(-ring)).min() > 3.0
    found = sphere_certificate(sharp, np.zeros(2), 1.0)
    assert found.state == "found" and found.gap < 1e-6 and found.error == 1.0


def test_very_sharp_networks_to_the_plane():
    # Both weights and their products are huge: plateaus with cliffs of width 1e-9 between them.
    encode = network(3, 2, 0, 1e4)
    found = sphere_certificate(encode, np.zeros(3), 1.0)
    assert found.state == "found" and found.gap < 1e-6


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_spheres_of_more_dimensions_and_any_surface(k):
    found = sphere_certificate(network(k + 1, k, 3), np.zeros(k + 1), 1.0)
    assert found.state == "found" and found.gap < 1e-10
    higher = sphere_certificate(network(k + 2, k, 3), np.zeros(k + 2), 1.0)
    assert higher.state == "found" and higher.gap < 1e-10
    stretched = antipodal_certificate(network(k + 1, k, 3), lambda u: u * np.arange(1.0, k + 2), k + 1)
    assert stretched.error == pytest.approx(np.linalg.norm(stretched.x))


def angle_of(X):
    return np.arctan2(X[:, 1], X[:, 0])


@pytest.mark.parametrize(
    ("jumping", "m"),
    [
        (lambda X: angle_of(X)[:, None], 2),
        (lambda X: np.floor(angle_of(X)[:, None] * 7 / (2 * np.pi) + 0.3), 2),
        (lambda X: (X @ np.array([[1, 0], [-0.5, 0.9], [-0.5, -0.9]]).T).argmax(axis=1)[:, None], 2),
        (lambda X: np.stack([angle_of(X), X[:, 2]], axis=1), 3),
    ],
    ids=["angle", "quantised", "look-up", "angle and height"],
)
def test_a_jump_is_called_one(jumping, m):
    found = sphere_certificate(jumping, np.zeros(m), 1.0)
    assert found.state == "jump" and found.error == 0.0 and found.gap > 0.5


def test_degenerate_encoders_and_bad_arguments():
    assert sphere_certificate(lambda X: np.zeros((len(X), 2)), np.zeros(3), 1.0).gap == 0.0
    pole = sphere_certificate(lambda X: X[:, :2], np.zeros(3), 1.0)
    assert abs(pole.x[2]) == pytest.approx(1.0)
    assert sphere_certificate(lambda X: np.maximum(X[:, :2], 0.5), np.zeros(3), 1.0).gap < 1e-10
    with pytest.raises(InputError, match="encoder returns 2 numbers"):
        sphere_certificate(lambda X: X, np.zeros(2), 1.0)
    with pytest.raises(InputError, match="radius"):
        sphere_certificate(lambda X: X[:, :1], np.zeros(2), 0.0)
    with pytest.raises(InputError, match="basis"):
        sphere_certificate(lambda X: X[:, :1], np.zeros(3), 1.0, basis=np.ones((2, 3)))


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_points_lie_on_their_surface():
    x, y, z = manifolds.double_cone(500, random_state=0).X.T
    np.testing.assert_allclose(x**2 + y**2, z**2, atol=1e-12)
    for make in (manifolds.circle, manifolds.sphere):
        np.testing.assert_allclose(np.linalg.norm(make(500, random_state=0).X, axis=1), 1.0)
    x, y, z = manifolds.torus(500, tube=0.3, random_state=0).X.T
    np.testing.assert_allclose((np.hypot(x, y) - 1) ** 2 + z**2, 0.09)
    eight = manifolds.figure_eight(500, random_state=0).X
    np.testing.assert_allclose(np.hypot(np.abs(eight[:, 0]) - 1, eight[:, 1]), 1.0)
    band = manifolds.moebius(500, random_state=0)
    angle, side = band.place.T
    np.testing.assert_allclose(band.X[:, 2], side * np.sin(angle / 2))
    assert np.abs(side).max() <= 0.3
    apart = manifolds.two_circles(2000, linked=False, gap=0.5, random_state=0)
    first, second = (apart.X[apart.place[:, 0] == which] for which in (0, 1))
    assert second[:, 0].min() - first[:, 0].max() == pytest.approx(0.5, abs=0.01)


def test_sampling_is_uniform_by_area_where_it_says_so():
    height = manifolds.double_cone(20_000, random_state=0).place[:, 0]
    assert stats.kstest(height**2, "uniform").pvalue > 1e-6
    crowded = manifolds.double_cone(20_000, uniform=False, random_state=0).place[:, 0]
    assert stats.kstest(np.abs(crowded), "uniform").pvalue > 1e-6
    around = manifolds.torus(20_000, tube=0.5, random_state=0).place[:, 1]
    assert np.cos(around).mean() == pytest.approx(0.25, abs=0.02)  # ∫ (1 + r cos) cos / ∫ (1 + r cos) = r / 2


def test_circles_are_linked_where_they_say_so():
    for linked in (True, False):
        data = manifolds.two_circles(4000, linked=linked, random_state=0)
        second = data.X[data.place[:, 0] == 1]
        # A linked circle goes through the disc that the first one bounds.
        through = (np.abs(second[:, 2]) < 0.02) & (np.hypot(second[:, 0], second[:, 1]) < 1)
        assert through.any() == linked


def test_arcs_go_round_zero():
    assert manifolds.arc(np.array([0.1, 6.2, 1.0]), 0.0, 0.5).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("make", "count"), [("circle", 100), ("sphere", 100), ("swiss_roll", 150), ("figure_eight", 100), ("torus", 200)]
)
def test_persistence_counts_loops_and_hollows(make, count):
    data = getattr(manifolds, make)(500, random_state=0)
    expected = data.betti if make != "torus" else (1, 2)
    found = long_classes(persistence(data.X[landmarks(data.X, count)]))
    assert found[: len(expected)] == expected


def test_chance_has_no_shape():
    X = np.random.default_rng(0).normal(size=(500, 4))
    assert long_classes(persistence(X[landmarks(X, 100)])) == (1, 0, 0)
    assert long_classes(persistence(np.ones((30, 2)))) == (1, 0, 0)


def test_pieces_are_counted():
    rng = np.random.default_rng(0)
    X = np.vstack([rng.uniform(size=(100, 2)) + corner for corner in ([0, 0], [9, 0], [0, 9])])
    assert long_classes(persistence(X[landmarks(X, 90)]))[0] == 3


def test_dimension():
    for make, d in ((manifolds.circle, 1), (manifolds.sphere, 2), (manifolds.swiss_roll, 2)):
        X = make(1500, random_state=0).X
        assert twonn_dimension(X) == pytest.approx(d, abs=0.15 * d)
    assert local_dimension(manifolds.circle(1500, random_state=0).X) == 1
    cube = np.random.default_rng(0).uniform(size=(2000, 4))
    assert twonn_dimension(cube) == pytest.approx(4, abs=0.6)
    assert twonn_dimension(np.vstack([cube, cube])) == twonn_dimension(cube), "a repeated row tells nothing"


def test_the_missing_library_is_named(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(assay.core.extras.importlib, "import_module", missing)
    with pytest.raises(ImportError, match="'topology'"):
        persistence(np.eye(3))


# -- phase space -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("particles", [2, 3, 5])
def test_energy_and_momentum_are_conserved_exactly(particles):
    events = rambo(5000, particles, 2.0, random_state=0)
    np.testing.assert_allclose(events.sum(axis=1), np.tile([2.0, 0, 0, 0], (5000, 1)), atol=1e-12)
    np.testing.assert_allclose(events[..., 0] ** 2, (events[..., 1:] ** 2).sum(axis=-1), atol=1e-12)


def test_three_massless_particles_fill_phase_space_evenly():
    events = rambo(100_000, random_state=0)
    u = invariant_mass(events[:, 0] + events[:, 1]) ** 2
    assert u.mean() == pytest.approx(1 / 3, abs=3e-3)
    assert (u < 0.5).mean() == pytest.approx(0.75, abs=5e-3)
    assert stats.kstest(u, stats.beta(1, 2).cdf).pvalue > 1e-6
    direction = events[:, 0, 1:] / events[:, 0, :1]
    assert np.abs(direction.mean(axis=0)).max() < 0.02
    assert stats.kstest(direction[:, 2], stats.uniform(-1, 2).cdf).pvalue > 1e-6


def test_the_resonance_has_its_mass_and_nothing_else():
    events = resonance(20_000, mass=0.6, width=0.02, random_state=0)
    np.testing.assert_allclose(events.sum(axis=1), np.tile([1.0, 0, 0, 0], (20_000, 1)), atol=1e-12)
    np.testing.assert_allclose(events[..., 0] ** 2, (events[..., 1:] ** 2).sum(axis=-1), atol=1e-12)
    m = invariant_mass(events[:, 0] + events[:, 1])
    assert stats.kstest(m, stats.norm(0.6, 0.02).cdf).pvalue > 1e-6
    # Given m12 the pair shares its energy evenly, as in flat phase space.
    share = (events[:, 0, 0] - events[:, 1, 0]) / np.linalg.norm(events[:, 2, 1:], axis=1)
    assert stats.kstest(share, stats.uniform(-1, 2).cdf).pvalue > 1e-6
    hunt = bump_hunt(2000, fraction=0.1, random_state=0)
    assert hunt.y.sum() == 200
    assert np.abs(hunt.m12[hunt.y == 1] - hunt.mass).max() < 5 * hunt.width
    np.testing.assert_array_equal(hunt.X, hunt.momenta[:, :2, 1:].reshape(2000, 6))


# -- latent spaces and the autoencoder -------------------------------------------------------------------------------


def test_latent_spaces_project_where_they_should():
    raw, x = torch.randn(50, 6, dtype=torch.float64), torch.randn(50, 2, dtype=torch.float64)
    assert torch.equal(Euclidean(6).project(raw, x), raw)
    torch.testing.assert_close(Sphere(5).project(raw, x).norm(dim=1), torch.ones(50, dtype=torch.float64))
    circles = Torus(3).project(raw, x).unflatten(1, (3, 2)).norm(dim=2)
    torch.testing.assert_close(circles, torch.ones(50, 3, dtype=torch.float64))
    both = Product(Sphere(2), Euclidean(3))
    assert (both.raw_width, both.width, both.dimension) == (6, 6, 5)
    torch.testing.assert_close(both.project(raw, x)[:, 3:], raw[:, 3:])
    assert torch.isfinite(Sphere(5).project(torch.zeros(1, 6), x)).all()
    atlas = Atlas(3, np.array([[-1.0, 0.0], [1.0, 0.0]]))
    codes = atlas.project(raw, x)
    right = x[:, 0] > 0
    torch.testing.assert_close(codes[:, 0], torch.where(right, 1.0, -1.0).double())
    torch.testing.assert_close(codes[right, 1:], raw[right, 3:])
    torch.testing.assert_close(codes[~right, 1:], raw[~right, :3])


@pytest.fixture(scope="module")
def rings():
    """Return autoencoders of a circle by latent space, and fresh points."""
    ring = manifolds.circle(1000, random_state=0)
    kinds = [(1, "euclidean"), (2, "euclidean"), (1, "sphere"), (1, "atlas")]
    fitted = {(k, space): Autoencoder(k, space, **QUICK, random_state=0).fit(ring.X) for k, space in kinds}
    return fitted, manifolds.circle(4000, random_state=1).X


def test_a_circle_does_not_fit_into_one_number_and_fits_the_remedies(rings):
    fitted, fresh = rings
    narrow = fitted[1, "euclidean"]
    assert np.median(errors(narrow, fresh)) < 0.05, "the mean hides it"
    found = sphere_certificate(narrow.encode, np.zeros(2), 1.0, decoder=narrow.decode)
    assert found.gap < 1e-12 and found.measured >= 1 - 1e-6
    assert errors(fitted[2, "euclidean"], fresh).max() < 0.1
    assert errors(fitted[1, "sphere"], fresh).max() < 0.05
    assert errors(fitted[1, "atlas"], fresh).max() < 0.1


def test_codes_and_scores(rings, tmp_path):
    fitted, fresh = rings
    for (k, space), model in fitted.items():
        codes = model.encode(fresh)
        assert codes.shape == (4000, {"euclidean": k, "sphere": k + 1, "atlas": k + 1}[space])
        standard = (fresh - model.decode(codes)) / model.scale_
        np.testing.assert_allclose(model.anomaly_score(fresh), np.sqrt((standard**2).mean(axis=1)), rtol=1e-9)
        save(model, tmp_path / f"{space}{k}")
        assert np.array_equal(load(tmp_path / f"{space}{k}").anomaly_score(fresh), model.anomaly_score(fresh))
    with pytest.raises(InputError, match="Z has 3 columns"):
        fitted[2, "euclidean"].decode(np.zeros((2, 3)))


def test_units_do_not_matter():
    X = manifolds.circle(300, random_state=0).X
    first, second = (
        Autoencoder(2, hidden=(16,), steps=100, random_state=0).fit(table).anomaly_score(table)
        for table in (X, X * [1e6, 1e-3] + [1e7, 5.0])
    )
    np.testing.assert_allclose(first, second, rtol=0.01, atol=1e-3)


def test_the_distance_to_the_codes_finds_what_is_given_back_well():
    ring = manifolds.circle(1500, 0.02, random_state=0)
    gap = manifolds.arc(ring.place[:, 0], np.pi, np.pi / 3)
    deep = manifolds.arc(ring.place[:, 0], np.pi, np.pi / 9)
    ratio = []
    for weight in (0.0, 1.0):
        model = Autoencoder(2, latent_weight=weight, **QUICK, random_state=0).fit(ring.X[~gap])
        scores = model.anomaly_score(ring.X)
        ratio.append(np.median(scores[deep]) / np.median(scores[~gap]))
    assert ratio[1] > 1.5 * ratio[0]


def test_all_rows_equal_and_an_untrained_atlas():
    X = np.ones((20, 3))
    for space in ("euclidean", "sphere", "torus", "atlas"):
        assert np.isfinite(Autoencoder(1, space, steps=5, random_state=0).fit(X).anomaly_score(X)).all()


# -- the audit -------------------------------------------------------------------------------------------------------


def auditor(latent, space="euclidean", **parameters):
    detector = Autoencoder(latent, space, **QUICK, random_state=0)
    return TopologyAuditor(detector, landmarks=60, random_state=0, **parameters)


@pytest.fixture(scope="module")
def ring():
    return manifolds.circle(600, random_state=0)


@pytest.fixture(scope="module")
def torn(ring):
    return auditor(1).run(ring.X, remove=[manifolds.arc(ring.place[:, 0], np.pi, np.pi / 3)], seeds=3)


def test_an_audit_finds_the_seam(torn):
    assert torn.betti == (1, 1, 0) and torn.latent_betti == (1, 0, 0) and torn.latent == 1
    assert torn.certificate is not None and torn.certificate.error >= 1 - 1e-6
    assert torn.seams and torn.seams[0].error > 1.0 and torn.jumps == 0
    seam = torn.seams[0]
    # Worse than both rows between which it lies: the refinement found what rows do not show.
    i, j = seam.rows
    assert np.linalg.norm(torn.X[i] - torn.X[j]) < 0.1
    assert torn.twins and torn.twins[0].proved > 0.5
    assert torn.alarm_share > 3 * torn.near_share, "false alarms lie at the seam"
    assert torn.verdict.startswith("Some normal rows must fail")
    assert any("latent=2" in sentence for sentence in torn.advice)


def test_twins_prove_what_they_say(ring):
    model = Autoencoder(1, **QUICK, random_state=0).fit(ring.X)
    audit = TopologyAuditor(model, landmarks=60).run(ring.X, seeds=0)
    for twins in audit.twins:
        pair = np.stack([twins.x, twins.twin])
        off = (pair - model.decode(model.encode(pair))) / ring.X.std(axis=0)
        assert np.linalg.norm(off, axis=1).max() >= twins.proved - 1e-9


def test_seams_move_with_the_seed_and_the_least_score_does_not_see_them(torn):
    assert torn.seed_scores.shape == (3, 600)
    assert torn.flip_rate > 0.5 and torn.flipped.sum() > 0
    np.testing.assert_allclose(torn.variance, torn.seed_scores.var(axis=0))
    assert torn.seed_scores.min(axis=0).max() < 0.2 * torn.seed_scores.max()
    places = [torn.X[scores.argmax()] for scores in torn.seed_scores]
    assert max(np.linalg.norm(a - b) for a in places for b in places) > 0.5


def test_one_latent_number_more_mends_it(ring):
    audit = auditor(2).run(ring.X, seeds=0)
    assert audit.latent_betti == (1, 1, 0) and not audit.seams and not audit.twins and audit.certificate is None
    assert audit.verdict == "No topological obstruction was found."
    assert np.isnan(audit.flip_rate) and len(audit.seed_scores) == 0


def test_a_segment_is_no_obstruction():
    audit = auditor(1).run(manifolds.segment(400, 0.001, random_state=0).X, seeds=0)
    assert audit.betti == (1, 0, 0) and not audit.seams and not audit.twins
    assert audit.verdict == "No topological obstruction was found."


def test_an_encoder_that_jumps_is_called_one(ring):
    audit = auditor(1, "atlas").run(ring.X, seeds=0)
    assert audit.jumps > 0 and audit.certificate is None
    assert any("not continuous" in sentence for sentence in audit.advice)


def test_blind_and_noticed_regions(ring):
    class FillsGaps(BaseEstimator):
        """Gives back whatever lies on the circle."""

        def __init__(self, blind=True):
            self.blind = blind

        def fit(self, X):
            self.X_ = X
            return self

        def anomaly_score(self, X):
            if self.blind:
                return np.abs(np.linalg.norm(X, axis=1) - 1)
            return np.linalg.norm(X[:, None] - self.X_, axis=2).min(axis=1)

    mask = manifolds.arc(ring.place[:, 0], np.pi, np.pi / 4)
    for blind in (True, False):
        audit = TopologyAuditor(FillsGaps(blind), landmarks=40).run(ring.X, remove=[mask], seeds=0)
        assert len(audit.blind_regions) == blind
        assert (audit.regions[0].auc > 0.9) != blind
        assert audit.latent is None


def test_scores_alone_show_spikes(ring):
    def spiky(X):
        return 0.01 + np.exp(-((np.linalg.norm(X - [1.0, 0.0], axis=1) / 0.02) ** 2))

    audit = TopologyAuditor(spiky, landmarks=40).run(ring.X, seeds=5)
    assert audit.seams and np.linalg.norm(audit.seams[0].x - [1.0, 0.0]) < 0.03
    assert audit.latent is None and audit.latent_betti == () and len(audit.seed_scores) == 0
    quiet = TopologyAuditor(Mahalanobis().fit(ring.X), landmarks=40).run(ring.X, seeds=2)
    assert not quiet.seams and quiet.verdict == "No topological obstruction was found."


def test_arguments_are_checked(ring):
    with pytest.raises(InputError, match="detector is missing"):
        TopologyAuditor().run(ring.X)
    with pytest.raises(InputError, match="decode"):
        TopologyAuditor(encode=np.sin).run(ring.X)
    with pytest.raises(InputError, match="X_normal"):
        TopologyAuditor(np.sum).run(ring.X[:5])
    with pytest.raises(InputError, match="remove"):
        TopologyAuditor(Mahalanobis(), landmarks=40).run(ring.X, remove=[np.ones(3)], seeds=0)
    with pytest.raises(InputError, match="rate"):
        TopologyAuditor(Mahalanobis(), rate=0.9).run(ring.X)


def test_the_page_says_it_in_words(torn, tmp_path):
    page = topology_report(torn, tmp_path / "audit.html", title="<b>Ring</b>").read_text()
    assert torn.verdict in page and "<script" not in page and "&lt;b&gt;Ring" in page
    for said in (
        "Where it fails on normal rows",
        "The codes lost 1 of 1 loop",
        "Rows that are an alarm under",
        "Regions",
    ):
        assert said in page
    assert page.count('<svg class="chart"') == 5


def test_the_command_writes_the_page(ring, tmp_path):
    from assay.cli.audit import app

    save(Autoencoder(1, hidden=(16,), steps=300, learning_rate=5e-3, random_state=0).fit(ring.X), tmp_path / "model")
    np.savez(tmp_path / "rows.npz", X=ring.X, y=np.zeros(600, dtype=int))
    words = [str(tmp_path / "model"), str(tmp_path / "rows.npz"), "--out", str(tmp_path / "audit.html")]
    done = CliRunner().invoke(app, ["topology", *words, "--seeds", "2", "--regions", "1", "--rows", "200"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "written" in done.output and (tmp_path / "audit.html").stat().st_size > 5000
