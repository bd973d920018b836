"""The table of effects for notebooks, issues and programs: Markdown, CSV, JSON."""

import json
from typing import Any

import pandas as pd

from orchestrator.cells import Cell, sheet


def markdown(effects: pd.DataFrame, notes: list[str], title: str, width: int) -> str:
    """A GitHub table with two columns a task, then the legend and the notes as a list."""
    page = sheet(effects)
    header, rule = ["arm"], [":--"]
    for heading in page.headings:
        header += [f"{heading.task}: {heading.label}", "effect"]
        rule += ["--:", "--:"]
    rows = [[_bar(text) for text in header], rule]
    for arm in page.arms:
        row = [f"`{_bar(arm)}`" + (" (baseline)" if arm == page.baseline != "baseline" else "")]
        for heading in page.headings:
            cell = page.cells.get((arm, heading.task), Cell())
            score = f"**{cell.score}**" if cell.best else f"<u>{cell.score}</u>" if cell.second else cell.score
            row += [
                score + (f" ({cell.lost})" if cell.lost else ""),
                f"{cell.change} {_star(cell.mark)}".strip(),
            ]
        rows.append(row)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    items = "\n".join(f"- {_star(line)}" for line in [*page.legend, *notes])
    return "\n\n".join(part for part in (f"**{title}**" if title else "", table, items) if part) + "\n"


def csv(effects: pd.DataFrame, notes: list[str], title: str, width: int) -> str:
    """The numbers of `effects`, unrounded, one line an arm and task; the notes on an arm are a column."""
    return effects.to_csv(index=False, lineterminator="\n")


def as_json(effects: pd.DataFrame, notes: list[str], title: str, width: int) -> str:
    """`{"title", "effects": [one object an arm and task], "notes"}`; a number that does not exist is null."""
    records = effects.astype(object).where(effects.notna(), None).to_dict("records")
    page: dict[str, Any] = {"title": title, "effects": records, "notes": notes}
    return json.dumps(page, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _bar(text: str) -> str:
    return text.replace("|", r"\|")


def _star(text: str) -> str:
    return text.replace("*", r"\*")
