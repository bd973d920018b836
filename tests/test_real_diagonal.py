"""S4D-Real in real arithmetic: its kernel is the dense one, also where A_bar is negative and has no real logarithm."""

import itertools
import math

import numpy as np
import pytest
import torch
from lattice import error, in_chunks, noise, step_by_step
from scipy.linalg import expm
from scipy.signal import cont2discrete

from descriptions import ImpossibleError, MistakeError, seed_for
from ssm_models.discretize import DISCRETIZATIONS, GBT
from ssm_models.init import Mixed
from ssm_models.structures.real_diagonal import REAL_INITS, REAL_INPUTS, RealDiagonal, RealDiagonalLayer
from ssm_models.transform import TRANSFORMS

torch.set_num_threads(1)

RULES = [*DISCRETIZATIONS, GBT(0.7)]
SCIPY = {"forward_euler": "euler", "backward_euler": "backward_diff"}
STEPS = {"forward_euler": {"dt_min": 1e-3, "dt_max": 1e-2}}


def layer(width: int = 3, seed: int = 0, **fields: object) -> RealDiagonalLayer:
    return RealDiagonal(**{"state": 6, **fields}).build(width, seed)


def dense_kernel(ssm: RealDiagonalLayer, h: int, length: int) -> np.ndarray:
    """Taps of channel h by powers of the dense discrete system."""
    rule, dt = ssm.description.discretization, ssm.dt()[h].item()
    A = np.diag(ssm.eigenvalues()[h].detach().numpy())
    b, c = ssm.B[h].detach().numpy()[:, None], ssm.C[0, h].detach().numpy()[None]
    if rule in ("dirac", "exponential_euler"):
        a_bar, b_bar = expm(dt * A), b * (dt if rule == "exponential_euler" else 1)
    else:
        method = {"method": "gbt", "alpha": rule.alpha} if isinstance(rule, GBT) else {"method": SCIPY.get(rule, rule)}
        a_bar, b_bar, *_ = cont2discrete((A, b, c, np.zeros((1, 1))), dt, **method)
    taps = []
    for _ in range(length):
        taps.append((c @ b_bar).item())
        b_bar = a_bar @ b_bar
    return np.array(taps)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_kernel_is_that_of_the_dense_system(rule: str | GBT) -> None:
    large = {"dt_min": 1.0, "dt_max": 3.0}  # dt |A| > 2, where forward Euler is refused
    for init, steps in itertools.product(REAL_INITS, [{}, large] if rule not in STEPS else [STEPS["forward_euler"]]):
        ssm = layer(init=init, discretization=rule, B_init="normal", **steps).double()
        kernel = ssm.kernels(40)[0].detach().numpy()
        for h in range(3):
            expected = dense_kernel(ssm, h, 40)
            np.testing.assert_allclose(kernel[:, h], expected, atol=1e-10 * np.abs(expected).max())


def test_bilinear_beyond_two_over_the_rate_turns_a_bar_negative_and_all_modes_agree_there() -> None:
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 5e-6)):
        ssm = layer(discretization="bilinear", dt_min=1.0, dt_max=3.0, bidirectional=False).to(dtype)
        z = ssm.dt() * ssm.eigenvalues()
        assert (z < -2).any()
        assert torch.log((1 + z / 2) / (1 - z / 2)).isnan().any()  # the naive real logarithm
        A_bar = ssm.spectrum().A_bar
        torch.testing.assert_close(A_bar.real, (1 + z / 2) / (1 - z / 2))
        assert A_bar.imag.abs().max() < 1e-12
        u = noise(2, 11, 3, dtype=dtype)
        truth = None
        for run in (lambda u, ssm=ssm: step_by_step(ssm, u), lambda u, ssm=ssm: in_chunks(ssm, u), ssm.scan, ssm):
            y = run(u)
            result = (y, *torch.autograd.grad(y.square().sum(), tuple(ssm.parameters())))
            truth = truth or result
            assert all(error(ours, expected) < 10 * tolerance for ours, expected in zip(result, truth, strict=True))
            assert error(y, truth[0]) < tolerance


