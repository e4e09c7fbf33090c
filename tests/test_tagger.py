"""The tagger: spans that lie in the text, the graph that was trained, the best tags there are."""

from __future__ import annotations

import io
import itertools
import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.parts.carried.deadline import OutOfTime
from mendel.parts.tagger.chain import Chain, decode, forbidden
from mendel.parts.tagger.clusters import Names
from mendel.parts.tagger.company import learn
from mendel.parts.tagger.features import MAX_PHRASE, Config, Featurizer
from mendel.parts.tagger.fit import Examples, Trained, fit
from mendel.parts.tagger.graph import build_graph
from mendel.parts.tagger.linear import LinearFit
from mendel.parts.tagger.network import loss
from mendel.parts.tagger.recipe import FAMILIES, TagRecipe
from mendel.parts.tagger.runner import Runner
from mendel.parts.tagger.spans import (
    MAX_TEXT,
    Span,
    Token,
    off_borders,
    span_counts,
    span_f1,
    spans_of,
    tags_of,
    tokenize,
)
from mendel.parts.tagger.store import pack, unpack
from mendel.parts.tagger.twin import dequantised, training_emissions

DATA = Path(__file__).parents[2] / "shared" / "data"
CITIES = ("Paris", "New York", "Rome", "San Jose", "Oslo", "Cape Town", "Lima", "Hong Kong")
DAYS = ("Monday", "next Friday", "3 May 2024", "tomorrow", "10:30")
QUICK = TagRecipe(
    family="lstm", looks=30, dim=16, width=12, layers=2, epochs=9, batch=16, lr=0.02, hide_drop=0.3
)
ODD = [
    "",
    " \n\t",
    "\0\0 Paris",
    "👩‍👩‍👧 to Rome 🤷🏽‍♂️",
    "東京 to Oslo",
    "a" * 1_000_000,
    "\ud800 Lima",
    "x " * 50_000,
]


def sentences(n: int, cities: tuple[str, ...] = CITIES) -> Examples:
    chance = random.Random(0)
    texts, spans = [], []
    for _ in range(n):
        text, found = chance.choice(["fly", "a ticket please", "Book me"]), []
        for word, label, values in (("to", "city", cities), ("on", "day", DAYS)):
            value = chance.choice(values)
            text += f" {word} "
            found.append(Span(len(text), len(text) + len(value), label))
            text += value
        texts.append(text + chance.choice(["", ".", " !!"]))
        spans.append(found)
    gazetteers = {"places": CITIES, "days of a week": ("Monday", "Friday")}
    return Examples(texts, spans, ("city", "day"), gazetteers)


@pytest.fixture(scope="module")
def models() -> dict[str, Trained]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    data = sentences(160)
    recipes = {family: replace(QUICK, family=family) for family in FAMILIES}
    recipes["two copies"] = replace(QUICK, copies=2)
    recipes["dual, two copies"] = replace(QUICK, family="dual", copies=2)
    made = {name: fit(recipe, data) for name, recipe in recipes.items()}
    made["no gazetteers"] = fit(QUICK, replace(data, gazetteers={}))
    torch.set_num_threads(before)
    return made


NAMES = [*FAMILIES, "two copies", "dual, two copies", "no gazetteers"]
every_model = pytest.mark.parametrize("name", NAMES)


def runner(trained: Trained, int8: bool = False) -> Runner:
    graph = build_graph(trained, int8=int8)
    return Runner(graph, trained.featurizer, trained.chain(), trained.names)


@pytest.mark.parametrize("int8", [False, True])
@every_model
def test_the_graph_says_what_the_training_code_says(
    name: str, int8: bool, models: dict[str, Trained]
) -> None:
    trained = models[name]
    words = [trained.featurizer.split(text)[1] for text in sentences(30).texts]
    expected = training_emissions(dequantised(trained) if int8 else trained, words)
    served = runner(trained, int8).emissions(words)
    for row, wanted in zip(served, expected, strict=True):
        assert np.abs(row[: len(wanted)] - wanted).max() < 1e-4


