"""Rows that nearly repeat a row on another side of the split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from mendel.data.check.classes import TRAIN
from mendel.data.check.report import N_EXAMPLES, N_ROWS, Example, Finding, example, finding
from mendel.data.check.rows import Row

MAX_COMPARED = 100  # rows of a group among which the nearest is looked for


def straddling(rows: Sequence[Row], groups: Sequence[int]) -> list[Finding]:
    """Near-duplicates in two parts; where one part is named train, the others' rows count.

    groups   of each row, by near_duplicate_groups
    """
    members: dict[int, list[Row]] = defaultdict(list)
    for row, group in zip(rows, groups, strict=True):
        members[group].append(row)
    split = {g: m for g, m in members.items() if len({row.part for row in m}) > 1}
    asked = [row.part.casefold() not in TRAIN for row in rows]
    pairs = zip(rows, groups, asked, strict=True)
    found = [(row, split[group]) for row, group, ask in pairs if ask and group in split]
    if not found:
        return []
    what = (
        f"of {sum(asked):,} rows to test on nearly repeat a row of another part of the split "
        "(four fifths of the character trigrams are the same)"
    )
    examples = [_nearest(row, group) for row, group in found[:N_EXAMPLES]]
    numbers = [row.number for row, _ in found[:N_ROWS]]
    return [finding("near-duplicate", what, len(found), numbers, examples)]


def _nearest(row: Row, group: Sequence[Row]) -> Example:
    from mendel.data.splits import jaccard, normalise, shingles

    mine = shingles(normalise(row.text))
    others = [other for other in group if other.part != row.part][:MAX_COMPARED]
    near = max(others, key=lambda other: jaccard(mine, shingles(normalise(other.text))))
    return example(
        row.number, row.text, part=row.part, near_row=near.number, near_part=near.part,
        near_text=near.text,
    )  # fmt: skip
