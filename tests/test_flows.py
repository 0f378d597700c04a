"""The conditional flow: exact inverses and densities, and what it learns from a Gaussian whose mean moves."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from assay.datasets.simulators.resonance import resonance
from assay.detectors.tabular.resonant import CATHODE, CWoLa, LaCATHODE, within
from assay.nn.flows import Flow, draw, fit_scale, flow_of, from_logits, log_density, to_logits, train_flow
from assay.nn.state import arrays_of

WINDOW = (3.3, 3.7)
QUICK = {"blocks": 4, "hidden": 32, "epochs": 30, "learning_rate": 2e-3, "keep": 8}


def two_sample_auc(a, b):
    """Return how well a classifier that saw neither row tells a's rows from b's."""
    X, y = np.vstack([a, b]), np.repeat([0, 1], [len(a), len(b)])
    forest = HistGradientBoostingClassifier(max_iter=40, class_weight="balanced", random_state=0)
    return roc_auc_score(y, cross_val_predict(forest, X, y, cv=3, method="predict_proba")[:, 1])


@pytest.fixture(scope="module")
def moving():
    """Return background whose mean moves by four deviations a unit of m."""
    X = resonance(10_000, 0, d=2, slope=4.0, random_state=0).X
    return X[:, 0], X[:, 1:]


def ready(d):
    """Return a flow with weights and statistics that are not those of the start."""
    torch.manual_seed(0)
    flow = Flow(d, blocks=3, hidden=16).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for norm in flow.norm:
            norm.mean.normal_()
            norm.variance.uniform_(0.5, 2.0)
    return flow.eval()


@pytest.mark.parametrize("d", [1, 2, 5])
def test_back_is_the_inverse_and_the_log_determinant_that_of_the_jacobian(d):
    flow = ready(d)
    x, m = torch.randn(7, d, dtype=torch.float64), torch.randn(7, 1, dtype=torch.float64)
    with torch.no_grad():
        z, change = flow.latent(x, m)
        torch.testing.assert_close(flow.back(z, m), x)
    for row in range(7):
        one = m[row : row + 1]
        J = torch.autograd.functional.jacobian(lambda v, one=one: flow.latent(v[None], one)[0][0], x[row])
        assert float(torch.linalg.slogdet(J).logabsdet) == pytest.approx(float(change[row]), abs=1e-9)


def test_each_column_depends_on_earlier_ones_and_on_m_alone():
    made = ready(4).made[0]
    x, m = torch.randn(1, 4, dtype=torch.float64), torch.randn(1, 1, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda v: made(v, m)[0], x)[0, :, 0]
    assert J.triu().abs().max() == 0
    assert (J.tril(-1).abs() > 0).sum() == 6, "and on all earlier ones"
    assert torch.autograd.functional.jacobian(lambda c: made(x, c)[0], m)[0, :, 0, 0].abs().min() > 0


def test_density_integrates_to_one():
    flow = ready(2)
    grid = torch.linspace(-40, 40, 401, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        total = flow.log_prob(x, torch.zeros(len(x), 1, dtype=torch.float64)).exp().sum() * 0.2**2
    assert float(total) == pytest.approx(1.0, abs=0.02)


def test_scale_goes_there_and_back_and_leaves_constant_columns_out():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.exponential(size=50), np.full(50, 7.0), rng.normal(size=50)])
    scale = fit_scale(rng.normal(size=50), x)
    seen, context = to_logits(scale, np.zeros(50), x)
    assert seen.shape == (50, 2)
    assert context.shape == (50, 1)
    np.testing.assert_allclose(from_logits(scale, seen.numpy()), x, rtol=1e-4, atol=1e-4)
    far = np.array([[1e149, 7.0, -1e149]])
    assert torch.isfinite(to_logits(scale, np.zeros(1), far)[0]).all()


def test_the_best_epochs_are_kept_best_first_and_the_seed_decides(moving):
    m, x = moving[0][:800], moving[1][:800]
    seen = to_logits(fit_scale(m, x), m, x)
    settings = {"blocks": 2, "hidden": 8, "epochs": 6, "keep": 3, "validation": 0.25, "learning_rate": 1e-2}
    first, again = (train_flow(*seen, np.random.default_rng(1), **settings) for _ in range(2))
    assert len(first) == 3
    for one, other in zip(first, again):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    held = np.random.default_rng(1).permutation(800)[:200]
    losses = [-float(np.mean(log_density([state], seen[0][held], seen[1][held]))) for state in first]
    assert losses == sorted(losses)
    flow = flow_of(first[0])
    assert all(np.allclose(array, first[0][name]) for name, array in arrays_of(flow).items())


def test_samples_come_from_every_kept_epoch(moving):
    m, x = moving[0][:400], moving[1][:400]
    scale = fit_scale(m, x)
    states = train_flow(*to_logits(scale, m, x), np.random.default_rng(0), blocks=1, hidden=8, epochs=3, keep=3)
    whole = draw(states, scale, m[:9], np.random.default_rng(0))
    for turn in range(3):
        others = [state for number, state in enumerate(states) if number != turn]
        other = draw([*others[:turn], others[0], *others[turn:]], scale, m[:9], np.random.default_rng(0))
        changed = (other != whole).any(axis=1)
        assert changed.tolist() == [row % 3 == turn for row in range(9)]


def test_interpolated_samples_pass_a_two_sample_test_where_sidebands_fail(moving):
    m, x = moving
    truth = resonance(5000, 0, d=2, slope=4.0, mass_range=WINDOW, random_state=9).X[:, 1:]
    drawn = CATHODE(**QUICK).fit(m, x, WINDOW, 0).sample(len(truth), 1)
    assert two_sample_auc(truth, drawn) < 0.53
    assert two_sample_auc(truth, CWoLa().fit(m, x, WINDOW).sample(0)) > 0.6
    # Blind to m the same flow fails, so it is the condition that does it.
    blind = CATHODE(**QUICK).fit(np.where(within(m, WINDOW), m, 3.0 + 1e-3 * m), x, WINDOW, 0).sample(len(truth), 1)
    assert two_sample_auc(truth, blind) > 0.6


def test_events_of_the_window_do_not_reach_the_flow(moving):
    m, x = moving[0][:1000], moving[1][:1000]
    inside = within(m, WINDOW)
    quick = QUICK | {"epochs": 2}
    one, other = (CATHODE(**quick).fit(m, rows, WINDOW, 0) for rows in (x, np.where(inside[:, None], 9.0, x)))
    assert np.array_equal(one.sample(50, 0), other.sample(50, 0))


def test_latent_rows_are_gaussian_whatever_m_was(moving):
    m, x = moving
    z = LaCATHODE(**QUICK).fit(m, x, WINDOW, 0).see(m, x)
    for column in z.T:
        assert abs(np.corrcoef(m, column)[0, 1]) < 0.1
        assert abs(column.mean()) < 0.15
        assert abs(column.std() - 1) < 0.25
    assert abs(np.corrcoef(m, x[:, 0])[0, 1]) > 0.7


def test_an_epochs_normalisation_has_the_statistics_of_all_training_rows(moving):
    m, x = moving[0][:600], moving[1][:600]
    seen, context = to_logits(fit_scale(m, x), m, x)
    settings = {"blocks": 2, "hidden": 8, "epochs": 2, "keep": 1, "batch_size": 50, "learning_rate": 1e-2}
    [state] = train_flow(seen, context, np.random.default_rng(0), **settings, validation=0.25)
    train = np.random.default_rng(0).permutation(600)[150:]
    flow = flow_of(state)
    with torch.no_grad():
        mu, alpha = flow.made[0](seen[train], context[train])
        u = (seen[train] - mu) * (-alpha).exp()
    torch.testing.assert_close(flow.norm[0].mean, u.mean(dim=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flow.norm[0].variance, u.var(dim=0, correction=0) + 1e-5, rtol=1e-4, atol=1e-5)