@every_model
def test_int8_tables_give_the_answers_of_float32(name: str, models: dict[str, Trained]) -> None:
    texts = sentences(60).texts
    assert runner(models[name], True).answers(texts) == runner(models[name]).answers(texts)


@every_model
def test_a_text_alone_gets_the_answer_it_gets_in_a_batch(
    name: str, models: dict[str, Trained]
) -> None:
    texts = [*sentences(40).texts, "", "Oslo", "to Rome " * 30]
    model = runner(models[name])
    assert model.answers(texts) == [model.answers([text])[0] for text in texts]


@every_model
def test_it_learns_spans(name: str, models: dict[str, Trained]) -> None:
    data = sentences(60)
    assert span_f1(span_counts(runner(models[name]).answers(data.texts), data.spans)) > 0.97


def test_it_finds_words_that_it_never_saw_by_what_is_around_them(
    models: dict[str, Trained],
) -> None:
    new = sentences(60, cities=("Quito", "Addis Abeba", "Ulm"))
    counts = span_counts(runner(models["no gazetteers"]).answers(new.texts), new.spans)
    assert span_f1(counts) > 0.8


def test_gazetteers_tell_what_the_training_text_does_not() -> None:
    chance = random.Random(0)
    made = ["".join(chance.choices("abcdefghij", k=6)) for _ in range(200)]
    names, things = made[:100], made[100:]
    texts, spans = [], []
    for name, thing in zip(names, things, strict=True):
        first, second = chance.sample([name, thing], 2)
        texts.append(f"{first} {second}")
        spans.append([Span(texts[-1].index(name), texts[-1].index(name) + 6, "person")])
    data = Examples(texts[:60], spans[:60], ("person",), {"names": names})
    recipe = replace(QUICK, epochs=20, word_drop=0.5, hide_drop=0.5)
    told, alone = (
        span_f1(span_counts(runner(fit(recipe, rows)).answers(texts[60:]), spans[60:]))
        for rows in (data, replace(data, gazetteers={}))
    )
    assert told > 0.9 > 0.8 > alone


@every_model
def test_odd_texts_get_spans_that_lie_in_them(name: str, models: dict[str, Trained]) -> None:
    for text, spans in zip(ODD, runner(models[name]).answers(ODD), strict=True):
        ends = [0, *(span.end for span in spans)]
        for before, span in zip(ends, spans, strict=False):
            assert before <= span.start < span.end <= len(text)
            assert text[span.start : span.end] == text[span.start : span.end].strip()
    assert runner(models[name]).answers([]) == []


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_tokens_cover_all_but_white_space_in_order(text: str) -> None:
    tokens, end = tokenize(text), 0
    for token in tokens:
        assert token.start >= end and token.end > token.start
        assert not text[end : token.start].strip()
        assert not any(c.isspace() for c in text[token.start : token.end])
        end = token.end
    assert not text[end:].strip()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("see https://a.b/c?d=e, ok", ["see", "https://a.b/c?d=e", ",", "ok"]),
        ("@joe: #Foo_2 :-) <3", ["@joe", ":", "#Foo_2", ":-)", "<3"]),
        ("O'Neil's AT&T well-known", ["O'Neil", "'s", "AT&T", "well-known"]),
        ("it’s U.S. 1,000.50 at 10:30.", ["it", "’s", "U.S.", "1,000.50", "at", "10:30", "."]),
        ("no... a.b@c.de 20% 5pm!!!", ["no", "...", "a.b@c.de", "20%", "5pm", "!!!"]),
        ("東京に हिन्दी 🤷🏽‍♂️", ["東", "京", "に", "हिन्दी", "🤷🏽‍♂️"]),
    ],
)
def test_words_addresses_and_numbers_stay_in_one_piece(text: str, wanted: list[str]) -> None:
    assert [text[t.start : t.end] for t in tokenize(text)] == wanted


