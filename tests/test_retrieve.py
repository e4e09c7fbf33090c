"""Search: documents become passages, queries find them, and what is odd is counted."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.clocks.design.prepare import plan, prepare
from mendel.clocks.design.request import Request
from mendel.clocks.design.session import design
from mendel.data.readers import read_examples
from mendel.data.splits import joined
from mendel.emit.project import Agent, emit_project
from mendel.emit.runtime import answers_of, load_model
from mendel.emit.sections import sections
from mendel.kinds import KINDS
from mendel.kinds.retrieve import _reciprocal_ranks
from mendel.ledger import Ledger
from mendel.parts.carried.deadline import OutOfTime
from mendel.parts.search.documents import MAX_WORDS, passages_of, read_documents
from mendel.parts.search.export import files
from mendel.parts.search.fit import Examples, Trained, fit
from mendel.parts.search.index import Index
from mendel.parts.search.passages import Passage, from_bytes, to_bytes
from mendel.parts.search.recipe import SearchRecipe
from mendel.parts.search.runner import Runner
from mendel.parts.search.store import pack, unpack
from mendel.parts.search.twin import dequantised, training_scores
from mendel.spec import Limits
from mendel.train.folds import Inputs, Rows
from mendel.train.made_queries import make_queries
from mendel.train.queries import read_queries
from mendel.train.search_baselines import bm25
from mendel.types import InputError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BANKING = ROOT / "shared" / "data" / "banking77" / "train.csv"
RETRIEVE = KINDS["retrieve"]
ASKED = ["how do I seal test data", "a sandbxo for untrusted code", "nothing xyzzy", "", "?!"]


@pytest.fixture(scope="module")
def passages() -> tuple[Passage, ...]:
    return read_documents(DOCS).passages


@pytest.fixture(scope="module")
def hybrid(passages: tuple[Passage, ...]) -> Trained:
    made = make_queries(passages)
    recipe = SearchRecipe("hybrid", dim=16, epochs=2, max_rows=4_000)
    return fit(recipe, Examples(made.texts[:60], made.targets[:60], passages))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve short documents in three folders."""
    for i in range(12):
        file = tmp_path / "documents" / f"part{i % 3}" / f"page{i}.md"
        file.parent.mkdir(parents=True, exist_ok=True)
        words = [f"thing{i}", f"gadget{i * 7}", "works", "with", f"cable{i % 4}", f"socket{i}"]
        file.write_text(f"# About thing{i} parts\n\nThe {' '.join(words)} since {1900 + i}.\n")
    return tmp_path / "documents"


def request_of(data: Path, tmp_path: Path, **more: object) -> Request:
    return replace(
        Request("Find the passage", data, kind="retrieve", out=tmp_path / "model", budget_s=30),
        **more,  # type: ignore[arg-type]
    )


