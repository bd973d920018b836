from collections import Counter

import torch
from sklearn.datasets import load_digits

from tasks import Digits, SplitName

NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


def test_the_splits_are_all_the_images_once() -> None:
    sizes = {name: len(Digits().split(name, 0).y) for name in NAMES}
    assert sizes == {"train": 1144, "validation": 203, "test": 450}
    assert sum(sizes.values()) == 1797


def test_every_sequence_is_the_image_with_its_label_read_row_by_row() -> None:
    bunch = load_digits()
    labels = {tuple(image.ravel()): int(label) for image, label in zip(bunch.images, bunch.target, strict=True)}
    assert len(labels) == 1797  # no two images are equal, so an image finds its label
    pixels = torch.cat([Digits().split(name, 0).x for name in NAMES])[:, :, 0].double()
    # The darkest and lightest pixel of all images are 0 and 16, which undoes the standardisation.
    low, high = pixels.min(), pixels.max()
    restored = ((pixels - low) / (high - low) * 16).round().tolist()
    expected = torch.cat([Digits().split(name, 0).y for name in NAMES]).tolist()
    assert [labels[tuple(row)] for row in restored] == expected


def test_the_training_split_is_standardised_and_the_others_by_its_numbers() -> None:
    x = {name: Digits().split(name, 0).x for name in NAMES}
    assert abs(float(x["train"].mean())) < 1e-6
    assert abs(float(x["train"].std()) - 1) < 1e-6
    assert float(x["test"].min()) == float(x["train"].min())
    assert float(x["test"].mean()) != 0


def test_every_class_has_its_share_of_every_split() -> None:
    for name in NAMES:
        y = Digits().split(name, 0).y
        counts = Counter(y.tolist())
        assert set(counts) == set(range(10))
        assert max(counts.values()) - min(counts.values()) <= 0.012 * len(y) + 2


def test_seed_and_epoch_do_not_matter_for_a_fixed_data_set() -> None:
    first, other = Digits().split("train", 0, 0), Digits().split("train", 5, 9)
    assert torch.equal(first.x, other.x)
    assert torch.equal(first.y, other.y)


def test_writing_into_a_split_does_not_change_the_next_one() -> None:
    Digits().split("test", 0).x.zero_()
    assert float(Digits().split("test", 0).x.abs().sum()) > 0
