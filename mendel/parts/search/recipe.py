"""One search model as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

FAMILIES = ("words", "grams", "hybrid")


@dataclass(frozen=True)
class SearchRecipe:
    """Every dial of a search model.

    family       words: BM25. grams: BM25 of words and of character n-grams. hybrid: grams, and the
                 cosine of learned vectors beside them
    k1 b         of BM25
    n gram_share length of the n-grams that BM25 counts, and their share of its score
    char_*       lengths of the n-grams that vectors are made of
    min_df       passages and queries that a feature must occur in to get a vector
    max_rows     features that get one, the most frequent first
    dim          width of a vector
    heat         temperature of the softmax over the passages of a batch
    crops        pieces of passages that are learned from beside each query, as a share
    drop passage_drop   share of features of a query, of a passage that training does not see
    """

    family: str = "hybrid"
    k1: float = 1.2
    b: float = 0.75
    n: int = 4
    gram_share: float = 0.5
    char_min: int = 3
    char_max: int = 5
    min_df: int = 2
    max_rows: int = 40_000
    dim: int = 128
    epochs: int = 10
    batch: int = 128
    lr: float = 1e-3
    heat: float = 0.05
    crops: float = 1.0
    drop: float = 0.4
    passage_drop: float = 0.6

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family={self.family!r}. Wanted one of {', '.join(FAMILIES)}.")

    @property
    def is_learned(self) -> bool:
        """Trained by gradient steps, so that it needs torch."""
        return self.family == "hybrid"

    @property
    def counts_grams(self) -> bool:
        return self.family != "words"

    def to_dict(self) -> dict[str, Any]:
        """What differs from the defaults, and the family: short to read, and stable."""
        mine, default = asdict(self), asdict(SearchRecipe())
        return {k: v for k, v in mine.items() if k == "family" or v != default[k]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SearchRecipe:
        """Raises ValueError that names the nearest field where one is unknown."""
        known = [field.name for field in fields(cls)]
        for name in data:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
                raise ValueError(f"a search model has no field {name!r}. {hint}")
        return cls(**data)