def written(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# -- documents --

lines = st.lists(
    st.sampled_from(
        [
            "",
            "# Title one",
            "words of a text",
            "===",
            "----",
            "* item <b>bold</b>",
            "```",
            "x " * 150,
        ]
    ),
    max_size=25,
)


@given(lines, st.sampled_from(["a.txt", "a.md", "a.rst", "a.html"]))
@settings(max_examples=80, deadline=None)
def test_passages_lie_in_their_file_in_order_and_not_over_one_another(
    said: list[str], name: str
) -> None:
    text, end_before = "\n".join(said), 0
    found = passages_of(name, text)
    for passage in found:
        assert end_before <= passage.start < passage.end <= len(text)
        assert passage.first == text.count("\n", 0, passage.start) + 1
        assert passage.last == text.count("\n", 0, passage.end - 1) + 1
        if name != "a.html":
            assert passage.text == text[passage.start : passage.end]
            assert len(passage.text.split()) <= MAX_WORDS + 3 * 25  # headings come on top
        end_before = passage.end
    if name == "a.txt":
        kept = "".join(passage.text for passage in found)
        assert kept.count("words of a text") == text.count("words of a text")


def test_a_passage_begins_at_its_heading_and_code_has_none() -> None:
    text = "# One\n\nfirst\n\n```sh\n# no heading\nls\n```\n\nTwo\n---\n\nsecond\n"
    one, two = passages_of("a.md", text)
    assert (one.first, one.last, two.first, two.last) == (1, 8, 10, 13)
    assert "# no heading" in one.text and two.text.startswith("Two")
    framed = "=====\nTitle\n=====\n\nsaid\n\nOther\n~~~~~\n\nmore"
    assert [p.first for p in passages_of("a.rst", framed)] == [1, 7]


def test_of_html_only_what_a_reader_sees_is_kept() -> None:
    text = "<html><style>p {}</style>\n<h1>Big &amp; small</h1>\n<p>One <b>two</b>\n"
    text += "<script>var x</script></p><h2>Next</h2><p>three"
    one, two = passages_of("a.html", text)
    assert one.text.split() == ["Big", "&", "small", "One", "two"]
    assert (one.first, one.last, two.text) == (2, 3, "Next\nthree")


def test_a_tag_inside_a_word_does_not_part_it() -> None:
    [passage] = passages_of("a.html", "<p>un<b>believ</b>able <i>words</i></p>")
    assert passage.text == "unbelievable words"


def test_a_huge_line_is_cut_into_passages(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("word " * 60_000)
    found = read_documents(tmp_path)
    assert len(found.passages) == 60_000 / MAX_WORDS
    assert {(p.first, p.last) for p in found.passages} == {(1, 1)}


def test_a_run_without_a_space_is_cut_too(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("QUJD" * 50_000)
    assert max(len(p.text) for p in read_documents(tmp_path).passages) <= 80 * MAX_WORDS


def test_a_script_without_spaces_is_searched_by_its_characters() -> None:
    texts = ["\u4eca\u65e5\u5929\u6c14\u5f88\u597d", "\u6211\u559c\u6b22\u732b", "words only"]
    assert Index(texts, 1.2, 0.75, 4, 0.5).scores("\u732b").argmax() == 1


def test_files_that_are_no_text_are_left_out_and_counted(folder: Path) -> None:
    (folder / "picture.txt").write_bytes(bytes(range(256)) * 50)
    (folder / "zero.md").write_bytes(b"text\0with a nul")
    (folder / "hollow.md").write_text("\n --- \n")
    (folder / "old.txt").write_bytes("le caf\u00e9 est ferm\u00e9".encode("latin-1"))
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    (folder / "code.py").write_text("print()")
    (folder / ".hidden.md").write_text("hidden words")
    secret = folder.parent / "secret.txt"
    secret.write_text("what nobody gave")
    (folder / "notes.txt").symlink_to(secret)
    found = read_documents(folder)
    assert found.odd == {
        "binary": ("picture.txt", "zero.md"),
        "empty": ("hollow.md",),
        "encoding": ("old.txt",),
        "linked": ("notes.txt",),
        "unreadable": ("gone.txt",),
    }
    assert not any("nobody gave" in passage.text for passage in found.passages)
    assert found.others == 1 and len(found.files) == 13
    assert any("caf\u00e9" in passage.text for passage in found.passages)
    assert not any("hidden" in passage.text for passage in found.passages)


def test_documents_that_cannot_be_searched_are_refused(tmp_path: Path) -> None:
    empty, binaries, one = (tmp_path / name for name in ("empty", "binaries", "one"))
    for place in (empty, binaries, one):
        place.mkdir()
    (binaries / "a.txt").write_bytes(b"\0\1\2" * 100)
    (one / "a.md").write_text("# Only\n\nA few words.")
    for data, words in (
        (empty, "0 passages in 0 documents"),
        (binaries, "(1 binary)"),
        (one, "1 passages in 1 documents"),
        (one / "a.md", "is no folder"),
        (tmp_path / "absent", "Got nothing"),
    ):
        with pytest.raises(InputError, match="Wanted") as told:
            plan(request_of(data, tmp_path))
        assert words in str(told.value)
    with pytest.raises(InputError, match="--queries is for kind retrieve"):
        plan(request_of(one, tmp_path, kind="classify", queries=one / "a.md"))


# -- queries --


def test_a_query_means_the_passage_with_its_answer_else_its_file(
    folder: Path, tmp_path: Path
) -> None:
    text = "# One\n\nThe sky is blue.\n\n# Two\n\nThe grass\nis green today.\n"
    (folder / "colours.md").write_text(text)
    passages = read_documents(folder).passages
    mine = [i for i, p in enumerate(passages) if p.file == "colours.md"]
    rows = [
        {"query": "what colour has grass", "file": "colours.md", "answer": "grass is green"},
        {"query": "which colours", "file": "./colours.md", "answer": ""},
        {"query": "about the thing", "file": "page3.md", "answer": "not said anywhere in it"},
        {"query": "where is it", "file": "nowhere.md", "answer": ""},
        {"query": "how blue", "file": "", "answer": "THE SKY is blue"},
        {"query": "how odd", "file": "", "answer": "words that no document has at all"},
        {"query": " ", "file": "colours.md", "answer": ""},
        {"query": "what colour has grass", "file": "page3.md", "answer": ""},
    ]
    found = read_queries(written(tmp_path / "q.jsonl", rows), passages)
    page3 = next(i for i, p in enumerate(passages) if p.file.endswith("page3.md"))
    also = [i for i, p in enumerate(passages) if p.file.endswith("page3.md")]
    both = tuple(sorted([mine[1], *also]))  # a query with two right files is one query
    assert found.targets == (both, tuple(mine), (page3,), (mine[0],))
    assert {f.kind: f.rows for f in found.faults} == {
        "unknown-file": (4,),
        "answer-elsewhere": (3,),
        "answer-nowhere": (6,),
        "empty": (7,),
    }


def test_queries_of_files_that_are_not_there_are_counted_and_strict_refuses(
    folder: Path, tmp_path: Path
) -> None:
    rows = [{"query": f"thing{i % 12} number {i}", "file": f"page{i % 12}.md"} for i in range(60)]
    queries = written(tmp_path / "q.jsonl", [*rows, {"query": "gone", "file": "gone.md"}])
    found = plan(request_of(folder, tmp_path, queries=queries))
    assert [(f.kind, f.count) for f in found.faults if f.kind == "unknown-file"] == [
        ("unknown-file", 1)
    ]
    with pytest.raises(InputError, match="unknown-file"):
        plan(request_of(folder, tmp_path, queries=queries, strict=True))
    none = written(tmp_path / "none.jsonl", [{"query": "gone", "file": "gone.md"}] * 3)
    with pytest.raises(InputError, match="names no file that is there"):
        plan(request_of(folder, tmp_path, queries=none))
    with pytest.raises(InputError, match="does not say what is asked"):
        wrong = written(tmp_path / "wrong.jsonl", [{"said": "a", "of": "b"}])
        plan(request_of(folder, tmp_path, queries=wrong))


def test_queries_that_cannot_be_split_and_limits_that_cannot_be_met_are_refused(
    folder: Path, tmp_path: Path, ledger: Ledger
) -> None:
    rows = [{"query": f"thing {chr(97 + i) * 4} of {i}", "file": "page1.md"} for i in range(25)]
    asked = request_of(folder, tmp_path, queries=written(tmp_path / "one.jsonl", rows))
    with pytest.raises(InputError, match="one document answers all"):
        prepare(plan(asked), ledger)
    few = written(tmp_path / "few.jsonl", rows[:3])
    with pytest.raises(InputError, match=r"few\.jsonl has 3 usable rows"):
        plan(replace(asked, queries=few))
    with pytest.raises(InputError, match=r"every model for \d+ passages"):
        plan(request_of(DOCS, tmp_path, limits=Limits(max_bytes=1_000)))
    with pytest.raises(InputError, match="say --kind retrieve"):
        plan(request_of(folder, tmp_path, kind="auto"))


def test_made_queries_are_the_same_every_time_and_ask_for_what_is_there(
    passages: tuple[Passage, ...],
) -> None:
    made = make_queries(passages)
    assert made == make_queries(passages)
    assert len(made.texts) > len(passages) and made.provenance == "generated"
    assert len(set(made.texts)) == len(made.texts)
    answers = bm25([p.text for p in passages])(made.texts)
    assert 0.75 < RETRIEVE.total(answers, made.targets)[0] < 0.99  # neither noise nor copies


def test_made_queries_are_never_called_collected(tmp_path: Path, ledger: Ledger) -> None:
    asked = plan(request_of(DOCS, tmp_path, provenance="collected"))
    assert prepare(asked, ledger).spec.task.data.provenance == "generated"


def test_queries_that_one_passage_answers_are_never_parted(tmp_path: Path, ledger: Ledger) -> None:
    run = prepare(plan(request_of(DOCS, tmp_path)), ledger)
    rows = Rows.load(run.folder)
    fold_of: dict[int, set[int]] = {}
    for target, fold in zip(rows.targets, rows.folds.tolist(), strict=True):
        for passage in target:
            fold_of.setdefault(passage, set()).add(fold)
    assert {len(folds) for folds in fold_of.values()} == {1} and len(set(rows.folds.tolist())) == 5
    sealed = json.loads(next((ledger.folder / "vault").iterdir()).read_text())
    assert not {i for target in sealed["labels"] for i in target} & fold_of.keys()
    assert rows.inputs.passages == read_documents(DOCS).passages


@given(st.lists(st.tuples(st.integers(0, 8), st.lists(st.integers(0, 8), min_size=1)), min_size=1))
def test_joining_groups_parts_no_owner(rows: list[tuple[int, list[int]]]) -> None:
    groups = np.unique([group for group, _ in rows], return_inverse=True)[1]
    found = joined(groups, [owners for _, owners in rows])
    for name in range(9):
        assert (
            len({int(g) for g, (_, owners) in zip(found, rows, strict=True) if name in owners}) < 2
        )
        assert len({int(g) for g, (group, _) in zip(found, rows, strict=True) if group == name}) < 2


# -- the model --


@pytest.mark.parametrize("family", ["words", "grams"])
def test_the_index_scores_as_the_naive_bm25_does(
    family: str, passages: tuple[Passage, ...]
) -> None:
    trained = fit(SearchRecipe(family), Examples(["x"], [[0]], passages))
    found = np.array([trained.featurizer.index.scores(text) for text in ASKED])
    wanted = training_scores(trained, ASKED)[:, 0]
    assert np.abs(found - wanted).max() < 1e-6
    assert found[0].max() > 0.2 and not found[2:].any(1)[-2:].any()


def test_bm25_of_ours_and_of_the_baseline_rank_alike(passages: tuple[Passage, ...]) -> None:
    texts = [p.text.replace("_", " ") for p in passages]  # which parts words in ours alone
    index, queries = Index(texts, 1.5, 0.75, 4, 0.0), make_queries(passages).texts[:80]
    theirs = bm25(texts)(queries)
    for query, answer in zip(queries, theirs, strict=True):
        own, places = index.scores(query), [p["passage"] for p in answer["passages"]]
        assert np.allclose(own[places], np.sort(own)[::-1][: len(places)], atol=1e-6)


def test_a_typing_error_is_found_by_n_grams_and_not_by_words(
    passages: tuple[Passage, ...],
) -> None:
    texts = [p.text for p in passages]
    words, grams = (Index(texts, 1.2, 0.75, 4, share).scores("snadboxx") for share in (0.0, 0.5))
    assert words.max() == 0
    assert "sandbox" in texts[int(grams.argmax())].lower()


@pytest.mark.parametrize("int8", [False, True])
def test_the_graph_gives_the_scores_of_the_slow_twin(hybrid: Trained, int8: bool) -> None:
    runner = Runner(files(hybrid, int8=int8)["model.onnx"], hybrid.featurizer)
    model = dequantised(hybrid) if int8 else hybrid
    assert np.abs(runner.scores(ASKED) - training_scores(model, ASKED)).max() < 1e-5


def test_a_packed_model_is_the_same_again(hybrid: Trained) -> None:
    again = unpack(pack(hybrid))
    assert again.recipe == hybrid.recipe and again.featurizer.passages == hybrid.featurizer.passages
    assert np.array_equal(training_scores(again, ASKED), training_scores(hybrid, ASKED))
    odd = (Passage("a\u2028b.txt", 1, 2, 0, 5, "\ud83d \0 \u00e9"),)
    assert from_bytes(to_bytes(odd)) == odd


def test_same_seed_same_weights_and_no_time_is_an_error(
    hybrid: Trained, passages: tuple[Passage, ...]
) -> None:
    made = make_queries(passages)
    data = Examples(made.texts[:60], made.targets[:60], passages)
    again = fit(hybrid.recipe, data)
    assert np.array_equal(again.tensors["table"], hybrid.tensors["table"])
    with pytest.raises(OutOfTime):
        fit(hybrid.recipe, data, deadline=0.0)


def test_vectors_are_learned_without_any_query(passages: tuple[Passage, ...]) -> None:
    recipe = SearchRecipe("hybrid", dim=16, epochs=1, max_rows=4_000)
    trained = fit(recipe, Examples([], [], passages))
    [[_, cosine]] = training_scores(trained, [passages[30].text])
    assert int(cosine.argmax()) == 30


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_rank_out_of_fold_is_that_of_the_answer_given(seed: int) -> None:
    chance = np.random.default_rng(seed)
    scores = chance.integers(-3, 4, (2, 30)).astype(np.float32) / 4  # ties, and nothing found
    right = np.unique(chance.integers(0, 30, 3))
    found = _reciprocal_ranks(scores, right)
    places = tuple(Passage("a", 1, 1, 0, 1, "a") for _ in range(30))
    for share, rank in zip(np.linspace(0, 1, 11), found, strict=True):
        about = {"labels": [], "settings": {"bm25_share": float(share)}}
        feature = type("Features", (), {"passages": places})()
        [answer] = answers_of("retrieve").Decoder(about, feature)(["x"], scores[None], top=10)
        assert RETRIEVE.row_score(answer.to_dict(), right.tolist()) == pytest.approx(float(rank))


def test_choosing_a_share_does_not_flatter_a_model_of_noise() -> None:
    chance = np.random.default_rng(0)
    found = [
        RETRIEVE.score(chance.random((20, 11), dtype=np.float32), None)  # type: ignore[arg-type]
        for _ in range(400)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.01)  # the best of 11 would have 0.6


def test_vectors_without_weight_are_said_to_have_none() -> None:
    ranks = np.tile(np.linspace(0.2, 0.8, 11, dtype=np.float32), (40, 1))
    fitted = RETRIEVE.fitted(ranks, None, None)  # type: ignore[arg-type]
    assert fitted.settings == {"bm25_share": 1.0}
    report = {"task": {"kind": "retrieve"}, "metric": "MRR@10", "fitted": fitted.facts}
    [told] = [s for s in sections(report) if s.title == "Passages found"]
    assert any("BM25 answers alone" in line for line in told.lines)
    assert any("vectors alone 20.0 %" in line for line in told.lines)
    level = RETRIEVE.fitted(np.ones((40, 11), np.float32), None, None)  # type: ignore[arg-type]
    assert level.settings == {"bm25_share": 1.0}  # where nothing tells them apart, the simpler


# -- the whole --


def test_an_emitted_search_indexes_other_documents(
    hybrid: Trained, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    agent = Agent(
        kind="retrieve",
        trained=hybrid,
        int8=True,
        labels=(),
        settings={"bm25_share": 0.5},
        task={"description": "a search"},
        examples=("how do I seal test data",),
        provenance="written",
        card={},
    )
    emit_project(agent, tmp_path / "old")

    def train(*flags: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "train.py", *flags, "--out", str(tmp_path / "new")]
        return subprocess.run(argv, cwd=tmp_path / "old", capture_output=True, text=True)

    assert "Wanted --data, or --docs" in train().stderr
    assert "has no document" in train("--docs", str(tmp_path / "absent")).stderr
    done = train("--docs", str(folder))
    assert done.returncode == 0, done.stderr
    [answer] = load_model(tmp_path / "new").predict(["the gadget49 works"])
    assert answer.to_dict()["passages"][0]["file"] == "part1/page7.md"


@pytest.mark.slow
def test_a_folder_of_documents_becomes_a_search(tmp_path: Path, ledger: Ledger) -> None:
    asked = request_of(DOCS, tmp_path, budget_s=45, yes=True)
    shipped = design(asked, ledger)
    assert shipped is not None and shipped.model
    report = shipped.report
    assert not report["status"]["verified"] and "generated" in report["status"]["reason"]
    assert [row["name"] for row in report["baselines"]] == [*RETRIEVE.baselines]
    assert report["sealed"]["score"] > report["baselines"][-1]["score"] + 0.5
    [answer] = load_model(shipped.folder).predict(["what does the audit check"])
    best = answer.to_dict()["passages"][0]
    said = (DOCS / best["file"]).read_text(encoding="utf-8")
    start, end = best["characters"]
    assert said[start:end] == best["text"] and best["file"] == "audit.md"


@pytest.mark.slow
@pytest.mark.skipif(not BANKING.exists(), reason="needs shared/data: banking77")
def test_real_queries_teach_more_than_bm25_knows(tmp_path: Path) -> None:
    """On a split of the training rows; the documents are other rows of each class."""
    data = read_examples(BANKING)
    rows = list(zip(data.texts, data.labels, strict=True))
    random.Random(0).shuffle(rows)
    for name in sorted(set(data.labels)):
        said = [text for text, label in rows[3_000:] if label == name]
        (tmp_path / f"{name.replace('/', '_')}.txt").write_text("\n\n".join(said))
    passages = read_documents(tmp_path).passages
    of = {p.file: [i for i, q in enumerate(passages) if q.file == p.file] for p in passages}
    targets = [of[f"{label.replace('/', '_')}.txt"] for _, label in rows[:3_000]]
    texts = [text for text, _ in rows[:3_000]]
    trained = fit(SearchRecipe(epochs=5), Examples(texts[500:], targets[500:], passages))
    held = Rows(tuple(texts[:500]), tuple(targets[:500]), (), np.zeros(500), Inputs())
    ran = RETRIEVE.builder.run(trained, held.texts, int8=True)
    kept = RETRIEVE.kept(ran, held)
    rival = RETRIEVE.total(bm25([p.text for p in passages])(held.texts), held.targets)[0]
    assert RETRIEVE.score(kept, held) > rival + 0.01
