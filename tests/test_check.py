"""Each thing that can be wrong with a file of texts is found, and no secret is ever shown."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from itertools import combinations, islice, pairwise
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mendel.cli import main
from mendel.data.check import Finding, Report, check_data
from mendel.data.check.languages import _model
from mendel.data.check.personal import KINDS, find, mask
from mendel.types import InputError

BANKING = Path(__file__).parents[2] / "shared" / "data" / "banking77" / "train.csv"
WORDS = {
    "card": "card chip plastic letter envelope delivery postman doorstep arrival wallet",
    "loan": "loan mortgage house interest repayment lender broker instalment deposit contract",
    "travel": "airport abroad hotel holiday currency passport border journey luggage ticket",
}
Cells = tuple[str, ...]


def clean(n: int = 20, names: Sequence[str] = tuple(WORDS)) -> list[Cells]:
    """n rows of each class, no two of them alike."""
    return [
        (f"is the {a} with the {b} or the {c}", name)
        for name in names
        for a, b, c in islice(combinations(WORDS[name].split(), 3), 0, 5 * n, 5)
    ]


def numbered(n: int, label: str) -> list[Cells]:
    return [(f"my card came with the number {i:03} on it", label) for i in range(n)]


def write(path: Path, rows: Sequence[Cells], header: Cells = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def of_kind(report: Report, kind: str) -> Finding:
    [found] = [f for f in report.findings if f.kind == kind]
    return found


def call(monkeypatch: pytest.MonkeyPatch, *argv: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["mendel", "check", *map(str, argv)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


SECRETS = {
    "e-mail": "jane.o'neil+bank@mail.example.co.uk",
    "phone": "+44 20 7946 0958",
    "iban": "DE89 3704 0044 0532 0130 00",
    "payment-card": "4111 1111 1111 1111",
    "ip-address": "203.0.113.77",
    "private-key": "-----BEGIN PRIVATE KEY-----\nMIIEow\nIBAAKCAQEA\n-----END PRIVATE KEY-----",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "api-key": "AKIAIOSFODNN7EXAMPLE",
}  # fmt: skip
assert set(SECRETS) == set(KINDS)

GERMAN = "bitte sagen Sie mir, wann meine neue Karte endlich bei mir zu Hause ankommt"
PLANTED: dict[str, tuple[Callable[[list[Cells]], list[Cells]], int, list[int]]] = {
    # kind -> what is planted, how many are to be found, in which rows
    "duplicate": (lambda rows: [*rows, rows[0]], 1, [61]),
    "conflict": (lambda rows: [*rows, (rows[0][0], "loan")], 2, [1, 61]),
    "empty": (lambda rows: [*rows, ("", "loan"), ("good day to you all", " ")], 2, [61, 62]),
    "label-space": (lambda rows: [*rows, ("where is the loan money", "loan ")], 1, [61]),
    "label-spelling": (lambda rows: [*rows, ("where is the loan money", "LOAN")], 1, [61]),
    "small-class": (lambda rows: [*rows, ("good morning to you", "hello")], 1, [61]),
    "imbalance": (lambda rows: [*rows, *numbered(401, "card")], 21, []),
    "suspicious-label": (lambda rows: [(rows[0][0], "travel"), *rows[1:]], 1, [1]),
    "mixed-language": (lambda rows: [*rows, *[(f"{GERMAN} {i}", "card") for i in range(3)]], 3,
                       [61, 62, 63]),
    **{kind: (lambda rows, secret=secret: [*rows, (f"it is {secret} I think", "card")], 1, [61])
       for kind, secret in SECRETS.items()},
}  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_is_found_with_its_rows(kind: str, tmp_path: Path) -> None:
    plant, count, rows = PLANTED[kind]
    found = of_kind(check_data(write(tmp_path / "data.csv", plant(clean()))), kind)
    assert (found.count, list(found.rows)) == (count, rows)
    assert found.why and found.do


def test_a_clean_file_has_no_finding_and_exits_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = clean()
    data, test = write(tmp_path / "data.csv", rows[::2]), write(tmp_path / "test.csv", rows[1::2])
    assert call(monkeypatch, data, "--test", test) == 0
    assert "nothing was found" in capsys.readouterr().out
    assert call(monkeypatch, data, "--test", test, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clean"] and told["findings"] == []
    assert told["skipped"] == {"suspicious-label": "fewer than 50 rows in classes of 5 or more"}


def test_the_facts_are_those_of_the_file(tmp_path: Path) -> None:
    rows = [("a bb", "x"), ("a bb ccc", "x"), ("a", "y"), ("one two three four", "y"), ("b", "y")]
    facts = check_data(write(tmp_path / "data.csv", rows)).facts
    assert (facts["rows"], facts["classes"]) == (5, 2)
    assert facts["words"] == {"median": 2, "p95": 4, "max": 4}
    assert facts["characters"] == {"median": 4, "p95": 18, "max": 18}
    assert facts["largest"] == {"label": "y", "rows": 3}
    assert facts["smallest"] == {"label": "x", "rows": 2}


def test_a_test_row_that_nearly_repeats_a_training_row_is_found(tmp_path: Path) -> None:
    rows = clean()
    again = (rows[0][0].capitalize() + "?", "card")
    data = write(tmp_path / "data.csv", rows[:-2])
    report = check_data(data, test=write(tmp_path / "test.csv", [*rows[-2:], again, again]))
    found = of_kind(report, "near-duplicate")
    assert found.count == 2 and found.rows == (3, 4)
    assert found.examples[0].more["near_row"] == 1
    assert found.examples[0].more["near_part"] == "train"


@pytest.mark.parametrize("column", ["split", "Fold"])
def test_without_a_test_file_a_column_states_the_split(column: str, tmp_path: Path) -> None:
    rows = [(*row, "train" if i % 2 else "test") for i, row in enumerate(clean())]
    rows += [(rows[1][0] + "!", "card", "test"), ("a long way home", "way", "test")]
    report = check_data(write(tmp_path / "data.csv", rows, ("text", "label", column)))
    assert report.facts["parts"] == {"test": 32, "train": 30}
    found = of_kind(report, "near-duplicate")
    assert (found.count, found.rows) == (1, (61,)) and "of 32 rows" in found.what
    assert of_kind(report, "unseen-label").rows == (62,)


def test_numbered_folds_have_no_training_side_so_both_rows_count(tmp_path: Path) -> None:
    rows = [(*row, str(i % 3)) for i, row in enumerate(clean())]
    rows += [(rows[0][0] + "!", "card", "1")]
    report = check_data(write(tmp_path / "data.csv", rows, ("text", "label", "fold")))
    assert of_kind(report, "near-duplicate").rows == (1, 61)


def test_test_labels_unseen_in_training_are_named_even_where_they_have_one_row(
    tmp_path: Path,
) -> None:
    rows = clean()
    test = [
        *rows[40:],
        ("where is my umbrella", "lost"),
        ("a cup of tea please", "café"),
        *[("how old is the queen of spain", "royalty"), ("who is the king of spain", "royalty")],
    ]
    data = write(tmp_path / "data.csv", rows[:50])
    found = of_kind(check_data(data, test=write(tmp_path / "t.csv", test)), "unseen-label")
    assert found.count == 4 and found.rows == (21, 22, 23, 24)
    assert all(name in found.what for name in ("'lost'", "'café'", "'royalty'"))


def test_five_percent_of_wrong_labels_in_real_data_are_found() -> None:
    if not BANKING.exists():
        pytest.skip(f"real data is absent: {BANKING}")
    recalls, precisions = zip(*map(_noise_found, range(2)), strict=True)
    assert min(recalls) >= 0.6 and min(precisions) >= 0.6, (recalls, precisions)


def _noise_found(seed: int) -> tuple[float, float]:
    """Recall and precision where 50 labels of 1,000 rows of 10 classes are wrong."""
    from mendel.data.check.rows import Row
    from mendel.data.check.suspicious import believed_wrong
    from mendel.data.splits import near_duplicate_groups

    rng = np.random.default_rng(seed)
    with BANKING.open(newline="", encoding="utf-8") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file)]
    names = rng.choice(sorted({label for _, label in rows}), 10, replace=False).tolist()
    rows = [row for row in rows if row[1] in names]
    rows = [rows[i] for i in rng.permutation(len(rows))[:1000]]
    wrong = set(rng.choice(len(rows), 50, replace=False).tolist())
    noisy = [
        Row(i, text, rng.choice([n for n in names if n != label]) if i in wrong else label, "")
        for i, (text, label) in enumerate(rows)
    ]
    found = believed_wrong(noisy, near_duplicate_groups([row.text for row in noisy]))
    n_right = sum(row.number in wrong for row, _, _ in found)
    return n_right / len(wrong), n_right / len(found)


def test_of_more_rows_than_can_be_judged_some_are_and_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mendel.data.check.examine.MAX_JUDGED", 56)
    rows = clean()
    rows[14] = (rows[14][0], "travel")  # row 13 is not among those that are judged
    found = of_kind(check_data(write(tmp_path / "data.csv", rows)), "suspicious-label")
    assert found.rows == (15,) and "of 56 rows" in found.what


@pytest.mark.slow
def test_ten_thousand_rows_of_77_classes_are_checked_in_half_a_minute() -> None:
    if not BANKING.exists():
        pytest.skip(f"real data is absent: {BANKING}")
    began = process_time()
    report = check_data(BANKING)
    assert process_time() - began <= 30
    assert report.facts["rows"] == 10_003 and report.facts["classes"] == 77
    assert {found.kind for found in report.findings} == {"suspicious-label"}
    assert report.facts["languages"]["en"] > 0.999


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["screen", "json"])
def test_no_output_shows_a_secret_wherever_it_stands(
    flags: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In texts, labels, columns, parts; in rows shown for their label, language or a repeat."""
    everything = " and ".join(SECRETS.values())
    column = SECRETS["e-mail"]
    rows = [(*row, "train") for row in clean()]
    rows += [(f"{secret} came by post", secret, secret) for secret in SECRETS.values()]
    rows += [(f"{secret} came by post!", secret, "test") for secret in SECRETS.values()]
    rows += [("it came with the post", SECRETS["e-mail"].upper(), "test")]
    rows += [(f"{GERMAN} {everything}", "card", "test"), (everything, "card", "train")]
    rows += [(rows[0][0] + " " + everything, "travel", "train")] * 3
    data = write(tmp_path / "data.csv", rows, (column, "label", "split"))
    assert call(monkeypatch, data, "--text-column", column, *flags) == 1
    said = "".join(capsys.readouterr())
    kinds = {*KINDS, "label-spelling", "small-class", "near-duplicate", "unseen-label", "duplicate"}
    for kind in kinds:
        assert kind in said
    spoken = said.replace("\\n", " ")
    for secret in SECRETS.values():
        for piece in secret.split("\n"):
            assert piece.lower() not in spoken.lower(), piece


