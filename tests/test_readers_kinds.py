"""Every kind of task is read from every format; what is mended is counted."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.data.bio import n_broken, scheme_of, spans_of_tags
from mendel.data.faults import MAX_CHARS, Fault
from mendel.data.readers import Examples, read_examples
from mendel.data.targets import Span, TaskKind
from mendel.data.texts import read_texts
from mendel.types import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
DESK = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
KINDS: list[TaskKind] = ["classify", "multilabel", "tag", "pair", "regress", "extract"]
QUICK = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PLAY = "play\tO\nsome\tO\nnina\tB-artist\nsimone\tI-artist\n\nstop\tO\n"


def file(tmp_path: Path, content: str | bytes, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(tmp_path: Path, *rows: object) -> Path:
    return file(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "a.jsonl")


def conll(tmp_path: Path, content: str | bytes) -> Examples:
    return read_examples(file(tmp_path, content, "a.conll"))


def marked(tmp_path: Path, text: str, *spans: object) -> Examples:
    """A file of this row and of one without fault."""
    good = {"text": "to Rome", "spans": [{"start": 3, "end": 7, "label": "city"}]}
    return read_examples(jsonl(tmp_path, good, {"text": text, "spans": spans}))


def pieces(examples: Examples) -> list[list[tuple[str, str]]]:
    """The text of each span beside its label."""
    rows = zip(examples.texts, examples.targets, strict=True)
    return [[(text[s.start : s.end], s.label) for s in spans_in(target)] for text, target in rows]


def spans_in(target: object) -> list[Span]:
    assert isinstance(target, tuple)
    return [item for item in target if isinstance(item, Span)]


def fault(examples: Examples) -> Fault:
    """The only one."""
    assert len(examples.faults) == 1, examples.faults
    return examples.faults[0]


def real(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"real data is absent: {DATA / name}")
    return DATA / name


# tag: tokens and tags


def test_conll_is_read_and_guessed_by_its_lines(tmp_path: Path) -> None:
    path = file(tmp_path, "-DOCSTART- -X- O\n\n" + PLAY.replace("\t", " NN "), "a.txt")
    examples = read_examples(path)
    assert examples.kind == "tag"
    assert examples.texts == ("play some nina simone", "stop")
    assert examples.targets == ((Span(10, 21, "artist"),), ())
    assert (examples.faults, examples.notes, examples.labels) == ((), (), ())


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_conll_has_any_line_end_and_blank_lines_with_tabs(
    tmp_path: Path, bom: bytes, end: bytes
) -> None:
    spaced = PLAY.replace("\n\n", "\n\t\n\n").replace("\tB", " \t B")
    raw = spaced.encode().replace(b"\n", end)
    assert pieces(conll(tmp_path, bom + raw)) == [[("nina simone", "artist")], []]


def test_a_comment_is_no_sentence_and_a_hash_is_a_token(tmp_path: Path) -> None:
    examples = conll(tmp_path, "# id 1\tdomain=en\n#\tO\n1\tB-rank\n\n# text = x\nx\tO\n")
    assert examples.texts == ("# 1", "x")


@pytest.mark.parametrize("bad", ["lonely", "\tO", "a\tb\tO", "word\t"])
def test_a_sentence_with_a_ragged_line_is_skipped_and_counted(tmp_path: Path, bad: str) -> None:
    examples = conll(tmp_path, PLAY + f"\nfine\tO\n{bad}\n\nlast\tO\n")
    assert examples.texts == ("play some nina simone", "stop", "last")
    assert (fault(examples).kind, fault(examples).rows) == ("ragged-sentence", (8,))


def test_broken_tags_are_mended_as_conlleval_does_and_counted(tmp_path: Path) -> None:
    broken = "in\tO\nnew\tI-city\nyork\tI-city\n\nnina\tB-artist\nrome\tI-city\n\nto\tO\n"
    examples = conll(tmp_path, PLAY + "\n" + broken)
    wanted = [[("new york", "city")], [("nina", "artist"), ("rome", "city")], []]
    assert pieces(examples)[2:] == wanted
    assert (fault(examples).kind, fault(examples).count) == ("broken-tags", 2)
    assert fault(examples).rows == (8, 12)


SCHEMES = {
    "BIO": ["B-x I-x B-x O B-y", "O B-y"],
    "IOB1": ["I-x I-x B-x O I-y", "O I-y"],
    "BIOES": ["B-x E-x S-x O S-y", "O S-y"],
    "BILOU": ["B-x L-x U-x O U-y", "O U-y"],
    "underscores": ["B_x E_x S_x O S_y", "O S_y"],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_says_the_same_and_is_no_fault(tmp_path: Path, scheme: str) -> None:
    blocks = ["\n".join(f"w {tag}" for tag in row.split()) for row in SCHEMES[scheme]]
    examples = conll(tmp_path, "\n\n".join(blocks))
    spans = (Span(0, 3, "x"), Span(4, 5, "x"), Span(8, 9, "y"))
    assert examples.targets == (spans, (Span(2, 3, "y"),))
    assert examples.faults == ()
    assert len(examples.notes) == (scheme != "BIO")


@pytest.mark.parametrize(
    ("tags", "n"),
    [("B-x O", 1), ("E-x S-x", 1), ("B-x I-y E-y", 1), ("B-x S-y", 1), ("B-x I-x E-x", 0)],
)
def test_steps_that_break_bioes_are_counted(tags: str, n: int) -> None:
    assert n_broken(tags.split(), "BIOES") == n
    assert scheme_of([tags.split(), ["S-z"]]) == ("BIOES", n)


def test_tags_without_prefix_are_spans_while_they_touch(tmp_path: Path) -> None:
    examples = read_examples(
        file(tmp_path, "go O\nto O\nnew city\nyork city\n", "a.txt"), kind="tag"
    )
    assert pieces(examples) == [[("new york", "city")]]
    assert "no tag begins" in examples.notes[0]


@given(st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.sampled_from("OxyBI"))))
def test_bio_becomes_spans_and_the_same_bio_again(words: list[tuple[str, str]]) -> None:
    tokens, tags = [word for word, _ in words], ["O"] * len(words)
    for i, (_, mark) in enumerate(words):
        kind = tags[i - 1][2:] if i and tags[i - 1] != "O" else ""
        if mark in "xy":
            tags[i] = f"B-{mark}"
        elif mark == "I" and kind:
            tags[i] = f"I-{kind}"
    assert tags_again(tokens, spans_of_tags(tokens, tags)) == tags


def tags_again(tokens: Sequence[str], spans: Sequence[Span]) -> list[str]:
    tags, at = [], 0
    for token in tokens:
        tag = next((s for s in spans if s.start <= at < s.end), None)
        tags.append("O" if tag is None else ("B-" if at == tag.start else "I-") + tag.label)
        at += len(token) + 1
    return tags


@given(
    st.lists(st.sampled_from(["O", "B-x", "I-x", "E-x", "S-x", "B-y", "I-y", "L-y", "U-y", "z"]))
)
def test_any_tags_give_sorted_disjoint_spans_that_cover_what_is_tagged(tags: list[str]) -> None:
    spans = spans_of_tags(["w"] * len(tags), tags)
    assert all(one.end <= other.start for one, other in pairwise(spans))
    covered = {at for span in spans for at in range(span.start, span.end)}
    assert [2 * i in covered for i in range(len(tags))] == [tag != "O" for tag in tags]


def test_a_folder_of_seq_files_is_tagged_or_classified(tmp_path: Path) -> None:
    file(tmp_path, "play nina simone \nstop  it\nhalt\nplay rome\n", "seq.in")
    file(tmp_path, "O B-artist I-artist \nO O\nO O\nO O\n", "seq.out")
    file(tmp_path, "Play\nStop\nStop\nPlay\n", "label")
    tagged = read_examples(tmp_path, kind="tag")
    assert tagged.texts == ("play nina simone", "stop it", "play rome")
    assert pieces(tagged) == [[("nina simone", "artist")], [], []]
    assert (fault(tagged).kind, fault(tagged).rows) == ("ragged-sentence", (3,))
    assert read_examples(tmp_path / "seq.in", kind="tag").digest == tagged.digest
    assert read_examples(tmp_path).labels == ("Play", "Stop", "Stop", "Play")
    (tmp_path / "label").unlink()
    assert read_examples(tmp_path).digest == tagged.digest


def test_seq_files_of_different_length_are_refused(tmp_path: Path) -> None:
    file(tmp_path, "a\nb\n", "seq.in")
    file(tmp_path, "O\n", "seq.out")
    with pytest.raises(InputError, match=r"2 of seq\.in, 1 of seq\.out"):
        read_examples(tmp_path)


def test_a_file_without_a_sentence_that_pairs_up_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"tokens": ["a", "b"], "tags": ["O"]})
    with pytest.raises(InputError, match="1 x ragged-sentence"):
        read_examples(path)


@pytest.mark.parametrize("names", [("tokens", "ner_tags"), ("words", "labels")])
def test_lists_of_tokens_and_tags_are_read(tmp_path: Path, names: tuple[str, str]) -> None:
    rows = [{"text": "(other)", names[0]: ["to", "Rome"], names[1]: ["O", "B-city"]}] * 2
    examples = read_examples(jsonl(tmp_path, *rows, {names[0]: ["x"], names[1]: []}))
    assert (examples.kind, examples.text_column, examples.texts[0]) == ("tag", names[0], "to Rome")
    assert pieces(examples)[0] == [("Rome", "city")]
    assert [found.kind for found in examples.faults] == ["ragged-sentence", "duplicate"]


def test_real_wnut17_and_snips_are_read_whole() -> None:
    wnut = read_examples(real("wnut17/wnut17train.conll"))
    assert (len(wnut.texts), sum(map(len, pieces(wnut)))) == (3394, 1975)
    assert {found.kind for found in wnut.faults} == {"duplicate", "conflict"}
    snips = read_examples(real("snips_slots/train"), kind="tag")
    assert (len(snips.texts), len({s for row in pieces(snips) for _, s in row})) == (13_084, 39)
    assert len(set(read_examples(real("snips_slots/train"), kind="classify").labels)) == 7


# tag: spans of characters


SHAPES = [
    {"start": 3, "end": 7, "label": "city"},
    {"start": 3, "end": 7, "type": "city"},
    {"start_offset": 3, "end_offset": 7, "label": "city"},
    [3, 7, "city"],
]


@pytest.mark.parametrize("key", ["spans", "entities"])
@pytest.mark.parametrize("span", SHAPES)
def test_spans_are_read_in_every_shape(tmp_path: Path, key: str, span: object) -> None:
    rows = [{"text": "to Rome", key: [span]}, {"text": "none", key: []}]
    examples = read_examples(jsonl(tmp_path, *rows))
    assert examples.targets == ((Span(3, 7, "city"),), ())
    assert (examples.kind, examples.faults) == ("tag", ())


def test_the_support_desk_is_classified_unless_spans_are_asked_for() -> None:
    assert read_examples(DESK).kind == "classify"
    examples = read_examples(DESK, kind="tag")
    assert examples.faults == ()
    rows = [json.loads(line) for line in DESK.read_text(encoding="utf-8").splitlines()]
    wanted = [[(r["text"][s["start"] : s["end"]], s["type"]) for s in r["spans"]] for r in rows]
    assert pieces(examples) == wanted


@pytest.mark.parametrize(
    ("spans", "kind", "wanted"),
    [
        ([[0, 99, "x"], [0, 2, "y"]], "span-outside", [("go", "y")]),
        ([[-2, 2, "x"]], "span-outside", []),
        ([[5, 3, "x"]], "span-outside", []),
        ([[3, 3, "x"]], "empty-span", []),
        ([[2, 3, "x"]], "empty-span", []),
        ([[2, 6, "x"]], "span-space", [("to", "x")]),
        ([[0, 2, "x"], [0, 5, "y"]], "overlapping-span", [("go to", "y")]),
        ([[0, 5, "x"], [3, 8, "y"]], "overlapping-span", [("go to", "x")]),
        ([[0, 2, "x"], [0, 2, "y"]], "overlapping-span", [("go", "x")]),
        ([[0, 2], [0, 2, None], "x", None, [True, 2, "x"], [0.0, 2, "x"]], "odd-span", []),
        ([[0, 2, "CITY"]], "label-case", [("go", "CITY")]),
        (None, "empty", None),
    ],
)
def test_odd_spans_are_mended_or_dropped_and_counted(
    tmp_path: Path, spans: list[object] | None, kind: str, wanted: list[object] | None
) -> None:
    good = {"text": "to Rome", "spans": [[3, 7, "city"]]}
    examples = read_examples(
        jsonl(tmp_path, good, {"text": "go to Rome", "spans": spans}), kind="tag"
    )
    assert pieces(examples)[1:] == ([] if wanted is None else [wanted])
    assert (fault(examples).kind, fault(examples).rows) == (kind, (2,))
    assert fault(examples).count == (6 if kind == "odd-span" else 1)


def test_offsets_stay_where_control_characters_go(tmp_path: Path) -> None:
    examples = marked(tmp_path, "a\x07b Rome", [4, 8, "city"])
    assert (examples.texts[1], pieces(examples)[1]) == ("a b Rome", [("Rome", "city")])


@QUICK
@given(
    text=st.text(" aé\t😀", max_size=12),
    spans=st.lists(
        st.tuples(st.integers(-2, 14), st.integers(-2, 14), st.sampled_from(["a", "b", ""]))
    ),
)
def test_spans_are_always_sorted_disjoint_and_trimmed(
    tmp_path: Path, text: str, spans: list[tuple[int, int, str]]
) -> None:
    examples = marked(tmp_path, f".{text}", *spans)
    at = 0
    for span in spans_in(examples.targets[1]):
        piece = examples.texts[1][span.start : span.end]
        assert at <= span.start < span.end
        assert piece == piece.strip()
        at = span.end
    n_dropped = sum(f.count for f in examples.faults if f.kind not in ("span-space", "duplicate"))
    assert len(spans_in(examples.targets[1])) == len(spans) - n_dropped


@pytest.mark.parametrize("content", ["a\tO\nb\tO\n", '{"text": "a", "spans": [[0, 9, "x"]]}\n'])
def test_a_file_that_marks_nothing_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="marks nothing"):
        read_examples(file(tmp_path, content, "a"), kind="tag")


# multilabel


def test_lists_of_labels_are_sorted_sets_and_may_be_empty(tmp_path: Path) -> None:
    lists = [["b", "a", "a"], [], ["a/b/c", " b "], ["a", "a/b/c"]]
    examples = read_examples(jsonl(tmp_path, *({"text": str(t), "labels": t} for t in lists)))
    assert examples.kind == "multilabel"
    assert examples.targets == (("a", "b"), (), ("a/b/c", "b"), ("a", "a/b/c"))
    assert (examples.faults, examples.labels) == ((), ())


@pytest.mark.parametrize("kind", [None, "multilabel"])
def test_cells_are_parted_by_bars_and_semicolons_but_not_by_commas(
    tmp_path: Path, kind: TaskKind | None
) -> None:
    content = 'text,labels\nx,a|b\ny,b ; a\nz,"c, d"\nw,\nv,"c, d"\n'
    examples = read_examples(file(tmp_path, content, "a.csv"), kind=kind)
    assert examples.targets == (("a", "b"), ("a", "b"), ("c, d",), (), ("c, d",))
    assert examples.faults == ()


def test_odd_and_rare_labels_are_counted(tmp_path: Path) -> None:
    lists: list[Any] = [["a", "b"], ["a", None, {}], ["b", "rare"], None, ["A"], ["A"]]
    rows = [{"text": str(i), "labels": labels} for i, labels in enumerate(lists)]
    examples = read_examples(jsonl(tmp_path, *rows))
    assert examples.targets[1] == ("a",)
    found = {f.kind: (f.count, f.rows) for f in examples.faults}
    assert found == {
        "empty": (1, (4,)),
        "odd-label": (2, (2,)),
        "rare-label": (1, (3,)),
        "label-case": (2, (5, 6)),
    }


@pytest.mark.parametrize("labels", [["a"], []])
def test_fewer_than_two_labels_are_refused(tmp_path: Path, labels: list[str]) -> None:
    path = jsonl(tmp_path, {"text": "x", "labels": labels}, {"text": "y", "labels": []})
    with pytest.raises(InputError, match="too few labels"):
        read_examples(path, kind="multilabel")


def test_numbers_in_lists_are_names_of_labels(tmp_path: Path) -> None:
    rows = [{"text": str(i), "labels": [i % 2, 7]} for i in range(4)]
    assert read_examples(jsonl(tmp_path, *rows)).targets[:2] == (("0", "7"), ("1", "7"))


def test_one_label_in_every_row_is_noted(tmp_path: Path) -> None:
    rows = [{"text": str(i), "labels": ["ab"[i % 2]]} for i in range(4)]
    assert "classify may fit" in read_examples(jsonl(tmp_path, *rows)).notes[0]


# pair


PAIRS = "id,{},{},label\n1,a b,c d,same\n2,b c,d e,same\n3,x y,y z,other\n4,u v,v w,other\n"


@pytest.mark.parametrize("names", [("text1", "text2"), ("Premise", "Hypothesis")])
def test_two_texts_with_names_of_a_pair_are_one(tmp_path: Path, names: tuple[str, str]) -> None:
    examples = read_examples(file(tmp_path, PAIRS.format(*names), "a.csv"))
    assert (examples.kind, examples.texts[0], examples.labels[0]) == ("pair", "a b\tc d", "same")
    assert (examples.text_column, examples.second_column) == names


def test_two_texts_without_names_are_a_pair_where_the_user_says_so(tmp_path: Path) -> None:
    path = file(tmp_path, PAIRS.format("ours", "theirs"), "a.csv")
    by_kind = read_examples(path, kind="pair")
    by_column = read_examples(path, text_column="ours", second_column="theirs")
    assert by_kind == by_column
    assert by_kind.texts[1] == "b c\td e"
    swapped = read_examples(path, kind="pair", second_column="ours")
    assert swapped.texts[1] == "d e\tb c"


def test_a_tab_inside_of_a_pair_is_a_space_and_half_a_pair_is_skipped(tmp_path: Path) -> None:
    rows = [{"text1": f"a\t{i}", "text2": "b\tc", "label": i % 2} for i in range(4)]
    examples = read_examples(jsonl(tmp_path, *rows, {"text1": "x", "text2": "", "label": 0}))
    assert examples.texts == tuple(f"a {i}\tb c" for i in range(4))
    assert (fault(examples).kind, fault(examples).rows) == ("empty", (5,))


def test_each_text_of_a_pair_is_cut_by_itself(tmp_path: Path) -> None:
    rows = [{"text1": "x" * 30_000, "text2": f"y{i}", "label": i % 2} for i in range(4)]
    examples = read_examples(jsonl(tmp_path, *rows))
    assert examples.texts[3] == "x" * MAX_CHARS + "\ty3"
    assert (fault(examples).kind, fault(examples).count) == ("long-text", 4)


def test_a_pair_of_one_column_is_refused(tmp_path: Path) -> None:
    path = file(tmp_path, "text,label\na,x\nb,x\nc,y\nd,y\n", "a.csv")
    with pytest.raises(InputError, match="--second-column"):
        read_examples(path, kind="pair")
    with pytest.raises(InputError, match="reads one text"):
        read_examples(path, kind="classify", second_column="label")


# regress


def numbers(*cells: object) -> str:
    return "text,score\n" + "".join(f"t{i},{cell}\n" for i, cell in enumerate(cells))


def test_numbers_are_guessed_where_they_measure(tmp_path: Path) -> None:
    measured = read_examples(file(tmp_path, numbers(*(i / 4 for i in range(25))), "a.csv"))
    assert measured.kind == "regress"
    assert measured.targets[:3] == (0.0, 0.25, 0.5)
    counted = file(tmp_path, numbers(*(i % 3 for i in range(30))), "b.csv")
    assert read_examples(counted).kind == "classify"
    assert read_examples(counted, kind="regress").targets[:4] == (0.0, 1.0, 2.0, 0.0)


def test_a_class_beside_a_number_is_what_is_meant(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "score": i / 4, "verdict": "ab"[i % 2]} for i in range(40)]
    assert read_examples(jsonl(tmp_path, *rows)).label_column == "verdict"


def test_what_is_no_number_is_skipped_and_counted(tmp_path: Path) -> None:
    content = numbers("1.5", "many", "nan", "inf", '"2,5"', "", "-3e2", " 7 ")
    examples = read_examples(file(tmp_path, content, "a.csv"), kind="regress")
    assert examples.targets == (1.5, -300.0, 7.0)
    found = {f.kind: (f.count, f.rows) for f in examples.faults}
    assert found == {"not-a-number": (4, (2, 3, 4, 5)), "empty": (1, (6,))}


def test_json_numbers_are_read_and_what_is_none_is_not(tmp_path: Path) -> None:
    cells: list[Any] = [1, 2.5, True, [1], None, 10**400]
    path = jsonl(tmp_path, *({"text": f"t{i}", "score": cell} for i, cell in enumerate(cells)))
    examples = read_examples(path, kind="regress")
    assert examples.targets == (1.0, 2.5)
    assert {f.kind: f.count for f in examples.faults} == {"not-a-number": 2, "empty": 2}


def test_one_number_everywhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one number only"):
        read_examples(file(tmp_path, numbers(2, 2.0, "2"), "a.csv"), kind="regress")


def test_a_pair_may_have_a_number(tmp_path: Path) -> None:
    rows = [{"text1": f"a{i}", "text2": f"b{i}", "score": i / 4} for i in range(30)]
    path = jsonl(tmp_path, *rows)
    examples = read_examples(path)
    assert (examples.kind, examples.texts[2], examples.targets[2]) == ("regress", "a2\tb2", 0.5)
    swapped = read_examples(path, kind="regress", text_column="text2", second_column="text1")
    assert swapped.texts[2] == "b2\ta2"
    assert read_examples(path, kind="regress", text_column="text2").texts[2] == "b2"


# parquet and Hugging Face data sets


def features(**names: list[str]) -> dict[str, Any]:
    return {key: {"names": value, "_type": "ClassLabel"} for key, value in names.items()}


def saved(folder: Path, columns: dict[str, Any], info: dict[str, Any]) -> Path:
    """A data set as save_to_disk writes it."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    folder.mkdir(exist_ok=True)
    table = pyarrow.table(columns)
    with pyarrow.ipc.new_stream(folder / "data-0.arrow", table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-0.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": info}))
    return folder


def parquet(path: Path, columns: dict[str, Any], info: dict[str, Any]) -> Path:
    """A parquet file as datasets writes it."""
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import write_table

    meta = json.dumps({"info": {"features": info}})
    write_table(pyarrow.table(columns).replace_schema_metadata({"huggingface": meta}), path)
    return path


WAYS = [
    lambda tmp_path, columns, info: saved(tmp_path / "set", columns, info),
    lambda tmp_path, columns, info: parquet(tmp_path / "a.parquet", columns, info),
]
Way = Callable[[Path, dict[str, Any], dict[str, Any]], Path]


@pytest.mark.parametrize("way", WAYS, ids=["on disk", "parquet"])
def test_numbers_of_classes_become_their_names(tmp_path: Path, way: Way) -> None:
    columns = {"text": ["a", "b", "c", "d", "e"], "label": [1, 0, 1, 0, -1], "raw": [b"\0"] * 5}
    examples = read_examples(way(tmp_path, columns, features(label=["no", "yes"])))
    assert examples.labels == ("yes", "no", "yes", "no")
    assert (fault(examples).kind, fault(examples).rows) == ("empty", (5,))


@pytest.mark.parametrize("way", WAYS, ids=["on disk", "parquet"])
@pytest.mark.parametrize("form", [lambda f: {"feature": f, "_type": "List"}, lambda f: [f]])
def test_numbers_of_tags_become_spans(tmp_path: Path, way: Way, form: Callable[[Any], Any]) -> None:
    columns = {"id": ["0"], "tokens": [["to", "New", "York"]], "ner_tags": [[0, 1, 2]]}
    info = {"ner_tags": form(features(x=["O", "B-city", "I-city"])["x"])}
    examples = read_examples(way(tmp_path, columns, info))
    assert (examples.kind, pieces(examples)) == ("tag", [[("New York", "city")]])


def test_spans_and_lists_come_out_of_parquet_as_out_of_json(tmp_path: Path) -> None:
    rows = [{"text": "to Rome", "spans": [{"start": 3, "end": 7, "label": "city"}]}]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    by_json = read_examples(jsonl(tmp_path, *rows))
    assert read_examples(parquet(tmp_path / "a.parquet", columns, {})).digest == by_json.digest
    assert read_texts(tmp_path / "a.parquet").texts == ("to Rome",)


def test_of_several_splits_one_is_to_be_named(tmp_path: Path) -> None:
    saved(tmp_path / "train", {"text": ["a"]}, {})
    file(tmp_path, '{"splits": ["train"]}', "dataset_dict.json")
    with pytest.raises(InputError, match=r"several splits\. Got train\."):
        read_examples(tmp_path)


def test_without_pyarrow_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'pip install "mendel\[tables\]"'):
        read_examples(file(tmp_path, b"PAR1", "a.parquet"))
    file(tmp_path, "{}", "state.json")
    with pytest.raises(InputError, match=r'pip install "mendel\[tables\]"'):
        read_examples(tmp_path)


