"""Kind extract: written forms to values, records to spans and back, what is refused and counted."""

from __future__ import annotations

import csv
import datetime
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mendel
from mendel.clocks.design.prepare import plan
from mendel.clocks.design.request import Plan, Request
from mendel.data.readers import Examples, read_examples
from mendel.emit.sections import sections
from mendel.kinds import KINDS
from mendel.parts.tagger.fields import Field, canonical, fields_of, key, with_fields
from mendel.parts.tagger.records import align, fits, learn, locate, record_of
from mendel.parts.tagger.spans import Span, tokenize
from mendel.parts.tagger.values import MONTHS, NUMBER_WORDS, amount_of, date_of, number_of
from mendel.types import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
CITIES = ["Paris", "Rome", "Oslo", "New York", "Kassel", "Leeds", "Ghent", "Turin"]
AMOUNTS = ["€{:,.2f}", "{:.2f} EUR", "EUR {:,.2f}"]


def orders(n: int = 80) -> list[tuple[str, dict[str, Any]]]:
    """Written orders: month first in dates, marks of thousands, number words."""
    rows = []
    words = list(NUMBER_WORDS)
    for i in range(n):
        day = datetime.date(2024, 1, 1) + datetime.timedelta(days=(i * 37) % 360)
        city, count, price = CITIES[i % 8], i % 10 + 1, 400.5 + 97.25 * i
        written = [f"{day:%m/%d/%Y}", f"{day:%B} {day.day}, {day.year}", day.isoformat()][i % 3]
        money = AMOUNTS[i % 3].format(price)
        text = f"Please send {words[count] if i % 2 else count} chairs to {city}"
        text += [f" by {written}, total {money}.", f" for {money} on {written}"][i % 2]
        values = {"date": day.isoformat(), "amount": f"{price:.2f} EUR", "city": city}
        rows.append((text, {**values, "quantity": count}))
    return rows


def jsonl(path: Path, rows: list[tuple[str, Any]]) -> Path:
    lines = [json.dumps({"text": text, "record": record}) + "\n" for text, record in rows]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def planned(tmp_path: Path, rows: list[tuple[str, Any]], **more: Any) -> Plan:
    data = jsonl(tmp_path / "rows.jsonl", rows)
    return plan(Request("Read orders", data, out=tmp_path / "out", **more))


def fault(found: Plan, kind: str) -> Any:
    return next(fault for fault in found.faults if fault.kind == kind)


# -- values --


@pytest.mark.parametrize(
    "written",
    [
        *("2024-03-05", "2024/3/5", "5/3/2024", "05.03.2024", "5-3-24", "5 March 2024"),
        *("5th of March, 2024", "March 5, 2024", "Mar. 5th 2024", "Tuesday, 5 March 2024"),
        *("2024-03-05 00:00:00", "2024-03-05T00:00Z"),
        *("5. März 2024", "5 mars 2024", "5 de marzo de 2024", "the 5th of march '24"),
    ],
)
def test_a_day_is_the_same_however_it_is_written(written: str) -> None:
    assert date_of(written) == "2024-03-05"


def test_the_order_of_day_and_month_is_told_not_guessed() -> None:
    assert date_of("3/5/2024", month_first=True) == "2024-03-05"
    assert date_of("3/5/2024") == "2024-05-03"
    assert date_of("3/15/2024") is None and date_of("3/15/2024", month_first=True) == "2024-03-15"


@pytest.mark.parametrize(
    "written",
    [
        "31/02/2024",
        "2024-13-01",
        "29 February 2023",
        "0/1/2024",
        "March",
        "5 March",
        "tomorrow",
        "",
    ],
)
def test_what_is_no_day_of_a_year_is_no_date(written: str) -> None:
    assert date_of(written) is None


@given(st.dates(datetime.date(1970, 1, 1), datetime.date(2068, 12, 31)), st.sampled_from([*MONTHS]))
def test_every_written_form_of_a_day_reads_as_that_day(day: datetime.date, month: str) -> None:
    forms = ["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%y", "%A, %d %B %Y", "%B %d, %Y", "%d-%b-%Y"]
    assert {date_of(day.strftime(form)) for form in forms} == {day.isoformat()}
    assert date_of(day.strftime("%m/%d/%y"), month_first=True) == day.isoformat()
    named = day.replace(day=1, month=MONTHS[month]).isoformat()
    assert date_of(f"1 {month} {day.year}") == date_of(f"1st of {month}, {day.year}") == named