def test_an_error_shows_no_secret_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(text, SECRETS["e-mail"]) for text, _ in clean()]
    assert call(monkeypatch, write(tmp_path / "data.csv", rows)) == 2
    said = capsys.readouterr().err
    assert "one class only" in said and "[e-mail]" in said and SECRETS["e-mail"] not in said


FOUND = {
    "e-mail": ["a@b.de", "x.y+z@münchen.de", "write to me@here.org."],
    "phone": ["+49 15112345", "0049 151 1234567", "(555) 123-4567", "030 1234567 89", "0791112345"],
    "iban": ["DE89370400440532013000", "gb29 nwbk 6016 1331 9268 19", "NO93 8601 1117 947 thanks"],
    "payment-card": ["5555555555554444", "3782 822463 10005", "4222222222222", "6011-111111111117"],
    "ip-address": ["10.0.0.1", "at 255.255.255.255."],
    "private-key": ["-----BEGIN PRIVATE KEY-----\nMII", "-----BEGIN OPENSSH PRIVATE KEY----- b3"],
    "jwt": ["Bearer eyJ0eXAiOiJKV1QifQ.eyJhIjoxfQ."],
    "api-key": [
        "ghp_" + "aB3" * 12, "github_pat_" + "1a_" * 12, "glpat-" + "x1-" * 8, "xoxb-123456789-abc",
        "AIza" + "aB-" * 11 + "xy", "sk-proj-" + "aB1" * 10, "sk_live_" + "aB1" * 8,
        "hf_" + "aBc" * 11, "npm_" + "aB1" * 12, f"SG.{'a' * 22}.{'b' * 43}",
    ],
}  # fmt: skip
assert set(FOUND) == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts]
)
def test_the_ways_to_write_one_are_known(kind: str, text: str) -> None:
    assert [secret.kind for secret in find(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "DE88 3704 0044 0532 0130 00",  # check digits are wrong
        "4111 1111 1111 1112",
        "on 01/02/2024 10:30:22 or 2024-01-02 10:30:22.123456",
        "version 1.2.3 or 1.2.3.4.5 or 300.1.1.1",
        "order 123456789, 1,000,000 euros, 0.123456789 and 3.1415926535",
        "@home at @work, a@b, me @ here.org",
        "sk-learn-is-a-library-of-python, task-force-of-the-department",
        "the private key of the house begins to rust",
    ],
)
def test_what_only_looks_like_one_is_left(text: str) -> None:
    assert find(text) == [] and mask(text) == text


