"""What structures with a continuous-time diagonal A check about its start, and say about it."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex
from torch import Tensor

from descriptions import ImpossibleError
from ssm_models.discretize import GBT, largest_stable_dt
from ssm_models.init import InitWithParameters
from ssm_models.ptd import PTD
from ssm_models.transform import TRANSFORMS

#: HiPPO matrices whose normal part is not a basis on their window any more, and has Re A = 0.
WINDOWED = ("legt", "lagt", "fout")


def refuse_transform_of_frozen(part: str, transform: str, default: str, lr_A: float | None) -> None:
    """Raise `ImpossibleError` for a transform of an A that is not trained: the arm has another name already."""
    if lr_A == 0 and transform != default:
        raise ImpossibleError(
            f"{part}_transform={transform!r} says how A is trained, but lr_A=0 freezes A: "
            f"the arm would equal the one with {part}_transform={default!r}."
        )


def refuse_start(
    init: str | InitWithParameters,
    modes: Callable[[], Complex[Tensor, " N"]],
    transforms: dict[str, str],
    discretization: str | GBT,
    dt_max: float,
) -> None:
    """Raise `ImpossibleError` where initial eigenvalues cannot be stored or trained, or grow at the largest step.

    `modes()` makes eigenvalues as far out as the init can draw them, if they matter; `transforms` is that of each
    part ("real", "imag").
    """
    choosy = any(TRANSFORMS[transform].below < math.inf or transform == "relu" for transform in transforms.values())
    if not choosy and not may_be_unstable(discretization):
        return
    A = modes()
    for part, values in (("real", -A.real), ("imag", A.imag)):
        transform = transforms.get(part, "none")
        if transform == "relu" and (values == 0).all():
            raise ImpossibleError(
                f"{part}_transform='relu' has no gradient at 0, where init={init!r} starts {part[:2].capitalize()} A: "
                "it would never be trained."
            )
        below = TRANSFORMS[transform].below
        if below < math.inf and (extreme := values.max().item()) >= below:
            raise ImpossibleError(
                f"{part}_transform={transform!r} stays below {below:g}, but init={init!r} starts "
                f"|{part[:2].capitalize()} A| at up to {extreme:.3g}."
            )
    limit = largest_stable_dt(discretization, A)
    if dt_max > limit:
        raise ImpossibleError(
            f"discretization={discretization!r} is unstable for init={init!r} at steps above {limit:.2g}, "
            f"but dt_max={dt_max:g}."
        )


def may_be_unstable(discretization: str | GBT) -> bool:
    """Whether the rule is stable for small steps only."""
    return largest_stable_dt(discretization, torch.tensor([-1.0 + 0j])) < math.inf


def caveats_of_start(
    init: str | InitWithParameters,
    real_transform: str,
    imag_transform: str,
    discretization: str | GBT,
    *,
    real_random: bool = False,
) -> list[tuple[bool, str]]:
    """(whether it holds, sentence) of the fields that these structures share."""
    return [
        (
            init in WINDOWED,
            f"init={init!r} without its low-rank term is no longer a basis on a window: only legs survives this.",
        ),
        (
            init in WINDOWED and real_transform != "none" and not real_random,
            f"init={init!r} has Re A = 0, which real_transform={real_transform!r} lifts to -1e-4.",
        ),
        (
            isinstance(init, PTD),
            "init=PTD is a real perturbation found here, whose modes decay and come in conjugate pairs; that of the "
            "authors is complex.",
        ),
        (
            real_transform == "none",
            "real_transform='none' does not bound Re A: training can make it positive, and the state "
            "then grows exponentially with length.",
        ),
        (
            real_transform == "relu",
            "real_transform='relu' has no gradient below 0: a mode that gets there stays at -1e-4.",
        ),
        (
            imag_transform != "none",
            f"imag_transform={imag_transform!r} keeps Im A above 0: a mode at 0 starts at 1e-4, and no mode can "
            "turn the other way.",
        ),
        (
            may_be_unstable(discretization),
            f"discretization={discretization!r} is stable for small steps only: training can leave that region.",
        ),
        (
            discretization == "dirac",
            "discretization='dirac' has no factor dt in B: at the start its output is about 1/dt times "
            "larger than that of zoh or bilinear.",
        ),
    ]
