"""A model made ready to run: pieces -> rows -> one pass down the tape -> logits."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mendel.model import Model, resolved
from mendel.parts.rotary import _table as rotary_table
from mendel.serve.numerics import machine
from mendel.serve.numerics.layers import compiled
from mendel.serve.numerics.mixing import PAGE
from mendel.serve.numerics.pool import Memory, aligned, empty
from mendel.serve.numerics.text import UNDO, Held
from mendel.serve.protocols import F32, Piece, PoolFull
from mendel.types import InputError

MOST_ROWS = 240  # at a time: their numbers stay in the cache
SHORTEST = 256  # positions of a first table of angles
FIXED = 5  # numbers of a row beside its pages


class _Part(NamedTuple):
    """Of a piece, what goes in one pass."""

    text: Held
    ids: Sequence[int]
    n_wanted: int
    keeps: bool  # a state after each token, so that the text can be cut there


class Kernels:
    """Program by exact kernels; `program` makes one."""

    def __init__(
        self, model: Model, *, dtype: Literal["float32", "bf16"], capacity_bytes: int
    ) -> None:
        if dtype not in ("float32", "bf16"):
            raise InputError(f"dtype={dtype!r}. Wanted 'float32' or 'bf16'.")
        spec, is_half = model.spec, dtype == "bf16"
        wanted = torch.bfloat16 if is_half else torch.float32
        if any(p.dtype != wanted or p.device.type != "cpu" for p in model.parameters()):
            model = copy.deepcopy(model).to("cpu", wanted)
        tape, self._begins, _, self._logits = compiled(model, is_half)
        self._tape, self._numbers, self._full, self._halves = tape.arrays()
        self._turn_tables, self._is_half = tape.turns, is_half
        self._stride = sum(D for D, _ in tape.turns)
        self._row_floats, self._room_floats = tape.row_floats, tape.room_floats
        self._widest = tape.widest
        self._memory = Memory(tape.page_floats, tape.state_floats, capacity_bytes)
        embedding: Any = model.embedding
        learned = embedding.fields.position == "learned"
        self.vocab, self.n_layers = embedding.tokens.num_embeddings, spec.n_layers
        self.context = embedding.positions.num_embeddings if learned else None
        self.dtype: Literal["float32", "bf16"] = dtype
        self.cuts = not tape.state_floats and set(tape.page_floats) <= {None}
        self.n_undo = UNDO  # tokens of the last run that any text can be cut by
        self.capacity_bytes = capacity_bytes
        self.digest = _digest(model, dtype)
        self._forward = machine.machine()
        self._x, self._room = empty(0), empty(0)
        self._turns, self._n_turns = empty(1), 0
        self._tapes: dict[tuple[int | None, bool], tuple[Any, Any]] = {}
        self._workers: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        return self._memory.budget.used

    def bytes_of(self, n: int) -> tuple[int, int]:
        """Of a text of n tokens: at rest, and at most, while it is run token by token."""
        memory, rest, more = self._memory, 0, 0
        for group in memory.groups:
            pages = -(-n // PAGE)
            if group.window is not None:  # see Held.forget_pages
                gone = max(0, n + 1 - UNDO - group.window) // PAGE
                pages, more = pages - gone, more + group.pool.n_bytes
            rest += pages * group.pool.n_bytes
        if memory.states is not None:
            rest, more = rest + memory.states.n_bytes, more + 2 * memory.states.n_bytes
        return rest, rest + more

    def text(self) -> Held:
        """An empty one."""
        return Held(self._memory)

    def run(
        self, pieces: Sequence[Piece], *, depth: int | None = None, threads: int = 1
    ) -> list[F32]:
        """Append each piece's tokens to its text; see Program."""
        with self._lock:
            texts = self._check(pieces, depth)
            self._check_room(texts, pieces, is_whole=depth is None)
            found: list[list[F32]] = [[] for _ in pieces]
            for batch in self._batches(texts, pieces):
                logits = self._pass([part for _, part in batch], depth, threads)
                at = 0
                for i, part in batch:
                    if part.n_wanted:
                        found[i].append(logits[at : at + part.n_wanted])
                        at += part.n_wanted
            return [self._joined(logits) for logits in found]

    def _joined(self, logits: list[F32]) -> F32:
        if len(logits) == 1:
            return logits[0]
        return np.concatenate(logits) if logits else np.empty((0, self.vocab), np.float32)

    def _check(self, pieces: Sequence[Piece], depth: int | None) -> list[Held]:
        if depth is not None and not 1 <= depth <= self.n_layers:
            raise InputError(f"depth={depth}. Wanted 1 to {self.n_layers}, the model's layers.")
        texts: list[Held] = []
        for piece in pieces:
            text, n = piece.text, len(piece.ids)
            if not isinstance(text, Held) or text._memory is not self._memory or not text.is_open:
                raise InputError("a piece of a text that is not this program's, or was freed.")
            if n == 0 or not 0 <= piece.n_wanted <= n:
                raise InputError(f"{n} tokens, logits of {piece.n_wanted}. Wanted 1, and 0 to {n}.")
            if min(piece.ids) < 0 or max(piece.ids) >= self.vocab:
                raise InputError(f"a token outside 0 to {self.vocab - 1}, the model's vocab.")
            if self.context is not None and text.n + n > self.context:
                raise InputError(
                    f"position {text.n + n} is past the last learned one, {self.context}."
                )
            texts.append(text)
        if len({id(text) for text in texts}) < len(texts):
            raise InputError("two pieces of one text in a batch. Wanted them joined.")
        return texts

    def _check_room(
        self, texts: Sequence[Held], pieces: Sequence[Piece], *, is_whole: bool
    ) -> None:
        """Raises PoolFull where the pieces might not fit."""
        memory, need = self._memory, 0
        for text, piece in zip(texts, pieces, strict=True):
            pages = text.room_for(len(piece.ids))
            for group, n in zip(memory.groups, pages, strict=True):
                if group.window is not None:
                    n = min(n, (group.window + UNDO + MOST_ROWS) // PAGE + 3)
                need += n * group.pool.n_bytes
            if memory.states is not None:
                spare = text.n_spare if is_whole else 0  # given back before new ones are taken
                need += memory.states.n_bytes * max(0, _n_states(len(piece.ids)) - spare)
        if need > memory.budget.free:
            raise PoolFull(
                f"{need} bytes for the new tokens, and {memory.budget.free} of "
                f"{memory.budget.capacity} are free. Free a text, or wait for one to end."
            )

    def _batches(
        self, texts: Sequence[Held], pieces: Sequence[Piece]
    ) -> list[list[tuple[int, _Part]]]:
        """The pieces in order, cut so that no pass has more rows than it should."""
        batches: list[list[tuple[int, _Part]]] = []
        room = 0
        for i, (text, piece) in enumerate(zip(texts, pieces, strict=True)):
            n, at = len(piece.ids), 0
            while at < n:
                if room == 0:
                    batches.append([])
                    room = MOST_ROWS
                here = min(room, n - at)
                wanted = max(0, min(here, at + here - (n - piece.n_wanted)))
                ids = piece.ids[at : at + here]
                batches[-1].append((i, _Part(text, ids, wanted, n <= UNDO)))
                at, room = at + here, room - here
        return batches

    def _pass(self, parts: Sequence[_Part], depth: int | None, threads: int) -> F32:
        """(wanted, V)"""
        M = sum(len(part.ids) for part in parts)
        n_groups = len(self._memory.groups)
        rows = np.empty((FIXED + n_groups, M), np.int64)
        wanted: list[int] = []
        ends, row = [0], 0
        tables: list[NDArray[np.int64]] = []
        for i, part in enumerate(parts):
            end = row + len(part.ids)
            self._place(rows[:, row:end], part, i, depth is None)
            wanted += range(end - part.n_wanted, end)
            ends.append(end)
            row = end
        begins, at = [], 0
        for g in range(n_groups):
            for part in parts:
                n = len(part.text.pages[g])
                tables.append(part.text.table[g][:n])
                begins.append(at)
                at += n
        longest = int(rows[1].max()) + 1
        self._make_room(M, longest, threads)
        tape, numbers = self._tape_of(depth, bool(wanted))
        room = len(self._room) // threads // 16 * 16
        meta = [M, M, len(parts), self._stride, int(self._is_half), room, n_groups, 0]
        fixed = (
            tape, numbers, self._full, self._halves, self._memory.arena, self._x, self._room, rows,
            np.array(wanted, np.int64),
            np.concatenate(tables) if tables else rows[0], np.array(meta + ends + begins, np.int64),
            self._turns, np.zeros(1, np.int64),
        )  # fmt: skip
        self._go(fixed, threads)
        for part in parts:
            part.text.advance(len(part.ids))
            part.text.forget_pages()
        base, stride = self._logits.base * M, self._logits.stride
        found = self._x[base : base + len(wanted) * stride].reshape(len(wanted), stride)
        return found[:, : self.vocab].copy()

    def _place(self, rows: NDArray[np.int64], part: _Part, i: int, is_whole: bool) -> None:
        """Fill in the rows of one text, after making room for them."""
        text, n = part.text, len(part.ids)
        text.grow(n)
        rows[0], rows[2] = part.ids, i
        positions = rows[1]
        positions[:] = range(text.n, text.n + n) if n > 1 else text.n
        for g in range(len(self._memory.groups)):
            rows[FIXED + g] = text.table[g][positions // PAGE] if n > 1 else text.pages[g][-1]
        if self._memory.states is None:
            rows[3:5] = 0
            return
        if is_whole:
            text.forget_states()
        old = text.states[-1][1]
        if part.keeps:
            places = [self._memory.states.take() for _ in range(n)]
            text.states += [(text.n + 1 + j, at) for j, at in enumerate(places)]
        else:
            pair = [self._memory.states.take(), self._memory.states.take()]
            places = [pair[(n - 1 - j) % 2] for j in range(n)]
            text.states += [(GONE_STATE, pair[1]), (text.n + n, pair[0])]
            text.forget_states()
        rows[4] = places
        rows[3] = [old, *places[:-1]]

    def _make_room(self, M: int, longest: int, threads: int) -> None:
        if len(self._x) < M * self._row_floats:
            self._x = empty(M * self._row_floats)
        scores = aligned(self._room_floats + aligned(longest) + 2 * PAGE)
        room = max(scores, aligned(M * (self._widest // 2 + 1))) * threads
        if len(self._room) < room:
            self._room = empty(2 * room)
        if self._stride and self._n_turns < longest:
            self._n_turns = max(SHORTEST, 1 << (longest - 1).bit_length())
            self._turns = _angles(self._turn_tables, self._n_turns, self._is_half)

    def _tape_of(self, depth: int | None, has_head: bool) -> tuple[Any, Any]:
        key = (depth, has_head)
        if key not in self._tapes:
            kept = np.zeros(len(self._tape), bool)
            kept[: self._begins[depth if depth is not None else -1]] = True
            kept[self._begins[-1] :] = has_head
            self._tapes[key] = (self._tape[kept].copy(), self._numbers[kept].copy())
        return self._tapes[key]

    def _go(self, fixed: tuple[Any, ...], threads: int) -> None:
        if threads == 1:
            self._forward(*fixed, 0, 1)
            return
        if self._workers is None or self._workers._max_workers < threads - 1:
            self._workers = ThreadPoolExecutor(threads - 1, "numerics")
        go = partial(self._forward, *fixed)
        others = [self._workers.submit(go, i, threads) for i in range(1, threads)]
        self._forward(*fixed, 0, threads)
        for other in others:
            other.result()


GONE_STATE = -1  # tokens of a state that nothing is cut back to


def _n_states(n: int) -> int:
    return n if n <= UNDO else 3


@lru_cache(maxsize=16)
def _angles_of(D: int, base: float, n: int, is_half: bool) -> F32:
    """(n, D): cosines, then sines, of the model's own table."""
    dtype = torch.bfloat16 if is_half else torch.float32
    cos, sin = rotary_table(D, n, base, dtype, torch.device("cpu"))
    half = D // 2
    found: F32 = torch.cat((cos[:, :half], sin[:, half:]), 1).float().numpy()
    return found


def _angles(tables: Sequence[tuple[int, float]], n: int, is_half: bool) -> F32:
    parts = [_angles_of(D, base, n, is_half) for D, base in tables]
    return np.ascontiguousarray(np.concatenate(parts, 1)).ravel()


def _digest(model: Model, dtype: str) -> str:
    state = hashlib.sha256(f"{resolved(model.spec).hash} {dtype} {machine.version()}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        state.update(name.encode())
        state.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
