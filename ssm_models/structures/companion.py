"""Companion and Shift: the discrete systems of autoregressive models (SpaceTime: Zhang et al. 2023, arXiv:2303.09489).

    x_k = A x_{k-1} + B u_k,   y_k = C x_k + D u_k,   A = S + a e_d^T,   S e_i = e_{i+1},   S e_d = 0

    H  channels (the width)   d  state   a, B, C  (H, d), N(0, 1)   D  (H), N(0, 1)

`Companion` trains a, B and C. With B = e_1 and C = (K_0, ..., K_{d-1}) it is any linear system of order d, with that
kernel and the characteristic polynomial z^d - sum_i a_i z^{i-1}. `Shift` has a = 0 and B = e_1: a filter whose taps
are C, as in H3 (Fu et al. 2023, arXiv:2212.14052). Where y_k predicts u_{k+1}, C = (phi_1, ..., phi_p) is the
autoregression u_{k+1} = sum_i phi_i u_{k+1-i}, and `forecast` continues it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from descriptions import ImpossibleError, check_fields, require, seed_for
from ssm_models.structures.dense_siso import DenseRecurrence, DenseSiso
from ssm_models.structures.siso import Siso
from ssm_models.structures.step_size import check_rate
from ssm_models.structures.structure import Spectrum, Stepper, draw_skip, generator


@dataclass(frozen=True, kw_only=True)
class Companion:
    """The description of a companion layer."""

    state: int = 64
    """d, the size of the state and the order of the system."""
    normalize: bool = True
    """Whether a is divided by |a_1| + ... + |a_d|, so that no entry of a power of A exceeds 1. If not, it starts so."""
    lr_A: float | None = None
    lr_B: float | None = None
    """Learning rates of a and B: None is the trainer's, as in the authors' code, 0 freezes. Never decayed."""
    lr_C: float | None = None
    """The same for C, except that None leaves it among the other weights: the trainer's rate, and decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.state >= 1, f"state={self.state} must be at least 1.")
        for name in ("lr_A", "lr_B", "lr_C"):
            check_rate(name, getattr(self, name))
        if self.lr_A == 0 and not self.normalize:
            raise ImpossibleError(
                "normalize=False says how a is trained, but lr_A=0 freezes it: "
                "the arm would equal the one with normalize=True."
            )

    def check(self, width: int) -> None:
        """Every width will do."""

    def caveats(self) -> list[str]:
        """What the name of a level does not say."""
        unbounded = "normalize=False does not bound a: above |a_1| + ... + |a_d| = 1 the kernel can grow exponentially."
        return [] if self.normalize else [unbounded]

    def build(self, width: int, seed: int) -> "CompanionLayer":
        """The layer. Each tensor has its own generator."""
        return CompanionLayer(self, width, seed)


class CompanionLayer(DenseSiso):
    """The layer that a `Companion` describes."""

    has_step_size = False

    a: Tensor  # parameters, or buffers where the description freezes them
    B: Tensor
    C: Tensor

    def __init__(self, description: Companion, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=False)
        self.description = d
        a, B, C = (torch.randn(width, d.state, generator=generator(seed_for(seed, name))) for name in "ABC")
        self.register_own("a", a if d.normalize else normalized(a), d.lr_A)
        self.register_own("B", B, d.lr_B)
        self.register_weight("C", C, d.lr_C)

    def column(self) -> Float[Tensor, "H d"]:
        """The last column of A, in float64."""
        a = self.a.double()
        return normalized(a) if self.description.normalize else a

    def recurrence(self) -> DenseRecurrence:
        """A as a matrix."""
        a = self.column()
        ones = torch.ones(a.shape[1] - 1, dtype=a.dtype, device=a.device)
        last = torch.nn.functional.pad(a[..., None], (a.shape[1] - 1, 0))
        return DenseRecurrence(torch.diag(ones, -1) + last, self.B.double(), self.C[None])

    def kernels(self, length: int) -> Float[Tensor, "1 {length} H"]:
        """K_l = C A^l B, from its generating function."""
        return companion_kernel(self.column(), self.B.double(), self.C.double(), length).to(self.C.dtype).T[None]

    def stepper(self) -> Stepper:
        """A x = (0, x_1, ..., x_{d-1}) + a x_d: d multiplications where a matrix has d^2."""
        a, B, C = self.column().to(self.C.dtype), self.B, self.C

        def step(u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            shifted = torch.nn.functional.pad(state[..., :-1], (1, 0))
            state = shifted + a * state[..., -1:] + B * u[..., None]
            return self.with_skip((C * state).sum(dim=-1), u), state

        return step

    def spectrum(self) -> Spectrum:
        """All d eigenvalues of each channel, the roots of its characteristic polynomial."""
        return Spectrum(torch.linalg.eigvals(self.recurrence().A.detach()))


@dataclass(frozen=True, kw_only=True)
class Shift:
    """The description of a shift layer: a filter of `state` taps."""

    state: int = 64
    """d, the number of taps."""
    lr_C: float | None = None
    """Learning rate of the taps: 0 freezes, None leaves them among the other weights: the trainer's rate, decayed."""
    skip: bool = True
    """Whether y has the term D u."""

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.state >= 1, f"state={self.state} must be at least 1.")
        check_rate("lr_C", self.lr_C)

    def check(self, width: int) -> None:
        """Every width will do."""

    def caveats(self) -> list[str]:
        """Nothing is hidden."""
        return []

    def build(self, width: int, seed: int) -> "ShiftLayer":
        """The layer. Each tensor has its own generator."""
        return ShiftLayer(self, width, seed)


