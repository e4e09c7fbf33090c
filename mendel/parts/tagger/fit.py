"""Rows to weights. Same data, recipe and seed: same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..carried.deadline import OutOfTime, Progress
from .augment import augmented
from .chain import Chain, Floats
from .clusters import NONE, Clusters
from .company import learn
from .features import CLUSTER, FORM, OWN, SHAPE, Featurizer, Ints, Phrases, Ragged
from .recipe import TagRecipe
from .spans import Span, tags_of

if TYPE_CHECKING:
    import torch

    from .network import Batch, TagNet

Tensors = dict[str, NDArray[Any]]
LONGEST = 256  # tokens of a piece: longer texts are trained on in pieces


@dataclass(frozen=True)
class Trained:
    """A fitted tagger: what the graph is built from."""

    recipe: TagRecipe
    featurizer: Featurizer
    tensors: Tensors  # float32, by name
    names: tuple[str, ...]  # of the labels
    about: Mapping[str, Any] = field(default_factory=dict)  # as Examples.about

    def of(self, expert: str) -> Tensors:
        """An expert's tensors under the names that its module gives them."""
        start = f"{expert}."
        found = self.tensors.items()
        return {name[len(start) :]: value for name, value in found if name.startswith(start)}

    def chain(self) -> Chain:
        """The scores of steps, averaged over the experts."""
        shares = self.recipe.experts

        def mean(part: str) -> Floats:
            found = [share * self.of(expert)[part] for expert, share in shares.items()]
            return np.asarray(np.sum(found, 0), np.float32)

        return Chain(mean("transitions"), mean("start"), mean("end"))


@dataclass(frozen=True)
class Examples:
    """Texts and the spans wanted in them.

    names       the labels of spans
    gazetteers  name -> phrases whose places in a text the model is told
    about       what the kind of task wants kept with the model (JSON)
    phrases     gazetteers of an earlier model, where the lists themselves are no longer at hand
    fillers     label -> phrases that may stand where a mention does, for copies of rows
    unlabeled   more texts, whose words show which words are alike
    clusters    of an earlier model, where its unlabelled texts are no longer at hand
    """

    texts: Sequence[str]
    spans: Sequence[Sequence[Span]]
    names: Sequence[str]
    gazetteers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    phrases: Phrases | None = None
    fillers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unlabeled: tuple[str, ...] = ()
    clusters: Clusters | None = None


def fit(
    recipe: TagRecipe,
    data: Examples,
    *,
    seed: int = 0,
    deadline: float = math.inf,
    progress: Progress = lambda share: None,
) -> Trained:
    """Train one tagger; each copy from a seed of its own.

    deadline   time.monotonic() after which it gives up
    raises     OutOfTime; FloatingPointError when the loss is not finite; ValueError where no text
               has a token
    """
    clusters = _clusters(recipe, data, seed)
    data = augmented(data, recipe.augment, recipe.amount, seed)
    gazetteers = data.gazetteers if data.phrases is None else data.phrases
    featurizer = Featurizer.fit(recipe.config, data.texts, gazetteers, clusters)
    words, tags = _pieces(featurizer, data)
    if not words:
        raise ValueError("no text has a word in it. Wanted at least one.")
    rows = _Rows(recipe, featurizer, featurizer.ragged(words), tags, len(data.names))
    tensors: Tensors = {}
    for i, expert in enumerate(recipe.experts):

        def share(done: float, before: int = i) -> None:
            progress((before + done) / len(recipe.experts))

        if expert == "linear":
            found = _fit_linear(rows, deadline, share)
        else:
            found = _fit_copy(rows, seed + 7919 * int(expert), deadline, share)
        tensors.update({f"{expert}.{name}": value for name, value in found.items()})
    return Trained(recipe, featurizer, tensors, tuple(data.names), data.about)


def _clusters(recipe: TagRecipe, data: Examples, seed: int) -> Clusters:
    if recipe.n_clusters == 0:
        return NONE
    if data.clusters is not None:
        return data.clusters
    return learn(data.texts, data.unlabeled, recipe.n_clusters, seed)


@dataclass(frozen=True)
class _Rows:
    recipe: TagRecipe
    featurizer: Featurizer
    ragged: Ragged
    tags: list[Ints]
    n_labels: int


def _pieces(featurizer: Featurizer, data: Examples) -> tuple[list[list[str]], list[Ints]]:
    """Words and tags of every text, long ones in pieces that cut no span."""
    pieces, tags = [], []
    for text, spans in zip(data.texts, data.spans, strict=True):
        tokens, words = featurizer.split(text)
        wanted = tags_of(tokens, spans, data.names)
        begin = 0
        while begin < len(words):
            end = min(begin + LONGEST, len(words))
            while end < len(words) and wanted[end] > 0 and wanted[end] % 2 == 0:
                end += 1
            pieces.append(words[begin:end])
            tags.append(np.array(wanted[begin:end], np.int64))
            begin = end
    return pieces, tags


