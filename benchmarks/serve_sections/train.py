"""Two models of 12 M parameters by `mendel train`, with and without --early-exit; the same budget.

Text: nine tenths of the stories and of the plays at hand, and as much of documents in the
workloads' own forms: chats, edits and calls of tools with good answers, made from that text. What
the workloads are made from later is the last tenth of the stories, which no model has seen.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mendel import formats
from mendel.serve.workloads import Maker
from mendel.train.exits import agreement

SHAPE = (
    "width=320", "n_layers=8", "context=512", "mixers.0.n_heads=5", "batch=4", "optimizer=muon",
    "lr=0.004", "matrix_lr=0.012", "n_evaluations=4", "dtype=bfloat16",
)  # fmt: skip
MODELS = {"plain": (), "early-exit": ("--early-exit",)}
FORMS = ("edit", "chat", "edit", "agent")  # of the made documents, in turn
PIECE = 4000  # characters of text between two stretches of documents


def seen(shared: Path) -> str:
    """What models may learn from."""
    stories, plays = (_text(shared, name) for name in ("stories", "plays"))
    return stories[: len(stories) * 9 // 10] + "\n" + plays[: len(plays) * 9 // 10]


def unseen(shared: Path) -> str:
    """What workloads are made from."""
    stories = _text(shared, "stories")
    return stories[len(stories) * 9 // 10 :]


def _text(shared: Path, which: str) -> str:
    places = {
        "stories": "tinystories_sample/tinystories_sample.txt", "plays": "tinyshakespeare/input.txt"
    }  # fmt: skip
    text = (shared / places[which]).read_text(encoding="utf-8", errors="replace")
    return text.replace("<|endoftext|>", "\n")


def training_text(shared: Path) -> str:
    """Pieces of the text in random order, each followed by as much of made documents."""
    text = seen(shared)
    maker = Maker(text, n_chars=1200, seed=1)
    pieces = [text[i : i + PIECE] for i in range(0, len(text), PIECE)]
    order = np.random.default_rng(0).permutation(len(pieces))
    said, n = [], 0
    for i in order:
        said.append(pieces[int(i)])
        room = PIECE
        while room > 0:
            document = maker.make(FORMS[n % len(FORMS)], n).document()
            said.append(document)
            n, room = n + 1, room - len(document)
    return "\n\n".join(said)


def measure(options: Namespace) -> dict[str, Any]:
    """Both at once, so that they share the machine's noise; one thread each."""
    folder: Path = options.models
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "text.txt"
    if not data.exists():
        data.write_text(training_text(options.shared), encoding="utf-8")
    running = {}
    for name, flags in MODELS.items():
        out = folder / name
        if json.loads((out / "run.json").read_text())["finished"] if out.exists() else False:
            continue
        sets = [word for field in SHAPE for word in ("--set", field)]
        again = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
        command = [
            sys.executable, "-m", "mendel", "train", "modern", "--data", str(data),
            "--out", str(out), "--tokenizer", "bpe:4096", "--budget", options.budget,
            *sets, *flags, *again,
        ]  # fmt: skip
        running[name] = subprocess.Popen(command)
    for name, process in running.items():
        if process.wait() != 0:
            raise RuntimeError(f"training {name} ended with code {process.returncode}")
    return {name: row(folder / name, options.shared) for name in MODELS}


def row(folder: Path, shared: Path) -> dict[str, Any]:
    """What the run says, and how often each exit agrees on text that no model has seen."""
    run = json.loads((folder / "run.json").read_text())
    loaded = formats.load(folder)
    assert loaded.tokenizer is not None
    ids = np.asarray(loaded.tokenizer.encode(unseen(shared)))[: 16 * 512]
    x = torch.from_numpy(ids.astype(np.int64)).reshape(-1, 512)
    found = {
        "n_params": loaded.model.n_params,
        "steps": run["step"],
        "seconds": run["cost"]["seconds"],
        "nats": next(iter(run["nats"].values())),
        "agreement_by_layers": agreement(loaded.model, x),
    }
    print(folder.name, found, flush=True)
    return found
