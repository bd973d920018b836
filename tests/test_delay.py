from dataclasses import replace

import numpy as np
import pytest
import torch

from descriptions import ImpossibleError, MistakeError
from tasks import Delay, counter
from tasks.delay import in_band, white_signal

SMALL = Delay(length=64, lag=10, band=0.2, n_train=6, n_validation=4, n_test=5)


def signals(count: int, length: int = 512, band: float = 0.1) -> np.ndarray:
    raw = counter.words("train", 0, "delay", 0, count, 2 * in_band(length, band))
    return white_signal(counter.normals(raw), length)


def test_the_target_is_the_input_lag_steps_late() -> None:
    x, y = SMALL.split("train", 0)
    for i in range(6):
        for t in range(64):
            assert y[i, t, 0] == (x[i, t - 10, 0] if t >= 10 else 0)


def test_without_lag_the_target_is_the_input() -> None:
    x, y = replace(SMALL, lag=0).split("test", 0)
    assert torch.equal(x, y)


@pytest.mark.parametrize(("length", "band"), [(512, 0.1), (64, 0.2), (64, 0.5), (64, 1 / 64)])
def test_the_spectrum_is_flat_up_to_the_band_and_empty_above(length: int, band: float) -> None:
    spectrum = np.abs(np.fft.rfft(signals(4000, length, band))) ** 2
    frequencies = np.fft.rfftfreq(length)
    inside = (frequencies > 0) & (frequencies <= band)
    assert spectrum[:, frequencies > band].max(initial=0) < 1e-20 * spectrum.max()
    power = spectrum[:, inside].mean(axis=0)
    power = power[:-1] if band == 0.5 else power  # the Nyquist bin is real: half the power
    assert power.max() / power.min() < 1.25  # 4000 exponentials have a mean within 1.6 %


@pytest.mark.parametrize("band", [0.05, 0.1, 0.3])
def test_the_variance_is_a_quarter_whatever_the_band(band: float) -> None:
    made = signals(2000, 512, band)
    centred = made - made.mean(axis=1, keepdims=True)  # without DC, this undoes subtracting the first sample
    assert (centred**2).mean() == pytest.approx(0.25, rel=0.02)


def test_the_signal_is_the_sum_of_cosines_it_stands_for() -> None:
    gaussians = counter.normals(counter.words("train", 0, "delay", 0, 1, 6))
    t = np.arange(16)
    # x[t] = rms / sqrt(K) sum_k (a_k cos(2 pi k t / L) - b_k sin(2 pi k t / L)), a and b standard normals.
    terms = [
        gaussians[0, k - 1] * np.cos(2 * np.pi * k * t / 16) - gaussians[0, k + 2] * np.sin(2 * np.pi * k * t / 16)
        for k in (1, 2, 3)
    ]
    expected = 0.5 / np.sqrt(3) * np.sum(terms, axis=0)
    np.testing.assert_allclose(white_signal(gaussians, 16)[0], expected - expected[0], atol=1e-12)


def test_every_signal_starts_at_zero() -> None:
    assert not Delay(n_train=20).split("train", 0).x[:, 0].any()


def test_delays_of_one_length_and_band_hear_the_same_signals() -> None:
    assert torch.equal(SMALL.split("train", 3).x, replace(SMALL, lag=20).split("train", 3).x)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("length", 65, "length=65 must be an even number"),
        ("length", 2, "length=2 must be an even number"),
        ("length", 64.0, "length=64.0 is a float"),
        ("lag", -1, "lag=-1 must not be negative"),
        ("band", 0.0, "band=0.0 must lie in"),
        ("band", 0.51, "band=0.51 must lie in"),
        ("band", float("nan"), "band=nan must lie in"),
        ("n_train", 0, "n_train=0 must be at least 1"),
        ("n_validation", 0, "n_validation=0 must be at least 1"),
        ("n_test", True, "n_test=True is a bool"),
    ],
)
def test_a_wrong_value_is_a_mistake(field: str, value: object, sentence: str) -> None:
    with pytest.raises(MistakeError, match=sentence):
        replace(SMALL, **{field: value})


def test_values_that_conflict_are_impossible() -> None:
    with pytest.raises(ImpossibleError, match="lag=64 leaves nothing"):
        replace(SMALL, lag=64)
    with pytest.raises(ImpossibleError, match="the signal would be zero"):
        replace(SMALL, band=0.015)
