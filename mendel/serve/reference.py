"""The meaning of plain, as a program: torch, one token of one text at a time.

Exact by construction, since nothing is ever computed in company, and slow. What runs where the
kernels cannot do a part of the model.
"""

from __future__ import annotations

import copy
import hashlib
import platform
import weakref
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mendel.model import Model, ModelState
from mendel.parts.part import State
from mendel.serve.protocols import F32, Piece, PoolFull, Text
from mendel.types import InputError

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}
KEPT = 32  # states of single tokens that a text can go back to: those whose logits were wanted
GROWING = {"k", "v", "position"}  # a state that says of each token apart what it left behind


class Reference:
    """A Program of torch's own forward."""

    n_undo = 16

    def __init__(
        self,
        model: Model,
        dtype: Literal["float32", "bf16"] = "float32",
        capacity_bytes: int = 2**31,
    ) -> None:
        """Raises InputError for a model that writes no text."""
        spec = model.spec
        if spec.head.part != "lm":
            raise InputError(
                f"a model with head={spec.head.part!r} writes no text. Wanted head='lm'."
            )
        same = all(p.dtype == DTYPES[dtype] for p in model.parameters())
        self.model = (model if same else copy.deepcopy(model).to(DTYPES[dtype])).eval()
        self.vocab, self.n_layers = spec.vocab, spec.n_layers
        learned = spec.embedding.fields.get("position") == "learned"
        self.context = spec.context if learned else None
        self.dtype, self.capacity_bytes = dtype, capacity_bytes
        self.digest = _digest(self.model, dtype)
        self.cuts = self._keeps_tokens_apart()
        self._texts: weakref.WeakSet[_Text] = weakref.WeakSet()

    @property
    def n_bytes(self) -> int:
        return sum({k: n for text in self._texts for k, n in _storages(text.kept)}.values())

    def text(self) -> Text:
        return self._add(_Text(self, [None], 0))

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        """As Program says; threads are torch's, whatever is asked."""
        found = []
        with torch.inference_mode():
            for piece in pieces:
                assert isinstance(piece.text, _Text)
                found.append(self._piece(piece.text, piece, depth))
        self._check_room(found)
        for text, kept, n, _ in found:
            text.kept, text.n = kept, text.n + n
        return [ran.logits for ran in found]

    def _piece(self, text: _Text, piece: Piece, depth: int | None) -> _Ran:
        state, rows = text.kept[-1], []
        # a shallow run is taken back to before it, so what was kept before it stays
        kept = list(text.kept) if depth else []
        for i, id in enumerate(piece.ids):
            output, state = self._forward(id, state, depth)
            if depth or len(piece.ids) - i <= max(1, piece.n_wanted):
                kept.append(state)
            if len(piece.ids) - i <= piece.n_wanted:
                rows.append(output.float().numpy())
        logits = np.concatenate([np.empty((0, self.vocab), np.float32), *rows])
        return _Ran(text, kept[-KEPT:], len(piece.ids), logits)

    def _forward(
        self, id: int, state: ModelState | None, depth: int | None
    ) -> tuple[Tensor, ModelState]:
        """Model.forward of one token, (1, V), and not all of its layers where a depth is given."""
        model: Any = self.model
        tokens = torch.tensor([[id]])
        if depth is None:
            output, after = model(tokens, state)
            return output[0], after
        x, embedding = model.embedding(tokens, state.embedding if state else None)
        mixers, channels = [], []
        for i, layer in enumerate(model.layers[:depth]):
            before = (state.mixers[i], state.channels[i]) if state else (None, None)
            x, mixer, channel = layer(x, *before, False)
            mixers.append(mixer)
            channels.append(channel)
        if model.final_norm is not None:
            x = model.final_norm(x)[0]
        output, head = model.head(x, state.head if state else None)
        return output[0], ModelState(embedding, tuple(mixers), tuple(channels), head)

    def _keeps_tokens_apart(self) -> bool:
        """Whether a state of more tokens holds that of fewer."""
        layers: Any = self.model.layers
        windows = [getattr(layer.mixer.fields, "window", None) for layer in layers]
        with torch.inference_mode():
            _, state = self._forward(0, None, None)
        try:
            _shortened(state, 1, 1)
        except ValueError:
            return False
        return all(window is None for window in windows)

    def _check_room(self, found: Sequence[_Ran]) -> None:
        new = {ran.text: ran.kept for ran in found}
        held = [new.get(text, text.kept) for text in self._texts]
        n = sum({k: b for kept in held for k, b in _storages(kept)}.values())
        if n > self.capacity_bytes:
            raise PoolFull(
                f"the texts would hold {n} bytes of {self.capacity_bytes}. Wanted room for "
                f"{sum(ran.n for ran in found)} more tokens. Free a text."
            )

    def _add(self, text: _Text) -> Text:
        self._texts.add(text)
        return text


class _Text:
    """The states that the last tokens left, the newest last."""

    def __init__(self, program: Reference, kept: list[ModelState | None], n: int) -> None:
        self.program, self.kept, self.n = program, kept, n

    def fork(self) -> Text:
        return self.program._add(_Text(self.program, self.kept[-1:], self.n))

    def cut(self, n: int) -> None:
        if not 0 <= n <= self.n:
            raise ValueError(f"cannot cut a text of {self.n} tokens to {n}")
        back = self.n - n
        if back < len(self.kept):
            self.kept = self.kept[: len(self.kept) - back]
        elif n == 0:
            self.kept = [None]
        else:
            self.kept = [_shortened(self.kept[-1], self.n, n)]
        self.n = n

    def free(self) -> None:
        self.kept = [None]
        self.program._texts.discard(self)


class _Ran(NamedTuple):
    text: _Text
    kept: list[ModelState | None]
    n: int
    logits: F32


def _shortened(state: ModelState | None, n: int, wanted: int) -> ModelState:
    """The state after fewer tokens, where it holds those of each token apart."""
    assert state is not None
    states = (state.embedding, *state.mixers, *state.channels, state.head)
    for one in states:
        if not one.keys() <= GROWING or ("k" in one and one["k"].shape[2] != n):
            raise ValueError(
                f"cannot cut a text of {n} tokens to {wanted}: a state with "
                f"{', '.join(one)} does not keep its tokens apart"
            )

    def cut(one: State) -> State:
        short = {name: one[name][:, :, :wanted] for name in one if name != "position"}
        return short | {"position": torch.tensor(wanted)} if one else {}

    mixers, channels = (tuple(map(cut, group)) for group in (state.mixers, state.channels))
    return ModelState(cut(state.embedding), mixers, channels, cut(state.head))


def _storages(kept: Sequence[ModelState | None]) -> list[tuple[int, int]]:
    """Where its tensors lie, and how many bytes there are."""
    found = []
    for state in {id(state): state for state in kept if state is not None}.values():
        for one in (state.embedding, *state.mixers, *state.channels, state.head):
            for tensor in one.values():
                storage = tensor.untyped_storage()
                found.append((storage.data_ptr(), storage.nbytes()))
    return found


def _digest(model: Model, dtype: str) -> str:
    found = hashlib.sha256(model.spec.to_json().encode())
    about = (dtype, torch.__version__, torch.backends.cpu.get_cpu_capability(), platform.machine())
    found.update(" ".join(about).encode())
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
