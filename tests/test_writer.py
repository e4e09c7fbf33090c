"""Kind generate: items, counts, the writer's graph, what it writes, and what a user gets wrong."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mendel.clocks.design.prepare import plan
from mendel.clocks.design.request import Request
from mendel.data.items import BREAK, LONG, MIN_ITEMS, n_bytes, pieces, read_items
from mendel.emit.copied import copied, longest_run
from mendel.generate import Sampler as EngineSampler
from mendel.kinds import KINDS
from mendel.kinds.writer import engine, model_spec, n_params_of
from mendel.model import build
from mendel.parts.carried.deadline import OutOfTime
from mendel.parts.carried.running import session_of
from mendel.parts.writer import features
from mendel.parts.writer.counts import N_PARTS, Counts, keys_of
from mendel.parts.writer.export import dequantised, files, golden, training_bits
from mendel.parts.writer.features import Featurizer, symbols
from mendel.parts.writer.fit import Examples, Trained, Windows, fit
from mendel.parts.writer.recipe import FAMILIES, WriterRecipe
from mendel.parts.writer.runner import Runner
from mendel.parts.writer.sampling import Sampler
from mendel.parts.writer.store import pack, unpack
from mendel.train.baseline import FITS
from mendel.types import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
SMALL = WriterRecipe(width=16, layers=2, heads=2, window=8, steps=30, batch=16, order=3)
SYLLABLES = ("ma", "ri", "lo", "ka", "ten", "du")
WEIRD = ["", "\ud800", "日本語", "a" * 700, BREAK, "x\0y"]


def words(n: int, seed: int = 0) -> list[str]:
    chance = np.random.default_rng(seed)
    return ["".join(chance.choice(SYLLABLES, chance.integers(1, 5))) for _ in range(n)]


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest) -> Trained:
    recipe = replace(SMALL, family=request.param)
    return fit(recipe, Examples(words(400)), seed=0, make=engine)


def runner_of(trained: Trained, int8: bool = False) -> Runner:
    graph = files(trained, int8=int8)["model.onnx"]
    return Runner(session_of(graph), trained.featurizer)


# -- items --


def test_each_form_of_a_text_has_its_items() -> None:
    lines = words(30)
    assert pieces("\n".join(lines)) == lines
    speeches = [f"{a}:\n{b}" for a, b in zip(lines, words(30, 1), strict=True)]
    assert pieces("\r\n \r\n".join(speeches)) == speeches
    assert pieces("<|endoftext|>".join(["one\n\ntwo", "three", "four"]))[0] == "one\n\ntwo"
    assert "".join(pieces("word " * 5_000)) == "word " * 5_000
    assert max(map(len, pieces("x" * 300_000))) <= LONG


def test_items_are_distinct_single_lines_whose_bytes_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "plays.txt"
    file.write_text("\n\n".join([*(f"A:\n{w} é" for w in words(50)), "A:\nma é"]), "utf-8")
    found = read_items(file)
    assert len(set(found.texts)) == len(found.texts) and not any("\n" in t for t in found.texts)
    assert [f.kind for f in found.faults] == ["repeated-item"]
    for text, target in zip(found.texts, found.targets, strict=True):
        assert target == n_bytes(text) == len(symbols(text)) + 1
    assert features.BREAK == BREAK  # the part travels, and cannot import it


def test_a_folder_of_texts_is_read_and_what_is_no_text_is_counted(tmp_path: Path) -> None:
    for i, word in enumerate(dict.fromkeys(words(200))):
        (tmp_path / f"{i}.txt").write_text(f"{word}\n\nand so on", "utf-8")
    (tmp_path / "picture.bin").write_bytes(bytes(range(256)) * 20)
    found = read_items(tmp_path)
    assert len(found.texts) >= MIN_ITEMS and all("and so on" in text for text in found.texts)
    assert [f.kind for f in found.faults] == ["no-text-file"]


def test_a_table_has_its_texts_for_items(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text\n" + "\n".join(f"{w} {i}" for i, w in enumerate(words(30))), "utf-8")
    assert len(read_items(file).texts) == 30


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"one line\n", "usable rows"),
        (bytes(range(256)) * 50, "not text"),
        (b"\n \n\n", "empty"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "corpus.txt").write_bytes(content)
    request = Request("Write", tmp_path / "corpus.txt", kind="generate", out=tmp_path / "out")
    with pytest.raises(InputError, match=said):
        plan(request)


def test_one_enormous_line_becomes_items(tmp_path: Path) -> None:
    (tmp_path / "line.txt").write_text(" ".join(words(50_000)), "utf-8")
    request = Request("Write", tmp_path / "line.txt", kind="generate", out=tmp_path / "out")
    planned = plan(request)
    assert len(planned.data.texts) > MIN_ITEMS
    assert max(map(len, planned.data.texts)) <= LONG


# -- counts --


def test_shares_are_probabilities_and_the_spread_has_them_all() -> None:
    counts = Counts.of(words(200), 4)
    contexts = keys_of(["malori", "", "zz"], 4) // 257
    spread = np.exp(counts.spread(contexts))
    assert np.allclose(spread.sum(1), 1, atol=1e-5)
    whole = contexts[:, None] * 257 + np.arange(257)
    assert np.allclose(counts.shares(whole.ravel()).reshape(spread.shape), spread, atol=1e-6)


def test_a_longer_context_costs_fewer_bits_than_frequencies_alone() -> None:
    texts, new = words(2_000), words(200, 9)
    floor = [answer["bits"] for answer in FITS["unigram"](texts, [])(new)]
    found = [answer["bits"] for answer in FITS["n-gram"](texts, [])(new)]
    assert sum(found) < 0.6 * sum(floor)


def test_counts_stay_within_their_rows_and_survive_the_vocabulary(trained: Trained) -> None:
    assert sum(len(v.entries) for v in Counts.within(words(500), 6, 300).levels) <= 300
    content = io.BytesIO()
    trained.featurizer.save(content)
    content.seek(0)
    again, mine = (f.arrays(["mari"]) for f in (Featurizer.load(content), trained.featurizer))
    assert again.keys() == mine.keys()
    assert all(np.array_equal(again[name], mine[name]) for name in mine)


def test_counts_look_no_further_back_than_new_texts_gain_from() -> None:
    """Each letter is said by the two before it, and by nothing else."""
    chance, texts = np.random.default_rng(0), []
    for _ in range(200):
        word = chance.integers(0, 8, 2).tolist()
        for _ in range(30):
            word.append((3 * word[-1] + word[-2] + int(chance.integers(0, 2))) % 8)
        texts.append("".join("abcdefgh"[i] for i in word))
    assert Counts.fitting(texts, 6, 1_000_000).order == 2
    assert Counts.fitting(texts, 6, 20).order == 1


def test_hints_in_training_are_counted_in_other_texts() -> None:
    texts = [f"{i:04}" for i in range(0, 2_000, 7)]
    windows = Windows(texts, SMALL)
    assert windows.hints is not None and len(windows.hints.counts) == N_PARTS
    short = Windows(texts * 9, replace(SMALL, steps=1, batch=2)).hints
    assert short is not None and len(short.counts) == 1  # what is not seen needs no hints
    x, y, hints = windows.batch(0, 0)
    own = np.take_along_axis(hints, y[..., None], 2)
    seen = np.log(windows.hints.whole.shares(windows.hints.contexts * 257 + windows.ids[1:]))
    assert own.mean() < seen.mean() - 0.3  # what was counted on itself is surer than it may be
    assert x.shape == y.shape == hints.shape[:2]


# -- the model --


def test_the_graph_costs_what_the_engine_says(trained: Trained) -> None:
    model = build(model_spec(trained.recipe))
    model.load_state_dict({k: torch.from_numpy(v) for k, v in trained.weights.items()})
    runner = runner_of(trained)
    for text in ["marilo", "maka" * 30, *WEIRD]:
        arrays = trained.featurizer.arrays([text])
        with torch.inference_mode():
            logits = model(torch.from_numpy(arrays["tokens"]))[0].numpy()
        shares = torch.from_numpy(logits + arrays.get("hints", 0)).log_softmax(-1).numpy()
        own = np.take_along_axis(shares, arrays["targets"][..., None], 2)
        assert runner.bits([text])[0] == pytest.approx(-own.sum() / np.log(2), abs=2e-3)


@pytest.mark.parametrize("int8", [False, True])
def test_the_graph_gives_the_golden_bits_in_either_form(trained: Trained, int8: bool) -> None:
    texts = [*words(10, 3), "maka" * 20]
    session = session_of(files(trained, int8=int8)["model.onnx"])
    for text, wanted in zip(texts, golden(trained, texts, int8=int8), strict=True):
        found = session.run(["bits"], trained.featurizer.arrays([text]))[0][0]
        assert np.abs(found - wanted).max() < 1e-4


def test_texts_in_a_batch_cost_what_they_cost_alone(trained: Trained) -> None:
    texts = [*words(40, 4), *WEIRD, "a" * 3_000]
    runner = runner_of(trained)
    alone = [runner.bits([text])[0] for text in texts]
    assert np.allclose(runner.bits(texts), alone, rtol=1e-5, atol=1e-3)


def test_symbol_by_symbol_is_the_whole_text_at_once(trained: Trained) -> None:
    """A text much longer than the window, greedily written on from each of its halves."""
    runner, greedy = runner_of(trained), [Sampler(0.0)]
    [whole] = runner.texts("mari", greedy, 60)
    for cut in (5, 17, 40):
        assert runner.texts(whole[:cut], greedy, 64 - cut) in ([whole], [whole[:cut]])


def test_draws_are_those_of_the_engine() -> None:
    chance = np.random.default_rng(0)
    for seed in range(20):
        given = {"temperature": 0.1 + seed / 10, "top_p": 1 - seed / 40, "seed": seed}
        mine, its = Sampler(**given), EngineSampler(**given)  # type: ignore[arg-type]
        logits = chance.normal(size=257).astype(np.float32) * 3
        uniforms = [next(sampler.uniforms(seed * 9)) for sampler in (mine, its)]
        assert uniforms[0] == uniforms[1]
        assert mine.pick(logits, uniforms[0]) == its.pick(logits, uniforms[1])


@pytest.mark.parametrize(
    "odd", [{"temperature": -1}, {"temperature": np.inf}, {"top_p": 0.0}, {"seed": -1}]
)
def test_a_number_that_no_draw_can_use_is_refused(odd: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Wanted"):
        Sampler(**odd)  # type: ignore[arg-type]


def test_training_beats_counts_on_text_that_counts_cannot_see() -> None:
    """A word that repeats its first half: six bytes back is too far for counts of three."""
    halves = [word[:6].ljust(6, "a") for word in words(900, 5)]
    texts = [half * 2 for half in dict.fromkeys(halves)]
    cut = len(texts) * 4 // 5
    recipe = WriterRecipe(width=32, layers=2, heads=2, window=16, steps=150, batch=16, order=3)
    counts = Counts.of(texts[:cut], 3).bits(texts[cut:]).sum()
    model = fit(recipe, Examples(texts[:cut]), seed=0, make=engine)
    assert runner_of(model).bits(texts[cut:]).sum() < 0.9 * counts


def test_a_model_survives_its_packing(trained: Trained) -> None:
    again = unpack(pack(trained))
    assert again.recipe == trained.recipe
    assert golden(again, ["mari"], int8=False) == golden(trained, ["mari"], int8=False)
    assert n_params_of(trained.recipe) == sum(v.size for v in trained.weights.values())


def test_the_same_seed_trains_the_same_model_and_a_deadline_ends_it() -> None:
    one, same = (fit(SMALL, Examples(words(50)), seed=3, make=engine) for _ in range(2))
    assert all(np.array_equal(one.tensors[name], same.tensors[name]) for name in one.tensors)
    with pytest.raises(OutOfTime):
        fit(SMALL, Examples(words(50)), seed=0, deadline=0.0)


def test_the_part_trains_by_itself_where_the_engine_is_not() -> None:
    texts, new = words(400), words(40, 8)
    model = fit(SMALL, Examples(texts), seed=0)
    bits = sum(row.sum() for row in training_bits(dequantised(model), new))
    assert bits < 1.02 * Counts.of(texts, 3).bits(new).sum()


# -- what is reported --


def test_the_longest_copied_run_is_the_longest_there_is() -> None:
    chance = np.random.default_rng(0)
    for _ in range(50):
        training, written = (
            ["".join(chance.choice(list("abc"), chance.integers(0, n))) for _ in range(4)]
            for n in (30, 12)
        )
        runs = [
            w[i:j] for w in written for i in range(len(w)) for j in range(i + 1, len(w) + 1)
            if any(w[i:j] in text for text in training)
        ]  # fmt: skip
        found = longest_run(written, training)
        assert len(found) == max(map(len, runs), default=0)
        assert any(found in text for text in training)


def test_a_text_that_was_cut_is_a_copy_where_a_training_text_begins_so() -> None:
    training = ["once upon a time there was", "never"]
    assert copied(["once upon", "once up!"], training, 8)["n_whole"] == 1
    assert copied(["once upon"], training, 200)["n_whole"] == 0  # it ended by itself


@pytest.mark.parametrize("top_p", [1.0, 0.5])
def test_the_last_number_before_one_still_stands_for_a_symbol(top_p: float) -> None:
    logits = np.array([0.0, 3.0, 1.0, -200.0], np.float32)  # the last has a share of 0
    for uniform in (float(np.nextafter(1.0, 0.0)), 1.0):  # a product may round up to the whole
        found = Sampler(temperature=0.1, top_p=top_p).pick(logits, uniform)
        assert 0 <= found < len(logits) and logits[found] > -200


def test_whole_copies_are_counted() -> None:
    found = copied(["emma", "emmo", "emmo", "zed"], ["emma", "ava", "lemmon"], 200)
    assert (found["n"], found["n_whole"], found["n_new"], found["n_distinct"]) == (4, 1, 3, 3)
    assert found["run"] == "emma"


def test_folds_hold_out_enough_and_the_rest_is_learned_in_every_round() -> None:
    kind, folds = KINDS["generate"], np.arange(1_000) % 5
    held = kind.held_out(folds, [1_000] * 1_000)
    for fold in range(kind.n_folds):
        assert 60 <= (held == fold).sum() <= 61
    assert set(np.unique(held)) == {*range(kind.n_folds), 99}
    tiny = kind.held_out(np.arange(10) % 5, [100_000] * 10)
    assert all((tiny == fold).any() for fold in range(kind.n_folds))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["names/names.txt", "tinyshakespeare/input.txt"])
def test_on_real_text_it_beats_the_n_gram_floor(name: str) -> None:
    if not (DATA / name).exists():
        pytest.skip("no ../shared/data here")
    texts = read_items(DATA / name).texts
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    cut = len(texts) // 10
    new, old = ([texts[i] for i in part] for part in (order[:cut], order[cut:]))
    floor = Counts.of(old).bits(new).sum()
    model = fit(WriterRecipe(), Examples(old), seed=0, make=engine)
    assert runner_of(model, int8=True).bits(new).sum() < 0.99 * floor