class ShiftLayer(Siso):
    """The layer that a `Shift` describes. Its state is (u_k, u_{k-1}, ..., u_{k-d+1})."""

    has_step_size = False

    C: Tensor  # a parameter, or a buffer where the description freezes it

    def __init__(self, description: Shift, width: int, seed: int) -> None:
        d = description
        D = draw_skip(width, seed) if d.skip else None
        super().__init__(width=width, D=D, bidirectional=False)
        self.description = d
        self.register_weight("C", torch.randn(width, d.state, generator=generator(seed_for(seed, "C"))), d.lr_C)

    def kernels(self, length: int) -> Float[Tensor, "1 {length} H"]:
        """K_l = C_{l+1}, and 0 from d on."""
        return torch.nn.functional.pad(self.C, (0, length - self.description.state)).T[None]

    def scan(self, u: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """The states of every step, which are windows of u."""
        late = torch.nn.functional.pad(u.to(self.C.dtype), (0, 0, self.description.state - 1, 0))
        windows = late.unfold(1, self.description.state, 1)  # (B, L, H, d), oldest first
        return self.with_skip((windows * self.C.flip(-1)).sum(dim=-1), u)

    def initial_state(self, batch: int) -> Tensor:
        """Zeros (B, H, d)."""
        return self.C.new_zeros(batch, *self.C.shape)

    def stepper(self) -> Stepper:
        """The oldest input goes and the new one comes."""
        C = self.C

        def step(u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            state = torch.cat([u[..., None].to(state.dtype), state[..., :-1]], dim=-1)
            return self.with_skip((C * state).sum(dim=-1), u), state

        return step

    def chunk(self, u: Float[Tensor, "B L H"], state: Tensor) -> tuple[Float[Tensor, "B L H"], Tensor]:
        """`forward` on the inputs that the state holds and the new ones."""
        d = self.description.state
        late = torch.cat([state.flip(-1).transpose(1, 2), u.to(state.dtype)], dim=1)
        return self.forward(late)[:, d:].to(u.dtype), late[:, -d:].transpose(1, 2).flip(-1)

    def spectrum(self) -> Spectrum:
        """All eigenvalues are 0."""
        return Spectrum(torch.zeros(1, self.description.state, dtype=torch.complex128, device=self.C.device))


def normalized(a: Float[Tensor, "H d"]) -> Float[Tensor, "H d"]:
    """a / (|a_1| + ... + |a_d|). The columns of A then sum to at most 1 in absolute value, and so do those of A^l."""
    return a / a.abs().sum(dim=-1, keepdim=True).clamp(min=1e-4)


def companion_kernel(
    a: Float[Tensor, "H d"], b: Float[Tensor, "H d"], c: Float[Tensor, "H d"], length: int
) -> Float[Tensor, "H {length}"]:
    """K_l = c (S + a e_d^T)^l b in O(L log L) operations, whatever d is.

    With q_uv(z) = sum_j z^j u S^j v, of degree d - 1, Woodbury's identity for 1 - zA gives

        K(z) = sum_l K_l z^l = q_cb + z q_ca q_eb / p = (q_cb p + z q_ca q_eb) / p,   p = 1 - z q_ea

    p is the reversed characteristic polynomial; terms from z^d on cancel in the numerator. All power series are exact
    mod z^L: the authors' form evaluates K at L-th roots of unity instead, and needs c (1 - A^L) for that.
    """
    d = a.shape[-1]
    q_cb, q_ca = (_product(c, v.flip(-1), 2 * d - 1)[..., d - 1 :] for v in (b, a))
    p = torch.cat([torch.ones_like(a[..., :1]), -a.flip(-1)], dim=-1)
    numerator = _product(q_cb, p, d) + torch.nn.functional.pad(_product(q_ca, b.flip(-1), d), (1, -1))
    return _product(numerator, _inverse(p, length), length)


def _product(f: Float[Tensor, "H F"], g: Float[Tensor, "H G"], length: int) -> Float[Tensor, "H {length}"]:
    """The first coefficients of a product of polynomials."""
    points = next_fast_len(max(f.shape[-1] + g.shape[-1] - 1, length), real=True)
    product: Tensor = torch.fft.irfft(torch.fft.rfft(f, n=points) * torch.fft.rfft(g, n=points), n=points)
    return product[..., :length]


def _inverse(p: Float[Tensor, "H P"], length: int) -> Float[Tensor, "H {length}"]:
    """1 / p mod z^L, for p(0) = 1, by Newton's iteration g <- g (2 - p g): each doubles the terms that are right."""
    g = torch.ones_like(p[..., :1])
    while g.shape[-1] < length:
        terms = min(2 * g.shape[-1], length)
        rest = -_product(p[..., :terms], g, terms)
        g = _product(g, torch.cat([rest[..., :1] + 2, rest[..., 1:]], dim=-1), terms)
    return g
