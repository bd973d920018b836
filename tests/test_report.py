import io
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from descriptions import MistakeError
from orchestrator.cells import sheet
from orchestrator.effects import effects
from orchestrator.latex import escape
from orchestrator.notes import notes
from orchestrator.report import FORMATS, VALUES, ablation_table, render
from orchestrator.terminal import terminal_table

ARMS = {  # how much the arm adds on each task, in the metric's unit
    "baseline": (0, 0, 0),
    "init=legs": (0.004, -0.002, 0.0001),
    "structure=dplr": (0.05, 0.06, -0.002),
    "conj_sym=False": (-0.005, -0.01, 0.0002),
    "dt_min=1e-4, 50% | more & {less}": (-0.08, -0.09, 0.004),
}
TASKS = (("listops", "accuracy", True, 0.58), ("path_x", "accuracy", True, 0.86), ("delay", "nmse", False, 0.0061))


def study(seeds=3, tasks=3):
    """Five arms; one seed of an arm diverged on the first task, an arm never finished on the third."""
    rng = np.random.default_rng(2)
    rows = []
    for i, (task, metric, higher, level) in enumerate(TASKS[:tasks]):
        scale = 0.01 if higher else 0.0003
        common = scale * rng.normal(size=seeds)
        for arm, adds in ARMS.items():
            for seed, noise in enumerate(common + 0.2 * scale * rng.normal(size=seeds)):
                status = "diverged" if (i, arm, seed) == (0, "init=legs", 1) else "ok"
                status = "oom" if (i, arm) == (2, "conj_sym=False") else status
                rows.append((task, metric, higher, arm, seed, status, level + adds[i] + noise))
    names = ["task", "metric", "higher_is_better", "arm", "seed", "status", "test"]
    df = pd.DataFrame(rows, columns=names).assign(study="s", seconds=1.0, parameters=1000)
    df["baseline"] = df["arm"] == "baseline"
    df["chance"] = df["higher_is_better"].map({True: 0.0, False: 1.0})
    df["reason"] = df["status"].map({"diverged": "The loss is NaN at step 7.", "oom": "No memory."})
    df["test"] = df["test"].where(df["status"] == "ok")
    return df


def page(form, seeds=3, tasks=3, width=100):
    found = effects(study(seeds, tasks))
    return render(found, notes(found), form, title="S4D: 100% of it", width=width)


def one_task(arms, metric="accuracy", higher_is_better=True):
    rows = [(arm, seed, score) for arm, scores in arms.items() for seed, score in enumerate(scores)]
    df = pd.DataFrame(rows, columns=["arm", "seed", "test"])
    df = df.assign(baseline=df["arm"] == "baseline", status="ok", reason=None, task="t", metric=metric, chance=0.0)
    return sheet(effects(df.assign(higher_is_better=higher_is_better, seconds=1.0, parameters=1)))


# Numbers


def test_the_pandas_table_is_the_effects_turned_on_its_side():
    df = study()
    table, rows = ablation_table(df), effects(df)
    assert table.index.tolist() == list(ARMS)
    assert table.columns.names == ["task", "value"]
    assert table.columns.tolist() == [(task, value) for task, *_ in TASKS for value in VALUES]
    for _, row in rows.iterrows():
        got = table.loc[row["arm"], row["task"]].to_numpy(dtype=float, na_value=np.nan)
        np.testing.assert_array_equal(got, row[list(VALUES)].to_numpy(dtype=float))
    assert table.xs("effect", axis=1, level="value").shape == (5, 3)
    assert table["listops"]["n"].tolist() == [3, 2, 3, 3, 3]


def test_the_pandas_table_takes_another_baseline():
    df = study()
    table = ablation_table(df, baseline="structure=dplr")
    assert table.index[0] == "structure=dplr"
    turned = table.loc["baseline", ("path_x", "effect")]
    assert turned == pytest.approx(-ablation_table(df).loc["structure=dplr", ("path_x", "effect")])
    with pytest.raises(MistakeError, match=r"no arm 'structure=dlr'\. Did you mean 'structure=dplr'"):
        ablation_table(df, baseline="structure=dlr")


