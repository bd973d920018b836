"""The kernel of diagonal-plus-low-rank systems against dense matrices and against the published Cauchy form."""

import math

import numpy as np
import pytest
import torch
from lattice import error, noise
from torch import Tensor

from ssm_models import woodbury
from ssm_models.hippo import HIPPO, normal_form
from ssm_models.krylov import krylov_kernel_sequential
from ssm_models.structures.dplr import DPLR, STARTS
from ssm_models.woodbury import LowRankSystem, cauchy, cauchy_kernel, feedback, woodbury_kernel

torch.set_num_threads(1)

DTS = [1e-4, 1e-3, 1e-2, 1e-1]


def system(init: str, N: int, dts: list[float] = DTS, systems: int = 1) -> LowRankSystem:
    """A HiPPO matrix exactly, in double precision, with random C."""
    H = len(dts)
    Lambda, P, B = STARTS[init](H, N, torch.Generator().manual_seed(0))
    C = torch.view_as_complex(noise(systems, H, N // 2, 2, dtype=torch.float64))
    return LowRankSystem(Lambda, P, B, C, torch.tensor(dts, dtype=torch.float64)[:, None])


def random_system(rank: int, H: int = 3, n: int = 4) -> LowRankSystem:
    Lambda = torch.complex(-noise(H, n, dtype=torch.float64).square(), 5 * noise(H, n, dtype=torch.float64, seed=2))
    P, B, C = (
        torch.view_as_complex(noise(*s, n, 2, dtype=torch.float64, seed=s[-1])) for s in ((H, rank), (H,), (2, H))
    )
    return LowRankSystem(Lambda, P, B, C, 0.1 + 0.1 * torch.rand(H, 1, dtype=torch.float64))


def dense_taps(system: LowRankSystem, length: int) -> np.ndarray:
    """C A_bar^l B_bar from complex matrices on both modes of each pair."""
    Lambda, P, B, C, dt = (x.detach().numpy() for x in system)
    taps = np.zeros((C.shape[0], length, len(dt)))
    for h, step in enumerate(dt[:, 0]):
        modes, p, b = (np.concatenate([x, x.conj()], axis=-1) for x in (Lambda[h], P[h], B[h]))
        c = np.concatenate([C[:, h], C[:, h].conj()], axis=-1)
        A = np.diag(modes) - p.T @ p.conj()
        one = np.eye(len(A))
        a_bar = np.linalg.solve(one - step / 2 * A, one + step / 2 * A)
        x = np.linalg.solve(one - step / 2 * A, step * b)
        for l in range(length):  # noqa: E741
            y = c @ x
            assert np.abs(y.imag).max() < 1e-9 * max(1, np.abs(y).max())
            taps[:, l, h] = y.real
            x = a_bar @ x
    return taps


@pytest.mark.parametrize("N", [4, 16, 64])
@pytest.mark.parametrize("init", STARTS)
def test_the_kernel_is_that_of_the_dense_matrices(init: str, N: int) -> None:
    of_hippo = system(init, N, systems=2)
    truth = torch.from_numpy(dense_taps(of_hippo, 150))
    for h in range(len(DTS)):  # each step size by its own scale
        assert error(woodbury_kernel(of_hippo, 150)[..., h], truth[..., h]) < 1e-10
        assert error(cauchy_kernel(of_hippo, 150)[..., h], truth[..., h]) < 1e-10


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 100, 257])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_rank_and_length(rank: int, length: int) -> None:
    low_rank = random_system(rank)
    truth = torch.from_numpy(dense_taps(low_rank, length))
    assert error(woodbury_kernel(low_rank, length), truth) < 1e-10
    assert error(cauchy_kernel(low_rank, length), truth) < 1e-10


@pytest.mark.parametrize("init", STARTS)
def test_gradients_are_those_of_the_recurrence(init: str) -> None:
    ssm = DPLR(state=8, init=init, bidirectional=True).build(3, seed=0).double()
    parameters = {name: p for name, p in ssm.named_parameters() if name != "D"}
    weight = noise(2, 60, 3, dtype=torch.float64)
    slow = (krylov_kernel_sequential(*ssm.recurrence(), 60) * weight).sum()
    fast = (woodbury_kernel(ssm.system(), 60) * weight).sum()
    expected = torch.autograd.grad(slow, tuple(parameters.values()))
    for gradient, true in zip(torch.autograd.grad(fast, tuple(parameters.values())), expected, strict=True):
        assert error(gradient, true) < 1e-8


@pytest.mark.parametrize("init", STARTS)
def test_single_precision_over_16384_steps(init: str) -> None:
    wide = system(init, 64)
    narrow = wide._replace(C=wide.C.to(torch.complex64))
    truth, kernel = woodbury_kernel(wide, 16384)[0], woodbury_kernel(narrow, 16384)[0]
    assert kernel.dtype == torch.float32
    for h in range(len(DTS)):
        assert error(kernel[:, h], truth[:, h]) < 1e-6


def test_single_precision_throughout_would_lose_that_bound() -> None:
    wide = system("legt", 64)
    narrow = LowRankSystem(*(x.to(torch.complex64) for x in wide[:4]), wide.dt.float())
    truth, kernel = woodbury_kernel(wide, 4096)[0], woodbury_kernel(narrow, 4096)[0]
    assert max(error(kernel[:, h], truth[:, h]) for h in range(len(DTS))) > 1e-5


