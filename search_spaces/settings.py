"""Tasks with their settings, and models with their training, that several studies share."""

from search_spaces.study import On, Recipe
from search_spaces.training import Training
from ssm_models import ModelConfig, Structure
from tasks import Copying, Delay

#: One linear layer without anything beside it, as in the paper that introduced delay: what is left is the kernel.
BARE = {
    "model.depth": 1,
    "model.width": 4,
    "model.norm": "none",
    "model.activation": "none",
    "model.gate": "none",
    "model.residual": False,
}

#: Seconds a trial on one core.
SMALL_COPYING = On(Copying(blanks=64, memorize=6), {"training.epochs": 6, "training.batch_size": 32})
SMALL_DELAY = On(
    Delay(length=512, lag=128), {**BARE, "training.epochs": 12, "training.batch_size": 32, "training.lr": 1e-2}
)

#: The published sizes: 1,024 tokens to say again; a lag of 1,000 in 4,000 samples.
PAPER_COPYING = On(
    Copying(blanks=1024, memorize=1024, alphabet=64, n_train=10_000, n_validation=1000, n_test=1000),
    {"training.batch_size": 8},
)
PAPER_DELAY = On(
    Delay(length=4000, lag=1000, n_train=16_384, n_validation=1024, n_test=1024),
    {**BARE, "training.epochs": 20, "training.batch_size": 64, "training.lr": 1e-3},
)


def small(structure: Structure) -> Recipe:
    """A model of two blocks that trains on a CPU in seconds."""
    return Recipe(
        model=ModelConfig(structure=structure, depth=2, width=32),
        training=Training(epochs=15, batch_size=64, lr=4e-3),
    )


def s4d_ablation(structure: Structure) -> Recipe:
    """The ablation model of the S4D paper (arXiv:2206.11893): 4 layers of H = 128, no GLU, post-norm."""
    return Recipe(
        model=ModelConfig(structure=structure, gate="linear", norm="post-layer", dropout=0.1),
        training=Training(epochs=100, batch_size=50, lr=1e-2, warmup=0.01),
    )