def test_a_long_text_of_any_kind_is_split_in_a_second() -> None:
    started = time.process_time()
    for piece in ("a", "a.", "a@", "www.", "'", ":-", "1,", "-", "a-", "<", "é", "http://."):
        tokenize(piece * (MAX_TEXT // len(piece)))
    assert time.process_time() - started < 5  # 0.3 alone; a pattern that backtracks takes minutes


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4), st.sampled_from("xyz"))))
def test_spans_come_back_from_their_tags(drawn: list[tuple[int, int, str]]) -> None:
    tokens = [Token(3 * i, 3 * i + 2) for i in range(14)]
    spans, end = [], -1
    for first, n, label in sorted(drawn):
        if first > end:
            end = first + n - 1
            spans.append(Span(3 * first, 3 * end + 2, label))
    assert spans_of(tokens, tags_of(tokens, spans, "xyz"), "xyz") == spans


def test_of_spans_that_overlap_the_first_counts_and_of_two_at_one_place_the_longer() -> None:
    tokens = tokenize("a b c d")
    spans = [Span(2, 5, "x"), Span(0, 1, "x"), Span(0, 3, "y"), Span(6, 7, "x")]
    kept = spans_of(tokens, tags_of(tokens, spans, "xy"), "xy")
    assert kept == [Span(0, 3, "y"), Span(6, 7, "x")]


def test_a_span_inside_a_word_takes_the_word_and_is_counted() -> None:
    text, spans = "in Oslobound trains", [Span(3, 7, "x"), Span(13, 19, "x")]
    assert off_borders(text, spans) == 1
    tokens = tokenize(text)
    assert spans_of(tokens, tags_of(tokens, spans, "x"), "x")[0] == Span(3, 12, "x")


@pytest.mark.parametrize("seed", range(8))
def test_decoding_finds_the_best_of_all_tag_sequences(seed: int) -> None:
    chance = np.random.default_rng(seed)
    no_step, no_start = forbidden(2)
    chain = Chain(
        np.where(no_step, -1e4, chance.normal(size=(5, 5)) * 2).astype(np.float32),
        np.where(no_start, -1e4, chance.normal(size=5)).astype(np.float32),
        chance.normal(size=5).astype(np.float32),
    )
    emissions = chance.normal(size=(1, 4, 5)).astype(np.float32) * 2

    def score(tags: tuple[int, ...]) -> float:
        own = sum(emissions[0, t, tag] for t, tag in enumerate(tags))
        steps = sum(chain.transitions[a, b] for a, b in itertools.pairwise(tags))
        return float(chain.start[tags[0]] + own + steps + chain.end[tags[-1]])

    best = max(itertools.product(range(5), repeat=4), key=score)
    assert decode(emissions, [4], chain) == [list(best)]


def test_the_loss_is_what_the_sum_over_all_tag_sequences_says() -> None:
    chance = torch.Generator().manual_seed(0)
    emissions = torch.randn(2, 3, 3, generator=chance)
    chain = torch.randn(3, 3, generator=chance), torch.randn(3, generator=chance), torch.zeros(3)
    tags, lengths = torch.tensor([[0, 1, 2], [1, 2, 0]]), torch.tensor([3, 2])
    for row, n in enumerate(lengths.tolist()):
        scores = {
            path: chain[1][path[0]]
            + sum(emissions[row, t, tag] for t, tag in enumerate(path))
            + sum(chain[0][a, b] for a, b in itertools.pairwise(path))
            for path in itertools.product(range(3), repeat=n)
        }
        wanted = torch.logsumexp(torch.stack(list(scores.values())), 0)
        wanted -= scores[tuple(tags[row, :n].tolist())]
        assert loss(emissions, tags, lengths, chain)[row].item() == pytest.approx(
            wanted.item(), abs=1e-4
        )