@pytest.mark.parametrize(
    ("written", "point", "comma"),
    [
        *(("1,234.5", 1234.5, 1234.5), ("1.234,5", 1234.5, 1234.5), ("1 234", 1234, 1234)),
        *(("1.234", 1.234, 1234), ("1,234", 1234, 1.234), ("1.234.567", 1234567, 1234567)),
        *(("12,50", 12.5, 12.5), ("0.123", 0.123, 0.123), ("1'234.50", 1234.5, 1234.5)),
        *(("-5", -5, -5), ("5 %", 5, 5), ("twenty-five", 25, 25), ("a hundred", 100, 100)),
        *(("1,2,3", None, None), ("12,", None, None), ("1..2", None, None), ("x", None, None)),
        *(("1.234,56,7", None, None), ("9" * 30, None, None), ("", None, None)),
    ],
)
def test_marks_of_a_number_are_read_by_their_places(
    written: str, point: float | None, comma: float | None
) -> None:
    assert number_of(written) == point and number_of(written, comma=True) == comma


@given(st.integers(-(10**9), 10**9), st.integers(0, 99))
def test_a_number_survives_every_way_to_group_its_digits(whole: int, cents: int) -> None:
    value = float(f"{abs(whole)}.{cents:02d}")
    for text in (f"{value:,.2f}", f"{value:.2f}", f"{value:,.2f}".replace(",", " ")):
        assert number_of(text) == value
        swapped = text.replace(",", "_").replace(".", ",").replace("_", ".")
        assert number_of(swapped, comma=True) == value
    assert number_of(str(whole)) == whole


@pytest.mark.parametrize(
    "written", ["€1,200", "1.200 €", "EUR 1200", "1200EUR", "1 200,00 euros", "1,200.00 eur"]
)
def test_an_amount_is_a_number_and_a_currency(written: str) -> None:
    assert amount_of(written) == "1200.00 EUR"


def test_a_payment_is_no_refund() -> None:
    assert key("-5.00 EUR") != key("5.00 EUR") and key("e-mail") == key("E mail")


def test_what_lacks_a_currency_or_a_number_is_no_amount() -> None:
    assert [amount_of(text) for text in ("1200", "€", "EUR", "12 chairs", "€ x")] == [None] * 5
    assert amount_of("twelve dollars") == "12.00 USD" and amount_of("$0.005") == "0.005 USD"


@given(st.text(max_size=40))
def test_any_text_is_read_as_something_or_nothing(text: str) -> None:
    for name in ("text", "choice", "flag", "date", "number", "amount"):
        value = Field(name).read(text)
        assert value is None or json.loads(json.dumps(value)) == value


# -- fields --


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([5, 2.5, 7], "number"),
        (["five", "6", "7"], "number"),
        (["0042", "0043"], "text"),
        (["+49 30 1234", "+49 30 1235"], "text"),
        (["2024-03-05", "1 May 2023"], "date"),
        (["12 EUR", "$3"], "amount"),
        (["red", "blue"] * 5, "choice"),
        ([True, False], "flag"),
        (["Anna", "Bert", "Cleo"], "text"),
        (["Anna", 5, "Cleo"], "text"),
    ],
)
def test_the_type_of_a_field_is_what_its_values_are(values: list[Any], type_: str) -> None:
    assert fields_of([{"x": value} for value in values])["x"].type == type_


def test_one_odd_value_does_not_change_a_type_and_stays_as_it_is() -> None:
    records = [{"x": f"2024-03-{i:02}"} for i in range(1, 31)] + [{"x": "31/02/2024"}]
    fields = fields_of(records)
    assert fields["x"].type == "date"
    assert canonical(records[-1], fields) == {"x": "31/02/2024"}


def test_a_field_of_one_row_has_a_type_too() -> None:
    fields, records = learn(["pay €5 now", "go"], [{"price": "5 €"}, {}])
    assert fields["price"].type == "amount" and records == [{"price": "5.00 EUR"}, {}]


def test_texts_decide_the_order_of_days_and_the_marks_of_numbers() -> None:
    texts = ["on 03/05/2024 weighs 1,5 kg", "on 12/31/2024 weighs 2,125 kg", "weighs 3 kg"]
    records = [{"day": "2024-03-05", "kg": 1.5}, {"day": "2024-12-31", "kg": 2.125}, {"kg": 3}]
    fields, _ = learn(texts, records)
    assert fields["day"].month_first and fields["kg"].comma
    swapped = [{"day": "2024-05-03", "kg": 1.5}, {"kg": 2125}, {"kg": 3}]
    fields, _ = learn(texts, swapped)
    assert not fields["day"].month_first and not fields["kg"].comma


