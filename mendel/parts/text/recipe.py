"""One text model as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..carried.fields import Fields
from .features import Config

FAMILIES = ("keywords", "linear", "bag", "cnn", "dual")


@dataclass(frozen=True)
class Recipe(Fields):
    """Every dial of a text model; the defaults suit thousands of short texts.

    family          keywords: label names only. linear: TF-IDF and a linear SVM. bag: a sum of
                    learned vectors and a small net. cnn: convolutions over words made of
                    character n-grams. dual: bag + cnn, trained together, logits added
    dim bag_dim     width of a learned vector, of words and of the bag
    channels        convolution channels for each width 1 .. max_width (words)
    hidden          units between bag and logits; 0 = none
    copies          networks of this shape, from different seeds, whose logits are averaged
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
    hidden: int = 256
    copies: int = 1
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
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep}. Wanted above 0, at most 1.")

    @property
    def has_cnn(self) -> bool:
        return self.family in ("cnn", "dual")

    @property
    def has_bag(self) -> bool:
        return self.family != "cnn"

    @property
    def is_learned(self) -> bool:
        """Trained by gradient steps, so that it needs torch."""
        return self.family in ("bag", "cnn", "dual")

    @property
    def config(self) -> Config:
        return Config(**{f.name: getattr(self, f.name) for f in fields(Config)})
