import io

import pytest
from conftest import tiny_study
from rich.console import Console
from test_store import curve, result

from orchestrator.execute import Finished, Running
from orchestrator.progress import LivePanel, PlainLines, Tally, clock, show_progress
from search_spaces import Plan, plan


@pytest.fixture
def planned() -> Plan:
    return plan(tiny_study())


def finished(planned: Plan, i: int, **changed: object) -> Finished:
    trial = planned.trials[i]
    return Finished(result(trial.key, task="copying", arm=trial.arm, seed=trial.seed, **changed), curve())


def test_a_tally_counts_what_runs_what_ended_and_how(planned):
    tally = Tally(planned, [], total=4)
    assert tally.left_s is None
    tally.listen(Running(planned.trials[0], None))
    tally.listen(Running(planned.trials[1], curve()[0]))
    assert (tally.done, len(tally.running)) == (0, 2)
    tally.listen(finished(planned, 0))
    tally.listen(finished(planned, 1, status="diverged", test=None))
    assert (tally.done, len(tally.running)) == (2, 0)
    assert tally.ended == {"ok": 1, "diverged": 1}
    assert tally.left_s == pytest.approx(tally.elapsed_s, abs=0.2)  # two of four are done


@pytest.mark.parametrize(("higher", "best"), [(True, "init=real"), (False, "baseline")])
def test_the_best_arm_is_by_mean_and_direction_over_earlier_results_too(planned, higher, best):
    earlier = finished(planned, 0, test=0.1, higher_is_better=higher).result
    tally = Tally(planned, [earlier], total=3)
    for i, score in ((1, 0.9), (2, 0.3)):
        tally.listen(finished(planned, i, test=score, higher_is_better=higher))
    arm, mean, n, _ = tally.best("copying") or ("", 0.0, 0, None)
    assert arm == best
    assert (mean, n) == (pytest.approx(0.9), 1) if higher else (pytest.approx(0.2), 2)
    assert tally.best("delay") is None


def printed(progress_of, planned: Plan, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=terminal, legacy_windows=False, color_system=None)
    tally = Tally(planned, [], total=4)
    with progress_of(tally, console) as progress:
        progress.listen(Running(planned.trials[0], None))
        progress.listen(finished(planned, 0))
        progress.listen(finished(planned, 1, status="failed", test=None, reason="[bold] is no markup"))
        if terminal:
            console.print(progress._panel())
    return out.getvalue()


def test_plain_lines_are_one_a_trial(planned):
    lines = printed(PlainLines, planned, terminal=False).splitlines()
    assert lines[0].startswith("[1/4] copying / baseline / seed 0: accuracy 0.25 (1.5 s), about 0:0")
    assert lines[1].startswith("[2/4] copying / init=real / seed 0: failed: [bold] is no markup (1.5 s)")


def test_the_panel_shows_counts_time_and_the_best_arm(planned):
    shown = printed(LivePanel, planned, terminal=True)
    for words in ("2/4 trials", "0 running, 1 failed", "elapsed", "left", "best so far", "baseline", "accuracy 0.25"):
        assert words in shown


def test_where_output_is_no_terminal_lines_are_plain(planned):
    tally = Tally(planned, [], total=1)
    assert isinstance(show_progress(tally, Console(file=io.StringIO())), PlainLines)
    assert isinstance(show_progress(tally, Console(file=io.StringIO(), force_terminal=True)), LivePanel)


def test_clocks():
    assert [clock(s) for s in (0, 59.6, 61, 3600, 7325)] == ["0:00", "1:00", "1:01", "1:00:00", "2:02:05"]
