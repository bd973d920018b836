"""Against a real MLflow on SQLite. Its empty database is made once and copied, because that takes seconds."""

import json
import math
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from descriptions import MistakeError
from orchestrator.entries import result_of, trial_entry
from orchestrator.result import Epoch, Result
from orchestrator.store import Store, curves_frame, frame
from orchestrator.tracking import Tracker, leaderboard, sync
from orchestrator.tracking_uri import check_uri, database_file

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")

ENDED = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    sync(f"sqlite:///{path}", "unused", frame([]), curves_frame({}), pd.DataFrame())
    return path


@pytest.fixture
def uri(tmp_path: Path, empty: Path) -> str:
    shutil.copy(empty, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def result(arm: str = "baseline", seed: int = 0, **changes: object) -> Result:
    made = Result(
        key=f"{arm}-{seed}",
        study="demo",
        arm=arm,
        task="digits",
        seed=seed,
        baseline=arm == "baseline",
        status="ok",
        metric="accuracy",
        higher_is_better=True,
        chance=0.1,
        validation=0.75,
        test=0.7,
        best_epoch=2,
        epochs=3,
        steps=30,
        parameters=1234,
        seconds=6.0,
        levels={} if arm == "baseline" else {"model.structure.init": arm},
        description={"model": {"class": "ssm_models.ModelConfig", "width": 32}, "seed": seed},
        code="abc",
        packages={"torch": "2.13.0"},
        device="cpu",
        finished_at=ENDED,
    )
    return replace(made, **changes)


def curve(epochs: int = 3) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=i,
            step=10 * i,
            train_loss=1 / i,
            validation_loss=2 / i,
            validation=0.1 * i,
            lr=0.01,
            seconds=2.0 * i,
        )
        for i in range(1, epochs + 1)
    )


def effects(*rows: dict[str, object]) -> pd.DataFrame:
    plain = {
        "task": "digits",
        "baseline": False,
        "metric": "accuracy",
        "higher_is_better": True,
        "n": 3,
        "planned": 3,
        "diverged": 0,
        "failed": 0,
        "mean": 0.5,
        "low": 0.4,
        "high": 0.6,
        "effect": 0.1,
        "effect_low": 0.0,
        "effect_high": 0.2,
        "p": 0.03,
        "p_holm": 0.06,
        "n_needed": pd.NA,
        "note": "",
    }
    return pd.DataFrame([plain | row for row in rows], columns=["arm", *plain]).astype({"n_needed": "Int64"})


def push(uri: str, results: list[Result], table: pd.DataFrame | None = None) -> tuple[int, int]:
    curves = {row.key: curve() for row in results}
    return sync(uri, "demo", frame(results), curves_frame(curves), effects() if table is None else table)


def runs(uri: str, where: str = "tags.kind = 'trial'") -> list[Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], where, order_by=["attributes.start_time"]))


def test_a_trials_run_says_what_its_result_says(uri: str) -> None:
    push(uri, [result("legs", seed=4)])
    (run,) = runs(uri)
    assert run.info.run_name == "legs / digits / 4"
    assert run.info.status == "FINISHED"
    assert run.info.end_time == round(ENDED.timestamp() * 1000)
    assert run.info.end_time - run.info.start_time == 6000
    assert run.data.params == {"model.structure.init": "legs"}
    expected = {
        "kind": "trial",
        "study": "demo",
        "arm": "legs",
        "task": "digits",
        "seed": "4",
        "key": "legs-4",
    }
    assert expected.items() <= run.data.tags.items()
    assert (run.data.tags["status"], run.data.tags["code"], run.data.tags["metric"]) == (
        "ok",
        "abc",
        "accuracy",
    )
    assert run.data.metrics["test"] == 0.7
    assert run.data.metrics["validation"] == 0.75
    assert run.data.metrics["parameters"] == 1234
    assert '"width": 32' in run.data.tags["mlflow.note.content"]


def test_a_learning_curve_has_its_epochs_and_their_times(uri: str) -> None:
    push(uri, [result()])
    (run,) = runs(uri)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "curve/train_loss")
    assert [(m.step, m.value, m.timestamp - run.info.start_time) for m in history] == [
        (1, 1.0, 2000),
        (2, 0.5, 4000),
        (3, pytest.approx(1 / 3), 6000),
    ]
    assert {name for name in run.data.metrics if name.startswith("curve/")} == {
        "curve/train_loss",
        "curve/validation_loss",
        "curve/validation",
        "curve/lr",
    }


def test_a_curve_longer_than_one_request_arrives_whole(uri: str) -> None:
    table = curves_frame({"baseline-0": curve(450)})  # 1,800 numbers
    sync(uri, "demo", frame([result()]), table, effects())
    (run,) = runs(uri)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "curve/lr")
    assert [m.step for m in history] == list(range(1, 451))


