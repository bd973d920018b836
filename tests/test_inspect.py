"""`ablate inspect`: its numbers against closed forms, its warnings, its pictures and its mistakes."""

import dataclasses
import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import tiny_study, tiny_task
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from descriptions import ImpossibleError, MistakeError, replace_all
from orchestrator import drawings, inspection, inspection_page, pictures, probe
from orchestrator.train import _Run
from search_spaces import Axis, On, Plan, plan
from ssm_models import DPLR, SSM, Dense, Diagonal, ModelConfig
from ssm_models.structures import STRUCTURES, Shift, Spectrum
from tasks import Delay

LENGTH = 96


def planned(structure: Any = None, *axes: Axis, width: int = 4, depth: int = 1, tasks: Any = None) -> Plan:
    study = tiny_study(axes=axes, seeds=(3, 1))
    model = ModelConfig(structure=structure or Diagonal(state=8), width=width, depth=depth)
    baseline, _ = replace_all(study.baseline, {"model": model})
    return plan(dataclasses.replace(study, baseline=baseline, tasks=tasks or study.tasks))


def inspected(structure: Any, **options: Any) -> inspection.Inspection:
    made = planned(structure)
    return inspection.inspect(made, *inspection.find_arm(made, None, None), **options)[0]


def fixed(dt: float, **fields: Any) -> Diagonal:
    return Diagonal(state=8, dt_min=dt, dt_max=dt, **fields)


def layer(structure: Any, width: int = 4) -> SSM:
    built: SSM = structure.build(width, 0)
    return built


# Numbers


def test_a_page_has_the_closed_forms_of_a_small_model():
    """Zero-order hold of Re A = -1/2, Im A = pi n at one dt."""
    dt, modes, width, depth = 0.125, 4, 4, 2
    made = planned(fixed(dt), width=width, depth=depth)
    found, model = inspection.inspect(made, *inspection.find_arm(made, None, None))
    want = {
        "dt": (dt, dt, dt),
        "steps_a_time": (1 / dt,) * 3,
        "memory": (2 / dt,) * 3,
        "frequency": (0, 1 * dt / 2, 3 * dt / 2),
        "re_lambda": (-0.5,) * 3,
        "im_lambda": (0, math.pi, 3 * math.pi),
        "size": (math.exp(-dt / 2),) * 3,
    }
    got = {name: dataclasses.astuple(between) for name, between in found.quantities.items()}
    assert got.keys() == want.keys()
    for name, numbers in want.items():
        low, middle, high = got[name]
        assert (low, high) == pytest.approx((numbers[0], numbers[2]), rel=1e-5, abs=1e-6), name
        assert low <= middle <= high
    assert got["frequency"][1] in (pytest.approx(dt / 2, rel=1e-5), pytest.approx(dt, rel=1e-5))
    assert found.state == 2 * modes * width
    assert found.layers == depth == len(inspection.layers(model))
    assert found.beyond_limit == 0
    assert found.parameters == sum(p.numel() for p in model.parameters())


def test_numbers_are_over_all_layers():
    made = planned(Diagonal(state=8), depth=3)
    found, model = inspection.inspect(made, *inspection.find_arm(made, None, None))
    dt = torch.cat([ssm.dt().ravel() for ssm in inspection.layers(model)]).sort().values
    assert len(dt) == 12
    between = found.quantities["dt"]
    assert (between.min, between.max) == pytest.approx((dt[0].item(), dt[-1].item()))
    assert dt[5].item() <= between.median <= dt[6].item()


def test_frozen_tensors_are_counted_apart():
    free, frozen = inspected(fixed(0.1)), inspected(fixed(0.1, lr_A=0.0))
    assert free.frozen == 0
    assert frozen.frozen == 2 * 4 * 4  # Re and Im of 4 modes in 4 channels
    assert frozen.parameters == free.parameters - frozen.frozen


def test_the_weights_are_those_that_the_first_seed_is_trained_from():
    made = planned(Diagonal(state=8), Axis("model.structure.init", ["lin", "rand"]), depth=2)
    found, model = inspection.inspect(made, *inspection.find_arm(made, "init=rand", None))
    trial = next(trial for trial in made.trials if trial.arm == "init=rand")
    trained = _Run(trial, torch.device("cpu"), owner="").model.state_dict()
    assert found.seed == trial.seed == 3
    assert trained.keys() == model.state_dict().keys()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_memory_and_frequency_of_single_modes():
    modes = probe.Modes(None, np.array([[0, 0.5, 1, 1.1, -0.5, 0.9j]], dtype=complex), None)
    np.testing.assert_allclose(
        modes.memory, [[0, 1 / math.log(2), np.inf, np.inf, 1 / math.log(2), -1 / math.log(0.9)]]
    )
    np.testing.assert_allclose(modes.frequency, [[0, 0, 0, 0, 0.5, 0.25]])
    assert modes.beyond_limit is None
    assert modes.aliased is None


