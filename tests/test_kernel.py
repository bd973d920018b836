"""The factored kernel against the direct sum, and the FFT convolution against the double loop."""

import math

import pytest
import torch
from torch import Tensor

from ssm_models.kernel import convolve, driven_state, vandermonde, vandermonde_direct

torch.set_num_threads(1)

LENGTHS = [1, 2, 3, 7, 16, 31, 64, 97, 100, 255, 256, 1000]
# Largest error relative to the largest true value.
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13}


def modes(H: int = 3, N: int = 8, dtype: torch.dtype = torch.complex128) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    c = torch.randn(H, N, generator=g, dtype=torch.complex128).to(dtype)
    dt = torch.logspace(-3, -1, H, dtype=torch.float64)[:, None]
    log_a = dt * torch.complex(torch.tensor(-0.5).double(), math.pi * torch.arange(N).double())
    return c.requires_grad_(), log_a.to(dtype).requires_grad_()


def error(value: Tensor, truth: Tensor) -> float:
    return ((value - truth).abs().max() / truth.abs().max()).item()


def naive(u: Tensor, kernel: Tensor) -> Tensor:
    """y_i = sum over j <= i of kernel_{i-j} u_j."""
    L = u.shape[1]
    lag = torch.arange(L)[:, None] - torch.arange(L)
    toeplitz = torch.where((lag >= 0)[..., None], kernel[lag.clamp(min=0)], 0)
    return torch.einsum("ijh,bjh->bih", toeplitz, u)