@pytest.mark.parametrize("status", ["diverged", "oom", "failed", "pruned"])
def test_a_trial_that_is_not_ok_has_failed_and_says_why(uri: str, status: str) -> None:
    row = result(status=status, reason="The loss is NaN.", traceback="Traceback: boom", test=None, validation=math.nan)
    push(uri, [row])
    (run,) = runs(uri)
    assert run.info.status == "FAILED"
    assert run.data.tags["status"] == status
    assert run.data.tags["mlflow.note.content"].startswith(f"**{status}**: The loss is NaN.")
    assert "Traceback: boom" in run.data.tags["mlflow.note.content"]
    assert not {"test", "validation"} & run.data.metrics.keys()


def test_a_description_longer_than_a_tag_is_cut(uri: str) -> None:
    push(uri, [result(description={"text": "x" * 10_000})])
    assert len(runs(uri)[0].data.tags["mlflow.note.content"]) == 8000


def test_sync_writes_each_trial_once(uri: str) -> None:
    rows = [result(arm, seed) for arm in ("baseline", "legs") for seed in range(3)]
    assert push(uri, rows[:4]) == (4, 0)
    assert push(uri, rows) == (2, 4)
    assert push(uri, rows) == (0, 6)
    assert len(runs(uri)) == 6


def test_a_tracker_and_sync_write_the_same(uri: str, tmp_path: Path) -> None:
    store = Store(tmp_path, "demo")
    store.open_for_writing()
    rows = [
        result(),
        result("legs", reason="x", status="failed", test=None, best_epoch=None, traceback="t"),
        result("inv", validation=math.nan, git_sha="f00", git_dirty=True, data="d"),
    ]
    with Tracker(uri, "demo") as tracker:
        for row in rows:
            store.write(row, curve())
            tracker.log(row, curve())
    assert tracker.problem is None
    assert sync(uri, "demo", frame(store.results()), curves_frame(store.curves()), effects()) == (0, 3)


def test_a_tracker_does_not_repeat_what_an_earlier_one_wrote(uri: str) -> None:
    for rows in ([result(seed=0), result(seed=1)], [result(seed=1), result(seed=2)]):
        with Tracker(uri, "demo") as tracker:
            for row in rows:
                tracker.log(row, curve())
        assert tracker.problem is None
    assert sorted(run.data.tags["seed"] for run in runs(uri)) == ["0", "1", "2"]


def test_a_trial_that_ran_again_replaces_its_run(uri: str) -> None:
    push(uri, [result(status="failed", reason="preempted", test=None)])
    again = result(finished_at=ENDED + timedelta(hours=1))
    assert push(uri, [again]) == (1, 0)
    (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert "reason" not in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize("status", ["RUNNING", "FINISHED"])
def test_a_run_that_was_cut_off_is_written_again(uri: str, status: str) -> None:
    push(uri, [])
    client = MlflowClient(uri)
    entry = trial_entry("demo", result(), curve())
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    half = client.create_run(experiment.experiment_id, tags=entry.tags)
    if status == "RUNNING":
        client.set_tag(half.info.run_id, "complete", entry.digest)
    else:
        client.set_terminated(half.info.run_id)
    assert push(uri, [result()]) == (1, 0)
    assert push(uri, [result()]) == (0, 1)
    (run,) = runs(uri)
    assert run.info.run_id != half.info.run_id
    assert run.data.metrics["test"] == 0.7


def test_runs_that_two_processes_wrote_twice_become_one(uri: str) -> None:
    push(uri, [result(), result(seed=1)])
    client = MlflowClient(uri)
    for run in runs(uri):
        client.create_run(run.info.experiment_id, tags=run.data.tags)
    assert len(runs(uri)) == 4
    push(uri, [result(), result(seed=1)])
    assert len(runs(uri)) == 2


def test_somebody_elses_run_in_the_experiment_is_left_alone(uri: str) -> None:
    push(uri, [])
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    for _ in range(2):
        client.create_run(experiment.experiment_id, run_name="mine")
    push(uri, [result()])
    assert len(runs(uri, "attributes.run_name = 'mine'")) == 2


def test_an_experiment_that_was_deleted_comes_back(uri: str) -> None:
    push(uri, [result()])
    client = MlflowClient(uri)
    client.delete_experiment(runs(uri)[0].info.experiment_id)
    push(uri, [result()])
    assert len(runs(uri)) == 1


def test_mlflow_shows_a_study_as_model_training(uri: str) -> None:
    push(uri, [result()])
    experiment = MlflowClient(uri).get_experiment_by_name("demo")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_summary_is_updated_in_place(uri: str) -> None:
    table = effects({"arm": "legs"}, {"arm": "baseline", "baseline": True, "p": math.nan})
    push(uri, [], table)
    before = {run.info.run_name: run.info.run_id for run in runs(uri, "tags.kind = 'summary'")}
    with Tracker(uri, "demo") as tracker:
        tracker.summarise(effects({"arm": "legs", "mean": 0.4, "p": None, "note": "changed"}, {"arm": "inv"}))
    assert tracker.problem is None
    after = {run.info.run_name: run for run in runs(uri, "tags.kind = 'summary'")}
    assert set(before) == {"legs / digits", "baseline / digits"}
    assert set(after) == {"legs / digits", "inv / digits"}  # an arm that is gone takes its summary with it
    legs = after["legs / digits"]
    assert legs.info.run_id == before["legs / digits"]
    assert legs.data.metrics["mean"] == 0.4
    assert math.isnan(legs.data.metrics["p"])
    assert legs.data.metrics["planned"] == 3
    assert legs.data.tags["note"] == "changed"


def test_a_summary_that_says_the_same_is_not_written_again(uri: str) -> None:
    for _ in range(2):
        push(uri, [], effects({"arm": "legs"}))
    (run,) = runs(uri, "tags.kind = 'summary'")
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "mean")) == 1
    assert "p" in run.data.metrics
    assert "n_needed" not in run.data.metrics  # it was never known


