"""The chunked recurrence against its definition, the named mixers against another's reference."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from mendel.parts import recurrence
from mendel.parts.flops import count_flops
from mendel.parts.recurrence import scan, scan_naive

pytestmark = pytest.mark.usefixtures("one_thread")

Case = dict[str, Tensor]  # the arguments of scan; `p` and `r` for erase
TIES = {
    "linear attention": 1,
    "retnet": 1,
    "mamba2": 1,
    "gla": 1,
    "deltanet": 1,
    "deltanet, b up to 2": 1,
    "deltanet as a pair": 1,
    "gated deltanet": 1,
    "gated deltanet as a pair": 1,
    "kimi delta": 1,
    "rwkv7": 1,
    "deltaproduct 2": 2,
    "deltaproduct 3": 3,
    "gated deltaproduct 2": 2,
    "gated deltaproduct 3 as a pair": 3,
}


def case(
    name: str,
    n_tokens: int,
    dtype: torch.dtype = torch.float64,
    *,
    seed: int = 0,
    B: int = 2,
    H: int = 2,
    D: int = 8,
    V: int = 6,
) -> Case:
    """Random arguments with the ties of the named mixer, and an initial state."""
    g, n = torch.Generator().manual_seed(seed), TIES[name]
    J = n_tokens * n

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    x = {"q": normal(B, H, n_tokens, D) * D**-0.5, "k": normal(B, H, J, D), "v": normal(B, H, J, V)}
    x["state"] = normal(B, H, D, V)
    unit = F.normalize(x["k"], dim=-1)
    if name == "retnet":
        x["log_decay"] = torch.log1p(-(2.0 ** (-5 - torch.arange(H, dtype=torch.float64))))
    if name == "mamba2" or name.startswith("gated"):
        x["log_decay"] = -F.softplus(normal(B, H, n_tokens))
    if name in ("gla", "kimi delta", "rwkv7"):
        x["log_decay"] = F.logsigmoid(normal(B, H, n_tokens, D))
    if name == "mamba2":
        x["write"] = F.softplus(normal(B, H, J))
    if name == "rwkv7":
        x["r"], x["p"] = unit, unit * torch.sigmoid(normal(B, H, J, D))
    if "delta" in name:
        x["k"], x["write"] = unit, torch.sigmoid(normal(B, H, J)) * (2 if "up to 2" in name else 1)
        x["r"] = unit if "log_decay" not in x else _micro_decay(x["log_decay"], n) * unit
    if name.endswith("pair"):
        x["p"] = x["write"][..., None] * x["r"]
        x["r"] = unit
    return {key: value.to(dtype) for key, value in x.items()}


def _micro_decay(log_decay: Tensor, n_steps: int) -> Tensor:
    """a of a token's first micro-step, 1 of the others: (B, H, T*n_steps, 1 | D)"""
    a = (log_decay if log_decay.dim() == 4 else log_decay[..., None]).exp()
    ones = torch.ones_like(a)[:, :, :, None].expand(-1, -1, -1, n_steps - 1, -1)
    return torch.cat([a[:, :, :, None], ones], 3).flatten(2, 3)


def call(function: Callable[..., Any], x: Case, n_steps: int) -> tuple[Tensor, Tensor]:
    x = dict(x)
    p, r = x.pop("p", None), x.pop("r", None)
    q, k, v = x.pop("q"), x.pop("k"), x.pop("v")
    outputs: tuple[Tensor, Tensor] = function(
        q, k, v, erase=r if p is None else (p, r), n_steps=n_steps, **x
    )
    return outputs


