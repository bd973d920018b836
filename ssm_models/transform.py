"""How the real part of an eigenvalue is stored: Re lambda = -f(p), with p the trained parameter.

Each level is the pair (f, inverse of f). The constrained ones keep Re lambda below 0, so that no training
step can make the state grow; their inverses lift a magnitude below 1e-4 to 1e-4, as p nears -infinity there.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-4


class Transform(NamedTuple):
    """f from the parameter p to the magnitude -Re lambda, and its inverse, both elementwise."""

    forward: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
    inverse: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]


def _softplus_inverse(magnitude: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log(e^m - 1), written so that a large m does not overflow."""
    m = magnitude.clamp(min=SMALLEST)
    return m + torch.log(-torch.expm1(-m))


def _relu(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(p, 0) + 1e-4, the floor keeping Re lambda below 0. A mode with p < 0 has no gradient and stays."""
    return torch.relu(p) + SMALLEST


def _relu_inverse(magnitude: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return magnitude.clamp(min=SMALLEST) - SMALLEST


def _identity(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return p


def _log(magnitude: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.log(magnitude.clamp(min=SMALLEST))


TRANSFORMS: dict[str, Transform] = {
    "exp": Transform(torch.exp, _log),
    "softplus": Transform(torch.nn.functional.softplus, _softplus_inverse),
    "relu": Transform(_relu, _relu_inverse),
    "none": Transform(_identity, _identity),
}
