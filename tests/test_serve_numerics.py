"""The server's exact kernels: bits that no batch, cut, fork or thread changes, close to torch's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import pytest
import torch

from mendel.model import build
from mendel.parts import channel
from mendel.serve import numerics
from mendel.serve.numerics import machine, ops, rows, tiles, together
from mendel.serve.numerics.kernels import MOST_ROWS, Kernels
from mendel.serve.numerics.mixing import PAGE
from mendel.serve.numerics.pool import aligned, empty
from mendel.serve.numerics.tape import Tape
from mendel.serve.numerics.text import UNDO
from mendel.serve.protocols import F32, Piece, PoolFull, Text
from mendel.spec import ModelSpec
from mendel.types import InputError

pytestmark = pytest.mark.usefixtures("one_thread")

WINDOW: dict[str, Any] = {"part": "attention", "window": 20}
RICH: dict[str, Any] = {
    "part": "attention", "n_heads": 6, "n_kv_heads": 2, "head_dim": 10, "qk_norm": True, "conv": 3,
}  # fmt: skip
STATES = [
    "linear_attention", "retnet", "gla", "mamba2", "delta_net", "delta_net_signed",
    "gated_delta_net", "delta_product", "kimi_delta", "rwkv7", "short_conv", "multi_scale_fir",
    "hyena",
]  # fmt: skip
MIXERS: list[Any] = [
    "attention", "multi_query", WINDOW, RICH, *STATES,
    {"part": "recurrence", "feature": "softmax", "rotary": True, "erase": "delta", "n_steps": 3},
    {"part": "recurrence", "feature": "relu", "key_dim": 8, "value_dim": 20, "decay": "learned"},
    {"part": "short_conv", "act": "silu", "kernel": 1},
    {"part": "multi_scale_fir", "mix": "token", "kernels": (1, 3, 9)},
    "routed",
    {"part": "routed", "gate": "sigmoid", "conv": 0, "n_heads": 3, "retention": True},
    {"part": "routed", "gate": "floor", "rescale": True, "beta_max": 2.0, "long": 9},
    {"part": "routed", "gate": "staged", "short": 1},
]  # fmt: skip
HYBRID = [RICH, "gated_delta_net", WINDOW, "rwkv7"]
CLOSE = {"float32": 1e-4, "bf16": 0.1}  # of logits with a deviation of 1
DTYPES = ["float32", "bf16"]


@lru_cache(maxsize=64)
def made(mixers: str, dtype: Any, **fields: Any) -> tuple[Kernels, Any]:
    """A small model with no number at its start, as exact kernels and as torch's of that dtype."""
    spec = {"width": 48, "n_layers": 3, "context": 64, "vocab": 101, "mixers": eval(mixers)}
    model = build(ModelSpec.parse(spec | fields), seed=1)
    torch.manual_seed(2)
    for p in model.parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p.data, mean=float(p.data.mean()), std=0.1)
    model = model.to(torch.float32 if dtype == "float32" else torch.bfloat16)
    found = numerics.program(model, dtype=dtype, capacity_bytes=1 << 24)
    found.threads.least_us = 0  # as many threads as are asked, though it is small
    return found, model


def program(mixers: Sequence[Any] | str, dtype: Any = "float32", **fields: Any) -> Kernels:
    return made(repr([mixers] if isinstance(mixers, str | dict) else mixers), dtype, **fields)[0]


def tokens(n: int, seed: int = 0) -> list[int]:
    found: list[int] = np.random.default_rng(seed).integers(0, 101, n).tolist()
    return found


def whole(p: Kernels, ids: Sequence[int]) -> F32:
    text = p.text()
    logits = p.run([Piece(text, ids, len(ids))])[0]
    text.free()
    return logits


def same(a: F32, b: F32) -> bool:
    return a.shape == b.shape and bool((a.view(np.int32) == b.view(np.int32)).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("K", "N"), [(1, 1), (7, 65), (48, 130), (129, 64)])
