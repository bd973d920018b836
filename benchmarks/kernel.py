"""The factored Vandermonde kernel against the direct sum: time forward and backward, and the largest error.

    python benchmarks/kernel.py [--quick] [--threads N]

The two run in turn in one process, so that other load on the machine meets both; the ratio is of their medians.
The direct sum at H = 256, L = 16384 keeps several tensors of a gigabyte: run this alone.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ssm_models.kernel import vandermonde, vandermonde_direct

N = 64  # real state size: half as many modes
Kernel = Callable[[Tensor, Tensor, int], Tensor]


def modes(H: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """C B_bar and log A_bar of an S4D-Lin layer with its default step sizes."""
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(H, N // 2, generator=generator, dtype=torch.complex128)
    dt = torch.logspace(-3, -1, H, dtype=torch.float64)[:, None]
    log_a = dt * torch.complex(torch.tensor(-0.5).double(), math.pi * torch.arange(N // 2).double())
    return c.to(dtype).requires_grad_(), log_a.to(dtype).requires_grad_()


def seconds(kernel: Kernel, c: Tensor, log_a: Tensor, length: int) -> float:
    """One forward and backward."""
    c.grad = log_a.grad = None
    gradient = torch.ones(length, c.shape[0])
    start = time.perf_counter()
    kernel(c, log_a, length).backward(gradient)
    return time.perf_counter() - start


def largest_error(H: int, length: int) -> float:
    """Of the factored single-precision kernel against the direct double-precision sum, relative to its maximum.

    On four channels of the H, as the sum over all of them in double precision does not fit.
    """
    wide = [x.detach()[:: H // 4] for x in modes(H, torch.complex128)]
    truth = vandermonde_direct(wide[0], wide[1], length)
    narrow = vandermonde(wide[0].to(torch.complex64), wide[1], length)
    return ((narrow - truth).abs().max() / truth.abs().max()).item()


def measure(H: int, length: int, runs: int) -> tuple[float, float]:
    """Median seconds of (direct, factored). The factored one has log A in double precision, as the layers do."""
    direct, factored = modes(H, torch.complex64), modes(H, torch.complex64)
    wide = factored[1].detach().to(torch.complex128).requires_grad_()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        times[0].append(seconds(vandermonde_direct, *direct, length))
        times[1].append(seconds(vandermonde, factored[0], wide, length))
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])  # the first run warms up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="H = 128 only, fewer runs, up to L = 4096")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    table = Table(title=f"Kernel forward + backward, N = {N}, {arguments.threads} thread(s), float32")
    for name in ("H", "L", "direct ms", "factored ms", "ratio", "max rel. error"):
        table.add_column(name, justify="right")
    for H in (128,) if arguments.quick else (128, 256):
        for length in (1024, 4096) if arguments.quick else (1024, 4096, 16384):
            runs = 3 if arguments.quick or length == 16384 else 7
            direct, factored = measure(H, length, runs)
            table.add_row(
                f"{H}",
                f"{length}",
                f"{1e3 * direct:.1f}",
                f"{1e3 * factored:.1f}",
                f"{direct / factored:.1f}x",
                f"{largest_error(H, length):.1e}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
