"""Which change of a promoted design carries its gain: each put back alone, and measured.

promoted, the design before --ablations--> candidates --trials--> turns --carried_by--> fields
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mendel.propose.matching import Caps, matched
from mendel.propose.recipes import made_by
from mendel.propose.settings import FOLLOWS, OF_MODEL, Value, layers, whole
from mendel.propose.spelling import SET_BY_TRIALS, canonical, key
from mendel.spec import PartSpec, Recipe
from mendel.types import Candidate, InputError, Kind, Turn

LINK = "ablation"  # a link "ablation:FIELD" for each field that was put back
LOSS = 0.05  # one-sided level at which an ablation is worse than what it was taken from
WHOLE = ("norm", "embedding")
PATTERNS = ("mixers", "channels")


def ablations(promoted: Turn, before: Recipe, caps: Caps) -> list[Candidate]:
    """Each field that the promoted design changed, put back alone, as wide as fits beneath caps.

    Where a field cannot go back alone, another goes with it. With a single change there is nothing
    to ablate: to put it back is the design before.
    """
    after, before = (canonical(r) for r in (Recipe.parse(dict(promoted.candidate.state)), before))
    fields = changed(after, before)
    seen = {key(after), key(before), *(key(m) for r in (after, before) if (m := matched(r, caps)))}
    found: list[Candidate] = []
    for field in fields:
        group, made = _first_valid(after, before, field, fields, caps)
        if made is not None and key(made) not in seen:
            seen.add(key(made))
            found.append(_candidate(promoted, made, group, before))
    return found


def _first_valid(
    after: Recipe, before: Recipe, field: str, fields: Sequence[str], caps: Caps
) -> tuple[tuple[str, ...], Recipe | None]:
    """The field put back with as few others as make a recipe; None where none does, or fits."""
    for group in _groups(field, fields):
        try:
            return group, _put_back(after, before, group, caps)
        except InputError:
            continue  # fields that do not go together
    return (), None


def changed(after: Recipe, before: Recipe) -> list[str]:
    """Fields that differ, without the layer; what follows from matched cost is none."""
    a, b = after.model, before.model
    found = [field for field in (*OF_MODEL, *WHOLE) if getattr(a, field) != getattr(b, field)]
    for owner in PATTERNS:
        found += _changed_in(owner, after, before)
    fields = [field for field in type(after.train).model_fields if field not in SET_BY_TRIALS]
    differ = [f for f in fields if getattr(after.train, f) != getattr(before.train, f)]
    return found + [f"train.{field}" for field in differ]


def _changed_in(owner: str, after: Recipe, before: Recipe) -> list[str]:
    """mixers.part where a layer has another part, and each field of layers that have the same."""
    if not (layers(after, owner) and layers(before, owner)):
        return [owner] if layers(after, owner) != layers(before, owner) else []
    found: dict[str, None] = {}
    for mine, its in _side_by_side(owner, after, before):
        a, b = whole(owner, mine), whole(owner, its)
        names = ["part"] if a["part"] != b["part"] else [name for name in a if a[name] != b[name]]
        found.update({f"{owner}.{name}": None for name in names})
    return list(found)


def _side_by_side(
    owner: str, after: Recipe, before: Recipe
) -> Iterator[tuple[PartSpec, PartSpec]]:  # fmt: skip
    """The part of each layer of `after`, and what the pattern before has there."""
    mine, pattern = layers(after, owner), getattr(before.model, owner)
    return ((part, pattern[i % len(pattern)]) for i, part in enumerate(mine))


def _groups(field: str, fields: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The field alone, then with one other, with two; never with all: that is the design before."""
    others = [other for other in fields if other != field]
    for n in range(min(3, len(others))):
        yield from ((field, *more) for more in combinations(others, n))


def _put_back(
    after: Recipe, before: Recipe, fields: Sequence[str], caps: Caps
) -> Recipe | None:  # fmt: skip
    """None where nothing fits; raises SpecError where the fields do not go together."""
    model, train = after.model.to_dict(), after.train.to_dict()
    for field in fields:
        owner, _, name = field.partition(".")
        if owner == "train":
            _set(train, name, getattr(before.train, name))
        elif owner not in PATTERNS:
            _set(model, owner, getattr(before.model, owner))
        else:
            names = [one.partition(".")[2] for one in fields if one.partition(".")[0] == owner]
            model[owner] = _pattern(owner, after, before, names)
    return matched(canonical(Recipe.parse({"model": model, "train": train})), caps)


def _set(table: dict[str, Any], field: str, value: Any) -> None:
    """A spec leaves out what is None."""
    table.pop(field, None)
    if value is not None:
        table[field] = value.model_dump(mode="json") if isinstance(value, PartSpec) else value


