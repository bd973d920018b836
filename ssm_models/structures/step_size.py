"""The step size dt: how it is drawn, how it is stored, and the checks that all structures with one share."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from descriptions import ImpossibleError, one_of, require


class StepTransform(NamedTuple):
    """dt = f(p) with p the trained parameter, and the inverse of f."""

    forward: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]
    inverse: Callable[[Float[Tensor, "..."]], Float[Tensor, "..."]]


def _softplus_inverse(dt: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return dt + torch.log(-torch.expm1(-dt))


STEP_TRANSFORMS: dict[str, StepTransform] = {
    "exp": StepTransform(torch.exp, torch.log),
    "softplus": StepTransform(torch.nn.functional.softplus, _softplus_inverse),
}


def check_step_size(dt_min: float, dt_max: float, dt_transform: str, lr_dt: float | None) -> None:
    """Raise for a range that is none, an unknown transform, and a transform of a step size that is not trained."""
    for name, end in (("dt_min", dt_min), ("dt_max", dt_max)):
        require(0 < end < math.inf, f"{name}={end:g}: it must hold that 0 < {name} < inf.")
    if dt_min > dt_max:
        raise ImpossibleError(f"dt_min={dt_min:g}, dt_max={dt_max:g}: it must hold that dt_min <= dt_max.")
    one_of("dt_transform", dt_transform, STEP_TRANSFORMS)
    if lr_dt == 0 and dt_transform != "exp":
        raise ImpossibleError(
            f"dt_transform={dt_transform!r} says how dt is trained, but lr_dt=0 freezes dt: "
            "the arm would equal the one with dt_transform='exp'."
        )


def check_rate(name: str, rate: float | None) -> None:
    """Raise `MistakeError` unless it is a learning rate: >= 0, or None for the trainer's."""
    require(
        rate is None or 0 <= rate < math.inf,
        f"{name}={rate} is a learning rate; it must be >= 0 (0 freezes), or None for the trainer's.",
    )


def draw_step_size(
    shape: tuple[int, ...], dt_min: float, dt_max: float, dt_transform: str, generator: torch.Generator
) -> Float[Tensor, "..."]:
    """The stored parameter of step sizes with log dt ~ U[log dt_min, log dt_max]."""
    low, high = math.log(dt_min), math.log(dt_max)
    log_dt = low + (high - low) * torch.rand(shape, generator=generator)
    return STEP_TRANSFORMS[dt_transform].inverse(torch.exp(log_dt.double())).float()


def step_size(p: Float[Tensor, "*S"], dt_transform: str, rate: float) -> Float[Tensor, "*S"]:
    """dt of a stored parameter, in float64, at a sampling rate."""
    return rate * STEP_TRANSFORMS[dt_transform].forward(p.double())
