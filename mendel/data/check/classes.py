"""Findings in the names of the classes and in how many rows each has."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from mendel.data.check.report import N_ROWS, Finding, finding, shown
from mendel.data.check.rows import Row

FEW = 5  # rows that a class should have at least
FAR = 20  # times that the largest class may be the smallest
N_NAMES = 5
TRAIN = ("train", "training")


def spelling(rows: Sequence[Row]) -> list[Finding]:
    """Labels that differ only by case, white space or underscores."""
    counts = Counter(row.label for row in rows)
    spellings = defaultdict(list)
    for label, _ in counts.most_common():
        spellings["".join(label.casefold().replace("_", " ").split())].append(label)
    several = [same for same in spellings.values() if len(same) > 1]
    rare = {label for same in several for label in same[1:]}
    found = [row.number for row in rows if row.label in rare]
    if not found:
        return []
    named = "; ".join(" = ".join(map(_quoted, same)) for same in several[:N_NAMES])
    what = f"labels that differ only by case or white space: {named}{_more(several)}"
    return [finding("label-spelling", what, len(found), found[:N_ROWS])]


def sizes(rows: Sequence[Row]) -> list[Finding]:
    """Classes with few rows, and a largest class far above the smallest."""
    counts = Counter(row.label for row in rows)
    [(largest, most), *_, (smallest, least)] = counts.most_common()
    small = [label for label, n in counts.items() if n < FEW]
    found = []
    if small:
        named = ", ".join(f"{_quoted(label)} {counts[label]}" for label in small[:N_NAMES])
        numbers = [row.number for row in rows if row.label in set(small)]
        what = f"classes under {FEW} rows: {named}{_more(small)}"
        found.append(finding("small-class", what, len(small), numbers[:N_ROWS]))
    if most > FAR * least:
        what = (
            f"{_quoted(largest)} has {most:,} rows and {_quoted(smallest)} {least:,}: more than "
            f"{FAR} times as many"
        )
        found.append(finding("imbalance", what, most // least))
    return found


def unseen(rows: Sequence[Row]) -> list[Finding]:
    """Labels of other parts that the part named train does not have."""
    known = {row.label for row in rows if row.part.casefold() in TRAIN}
    strange = [row for row in rows if row.label not in known] if known else []
    if not strange:
        return []
    names = list(dict.fromkeys(row.label for row in strange))
    named = ", ".join(map(_quoted, names[:N_NAMES]))
    what = f"rows to test on whose label training does not have: {named}{_more(names)}"
    numbers = [row.number for row in strange[:N_ROWS]]
    return [finding("unseen-label", what, len(strange), numbers)]


def _quoted(label: str) -> str:
    return repr(shown(label))


def _more(names: Sequence[object]) -> str:
    return f" and {len(names) - N_NAMES} more" * (len(names) > N_NAMES)