def _pattern(owner: str, after: Recipe, before: Recipe, names: Sequence[str]) -> list[Any]:
    """The layers' parts with these fields as they were."""
    if "" in names:  # all of them: one of the two has none
        return [part.model_dump(mode="json") for part in getattr(before.model, owner)]
    found = []
    for mine, its in _side_by_side(owner, after, before):
        a, b = whole(owner, mine), whole(owner, its)
        part = mine
        if a["part"] != b["part"]:
            part = its if "part" in names else mine
        else:
            back = {name: its.fields.get(name) for name in names if name in b}
            fields = {name: v for name, v in {**mine.fields, **back}.items() if v is not None}
            part = PartSpec(part=mine.part, fields=fields)
        dropped = {name: v for name, v in part.fields.items() if name not in FOLLOWS}
        found.append(PartSpec(part=part.part, fields=dropped).model_dump(mode="json"))
    return found


def _candidate(
    promoted: Turn, made: Recipe, fields: Sequence[str], before: Recipe
) -> Candidate:  # fmt: skip
    back = " and ".join(f"{field} back to {_was(before, field)}" for field in fields)
    words = f"ablate: {back}, all else as in turn {promoted.id}: does it carry the gain?"
    links = (made_by("ablate"), f"turn:{promoted.id}", *(f"{LINK}:{field}" for field in fields))
    return Candidate(made.to_dict(), words, links)


def _was(before: Recipe, field: str) -> str:
    """The value or values before, in words."""
    owner, _, name = field.partition(".")
    if owner not in PATTERNS:
        was = getattr(before.train, name) if owner == "train" else getattr(before.model, owner)
        return was.part if isinstance(was, PartSpec) else str(was)
    values: dict[Value, None] = {}
    for part in layers(before, owner):
        values.setdefault(whole(owner, part).get(name or "part"))
    return " and ".join(str(value) for value in values) or "none"


@dataclass(frozen=True)
class Carried:
    """What of a promoted design carries its gain, as far as its ablations tell.

    n_back   changes that were put back and measured beside it
    """

    turn: int
    fields: tuple[str, ...]
    n_back: int

    @property
    def words(self) -> str:
        if not self.fields:
            return f"Turn {self.turn}: none of {self.n_back} changes put back alone makes it worse."
        what = ", ".join(self.fields)
        tested = f"{self.n_back} changes put back" if self.n_back else "its only change"
        return f"Turn {self.turn}: its gain is carried by {what} ({tested})."


def carried(turns: Sequence[Turn]) -> Iterator[Carried]:
    """Of each promoted design with ablations among the turns, oldest first."""
    for turn in turns:
        won = turn.verdict.keep and turn.verdict.level is not None
        if turn.kind is not Kind.TRIAL or not won:
            continue
        n_back, fields = len(_ablated(turn, turns)), carried_by(turn, turns)
        if n_back or fields:
            yield Carried(turn.id, tuple(fields), n_back)


def carried_by(promoted: Turn, turns: Sequence[Turn]) -> list[str]:
    """Fields without which the promoted design is worse, the dearest loss first.

    turns    of its line: its ablations are found by their links. An ablation counts where it was
             measured beside the promoted design: worse at 5 % (one-sided t on its pairs), or so far
             behind that it was cut. The champion's scores on the screen helped to promote it and
             may flatter it
    returns  "a and b" where two went back together; the one field where the promoted design
             changed no other; empty where nothing is shown
    """
    single = _only_change(promoted, turns)
    if single:
        return [single]
    losses: dict[str, float] = {}
    for rounds in _ablated(promoted, turns).values():
        fields = " and ".join(_fields(rounds[0].candidate))
        loss = _loss(rounds)
        if loss is not None:
            losses[fields] = loss
    return sorted(losses, key=lambda fields: (losses[fields], fields))


def _only_change(promoted: Turn, turns: Sequence[Turn]) -> str | None:
    before = next((turn for turn in turns if turn.id == promoted.champion), None)
    if before is None:
        return None
    recipes = (Recipe.parse(dict(turn.candidate.state)) for turn in (promoted, before))
    fields = changed(*map(canonical, recipes))
    return fields[0] if len(fields) == 1 else None


def _ablated(promoted: Turn, turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """The rounds of each of its ablations beside it, by trial."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        mine = f"turn:{promoted.id}" in turn.candidate.links and _fields(turn.candidate)
        if turn.kind is Kind.TRIAL and mine and turn.champion == promoted.id:
            found.setdefault(turn.trial or f"turn {turn.id}", []).append(turn)
    return found


def _fields(candidate: Candidate) -> list[str]:
    parts = (link.partition(":") for link in candidate.links)
    return [name for kind, _, name in parts if kind == LINK]


def _loss(rounds: Sequence[Turn]) -> float | None:
    """Mean difference where it is shown to be below 0; None where it is not, or nothing is."""
    from scipy.stats import t as student

    told = [turn.result for turn in rounds if turn.result.error is None]
    pairs = [m - b for r in told for m, b in zip(r.scores, r.baseline, strict=False)]
    if not pairs or not np.isfinite(pairs).all() or np.mean(pairs) >= 0:
        return None
    mean, n = float(np.mean(pairs)), len(pairs)
    if told[0].facts.get("stage") == "race":
        return mean
    if n < 2:
        return None
    error = float(np.std(pairs, ddof=1)) / math.sqrt(n)
    return mean if mean < -float(student.ppf(1 - LOSS, n - 1)) * error else None
