"""Knowledge notes: what the literature says of a mechanism, one TOML file each.

notes() -> Note, a prior; (change, a design's scores) --advice--> the notes that speak for it
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from pydantic import Field

from mendel.spec import PartSpec, Spec

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
    """
    left_out = set(without)
    return tuple(note for note in _all() if not left_out & set(_says(note)))


def advice(
    change: Proposed, scores: Mapping[str, float], notes: Sequence[Note]
) -> list[Note]:  # fmt: skip
    """The notes that speak for a change to a design, the best founded first.

    scores   of the design, by suite and by proxy, normalised: 0 chance, 1 perfect; where nothing
             is measured yet, every design counts as weak
    """
    found = []
    settings = dict(_settings(change))
    for note in notes:
        exact = [f.value is not None for f in note.favours if _meets(f, settings)]
        room = _room(note, scores)
        if exact and room > 0:
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
        for field, value in _expanded(favour.field, favour.value):
            yield field
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            yield f"{field}={value:g}" if is_number else f"{field}={value}"


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


def _settings(change: Proposed) -> Iterator[tuple[str, set[Any]]]:
    """Field without the layer -> the values that it is given."""
    found: dict[str, set[Any]] = {}
    for path, value in zip(change.about, change.values, strict=True):
        field = ".".join(step for step in path.split(".") if not step.isdigit())
        for name, one in _expanded(field.removeprefix("model."), value):
            found.setdefault(name, set()).add(one)
    yield from found.items()


def _expanded(field: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A part given whole, or by a name of the literature, as the fields that it sets."""
    owner = field.removesuffix(".part")
    if owner not in LISTS:
        yield field, value
        return
    for part in value if isinstance(value, list | tuple) else [value]:
        spec = part if isinstance(part, PartSpec) else PartSpec.model_validate(part)
        yield f"{owner}.part", spec.part
        for name, one in _named(owner, spec).items():
            yield f"{owner}.{name}", tuple(one) if isinstance(one, list) else one


def _named(owner: str, spec: PartSpec) -> dict[str, Any]:
    """Fields of a part, those that its name stands for among them, and the part behind the name."""
    # imported here: they import torch
    import mendel.parts.menu  # noqa: F401  registers the parts
    from mendel.parts.part import resolve

    cls, fields = resolve("mixer" if owner == "mixers" else "channel", spec)
    return {"part": cls.name, **fields}