def test_damaged_parquet_and_data_sets_are_input_errors(tmp_path: Path) -> None:
    columns = {"text": ["a b", "c"] * 9, "label": ["x", "y"] * 9}
    path = parquet(tmp_path / "a.parquet", columns, {})
    folder = saved(tmp_path / "set", columns, {})
    whole = {name: name.read_bytes() for name in [path, *folder.iterdir()]}
    draw = random.Random(0)
    for name, raw in whole.items():
        for _ in range(60):
            at = draw.randrange(len(raw))
            name.write_bytes(raw[:at] + draw.randbytes(2) + raw[at + draw.randrange(4) :])
            try:
                examples = read_examples(path if name == path else folder)
            except InputError as error:
                assert "Wanted" in str(error)
            else:
                assert len(examples.texts) == len(examples.targets)
        name.write_bytes(raw)


# texts without labels


def test_plain_text_is_one_text_a_line(tmp_path: Path) -> None:
    texts = read_texts(file(tmp_path, "one, two\r\n\r\nbe\x07ep\r\none, two\r\n \r\n", "a.txt"))
    assert texts.texts == ("one, two", "be ep", "one, two")
    found = {f.kind: (f.count, f.rows) for f in texts.faults}
    assert found == {
        "empty-line": (2, (2, 5)),
        "control-character": (1, (3,)),
        "duplicate": (1, (4,)),
    }


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,text\n1,to Rome\n2,home\n"),
        ("a.txt", '{"text": "to Rome"}\n{"text": "home"}\n'),
        ("a.conll", "to O\nRome B-city\n\nhome O\n"),
        ("a.conll", "to\nRome\n\nhome\n"),
        ("seq.in", "to Rome\nhome\n"),
        ("a.txt", "to Rome\nhome"),
    ],
)
def test_texts_are_read_from_every_format(tmp_path: Path, name: str, content: str) -> None:
    assert read_texts(file(tmp_path, content, name)).texts == ("to Rome", "home")


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_texts_of_an_empty_file_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError, match="is empty"):
        read_texts(file(tmp_path, content, "a.txt"))


