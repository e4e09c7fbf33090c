"""One text model as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..carried.fields import Fields
from .features import Config

FAMILIES = ("keywords", "linear", "bag", "cnn", "mixer", "dual", "dual-mixer")
MIXINGS = ("attention", "decay")
HEAD = 16  # width of a head of a mixer
EPS = 1e-5  # beneath the root by which a mixer brings vectors to unit mean square
FAR = -1e4  # added to the score of a word that is not there


@dataclass(frozen=True)
class Recipe(Fields):
    """Every dial of a text model; the defaults suit thousands of short texts.

    family          keywords: label names only. linear: TF-IDF and a linear SVM. bag: a sum of
                    learned vectors and a small net. cnn: convolutions over words made of
                    character n-grams. mixer: the same, but words first take from one another.
                    dual: bag + cnn, trained together, logits added. dual-mixer: bag + mixer
    dim bag_dim     width of a learned vector, of words and of the bag
    channels        convolution channels for each width 1 .. max_width (words)
    mixing layers   how a mixer's words take from one another (see network.py), how many times
    hidden          units between bag and logits; 0 = none
    copies          networks of this shape, from different seeds, whose logits are averaged
    teachers        networks of this shape whose answers on the rows are learned instead of the
                    labels; they do not ship; 0 = none. See student.py
    pair            1: a text is two with a tab between them
    *_drop          share dropped in training: n-grams of a word, whole-word rows, features of
                    the bag, components of word vectors, the pooled vector, hidden units
    aux             weight of each branch's own loss beside that of the sum
    c               inverse regularisation of the linear SVM
    keep            share of the n-grams that stay after training; see prune.py
    """

    of = "a text model"

    family: str = "dual"
    char_min: int = 2
    char_max: int = 5
    phrase_max: int = 2
    min_df: int = 2
    phrase_min_df: int = 2
    max_rows: int = 200_000
    max_words: int = 64
    pair: int = 0
    dim: int = 64
    bag_dim: int = 48
    channels: int = 128
    max_width: int = 3
    mixing: str = "attention"
    layers: int = 1
    hidden: int = 256
    copies: int = 1
    teachers: int = 0
    epochs: int = 15
    batch: int = 128
    lr: float = 4e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    aux: float = 0.3
    gram_drop: float = 0.2
    word_drop: float = 0.1
    bag_drop: float = 0.5
    vector_drop: float = 0.1
    pooled_drop: float = 0.5
    hidden_drop: float = 0.5
    c: float = 0.5
    keep: float = 1.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family={self.family!r}. Wanted one of {', '.join(FAMILIES)}.")
        if self.mixing not in MIXINGS:
            raise ValueError(f"mixing={self.mixing!r}. Wanted one of {', '.join(MIXINGS)}.")
        if self.layers < 1:
            raise ValueError(f"layers={self.layers}. Wanted 1 or more. Without: family cnn, dual.")
        if self.teachers < 0:
            raise ValueError(f"teachers={self.teachers}. Wanted 0 or more.")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep}. Wanted above 0, at most 1.")

    @property
    def has_cnn(self) -> bool:
        return self.family in ("cnn", "mixer", "dual", "dual-mixer")

    @property
    def has_bag(self) -> bool:
        return self.family not in ("cnn", "mixer")

    @property
    def n_mixed(self) -> int:
        """Layers in which words take from one another, before they are convolved."""
        return self.layers if self.family in ("mixer", "dual-mixer") else 0

    @property
    def n_heads(self) -> int:
        return max(1, self.dim // HEAD)

    @property
    def is_learned(self) -> bool:
        """Trained by gradient steps, so that it needs torch."""
        return self.family not in ("keywords", "linear")

    @property
    def config(self) -> Config:
        return Config(**{f.name: getattr(self, f.name) for f in fields(Config)})
