"""The training loop: the only one with an optimiser. It knows no Ray, no MLflow and no Parquet.

`train(trial, ...)` yields an `Epoch` after each epoch and an `Outcome` at the end. Every random number comes from
`trial.seed` and a name, and everything else that the loop knows is in its checkpoint, so a trial that is killed and
started again gives the same bits (on CPU) as one that was not.
"""

import hashlib
import math
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from descriptions import seed_for
from orchestrator.result import Epoch, Status
from search_spaces import Trial
from ssm_models import build_model, count_parameters, parameter_groups
from tasks import METRICS, Split, SplitName, loss_for


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended."""

    status: Status
    reason: str | None = None
    validation: float | None = None
    test: float | None = None
    best_epoch: int | None = None
    epochs: int = 0
    steps: int = 0
    parameters: int | None = None
    seconds: float = 0.0
    data: str | None = None
    curve: tuple[Epoch, ...] = ()


def train(
    trial: Trial, *, device: torch.device, checkpoint: Path | None = None, code: str = ""
) -> Iterator[Epoch | Outcome]:
    """Train a trial: select the best epoch on validation, measure that one on test, once.

    Args:
        trial: what to train.
        device: where the model and its data live.
        checkpoint: file that is written after each epoch and, if it exists, continued from. The caller removes it
            when the outcome is stored.
        code: digest of the code; a checkpoint that other code wrote is not continued from.

    """
    run = _Run(trial, device, owner=f"{trial.key} {code}")
    if checkpoint is not None:
        run.restore(checkpoint)
    while run.done.epochs < trial.training.epochs:
        problem = run.epoch()
        if problem is not None:
            yield run.outcome("diverged", reason=problem)
            return
        if checkpoint is not None:
            run.save(checkpoint)
        yield run.done.curve[-1]
    yield run.outcome("ok", test=run.test())


@dataclass
class _Done:
    """What training has done so far; with the weights and the optimiser's state, the whole of a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    curve: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        return len(self.curve)