def test_the_slope_of_the_linear_fit_is_that_of_its_loss() -> None:
    data, recipe = sentences(12), replace(QUICK, family="linear", recall=0.7, penalty=0.2)
    features = Featurizer.fit(recipe.config, data.texts, data.gazetteers)
    split = [features.split(text) for text in data.texts]
    tags = [
        np.array(tags_of(tokens, spans, data.names))
        for (tokens, _), spans in zip(split, data.spans, strict=True)
    ]
    ragged = features.ragged([words for _, words in split])
    linear = LinearFit(recipe, ragged, tags, features.clues.n_rows, 2)
    chance = np.random.default_rng(0)
    x = chance.normal(size=5 * (5 + 2 + features.clues.n_rows)) * 0.3
    way = chance.normal(size=len(x))
    step = 1e-3
    rise = (linear.value(x + step * way)[0] - linear.value(x - step * way)[0]) / (2 * step)
    assert linear.value(x)[1] @ way == pytest.approx(rise, rel=1e-3)


def test_a_place_knows_its_neighbours_and_the_ends_of_the_text() -> None:
    features = Featurizer.fit(Config(max_clues=1000), ["a b c", "c b a"], {})
    none = np.zeros((3, 0), np.float32)
    places = [features.clues.rows(list(words), none)[1] for words in ("abc", "cba", "abx")]
    assert sorted(places[0]) != sorted(places[1])  # the same word between others
    assert len(places[2]) < len(places[0])  # what training has not seen is no clue
    alone, first = (features.clues.rows(list(words), none)[0] for words in ("a", "ab"))
    assert set(alone) != set(first)


@every_model
def test_no_answer_breaks_bio_however_wild_the_scores(
    name: str, models: dict[str, Trained]
) -> None:
    chance = np.random.default_rng(0)
    emissions = chance.normal(size=(40, 9, 5)).astype(np.float32) * 30
    no_step, no_start = forbidden(2)
    for tags in decode(emissions, [9] * 40, models[name].chain()):
        assert not no_start[tags[0]]
        assert not any(no_step[a, b] for a, b in itertools.pairwise(tags))


@every_model
def test_a_model_comes_back_from_its_bytes(name: str, models: dict[str, Trained]) -> None:
    data = pack(models[name])
    again = unpack(data)
    assert pack(again) == data
    assert build_graph(again, int8=True) == build_graph(models[name], int8=True)
    texts = sentences(20).texts
    assert runner(again).answers(texts) == runner(models[name]).answers(texts)


def test_vocabulary_and_chain_come_back_from_their_files(models: dict[str, Trained]) -> None:
    trained, files = models["dual"], (io.BytesIO(), io.BytesIO())
    trained.featurizer.save(files[0])
    trained.chain().save(files[1])
    for file in files:
        file.seek(0)
    features, chain = Featurizer.load(files[0]), Chain.load(files[1])
    texts = sentences(20).texts
    again = Runner(build_graph(trained, int8=False), features, chain, trained.names)
    assert again.answers(texts) == runner(trained).answers(texts)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    data, recipe = sentences(30), replace(QUICK, family="dual", epochs=1)
    first, same, other = (pack(fit(recipe, data, seed=seed)) for seed in (1, 1, 2))
    assert first == same != other


def test_features_are_the_same_padded_or_ragged(models: dict[str, Trained]) -> None:
    features = models["dual"].featurizer
    texts = [features.split(text)[1] for text in sentences(10).texts]
    arrays, ragged = features.arrays(texts), features.ragged(texts)
    for i, words in enumerate(texts):
        assert np.array_equal(arrays["flags"][i, : len(words)], ragged.flags[i])
        for token, word in zip(arrays["tokens"][i], ragged.tokens[i], strict=False):
            rows = ragged.rows[ragged.starts[word] : ragged.starts[word + 1]]
            assert arrays["grams"][token][: len(rows)].tolist() == rows.tolist()
        places = np.split(ragged.clues[i], np.cumsum(ragged.n_clues[i])[:-1])
        for padded, rows in zip(arrays["clues"][i], places, strict=False):
            assert padded[padded > 0].tolist() == rows.tolist()


