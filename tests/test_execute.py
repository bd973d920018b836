import dataclasses
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from conftest import TINY_SOURCE, tiny_study
from rich.console import Console

from descriptions import MistakeError
from orchestrator.driver import Ran, run_plan
from orchestrator.execute import Finished, Running, in_process
from orchestrator.provenance import code_digest, origin_of
from orchestrator.result import Result
from orchestrator.store import Store
from search_spaces import Axis, On, Plan, Study, load_study, plan
from tasks import Copying


def bits(results: list[Result] | tuple[Result, ...]) -> list[Result]:
    """All of the rows that does not depend on the clock, by key."""
    timeless = [dataclasses.replace(r, seconds=0.0, finished_at=datetime(2026, 1, 1, tzinfo=UTC)) for r in results]
    return sorted(timeless, key=lambda r: r.key)


def opened(folder: Path, study: str = "tiny") -> Store:
    store = Store(folder, study)
    store.open_for_writing()
    return store


def ran(
    folder: Path, study: Study, *, use_ray: bool = False, other_code: str = "refuse", only: str | None = None
) -> Ran:
    return run_plan(
        plan(study),
        folder,
        console=Console(quiet=True),
        use_ray=use_ray,
        other_code=other_code,  # type: ignore[arg-type]
        only=only,
    )


class Broken(Copying):
    """A task whose data cannot be made."""

    def split(self, name, seed, epoch=0):
        raise RuntimeError("no data\nat all")


class Greedy(Copying):
    """A task that asks for more memory than there is."""

    def split(self, name, seed, epoch=0):
        torch.empty(2**60)


def test_events_come_in_order_and_what_is_finished_is_stored(tmp_path):
    store, trials, events = opened(tmp_path), plan(tiny_study()).trials, []

    def listen(event):
        if isinstance(event, Finished):
            assert event.result in store.results()  # stored before it is told
        events.append(event)

    in_process(trials, store, listen, origin_of(()))
    kinds = [(type(e).__name__, e.epoch.epoch if isinstance(e, Running) and e.epoch else None) for e in events]
    assert kinds == [("Running", None), ("Running", 1), ("Running", 2), ("Finished", None)] * 4
    assert [e.result.key for e in events if isinstance(e, Finished)] == [t.key for t in trials]


@pytest.mark.parametrize(
    ("task", "status", "reason"), [(Broken, "failed", "RuntimeError: no data"), (Greedy, "oom", "")]
)
def test_a_failure_is_a_row_with_its_reason_and_the_study_goes_on(tmp_path, task, status, reason):
    study = tiny_study(axes=(), seeds=(0,))
    study = dataclasses.replace(study, tasks=(On(task(n_train=64), name="wrong"), *study.tasks))
    store = opened(tmp_path)
    in_process(plan(study).trials, store, lambda event: None, origin_of(()))
    good, bad = sorted(store.results(), key=lambda r: r.task)
    assert good.status == "ok"
    assert bad.status == status
    assert bad.reason is not None
    assert bad.reason.startswith(reason)
    assert bad.traceback is not None
    assert "Traceback" in bad.traceback


def test_rows_say_where_they_come_from(tmp_path):
    store = opened(tmp_path)
    in_process(plan(tiny_study(seeds=(0,), axes=())).trials, store, lambda event: None, origin_of(()))
    (row,) = store.results()
    assert row.code == code_digest()
    assert len(row.code) == 64
    assert row.packages["torch"].startswith("2.")
    assert row.device
    assert row.data is not None
    assert row.description["model"]["structure"]["class"] == "ssm_models.Diagonal"
    assert row.git_sha == origin_of(()).git_sha


def test_a_study_runs_only_what_is_missing(tmp_path):
    first = ran(tmp_path, tiny_study())
    assert (first.ran, len(first.results), first.failed) == (4, 4, 0)
    assert ran(tmp_path, tiny_study()).ran == 0
    more = ran(tmp_path, tiny_study(seeds=(0, 1, 2), axes=(Axis("model.structure.init", ["lin", "real", "inv"]),)))
    assert more.ran == 5  # 3 arms x 3 seeds, less the 4 that are there
    assert bits(more.results) == bits(ran(tmp_path / "fresh", more.plan.study).results)


