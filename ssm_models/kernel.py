"""Convolution kernels of systems with a diagonal transition, causal convolution with one, and their final state.

B batch, L length, H channels, N modes, S systems that share their modes. Tap 0 is the response at the very step of
the input: K_l = Re sum_n c_n a_n^l, with c_n = C_n B_bar_n. Where a mode stands for a conjugate pair, c holds the
factor 2. A real `c` says that all modes are real: Im log a is then 0, or pi for a negative a.
"""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.autograd.function import once_differentiable

Modes = Complex[Tensor, "*S H N"] | Float[Tensor, "*S H N"]

# Bytes of spectrum that one call of the FFT works on. On a CPU, parts that stay in cache and that the
# allocator can reuse make large convolutions twice as fast (measured from 1 to 16 MB).
_PART_BYTES = 1 << 21


def vandermonde(c: Modes, log_a: Complex[Tensor, "H N"], length: int) -> Float[Tensor, "*S {length} H"]:
    """K_l = Re sum_n c_n exp(l log_a_n), in memory and exponentials O(N sqrt(L)) and one matrix product.

    With l = iM + j:  K_{iM+j} = Re sum_n (c_n a_n^{iM}) (a_n^j), which for each channel is a real product
    of an (L/M, 2N) and a (2N, M) matrix, M ~ sqrt(L). The direct sum has N L exponentials and keeps them all.

    `log_a` may be more precise than `c`: exponents are then reduced in the higher precision and the product
    is taken in that of `c`. In float32 alone l Im(log_a) reaches 1e6 radians, with an error of 0.1.
    Runs with autocast off: a bfloat16 product would leave the kernel two digits.
    """
    M, rows = _factors(length)
    steps = torch.arange(max(M, rows), dtype=log_a.real.dtype, device=log_a.device)
    with torch.autocast(c.device.type, enabled=False):
        k = torch.cat([M * steps[:rows], steps[:M]])
        stacked = c.flatten(0, -3)[..., None] if c.dim() > 2 else c[None, ..., None]  # (S, H, N, 1)
        if c.is_complex():
            re, im = powers(log_a, k, c.real.dtype)
            p_re, p_im, q_re, q_im = re[..., :rows], im[..., :rows], re[..., rows:], im[..., rows:]
            left = torch.cat(
                [stacked.real * p_re - stacked.imag * p_im, -stacked.real * p_im - stacked.imag * p_re], dim=2
            )
            right = torch.cat([q_re, q_im], dim=1)  # (H, 2N, M)
        else:
            re = real_powers(log_a, k, c.dtype)
            left, right = stacked * re[..., :rows], re[..., rows:]
        systems, H, N, _ = left.shape
        rows_of_all = left.permute(1, 0, 3, 2).reshape(H, systems * rows, N)
        taps = torch.bmm(rows_of_all, right).view(H, systems, rows * M)[..., :length]
        return taps.permute(1, 2, 0).reshape(*c.shape[:-2], length, H) if c.dim() > 2 else taps[:, 0].T


def powers(
    log_a: Complex[Tensor, "*S"], k: Float[Tensor, " K"], dtype: torch.dtype
) -> tuple[Float[Tensor, "*S K"], Float[Tensor, "*S K"]]:
    """Real and imaginary part of exp(k log_a)."""
    re, im = _Powers.apply(log_a, k, dtype)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return re, im


