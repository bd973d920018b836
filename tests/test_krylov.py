"""Kernels, states and scans of dense transitions against the recurrence, one step after another."""

import math

import pytest
import torch
from lattice import error, noise
from torch import Tensor

from ssm_models import krylov
from ssm_models.krylov import (
    advanced,
    associative_dense,
    driven_state,
    free_response,
    krylov_kernel,
    krylov_kernel_sequential,
    sequential_dense,
)

torch.set_num_threads(1)

LENGTHS = [1, 2, 3, 5, 8, 31, 64, 100, 1100]
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-12}
H, N = 3, 5


def system(channels: int = H, size: int = N, systems: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """A of spectral norm below 1 but far from normal, b and c, in double precision."""
    skew, low = (
        noise(channels, size, size, dtype=torch.float64),
        noise(channels, size, size, dtype=torch.float64, seed=2),
    )
    generator = skew - skew.mT - 0.002 * low @ low.mT - 0.001 * torch.eye(size)
    A = torch.linalg.matrix_exp(0.3 * generator)
    b, c = (
        noise(channels, size, dtype=torch.float64, seed=3),
        noise(systems, channels, size, dtype=torch.float64, seed=4),
    )
    return A.requires_grad_(), b.requires_grad_(), c.requires_grad_()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_factored_kernel_is_that_of_the_steps_forward_and_backward(length: int, dtype: torch.dtype) -> None:
    A, b, c = system()
    weight = noise(2, length, H, dtype=torch.float64, seed=5)
    truth = krylov_kernel_sequential(A, b, c, length)
    expected = torch.autograd.grad((truth * weight).sum(), (A, b, c), materialize_grads=True)
    narrow = c.detach().to(dtype).requires_grad_()
    kernel = krylov_kernel(A, b, narrow, length)
    assert kernel.dtype == dtype
    assert kernel.shape == (2, length, H)
    assert error(kernel, truth) < TOLERANCE[dtype]
    gradients = torch.autograd.grad((kernel * weight).sum(), (A, b, narrow), materialize_grads=True)  # A at length 1
    for gradient, true in zip(gradients, expected, strict=True):
        assert error(gradient, true) < 20 * TOLERANCE[dtype]


def test_one_output_vector_is_one_kernel() -> None:
    A, b, c = system()
    torch.testing.assert_close(krylov_kernel(A, b, c[0], 20), krylov_kernel(A, b, c, 20)[0])
    assert krylov_kernel_sequential(A, b, c[0], 20).shape == (20, H)


def test_the_first_tap_is_c_times_b() -> None:
    A, b, c = system()
    torch.testing.assert_close(krylov_kernel(A, b, c, 7)[:, 0], (c * b).sum(dim=-1))


def test_channels_that_do_not_fit_into_one_part_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    A, b, c = system(channels=7)
    together = krylov_kernel(A, b, c, 40)
    monkeypatch.setattr(krylov, "_PART_BYTES", 2 * 8 * N * N)
    torch.testing.assert_close(krylov_kernel(A, b, c, 40), together, rtol=0, atol=1e-14)


def rotation(angle: float, decay: float) -> Tensor:
    return math.exp(-decay) * torch.tensor(
        [[[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]], dtype=torch.float64
    )


def test_powers_over_16384_steps_keep_the_digits_that_squaring_in_single_precision_loses() -> None:
    L, angle, decay = 16384, 1.7, 1e-5
    A, b, c = rotation(angle, decay), torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[1.0, 0.0]])
    k = torch.arange(L, dtype=torch.float64)
    truth = (torch.exp(-decay * k) * torch.cos(angle * k))[:, None]
    assert error(krylov_kernel(A, b, c, L), truth) < 1e-6
    assert error(krylov_kernel(A.float(), b.float(), c, L), truth) > 1e-4


def test_no_tensor_has_as_many_numbers_as_all_states() -> None:
    L, size = 4096, 8
    A, b, c = system(2, size, 1)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        krylov_kernel(A, b, c, L).sum().backward()
    assert max(kept) <= 2 * max(L, 64 * size)  # the taps, or a Krylov sequence of 64 steps


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", LENGTHS)
def test_chunk_parts_are_those_of_the_steps(length: int, dtype: torch.dtype) -> None:
    A, b, c = (x.detach() for x in system())
    u, x = noise(2, length, H, dtype=torch.float64), noise(2, H, N, dtype=torch.float64, seed=6)
    zero = torch.zeros_like(x)
    driven = sequential_dense(A, b * u[..., None], zero)
    free = sequential_dense(A, torch.zeros(2, length, H, N).double(), x)
    narrow, state = u.to(dtype), x.to(dtype)
    for value, truth, size in (
        (driven_state(narrow, A, b), driven[:, -1], driven.abs().max()),
        (free_response(A, c[0].to(dtype), state, length), (c[0] * free).sum(dim=-1), x.abs().max()),
        (advanced(A, state, length), free[:, -1], x.abs().max()),  # by then it has all but decayed
    ):
        assert value.dtype == dtype
        assert (value - truth).abs().max() < TOLERANCE[dtype] * size


def test_gradients_of_chunk_parts_are_those_of_the_steps() -> None:
    A, b, c = system()
    u = noise(2, 13, H, dtype=torch.float64).requires_grad_()
    x = noise(2, H, N, dtype=torch.float64, seed=6).requires_grad_()
    weight = noise(2, 13, H, dtype=torch.float64, seed=7)
    states = sequential_dense(A, b * u[..., None], x)
    slow = ((c[0] * sequential_dense(A, torch.zeros_like(states), x)).sum(dim=-1) * weight).sum() + states[:, -1].sum()
    fast = (free_response(A, c[0], x, 13) * weight).sum() + (driven_state(u, A, b) + advanced(A, x, 13)).sum()
    expected = torch.autograd.grad(slow, (A, b, c, u, x))
    for gradient, true in zip(torch.autograd.grad(fast, (A, b, c, u, x)), expected, strict=True):
        assert error(gradient, true) < 1e-12


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_is_the_steps_forward_and_backward(length: int, dtype: torch.dtype) -> None:
    A, _, _ = system()
    bu, initial = noise(2, length, H, N, dtype=torch.float64), noise(2, H, N, dtype=torch.float64, seed=2)
    weight = noise(2, length, H, N, dtype=torch.float64, seed=3)
    wide = bu.clone().requires_grad_(), initial.clone().requires_grad_()
    truth = sequential_dense(A, *wide)
    expected = torch.autograd.grad((truth * weight).sum(), (A, *wide))
    narrow = bu.to(dtype).requires_grad_(), initial.to(dtype).requires_grad_()
    states = associative_dense(A, *narrow)
    assert states.dtype == dtype
    assert error(states, truth) < TOLERANCE[dtype]
    for gradient, true in zip(torch.autograd.grad((states * weight).sum(), (A, *narrow)), expected, strict=True):
        assert error(gradient, true) < 20 * TOLERANCE[dtype]


def test_full_precision_under_autocast() -> None:
    A, b, c = (x.detach() for x in system())
    u, x, c = noise(2, 40, H), noise(2, H, N, seed=6), c.float()

    def everything() -> list[Tensor]:
        bu = (b * u[..., None]).float()
        return [
            krylov_kernel(A, b, c, 40),
            driven_state(u, A, b),
            free_response(A, c[0], x, 40),
            advanced(A, x, 40),
            associative_dense(A, bu, x),
        ]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for value, expected in zip(everything(), plain, strict=True):
            assert torch.equal(value, expected)
