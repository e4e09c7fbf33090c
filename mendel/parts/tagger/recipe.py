"""One tagger as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from ..carried.fields import Fields
from .augment import WAYS
from .features import Config

FAMILIES = ("linear", "lstm", "cnn", "dual")


@dataclass(frozen=True)
class TagRecipe(Fields):
    """Every dial of a tagger; the defaults suit thousands of sentences.

    family          linear: a conditional random field over clues. lstm: a network that reads from
                    both ends. cnn: windows of 3 words, layers deep. dual: linear and lstm, each
                    trained by itself, their scores averaged
    dim             width of a word's vector
    width           of the layer(s) above it; of an lstm for each direction
    layers          of the cnn
    copies          networks of this shape, from different seeds, whose scores are averaged
    *_drop          share dropped in training: a word's own row, n-grams and affixes, everything
                    but the shape and the flags (hide), flags, components of vectors
    looks penalty   of the linear fit: times that it looks at all rows, price of a squared score
    share           of the linear part in a dual model
    n_clusters      of words by their neighbours in any text, at the finest level; 0 = none
    recall          cost of calling a token of a span "outside"; above 0 finds more, wrongly too
    augment amount  altered copies of the rows beside them: swap, fill or noise (see augment.py),
                    and so many of each row
    """

    of = "a tagger"

    family: str = "lstm"
    char_min: int = 3
    char_max: int = 4
    affix_max: int = 4
    min_df: int = 2
    max_rows: int = 24_000
    min_clue: int = 1
    max_clues: int = 30_000
    dim: int = 64
    width: int = 128
    layers: int = 3
    copies: int = 1
    epochs: int = 12
    batch: int = 64
    lr: float = 4e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    word_drop: float = 0.4
    gram_drop: float = 0.2
    hide_drop: float = 0.15
    flag_drop: float = 0.1
    vector_drop: float = 0.3
    hidden_drop: float = 0.5
    looks: int = 80
    penalty: float = 0.3
    share: float = 0.4
    n_clusters: int = 512
    recall: float = 0.0
    augment: str = ""
    amount: float = 1.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family={self.family!r}. Wanted one of {', '.join(FAMILIES)}.")
        if self.augment not in WAYS:
            wanted = ", ".join(way for way in WAYS if way)
            raise ValueError(f"augment={self.augment!r}. Wanted one of {wanted}, or nothing.")

    @property
    def has_clues(self) -> bool:
        return self.family in ("linear", "dual")

    @property
    def has_reader(self) -> bool:
        return self.family != "linear"

    @property
    def is_learned(self) -> bool:
        """Trained by gradient steps, and not to an optimum."""
        return self.has_reader

    @property
    def config(self) -> Config:
        config = Config(**{f.name: getattr(self, f.name) for f in fields(Config)})
        rows = config.max_rows if self.has_reader else 0
        return replace(config, max_rows=rows, max_clues=config.max_clues if self.has_clues else 0)

    @property
    def experts(self) -> dict[str, float]:
        """Parts that each say what the tags are, and their shares in what is said together."""
        if self.family == "linear":
            return {"linear": 1.0}
        linear = {"linear": self.share} if self.family == "dual" else {}
        each = (1 - sum(linear.values())) / self.copies
        return linear | {str(copy): each for copy in range(self.copies)}
