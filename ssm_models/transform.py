"""How a constrained number is stored: -Re lambda = f(p) or Im lambda = f(p), with p the trained parameter.

Each level is the pair (f, inverse of f) and the value that f stays below. The constrained ones keep f above 0, so
that no training step can make the state grow; their inverses lift a value below 1e-4 to 1e-4, as p nears -infinity
there.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST = 1e-4


class Transform(NamedTuple):
    """f from the parameter p to the value, and its inverse, both elementwise; f(p) < `below` for every p."""

    forward: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
    inverse: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
    below: float = math.inf


def _softplus_inverse(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log(e^m - 1), written so that a large m does not overflow."""
    m = value.clamp(min=SMALLEST)
    return m + torch.log(-torch.expm1(-m))


def _relu(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(p, 0) + 1e-4, the floor keeping the value above 0. A mode with p < 0 has no gradient and stays."""
    return torch.relu(p) + SMALLEST


def _relu_inverse(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return value.clamp(min=SMALLEST) - SMALLEST


def _identity(p: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return p


def _log(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.log(value.clamp(min=SMALLEST))


def _logit(value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log(m / (1 - m)), which exists below 1 only."""
    m = value.clamp(min=SMALLEST)
    return torch.log(m) - torch.log1p(-m)


TRANSFORMS: dict[str, Transform] = {
    "exp": Transform(torch.exp, _log),
    "softplus": Transform(torch.nn.functional.softplus, _softplus_inverse),
    "relu": Transform(_relu, _relu_inverse),
    "sigmoid": Transform(torch.sigmoid, _logit, below=1.0),
    "none": Transform(_identity, _identity),
}
