"""Where B and C of diagonal systems start, as complex64 or complex128, one number for each stored conjugate pair."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex
from torch import Tensor

from descriptions import ImpossibleError, one_of
from ssm_models.hippo import HIPPO, normal_form
from ssm_models.init import InitWithParameters
from ssm_models.projections import INPUT_PROJECTIONS, OUTPUT_PROJECTIONS


def ones(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """B = 1."""
    return torch.ones(copies, N // 2, dtype=torch.complex128)


def normal(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """Complex normal, E|B|^2 = 1."""
    return torch.randn(copies, N // 2, generator=generator, dtype=torch.complex128)


def alternating(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """B_n = (-1)^n."""
    return (ones(copies, N, generator).real * (1 - 2 * (torch.arange(N // 2) % 2))).to(torch.complex128)


def clockwise(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """B_n = exp(-2 pi i n / (N/2)): once round the unit circle."""
    return counterclockwise(copies, N, generator).conj().resolve_conj()


def counterclockwise(copies: int, N: int, generator: torch.Generator) -> Complex[Tensor, "copies modes"]:
    """B_n = exp(2 pi i n / (N/2)): once round the unit circle."""
    angle = 2 * math.pi * torch.arange(N // 2, dtype=torch.float64) / (N // 2)
    return torch.polar(torch.ones_like(angle), angle).repeat(copies, 1)


def check_b_init(named: str, init: str | InitWithParameters) -> None:
    """Raise `MistakeError` for an unknown B, `ImpossibleError` for the HiPPO B of an init that has none."""
    one_of("B_init", named, INPUTS, elsewhere=INPUT_PROJECTIONS)
    if named == "hippo" and init not in HIPPO and not hasattr(init, "hippo_b"):
        raise ImpossibleError(
            f"B_init='hippo' is B in the eigenbasis of a HiPPO matrix, but init={init!r} does not come from one; "
            f"{sorted(HIPPO)} and PTD do."
        )


Input = Callable[[int, int, torch.Generator], Complex[Tensor, "copies modes"]]

#: Initial B; `hippo` depends on the init and is made by `initial_b`.
INPUTS: dict[str, Input | None] = {
    "ones": ones,
    "normal": normal,
    "alternating": alternating,
    "clockwise": clockwise,
    "counterclockwise": counterclockwise,
    "hippo": None,
}


def initial_b(
    named: str, init: str | InitWithParameters, copies: int, N: int, generator: torch.Generator
) -> Complex[Tensor, "copies modes"]:
    """The B that a field `B_init` names.

    The HiPPO B is V^-1 B in the eigenbasis of A, with the phases of the eigenvectors such that it is >= 0.
    """
    make = INPUTS[named]
    if make is not None:
        return make(copies, N, generator)
    b = normal_form(init, N).B if isinstance(init, str) else init.hippo_b(N)  # type: ignore[attr-defined]  # checked
    return b.repeat(copies, 1)


def c_normal(shape: tuple[int, ...], generator: torch.Generator) -> Complex[Tensor, "..."]:
    """Complex normal with E|C|^2 = 1, as in the S4 authors' code."""
    return torch.randn(shape, generator=generator, dtype=torch.cfloat)


def c_normal_2(shape: tuple[int, ...], generator: torch.Generator) -> Complex[Tensor, "..."]:
    """Complex normal with E|C|^2 = 2, real and imaginary part N(0, 1), as in the paper's listing and in DSS."""
    return math.sqrt(2) * c_normal(shape, generator)


def c_ones(shape: tuple[int, ...], generator: torch.Generator) -> Complex[Tensor, "..."]:
    """C = 1: every mode begins in phase."""
    return torch.ones(shape, dtype=torch.cfloat)


CInit = Callable[[tuple[int, ...], torch.Generator], Complex[Tensor, "..."]]

C_INITS: dict[str, CInit] = {"normal": c_normal, "normal_2": c_normal_2, "ones": c_ones}


def check_c_init(named: str) -> None:
    """Raise `MistakeError` for an unknown C, `ImpossibleError` for one of layers with a shared state."""
    one_of("C_init", named, C_INITS, elsewhere=OUTPUT_PROJECTIONS)
