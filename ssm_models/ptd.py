"""Perturb, then diagonalise: HiPPO-LegS as a diagonal system, up to a small change of A.

    A + E = V diag(lambda) V^-1,   ||E|| = strength ||A||   (spectral norms; kappa(V) = ||V|| ||V^-1||, |v_n| = 1)

A itself cannot be diagonalised in double precision (kappa(V) > 1e19 at N = 32), and S4D-LegS, which leaves out the
low-rank term of A, has another transfer function: that of the exponential average, 1 / (s + 1), is off by a spike of
height 2/pi near w = N^2 / pi, at every N.
Yu et al. 2023, "Robustifying State-space Models for Long Sequences via Approximate Diagonalization"
(arXiv:2310.01698), minimise kappa(V) + gamma ||E|| over complex E, ||E|| standing for the change of the transfer
function. Here the size of E is given, and the change of the transfer function itself is weighed against kappa(V):

    minimise   log kappa_8(V) + 0.3 / strength^2 mean_w |x_E(iw) - x(iw)|^2
    x(s) = (s - A)^-1 B,   x_E(s) = (s - A - E)^-1 B,   kappa_8 in Schatten-8 norms: smooth, and near kappa

|G_E(iw) - G(iw)| <= |C| deviation for every C, where deviation = max_w |x_E(iw) - x(iw)|. kappa alone could be brought
to 3.3 at strength .1 and N = 64, but then the deviation is 1, that of the zero system, because E is far larger than
the small eigenvalues of A. Weighed against each other they are 3.8 and 0.2.

E is sought among the smooth kernels  E = U M U^T,  M = K + c e_0 e_0^T,  K skew-symmetric,  U (N, 4) orthonormal in
the span of sqrt(2n+1) (1, t, t^2, t^3),  t = (2n+1)/N - 1: 7 numbers. Four consequences:

    stable      A + A^T = -1 - 2 P P^T and U e_0 = P/|P|, so A + E + (A + E)^T <= -1 while c <= |P|^2, and
                Re lambda <= -1/2 (Bendixson). Nothing is clipped or reflected.
    conjugate   E is real, so eigenvalues come in conjugate pairs. To become two real ones a pair must meet, where
                kappa is infinite, so the search keeps to where it starts: at pairs alone. The end is checked.
    any N       A and E are, but for the diagonal of A, samples of kernels in n/N, so one M serves every N with almost
                the same kappa and deviation. It is found at N = 32, or at N if that is smaller.
    no seed     Other starts end in the same minimum or a worse one. M is rounded to 4 digits, finer than matters, so
                that machines whose LAPACK differs in the last digits find the same E, and eigenvalues equal to
                rounding.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from descriptions import ImpossibleError, check_fields, require
from ssm_models.hippo import HIPPO

SEARCHED_AT = 32  # the N at which M is found
DIRECTIONS = 4  # columns of U
FIDELITY = 0.3  # weight of the squared deviation, in units of strength^2, against log kappa


class Report(NamedTuple):
    """How well a perturbation does its two things."""

    size: float
    """||E|| / ||A||, which is `strength`."""
    condition: float
    """kappa(V) = ||V|| ||V^-1||."""
    deviation: float
    """Largest |x_E(iw) - x(iw)| over the frequencies w; largest |x(iw)| is 1, at w = 0."""
    backward_error: float
    """||(A + E) V - V diag(lambda)|| / ||A + E||, in Frobenius norms."""
    largest_real: float
    """Largest Re lambda, at most -1/2."""


@dataclass(frozen=True, kw_only=True)
class PTD:
    """Initial eigenvalues of the perturbed HiPPO-LegS matrix, the same for all copies."""

    strength: float = 0.1
    """||E|| / ||A||. kappa(V) is about 0.27 / strength + 1, the deviation about 2.3 strength."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(0 < self.strength <= 1, f"strength={self.strength:g} is ||E|| / ||A||, which lies in (0, 1].")

    def modes(self, copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
        """One of each conjugate pair, ascending in Im lambda > 0."""
        return diagonalised(N, self.strength).Lambda.repeat(copies, 1)

    def extremes(self, N: int) -> Complex[Tensor, " modes"]:
        """All of them: nothing is drawn."""
        return diagonalised(N, self.strength).Lambda

    @property
    def differs_between_copies(self) -> bool:
        """No."""
        return False

    def check(self, copies: int, N: int) -> None:
        """Raise `ImpossibleError` if no perturbation of this size does."""
        diagonalised(N, self.strength)

    def hippo_b(self, N: int) -> Complex[Tensor, " modes"]:
        """V^-1 B, real and >= 0 by choice of the phases of the eigenvectors."""
        return diagonalised(N, self.strength).B

    def basis(self, N: int) -> tuple[Complex[Tensor, "N modes"], Complex[Tensor, "modes N"]]:
        """(V, V^-1) for one of each conjugate pair: x = 2 Re(V z) and z = V^-1 x."""
        found = diagonalised(N, self.strength)
        return found.V, found.V_inv

    def report(self, N: int) -> Report:
        """What the perturbation is worth at this N."""
        return _report(N, self.strength)


class Diagonalised(NamedTuple):
    """A + E = [V, conj V] diag(Lambda, conj Lambda) [V_inv; conj V_inv], one mode of each pair."""

    E: Float[Tensor, "N N"]
    Lambda: Complex[Tensor, " modes"]
    V: Complex[Tensor, "N modes"]
    V_inv: Complex[Tensor, "modes N"]
    B: Complex[Tensor, " modes"]  # V_inv B, real and >= 0
    condition: float

    def response(self, s: Complex[Tensor, " frequencies"]) -> Complex[Tensor, "N frequencies"]:
        """x_E(s) = (s - A - E)^-1 B, both modes of each pair."""
        first = self.V @ (self.B[:, None] / (s - self.Lambda[:, None]))
        second = self.V.conj() @ (self.B[:, None] / (s - self.Lambda.conj()[:, None]))
        return first + second


@cache
def diagonalised(N: int, strength: float) -> Diagonalised:
    """The perturbed matrix of real size N in its eigenbasis. |v_n| = 1, V^-1 B >= 0, Im Lambda > 0 ascending."""
    A, B, P = HIPPO["legs"](N)
    norm, low_rank = torch.linalg.matrix_norm(A, 2), P.square().sum()
    size = strength * norm
    if size > low_rank:
        raise ImpossibleError(
            f"PTD(strength={strength:g}) is a larger change of A than to leave out its low-rank term, which is "
            f"strength={low_rank / norm:.3g} at state={N} and makes A normal: init='legs'."
        )
    U = directions(N)
    E = size * (U @ kernel(min(N, SEARCHED_AT), strength) @ U.T)
    eigenvalues, V = torch.linalg.eig(A + E)
    if not _in_pairs(eigenvalues):
        raise _real_eigenvalues(strength)
    V_inv = torch.linalg.inv(V)
    condition = torch.linalg.cond(V).item()
    upper = eigenvalues.imag.argsort()[N // 2 :]
    V, V_inv = V[:, upper], V_inv[upper]
    b = V_inv @ B.to(V.dtype)
    phase = b / b.abs()
    return Diagonalised(E, eigenvalues[upper], V * phase, V_inv / phase[:, None], b.abs() + 0j, condition)


def directions(N: int) -> Float[Tensor, "N directions"]:
    """U: sqrt(2n+1) times polynomials in n, orthonormal, of degrees 0 .. 3; the first is P/|P|."""
    n = torch.arange(N, dtype=torch.float64)
    t = (2 * n + 1) / N - 1
    powers = torch.stack([torch.sqrt(2 * n + 1) * t**k for k in range(min(DIRECTIONS, N))], dim=1)
    Q, R = torch.linalg.qr(powers)
    U: Tensor = Q * R.diagonal().sign()
    return U


def response(s: Complex[Tensor, " frequencies"], N: int) -> Complex[Tensor, "N frequencies"]:
    """(s - A)^-1 B of HiPPO-LegS.

    x_n(s) = sqrt(2n+1) / (s+1) prod_{j=1..n} (s-j+1) / (s+j+1),
    the Laplace transform of (e^{tA} B)_n = sqrt(2n+1) e^{-t} P_n(2e^{-t} - 1), with P_n the Legendre polynomials.
    """
    j = torch.arange(1, N, dtype=torch.float64)[:, None]
    factors = torch.cat([1 / (s + 1)[None], (s - j + 1) / (s + j + 1)])
    return torch.sqrt(2 * torch.arange(N, dtype=torch.float64) + 1)[:, None] * factors.cumprod(dim=0)


@cache
def kernel(N: int, strength: float) -> Float[Tensor, "directions directions"]:
    """M of spectral norm 1, found by BFGS from two starts: E nearly along P P^T, and nearly skew-symmetric."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        objective = _Objective(N, strength)
        couplings = objective.U.shape[1] * (objective.U.shape[1] - 1) // 2
        starts = [np.full(couplings + 1, 0.1), np.zeros(couplings + 1)]
        starts[0][0], starts[1][:2] = 1, (0.1, 1)
        found = [
            minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-3})
            for start in starts
            if objective.in_pairs(_of_numbers(torch.from_numpy(start)))
        ]
        for result in sorted(found, key=lambda result: float(result.fun)):
            M = _of_norm_one(_of_numbers(torch.from_numpy(result.x))).round(decimals=4)
            if objective.in_pairs(M):
                return _of_norm_one(M)
    raise _real_eigenvalues(strength)


class _Objective:
    """What is minimised, and its gradient in the numbers that make M."""

    def __init__(self, N: int, strength: float) -> None:
        self.A, self.B, _ = HIPPO["legs"](N)
        self.strength, self.U = strength, directions(N)
        self.size = strength * torch.linalg.matrix_norm(self.A, 2)
        w = torch.cat([torch.zeros(1), torch.logspace(-1, math.log10(2 * N**2), 31, dtype=torch.float64)])
        self.s = 1j * w
        self.x = response(self.s, N)

    def perturbed(self, M: Float[Tensor, "directions directions"]) -> Float[Tensor, "N N"]:
        """A + U M U^T, with M scaled to the asked size."""
        E: Tensor = self.size * (self.U @ _of_norm_one(M) @ self.U.T)
        return self.A + E

    def in_pairs(self, M: Float[Tensor, "directions directions"]) -> bool:
        """Whether no eigenvalue is real."""
        return _in_pairs(torch.linalg.eigvals(self.perturbed(M)))

    def __call__(self, numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Value and gradient."""
        leaf = torch.tensor(numbers, requires_grad=True)
        value = self.value(self.perturbed(_of_numbers(leaf)))
        (gradient,) = torch.autograd.grad(value, leaf)
        return value.item(), gradient.numpy()

    def value(self, perturbed: Float[Tensor, "N N"]) -> Float[Tensor, ""]:
        """With |V|_8^8 = tr (V^* V)^4 = |(V^* V)^2|_F^2."""
        eigenvalues, V = torch.linalg.eig(perturbed)
        V_inv = torch.linalg.inv(V)
        eighth = [torch.linalg.matrix_norm(gram @ gram) ** 2 for gram in (V.mH @ V, V_inv @ V_inv.mH)]
        x = V @ ((V_inv @ self.B.to(V.dtype))[:, None] / (self.s - eigenvalues[:, None]))
        deviation = (x - self.x).abs().square().sum(dim=0).mean()
        value: Tensor = (eighth[0] * eighth[1]).log() / 8 + FIDELITY * deviation / self.strength**2
        return value


def _of_numbers(numbers: Float[Tensor, " numbers"]) -> Float[Tensor, "m m"]:
    """M = K + c e_0 e_0^T from c and the entries of K above its diagonal."""
    m = (1 + math.isqrt(8 * len(numbers) - 7)) // 2
    row, column = torch.triu_indices(m, m, 1)
    upper = torch.zeros(m, m, dtype=numbers.dtype).index_put((row, column), numbers[1:])
    corner = torch.zeros(m, dtype=numbers.dtype).index_put((torch.tensor([0]),), numbers[:1])
    return upper - upper.T + torch.diag(corner)


def _of_norm_one(M: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    scaled: Tensor = M / torch.linalg.matrix_norm(M, 2)
    return scaled


def _in_pairs(eigenvalues: Complex[Tensor, " N"]) -> bool:
    """Whether no eigenvalue of a real matrix is real. LAPACK returns exact conjugates, and exact zeros as Im."""
    return bool((eigenvalues.imag != 0).all())


def _real_eigenvalues(strength: float) -> ImpossibleError:
    return ImpossibleError(
        f"PTD(strength={strength:g}) leaves real eigenvalues, and modes are stored as conjugate pairs: "
        "a larger strength, or a larger state, has none."
    )


@cache
def _report(N: int, strength: float) -> Report:
    A, _, _ = HIPPO["legs"](N)
    found = diagonalised(N, strength)
    residual = (A + found.E).to(found.V.dtype) @ found.V - found.V * found.Lambda
    w = torch.cat([torch.zeros(1), torch.logspace(-2, math.log10(4 * N**2), 400, dtype=torch.float64)])
    deviation = (found.response(1j * w) - response(1j * w, N)).abs().square().sum(dim=0).sqrt().max()
    norm = torch.linalg.matrix_norm
    return Report(
        size=(norm(found.E, 2) / norm(A, 2)).item(),
        condition=found.condition,
        deviation=deviation.item(),
        backward_error=(math.sqrt(2) * norm(residual) / norm(A + found.E)).item(),
        largest_real=found.Lambda.real.max().item(),
    )