def test_csv_is_read_back_to_the_same_numbers():
    found = effects(study())
    back = pd.read_csv(io.StringIO(render(found, [], "csv")), float_precision="round_trip", keep_default_na=True)
    back = back.astype({"n_needed": "Int64", "parameters": "Int64"}).fillna({"note": "", "reasons": ""})
    pd.testing.assert_frame_equal(back, found, check_exact=True, check_dtype=False)


def test_json_is_strict_and_has_the_same_numbers():
    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    found = effects(study())
    data = json.loads(page("json"), parse_constant=refuse)
    assert data["notes"] == notes(found)
    assert [record["p_holm"] for record in data["effects"]] == [
        None if np.isnan(p) else p for p in found["p_holm"].tolist()
    ]
    assert data["effects"][0]["baseline"] is True
    assert data["effects"][0]["effect"] is None


# What the cells say


def test_digits_follow_the_uncertainty():
    cells = one_task({"baseline": [0.80123, 0.80456, 0.80789], "a": [0.81, 0.813, 0.817]}).cells
    assert cells["baseline", "t"].score == "80.46 ± 0.83"  # 4.303 * 0.333 / sqrt(3)
    wide = one_task({"baseline": [0.5, 0.7, 0.61], "a": [0.4, 0.7, 0.6]}).cells
    assert wide["baseline", "t"].score == "60 ± 25"
    assert one_task({"baseline": [0.51234]}).cells["baseline", "t"].score == "51.2"


def test_a_small_interval_is_never_printed_as_zero():
    arms = {"baseline": [0.5, 0.6, 0.4], "a": [0.7, 0.8, 0.65], "b": [0.912345, 0.912346, 0.912347]}
    assert one_task(arms).cells["b", "t"].score == "91.2346 ± 0.0002"


def test_units_and_directions_are_in_the_headings():
    labels = [heading.label for heading in sheet(effects(study())).headings]
    assert labels == ["accuracy (%) ↑", "accuracy (%) ↑", "nmse (10⁻³) ↓"]
    assert one_task({"baseline": [21.3, 22.1]}, "perplexity", False).headings[0].label == "perplexity ↓"


def test_no_number_is_a_negative_zero():
    cells = one_task({"baseline": [0.5, 0.6, 0.7], "a": [0.5, 0.6001, 0.6998], "b": [0.3, 0.7, 0.9]}).cells
    for cell in cells.values():
        assert not re.search(r"[-+]0\.?0*(?![.\d])", cell.change), cell.change


@pytest.mark.parametrize("seeds", [3, 10])
def test_marks_stand_exactly_at_separable_arms_and_say_what_n_supports(seeds):
    found = effects(study(seeds))
    built = sheet(found)
    mark = "†" if seeds == 3 else "*"
    for _, row in found.iterrows():
        assert built.cells[row["arm"], row["task"]].mark == (mark if row["separable"] else "")
    assert 0 < found["separable"].sum() < len(found)
    said = "\n".join(built.legend)
    assert (f"{mark} Separable" in said, "if differences are normal" in said) == (True, seeds == 3)


def test_a_table_without_separable_arms_says_so_and_has_no_mark():
    built = one_task({"baseline": [0.5, 0.6, 0.7], "a": [0.55, 0.57, 0.71], "b": [0.5, 0.65, 0.62]})
    assert not any(cell.mark for cell in built.cells.values())
    assert any(line.startswith("No arm is separable") for line in built.legend)


def test_one_seed_claims_nothing():
    built = one_task({"baseline": [0.5], "a": [0.9]})
    assert (built.cells["a", "t"].score, built.cells["a", "t"].change) == ("90.0", "+40.0")
    assert built.legend == [
        "Effect: mean difference from the baseline, paired by seed.",
        "Bold: best mean of the arms that finished all trials; not a test.",
    ]


