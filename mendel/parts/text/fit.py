"""Rows to weights: keywords, linear, and the networks. Same data, recipe and seed: same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..carried.deadline import OutOfTime, Progress
from .features import Config, Featurizer, Floats, Ints, Ragged, split, words
from .recipe import Recipe

if TYPE_CHECKING:
    import torch

    from .network import Batch, TextNet

Tensors = dict[str, NDArray[Any]]
OTHERS = 104_729  # from a network's seed to those of its teachers


@dataclass(frozen=True)
class Trained:
    """A fitted text model: what the graph is built from."""

    recipe: Recipe
    featurizer: Featurizer
    tensors: Tensors  # float32, by name


@dataclass(frozen=True)
class Examples:
    """Texts and what is wanted for them.

    labels    (N,) number of each text's label; zeros where there is no such thing
    names     of the labels; of a number there is one name
    targets   (N, K) float32 where one label does not say it: shares that sum to 1 (classify), 0 or
              1 for each label (multilabel), the number itself (regress)
    weights   (N,) float32 of each row in the loss; None = 1
    """

    texts: Sequence[str]
    labels: Ints
    names: Sequence[str]
    kind: str = "classify"  # or multilabel, regress: what the outputs mean
    targets: Floats | None = None
    weights: Floats | None = None


def fit(
    recipe: Recipe,
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
    if recipe.family == "keywords":
        return fit_keywords(recipe, data)
    featurizer = Featurizer.fit(recipe.config, data.texts)
    if recipe.family == "linear":
        found = fit_linear(recipe, featurizer, data, seed)
    else:
        found = fit_network(recipe, featurizer, data, seed, deadline, progress)
    return found if recipe.keep == 1 else _pruned(found)


def _pruned(trained: Trained) -> Trained:
    from .prune import prune

    return prune(trained, trained.recipe.keep)


def fit_keywords(recipe: Recipe, data: Examples) -> Trained:
    """No training: a text goes to the label whose name shares most with it, by tf-idf."""
    names = [name.replace("_", " ").replace("-", " ").replace("/", " ") for name in data.names]
    if data.kind == "regress":
        raise ValueError("keywords know no numbers. Wanted kind classify or multilabel.")
    config = Config(recipe.char_min, recipe.char_max, recipe.phrase_max, phrase_min_df=1)
    featurizer = Featurizer.fit(config, names)
    table = np.zeros((featurizer.n_rows, len(names)), np.float32)
    for column, name in enumerate(names):
        ids, weights = featurizer.bag(words(name))
        table[ids, column] = 10 * weights  # a cosine of 1 is a logit of 10
    # of many labels, those are given whose logit is above 0: whose cosine is above 0.3
    bias = np.full(len(names), -3.0 * (data.kind == "multilabel"), np.float32)
    return Trained(recipe, featurizer, {"bag.table": table, "bag.bias": bias})


def fit_linear(recipe: Recipe, featurizer: Featurizer, data: Examples, seed: int) -> Trained:
    """One-vs-rest linear SVM over tf-idf, for a number ridge regression; needs scikit-learn."""
    from scipy.sparse import csr_matrix

    ids, weights = zip(
        *(featurizer.bag(split(featurizer.config, text)) for text in data.texts), strict=True
    )
    starts = np.cumsum([0, *(len(i) for i in ids)])
    shape = (len(data.texts), featurizer.n_rows)
    rows = csr_matrix((np.concatenate(weights), np.concatenate(ids), starts), shape=shape)
    fitter = {"regress": _ridge, "multilabel": _machine_a_label}.get(data.kind, _machine)
    table, bias = fitter(rows, recipe, data, seed)
    return Trained(recipe, featurizer, {"bag.table": table, "bag.bias": bias})


def _ridge(rows: Any, recipe: Recipe, data: Examples, seed: int) -> tuple[Floats, Floats]:
    from sklearn.linear_model import Ridge

    assert data.targets is not None
    found = Ridge(alpha=0.5 / recipe.c).fit(rows, data.targets[:, 0], sample_weight=data.weights)
    return found.coef_[:, None].astype(np.float32), np.array([found.intercept_], np.float32)


def _machine_a_label(rows: Any, recipe: Recipe, data: Examples, seed: int) -> tuple[Floats, Floats]:
    from sklearn.svm import LinearSVC

    assert data.targets is not None
    table = np.zeros((rows.shape[1], len(data.names)), np.float32)
    bias = np.full(len(data.names), -10.0, np.float32)
    for k, wanted in enumerate(data.targets.T > 0.5):
        if wanted.all() or not wanted.any():
            bias[k] = 10.0 if wanted.all() else -10.0
            continue
        machine = LinearSVC(C=recipe.c, random_state=seed)
        machine.fit(rows, wanted, sample_weight=data.weights)
        table[:, k], bias[k] = machine.coef_[0], machine.intercept_[0]
    return table, bias


def _machine(rows: Any, recipe: Recipe, data: Examples, seed: int) -> tuple[Floats, Floats]:
    """Of shares that were given, the largest counts."""
    from sklearn.svm import LinearSVC

    labels = data.labels if data.targets is None else data.targets.argmax(1)
    machine = LinearSVC(C=recipe.c, random_state=seed)
    machine.fit(rows, labels, sample_weight=data.weights)
    table = np.zeros((rows.shape[1], len(data.names)), np.float32)
    bias = np.full(len(data.names), -10.0, np.float32)  # a label without rows is never the answer
    coef, intercept = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:  # scikit-learn keeps one column for two classes
        coef, intercept = np.stack([-coef[0], coef[0]]), np.array([-intercept[0], intercept[0]])
    table[:, machine.classes_] = coef.T
    bias[machine.classes_] = intercept
    return table, bias


def fit_network(
    recipe: Recipe,
    featurizer: Featurizer,
    data: Examples,
    seed: int,
    deadline: float,
    progress: Progress,
) -> Trained:
    """Each copy from a seed of its own; their tensors are named `0.cnn.table` and so on."""
    if recipe.teachers:
        return _fit_taught(recipe, featurizer, data, seed, deadline, progress)
    ragged = featurizer.ragged(data.texts)
    tensors: Tensors = {}
    for copy in range(recipe.copies):

        def share(done: float, before: int = copy) -> None:
            progress((before + done) / recipe.copies)

        trained = _fit_copy(recipe, featurizer, ragged, data, seed + 7919 * copy, deadline, share)
        tensors.update({f"{copy}.{name}": value for name, value in trained.items()})
    return Trained(recipe, featurizer, tensors)


def _fit_taught(
    recipe: Recipe,
    featurizer: Featurizer,
    data: Examples,
    seed: int,
    deadline: float,
    progress: Progress,
) -> Trained:
    """First the teachers, on the labels; then the network itself, on what they say."""
    from .student import answered_by

    share = recipe.teachers / (recipe.teachers + recipe.copies)
    many = replace(recipe, copies=recipe.teachers, teachers=0)

    def at_first(done: float) -> None:
        progress(share * done)

    def then(done: float) -> None:
        progress(share + (1 - share) * done)

    teachers = fit_network(many, featurizer, data, seed + OTHERS, deadline, at_first)
    rows, alone = answered_by(data, teachers), replace(recipe, teachers=0)
    found = fit_network(alone, featurizer, rows, seed, deadline, then)
    return replace(found, recipe=recipe)


def tensors_of_copy(trained: Trained, copy: int) -> Tensors:
    """One network's tensors under the names that its module gives them."""
    start = f"{copy}."
    found = trained.tensors.items()
    return {name[len(start) :]: value for name, value in found if name.startswith(start)}


