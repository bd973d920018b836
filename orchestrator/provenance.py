"""Where a result comes from: code, repository, packages, device."""

import ast
import hashlib
import inspect
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import torch

from search_spaces import Trial

#: Source that decides a result: editing anything else leaves results comparable.
_DECIDING = ("descriptions", "ssm_models", "tasks", "search_spaces/training.py", "orchestrator/train.py")
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "ray", "ssm-ablate")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Which code a study's results come from. Found once, where the study is started: workers may have no checkout."""

    code: str
    git_sha: str | None
    git_dirty: bool | None


def origin_of(trials: Iterable[Trial]) -> Origin:
    """The origin of results that this installation makes of these trials."""
    sha = _git("rev-parse", "HEAD")
    return Origin(
        code=code_digest(_own_modules(trials)),
        git_sha=sha,
        git_dirty=bool(_git("status", "--porcelain")) if sha else None,
    )


@cache
def packages() -> dict[str, str]:
    """Versions of what a result depends on, in this process."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def code_digest(own: Iterable[ModuleType] = ()) -> str:
    """SHA-256 of the syntax trees of the deciding source: comments, docstrings and layout do not count.

    `own` are modules of the user's with tasks or structures that the trials use. Their STUDY does not count: what it
    says is in the trials' keys, and a new arm must not outdate the others.
    """
    root = Path(__file__).parent.parent
    files = [
        file for part in _DECIDING for file in ([root / part] if part.endswith(".py") else (root / part).rglob("*.py"))
    ]
    sha = hashlib.sha256()
    for file in sorted(files):
        sha.update(f"{file.relative_to(root)}\n{_essence(file.read_text())}\n".encode())
    for module in own:
        sha.update(f"{module.__name__}\n{_essence(inspect.getsource(module))}\n".encode())
    return sha.hexdigest()


def is_ours(part: object) -> bool:
    """Whether a task or structure is one that this package ships."""
    return type(part).__module__.partition(".")[0] in ("ssm_models", "tasks")


def _own_modules(trials: Iterable[Trial]) -> list[ModuleType]:
    parts = [part for trial in trials for part in (trial.task, trial.model.structure)]
    names = sorted({type(part).__module__ for part in parts if not is_ours(part)})
    return [sys.modules[name] for name in names if hasattr(sys.modules[name], "__file__")]  # a notebook has no file


def _essence(source: str) -> str:
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not _is_study(node)]
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _is_study(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(n, ast.Name) and n.id == "STUDY" for n in node.targets)


def device_name(device: torch.device) -> str:
    """`NVIDIA H200`, or `cpu x86_64`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"


def _git(*command: str) -> str | None:
    """The answer of git about the checkout that this code runs from; None when it is installed elsewhere."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), *command], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
