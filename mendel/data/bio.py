"""From the tags of tokens to spans of characters, in every scheme that people write.

Prefixes are folded to four: B begins, I goes on, E ends, S is whole (L = E, U = S, M = I); a tag
without any is an I. One rule finds the spans of all schemes: a span begins where a tag is B or S,
where nothing is open before it, or where the type changes, as conlleval does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from mendel.data.cells import squeezed
from mendel.data.targets import Span

Scheme = Literal["BIO", "IOB1", "IO", "BIOES"]
PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}
BARE = "entity"  # type of a tag that is a prefix alone


class Tag(NamedTuple):
    prefix: str  # B I E S, or O outside of all spans
    type: str


OUTSIDE = Tag("O", "")


@lru_cache(maxsize=10_000)
def tag_of(tag: str) -> Tag:
    """The parts of one tag: B-person, I_person, L-person, B, person, O."""
    if tag in ("O", "o", ""):
        return OUTSIDE
    prefix = PREFIXES.get(tag[0])
    if prefix and len(tag) == 1:
        return Tag(prefix, BARE)
    if prefix and tag[1] in "-_" and len(tag) > 2:
        return Tag(prefix, squeezed(tag[2:]) or BARE)
    return Tag("I", squeezed(tag) or BARE)


def scheme_of(sentences: Iterable[Sequence[str]]) -> tuple[Scheme, int]:
    """The scheme that a file's tags are in, and how many of its steps break it.

    BIOES    some tag ends a span or is whole: BILOU and BMES have other letters for the same
    IO       no tag begins a span
    IOB1     B only where a span touches another of its type (CoNLL 2003 as it was published)
    BIO      every span begins with B
    """
    steps: Counter[tuple[str, str]] = Counter()
    for tags in sentences:
        steps.update(pairwise(["O", *tags, "O"]))
    found = [(tag_of(one), tag_of(other), n) for (one, other), n in steps.items()]
    scheme = _scheme([(one, other) for one, other, _ in found])
    return scheme, sum(n for one, other, n in found if _breaks(one, other, scheme))


def n_broken(tags: Sequence[str], scheme: Scheme) -> int:
    """Steps from one tag of a sentence to the next that its scheme does not allow."""
    steps = pairwise([OUTSIDE, *map(tag_of, tags), OUTSIDE])
    return sum(_breaks(one, other, scheme) for one, other in steps)


def spans_of_tags(tokens: Sequence[str], tags: Sequence[str]) -> list[Span]:
    """The spans of a sentence, in characters of its tokens joined by one space.

    source   conlleval's startOfChunk and endOfChunk (Tjong Kim Sang, Buchholz 2000)
    """
    if {*tags} <= {"O"}:  # most sentences of most texts
        return []
    spans: list[Span] = []
    at, before = 0, OUTSIDE
    for token, text in zip(tokens, tags, strict=True):
        tag, end = tag_of(text), at + len(token)
        if tag is not OUTSIDE:
            goes_on = tag.prefix in "IE" and before.prefix in "BI" and before.type == tag.type
            start = spans.pop().start if goes_on else at
            spans.append(Span(start, end, tag.type))
        at, before = end + 1, tag
    return spans


def _scheme(steps: Sequence[tuple[Tag, Tag]]) -> Scheme:
    prefixes = {tag.prefix for step in steps for tag in step}
    if prefixes & {"E", "S"}:
        return "BIOES"
    if "B" not in prefixes:
        return "IO"
    touches = all(one.type == other.type for one, other in steps if other.prefix == "B")
    return "IOB1" if touches else "BIO"


def _breaks(one: Tag, other: Tag, scheme: Scheme) -> bool:
    goes_on = other.prefix in "IE"
    if scheme == "BIOES":
        is_open = one.prefix in "BI"
        return is_open != goes_on or (is_open and one.type != other.type)
    if scheme == "BIO":
        return goes_on and one.type != other.type
    return False
