"""`ablate inspect`: what an arm starts from, before it is trained, in numbers and warnings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from descriptions import ImpossibleError, MistakeError, did_you_mean, one_of, seed_for
from orchestrator import probe
from search_spaces import Arm, On, Plan, Recipe, label
from ssm_models import SSM, Model, build_model, count_parameters
from ssm_models.block import Block


@dataclass(frozen=True)
class Range:
    """Where some numbers are; None stands for no limit."""

    min: float | None
    median: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What an arm starts from on a task. Quantities are over all layers, channels and modes."""

    study: str
    arm: str
    task: str
    seed: int
    structure: str
    layers: int
    width: int  # channels
    parameters: int  # trained
    frozen: int
    state: int | None  # real numbers that one layer keeps from one step to the next
    no_recurrence: str
    length: int
    lag: int | None
    window: int  # how many units of time the functions of its law of eigenvalues live
    quantities: dict[str, Range]  # dt, steps_a_time, memory, frequency, re_lambda, im_lambda, size
    beyond_limit: float | None  # fraction of modes with dt |Im A| > pi
    init: dict[str, float]  # what the law of initial eigenvalues reports of itself
    warnings: tuple[str, ...]
    caveats: tuple[str, ...]


def find_arm(planned: Plan, arm: str | None, task: str | None) -> tuple[Arm, On]:
    """The arm of a name (None: the baseline), and the task of a name (None: the first on which the arm runs).

    Raises:
        MistakeError: there is none; with what became of a cell of that name, or the nearest.

    """
    study = planned.study
    _check_task(planned, task)
    found = next((a for a in planned.arms if (a.baseline if arm is None else a.name == arm)), None)
    if found is None:
        for omitted in (*planned.skipped, *planned.collapsed):
            if omitted.cell == arm:
                twin = "" if omitted.twin is None else f": the same model as {omitted.twin!r}, which is an arm"
                raise MistakeError(f"{arm!r} is no arm of {study.name!r}: {omitted.reason.rstrip('.')}{twin}.")
        near = did_you_mean(arm or "", [a.name for a in planned.arms])
        raise MistakeError(f"There is no arm {arm!r} in {study.name!r}.{near or ' `ablate plan` lists them.'}")
    on = next((on for on in study.on if on.name in found.recipes and task in (None, on.name)), None)
    if on is None:
        raise MistakeError(f"Arm {found.name!r} does not run on task {task!r}; `ablate plan` says why.")
    return found, on


def initial_model(recipe: Recipe, on: On, seed: int) -> Model:
    """The model with the weights that the trial of this seed starts from."""
    spec = on.task.spec
    return build_model(
        recipe.model, inputs=spec.inputs, tokens=spec.tokens, outputs=spec.outputs, seed=seed_for(seed, "model")
    )


def layers(model: Model) -> list[SSM]:
    """The state-space layers, the first first."""
    return [block.ssm for block in model.blocks if isinstance(block, Block)]


def inspect(
    planned: Plan, arm: Arm, on: On, *, length: int | None = None, lag: int | None = None
) -> tuple[Inspection, Model]:
    """Make the model of an arm as it starts and measure it, against the task's length and lag or those given."""
    config = arm.recipes[on.name].model
    model = initial_model(arm.recipes[on.name], on, planned.study.seeds[0])
    ssms = layers(model)
    length, lag = length or on.task.spec.length, lag or getattr(on.task, "lag", None) or None
    frozen = [b for ssm in ssms for b in ssm.buffers() if b.is_floating_point()]
    modes, notes = _modes(ssms)
    beyond = [layer.beyond_limit for layer in modes]
    found = Inspection(
        study=planned.study.name,
        arm=arm.name,
        task=on.name,
        seed=planned.study.seeds[0],
        structure=label(config.structure),
        layers=len(ssms),
        width=config.width,
        parameters=count_parameters(model),
        frozen=sum(b.numel() for b in frozen),
        state=None if ssms[0].no_recurrence else probe.state_size(ssms[0]),
        no_recurrence=ssms[0].no_recurrence,
        length=length,
        lag=lag,
        window=_window(config.structure),
        quantities=_quantities(modes),
        beyond_limit=_fraction(beyond) if beyond and beyond[0] is not None else None,
        init=_report(config.structure, modes),
        warnings=(*notes, *_warnings(modes, config.structure, length, lag)),
        caveats=tuple(config.structure.caveats()),
    )
    return found, model


