"""Continuous memory: reproduce a band-limited noise signal `lag` steps late.

The Delay task of "How to Train Your HiPPO" (Gu et al., 2022), with its signal, which is Nengo's
`WhiteSignal`. The smaller size is the one that separates initial states and step sizes best at a few seconds
of CPU a run; a diagonal state-space model can solve it when dt <= 2 / lag.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from descriptions import ImpossibleError, check_fields, require
from tasks import counter
from tasks.task import Spec, Split, SplitName

RMS = 0.5  # of the signal, before its first sample is subtracted


@dataclass(frozen=True, kw_only=True)
class Delay:
    """y[t] = x[t - lag], and 0 before; scored by squared error relative to predicting zero.

    The defaults make 50 steps an epoch at batch 32. 256 validation signals estimate the score of one model
    within 1 % of itself and 1,024 test signals within 0.5 %, far below the 20 % between seeds.
    """

    length: int = 512  # samples of a signal, even
    lag: int = 128  # samples
    band: float = 0.1  # highest frequency of the signal, in cycles a sample; 0.5 is the Nyquist frequency
    n_train: int = 1600  # signals an epoch, new ones every epoch
    n_validation: int = 256
    n_test: int = 1024

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.length >= 4 and self.length % 2 == 0, f"length={self.length} must be an even number from 4.")
        require(self.lag >= 0, f"lag={self.lag} must not be negative.")
        require(0 < self.band <= 0.5, f"band={self.band} must lie in (0, 0.5] cycles a sample.")
        for field in ("n_train", "n_validation", "n_test"):
            require(getattr(self, field) >= 1, f"{field}={getattr(self, field)} must be at least 1.")
        if self.lag >= self.length:
            raise ImpossibleError(
                f"lag={self.lag} leaves nothing to predict in length={self.length}: choose a shorter lag."
            )
        if self.band < 1 / self.length:
            raise ImpossibleError(
                f"band={self.band} is below 1/length={1 / self.length:.3g}, the lowest frequency that fits "
                f"in length={self.length}: the signal would be zero."
            )

    @property
    def name(self) -> str:
        return "delay"

    @property
    def spec(self) -> Spec:
        return Spec(
            kind="regression",
            inputs=1,
            tokens=False,
            outputs=1,
            length=self.length,
            pooled=False,
            metric="nmse",
            chance=1.0,
        )

    def split(self, name: SplitName, seed: int, epoch: int = 0) -> Split:
        """The samples of a split; training samples are new for every seed and epoch."""
        sizes = {"train": self.n_train, "validation": self.n_validation, "test": self.n_test}
        return self.samples(name, seed, *counter.span(name, epoch, **sizes))

    def samples(self, name: SplitName, seed: int, start: int, count: int) -> Split:
        """Samples `start ... start + count - 1` of a split's stream, the same however they are batched."""
        bins = in_band(self.length, self.band)
        raw = counter.words(name, seed, "delay", start, count, 2 * bins)
        x = torch.from_numpy(white_signal(counter.normals(raw), self.length)).float()[:, :, None]
        return Split(x, delayed(x, self.lag))


def in_band(length: int, band: float) -> int:
    """How many rFFT bins k = 1, 2, ... have a frequency k / length of at most `band`."""
    return int(np.count_nonzero(np.fft.rfftfreq(length)[1:] <= band))


def white_signal(gaussians: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Periodic noise with a flat spectrum up to a band edge: (count, 2 K) normals -> (count, length).

    The K lowest bins after DC hold complex Gaussians of variance RMS^2, real and imaginary parts independent;
    DC, the imaginary part of the Nyquist bin, and every bin above are zero. Of n = length / 2 bins K are
    kept, so dividing by sqrt(K / n) keeps the variance at RMS^2 whatever the band. NumPy's inverse transform
    divides by length where unit variance asks for its root: hence the other factor. At last the first sample
    is subtracted, so that a signal starts at 0 like the state of a model.
    """
    kept, n = gaussians.shape[-1] // 2, length // 2
    spectrum = np.zeros((len(gaussians), n + 1), dtype=np.complex128)
    spectrum[:, 1 : kept + 1] = RMS * math.sqrt(0.5) * (gaussians[:, :kept] + 1j * gaussians[:, kept:])
    spectrum[:, n] = spectrum[:, n].real
    signal = np.fft.irfft(spectrum * math.sqrt(length / (kept / n)), n=length, axis=-1)
    return signal - signal[:, :1]


def delayed(x: Float[Tensor, "B L H"], lag: int) -> Float[Tensor, "B L H"]:
    """x[t - lag] along the length, zero where t < lag."""
    return torch.nn.functional.pad(x, (0, 0, lag, 0))[:, : x.shape[1]]
