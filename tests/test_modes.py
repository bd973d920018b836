"""Every cell of the lattice: all ways to run a layer agree, nothing overflows, every field does something."""

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice import (
    WIDTH,
    crossed,
    error,
    everywhere,
    fields_of,
    in_chunks,
    levels_of,
    noise,
    one_at_a_time,
    small,
    step_by_step,
)
from torch import Tensor

from descriptions import ImpossibleError
from search_spaces import label
from ssm_models import SSM, ModelConfig, Structure, build_model, parameter_groups
from ssm_models.structures import STRUCTURES

torch.set_num_threads(1)

CELLS = everywhere()
# Largest difference relative to the largest value, of outputs and of gradients.
TOLERANCE = {torch.float64: (1e-9, 1e-9), torch.float32: (5e-6, 5e-5)}


def modes_of(ssm: SSM) -> dict[str, Callable[[Tensor], Tensor]]:
    modes: dict[str, Callable[[Tensor], Tensor]] = {"convolution": ssm}
    if ssm.has_scan:
        modes["scan"] = ssm.scan
    if not ssm.no_recurrence:
        modes["steps"] = lambda u: step_by_step(ssm, u)
        modes["chunks"] = lambda u: in_chunks(ssm, u)
    return modes


@pytest.mark.parametrize("cell", CELLS)
def test_all_modes_agree_forward_and_backward(cell: str) -> None:
    for dtype, (forward, backward) in TOLERANCE.items():
        ssm = CELLS[cell].build(WIDTH, seed=0).to(dtype)
        u = noise(2, 11, WIDTH, dtype=dtype).requires_grad_()
        weight = noise(2, 11, WIDTH, dtype=dtype, seed=2)
        parameters = dict(ssm.named_parameters())
        truth: tuple[Tensor, ...] | None = None
        for mode, run in reversed(modes_of(ssm).items()):  # chunks or steps first: the reference
            y = run(u)
            assert y.dtype == dtype, mode
            gradients = torch.autograd.grad((y * weight).sum(), (u, *parameters.values()))
            if truth is None:
                truth = (y, *gradients)
                continue
            assert error(y, truth[0]) < forward, mode
            largest = max(g.abs().max() for g in truth[1:]).item()
            for name, gradient, expected in zip(("u", *parameters), gradients, truth[1:], strict=True):
                gap = (gradient - expected).abs().max().item()
                assert gap < backward * max(expected.abs().max().item(), 1e-3 * largest), (mode, name)


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_layer_without_a_recurrence_says_why(name: str) -> None:
    for description in one_at_a_time(STRUCTURES[name]):
        ssm = description.build(WIDTH, seed=0)
        if ssm.no_recurrence:
            for run in (lambda ssm=ssm: ssm.stepper(), lambda ssm=ssm: ssm.chunk(noise(1, 3, WIDTH), noise(1))):
                with pytest.raises(ImpossibleError) as raised:
                    run()
                assert ssm.no_recurrence in str(raised.value)
        assert ssm.no_recurrence == "" or description.caveats()


@pytest.mark.parametrize("name", STRUCTURES)
def test_only_bidirectional_layers_see_later_inputs(name: str) -> None:
    for description in one_at_a_time(STRUCTURES[name]):
        ssm = description.build(WIDTH, seed=0).double()
        u = noise(1, 12, WIDTH, dtype=torch.float64)
        later = u.clone()
        later[:, 7:] += 1
        y, changed = ssm(u), ssm(later)
        sees = (y[:, :7] - changed[:, :7]).abs().max() > 1e-9 * y.abs().max()
        assert bool(sees) == getattr(description, "bidirectional", False), label(description)
        assert (y[:, 7:] - changed[:, 7:]).abs().max() > 1e-6, label(description)


@pytest.mark.parametrize("name", STRUCTURES)
def test_twice_the_rate_is_twice_every_step_size(name: str) -> None:
    for description in one_at_a_time(STRUCTURES[name]):
        ssm, u = description.build(WIDTH, seed=0).double(), noise(1, 12, WIDTH, dtype=torch.float64)
        if not ssm.has_step_size:
            with pytest.raises(ImpossibleError, match="discrete time"):
                ssm.rate = 2.0
            continue
        doubled = dataclasses.replace(  # type: ignore[type-var]
            description, dt_min=2 * description.dt_min, dt_max=2 * description.dt_max
        )
        expected = doubled.build(WIDTH, seed=0).double()(u)
        before = ssm(u)
        ssm.rate = 2.0
        assert error(ssm(u), expected) < 1e-5, label(description)  # the step sizes are stored in single precision
        assert error(ssm(u), before) > 1e-4, label(description)
        ssm.rate = 1.0
        assert torch.equal(ssm(u), before)


# ---------------------------------------------------------------------------------------------- no dead knobs

# What a number is changed to; a field that is missing here is multiplied.
OTHERS: dict[str, list[Any]] = {
    "state": [12],
    "blocks": [1],
    "n_ssm": [1, None],
    "bandlimit": [0.05],
    "r_min": [0.3],
    "r_max": [0.7],
    "max_phase": [1.0],
}


def others(structure: type[Structure], field: str, value: Any) -> list[Any]:
    """Values that a field could have instead."""
    named = levels_of(structure, field)
    if named:
        return [level for level in named if level != value]
    if field.startswith("lr_"):
        return [rate for rate in (0.0, None, 3e-3) if rate != value]
    candidates = OTHERS.get(field) or [value * 1.5]
    return [other for other in candidates if other != value]


