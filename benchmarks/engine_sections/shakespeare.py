"""A character LM on tinyshakespeare at nanoGPT's CPU setting: ours, ours with Muon, nanoGPT's.

4 layers, width 128, context 64, batch 12, 2,000 steps; nats a character over all of validation.
Tuned on the last tenth of the training text (`--tune`), never on the validation text.
"""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mendel.data.corpus import Split, Tokens, batch_rng, read_corpus
from mendel.data.tokenizers import make_tokenizer
from mendel.parts.flops import count_flops
from mendel.presets import load_recipe, override
from mendel.train.run import Training

TEXT = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare" / "input.txt"
N_STEPS, SEEDS = 2000, (0, 1, 2)
SHAPE = ["width=128", "n_layers=4", "context=64", "batch=12", "tokenizer=chars", "n_evaluations=1"]
MIXED = 'mixers=["short_conv", {part="attention", qk_norm=true}]'
RECIPES = {
    "mendel, AdamW": ["modern", "lr=0.004"],
    "mendel, Muon": ["modern", "optimizer=muon", "lr=0.004", "matrix_lr=0.012"],
    "mendel, Muon, short convolutions in half the layers": [
        "modern", "optimizer=muon", "lr=0.004", "matrix_lr=0.012", MIXED,
    ],
}  # fmt: skip
PEER_LR = 3e-3  # of 0.0015, 0.003 and 0.006, by --tune


def tokens(tune: bool) -> Tokens:
    """nanoGPT's split, the last tenth; to tune, the last tenth of what is left."""
    corpus = read_corpus(TEXT)
    tokenizer = make_tokenizer("chars", corpus.text)
    split = corpus.split(0.1)
    if tune:
        [text] = split.train
        cut = int(len(text) * 0.9)
        split = Split((text[:cut],), (text[cut:],), "tail", 0.1)
    return Tokens.of(split, tokenizer)


def ours(data: Tokens, preset: str, settings: list[str], seed: int) -> dict[str, Any]:
    """One run of mendel's."""
    steps = [f"seed={seed}", f"budget={N_STEPS}steps", f"vocab={data.vocab_size}"]
    model, how = override(*load_recipe(preset), [*SHAPE, *settings, *steps])
    training = Training(model, how, data)
    outcome = training.run()
    return {
        "nats": -outcome.result.scores[0] if outcome.result.scores else math.nan,
        "seconds": outcome.result.cost.seconds,
        "flops_per_step": training.flops_per_step,
        "n_params": outcome.models[0].n_params,
    }


def peer(data: Tokens, lr: float, seed: int) -> dict[str, Any]:
    """nanoGPT's recipe around transformers' GPT-2: AdamW, warm-up, cosine to a tenth, clip 1."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=data.vocab_size, n_positions=64, n_embd=128, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), fused=True)

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(model(x).logits.flatten(0, 1), y.flatten())

    flops = count_flops(lambda: loss_of(*data.batch(batch_rng(seed, 0), 12, 64)).backward())
    began = time.perf_counter()
    for step in range(N_STEPS):
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.1 + 0.9 * (1 + math.cos(math.pi * max(0, step - 100) / (N_STEPS - 100))) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * warm * cosine
        x, y = data.batch(batch_rng(seed, step), 12, 64)
        loss = loss_of(x, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    seconds = time.perf_counter() - began
    return {
        "nats": _validation(model, data),
        "seconds": seconds,
        "flops_per_step": flops,
        "n_params": sum(p.numel() for p in model.parameters()),
    }


@torch.no_grad()
def _validation(model: Any, data: Tokens) -> float:
    total, n = 0.0, 0
    for x, y in data.windows(64):
        logits: Tensor = model(x).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum")
        total, n = total + loss.item(), n + y.numel()
    return total / n


def measure() -> dict[str, Any]:
    """The table's rows: mean and spread over the seeds."""
    data = tokens(tune=False)
    rows: dict[str, Any] = {}
    runs = {
        **{n: lambda s, r=r: ours(data, r[0], r[1:], s) for n, r in RECIPES.items()},
        f"nanoGPT's recipe (transformers' GPT-2, lr {PEER_LR:g})": lambda s: peer(data, PEER_LR, s),
    }
    for name, run in runs.items():
        found = [run(seed) for seed in SEEDS]
        nats = [each["nats"] for each in found]
        rows[name] = {
            **found[0],
            "nats": statistics.mean(nats),
            "each": nats,
            "seconds": statistics.median(each["seconds"] for each in found),
        }
        print(name, rows[name], flush=True)
    return rows


def tune(which: str, settings: list[str]) -> None:
    """One candidate on the tuning split, seed 0; prints its loss there."""
    torch.set_num_threads(1)
    data = tokens(tune=True)
    if which == "peer":
        print(which, settings, peer(data, float(settings[0]), 100), flush=True)
    else:
        print(which, settings, ours(data, which, settings, 100), flush=True)


if __name__ == "__main__":
    import sys

    tune(sys.argv[1], sys.argv[2:])
