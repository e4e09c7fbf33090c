"""Convolutions: what the contract of parts does not say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import mendel.parts.menu  # noqa: F401
from mendel.parts.contract import near, one_seed
from mendel.parts.convolution import (
    causal_convolve,
    causal_convolve_naive,
    fast_length,
    identity_filters,
)
from mendel.parts.part import State, make
from mendel.spec import PartSpec, SpecError

pytestmark = pytest.mark.usefixtures("one_thread")


class Calls(TorchDispatchMode):
    """The names of the operators that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.names.append(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def part(name: str, width: int = 8, **fields: Any) -> Any:
    with one_seed(0):
        return make("mixer", PartSpec(part=name, fields=fields), width)


def text(B: int, T: int, C: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 4), st.integers(1, 24)),
    with_state=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_size_equals_the_definition_and_torchs_convolution(
    sizes: tuple[int, int, int, int], with_state: bool, dtype: torch.dtype
) -> None:
    B, T, C, K = sizes
    x, past, filters = text(B, T, C).to(dtype), text(B, K - 1, C, 2).to(dtype), text(1, C, K, 3)[0]
    state = past if with_state else None
    y, after = causal_convolve(x, filters.to(dtype), state)
    wanted, its = causal_convolve_naive(x, filters.to(dtype), state)
    limit = 1e-12 if dtype == torch.float64 else 1e-5
    near(y, wanted, limit, "output")
    assert torch.equal(after, its) and after.shape == (B, K - 1, C)
    before = past if with_state else torch.zeros_like(past)
    whole = torch.cat((before, x), 1).transpose(1, 2)
    torchs = F.conv1d(whole, filters.to(dtype)[:, None], groups=C).transpose(1, 2)
    near(y, torchs, limit, "output")


@pytest.mark.parametrize("K", [3, 9])
def test_gradients_and_their_gradients_are_those_of_finite_differences(K: int) -> None:
    inputs = [text(2, 11, 2).double(), text(1, 2, K, 3)[0].double(), text(2, K - 1, 2, 2).double()]
    for given_ in (inputs[:2], inputs):
        given_ = [x.requires_grad_() for x in given_]
        assert torch.autograd.gradcheck(causal_convolve, given_)
        assert torch.autograd.gradgradcheck(causal_convolve, given_)


@pytest.mark.parametrize("K", [1, 4, 63])
def test_filters_that_start_as_the_identity_change_nothing(K: int) -> None:
    x = text(2, 40)
    y, _ = causal_convolve(x, identity_filters(8, K, noise=0.0))
    near(y, x, 1e-6, "output")
    started = part("multi_scale_fir", kernels=[K]).filters[0]
    assert (started[:, -1] == 1).all() and started[:, :-1].abs().sum() < 0.1 * started.numel()


def test_a_fast_length_is_the_next_product_of_2_3_and_5() -> None:
    def smooth(n: int) -> bool:
        for p in (2, 3, 5):
            while n % p == 0:
                n //= p
        return n == 1

    for n in range(1, 3000):
        assert fast_length(n) == next(m for m in range(n, 2 * n + 1) if smooth(m))


@pytest.mark.parametrize("K", [4, 63])
def test_a_step_of_one_token_is_a_dot_product(K: int) -> None:
    with Calls() as calls, torch.no_grad():
        causal_convolve(text(2, 1), text(1, 8, K)[0], text(2, K - 1))
    heavy = [name for name in calls.names if "fft" in name or "conv" in name]
    assert not heavy and {"mul", "sum", "cat"} <= set(calls.names) and len(calls.names) < 12


def test_one_filter_serves_all_branches_that_are_mixed_by_learned_numbers() -> None:
    mixer, x = part("multi_scale_fir"), text(2, 80)
    with Calls() as calls, torch.no_grad():
        y, _ = mixer(x)
    assert calls.names.count("_fft_r2c") == 2 and "convolution" not in calls.names
    with torch.no_grad():
        branches = [causal_convolve_naive(mixer.value(x), f)[0] for f in mixer.filters]
        near(y, mixer.out(torch.stack(branches).mean(0)), 1e-5, "output")


