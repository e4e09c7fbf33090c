"""One tagger as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .features import Config

FAMILIES = ("linear", "lstm", "cnn", "dual")


@dataclass(frozen=True)
class TagRecipe:
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
    recall          cost of calling a token of a span "outside"; above 0 finds more, wrongly too
    """

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
    recall: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family={self.family!r}. Wanted one of {', '.join(FAMILIES)}.")

    @property
    def is_learned(self) -> bool:
        """As opposed to a floor: each of them could ship, and may be mutated."""
        return True

    @property
    def has_clues(self) -> bool:
        return self.family in ("linear", "dual")

    @property
    def has_reader(self) -> bool:
        return self.family != "linear"

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

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, and the family: short to read, and stable."""
        mine, default = asdict(self), asdict(TagRecipe())
        return {k: v for k, v in mine.items() if k == "family" or v != default[k]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TagRecipe:
        """Raises ValueError that names the nearest field where one is unknown."""
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
                raise ValueError(f"a tagger has no field {key!r}. {hint}")
        return cls(**data)