class ReportOfLaw(NamedTuple):
    size: int
    condition: float


@dataclasses.dataclass(frozen=True)
class LawWithReport:
    """The eigenvalues of `lin`, by a law that has something to say."""

    def modes(self, copies: int, N: int, generator: torch.Generator) -> torch.Tensor:
        return self.extremes(N).repeat(copies, 1)

    def extremes(self, N: int) -> torch.Tensor:
        return torch.complex(torch.full((N // 2,), -0.5).double(), math.pi * torch.arange(N // 2).double())

    @property
    def differs_between_copies(self) -> bool:
        return False

    def check(self, copies: int, N: int) -> None: ...

    def report(self, N: int) -> ReportOfLaw:
        return ReportOfLaw(size=N, condition=3.5)


def test_what_a_law_reports_of_itself_is_shown():
    found = inspected(Diagonal(state=8, init=LawWithReport()))
    assert found.init == {"size": 8, "condition": 3.5}
    assert re.search(r"init: condition +3\.5", text_of(found))


# Warnings


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "50.0% of the modes have dt |Im λ| > π: they alias"),  # n = 2, 3 of 0 .. 3
        ({"discretization": "dirac"}, "50.0% of the modes have dt |Im λ| > π: they alias"),
        ({"discretization": "bilinear"}, "50.0% of the modes have dt |Im λ| > π: this rule does not alias them"),
        ({"bandlimit": 0.9}, "50.0% of the modes have dt |Im λ| > π: bandlimit=0.9 leaves them out."),
    ],
    ids=["zoh", "dirac", "bilinear", "bandlimit"],
)
def test_modes_beyond_the_sampling_limit_are_counted_and_named(fields, sentence):
    found = inspected(fixed(0.99, **fields), length=2)
    assert found.beyond_limit == 0.5
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith(sentence)


@pytest.mark.parametrize(
    ("init", "lag", "warned"),
    [("lin", 190, False), ("lin", 210, True), ("legs", 90, False), ("legs", 110, True), ("real", 110, True)],
)
def test_a_window_that_ends_before_the_lag_is_warned_of(init, lag, warned):
    """Windows last 2/dt = 200 steps, but those of LegS decay over 1/dt."""
    found = inspected(fixed(0.01, init=init), lag=lag, length=2)
    late = [warning for warning in found.warnings if "ends before the lag" in warning]
    assert bool(late) == warned
    assert all(warning.startswith("100.0% of the step sizes") for warning in late)


def test_the_lag_and_the_length_are_the_tasks_unless_given():
    made = planned(fixed(0.01), tasks=(Delay(length=64, lag=32, n_train=1),))
    arm, on = inspection.find_arm(made, None, None)
    assert inspection.inspect(made, arm, on)[0].lag == 32
    assert inspection.inspect(made, arm, on)[0].length == 64
    assert inspection.inspect(made, arm, on, lag=7, length=9)[0].lag == 7
    assert inspection.inspect(made, arm, on, lag=7, length=9)[0].length == 9


@pytest.mark.parametrize(("length", "warned"), [(150, False), (250, True)])
def test_a_memory_shorter_than_the_sequence_is_warned_of(length, warned):
    found = inspected(fixed(0.01), length=length)
    assert [w for w in found.warnings if "No mode remembers the whole sequence" in w] == (
        [f"No mode remembers the whole sequence: of its {length} steps at most 200."] if warned else []
    )


def test_a_finite_response_is_not_said_to_have_no_memory():
    made = planned(Shift(state=8))
    found, _ = inspection.inspect(made, *inspection.find_arm(made, None, None), length=20)
    assert found.warnings == ("All modes are 0: nothing is remembered after 8 steps.",)