def test_each_head_mixes_its_branches_by_its_own_weights() -> None:
    mixer, x = part("multi_scale_fir", kernels=[1, 5], n_heads=2), text(1, 20)
    with torch.no_grad():
        mixer.weights.copy_(torch.tensor([[30.0, -30.0], [-30.0, 30.0]]))
        mixer.out.weight.copy_(torch.eye(8))
        one, five = (causal_convolve(mixer.value(x), f)[0] for f in mixer.filters)
        y, _ = mixer(x)
    near(y, torch.cat((one[..., :4], five[..., 4:]), -1), 1e-5, "output")


def test_short_conv_is_its_formula_in_torchs_own_layers() -> None:
    mixer, x = part("short_conv", kernel=3, act="silu"), text(2, 20)
    value = F.pad(F.linear(x, mixer.value.weight), (0, 0, 2, 0)).transpose(1, 2)
    y = F.silu(F.conv1d(value, mixer.filters[:, None], groups=8).transpose(1, 2))
    wanted = F.linear(F.linear(x, mixer.gate.weight) * y, mixer.out.weight)
    near(mixer(x)[0], wanted, 1e-5, "output")


def test_hyena_is_the_formula_of_its_paper() -> None:
    """Poli 2023, order 2, as its authors' code does it: fftconv(u, k, D) of twice the length."""
    mixer, x = part("hyena", length=40, kernel=3), text(2, 40)
    z = F.pad(mixer.project(x), (0, 0, 2, 0)).transpose(1, 2)
    x1, x2, v = F.conv1d(z, mixer.short[:, None], groups=24).split(8, 1)
    u, k = v * x2, mixer.filter().flip(1)
    y = torch.fft.irfft(torch.fft.rfft(u, n=80) * torch.fft.rfft(k, n=80), n=80)[..., :40]
    wanted = mixer.out(((y + u * mixer.skip[:, None]) * x1).transpose(1, 2))
    near(mixer(x)[0], wanted, 1e-5, "output")


def test_hyena_forgets_what_is_older_than_its_filter() -> None:
    mixer, x = part("hyena", length=10, kernel=3), text(1, 40)
    other = x.clone()
    other[:, 5] += 1
    changed = (mixer(x)[0] - mixer(other)[0]).abs().amax((0, 2)) > 1e-4
    assert changed[5:10].any() and not changed[5 + 10 + 3 - 1 :].any()


def test_a_hyena_filter_has_unit_energy_and_fades_sooner_in_the_first_channels() -> None:
    h = part("hyena", 64, length=256).filter()
    assert 0.3 < h.square().sum(1).mean() < 3
    old = (h[:, :128].square().sum(1) / h.square().sum(1)).tolist()  # the newest tap is last
    assert sum(old[:16]) < 0.1 * sum(old[-16:])


def test_a_hyena_filter_is_made_once_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, state = part("hyena", length=16), None
    made = []
    compute = mixer.filter.forward
    monkeypatch.setattr(mixer.filter, "forward", lambda: made.append(1) or compute())
    for t in range(20):
        _, state = mixer(text(2, 1, seed=t), state)
    assert made == [1]


@pytest.mark.parametrize("name", ["short_conv", "multi_scale_fir", "hyena"])
def test_the_state_does_not_grow_with_the_text(name: str) -> None:
    mixer = part(name)

    def sizes(state: State) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in state.items()}

    with torch.no_grad():
        first, long = mixer(text(2, 1))[1], mixer(text(2, 400))[1]
    assert sizes(first) == sizes(long)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("short_conv", {"kernel": 0}, "kernel=0"),
        ("multi_scale_fir", {"kernels": []}, "kernels"),
        ("multi_scale_fir", {"kernels": [3, 0]}, "kernels.1=0"),
        ("multi_scale_fir", {"n_heads": 3}, "Set n_heads=2 or width=9"),
        ("hyena", {"lenght": 64}, "Did you mean 'length'"),
    ],
)
def test_bad_fields_are_named(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        part(name, **fields)