def test_a_row_of_a_product_has_the_same_bits_beside_any_others(K: int, N: int, dtype: Any) -> None:
    torch.manual_seed(K * N)
    kind = torch.float32 if dtype == "float32" else torch.bfloat16
    x, weight = torch.randn(33, K).to(kind).float(), torch.randn(N, K).to(kind)
    tape = Tape(dtype == "bf16")
    inputs = tape.register("x", K)
    out = tape.multiply(inputs, [weight], "y", torch.ones(N))
    operations, _, full, halves = tape.arrays()
    room = np.zeros(33 * (K + 1), np.float32)

    def product(some: F32, n_threads: int = 1) -> F32:
        M = len(some)
        rows = np.zeros(M * tape.row_floats, np.float32)
        rows[: M * inputs.stride].reshape(M, -1)[:, :K] = some
        for i in range(n_threads):
            machine.multiply(
                operations[0], rows, full, halves, room, 0, M, M, i, n_threads, tape.is_half
            )
        return rows[M * out.base :].reshape(M, out.stride)[:, :N].copy()

    alone = np.concatenate([product(x[i : i + 1].numpy()) for i in range(33)])
    exact = (x.double() @ weight.double().t() + 1).numpy()
    assert np.allclose(alone, exact, rtol=1e-5 if dtype == "float32" else 2**-8, atol=1e-4)
    for M in range(1, 34):
        assert same(product(x[:M].numpy(), 1 + M % 3), alone[:M]), M


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mixer", MIXERS, ids=str)
def test_every_mixer_gives_what_torch_gives_and_no_cut_changes_a_bit(
    mixer: Any, dtype: Any
) -> None:
    p, model = made(repr([mixer]), dtype)
    ids = tokens(70)
    with torch.inference_mode():
        wanted = model(torch.tensor([ids]))[0][0].float().numpy()
    logits = whole(p, ids)
    rounding = np.sqrt(np.square(logits - wanted).mean()) / wanted.std()
    assert rounding < CLOSE[dtype]
    text, at = p.text(), 0
    for n in (1, 7, 1, 16, 3, 20, 1, 21):
        piece = p.run([Piece(text, ids[at : at + n], n)], threads=1 + n % 2)[0]
        assert same(piece, logits[at : at + n]), (at, n)
        at += n
    text.free()
    assert p.n_bytes == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_of_a_text_do_not_depend_on_the_batch(dtype: Any) -> None:
    p = program(HYBRID, dtype, n_layers=4)
    texts = [tokens(n, seed=n) for n in (3, 40, 17, 1, 64, 33)]
    alone = [whole(p, ids) for ids in texts]
    held = [p.text() for _ in texts]
    at = [0] * len(texts)
    rng = np.random.default_rng(5)
    while any(a < len(ids) for a, ids in zip(at, texts, strict=True)):
        going = [i for i, ids in enumerate(texts) if at[i] < len(ids) and rng.random() < 0.7]
        sizes = [min(int(rng.integers(1, 24)), len(texts[i]) - at[i]) for i in going]
        pieces = [
            Piece(held[i], texts[i][at[i] : at[i] + n], n)
            for i, n in zip(going, sizes, strict=True)
        ]
        for i, n, logits in zip(going, sizes, p.run(pieces), strict=True):
            assert same(logits, alone[i][at[i] : at[i] + n]), (i, at[i], n)
            at[i] += n
    for text in held:
        text.free()
    assert p.n_bytes == 0


def test_a_batch_of_more_rows_than_a_pass_takes_is_as_its_texts_alone() -> None:
    p = program(HYBRID, n_layers=4)
    texts = [tokens(n, seed=n) for n in (150, 2, 300, 45)]
    held = [p.text() for _ in texts]
    assert sum(map(len, texts)) > 2 * MOST_ROWS
    pairs = zip(held, texts, strict=True)
    found = p.run([Piece(text, ids, 30 if len(ids) > 30 else 0) for text, ids in pairs])
    for ids, logits in zip(texts, found, strict=True):
        assert same(logits, whole(p, ids)[-30:] if len(ids) > 30 else logits[:0])
    for text in held:
        text.free()


