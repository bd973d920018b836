"""The S4 layer: its kernel is the HiPPO basis, all modes agree, it stays stable, and its fields do what they say."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice import error, in_chunks, noise, step_by_step
from scipy.special import eval_laguerre, eval_legendre

from descriptions import ImpossibleError, MistakeError, seed_for
from ssm_models import SSM, Diagonal, Structure
from ssm_models.hippo import normal_form
from ssm_models.init import Mixed
from ssm_models.ptd import PTD
from ssm_models.structures import dplr
from ssm_models.structures.dplr import DPLR, STARTS, DPLRLayer
from ssm_models.transform import TRANSFORMS
from ssm_models.woodbury import woodbury_kernel

torch.set_num_threads(1)

TOLERANCE = {torch.float64: (1e-9, 1e-9), torch.float32: (5e-6, 5e-5)}


def layer(width: int = 3, seed: int = 0, **fields: object) -> DPLRLayer:
    return DPLR(**{"state": 8, **fields}).build(width, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("init", "transform"),
    [cell for cell in itertools.product(STARTS, TRANSFORMS) if cell[0] in ("legs", "rand") or cell[1] != "relu"],
)
def test_all_modes_agree_forward_and_backward(init: str, transform: str, dtype: torch.dtype) -> None:
    ssm = layer(2, state=12, init=init, real_transform=transform).to(dtype)
    u, weight = noise(2, 23, 2, dtype=dtype).requires_grad_(), noise(2, 23, 2, dtype=dtype, seed=2)
    results = []
    for run in (lambda u: step_by_step(ssm, u), ssm, ssm.scan, lambda u: in_chunks(ssm, u)):
        y = run(u)
        results.append((y, *torch.autograd.grad((y * weight).sum(), (u, *ssm.parameters()))))
    forward, backward = TOLERANCE[dtype]
    for y, *gradients in results[1:]:
        assert y.dtype == dtype
        assert error(y, results[0][0]) < forward
        assert max(map(error, gradients, results[0][1:])) < backward


@pytest.mark.parametrize("init", STARTS)
def test_steps_over_a_long_sequence_keep_the_digits(init: str) -> None:
    ssm = layer(4, state=64, init=init)
    u = noise(1, 2000, 4)
    truth = ssm(u)
    assert error(step_by_step(ssm, u), truth) < 2e-5
    assert error(in_chunks(ssm, u), truth) < 2e-5


def test_steps_in_the_eigenbasis_would_keep_none() -> None:
    ssm = layer(1, state=64, dt_min=1e-2, dt_max=1e-2, skip=False)
    A, b, c = (x[0].detach() for x in ssm.recurrence())
    values, vectors = torch.linalg.eig(A)
    modes = torch.linalg.solve(vectors, b.to(vectors.dtype))
    a, b_modes, c_modes = (x.to(torch.complex64) for x in (values, modes, c[0].to(vectors.dtype) @ vectors))
    u, x, outputs = noise(1, 200, 1), torch.zeros(64, dtype=torch.complex64), []
    for k in range(200):
        x = a * x + b_modes * u[0, k, 0]
        outputs.append((c_modes * x).sum().real)
    assert error(torch.stack(outputs), ssm(u)[0, :, 0]) > 1e-2
    assert error(step_by_step(ssm, u), ssm(u)) < 5e-6


def legendre(n: int, t: np.ndarray) -> np.ndarray:
    return math.sqrt(2 * n + 1) * np.exp(-t) * eval_legendre(n, 2 * np.exp(-t) - 1)


def laguerre(n: int, t: np.ndarray) -> np.ndarray:
    return np.exp(-t / 2) * eval_laguerre(n, t)


def window(n: int, t: np.ndarray) -> np.ndarray:
    return np.where(t < 2, math.sqrt(2 * n + 1) / 2 * eval_legendre(n, 1 - t), 0)


def cosine(n: int, t: np.ndarray) -> np.ndarray:
    wave = np.ones_like(t) if n == 0 else math.sqrt(2) * (np.sin if n % 2 else np.cos)(math.pi * (n // 2) * t)
    return np.where(t < 2, wave / 2, 0)


@pytest.mark.parametrize(
    ("init", "basis", "tolerance"),
    [("legs", legendre, 1e-5), ("lagt", laguerre, 1e-5), ("legt", window, 0.02), ("fout", cosine, 0.02)],
)
def test_the_kernel_in_single_precision_is_the_basis(
    init: str, basis: Callable[[int, np.ndarray], np.ndarray], tolerance: float
) -> None:
    dt, N, L = 2e-3, 64, 1500
    ssm = layer(6, state=N, init=init, real_transform="none", dt_min=dt, dt_max=dt)
    with torch.no_grad():  # x = 2 Re(V z): channel n reads coordinate n
        ssm.C.copy_(torch.view_as_real(normal_form(init, N).V[:6].to(torch.cfloat))[None])
    kernel = ssm.kernels(L)[0].detach().numpy() / dt
    t = (np.arange(L) + 0.5) * dt
    smooth = (t > 0.2) & (np.abs(t - 2) > 0.2)  # away from jumps
    for n in range(6):
        expected = basis(n, t)
        assert np.abs(kernel[:, n] - expected)[smooth].mean() <= tolerance * np.abs(expected).max()


def test_both_ways_to_the_kernel_are_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    ssm = layer(bidirectional=True)
    assert 8**3 * dplr._DENSE_FROM == 16
    calls = []
    monkeypatch.setattr(dplr, "woodbury_kernel", lambda *x: calls.append(x[1]) or woodbury_kernel(*x))
    short, long = ssm.kernels(15), ssm.kernels(16)
    assert calls == [15]
    assert error(short, long[:, :15]) < 1e-6
    wide = ssm.double()
    assert error(woodbury_kernel(wide.system(), 400), wide.kernels(400)) < 1e-10


@pytest.mark.parametrize("init", ["legs", "legt", "fout"])
def test_single_precision_over_16384_steps(init: str) -> None:
    ssm = layer(4, state=64, init=init, dt_min=1e-4)
    kernel = ssm.kernels(16384)
    wide = ssm.double().kernels(16384)
    assert error(kernel, wide) < 2e-6
    assert kernel.dtype == torch.float32


@settings(max_examples=15)
@given(st.sampled_from(sorted(STARTS)), st.integers(0, 100), st.floats(0.1, 30))
def test_it_is_stable_wherever_training_takes_it(init: str, seed: int, size: float) -> None:
    ssm = layer(2, init=init).double()
    with torch.no_grad():
        for name in ("A_re", "A_im", "P"):
            parameter = getattr(ssm, name)
            parameter += size * noise(*parameter.shape, dtype=torch.float64, seed=seed)
        ssm.A_re.clamp_(max=20)
        A = ssm.recurrence().A
        assert torch.linalg.matrix_norm(A, 2).max() <= 1 + 1e-9  # no growth in any direction, in a single step
        assert (ssm.spectrum().A.real <= 1e-9 * ssm.spectrum().A.abs().max()).all()


def test_parts_of_a_hippo_matrix_are_in_its_eigenbasis() -> None:
    for init, rank in {"legs": 1, "legt": 2, "lagt": 1, "fout": 1, "fourier_decay": 1}.items():
        system = layer(2, init=init, real_transform="none").system()
        form = normal_form(init, 8)
        assert system.P.shape == (2, rank, 4)
        for value, expected in ((system.Lambda, form.Lambda), (system.P, form.P), (system.B, form.B)):
            torch.testing.assert_close(value[1].detach(), expected, rtol=1e-6, atol=1e-6)


def test_the_random_start_is_as_described() -> None:
    system = layer(200, init="rand").system()
    assert (system.B == 1).all()
    torch.testing.assert_close(system.Lambda.real, torch.full_like(system.Lambda.real, -0.5))
    assert system.P.detach().abs().square().mean().item() == pytest.approx(1, abs=0.15)
    assert torch.log(system.Lambda.imag.detach()).std().item() == pytest.approx(1, abs=0.1)
    assert not torch.equal(system.P[0], system.P[1])


def test_arms_that_differ_in_a_start_with_the_same_c_dt_and_d() -> None:
    base = Diagonal(state=8, bidirectional=True).build(3, 0).state_dict()
    for init in STARTS:
        other = layer(init=init, bidirectional=True).state_dict()
        assert all(torch.equal(other[name], base[name]) for name in ("C", "inv_dt", "D"))
    drawn = torch.Generator().manual_seed(seed_for(0, "C reverse"))
    assert torch.equal(
        torch.view_as_complex(layer(bidirectional=True).C)[1], torch.randn(3, 4, generator=drawn, dtype=torch.cfloat)
    )


def test_copies_are_tied_and_mixed() -> None:
    ssm = layer(4, init=Mixed(("legs", "fout")), n_ssm=2)
    system = ssm.system()
    torch.testing.assert_close(system.P[1].detach(), normal_form("fout", 8).P, rtol=1e-6, atol=1e-6)
    assert torch.equal(system.Lambda[0], system.Lambda[2])
    assert not torch.equal(system.Lambda[0], system.Lambda[1])
    with pytest.raises(ImpossibleError, match="divides"):
        DPLR(init=Mixed(("legs", "fout")), n_ssm=1).check(4)


def test_a_second_low_rank_term_of_zero_changes_nothing_and_stays() -> None:
    mixed, alone = layer(2, init=Mixed(("legs", "legt")), skip=False).double(), layer(2, skip=False).double()
    assert mixed.P.shape[1] == 2
    torch.testing.assert_close(mixed.kernels(12)[0, :, 0], alone.kernels(12)[0, :, 0])
    mixed.kernels(12).square().sum().backward()
    assert mixed.P.grad is not None
    assert (mixed.P.grad[0, 1] == 0).all()
    assert (mixed.P.grad[1, 1] != 0).any()


def test_a_rate_of_zero_freezes() -> None:
    frozen = layer(lr_A=0.0, lr_B=0.0, lr_dt=0.0)
    assert {name for name, _ in frozen.named_buffers()} == {"A_re", "A_im", "P", "B", "inv_dt"}
    assert set(layer().own_rates()) == {"A_re", "A_im", "P", "B", "inv_dt"}
    u = noise(1, 9, 3)
    assert torch.equal(frozen(u), layer()(u))


def test_the_spectrum_is_that_of_the_whole_matrix() -> None:
    ssm = layer(1, state=4).double()
    spectrum = ssm.spectrum()
    found = spectrum.A[0].real.sort(descending=True).values
    torch.testing.assert_close(found, torch.tensor([-1.0, -2, -3, -4]).double(), rtol=1e-4, atol=0)
    A_bar = torch.linalg.eigvals(ssm.recurrence().A[0].detach())
    torch.testing.assert_close(A_bar.abs().sort().values, spectrum.A_bar[0].abs().sort().values, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": 6.0}, "state=6.0"),
        ({"state": 7}, "even"),
        ({"state": 2}, ">= 4"),
        ({"init": "legss"}, "Did you mean 'legs'"),
        ({"real_transform": "softpluss"}, "Did you mean 'softplus'"),
        ({"C_init": "normall"}, "Did you mean 'normal'"),
        ({"n_ssm": 0}, "n_ssm=0"),
        ({"lr_dt": math.nan}, "lr_dt=nan"),
    ],
)
def test_mistakes_are_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(MistakeError) as raised:
        DPLR(**fields)  # type: ignore[arg-type]
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"init": "lin"}, "init='lin'"),
        ({"init": Mixed(("legs", "lin"))}, "init='lin'"),
        ({"init": PTD()}, "no low-rank term"),
        ({"lr_A": 0.0, "real_transform": "softplus"}, "real_transform='exp'"),
        ({"lr_A": 0.0, "real_transform": "none"}, "real_transform='exp'"),
        ({"n_ssm": 1, "lr_A": 0.0, "lr_B": 0.0}, "n_ssm=None"),
        ({"lr_dt": 0.0, "dt_transform": "softplus"}, "lr_dt=0"),
    ],
)
def test_impossible_combinations_say_why(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ImpossibleError) as raised:
        DPLR(**fields)  # type: ignore[arg-type]
    assert says in str(raised.value)


def test_a_frozen_undamped_matrix_can_be_exact() -> None:
    exact, lifted = (layer(init="fout", lr_A=0.0, real_transform=t) for t in ("none", "exp"))
    assert (exact.system().Lambda.real == 0).all()
    assert lifted.system().Lambda.real.max().item() == pytest.approx(-1e-4)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        ({}, 0),
        ({"init": "rand"}, 0),
        ({"init": "fout"}, 1),
        ({"init": "fout", "real_transform": "none"}, 1),
        ({"real_transform": "relu", "bidirectional": True}, 2),
        ({"init": Mixed(("legs", "legt"))}, 2),
    ],
)
def test_caveats_say_what_the_names_do_not(fields: dict[str, object], count: int) -> None:
    caveats = DPLR(**fields).caveats()  # type: ignore[arg-type]
    assert len(caveats) == count
    assert all(sentence.endswith(".") for sentence in caveats)


def test_dplr_keeps_the_promise_of_a_structure() -> None:
    assert isinstance(DPLR(), Structure)
    assert isinstance(layer(), SSM)
