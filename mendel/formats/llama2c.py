"""llama2.c's legacy file: seven int32, then the float32 weights of a small Llama.

    dim hidden layers heads kv_heads vocab seq_len      vocab < 0: the classifier is its own matrix
    embedding | for each kind of matrix, all layers | final norm | cos sin (skipped) | classifier

source   karpathy/llama2.c, run.c: read_checkpoint and memory_map_weights
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mendel.model import Model, build
from mendel.spec import ModelSpec, PartSpec
from mendel.types import InputError

STOP = frozenset({1, 2})  # begin and end: run.c stops where the next text begins
HEADER = struct.Struct("<7i")
MAGIC = b"24ka"  # of the later versions, "ak42" as a little-endian int32
LIMIT = 2**24  # no dimension of a model is as large; what is larger is no header
SKIPPED = "freqs"


class Header(NamedTuple):
    dim: int
    hidden: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab: int
    seq_len: int
    tied: bool

    @property
    def head_dim(self) -> int:
        return self.dim // self.n_heads


def load(file: Path) -> Model:
    """Read a legacy file, such as stories15M.bin.

    raises   InputError when the header is none, or the size is not what it asks for
    """
    with file.open("rb") as handle:
        header = _header(handle.read(HEADER.size), file)
    n_floats = sum(prod(shape) for _, shape in _layout(header))
    _check_size(file, HEADER.size + 4 * n_floats)
    model = build(_spec(header))
    floats = torch.from_numpy(np.memmap(file, "<f4", "c", HEADER.size))
    with torch.no_grad():
        at = 0
        for name, shape in _layout(header):
            values = floats[at : (at := at + prod(shape))]
            if name != SKIPPED:
                _fill(model, name, values.view(shape), header)
    return model


def half_split(rows: Tensor, n_heads: int) -> Tensor:
    """llama2.c turns the pairs (2i, 2i + 1) of a head, we turn (i, i + D/2): reorder the rows."""
    n, width = rows.shape
    return rows.view(n_heads, n // n_heads // 2, 2, width).transpose(1, 2).reshape(n, width)


def _layout(h: Header) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What follows the header, in order: our name in a layer or a model, and the shape."""
    layers, kv_dim = h.n_layers, h.n_kv_heads * h.head_dim
    yield "embedding.tokens.weight", (h.vocab, h.dim)
    yield "mixer_norm.gain", (layers, h.dim)
    yield "mixer.q.weight", (layers, h.dim, h.dim)
    yield "mixer.k.weight", (layers, kv_dim, h.dim)
    yield "mixer.v.weight", (layers, kv_dim, h.dim)
    yield "mixer.out.weight", (layers, h.dim, h.dim)
    yield "channel_norm.gain", (layers, h.dim)
    yield "channel.gate.weight", (layers, h.hidden, h.dim)
    yield "channel.out.weight", (layers, h.dim, h.hidden)
    yield "channel.up.weight", (layers, h.hidden, h.dim)
    yield "final_norm.gain", (h.dim,)
    yield SKIPPED, (2, h.seq_len, h.head_dim // 2)
    if not h.tied:
        yield "head.logits.weight", (h.vocab, h.dim)


def _fill(model: Model, name: str, values: Tensor, header: Header) -> None:
    if not name.startswith(("mixer", "channel")):
        model.get_parameter(name).copy_(values)
        return
    heads = {"mixer.q.weight": header.n_heads, "mixer.k.weight": header.n_kv_heads}
    for i, rows in enumerate(values):
        ours = half_split(rows, heads[name]) if name in heads else rows
        model.get_parameter(f"layers.{i}.{name}").copy_(ours)


def _spec(h: Header) -> ModelSpec:
    heads = {"n_heads": h.n_heads}
    if h.n_kv_heads != h.n_heads:
        heads["n_kv_heads"] = h.n_kv_heads
    return ModelSpec(
        width=h.dim,
        n_layers=h.n_layers,
        context=h.seq_len,
        vocab=h.vocab,
        mixers=(PartSpec(part="attention", fields=heads),),
        channels=(PartSpec(part="swiglu", fields={"hidden": h.hidden}),),
        norm=PartSpec(part="rms_norm", fields={"eps": 1e-5}),
        tied=h.tied,
    )


def _header(raw: bytes, file: Path) -> Header:
    if raw[:4] == MAGIC:
        version = struct.unpack_from("<i", raw, 4)[0] if len(raw) >= 8 else "?"
        raise InputError(
            f"{file} is llama2.c's version {version}. Wanted the legacy version 0, whose numbers "
            "are all float32: python export.py out.bin --version 0 --checkpoint ..."
        )
    if len(raw) < HEADER.size:
        raise InputError(
            f"{file} has {len(raw)} bytes. Wanted llama2.c's header of {HEADER.size} and weights."
        )
    dim, hidden, n_layers, n_heads, n_kv_heads, vocab, seq_len = HEADER.unpack(raw)
    header = Header(dim, hidden, n_layers, n_heads, n_kv_heads, abs(vocab), seq_len, vocab > 0)
    counts = header[:7]
    divides = all(0 < n < LIMIT for n in counts) and not (dim % n_heads or n_heads % n_kv_heads)
    if not divides or header.head_dim % 2:
        named = ", ".join(f"{k}={v}" for k, v in zip(Header._fields, counts, strict=False))
        raise InputError(
            f"{file} does not begin like llama2.c's legacy file: {named}. Wanted counts above 0, "
            "heads that divide the width into even parts, and kv_heads that divide the heads. It "
            "may be another format, or not a model."
        )
    return header


def _check_size(file: Path, wanted: int) -> None:
    got = file.stat().st_size
    if got == wanted:
        return
    reason = (
        "it was cut while it was copied: fetch it again"
        if got < wanted
        else "it is another format, or something was appended: fetch it again"
    )
    raise InputError(
        f"{file} has {got:,} bytes. Wanted {wanted:,} by its header. Perhaps {reason}."
    )