def test_the_leaderboard_puts_the_best_arm_of_each_task_first(uri: str) -> None:
    means = {"a": 0.3, "b": 0.9, "c": math.nan, "d": 0.5}
    higher = [{"arm": arm, "mean": mean, "low": mean - 0.1, "n": 5} for arm, mean in means.items()]
    lower = [row | {"task": "delay", "metric": "nmse", "higher_is_better": False} for row in higher]
    push(uri, [], effects(*higher, *lower))
    ranked = leaderboard(uri, "demo")
    assert {task: "".join(arms["arm"]) for task, arms in ranked.groupby("task")} == {
        "delay": "adbc",
        "digits": "bdac",
    }
    names = ["study", "task", "arm", "metric", "mean", "low", "high", "n", "effect", "p_holm", "run_id"]
    assert list(ranked.columns) == names
    best = ranked[ranked["task"] == "digits"].iloc[0]
    assert (best["study"], best["mean"], best["low"], best["n"], best["effect"]) == ("demo", 0.9, 0.8, 5, 0.1)
    assert MlflowClient(uri).get_run(best["run_id"]).info.run_name == "b / digits"
    assert list(leaderboard(uri, task="delay", top=2)["arm"]) == ["a", "d"]
    assert set(leaderboard(uri, metric="accuracy")["task"]) == {"digits"}
    assert len(leaderboard(uri, top=1)) == 2
    assert leaderboard(uri, task="no such 'task'").empty


def test_the_leaderboard_of_all_studies_ranks_each_apart(uri: str) -> None:
    for study, mean in (("one", 0.1), ("two", 0.9)):
        table = effects({"arm": "a", "mean": mean}, {"arm": "b", "mean": 0.5})
        sync(uri, study, frame([]), curves_frame({}), table)
    assert leaderboard(uri)[["study", "arm"]].to_numpy().tolist() == [
        ["one", "b"],
        ["one", "a"],
        ["two", "a"],
        ["two", "b"],
    ]
    assert list(leaderboard(uri, "two")["arm"]) == ["a", "b"]


def test_a_study_that_mlflow_does_not_have_is_a_mistake(uri: str) -> None:
    push(uri, [])
    with pytest.raises(MistakeError, match=r"no study 'dmeo'\. Did you mean 'demo'"):
        leaderboard(uri, "dmeo")