def test_fields_survive_json() -> None:
    fields = {name: Field(name, forms={"a": True}) for name in ("choice", "date")}
    again = json.loads(json.dumps({name: found.to_dict() for name, found in fields.items()}))
    assert with_fields(again) == fields


def test_values_are_the_same_without_case_and_punctuation_but_not_across_types() -> None:
    assert key("New-York") == key("new york") and key(5) == key(5.0)
    assert key(True) != key(1) and key("5") != key(5) and key("!") != key("?")


# -- aliases --


def hurries(n: int) -> tuple[list[str], list[dict[str, Any]]]:
    """Three of four values are said by other words than their own."""
    ways = [
        ("high", "urgent"),
        ("low", "no hurry"),
        ("high", "as soon as possible"),
        ("low", "low"),
    ]
    texts = [f"send {i} {CITIES[i % 7]} chairs, {ways[i % 4][1]} please" for i in range(n)]
    return texts, [{"priority": ways[i % 4][0]} for i in range(n)]


def test_phrases_that_come_with_one_value_stand_for_it() -> None:
    texts, records = hurries(100)
    fields, records = learn(texts, records)
    choice = fields["priority"]
    assert choice.type == "choice"
    assert choice.read("Urgent") == choice.read("possible") == "high"
    assert choice.read("hurry") == "low" and choice.read("chairs") == "chairs"
    assert "also" in str(choice) and "urgent = high" in str(choice)
    for text, record in zip(texts, records, strict=True):
        assert record_of(text, align(text, record, fields), fields)[0] == record