@cache
def fingerprint(description: Structure) -> dict[str, Any]:
    """All that a training step can see: the output, every gradient, and how each parameter is updated."""
    model = build_model(
        ModelConfig(structure=description, depth=1, width=WIDTH, norm="none", gate="none", activation="none"),
        inputs=1,
        tokens=False,
        outputs=1,
        seed=0,
    )
    groups = parameter_groups(model, lr=2e-3, weight_decay=0.1)
    rates = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    y = model(noise(2, 24, 1))
    y.square().sum().backward()
    seen: dict[str, Any] = {"y": y.detach()}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        seen[name] = (parameter.grad, rates[id(parameter)])
    with torch.no_grad():  # far from the start: two transforms can agree until a number changes its sign
        for name, parameter in model.named_parameters():
            if "dt" not in name:
                parameter.copy_((0.5 * noise(*parameter.shape) - 1.5 * parameter).clamp(-3, 3))
        if model.blocks[0].ssm.has_step_size:
            model.blocks[0].ssm.rate = 0.1 / description.dt_max
        seen["y far away"] = model(noise(2, 24, 1))
    return seen


def differ(one: Any, other: Any) -> bool:
    """Whether more than rounding tells two fingerprints apart."""
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(differ(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return any(differ(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return one.shape != other.shape or not bool((one - other).abs().max() <= 1e-5 * one.abs().max())
    return bool(one != other)


@pytest.mark.parametrize("name", STRUCTURES)
def test_no_field_is_dead_in_the_default_or_one_field_away_from_it(name: str) -> None:
    structure = STRUCTURES[name]
    changed = set()
    frozen = [small(structure, **{rate: 0.0}) for rate in fields_of(structure) if rate.startswith("lr_")]
    tied = [small(structure, n_ssm=1)] if "n_ssm" in fields_of(structure) else []
    for base in (*one_at_a_time(structure), *frozen, *tied):
        if base is None:
            continue
        before = fingerprint(base)
        assert not differ(before, fingerprint.__wrapped__(base))
        for field in fields_of(structure):
            for value in others(structure, field, getattr(base, field)):
                try:
                    other = dataclasses.replace(base, **{field: value})  # type: ignore[type-var]
                    other.check(WIDTH)
                except ImpossibleError:
                    continue
                assert differ(before, fingerprint(other)), f"{field}={value!r} changes nothing in {label(base)}"
                changed.add(field)
    assert changed == set(fields_of(structure)), "a field was never changed"


# ------------------------------------------------------------------------------- finite at the start, and trains


@st.composite
def cells(draw: st.DrawFn) -> tuple[str, list[tuple[str, Any]]]:
    """A structure and levels of its named fields, switches and rates, in an order of importance."""
    name = draw(st.sampled_from(sorted(STRUCTURES)))
    drawn = []
    for field in draw(st.permutations(sorted(fields_of(STRUCTURES[name])))):
        levels = [None, 1e-3, 0.0] if field.startswith("lr_") else levels_of(STRUCTURES[name], field)
        if levels and draw(st.booleans()):
            drawn.append((field, draw(st.sampled_from(levels))))
    return name, drawn


def realistic(name: str, drawn: list[tuple[str, Any]]) -> Structure:
    """The description with as many of the levels, first ones first, as can exist together."""
    chosen: dict[str, Any] = {}
    for field, level in drawn:
        if small(STRUCTURES[name], 32, **chosen, **{field: level}) is not None:
            chosen[field] = level
    description = small(STRUCTURES[name], 32, **chosen)
    assert description is not None
    return description


@settings(max_examples=40)
@given(cells(), st.sampled_from([1, 100, 16384]))
def test_any_cell_is_finite_at_the_start_and_after_three_steps(
    cell: tuple[str, list[tuple[str, Any]]], length: int
) -> None:
    description = realistic(*cell)
    ssm = description.build(WIDTH, seed=0)
    with torch.no_grad():
        assert torch.isfinite(ssm(noise(1, length, WIDTH))).all()
    model = build_model(
        ModelConfig(structure=description, depth=2, width=WIDTH), inputs=1, tokens=False, outputs=1, seed=0
    )
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-3, weight_decay=0.01))
    x, target = noise(4, 50, 1), noise(4, 1, seed=2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(3):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    for (name, parameter), start in zip(model.named_parameters(), before, strict=True):
        assert torch.isfinite(parameter).all(), name
        assert not torch.equal(parameter, start) or name.endswith("bias"), name


@pytest.mark.parametrize("name", STRUCTURES)
def test_training_is_repeatable_bit_for_bit(name: str) -> None:
    def trained() -> list[Tensor]:
        description = small(STRUCTURES[name], 16)
        assert description is not None
        config = ModelConfig(structure=description, depth=2, width=8, dropout=0.1)
        model = build_model(config, inputs=1, tokens=False, outputs=1, seed=3)
        optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, weight_decay=0.01))
        torch.manual_seed(0)
        for k in range(3):
            loss = (model(noise(4, 300, 1, seed=k)) - noise(4, 1, seed=k + 9)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return [parameter.detach() for parameter in model.parameters()]

    for first, again in zip(trained(), trained(), strict=True):
        assert torch.equal(first, again)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_cell_is_finite_at_the_start_over_16384_steps(name: str) -> None:
    for description in (*crossed(STRUCTURES[name], 64), *one_at_a_time(STRUCTURES[name], 64)):
        with torch.no_grad():
            y = description.build(WIDTH, seed=0)(noise(1, 16384, WIDTH))
        assert torch.isfinite(y).all(), label(description)
