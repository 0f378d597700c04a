"""The Poincaré ball against closed forms, exact arithmetic and, where it is installed, geoopt."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from assay.nn.hyperbolic import BallAdam, HyperbolicHead, distance, exp_0, margin, mobius_add, project, transport


def points(n, d, seed=0, largest=0.999, dtype=torch.float64):
    """Return points of the ball, their norms uniform up to `largest`; the first ones nearest to the border."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(n, d))
    norms = rng.uniform(size=(n, 1)) * largest
    norms[:10] = largest
    return torch.from_numpy(directions / np.linalg.norm(directions, axis=1, keepdims=True) * norms).to(dtype)


def test_distance_has_its_closed_forms():
    x = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert float(distance(torch.zeros(2, dtype=torch.float64), x)) == pytest.approx(1.0986122886681098, abs=1e-12)
    u = points(200, 5)
    norm = u.norm(dim=1)
    torch.testing.assert_close(distance(torch.zeros_like(u), u), 2 * torch.atanh(norm), rtol=1e-10, atol=1e-10)
    # Along a line through the origin distances add up, whatever side a point lies on.
    torch.testing.assert_close(
        distance(u, -0.5 * u), 2 * torch.atanh(norm) + 2 * torch.atanh(0.5 * norm), rtol=1e-10, atol=1e-10
    )


def test_distance_in_exact_arithmetic():
    """Rational points, the argument of arcosh as a fraction; its logarithm in long double."""
    rng = np.random.default_rng(1)
    for scale in (1, 1000, 10**6):
        u, v = ([Fraction(int(i), 40 * scale) for i in rng.integers(-20, 20, 3)] for _ in range(2))
        apart = sum((a - b) ** 2 for a, b in zip(u, v))
        t = 2 * apart / ((1 - sum(a * a for a in u)) * (1 - sum(b * b for b in v)))
        t = np.longdouble(t.numerator) / np.longdouble(t.denominator)
        exact = float(np.log1p(t + np.sqrt(t * (t + 2))))
        mine = distance(*(torch.tensor([float(a) for a in w], dtype=torch.float64) for w in (u, v)))
        assert float(mine) == pytest.approx(exact, rel=1e-12), "small distances keep their digits"


def test_distance_is_a_metric_that_mobius_translations_keep():
    u, v, w = (points(300, 4, seed) for seed in range(3))
    assert (distance(u, v) == distance(v, u)).all() and not distance(u, u).any()
    assert (distance(u, w) <= distance(u, v) + distance(v, w) + 1e-9).all()
    a, u, v = (points(300, 4, seed, largest=0.9) for seed in range(3))
    torch.testing.assert_close(distance(mobius_add(a, u), mobius_add(a, v)), distance(u, v), rtol=1e-9, atol=1e-9)


def test_mobius_addition_by_hand():
    u, v = points(100, 3, 0, 0.9), points(100, 3, 1, 0.9)
    nothing = torch.zeros_like(u)
    assert torch.equal(mobius_add(nothing, v), v) and torch.equal(mobius_add(u, nothing), u)
    torch.testing.assert_close(mobius_add(-u, mobius_add(u, v)), v, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(mobius_add(u, v), mobius_add(v, u)), "it does not commute"
    # On a line it is the addition of velocities.
    a, b = torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64)
    assert float(mobius_add(a, b)) == pytest.approx(1.3 / 1.4)
    # In the plane it is (u + v) / (1 + conj(u) v).
    u, v = points(100, 2, 0, 0.9), points(100, 2, 1, 0.9)
    p, q = (torch.view_as_complex(x.contiguous()) for x in (u, v))
    torch.testing.assert_close(torch.view_as_real((p + q) / (1 + p.conj() * q)), mobius_add(u, v))
    # d(u, v) = 2 artanh ‖(-u) ⊕ v‖.
    torch.testing.assert_close(2 * torch.atanh(mobius_add(-u, v).norm(dim=1)), distance(u, v))


def test_exp_0_and_projection():
    v = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 6)))
    out = exp_0(v)
    torch.testing.assert_close(distance(torch.zeros_like(out), out), 2 * v.norm(dim=1))
    torch.testing.assert_close(out / out.norm(dim=1, keepdim=True), v / v.norm(dim=1, keepdim=True))
    assert torch.equal(exp_0(torch.zeros(2, 3)), torch.zeros(2, 3))
    for dtype in (torch.float32, torch.float64):
        far = project(exp_0(100 * v.to(dtype)))
        torch.testing.assert_close(far.norm(dim=1), torch.full((100,), 1 - margin(dtype), dtype=dtype))
        inside = points(50, 3, largest=0.99, dtype=dtype)
        assert torch.equal(project(inside), inside)


def test_transport_is_the_gyration_and_keeps_lengths():
    x, y = points(200, 4, 0, 0.9), points(200, 4, 1, 0.9)
    v = torch.from_numpy(np.random.default_rng(2).normal(size=(200, 4)))
    carried = transport(x, y, v)
    small = 1e-3 * v  # the gyration by its definition, of a point that is as good as a vector
    shrink = (1 - y.square().sum(dim=1, keepdim=True)) / (1 - x.square().sum(dim=1, keepdim=True))
    by_definition = mobius_add(-mobius_add(y, -x), mobius_add(y, mobius_add(-x, small))) * shrink / 1e-3
    torch.testing.assert_close(carried, by_definition, rtol=1e-8, atol=1e-8)
    lengths = [w.norm(dim=1) / (1 - at.square().sum(dim=1)) for w, at in ((v, x), (carried, y))]
    torch.testing.assert_close(*lengths)
    torch.testing.assert_close(transport(x, x, v), v)