# anything at all, and speed


WORDS = ["text", "label", "spans", "tokens", "a", "O", "B-x", "I-x", "1.5", *"|,{}[]:é"]
ROW = '{"text": "a", "spans": [[0, 1, "x"]]}\n'
BITS = st.sampled_from([*WORDS, '"', "\t", " ", "\n", "\n\n", "\x85", ROW])


@QUICK
@given(
    content=st.one_of(st.binary(max_size=200), st.lists(BITS).map(lambda b: "".join(b).encode())),
    name=st.sampled_from(["a.csv", "a.jsonl", "a.conll", "a.parquet", "seq.in", "a"]),
    kind=st.sampled_from([None, *KINDS]),
    labelled=st.booleans(),
)
def test_any_bytes_give_examples_of_the_kind_or_an_input_error(
    tmp_path: Path, content: bytes, name: str, kind: TaskKind | None, labelled: bool
) -> None:
    path = file(tmp_path, content, name)
    try:
        examples = read_examples(path, kind=kind, labelled=labelled)
    except InputError as error:
        assert "Wanted" in str(error)
    else:
        assert kind in (None, examples.kind)
        assert len(examples.targets) == (len(examples.texts) if labelled else 0)
        wanted = {"tag": tuple, "multilabel": tuple, "regress": float, "extract": tuple}.get(
            examples.kind, str
        )
        assert all(isinstance(target, wanted) for target in examples.targets)
    path.unlink()


