"""How a trial is trained: everything that is not the model, the task or the seed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from descriptions import check_fields, one_of, require

Schedule = Callable[[float, float], float]


@dataclass(frozen=True, kw_only=True)
class Training:
    """AdamW with a learning-rate schedule. Parameters of a structure may have rates of their own (`lr_A`, ...)."""

    epochs: int = 20
    batch_size: int = 64
    lr: float = 4e-3  # peak rate of every parameter without a rate of its own
    weight_decay: float = 0.01  # never on A, B or dt
    schedule: str = "cosine"
    warmup: float = 0.1  # fraction of all steps over which the rate rises linearly
    clip: float | None = 1.0  # largest global gradient norm; None: no clipping
    precision: str = "float32"  # kernels and losses stay in float32 whatever this is

    def __post_init__(self) -> None:
        check_fields(self)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        require(self.epochs >= 1, f"epochs={self.epochs} must be at least 1.")
        require(self.batch_size >= 1, f"batch_size={self.batch_size} must be at least 1.")
        require(self.lr > 0 and math.isfinite(self.lr), f"lr={self.lr} must be positive.")
        require(self.weight_decay >= 0, f"weight_decay={self.weight_decay} must not be negative.")
        require(0 <= self.warmup < 1, f"warmup={self.warmup} is a fraction of all steps: 0 <= warmup < 1.")
        require(self.clip is None or self.clip > 0, f"clip={self.clip} must be positive, or None for no clipping.")

    def rate(self, step: int, steps: int) -> float:
        """Factor on each group's own peak rate at optimiser step `step` of `steps`, both from 0."""
        return SCHEDULES[self.schedule](step / steps, self.warmup)


def cosine(done: float, warmup: float) -> float:
    """Linear rise over `warmup`, then (1 + cos(pi t)) / 2 down to zero; `done` is the fraction of steps taken."""
    if done < warmup:
        return _rise(done, warmup)
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def linear(done: float, warmup: float) -> float:
    """Linear rise over `warmup`, then linear down to zero."""
    return _rise(done, warmup) if done < warmup else (1 - done) / (1 - warmup)


def constant(done: float, warmup: float) -> float:
    """Linear rise over `warmup`, then flat."""
    return _rise(done, warmup) if done < warmup else 1.0


def _rise(done: float, warmup: float) -> float:
    """Starts a little above zero: a first step at rate 0 would be a wasted batch."""
    return 0.01 + 0.99 * done / warmup


SCHEDULES: dict[str, Schedule] = {"cosine": cosine, "linear": linear, "constant": constant}

#: Numbers in which the activations of a model run.
PRECISIONS: tuple[str, ...] = ("float32", "bfloat16")
