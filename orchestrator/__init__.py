"""How a study runs and what it says.

from orchestrator import run, load_results, leaderboard, ablation_table
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api import (
        ablation_table,
        leaderboard,
        load_curves,
        load_results,
        run,
        sync,
    )

__all__ = ["ablation_table", "leaderboard", "load_curves", "load_results", "run", "sync"]


def __getattr__(name: str) -> Any:
    """The functions above, imported when first asked for: a worker needs none of them, nor what they import."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from orchestrator import api

    return getattr(api, name)
