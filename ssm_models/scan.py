"""The recurrence, one step after another: slow, obvious, and what every fast path is tested against."""

import torch
from jaxtyping import Complex
from torch import Tensor


def sequential(
    a_bar: Complex[Tensor, "H N"], bu: Complex[Tensor, "B L H N"], initial: Complex[Tensor, "B H N"]
) -> Complex[Tensor, "B L H N"]:
    """All states of x_k = a_bar x_{k-1} + bu_k with x_{-1} = `initial`."""
    states = []
    x = initial
    for step in bu.unbind(dim=1):
        x = a_bar * x + step
        states.append(x)
    return torch.stack(states, dim=1)