def test_phrases_that_say_nothing_of_a_value_stand_for_none() -> None:
    texts, records = hurries(100)
    mixed = [records[(i * 7 + i // 4) % 100] for i in range(100)]  # values by rows of other texts
    fields, _ = learn([t.replace("low", "no hurry") for t in texts], mixed)
    assert set(fields["priority"].forms) == {"high", "low"}
    fields, _ = learn(*hurries(8))  # too few rows to be sure
    assert set(fields["priority"].forms) <= {"high", "low"}


def test_a_flag_is_read_from_the_words_that_come_with_it() -> None:
    texts = [f"send {i} chairs{', gift wrapped' if i % 3 == 0 else ''}" for i in range(120)]
    records: list[dict[str, Any]] = [{"gift": i % 3 == 0} for i in range(120)]
    fields, _ = learn(texts, records)
    found = {i for i, text in enumerate(texts) if align(text, records[i], fields)}
    assert found == set(range(0, 120, 3))
    assert record_of(texts[0], align(texts[0], records[0], fields), fields)[0] == {"gift": True}
    assert record_of("chairs", [Span(0, 6, "gift")], fields) == ({}, [])


# -- records and texts --


def test_each_value_of_an_order_is_found_and_read_back() -> None:
    rows = orders()
    fields, records = learn([text for text, _ in rows], [record for _, record in rows])
    assert fields["date"].month_first and fields["amount"].type == "amount"
    for (text, _), record in zip(rows, records, strict=True):
        spans = align(text, record, fields)
        assert record_of(text, spans, fields) == (record, spans)


def test_two_fields_of_one_value_get_places_of_their_own() -> None:
    text = "2 beds for 2 guests on 2/2/2022"
    fields, records = learn([text], [{"a": 2, "b": 2, "day": "2022-02-02"}])
    spans = align(text, records[0], fields)
    assert [(s.start, s.end) for s in spans] == [(0, 1), (11, 12), (23, 31)]


def test_the_longest_place_that_says_a_value_is_taken_and_no_mark_around_it() -> None:
    text = "due (Tuesday, 5 March 2024), see 5/3/24."
    place = locate(text, tokenize(text), "2024-03-05", Field("date"))
    assert place is not None and text[slice(*place)] == "Tuesday, 5 March 2024"
    assert locate(text, tokenize(text), "2024-03-06", Field("date")) is None
    quoted = 'say "AT&T Inc." twice'
    place = locate(quoted, tokenize(quoted), "at&t inc", Field("text"))
    assert place is not None and quoted[slice(*place)] == "AT&T Inc"


@given(st.text(max_size=60), st.text(min_size=1, max_size=20))
@settings(deadline=None)
def test_a_place_that_is_found_reads_as_the_value(text: str, value: str) -> None:
    place = locate(text, tokenize(text), value, Field("text"))
    if place is not None:
        read = Field("text").read(text[slice(*place)])
        assert read is not None and key(read) == key(value)


def test_of_two_spans_of_a_field_the_first_that_can_be_read_counts() -> None:
    text = "tomorrow or 5 March 2024 or 6 March 2024"
    spans = [Span(0, 8, "day"), Span(12, 24, "day"), Span(28, 40, "day")]
    record, used = record_of(text, spans, {"day": Field("date")})
    assert record == {"day": "2024-03-05"} and used == spans[1:2]
    assert record_of(text, [Span(0, 8, "a field of no row")], {}) == ({}, [])


def test_a_span_that_is_a_word_too_long_is_read_all_the_same() -> None:
    text = "deliver by 5 March 2024 to 7 people"
    spans = [Span(8, 23, "day"), Span(24, 35, "n"), Span(0, 10, "note")]
    fields = {"day": Field("date"), "n": Field("number"), "note": Field("text")}
    record, used = record_of(text, spans, fields)
    assert record == {"day": "2024-03-05", "n": 7, "note": "deliver by"}
    assert used == [Span(11, 23, "day"), Span(27, 28, "n"), Span(0, 10, "note")]


def test_how_a_record_fits_is_told_for_each_field() -> None:
    fields = {"day": Field("date"), "n": Field("number"), "city": Field("text")}
    text = "5 beds in Rome on 5/3/2024, then Oslo"
    read = {"day": "2024-03-05", "n": 5, "city": "Rome"}

    def verdicts(given: dict[str, Any]) -> dict[str, str]:
        return {told["field"]: told["verdict"] for told in fits(text, given, read, fields)}

    assert set(verdicts({"day": "5 March 2024", "n": "five", "city": "ROME"}).values()) == {"fits"}
    assert verdicts({"day": "31/02/2024", "n": 6, "city": "Oslo", "x": 1}) == {
        **{"day": "wrong type", "n": "not in the text", "city": "read otherwise"},
        "x": "unknown field",
    }
    assert verdicts({"day": None}) == {"day": "missing", "n": "missing", "city": "missing"}


# -- data --


def test_a_column_of_objects_is_guessed_to_be_extract(tmp_path: Path) -> None:
    found = read_examples(jsonl(tmp_path / "a.jsonl", orders(30)))
    assert found.kind == "extract" and found.label_column == "record"
    as_text = [(text, json.dumps(record)) for text, record in orders(30)]
    again = read_examples(jsonl(tmp_path / "b.jsonl", as_text))
    assert again.kind == "extract" and again.targets == found.targets


def test_a_column_for_each_field_is_the_same_as_a_column_of_records(tmp_path: Path) -> None:
    rows = orders(30)
    del rows[3][1]["city"]
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "amount", "city", "date", "quantity"])
        writer.writeheader()
        writer.writerows({"id": i, "text": t, **record} for i, (t, record) in enumerate(rows))
    found = read_examples(tmp_path / "a.csv", kind="extract")
    wanted = read_examples(jsonl(tmp_path / "a.jsonl", rows))
    mine, its = (KINDS["extract"].told(side, None)[0] for side in (found, wanted))
    assert mine.targets == its.targets and mine.texts == its.texts


def test_null_and_nothing_are_absent_and_a_row_without_an_object_is_skipped(tmp_path: Path) -> None:
    odd = [("one", {"a": None, "b": " "}), ("two", "no object"), ("three", None), ("four", [1])]
    file = jsonl(tmp_path / "a.jsonl", [*orders(20), *odd])
    found = read_examples(file, kind="extract")
    assert found.texts[20:] == ("one",) and found.targets[20:] == ((),)
    assert {fault.kind: fault.rows for fault in found.faults} == {
        "empty": (23,), "not-a-record": (22, 24)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("record", "says"),
    [({"items": [1, 2]}, "row 21: field 'items' is a list"), ({"to": {"city": "x"}}, "an object")],
)
def test_nested_values_are_refused(tmp_path: Path, record: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        planned(tmp_path, [*orders(20), ("text", record)])


def test_records_that_are_all_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="says nothing"):
        planned(tmp_path, [(text, {}) for text, _ in orders(30)], kind="extract")


def test_records_that_no_text_says_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="said in its text"):
        planned(tmp_path, [(text, {"mood": f"mood {i}"}) for i, (text, _) in enumerate(orders())])


