"""A proxy as a trial: (model spec, train spec, proxy, seeds) -> a score a seed, and what it cost.

fitted -> Training, the engine of `mendel train` -> the seed's test set, asked once
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mendel.data.proxies import AnyProxy
from mendel.model import Model, build
from mendel.parts.part import resolve
from mendel.spec import ModelSpec, PartSpec, TrainSpec
from mendel.train.group import pick_device
from mendel.train.run import Outcome, Training
from mendel.types import Cost, InputError, Result

if TYPE_CHECKING:
    from mendel.data.proxies.proxy import Examples

TAPS = 4  # of the short convolution that every mixer is given


def measure(
    spec: ModelSpec, how: TrainSpec, proxy: AnyProxy, seeds: range = range(1)
) -> Result:  # fmt: skip
    """Train each seed on the proxy's examples, and ask it the test set that belongs to it.

    spec     any recipe; its vocabulary and context become the proxy's
    how      the recipe of the training; its budget, batch and seeds become the proxy's and `seeds`
    returns  scores, one a seed, more is better: accuracy where something is asked, or minus the
             bits a character. Cost: seconds of all seeds, FLOPs of one's training. Facts: the
             proxy, nats on validation by seed, state_bytes of one text at its longest. Where a
             seed's loss was no number, the error says so and there are no scores
    raises   InputError where the spec cannot run on the proxy, with the reason
    """
    began = time.perf_counter()
    model = fitted(spec, proxy)
    outcome = Training(model, fitted_training(how, proxy, seeds), proxy.source()).run()
    if not outcome.finished:
        raise KeyboardInterrupt
    result = outcome.result
    scores = () if result.error else _scores(outcome, proxy, seeds)
    cost = Cost(
        time.perf_counter() - began, result.cost.flops, result.cost.n_params, result.cost.n_bytes
    )
    return Result(scores, cost=cost, facts=_facts(outcome, proxy), error=result.error)


def fitted(spec: ModelSpec, proxy: AnyProxy) -> ModelSpec:
    """The spec with the proxy's vocabulary, context and head; raises InputError with the reason."""
    why = _refusal(spec, proxy)
    if why:
        raise InputError(f"{proxy.name} at {proxy.preset!r} cannot be run: {why}")
    made = spec.model_copy(
        update={
            "vocab": spec.vocab or proxy.vocab,
            "context": proxy.context,
            "head": proxy.head,
        }
    )
    with torch.device("meta"):
        build(made)  # fields that do not fit the width show before anything is trained
    return made


def fitted_training(how: TrainSpec, proxy: AnyProxy, seeds: range) -> TrainSpec:
    """The training with the proxy's steps and batch; seeds must follow one another."""
    if len(seeds) < 1 or seeds.step != 1 or seeds.start < 0:
        raise InputError(f"seeds={seeds}: wanted one or more that follow one another, as range(5).")
    return how.model_copy(
        update={
            "budget": f"{proxy.n_steps}steps",
            "batch": proxy.batch,
            "seed": seeds.start,
            "n_seeds": len(seeds),
            "n_evaluations": 1,
        }
    )


def convolved(spec: ModelSpec, taps: int = TAPS) -> ModelSpec:
    """The spec with a short convolution in every mixer that can have one and has none.

    Without it a ranking by recall is that of who can see the token before, not of who remembers.
    """

    def one(part: PartSpec) -> PartSpec:
        cls, fields = resolve("mixer", part)
        field = cls.Fields.model_fields.get("conv")
        if field is None or fields.get("conv", field.default):
            return part
        return PartSpec(part=part.part, fields={**part.fields, "conv": taps})

    return spec.model_copy(update={"mixers": tuple(one(part) for part in spec.mixers)})


def _scores(outcome: Outcome, proxy: AnyProxy, seeds: range) -> tuple[float, ...]:
    pairs = zip(outcome.models, seeds, strict=True)
    return tuple(score(model, proxy, seed) for model, seed in pairs)


@torch.no_grad()
def score(model: Model, proxy: AnyProxy, seed: int) -> float:
    """Accuracy on a seed's test set where something is asked, or minus the bits a character."""
    device = pick_device()
    model = model.to(device).eval()
    total, n_asked = 0.0, 0
    for each in proxy.tests(seed):
        output = model(torch.from_numpy(each.x).to(device))[0][..., : proxy.vocab]
        is_text = proxy.unit == "bits a character"
        total += _minus_bits(output, each) if is_text else _n_right(output, each)
        n_asked += int((each.y >= 0).sum())
    return total / n_asked


def _n_right(output: torch.Tensor, asked: Examples) -> int:
    answers = output.argmax(-1).cpu().numpy()
    right = answers == asked.y
    if asked.allowed is not None:
        right = np.take_along_axis(asked.allowed, answers[..., None], 2)[..., 0]
    return int((right & (asked.y >= 0)).sum())


def _minus_bits(output: torch.Tensor, asked: Examples) -> float:
    logits, y = output.flatten(0, 1).double().cpu(), torch.from_numpy(asked.y).flatten()
    nats = torch.nn.functional.cross_entropy(logits, y, ignore_index=-1, reduction="sum")
    return -float(nats) / math.log(2)


def _refusal(spec: ModelSpec, proxy: AnyProxy) -> str:
    """Why not; empty where it can be run."""
    if spec.head.part != "lm":
        return f"it asks at each place, and head={spec.head.part!r} does not. Set head='lm'."
    if spec.tied and proxy.head.part != "lm":
        return f"its head {proxy.head.part!r} has no matrix to tie. Set tied=false."
    if spec.vocab and spec.vocab < proxy.vocab:
        return f"vocab={spec.vocab} is less than its {proxy.vocab} tokens. Set vocab=0."
    learned = spec.embedding.fields.get("position") == "learned"
    if learned and proxy.longest > proxy.context:
        return (
            f"it trains on {proxy.context} tokens and asks at {proxy.longest}, and learned "
            "positions end where training does. Set embedding='token'."
        )
    return ""


def _facts(outcome: Outcome, proxy: AnyProxy) -> dict[str, Any]:
    return {
        "proxy": proxy.name,
        "preset": proxy.preset,
        "unit": proxy.unit,
        "chance": proxy.chance,
        "state_bytes": state_bytes(outcome.models[0], proxy.longest),
        **outcome.result.facts,
    }


@torch.no_grad()
def state_bytes(model: Model, n_tokens: int) -> int:
    """What one text of n_tokens leaves behind."""
    device = next(model.parameters()).device
    state = model(torch.zeros(1, n_tokens, dtype=torch.int64, device=device))[1]
    return int(state.n_bytes)


def refusals(spec: ModelSpec, proxies: Iterable[AnyProxy]) -> dict[str, str]:
    """Why each proxy of a suite cannot be run with the spec, by its name; empty: all can."""
    found = {}
    for proxy in proxies:
        try:
            fitted(spec, proxy)
        except InputError as error:
            found[proxy.name] = str(error)
    return found