class _Powers(torch.autograd.Function):
    """`powers` with its gradient written out, dL/d(log a) = sum_k k conj(a^k) dL/d(a^k): it keeps the powers alone.

    Autograd would keep each of the steps to them, eight times as much, and most of the memory of a kernel.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(log_a: Tensor, k: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        modulus = torch.exp((log_a.real[..., None] * k).to(dtype))
        turns = (log_a.imag / (2 * math.pi))[..., None] * k
        angle = 2 * math.pi * (turns - turns.round()).to(dtype)  # whole turns go while all their digits are there
        del turns
        return modulus * torch.cos(angle), modulus * torch.sin(angle)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.dtype], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[1], *output)
        ctx.precision = inputs[0].real.dtype

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_re: Tensor, d_im: Tensor) -> tuple[Tensor, None, None]:
        k, re, im = ctx.saved_tensors
        weight = k.to(re.dtype)
        real = ((d_re * re + d_im * im) * weight).sum(dim=-1, dtype=ctx.precision)
        imag = ((d_im * re - d_re * im) * weight).sum(dim=-1, dtype=ctx.precision)
        return torch.complex(real, imag), None, None


def real_powers(log_a: Complex[Tensor, "*S"], k: Float[Tensor, " K"], dtype: torch.dtype) -> Float[Tensor, "*S K"]:
    """exp(k log_a) of real numbers: their sign, which is that of Im log_a = 0 or pi, to the k, without a cosine."""
    modulus = torch.exp((log_a.real[..., None] * k).to(dtype))
    flips = (log_a.imag.abs() > 1)[..., None] & (k % 2 == 1)
    return torch.where(flips, -modulus, modulus)


def _factors(length: int) -> tuple[int, int]:
    """M ~ sqrt(length), a power of two, and how many rows of M cover the length."""
    M = 2 ** round(math.log2(length) / 2)
    return M, -(-length // M)


def vandermonde_direct(c: Modes, log_a: Complex[Tensor, "H N"], length: int) -> Float[Tensor, "*S {length} H"]:
    """K_l = Re sum_n c_n exp(l log_a_n), term by term: the reference for `vandermonde`."""
    steps = torch.arange(length, dtype=log_a.real.dtype, device=log_a.device)
    terms = torch.exp(steps[:, None, None] * log_a).to(torch.promote_types(c.dtype, torch.complex64))  # (L, H, N)
    return (c[..., None, :, :] * terms).sum(dim=-1).real


def driven_state(u: Float[Tensor, "B L H"], log_a: Complex[Tensor, "H N"]) -> Complex[Tensor, "B H N"]:
    """sum_k a^{L-1-k} u_k, the state that the inputs leave behind, in the precision of `u`.

    Factored like `vandermonde`, so that no tensor has size L N: first over j within rows of M steps, then over rows.
    """
    batch, length, H = u.shape
    M, rows = _factors(length)
    with torch.autocast(u.device.type, enabled=False):
        late = torch.nn.functional.pad(
            u, (0, 0, rows * M - length, 0)
        )  # zeros in front leave the exponents as they are
        x = late.permute(2, 0, 1).reshape(H, batch * rows, M)
        steps = torch.arange(max(M, rows), dtype=log_a.real.dtype, device=log_a.device)
        within = torch.cat(powers(log_a, steps[:M].flip(0), u.dtype), dim=1)  # (H, 2N, M)
        re, im = torch.bmm(x, within.transpose(1, 2)).view(H, batch, rows, -1).chunk(2, dim=-1)
        between = torch.complex(*powers(log_a, M * steps[:rows].flip(0), u.dtype)).transpose(1, 2)[:, None]
        return (torch.complex(re, im) * between).sum(dim=2).transpose(0, 1)


def convolve(
    u: Float[Tensor, "B L H"], kernel: Float[Tensor, "L H"], reverse: Float[Tensor, "L H"] | None = None
) -> Float[Tensor, "B L H"]:
    """y_i = sum_{j<=i} kernel_{i-j} u_j (+ sum_{j>i} reverse_{j-i-1} u_j) of each channel, by FFT over >= 2L points.

    Tap 0 of `reverse` acts on the step after: the step itself is in `kernel` already.
    Computed in the precision of `kernel` or of `u`, whichever is higher; y has the dtype of `u`.
    """
    dtype = torch.promote_types(u.dtype, kernel.dtype)
    x, k = u.to(dtype), kernel.to(dtype)
    if reverse is not None:  # negative lags stand at the end of the circle
        gap = k.new_zeros(_points(u.shape[1]) - 2 * u.shape[1], k.shape[1])
        k = torch.cat([k, gap, reverse.to(dtype).flip(0)])
    one = 2 * dtype.itemsize * u.shape[1] * u.shape[2]  # bytes of the spectrum of one sequence
    size = max(1, _PART_BYTES // one) if u.device.type == "cpu" else u.shape[0]
    parts = [_apply(x[i : i + size], k) for i in range(0, u.shape[0], size)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(u.dtype)


def _points(length: int) -> int:
    return int(next_fast_len(2 * length, real=True))


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
        points = _points(length)
        u_f = torch.fft.rfft(u.transpose(1, 2), n=points)  # (B, H, F): time last is what FFTs are fast on
        k_f = torch.fft.rfft(kernel.T, n=points)
        y = torch.fft.irfft(u_f * k_f, n=points)[..., :length]
        return y.transpose(1, 2).contiguous(), u_f, k_f

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, u_f, k_f = output
        ctx.mark_non_differentiable(u_f, k_f)
        ctx.save_for_backward(u_f, k_f)
        ctx.length, ctx.taps = inputs[0].shape[1], inputs[1].shape[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        u_f, k_f = ctx.saved_tensors
        points = _points(ctx.length)
        dy_f = torch.fft.rfft(dy.transpose(1, 2), n=points)
        dk = torch.fft.irfft((dy_f * u_f.conj()).sum(dim=0), n=points)[..., : ctx.taps]
        du = torch.fft.irfft(dy_f * k_f.conj(), n=points)[..., : ctx.length]
        return du.transpose(1, 2).contiguous(), dk.T
