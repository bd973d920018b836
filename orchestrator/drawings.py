"""The pictures of a layer as it starts: what is measured for them, and the files."""

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from descriptions import ImpossibleError, MistakeError
from orchestrator import pictures, probe
from orchestrator.inspection import Inspection
from orchestrator.pictures import Figure
from ssm_models import SSM

#: Channels with a kernel, and states with a basis function.
CHANNELS, STATES = 5, 5
#: More steps than this are not stepped through for basis functions.
BASIS_STEPS = 2048


def default_folder(found: Inspection) -> Path:
    """`inspect/<study>/<arm>`, with '-' for what makes trouble in file names."""
    arm = re.sub(r"[^\w=.,+-]+", "-", found.arm.replace(", ", ",")).strip("-")
    return Path("inspect") / found.study / arm


def draw(found: Inspection, ssm: SSM, folder: Path) -> tuple[list[Path], list[str]]:
    """Write the pictures of a layer, the first of its model. Returns the files, and why something has none."""
    notes: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [file for name, figure in figures(found, ssm, notes) for file in pictures.save(figure, folder, name)]
    except OSError as error:
        raise MistakeError(f"{str(folder)!r} cannot be written: {error.strerror}.") from error
    return files, notes


def figures(found: Inspection, ssm: SSM, notes: list[str]) -> Iterator[tuple[str, Figure]]:
    """Each picture with its name; `notes` takes the sentences on those that cannot be drawn."""

    def title(what: str) -> str:
        return f"{what} of layer 1 of {found.layers}: {found.arm} on {found.task}"

    modes = None
    try:
        modes = probe.modes(ssm)
        yield "eigenvalues", pictures.eigenvalues(modes.before, modes.after, modes.dt, title("Eigenvalues"))
        marks = [(float(found.length), f"length {found.length:,}")]
        marks += [] if found.lag is None else [(float(found.lag), f"lag {found.lag:,}")]
        scales = [("memory", "modes", modes.memory.ravel())]
        if modes.dt is not None:
            scales.insert(0, ("1/dt", "channels" if len(modes.dt) == found.width else "modes", 1 / modes.dt.ravel()))
        yield "time_scales", pictures.time_scales(scales, title("Time scales"), marks=marks)
    except ImpossibleError as reason:
        notes.append(f"No eigenvalues: {reason}")
    chosen = probe.spread(modes, found.width, CHANNELS)
    lags, responses = probe.impulse_responses(ssm, found.width, [channel for channel, _ in chosen], found.length)
    labels = [f"channel {channel}" + ("" if dt is None else f"\ndt = {dt:.2g}") for channel, dt in chosen]
    yield "kernels", pictures.kernels(lags, responses, labels, title("Kernels"))
    try:
        yield "basis", _basis(found, ssm, modes, title("Basis functions"))
    except ImpossibleError as reason:
        notes.append(f"No basis functions: {reason}")


def _basis(found: Inspection, ssm: SSM, modes: probe.Modes | None, title: str) -> Figure:
    """Of the channel with the middle dt, over 4/dt steps, or for as long as there is something to see."""
    channel, dt = probe.spread(modes, found.width, 3)[min(1, found.width - 1)]
    steps = min(found.length, BASIS_STEPS, BASIS_STEPS if dt is None else max(16, math.ceil(4 / dt)))
    numbers, states = probe.basis(ssm, found.width, channel, steps, STATES)
    if dt is None:
        seen = (np.abs(states) > 0.01 * np.abs(states).max(axis=1, keepdims=True)).any(axis=0)
        states = states[:, : max(16, int(np.flatnonzero(seen).max(initial=0)) + 1)]
    where = f"channel {channel}" + ("" if dt is None else f" with dt\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{dt:.2g}")
    marks = [] if dt is None else [(found.window / dt, f"{found.window}/dt")]
    return pictures.basis(states, [f"state {n}" for n in numbers], f"{title}, {where}", marks=marks)