def _fit_copy(
    recipe: Recipe,
    featurizer: Featurizer,
    ragged: Ragged,
    data: Examples,
    seed: int,
    deadline: float,
    progress: Progress,
) -> Tensors:
    """AdamW, warm-up then cosine, batches of like length, dropout on features and units."""
    import torch

    from .loss import Wanted, loss_of
    from .network import TextNet

    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    net = TextNet(recipe, featurizer.n_rows, featurizer.n_subwords + 1, len(data.names))
    optimizer = _optimizer(net, recipe)
    wanted = Wanted.of(data)
    n_steps = recipe.epochs * math.ceil(len(data.texts) / recipe.batch)
    for step, index in enumerate(_batches(ragged, recipe, chance)):
        if time.monotonic() > deadline:
            raise OutOfTime(f"after {step} of {n_steps} steps")
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * schedule(step / n_steps, recipe.warmup)
        logits = net(make_batch(ragged, index, recipe, chance))
        loss = loss_of(logits, wanted, index, recipe)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step} of {n_steps}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[1]["params"], 1.0)
        optimizer.step()
        if step % 16 == 0:
            progress(step / n_steps)
    tensors = {name: value.detach().numpy().copy() for name, value in net.named_parameters()}
    return wanted.in_its_unit(tensors)