def test_a_mode_that_bilinear_sends_to_zero_has_one_tap_and_a_finite_gradient() -> None:
    ssm = layer(1, state=1, discretization="bilinear", dt_min=2.0, dt_max=2.0).double()
    ssm.inv_dt.data.fill_(math.log(2))
    assert (ssm.dt() * ssm.eigenvalues() == -2).all()
    kernel = ssm.kernels(20)[0, :, 0]
    kernel.square().sum().backward()
    assert kernel[0].item() == pytest.approx(ssm.C.item())  # dt / (1 + 1)
    assert kernel[1:].abs().max() < 1e-12
    assert all(torch.isfinite(p.grad).all() for p in (ssm.A_re, ssm.B, ssm.C, ssm.inv_dt))


def test_all_of_it_is_real() -> None:
    ssm = layer(bidirectional=True)
    assert not any(parameter.is_complex() for parameter in ssm.parameters())
    assert layer().initial_state(2).dtype == torch.float32
    _, state = layer().chunk(noise(2, 5, 3), layer().initial_state(2))
    assert state.dtype == torch.float32


@pytest.mark.parametrize("transform", [name for name in TRANSFORMS if name != "sigmoid"])
def test_the_start_is_the_law_whatever_the_transform(transform: str) -> None:
    harmonic = layer(real_transform=transform).eigenvalues()
    torch.testing.assert_close(harmonic, -torch.arange(1.0, 7).double().repeat(3, 1), rtol=1e-6, atol=1e-6)
    g = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed_for(0, "A")), dtype=torch.float64)
    drawn = layer(init="rand", real_transform=transform).eigenvalues()
    torch.testing.assert_close(drawn, -torch.exp(g), rtol=1e-6, atol=1e-6)


def test_b_starts_as_named() -> None:
    assert (layer().B == 1).all()
    assert torch.equal(layer(B_init="alternating").B[1], torch.tensor([1.0, -1, 1, -1, 1, -1]))
    B = layer(512, B_init="normal").B
    assert B.var().item() == pytest.approx(1, abs=0.1)
    assert set(REAL_INPUTS) == {"ones", "alternating", "normal"}


def test_single_precision_kernel_is_the_double_precision_one_over_16384_steps() -> None:
    for rule in ("zoh", "bilinear"):
        ssm = layer(3, state=64, discretization=rule, bidirectional=True)
        assert error(ssm.kernels(16384), ssm.double().kernels(16384)) < 2e-6


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"init": "lin"}, "init='lin'"),
        ({"init": Mixed(("lin", "inv"))}, "complex eigenvalues"),
        ({"B_init": "hippo"}, "B_init='hippo'"),
        ({"B_init": "clockwise"}, "B_init='clockwise'"),
        ({"real_transform": "sigmoid"}, "stays below 1"),
        ({"discretization": "forward_euler"}, "unstable for init='real' at steps above 0.031"),
        ({"discretization": "forward_euler", "init": "rand", "dt_max": 0.02}, "at steps above 0.013"),
        ({"lr_A": 0, "real_transform": "relu"}, "lr_A=0 freezes A"),
        ({"lr_A": 0, "lr_B": 0, "n_ssm": 1}, "equal the one with n_ssm=None"),
        ({"lr_dt": 0, "dt_tied": False, "dt_max": 1e-3}, "equal the one with dt_tied=True"),
    ],
)
def test_what_real_modes_cannot_have_is_impossible(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError) as raised:
        RealDiagonal(**fields)
    assert says in str(raised.value)


def test_stable_steps_of_forward_euler_are_allowed_and_do_not_grow() -> None:
    ssm = layer(discretization="forward_euler", dt_min=0.3, dt_max=0.33)  # 2/6 is the limit
    assert ssm.spectrum().A_bar.abs().max() < 1


def test_mistakes_are_named() -> None:
    for fields, says in (
        ({"init": "reel"}, "Did you mean 'real'"),
        ({"B_init": "one"}, "Did you mean 'ones'"),
        ({"state": 0}, "state=0"),
        ({"n_ssm": 0}, "n_ssm=0"),
    ):
        with pytest.raises(MistakeError, match=says):
            RealDiagonal(**fields)
    with pytest.raises(ImpossibleError, match="does not divide"):
        RealDiagonal(n_ssm=2).build(3, seed=0)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 0),
        ({"init": "rand"}, 1),
        ({"real_transform": "none", "bidirectional": True}, 2),
        ({"discretization": "forward_euler", "dt_max": 1e-2}, 1),
        ({"discretization": "dirac"}, 1),
    ],
)
def test_caveats_say_what_the_names_do_not(fields: dict[str, object], count: int) -> None:
    assert len(RealDiagonal(**fields).caveats()) == count
