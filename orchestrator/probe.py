"""What a state-space layer does as it stands, in numbers: where its modes are, what it answers to an impulse.

Everything is asked through the contract of `SSM`, so it holds for a structure of the user's too.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssm_models import SSM
from ssm_models.structures.siso import Siso

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Modes:
    """The eigenvalues of a layer, one of each conjugate pair: of each channel, or (R = 1) shared by all.

    before  discretisation, (R, N), A; None in discrete time
    after   discretisation, (R, N), A_bar
    dt      (R, 1) or (R, N); None where `before` is
    note    what to know before believing them, or nothing
    """

    before: Complex | None
    after: Complex
    dt: Real | None
    note: str = ""

    @property
    def memory(self) -> Real:
        """-1 / log|a_bar|: steps after which a mode has decayed by 1/e; infinite if it does not decay."""
        size = np.abs(self.after)
        with np.errstate(divide="ignore"):
            steps: Real = -1 / np.log(size)
        return np.where(size < 1, steps, np.inf)

    @property
    def frequency(self) -> Real:
        """|arg a_bar| / 2 pi: cycles a step, at most 1/2."""
        cycles: Real = np.abs(np.angle(self.after)) / (2 * math.pi)
        return cycles

    @property
    def beyond_limit(self) -> NDArray[np.bool_] | None:
        """Whether a mode is too fast for the step, dt |Im A| > pi."""
        if self.before is None or self.dt is None:
            return None
        return np.asarray(self.dt * np.abs(self.before.imag) > math.pi)

    @property
    def aliased(self) -> NDArray[np.bool_] | None:
        """Whether a mode beyond the limit comes back as a slower one, as e^{dt A} does; the bilinear rule bends it."""
        beyond = self.beyond_limit
        if beyond is None or self.before is None or self.dt is None:
            return None
        return np.asarray(beyond & np.isclose(self.after, np.exp(self.dt * self.before), rtol=1e-6, atol=1e-12))


@torch.no_grad()
def modes(ssm: SSM) -> Modes:
    """The spectrum of a layer as arrays. Raises `ImpossibleError` where there is none."""
    found = ssm.spectrum()
    after = found.A_bar.cpu().numpy().astype(np.complex128)
    if found.A is None or found.dt is None:
        return Modes(None, after, None, found.note)
    return Modes(
        found.A.cpu().numpy().astype(np.complex128), after, found.dt.cpu().numpy().astype(np.float64), found.note
    )


def spread(found: Modes | None, width: int, count: int) -> list[tuple[int, float | None]]:
    """Channels from the smallest dt to the largest, with their dt; all over the layer where channels have none."""
    places = np.unique(np.linspace(0, width - 1, count).round().astype(int))
    if found is None or found.dt is None or len(found.dt) != width:
        return [(int(channel), None) for channel in places]
    dt = np.median(found.dt, axis=1)
    return [(int(channel), float(dt[channel])) for channel in np.argsort(dt, kind="stable")[places]]


@torch.no_grad()
def impulse_responses(ssm: SSM, width: int, channels: list[int], length: int) -> tuple[Real, Real]:
    """Lags (T) in steps, and what each channel answers at them to a unit impulse in itself, (C, T), without D u.

    A layer that sees the future answers at negative lags too.
    """
    if isinstance(ssm, Siso):
        kernels = ssm.kernels(length)[:, :, channels]
        taps = [kernels[1].flip(0), kernels[0]] if ssm.bidirectional else [kernels[0]]  # the reverse begins at lag -1
        first = -length if ssm.bidirectional else 0
        response = torch.cat(taps).T
    else:
        first = 1 - length if ssm.no_recurrence else 0
        u = torch.zeros(len(channels), length - first, width)
        rows = torch.arange(len(channels))
        u[rows, -first, channels] = 1
        response = ssm(u)[rows, :, channels]
        if isinstance(skip := getattr(ssm, "D", None), Tensor):
            response[:, -first] -= skip[channels]
    return np.arange(first, length, dtype=np.float64), response.double().cpu().numpy()


@torch.no_grad()
def basis(ssm: SSM, width: int, channel: int, steps: int, count: int) -> tuple[list[int], Real]:
    """Numbers of the `count` states that change most slowly after an impulse in a channel, and their course.

    Real parts, (count, steps): the functions in which the layer keeps the past. Raises `ImpossibleError` where there
    is no recurrence.
    """
    step = ssm.stepper()
    state, u = ssm.initial_state(1), torch.zeros(1, width)
    course = []
    for k in range(steps):
        u[0, channel] = float(k == 0)
        _, state = step(u, state)
        course.append(_of_channel(state, width, channel))
    states = torch.stack(course, dim=1).to(torch.complex128).numpy()
    change, size = (np.square(np.abs(x)).sum(axis=1) for x in (np.diff(states, axis=1), states))
    slowest = np.argsort(change / np.maximum(size, np.finfo(float).tiny), kind="stable")[:count]
    kept = np.sort(slowest)
    return [int(n) for n in kept], states[kept].real


def state_size(ssm: SSM) -> int:
    """Real numbers of recurrent state a layer keeps between two steps of one sequence."""
    return sum(leaf.numel() * (2 if leaf.is_complex() else 1) for leaf in _leaves(ssm.initial_state(1)))


def _of_channel(state: Any, width: int, channel: int) -> Tensor:
    """The first tensor of a state, without its batch: the row of the channel, or all of it where channels share it."""
    leaf = _leaves(state)[0][0].detach().cpu()
    own = leaf[channel] if leaf.dim() > 1 and leaf.shape[0] == width else leaf
    return own.flatten().clone()


def _leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state
    return [leaf for part in parts for leaf in _leaves(part)]