def _fit_linear(rows: _Rows, deadline: float, progress: Progress) -> Tensors:
    from .linear import LinearFit

    recipe = rows.recipe

    def tick(looks: int) -> None:
        if time.monotonic() > deadline:
            raise OutOfTime(f"after {looks} of {recipe.looks} looks at all rows")
        progress(min(looks / recipe.looks, 1.0))

    n_rows = rows.featurizer.clues.n_rows
    return LinearFit(recipe, rows.ragged, rows.tags, n_rows, rows.n_labels).fit(tick)


def _fit_copy(rows: _Rows, seed: int, deadline: float, progress: Progress) -> Tensors:
    """AdamW, warm-up then cosine, batches of like length, dropout on features and units."""
    import torch

    from .network import TagNet, dearer, loss

    recipe = rows.recipe
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    net = TagNet(recipe, rows.featurizer.n_rows, rows.featurizer.n_flags, rows.n_labels)
    optimizer = _optimizer(net, recipe)
    n_steps = recipe.epochs * math.ceil(len(rows.tags) / recipe.batch)
    for step, index in enumerate(_batches(rows, chance)):
        if time.monotonic() > deadline:
            raise OutOfTime(f"after {step} of {n_steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * schedule(step / n_steps, recipe.warmup)
        batch = make_batch(rows.ragged, index, recipe, chance)
        wanted = _padded(rows.tags, index)
        emissions = dearer(net(batch), wanted, recipe.recall)
        mean = loss(emissions, wanted, batch.lengths, net.chain()).mean()
        if not torch.isfinite(mean):
            raise FloatingPointError(f"the loss is {mean.item()} at step {step} of {n_steps}")
        optimizer.zero_grad()
        mean.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[1]["params"], 5.0)
        optimizer.step()
        if step % 16 == 0:
            progress(step / n_steps)
    tensors = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    transitions, start, _ = (value.detach().numpy().copy() for value in net.chain())
    return {**tensors, "transitions": transitions, "start": start}


def schedule(done: float, warmup: float) -> float:
    """Share of the learning rate: up in a line, down along a cosine to a hundredth."""
    if done < warmup:
        return max(done / warmup, 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def make_batch(
    ragged: Ragged, index: Ints, recipe: TagRecipe, chance: np.random.Generator | None
) -> Batch:
    """The texts of `index` as tensors; with `chance`, features are dropped as in training."""
    import torch

    from .network import Batch

    texts = [ragged.tokens[i] for i in index]
    lengths = np.array([len(text) for text in texts])
    distinct, inverse = np.unique(np.concatenate(texts), return_inverse=True)
    begins = ragged.starts[distinct]
    counts = ragged.starts[distinct + 1] - begins
    starts = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)  # within its word
    at = np.repeat(begins, counts) + place
    weights = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
    flags = np.zeros((len(texts), lengths.max(), ragged.flags[0].shape[1]), np.float32)
    tokens = np.full((len(texts), lengths.max()), len(distinct))
    inside = np.arange(tokens.shape[1]) < lengths[:, None]
    tokens[inside] = inverse
    flags[inside] = np.concatenate([ragged.flags[i] for i in index])
    if chance is not None:
        weights = weights * _kept(ragged.kinds[at], counts, recipe, chance)
        flags *= chance.random(flags.shape, np.float32) >= recipe.flag_drop
    arrays = (ragged.rows[at], starts, weights.astype(np.float32), tokens, flags, lengths)
    return Batch(*map(torch.from_numpy, arrays))


def _kept(
    kinds: Ints, counts: Ints, recipe: TagRecipe, chance: np.random.Generator
) -> NDArray[np.bool_]:
    """Which rows stay: some words lose their own, some n-grams go, some words keep no letters."""
    drop = np.zeros(4)
    drop[[OWN, FORM]] = recipe.word_drop, recipe.gram_drop
    hidden = np.repeat(chance.random(len(counts)) < recipe.hide_drop, counts)
    kept = chance.random(len(kinds)) >= drop[kinds]
    return np.asarray(kept & (np.isin(kinds, (SHAPE, CLUSTER)) | ~hidden))


def _padded(tags: Sequence[Ints], index: Ints) -> torch.Tensor:
    import torch

    out = np.zeros((len(index), max(len(tags[i]) for i in index)), np.int64)
    for row, i in enumerate(index):
        out[row, : len(tags[i])] = tags[i]
    return torch.from_numpy(out)


def _batches(rows: _Rows, chance: np.random.Generator) -> Iterator[Ints]:
    """Each epoch all rows once, in batches of like length, so that little is padding."""
    lengths = np.array([len(tags) for tags in rows.tags])
    size = rows.recipe.batch
    for _ in range(rows.recipe.epochs):
        order = chance.permutation(len(lengths))
        batches = []
        for begin in range(0, len(order), size * 16):
            near = order[begin : begin + size * 16]
            near = near[np.argsort(lengths[near], kind="stable")]
            batches += [near[i : i + size] for i in range(0, len(near), size)]
        for i in chance.permutation(len(batches)):
            yield batches[i]


def _optimizer(net: TagNet, recipe: TagRecipe) -> torch.optim.Optimizer:
    import torch

    tables = [p for name, p in net.named_parameters() if name == "table"]
    others = [p for name, p in net.named_parameters() if name != "table"]
    groups = [
        {"params": tables, "weight_decay": 0.0},
        {"params": others, "weight_decay": recipe.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)
