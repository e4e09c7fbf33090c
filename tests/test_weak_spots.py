"""Where a model is weak is found: slices, texts written otherwise, near labels, deciding words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mendel.clocks.design.behaviour import behaviour_of
from mendel.clocks.design.prepare import plan
from mendel.clocks.design.request import Request
from mendel.clocks.design.seal import seal
from mendel.clocks.design.slices import slices
from mendel.data.label_forms import LabelForm, label_form
from mendel.data.readers import read_examples
from mendel.data.vault import Opening, Vault
from mendel.emit.project import Agent, emit_project
from mendel.emit.related import hierarchy, ordinal
from mendel.emit.runtime import load_model
from mendel.kinds import KINDS
from mendel.ledger import Ledger
from mendel.spec import DataSpec, TaskSpec, TextSpec
from mendel.train.folds import Rows, measure_fold
from mendel.types import InputError, Turn

TASK = TaskSpec(description="x", labels=("other", "polite"), data=DataSpec(digest="d", n_rows=9))
THINGS = ["card", "parcel", "invoice", "phone", "ticket", "kettle", "lamp", "chair", "coat", "key"]
VERBS = ["send", "cancel", "change", "find", "return", "repair", "check", "order"]


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rows]:
    """A project whose label is decided by one word: please."""
    plain = [f"{verb} the {thing} today" for verb in VERBS for thing in THINGS]
    texts = [*plain, *(f"please {text}" for text in plain)]
    targets = ["other"] * len(plain) + ["polite"] * len(plain)
    folds = np.arange(len(texts)) % 5
    rows = Rows(tuple(texts), tuple(targets), ("other", "polite"), folds)
    kind = KINDS["classify"]
    measured = measure_fold(kind, TextSpec(fields={"family": "linear"}), rows, 0, seed=0)
    fitted = kind.fitted(measured.forms["float32"].kept, rows.only(folds == 0), TASK)
    folder = tmp_path_factory.mktemp("polite")
    shown = ("polite", measured.trained, False, rows.names, fitted.settings)
    agent = Agent("classify", *shown[1:], {"description": "x"}, tuple(texts[::9]), "written", {})
    emit_project(agent, folder)
    return folder, rows


def opening(
    texts: list[str], said: list[str], targets: list[Any], besides: dict[str, list[str]]
) -> Opening:
    answers = {"this model": tuple({"label": label} for label in said)}
    return Opening(tuple(texts), tuple(targets), answers, Turn.__new__(Turn), 1, besides)


# The user's columns.


def table(folder: Path, n: int = 120) -> Path:
    """Of each row the channel follows from the text, so that a row in the wrong place shows."""
    lines = ["id,text,channel,label,note"]
    for i in range(n):
        thing, verb = THINGS[i % 10], VERBS[i // 10 % 8]
        text = f"{verb} my {thing} number {i} {'soon' if i % 3 else 'now'}"
        lines.append(f"{i},{text},{thing},{'ab'[i % 2]},written on day {i}")
    file = folder / "rows.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_columns_that_sort_the_rows_are_kept_beside_them_and_names_of_rows_are_not(
    tmp_path: Path,
) -> None:
    found = read_examples(table(tmp_path))
    assert set(found.besides) == {"channel"}
    pairs = zip(found.texts, found.besides["channel"], strict=True)
    assert all(channel in text for text, channel in pairs)


def test_columns_of_sealed_rows_stay_beside_their_rows_and_do_not_name_the_set(
    tmp_path: Path, ledger: Ledger
) -> None:
    request = Request("x", table(tmp_path), out=tmp_path / "out", kind="classify")
    split = seal(plan(request), ledger)
    kept = json.loads((ledger.folder / "vault" / f"{split.sealed.digest}.json").read_text())
    pairs = list(zip(kept["texts"], kept["besides"]["channel"], strict=True))
    assert len(pairs) >= 10 and all(channel in text for text, channel in pairs)
    assert Vault(ledger).seal(kept["texts"], kept["labels"]) == split.sealed


def test_texts_from_another_file_have_no_value_in_the_columns(
    tmp_path: Path, ledger: Ledger
) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("".join(f"sing a song of {word} pence\n" for word in THINGS + VERBS))
    request = Request("x", table(tmp_path), out=tmp_path / "out", outside=outside)
    split = seal(plan(request), ledger)
    kept = json.loads((ledger.folder / "vault" / f"{split.sealed.digest}.json").read_text())
    assert None in kept["labels"]
    for label, channel in zip(kept["labels"], kept["besides"]["channel"], strict=True):
        assert (label is None) == (channel == "")


# Slices.


def test_a_planted_weak_slice_comes_first_with_its_n_and_its_interval() -> None:
    texts = [f"move the {THINGS[i % 10]} {i}" for i in range(120)]
    channel = ["phone" if i % 4 == 0 else "web" for i in range(120)]
    said = ["b" if c == "phone" and i % 8 == 0 else "a" for i, c in enumerate(channel)]
    found = slices(
        KINDS["classify"], opening(texts, said, ["a"] * 120, {"channel": channel}), texts
    )
    worst = found[0]
    assert (worst["by"], worst["slice"], worst["n"], worst["score"]) == (
        "channel",
        "phone",
        30,
        0.5,
    )
    assert worst["low"] < 0.5 < worst["high"] < found[-1]["score"] == 1
    assert [row["score"] for row in found] == sorted(row["score"] for row in found)


def test_a_slice_of_fewer_than_twenty_rows_is_not_told_and_one_slice_alone_is_none() -> None:
    texts = [f"move it {i}" for i in range(60)]
    rare = ["mail" if i < 19 else "web" for i in range(60)]
    found = slices(KINDS["classify"], opening(texts, ["a"] * 60, ["a"] * 60, {"by": rare}), texts)
    assert "by" not in {row["by"] for row in found}


def test_rows_without_a_label_are_in_no_slice() -> None:
    texts = [f"move it {i}" for i in range(100)]
    targets = ["a"] * 60 + [None] * 40
    column = ["x", "y"] * 50
    found = slices(KINDS["classify"], opening(texts, ["a"] * 100, targets, {"by": column}), texts)
    assert {row["n"] for row in found if row["by"] == "by"} == {30}


def test_texts_are_sliced_by_length_new_words_odd_characters_and_language() -> None:
    english = [f"could you please send me the new card that I ordered {i}" for i in range(40)]
    german = [
        f"bitte schicken Sie mir so bald wie möglich die neue Karte zu ♥ {i}" for i in range(40)
    ]
    said = ["a"] * 40 + ["b"] * 40
    found = slices(KINDS["classify"], opening(english + german, said, ["a"] * 80, {}), english)
    by = {(row["by"], row["slice"]): row["score"] for row in found}
    assert by["language", "en"] == 1 and by["language", "de"] == 0
    assert by["words new to training", "none"] == 1
    assert by["words new to training", "more than a quarter"] == 0
    assert by["characters", "with odd ones"] == 0


def test_parts_of_a_regression_average_to_the_whole() -> None:
    chance = np.random.default_rng(0)
    true = chance.normal(size=60).tolist()
    answers = [{"value": t + e} for t, e in zip(true, chance.normal(0, 0.4, 60), strict=True)]
    kind = KINDS["regress"]
    parts = [kind.total_of(answers, true, range(*ends))[0] for ends in ((0, 15), (15, 60))]
    assert kind.total(answers, true)[0] == pytest.approx(0.25 * parts[0] + 0.75 * parts[1])


# Texts written otherwise.


def test_a_planted_fragility_is_the_worst_behaviour_and_its_failures_are_listed(
    polite: tuple[Path, Rows],
) -> None:
    folder, rows = polite
    texts = [text for text in rows.texts if "please" not in text]
    found = behaviour_of(folder, opening(texts, texts, texts, {}))
    assert found is not None and found["n_texts"] == len(texts)
    worst, *others = found["tests"]
    assert worst["name"] == 'begun with "please"' and worst["share"] < 0.1 < worst["n"]
    failure = worst["failures"][0]
    assert (failure["before"], failure["after"]) == ("other", "polite")
    assert failure["changed"] == f"please {failure['text']}"
    assert all(row["share"] > 0.9 for row in others if row["name"].endswith("case"))


def test_a_behaviour_that_fails_is_told_and_costs_nobody_the_model(tmp_path: Path) -> None:
    (tmp_path / "behaviour.py").write_text("raise SystemExit('no such luck')")
    assert behaviour_of(tmp_path, opening(["a"], ["a"], ["a"], {})) == {"error": "no such luck"}


def test_a_project_without_such_a_file_has_no_behaviour(tmp_path: Path) -> None:
    assert behaviour_of(tmp_path, opening(["a"], ["a"], ["a"], {})) is None


# Words that decided.


def test_the_word_that_decides_has_the_largest_weight(polite: tuple[Path, Rows]) -> None:
    model = load_model(polite[0])
    [told] = model.explain("please send the parcel today")
    assert told["for"] == "polite" and told["in"] == "log-odds"
    assert told["words"][0]["word"] == "please" and told["words"][0]["weight"] > 1
    [told] = model.explain("PLEASE, send it")
    assert told["words"][0] == {"word": "PLEASE", "start": 0, "end": 6} | {
        "weight": told["words"][0]["weight"]
    }


def test_words_are_those_that_a_reader_sees(polite: tuple[Path, Rows]) -> None:
    [told] = load_model(polite[0]).explain("Don't re-send 你好, ok_1!")
    found = [word["word"] for word in sorted(told["words"], key=lambda word: word["start"])]
    assert found == ["Don't", "re-send", "你", "好", "ok_1"]


def test_a_kind_that_cannot_say_why_says_so(polite: tuple[Path, Rows]) -> None:
    model = load_model(polite[0])
    model.decoder = object()
    with pytest.raises(ValueError, match="cannot say"):
        model.explain("please")


# Labels that are near one another.


def test_paths_and_numbers_are_found_and_names_are_left_alone() -> None:
    assert label_form(["a/b/c", "a/d", "x"]).n_levels == 3
    assert label_form(["a/b", "x", "y"]) == LabelForm()  # too few paths
    assert label_form(["10", "9", "1.5"]).order == ("1.5", "9", "10")
    assert label_form(["0", "1"]) == LabelForm()  # two have no order to speak of
    assert label_form(["1", "2", "many"]) == LabelForm()
    assert label_form(["nan", "1", "2"]) == LabelForm()


def test_an_order_of_the_user_s_goes_first_and_must_name_every_label() -> None:
    assert label_form(["high", "low", "mid"], ["low", "mid", "high"]).order[0] == "low"
    with pytest.raises(InputError, match="'mid' is not in it"):
        label_form(["high", "low", "mid"], ["low", "high"])
    with pytest.raises(InputError, match="twice"):
        label_form(["high", "low"], ["low", "high", "low"])


def test_hierarchical_f1_and_levels_are_those_by_hand() -> None:
    pairs = [("a/b", "a/b"), ("a/b", "a/c"), ("a/b", "x/b"), ("x", "x")]
    found = hierarchy(pairs)
    assert found["f1"] == pytest.approx(2 * (2 + 1 + 0 + 1) / (2 * (2 + 2 + 2 + 1)))
    assert (found["n_wrong"], found["n_inside"]) == (2, 1)
    assert [(x["level"], x["n_labels"], x["n"], x["score"]) for x in found["levels"]] == [
        (1, 2, 4, 0.75), (2, 1, 3, pytest.approx(1 / 3)),
    ]  # fmt: skip


def test_ranks_off_are_those_by_hand_and_kappa_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    chance = np.random.default_rng(0)
    true = chance.integers(1, 6, 200)
    said = np.clip(true + chance.integers(-2, 3, 200), 1, 5)
    order = ["1", "2", "3", "4", "5"]
    found = ordinal([(str(t), str(s)) for t, s in zip(true, said, strict=True)], order)
    assert found["mean_ranks_off"] == pytest.approx(np.abs(true - said).mean())
    assert found["far_off"] == pytest.approx((np.abs(true - said) > 1).mean())
    assert found["kappa"] == pytest.approx(cohen_kappa_score(true, said, weights="quadratic"))
    assert ordinal([("1", "1")], order)["kappa"] is None  # nothing is left to chance
    assert ordinal([("9", "1")], order)["n"] == 0


def test_the_plan_says_how_labels_are_related(tmp_path: Path) -> None:
    file = tmp_path / "stars.csv"
    rows = [f"{thing} {verb} {i},{1 + i % 3}" for i, (thing, verb) in enumerate(
        (t, v) for t in THINGS for v in VERBS)]  # fmt: skip
    file.write_text("text,label\n" + "\n".join(rows) + "\n")
    request = Request("x", file, out=tmp_path / "out")
    assert plan(request).form.told() == "an order: 1 < 2 < 3"
    with pytest.raises(InputError, match="--order"):
        plan(Request("x", file, out=tmp_path / "out", order=("1", "2")))
