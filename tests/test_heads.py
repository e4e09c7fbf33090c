"""Heads, and the conditional random field against every sequence that there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mendel.parts.menu  # noqa: F401
from mendel.parts import crf
from mendel.parts.contract import near, one_seed
from mendel.parts.part import PARTS, make
from mendel.spec import PartSpec

pytestmark = pytest.mark.usefixtures("one_thread")

B, T, K, C = 4, 5, 3, 8
LENGTHS = torch.tensor([5, 3, 1, 4])
POOLINGS = ["mean", "last", "max"]


def head(name: str, n_out: int = K, **fields: Any) -> Any:
    with one_seed(0):
        made = make("head", PartSpec(part=name, fields=fields), C, n_out)
        with torch.no_grad():
            for p in made.parameters():
                p.add_(torch.randn_like(p), alpha=0.3)
    return made.double()


def randn(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.fixture
def emissions() -> Tensor:
    return randn(B, T, K)


@pytest.fixture
def chain() -> crf.Chain:
    return crf.Chain(randn(K, K, seed=2), randn(K, seed=3), randn(K, seed=4))


def every(emissions: Tensor, chain: crf.Chain, n: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """All tag sequences of one text and their scores, by the definition."""
    for tags in product(range(K), repeat=n):
        score = chain.start[tags[0]] + chain.end[tags[-1]]
        score = score + sum(emissions[t, tag] for t, tag in enumerate(tags))
        yield tags, score + sum(chain.transitions[a, b] for a, b in pairwise(tags))


def known(tags: list[list[int]]) -> Tensor:
    return torch.tensor([row + [-1] * (T - len(row)) for row in tags])


# the conditional random field


def test_the_partition_is_the_sum_over_every_sequence(emissions: Tensor, chain: crf.Chain) -> None:
    found = crf.log_partition(emissions, chain, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        scores = torch.stack([s for _, s in every(emissions[b], chain, n)])
        near(found[b], scores.logsumexp(0), 1e-12, f"text {b}")
    whole = crf.log_partition(emissions, chain)
    near(whole[:1], found[:1], 1e-12, "a text of full length")


def test_viterbi_finds_the_best_of_every_sequence(emissions: Tensor, chain: crf.Chain) -> None:
    tags, scores = crf.viterbi(emissions, chain, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        best, score = max(every(emissions[b], chain, n), key=lambda one: float(one[1]))
        assert tags[b].tolist() == [*best, *[-1] * (T - n)]
        near(scores[b], score, 1e-12, f"text {b}")
    near(crf.score(emissions, tags, chain, LENGTHS), scores, 1e-12, "score of the best")


def test_a_score_is_the_sum_of_its_terms(emissions: Tensor, chain: crf.Chain) -> None:
    tags = torch.tensor([[0, 1, 2, 1, 0], [2, 2, 1, 0, 0], [1, 0, 0, 0, 0], [0, 0, 2, 2, 1]])
    found = crf.score(emissions, tags, chain, LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        wanted = dict(every(emissions[b], chain, n))[tuple(tags[b, :n].tolist())]
        near(found[b], wanted, 1e-12, f"text {b}")


def test_the_gradient_of_the_partition_is_each_tags_probability(
    emissions: Tensor, chain: crf.Chain
) -> None:
    emissions.requires_grad_()
    (found,) = torch.autograd.grad(crf.log_partition(emissions, chain, LENGTHS).sum(), emissions)
    wanted = torch.zeros(B, T, K, dtype=torch.float64)
    for b, n in enumerate(LENGTHS.tolist()):
        pairs = list(every(emissions[b].detach(), chain, n))
        p = torch.stack([s for _, s in pairs]).softmax(0)
        for (tags, _), weight in zip(pairs, p, strict=True):
            wanted[b, torch.arange(n), torch.tensor(tags)] += weight
    near(found, wanted, 1e-12, "marginals")


def test_every_gradient_of_the_loss_is_that_of_finite_differences(
    emissions: Tensor, chain: crf.Chain
) -> None:
    tags = known([[0, 1, 2, 1, 0], [2, -1, 1], [1], [-1, 0, 2, 2]])
    inputs = [x.requires_grad_() for x in (emissions, *chain)]
    assert torch.autograd.gradcheck(
        lambda e, *weights: crf.loss(e, tags, crf.Chain(*weights)), inputs
    )


def test_with_all_tags_known_the_loss_is_partition_minus_score(
    emissions: Tensor, chain: crf.Chain
) -> None:
    tags = known([[0, 1, 2, 1, 0], [2, 2, 1], [1], [0, 0, 2, 2]])
    score = crf.score(emissions, tags, chain, LENGTHS)
    wanted = crf.log_partition(emissions, chain, LENGTHS) - score
    near(crf.loss(emissions, tags, chain), wanted, 1e-12, "loss")
    assert (wanted > 0).all()


def test_where_tags_are_unknown_the_loss_sums_over_what_they_could_be(
    emissions: Tensor, chain: crf.Chain
) -> None:
    tags = known([[0, -1, 2, -1, 0], [-1, -1, 1], [1], []])
    found = crf.loss(emissions, tags, chain)
    for b, n in ((0, 5), (1, 3), (2, 1)):
        pairs = list(every(emissions[b], chain, n))
        p = torch.stack([s for _, s in pairs]).softmax(0)
        fits = [all(k in (-1, t) for k, t in zip(tags[b], s, strict=False)) for s, _ in pairs]
        near(found[b], -p[torch.tensor(fits)].sum().log(), 1e-12, f"text {b}")
    assert found[3] == 0


def test_a_tag_of_large_score_leaves_loss_and_gradient_finite(chain: crf.Chain) -> None:
    emissions = (1e3 * randn(B, T, K)).float().requires_grad_()
    weights = crf.Chain(*(w.float() for w in chain))
    loss = crf.loss(emissions, known([[0, 1, 2, 1, 0], [2, -1, 1], [1], []]), weights).sum()
    (gradient,) = torch.autograd.grad(loss, emissions)
    assert loss.isfinite() and gradient.isfinite().all()


# the tagger


def test_a_tagger_with_crf_learns_an_order_that_its_tokens_do_not_show() -> None:
    """Tags alternate from a start that only the first token tells."""
    first = torch.arange(32) % 2
    tags = (first[:, None] + torch.arange(9)) % 2
    x = 0.01 * randn(32, 9, C).float()
    x[:, 0, 0] = 2.0 * first - 1
    right = {}
    for with_crf in (False, True):
        tagger = head("tagger", 2, crf=with_crf).float()
        adam = torch.optim.Adam(tagger.parameters(), lr=0.1)
        for _ in range(60):
            adam.zero_grad()
            tagger.loss(tagger(x)[0], tags).backward()
            adam.step()
        right[with_crf] = (tagger.decode(tagger(x)[0]) == tags).float().mean()
    assert right[True] == 1 and right[False] < 0.9


@pytest.mark.parametrize("with_crf", [False, True])
def test_padding_changes_neither_the_loss_nor_the_tags(with_crf: bool) -> None:
    tagger, x = head("tagger", crf=with_crf), randn(B, T, C)
    targets = known([[0, 1, 2, 1, 0], [2, 2, 1], [1], [0, 0, 2, 2]])
    other = x.clone()
    other[torch.arange(T) >= LENGTHS[:, None]] = 9.0
    (y, _), (y_other, _) = tagger(x), tagger(other)
    near(tagger.loss(y_other, targets), tagger.loss(y, targets), 1e-12, "loss")
    tags = tagger.decode(y, LENGTHS)
    assert torch.equal(tags, tagger.decode(y_other, LENGTHS))
    assert torch.equal(tags == -1, torch.arange(T) >= LENGTHS[:, None])


def test_without_crf_a_tagger_takes_each_tokens_best() -> None:
    tagger, x = head("tagger"), randn(B, T, C)
    y, _ = tagger(x)
    assert torch.equal(tagger.decode(y), y.argmax(-1))


def test_seeds_in_one_vmapped_run_have_the_losses_of_single_runs() -> None:
    taggers = [head("tagger", crf=True) for _ in range(2)]
    with torch.no_grad():
        taggers[1].transitions.add_(1.0)
        taggers[1].logits.weight.mul_(2.0)
    weights, _ = torch.func.stack_module_state(taggers)
    x, targets = randn(B, T, C), known([[0, 1, 2, 1, 0], [2, -1, 1], [1], []])

    class Loss(torch.nn.Module):
        def __init__(self, tagger: Any) -> None:
            super().__init__()
            self.tagger = tagger

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.tagger.loss(self.tagger(x)[0], targets)
            return found

    def loss(weights: dict[str, Tensor]) -> Tensor:
        named = {f"tagger.{name}": w for name, w in weights.items()}
        found: Tensor = torch.func.functional_call(Loss(taggers[0]), named, (x,))
        return found

    found = torch.func.vmap(loss)(weights)
    near(found, torch.stack([Loss(tagger)(x) for tagger in taggers]), 1e-12, "loss")


# the classifier


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_classifier_pools_by_its_name(pooling: str) -> None:
    classifier, x = head("classifier", pooling=pooling), randn(B, T, C)
    pooled = {"mean": x.mean(1), "last": x[:, -1], "max": x.amax(1)}[pooling]
    near(classifier(x)[0], classifier.logits(pooled), 1e-12, "output")
    near(classifier(x, naive=True)[0], classifier.logits(pooled), 1e-12, "naive output")


@pytest.mark.parametrize("naive", [False, True], ids=["fast", "naive"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padded_rows_answer_as_they_do_alone(pooling: str, naive: bool) -> None:
    classifier, x = head("classifier", pooling=pooling), randn(B, T, C)
    x[torch.arange(T) >= LENGTHS[:, None]] = torch.nan  # what is not text must not be looked at
    y, state = classifier(x, lengths=LENGTHS, naive=naive)
    for b, n in enumerate(LENGTHS.tolist()):
        alone, its = classifier(x[b : b + 1, :n])
        near(y[b : b + 1], alone, 1e-12, f"row {b}")
        near(state["pooled"][b : b + 1], its["pooled"], 1e-12, f"state of row {b}")
        assert state["count"][b] == n


@pytest.mark.parametrize("naive", [False, True], ids=["fast", "naive"])
@pytest.mark.parametrize("pieces", [[5], [2, 3], [1] * 5])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_in_pieces_gets_the_answer_of_the_whole(
    pooling: str, pieces: list[int], naive: bool
) -> None:
    classifier, x = head("classifier", pooling=pooling), randn(B, T, C) - 3.0  # maxima below 0
    wanted, after = classifier(x, lengths=LENGTHS)
    y, state, start = None, None, 0
    for n in pieces:
        lengths = (LENGTHS - start).clamp(0, n)
        y, state = classifier(x[:, start : start + n], state, naive=naive, lengths=lengths)
        start += n
    assert y is not None and state is not None
    near(y, wanted, 1e-12, "output")
    near(state["pooled"], after["pooled"], 1e-12, "state")
    assert torch.equal(state["count"], after["count"])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_empty_text_has_a_finite_answer_and_gradient(pooling: str) -> None:
    classifier, x = head("classifier", pooling=pooling), randn(2, T, C).requires_grad_()
    y, state = classifier(x, lengths=torch.tensor([0, 3]))
    near(y[:1], classifier.logits.bias[None], 1e-12, "output of nothing")
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.isfinite().all() and (gradient[0] == 0).all()
    assert state["pooled"].isfinite().all()


def test_a_long_text_in_bfloat16_keeps_the_digits_of_its_sum() -> None:
    classifier = head("classifier").bfloat16()
    x = torch.ones(1, 1000, C, dtype=torch.bfloat16)
    state = None
    for piece in x.split(1, 1):
        y, state = classifier(piece, state)
    near(y, classifier(x[:, :1])[0], 1e-2, "the mean of equal vectors")


# what all heads share


@pytest.mark.parametrize("name", sorted(PARTS["head"]))
def test_a_target_of_minus_one_is_none(name: str) -> None:
    made, x = head(name), randn(B, T, C)
    y, _ = made(x)
    targets = torch.zeros(y.shape[:-1], dtype=torch.int64)
    targets[1:] = -1
    near(made.loss(y, targets), made.loss(y[:1], targets[:1]), 1e-12, "loss")
    nothing = made.loss(y, torch.full_like(targets, -1))
    nothing.backward()
    assert nothing == 0
    assert all(p.grad is None or (p.grad == 0).all() for p in made.parameters())


@pytest.mark.parametrize("name", ["lm", "classifier", "tagger"])
def test_the_loss_is_the_mean_cross_entropy(name: str) -> None:
    made = head(name)
    y, _ = made(randn(B, T, C))
    targets = torch.arange(y[..., 0].numel()).view(y.shape[:-1]) % K
    wanted = F.cross_entropy(y.flatten(0, -2), targets.flatten())
    near(made.loss(y, targets), wanted, 1e-12, "loss")
