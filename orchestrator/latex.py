r"""The table of effects for papers: a float that needs booktabs only, safe for any arm's name."""

import re

import pandas as pd

from orchestrator.cells import FREE, NORMAL, Cell, Sheet, sheet

END = r" \\"
#: Characters that LaTeX reads as commands, or that its first font encoding prints as another character.
ESCAPES = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "*": "$^{*}$", '"': "''", "[": "{[}",
    "±": r"$\pm$", "†": r"$^{\dagger}$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--",
    **{character: "\\" + character for character in "&%$#_{}"},
    **{character: f"$^{{{plain}}}$" for character, plain in zip("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789", strict=True)},
}  # fmt: skip
MARKS = {"": r"\phantom{^{*}}", FREE: "^{*}", NORMAL: r"^{\dagger}"}


def latex(effects: pd.DataFrame, notes: list[str], title: str, width: int) -> str:
    """A `table` with caption and label, the notes below it. Above one task the effect is below the score."""
    page = sheet(effects)
    stacked = len(page.headings) > 1
    columns = "r" * (len(page.headings) if stacked else 2 * len(page.headings))
    label = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "ablation"
    caption = " ".join([escape(title.rstrip(".")) + ".", *map(_caption, page.legend)])
    lines = [
        r"% Needs \usepackage{booktabs}.",
        r"\begin{table}[t]",
        r"  \centering\footnotesize\setlength{\tabcolsep}{4pt}\setlength{\belowcaptionskip}{4pt}",
        r"  \caption{" + caption + "}",
        r"  \label{tab:" + label + "}",
        r"  \begin{tabular}{@{}l" + columns + "@{}}",
        r"    \toprule",
        *_header(page, stacked),
        r"    \midrule",
    ]
    for arm in page.arms:
        lines += _rows(page, arm, stacked)
        if arm == page.baseline:
            lines.append(r"    \midrule")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    if notes:
        lines += [r"  \par\medskip", r"  \begin{minipage}{\linewidth}\scriptsize"]
        lines += [f"    {escape(note)}" for note in notes]
        lines += [r"  \end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def escape(text: str) -> str:
    """Plain text for LaTeX. What its default fonts lack becomes a question mark: a table must compile."""
    lines = " ".join(text.split())
    known = (ESCAPES.get(c, c if " " <= c <= "~" or (c.isalpha() and ord(c) < 256) else "?") for c in lines)
    return "".join(known).replace("}$$^{", "").replace(r" \%", r"~\%")  # $^{-}$$^{3}$ is $^{-3}$


def _caption(line: str) -> str:
    """A line of the legend; one that explains a typeface shows it."""
    for word, command in (("Bold", r"\textbf"), ("Underlined", r"\underline")):
        if line.startswith(f"{word}:"):
            return f"{command}{{{word}}}{escape(line.removeprefix(word))}"
    return escape(line)


def _header(page: Sheet, stacked: bool) -> list[str]:
    tasks = [escape(heading.task) for heading in page.headings]
    labels = [_centre(escape(heading.label)) for heading in page.headings]
    if stacked:
        return ["    " + _join("", *map(_centre, tasks)) + END, "    " + _join("arm", *labels) + END]
    spans = [rf"\multicolumn{{2}}{{c}}{{{task}}}" for task in tasks]
    return ["    " + _join("", *spans) + END, "    " + _join("arm", *labels, _centre("effect")) + END]


def _rows(page: Sheet, arm: str, stacked: bool) -> list[str]:
    """The line of an arm; when `stacked`, one for each of score, effect and trials lost that it has."""
    cells = [page.cells.get((arm, heading.task), Cell()) for heading in page.headings]
    name = escape(arm) + (" (baseline)" if arm == page.baseline != "baseline" else "")
    if not stacked:
        texts = [text for cell in cells for text in (f"{_score(cell)} {_lost(cell)}".rstrip(), _change(cell))]
        return ["    " + _join(name, *texts) + END]
    blocks = [[_score(cell), *filter(None, [_change(cell), _lost(cell)])] for cell in cells]
    lines = ["    " + _join(name, *(block[0] for block in blocks)) + END]
    for i in range(1, max(map(len, blocks))):
        small = [rf"{{\scriptsize {block[i]}}}" if i < len(block) else "" for block in blocks]
        lines.append("    " + _join("", *small) + END)
    return [*lines[:-1], lines[-1] + "[2pt]"]


def _score(cell: Cell) -> str:
    if not cell.mean:
        return "--"
    command = r"\mathbf" if cell.best else r"\underline" if cell.second else ""
    mean = f"{command}{{{cell.mean}}}" if command else cell.mean
    return rf"${mean} \pm {cell.half}$" if cell.half else f"${mean}$"


def _lost(cell: Cell) -> str:
    return f"({escape(cell.lost)})" if cell.lost else ""


def _change(cell: Cell) -> str:
    """The place of a mark is kept where there is none, so that numbers stay in line."""
    if not cell.effect:
        return ""
    interval = rf"\;[{cell.low}, {cell.high}]" if cell.low else ""
    return f"${cell.effect}{interval}{MARKS[cell.mark]}$"


def _centre(text: str) -> str:
    return rf"\multicolumn{{1}}{{c}}{{{text}}}"


def _join(*cells: str) -> str:
    return " & ".join(cells)
