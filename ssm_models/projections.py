"""Where B and C of multi-input multi-output systems start: the matrices between H channels and one state of size P.

    S5     Smith et al. 2023, arXiv:2208.04933
    LRU    Orvieto et al. 2023, arXiv:2303.06349

A start in the state's own, real coordinates is a real (P, H) or (H, P) matrix that V^-1 or V brings to the
eigenbasis; P is then the real size. Everything is float64 or complex128.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ssm_models.hippo import HIPPO, normal_form
from ssm_models.init import InitWithParameters, Mixed


class Basis(NamedTuple):
    """Eigenvectors of the J blocks of a real matrix: those of one of each conjugate pair, and their rows of V^-1."""

    V: Complex[Tensor, "J N modes"]
    inverse: Complex[Tensor, "J modes N"]


@runtime_checkable
class WithBasis(Protocol):
    """An initialisation that comes from a matrix of its own."""

    def basis(self, N: int) -> tuple[Complex[Tensor, "N modes"], Complex[Tensor, "modes N"]]:
        """(V, the rows of V^-1)."""
        ...


def basis_of(init: str | InitWithParameters, blocks: int, N: int) -> Basis:
    """The eigenvectors that belong to the eigenvalues of an initialisation, of `blocks` blocks of size N.

    Eigenvalues that come from no matrix are taken as those of the real blocks [[Re, -Im], [Im, Re]], one a mode,
    whose eigenvectors are (1, -i) / sqrt 2.
    """
    if isinstance(init, Mixed):
        parts = [basis_of(name, blocks // len(init.laws), N) for name in init.laws]
        return Basis(torch.cat([part.V for part in parts]), torch.cat([part.inverse for part in parts]))
    if isinstance(init, WithBasis):
        V, inverse = init.basis(N)
    elif init in HIPPO:
        V = normal_form(str(init), N).V
        inverse = V.mH
    else:
        V = torch.kron(torch.eye(N // 2), torch.tensor([[1], [-1j]])).to(torch.complex128) / math.sqrt(2)
        inverse = V.mH
    return Basis(V.expand(blocks, -1, -1), inverse.expand(blocks, -1, -1))


def _lecun_b(P: int, H: int, basis: Basis, generator: torch.Generator) -> Complex[Tensor, "modes H"]:
    """V^-1 B with Var B = 1/P, truncated normal: E|V^-1 B|^2 = 1/P for a unitary V. The S5 authors' start.

    Their initialiser takes the first dimension of (P, H) for the inputs, so the variance is not 1/H.
    """
    B = truncated_normal((len(basis.V), basis.V.shape[1], H), 1 / P, generator)
    return (basis.inverse @ B.to(torch.complex128)).flatten(0, 1)


def _fan_in_b(P: int, H: int, basis: Basis, generator: torch.Generator) -> Complex[Tensor, "modes H"]:
    """Complex normal, E|B|^2 = 1/H, so that E|B u|^2 = 1 for white noise u. The start of LRU."""
    return complex_normal((P // 2, H), 1 / H, generator)


InputProjection = Callable[[int, int, Basis, torch.Generator], Complex[Tensor, "modes H"]]

INPUT_PROJECTIONS: dict[str, InputProjection] = {"lecun_normal": _lecun_b, "fan_in": _fan_in_b}


def _truncated_c(P: int, H: int, basis: Basis, generator: torch.Generator) -> Complex[Tensor, "H modes"]:
    """C V with Var Re C = Var Im C = 1/P, truncated normal: E|C V|^2 = 2/P. The S5 authors' default.

    Their name: the standard deviation is 1 before the initialiser's division by sqrt P.
    """
    return _lecun_c(P, H, basis, generator) * math.sqrt(H)


def _lecun_c(P: int, H: int, basis: Basis, generator: torch.Generator) -> Complex[Tensor, "H modes"]:
    """The same with variance 1/(P H), as the S5 authors' initialiser counts the rows of (H, P, 2) with the inputs."""
    C = torch.complex(*truncated_normal((2, H, len(basis.V), basis.V.shape[1]), 1 / (P * H), generator))
    return torch.einsum("hjn,jnm->hjm", C, basis.V).flatten(1)


def _normal_c(P: int, H: int, basis: Basis, generator: torch.Generator) -> Complex[Tensor, "H modes"]:
    """Complex normal, E|C|^2 = 1, without V: the S5 authors' complex_normal."""
    return complex_normal((H, P // 2), 1.0, generator)


OutputProjection = Callable[[int, int, Basis, torch.Generator], Complex[Tensor, "H modes"]]

OUTPUT_PROJECTIONS: dict[str, OutputProjection] = {
    "trunc_standard_normal": _truncated_c,
    "lecun_normal": _lecun_c,
    "normal": _normal_c,
}


def complex_normal(shape: tuple[int, ...], variance: float, generator: torch.Generator) -> Complex[Tensor, "..."]:
    """Circular complex normal with E|z|^2 = variance."""
    return math.sqrt(variance) * torch.randn(shape, generator=generator, dtype=torch.complex128)


def truncated_normal(shape: tuple[int, ...], variance: float, generator: torch.Generator) -> Float[Tensor, "..."]:
    """Normal, cut off at two of its standard deviations, and scaled so that what is left has `variance`."""
    kept = math.sqrt(1 - 4 * math.exp(-2) / (math.sqrt(2 * math.pi) * math.erf(math.sqrt(2))))
    x = torch.nn.init.trunc_normal_(torch.empty(shape, dtype=torch.float64), a=-2, b=2, generator=generator)
    return x * (math.sqrt(variance) / kept)