pieces = st.one_of(
    st.sampled_from([*SECRETS.values(), *(text for texts in FOUND.values() for text in texts)]),
    st.text(max_size=8),
    st.text("0123456789 +-.@[]eyJ", max_size=12),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=6), st.sampled_from(["", " ", "\n", "-", "."]))
def test_masking_leaks_nothing_that_is_found(texts: list[str], between: str) -> None:
    text = between.join(texts)
    masked = mask(text)
    found = find(text)
    assert all(secret.value == text[secret.start : secret.end] for secret in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert not any(secret.value in masked for secret in found)


@example("0", "+44 20 7946 0958", "")
@given(st.text(), st.sampled_from(list(SECRETS.values())), st.text())
def test_a_secret_between_spaces_is_masked_whatever_stands_around_it(
    before: str, secret: str, after: str
) -> None:
    assert secret not in mask(f"{before} {secret} {after}")


def test_the_json_report_parses_and_says_what_where_why_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"text": text, "label": label} for text, label in clean()]
    rows[6]["text"] += " 4111111111111111"
    data.write_text("\n".join(["{broken", *map(json.dumps, rows)]), encoding="utf-8")
    assert call(monkeypatch, data, "--json") == 1
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    broken, card = told["findings"]
    assert (broken["kind"], broken["count"], broken["rows"]) == ("invalid-json", 1, [1])
    assert (card["kind"], card["count"], card["rows"]) == ("payment-card", 1, [8])
    assert "[payment-card]" in card["examples"][0]["text"] and card["why"] and card["do"]
    assert not told["clean"] and told["facts"]["languages"] == {"en": 1.0}


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["nowhere.csv"], "nowhere.csv"),
        (["data.csv", "--test", "nowhere.csv"], "nowhere.csv"),
        (["data.csv", "--label-column", "labl"], "nearest is 'label'"),
        (["empty.csv"], "is empty"),
        (["one.csv"], "one class only"),
        (["faulty.csv", "--strict"], "--strict accepts none"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_2(
    argv: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("data.csv"), clean())
    write(Path("one.csv"), clean(names=["card"]))
    write(Path("faulty.csv"), [*clean(), ("", "card")])
    Path("empty.csv").write_text("")
    assert call(monkeypatch, *argv) == 2
    said = capsys.readouterr()
    assert says in said.err and "Traceback" not in said.err and said.out == ""


def test_ctrl_c_ends_with_130_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(texts: Sequence[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mendel.data.splits.near_duplicate_groups", interrupted)
    assert call(monkeypatch, write(tmp_path / "data.csv", clean())) == 130
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err


@pytest.mark.parametrize(
    ("package", "check"),
    [
        ("cleanlab", "suspicious-label"),
        ("sklearn", "suspicious-label"),
        ("datasketch", "near-duplicate"),
        ("py3langid", "mixed-language"),
    ],
)
def test_without_its_package_a_check_is_skipped_and_that_is_said(
    package: str,
    check: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [("my address is jane@example.org, thank you", "card"), *clean()]
    data, test = write(tmp_path / "data.csv", rows), write(tmp_path / "test.csv", clean()[::2])
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    _model.cache_clear()
    if package == "datasketch":
        monkeypatch.delitem(sys.modules, "mendel.data.splits", raising=False)
        monkeypatch.delitem(sys.modules, "mendel.data.check.suspicious", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    report = check_data(data, test=test)
    assert report.skipped[check].startswith(f"{package} is not installed")
    assert of_kind(report, "e-mail").count == 1  # the others are made


def test_of_other_kinds_what_is_about_classes_is_left_out(tmp_path: Path) -> None:
    rows = [(text, f"{i / 7:.3f}") for i, (text, _) in enumerate(clean())]
    rows[3] = (rows[3][0] + " jane@example.org", rows[3][1])
    report = check_data(write(tmp_path / "data.csv", rows, ("text", "score")))
    assert report.facts["kind"] == "regress" and "classes" not in report.facts
    assert [found.kind for found in report.findings] == ["e-mail"]
    assert report.skipped["suspicious-label"].startswith("the task is regress")


def test_a_pair_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    rows = [(text, f"{text}, by the way", label) for text, label in clean()]
    rows[4] = (rows[4][0], "jane@example.org", "loan")
    report = check_data(write(tmp_path / "data.csv", rows, ("text1", "text2", "label")))
    assert report.facts["kind"] == "pair" and report.facts["words"]["median"] == 21
    assert of_kind(report, "e-mail").rows == (5,)


def test_strict_lets_a_file_without_faults_pass(tmp_path: Path) -> None:
    data = write(tmp_path / "data.csv", clean())
    assert check_data(data, strict=True).findings == ()
    faulty = write(tmp_path / "test.csv", [*clean(), ("", "card")])
    with pytest.raises(InputError, match="empty"):
        check_data(data, test=faulty, strict=True)
