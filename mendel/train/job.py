"""One `mendel train`: a recipe and a text become a folder with a trained model.

recipe.toml, data -> tokenizer, split -> Training -> model folder(s), run.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mendel.blobs import locked, write_atomically
from mendel.data.corpus import Corpus, Split, Tokens, join, read_corpus
from mendel.data.tokenizers import Tokenizer, make_tokenizer
from mendel.formats import native
from mendel.model import build, resolved
from mendel.spec import ModelSpec, SpecError, TrainSpec
from mendel.train import checkpoint, exits
from mendel.train.run import Outcome, Progress, Training
from mendel.train.schedule import Budget
from mendel.types import InputError

RUN, RECIPE, LOCK = "run.json", "recipe.toml", ".lock"


@dataclass(frozen=True)
class Request:
    """What `mendel train` was asked for."""

    model: ModelSpec
    train: TrainSpec
    data: Path
    out: Path
    glob: str = "*"
    lines: bool = False
    resume: bool = False
    replay: Path | None = None  # folder of an earlier run whose schedule is repeated


@dataclass(frozen=True)
class Job:
    """A request whose data is read and checked; nothing is written yet."""

    request: Request
    model: ModelSpec  # with the tokenizer's vocabulary
    corpus: Corpus
    split: Split
    tokenizer: Tokenizer
    tokens: Tokens

    @property
    def n_params(self) -> int:
        with torch.device("meta"):
            return build(self.model).n_params

    @property
    def bytes_per_token(self) -> float:
        """Of the validation text: nats a token / (this * ln 2) = bits a byte, for any tokenizer."""
        return self.tokens.n_val_bytes / max(len(self.tokens.val), 1)

    def run(
        self,
        tell: Callable[[Progress], None],
        stopping: Callable[[], None] = lambda: None,
    ) -> Outcome:
        """Train and write the folder; Ctrl-C leaves a model as it is and a checkpoint to resume."""
        out = self.request.out
        out.mkdir(parents=True, exist_ok=True)
        with locked(out / LOCK, f"{out} is being written by another run. Choose another --out."):
            return self._run(tell, stopping)

    def _run(self, tell: Callable[[Progress], None], stopping: Callable[[], None]) -> Outcome:
        request = self.request
        training = Training(
            self.model,
            request.train,
            self.tokens,
            folder=request.out,
            resume=request.resume,
            replay=_pace_of(request.replay) if request.replay else None,
        )
        self._write_run({"finished": False})
        write_atomically(request.out / RECIPE, recipe_toml(self.model, request.train).encode())
        outcome = training.run(tell, stopping)
        self._write_models(outcome)
        self._write_run(self._facts(outcome))
        if outcome.finished and outcome.result.error is None:
            (request.out / checkpoint.FILE).unlink(missing_ok=True)
        return outcome

    def _write_models(self, outcome: Outcome) -> None:
        out, seeds = self.request.out, list(outcome.curves)
        for seed, model in zip(seeds, outcome.models, strict=True):
            if outcome.curves[seed].diverged is None:
                folder = out if len(seeds) == 1 else out / f"seed-{seed}"
                native.save(model, folder, self.tokenizer)

    def _facts(self, outcome: Outcome) -> dict[str, Any]:
        result, per_byte = outcome.result, self.bytes_per_token * math.log(2)
        nats = result.facts["nats"]
        return {
            **result.facts,
            "finished": outcome.finished,
            "bits_per_byte": {seed: loss / per_byte for seed, loss in nats.items()},
            "error": result.error,
            "evaluations": {
                str(seed): [e for e in curve.evaluations if math.isfinite(e[1])]
                for seed, curve in outcome.curves.items()
            },
            "cost": vars(result.cost),
            "pace": outcome.pace,
        }

    def _write_run(self, facts: Mapping[str, Any]) -> None:
        about = {
            "data": {"path": str(self.request.data), **self.split.record()},
            "tokens": {"train": len(self.tokens.train), "val": len(self.tokens.val)},
            "torch": torch.__version__,
        }
        text = json.dumps({**facts, **about}, indent=2)
        write_atomically(self.request.out / RUN, text.encode())


def prepare(request: Request) -> Job:
    """Read and check everything that a run needs; raises InputError before anything is written."""
    Budget.parse(request.train.budget)
    _check_out(request)
    if request.model.head.part != "lm":
        raise SpecError(f"head={request.model.head.part!r}: mendel train predicts the next token, "
                        "and needs head='lm'.")  # fmt: skip
    exits.check(request.model, request.train)
    corpus = read_corpus(request.data, glob=request.glob, lines=request.lines, skip=request.out)
    split = corpus.split(request.train.holdout)
    # pieces are learned from the training side alone; the alphabet is that of both
    learned = request.train.tokenizer.startswith("bpe")
    text = join(split.train) if learned else corpus.text
    tokenizer = make_tokenizer(request.train.tokenizer, text)
    vocab = request.model.vocab or tokenizer.vocab_size
    if vocab < tokenizer.vocab_size:
        raise SpecError(
            f"vocab={vocab} is smaller than the {tokenizer.vocab_size} tokens of "
            f"{request.train.tokenizer!r} on this text. Set vocab={tokenizer.vocab_size} or leave "
            "it out."
        )
    model = resolved(request.model.model_copy(update={"vocab": vocab}))
    tokens = Tokens.of(split, tokenizer)
    tokens.check(model.context)
    with torch.device("meta"):
        build(model)  # fields that do not fit the width show before anything is written
    if request.resume:
        _check_data(request, split)
    return Job(request, model, corpus, split, tokenizer, tokens)


def recipe_toml(model: ModelSpec, train: TrainSpec) -> str:
    """Both specs as a file that `mendel train` takes."""
    return f"[model]\n{model.to_toml()}\n[train]\n{train.to_toml()}"


def _check_out(request: Request) -> None:
    out, run = request.out, request.out / RUN
    if request.resume:
        done = _read_run(run) if run.is_file() else {}
        if done.get("finished") and not done.get("error"):
            raise InputError(f"the run in {out} has finished: there is nothing to resume.")
        return
    # those alone are what a run leaves that did not come to its first step
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Wanted a new or empty folder for --out.")
    if out.exists() and {file.name for file in out.iterdir()} - {RUN, RECIPE, LOCK}:
        raise InputError(
            f"{out} is not empty. Choose another --out"
            + (", or go on with --resume." if (out / checkpoint.FILE).exists() else ".")
        )


def _check_data(request: Request, split: Split) -> None:
    run = request.out / RUN
    before = _read_run(run).get("data") if run.is_file() else None
    if not before:
        return  # what is wrong with the folder, the checkpoint will say
    if {key: before.get(key) for key in ("train", "val")} != {
        key: split.record()[key] for key in ("train", "val")
    }:
        raise InputError(
            f"the text in {request.data} is not the one that the run in {request.out} was begun "
            "with. Give the same text, or begin a new run."
        )


def _read_run(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}. Wanted what a run wrote.") from None
    return found if isinstance(found, dict) else {}


def _pace_of(folder: Path) -> Mapping[str, Any]:
    pace: Mapping[str, Any] | None = _read_run(folder / RUN).get("pace")
    if pace is None:
        raise InputError(
            f"{folder / RUN} has no recorded schedule. Wanted the folder of a run that has ended."
        )
    return pace
