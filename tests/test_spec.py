"""Specs: frozen, checked, the same from TOML, JSON and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.kinds import recipe_of
from mendel.spec import DataSpec, Limits, SpecError, TaskSpec, TextSpec
from mendel.types import digest

VALUES = st.one_of(
    st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
LABELS = st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True)


def task(**changes: object) -> TaskSpec:
    fields = {
        "description": "Sort",
        "labels": ["a", "b"],
        "data": {"digest": digest("rows"), "n_rows": 7},
    }
    return TaskSpec.parse({**fields, **changes})


@given(st.text(min_size=1), LABELS)
def test_a_task_comes_back_from_toml_and_json(description: str, labels: list[str]) -> None:
    spec = task(description=description, labels=labels)
    assert TaskSpec.from_toml(spec.to_toml()) == spec
    assert TaskSpec.from_json(spec.to_json()) == spec
    assert TaskSpec.from_toml(spec.to_toml()).hash == spec.hash


@given(st.dictionaries(st.text(min_size=1), VALUES, max_size=5))
def test_a_model_spec_comes_back_whatever_its_fields(fields: dict[str, int | float | str]) -> None:
    spec = TextSpec(fields=fields)
    assert TextSpec.from_toml(spec.to_toml()) == spec


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (Limits.from_toml, Limits.from_json):
        try:
            parse(text)
        except SpecError as error:
            assert str(error)


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="Did you mean 'max_latency_ms'"):
        Limits.parse({"max_latencyms": 3})
    with pytest.raises(SpecError, match="Did you mean 'channels'"):
        recipe_of(TextSpec(fields={"family": "cnn", "chanels": 64}))


def test_a_value_out_of_range_says_what_it_got() -> None:
    with pytest.raises(SpecError, match=r"max_bytes=-1"):
        Limits.parse({"max_bytes": -1})


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        Limits().max_bytes = 3  # type: ignore[misc]


def test_a_diff_names_the_fields_that_differ() -> None:
    one, two = Limits(max_bytes=1), Limits(max_bytes=2)
    assert one.diff(two) == {"max_bytes": (1, 2)}


def test_a_line_is_named_by_its_data_and_not_by_words_or_limits() -> None:
    """Else another wording would open a fresh error budget."""
    assert task().line_digest == task(limits={"max_bytes": 5}).line_digest
    assert task().line_digest == task(description="Sort well").line_digest
    other = DataSpec(digest=digest("other rows"), n_rows=7)
    assert task().line_digest != task(data=other.to_dict()).line_digest
