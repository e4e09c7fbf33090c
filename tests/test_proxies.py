"""The proxies: repeatable, disjoint, in range, and solvable by who reads only what came before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mendel.data.proxies import PROXIES, SUITES, TWINS, make, suite
from mendel.data.proxies.copying import Memorisation
from mendel.data.proxies.languages import Languages, canonical
from mendel.data.proxies.proxy import (
    CODES,
    PRESETS,
    Examples,
    Preset,
    Proxy,
    Task,
    distinct,
    examples,
    side,
)
from mendel.data.proxies.recall import Fuzzy, InContext, Recall
from mendel.data.proxies.states import GROUPS, Parity, WordProblem, best_guess, group, then
from mendel.spec import ModelSpec, TrainSpec
from mendel.types import InputError

TASKS = tuple(name for name in PROXIES if not name.startswith("char_lm"))
DATA = Path(__file__).parents[2] / "shared/data"

pytestmark = pytest.mark.usefixtures("one_thread")


def task_of(name: str, preset: Preset = "seconds") -> Proxy:
    proxy = make(name, preset)
    assert isinstance(proxy, Proxy)
    return proxy


def same(a: Examples, b: Examples) -> bool:
    pairs = zip(a, b, strict=True)
    return all(x is y is None or np.array_equal(x, y) for x, y in pairs)


# numbers and splits


@pytest.mark.parametrize("name", TASKS)
def test_an_example_is_the_same_alone_as_among_others(name: str) -> None:
    task = task_of(name).train
    many = examples(task, "train", 1000, 40)
    assert same(many, examples(task, "train", 1000, 40))
    assert same(many.at(slice(17, 18)), examples(task, "train", 1017, 1))


@pytest.mark.parametrize("name", TASKS)
def test_no_content_is_in_two_splits(name: str) -> None:
    task, seen = task_of(name).train, {}
    for split in ("train", "validation", "test"):
        found = examples(task, split, 0, 128)
        content = found.x if found.content is None else found.content
        seen[split] = {row.tobytes() for row in content}
    assert not seen["train"] & (seen["test"] | seen["validation"])
    assert not seen["test"] & seen["validation"]


def contents(found: Iterable[Examples]) -> list[bytes]:
    parts = [each.x if each.content is None else each.content for each in found]
    return [row.tobytes() for part in parts for row in part]


@pytest.mark.parametrize("name", TASKS)
def test_each_seed_meets_test_examples_of_its_own_that_no_training_has(name: str) -> None:
    proxy = replace(task_of(name), n_test=64)
    mine, its = (contents(proxy.tests(seed, 50)) for seed in (1, 2**40))
    assert mine == contents(proxy.tests(1)) and len(mine) == len(its) == 64
    # 33,000 different texts are in the test of A5 at 12 tokens, so a few of them come again
    assert len(set(mine) & set(its)) <= 6 and len(set(mine)) > 55
    for seed in (1, 2**40):
        assert all((side(each) == CODES["test"]).all() for each in proxy.tests(seed))
    learned = (examples(proxy.train, "train", start, 64) for start in (0, 1 << 39))
    assert not set(contents(learned)) & set(mine + its)


def test_a_text_is_finite_and_asks_every_seed_the_same() -> None:
    proxy = make("char_lm")
    assert contents(proxy.tests(0)) == contents(proxy.tests(1))


def test_a_score_is_of_the_seed_s_own_examples() -> None:
    from mendel.model import build
    from mendel.train.proxy import fitted, score

    proxy = replace(task_of("mqar"), n_test=256)
    model = build(fitted(SMALL, proxy))
    scores = [score(model, proxy, seed) for seed in (0, 1, 0)]
    assert scores[0] == scores[2] != scores[1]


def test_a_task_so_small_that_all_of_it_is_drawn_still_keeps_its_splits_apart() -> None:
    task = Parity(7)  # 128 strings, each of them in thousands of draws
    train, test = (examples(task, s, 0, 3000).x for s in ("train", "test"))  # type: ignore[arg-type]
    kept = {tuple(row) for row in train.tolist()}
    asked = {tuple(row) for row in test.tolist()}
    assert len(kept) > 90 and asked and not kept & asked
    assert len(kept | asked) < 128  # the rest is the validation's


def test_a_task_without_room_for_a_test_set_is_refused() -> None:
    with pytest.raises(InputError, match="too few different examples"):
        examples(Parity(1), "test", 0, 4)  # 2 strings, and both are for training


def test_seeds_draw_other_batches_and_repeat_their_own() -> None:
    from mendel.data.corpus import batch_rng

    source = task_of("mqar").source()
    x, y = source.batch(batch_rng(0, 3), 8, 0)
    again = source.batch(batch_rng(0, 3), 8, 0)
    other = source.batch(batch_rng(1, 3), 8, 0)
    assert x.equal(again[0]) and y.equal(again[1]) and not x.equal(other[0])


def test_a_finite_training_set_holds_its_first_examples_alone() -> None:
    from mendel.data.corpus import batch_rng

    proxy = replace(task_of("mqar"), n_train=5)
    known = {row.tobytes() for row in examples(proxy.train, "train", 0, 5).x}
    x, _ = proxy.source().batch(batch_rng(0, 0), 64, 0)
    assert {row.tobytes() for row in x.numpy()} == known


def test_places_are_drawn_without_repeats_and_by_their_weights() -> None:
    u = np.random.default_rng(0).random((4000, 5))
    drawn = distinct(u, 2, np.array([8.0, 1, 1, 1, 1]))
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert abs((drawn[:, 0] == 0).mean() - 8 / 12) < 0.03
    assert {tuple(sorted(row)) for row in distinct(u, 4).tolist()} == {
        tuple(c for c in range(5) if c != left) for left in range(5)
    }


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", TASKS)
def test_tokens_and_targets_are_in_the_vocabulary(name: str, preset: Preset) -> None:
    proxy = task_of(name, preset)
    for task in {proxy.train, proxy.test}:
        found = examples(task, "train", 0, 8)
        assert found.x.shape == found.y.shape == (8, task.length)
        assert found.x.min() >= 0 and found.x.max() < task.vocab
        assert found.y.min() >= -1 and found.y.max() < task.vocab
        assert (found.y >= 0).any(1).all()
    assert 0 < proxy.chance < 0.6 and proxy.longest >= proxy.context


def test_the_training_and_test_lengths_of_parity_are_those_of_the_literature() -> None:
    proxy = task_of("parity")
    asked = np.nonzero((next(proxy.tests(0)).y >= 0).any(0))[0] + 1
    assert proxy.context == 32 and (asked.min(), asked.max()) == (112, 128)


# oracles: each answers from the text up to the place where it is asked, and from the task


def solve_recall(task: Recall, text: list[int]) -> int:
    written = text[: 2 * task.n_written]
    return dict(zip(written[::2], written[1::2], strict=True))[text[-1]]  # the latest counts


def solve_in_context(task: InContext, text: list[int]) -> int:
    return dict(zip(text[0:-1:2], text[1::2], strict=True))[text[-1]]


def solve_fuzzy(task: Fuzzy, text: list[int]) -> int:
    runs: list[list[int]] = []  # of key tokens and of value tokens, in turn
    kinds: list[int] = []
    for token in text:
        kind = 2 if token == task.vocab - 1 else int(token >= task.n_keys)
        if not kinds or kinds[-1] != kind:
            runs.append([])
            kinds.append(kind)
        runs[-1].append(token)
    first = kinds[0] == 2
    known = dict(zip(map(tuple, runs[first::2]), runs[first + 1 :: 2], strict=False))
    if kinds[-1] == 0:
        return known[tuple(runs[-1])][0]
    # of the key whose value has begun, as it stood before
    before = dict(zip(map(tuple, runs[first:-2:2]), runs[first + 1 : -2 : 2], strict=True))
    return before[tuple(runs[-2])][len(runs[-1])]


def solve_copying(task: Any, text: list[int]) -> int:
    n_before = task.length - task.n_copied - 1
    kept = [token for token in text[:n_before] if token != task.vocab - 2]
    return kept[len(text) - n_before - 2]


def solve_memorisation(task: Memorisation, text: list[int]) -> int:
    return int(task.values[text[-2]])


def solve_parity(task: Parity, text: list[int]) -> int:
    return sum(token >= task.vocab - task.n_flips for token in text) % 2


def solve_words(task: WordProblem, text: list[int]) -> int:
    elements = group(task.group).elements
    product = elements[0]
    for token in text:
        product = then(product, elements[token])
    return elements.index(product)


SOLVERS: dict[str, Callable[[Any, list[int]], int]] = {
    "Recall": solve_recall,
    "InContext": solve_in_context,
    "Fuzzy": solve_fuzzy,
    "SelectiveCopying": solve_copying,
    "Memorisation": solve_memorisation,
    "Parity": solve_parity,
    "WordProblem": solve_words,
}
SOLVED = [name for name in TASKS if type(make(name).test).__name__ in SOLVERS]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", SOLVED)
def test_every_target_follows_from_the_text_before_it(name: str) -> None:
    task = task_of(name).test
    found, solve = examples(task, "test", 0, 12), SOLVERS[type(task).__name__]
    n_asked = 0
    for row, t in zip(*np.nonzero(found.y >= 0), strict=True):
        assert solve(task, found.x[row, : t + 1].tolist()) == found.y[row, t]
        n_asked += 1
    assert n_asked >= 12


def test_compression_asks_for_all_that_its_one_vector_has_read() -> None:
    proxy = task_of("compression")
    found = examples(proxy.test, "test", 0, 50)
    assert (found.y[:, :-1] == found.x[:, :-1]).all() and (found.y[:, -1] == -1).all()
    assert proxy.head.part == "decoder"
    kinds = {type(make(name).test).__name__ for name in TASKS} - set(SOLVERS)  # type: ignore[union-attr]
    assert kinds == {"Compression", "Languages"}  # every other task has its solver


def strings(text: list[int], separator: int) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for token in text:
        found.append([]) if token == separator else found[-1].append(token)
    return found


def test_a_reader_of_prefixes_is_never_wrong_about_a_language_where_it_has_an_answer() -> None:
    task = task_of("regbench").test
    found = examples(task, "test", 0, 30)
    assert found.allowed is not None
    n_known = n_asked = 0
    for row, t in zip(*np.nonzero(found.y >= 0), strict=True):
        *before, now = strings(found.x[row, : t + 1].tolist(), task.vocab - 1)
        seen = {s[len(now)] for s in before if len(s) > len(now) and s[: len(now)] == now}
        n_asked, n_known = n_asked + 1, n_known + bool(seen)
        assert all(found.allowed[row, t, token] for token in seen)
        assert found.allowed[row, t, found.y[row, t]]
    assert n_known > 0.3 * n_asked > 100


def test_equal_automata_have_equal_content_however_they_are_numbered() -> None:
    mine = canonical([[5, 7], [5, 0], [9, 9]], [2, 1, 1], [[1, 2], [0, 0], [2, 2]])
    its = canonical([[7, 5], [9, 9], [5, 5]], [2, 1, 1], [[1, 2], [1, 1], [0, 1]])
    other = canonical([[7, 5], [9, 9], [5, 5]], [2, 1, 1], [[1, 2], [1, 1], [1, 1]])
    assert mine == its != other


def test_a_tested_language_is_none_that_was_trained_on() -> None:
    task = Languages(5, 24, 4, 2, 6)  # so few that they come again and again
    train, test = (examples(task, s, 0, 1500).content for s in ("train", "test"))  # type: ignore[arg-type]
    assert train is not None and test is not None
    a, b = ({row.tobytes() for row in each} for each in (train, test))
    assert len(a) < 1500 and not a & b


def test_groups_are_groups_of_the_orders_that_their_names_say() -> None:
    orders = {"z60": 60, "z2xz30": 60, "s5": 120, "a5": 60, "psl27": 168, "a5xz2": 120}
    assert {name: len(group(name).table) for name in GROUPS} == orders
    for name in GROUPS:
        table = group(name).table
        everything = np.arange(len(table))
        assert (np.sort(table, 1) == everything).all() and (table[0] == everything).all()
        commutes = (table == table.T).all()
        assert commutes == (name in ("z60", "z2xz30"))


@pytest.mark.parametrize("name", ["a5", "psl27"])
def test_a_simple_group_is_generated_by_the_conjugates_of_any_element(name: str) -> None:
    table = group(name).table
    inverse = np.argmin(table, axis=1)  # 0 is the identity
    for element in range(1, len(table)):
        found = set(table[table[inverse, element], np.arange(len(table))].tolist())
        while True:
            more = {int(table[a, b]) for a in found for b in found} | found
            if more == found or len(more) == len(table):
                break
            found = more
        assert len(more) == len(table)


def test_the_best_guess_at_a_word_problem_is_what_guessing_gets() -> None:
    task = WordProblem("a5", 6, few=True)
    found = examples(task, "train", 0, 20_000).y
    guessed = np.mean([np.bincount(found[:, t]).max() / len(found) for t in range(6)])
    assert abs(guessed - best_guess(task)) < 0.01


# suites and twins


def test_every_proxy_is_in_a_suite_and_has_a_twin_that_differs() -> None:
    assert sorted(SUITES["all"]) == sorted(TWINS)
    for preset in PRESETS:
        for name, (twin, what) in TWINS.items():
            mine, its = make(name, preset), make(twin, preset)
            assert what and mine.name == name and its.name == twin
            if isinstance(mine, Proxy) and isinstance(its, Proxy):
                assert mine.train != its.train and mine.test != its.test
                assert type(mine.train) is type(its.train)  # the same skill


def test_a_sealed_suite_is_the_twins_of_the_open_one() -> None:
    assert [p.name for p in suite("states", sealed=True)] == [
        TWINS[name][0] for name in SUITES["states"]
    ]
    with pytest.raises(InputError, match=r"Did you mean 'recall'"):
        suite("recal")
    with pytest.raises(InputError, match=r"Did you mean 'mqar'"):
        make("mqr")
    with pytest.raises(InputError, match="seconds, minutes, published"):
        make("mqar", "hours")  # type: ignore[arg-type]


def test_the_registry_is_read_without_torch() -> None:
    code = "import sys, mendel.data.proxies as p; p.suite('all'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_text_comes_from_python_itself_and_its_twin_is_another() -> None:
    code, prose = make("char_lm"), make("char_lm_twin")
    for proxy in (code, prose):
        tests = list(proxy.tests(0, 100))
        assert sum(len(each.x) for each in tests) <= proxy.n_test + 1
        assert all(each.x.max() < proxy.vocab for each in tests)
    documents = [set(proxy.corpus.documents) for proxy in (code, prose)]  # type: ignore[union-attr]
    assert not documents[0] & documents[1]


def test_the_test_of_a_text_is_not_in_what_is_learned_from() -> None:
    proxy = make("char_lm")
    learned = proxy.source().train  # type: ignore[union-attr]
    text = learned.tobytes()
    asked = next(iter(proxy.tests(0, 64))).x.astype(learned.dtype)
    assert sum(row.tobytes() in text for row in asked) <= 2  # licences and such like do repeat


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared data")
def test_text_may_be_a_path() -> None:
    path = DATA / "tinyshakespeare"
    file = next(path.glob("*.txt"))
    proxy = make("char_lm", text=file)
    assert proxy.vocab == len(set(file.read_text(encoding="utf-8")))
    assert make("char_lm_twin", text=file).vocab == make("char_lm_twin").vocab


# trials

SMALL = ModelSpec.parse({"width": 16, "n_layers": 1, "mixers": "delta_net", "channels": []})


def tiny(name: str, n_steps: int = 3) -> Any:
    return replace(make(name), n_steps=n_steps, batch=4, n_test=8)


@pytest.mark.parametrize("name", SUITES["all"])
def test_every_proxy_runs_a_model_and_says_what_it_cost(name: str) -> None:
    from mendel.train.proxy import measure

    result = measure(SMALL, TrainSpec(), tiny(name))
    assert result.error is None and len(result.scores) == 1 and np.isfinite(result.scores[0])
    cost = result.cost
    assert cost.seconds > 0 and cost.flops > 0 and cost.n_bytes == 4 * cost.n_params
    # 4 heads of 4 x 4 and three inputs of the convolutions over q, k and v, in float32
    assert result.facts["state_bytes"] == 4 * (4 * 4 * 4 + 3 * 3 * 16)
    if result.facts["unit"] == "accuracy":
        assert 0 <= result.scores[0] <= 1


def test_a_trial_repeats_and_its_seeds_differ() -> None:
    from mendel.train.proxy import measure

    proxy = replace(tiny("parity", 5), n_test=64)
    result = measure(SMALL, TrainSpec(), proxy, range(3, 6))
    assert measure(SMALL, TrainSpec(), proxy, range(3, 6)).scores == result.scores
    assert len(set(result.scores)) == 3
    with pytest.raises(InputError, match="follow one another"):
        measure(SMALL, TrainSpec(), proxy, range(0, 4, 2))


def test_a_loss_that_is_no_number_is_an_error_without_scores() -> None:
    from mendel.train.proxy import measure

    result = measure(SMALL, TrainSpec(lr=1e30, clip=0.0), tiny("mqar", 20))
    assert result.error is not None and result.scores == ()


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a head that gives one answer": ("mqar", {"head": "classifier"}, "Set head='lm'"),
    "a vocabulary too small": ("mqar", {"vocab": 10}, "Set vocab=0"),
    "positions that end with training": (
        "parity",
        {"embedding": {"part": "token", "position": "learned"}},
        "learned positions end",
    ),
    "a matrix tied to a decoder": ("compression", {"tied": True}, "Set tied=false"),
    "heads that do not divide": (
        "mqar",
        {"mixers": {"part": "attention", "n_heads": 5}},
        "does not divide",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_spec_that_a_proxy_cannot_run_is_refused_with_the_reason(what: str) -> None:
    from mendel.train.proxy import measure, refusals

    name, fields, reason = REFUSED[what]
    spec = ModelSpec.parse({**SMALL.to_dict(), **fields})
    with pytest.raises(InputError, match=reason):
        measure(spec, TrainSpec(), tiny(name))
    assert reason in refusals(spec, [tiny(name), tiny("word_a5")])[name]


def test_every_mixer_is_given_a_short_convolution() -> None:
    from mendel.model import build
    from mendel.parts.part import NAMED, PARTS
    from mendel.train.proxy import convolved

    own = {"short_conv", "multi_scale_fir", "hyena"}  # that are or have one
    for mixer in [*PARTS["mixer"], *NAMED["mixer"]]:
        spec = convolved(ModelSpec.parse({"width": 16, "vocab": 8, "mixers": mixer}))
        weights = dict(build(spec).named_parameters())
        assert mixer in own or any(name.endswith("taps") for name in weights), mixer
    given = ModelSpec.parse({"mixers": {"part": "delta_net", "conv": 2}})
    assert convolved(given) == given


def test_right_is_what_a_language_allows_and_not_only_what_came() -> None:
    import torch

    from mendel.train.proxy import _n_right

    y = np.array([[2, -1, 0]])
    allowed = np.zeros((1, 3, 3), bool)
    allowed[0, 0, 1] = allowed[0, 0, 2] = allowed[0, 1, 1] = allowed[0, 2, 0] = True
    always_one = torch.tensor([0.0, 1.0, 0.0]).expand(1, 3, 3)
    x = np.zeros_like(y)
    assert _n_right(always_one, Examples(x, y)) == 0
    assert _n_right(always_one, Examples(x, y, allowed)) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("mixer", "least", "most"), [("delta_net_signed", 0.98, 1.0),
                                                      ("delta_net", 0.0, 0.55)])  # fmt: skip
def test_only_a_state_that_may_turn_its_sign_learns_parity(
    mixer: str, least: float, most: float
) -> None:
    from mendel.train.proxy import measure

    spec = ModelSpec.parse(
        {"width": 64, "n_layers": 1, "channels": [],
         "mixers": {"part": mixer, "n_heads": 2, "conv": 0}}
    )  # fmt: skip
    result = measure(spec, TrainSpec(lr=2e-2, weight_decay=0.0), make("parity"))
    assert least <= result.scores[0] <= most


def test_tasks_are_named_by_their_fields_so_that_none_shares_numbers() -> None:
    tasks: list[Task] = [make(name).test for name in TASKS]  # type: ignore[union-attr]
    assert len({repr(task) for task in tasks}) == len(tasks)
