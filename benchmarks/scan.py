"""The associative scan against the sequential one, and generation step by step against recomputing the prefix.

    python benchmarks/scan.py [--quick] [--threads N]

Scans: time forward and backward, in turn in one process, so that other load on the machine meets both; peak memory of
one forward and backward each in a process of its own, above what there was before it, from /proc (empty outside Linux).

Generation: seconds a token of a stack of Diagonal layers with a GELU after each, by `stepper()`, and by the convolution
over all tokens so far with the kernels made only once. Both give the same token. (S4, Gu et al. 2022, arXiv:2111.00396,
reports generation 60 times as fast as a Transformer's; here the other side is the same model.)
"""

import argparse
import math
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

import ssm_models.scan
from ssm_models import Diagonal
from ssm_models.kernel import convolve
from ssm_models.scan import associative, sequential

BATCH, MODES = 16, 128
WIDTH, DEPTH, STATE = 128, 4, 64
SCANS = {"sequential": sequential, "associative": associative}
LENGTHS = (256, 1024, 4096, 16384)
PREFIXES = (1024, 4096, 16384)


def system(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """(a, bu, initial) of an S5 layer with 2 MODES real states, in single precision."""
    generator = torch.Generator().manual_seed(0)
    a = torch.polar(1 - 0.1 * torch.rand(MODES, generator=generator), 3 * torch.rand(MODES, generator=generator))
    bu = torch.randn(BATCH, length, MODES, generator=generator, dtype=torch.cfloat)
    return a.requires_grad_(), bu.requires_grad_(), torch.zeros(BATCH, MODES, dtype=torch.cfloat)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(works: list[Callable[[], object]], runs: int) -> list[float]:
    """Median seconds of each, in turn; the first run warms up."""
    times = [[seconds(work) for work in works] for _ in range(runs + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def forward_and_backward(name: str, inputs: tuple[Tensor, Tensor, Tensor], gradient: Tensor) -> None:
    inputs[0].grad = inputs[1].grad = None
    SCANS[name](*inputs).backward(gradient)


def peak_memory() -> float:
    """Largest resident memory of this process so far, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return math.nan
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def added_memory(name: str, length: int) -> float:
    """Of one forward and backward, in this process, which does nothing else."""
    forward_and_backward(name, small := system(64), torch.ones_like(small[1]))  # what is loaded once
    inputs = system(length)
    gradient = torch.ones_like(inputs[1])
    before = peak_memory()
    forward_and_backward(name, inputs, gradient)
    return peak_memory() - before


def scans(lengths: tuple[int, ...], threads: int) -> Table:
    table = Table(title=f"Scans, batch {BATCH}, {MODES} complex modes, forward and backward", title_justify="left")
    for name in (
        "L",
        "sequential ms",
        "associative ms",
        "faster",
        "sequential MB",
        "associative MB",
        "times the states",
    ):
        table.add_column(name, justify="right")
    for length in lengths:
        inputs = system(length)
        gradient = torch.ones_like(inputs[1])
        works = [lambda n=n, i=inputs, g=gradient: forward_and_backward(n, i, g) for n in SCANS]
        slow, fast = medians(works, 5 if length <= 4096 else 3)
        command = [sys.executable, __file__, "--threads", str(threads), "--length", str(length), "--memory-of"]
        fat, lean = (
            float(subprocess.run([*command, name], check=True, capture_output=True, text=True).stdout) for name in SCANS
        )
        states = 8 * BATCH * length * MODES
        table.add_row(
            *(f"{length}", f"{1e3 * slow:.0f}", f"{1e3 * fast:.0f}", f"{slow / fast:.1f}x"),
            *(f"{fat / 1e6:.0f}", f"{lean / 1e6:.0f}", f"{lean / states:.1f}"),
        )
    return table


def block_sizes(lengths: tuple[int, ...], runs: int) -> Table:
    """Blelloch's pairs, and the larger blocks that `associative` could join at each of its levels."""
    sizes = (2, 4, 8, 16, 32, 64)
    table = Table(title="The associative scan with blocks of r steps, ms (relative to r = 16)", title_justify="left")
    for name in ("L", *(f"r = {size}" for size in sizes)):
        table.add_column(name, justify="right")
    chosen = ssm_models.scan._BLOCK
    for length in lengths:
        inputs = system(length)
        gradient = torch.ones_like(inputs[1])

        def work(size: int, i: tuple[Tensor, Tensor, Tensor] = inputs, g: Tensor = gradient) -> None:
            ssm_models.scan._BLOCK = size
            forward_and_backward("associative", i, g)

        spent = medians([lambda size=size, work=work: work(size) for size in sizes], runs)
        relative = [s / spent[sizes.index(16)] for s in spent]
        table.add_row(f"{length}", *(f"{1e3 * s:.0f} ({r:.2f}x)" for s, r in zip(spent, relative, strict=True)))
    ssm_models.scan._BLOCK = chosen
    return table


@torch.no_grad()
def generation(prefixes: tuple[int, ...], runs: int) -> Table:
    table = Table(
        title=f"A token after a prefix: {DEPTH} Diagonal layers, H = {WIDTH}, N = {STATE}, batch 1",
        title_justify="left",
    )
    for name in ("prefix", "convolution ms", "step ms", "faster", "max rel. difference"):
        table.add_column(name, justify="right")
    layers = [Diagonal(state=STATE).build(WIDTH, seed) for seed in range(DEPTH)]
    steppers = [layer.stepper() for layer in layers]
    for length in prefixes:
        kernels = [layer.kernels(length)[0] for layer in layers]
        for kernel, layer in zip(kernels, layers, strict=True):
            kernel[0] += layer.D
        u = torch.randn(1, length, WIDTH, generator=torch.Generator().manual_seed(0))

        def recomputed(kernels: list[Tensor] = kernels, u: Tensor = u) -> Tensor:
            for kernel in kernels:
                u = torch.nn.functional.gelu(convolve(u, kernel))
            return u[:, -1]

        x, states = u[:, :-1], []
        for layer in layers:  # the states that the tokens before leave behind
            x, state = layer.chunk(x, layer.initial_state(1))
            x = torch.nn.functional.gelu(x)
            states.append(state)

        def stepped(states: list[Tensor] = states, u: Tensor = u[:, -1]) -> Tensor:
            for step, state in zip(steppers, states, strict=True):
                y, _ = step(u, state)
                u = torch.nn.functional.gelu(y)
            return u

        slow, fast = medians([recomputed, lambda: [stepped() for _ in range(100)]], runs)
        fast /= 100
        difference = ((recomputed() - stepped()).abs().max() / recomputed().abs().max()).item()
        table.add_row(
            *(f"{length}", f"{1e3 * slow:.1f}", f"{1e3 * fast:.2f}", f"{slow / fast:.0f}x", f"{difference:.0e}")
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 1024 steps, fewer runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=SCANS, help=argparse.SUPPRESS)  # how it calls itself
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        print(added_memory(arguments.memory_of, arguments.length))
        return
    console = Console()
    console.print(f"{arguments.threads} thread(s), torch {torch.__version__}")
    console.print(scans(LENGTHS[:2] if arguments.quick else LENGTHS, arguments.threads))
    console.print(block_sizes(LENGTHS[1:2] if arguments.quick else LENGTHS[1:], 3 if arguments.quick else 7))
    console.print(generation(PREFIXES[:1] if arguments.quick else PREFIXES, 3 if arguments.quick else 7))


if __name__ == "__main__":
    main()
