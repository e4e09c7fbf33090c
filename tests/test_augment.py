"""Altered copies: of training rows only, spans on their words, shipped only where judged."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel import judge
from mendel.clocks.design.choose import choose
from mendel.clocks.design.clock import DesignClock
from mendel.clocks.design.ladder import is_augmented, plain_name, standings
from mendel.clocks.design.prepare import plan, prepare
from mendel.clocks.design.request import Request
from mendel.data.invented import invented
from mendel.driver import Driver
from mendel.emit.project import Agent, emit_project
from mendel.emit.runtime import load_model
from mendel.emit.sections import sections
from mendel.kinds import KINDS, Shape
from mendel.ledger import Ledger
from mendel.parts.tagger.augment import augmented
from mendel.parts.tagger.features import Featurizer
from mendel.parts.tagger.fit import Examples, fit
from mendel.parts.tagger.noise import Habits
from mendel.parts.tagger.recipe import TagRecipe
from mendel.parts.tagger.spans import Span
from mendel.parts.tagger.store import pack
from mendel.spec import DataSpec, Limits, TaskSpec, TextSpec
from mendel.train.folds import Inputs, Rows, measure_fold
from mendel.types import Candidate, Champion, History

LISTS = {"cities": ("Paris", "New York", "Quito", "Oslo"), "colours": ("red", "blue")}
TEXTS = ("from Paris to oslo by NEW YORK rail", "ask Ann about Rome", "nobody is here", "Bob don't")
SPANS = (
    [Span(5, 10, "city"), Span(14, 18, "city"), Span(22, 30, "city")],
    [Span(4, 7, "person"), Span(14, 18, "city")],
    [],
    [Span(0, 3, "person")],
)
DATA = Examples(TEXTS, SPANS, ("city", "person"), LISTS)
FORMS = {"city": {"Paris", "oslo", "NEW YORK", "Rome"}, "person": {"Ann", "Bob"}}


def copies(
    data: Examples, way: str, amount: float = 5.0, seed: int = 0
) -> list[tuple[str, list[Span]]]:
    made = augmented(data, way, amount, seed)
    n = len(data.texts)
    assert list(made.texts[:n]) == list(data.texts) and list(made.spans[:n]) == list(data.spans)
    return list(zip(made.texts[n:], (list(spans) for spans in made.spans[n:]), strict=True))


def words(text: str, spans: list[Span]) -> list[tuple[str, str]]:
    return [(text[s.start : s.end], s.label) for s in spans]


def test_each_row_of_a_tagger_is_rated_once() -> None:
    kept = np.array([[2, 0, 0, 0.1], [1, 1, 0, 0.0], [0, 0, 0, 0.5]], np.float32)
    rows = Rows(("a", "b", "c"), ([], [], []), (), np.zeros(3, np.int64))
    assert KINDS["tag"].each(kept, rows).tolist() == pytest.approx([1, 2 / 3, 1])


def test_a_swapped_mention_is_another_of_its_label_and_its_span_lies_on_it() -> None:
    made = copies(DATA, "swap")
    assert len(made) > 5
    frames = {"from {} to {} by {} rail", "ask {} about {}", "{} don't"}
    for text, spans in made:
        found = words(text, spans)
        assert all(form in FORMS[label] for form, label in found)
        frame = text
        for span in reversed(spans):
            frame = frame[: span.start] + "{}" + frame[span.end :]
        assert frame in frames


def test_a_filled_mention_comes_from_the_list_that_held_it_in_its_own_case() -> None:
    lower = {phrase.lower() for phrase in LISTS["cities"]}
    for text, spans in copies(DATA, "fill"):
        if len(spans) == 3:
            first, second, third = (form for form, _ in words(text, spans))
            assert {first.lower(), second, third.lower()} <= lower
            assert second.islower() and third.isupper()
        assert not any(form in LISTS["colours"] for form, _ in words(text, spans))


def test_without_lists_filling_takes_what_is_given_for_a_label_and_then_swaps() -> None:
    bare = replace(DATA, gazetteers={})
    given_ = replace(bare, fillers={"person": ("Zoe",)})
    people = {
        form for row in copies(given_, "fill") for form, label in words(*row) if label == "person"
    }
    assert people == {"Zoe"}
    assert copies(bare, "fill") == copies(bare, "swap")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=8
    ),
    st.data(),
)
def test_noise_leaves_spans_on_their_words(pieces: list[str], data: st.DataObject) -> None:
    text = " ".join(pieces)
    marks = [data.draw(st.booleans()) for _ in pieces]
    starts = np.cumsum([0, *(len(piece) + 1 for piece in pieces[:-1])]).tolist()
    spans = [
        Span(start, start + len(piece), "x")
        for start, piece, chosen in zip(starts, pieces, marks, strict=True)
        if chosen
    ]
    habits = Habits(lower=0.3, upper=0.3, long=0.6, marked=0.5, bare=0.9)
    made, moved = habits.rewrite(text, spans, np.random.default_rng(0))
    assert len(moved) == len(spans)
    for before, after in zip(spans, moved, strict=True):
        old, new = text[before.start : before.end], made[after.start : after.end]
        assert _bare(new) == _bare(old)


def _bare(text: str) -> str:
    """What noise cannot change: letters once each, no marks, no case."""
    kept = [c for c in text.lower() if c not in "#'’"]
    return "".join(c for i, c in enumerate(kept) if i == 0 or c != kept[i - 1])


def test_noise_is_as_frequent_as_in_the_texts() -> None:
    tidy = ["I don't know Paris", "We can't see it"] * 50
    loud = ["i dont know #paris sooo", "WE CAN'T SEE IT"] * 50
    assert Habits.of(tidy) == Habits()
    found = Habits.of([*tidy, *loud])
    assert found.lower == found.upper == 0.25 and found.bare == 0.25
    assert 0.02 < found.long == found.marked < 0.1
    assert copies(Examples(tidy, [[] for _ in tidy], ()), "noise") == []  # nothing to imitate
    assert Habits.of([]) == Habits()


@pytest.mark.parametrize("way", ["swap", "fill", "noise"])
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(way: str) -> None:
    rows = replace(DATA, texts=[*DATA.texts, "so looong #night"], spans=[*DATA.spans, []])
    first, same, other = (copies(rows, way, 5, seed) for seed in (1, 1, 2))
    assert first == same != other


def test_a_row_that_is_held_out_is_neither_copied_nor_copied_from() -> None:
    texts = tuple(f"row {i} has {'Left' if i % 2 else 'Right'}{i} now" for i in range(40))
    targets = tuple([[text.index("has ") + 4, text.index(" now"), "x"]] for text in texts)
    rows = Rows(texts, targets, ("x",), np.arange(40) % 2)
    seen: list[str] = []

    class Watched(type(KINDS["tag"].builder)):  # type: ignore[misc]
        def fit(self, recipe: TagRecipe, examples: Examples, **more: object) -> object:
            seen.extend(augmented(examples, recipe.augment, recipe.amount, 0).texts)
            return super().fit(recipe, examples, **more)

    class Tagger(type(KINDS["tag"])):  # type: ignore[misc]
        builder = Watched()

    recipe = TagRecipe("linear", looks=3, augment="swap", amount=4)
    spec = TextSpec(part="tagger", fields=recipe.to_dict())
    measured = measure_fold(Tagger(), spec, rows, 1, seed=0)  # holds out what has Left in it
    assert len(seen) > 60 and not any("Left" in text for text in seen)
    assert len(measured.forms["float32"].kept) == 20


def test_phrases_are_invented_for_labels_that_say_what_they_are() -> None:
    found = invented(("Person", "first_name", "creative-work"), 0)
    assert set(found) == {"Person", "first_name"} and found == invented([*found], 0)
    assert all(len(set(phrases)) > 100 for phrases in found.values())
    assert all(" " in name for name in found["Person"][:20]) and not invented(("product",), 0)


def test_copies_make_another_model_and_an_unknown_way_is_refused() -> None:
    plain, swapped = (
        pack(fit(TagRecipe("linear", looks=5, augment=way, amount=2), DATA)) for way in ("", "swap")
    )
    assert plain != swapped
    with pytest.raises(ValueError, match="swap, fill, noise"):
        TagRecipe(augment="shuffle")


# -- the judge --


def test_chance_stands_in_at_most_one_case_in_twenty_and_a_gain_stands() -> None:
    chance = np.random.default_rng(0)

    def share(gain: float) -> float:
        kept = 0
        for _ in range(30):
            right = (chance.random((2, 300)) < [[0.7 + gain], [0.7]]).astype(np.float32)
            kept += judge.stands(
                lambda x: float(x.mean()), right[0, :, None], right[1, :, None]
            ).keep
        return kept / 30

    assert share(0.0) <= 0.14  # 0.05, and what 30 runs may show
    assert share(0.15) >= 0.9


def test_an_augmented_recipe_knows_what_it_is_held_against() -> None:
    maker, shape = KINDS["tag"].builder, Shape(3_000, 6, Limits(), 5, "tag", fills=True)
    first = next(iter(maker.rungs(shape))).recipe
    altered = [c for _, change in maker.mutations if (c := change(first)).augment]
    assert {recipe.augment for recipe in altered} == {"swap", "fill", "noise"}
    for recipe in altered:
        spec = TextSpec(part="tagger", fields=maker.within(recipe, shape).to_dict())
        plain = TextSpec(part="tagger", fields=maker.within(first, shape).to_dict())
        assert is_augmented(spec) and not is_augmented(plain) and plain_name(spec) == plain.name
    no_lists = replace(shape, fills=False)
    ways = {maker.within(recipe, no_lists).augment for recipe in altered}
    assert ways == {"swap", "noise"}  # filled from nothing is swapped


# -- a run: what is tried, and what may ship --


def posts(n: int, easy: bool = False) -> list[dict[str, object]]:
    """Names that occur once each, so that what stands around them decides; some are small."""
    chance, rows = random.Random(0), []
    around = {
        "city": ["fly to", "near", "a room in", "the mayor of", "rain over"],
        "person": ["ask", "call", "a gift for", "the hat of", "dinner with"],
    }
    small = ["please", "now", "and", "then", "we", "go", "it", "so", "well", "maybe"]
    for _ in range(n):
        label = chance.choice(sorted(around))
        name = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(3, 8)))
        if easy:
            name = ("X" if label == "city" else "Y") + name
        elif chance.random() < 0.75:
            name = name.title()
        start = " ".join([*chance.choices(small, k=3), chance.choice(around[label]), ""])
        text = f"{start}{name} {chance.choice(['today', 'again', 'soon', '!'])}"
        span = {"start": len(start), "end": len(start) + len(name), "label": label}
        rows.append({"text": text, "spans": [span]})
    return rows


class Two(DesignClock):
    """Tries one recipe and then the same with altered copies of rows."""

    recipes: tuple[TagRecipe, ...] = ()

    def propose(self, champion: Champion, history: History) -> Candidate | None:
        known = {turn.candidate.id for turn in history.turns()}
        for recipe in self.recipes:
            spec = TextSpec(part="tagger", fields=recipe.to_dict())
            candidate = Candidate({"model": spec.to_dict()}, recipe.augment or "plain")
            if candidate.id not in known:
                return candidate
        return None


@pytest.mark.parametrize(("easy", "way", "ships"), [(False, "swap", True), (True, "noise", False)])
def test_copies_ship_where_they_are_judged_to_help_and_only_there(
    easy: bool, way: str, ships: bool, tmp_path: Path, ledger: Ledger
) -> None:
    file = tmp_path / "posts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in posts(80, easy)))
    run = prepare(plan(Request("Find names", data=file, out=tmp_path / "model")), ledger)
    clock = Two(run, ledger, time.time() + 600)
    short = TagRecipe("lstm", dim=16, width=12, epochs=5, batch=8, lr=0.02, hide_drop=0.3)
    plain = TagRecipe("linear", looks=20) if easy else short
    altered = replace(plain, augment=way, amount=2)
    clock.recipes = (plain, altered)
    driver = Driver(clock, ledger)
    driver.start()
    while driver.turn() is not None:
        pass
    assert len(standings(clock.history.turns())) == 2
    chosen = choose(clock)
    [verdict] = chosen.judged.values()
    assert verdict.keep == ships
    assert is_augmented(chosen.standing.spec) == ships
    assert clock.champion().candidate.motivation == "plain"  # the other leads only where judged


# -- what the project keeps --


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear tagger of 200 posts with a gazetteer, its alarm fitted on a fold."""
    told, kind = posts(200), KINDS["tag"]
    texts = tuple(str(row["text"]) for row in told)
    targets = tuple([[s["start"], s["end"], s["label"]] for s in row["spans"]] for row in told)  # type: ignore[attr-defined]
    inputs = Inputs(gazetteers={"towns": ("Kassel", "Bad Homburg")})
    rows = Rows(texts, targets, kind.names(targets), np.arange(200) % 2, inputs)
    spec = TextSpec(part="tagger", fields=TagRecipe("linear", looks=10, augment="fill").to_dict())
    measured = measure_fold(kind, spec, rows, 0, seed=0)
    task = TaskSpec(description="x", labels=rows.names, data=DataSpec(digest="d", n_rows=200))
    fitted = kind.fitted(measured.forms["int8"].kept, rows.only(rows.folds == 0), task)
    assert set(fitted.settings["drift"]["signals"]) == {"spans", "unseen"}
    folder = tmp_path_factory.mktemp("tagger")
    about = {"task": {}, "provenance": "written", "card": {}, "examples": texts[:20]}
    agent = Agent("tag", measured.trained, True, rows.names, fitted.settings, **about)
    emit_project(agent, folder)
    return folder


