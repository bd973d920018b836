"""A trial is one training run; its key names everything that decides the outcome."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from descriptions import canonical, digest
from search_spaces.training import Training
from ssm_models import ModelConfig
from tasks import Task


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run: what runs, and what this study calls it."""

    task: Task
    model: ModelConfig
    training: Training
    seed: int

    # The names are not part of the key, so that studies which contain the same trial share its result.
    study: str
    arm: str
    task_name: str
    baseline: bool
    levels: dict[str, str] = field(default_factory=dict)  # axis path -> level, of the axes that apply to the arm

    @property
    def description(self) -> dict[str, Any]:
        """The full resolved description, defaults and class names included, as JSON values."""
        return {name: canonical(getattr(self, name)) for name in ("task", "model", "training", "seed")}

    @cached_property
    def key(self) -> str:
        """SHA-256 of the description."""
        return digest(self.description)
