"""Models on disk: ours, Hugging Face's, llama2.c's. load() tells them apart by what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from mendel.data.tokenizers import Tokenizer, load_tokenizer
from mendel.formats import huggingface, llama2c, native
from mendel.model import Model
from mendel.types import InputError

READABLE = (
    "a directory that mendel saved (spec.toml, model.safetensors), a Hugging Face directory of "
    f"{', '.join(huggingface.DEFAULTS)} (config.json, *.safetensors), or a legacy .bin of llama2.c"
)
FOREIGN = {b"GGUF": "llama.cpp's GGUF", b"PK\x03\x04": "PyTorch's pickle", b"\x80\x02": "a pickle"}


@dataclass(frozen=True)
class Loaded:
    model: Model
    tokenizer: Tokenizer | None
    kind: Literal["mendel", "huggingface", "llama2c"]
    stop: frozenset[int] = frozenset()  # ids that end a text


def load(
    path: Path, *, tokenizer: Path | None = None, dtype: torch.dtype = torch.float32
) -> Loaded:
    """Read a model from a directory or a file, with the tokenizer that lies there.

    tokenizer  one to use in its place
    raises     InputError that says what can be read, or what is wrong with this one
    """
    given = load_tokenizer(tokenizer) if tokenizer is not None else None
    return _load_folder(path, given, dtype) if path.is_dir() else _load_file(path, given, dtype)


def _load_folder(folder: Path, given: Tokenizer | None, dtype: torch.dtype) -> Loaded:
    if (folder / huggingface.CONFIG).exists():
        model, codec = huggingface.load(folder, tokenizer=given, dtype=dtype)
        return Loaded(model, codec, "huggingface", huggingface.stop_ids(folder))
    if (folder / native.SPEC).exists() or (folder / native.WEIGHTS).exists():
        model, codec = native.load(folder, tokenizer=given, dtype=dtype)
        begins = {codec.bos} if codec and codec.bos is not None else set()
        return Loaded(model, codec, "mendel", frozenset(begins))
    seeds = sorted(child.name for child in folder.glob("seed-*"))
    if seeds:
        raise InputError(
            f"{folder} holds a model for each seed. Give one of them: {folder / seeds[0]}."
        )
    held = native.some(file.name for file in folder.iterdir()) or "nothing"
    raise InputError(f"{folder} is no model's directory: it holds {held}. Wanted {READABLE}.")


def _load_file(file: Path, given: Tokenizer | None, dtype: torch.dtype) -> Loaded:
    if not file.is_file():
        raise InputError(f"there is no {file}. Wanted {READABLE}.")
    if file.suffix in (".safetensors", ".json", ".toml"):
        raise InputError(f"{file} is one file of a model. Give its directory, {file.parent}.")
    with file.open("rb") as handle:
        begin = handle.read(4)
    for magic, name in FOREIGN.items():
        if begin.startswith(magic):
            raise InputError(f"{file} is {name}, which is not read. Wanted {READABLE}.")
    model = llama2c.load(file).to(dtype)
    codec = given or _beside(file, model.spec.vocab)
    native.check_vocab(codec, model, file)
    return Loaded(model, codec, "llama2c", llama2c.STOP)


def _beside(file: Path, vocab: int) -> Tokenizer | None:
    for name in (f"tok{vocab}.bin", "tokenizer.json", "tokenizer.bin"):
        if (file.parent / name).exists():
            return load_tokenizer(file.parent / name)
    return None