@pytest.mark.parametrize("mixers", [["attention"], HYBRID], ids=["attention", "hybrid"])
def test_forks_share_memory_and_go_on_alone(mixers: list[Any]) -> None:
    p = program(mixers)
    prefix, one, two = tokens(37), tokens(9, 1), tokens(11, 2)
    first = p.text()
    p.run([Piece(first, prefix)])
    before = p.n_bytes
    second = first.fork()
    assert p.n_bytes == before and second.n == 37
    a, b = p.run([Piece(first, one, 9), Piece(second, two, 11)])
    assert before < p.n_bytes < 2 * before + 2**20
    assert same(a, whole(p, prefix + one)[37:])
    assert same(b, whole(p, prefix + two)[37:])
    first.free()
    assert same(p.run([Piece(second, one, 9)])[0], whole(p, prefix + two + one)[48:])
    second.free()
    second.free()
    assert p.n_bytes == 0


@pytest.mark.parametrize("mixers", [["attention"], HYBRID, [WINDOW]], ids=str)
def test_tokens_of_the_last_run_can_be_taken_back(mixers: list[Any]) -> None:
    p = program(mixers)
    prefix, draft, real = tokens(50), tokens(UNDO, 1), tokens(6, 2)
    text = p.text()
    p.run([Piece(text, prefix)])
    for kept in (0, 1, 7, UNDO):
        start = text.n
        known = prefix if start == 50 else None
        p.run([Piece(text, draft)])
        text.cut(start + kept)
        assert text.n == start + kept
        if known is not None:
            twin = text.fork()
            logits = p.run([Piece(twin, real, 6)])[0]
            assert same(logits, whole(p, prefix + draft[:kept] + real)[50 + kept :])
            twin.free()
            text.cut(50)
    text.free()
    assert p.n_bytes == 0


def test_a_text_is_cut_where_it_can_be_and_says_where_it_cannot() -> None:
    assert program("attention").cuts
    assert not program(HYBRID).cuts and not program([WINDOW]).cuts
    p = program("attention")
    text, ids = p.text(), tokens(60)
    p.run([Piece(text, ids)])
    text.cut(21)
    assert same(p.run([Piece(text, ids[21:], 39)])[0], whole(p, ids)[21:])
    text.free()
    for mixers in ("gated_delta_net", [WINDOW]):
        p = program(mixers)
        text = p.text()
        p.run([Piece(text, tokens(100))])
        with pytest.raises(ValueError, match="Fork it there"):
            text.cut(30)
        text.cut(0)
        assert same(p.run([Piece(text, ids, 60)])[0], whole(p, ids))
        text.free()


@pytest.mark.parametrize("mixers", [["attention"], HYBRID], ids=["attention", "hybrid"])
def test_a_shallow_run_that_is_taken_back_leaves_no_trace(mixers: list[Any]) -> None:
    p = program(mixers)
    ids, text = tokens(40), p.text()
    p.run([Piece(text, ids[:20])])
    for id in tokens(5, 3):  # guessed one after the other, then all forgotten
        shallow = p.run([Piece(text, [id])], depth=1)[0]
        assert shallow.shape == (1, 101)
    text.cut(20)
    assert same(p.run([Piece(text, ids[20:], 20)])[0], whole(p, ids)[20:])
    text.free()


def test_leaving_after_all_layers_is_the_whole_model() -> None:
    p, text, ids = program("attention"), program("attention").text(), tokens(9)
    assert same(p.run([Piece(text, ids, 9)], depth=3)[0], whole(p, ids))
    text.free()
    text = p.text()
    assert not same(p.run([Piece(text, ids, 9)], depth=2)[0], whole(p, ids))
    text.free()


@pytest.mark.parametrize(
    "fields",
    [
        {"embedding": {"part": "token", "position": "learned", "norm": True}, "tied": True},
        {"norm": {"part": "layer_norm", "bias": True}, "channels": ["gelu"]},
        {"norm": {"part": "rms_norm", "gain": False}, "channels": ["relu2", "geglu"]},
        {"final_norm": False, "channels": []},
        {"channels": [{"part": "gated", "act": "sigmoid", "hidden": 37}], "vocab": 64},
    ],
    ids=str,
)
def test_what_is_around_the_mixers_is_as_torchs(fields: dict[str, Any]) -> None:
    spec = {"width": 40, "n_layers": 2, "context": 64, "vocab": 101, **fields}
    model = build(ModelSpec.parse(spec), seed=4)
    p = numerics.program(model, dtype="float32", capacity_bytes=1 << 22)
    ids = [id % p.vocab for id in tokens(40)]
    with torch.inference_mode():
        wanted = model(torch.tensor([ids]))[0][0].numpy()
    assert np.abs(whole(p, ids) - wanted).max() < 1e-4


