"""Two texts, one label: the same or not, relevant or not. A pair is one text with a tab inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mendel.kinds.classify import Classify
from mendel.kinds.kind import Unlabeled


class Pair(Classify):
    name = "pair"
    answers = "one label for two texts"
    generates = False  # words of pairs, mixed, are no pair
    unlabeled: ClassVar[Unlabeled] = ""
    baselines: ClassVar[Mapping[str, str]] = {
        "TF-IDF of both, shared and not, + LinearSVC": "pair svc",
        "majority": "majority",
    }