class _Run:
    """A model, its optimiser and its data on a device, somewhere between the first epoch and the last."""

    def __init__(self, trial: Trial, device: torch.device, owner: str) -> None:
        spec = trial.task.spec
        self.trial, self.device, self.owner = trial, device, owner
        self.metric, self.loss = METRICS[spec.metric], loss_for(spec)
        self.model = build_model(
            trial.model,
            inputs=spec.inputs,
            tokens=spec.tokens,
            outputs=spec.outputs,
            seed=seed_for(trial.seed, "model"),
        ).to(device)
        groups = parameter_groups(self.model, lr=trial.training.lr, weight_decay=trial.training.weight_decay)
        self.peaks = [float(group["lr"]) for group in groups]
        self.optimizer = torch.optim.AdamW(groups, fused=True)
        self.done = _Done()
        train, validation, test = (self._split(name) for name in ("train", "validation", "test"))
        self.validation_split, self.test_split = validation, test
        self.data = _digest(train, validation, test)
        self.batch_size = min(trial.training.batch_size, len(train.x))
        self.steps = trial.training.epochs * (len(train.x) // self.batch_size)

    def epoch(self) -> str | None:
        """Train one epoch and validate. Returns why the trial has diverged, or None."""
        started = time.monotonic()
        first_step, number = self.done.step, self.done.epochs + 1
        losses = self._train_epoch()
        not_finite = (~torch.isfinite(losses)).nonzero()
        if len(not_finite) > 0:
            self.done.seconds += time.monotonic() - started
            return f"The training loss was not finite at step {first_step + int(not_finite[0]) + 1} (epoch {number})."
        loss, score = self._evaluate(self.validation_split)
        self.done.seconds += time.monotonic() - started
        if not (math.isfinite(loss) and math.isfinite(score)):
            return f"The validation loss was not finite after epoch {number}."
        point = Epoch(
            epoch=number,
            step=self.done.step,
            train_loss=float(losses.double().mean()),
            validation_loss=loss,
            validation=score,
            lr=self.trial.training.lr * self.trial.training.rate(self.done.step - 1, self.steps),
            seconds=self.done.seconds,
        )
        self.done.curve.append(point)
        if self.done.best is None or self._better(score, self.done.best.validation):
            self.done.best = point
            self.done.best_weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        return None

    def test(self) -> float:
        """The metric on the test split with the weights of the best epoch."""
        started = time.monotonic()
        self.model.load_state_dict(self.done.best_weights)
        _, score = self._evaluate(self.test_split)
        self.done.seconds += time.monotonic() - started
        return score

    def outcome(self, status: Status, *, reason: str | None = None, test: float | None = None) -> Outcome:
        """How the trial ended."""
        best = self.done.best
        return Outcome(
            status=status,
            reason=reason,
            validation=best.validation if best else None,
            test=test,
            best_epoch=best.epoch if best else None,
            epochs=self.done.epochs,
            steps=self.done.step,
            parameters=count_parameters(self.model),
            seconds=self.done.seconds,
            data=self.data,
            curve=tuple(self.done.curve),
        )

    def _train_epoch(self) -> Tensor:
        """One pass in a fresh order, the incomplete last batch left out. Returns the loss of every step.

        The losses stay on the device until the epoch ends: to ask for one each step would stall a GPU.
        """
        number, seed = self.done.epochs, self.trial.seed
        samples = self._split("train", number)
        generator = torch.Generator().manual_seed(seed_for(seed, "order", number))
        order = torch.randperm(len(samples.x), generator=generator).to(self.device)
        whole = len(order) // self.batch_size * self.batch_size
        losses = []
        self.model.train()
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_for(seed, "dropout", number))
            for chosen in torch.split(order[:whole], self.batch_size):
                losses.append(self._step(samples.x[chosen], samples.y[chosen]))
        return torch.stack(losses).cpu()

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        factor = self.trial.training.rate(self.done.step, self.steps)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        with self._precision():
            output = self.model(x)
        loss = self.loss(output.float(), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        if self.trial.training.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.trial.training.clip)
        self.optimizer.step()
        self.done.step += 1
        return loss.detach()

    @torch.no_grad()
    def _evaluate(self, samples: Split) -> tuple[float, float]:
        """Mean loss a sample, and the metric over the whole split."""
        self.model.eval()
        size = max(256, self.batch_size)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)  # loss, metric's sum, metric's count
        for x, y in zip(torch.split(samples.x, size), torch.split(samples.y, size), strict=True):
            with self._precision():
                output = self.model(x).float()
            sums += torch.stack([self.loss(output, y).double() * len(x), *self.metric.accumulate(output, y)])
        loss, total, count = sums.tolist()
        return loss / len(samples.x), total / count

    def _split(self, name: SplitName, epoch: int = 0) -> Split:
        split = self.trial.task.split(name, self.trial.seed, epoch)
        return Split(split.x.to(self.device), split.y.to(self.device))

    def _precision(self) -> AbstractContextManager[None]:
        half = self.trial.training.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def _better(self, score: float, best: float) -> bool:
        return score > best if self.metric.higher_is_better else score < best

    def save(self, path: Path) -> None:
        """Write the checkpoint under another name and rename it: a kill leaves the old one or the new one."""
        done = self.done
        state = {
            "owner": self.owner,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": done.step,
            "seconds": done.seconds,
            "curve": [asdict(point) for point in done.curve],
            "best": asdict(done.best) if done.best else None,
            "best_weights": done.best_weights,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint of this trial and this code, if there is one that can be read."""
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
            return  # cut short by a crash of the machine itself: the trial starts again and replaces it
        if state["owner"] != self.owner:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = _Done(
            step=state["step"],
            seconds=state["seconds"],
            curve=[Epoch(**point) for point in state["curve"]],
            best=Epoch(**state["best"]) if state["best"] else None,
            best_weights=state["best_weights"],
        )


def _digest(*splits: Split) -> str:
    """SHA-256 over the samples that a trial sees first, so that rows made from other data can be told apart."""
    sha = hashlib.sha256()
    for tensor in (tensor for split in splits for tensor in split):
        sha.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