class Growing(SSM):
    """Two states of its own, no spectrum before discretisation, one mode that grows; no skip."""

    def __init__(self, *, spectrum: bool = True) -> None:
        super().__init__()
        self.has_spectrum = spectrum

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        step, state = self.stepper(), self.initial_state(u.shape[0])
        outputs = []
        for k in range(u.shape[1]):
            y, state = step(u[:, k], state)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    scan = forward

    def initial_state(self, batch: int) -> Any:
        return {"x": torch.zeros(batch, 2), "seen": [torch.zeros(batch, 3)]}

    def stepper(self) -> Any:
        def step(u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            x = torch.tensor([1.25, 0.5]) * state["x"] + u[:, 1:2]
            return x[:, :1].expand(-1, u.shape[1]), {"x": x, "seen": state["seen"]}

        return step

    def chunk(self, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        raise NotImplementedError

    def spectrum(self) -> Spectrum:
        if not self.has_spectrum:
            raise ImpossibleError("it is not linear.")
        return Spectrum(torch.tensor([[1.25, 0.5]], dtype=torch.complex128))


@dataclasses.dataclass(frozen=True)
class Grows:
    spectrum: bool = True

    def check(self, width: int) -> None: ...

    def build(self, width: int, seed: int) -> SSM:
        return Growing(spectrum=self.spectrum)

    def caveats(self) -> list[str]:
        return ["It grows."]


def test_a_structure_of_the_users_own_can_be_inspected():
    found = inspected(Grows())
    assert found.state == 5
    assert found.quantities.keys() == {"memory", "frequency", "size"}
    assert found.quantities["memory"].max is None
    assert found.beyond_limit is None
    assert found.warnings == ("50.0% of the modes grow: |ā| > 1.",)
    assert "It grows." in text_of(found)
    assert "∞" in text_of(found)
    notes: list[str] = []
    assert [name for name, _ in drawings.figures(found, layer(Grows()), notes)] == EVERY_PICTURE
    assert notes == []


def test_a_layer_without_eigenvalues_has_the_other_pictures_and_a_note():
    found = inspected(Grows(spectrum=False))
    assert found.quantities == {}
    assert found.warnings == ("There is no spectrum: it is not linear.",)
    notes: list[str] = []
    assert [name for name, _ in drawings.figures(found, layer(Grows(spectrum=False)), notes)] == ["kernels", "basis"]
    assert notes == ["No eigenvalues: it is not linear."]


def test_a_layer_without_a_recurrence_has_no_basis_and_a_note():
    found = inspected(fixed(0.1, bidirectional=True))
    assert found.state is None
    assert "sees the future" in text_of(found)
    notes: list[str] = []
    drawn = [name for name, _ in drawings.figures(found, layer(fixed(0.1, bidirectional=True)), notes)]
    assert drawn == EVERY_PICTURE[:-1]
    assert notes == ["No basis functions: There is no step by step: bidirectional=True sees the future."]


EVERY_PICTURE = ["eigenvalues", "time_scales", "kernels", "basis"]


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_can_be_inspected(name):
    made = planned(STRUCTURES[name]())
    found, model = inspection.inspect(made, *inspection.find_arm(made, None, None), length=LENGTH)
    notes: list[str] = []
    drawn = [name for name, _ in drawings.figures(found, inspection.layers(model)[0], notes)]
    assert "kernels" in drawn
    assert len(drawn) + len(notes) >= len(EVERY_PICTURE) - 1
    assert text_of(found)


# What is measured for the pictures


class Plain(SSM):
    """A layer behind the bare contract: that it is `Siso` inside cannot be seen."""

    def __init__(self, inner: SSM) -> None:
        super().__init__()
        self.inner, self.D, self.no_recurrence = inner, inner.D, inner.no_recurrence
        self.forward, self.scan, self.stepper = inner.forward, inner.scan, inner.stepper
        self.initial_state, self.chunk, self.spectrum = inner.initial_state, inner.chunk, inner.spectrum

    forward = scan = stepper = initial_state = chunk = spectrum = None  # type: ignore[assignment]


@pytest.mark.parametrize("plain", [False, True], ids=["kernels", "forward alone"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["causal", "both ways"])
def test_a_layer_is_the_convolution_with_its_impulse_responses_and_its_skip(bidirectional, plain):
    width, length = 4, 12
    ssm = layer(Diagonal(state=4, bidirectional=bidirectional), width)
    lags, responses = probe.impulse_responses(Plain(ssm) if plain else ssm, width, [2, 0], length)
    assert bidirectional == (lags.min() < 0)
    assert np.all(np.diff(lags) == 1)
    u = torch.randn(1, length, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y, D = ssm(u)[0].double().numpy(), ssm.D.double().numpy()
    for channel, response in zip([2, 0], responses, strict=True):
        x = u[0, :, channel].double().numpy()
        want = D[channel] * x
        for k in range(length):
            want[k] += sum(response[lags == k - i].sum() * x[i] for i in range(length))
        np.testing.assert_allclose(y[:, channel], want, atol=1e-5)


def test_basis_functions_are_the_powers_of_the_slowest_eigenvalues():
    """x_l = a^l b, for `inv`, whose modes are stored the fastest first."""
    ssm = layer(fixed(0.05, init="inv"))
    log_a, b, _ = (x.detach().numpy() for x in ssm.recurrence())
    numbers, states = probe.basis(ssm, 4, 1, 30, 2)
    assert numbers == [2, 3]
    want = (np.exp(np.outer(log_a[1, [2, 3]], np.arange(30))) * b[1, [2, 3], None]).real
    np.testing.assert_allclose(states, want, atol=1e-5)


def test_channels_are_chosen_from_the_smallest_dt_to_the_largest():
    ssm = layer(Diagonal(state=4), width=9)
    dt = ssm.dt()[:, 0].detach().numpy()
    chosen = probe.spread(probe.modes(ssm), 9, 5)
    assert [value for _, value in chosen] == pytest.approx(np.sort(dt)[[0, 2, 4, 6, 8]])
    assert all(dt[channel] == pytest.approx(value) for channel, value in chosen)
    assert probe.spread(None, 9, 5) == [(0, None), (2, None), (4, None), (6, None), (8, None)]
    assert probe.spread(None, 2, 5) == [(0, None), (1, None)]


# Pictures


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The pictures of the default layer, in files."""
    folder = tmp_path_factory.mktemp("pictures")
    made = planned(Diagonal(state=16, dt_min=0.05), tasks=(Delay(length=LENGTH, lag=32, n_train=1),))
    found, model = inspection.inspect(made, *inspection.find_arm(made, None, None))
    files, notes = drawings.draw(found, inspection.layers(model)[0], folder / "a" / "b")
    return {file.name: file for file in files}, notes


def test_every_picture_is_written_as_svg_and_png(drawn):
    files, notes = drawn
    assert list(files) == [f"{name}.{kind}" for name in EVERY_PICTURE for kind in ("svg", "png")]
    assert notes == []
    for name in EVERY_PICTURE:
        pixels = matplotlib.image.imread(files[f"{name}.png"])
        assert pixels.shape[1] == pytest.approx(1400, abs=100)  # 7 inches at 200 dots an inch
        assert 0.001 < (pixels[..., :3].mean(axis=-1) < 0.5).mean() < 0.5  # neither blank nor black


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "eigenvalues": ["Re λ (1/time)", "Im λ (1/time)", "Re ā", "Im ā", "dt", "after discretisation"],
        "time_scales": ["steps", "% of channels", "% of modes", "1/dt", "memory", "length 96", "lag 32"],
        "kernels": ["lag (steps)", "response to a unit impulse", "channel 0"],
        "basis": ["steps since the impulse", "state (real part)", "state 0", "2/dt"],
    }.items(),
)
def test_the_text_of_an_svg_is_text(drawn, name, words):
    root = ET.fromstring(drawn[0][f"{name}.svg"].read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    found = ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(words) <= set(found)
    assert any("baseline on delay" in line for line in found)


def a_range(low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
    return np.geomspace(low, high, math.prod(shape)).reshape(shape)


FIGURES = {
    "lin": lambda: pictures.eigenvalues(*_lin(dt=a_range(1e-3, 0.1, (6, 1))), "lin"),
    "dt for each mode": lambda: pictures.eigenvalues(*_lin(dt=a_range(1e-4, 0.1, (1, 32))), "modes"),
    "one dt": lambda: pictures.eigenvalues(*_lin(dt=np.full((6, 1), 0.01)), "one dt"),
    "wide": lambda: pictures.eigenvalues(*_lin(dt=a_range(1e-3, 0.1, (6, 1)), power=5), "a wide range of Im"),
    "real": lambda: pictures.eigenvalues(*_lin(dt=a_range(1e-3, 0.1, (6, 1)), power=None), "real modes"),
    "discrete": lambda: pictures.eigenvalues(None, np.array([[0, 0.5j, 1.2]]), None, "a long name " * 12),
    "kernels": lambda: pictures.kernels(
        np.arange(500.0), np.outer([1e-5, 1, 1e4], np.cos(np.arange(500))), ["a", "b\nc", "d"], "kernels"
    ),
    "short kernels": lambda: pictures.kernels(np.arange(-9.0, 9), np.ones((1, 18)), ["one"], "a few taps"),
    "basis": lambda: pictures.basis(np.ones((7, 3)), [f"state {i}" for i in range(7)], "basis", marks=[(1, "1/dt")]),
    "scales": lambda: pictures.time_scales(
        [("1/dt", "channels", a_range(10, 1e3, (9,))), ("memory", "modes", np.array([0, 1e-3, 1e5, np.inf]))],
        "scales",
        marks=[(512, "length 512")],
    ),
    "one scale": lambda: pictures.time_scales([("memory", "modes", np.full(4, 128.0))], "one", marks=[(130, "len")]),
    "no scale": lambda: pictures.time_scales([("memory", "modes", np.zeros(4))], "shift", marks=[(64, "length")]),
}


def _lin(dt: np.ndarray, power: int | None = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = np.arange(32)
    A = np.tile(-0.5 + 1j * math.pi * n**power if power else -1.0 - n + 0j, (len(dt), 1))
    return A, np.exp(dt * A), dt


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES.keys())
def test_no_text_of_a_figure_overlaps_another_or_is_cut_off(figure):
    made = figure()
    canvas = FigureCanvasAgg(made)
    canvas.draw()
    not_drawn = {text for axes in made.axes for axis in (axes.xaxis, axes.yaxis) for text in _beyond_ends(axis)}
    texts = [t for t in made.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in not_drawn]
    assert len(texts) > 4
    width, height = canvas.get_width_height()
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]
    for i, (text, box) in enumerate(boxes):
        assert min(box.x0, box.y0) > -1, text
        assert box.x1 < width + 1, text
        assert box.y1 < height + 1, text
        for other, its in boxes[:i]:
            apart = box.x0 >= its.x1 - 1 or its.x0 >= box.x1 - 1 or box.y0 >= its.y1 - 1 or its.y0 >= box.y1 - 1
            assert apart, (text, other)


def _beyond_ends(axis: Any) -> list[Text]:
    """Labels of ticks outside the limits, which Matplotlib keeps but does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = [*axis.majorTicks, *axis.minorTicks]
    inside = [tick for tick in ticks if low - 1e-9 * abs(low) <= tick.get_loc() <= high + 1e-9 * abs(high)]
    drawn = len(axis.get_majorticklocs())
    return [
        label
        for i, tick in enumerate(ticks)
        for label in (tick.label1, tick.label2)
        if tick not in inside or drawn <= i < len(axis.majorTicks)
    ]


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        pictures.save(FIGURES["kernels"](), tmp_path / folder, "k")
    assert (tmp_path / "a" / "k.svg").read_bytes() == (tmp_path / "b" / "k.svg").read_bytes()


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    FIGURES["basis"]()
    assert dict(matplotlib.rcParams) == before


# The command


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def text_of(found: inspection.Inspection, files: tuple[Path, ...] = ()) -> str:
    from rich.console import Console

    console = Console(width=100, record=True, quiet=True)
    with console.capture() as captured:
        Console(width=100, file=console.file)
        console.quiet = False
        console.print(inspection_page.page(found, list(files), []))
    return captured.get()


@pytest.mark.usefixtures("in_an_empty_folder")
def test_the_command_prints_the_numbers_and_where_the_pictures_are(ablate, study_file):
    ended = ablate("inspect", study_file, "--arm", "init=real", "--length", "20")
    assert ended.code == 0, ended.err
    assert "mine: init=real on copying, as seed 0 starts it" in ended.out
    assert re.search(r"state of a layer +16 real numbers", ended.out)
    assert "init='real' starts with Im A = 0" in ended.out
    folder = Path("inspect/mine/init=real")
    assert f"{folder}: eigenvalues, time_scales, kernels, basis (.svg and .png)" in ended.out
    assert len(list(folder.iterdir())) == 2 * len(EVERY_PICTURE)


@pytest.mark.usefixtures("in_an_empty_folder")
def test_json_has_the_same_numbers(ablate, study_file):
    told = json.loads(ablate("inspect", study_file, "--json", "-o", "here").out)
    assert told["arm"] == "baseline"
    assert told["quantities"]["re_lambda"] == pytest.approx({"min": -0.5, "median": -0.5, "max": -0.5})
    assert told["state"] == 16
    assert told["pictures"] == [f"here/{name}.{kind}" for name in EVERY_PICTURE for kind in ("svg", "png")]
    assert all(Path(file).is_file() for file in told["pictures"])


@pytest.mark.usefixtures("in_an_empty_folder")
def test_all_arms_are_one_row_each_and_draw_nothing(ablate, study_file):
    shown = ablate("inspect", study_file, "--all-arms")
    assert shown.code == 0, shown.err
    assert [line.split()[0] for line in shown.out.splitlines()[2:4]] == ["baseline", "init=real"]
    told = json.loads(ablate("inspect", study_file, "--all-arms", "--task", "copying", "--json").out)
    assert [one["arm"] for one in told] == ["baseline", "init=real"]
    assert not Path("inspect").exists()


MISTAKES = {
    "arm": (["--arm", "init=rael"], r"There is no arm 'init=rael' in 'mine'. Did you mean 'init=real'\?"),
    "nothing like it": (["--arm", "zzz"], "There is no arm 'zzz' in 'mine'. `ablate plan` lists them."),
    "task": (["--task", "copyng"], r"--task='copyng' is not one of \['copying'\]. Did you mean 'copying'\?"),
    "folder": (["-o", "my_study.py/x"], "'my_study.py/x' cannot be written: Not a directory."),
    "both": (["--arm", "baseline", "--all-arms"], "--all-arms draws nothing and takes every arm"),
    "folder of all": (["-o", "x", "--all-arms"], "--all-arms draws nothing and takes every arm"),
}


@pytest.mark.parametrize(("words", "sentence"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_sentence(ablate, study_file, in_an_empty_folder, words, sentence):
    ended = ablate("inspect", study_file.name if "/" in study_file.name else f"./{study_file.name}", *words)
    assert ended.code == 2
    assert ended.out == ""
    assert re.match(f"Error: {sentence}", ended.err), ended.err
    assert ended.err.count("\n") == 1
    assert [file.name for file in in_an_empty_folder.iterdir() if file.name != "__pycache__"] == ["my_study.py"]


def test_a_cell_that_is_no_arm_says_what_became_of_it():
    made = planned(
        Diagonal(state=8),
        Axis("model.structure.n_ssm", [None, 3]),
        Axis("model.pooling", ["mean", "last"]),
        Axis("model.structure", [Diagonal(state=8), Diagonal(state=8, n_ssm=2)]),
    )
    with pytest.raises(MistakeError, match=r"'n_ssm=3' is no arm of 'tiny': n_ssm=3 does not divide width=4\.$"):
        inspection.find_arm(made, "n_ssm=3", None)
    with pytest.raises(MistakeError, match=r"'pooling=last' .* changes nothing .* as 'baseline', which is an arm\.$"):
        inspection.find_arm(made, "pooling=last", None)


def test_an_arm_that_does_not_run_on_a_task_is_named_with_it():
    axis = Axis("model.structure.n_ssm", [None, 3])
    tasks = (On(tiny_task(), {"model.width": 4}, "four"), On(tiny_task(), {"model.width": 6}, "six"))
    made = planned(Diagonal(state=8), axis, tasks=tasks)
    assert inspection.find_arm(made, "n_ssm=3", None)[1].name == "six"
    with pytest.raises(MistakeError, match="Arm 'n_ssm=3' does not run on task 'four'"):
        inspection.find_arm(made, "n_ssm=3", "four")
    rows = list(inspection.inspect_all(made, task=None, length=None, lag=None))
    assert [(row.arm, row.task) for row in rows] == [("baseline", "four"), ("n_ssm=3", "six")]
    assert [row.arm for row in inspection.inspect_all(made, task="four", length=None, lag=None)] == ["baseline"]


def test_other_commands_do_not_import_matplotlib_and_this_one_neither_ray_nor_mlflow(study_file):
    code = f"""
import sys
import orchestrator.cli
assert "matplotlib" not in sys.modules
sys.argv = ["ablate", "inspect", {str(study_file)!r}, "-o", {str(study_file.parent / "out")!r}]
try:
    orchestrator.cli.main()
except SystemExit as left:
    assert not left.code
assert "matplotlib" in sys.modules
assert not {{"ray", "mlflow", "matplotlib.pyplot"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (study_file.parent / "out" / "basis.svg").exists()


def test_eigenvalues_that_rounding_moves_come_with_a_warning():
    assert any("far from normal" in warning for warning in inspected(DPLR(state=32)).warnings)
    assert not any("far from normal" in warning for warning in inspected(DPLR(state=32, init="fout")).warnings)
    assert any("far from normal" in warning for warning in inspected(Dense(state=32)).warnings)