def test_the_longest_phrase_of_a_gazetteer_is_flagged_whatever_its_case() -> None:
    gazetteers = {"city": ["New York", "New York City", "York"], "colour": ["Café au lait"]}
    features = Featurizer.fit(Config(), ["some text"], gazetteers)
    words = ["in", "#new", "york", "CITY", "and", "york", ",", "cafe", "au", "lait"]
    flags = features.arrays([words])["flags"][0]
    assert flags.argmax(1).tolist() == [0, 0, 1, 1, 0, 0, 0, 2, 3, 3]
    assert flags.sum(1).tolist() == [0, 1, 1, 1, 0, 1, 0, 1, 1, 1]


def test_a_phrase_that_is_too_long_is_never_flagged() -> None:
    words = [f"w{i}" for i in range(MAX_PHRASE + 1)]
    features = Featurizer.fit(Config(), ["text"], {"long": [" ".join(words)]})
    assert not features.arrays([words])["flags"].any()


def test_a_text_longer_than_a_piece_is_trained_on_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mendel.parts.tagger.fit.LONGEST", 8)
    texts = ["x " * n + "New York x" for n in range(20)] * 4  # pieces would end inside some spans
    spans = [[Span(text.index("N"), len(text) - 2, "city")] for text in texts]
    trained = fit(replace(QUICK, family="dual"), Examples(texts, spans, ["city"]))
    assert runner(trained).answers(texts[:20]) == spans[:20]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_gives_up_at_its_deadline(family: str) -> None:
    with pytest.raises(OutOfTime):
        fit(replace(QUICK, family=family), sentences(20), deadline=time.monotonic() - 1)


@pytest.mark.parametrize("field", [{"lr": math.inf}, {"family": "linear", "recall": math.inf}])
def test_a_loss_that_is_not_finite_stops_the_fit(field: dict[str, Any]) -> None:
    with pytest.raises(FloatingPointError, match="loss is"):
        fit(replace(QUICK, **field), sentences(40))


def test_progress_rises_to_about_all() -> None:
    told: list[float] = []
    fit(replace(QUICK, family="dual", copies=2), sentences(60), progress=told.append)
    assert told == sorted(told) and told[0] == 0 and 0.8 < told[-1] <= 1


def test_texts_without_a_word_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="no text has a word"):
        fit(QUICK, Examples([" ", ""], [[], []], ["x"]))


def test_more_gazetteers_than_there_are_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 32"):
        Featurizer.fit(Config(), ["x"], {str(i): ["a"] for i in range(33)})


def test_a_dearer_miss_finds_more() -> None:
    chance = random.Random(0)
    texts = [chance.choice("ab") for _ in range(200)]  # four in ten are spans, by chance
    spans = [[Span(0, 1, "x")] * (chance.random() < 0.4) for _ in texts]
    found = [
        len(
            runner(fit(replace(QUICK, recall=cost), Examples(texts, spans, ["x"]))).answers(["a"])[
                0
            ]
        )
        for cost in (0.0, 4.0)
    ]
    assert found == [0, 1]


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'width'"):
        TagRecipe.from_dict({"widht": 3})


def test_a_recipe_says_only_what_differs_and_comes_back() -> None:
    recipe = TagRecipe(width=17)
    assert recipe.to_dict() == {"family": recipe.family, "width": 17}
    assert TagRecipe.from_dict(recipe.to_dict()) == recipe