def test_values_that_are_not_in_their_text_are_counted_and_fields_named(tmp_path: Path) -> None:
    rows = orders()
    for text, record in rows:
        record["clerk"] = f"{len(text)} {record['city']}"
    rows[4][1]["city"] = "Atlantis"
    rows[7][1]["date"] = "31/02/2024"
    found = planned(tmp_path, rows)
    unsaid = fault(found, "value not in its text")
    assert unsaid.count == len(rows) + 2 and unsaid.rows == (1, 2, 3, 4, 5)
    assert fault(found, "field never said in a text: clerk").count == len(rows)
    odd = fault(found, "value not of its field's type")
    assert (odd.count, odd.rows) == (1, (8,)) and "date=31/02/2024" in odd.note
    assert dict(found.data.targets[7])["date"] == "31/02/2024"


def test_targets_are_kept_as_answers_give_them_in_data_and_test(tmp_path: Path) -> None:
    rows = orders()
    test = jsonl(tmp_path / "test.jsonl", [("five euros", {"amount": "€5", "fresh": "x"})])
    found = planned(
        tmp_path, [(t, {**r, "date": _american(r["date"])}) for t, r in rows], test=test
    )
    assert isinstance(found.data, Examples)
    assert [dict(target) for target in found.data.targets] == [record for _, record in rows]
    assert found.test is not None
    assert dict(found.test.targets[0]) == {"amount": "5.00 EUR", "fresh": "x"}
    assert fault(found, "test label unknown to training").count == 1


def _american(day: str) -> str:
    return f"{datetime.date.fromisoformat(day):%m/%d/%Y}"


def test_a_value_too_many_and_a_wrong_value_cost_as_much_as_the_metric_says() -> None:
    kind = KINDS["extract"]
    target = [["a", "x"], ["b", 2]]
    found = [{"record": {"a": "X", "b": 3, "c": 1}}]
    assert kind.total(found, [target])[0] == pytest.approx(2 * 1 / (3 + 2))
    assert kind.row_score(found[0], target) == pytest.approx(2 * 1 / (3 + 2))
    assert kind.total([{"record": {}}], [[]])[0] == 1


def test_real_slots_become_fields_that_their_texts_say() -> None:
    folder = DATA / "snips_slots" / "train"
    if not folder.exists():
        pytest.skip(f"real data is absent: {folder}")
    tagged = read_examples(folder, kind="tag")
    pairs = list(zip(tagged.texts, tagged.targets, strict=True))[:1_000]
    targets = [
        tuple({s.label: (s.label, text[s.start : s.end]) for s in spans}.values())
        for text, spans in pairs
    ]
    data = replace(tagged, texts=tuple(text for text, _ in pairs), targets=tuple(targets))
    told, _ = KINDS["extract"].told(data, None)
    assert not [fault for fault in told.faults if "not in its text" in fault.kind]
    fields = fields_of([dict(target) for target in targets])
    assert fields["rating_value"].type == fields["best_rating"].type == "number"


# -- end to end --


def test_a_report_names_the_weakest_field_first_and_what_no_text_says() -> None:
    usual = {"n": 2, "precision": None, "recall": 0.5}
    fields = [
        {**usual, "label": "day", "type": "date", "f1": 1.0, "said": 1.0},
        {**usual, "label": "mood", "type": "text", "f1": 0.0, "said": 0.1},
    ]
    errors = [{"text": "fine", "field": "mood", "wanted": "good", "said": None}]
    sealed = {"n_values": 4, "exact": 0.5, "per_field": fields, "field_errors": errors}
    made = {s.title: s for s in sections({"task": {"kind": "extract"}, "sealed": sealed})}
    first = made["Fields, worst first"]
    assert first.table is not None and [row[0] for row in first.table.rows] == ["mood", "day"]
    assert any("Less than half is said of: mood" in line for line in first.lines)
    assert made["Fields read wrongly"].table is not None


@pytest.mark.slow
def test_orders_become_a_model_that_reads_days_and_amounts_it_never_saw(tmp_path: Path) -> None:
    data = jsonl(tmp_path / "orders.jsonl", orders(200))
    design = mendel.design("Read orders", data=data, out=tmp_path / "model", budget_s=60)
    assert design.report["task"]["kind"] == "extract"
    assert design.report["sealed"]["score"] > 0.9
    text = "Please send three chairs to Oslo by 12/24/2031, total €7,654.30."
    [answer] = design.predict([text])
    assert answer.record == {
        **{"quantity": 3, "city": "Oslo", "date": "2031-12-24", "amount": "7654.30 EUR"}
    }
    [told] = design.predict([text], record={"city": "Rome", "quantity": "three"})
    verdicts = {field["field"]: field["verdict"] for field in told.fields}
    assert verdicts == {
        **{"city": "not in the text", "quantity": "fits", "date": "missing", "amount": "missing"}
    }
    assert not told.fits