def inspect_all(planned: Plan, *, task: str | None, length: int | None, lag: int | None) -> Iterator[Inspection]:
    """Every arm: on the task of this name if it runs there, or (None) on the first on which it runs."""
    _check_task(planned, task)
    for arm in planned.arms:
        if task is None or task in arm.recipes:
            yield inspect(planned, *find_arm(planned, arm.name, task), length=length, lag=lag)[0]


def _check_task(planned: Plan, task: str | None) -> None:
    if task is not None:
        one_of("--task", task, [on.name for on in planned.study.on])


def _modes(ssms: list[SSM]) -> tuple[list[probe.Modes], list[str]]:
    try:
        modes = [probe.modes(ssm) for ssm in ssms]
        return modes, [note for note in dict.fromkeys(layer.note for layer in modes) if note]
    except ImpossibleError as reason:
        return [], [f"There is no spectrum: {reason}"]


def _quantities(modes: list[probe.Modes]) -> dict[str, Range]:
    every: dict[str, list[Any]] = {}
    for layer in modes:
        if layer.before is not None and layer.dt is not None:
            every.setdefault("dt", []).append(layer.dt)
            every.setdefault("steps_a_time", []).append(1 / layer.dt)
        every.setdefault("memory", []).append(layer.memory)
        every.setdefault("frequency", []).append(layer.frequency)
        if layer.before is not None:
            every.setdefault("re_lambda", []).append(layer.before.real)
            every.setdefault("im_lambda", []).append(layer.before.imag)
        every.setdefault("size", []).append(np.abs(layer.after))
    return {name: _range(np.concatenate([values.ravel() for values in parts])) for name, parts in every.items()}


def _range(values: probe.Real) -> Range:
    return Range(*(float(v) if np.isfinite(v) else None for v in np.quantile(values, [0, 0.5, 1], method="nearest")))


def _fraction(parts: list[Any]) -> float:
    return float(np.mean(np.concatenate([np.ravel(part) for part in parts])))


def _report(structure: Any, modes: list[probe.Modes]) -> dict[str, float]:
    report = getattr(getattr(structure, "init", None), "report", None)
    if report is None or not modes:
        return {}
    size = 2 * modes[0].after.shape[1] // getattr(structure, "blocks", 1)
    return {name: float(value) for name, value in report(size)._asdict().items()}


def _warnings(modes: list[probe.Modes], structure: Any, length: int, lag: int | None) -> list[str]:
    if not modes:
        return []
    return [
        *_beyond_limit(modes, getattr(structure, "bandlimit", None)),
        *([] if lag is None else _late(modes, lag, _window(structure))),
        *_memory(modes, length),
    ]


def _beyond_limit(modes: list[probe.Modes], bandlimit: float | None) -> list[str]:
    beyond = [layer.beyond_limit for layer in modes if layer.beyond_limit is not None]
    if not beyond or not (share := _fraction(beyond)):
        return []
    fast = f"{share:.1%} of the modes have dt |Im λ| > π"
    if bandlimit is not None and bandlimit <= 1:
        return [f"{fast}: bandlimit={bandlimit:g} leaves them out."]
    if _fraction([layer.aliased for layer in modes]) > 0:
        return [f"{fast}: they alias, that is, turn as slower ones would."]
    return [f"{fast}: this rule does not alias them, but bends their frequencies below the sampling limit."]


#: How long the functions of a law live, in units of time, where it is not 2: a window, or a decay to 1/e.
WINDOWS = {"legs": 1, "PTD": 1, "real": 1, "foud": 1}


def _window(structure: Any) -> int:
    init = getattr(structure, "init", None)
    return WINDOWS.get(init if isinstance(init, str) else type(init).__name__, 2)


def _late(modes: list[probe.Modes], lag: int, window: int) -> list[str]:
    late = [layer.dt > window / lag for layer in modes if layer.dt is not None]
    if not late or not (share := _fraction(late)):
        return []
    return [
        f"{share:.1%} of the step sizes are above {window}/lag = {window / lag:.3g}: "
        f"their window of {window}/dt steps ends before the lag of {lag}."
    ]


def _memory(modes: list[probe.Modes], length: int) -> list[str]:
    found, longest = [], max(float(layer.memory.max()) for layer in modes)
    if longest == 0:
        found.append(f"All modes are 0: nothing is remembered after {modes[0].after.shape[1]} steps.")
    elif longest < length:
        found.append(f"No mode remembers the whole sequence: of its {length} steps at most {longest:.3g}.")
    if growing := _fraction([np.abs(layer.after) > 1 + 1e-9 for layer in modes]):
        found.append(f"{growing:.1%} of the modes grow: |ā| > 1.")
    return found