def test_counts_are_found_and_right_found_and_wrong_missed() -> None:
    a, b, c = Span(0, 1, "x"), Span(2, 3, "x"), Span(2, 3, "y")
    counts = span_counts([[a, b], [], [a]], [[a, c], [b], []])
    assert counts.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 0]]
    assert span_f1(counts) == pytest.approx(2 / 6)
    assert span_f1(np.zeros((0, 3), np.int64)) == 0


@pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")
def test_real_spans_fall_on_token_borders() -> None:
    rows = (DATA / "wnut17" / "emerging.dev.conll").read_text(encoding="utf-8").split("\n\n")
    total = off = 0
    for row in rows:
        text, spans = "", []
        for line in row.splitlines():
            word, _, tag = line.partition("\t")
            if tag.strip() not in ("", "O"):
                spans.append(Span(len(text), len(text) + len(word), tag))
            text += word + " "
        total += len(spans)
        off += off_borders(text, spans)
    assert total > 800 and off / total < 0.005


def plain_texts() -> tuple[str, ...]:
    """Texts without a label in which made-up cities keep the company of cities."""
    towns = ("Quito", "Ulm", "Lagos", *(city for city in CITIES if " " not in city))
    frames = ("we went to {} by train", "she lives in {} now", "to {} and back", "{} is far away")
    things = ("bread", "water", "paper", "wood", "glass", "stone", "wool", "salt")
    made = [frame.format(town) for town in towns for frame in frames for _ in range(3)]
    made += [f"he bought some {x} and sold {y}" for x in things for y in things]
    chance = random.Random(0)  # others, so that there are words enough to be told apart
    letters = ["".join(chance.choices("bdgklmnoprstu", k=6)) for _ in range(300)]
    return (*made, *(" ".join(chance.sample(letters, 8)) for _ in range(300)))


def test_words_with_like_neighbours_share_a_cluster_and_others_do_not() -> None:
    names = Names(learn((), plain_texts(), 512, 0))
    finest = {word: names.of(word)[-1] for word in ("quito", "Ulm", "rome", "bread", "salt")}
    assert finest["quito"] == finest["Ulm"] == finest["rome"] != finest["bread"]
    assert names.of("never met") == ["c?"]


def test_clusters_are_the_same_each_time_and_none_of_too_few_words() -> None:
    first, second = (learn(("to Rome",), plain_texts(), 64, 3) for _ in range(2))
    assert np.array_equal(first.keys, second.keys) and np.array_equal(first.ids, second.ids)
    assert len(learn(("to Rome", "to Oslo"), (), 512, 0).keys) == 0
    assert len(learn((), (), 512, 0).keys) == 0
    assert Names(learn((), (), 512, 0)).of("Rome") == []


def test_a_word_that_only_unlabelled_text_has_is_known_by_its_company() -> None:
    chance = random.Random(1)
    things = ("bread", "water", "paper", "wood", "glass", "stone", "wool", "salt")
    towns = [city.lower() for city in CITIES if " " not in city]
    words = [*towns, *things] * 8
    chance.shuffle(words)
    texts = [f"about {word}" for word in words]
    spans = [[Span(6, 6 + len(w), "city")] if w in towns else [] for w in words]
    data = Examples(texts, spans, ("city",), unlabeled=plain_texts())
    recipe = TagRecipe("linear", looks=40, n_clusters=64)
    asked = ["about quito", "about ulm", "about lagos"]
    wanted = [[Span(6, len(text), "city")] for text in asked]
    assert runner(fit(recipe, data)).answers(asked) == wanted
    assert runner(fit(replace(recipe, n_clusters=0), data)).answers(asked) != wanted


def test_clusters_of_an_earlier_model_are_kept() -> None:
    data = replace(sentences(60), unlabeled=plain_texts())
    old = fit(replace(QUICK, epochs=1), data).featurizer.clusters
    again = replace(sentences(60), clusters=old)
    assert len(old.keys) > 20 and fit(replace(QUICK, epochs=1), again).featurizer.clusters is old
