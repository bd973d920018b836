"""Real data without a download: the 1,797 handwritten digits of scikit-learn, read as sequences of 64 pixels.

The images are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, 1998;
CC BY 4.0), 8 x 8 pixels of 0..16. Read row by row a stroke falls apart into runs eight steps apart, so the
task asks for memory; there are no positions in the input.
"""

from dataclasses import dataclass
from functools import cache

import torch

from descriptions import one_of
from tasks.counter import SPLITS
from tasks.task import Spec, Split, SplitName


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Which digit is this? 8 x 8 pixels in row order, one channel, ten classes.

    Splits: 25 % test, then 15 % of what is left for validation (1,144 / 203 / 450), both stratified by class
    with seed 0. 15 % because validation only chooses an epoch and a learning rate: its standard error of
    about 2.5 points at 85 % is below the spread between seeds (some 4 points), while a larger share would
    take training images from a task that has few. The test split is the usual one, so its figures compare
    with others; all arms share its 450 images, hence most of its own error (1.7 points) cancels in
    differences between arms.

    Pixels are divided by 16, then standardised with the mean and deviation of the training split alone.
    """

    @property
    def name(self) -> str:
        return "digits"

    @property
    def spec(self) -> Spec:
        return Spec(
            kind="classification",
            inputs=1,
            tokens=False,
            outputs=10,
            length=64,
            pooled=True,
            metric="accuracy",
            chance=0.1,
        )

    def split(self, name: SplitName, seed: int, epoch: int = 0) -> Split:
        """The images of a split; a fixed data set, so neither `seed` nor `epoch` matters."""
        one_of("split", name, SPLITS)
        x, y = _splits()[name]
        return Split(x.clone(), y.clone())  # the cache must survive a caller who writes into a batch


@cache
def _splits() -> dict[SplitName, Split]:
    # Imported here: scikit-learn takes a second, which no other task should pay.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images, dtype=torch.float64)[:, :, None] / 16
    classes = torch.tensor(labels, dtype=torch.int64)
    kept, test = train_test_split(range(len(labels)), test_size=0.25, stratify=labels, random_state=0)
    train, validation = train_test_split(kept, test_size=0.15, stratify=labels[kept], random_state=0)
    pixels = ((pixels - pixels[train].mean()) / pixels[train].std()).float()
    rows: dict[SplitName, list[int]] = {"train": train, "validation": validation, "test": test}
    return {name: Split(pixels[which], classes[which]) for name, which in rows.items()}