def inputs(B: int, L: int, H: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    u = torch.randn(B, L, H, generator=g, dtype=torch.float64).to(dtype)
    return u.requires_grad_(), torch.randn(L, H, generator=g, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", LENGTHS)
def test_factored_kernel_is_the_direct_sum_forward_and_backward(length: int, dtype: torch.dtype) -> None:
    c, log_a = modes()
    weight = torch.randn(length, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = vandermonde_direct(c, log_a, length)
    dc, dlog_a = torch.autograd.grad((truth * weight).sum(), (c, log_a))

    narrow = c.detach().to(dtype.to_complex()).requires_grad_()
    kernel = vandermonde(narrow, log_a, length)
    assert kernel.dtype == dtype
    assert kernel.shape == (length, 3)
    assert error(kernel, truth) < TOLERANCE[dtype]
    dc_f, dlog_a_f = torch.autograd.grad((kernel * weight).sum(), (narrow, log_a))
    assert error(dc_f, dc) < TOLERANCE[dtype]
    if length > 1:  # tap 0 does not depend on the eigenvalues
        assert error(dlog_a_f, dlog_a) < TOLERANCE[dtype]


def test_systems_that_share_their_modes_are_those_systems_one_by_one() -> None:
    _, log_a = modes()
    c = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(2), dtype=torch.complex128)
    together = vandermonde(c, log_a, 50)
    assert together.shape == (2, 5, 50, 3)
    torch.testing.assert_close(together, vandermonde_direct(c, log_a, 50))
    torch.testing.assert_close(together[1, 2], vandermonde(c[1, 2], log_a, 50))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_real_modes_of_either_sign_are_the_direct_sum_forward_and_backward(dtype: torch.dtype) -> None:
    a = torch.tensor([[0.9, -0.8, 0.3], [-0.999, 0.5, -0.1]], dtype=torch.float64)
    log_a = torch.complex(
        a.abs().log(), torch.where(a < 0, torch.tensor(math.pi, dtype=torch.float64), 0)
    ).requires_grad_()
    c = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype).requires_grad_()
    kernel = vandermonde(c, log_a, 100)
    truth = torch.stack([(c.detach() * a**k).sum(dim=-1) for k in range(100)])
    assert kernel.dtype == dtype
    assert error(kernel, truth) < TOLERANCE[dtype]
    weight = torch.randn(100, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = torch.autograd.grad((kernel * weight).sum(), (c, log_a))
    direct = vandermonde_direct(c, log_a, 100)
    expected = torch.autograd.grad((direct * weight).sum(), (c, log_a))
    assert error(ours[0], expected[0]) < TOLERANCE[dtype]
    assert error(ours[1].real, expected[1].real) < 10 * TOLERANCE[dtype]
    with pytest.raises(AssertionError):  # the logarithm of a negative number is no real number
        assert torch.isfinite(torch.log(a)).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", LENGTHS)
def test_the_state_that_inputs_leave_behind_is_their_weighted_sum(length: int, dtype: torch.dtype) -> None:
    _, log_a = modes()
    u = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    late = torch.arange(length - 1, -1, -1)
    truth = torch.einsum("blh,lhn->bhn", u.to(torch.complex128), torch.exp(late[:, None, None] * log_a))
    narrow = u.to(dtype).requires_grad_()
    state = driven_state(narrow, log_a)
    assert state.dtype == dtype.to_complex()
    assert error(state, truth) < TOLERANCE[dtype]
    weight = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)
    wide = u.requires_grad_()
    truth = torch.einsum("blh,lhn->bhn", wide.to(torch.complex128), torch.exp(late[:, None, None] * log_a))
    expected = torch.autograd.grad((truth * weight).real.sum(), (wide, log_a), allow_unused=True)
    ours = torch.autograd.grad((state * weight).real.sum(), (narrow, log_a), allow_unused=True)
    assert error(ours[0], expected[0]) < TOLERANCE[dtype]
    if length > 1:
        assert error(ours[1], expected[1]) < TOLERANCE[dtype]


def test_gradient_of_the_factored_kernel_is_that_of_finite_differences() -> None:
    c, log_a = modes(H=2, N=2)
    assert torch.autograd.gradcheck(lambda c, log_a: vandermonde(c, log_a, 7), (c, log_a))


@pytest.mark.parametrize("re", [-0.5, -0.01])
def test_single_precision_kernel_keeps_its_phase_over_16384_steps(re: float) -> None:
    n = torch.arange(32).double()
    quad, inv = (2 * n + 1) ** 2 / math.pi, 64 / math.pi * (64 / (2 * n + 1) - 1)
    frequencies = torch.stack([quad, inv, math.pi * n])
    log_a = 1e-1 * torch.complex(torch.full_like(frequencies, re), frequencies)
    c = torch.ones(3, 32, dtype=torch.complex128)
    truth = vandermonde_direct(c, log_a, 16384)
    ours = vandermonde(c.to(torch.complex64), log_a, 16384)
    for h in range(3):
        assert error(ours[:, h], truth[:, h]) < 2e-6
    alone = vandermonde(c.to(torch.complex64), log_a.to(torch.complex64), 16384)
    assert error(alone, truth) > 5e-6  # what single precision throughout would give


def test_kernel_is_made_in_full_precision_under_autocast() -> None:
    c, log_a = modes(dtype=torch.complex64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = vandermonde(c, log_a, 100)
    torch.testing.assert_close(inside, vandermonde(c, log_a, 100), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 97])
def test_convolution_is_the_double_loop_forward_and_backward(length: int, dtype: torch.dtype) -> None:
    u, kernel = inputs(2, length, 3)
    weight = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    truth = naive(u, kernel)
    gradients = torch.autograd.grad((truth * weight).sum(), (u, kernel))

    u_d, kernel_d = u.detach().to(dtype).requires_grad_(), kernel.detach().to(dtype).requires_grad_()
    y = convolve(u_d, kernel_d)
    ours = torch.autograd.grad((y * weight).sum(), (u_d, kernel_d))
    assert y.dtype == dtype
    assert y.is_contiguous()
    for value, true in zip((y, *ours), (truth, *gradients), strict=True):
        assert error(value, true) < {torch.float32: 2e-6, torch.float64: 1e-14 * 5}[dtype]


@pytest.mark.parametrize("length", [1, 2, 3, 7, 16, 97])
def test_two_sided_convolution_is_the_double_loop_forward_and_backward(length: int) -> None:
    (u, kernel), (_, reverse) = inputs(2, length, 3), inputs(2, length, 3)
    reverse = reverse.detach().flip(1).requires_grad_()
    shifted = torch.cat([torch.zeros(1, 3).double(), reverse[:-1]])  # tap 0 acts on the step after
    truth = naive(u, kernel) + naive(u.flip(1), shifted).flip(1)
    weight = torch.randn(2, length, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = convolve(u, kernel, reverse)
    torch.testing.assert_close(y, truth, rtol=0, atol=1e-12)
    expected = torch.autograd.grad((truth * weight).sum(), (u, kernel, reverse))
    for ours, true in zip(torch.autograd.grad((y * weight).sum(), (u, kernel, reverse)), expected, strict=True):
        torch.testing.assert_close(ours, true, rtol=0, atol=1e-11)


def test_convolution_of_a_batch_that_is_split_into_parts() -> None:
    u, kernel = inputs(30, 601, 16)  # 154 kB of spectrum a sequence in float64 halves, 2 MB a part
    weight = torch.randn(u.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad((convolve(u, kernel) * weight).sum(), (u, kernel))
    alone = [convolve(u[b : b + 1], kernel) for b in range(30)]
    torch.testing.assert_close(convolve(u, kernel), torch.cat(alone))
    for value, true in zip(gradients, torch.autograd.grad((torch.cat(alone) * weight).sum(), (u, kernel)), strict=True):
        torch.testing.assert_close(value, true)


def test_gradient_of_the_convolution_is_that_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(convolve, inputs(2, 5, 2))


def test_output_never_depends_on_a_later_input() -> None:
    u, kernel = inputs(1, 33, 1)
    jacobian = torch.autograd.functional.jacobian(lambda u: convolve(u, kernel), u)[0, :, 0, 0, :, 0]
    assert torch.triu(jacobian, diagonal=1).abs().max() < 1e-14
    torch.testing.assert_close(jacobian.diagonal(), kernel[0, 0].expand(33))


@pytest.mark.parametrize("length", [5, 16, 17])
def test_the_end_of_the_sequence_does_not_wrap_around_to_its_start(length: int) -> None:
    u, kernel = torch.zeros(1, length, 1), torch.zeros(length, 1)
    u[0, -1], kernel[-1] = 1, 1
    assert convolve(u, kernel).abs().max() < 1e-6


def test_low_precision_inputs_are_convolved_in_single_precision() -> None:
    u, kernel = inputs(2, 50, 3, torch.float32)
    low = u.detach().bfloat16()
    y = convolve(low, kernel)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, convolve(low.float(), kernel).bfloat16(), rtol=0, atol=0)


def test_convolutions_of_several_models_fuse_under_vmap() -> None:
    u, kernels = inputs(2, 20, 3)[0], torch.randn(4, 20, 3, dtype=torch.float64)
    fused = torch.func.vmap(torch.func.grad(lambda k: convolve(u, k).square().sum()))(kernels)
    for kernel, gradient in zip(kernels, fused, strict=True):
        k = kernel.clone().requires_grad_()
        convolve(u, k).square().sum().backward()
        torch.testing.assert_close(gradient, k.grad)


def test_a_second_derivative_is_refused_not_wrong() -> None:
    u, kernel = inputs(1, 5, 1)
    (du,) = torch.autograd.grad(convolve(u, kernel).square().sum(), u, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        du.sum().backward()
