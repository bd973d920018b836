"""The lattice of structures and their fields, enumerated from the dicts: a new level or structure is in every test."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from descriptions import ImpossibleError
from search_spaces import label
from ssm_models import SSM, Structure
from ssm_models.levels import PARAMETRISED_LEVELS, STRUCTURE_LEVELS
from ssm_models.structures import STRUCTURES

WIDTH = 2
# The axes whose full product is the lattice; other fields are varied one at a time.
CROSSED = ("init", "discretization", "real_transform", "bidirectional")


def fields_of(structure: type[Structure]) -> dict[str, Any]:
    """Field -> default."""
    return {field.name: field.default for field in dataclasses.fields(structure)}  # type: ignore[arg-type]


def levels_of(structure: type[Structure], field: str) -> list[Any]:
    """Every value that a field with names, or a switch, can take; nothing for a number."""
    default = fields_of(structure)[field]
    if isinstance(default, bool):
        return [False, True]
    return [*STRUCTURE_LEVELS.get(field, ()), *PARAMETRISED_LEVELS.get(field, [])]


def small(structure: type[Structure], size: int = 8, **fields: Any) -> Structure | None:
    """A small description, with steps at which every rule is stable, or None where it cannot exist."""
    has = fields_of(structure)
    sizes = {"state": size, "blocks": 2}
    rule = fields.get("discretization", has.get("discretization"))
    explicit = rule == "forward_euler"
    steps = {"dt_min": 1e-5, "dt_max": 1e-4 if size > 8 else 1e-3} if explicit else {"dt_min": 1e-2, "dt_max": 1e-1}
    settled = {name: value for name, value in {**sizes, **steps}.items() if name in has}
    try:
        description = structure(**{**settled, **fields})
        description.check(WIDTH)
    except ImpossibleError:
        return None
    return description


def crossed(structure: type[Structure], size: int = 8) -> Iterator[Structure]:
    """The valid cells of the full product of the crossed axes that the structure has."""
    names = [name for name in CROSSED if name in fields_of(structure)]
    for cell in itertools.product(*(levels_of(structure, name) for name in names)):
        description = small(structure, size, **dict(zip(names, cell, strict=True)))
        if description is not None:
            yield description


def one_at_a_time(structure: type[Structure], size: int = 8) -> Iterator[Structure]:
    """The default and what differs from it in one field with names, or one switch."""
    seen = []
    for name in fields_of(structure):
        for level in levels_of(structure, name):
            description = small(structure, size, **{name: level})
            if description is not None and description not in seen:
                seen.append(description)
                yield description


def everywhere(size: int = 8) -> dict[str, Structure]:
    """Label -> description, of every structure: the crossed cells and those one field away from the default."""
    return {
        label(description): description
        for structure in STRUCTURES.values()
        for description in (*crossed(structure, size), *one_at_a_time(structure, size))
    }


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def error(value: Tensor, truth: Tensor) -> float:
    """Largest difference relative to the largest true value."""
    return ((value - truth).abs().max() / truth.abs().max().clamp(min=1e-300)).item()


def step_by_step(ssm: SSM, u: Tensor) -> Tensor:
    state, outputs, step = ssm.initial_state(u.shape[0]), [], ssm.stepper()
    for k in range(u.shape[1]):
        y, state = step(u[:, k], state)
        outputs.append(y)
    return torch.stack(outputs, dim=1)


def in_chunks(ssm: SSM, u: Tensor) -> Tensor:
    state, outputs = ssm.initial_state(u.shape[0]), []
    for piece in (u[:, :4], u[:, 4:5], u[:, 5:]):
        y, state = ssm.chunk(piece, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1)