def cells(kind: TaskKind, i: int) -> dict[str, Any]:
    text = f"please play song number {i} by nina simone"
    answers: dict[TaskKind, Any] = {
        "classify": f"class {i % 50}",
        "multilabel": [f"class {i % 50}", f"class {i % 7}"],
        "tag": [{"start": len(text) - 11, "end": len(text), "label": "artist"}],
        "pair": f"class {i % 2}",
        "regress": i / 7,
        "extract": {"number": i, "artist": "nina simone"},
    }
    return {"text1": text, "text2": text, "label": answers[kind]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_rows_of_json_are_read_quickly(tmp_path: Path, kind: TaskKind) -> None:
    path = jsonl(tmp_path, *(cells(kind, i) for i in range(10_000)))
    column = None if kind == "pair" else "text1"
    check_quick(path, kind, column)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classify", "regress", "tag"])
def test_ten_thousand_rows_of_parquet_are_read_quickly(tmp_path: Path, kind: TaskKind) -> None:
    rows = [cells(kind, i) for i in range(10_000)]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    check_quick(parquet(tmp_path / "a.parquet", columns, {}), kind, "text1")


@pytest.mark.slow
def test_ten_thousand_sentences_are_read_quickly(tmp_path: Path) -> None:
    sentence = "please O\nplay O\nnina B-artist\nsimone I-artist\nnumber O\n{} B-number\nnow O\n\n"
    content = "".join(sentence.format(i) for i in range(10_000))
    check_quick(file(tmp_path, content, "a.conll"), "tag", None)


def check_quick(path: Path, kind: TaskKind, text_column: str | None) -> None:
    start = process_time()
    examples = read_examples(path, kind=kind, text_column=text_column)
    seconds = process_time() - start
    assert len(examples.texts) == 10_000
    assert seconds < 0.3 * 3, f"{seconds:.2f} s"  # 0.1 to 0.25 s alone
