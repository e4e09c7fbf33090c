"""The reader gives Examples or an InputError, whatever the file; what it mends, it counts."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections import Counter
from pathlib import Path
from time import process_time
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mendel.data.readers import Examples, read_examples
from mendel.data.tables import MAX_CHARS, NOTES, Fault, as_error
from mendel.types import InputError

BANKING = Path(__file__).parents[2] / "shared" / "data" / "banking77" / "train.csv"
GOOD = "text,label\nwhere is it,find\nis it here,find\nhello you,greet\ngood day,greet\n"
ROWS = [("where is it", "find"), ("is it here", "find"), ("hello", "greet"), ("good day", "greet")]
QUICK = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def file(tmp_path: Path, content: str | bytes, name: str = "data.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pairs(examples: Examples) -> list[tuple[str, str]]:
    return list(zip(examples.texts, examples.labels, strict=True))


def fault(examples: Examples, kind: str) -> Fault:
    """The fault of this kind; it is the only one."""
    assert [found.kind for found in examples.faults] == [kind]
    assert examples.faults[0].note == NOTES[kind]
    return examples.faults[0]


# formats


def test_real_banking77_is_read_whole_and_quickly() -> None:
    if not BANKING.exists():
        pytest.skip(f"real data is absent: {BANKING}")
    start = process_time()
    examples = read_examples(BANKING)
    assert process_time() - start < 0.3 * 3  # 0.06 s alone
    assert (len(examples.texts), len(set(examples.labels))) == (10_003, 77)
    assert (examples.text_column, examples.label_column) == ("text", "category")
    assert examples.faults == ()
    with BANKING.open(newline="", encoding="utf-8") as lines:
        assert examples.texts == tuple(row["text"] for row in csv.DictReader(lines))


@pytest.mark.parametrize(("delimiter", "name"), [(",", "a.csv"), ("\t", "a.tsv"), (";", "a.csv")])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_delimiter_is_found(
    tmp_path: Path, delimiter: str, name: str, bom: bytes, end: str
) -> None:
    out = io.StringIO()
    rows = [("a, b; c\td", "one"), ('say "hi"', "one"), ("two\nlines", "two"), ("x;y,z", "two")]
    quoting: Literal[0, 1] = (
        csv.QUOTE_ALL if end == "\r" else csv.QUOTE_MINIMAL
    )  # which forgets "\n" there
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("text", "label"), *rows])
    examples = read_examples(file(tmp_path, bom + out.getvalue().encode(), name))
    assert pairs(examples) == rows
    assert examples.faults == ()


def test_json_lines_are_read_in_a_csv_file_too(tmp_path: Path) -> None:
    content = json_lines(*({"id": 1, "text": t, "label": x, "spans": []} for t, x in ROWS))
    assert pairs(read_examples(file(tmp_path, content, "a.jsonl"))) == ROWS
    assert pairs(read_examples(file(tmp_path, content, "a.csv"))) == ROWS


def test_utf16_as_excel_writes_it_is_read(tmp_path: Path) -> None:
    content = GOOD.replace(",", "\t").replace("hello", "grüß").encode("utf-16")
    assert "grüß you" in read_examples(file(tmp_path, content)).texts


def test_a_file_without_header_loses_no_row(tmp_path: Path) -> None:
    content = "".join(f"{text}, indeed\t{label}\n" for text, label in ROWS)
    examples = read_examples(file(tmp_path, content))
    assert pairs(examples) == [(f"{text}, indeed", label) for text, label in ROWS]
    assert (examples.text_column, examples.label_column) == ("column 1", "column 2")


def test_the_same_examples_have_the_same_digest_in_any_format(tmp_path: Path) -> None:
    one = read_examples(file(tmp_path, GOOD))
    rows = [{"intent": label, "query": text} for text, label in pairs(one)]
    other = read_examples(file(tmp_path, json_lines(*rows), "a.jsonl"))
    assert one.digest == other.digest
    assert one.digest != read_examples(file(tmp_path, GOOD.replace("hello", "hi"))).digest


def test_an_unlabelled_file_has_texts_only(tmp_path: Path) -> None:
    examples = read_examples(file(tmp_path, "one, two\nthree\n\nfour\n", "a.txt"), labelled=False)
    assert (examples.texts, examples.labels) == (("one, two", "three", "four"), ())
    assert read_examples(file(tmp_path, GOOD), labelled=False).labels == ()
    assert read_examples(file(tmp_path, "text\nhi, you\n"), labelled=False).texts == ("hi, you",)


# columns


def test_columns_are_found_by_shape(tmp_path: Path) -> None:
    rows = [
        f"{i},customer number {i} asks for thing {i * i},{'yes' if i % 3 else 'no'}"
        for i in range(60)
    ]
    examples = read_examples(file(tmp_path, "nr,wording,verdict\n" + "\n".join(rows)))
    assert (examples.text_column, examples.label_column) == ("wording", "verdict")


def test_two_columns_that_may_be_the_label_are_an_error_with_the_way_out(tmp_path: Path) -> None:
    content = "text,city,mood\n" + "a b c,x,good\nd e f,y,bad\ng h i,x,bad\nj k l,y,good\n"
    path = file(tmp_path, content)
    with pytest.raises(InputError, match=r"text, city, mood.*--label-column"):
        read_examples(path)
    assert set(read_examples(path, label_column="mood").labels) == {"good", "bad"}


def test_two_columns_that_may_be_the_text_are_an_error_with_the_way_out(tmp_path: Path) -> None:
    content = "first,second,label\nabc,xyz,1\nbcd,yzx,1\ncde,zxy,2\ndef,xzy,2\n"
    with pytest.raises(InputError, match=r"first, second, label.*--text-column"):
        read_examples(file(tmp_path, content))


def test_a_misnamed_column_is_answered_with_the_nearest_and_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'lable'.*text, label.*--label-column 'label'"):
        read_examples(file(tmp_path, GOOD), label_column="lable")


def test_one_column_cannot_be_both(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another for the label"):
        read_examples(file(tmp_path, GOOD), text_column="text", label_column="text")


@pytest.mark.parametrize(
    ("origins", "wanted"),
    [
        (["written"] * 4, "written"),
        (["written", "generated"] * 2, "mixed"),
        (["written", None] * 2, "mixed"),
        ([None] * 4, None),
    ],
)
def test_provenance_is_what_all_rows_say(
    tmp_path: Path, origins: list[str | None], wanted: str | None
) -> None:
    rows = [
        {"text": text, "label": label} | ({"provenance": origin} if origin else {})
        for (text, label), origin in zip(ROWS, origins, strict=True)
    ]
    assert read_examples(file(tmp_path, json_lines(*rows), "a.jsonl")).provenance == wanted


# hard faults


HARD: dict[str, tuple[str, str | bytes, str]] = {
    "an empty file": ("a.csv", b"", "is empty"),
    "a byte order mark alone": ("a.csv", b"\xef\xbb\xbf\n", "is empty"),
    "a header alone": ("a.csv", "text,label\n", "a header only"),
    "one class": ("a.csv", "text,label\na,x\nb,x\n", "one class only"),
    "one class and a single row": ("a.csv", "text,label\na,x\nb,x\nc,y\n", "one class only"),
    "classes of one row": ("a.csv", "text,label\na,x\nb,y\n", "single-row-class"),
    "no label column": ("a.csv", "text\na\nb\n", "--label-column"),
    "empty labels": ("a.csv", "text,label\na,\nb, \n", "2 x empty"),
    "NUL bytes": ("a.csv", b"text,label\n\0\1,x\n", "not text"),
    "random bytes": ("a.csv", bytes(range(1, 256)) * 40, "not text"),
    "Cyrillic in another encoding": ("a.csv", ("текст,вид\n" * 9).encode("cp1251"), "iconv"),
    "a zip": ("a.csv", b"PK\x03\x04rest", "Excel"),
    "a parquet file": ("a.parquet", b"PAR1rest", "parquet"),
    "a gzip": ("a.csv.gz", b"\x1f\x8brest", "gunzip"),
    "no valid JSON line": ("a.jsonl", "text\nlabel\n", r"2 x invalid-json.*jq"),
    "a JSON array": ("a.json", "[\n{}\n]\n", "jq"),
    "JSON lines without fields": ("a.jsonl", "{}\n{}\n", "no row"),
    "a pickle": ("a.csv", pickle.dumps(list(range(999))), "not text"),
}


@pytest.mark.parametrize("case", HARD)
def test_a_hard_fault_is_an_input_error(tmp_path: Path, case: str) -> None:
    name, content, message = HARD[case]
    with pytest.raises(InputError, match=message):
        read_examples(file(tmp_path, content, name))


def test_a_missing_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    file(tmp_path, GOOD, "messages.csv")
    with pytest.raises(InputError, match=r"Did you mean messages\.csv"):
        read_examples(tmp_path / "mesages.csv")


@pytest.mark.parametrize("name", ["", "no/such/folder.csv", "nul\0byte", "long" * 999])
def test_a_path_that_is_no_file_is_an_input_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"Wanted a CSV or JSON lines file"):
        read_examples(tmp_path / name)


def test_a_file_that_may_not_be_read_is_an_input_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"Permission denied.*chmod"):
        read_examples(file(tmp_path, GOOD))


# soft faults: each is counted, and the good rows are there


SOFT: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "too few,\nshort\n": ("ragged-row", 1, (6,)),
    "too,many,fields\n" * 7: ("ragged-row", 7, (5, 6, 7, 8, 9)),
    ",find\n": ("empty", 1, (5,)),
    "no label, \n": ("empty", 1, (5,)),
    "be\x07ep,find\n": ("control-character", 1, (5,)),
    f"{'x' * 10**6},find\n": ("long-text", 1, (5,)),
    "hello hello, greet \n": ("label-space", 1, (5,)),
    "upper,FIND\nupper too,FIND\n": ("label-case", 2, (5, 6)),
    "alone,rare\n": ("single-row-class", 1, (5,)),
    "hello you,greet\n": ("duplicate", 1, (5,)),
    "hello you,find\n": ("conflict", 2, (3, 5)),
}


@pytest.mark.parametrize("more", SOFT, ids=lambda more: SOFT[more][0])
def test_a_soft_fault_is_counted_and_the_rest_is_read(tmp_path: Path, more: str) -> None:
    kind, count, rows = SOFT[more]
    good = pairs(read_examples(file(tmp_path, GOOD)))
    start = process_time()
    examples = read_examples(file(tmp_path, GOOD + more))
    assert process_time() - start < 0.5
    assert pairs(examples)[:4] == good
    found = {f.kind: f for f in examples.faults}
    assert (found[kind].count, found[kind].rows) == (count, rows)
    assert len(found) == (2 if "too few" in more else 1)


def test_mended_texts_are_what_the_note_says(tmp_path: Path) -> None:
    content = GOOD + f"be\x07ep,find\n{'y' * 30_000},find\nhi there,  greet\n"
    examples = read_examples(file(tmp_path, content))
    assert examples.texts[4:] == ("be ep", "y" * MAX_CHARS, "hi there")
    assert examples.labels[6] == "greet"


def test_invalid_json_lines_are_skipped_by_line_number(tmp_path: Path) -> None:
    rows = json_lines(*({"text": text, "label": label} for text, label in ROWS)).splitlines()
    lines = [rows[0], "", "{oops", *rows[1:], "[" * 100_000, "[1]", "9" * 5_000]
    found = fault(read_examples(file(tmp_path, "\n".join(lines), "a.jsonl")), "invalid-json")
    assert (found.count, found.rows) == (4, (3, 7, 8, 9))


def test_json_values_that_are_no_text_are_skipped_and_numbers_are_names(tmp_path: Path) -> None:
    odd = [{"text": None, "label": 1}, {"text": ["a"], "label": 1}, {"label": 1}, {"text": "z"}]
    rows = [{"text": str(i), "label": i % 2} for i in range(4)] + [
        {"text": "t", "label": True},
        {"text": "u", "label": True},
        {"text": "n", "label": float("nan")},
    ]
    examples = read_examples(file(tmp_path, json_lines(*rows, *odd), "a.jsonl"))
    assert fault(examples, "empty").rows == (7, 8, 9, 10, 11)
    assert set(examples.labels) == {"0", "1", "true"}


def test_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    rows = [{"text": f"\ud800 {text}", "label": label} for text, label in ROWS]
    examples = read_examples(file(tmp_path, json_lines(*rows), "a.jsonl"))
    assert fault(examples, "control-character").count == 4
    assert examples.texts[0] == "  where is it"


def test_windows_1252_is_decoded_and_reported(tmp_path: Path) -> None:
    content = GOOD.replace("hello", "café “bar”").encode("cp1252")
    examples = read_examples(file(tmp_path, content))
    assert fault(examples, "encoding").rows == ()
    assert examples.texts[2] == "café “bar” you"


def test_one_bad_byte_does_not_turn_utf8_into_mojibake(tmp_path: Path) -> None:
    content = GOOD.replace("hello", "žluťoučký kůň").encode() + b"bad \xff byte,find\n"
    examples = read_examples(file(tmp_path, content))
    assert fault(examples, "damaged-utf8").count == 1
    assert examples.texts[2] == "žluťoučký kůň you"
    assert examples.texts[4] == "bad \ufffd byte"


def test_a_quote_that_is_not_closed_does_not_swallow_the_file(tmp_path: Path) -> None:
    rows = [*ROWS, ('"oops', "find"), *ROWS]
    content = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows])
    examples = read_examples(file(tmp_path, content))
    assert {found.kind for found in examples.faults} == {"stray-quote", "duplicate"}
    assert pairs(examples) == rows


def test_strict_says_every_fault_and_its_rows(tmp_path: Path) -> None:
    examples = read_examples(file(tmp_path, GOOD + "a,b,c\nalone,rare\n"))
    error = as_error(examples.faults)
    assert isinstance(error, InputError)
    assert "1 x ragged-row (rows 5)" in str(error)
    assert "1 x single-row-class (rows 6)" in str(error)
    assert "--strict" in str(error)


# anything at all


FIELD = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"))
BYTES = st.one_of(
    st.binary(max_size=300),
    st.text(st.sampled_from('ab,;\t|"\n\r {}[]:1\ufeff\0é'), max_size=60).map(str.encode),
    st.lists(
        st.sampled_from([b"text", b"label", b",", b"\n", b"\xff", b'"', b"x", b"{", b"}"])
    ).map(b"".join),
)


@QUICK
@given(
    content=BYTES,
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.txt", "a"]),
    labelled=st.booleans(),
    column=st.sampled_from([None, "text", "x", "column 1"]),
)
@example(content=b"\xff\xfe\x00", name="a.csv", labelled=True, column=None)
@example(content=b"\n" * 70_000 + b"a,b", name="a.csv", labelled=True, column=None)
def test_any_bytes_give_examples_or_an_input_error(
    tmp_path: Path, content: bytes, name: str, labelled: bool, column: str | None
) -> None:
    try:
        examples = read_examples(
            file(tmp_path, content, name), text_column=column, labelled=labelled
        )
    except InputError as error:
        assert "Wanted" in str(error)
    else:
        assert examples.texts
        assert len(examples.labels) == (len(examples.texts) if labelled else 0)
        assert min(Counter(examples.labels).values(), default=2) >= 2


@QUICK
@given(
    st.lists(
        st.tuples(FIELD, st.sampled_from(["a", "B b", "ü", '"q"', "x,y"])), min_size=2, max_size=12
    ),
    st.sampled_from(",\t;|"),
)
def test_what_a_csv_writer_wrote_is_read_back(
    tmp_path: Path, rows: list[tuple[str, str]], delimiter: str
) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([("text", "label"), *rows])
    filled = [(text, label) for text, label in rows if text.strip()]
    n_rows = Counter(label for _, label in filled)
    wanted = [(text, label) for text, label in filled if n_rows[label] > 1]
    path = file(tmp_path, out.getvalue())
    if len({label for _, label in wanted}) < 2:
        with pytest.raises(InputError):
            read_examples(path)
    else:
        assert pairs(read_examples(path)) == wanted


@QUICK
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "", "a"]),
            st.none() | st.text(max_size=3) | st.floats(),
            max_size=3,
        ),
        max_size=6,
    )
)
def test_any_json_objects_give_examples_or_an_input_error(
    tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    full = [{"text": str(i), "label": "xy"[i % 2]} for i in range(4)]
    content = json_lines(*(row | extra for row, extra in zip(rows, full * 9, strict=False)))
    try:
        read_examples(file(tmp_path, content, "a.jsonl"))
    except InputError as error:
        assert "Wanted" in str(error)
