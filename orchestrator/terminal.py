"""The table of effects in a terminal. Separable effects are coloured, the others are dim."""

import io
import re

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from orchestrator.cells import Cell, Heading, Sheet, sheet


def terminal_table(effects: pd.DataFrame, notes: list[str], title: str, width: int) -> RenderableType:
    """What a Rich console of that width prints: the table, how to read it, and the notes.

    Score and effect stand side by side where all tasks fit; else one below the other; else the tasks are
    split into several tables. Numbers are never folded or cut.
    """
    page = sheet(effects)
    console = Console(width=10_000, file=io.StringIO())

    def fits(headings: list[Heading], wide: bool) -> bool:
        table = _table(page, headings, wide, width)
        return Measurement.get(console, console.options, table).maximum <= width

    wide = fits(page.headings, True)
    groups: list[list[Heading]] = [page.headings] if wide else []
    if not wide:
        for heading in page.headings:
            if groups and fits([*groups[-1], heading], False):
                groups[-1].append(heading)
            else:
                groups.append([heading])
    parts: list[RenderableType] = [Text(title, style="bold")] if title else []
    parts += [_table(page, headings, wide, width) for headings in groups]
    if page.legend:
        parts += [Text(""), *(Text(line, style="dim") for line in page.legend)]
    if notes:
        parts += [Text(""), _bullets(notes)]
    return Group(*parts)


def text(effects: pd.DataFrame, notes: list[str], title: str, width: int) -> str:
    """`terminal_table` as plain text."""
    console = Console(width=width, file=io.StringIO(), color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        console.print(terminal_table(effects, notes, title, width))
    return "\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()) + "\n"


def _table(page: Sheet, headings: list[Heading], wide: bool, width: int) -> Table:
    """Arms as rows; one column a task, or two when `wide`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("\n\narm" if not wide else "\narm", no_wrap=True)
    columns: list[list[Text]] = []
    for heading in headings:
        cells = [page.cells.get((arm, heading.task), Cell()) for arm in page.arms]
        title = f"{heading.task}\n{heading.label}"
        if wide:
            columns += [
                _add_column(table, title, [_block([_mean(cell), _lost(cell)]) for cell in cells]),
                _add_column(table, "\neffect  ", [_change(cell) for cell in cells]),
            ]
        else:
            blocks = [_block([_mean(cell), _change(cell), _lost(cell)]) for cell in cells]
            columns.append(_add_column(table, f"{title}\neffect  ", blocks))
    name_width = width if wide else max(14, width // 4)
    for i, arm in enumerate(page.arms):
        name = _name(arm, arm == page.baseline, name_width)
        table.add_row(name, *(column[i] for column in columns), end_section=arm == page.baseline)
    return table


def _add_column(table: Table, title: str, blocks: list[Text]) -> list[Text]:
    """Add a column and return its blocks, right-justified.

    Not by Rich, which cuts the space at the end of a line that keeps the place of a mark.
    """
    width = max(len(line) for block in [title, *(block.plain for block in blocks)] for line in block.split("\n"))

    def pad(line: Text) -> Text:
        return Text.assemble(" " * (width - len(line)), line)

    table.add_column(Text("\n").join(pad(Text(line)) for line in title.split("\n")), no_wrap=True)
    return [Text("\n").join(pad(line) for line in block.split("\n", allow_blank=True)) for block in blocks]


def _block(lines: list[Text]) -> Text:
    """Lines below each other, without the empty ones."""
    return Text("\n").join(line for line in lines if line.plain)


def _mean(cell: Cell) -> Text:
    return Text(cell.score, style="bold" if cell.best else "underline" if cell.second else "")


def _lost(cell: Cell) -> Text:
    return Text(cell.lost, style="yellow")


def _change(cell: Cell) -> Text:
    """The effect and the place of its mark, which every row keeps so that numbers stay in line."""
    style = ("green" if cell.helps else "red") if cell.mark else "dim"
    return Text(f"{cell.change} {cell.mark or ' '}", style=style) if cell.effect else Text()


def _name(arm: str, is_baseline: bool, width: int) -> Text:
    """An arm's name, broken after `=`, `,`, `_` or a space where it is too long, and the baseline marked."""
    lines = [""]
    for piece in re.findall(r"[^=,_ ]*[=,_ ]+|[^=,_ ]+", arm):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("  ")
        lines[-1] += piece
    if is_baseline and arm != "baseline":
        lines.append("  (baseline)")
    return Text("\n".join(line.rstrip() for line in lines), style="bold" if is_baseline else "")


def _bullets(notes: list[str]) -> Table:
    """Notes with a hanging indent."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for note in notes:
        grid.add_row("-", Text(note))
    return grid
