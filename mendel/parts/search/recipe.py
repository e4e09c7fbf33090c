"""One search model as plain numbers: what it is, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from ..carried.fields import Fields

FAMILIES = ("words", "grams", "hybrid")


@dataclass(frozen=True)
class SearchRecipe(Fields):
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

    of = "a search model"

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
