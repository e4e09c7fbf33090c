"""What sets two recipes apart, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mendel.parts.part import NAMED, Kind, resolve
from mendel.propose.spelling import canonical, once_a_part, trained, whole
from mendel.spec import PartSpec, Recipe


def difference(before: Recipe, after: Recipe) -> list[str]:
    """One line a field, the model's first: "mixers.0.erase: none -> delta"."""
    a, b = canonical(before), canonical(after)
    mine, its = a.model.to_dict(), b.model.to_dict()
    found = []
    for name in [*mine, *(name for name in its if name not in mine)]:
        if name in ("mixers", "channels"):
            found += _patterns(name, getattr(a.model, name), getattr(b.model, name))
        elif mine.get(name) != its.get(name):
            found.append(_line(name, mine.get(name), its.get(name)))
    mine, its = trained(a.train), trained(b.train)
    return found + [_line(f"train.{n}", mine[n], its[n]) for n in mine if mine[n] != its[n]]


def _patterns(where: str, before: Sequence[PartSpec], after: Sequence[PartSpec]) -> list[str]:
    kind: Kind = "mixer" if where == "mixers" else "channel"
    if len(before) != len(after):
        mine, its = (", ".join(called(kind, part) for part in each) for each in (before, after))
        return [f"{where}: [{mine}] -> [{its}]"]
    found = []
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        if a.part != b.part:
            found.append(_line(f"{where}.{i}", called(kind, a), called(kind, b)))
            continue
        old, new = whole(kind, a), whole(kind, b)
        for field in [*old, *(name for name in new if name not in old)]:
            if old.get(field) != new.get(field):
                found.append(_line(f"{where}.{i}.{field}", old.get(field), new.get(field)))
    return found


@once_a_part
def called(kind: Kind, spec: PartSpec) -> str:
    """A part by its nearest name of the literature: "gated_delta_net(conv=0)"."""
    cls, mine = resolve(kind, spec)[0], whole(kind, spec)
    best: list[str] | None = None
    name = cls.name
    for known in (cls.name, *NAMED[kind]):
        if resolve(kind, PartSpec(part=known))[0] is not cls:
            continue
        its = whole(kind, PartSpec(part=known))
        names = sorted(f for f in mine.keys() | its.keys() if mine.get(f) != its.get(f))
        apart = [f"{f}={_word(mine.get(f))}" for f in names]
        if best is None or len(apart) < len(best):
            best, name = apart, known
    return f"{name}({', '.join(best)})" if best else name


def _line(path: str, before: Any, after: Any) -> str:
    return f"{path}: {_word(before)} -> {_word(after)}"


def _word(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
