"""What a person sees while a study runs: a live panel in a terminal, plain lines anywhere else."""

import time
from collections import Counter
from statistics import mean

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.execute import Event, Finished, Running
from orchestrator.result import Result
from search_spaces import Plan


class Tally:
    """Where a study stands. `total` counts the trials to run now, not those that were stored before."""

    def __init__(self, plan: Plan, stored: list[Result], total: int) -> None:
        self.plan = plan
        self.total = total
        self.results = list(stored)  # of this study, earlier ones too: the best arm so far is over all
        self.ended: Counter[str] = Counter()
        self.running: dict[str, Running] = {}
        self.started = time.monotonic()
        self.first_trial: float | None = None

    def listen(self, event: Event) -> None:
        if isinstance(event, Running):
            self.first_trial = self.first_trial or time.monotonic()
            self.running[event.trial.key] = event
        else:
            self.running.pop(event.result.key, None)
            self.ended[event.result.status] += 1
            self.results.append(event.result)

    @property
    def done(self) -> int:
        return self.ended.total()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    @property
    def left_s(self) -> float | None:
        """Time left if the trials to come take as long as those that ended, or None before the first has."""
        if self.done == 0 or self.first_trial is None:
            return None
        return (time.monotonic() - self.first_trial) / self.done * (self.total - self.done)

    def best(self, task: str) -> tuple[str, float, int, Result] | None:
        """The arm with the best mean so far on a task: its name, mean, number of seeds, and a result of it."""
        by_arm: dict[str, list[Result]] = {}
        for result in self.results:
            if result.task == task and result.test is not None:
                by_arm.setdefault(result.arm, []).append(result)
        if not by_arm:
            return None
        means = {arm: mean(r.test for r in found if r.test is not None) for arm, found in by_arm.items()}
        one = next(iter(by_arm.values()))[0]
        best = (max if one.higher_is_better else min)(means, key=means.__getitem__)
        return best, means[best], len(by_arm[best]), one


class LivePanel:
    """A few lines at the bottom of a terminal that change in place and vanish at the end."""

    def __init__(self, tally: Tally, console: Console) -> None:
        self.tally = tally
        self._live = Live(get_renderable=self._panel, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "LivePanel":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def listen(self, event: Event) -> None:
        self.tally.listen(event)

    def _panel(self) -> RenderableType:
        tally = self.tally
        head = Table.grid(padding=(0, 1))
        head.add_row(
            Text(tally.plan.study.name, style="bold"),
            ProgressBar(total=max(tally.total, 1), completed=tally.done, width=24),
            Text(f"{tally.done}/{tally.total} trials"),
            Text(_counts(tally), style="red" if tally.ended["failed"] + tally.ended["oom"] else ""),
            Text(f"{clock(tally.elapsed_s)} elapsed"),
            Text(_left(tally), style="dim"),
        )
        body = Table.grid(padding=(0, 2))
        for on in tally.plan.study.on:
            best = tally.best(on.name)
            if best is not None:
                arm, value, n, one = best
                body.add_row(
                    f"  {on.name}",
                    "best so far",
                    Text(arm, style="cyan"),
                    f"{one.metric} {value:.3g}",
                    f"n={n}",
                )
        for running in list(tally.running.values()):
            trial, epoch = running.trial, running.epoch
            at = f"epoch {epoch.epoch}/{trial.training.epochs}" if epoch else "starting"
            body.add_row(
                Text(f"  {trial.task_name}", style="dim"), Text("running", style="dim"), Text(trial.arm, style="dim"),
                Text(at, style="dim"), Text(f"seed {trial.seed}", style="dim"),
            )  # fmt: skip
        if tally.first_trial is None:
            body.add_row(Text("  starting workers", style="dim"))
        return Group(head, body)


class PlainLines:
    """A line a finished trial, for logs and pipes."""

    def __init__(self, tally: Tally, console: Console) -> None:
        self.tally, self._console = tally, console

    def __enter__(self) -> "PlainLines":
        return self

    def __exit__(self, *_: object) -> None: ...

    def listen(self, event: Event) -> None:
        self.tally.listen(event)
        if isinstance(event, Finished):
            result = event.result
            how = (
                f"{result.metric} {result.test:.4g}" if result.test is not None else f"{result.status}: {result.reason}"
            )
            self._console.print(
                f"[{self.tally.done}/{self.tally.total}] {result.task} / {result.arm} / seed {result.seed}: {how} "
                f"({result.seconds:.1f} s){', ' + left if (left := _left(self.tally)) else ''}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def show_progress(tally: Tally, console: Console) -> LivePanel | PlainLines:
    """The right one for where the output goes."""
    return LivePanel(tally, console) if console.is_terminal else PlainLines(tally, console)


def clock(seconds: float) -> str:
    """`1:05`, or `2:01:05` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _left(tally: Tally) -> str:
    return f"about {clock(tally.left_s)} left" if tally.left_s is not None and tally.done < tally.total else ""


def _counts(tally: Tally) -> str:
    failed = tally.ended["failed"] + tally.ended["oom"]
    diverged = f", {tally.ended['diverged']} diverged" if tally.ended["diverged"] else ""
    return f"{len(tally.running)} running, {failed} failed{diverged}"
