"""Two arms compared seed by seed: the effect, its interval, p, and the number of seeds that a claim needs.

Letters: d the differences arm - baseline over the n seeds that both have, s their standard deviation (n - 1),
m the arms that are compared at once. Student's paired t; Holm (1979); the exact sign-flip test (Fisher 1935),
which like Wilcoxon's assumes no distribution, and therefore cannot go below p = 2 / 2^n.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

NAN = math.nan
POWER = 0.8  # the chance of a find that `seeds_needed` plans for
MOST_SEEDS = 10_000  # `seeds_needed` gives up above it: nobody will run them
ROUNDING = 1e-12  # scores that differ by less than this fraction of their size are the same score


@dataclass(frozen=True)
class Comparison:
    """An arm against the baseline. What n cannot give is NaN."""

    pairs: int = 0  # n
    effect: float = NAN  # mean(d)
    low: float = NAN
    high: float = NAN
    spread: float = NAN  # s
    p: float = NAN


def compare(arm: dict[int, float], baseline: dict[int, float], confidence: float) -> Comparison:
    """Compare two arms, each a score by seed, on the seeds that they share.

    t = mean(d) / (s / sqrt(n)) with n - 1 degrees of freedom; mean(d) +- t_{(1 + confidence)/2} s / sqrt(n).
    Where all d are equal, s = 0 says nothing about the spread: there is no interval, and p is the exact
    sign-flip test's, 1 for no difference at all and 2 / 2^n otherwise.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    n = len(seeds)
    if n == 0:
        return Comparison()
    x, y = np.array([arm[seed] for seed in seeds]), np.array([baseline[seed] for seed in seeds])
    d = x - y
    rounding = ROUNDING * max(np.abs(x).max(), np.abs(y).max())
    effect = 0.0 if np.abs(d).max() <= rounding else float(d.mean())
    if n == 1:
        return Comparison(n, effect)
    if np.ptp(d) <= rounding:
        return Comparison(n, effect, spread=0.0, p=sign_flip_floor(n) if effect else 1.0)
    test = stats.ttest_rel(x, y)
    low, high = test.confidence_interval(confidence)
    return Comparison(n, effect, float(low), float(high), float(d.std(ddof=1)), float(test.pvalue))


def holm(p: dict[str, float]) -> dict[str, float]:
    """Holm's adjusted p over the m arms that have one: max over j <= i of (m - j + 1) p_(j), at most 1.

    statsmodels' multipletests is the same, but collects garbage in every call: 0.15 s a task.
    """
    known = sorted((value, arm) for arm, value in p.items() if not math.isnan(value))
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, (value, arm) in enumerate(known):
        highest = max(highest, (len(known) - rank) * value)
        adjusted[arm] = min(1.0, highest)
    return adjusted


def mean_interval(values: list[float], confidence: float) -> tuple[float, float, float, float]:
    """Mean, sd and the ends of mean +- t_{(1 + confidence)/2} sd / sqrt(n).

    No interval for one value, nor for n equal ones: they do not show the spread.
    """
    n = len(values)
    if n == 0:
        return NAN, NAN, NAN, NAN
    array = np.array(values)
    mean = float(array.mean())
    if n == 1:
        return mean, NAN, NAN, NAN
    if np.ptp(array) <= ROUNDING * np.abs(array).max():
        return mean, 0.0, NAN, NAN
    sd = float(array.std(ddof=1))
    half = _t((1 + confidence) / 2, n) * sd / math.sqrt(n)
    return mean, sd, mean - half, mean + half


def sign_flip_floor(n: int) -> float:
    """The smallest p that a two-sided test of n pairs can have without assuming a distribution: 2 / 2^n."""
    return 2.0 ** (1 - n)


def seeds_for_sign_flip(m: int, alpha: float) -> int:
    """The fewest seeds that let a distribution-free p be below alpha after Holm over m: m 2 / 2^n < alpha."""
    n = 2
    while m * sign_flip_floor(n) >= alpha:
        n += 1
    return n


def seeds_needed(effect: float, spread: float, alpha: float) -> int | None:
    """The fewest seeds with which a paired t test at level alpha finds `effect` with 80 % power, given s.

    Power is P(T > t_{1 - alpha/2}), T noncentral t with n - 1 degrees of freedom and noncentrality
    |effect| / s sqrt(n). statsmodels' TTestPower is the same, but NaN for some large effects (5 s at n = 3).
    None where no number of seeds up to 10,000 does, or where s is unknown.
    """
    if not spread > 0 or effect == 0:
        return None
    size = abs(effect) / spread

    def power(n: int) -> float:
        return float(stats.nct.sf(_t(1 - alpha / 2, n), n - 1, size * math.sqrt(n)))

    z = special.ndtri(1 - alpha / 2)
    guess = ((z + special.ndtri(POWER)) / size) ** 2 + z**2 / 2  # normal n, and what t costs: a step off at most
    if guess > MOST_SEEDS:
        return None
    n = max(2, round(guess))
    while power(n) < POWER:
        n += 1
    while n > 2 and power(n - 1) >= POWER:
        n -= 1
    return n if n <= MOST_SEEDS else None


def detectable(n: int, spread: float, alpha: float) -> float:
    """t_{1 - alpha/2} s / sqrt(n): with this n and s, no smaller |effect| is significant at level alpha."""
    if not spread > 0:
        return NAN
    return _t(1 - alpha / 2, n) * spread / math.sqrt(n)


def _t(probability: float, n: int) -> float:
    """Quantile of Student's t with n - 1 degrees of freedom; scipy.stats.t.ppf is a hundred times slower."""
    return float(special.stdtrit(n - 1, probability))