def everything(function: Callable[..., Any], x: Case, n_steps: int) -> dict[str, Tensor]:
    """Outputs, final state and the gradient of every argument of a loss that uses both."""
    leaves = {key: value.detach().clone().requires_grad_() for key, value in x.items()}
    out, final = call(function, leaves, n_steps)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    loss = (out * weight).sum() + final.square().sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    named = {f"d_{key}": g for key, g in zip(leaves, gradients, strict=True)}
    return {"out": out.detach(), "final": final.detach(), **named}


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the largest number of each; a log decay's gradient is a difference of the others'
    products with their arguments, so it is relative to the largest of them.
    """
    for key, value in want.items():
        assert torch.isfinite(got[key]).all(), key
        scale = value.abs().max()
        if key.endswith("log_decay"):
            scale = max(other.abs().max() for name, other in want.items() if name[:2] == key[:2])
        error = (got[key].double() - value.double()).abs().max() / (scale + 1e-30)
        assert error < tolerance, (key, float(error))


@pytest.mark.parametrize("n_tokens", [1, 2, 7, 16, 33, 64, 100])
@pytest.mark.parametrize("name", TIES)
def test_the_fast_path_is_the_definition_in_float64(name: str, n_tokens: int) -> None:
    x = case(name, n_tokens)
    want = everything(scan_naive, x, TIES[name])
    assert_same(everything(scan, x, TIES[name]), want, 1e-10)
    del x["state"]
    assert_same(everything(scan, x, TIES[name]), everything(scan_naive, x, TIES[name]), 1e-10)


@pytest.mark.parametrize("n_tokens", [1, 33, 100])
@pytest.mark.parametrize("name", TIES)
def test_float32_is_near_float64(name: str, n_tokens: int) -> None:
    x = case(name, n_tokens, D=32, V=32)
    want = everything(scan_naive, x, TIES[name])
    got = everything(scan, {key: value.float() for key, value in x.items()}, TIES[name])
    assert all(value.dtype == torch.float32 for value in got.values())
    assert_same(got, want, 1e-4)


@pytest.mark.parametrize("name", TIES)
def test_resuming_from_a_state_in_the_middle_equals_the_whole(name: str) -> None:
    n, x = TIES[name], case(name, 50)
    whole, final = call(scan, x, n)
    outputs, state = [], x["state"]
    for start, stop in ((0, 1), (1, 20), (20, 21), (21, 22), (22, 50)):
        part = {"state": state}
        for key, value in x.items():
            if key == "log_decay" and value.dim() == 1:
                part[key] = value
            elif key != "state":
                m = 1 if key in ("q", "log_decay") else n
                part[key] = value[:, :, start * m : stop * m]
        out, state = call(scan, part, n)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, 2), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(state, final, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TIES)
def test_a_long_sequence_in_segments_equals_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = case(name, 100)
    whole = everything(scan, x, TIES[name])
    monkeypatch.setattr(recurrence, "SEGMENT", 2000)
    assert_same(everything(scan, x, TIES[name]), whole, 1e-10)


@pytest.mark.parametrize("name", TIES)
def test_vmap_over_seeds_with_gradients_equals_the_loop(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = [case(name, 40, seed=seed) for seed in range(3)]
    stacked = {key: torch.stack([x[key] for x in seeds]) for key in seeds[0]}

    def loss(x: Case) -> Tensor:
        out, final = call(scan, x, TIES[name])
        return out.sin().sum() + final.square().sum()

    for segment in (recurrence.SEGMENT, 1000):
        monkeypatch.setattr(recurrence, "SEGMENT", segment)
        batched = vmap(grad(loss))(stacked)
        for i, x in enumerate(seeds):
            assert_same({key: value[i] for key, value in batched.items()}, grad(loss)(x), 1e-10)


def test_a_decay_shared_by_the_batch_and_arguments_shared_by_vmap_are_allowed() -> None:
    seeds = [case("retnet", 40, seed=seed) for seed in range(3)]
    shared = seeds[0]["log_decay"]

    def loss(q: Tensor, log_decay: Tensor) -> Tensor:
        out, _ = scan(q, seeds[0]["k"], seeds[0]["v"], log_decay=log_decay)
        return out.sin().sum()

    got = vmap(grad(loss, (0, 1)), (0, None))(torch.stack([x["q"] for x in seeds]), shared)
    for i, x in enumerate(seeds):
        want = grad(loss, (0, 1))(x["q"], shared)
        torch.testing.assert_close((got[0][i], got[1][i]), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_tokens", [1, 40])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gla", "gated deltanet", "rwkv7", "deltaproduct 2"])
def test_half_precision_comes_back_as_it_came_and_is_computed_in_float32(
    name: str, dtype: torch.dtype, n_tokens: int
) -> None:
    x = case(name, n_tokens, dtype)
    out, final = call(scan, x, TIES[name])
    want, want_final = call(scan, {key: value.float() for key, value in x.items()}, TIES[name])
    assert (out.dtype, final.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(out, want.to(dtype))
    torch.testing.assert_close(final, want_final)


def test_autocast_does_not_reach_inside() -> None:
    x = case("gated deltanet", 40, torch.float32)
    want, _ = call(scan, x, 1)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = call(scan, x, 1)
    torch.testing.assert_close(out, want)


def test_views_that_are_not_contiguous_give_the_same() -> None:
    x = case("kimi delta", 50)
    strided = {
        key: value.transpose(1, 2).contiguous().transpose(1, 2) if value.dim() == 4 else value
        for key, value in x.items()
    }
    assert_same(everything(scan, strided, 1), everything(scan, x, 1), 1e-12)


EXTREMES: dict[str, Callable[[Tensor], Tensor]] = {
    "1e-4 at every step": lambda a: torch.full_like(a, 1.0001e-4),
    "1 exactly": torch.ones_like,
    "1 and 1e-4 by turns": lambda a: (
        torch.where(torch.arange(a[0, 0].numel()).view_as(a[0, 0]) % 3 == 0, 1.0, 1.0001e-4) + 0 * a
    ),
    "1, then 1e-4 for long": lambda a: (
        torch.where(torch.arange(a.shape[2]).view(-1, *[1] * (a.dim() - 3)) < 9, 1.0, 1.0001e-4)
        + 0 * a
    ),
}


@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize(
    "name", ["mamba2", "gla", "gated deltanet", "kimi delta", "rwkv7", "gated deltaproduct 2"]
)
def test_extreme_decays_are_exact_and_their_gradients_finite(name: str, extreme: str) -> None:
    x = case(name, 75)
    x["log_decay"] = EXTREMES[extreme](x["log_decay"]).log()
    want = everything(scan_naive, x, TIES[name])
    assert_same(everything(scan, x, TIES[name]), want, 1e-10)
    single = {key: value.float() for key, value in x.items()}
    assert_same(everything(scan, single, TIES[name]), want, 1e-4)


def test_factors_that_overflow_above_the_diagonal_touch_nothing() -> None:
    """16 tokens at the floor: 8 + 7 of them between the first read and the last key."""
    x = case("rwkv7", 16, torch.float32)
    x["log_decay"] = torch.full_like(x["log_decay"], math.log(recurrence.MIN_CHANNEL_DECAY))
    assert torch.isinf(torch.exp(-15 * x["log_decay"])).all()
    assert_same(everything(scan, x, 1), everything(scan_naive, x, 1), 1e-4)


def test_a_channel_decay_below_the_floor_counts_as_the_floor() -> None:
    x = case("gla", 40)
    floor = math.log(recurrence.MIN_CHANNEL_DECAY)
    at_floor = {**x, "log_decay": x["log_decay"].clamp(max=floor)}
    below = {**x, "log_decay": torch.full_like(x["log_decay"], -1000.0)}
    at_floor["log_decay"] = torch.full_like(x["log_decay"], floor)
    for function in (scan, scan_naive):
        torch.testing.assert_close(call(function, below, 1), call(function, at_floor, 1))
    assert not everything(scan, below, 1)["d_log_decay"].any()


@pytest.mark.parametrize("name", ["deltanet, b up to 2", "rwkv7", "deltaproduct 2"])
def test_keys_of_zero_length_do_nothing(name: str) -> None:
    x = case(name, 40)
    for key in ("k", "r", "p"):
        if key in x:
            x[key][:, :, 5:30] = 0
    assert_same(everything(scan, x, TIES[name]), everything(scan_naive, x, TIES[name]), 1e-10)


def test_the_same_key_again_and_again_stays_exact_in_float32() -> None:
    """The worst case of an inverse by powers of M, whose entries would reach 1e13."""
    x = case("deltanet, b up to 2", 96, D=32, V=32)
    x["k"] = x["k"][:, :, :1].expand_as(x["k"]).contiguous()
    x["r"], x["write"] = x["k"], torch.full_like(x["write"], 1.9)
    want = everything(scan_naive, x, 1)
    assert_same(everything(scan, {key: value.float() for key, value in x.items()}, 1), want, 1e-4)


@pytest.mark.parametrize("name", TIES)
def test_a_nan_is_not_hidden(name: str) -> None:
    for key in ("q", "k", "v"):
        x = case(name, 40)
        del x["state"]
        x[key][0, 0, 30] = math.nan
        assert torch.isnan(call(scan, x, TIES[name])[0]).any(), key


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    q, k, v = (case("linear attention", 40)[key].requires_grad_() for key in "qkv")
    (d_q,) = torch.autograd.grad(scan(q, k, v)[0].square().sum(), [q], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        d_q.square().sum().backward()


@pytest.mark.parametrize("part", ["out", "final"])
def test_a_loss_of_the_output_alone_or_of_the_state_alone_has_gradients(part: str) -> None:
    def gradients(function: Callable[..., Any]) -> dict[str, Tensor]:
        leaves = {key: value.requires_grad_() for key, value in case("gated deltanet", 70).items()}
        out, final = call(function, leaves, 1)
        loss = (out if part == "out" else final).square().sum()
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    assert_same(gradients(scan), gradients(scan_naive), 1e-10)


def flops(
    width: int,
    value_width: int | None = None,
    *,
    decay: str = "none",
    erase: str = "none",
    n_steps: int = 1,
) -> tuple[int, int]:
    """FLOPs of `scan` by its algebra, per token and head, forward; and numbers in the state.

    decay  scalar: fixed or from the data.  erase  error: r alone
    cost   the backward pass is about twice the forward; n tokens cost n times as much
    """
    D, V, L = width, width if value_width is None else value_width, recurrence.CHUNK[decay]
    L = L if erase == "none" else max(L // n_steps, 1)
    J = L * n_steps  # micro-steps of a chunk
    chunk = 2 * L * J * (D + V) + 2 * (L + J) * D * V  # M and its reads; the state's reads, writes
    if erase != "none":
        chunk += 4 * J * J * D + 2 * J * J * V + J**3  # M, W and Y, the inverse
        chunk += 2 * J * D * (D + V) + 2 * D * D * V  # T, W S; the chain
    if erase == "pair":
        chunk += 2 * (J + L) * J * (D + V) + 2 * J * D * V
    if decay == "channel":
        chunk += 2 * (L + J + 3 + (J if erase != "none" else 0)) * L * D  # sums of the log decays
    return chunk // L, D * V


@pytest.mark.parametrize(
    ("name", "decay", "erase"),
    [
        ("linear attention", "none", "none"),
        ("mamba2", "scalar", "none"),
        ("gla", "channel", "none"),
        ("deltanet", "none", "error"),
        ("deltanet as a pair", "none", "pair"),
        ("kimi delta", "channel", "error"),
        ("rwkv7", "channel", "pair"),
        ("gated deltaproduct 2", "scalar", "error"),
        ("gated deltaproduct 3 as a pair", "scalar", "pair"),
    ],
)
def test_flops_is_what_the_counter_counts(name: str, decay: Any, erase: Any) -> None:
    x = case(name, 480, torch.float32, D=32, V=16)

    counted = count_flops(lambda: call(scan, x, TIES[name]))
    per_token, n_state = flops(32, 16, decay=decay, erase=erase, n_steps=TIES[name])
    assert n_state == 32 * 16
    assert counted / (2 * 2 * 480) == pytest.approx(per_token, rel=0.02)


def reference(path: str) -> ModuleType:
    """A file of flash-linear-attention by its path: to import its package takes triton."""
    found = importlib.util.find_spec("fla")
    if found is None or importlib.util.find_spec("einops") is None:
        pytest.skip("fla-core and einops are not installed")
    where = Path(next(iter(found.submodule_search_locations or []))) / "ops" / path / "naive.py"
    spec = importlib.util.spec_from_file_location(f"fla_{path.replace('/', '_')}", where)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_peer(got: tuple[Tensor, Tensor], out: Tensor, final: Tensor | None) -> None:
    torch.testing.assert_close(got[0], out, rtol=1e-4, atol=1e-4)
    if final is not None:
        torch.testing.assert_close(got[1], final, rtol=1e-4, atol=1e-4)


def tokens_first(*tensors: Tensor) -> list[Tensor]:
    """(B, H, T, ...) as (B, T, H, ...)"""
    return [x.transpose(1, 2).contiguous() for x in tensors]


def peer_case(name: str) -> tuple[Case, tuple[Tensor, Tensor]]:
    x = case(name, 48, torch.float32, D=16, V=12)
    return x, call(scan, x, TIES[name])


def test_linear_attention_equals_flash_linear_attentions() -> None:
    x, got = peer_case("linear attention")
    f = reference("linear_attn").naive_recurrent_linear_attn
    q, k, v = tokens_first(x["q"], x["k"], x["v"])
    out, final = f(q, k, v, scale=1.0, initial_state=x["state"], output_final_state=True)
    assert_peer(got, *tokens_first(out), final)


def test_retnet_equals_flash_linear_attentions() -> None:
    x = case("retnet", 48, torch.float32)
    del x["state"]
    out = reference("retention").naive_retention(x["q"], x["k"], x["v"])
    assert_peer(call(scan, {**x, "q": x["q"] * 8**-0.5}, 1), out, None)


def test_mamba2_equals_flash_linear_attentions_simple_gla() -> None:
    x, got = peer_case("mamba2")
    q, k, v, g = tokens_first(x["q"], x["k"] * x["write"][..., None], x["v"], x["log_decay"])
    f = reference("simple_gla").naive_recurrent_simple_gla
    out, final = f(q, k, v, g, scale=1.0, initial_state=x["state"])
    assert_peer(got, *tokens_first(out), final)


def test_gla_equals_flash_linear_attentions() -> None:
    x, got = peer_case("gla")
    q, k, v, g = tokens_first(x["q"] * 4, x["k"], x["v"], x["log_decay"])  # it scales q by 16^-1/2
    f = reference("gla").naive_recurrent_gla
    out, final = f(q, k, v, g, initial_state=x["state"], output_final_state=True)
    assert_peer(got, *tokens_first(out), final)


@pytest.mark.parametrize("name", ["deltanet", "deltanet, b up to 2", "deltanet as a pair"])
def test_deltanet_equals_flash_linear_attentions(name: str) -> None:
    x, got = peer_case(name)
    f = reference("delta_rule").delta_rule_recurrence
    assert_peer(got, *f(x["q"] * 4, x["k"], x["v"], x["write"], initial_state=x["state"]))


@pytest.mark.parametrize("name", ["gated deltanet", "gated deltanet as a pair"])
def test_gated_deltanet_equals_flash_linear_attentions(name: str) -> None:
    x, got = peer_case(name)
    f = reference("gated_delta_rule").naive_recurrent_gated_delta_rule
    q, k, v, b, g = tokens_first(*(x[key] for key in ("q", "k", "v", "write", "log_decay")))
    out, final = f(q, k, v, b, g, scale=1.0, initial_state=x["state"], output_final_state=True)
    assert_peer(got, *tokens_first(out), final)


def test_kimi_delta_attention_equals_flash_linear_attentions() -> None:
    x, got = peer_case("kimi delta")
    f = reference("kda").naive_recurrent_kda
    q, k, v, g, b = tokens_first(*(x[key] for key in ("q", "k", "v", "log_decay", "write")))
    out, final = f(q, k, v, g, b, scale=1.0, initial_state=x["state"], output_final_state=True)
    assert_peer(got, *tokens_first(out), final)


@pytest.mark.parametrize("name", [name for name in TIES if "product" in name])
def test_deltaproduct_equals_flash_linear_attentions(name: str) -> None:
    x, got = peer_case(name)
    f = reference("gated_delta_product").naive_recurrent_gated_delta_product
    q, k, v, b = tokens_first(*(x[key] for key in ("q", "k", "v", "write")))
    g = x["log_decay"].transpose(1, 2) if "log_decay" in x else None
    out, final = f(q, k, v, g, b, 1.0, None, x["state"], True, TIES[name])
    assert_peer(got, *tokens_first(out), final)


def test_rwkv7_equals_flash_linear_attentions_dplr() -> None:
    x, got = peer_case("rwkv7")
    f = reference("generalized_delta_rule/dplr").dplr_recurrence
    q, k, v, p, r, g = (x[key] for key in ("q", "k", "v", "p", "r", "log_decay"))
    assert_peer(got, *f(q * 4, k, v, r, -p, g, initial_state=x["state"]))
