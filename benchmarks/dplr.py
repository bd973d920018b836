"""The kernel of S4 (diagonal plus low rank) against that of S4D, forward and backward, alone and in a layer.

    python benchmarks/dplr.py [--threads N] [--layer] [--memory]

Three kernels take turns in one process, so that other load on the machine meets all; ratios are medians of the ratios
within a turn. `woodbury` and `krylov` are the two ways to DPLR's kernel, of which the layer takes the faster.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ssm_models.krylov import krylov_kernel
from ssm_models.structures.diagonal import Diagonal
from ssm_models.structures.dplr import DPLR
from ssm_models.woodbury import woodbury_kernel

SIZES = [(128, 16, 1024), (128, 64, 1024), (128, 64, 4096), (256, 16, 16384), (256, 64, 16384), (64, 256, 4096)]


def kernels_of(H: int, N: int, L: int, init: str = "legs") -> dict[str, Callable[[], Tensor]]:
    """The kernels of both layers, from their parameters."""
    diagonal = Diagonal(state=N, init="legs", discretization="bilinear", B_init="hippo").build(H, 0)
    dplr = DPLR(state=N, init=init).build(H, 0)
    return {
        "diagonal": lambda: diagonal.kernels(L),
        "woodbury": lambda: woodbury_kernel(dplr.system(), L),
        "krylov": lambda: krylov_kernel(*dplr.recurrence(), L),
    }


def seconds(run: Callable[[], Tensor]) -> float:
    """One forward and backward."""
    start = time.perf_counter()
    run().sum().backward()
    return time.perf_counter() - start


def turns(ways: dict[str, Callable[[], Tensor]], count: int) -> dict[str, list[float]]:
    """Seconds of each, one after the other, in turns; the first warms up."""
    times = [{name: seconds(run) for name, run in ways.items()} for _ in range(count + 1)][1:]
    return {name: [turn[name] for turn in times] for name in ways}


def peak_mb(H: int, N: int, L: int, name: str) -> float:
    """Peak resident memory that one forward and backward adds, in a process of its own."""
    code = (
        "import re, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from benchmarks.dplr import kernels_of, seconds\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        f"run = kernels_of({H}, {N}, {L})[{name!r}]; seconds(kernels_of(2, {N}, 64)[{name!r}])\n"
        "before = peak(); seconds(run); print(peak() - before)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=root)
    return int(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="also the peak memory at the largest size")
    parser.add_argument("--layer", action="store_true", help="also the layer, batch 16, at the largest size")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table(title=f"Kernel forward + backward, {arguments.threads} thread(s), float32")
    for column in ("H", "N", "L", "diagonal ms", "woodbury ms", "krylov ms", "woodbury ratio", "krylov ratio"):
        table.add_column(column, justify="right")
    for H, N, L in SIZES:
        times = turns(kernels_of(H, N, L), 5 if L > 4096 or N > 64 else 9)
        ms = [f"{1e3 * statistics.median(times[name]):.0f}" for name in times]
        ratios = [
            f"{statistics.median(a / b for a, b in zip(times[name], times['diagonal'], strict=True)):.1f}"
            for name in ("woodbury", "krylov")
        ]
        table.add_row(f"{H}", f"{N}", f"{L}", *ms, *ratios)
    Console().print(table)
    if arguments.layer:
        u = torch.randn(16, 16384, 256)
        layers = {"diagonal": Diagonal(state=64).build(256, 0), "DPLR": DPLR(state=64).build(256, 0)}
        times = turns({name: lambda layer=layer: layer(u) for name, layer in layers.items()}, 3)
        print(
            "layer, H = 256, N = 64, L = 16384, batch 16:",
            {n: f"{statistics.median(t):.2f} s" for n, t in times.items()},
        )
    if arguments.memory:
        for name in ("diagonal", "woodbury", "krylov"):
            print(
                f"peak memory of the kernel, H = 256, N = 64, L = 16384, {name}: {peak_mb(256, 64, 16384, name):.0f} MB"
            )


if __name__ == "__main__":
    main()