def test_the_best_is_the_best_in_the_metrics_direction():
    arms = {"baseline": [0.5, 0.6], "a": [0.7, 0.9]}
    for higher, best in ((True, "a"), (False, "baseline")):
        cells = one_task(arms, higher_is_better=higher).cells
        assert [arm for (arm, _), cell in cells.items() if cell.best] == [best]


def test_an_arm_that_lost_trials_is_not_called_best():
    df = study(tasks=1)
    df.loc[(df["arm"] == "structure=dplr") & (df["seed"] == 0), ["status", "test"]] = ["diverged", None]
    cells = sheet(effects(df)).cells
    assert not cells["structure=dplr", "listops"].best
    assert cells["structure=dplr", "listops"].lost == "2/3, 1 diverged"


def test_the_second_is_underlined_only_when_its_interval_is_apart():
    apart = {"baseline": [0.5, 0.51, 0.52], "a": [0.9, 0.91, 0.92], "b": [0.7, 0.71, 0.72]}
    assert one_task(apart).cells["b", "t"].second
    close = apart | {"b": [0.52, 0.53, 0.56]}
    assert not any(cell.second for cell in one_task(close).cells.values())
    two = {"baseline": [0.5, 0.51, 0.52], "a": [0.9, 0.91, 0.92]}
    assert not any(cell.second for cell in one_task(two).cells.values()), "the last of two is not a second"
    unfinished = apart | {"c": [0.8, 0.81, np.nan]}
    assert not any(cell.second for cell in one_task(unfinished).cells.values()), "c may be the second"


def test_colours_say_better_or_worse_of_separable_effects_only():
    found = effects(study(seeds=10))
    console = Console(file=io.StringIO(), force_terminal=True, color_system="standard", width=200, record=True)
    console.print(terminal_table(found, [], "", 200))
    shown = console.export_text(styles=True)
    cells = sheet(found).cells
    for cell in cells.values():
        code = ("\x1b[32m" if cell.helps else "\x1b[31m") if cell.mark else "\x1b[2m"
        assert not cell.effect or f"{code}{cell.change}" in shown
    assert cells["structure=dplr", "delay"].helps, "a lower nmse is better"
    assert cells["structure=dplr", "delay"].effect.startswith("-")


# Text


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_text_fits_its_width_and_breaks_no_number(width, seeds):
    shown = page("text", seeds, width=width)
    assert max(map(cell_len, shown.splitlines())) <= width
    for cell in sheet(effects(study(seeds))).cells.values():
        assert cell.score in shown
        assert cell.change in shown
        assert cell.lost in shown


@pytest.mark.parametrize("width", [80, 200])
def test_brackets_and_marks_of_a_column_are_in_line(width):
    lines = page("text", tasks=1, width=width).splitlines()
    ends = {
        line.index("]") for line in lines if ("[" in line and "]" in line and "±" in line) or line.endswith(("]", "†"))
    }
    assert len(ends) == 1


def test_a_long_name_is_broken_at_a_separator():
    shown = page("text", width=60)
    assert "structure=dplr" in shown
    assert "dt_min=1e-4,\n" in re.sub(r"(?m)\s{2,}.*$", "", shown)


def test_a_baseline_of_another_name_is_marked():
    df = study().replace({"arm": {"baseline": "s4d"}})
    found = effects(df)
    assert "(baseline)" in render(found, [], "text")
    assert "`s4d` (baseline)" in render(found, [], "markdown")
    assert "s4d (baseline) &" in render(found, [], "latex")


# Markdown and LaTeX


