"""Each kind of task: what it counts, what it fits, and the project that it becomes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.clocks.design.prepare import plan
from mendel.clocks.design.request import Request
from mendel.clocks.design.seal import seal
from mendel.data.items import n_bytes
from mendel.data.targets import TaskKind
from mendel.emit.counts import bootstrap, f1, f1_of, per_label
from mendel.emit.project import Agent, emit_project
from mendel.emit.report import write_report
from mendel.emit.runtime import PACKAGE_OF, load_model
from mendel.kinds import KINDS, Shape, recipe_of
from mendel.kinds.multilabel import _best_cut
from mendel.ledger import Ledger
from mendel.parts.search.passages import Passage
from mendel.parts.text.features import pair_words
from mendel.spec import DataSpec, Limits, TaskSpec, TextSpec
from mendel.train.baseline import FITS
from mendel.train.folds import Inputs, Rows, measure_fold
from mendel.types import InputError

EXAMPLE = Path(__file__).parents[1] / "examples" / "support_desk" / "messages.jsonl"
TAGGER = {
    **{"family": "lstm", "dim": 24, "width": 24, "epochs": 8, "batch": 8, "lr": 0.015},
    **{"hidden_drop": 0.2, "vector_drop": 0.1},
}
WRITER = {"family": "dual", "width": 16, "layers": 1, "heads": 2, "window": 8, "steps": 20}
TASK = TaskSpec(
    description="x", labels=("a", "b"), data=DataSpec(digest="d", n_rows=100), coverage=0.9
)


def messages() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]


def rows_of(kind: str) -> Rows:
    """300 rows of the example, their targets made from labels, spans and lengths."""
    told = messages()[:300]
    texts, labels = [row["text"] for row in told], [row["label"] for row in told]
    targets: list[Any] = labels
    if kind == "multilabel":
        texts = [f"{a} {b}" for a, b in zip(texts, texts[1:] + texts[:1], strict=True)]
        pairs = zip(labels, labels[1:] + labels[:1], strict=True)
        targets = [sorted({a, b} - {"out_of_scope"}) for a, b in pairs]
    elif kind == "pair":
        others = texts[7:] + texts[:7]
        texts = [
            f"{a}\t{a if i % 2 else b}" for i, (a, b) in enumerate(zip(texts, others, strict=True))
        ]
        targets = ["same" if i % 2 else "other" for i in range(len(texts))]
    elif kind == "regress":
        targets = [float("order" in text) * 3 + len(text) / 100 for text in texts]
    elif kind == "retrieve":
        files = sorted(set(labels))
        targets = [[files.index(label)] for label in labels]
    elif kind == "tag":
        targets = [[[s["start"], s["end"], s["type"]] for s in row["spans"]] for row in told]
    elif kind == "extract":
        spans = [
            [(s["type"], row["text"][s["start"] : s["end"]]) for s in row["spans"]] for row in told
        ]
        targets = [[list(entry) for entry in sorted(dict(found).items())] for found in spans]
    elif kind == "generate":
        targets = [n_bytes(text) for text in texts]
    names = KINDS[kind].names(targets)
    return Rows(tuple(texts), tuple(targets), names, np.arange(len(texts)) % 5, inputs_of(kind))


def inputs_of(kind: str) -> Inputs:
    """For a search one document a label, of the rows that no fold has."""
    if kind != "retrieve":
        return Inputs()
    told = messages()
    files = sorted({row["label"] for row in told[:300]})
    said = ["\n".join(r["text"] for r in told[300:] if r["label"] == name) for name in files]
    pairs = zip(files, said, strict=True)
    return Inputs(passages=tuple(Passage(f"{n}.txt", 1, 1, 0, len(t), t) for n, t in pairs))


def small(kind: str) -> TextSpec:
    if kind in ("tag", "extract"):
        return TextSpec(part="tagger", fields=TAGGER)
    if kind == "retrieve":
        return TextSpec(part="search", fields={"family": "hybrid", "dim": 16, "epochs": 3})
    if kind == "generate":
        return TextSpec(part="writer", fields=WRITER)
    return TextSpec(fields={"family": "linear", "max_rows": 3_000, "pair": int(kind == "pair")})


@pytest.fixture(scope="module", params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def project(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on 4 of 5 folds, settings fitted on the fifth."""
    this, rows = KINDS[kind], rows_of(kind)
    measured = measure_fold(this, small(kind), rows, 0, seed=0)
    fitted = this.fitted(measured.forms["int8"].kept, rows.only(rows.folds == 0), TASK)
    folder = tmp_path_factory.mktemp(kind)
    emit_project(
        Agent(
            kind=kind,
            trained=measured.trained,
            int8=True,
            labels=rows.names,
            settings=fitted.settings,
            task={"description": "a task"},
            examples=rows.texts[:20],
            provenance="written",
            card={},
        ),
        folder,
    )
    return folder


