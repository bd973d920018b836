"""What several test files share: a study that runs in well under a second, and the command in this process."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from orchestrator.cli import main
from search_spaces import Axis, Recipe, Study, Training
from ssm_models import Diagonal, ModelConfig
from tasks import Copying

# A shared machine misses deadlines; a change must not fail on the luck of the draw.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

torch.set_num_threads(1)  # test files run beside each other


def tiny_task() -> Copying:
    return Copying(blanks=4, memorize=3, alphabet=10, n_train=64, n_validation=32, n_test=32)


def tiny_study(
    *,
    name: str = "tiny",
    axes: tuple[Axis, ...] = (Axis("model.structure.init", ["lin", "real"]),),
    seeds: tuple[int, ...] = (0, 1),
    epochs: int = 2,
    lr: float = 4e-3,
) -> Study:
    return Study(
        name=name,
        question="Does a small study run?",
        baseline=Recipe(
            model=ModelConfig(structure=Diagonal(state=4), depth=1, width=4, dropout=0.1),
            training=Training(epochs=epochs, batch_size=16, lr=lr),
        ),
        axes=axes,
        tasks=(tiny_task(),),
        seeds=seeds,
    )


TINY_SOURCE = """
from search_spaces import Axis, Recipe, Study, Training
from ssm_models import Diagonal, ModelConfig
from tasks import Copying

STUDY = Study(
    name="mine",
    question="Does my own study run?",
    baseline=Recipe(
        model=ModelConfig(structure=Diagonal(state=4), depth=1, width=4),
        training=Training(epochs=2, batch_size=16),
    ),
    axes=(Axis("model.structure.init", ["lin", "real"]),),
    tasks=(Copying(blanks=4, memorize=3, n_train=64, n_validation=32, n_test=32),),
    seeds=(0, 1),
)
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """A study of four short trials in a file of the user's."""
    file = tmp_path / "my_study.py"
    file.write_text(TINY_SOURCE)
    return file


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def ablate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """The command as a function: what it printed and its exit code."""

    def run(*words: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["ablate", *map(str, words)])
        code: int | str | None = 0
        try:
            main()
        except SystemExit as left:
            code = left.code
        printed = capsys.readouterr()
        return Ended(int(code or 0), printed.out, printed.err)

    return run
