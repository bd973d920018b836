"""Figures of a layer as it starts, as in a paper. The only file that knows Matplotlib.

Arrays in, a figure out. Figures are made by the object API, so nothing is opened and no state is left behind; text
stays text in an SVG. Colours are those of Okabe and Ito and the map `cividis`, which colour-blind readers can tell
apart.
"""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

Real = NDArray[np.float64]
Complex = NDArray[np.complex128]

__all__ = ["Figure", "basis", "eigenvalues", "kernels", "save", "time_scales"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#666666"
MAP = "cividis"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "ssm-ablate",  # the same figure gives the same bytes
}
#: More points than this become an image inside the SVG: thousands of markers would make it slow to open.
POINTS = 2000
#: Time axes longer than this are logarithmic from step 1.
LINEAR_STEPS = 64


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name.svg` and `name.png`."""
    files = [folder / f"{name}.svg", folder / f"{name}.png"]
    with rc_context(STYLE):
        figure.savefig(files[0], metadata={"Date": None})
        figure.savefig(files[1], dpi=200)
    return files


@rc_context(STYLE)
def eigenvalues(before: Complex | None, after: Complex, dt: Real | None, title: str) -> Figure:
    """Eigenvalues (R, N), one of each conjugate pair, before discretisation (if that is what was done) and after.

    dt is (R, 1) or (R, N). Equal rows, as of channels that differ in dt alone, are drawn once before discretisation.
    Crosses are modes beyond the sampling limit, dt |Im λ| > π.
    """
    figure = Figure(figsize=(3.8 if before is None else 7.0, 3.6), layout="constrained")
    _entitle(figure, title)
    panels = figure.subplots(1, 1 if before is None else 2, squeeze=False)[0]
    beyond = np.zeros(after.shape, dtype=bool)
    norm = None if dt is None or np.ptp(dt) == 0 else LogNorm(float(dt.min()), float(dt.max()))
    if before is not None and dt is not None:
        _before(panels[0], before, dt, norm)
        beyond = dt * np.abs(before.imag) > math.pi
    _after(panels[-1], after, dt, norm, beyond)
    if norm is not None:
        bar = figure.colorbar(ScalarMappable(norm, MAP), ax=panels[-1], label="dt", shrink=0.8)
        _plain_numbers(bar.ax.yaxis, float(dt.max() / dt.min()) if dt is not None else 1)
    return figure


def _entitle(figure: Figure, title: str) -> None:
    figure.suptitle(textwrap.fill(title, int(12 * figure.get_figwidth())))  # 12 letters an inch


def _before(axes: Axes, values: Complex, dt: Real, norm: LogNorm | None) -> None:
    axes.set(title="before discretisation", xlabel="Re λ (1/time)", ylabel="Im λ (1/time)")
    if len(values) > 1 and dt.shape[1] == 1 and bool(np.all(values[0] == values)):
        axes.set_title(f"before discretisation (all {len(values)} channels)")
        values, norm = values[:1], None
    _points(axes, values.ravel(), None if norm is None else np.broadcast_to(dt, values.shape).ravel(), norm)
    sizes, ends = np.abs(values.imag), sorted({float(dt.max()), float(dt.min())})
    for step, dashes in zip(ends[::-1], ("dashed", "dotted"), strict=False):
        if math.pi / step <= 1.3 * sizes.max():
            for sign, label in ((1, f"π/dt at dt = {step:.2g}"), (-1, None)):
                if sign > 0 or values.imag.min() < 0:
                    axes.axhline(sign * math.pi / step, color=GREY, linestyle=dashes, linewidth=1, label=label)
    if sizes.max() > 20 * np.median(sizes) > 0:
        _log_from_zero(axes, float(np.median(sizes)), float(sizes.max()), float(values.imag.min()))
    elif np.ptp(values.imag) == 0:
        axes.set_ylim(values.imag.min() - 1, values.imag.max() + 1)
    axes.set_box_aspect(1)
    _margin(axes, values.real)
    _legend_below(axes)


def _log_from_zero(axes: Axes, middle: float, high: float, low: float) -> None:
    """A y axis that is linear near 0 and logarithmic above the decade of `middle`, with a tick at each decade."""
    first, last = math.floor(math.log10(middle)), math.floor(math.log10(2 * high))
    axes.set_yscale("symlog", linthresh=10.0**first)
    axes.set_ylim(bottom=min(-(10.0**first) / 20, 2 * low), top=2 * high)
    decades = [10.0**k for k in range(first, last + 1)]
    axes.set_yticks([*(-d for d in decades if -d > 2 * low), 0, *decades])


def _margin(axes: Axes, x: Real) -> None:
    """Room for 0 on the right, and for values that are all the same."""
    low, high = float(x.min()), max(float(x.max()), 0.0)
    room = 0.12 * (high - low) or 1.0
    axes.set_xlim(low - 4 * room if np.ptp(x) < 1e-3 * (high - low) else low - room, high + room)
    axes.axvline(0, color=GREY, linewidth=0.6, zorder=0)


def _after(axes: Axes, values: Complex, dt: Real | None, norm: LogNorm | None, beyond: NDArray[np.bool_]) -> None:
    axes.set(title="in discrete time" if dt is None else "after discretisation", xlabel="Re ā", ylabel="Im ā")
    angle = np.linspace(0, 2 * math.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=0.8, zorder=0)
    axes.axhline(0, color=GREY, linewidth=0.4, zorder=0)
    steps = None if dt is None or norm is None else np.broadcast_to(dt, values.shape)
    for which, marker, label in ((~beyond, "o", None), (beyond, "x", "dt |Im λ| > π")):
        if which.any():
            _points(axes, values[which], None if steps is None else steps[which], norm, marker, label)
    reach = max(1.08, 1.05 * float(np.abs(values).max()))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    _legend_below(axes)


def _points(
    axes: Axes, values: Complex, dt: Real | None, norm: LogNorm | None, marker: str = "o", label: str | None = None
) -> None:
    few, crosses = values.size <= 200, marker == "x"
    axes.scatter(
        values.real,
        values.imag,
        c=COLOURS[0] if dt is None else dt,
        cmap=None if dt is None else MAP,
        norm=None if dt is None else norm,
        marker=marker,
        s=(20 if crosses else 14) if few else (9 if crosses else 6),
        linewidths=0.8 if crosses else 0,
        label=label,
        rasterized=values.size > POINTS,
    )


def _legend_below(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


@rc_context(STYLE)
def kernels(lags: Real, responses: Real, labels: Sequence[str], title: str) -> Figure:
    """Responses (C, T) of some channels at lags (T) in steps, a panel each: their sizes differ by orders."""
    figure = Figure(figsize=(6.8, 1.0 + 1.15 * len(labels)), layout="constrained")
    _entitle(figure, title)
    panels = figure.subplots(len(labels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, response, label, colour in zip(panels, responses, labels, _cycle(len(labels)), strict=True):
        axes.axhline(0, color=GREY, linewidth=0.4, zorder=0)
        axes.plot(lags, response, color=colour, label=label, drawstyle="default" if len(lags) > 50 else "steps-mid")
        _in_steps(axes, lags)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.2)
        axes.locator_params(axis="y", nbins=3)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    panels[-1].set_xlabel("lag (steps)")
    figure.supylabel("response to a unit impulse", fontsize=9)
    return figure


@rc_context(STYLE)
def basis(states: Real, labels: Sequence[str], title: str, *, marks: Sequence[tuple[float, str]] = ()) -> Figure:
    """What states (n, T) hold after a unit impulse: the functions that the layer writes the past in."""
    figure = Figure(figsize=(6.8, 3.2), layout="constrained")
    _entitle(figure, title)
    axes = figure.subplots()
    axes.axhline(0, color=GREY, linewidth=0.4, zorder=0)
    for state, label, colour in zip(states, labels, _cycle(len(labels)), strict=True):
        axes.plot(np.arange(states.shape[1]), state, color=colour, label=label)
    for at, label in marks:
        if at < states.shape[1]:
            axes.axvline(at, color=GREY, linestyle="dotted", linewidth=1, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="steps since the impulse", ylabel="state (real part)", xlim=(0, states.shape[1] - 1))
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.2)
    return figure


@rc_context(STYLE)
def time_scales(
    scales: Sequence[tuple[str, str, Real]], title: str, *, marks: Sequence[tuple[float, str]] = ()
) -> Figure:
    """Histograms on one logarithmic axis of steps, for each (name, of what, values), with some lengths marked."""
    figure = Figure(figsize=(6.8, 1.2 + 1.3 * len(scales)), layout="constrained")
    _entitle(figure, title)
    panels = figure.subplots(len(scales), 1, sharex=True, squeeze=False)[:, 0]
    every = np.concatenate([values[np.isfinite(values) & (values > 0)] for _, _, values in scales])
    ends = [*every, *(at for at, _ in marks)]
    low, high = math.floor(4 * math.log10(min(ends))), math.ceil(4 * math.log10(max(ends)))
    bins = 10.0 ** (np.arange(low - 1, high + 2) / 4)  # four to a decade
    for axes, (name, of, values), colour in zip(panels, scales, COLOURS, strict=False):
        inside = values[np.isfinite(values) & (values > 0)]
        outside = 1 - len(inside) / len(values)
        name += f"\n({outside:.0%} are 0 or ∞)" if outside else ""
        axes.hist(inside, bins=list(bins), weights=np.full(len(inside), 100 / len(values)), color=colour, label=name)
        for (at, mark), dashes in zip(marks, ("dashed", "dotted"), strict=False):
            label = mark if axes is panels[0] else None
            axes.axvline(at, color="black", linestyle=dashes, linewidth=1, label=label)
        axes.set(xscale="log", ylabel=f"% of {of}", xlim=(bins[0], bins[-1]), ylim=(0, None if len(inside) else 100))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.4)
        _plain_numbers(axes.xaxis, bins[-1] / bins[0])
    panels[-1].set_xlabel("steps")
    return figure


def _plain_numbers(axis: Axis, span: float) -> None:
    """Label a logarithmic axis 1, 2, 5, 10, ..., or by decades if it has many of them."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 300 else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _in_steps(axes: Axes, lags: Real) -> None:
    axes.set_xlim(float(lags[0]), float(lags[-1]))
    if len(lags) > LINEAR_STEPS:
        axes.set_xscale("symlog", linthresh=1, linscale=0.3)
        axes.xaxis.set_major_formatter(ScalarFormatter())


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
