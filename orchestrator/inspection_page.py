"""How `ablate inspect` prints what it found."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from orchestrator.inspection import Inspection, Range

#: Name of a quantity -> how a page calls it, and its unit.
QUANTITIES = {
    "dt": ("dt", "time a step"),
    "steps_a_time": ("1/dt", "steps a unit of time"),
    "memory": ("memory, -1/log|ā|", "steps"),
    "frequency": ("frequency, |arg ā|/2π", "cycles a step"),
    "re_lambda": ("Re λ", "1/time"),
    "im_lambda": ("Im λ", "1/time"),
    "size": ("|ā|", ""),
}


def page(found: Inspection, files: list[Path], notes: list[str]) -> RenderableType:
    """The page of one arm."""
    state = found.no_recurrence if found.state is None else f"{found.state:,} real numbers"
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in {
        "structure": found.structure,
        "layers": f"{found.layers}, each of {found.width} channels",
        "parameters": f"{found.parameters:,} trained, {found.frozen:,} frozen",
        "state of a layer": state,
        "sequence": f"{found.length:,} steps" + ("" if found.lag is None else f", lag {found.lag:,}"),
        **{f"init: {name.replace('_', ' ')}": _short(value) for name, value in found.init.items()},
    }.items():
        facts.add_row(name, escape(value))
    numbers = Table(box=None, header_style="dim", pad_edge=False)
    numbers.add_column("")
    for column in ("min", "median", "max"):
        numbers.add_column(column, justify="right")
    numbers.add_column("")
    for name, between in found.quantities.items():
        title, unit = QUANTITIES[name]
        numbers.add_row(title, _short(between.min), _short(between.median), _short(between.max), f"[dim]{unit}[/]")
    head = Text.assemble((found.study, "bold"), f": {found.arm} on {found.task}, as seed {found.seed} starts it")
    parts: list[RenderableType] = [head, Text(), facts, Text(), numbers]
    if found.beyond_limit == 0:
        parts.append(Text("No mode is beyond the sampling limit, dt |Im λ| > π."))
    for title, style, sentences in (
        ("Warnings", "yellow", found.warnings),
        ("Caveats", "", found.caveats),
        ("Pictures", "", [*_in_short(files), *notes]),
    ):
        if sentences:
            parts += [Text(), Text(title, style="bold"), *(Text(sentence, style=style) for sentence in sentences)]
    return Group(*parts)


def _in_short(files: list[Path]) -> list[str]:
    names = dict.fromkeys(file.stem for file in files)
    return [f"{files[0].parent}: {', '.join(names)} (.svg and .png)"] if files else []


def table(found: list[Inspection], study: str) -> Table:
    """One row an arm."""
    page = Table(title=study, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False)
    several = len({one.task for one in found}) > 1
    for name in ("arm", *(["task"] if several else [])):
        page.add_column(name, overflow="fold")
    for name in ("parameters", "state", "1/dt", "memory", "beyond", "warnings"):
        page.add_column(name, justify="right", no_wrap=True)
    for one in found:
        page.add_row(
            escape(one.arm),
            *([one.task] if several else []),
            f"{one.parameters:,}",
            "-" if one.state is None else f"{one.state:,}",
            _span(one.quantities.get("steps_a_time")),
            _span(one.quantities.get("memory")),
            "-" if one.beyond_limit is None else f"{one.beyond_limit:.1%}",
            str(len(one.warnings) or ""),
        )
    page.caption = "state: real numbers a layer; 1/dt, memory: steps; beyond: modes with dt |Im λ| > π"
    page.caption_justify = "left"
    return page


def as_json(found: Inspection, files: list[Path]) -> dict[str, Any]:
    """The same for programs."""
    return {**asdict(found), "pictures": [str(file) for file in files]}


def _span(between: Range | None) -> str:
    return "-" if between is None else f"{_short(between.min)}–{_short(between.max)}"


def _short(value: float | None) -> str:
    if value is None or math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"