def schedule(done: float, warmup: float) -> float:
    """Share of the learning rate: up in a line, down along a cosine to a hundredth."""
    if done < warmup:
        return max(done / warmup, 1e-3)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def make_batch(
    ragged: Ragged, index: Ints, recipe: Recipe, chance: np.random.Generator | None
) -> Batch:
    """The texts of `index` as tensors; with `chance`, features are dropped as in training."""
    from .network import Batch

    return Batch(
        *_word_tensors(ragged, index, recipe, chance), *_bag_tensors(ragged, index, recipe, chance)
    )


def _word_tensors(
    ragged: Ragged, index: Ints, recipe: Recipe, chance: np.random.Generator | None
) -> tuple[torch.Tensor, ...]:
    import torch

    texts = [ragged.tokens[i] for i in index]
    lengths = np.array([len(text) for text in texts])
    distinct, inverse = np.unique(np.concatenate(texts), return_inverse=True)
    begins = ragged.starts[distinct]
    counts = ragged.starts[distinct + 1] - begins
    starts = np.concatenate([[0], np.cumsum(counts)])
    place = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)  # within its word
    grams = ragged.rows[np.repeat(begins, counts) + place]
    weights = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts)
    if chance is not None:
        keep = chance.random(len(grams)) >= recipe.gram_drop
        own = (place == 0) & np.repeat(ragged.known[distinct], counts)
        keep[own] = chance.random(own.sum()) >= recipe.word_drop
        weights = weights * keep / (1 - recipe.gram_drop)
    tokens = np.full((len(texts), lengths.max()), len(distinct))
    tokens[np.arange(tokens.shape[1]) < lengths[:, None]] = inverse
    return (
        torch.from_numpy(grams),
        torch.from_numpy(starts),
        torch.from_numpy(weights.astype(np.float32)),
        torch.from_numpy(tokens),
    )


def _bag_tensors(
    ragged: Ragged, index: Ints, recipe: Recipe, chance: np.random.Generator | None
) -> tuple[torch.Tensor, ...]:
    import torch

    ids = np.concatenate([ragged.bags[i][0] for i in index])
    weights: Floats = np.concatenate([ragged.bags[i][1] for i in index])
    if chance is not None:
        keep = chance.random(len(weights), dtype=np.float32) >= recipe.bag_drop
        weights = weights * keep / np.float32(1 - recipe.bag_drop)
    offsets = np.cumsum([0, *(len(ragged.bags[i][0]) for i in index[:-1])])
    return torch.from_numpy(ids), torch.from_numpy(offsets), torch.from_numpy(weights)


def _batches(ragged: Ragged, recipe: Recipe, chance: np.random.Generator) -> Iterator[Ints]:
    """Each epoch all rows once, in batches of like length, so that little is padding."""
    lengths = np.array([len(text) for text in ragged.tokens])
    size = recipe.batch
    for _ in range(recipe.epochs):
        order = chance.permutation(len(lengths))
        batches = []
        for begin in range(0, len(order), size * 16):
            near = order[begin : begin + size * 16]
            near = near[np.argsort(lengths[near], kind="stable")]
            batches += [near[i : i + size] for i in range(0, len(near), size)]
        for i in chance.permutation(len(batches)):
            yield batches[i]


def _optimizer(net: TextNet, recipe: Recipe) -> torch.optim.Optimizer:
    import torch

    tables = [p for name, p in net.named_parameters() if name.endswith("table")]
    others = [p for name, p in net.named_parameters() if not name.endswith("table")]
    groups = [
        {"params": tables, "weight_decay": 0.0},
        {"params": others, "weight_decay": recipe.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)