def test_markdown_rows_have_one_cell_a_column():
    lines = [line for line in page("markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(ARMS)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {1 + 1 + 2 * 3}
    assert "**62.76 ± 0.71**" in page("markdown")


@pytest.mark.parametrize("tasks", [1, 2, 3])
def test_latex_is_balanced_and_rectangular(tasks):
    text = page("latex", tasks=tasks)
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    bare = re.sub(r"\\[\\{}&%$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    columns = len(re.search(r"@\{\}([lr]+)@\{\}", text)[1])
    assert columns == (3 if tasks == 1 else 1 + tasks)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    for line in body.splitlines():
        if line.rstrip().endswith((r"\\", "[2pt]")):
            assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line
    assert r"\caption{S4D: 100\% of it." in text
    assert r"\label{tab:s4d-100-of-it}" in text
    assert r"$\mathbf{62.76} \pm 0.71$" in text
    assert r"50\% $|$ more \& \{less\}" in text
    assert r"conj\_sym=False" in text


def test_latex_escapes_everything_that_it_reads():
    assert escape(r"a_b 5% {x} \y ~z^2 #1 $3 &") == (
        r"a\_b 5\% \{x\} \textbackslash{}y \textasciitilde{}z\textasciicircum{}2 \#1 \$3 \&"
    )
    assert escape("95 % ± 10⁻³ †") == r"95~\% $\pm$ 10$^{-3}$ $^{\dagger}$"
    assert escape("日本 é\x1b") == "?? é?"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("tasks", [1, 3])
def test_latex_compiles(tmp_path, tasks):
    before = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{before}{page('latex', tasks=tasks)}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


# All formats


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("case", ["nothing", "no baseline", "one arm", "all lost"])
def test_every_format_takes_odd_studies(form, case):
    df = study()
    df = {
        "nothing": df.iloc[:0],
        "no baseline": df.assign(baseline=False),
        "one arm": df[df["arm"] == "baseline"],
        "all lost": df.assign(status="failed", test=None, reason="[red]Bad[/red] \x1b[31mthing\n at line 3"),
    }[case]
    found = effects(df)
    shown = render(found, notes(found), form)
    assert shown.endswith("\n")
    assert "nan" not in shown.lower().replace("loss is nan", "")
    assert "\x1b" not in shown
    if case == "all lost" and form == "text":
        assert "[red]Bad[/red]" in shown


scores = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.5, 0.5 + 1e-16, 0.5 + 1e-13, 1e-300, 1.0]))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from(["ok", "ok", "ok", "oom", "diverged"]), scores),
        min_size=1,
        unique_by=lambda trial: trial[:2],
    )
)
def test_any_study_gives_a_table_and_no_claim_without_support(found):
    df = pd.DataFrame(found, columns=["arm", "seed", "status", "test"]).assign(task="t", reason=None, metric="mse")
    df["baseline"] = df["arm"] == 0
    df["arm"] = df["arm"].map({0: "baseline", 1: "a=1", 2: "b=2"})
    df = df.assign(test=df["test"].where(df["status"] == "ok"), higher_is_better=False, chance=1.0, seconds=1.0)
    rows = effects(df.assign(parameters=None))
    assert (rows["n"] + rows["diverged"] + rows["failed"]).equals(rows["planned"])
    tested = rows[rows["p"].notna()]
    assert ((tested["p"] >= 0) & (tested["p"] <= tested["p_holm"]) & (tested["p_holm"] <= 1)).all()
    assert (rows["separable"] == (rows["p_holm"] < 0.05)).all()
    assert (tested["pairs"] >= 2).all()
    ranges = rows[rows["effect_low"].notna()]
    assert ((ranges["effect_low"] <= ranges["effect"]) & (ranges["effect"] <= ranges["effect_high"])).all()
    for form in FORMATS:
        assert "nan" not in render(rows, notes(rows), form)


def test_an_unknown_format_is_named():
    found = effects(study())
    with pytest.raises(MistakeError, match=r"format='latx' is not one of .* Did you mean 'latex'"):
        render(found, [], "latx")
