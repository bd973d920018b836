"""DSS: diagonal state spaces with B and C fused into one W (Gupta, Gu & Berant 2022, arXiv:2203.14343).

    K_l = Re sum_n W_n s_n e^{l z_n},   z = dt Lambda,   y = K * u + D u

    H       channels (the width)                  N   complex modes stored, and no factor 2: not half of a real state
    Lambda  (n_ssm, N), the law at real size 2N   W   (H, N), twice that if bidirectional; E|W|^2 = 2
    dt      (H), or (H, 2) for Re and Im Lambda   D   (H), N(0, 1)

    kernel         Re Lambda                s, the scale of a mode
    softmax        p                        (e^z - 1) / (Lambda (e^{zL} - 1)): e^{lz} divided by its sum over l < L
    exp            -exp(p)                  (e^z - 1) / Lambda, which is zero-order hold
    exp_re_im      -exp(p), Im = exp(q)     the same
    clip           min(p, 1e-4)             the same
    exp_no_scale   -exp(p)                  1

A state of N costs what one of 2N costs in `Diagonal`, which stores half of its real size and takes 2 Re. As there is
no B, there is no arm that trains it: only the product B o C is seen. The authors' code guards reciprocals, of
Lambda (e^{zL} - 1) by conj(x) / (|x|^2 + 1e-7) and of Lambda by conj(x) / max(|x|^2, 1e-7), and so does this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from descriptions import ImpossibleError, check_fields, one_of, require, seed_for
from ssm_models.discretize import phi1
from ssm_models.init import InitWithParameters, check_init, differs_between_copies, initial_modes
from ssm_models.inputs import C_INITS, check_c_init
from ssm_models.kernel import vandermonde
from ssm_models.structures.copies import check_copies, check_sharing
from ssm_models.structures.siso import DiagonalSiso, Recurrence
from ssm_models.structures.starts import WINDOWED
from ssm_models.structures.step_size import check_rate, check_step_size, draw_step_size, step_size
from ssm_models.structures.structure import SEES_LATER, Spectrum, draw_skip, generator, names_of_c
from ssm_models.transform import TRANSFORMS, Transform

#: Why softmax has no step.
DEPENDS_ON_LENGTH = "kernel='softmax' divides each mode by its sum over the length of the sequence."


@dataclass(frozen=True, kw_only=True)
class DSS:
    """The description of a DSS layer. The defaults are those of the authors' code, but for one dt (`dt_parts`)."""

    state: int = 64
    """N, the number of complex modes stored."""
    kernel: str = "softmax"
    """A name in `KERNELS`."""
    init: str | InitWithParameters = "legs"
    """Law of the initial eigenvalues at real size 2N: a name in `INITS`, `Mixed(...)` or `PTD(...)`."""
    C_init: str = "normal_2"
    """Law of W: a name in `C_INITS`."""
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    """Ends of the log-uniform distribution of the initial step size."""
    dt_transform: str = "exp"
    """How dt is stored: a name in `STEP_TRANSFORMS`."""
    dt_parts: bool = False
    """Two step sizes a channel, for Re and for Im Lambda, which start equal: `sep_dt_re_im` in the authors' code."""
    bidirectional: bool = False
    """A second W for a kernel that runs backwards in time."""
    n_ssm: int | None = 1
    """Independent copies of Lambda, shared out over channels; None is one each."""
    lr_A: float | None = 1e-3
    lr_C: float | None = 1e-3
    lr_dt: float | None = 1e-3
    """Learning rates of Lambda, W and dt: None is the trainer's, 0 freezes. Lambda and dt are never decayed, and W
    only if its rate is None."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        one_of("kernel", self.kernel, KERNELS)
        check_init(self.init)
        check_c_init(self.C_init)
        require(self.state >= 1, f"state={self.state} is the number of complex modes; it must be at least 1.")
        check_copies(self.n_ssm)
        for name in ("lr_A", "lr_C", "lr_dt"):
            check_rate(name, getattr(self, name))
        check_step_size(self.dt_min, self.dt_max, self.dt_transform, self.lr_dt)
        self._refuse_dead_knobs()

    def _refuse_dead_knobs(self) -> None:
        if self.lr_A == 0 and self.kernel in ("exp_re_im", "clip"):
            raise ImpossibleError(
                f"kernel={self.kernel!r} says how Lambda is trained, but lr_A=0 freezes it: "
                "the arm would equal the one with kernel='exp'."
            )
        if self.lr_A == 0 and self.n_ssm != 1 and not differs_between_copies(self.init):
            raise ImpossibleError(
                f"n_ssm={self.n_ssm} unties copies of Lambda, but init={self.init!r} starts all of them equal and "
                "lr_A=0 freezes them: the arm would equal the one with n_ssm=1."
            )
        if self.lr_dt == 0 and self.dt_parts:
            raise ImpossibleError(
                "dt_parts=True has two step sizes that start equal, and lr_dt=0 freezes them: "
                "the arm would equal the one with dt_parts=False."
            )

    def check(self, width: int) -> None:
        """Raise `ImpossibleError` unless the copies of Lambda can be shared out evenly."""
        check_sharing(self.n_ssm, width)
        if not isinstance(self.init, str):
            self.init.check(self.n_ssm or width, 2 * self.state)

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        softmax = self.kernel == "softmax"
        sentences = [
            (softmax, f"{DEPENDS_ON_LENGTH} At another length it is another model, and there is no step from a state."),
            (softmax, "kernel='softmax' does not bound Re Lambda: a mode with Re > 0 weights the oldest inputs most."),
            (
                self.kernel == "clip",
                "kernel='clip' has no gradient of Re Lambda above 1e-4: a mode that gets there stays and grows slowly.",
            ),
            (
                self.init in WINDOWED and KERNELS[self.kernel].real is EXP,
                f"init={self.init!r} has Re Lambda = 0, which kernel={self.kernel!r} lifts to -1e-4.",
            ),
            (
                self.kernel == "exp_no_scale",
                "kernel='exp_no_scale' has no factor dt: at the start its output is about 1/dt times that of 'exp'.",
            ),
            (
                self.kernel == "exp_re_im",
                "kernel='exp_re_im' keeps Im Lambda above 0: a mode at 0 starts at 1e-4, and none can turn the other "
                "way.",
            ),
            (self.bidirectional, SEES_LATER),
        ]
        return [sentence for holds, sentence in sentences if holds]

    def build(self, width: int, seed: int) -> "DSSLayer":
        """The layer. Each tensor has its own generator."""
        self.check(width)
        return DSSLayer(self, width, seed)


class DSSLayer(DiagonalSiso):
    """The layer that a `DSS` describes."""

    A_re: Tensor  # parameters, or buffers where the description freezes them
    A_im: Tensor
    C: Tensor
    inv_dt: Tensor

    def __init__(self, description: DSS, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=d.bidirectional)
        self.description = d
        if self.rule.scale is None:
            self.no_recurrence, self.has_scan = DEPENDS_ON_LENGTH, False
        A = initial_modes(d.init, d.n_ssm or width, 2 * d.state, generator(seed_for(seed, "A")))
        self.register_own("A_re", self.rule.real.inverse(-A.real).float(), d.lr_A)
        self.register_own("A_im", self.rule.imag.inverse(A.imag).float(), d.lr_A)
        dt = draw_step_size((width, 1), d.dt_min, d.dt_max, d.dt_transform, generator(seed_for(seed, "dt")))
        self.register_own("inv_dt", dt.repeat(1, 1 + d.dt_parts), d.lr_dt)
        C = [
            C_INITS[d.C_init]((width, d.state), generator(seed_for(seed, name))) for name in names_of_c(d.bidirectional)
        ]
        self.register_weight("C", torch.view_as_real(torch.stack(C)), d.lr_C)

    @property
    def rule(self) -> "Kernel":
        """What the name of the kernel stands for."""
        return KERNELS[self.description.kernel]

    def eigenvalues(self) -> Complex[Tensor, "H N"]:
        """Lambda of each channel, in complex128."""
        re, im = self.rule.real.forward(self.A_re.double()), self.rule.imag.forward(self.A_im.double())
        return torch.complex(-re, im).repeat(self.width // re.shape[0], 1)

    def dt(self) -> Float[Tensor, "H parts"]:
        """Step sizes at the present sampling rate, in float64: one for both parts of Lambda, or one for each."""
        return step_size(self.inv_dt, self.description.dt_transform, self.rate)

    def exponents(self) -> tuple[Complex[Tensor, "H N"], Complex[Tensor, "H N"]]:
        """(Lambda, z = dt Lambda)."""
        A, dt = self.eigenvalues(), self.dt()
        return A, torch.complex(dt[:, :1] * A.real, dt[:, -1:] * A.imag)

    def recurrence(self) -> Recurrence:
        """B_bar is the scale, and C is W. Without a scale that all lengths share there is none."""
        A, z = self.exponents()
        if self.rule.scale is None:
            raise ImpossibleError(f"There is no recurrence: {self.no_recurrence}")
        return Recurrence(z, self.rule.scale(A, z), torch.view_as_complex(self.C))

    def kernels(self, length: int) -> Float[Tensor, "S {length} H"]:
        """Those of the recurrence, or the normalised ones."""
        if self.rule.scale is not None:
            return super().kernels(length)
        return softmax_kernels(torch.view_as_complex(self.C), *self.exponents(), length)

    def spectrum(self) -> Spectrum:
        """N modes of each channel. With two step sizes dt is that of Re Lambda, and A is z / dt."""
        _, z = self.exponents()
        dt = self.dt()[:, :1]
        return Spectrum(torch.exp(z), z / dt, dt)


def softmax_kernels(
    W: Complex[Tensor, "S H N"], A: Complex[Tensor, "H N"], z: Complex[Tensor, "H N"], length: int
) -> Float[Tensor, "S {length} H"]:
    """K_l = Re sum_n (W_n / Lambda_n) e^{l z_n} / sum_{r < L} e^{r z_n}.

    The sum is (e^{zL} - 1) / (e^z - 1). A mode with Re z > 0 is divided by its largest term: it is then
    e^{-z (L-1-l)} (e^{-z} - 1) / (e^{-zL} - 1), a decaying mode that runs backwards from the end, so nothing overflows.
    (The authors' code leaves that shift out of the gradient of e^{lz}: it has these values but not these gradients.)
    """
    growing = z.real > 0
    z = torch.where(growing, -z, z)
    total = length * z * phi1(length * z)  # e^{zL} - 1
    row = z * phi1(z) * reciprocal(total * A)
    c = (W * row).to(W.dtype)
    zero = torch.zeros_like(c)
    taps = vandermonde(torch.stack([torch.where(growing, zero, c), torch.where(growing, c, zero)]), z, length)
    return taps[0] + taps[1].flip(-2)


def reciprocal(x: Complex[Tensor, "*S"]) -> Complex[Tensor, "*S"]:
    """1 / x, and 0 at x = 0: conj(x) / (|x|^2 + 1e-7)."""
    return x.conj() / (x.real**2 + x.imag**2 + 1e-7)


def hold(A: Complex[Tensor, "H N"], z: Complex[Tensor, "H N"]) -> Complex[Tensor, "H N"]:
    """(e^z - 1) / Lambda."""
    return z * phi1(z) * A.conj() / (A.real**2 + A.imag**2).clamp(min=1e-7)


def unscaled(A: Complex[Tensor, "H N"], z: Complex[Tensor, "H N"]) -> Complex[Tensor, "H N"]:
    """1."""
    return torch.ones_like(z)


class Kernel(NamedTuple):
    """How -Re and Im Lambda are stored, and the scale of a mode from (Lambda, z); None where it needs the length."""

    real: Transform
    imag: Transform
    scale: Callable[[Complex[Tensor, "H N"], Complex[Tensor, "H N"]], Complex[Tensor, "H N"]] | None


EXP, FREE = TRANSFORMS["exp"], TRANSFORMS["none"]
CLIP = Transform(lambda p: p.clamp(min=-1e-4), lambda value: value)

#: Gupta's names, with underscores.
KERNELS: dict[str, Kernel] = {
    "softmax": Kernel(FREE, FREE, None),
    "exp": Kernel(EXP, FREE, hold),
    "exp_re_im": Kernel(EXP, EXP, hold),
    "clip": Kernel(CLIP, FREE, hold),
    "exp_no_scale": Kernel(EXP, FREE, unscaled),
}