def test_a_text_ends_where_learned_positions_do() -> None:
    p = numerics.program(
        build(ModelSpec.parse({"width": 16, "n_layers": 1, "context": 8, "vocab": 9,
              "embedding": {"part": "token", "position": "learned"}})),
        dtype="float32", capacity_bytes=1 << 20,
    )  # fmt: skip
    text = p.text()
    assert p.context == 8
    p.run([Piece(text, [1] * 8)])
    with pytest.raises(InputError, match="past the last learned one, 8"):
        p.run([Piece(text, [1])])
    assert text.n == 8


def test_a_full_pool_refuses_before_anything_is_changed() -> None:
    model = build(ModelSpec.parse({"width": 48, "n_layers": 2, "context": 64, "vocab": 101}))
    p = numerics.program(model, dtype="float32", capacity_bytes=100_000)
    text, ids = p.text(), tokens(40)
    p.run([Piece(text, ids)])
    used = p.n_bytes
    assert 0 < used <= 100_000
    other = p.text()
    with pytest.raises(PoolFull, match="Free a text"):
        p.run([Piece(text, [1]), Piece(other, tokens(200))])
    assert (p.n_bytes, text.n, other.n) == (used, 40, 0)
    twin = text.fork()
    text.free()
    assert p.n_bytes == used
    twin.free()
    assert p.n_bytes == 0


def test_pages_that_no_token_looks_at_any_more_are_given_back() -> None:
    p, all_of_it = program([WINDOW]), program("attention")
    sizes = {}
    for q in (p, all_of_it):
        text = q.text()
        q.run([Piece(text, tokens(600))])
        sizes[q] = q.n_bytes
        text.free()
    pages = -(-600 // PAGE)
    assert sizes[p] <= sizes[all_of_it] * (-(-(20 + UNDO) // PAGE) + 1) / pages
    assert p.n_bytes == 0


def test_keys_and_values_in_bf16_take_half_the_memory() -> None:
    sizes = []
    for dtype in DTYPES:
        p = program("attention", dtype)
        text = p.text()
        p.run([Piece(text, tokens(100))])
        sizes.append(p.n_bytes)
        text.free()
    assert sizes[0] == 2 * sizes[1] > 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 5, 16, 40])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 8])
def test_queries_that_share_a_page_have_the_bits_of_each_alone(
    n_kv_heads: int, window: int | None, dtype: Any
) -> None:
    mixer = {"part": "attention", "n_heads": 8, "n_kv_heads": n_kv_heads, "window": window}
    p = program([mixer], dtype, n_layers=1)
    ids = tokens(67)
    together, text = whole(p, ids), p.text()
    for i, id in enumerate(ids):
        assert same(p.run([Piece(text, [id])])[0][0], together[i]), i
    text.free()
    for size in (2, 3, 4, 5, 13):
        text = p.text()
        for at in range(0, len(ids), size):
            found = p.run([Piece(text, ids[at : at + size], len(ids[at : at + size]))])[0]
            assert same(found, together[at : at + size]), (size, at)
        text.free()


def test_the_state_of_a_recurrence_does_not_grow() -> None:
    p, sizes = program("gated_delta_net"), []
    for n in (40, 640):
        text = p.text()
        p.run([Piece(text, tokens(n))])
        sizes.append(p.n_bytes)
        text.free()
    assert sizes[0] == sizes[1] > 0