def test_asking_a_database_that_does_not_exist_makes_none(tmp_path: Path) -> None:
    with pytest.raises(MistakeError, match="`ablate sync`"):
        leaderboard(f"sqlite:///{tmp_path / 'none.db'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["./mlruns", "file:///tmp/x", "htp://host", "", "mlflow.db"])
def test_a_scheme_that_is_not_understood_is_a_mistake(bad: str) -> None:
    for use in (Tracker, leaderboard, check_uri):
        call: Callable[..., object] = use
        with pytest.raises(MistakeError, match="must begin with one of"):
            call(bad, "demo") if use is not check_uri else call(bad)


def test_only_a_sqlite_uri_has_a_file() -> None:
    assert database_file("sqlite:///a/b.db") == Path("a/b.db")
    assert database_file("sqlite:////a/b.db") == Path("/a/b.db")
    for uri in ("sqlite:///:memory:", "sqlite://", "http://host:5000", "postgresql://host/db"):
        assert database_file(uri) is None


def test_a_dead_server_is_a_problem_but_not_the_studys() -> None:
    with socket.socket() as unused:  # bound and not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with Tracker(uri, "demo") as tracker:
            tracker.log(result(), curve())
        tracker.log(result(seed=1), curve())
        assert time.monotonic() - started < 5
        assert tracker.problem is not None
        assert tracker.problem.endswith("run `ablate sync demo`.")
        assert "secret" not in tracker.problem
        with pytest.raises(MistakeError, match="cannot be used") as raised:
            push(uri, [result()])
        assert "secret" not in str(raised.value)


def test_a_silent_server_does_not_hold_up_the_end() -> None:
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = Tracker(f"http://127.0.0.1:{silent.getsockname()[1]}", "demo")
        tracker.log(result(), curve())
        started = time.monotonic()
        tracker.close(limit_s=0.3)
        assert time.monotonic() - started < 1
        assert tracker.problem is not None
        assert "was not done after another 0.3 s" in tracker.problem
        tracker.close()  # says nothing new and does not wait again
        assert time.monotonic() - started < 2


def test_after_an_interruption_sync_writes_the_rest(uri: str) -> None:
    rows = [result(seed=seed) for seed in range(40)]
    tracker = Tracker(uri, "demo")
    for row in rows:
        tracker.log(row, curve())
    tracker.close(limit_s=0.2)
    assert tracker.problem is not None
    tracker._thread.join()  # in life the process ends here
    written, there = push(uri, rows)
    assert written > 0
    assert written + there == len(runs(uri)) == 40


def test_a_killed_process_leaves_what_sync_can_finish(uri: str) -> None:
    code = f"""
import os
from mlflow import MlflowClient
from stored import rows
from orchestrator.tracking import Tracker
write, calls = MlflowClient.log_batch, []
def die_at_the_third(*args):
    calls.append(args)
    if len(calls) == 3:
        os._exit(9)
    write(*args)
MlflowClient.log_batch = die_at_the_third
with Tracker({uri!r}, "demo") as tracker:
    for row, curve in rows():
        tracker.log(row, curve)
"""
    rows = [result(seed=seed) for seed in range(5)]
    folder = Path(database_file(uri) or "").parent
    (folder / "stored.py").write_text(_as_module(rows))
    done = subprocess.run([sys.executable, "-c", code], env=_environment(folder), check=False, timeout=60)
    assert done.returncode == 9
    assert [run.info.status for run in runs(uri)].count("RUNNING") == 1
    assert push(uri, rows) == (3, 2)
    assert [run.info.status for run in runs(uri)] == ["FINISHED"] * 5


def test_the_first_use_is_silent_private_and_keeps_its_files_together(tmp_path: Path) -> None:
    code = """
import os, sys
from orchestrator.tracking import Tracker
assert "mlflow" not in sys.modules  # it takes seconds
with Tracker("sqlite:///results/mlflow.db", "demo") as tracker:
    pass
assert tracker.problem is None, tracker.problem
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
from mlflow import MlflowClient
print(MlflowClient("sqlite:///results/mlflow.db").get_experiment_by_name("demo").artifact_location)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.strip() == (tmp_path / "results" / "mlartifacts").as_uri()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["mlflow.db"]


@pytest.mark.slow
def test_a_server_takes_the_same_without_a_word(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///server.db"]
    options = ["--artifacts-destination", "./files", "--port", str(port), "--workers", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([*command, *options], cwd=tmp_path, **quiet)
    try:
        for _ in range(120):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        uri = f"http://127.0.0.1:{port}"
        assert push(uri, [result(), result(seed=1)], effects({"arm": "legs"})) == (2, 0)
        assert push(uri, [result(), result(seed=1)], effects({"arm": "legs", "p": math.nan})) == (0, 2)
        assert list(leaderboard(uri, "demo")["arm"]) == ["legs"]
        assert capfd.readouterr() == ("", "")
    finally:
        server.terminate()
        server.wait()


def test_a_row_of_a_dataframe_becomes_the_result_that_it_was() -> None:
    rows = [result(), result("legs", test=None, best_epoch=None, parameters=None, git_dirty=None, data="d")]
    assert [result_of(row) for row in frame(rows).to_dict("records")] == rows
    plain = pd.DataFrame([asdict(row) for row in rows])  # best_epoch is a float column here
    plain["levels"] = [json.dumps(row.levels) for row in rows]
    assert [result_of(row) for row in plain.to_dict("records")] == rows


def _environment(folder: Path) -> dict[str, str]:
    root = Path(__file__).parent.parent
    return {"PYTHONPATH": f"{root}:{folder}", "PATH": "/usr/bin:/bin", "HOME": str(folder)}


def _as_module(rows: list[Result]) -> str:
    """A module that gives a process of its own the same results."""
    return f"""
import datetime
from orchestrator.result import Epoch, Result
def rows():
    return [(row, {curve()!r}) for row in {rows!r}]
"""