def test_a_project_of_each_kind_passes_its_own_tests(project: Path) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "tests"]
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run(argv, cwd=project, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_its_answers_score_as_the_round_did_and_above_the_floor(kind: str, project: Path) -> None:
    this, rows = KINDS[kind], rows_of(kind)
    test, train = rows.only(rows.folds == 0), rows.only(rows.folds != 0)
    model = load_model(project)
    options = {"top": len(rows.names), "abstain": False} if kind in ("classify", "pair") else {}
    options = {"score": True} if kind == "generate" else options
    answers = [answer.to_dict() for answer in model.predict(list(test.texts), **options)]
    score, low, high = this.total(answers, test.targets)
    assert low <= score <= high
    least = FITS[list(this.baselines.values())[-1]](train.texts, train.targets)
    floor = this.total(least(test.texts), test.targets)[0]
    assert score > floor + 0.05
    assert np.mean([this.row_score(a, t) for a, t in zip(answers, test.targets, strict=True)]) > 0.2


def test_a_perfect_answer_scores_one_and_the_report_can_be_written(
    kind: str, tmp_path: Path
) -> None:
    this, rows = KINDS[kind], rows_of(kind)
    test = rows.only(rows.folds == 1)
    key = {"multilabel": "labels", "regress": "value"}.get(kind, "label")
    answers: list[dict[str, Any]] = [{key: target} for target in test.targets]
    if kind == "generate":
        answers = [{"bits": 0.0}] * len(test.targets)
    if kind == "tag":
        names = ("start", "end", "label")
        answers = [{"spans": [dict(zip(names, s, strict=True)) for s in t]} for t in test.targets]
    if kind == "extract":
        answers = [{"record": dict(target)} for target in test.targets]
    if kind == "retrieve":
        answers = [{"passages": [{"passage": i} for i in target]} for target in test.targets]
    if kind in ("classify", "pair"):
        top = [{"label": name, "probability": 0.0} for name in rows.names]
        answers = [
            {**a, "outside": 0.1, "top": [*top, {"label": a["label"], "probability": 1.0}]}
            for a in answers
        ]
    assert this.total(answers, test.targets)[0] == pytest.approx(1)
    assert all(this.row_score(a, t) == 1 for a, t in zip(answers, test.targets, strict=True))
    measured = measure_fold(this, small(kind), rows, 1, seed=0)
    fitted = this.fitted(measured.forms["float32"].kept, test, TASK)
    sealed = this.sealed(answers, test.targets, test.texts, rows.names, fitted)
    assert sealed["n"] == len(test.texts) and sealed["score"] == pytest.approx(1)
    report = {"task": {"kind": kind}, "metric": this.metric, "sealed": sealed}
    write_report({**report, "fitted": fitted.facts}, tmp_path)
    told = (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\@", "@")
    assert f"Sealed {this.metric} 100.0 %" in told


def test_it_trains_again_on_a_file_of_its_kind(kind: str, project: Path, tmp_path: Path) -> None:
    rows = rows_of(kind)
    columns = {"multilabel": "labels", "regress": "value", "tag": "spans", "extract": "record"}
    column = (columns | {"retrieve": "file", "generate": "text"}).get(kind, "label")
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", column])
        for text, target in zip(rows.texts, rows.targets, strict=True):
            target = dict(target) if kind == "extract" else target
            target = text if kind == "generate" else target
            as_cell = json.dumps(target) if isinstance(target, list | dict) else target
            writer.writerow([text, as_cell])
    argv = [sys.executable, "train.py", "--data", str(tmp_path / "rows.csv"), "--out"]
    done = subprocess.run(
        [*argv, str(tmp_path / "new")], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["data"]["rows"] == len(rows.texts) and "UNVERIFIED" in said["scores"]["standing"]
    assert load_model(tmp_path / "new").predict([rows.texts[0]])


def test_rungs_and_mutations_of_each_kind_are_recipes_within_the_limits(kind: str) -> None:
    limits = Limits(max_params=2_000_000, max_bytes=3_000_000)
    maker, shape = KINDS[kind].builder, Shape(3_000, 10, limits, 5, kind)
    first = next(iter(maker.rungs(shape))).recipe
    for recipe in [
        *(rung.recipe for rung in maker.rungs(shape)),
        *(change(first) for _, change in maker.mutations),
    ]:
        within = maker.within(recipe, shape)
        spec = TextSpec(part=maker.part, fields=within.to_dict())
        assert recipe_of(spec) == within
        assert within.max_rows <= recipe.max_rows  # and of clues
        assert getattr(within, "max_clues", 0) <= getattr(recipe, "max_clues", 0)
        assert 0 < maker.guess_s(within, shape) < 3_600


def test_every_list_of_the_kinds_names_the_same() -> None:
    from mendel.cli.design import TaskKind as Flag

    assert {name: kind.builder.part for name, kind in KINDS.items()} == PACKAGE_OF
    assert set(KINDS) == set(get_args(TaskKind)) == {flag.value for flag in Flag} - {"auto"}
    assert set(KINDS) == set(get_args(TaskSpec.model_fields["kind"].annotation))


def test_strata_name_each_row_by_what_a_split_could_lose() -> None:
    sets = [["common"], ["common", "rare"], [], ["common"]]
    assert KINDS["multilabel"].strata(sets) == ["common", "rare", "", "common"]
    spans = [[[0, 1, "a"]], [[0, 1, "a"], [2, 3, "b"]], []]
    assert KINDS["tag"].strata(spans) == ["a", "b", ""]
    assert KINDS["regress"].strata([5.0, 1.0, 3.0]) == ["6", "0", "3"]


counts = st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=1, max_size=30)


@given(counts)
@settings(max_examples=20, deadline=None)
def test_f1_lies_in_its_interval(rows: list[tuple[int, int, int]]) -> None:
    found = bootstrap(np.array(rows, np.float64), f1)
    assert 0 <= found.low <= found.high <= 1 and found.value == f1(np.array(rows))


def test_f1_is_what_the_books_say() -> None:
    assert f1(np.array([[2, 1, 1], [1, 0, 1]])) == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert f1(np.zeros((3, 3))) == 1 and f1_of(set(), set()) == 1 and f1_of({1}, {2}) == 0
    rows = per_label([(0, "a"), (1, "a")], [(0, "a"), (2, "b")], ["a"])
    assert [row["label"] for row in rows] == ["a", "b"]
    assert rows[0]["precision"] == 0.5 and rows[0]["recall"] == 1 and rows[1]["precision"] is None


@given(
    st.lists(
        st.tuples(st.integers(-5000, 5000).map(lambda x: x / 1000), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_no_cut_has_a_higher_f1_than_the_best(pairs: list[tuple[float, bool]]) -> None:
    logits = np.array([x for x, _ in pairs], np.float32)
    truth = np.array([t for _, t in pairs], bool)
    if not truth.any():
        return

    def at(cut: float) -> float:
        given = logits > cut
        return 2 * (given & truth).sum() / (given.sum() + truth.sum())

    best = at(_best_cut(logits, truth))
    assert all(at(float(x) - 1e-4) <= best + 1e-3 for x in logits)


def test_words_of_a_pair_say_what_is_shared() -> None:
    words = pair_words("cancel my order\tmy order please")
    assert words[-6:] == ["1cancel", "=my", "=order", "=my", "=order", "2please"]
    tenths = [f"~w{i}" for i in range(6)]  # 2 of 4 words are shared
    assert words[:6] == tenths and "~w6" not in words and "~c3" in words
    assert pair_words("no second")[-3:] == ["1no", "1second", "2"]


def test_an_interval_around_a_number_holds_as_often_as_was_asked() -> None:
    chance, held = np.random.default_rng(0), []
    kind = KINDS["regress"]
    for _ in range(200):
        said, true = chance.normal(size=(2, 99))
        rows = Rows(("x",) * 99, tuple(true.tolist()), (), np.zeros(99, np.int64))
        half = kind.fitted(said[:, None].astype(np.float32), rows, TASK).settings["half_width"]
        fresh = chance.normal(size=(2, 200))
        held.append(float((np.abs(fresh[0] - fresh[1]) <= half).mean()))
    assert 0.885 <= np.mean(held) <= 0.915


def test_few_rows_fit_settings_without_an_alarm() -> None:
    rows = rows_of("classify").only(np.arange(300) < 25)
    kept = np.zeros((25, len(rows.names) + 2), np.float32)
    settings = KINDS["classify"].fitted(kept, rows, TASK).settings
    assert settings["drift"]["signals"] == {}


# -- what else a task is given --


def request(tmp_path: Path, **more: Any) -> Request:
    usual = {"description": "x", "data": EXAMPLE, "out": tmp_path / "model"}
    return Request(**{**usual, **more})


def test_rows_of_the_label_that_says_none_are_outside_and_some_are_sealed(
    tmp_path: Path, ledger: Ledger
) -> None:
    found = plan(request(tmp_path, outside_label="out_of_scope"))
    n = sum(row["label"] == "out_of_scope" for row in messages())
    assert "out_of_scope" not in found.labels and len(found.inputs.outside) == n
    split = seal(found, ledger)
    assert 0 < n - len(split.inputs.outside) < n
    vault = json.loads(next((ledger.folder / "vault").iterdir()).read_text())
    assert 0 < vault["labels"].count(None) <= n - len(split.inputs.outside)


def test_what_is_nearly_sealed_is_neither_unlabelled_text_nor_outside(
    tmp_path: Path, ledger: Ledger
) -> None:
    told = messages()
    pool = tmp_path / "pool.txt"
    pool.write_text("".join(" ".join(row["text"].split()) + "!\n" for row in told))
    test = tmp_path / "test.jsonl"
    test.write_text("".join(json.dumps(row) + "\n" for row in told[:60]))
    wanted = request(tmp_path, test=test, unlabeled=pool, outside_label="out_of_scope")
    split = seal(plan(wanted), ledger)
    vault = json.loads(next((ledger.folder / "vault").iterdir()).read_text())
    sealed = {" ".join(text.split()) for text in vault["texts"]}
    assert len(sealed) > 50
    assert not sealed & {text.removesuffix("!") for text in split.inputs.unlabeled}
    assert not sealed & {" ".join(text.split()) for text in split.inputs.outside}
    assert len(split.inputs.unlabeled) > 300 and split.inputs.outside
    assert not set(split.inputs.unlabeled) & {f"{text}!" for text in split.inputs.outside}


def test_one_label_besides_the_one_that_says_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.csv"
    rows = "".join(f"what is {i} for,{'in' if i % 2 else 'none'}\n" for i in range(60))
    file.write_text("text,label\n" + rows)
    with pytest.raises(InputError, match="has one label"):
        plan(request(tmp_path, data=file, outside_label="none"))


def test_inputs_of_a_run_survive_the_disk(tmp_path: Path) -> None:
    inputs = Inputs(("no label",), ("more",), {"cities": ("Kassel",)}, "auto")
    rows = replace(rows_of("tag"), inputs=inputs)
    rows.save(tmp_path)
    again = Rows.load(tmp_path)
    assert again.inputs == inputs and again.texts == rows.texts
    assert list(again.targets) == list(rows.targets)


def test_inputs_of_a_run_before_searches_are_read() -> None:
    told = Inputs(("no label",)).to_dict()
    del told["passages"]
    assert Inputs.from_dict(told) == Inputs(("no label",))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"outside_label": "no such"}, "no label of the data"),
        ({"kind": "tag", "outside_label": "date"}, "one label a text"),
        ({"kind": "multilabel", "unlabeled": EXAMPLE}, "--unlabeled"),
        ({"kind": "tag", "teacher": "auto", "unlabeled": EXAMPLE}, "--teacher"),
        ({"learn_validation": True}, "Give --validation"),
        ({"gazetteers": (("cities", EXAMPLE),)}, "--gazetteer"),
        ({"teacher": "auto"}, "--unlabeled FILE"),
        ({"coverage": 1.0}, "--coverage"),
        ({"reject": 0.0}, "--reject"),
    ],
)
def test_what_does_not_fit_the_kind_is_refused_before_training(
    more: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says):
        plan(request(tmp_path, **more))


def test_unlabelled_text_in_another_language_is_told(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    words = [
        "der",
        "Vertrag",
        "wurde",
        "gestern",
        "ohne",
        "weitere",
        "Angaben",
        "gekündigt",
        "und",
        "die",
        "Rechnung",
        "bezahlt",
    ]
    chance = np.random.default_rng(0)
    other.write_text("".join(" ".join(chance.permutation(words)) + "\n" for _ in range(200)))
    told = {fault.kind for fault in plan(request(tmp_path, unlabeled=other)).faults}
    assert "unlabelled text in another language" in told
    same = plan(request(tmp_path, unlabeled=EXAMPLE))
    assert "unlabelled text in another language" not in {fault.kind for fault in same.faults}


def test_an_empty_unlabelled_file_and_a_wrong_teacher_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(InputError):
        plan(request(tmp_path, unlabeled=empty))
    with pytest.raises(InputError):
        plan(request(tmp_path, unlabeled=EXAMPLE, teacher=str(tmp_path)))
