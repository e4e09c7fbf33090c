"""Knowledge notes: what the literature says of a mechanism, one TOML file each.

notes() -> Note, a prior; (change, a design's scores) --advice--> the notes that speak for it
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field

from mendel.spec import PartSpec, Recipe, Spec
from mendel.types import InputError, did_you_mean

if TYPE_CHECKING:
    from mendel.parts.part import Kind

ROOM = 0.9  # a normalised score below this leaves something to win
LISTS = ("mixers", "channels")  # fields of ModelSpec that are patterns of parts

Value = bool | int | float | str


class Favour(Spec):
    """A field that a mechanism needs, and the value it is there.

    field   of ModelSpec as "n_layers", of a part as "mixers.erase", or of TrainSpec as "train.lr";
            "mixers.part" is which part
    value   None: whatever it is changed to
    """

    field: str
    value: Value | None = None


class Note(Spec):
    """One mechanism, in our words.

    when      the trigger, for people; `weak` is the same for the builtin researcher: suites or
              proxies that a design must be weak on for the mechanism to help; empty: any design
    source    paper, year and where it stands
    """

    name: str
    title: str
    what: str
    when: str
    weak: tuple[str, ...] = ()
    favours: tuple[Favour, ...] = Field(min_length=1)
    costs: str
    source: str

    @cached_property
    def fields(self) -> frozenset[str]:
        return frozenset(favour.field for favour in self.favours)


class Proposed(Protocol):
    """What advice must know of a change: fields by their path, and what each becomes."""

    @property
    def about(self) -> Sequence[str]: ...

    @property
    def values(self) -> Sequence[Any]: ...


def notes(without: Collection[str] = ()) -> tuple[Note, ...]:
    """Every note, by name.

    without   mechanisms to know nothing of: names of notes, or fields ("mixers.erase") and their
              values ("mixers.erase=delta"); a named mixer counts for each field that it sets
    raises    InputError for one that no note is about: it would be left out in name only
    """
    says = {note: set(_says(note)) for note in _all()}
    known = set().union(*says.values())
    for one in without:
        if one not in known:
            hint = did_you_mean(one, known) or "A note's name, a field, or field=value is one."
            raise InputError(f"no note is about {one!r}. {hint}")
    return tuple(note for note, said in says.items() if not said & set(without))


def advice(
    change: Proposed,
    scores: Mapping[str, float],
    notes: Sequence[Note],
    parent: Recipe | None = None,
) -> list[Note]:
    """The notes that speak for a change to a design, the best founded first.

    scores   of the design, by suite and by proxy, normalised: 0 chance, 1 perfect; where nothing
             is measured yet, every design counts as weak
    parent   the design: where a change gives parts whole, what the design has already is not what
             the change brings. Without it, of a whole pattern only which parts it has counts
    """
    found = []
    settings = _settings(change, parent)
    for note in notes:
        if note.fields.isdisjoint(settings):
            continue  # as of most
        exact = [f.value is not None for f in note.favours if _meets(f, settings)]
        if exact and (room := _room(note, scores)) > 0:
            found.append((-sum(exact), -room, note.name, note))
    return [note for *_, note in sorted(found, key=lambda one: one[:3])]


@cache
def _all() -> tuple[Note, ...]:
    tables = sorted(file.name for file in files(__name__).iterdir() if file.name.endswith(".toml"))
    return tuple(
        Note.from_toml((files(__name__) / table).read_text(encoding="utf-8")) for table in tables
    )


def _says(note: Note) -> Iterator[str]:
    """Its name, its fields, its fields with their values."""
    yield note.name
    for favour in note.favours:
        pairs = [(favour.field, favour.value)]
        if favour.field.endswith(".part"):
            pairs = list(_expanded(favour.field, favour.value))
        for field, value in pairs:
            yield field
            yield f"{field}={value}"
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield f"{field}={value:g}"  # 2 and 2.0 alike
                yield f"{field}={float(value)}"


def _meets(favour: Favour, settings: Mapping[str, set[Any]]) -> bool:
    """Does any place that the change touches become what is favoured?"""
    values = settings.get(favour.field, set())
    return bool(values) and (favour.value is None or favour.value in values)


def _room(note: Note, scores: Mapping[str, float]) -> float:
    """What is left to win where the note helps; 0: nothing, or it was not measured there."""
    names = note.weak or tuple(scores)
    if not scores:
        return 1.0
    left = [1 - scores[name] for name in names if name in scores and scores[name] < ROOM]
    return max(left, default=0.0)


def _settings(change: Proposed, parent: Recipe | None) -> dict[str, set[Any]]:
    """Field without the layer -> the values that it is given."""
    found: dict[str, set[Any]] = {}
    for path, value in zip(change.about, change.values, strict=True):
        field = ".".join(step for step in path.split(".") if not step.isdigit())
        given = list(_expanded(field.removeprefix("model."), value))
        if field in (*LISTS, "train"):
            known = set() if parent is None else set(_expanded(field, _of(parent, field)))
            whole = parent is None and path == field
            given = [(f, v) for f, v in given
                     if (f, v) not in known and (not whole or f.endswith(".part"))]  # fmt: skip
        for name, one in given:
            found.setdefault(name, set()).add(one)
    return found


def _of(recipe: Recipe, field: str) -> Any:
    return recipe.train.to_dict() if field == "train" else getattr(recipe.model, field)


def _expanded(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Parts given whole, or by names of the literature, as the fields that they set."""
    owner = field.removesuffix(".part")
    if field == "train":
        yield from ((f"train.{name}", one) for name, one in value.items())
    elif owner not in LISTS:
        yield field, tuple(value) if isinstance(value, list) else value
    else:
        for part in value if isinstance(value, list | tuple) else [value]:
            spec = part if isinstance(part, PartSpec) else PartSpec.model_validate(part)
            for name, one in _named()("mixer" if owner == "mixers" else "channel", spec):
                yield f"{owner}.{name}", tuple(one) if isinstance(one, list) else one


@cache
def _named() -> Callable[[Kind, PartSpec], list[tuple[str, Any]]]:
    """What tells which part one is, every name of the literature that it answers to, and the
    fields given."""
    # imported here: they import torch
    import mendel.parts.menu  # noqa: F401  registers the parts
    from mendel.parts.part import NAMED, resolve
    from mendel.propose.spelling import once_a_part, whole

    @once_a_part
    def named(kind: Kind, spec: PartSpec) -> list[tuple[str, Any]]:
        cls, given = resolve(kind, spec)
        every, found = whole(kind, spec), [("part", cls.name)]
        for name, known in NAMED[kind].items():
            says = known.fields.items()
            if known.part == cls.name and all(every.get(field) == value for field, value in says):
                found.append(("part", name))
        return [*found, *given.items()]

    return named
