"""Convolution kernels of diagonal systems, and causal convolution with one.

B batch, L length, H channels, N stored modes (each stands for a conjugate pair, hence 2 Re). Tap 0 is the
response at the very step of the input: K_l = 2 Re sum_n C_n B_bar_n A_bar_n^l.
"""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.autograd.function import once_differentiable

# Bytes of spectrum that one call of the FFT works on. On a CPU, parts that stay in cache and that the
# allocator can reuse make large convolutions twice as fast (measured from 1 to 16 MB).
_PART_BYTES = 1 << 21


def vandermonde(c: Complex[Tensor, "H N"], log_a: Complex[Tensor, "H N"], length: int) -> Float[Tensor, "{length} H"]:
    """K_l = 2 Re sum_n c_n exp(l log_a_n), in memory and exponentials O(N sqrt(L)) and one matrix product.

    With l = iM + j:  K_{iM+j} = 2 Re sum_n (c_n a_n^{iM}) (a_n^j), which for each channel is a real product
    of an (L/M, 2N) and a (2N, M) matrix, M ~ sqrt(L). The direct sum has N L exponentials and keeps them all.

    `log_a` may be more precise than `c`: exponents are then reduced in the higher precision and the product
    is taken in that of `c`. In float32 alone l Im(log_a) reaches 1e6 radians, with an error of 0.1.
    Runs with autocast off: a bfloat16 product would leave the kernel two digits.
    """
    M = 2 ** round(math.log2(length) / 2)
    rows = -(-length // M)
    j = torch.arange(M, dtype=log_a.real.dtype, device=log_a.device)
    iM = M * torch.arange(rows, dtype=log_a.real.dtype, device=log_a.device)
    with torch.autocast(c.device.type, enabled=False):
        re, im = _powers(log_a, torch.cat([iM, j]), c.real.dtype)
        c_re, c_im = 2 * c.real[..., None], 2 * c.imag[..., None]
        p_re, p_im = re[..., :rows], im[..., :rows]
        left = torch.cat([c_re * p_re - c_im * p_im, -c_re * p_im - c_im * p_re], dim=1)  # (H, 2N, rows)
        right = torch.cat([re[..., rows:], im[..., rows:]], dim=1)  # (H, 2N, M)
        return torch.bmm(left.transpose(1, 2), right).flatten(1)[:, :length].T


def _powers(
    log_a: Complex[Tensor, "H N"], k: Float[Tensor, " K"], dtype: torch.dtype
) -> tuple[Float[Tensor, "H N K"], Float[Tensor, "H N K"]]:
    """Real and imaginary part of exp(k log_a)."""
    modulus = torch.exp((log_a.real[..., None] * k).to(dtype))
    turns = (log_a.imag / (2 * math.pi))[..., None] * k
    angle = 2 * math.pi * (turns - turns.round()).to(dtype)  # whole turns go while all their digits are there
    return modulus * torch.cos(angle), modulus * torch.sin(angle)


def vandermonde_direct(
    c: Complex[Tensor, "H N"], log_a: Complex[Tensor, "H N"], length: int
) -> Float[Tensor, "{length} H"]:
    """K_l = 2 Re sum_n c_n exp(l log_a_n), term by term: the reference for `vandermonde`."""
    steps = torch.arange(length, dtype=log_a.real.dtype, device=log_a.device)
    powers = torch.exp(steps[:, None, None] * log_a)  # (L, H, N)
    return 2 * (c * powers.to(c.dtype)).sum(dim=-1).real


def convolve(u: Float[Tensor, "B L H"], kernel: Float[Tensor, "L H"]) -> Float[Tensor, "B L H"]:
    """Causal convolution y_i = sum_{j<=i} kernel_{i-j} u_j of each channel, by FFT over at least 2L points.

    Computed in the precision of `kernel` or of `u`, whichever is higher; y has the dtype of `u`.
    """
    dtype = torch.promote_types(u.dtype, kernel.dtype)
    x, k = u.to(dtype), kernel.to(dtype)
    one = 2 * dtype.itemsize * u.shape[1] * u.shape[2]  # bytes of the spectrum of one sequence
    size = max(1, _PART_BYTES // one) if u.device.type == "cpu" else u.shape[0]
    parts = [_apply(x[i : i + size], k) for i in range(0, u.shape[0], size)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(u.dtype)


def _apply(u: Tensor, kernel: Tensor) -> Tensor:
    y: Tensor = _Convolution.apply(u, kernel)[0]  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return y


class _Convolution(torch.autograd.Function):
    """`convolve` with its gradients written out: they share a real FFT of dL/dy; autograd's are complex.

    dL/du = correlation of dL/dy with the kernel; dL/dk = correlation of dL/dy with u, summed over the batch.
    The spectra are outputs because `setup_context`, which makes this work under `torch.func`, wants them so.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        length = u.shape[1]
        points = next_fast_len(2 * length, real=True)
        u_f = torch.fft.rfft(u.transpose(1, 2), n=points)  # (B, H, F): time last is what FFTs are fast on
        k_f = torch.fft.rfft(kernel.T, n=points)
        y = torch.fft.irfft(u_f * k_f, n=points)[..., :length]
        return y.transpose(1, 2).contiguous(), u_f, k_f

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, u_f, k_f = output
        ctx.mark_non_differentiable(u_f, k_f)
        ctx.save_for_backward(u_f, k_f)
        ctx.length = inputs[0].shape[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        u_f, k_f = ctx.saved_tensors
        points = next_fast_len(2 * ctx.length, real=True)
        dy_f = torch.fft.rfft(dy.transpose(1, 2), n=points)
        dk = torch.fft.irfft((dy_f * u_f.conj()).sum(dim=0), n=points)[..., : ctx.length]
        du = torch.fft.irfft(dy_f * k_f.conj(), n=points)[..., : ctx.length]
        return du.transpose(1, 2).contiguous(), dk.T
