"""Where a result comes from: code, repository, packages, device."""

import ast
import hashlib
import platform
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

#: Source that decides a result: editing anything else leaves results comparable.
_DECIDING = ("descriptions", "ssm_models", "tasks", "search_spaces/training.py", "orchestrator/train.py")
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "ray", "ssm-ablate")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The columns of a result that say what made it."""

    code: str
    git_sha: str | None
    git_dirty: bool | None
    packages: dict[str, str]


@cache
def provenance() -> Provenance:
    """The provenance of results made by this process."""
    sha = _git("rev-parse", "HEAD")
    return Provenance(
        code=code_digest(),
        git_sha=sha,
        git_dirty=bool(_git("status", "--porcelain")) if sha else None,
        packages={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )


@cache
def code_digest() -> str:
    """SHA-256 of the syntax trees of the deciding source: comments, docstrings and layout do not count."""
    root = Path(__file__).parent.parent
    files = [
        file for part in _DECIDING for file in ([root / part] if part.endswith(".py") else (root / part).rglob("*.py"))
    ]
    sha = hashlib.sha256()
    for file in sorted(files):
        sha.update(f"{file.relative_to(root)}\n{_essence(file.read_text())}\n".encode())
    return sha.hexdigest()


def _essence(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


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
