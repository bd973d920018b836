"""Convolution kernels of diagonal-plus-low-rank systems under the bilinear rule, from those of diagonal systems.

    x' = A x + B u,   y = 2 Re(C x),   A x = Lambda x - sum_r P_r 2 Re(P_r^* x)

H channels, L length, R rank, S systems that share all but C. One mode of each conjugate pair is stored: n of N = 2n.

With D(z) = (1 - z) - (dt/2) (1 + z) Lambda, the bilinear rule turns s - A into D(z) + (dt/2) (1 + z) P P^*, and
Woodbury's identity for its inverse gives the generating function of the kernel, K(z) = sum_l K_l z^l,

    K = k_CB - h k_CP (1 + h k_PP)^-1 k_PB,    h = (1 + z)/2,    k_uv(z) = dt u D(z)^-1 v             (1)

(Gu et al. 2022, arXiv:2111.00396; P P^* in place of P Q^*: Goel et al. 2022, arXiv:2202.09729). Every k_uv is the
kernel of the DIAGONAL system with input vector v and output vector u, tap 0 included,

    k_uv(z) = sum_l z^l 2 Re sum_n u_n a_n^l g_n v_n,    a = (1 + dt Lambda/2) g / dt,    g = dt / (1 - dt Lambda/2)

so (1) is arithmetic of real power series mod z^L: (1 + R)^2 Vandermonde kernels, and FFTs. Neither C nor anything
else depends on L; the published algorithm trains C (1 - A_bar^L) instead, for one L.

The series are evaluated on a circle |z| = rho < 1: tap l times rho^l, FFT, (1) at each point, inverse FFT, and the
weights off again. Of M points, tap l + M falls on tap l with a factor rho^M, and rounding grows by rho^-L:

    for a kernel in double precision    M >= 4L,  rho^L = 1e-3:   both below 1e-11 of the largest tap (measured)
    for a kernel in single precision    M >=  L,  rho^L = 1e-8:   both below 2e-7

Nothing is near a pole there: h k_PP = P^* (s - Lambda)^-1 P with Re s > 0 has a real part >= 0 while Re Lambda <= 0.
All is computed in double precision, whatever that of the kernel: from k_uv in single precision, (1) is wrong by up to
8e-6 of the largest tap.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssm_models.discretize import discretize_diagonal
from ssm_models.kernel import powers

# Bytes of one power series, in double precision, that one call of the FFT works on; as in kernel.py.
_PART_BYTES = 1 << 20


class LowRankSystem(NamedTuple):
    """A continuous-time system x' = (Lambda - P P^*) x + B u, y = 2 Re(C x), and its step size.

    Lambda, P, B and dt in double precision; C in that of the parameters. There are two C, the second for the reverse
    direction, if bidirectional, else one.
    """

    Lambda: Complex[Tensor, "H n"]
    P: Complex[Tensor, "H R n"]
    B: Complex[Tensor, "H n"]
    C: Complex[Tensor, "S H n"]
    dt: Float[Tensor, "H 1"]


def woodbury_kernel(system: LowRankSystem, length: int) -> Float[Tensor, "S {length} H"]:
    """Taps 0 .. length-1 in the precision of C: (1), in memory O(H (L + N sqrt(L)))."""
    Lambda, P, B, C, dt = system
    log_a, gain = discretize_diagonal("bilinear", Lambda, dt)
    inputs = gain[:, None] * torch.cat([B[:, None], P], dim=1)  # g B and g P_r: (H, 1 + R, n)
    from_c, from_p, dtype = 2 * C.transpose(0, 1).to(P.dtype), 2 * P.conj(), C.real.dtype
    channels = max(1, _PART_BYTES // (8 * length)) if log_a.device.type == "cpu" else log_a.shape[0]
    parts = [slice(i, i + channels) for i in range(0, log_a.shape[0], channels)]
    with torch.autocast(log_a.device.type, enabled=False):
        taps = [_kernel(log_a[i], inputs[i], from_c[i], from_p[i], length, dtype).to(dtype) for i in parts]
        return torch.cat(taps).permute(1, 2, 0)


def _kernel(
    log_a: Complex[Tensor, "H n"],
    inputs: Complex[Tensor, "H V n"],
    from_c: Complex[Tensor, "H S n"],
    from_p: Complex[Tensor, "H R n"],
    length: int,
    dtype: torch.dtype,
) -> Float[Tensor, "H S {length}"]:
    """All k_uv as in `vandermonde`, with l = iM + j, from (u a^{iM}) and (v a^j)."""
    M = 2 ** round(math.log2(length) / 2)
    rows = -(-length // M)
    steps = torch.arange(max(M, rows), dtype=log_a.real.dtype, device=log_a.device)
    a = torch.complex(*powers(log_a, torch.cat([M * steps[:rows], steps[:M]]), log_a.real.dtype))
    late, early = a[..., :rows], a[..., rows:]
    c, p = _left(from_c, late), _left(from_p, late)
    b, q = _right(inputs[:, :1], early), _right(inputs[:, 1:], early)
    k_cb, k_cp, k_pb, k_pp = (_taps(u, v, length) for u in (c, p) for v in (b, q))
    return k_cb[:, :, 0] - feedback(k_cp, k_pp, k_pb[:, :, 0], dtype)


def _left(u: Complex[Tensor, "H U n"], a: Complex[Tensor, "H n rows"]) -> Float[Tensor, "H U rows N"]:
    """Re and -Im of u_n a_n^{iM}."""
    left = (u[..., None] * a[:, None]).transpose(2, 3)
    return torch.cat([left.real, -left.imag], dim=-1)


def _right(v: Complex[Tensor, "H V n"], a: Complex[Tensor, "H n M"]) -> Float[Tensor, "H N V M"]:
    """Re and Im of v_n a_n^j."""
    right = v.transpose(1, 2)[..., None] * a[:, :, None]
    return torch.cat([right.real, right.imag], dim=1)


def _taps(
    left: Float[Tensor, "H U rows N"], right: Float[Tensor, "H N V M"], length: int
) -> Float[Tensor, "H U V {length}"]:
    """Re sum_n u_n a_n^{iM+j} v_n for l = iM + j below the length."""
    H, U, rows, _ = left.shape
    V, M = right.shape[2:]
    taps = (left.flatten(1, 2) @ right.flatten(2)).view(H, U, rows, V, M).transpose(2, 3).reshape(H, U, V, rows * M)
    return taps if rows * M == length else taps[..., :length]


def feedback(
    k_cp: Float[Tensor, "H S R L"], k_pp: Float[Tensor, "H R R L"], k_pb: Float[Tensor, "H R L"], dtype: torch.dtype
) -> Float[Tensor, "H S L"]:
    """h k_CP (1 + h k_PP)^-1 k_PB mod z^L, as exact as a kernel in `dtype` needs it; see (1)."""
    y: Tensor = _Feedback.apply(k_cp, k_pp, k_pb, dtype)[0]  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return y


class _Circle(NamedTuple):
    """M-th roots of unity times rho."""

    points: int
    weight: Float[Tensor, " L"]  # rho^l
    h: Complex[Tensor, " F"]  # (1 + z) / 2 on the half circle

    def values(self, k: Float[Tensor, "*S L"]) -> Complex[Tensor, "*S F"]:
        """k(z) at the points of the half circle."""
        y: Tensor = torch.fft.rfft(k * self.weight, n=self.points)
        return y

    def taps(self, values: Complex[Tensor, "*S F"]) -> Float[Tensor, "*S L"]:
        """rho^2l k_l of these k(z); so weighted, it is the adjoint of `values` up to a factor."""
        y: Tensor = torch.fft.irfft(values, n=self.points)[..., : self.weight.shape[0]]
        return y * self.weight


def _circle(length: int, dtype: torch.dtype, device: torch.device) -> _Circle:
    multiple, damping = (4, 1e-3) if dtype == torch.double else (1, 1e-8)
    points = int(next_fast_len(multiple * length, real=True))
    log_rho = math.log(damping) / length
    steps = torch.arange(max(length, points // 2 + 1), dtype=torch.double, device=device)
    angle = -2 * math.pi / points * steps[: points // 2 + 1]
    h = (1 + torch.polar(torch.full_like(angle, math.exp(log_rho)), angle)) / 2
    return _Circle(points, torch.exp(log_rho * steps[:length]), h)


class _Feedback(torch.autograd.Function):
    """`feedback` with its gradients written out: they take one FFT of dL/dy, and no inverse.

    With s = (1 + h k_PP)^-1 h k_PB and t = h k_CP (1 + h k_PP)^-1, both closed-loop,  y = k_CP s  and

        dy = dk_CP s + t dk_PB - t dk_PP s

    The spectra s and t are outputs because `setup_context`, which makes this work under `torch.func`, wants them so.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(k_cp: Tensor, k_pp: Tensor, k_pb: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        circle = _circle(k_cp.shape[-1], dtype, k_cp.device)
        cp, pp, pb = (circle.values(k) for k in (k_cp, k_pp, k_pb))
        inverse = circle.h * _inverse_of_one_plus(circle.h * pp)
        s, t = _product(inverse, pb[:, :, None]), _product(cp, inverse)
        return circle.taps(_product(cp, s)[:, :, 0]) / circle.weight**2, s, t

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, s, t = output
        ctx.mark_non_differentiable(s, t)
        ctx.save_for_backward(s, t)
        ctx.length, ctx.dtype = inputs[0].shape[-1], inputs[3]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        s, t = (x.transpose(1, 2).conj().resolve_conj() for x in ctx.saved_tensors)
        circle = _circle(ctx.length, ctx.dtype, dy.device)
        g = circle.values(dy / circle.weight**2)[:, :, None]
        dpb = _product(t, g)
        return circle.taps(_product(g, s)), circle.taps(-_product(dpb, s)), circle.taps(dpb[:, :, 0]), None


def _inverse_of_one_plus(q: Complex[Tensor, "H R R F"]) -> Complex[Tensor, "H R R F"]:
    """(1 + q)^-1 at every point, by bordering: no pivoting, as the real part of every leading block of q is >= 0."""
    inverse = torch.reciprocal(1 + q[:, :1, :1])
    for i in range(1, q.shape[1]):  # [[W, v], [u, d]]^-1 from W^-1
        u, v = q[:, i : i + 1, :i], q[:, :i, i : i + 1]
        left, right = _product(u, inverse), _product(inverse, v)
        schur = torch.reciprocal(1 + q[:, i : i + 1, i : i + 1] - _product(left, v))
        above = torch.cat([inverse + _product(right, schur * left), -right * schur], dim=2)
        inverse = torch.cat([above, torch.cat([-schur * left, schur], dim=2)], dim=1)
    return inverse


def _product(x: Complex[Tensor, "H I J F"], y: Complex[Tensor, "H J K F"]) -> Complex[Tensor, "H I K F"]:
    """Of matrices, at every point."""
    return x * y if y.shape[1] == 1 else (x[:, :, :, None] * y[:, None]).sum(dim=2)


def cauchy(
    v: Complex[Tensor, "H n"], g: Complex[Tensor, "H F"], Lambda: Complex[Tensor, "H n"]
) -> Complex[Tensor, "H F"]:
    """sum_n v_n / (g - Lambda_n) over both modes of each conjugate pair, some nodes at a time."""
    v, Lambda = torch.cat([v, v.conj()], dim=1), torch.cat([Lambda, Lambda.conj()], dim=1)
    nodes = [g[:, i : i + 64, None] for i in range(0, g.shape[1], 64)]
    return torch.cat([(v[:, None] / (some - Lambda[:, None])).sum(dim=-1) for some in nodes], dim=1)


def cauchy_kernel(system: LowRankSystem, length: int) -> Float[Tensor, "S {length} H"]:
    """The kernel as it is published, by its generating function at roots of unity: the reference, O(N L).

        K(z) = 2 / (1+z) [k_CB - k_CP (1 + k_PP)^-1 k_PB],   k_uv = sum u v / (g - lambda),   g = 2/dt (1-z) / (1+z)

    At roots of unity times rho, where C needs no correction for the taps after the last one: they are rho^L smaller.
    """
    Lambda, P, B, C, dt = system
    circle = _circle(length, torch.double, dt.device)
    z = 2 * circle.h - 1
    g = 2 / dt * (1 - z) / (1 + z)

    def k(u: Complex[Tensor, "U H n"], v: Complex[Tensor, "V H n"]) -> Complex[Tensor, "H F U V"]:
        return torch.stack([torch.stack([cauchy(one * other, g, Lambda) for other in v], -1) for one in u], -2)

    rows, low_rank, inputs = C.to(Lambda.dtype), P.transpose(0, 1), B[None]
    one = torch.eye(P.shape[1], dtype=Lambda.dtype, device=dt.device)
    inner = torch.linalg.solve(one + k(low_rank.conj(), low_rank), k(low_rank.conj(), inputs))
    values = 2 / (1 + z) * (k(rows, inputs) - k(rows, low_rank) @ inner)[..., 0].movedim(-1, 0)
    return (circle.taps(values) / circle.weight**2).transpose(1, 2)
