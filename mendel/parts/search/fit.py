"""Passages and queries to weights. Same data, recipe and seed: same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..carried.deadline import OutOfTime, Progress
from .crops import crops
from .features import Config, Featurizer, Floats, Ints
from .passages import Passage
from .recipe import SearchRecipe
from .words import words

if TYPE_CHECKING:
    import torch

Tensors = dict[str, NDArray[Any]]
Bag = tuple[Ints, Floats]
WARMUP = 0.1  # share of the steps


@dataclass(frozen=True)
class Examples:
    """Queries, the numbers of the passages that answer each, and all passages."""

    texts: Sequence[str]
    targets: Sequence[Sequence[int]]
    passages: Sequence[Passage]


@dataclass(frozen=True)
class Trained:
    """A search model: what the graph is built from.

    tensors   table (R, D) and passages (P, D), float32; none where BM25 answers alone
    """

    recipe: SearchRecipe
    featurizer: Featurizer
    tensors: Tensors


class Pair(NamedTuple):
    """A query, a passage that answers it, one that only looks so, and all that answer it."""

    bag: Bag
    right: int
    wrong: int
    answers: frozenset[int]


def fit(
    recipe: SearchRecipe,
    data: Examples,
    *,
    seed: int = 0,
    deadline: float = math.inf,
    progress: Progress = lambda share: None,
) -> Trained:
    """Train one model.

    deadline   time.monotonic() after which it gives up
    raises     OutOfTime; FloatingPointError when the loss is not finite
    """
    featurizer = Featurizer.fit(
        _config(recipe),
        data.passages,
        data.texts,
        min_df=recipe.min_df,
        max_rows=recipe.max_rows if recipe.is_learned else 0,
    )
    if not recipe.is_learned:
        return Trained(recipe, featurizer, {})
    return Trained(recipe, featurizer, _vectors(recipe, featurizer, data, seed, deadline, progress))


def _config(recipe: SearchRecipe) -> Config:
    share = recipe.gram_share if recipe.counts_grams else 0.0
    return Config(recipe.k1, recipe.b, recipe.n, share, recipe.char_min, recipe.char_max)


def _vectors(
    recipe: SearchRecipe,
    featurizer: Featurizer,
    data: Examples,
    seed: int,
    deadline: float,
    progress: Progress,
) -> Tensors:
    """A softmax over the passages of each batch: right ones against all others in it.

    source   in-batch negatives with one hard one each, as in DPR (Karpukhin 2020); a sum over
             several right passages, as in Lee 2019
    """
    import torch

    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    cut = [words(p.text) for p in data.passages]
    bags = [featurizer.weighed([featurizer.rows(word) for word in text]) for text in cut]
    table = torch.nn.Parameter(torch.from_numpy(_start(recipe, featurizer, bags, seed)))
    optimizer = torch.optim.AdamW([table], lr=recipe.lr, weight_decay=0.0, fused=True)
    pairs = _pairs(featurizer, data)
    n_items = len(pairs) + math.ceil(recipe.crops * len(cut))
    n_steps = recipe.epochs * math.ceil(n_items / recipe.batch)
    for step, batch in enumerate(_batches(recipe, featurizer, pairs, cut, chance)):
        if time.monotonic() > deadline:
            raise OutOfTime(f"after {step} of {n_steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule(step / n_steps)
        loss = _loss(table, batch, bags, recipe, chance)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step} of {n_steps}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step / n_steps)
    learned: Floats = table.detach().numpy().copy()
    learned[0] = 0.0  # padding
    return {"table": learned, "passages": encoded(learned, bags)}


def encoded(table: Floats, bags: Sequence[Bag]) -> Floats:
    """(n, D) vectors of length 1; of a text without a known feature all 0."""
    found = np.array([weights @ table[ids] for ids, weights in bags], np.float32)
    norms = np.sqrt((found * found).sum(1, keepdims=True))
    return np.asarray(found / np.maximum(norms, 1e-6), np.float32)


def _start(recipe: SearchRecipe, featurizer: Featurizer, bags: Sequence[Bag], seed: int) -> Floats:
    """(R, D) latent semantic analysis of the passages, which needs no query at all."""
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    ids, weights = (np.concatenate([bag[i] for bag in bags]) for i in (0, 1))
    starts = np.cumsum([0, *(len(own) for own, _ in bags)])
    rows = csr_matrix((weights, ids, starts), shape=(len(bags), featurizer.n_rows))
    k = min(recipe.dim, min(rows.shape) - 1)
    noise = np.random.default_rng(seed).standard_normal((featurizer.n_rows, recipe.dim))
    table = (0.01 / math.sqrt(recipe.dim) * noise).astype(np.float32)
    table[:, :k] += randomized_svd(rows, k, random_state=seed)[2].T.astype(np.float32)
    return table


def _pairs(featurizer: Featurizer, data: Examples) -> list[Pair]:
    """For each query and its own hard negative: the passage that BM25 would wrongly give."""
    pairs = []
    for text, target in zip(data.texts, data.targets, strict=True):
        answers = frozenset(target)
        scores = featurizer.index.scores(text)
        places = np.argsort(-scores, kind="stable")[: len(answers) + 1].tolist()
        wrong = next((i for i in places if i not in answers), places[0])
        best = max(answers, key=lambda i: float(scores[i]))
        pairs.append(Pair(featurizer.bag(text), best, wrong, answers))
    return pairs


def _batches(
    recipe: SearchRecipe,
    featurizer: Featurizer,
    pairs: Sequence[Pair],
    cut: Sequence[Sequence[str]],
    chance: np.random.Generator,
) -> Iterator[list[Pair]]:
    """Each epoch all queries once, among new crops of the passages."""
    for _ in range(recipe.epochs):
        items = list(pairs)
        for piece, i in crops(cut, math.ceil(recipe.crops * len(cut)), chance):
            bag = featurizer.weighed([featurizer.rows(word) for word in piece])
            items.append(Pair(bag, i, i, frozenset([i])))
        order = chance.permutation(len(items))
        for begin in range(0, len(items), recipe.batch):
            yield [items[i] for i in order[begin : begin + recipe.batch]]


def _loss(
    table: torch.Tensor,
    batch: Sequence[Pair],
    bags: Sequence[Bag],
    recipe: SearchRecipe,
    chance: np.random.Generator,
) -> torch.Tensor:
    """Minus the log of the share that right passages have."""
    import torch

    asked = sorted({i for pair in batch for i in (pair.right, pair.wrong)})
    queries = _encode(table, [pair.bag for pair in batch], recipe.drop, chance)
    found = _encode(table, [bags[i] for i in asked], recipe.passage_drop, chance)
    logits = queries @ found.T / recipe.heat
    place, right = {i: k for k, i in enumerate(asked)}, np.zeros(logits.shape, bool)
    for row, pair in zip(right, batch, strict=True):
        row[[place[i] for i in pair.answers if i in place]] = True
    only = logits.masked_fill(torch.from_numpy(~right), -math.inf)
    return (logits.logsumexp(1) - only.logsumexp(1)).mean()


def _encode(
    table: torch.Tensor, bags: Sequence[Bag], drop: float, chance: np.random.Generator
) -> torch.Tensor:
    import torch

    ids, weights = (np.concatenate([bag[i] for bag in bags]) for i in (0, 1))
    keep = chance.random(len(weights), dtype=np.float32) >= drop
    n_kept = np.concatenate([[0], np.cumsum(keep)])
    offsets = n_kept[np.cumsum([0, *(len(own) for own, _ in bags[:-1])])]
    summed = torch.nn.functional.embedding_bag(
        torch.from_numpy(ids[keep]),
        table,
        torch.from_numpy(offsets),
        mode="sum",
        per_sample_weights=torch.from_numpy(weights[keep]),
    )
    return torch.nn.functional.normalize(summed, dim=1, eps=1e-6)


def _schedule(done: float) -> float:
    """Share of the learning rate: up in a line, then down in a line."""
    return max(min(done / WARMUP, (1 - done) / (1 - WARMUP)), 0.01)