def test_on_the_unit_circle_the_taps_after_the_last_one_would_come_down_on_the_others() -> None:
    L, low_rank = 256, system("legs", 16, [1e-3])
    z = torch.exp(-2j * math.pi * torch.arange(L // 2, dtype=torch.float64) / L)[None]  # without z = -1
    k = {
        name: cauchy(u * v, 2 / 1e-3 * (1 - z) / (1 + z), low_rank.Lambda)
        for name, u, v in (
            ("cb", low_rank.C[0], low_rank.B),
            ("cp", low_rank.C[0], low_rank.P[:, 0]),
            ("pp", low_rank.P[:, 0].conj(), low_rank.P[:, 0]),
            ("pb", low_rank.P[:, 0].conj(), low_rank.B),
        )
    }
    values = 2 / (1 + z) * (k["cb"] - k["cp"] * k["pb"] / (1 + k["pp"]))
    naive = torch.fft.irfft(values, n=L)[0]
    truth = torch.from_numpy(dense_taps(low_rank, L))[0, :, 0]
    assert error(naive, truth) > 0.1
    assert error(woodbury_kernel(low_rank, L)[0, :, 0], truth) < 1e-10


def test_taps_do_not_depend_on_the_length() -> None:
    low_rank = system("legs", 16)
    assert error(woodbury_kernel(low_rank, 1000)[:, :77], woodbury_kernel(low_rank, 77)) < 1e-10


def test_channels_that_do_not_fit_into_one_part_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    low_rank = random_system(2, H=5)
    together = woodbury_kernel(low_rank, 40)
    monkeypatch.setattr(woodbury, "_PART_BYTES", 2 * 8 * 40)
    torch.testing.assert_close(woodbury_kernel(low_rank, 40), together, rtol=0, atol=1e-13)


def test_no_tensor_has_as_many_numbers_as_all_states() -> None:
    L, n = 4096, 32
    low_rank = random_system(1, H=2, n=n)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        woodbury_kernel(low_rank._replace(Lambda=low_rank.Lambda.requires_grad_()), L).sum().backward()
    assert len(kept) > 10
    assert max(kept) <= 2 * 2 * 5 * L  # two channels, two systems, the points of the circle, not n times as many


def series(*shape: int, seed: int) -> Tensor:
    """Power series with decaying taps."""
    return noise(*shape, dtype=torch.float64, seed=seed) * torch.exp(-0.2 * torch.arange(shape[-1]))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_feedback_is_the_arithmetic_of_power_series(rank: int) -> None:
    L = 24
    k_cp, k_pp, k_pb = series(1, 2, rank, L, seed=1), 0.2 * series(1, rank, rank, L, seed=2), series(1, rank, L, seed=3)

    def times(f: np.ndarray, g: np.ndarray) -> np.ndarray:
        return np.convolve(f, g)[:L]

    half = np.array([0.5, 0.5])
    q = np.array([[times(half, k) for k in row] for row in k_pp[0].numpy()])
    w = np.array([times(half, k) for k in k_pb[0].numpy()])
    inverse = np.linalg.inv(np.eye(rank) + q[..., 0])
    for l in range(L):  # noqa: E741  # (1 + q) w = h k_PB, one tap after another
        past = sum((q[..., l - m] @ w[:, m] for m in range(l)), np.zeros(rank))
        w[:, l] = inverse @ (w[:, l] - past)
    expected = [sum(times(k, w[i]) for i, k in enumerate(row)) for row in k_cp[0].numpy()]
    np.testing.assert_allclose(feedback(k_cp, k_pp, k_pb, torch.double)[0].numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(feedback(k_cp, k_pp, k_pb, torch.float)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2])
def test_gradients_of_feedback(rank: int) -> None:
    parts = series(2, 2, rank, 6, seed=1), 0.2 * series(2, rank, rank, 6, seed=2), series(2, rank, 6, seed=3)
    assert torch.autograd.gradcheck(
        lambda *k: feedback(*k, torch.double), tuple(x.requires_grad_() for x in parts), eps=1e-6, atol=1e-6
    )


def test_feedback_under_vmap_is_feedback_of_each() -> None:
    parts = series(3, 2, 1, 1, 20, seed=1), 0.2 * series(3, 2, 1, 1, 20, seed=2), series(3, 2, 1, 20, seed=3)

    def of(*k: Tensor) -> Tensor:
        return feedback(*k, torch.double)

    torch.testing.assert_close(torch.func.vmap(of)(*parts), torch.stack([of(*k) for k in zip(*parts, strict=True)]))


def test_full_precision_under_autocast() -> None:
    wide = system("legs", 16)
    narrow = wide._replace(C=wide.C.to(torch.complex64))
    plain = woodbury_kernel(narrow, 300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(woodbury_kernel(narrow, 300), plain)


def test_cauchy_sums_over_both_modes_of_each_pair() -> None:
    form = normal_form("legs", 8)
    g = torch.tensor([[0.3 + 1j, 2.0 + 0j]], dtype=torch.complex128)
    A, B, P = HIPPO["legs"](8)
    resolvent = torch.linalg.inv(g[0, :, None, None] * torch.eye(8) - (A + P.T @ P))
    expected = torch.einsum("i,fij,j->f", P[0].to(g.dtype), resolvent, B.to(g.dtype))
    torch.testing.assert_close(cauchy((form.P[0].conj() * form.B)[None], g, form.Lambda[None])[0], expected)