@pytest.mark.parametrize("mixers", [["attention"], HYBRID, [WINDOW]], ids=str)
def test_texts_that_share_are_cut_forked_and_freed_as_it_comes_keep_their_bits(
    mixers: list[Any],
) -> None:
    p, rng = program(mixers, n_layers=len(mixers)), np.random.default_rng(7)
    held: list[tuple[Text, list[int]]] = []
    for _ in range(120):
        what = rng.random()
        if (what < 0.25 and len(held) < 6) or not held:
            held.append((p.text(), []))
        elif what < 0.4 and len(held) < 6:
            text, ids = held[int(rng.integers(len(held)))]
            held.append((text.fork(), list(ids)))
        elif what < 0.5:
            held.pop(int(rng.integers(len(held))))[0].free()
        else:
            some = [one for one in held if rng.random() < 0.6]
            news = [tokens(int(rng.integers(1, 30)), seed=int(rng.integers(50))) for _ in some]
            p.run([Piece(text, new) for (text, _), new in zip(some, news, strict=True)])
            for (text, ids), new in zip(some, news, strict=True):
                back = int(rng.integers(len(new) + 1)) if len(new) <= UNDO else 0
                ids += new[: len(new) - back]
                text.cut(len(ids))
    for text, ids in held:
        again = text.fork()
        assert same(p.run([Piece(again, [1, 2], 2)])[0], whole(p, [*ids, 1, 2])[-2:])
        text.free()
        again.free()
    assert p.n_bytes == 0


class Doubled(channel.MLP):
    """A part that nobody made a kernel for."""

    def forward(self, x: Any, state: Any = None, *, naive: bool = False) -> Any:
        y, after = super().forward(x, state, naive=naive)
        return 2 * y, after


def test_a_part_without_a_kernel_and_a_changed_module_are_refused_by_name() -> None:
    doubled: Any = build(ModelSpec.parse({"width": 16, "n_layers": 1, "vocab": 9}))
    doubled.layers[0].channel.__class__ = Doubled
    with pytest.raises(InputError, match="has no exact kernel"):
        numerics.program(doubled, dtype="float32", capacity_bytes=1 << 20)
    model: Any = build(ModelSpec.parse({"width": 16, "n_layers": 1, "vocab": 9}))
    model.layers[0].channel.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="has no exact kernel"):
        numerics.program(model, dtype="float32", capacity_bytes=1 << 20)


def test_wrong_pieces_are_refused() -> None:
    p = program("attention")
    text: Text = p.text()
    wrong = [
        [Piece(text, [])], [Piece(text, [101])], [Piece(text, [-1])], [Piece(text, [1], 2)],
        [Piece(text, [1]), Piece(text, [2])], [Piece(program([WINDOW]).text(), [1])],
    ]  # fmt: skip
    for pieces in wrong:
        with pytest.raises(InputError):
            p.run(pieces)
    with pytest.raises(InputError, match="depth=4"):
        p.run([Piece(text, [1])], depth=4)
    text.free()
    with pytest.raises(InputError, match="freed"):
        p.run([Piece(text, [1])])


def test_the_digest_names_model_and_dtype() -> None:
    spec = ModelSpec.parse({"width": 16, "n_layers": 1, "vocab": 9})

    def digest(dtype: Any, seed: int) -> str:
        return numerics.program(build(spec, seed=seed), dtype=dtype, capacity_bytes=1 << 20).digest

    assert digest("float32", 0) == digest("float32", 0)
    assert len({digest("float32", 0), digest("float32", 1), digest("bf16", 0)}) == 3


def test_exp_and_rounding_are_as_they_should_be() -> None:
    x = np.concatenate([np.linspace(-86, 87, 20001), np.linspace(-1, 1, 999)]).astype(np.float32)
    y = np.array([rows.exp(v) for v in x])
    exact = np.exp(x.astype(np.float64))
    assert np.abs(y / exact - 1).max() < 3e-7
    values = np.concatenate([x, [0.0, -0.0, np.inf, -np.inf, np.nan, 3e38]]).astype(np.float32)
    wanted = torch.from_numpy(values.copy()).to(torch.bfloat16).float().numpy()
    rows.rounded(values)
    assert np.array_equal(values, wanted, equal_nan=True)


def test_arrays_begin_at_a_cache_line() -> None:
    assert all(empty(n).ctypes.data % 64 == 0 for n in (1, 7, 1000))
    assert aligned(17) == 32


VERSION = "from mendel.serve.numerics import machine; print(machine.version())"