def test_gradients_are_finite_at_the_border_at_the_origin_and_where_points_meet():
    for dtype in (torch.float32, torch.float64):
        u, v = points(50, 4, 0, 0.99 if dtype == torch.float32 else 0.999, dtype), points(50, 4, 1, 0.9, dtype)
        u.requires_grad_()
        distance(u, v).sum().backward()
        assert torch.isfinite(u.grad).all() and (u.grad != 0).any()
        same = v.clone().requires_grad_()
        distance(same, v, 1e-7).sum().backward()
        assert torch.isfinite(same.grad).all()
    for scale in (0.0, 1e-20, 1.0, 1e3, 1e10):
        x = scale * torch.ones(3, 4)
        head = HyperbolicHead(4)
        with torch.no_grad():
            head.weight.normal_()
        h = head(x)
        distance(h, head(x + 1), 1e-7).sum().backward()
        assert torch.isfinite(head.weight.grad).all() and torch.isfinite(head.bias.grad).all()
        assert (h.norm(dim=1) < 1).all()


def test_the_head_is_what_it_says_and_begins_far_from_the_border():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = HyperbolicHead(80)
        x = torch.randn(500, 80)
    W, b = head.weight.detach(), head.bias.detach()
    assert W.std().item() == pytest.approx(1 / (100 * np.sqrt(2 * 80 * 80)), rel=0.05)
    assert torch.atanh(b.norm()).item() == pytest.approx(np.sqrt(80) / 400, rel=0.3)
    with torch.no_grad():
        torch.testing.assert_close(head(x), mobius_add(exp_0(x.double() @ W.T), b))
        assert head(x).dtype == torch.float64
        assert head(x).norm(dim=1).max() < 0.1
        head.weight.mul_(1e6)
        far = head(x).norm(dim=1)
    assert far.max() < 1 and far.min() > 0.99, "however large W is, the points stay inside"


def descend(optimiser, point, target, steps=300):
    """Return where the optimiser takes a point that should come near to the target."""
    for _ in range(steps):
        optimiser.zero_grad()
        distance(point, target, 1e-12).backward()
        optimiser.step()
    return point.detach()


def test_ball_adam_finds_a_point_near_the_border_and_never_leaves_the_ball():
    target = 0.995 * torch.nn.functional.normalize(torch.ones(5, dtype=torch.float64), dim=0)
    point = torch.nn.Parameter(-0.99 * target)
    found = descend(BallAdam([point], lr=0.1), point, target, 300)
    assert float(distance(found, target)) < 0.3
    wild = torch.nn.Parameter(0.9 * target.clone())
    assert descend(BallAdam([wild], lr=50.0), wild, target, 30).norm() <= 1 - margin(torch.float64) + 1e-12


def test_the_first_step_of_ball_adam_by_hand():
    """Adam's first step has the learning rate as its length in the metric: lr / λ."""
    for norm in (0.0, 0.5, 0.9):
        start = torch.tensor([norm, 0.0], dtype=torch.float64)
        point = torch.nn.Parameter(start.clone())
        optimiser = BallAdam([point], lr=1e-3)
        point.grad = torch.tensor([3.0, -4.0], dtype=torch.float64)
        optimiser.step()
        expected = start - 1e-3 * (1 - norm**2) / 2 * torch.tensor([0.6, -0.8], dtype=torch.float64)
        torch.testing.assert_close(point.detach(), expected, rtol=1e-6, atol=1e-9)


def test_as_geoopt_does():
    reason = "compares with geoopt, which Assay does not need"
    geoopt = pytest.importorskip("geoopt", reason=reason)
    gmath = pytest.importorskip("geoopt.manifolds.stereographic.math", reason=reason)
    k = torch.tensor(-1.0, dtype=torch.float64)
    u, v = points(500, 7, 0), points(500, 7, 1)
    w = torch.from_numpy(np.random.default_rng(2).normal(size=(500, 7)))
    for mine, theirs in (
        (distance(u, v), gmath.dist(u, v, k=k)),
        (exp_0(3 * w), gmath.expmap0(3 * w, k=k)),
        (mobius_add(u, v), gmath.mobius_add(u, v, k=k)),
        (project(u * 1.01), gmath.project(u * 1.01, k=k)),
        (transport(u, v, w), gmath.parallel_transport(u, v, w, k=k)),
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)
    single = [x.float() for x in (points(500, 7, 0, 0.99), points(500, 7, 1, 0.99))]
    torch.testing.assert_close(distance(*single), gmath.dist(*single, k=k.float()), rtol=1e-4, atol=1e-4)
    start, target = points(1, 5, 3, 0.8)[0], points(1, 5, 4, 0.9)[0]
    mine = torch.nn.Parameter(start.clone())
    theirs = geoopt.ManifoldParameter(start.clone(), manifold=geoopt.PoincareBall())
    how = {"lr": 0.05, "weight_decay": 1e-2}
    torch.testing.assert_close(
        descend(BallAdam([mine], **how), mine, target, 100),
        descend(geoopt.optim.RiemannianAdam([theirs], stabilize=10, **how), theirs, target, 100),
        rtol=1e-9,
        atol=1e-9,
    )