def test_failed_trials_are_run_again_and_diverged_ones_are_not(tmp_path):
    trials = plan(tiny_study()).trials
    complete = ran(tmp_path, tiny_study())
    store = Store(tmp_path, "tiny")
    for result, status in zip(complete.results, ("failed", "diverged", "oom", "ok"), strict=True):
        store.write(dataclasses.replace(result, status=status), ())
    finished = {r.key: r.finished_at for r in store.results()}
    again = ran(tmp_path, tiny_study())
    assert [r.key for r in again.results if r.finished_at != finished[r.key]] == [trials[0].key, trials[2].key]


def test_studies_share_the_trials_that_they_have_in_common(tmp_path):
    ran(tmp_path, tiny_study())
    other = ran(tmp_path, tiny_study(name="other", axes=(Axis("model.structure.init", ["lin", "inv"]),)))
    assert other.ran == 2  # the baseline is known
    assert {r.study for r in other.results} == {"other"}
    assert len(Store(tmp_path, "other").curves()) == 4


def test_an_arm_that_is_renamed_by_an_edit_keeps_its_results(tmp_path):
    ran(tmp_path, tiny_study())
    axes = (Axis("model.structure.init", ["lin", "real"]), Axis("training.clip", [1.0]))
    edited = dataclasses.replace(tiny_study(axes=axes), baseline=plan(tiny_study()).arms[1].recipes["copying"])
    again = ran(tmp_path, edited)
    assert again.ran == 0
    assert {r.arm: r.baseline for r in again.results} == {"baseline": True, "init=lin": False}


def test_results_of_other_code_are_refused_kept_or_made_again(tmp_path):
    complete = ran(tmp_path, tiny_study())
    store = Store(tmp_path, "tiny")
    for result in complete.results[:3]:
        store.write(dataclasses.replace(result, code="0" * 64), ())
    with pytest.raises(MistakeError, match="3 of the 4 stored results of 'tiny' were made by other code"):
        ran(tmp_path, tiny_study())
    assert ran(tmp_path, tiny_study(), other_code="keep").ran == 0
    again = ran(tmp_path, tiny_study(), other_code="again")
    assert again.ran == 3
    assert bits(again.results) == bits(complete.results)


OWN_TASK = TINY_SOURCE.replace(
    "from tasks import Copying",
    """import dataclasses
from tasks import Copying as Given

@dataclasses.dataclass(frozen=True, kw_only=True)
class Copying(Given):
    def split(self, name, seed, epoch=0):
        return super().split(name, seed + 1, epoch)
""",
)


def test_editing_a_task_of_ones_own_outdates_its_results_and_adding_an_arm_does_not(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN_TASK)
    assert ran(tmp_path / "r", load_study(str(file))).ran == 4
    file.write_text("# a comment\n" + OWN_TASK.replace('["lin", "real"]', '["lin", "real", "inv"]'))
    assert ran(tmp_path / "r", load_study(str(file))).ran == 2
    file.write_text(OWN_TASK.replace("seed + 1", "seed + 2"))
    with pytest.raises(MistakeError, match="4 of the 4 stored results of 'mine' were made by other code"):
        ran(tmp_path / "r", load_study(str(file)))


def test_only_runs_the_trials_whose_key_begins_so(tmp_path):
    trials = plan(tiny_study()).trials
    one = ran(tmp_path, tiny_study(), only=trials[2].key[:10])
    assert [r.key for r in one.results] == [trials[2].key]
    with pytest.raises(MistakeError, match="has a key that begins with 'zz'"):
        ran(tmp_path, tiny_study(), only="zz")


def test_a_truncated_result_is_run_again(tmp_path):
    """Files are single while a study runs; one is cut short by a full disk, then the study is started again."""
    store, trials = opened(tmp_path), plan(tiny_study()).trials
    in_process(trials, store, lambda event: None, origin_of(()))
    expected = bits(store.results())
    file = store.folder / "trials" / f"{trials[1].key}.parquet"
    file.write_bytes(file.read_bytes()[:50])
    again = ran(tmp_path, tiny_study())
    assert again.ran == 1
    assert bits(again.results) == expected