def test_a_tagger_tells_once_when_texts_are_no_longer_like_those_of_training(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load_model(project)
    usual = [str(row["text"]) for row in posts(1_000)]
    model.predict(usual)
    assert not caplog.records
    model.predict(["das ist etwas ganz anderes als vorher"] * 1_000)
    [record] = caplog.records
    assert "drift" in record.getMessage() and "unseen" in record.getMessage()


def test_a_tagger_that_trains_again_knows_its_gazetteers(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in posts(60)))
    argv = [sys.executable, "train.py", "--data", str(file), "--out", str(tmp_path / "new")]
    done = subprocess.run(argv, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = (load_model(folder).features for folder in (project, tmp_path / "new"))
    assert after.gazetteers == ("towns",) and np.array_equal(before.phrases, after.phrases)
    words = ["in", "Bad", "Homburg"]
    flags = Featurizer.arrays(after, [words])["flags"][0]
    assert flags.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_the_report_tells_forms_that_training_has_from_those_it_has_not() -> None:
    rows = Rows(("Ann is here", "in Rome"), ([[0, 3, "p"]], [[3, 7, "c"]]), ("c", "p"), np.zeros(2))
    texts, targets = ["ANN and Bob", "Oslo"], [[[0, 3, "p"], [8, 11, "p"]], [[0, 4, "c"]]]
    said = [{"spans": [dict(zip(("start", "end", "label"), span, strict=True)) for span in spans]}
            for spans in ([[0, 3, "p"]], [[0, 4, "p"]])]  # fmt: skip
    seen, unseen = KINDS["tag"].beside_training(said, targets, texts, rows)["forms"]
    assert (seen["n"], seen["f1"]) == (1, 1.0) and "seen in training" in seen["name"]
    assert (unseen["n"], unseen["f1"]) == (2, 0.0)
    report = {"task": {"kind": "tag"}, "sealed": {"forms": [seen, unseen]}}
    [whole] = [s for s in sections(report) if s.title == "Whole answers"]
    assert "F1 100.0 % on 1 spans of surface forms seen in training." in whole.lines
    assert "F1 0.0 % on 2 spans of surface forms unseen in training." in whole.lines