def test_the_version_differs_by_the_cpu_that_the_kernels_are_made_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    done = subprocess.run(
        [sys.executable, "-c", VERSION], env={**os.environ, **known}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    found = {machine.version(), done.stdout.decode().strip()}
    assert machine.version.__wrapped__() in found
    monkeypatch.setattr(numba.config, "CPU_NAME", "znver3")  # with the features of this one
    found.add(machine.version.__wrapped__())
    assert len(found) == 3


def test_a_thread_that_waits_long_gives_up_its_core() -> None:
    @numba.njit(nogil=True)
    def waiting(counter: Any) -> Any:
        return together.wait(counter, 2, 0)

    def late(counter: Any) -> tuple[float, float]:
        begin, worked = time.perf_counter(), time.thread_time()
        assert waiting(counter) == 2
        return time.perf_counter() - begin, time.thread_time() - worked

    done = np.zeros(16, np.int64)
    done[0] = 1
    late(done)  # compiles it
    assert done[together.NAPS] == 0  # the other was there already
    counter = np.zeros(16, np.int64)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(late, counter)
        while counter[together.NAPS] < 100:
            time.sleep(0.01)
        counter[0] += 1
        wall, worked = found.result()
    assert counter[0] == 2 and worked < wall / 2


def test_threads_that_do_not_help_are_left_out_for_a_while_and_tried_again() -> None:
    threads = together.Together(lambda *_: None)
    long, short = 2 * together.LEAST_US, together.LEAST_US / 2
    assert [threads.agreed(n, us) for n, us in ((4, long), (4, short), (1, long))] == [4, 1, 1]
    threads.heard(n_naps=0, idle=0.9)  # something else held the first one up
    threads.heard(n_naps=50, idle=0.1)  # the others had nothing to do
    assert threads.agreed(4, long) == 4
    for n_alone in (together.FIRST, 2 * together.FIRST):
        threads.heard(n_naps=50, idle=0.9)
        assert [threads.agreed(4, long) for _ in range(n_alone + 1)] == [1] * n_alone + [4]
    threads.heard(n_naps=0, idle=0.0)
    threads.heard(n_naps=50, idle=0.9)
    assert [threads.agreed(4, long) for _ in range(together.FIRST + 1)][-1] == 4


def test_threads_wait_only_where_one_may_see_what_another_did() -> None:
    p = program("attention")
    codes = p.tape_of(None, True)[0][:, [0, ops.WAITS]].tolist()
    for (one, waits), (two, _) in pairwise(codes):
        if machine.MATMUL in (one, two):
            assert waits, "a product reads all rows and gives each thread columns"
        if (one, two) in ((machine.ADD, machine.NORM), (machine.TURN, machine.ATTEND)):
            assert not waits, "a row is the same thread's in both"
    assert 0 < sum(waits for _, waits in codes) < 0.75 * len(codes)
    many = [tokens(n, seed=n) for n in (90, 1, 30)]
    texts = [p.text() for _ in many]
    pieces = [Piece(text, ids, len(ids)) for text, ids in zip(texts, many, strict=True)]
    for ids, logits in zip(many, p.run(pieces, threads=3), strict=True):
        assert same(logits, whole(p, ids))


CHILD = """
import sys; sys.path.insert(0, "tests")
import test_serve_numerics as t
from mendel.serve.numerics import tiles
p = t.program(t.HYBRID, sys.argv[1], n_layers=4)
ids = t.tokens(30)
logits, text, at = t.whole(p, ids), p.text(), 0
for n in (1, 9, 4, 16):
    assert t.same(p.run([t.Piece(text, ids[at : at + n], n)], threads=2)[0], logits[at : at + n])
    at += n
print(tiles.panel_columns(), float(logits[-1].sum()), float(abs(logits).mean()))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cpu", ["generic", "haswell"])
def test_it_works_without_wide_vectors(cpu: str, tmp_path: Any) -> None:
    known = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": "" if cpu == "generic" else "+avx2,+fma"}
    env = {**os.environ, **known, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "float32"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    columns, total, mean = done.stdout.split()
    logits = whole(program(HYBRID, n_layers=4), tokens(30))
    assert int(columns) == 16 <= tiles.panel_columns()
    assert abs(float(mean) - float(np.abs(logits).mean())) < 1e-4
    assert abs(float(total) - float(logits[-1].sum())) < 1e-2
