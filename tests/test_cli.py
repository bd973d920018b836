"""The command as a user meets it: exit codes, sentences, and that a mistake leaves nothing behind."""

import json
import logging
import re
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from orchestrator import ablation_table, leaderboard, listing, load_curves, load_results, run
from search_spaces import Omitted, built_in_studies


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    logging.getLogger().handlers.clear()  # `ablate run` sets one up for its terminal


@pytest.fixture
def ran_once(ablate, study_file):
    """A stored study, without Ray."""
    ended = ablate("run", study_file, "--in-process")
    assert ended.code == 0, ended.err
    return ended


def edited(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


AXIS = 'Axis("model.structure.init", ["lin", "real"])'

MISTAKES = {
    "unknown study": (None, "quickstrat", "There is no study 'quickstrat'. .*Did you mean 'quickstart'"),
    "unknown module": (None, "no.such.module", "There is no module 'no.such.module'"),
    "module without a study": (None, "json.tool", "'json.tool' defines no STUDY"),
    "no file": (None, "./nowhere.py", "There is no file 'nowhere.py'"),
    "file without a study": (("STUDY =", "STUDIE ="), None, "defines no STUDY"),
    "not a study": (("STUDY = Study(", "STUDY = dict("), None, "STUDY in .* is of type dict; it must be a"),
    "code that fails": (("seeds=(0, 1)", "seeds=(0, 1/0)"), None, r"my_study.py, line \d+: ZeroDivisionError"),
    "code that does not parse": (("seeds=(0, 1),\n)", "seeds=(0, 1),"), None, r"my_study.py, line \d+: SyntaxError"),
    "unknown axis path": (
        (AXIS, AXIS.replace("init", "inti")),
        None,
        "no field 'model.structure.inti'.*'model.structure.init'",
    ),
    "unknown level": (
        (AXIS, AXIS.replace('"real"', '"reel"')),
        None,
        "init='reel' is not one of .*Did you mean 'real'",
    ),
    "level of the wrong type": (
        (AXIS, AXIS.replace('"real"', "3")),
        None,
        "Diagonal.init=3 is an int; it must be a str",
    ),
    "level out of range": ((AXIS, 'Axis("training.lr", [-1.0])'), None, "lr=-1.0 must be positive"),
    "empty axis": (('["lin", "real"]', "[]"), None, "Axis 'model.structure.init' is empty"),
    "duplicate seed": (("seeds=(0, 1)", "seeds=(1, 1)"), None, "The seed 1 stands twice"),
    "wrong field of a model": (("width=4", "widht=4"), None, r"line \d+: TypeError: .*widht"),
    "wrong value of a model": (("depth=1", "depth=0"), None, r"my_study.py, line \d+: depth=0 must be at least 1"),
}


@pytest.mark.parametrize("verb", ["run", "plan"])
@pytest.mark.parametrize(("edit", "study", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_study_is_one_sentence_and_writes_nothing(ablate, study_file, edit, study, sentence, verb):
    if edit is not None:
        edited(study_file, *edit)
    before = sorted(Path.cwd().rglob("*.p[ya]*"))
    ended = ablate(verb, study or study_file)
    assert ended.code == 2
    assert ended.out == ""
    assert re.search(sentence, ended.err), ended.err
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1
    assert "Traceback" not in ended.err
    assert sorted(Path.cwd().rglob("*.p[ya]*")) == before
    assert not Path("results").exists()


@pytest.mark.parametrize(
    "words",
    [["run"], ["run", "quickstart", "--concurency", "2"], ["run", "quickstart", "--concurrency", "0"], ["tabel"]],
    ids=" ".join,
)
def test_wrong_words_of_a_command_exit_with_2(ablate, words):
    ended = ablate(*words)
    assert ended.code == 2
    assert "Traceback" not in ended.err


def test_a_results_folder_of_another_format_is_refused(ablate, study_file):
    Path("results").mkdir()
    Path("results/format.json").write_text('{"format": 99}')
    for verb in ("run", "table"):
        ended = ablate(verb, study_file)
        assert ended.code == 2
        assert "has format 99, and this version reads format 1" in ended.err
    assert [file.name for file in Path("results").iterdir()] == ["format.json"]


def test_a_results_folder_that_cannot_be_written_is_refused(ablate, study_file):
    Path("results").write_text("a file")
    ended = ablate("run", study_file, "--in-process")
    assert ended.code == 2
    assert "The results folder 'results' cannot be written" in ended.err


def test_a_run_prints_its_table_and_a_second_one_trains_nothing(ablate, study_file, ran_once):
    assert "init=real" in ran_once.out
    assert "[4/4]" in ran_once.err  # progress goes beside the table, not into it
    again = ablate("run", study_file, "--in-process")
    assert again.code == 0
    assert again.out == ran_once.out
    assert "[1/" not in again.err
    assert json.loads(ablate("run", study_file, "--in-process", "--json").out)["effects"]


def test_a_truncated_result_is_named_and_its_trial_runs_again(ablate, study_file, ran_once):
    whole = Path("results/mine/trials.parquet")
    whole.write_bytes(whole.read_bytes()[:100])
    again = ablate("run", study_file, "--in-process")
    assert again.code == 0
    assert again.out == ran_once.out
    assert "trials.parquet" in again.err.replace("\n", "")
    assert "[4/4]" in again.err


def test_failed_trials_give_exit_code_1_and_stand_in_the_table(ablate, study_file):
    edited(study_file, "from tasks import Copying", BROKEN)
    ended = ablate("run", study_file, "--in-process")
    assert ended.code == 1
    assert "1 failed" in ended.out
    assert "RuntimeError: bad luck" in ended.out.replace("\n  ", " ")


BROKEN = """
import dataclasses
from tasks import Copying as _Copying

@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(_Copying):
    def split(self, name, seed, epoch=0):
        if seed == 1 and epoch == 1:
            raise RuntimeError("bad luck")
        return super().split(name, seed, epoch)
"""


def test_an_mlflow_that_cannot_be_reached_does_not_stop_a_study(ablate, study_file):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = ablate("run", study_file, "--in-process", "--tracking-uri", uri)
        assert ended.code == 0
        assert "init=real" in ended.out
        assert "ablate sync" in ended.err
        synced = ablate("sync", study_file, "--tracking-uri", uri)
        assert synced.code == 2
        assert "cannot be used" in synced.err
    filled = ablate("sync", study_file)
    assert filled.code == 0
    assert filled.out == "4 trials written to MLflow, 0 were there already.\n"
    assert ablate("sync", study_file).out == "0 trials written to MLflow, 4 were there already.\n"


def test_a_tracking_uri_of_no_known_kind_is_a_mistake(ablate, study_file):
    ended = ablate("run", study_file, "--in-process", "--tracking-uri", "sqlit:///x.db")
    assert ended.code == 2
    assert "sqlit" in ended.err
    assert not list(Path.cwd().rglob("*.parquet"))


def test_a_study_whose_file_is_gone_can_still_be_read_by_name(ablate, study_file, ran_once):
    study_file.unlink()
    table = ablate("table", "mine")
    assert table.code == 0
    assert "init=real" in table.out
    assert ablate("sync", "mine").code == 0
    unknown = ablate("table", "mime")
    assert unknown.code == 2
    assert "mime" in unknown.err


def test_tables_come_in_every_format(ablate, study_file, ran_once, tmp_path):
    assert ablate("table", study_file, "-f", "latex").out.count("\\toprule") == 1
    assert "| `init=real` |" in ablate("table", study_file, "-f", "markdown").out
    assert len(pd.read_csv(_file(tmp_path, ablate("table", study_file, "-f", "csv").out))) == 2
    assert len(json.loads(ablate("table", study_file, "--json").out)["effects"]) == 2
    assert ablate("table", study_file, "-o", tmp_path / "t.tex", "-f", "latex").out == ""
    assert "\\bottomrule" in (tmp_path / "t.tex").read_text()
    wrong = ablate("table", study_file, "-f", "latx")
    assert wrong.code == 2
    assert "Did you mean 'latex'?" in wrong.err


def _file(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


def test_results_of_mixed_code_are_not_compared_unless_asked(ablate, study_file, ran_once):
    table = pd.read_parquet("results/mine/trials.parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    whole = pq.read_table("results/mine/trials.parquet")
    table.loc[0, "code"] = "0" * 64
    pq.write_table(pa.Table.from_pandas(table, schema=whole.schema), "results/mine/trials.parquet")
    refused = ablate("table", study_file)
    assert refused.code == 2
    assert "made by 2 versions of the code" in refused.err
    assert ablate("table", study_file, "--mixed-code").code == 0


def test_the_leaderboard_ranks_what_mlflow_has(ablate, study_file, ran_once):
    shown = ablate("leaderboard", "mine")
    assert shown.code == 0
    assert "baseline" in shown.out
    rows = json.loads(ablate("leaderboard", "mine", "--json").out)
    means = load_results("results/mine").groupby("arm")["test"].mean().sort_values(ascending=False)
    assert {row["arm"]: row["mean"] for row in rows} == pytest.approx(means.to_dict())
    assert [row["mean"] for row in rows] == pytest.approx(list(means))
    assert len(json.loads(ablate("leaderboard", "mine", "--top", "1", "--json").out)) == 1
    assert ablate("leaderboard", "mime").code == 2


def test_a_plan_says_what_is_stored_and_lists_keys(ablate, study_file):
    assert "4 trials, 0 stored, 4 to run" in ablate("plan", study_file).out
    listed = json.loads(ablate("plan", study_file, "--json").out)["trials"]
    assert not Path("results").exists()
    one = ablate("run", study_file, "--in-process", "--only", listed[0]["key"][:12])
    assert one.code == 0
    assert "4 trials, 1 stored, 3 to run" in ablate("plan", study_file, "--trials").out


INITS = ["lin", "inv", "inv2", "quad", "foud", "legs", "legt", "lagt", "rand", "real"]
FACTORIAL = f"""Axis("model.structure.init", {INITS}),
        Axis("model.structure.n_ssm", [None, 1, 2, 4, 3, 5]),
        Axis("model.structure.discretization", ["zoh", "forward_euler"]),
        Axis("model.pooling", ["mean", "last"])),
    design="factorial"
"""


def test_a_large_plan_is_summed_up_and_shown_whole_on_request(ablate, study_file):
    """240 cells: those of pooling collapse, those of n_ssm=3 and 5 and of forward Euler cannot exist."""
    edited(study_file, f"({AXIS},)", f"({FACTORIAL}")
    short, whole = ablate("plan", study_file), ablate("plan", study_file, "--all")
    told = json.loads(ablate("plan", study_file, "--json").out)
    arms, skipped, collapsed = (len(told[part]) for part in ("arms", "skipped", "collapsed"))
    assert arms + skipped + collapsed == 10 * 6 * 2 * 2
    assert arms > 40
    assert f"... and {arms - 40} more (--all)" in short.out
    assert "more (--all)" not in whole.out
    assert len(short.out.splitlines()) < 120 < len(whole.out.splitlines())
    divides = sum("does not divide" in one["reason"] for one in told["skipped"])
    assert re.search(rf"^ *{divides}  n_ssm=… does not divide", short.out, re.MULTILINE)
    assert re.search(rf"^ *{collapsed}  it changes nothing on", short.out, re.MULTILINE)
    assert {one["cell"] for one in told["skipped"]} >= {"n_ssm=3", "n_ssm=5", "init=real, n_ssm=5, pooling=last"}
    assert {one["twin"] for one in told["collapsed"]} == {arm["arm"] for arm in told["arms"]}


def test_reasons_are_grouped_by_what_they_say_and_keep_the_values_they_share():
    reasons = [f"dt={dt} is above {limit}, the limit of 'a'." for dt, limit in ((0.1, "1e-05"), (0.1, "2"))]
    omitted = [Omitted(f"cell {i}", None, reason) for i, reason in enumerate(reasons * 6)]
    omitted += [Omitted("odd one", None, "no such thing."), Omitted("on a task", "delay-2", reasons[0])]
    omitted += [Omitted("on another", "delay-3", reasons[0])]
    assert listing.by_reason(omitted) == [
        {
            "cells": 12,
            "task": "all",
            "reason": "dt=0.1 is above …, the limit of 'a'.",
            "for example": "cell 0",
        },
        {"cells": 1, "task": "all", "reason": "no such thing.", "for example": "odd one"},
        {"cells": 1, "task": "delay-2", "reason": reasons[0], "for example": "on a task"},
        {"cells": 1, "task": "delay-3", "reason": reasons[0], "for example": "on another"},
    ]


@pytest.mark.parametrize("what", ["all", "studies", "tasks", "structures", "levels"])
def test_lists_show_what_there_is(ablate, what):
    assert ablate("list", what).code == 0
    sections = json.loads(ablate("list", what, "--json").out)
    assert all(rows for rows in sections.values())
    assert set(sections) == ({what} if what != "all" else {"studies", "tasks", "structures", "levels"})


@pytest.mark.parametrize("verb", ["list", "plan", "run", "table", "leaderboard", "sync", "inspect"])
def test_every_verb_has_help_with_an_example(ablate, verb):
    shown = ablate(verb, "--help")
    assert shown.code == 0
    assert f"ablate {verb}" in shown.out


@pytest.mark.parametrize("name", built_in_studies())
def test_built_in_studies_can_be_planned(ablate, name):
    assert ablate("plan", name).code == 0


def test_the_python_api_goes_from_a_study_to_a_table(study_file):
    results = run(str(study_file), executor="in_process")
    assert results["status"].tolist() == ["ok"] * 4
    assert load_results()["key"].tolist() == load_results("results/mine")["key"].tolist()
    assert len(load_curves("results/mine")) == 8
    table = ablation_table(results)
    assert list(table.index) == ["baseline", "init=real"]
    assert set(leaderboard("mine")["arm"]) == {"baseline", "init=real"}


@pytest.mark.ray
def test_the_installed_command_runs_a_study_on_ray_and_says_nothing_that_is_not_ours(study_file):
    command = [str(Path(sys.executable).with_name("ablate")), "run", str(study_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if re.match(r"\[\d/4\] |Results |Table |MLflow ", line)]
    assert done.stderr.splitlines() == ours
    assert done.stdout.startswith("mine: 2 seeds")


def test_what_a_killed_run_did_not_tell_mlflow_the_next_one_does(ablate, study_file, ran_once):
    """As if killed after the last trial was stored and before the study was summed up."""
    whole = Path("results/mine/trials.parquet")
    whole.rename("results/mine/trials/all.parquet")
    empty = f"sqlite:///{Path.cwd() / 'empty.db'}"
    again = ablate("run", study_file, "--in-process", "--tracking-uri", empty)
    assert again.out == ran_once.out
    assert "[1/" not in again.err
    assert whole.exists()
    assert "baseline" in ablate("leaderboard", "mine", "--tracking-uri", empty).out
    assert ablate("sync", study_file, "--tracking-uri", empty).out.startswith("0 trials written")
