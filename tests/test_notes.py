"""Knowledge notes: each is about fields that exist, has a source, and speaks where it should."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mendel.data.proxies import SUITES, TWINS
from mendel.parts import menu  # noqa: F401  registers the parts
from mendel.parts.part import NAMED, PARTS
from mendel.propose.changes import changes, crosses
from mendel.propose.matching import caps_of
from mendel.propose.notes import Favour, Note, advice, notes
from mendel.spec import ModelSpec, Recipe, SpecError, TrainSpec
from mendel.types import InputError

NOTES = {note.name: note for note in notes()}
OWNERS = {"mixers": "mixer", "channels": "channel", "norm": "norm", "embedding": "embedding"}


@dataclass(frozen=True)
class Made:
    """A change as advice sees it."""

    about: tuple[str, ...]
    values: tuple[Any, ...]


def one(path: str, value: Any) -> Made:
    return Made((path,), (value,))


def names(found: list[Note]) -> list[str]:
    return [note.name for note in found]


def takers(field: str) -> list[FieldInfo]:
    """The fields of that name: one of a spec, or one of each part that has it."""
    owner, dot, name = field.partition(".")
    if not dot:
        return [ModelSpec.model_fields[owner]] if owner in ModelSpec.model_fields else []
    if owner == "train":
        return [TrainSpec.model_fields[name]] if name in TrainSpec.model_fields else []
    parts: Mapping[str, Any] = PARTS[OWNERS[owner]]  # type: ignore[index]
    return [p.Fields.model_fields[name] for p in parts.values() if name in p.Fields.model_fields]


def takes(info: FieldInfo, value: Any) -> bool:
    try:
        TypeAdapter(Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
                    ).validate_python(value, strict=isinstance(value, bool))  # fmt: skip
    except ValidationError:
        return False
    return True


def is_real(favour: Favour) -> bool:
    owner, _, name = favour.field.partition(".")
    if name == "part":
        kind = OWNERS[owner]
        return favour.value in PARTS[kind] or favour.value in NAMED[kind]  # type: ignore[index]
    found = takers(favour.field)
    return any(favour.value is None or takes(info, favour.value) for info in found)


@pytest.mark.parametrize("name", NOTES)
def test_a_note_favours_fields_that_exist_at_values_that_they_take(name: str) -> None:
    assert [f for f in NOTES[name].favours if not is_real(f)] == []


def test_the_check_of_fields_finds_those_that_are_not() -> None:
    unreal = [
        Favour(field="mixers.erased", value="delta"),
        Favour(field="mixers.erase", value="gamma"),
        Favour(field="mixers.beta_max", value=2.5),
        Favour(field="train.learning_rate"),
        Favour(field="mixers.part", value="delta_nets"),
        Favour(field="depth"),
    ]
    assert not any(is_real(favour) for favour in unreal)


@pytest.mark.parametrize("name", NOTES)
def test_a_note_has_a_source_and_is_weak_where_something_is_measured(name: str) -> None:
    note = NOTES[name]
    assert re.search(r"(19|20)\d\d", note.source)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|https://", note.source)
    assert set(note.weak) <= {*SUITES, *TWINS}
    assert all(len(text.split()) > 3 for text in (note.what, note.when, note.costs))


def test_file_names_are_the_notes_names() -> None:
    from importlib.resources import files

    tables = {f.name for f in files("mendel.propose.notes").iterdir() if f.name.endswith(".toml")}
    assert tables == {f"{name}.toml" for name in NOTES}


def test_a_mechanism_taken_out_is_in_no_note_under_any_name() -> None:
    for left in (notes(["mixers.erase=delta"]), notes(["mixers.erase"])):
        assert "delta-rule" not in {note.name for note in left}
        for note in left:  # nor by the name of a mixer that has it
            said = one("mixers.0", {"part": "delta_net"})
            assert note not in [n for n in advice(said, {}, left) if "erase" in str(n.favours)]
    assert notes(["mixers.beta_max=2"]) == notes(["mixers.beta_max=2.0"])
    signed = {note.name for note in notes(["mixers.beta_max=2"])}
    assert "negative-eigenvalues" not in signed and "householder-products" not in signed
    assert "delta-rule" in signed
    assert "muon" not in {note.name for note in notes(["muon"])}


@pytest.mark.parametrize("unknown", ["mixers.erased", "erase", "delta-rul", "mixers.beta_max=3"])
def test_a_mechanism_that_no_note_is_about_is_refused(unknown: str) -> None:
    with pytest.raises(InputError, match="no note is about"):
        notes([unknown])


def test_a_note_speaks_for_the_change_it_favours_and_for_no_other() -> None:
    weak = {"states": 0.1, "parity": 0.0}
    assert "negative-eigenvalues" in names(advice(one("mixers.0.beta_max", 2.0), weak, notes()))
    assert "negative-eigenvalues" not in names(advice(one("mixers.0.beta_max", 1.0), weak, notes()))
    assert names(advice(one("train.optimizer", "muon"), weak, notes())) == ["muon"]
    assert advice(one("train.seed", 3), weak, notes()) == []


def test_a_note_is_silent_where_the_design_is_strong_or_was_not_measured() -> None:
    change = one("mixers.0.beta_max", 2.0)
    assert "negative-eigenvalues" not in names(advice(change, {"parity": 0.99}, notes()))
    assert "negative-eigenvalues" not in names(advice(change, {"mqar": 0.1}, notes()))
    assert "negative-eigenvalues" in names(advice(change, {"parity": 0.99, "states": 0.3}, notes()))
    assert "negative-eigenvalues" in names(advice(change, {}, notes()))  # nothing is known yet


def test_a_part_given_by_its_name_counts_for_the_fields_it_sets() -> None:
    said = names(advice(one("mixers.1", "delta_net_signed"), {"parity": 0.0}, notes()))
    assert said[0] == "negative-eigenvalues"  # two of its favours are met
    routed = one("mixers.0", {"part": "routed", "gate": "staged"})  # hierarchical_gate
    assert "filter-branches" in names(advice(routed, {}, notes()))
    pattern = one("mixers", ("gated_delta_net", {"part": "attention"}))
    assert "softmax-hybrid" in names(advice(pattern, {"recall": 0.5}, notes()))


def test_a_malformed_note_is_refused_with_its_field() -> None:
    whole = NOTES["muon"].to_toml()
    assert Note.from_toml(whole) == NOTES["muon"]
    with pytest.raises(SpecError, match="favors"):
        Note.from_toml(whole.replace("favours", "favors"))
    with pytest.raises(SpecError, match="favours"):
        Note.from_toml("\n".join(x for x in whole.splitlines() if "favours" not in x))


START = {"width": 16, "n_layers": 2}


def design(*mixers: Any, **fields: Any) -> Recipe:
    return Recipe.parse({"model": {**START, **fields, "mixers": list(mixers)}})


def test_every_note_speaks_for_a_change_that_the_researcher_can_make() -> None:
    """Else it would be dead knowledge."""
    caps = caps_of(design("attention"), vocab=32, n_tokens=16, slack=(0.5, 3.0, 9.0))
    bare = {"part": "recurrence", "out_norm": False}
    hyena = design({"part": "hyena", "length": 8})
    unheard = set(NOTES)
    for parent in (design("attention"), design(bare), design("delta_net")):
        for change in (*changes(parent, caps), *crosses(parent, hyena, caps)):
            unheard -= set(names(advice(change, {}, notes(), parent)))
    assert unheard == set()


def test_what_a_design_had_already_is_not_what_a_change_brings() -> None:
    parent = design("delta_net", {"part": "attention"})
    swapped = one("mixers", [{"part": "attention"}, "delta_net"])
    assert advice(swapped, {}, notes(), parent) == []
    pattern = ["delta_net", {"part": "attention", "window": 8}]
    windowed = one("mixers", pattern)
    assert names(advice(windowed, {}, notes(), parent)) == ["window-hybrid"]
    assert "delta-rule" not in names(advice(windowed, {}, notes()))  # nor where it is not known
    training = Made(("train",), (TrainSpec(shape="linear").to_dict(),))
    assert names(advice(training, {}, notes(), parent)) == ["linear-to-zero"]
