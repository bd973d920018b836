"""Convolution kernels: the factored Vandermonde sum against the direct one, structures against each other, and the
share of kernels in a training step. Time is forward and backward; memory is the peak above what was there before.

    python benchmarks/kernel.py [--quick] [--threads N]

What is compared runs in turn in one process, so that other load on the machine meets all of it; ratios are of
medians. The direct sum at H = 256, L = 16384 keeps several tensors of a gigabyte: run this alone. Memory is read from
/proc, so that column is empty outside Linux.
"""

import argparse
import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ssm_models import Diagonal, ModelConfig, build_model, parameter_groups
from ssm_models.kernel import convolve, vandermonde, vandermonde_direct
from ssm_models.structures import DPLR, DSS, Dense, DFouT, RealDiagonal, Structure

N = 64  # real state size: half as many modes
Kernel = Callable[[Tensor, Tensor, int], Tensor]

STRUCTURES: dict[str, Structure] = {
    "Diagonal": Diagonal(state=N),
    "RealDiagonal": RealDiagonal(state=N),
    "DFouT": DFouT(state=N),
    "DSS exp": DSS(state=N // 2, kernel="exp"),
    "DSS softmax": DSS(state=N // 2, kernel="softmax"),
    "DPLR legs": DPLR(state=N),
    "DPLR legt (rank 2)": DPLR(state=N, init="legt"),
    "Dense": Dense(state=N),
}


def modes(H: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """C B_bar and log A_bar of an S4D-Lin layer with its default step sizes."""
    generator = torch.Generator().manual_seed(0)
    c = torch.randn(H, N // 2, generator=generator, dtype=torch.complex128)
    dt = torch.logspace(-3, -1, H, dtype=torch.float64)[:, None]
    log_a = dt * torch.complex(torch.tensor(-0.5).double(), math.pi * torch.arange(N // 2).double())
    return c.to(dtype).requires_grad_(), log_a.to(dtype).requires_grad_()


def seconds(work: Callable[[], Tensor]) -> float:
    """One forward and backward."""
    start = time.perf_counter()
    work().sum().backward()
    return time.perf_counter() - start


def medians(works: list[Callable[[], Tensor]], runs: int) -> list[float]:
    """Median seconds of each, in turn; the first run warms up."""
    times = [[seconds(work) for work in works] for _ in range(runs + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def peak_bytes(work: Callable[[], Tensor]) -> float:
    """Resident memory that one forward and backward adds at its peak, or nan where /proc does not say."""
    try:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before goes back, or it would be used again unseen
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status("VmRSS")
        work().sum().backward()
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return math.nan


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def largest_error(H: int, length: int) -> float:
    """Of the factored single-precision kernel against the direct double-precision sum, relative to its maximum.

    On four channels of the H, as the sum over all of them in double precision does not fit.
    """
    wide = [x.detach()[:: H // 4] for x in modes(H, torch.complex128)]
    truth = vandermonde_direct(wide[0], wide[1], length)
    narrow = vandermonde(wide[0].to(torch.complex64), wide[1], length)
    return ((narrow - truth).abs().max() / truth.abs().max()).item()


def page(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 and not name.isupper() else "right")
    return table


def against_the_direct_sum(quick: bool) -> Table:
    """The factored kernel has log A in double precision, as the layers do."""
    table = page(
        f"Factored against direct Vandermonde sum, N = {N}, float32",
        *("H", "L", "direct ms", "factored ms", "faster", "direct MB", "factored MB", "leaner", "max rel. error"),
    )
    for H in (128,) if quick else (128, 256):
        for length in (1024, 4096) if quick else (1024, 4096, 16384):
            c, log_a = modes(H, torch.complex64)
            wide = log_a.detach().to(torch.complex128).requires_grad_()
            works: list[Callable[[], Tensor]] = [
                lambda c=c, log_a=log_a, length=length: vandermonde_direct(c, log_a, length),
                lambda c=c, wide=wide, length=length: vandermonde(c, wide, length),
            ]
            direct, factored = medians(works, 3 if quick or length == 16384 else 7)
            fat, lean = (peak_bytes(work) for work in works)
            table.add_row(
                *(f"{H}", f"{length}", f"{1e3 * direct:.1f}", f"{1e3 * factored:.1f}", f"{direct / factored:.1f}x"),
                *(f"{fat / 1e6:.0f}", f"{lean / 1e6:.0f}", f"{fat / lean:.1f}x", f"{largest_error(H, length):.1e}"),
            )
    return table


def structures_against_diagonal(quick: bool) -> Table:
    """Kernels alone, and whole layers: kernel and FFT convolution of a batch."""
    H, length, batch = (128, 1024, 4) if quick else (256, 16384, 4)
    table = page(
        f"Structures against Diagonal, H = {H}, N = {N}, L = {length}, batch {batch}, float32",
        *("structure", "kernel ms", "of Diagonal", "layer ms", "of Diagonal", "kernel MB", "of H N/2 L"),
    )
    layers = {name: description.build(H, seed=0) for name, description in STRUCTURES.items()}
    u = torch.randn(batch, length, H)
    kernels = medians([lambda layer=layer: layer.kernels(length) for layer in layers.values()], 3)
    whole = medians([lambda layer=layer: layer(u) for layer in layers.values()], 3)
    for name, kernel, layer_s in zip(layers, kernels, whole, strict=True):
        peak = peak_bytes(lambda name=name: layers[name].kernels(length))
        table.add_row(
            *(name, f"{1e3 * kernel:.0f}", f"{kernel / kernels[0]:.2f}x"),
            *(f"{1e3 * layer_s:.0f}", f"{layer_s / whole[0]:.2f}x"),
            *(f"{peak / 1e6:.0f}", f"{peak / (8 * H * N / 2 * length):.2f}"),
        )
    return table


def share_of_a_training_step(quick: bool) -> Table:
    """Of the 4-layer ablation model on sequential CIFAR's shape."""
    batch, length, runs = (8, 1024, 2) if quick else (50, 1024, 5)
    config = ModelConfig(structure=Diagonal(state=N), depth=4, width=128, gate="none", norm="post-layer")
    model = build_model(config, inputs=3, tokens=False, outputs=10, seed=0)
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-2, weight_decay=1e-2))
    x, target = torch.randn(batch, length, 3), torch.randint(10, (batch,))

    def step() -> float:
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
        return time.perf_counter() - start

    def kernels() -> float:
        return sum(seconds(lambda block=block: block.ssm.kernels(length)) for block in model.blocks)

    def convolutions() -> float:
        u = torch.randn(batch, length, 128, requires_grad=True)
        kernel = torch.randn(128, length).T.requires_grad_()
        return 4 * seconds(lambda: convolve(u, kernel))

    parts = {"whole step": step, "kernel generation": kernels, "FFT convolution": convolutions}
    times = [[part() for part in parts.values()] for _ in range(runs + 1)][1:]
    found = [statistics.median(column) for column in zip(*times, strict=True)]
    table = page(f"A training step: 4 layers, H = 128, N = {N}, L = {length}, batch {batch}", "part", "ms", "share")
    for name, part in zip(parts, found, strict=True):
        table.add_row(name, f"{1e3 * part:.0f}", f"{100 * part / found[0]:.1f} %")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="H = 128 only, fewer runs, up to L = 4096")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console(width=120)
    console.print(f"{arguments.threads} thread(s), torch {torch.__version__}")
    for make in (against_the_direct_sum, structures_against_diagonal, share_of_a_training_step):
        console.print(make(arguments.quick))


if __name__ == "__main__":
    main()