@pytest.mark.ray
def test_ray_gives_the_same_rows_as_this_process(tmp_path):
    on_ray = ran(tmp_path / "ray", tiny_study(), use_ray=True)
    assert on_ray.ran == 4
    assert on_ray.problem is None
    assert bits(on_ray.results) == bits(ran(tmp_path / "here", tiny_study()).results)


@pytest.mark.ray
def test_a_study_that_is_killed_goes_on_where_it_was(tmp_path):
    """SIGKILL to the command while trials train, then again: no finished trial runs twice, the rows are the same."""
    file = tmp_path / "mine.py"
    file.write_text(TINY_SOURCE.replace("epochs=2", "epochs=60").replace("(0, 1)", "tuple(range(6))"))
    command = [str(Path(sys.executable).with_name("ablate")), "run", str(file), "--results", str(tmp_path / "cut")]
    trials = tmp_path / "cut" / "mine" / "trials"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        _wait_for(lambda: len(list(trials.glob("*.parquet"))) >= 3, process)
        process.send_signal(signal.SIGKILL)
    finished = {f.name: f.stat().st_mtime_ns for f in trials.glob("*.parquet")}
    assert 3 <= len(finished) < 12
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path / "cut", "mine").results()
    assert len(rows) == 12
    again = {f"{row.key}.parquet" for row in rows if row.finished_at.timestamp() * 1e9 > max(finished.values())}
    assert not again & set(finished)
    assert bits(rows) == bits(ran(tmp_path / "whole", load_study(str(file))).results)


@pytest.mark.ray
def test_ctrl_c_ends_in_time_keeps_what_is_finished_and_says_how_to_go_on(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(TINY_SOURCE.replace("epochs=2", "epochs=200").replace("(0, 1)", "tuple(range(20))"))
    command = [str(Path(sys.executable).with_name("ablate")), "run", str(file), "--results", str(tmp_path / "results")]
    trials = tmp_path / "results" / "mine" / "trials"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        _wait_for(lambda: len(list(trials.glob("*.parquet"))) >= 2, process)
        asked = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - asked
    kept = len(Store(tmp_path / "results", "mine").results())
    assert process.returncode == 130
    assert took < 5
    assert kept >= 2
    assert f"{kept} of 40 trials are stored" in err
    assert f"`ablate run {file} --results {tmp_path / 'results'}` goes on with the other {40 - kept}" in err
    assert "Traceback" not in err


@pytest.mark.ray
def test_a_worker_that_dies_is_replaced_and_the_trial_goes_on(tmp_path):
    study = dataclasses.replace(
        tiny_study(seeds=(0,), epochs=3), tasks=(_Suicidal(n_train=64, flag=str(tmp_path / "died")),)
    )
    survived = ran(tmp_path / "results", study, use_ray=True)
    assert (tmp_path / "died").exists()
    assert [r.status for r in survived.results] == ["ok", "ok"]
    assert bits(survived.results) == bits(ran(tmp_path / "here", study).results)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Suicidal(Copying):
    """Kills the process that it is in, once, in the second epoch."""

    flag: str

    def split(self, name, seed, epoch=0):
        if epoch == 1 and not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().split(name, seed, epoch)


def _wait_for(holds, process: subprocess.Popen[str] | subprocess.Popen[bytes], limit_s: float = 120) -> None:
    until = time.monotonic() + limit_s
    while not holds():
        assert process.poll() is None, "the command ended early"
        assert time.monotonic() < until, "the command took too long"
        time.sleep(0.05)


def test_plans_are_values(tmp_path):
    assert isinstance(plan(tiny_study()), Plan)
    assert plan(tiny_study()) == plan(tiny_study())


@pytest.mark.ray
def test_what_ray_cannot_run_is_a_failed_row_with_the_reason(tmp_path):
    study = dataclasses.replace(tiny_study(seeds=(0,), axes=()), tasks=(_Mortal(n_train=64),))
    ended = ran(tmp_path, study, use_ray=True)
    assert ended.failed == 1
    assert ended.results[0].reason == "The worker process died 3 times: killed, or out of memory."


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Mortal(Copying):
    """Kills every process that runs it."""

    def split(self, name, seed, epoch=0):
        os.kill(os.getpid(), signal.SIGKILL)
