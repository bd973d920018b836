"""Counter-based random numbers: sample `i` of a split is a function of (seed, stream, split, i) alone.

So any worker can make any sample, in any order and any batch size, and gets the same numbers. The generator
is Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a keyed permutation
of a 256-bit counter. The key comes from the names, the counter from the index, so no state is carried and
none is global.
"""

import math

import numpy as np
from numpy.typing import NDArray

from descriptions import one_of, seed_for
from tasks.task import SplitName

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_WORDS_A_BLOCK = 4  # Philox turns one counter value into four 64-bit words


def span(name: SplitName, epoch: int, *, train: int, validation: int, test: int) -> tuple[int, int]:
    """`(start, count)` of a generated split's indices: training moves on by `train` samples every epoch."""
    one_of("split", name, SPLITS)
    sizes = {"train": train, "validation": validation, "test": test}
    return (epoch * train if name == "train" else 0), sizes[name]


def words(name: SplitName, seed: int, stream: str, start: int, count: int, width: int) -> NDArray[np.uint64]:
    """`width` independent 64-bit words for each of the samples `start ... start + count - 1`, (count, width).

    `stream` names the purpose. The seed is used by the training split only, so that every trial is scored on
    the same validation and test samples.
    """
    one_of("split", name, SPLITS)
    blocks = -(-width // _WORDS_A_BLOCK)  # whole blocks for each sample, so that samples never share one
    key = seed_for(seed if name == "train" else 0, stream, name)
    generator = np.random.Philox(key=key, counter=start * blocks)
    raw = generator.random_raw(count * blocks * _WORDS_A_BLOCK).reshape(count, blocks * _WORDS_A_BLOCK)
    return np.ascontiguousarray(raw[:, :width])


def uniforms(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Uniform on [0, 1) in steps of 2^-53, one a word."""
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(raw: NDArray[np.uint64], low: int, high: int) -> NDArray[np.int64]:
    """Uniform on low ... high - 1, one a word: floor(u (high - low)) with u the upper 32 bits / 2^32.

    The probabilities differ from equal by less than 2^-32 each; `high - low` must not exceed 2^32.
    """
    scaled = (raw >> np.uint64(32)) * np.uint64(high - low) >> np.uint64(32)
    return scaled.astype(np.int64) + low


def normals(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Standard normals, one a word (an even number): Box-Muller, r cos t and r sin t with r^2 = -2 ln u."""
    half = raw.shape[-1] // 2
    # 1 - u lies in (0, 1], so the logarithm is finite.
    radius = np.sqrt(-2.0 * np.log(1.0 - uniforms(raw[..., :half])))
    angle = 2.0 * math.pi * uniforms(raw[..., half:])
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
