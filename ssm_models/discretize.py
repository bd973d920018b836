"""From continuous time to steps of dt: x' = A x + B u becomes x_k = A_bar x_{k-1} + B_bar u_k, A diagonal.

With z = dt A, every level returns (log A_bar, B_bar / B), both of shape (H, N). The logarithm is what the
kernel needs: A_bar^l = exp(l log A_bar) for any l, without a product of l rounded factors.

Both functions that lose digits near z = 0, (e^z - 1) / z and log((1 + z/2) / (1 - z/2)), are written here in
real arithmetic. Naively in float32 they are wrong by 2e-4 and 5e-2 at dt = 1e-4; and not every device has
dependable complex expm1 and atanh kernels.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Discretization = Callable[
    [Complex[Tensor, "H N"], Float[Tensor, "H #N"]], tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]
]

# |A_bar| below which it counts as 0: too small to change a kernel, with a square that float32 can invert.
_ZERO = 1e-18


def zoh(A: Complex[Tensor, "H N"], dt: Float[Tensor, "H #N"]) -> tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]:
    """Zero-order hold: A_bar = e^z, B_bar / B = (e^z - 1) / A = dt phi1(z).

    Exact for an input that is constant over each step.
    """
    z = dt * A
    return z, dt * phi1(z)


def bilinear(
    A: Complex[Tensor, "H N"], dt: Float[Tensor, "H #N"]
) -> tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]:
    """Bilinear (Tustin): A_bar = (1 + z/2) / (1 - z/2), B_bar / B = dt / (1 - z/2).

    Warps high frequencies instead of aliasing them.
    """
    w = dt * A / 2
    return twice_atanh(w), dt / (1 - w)


def dirac(
    A: Complex[Tensor, "H N"], dt: Float[Tensor, "H #N"]
) -> tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]:
    """Impulse-invariant: A_bar = e^z, B_bar / B = 1.

    Exact for an input that is a train of impulses, which is why B carries no factor dt.
    """
    z = dt * A
    return z, torch.ones_like(z)


def phi1(z: Complex[Tensor, "*S"]) -> Complex[Tensor, "*S"]:
    """(e^z - 1) / z, and 1 at z = 0: accurate to rounding for every z, with a finite gradient.

    With z = x + iy:  Re(e^z - 1) = expm1(x) cos y - 2 sin^2(y/2),  Im(e^z - 1) = e^x sin y.
    """
    near = z.real.abs() + z.imag.abs() < 1e-3
    # Each branch gets arguments at which its gradient is finite: where() alone would give 0 * inf.
    far_z = torch.where(near, torch.ones_like(z), z)
    near_z = torch.where(near, z, torch.zeros_like(z))
    x, y = far_z.real, far_z.imag
    numerator = torch.complex(torch.expm1(x) * torch.cos(y) - 2 * torch.sin(y / 2) ** 2, torch.exp(x) * torch.sin(y))
    series = torch.ones_like(z)  # sum of z^k / (k+1)! up to k = 4; the rest is below 2e-18 here
    for k in range(5, 1, -1):
        series = 1 + near_z * series / k
    return torch.where(near, series, numerator / far_z)


def twice_atanh(w: Complex[Tensor, "*S"]) -> Complex[Tensor, "*S"]:
    """2 atanh(w) = log a with a = (1 + w) / (1 - w): accurate to rounding for every Re w <= 0.

    With w = x + iy:  log|a| = 1/2 log1p(4x / |1-w|^2),  arg a = atan2(2y, (1-x)(1+x) - y^2).
    Real w < -1 gives arg a = pi: a is negative there. At w = -1 itself, where a = 0, log|a| is the finite
    log 1e-18 and the gradient is zero.
    """
    zero = (1 + w.real) ** 2 + w.imag**2 < 4 * _ZERO**2
    w = torch.where(zero, torch.full_like(w, -0.5), w)
    x, y = w.real, w.imag
    above, below = (1 + x) ** 2 + y**2, (1 - x) ** 2 + y**2  # |1 + w|^2, |1 - w|^2
    excess = 4 * x / below  # |a|^2 - 1
    strong = excess < -0.5  # towards a = 0, log1p would lose the digits that log|1 + w| keeps
    log_square = torch.where(
        strong,
        torch.log(torch.where(strong, above, torch.ones_like(x))) - torch.log(below),
        torch.log1p(torch.where(strong, torch.zeros_like(x), excess)),
    )
    angle = torch.atan2(2 * y, (1 - x) * (1 + x) - y**2)
    return torch.where(zero, torch.full_like(w, math.log(_ZERO)), torch.complex(log_square / 2, angle))


DISCRETIZATIONS: dict[str, Discretization] = {
    "zoh": zoh,
    "bilinear": bilinear,
    "dirac": dirac,
}
