"""What every mixer, channel mixer and norm must do. Subclass it, and say which part it is of.

    class TestMyMixer(PartContract):
        kind, spec, width = "mixer", PartSpec(part="my_mixer", fields={"n_heads": 2}), 16

It needs pytest, and is imported by tests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mendel.parts.part import Kind, Part, State, make, resolve
from mendel.spec import ModelSpec, PartSpec, SpecError

LENGTHS = (1, 2, 7, 33, 64, 100)
Run = tuple[Tensor, State]


@contextmanager
def one_seed(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def warnings_said_each_time() -> Iterator[None]:
    """Else torch says some only once, and which test hears it depends on their order."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        yield
    finally:
        torch.set_warn_always(before)


def near(got: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """The largest difference, relative to the largest value wanted or to 1, is in tolerance."""
    assert got.shape == wanted.shape, f"{what}: got {got.shape}, wanted {wanted.shape}"
    if not got.numel():
        return
    gap = (got.double() - wanted.double()).abs().max() / wanted.double().abs().max().clamp(min=1)
    assert gap <= tolerance, f"{what}: differs by {gap:.2e}, wanted {tolerance:.0e} at most"


def same_state(got: State, wanted: State, tolerance: float) -> None:
    assert got.keys() == wanted.keys(), f"state: got {list(got)}, wanted {list(wanted)}"
    for name, value in wanted.items():
        near(got[name], value, tolerance, f"state {name}")


def project(y: Tensor, state: State) -> Tensor:
    """One number that depends on every output and on every number of the state."""
    seen = [y, *(s for _, s in sorted(state.items()) if s.is_floating_point())]
    flat = torch.cat([s.flatten().double() for s in seen])
    return (flat * torch.arange(1.0, len(flat) + 1).square().cos()).sum()


def _without_state(part: Part) -> Callable[[Tensor], Run]:
    return lambda x: (part(x)[0], {})


class PartContract:
    """Sizes, and how far results may be apart; a subclass overrides what it must."""

    kind: Kind
    spec: PartSpec
    width: int = 16
    tolerance: ClassVar[dict[torch.dtype, float]] = {torch.float64: 1e-9, torch.float32: 1e-4}
    bf16_tolerance: float = 0.06  # 8 digits, in 2 to 4 products one after another

    def build(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> Part:
        """The part, moved a little from its start, where gains are 1 and gates all open."""
        with one_seed(seed):
            part: Part = make(self.kind, self.spec, self.width)
            with torch.no_grad():
                for p in part.parameters():
                    p.add_(torch.randn_like(p), alpha=0.1)
        return part.to(dtype)

    def input(self, B: int, T: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
        with one_seed(seed):
            return torch.randn(B, T, self.width, dtype=torch.float64).to(dtype)

    def in_pieces(self, part: Part, x: Tensor, lengths: list[int]) -> Run:
        outputs, state = [], None
        for piece in x.split(lengths, 1):
            y, state = part(piece, state)
            outputs.append(y)
        assert state is not None
        return torch.cat(outputs, 1), state

    def gradients(self, part: Part, x: Tensor, run: Callable[[Tensor], Run]) -> dict[str, Tensor]:
        """Of the projected output and state, by every parameter and the input."""
        x = x.clone().requires_grad_()
        names = ["input", *(name for name, _ in part.named_parameters())]
        inputs = [x, *part.parameters()]
        found = torch.autograd.grad(
            project(*run(x)), inputs, allow_unused=True, materialize_grads=True
        )
        return dict(zip(names, found, strict=True))

    def same_gradients(self, part: Part, x: Tensor, run: Any, other: Any, limit: float) -> None:
        got, wanted = self.gradients(part, x, run), self.gradients(part, x, other)
        for name, gradient in wanted.items():
            near(got[name], gradient, limit, f"gradient of {name}")

    # fast and naive

    @pytest.mark.parametrize(("B", "T"), [*((2, T) for T in LENGTHS), (1, 150)])
    def test_fast_equals_naive_in_outputs_state_and_every_gradient(self, B: int, T: int) -> None:
        self.fast_equals_naive(B, T, torch.float64)

    @pytest.mark.parametrize(("B", "T"), [(2, 1), (1, 33), (2, 100)])
    def test_fast_equals_naive_in_float32(self, B: int, T: int) -> None:
        self.fast_equals_naive(B, T, torch.float32)

    def fast_equals_naive(self, B: int, T: int, dtype: torch.dtype) -> None:
        part, x, limit = self.build(dtype), self.input(B, T, dtype), self.tolerance[dtype]
        (y, state), (y_naive, state_naive) = part(x), part(x, naive=True)
        assert y.shape == x.shape and y.dtype == dtype
        near(y, y_naive, limit, "output")
        same_state(state, state_naive, limit)
        self.same_gradients(part, x, part, lambda z: part(z, naive=True), limit)

    # the state

    @pytest.mark.parametrize("naive", [False, True], ids=["fast", "naive"])
    def test_fast_and_naive_go_on_from_each_others_state(self, naive: bool) -> None:
        part, x = self.build(), self.input(2, 33)
        wanted, after = part(x, naive=naive)
        _, state = part(x[:, :20], naive=naive)
        y, state = part(x[:, 20:], state, naive=not naive)
        near(y, wanted[:, 20:], 1e-9, "output")
        same_state(state, after, 1e-9)

    @pytest.mark.parametrize(
        "lengths",
        [[1, 69], [69, 1], [7, 63], [64, 6], [33, 2, 35], [5] * 14],
        ids=lambda lengths: f"{len(lengths)}x{lengths[0]}",
    )
    def test_a_text_in_pieces_equals_the_whole(self, lengths: list[int]) -> None:
        part, x = self.build(), self.input(2, sum(lengths))
        (y, state), (wanted, after) = self.in_pieces(part, x, lengths), part(x)
        near(y, wanted, 1e-9, "output")
        same_state(state, after, 1e-9)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
    def test_one_token_at_a_time_equals_the_whole(self, dtype: torch.dtype) -> None:
        part, x = self.build(dtype), self.input(2, 70, dtype)
        with torch.no_grad():
            (y, state), (wanted, after) = self.in_pieces(part, x, [1] * 70), part(x)
        near(y, wanted, self.tolerance[dtype], "output")
        same_state(state, after, self.tolerance[dtype])

    def test_gradients_flow_through_the_state(self) -> None:
        part, x = self.build(), self.input(2, 33)
        self.same_gradients(part, x, lambda z: self.in_pieces(part, z, [20, 1, 12]), part, 1e-9)

    @pytest.mark.parametrize("T", [1, 9])
    @pytest.mark.parametrize("naive", [False, True], ids=["fast", "naive"])
    def test_a_state_is_not_changed_in_place(self, T: int, naive: bool) -> None:
        part, x = self.build(), self.input(2, 20 + T)
        with torch.no_grad():
            _, state = part(x[:, :20], naive=naive)
            kept, x_kept = {name: s.clone() for name, s in state.items()}, x.clone()
            first, _ = part(x[:, 20:], state, naive=naive)
            again, _ = part(x[:, 20:], state, naive=naive)
        assert state.keys() == kept.keys() and torch.equal(x, x_kept)
        assert all(torch.equal(state[name], s) for name, s in kept.items())
        assert torch.equal(first, again)

    # who may see what

    @pytest.mark.parametrize("t", [1, 16, 39])
    def test_later_tokens_change_nothing_before(self, t: int) -> None:
        part, x = self.build(), self.input(2, 40)
        other = torch.cat((x[:, :t], self.input(2, 40 - t, seed=2)), 1)
        near(part(other)[0][:, :t], part(x)[0][:, :t], 1e-9, f"output before token {t}")

    def test_no_gradient_reaches_a_later_token(self) -> None:
        part, x = self.build(), self.input(2, 40).requires_grad_()
        (gradient,) = torch.autograd.grad(part(x)[0][:, :17].square().sum(), x)
        near(gradient[:, 17:], torch.zeros(2, 23, self.width), 1e-9, "gradient of later tokens")
        assert gradient[:, 16].abs().max() > 0

    def test_a_row_of_the_batch_does_not_see_the_others(self) -> None:
        part, x = self.build(), self.input(3, 40)
        y, state = part(x)
        more, _ = part(x[:, :5], state)
        for b in range(3):
            alone, its = part(x[b : b + 1])
            near(y[b : b + 1], alone, 1e-9, f"row {b}")
            near(more[b : b + 1], part(x[b : b + 1, :5], its)[0], 1e-9, f"row {b}, next piece")

    # numbers

    @pytest.mark.parametrize("how", ["autocast", "cast"])
    def test_bfloat16_is_near_float32(self, how: str) -> None:
        """autocast: float32 weights, as in training. cast: all in bfloat16, as in serving."""
        part = self.build(torch.float32)
        x = self.input(2, 33, torch.bfloat16).float()
        if how == "cast":  # the weights are rounded on both sides: the arithmetic is judged
            part = part.bfloat16().float()
        wanted, _ = part(x)
        if how == "cast":
            part, x = part.bfloat16(), x.bfloat16()
        with (
            warnings_said_each_time(),
            torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"),
        ):
            y, _ = part(x)
            pieces, _ = self.in_pieces(part, x, [20, 1, 12])
            self.gradients(part, x, part)
        assert how == "autocast" or y.dtype == torch.bfloat16
        near(y, wanted, self.bf16_tolerance, "output")
        near(pieces, wanted, self.bf16_tolerance, "output in pieces")

    # torch runs the seeds of an operator without a batching rule in a loop, and says so
    @pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
    def test_two_seeds_in_one_vmapped_run_equal_two_runs(self) -> None:
        parts = [self.build(torch.float32, seed) for seed in (0, 1)]
        if not list(parts[0].parameters()):
            pytest.skip("it has no weights")
        stacked, _ = torch.func.stack_module_state(parts)
        buffers = dict(parts[0].named_buffers())
        xs = torch.stack([self.input(2, 33, torch.float32, seed) for seed in (2, 3)])

        def loss(weights: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            y, _ = torch.func.functional_call(parts[0], {**weights, **buffers}, (x,))
            return project(y, {}), y

        step = torch.func.vmap(torch.func.grad(loss, has_aux=True), randomness="error")
        gradients, outputs = step(stacked, xs)
        limit = self.tolerance[torch.float32]
        for i, (part, x) in enumerate(zip(parts, xs, strict=True)):
            near(outputs[i], part(x)[0], limit, f"output of seed {i}")
            alone = self.gradients(part, x, _without_state(part))
            for name, gradient in gradients.items():
                near(gradient[i], alone[name], limit, f"gradient of {name}, seed {i}")

    @pytest.mark.parametrize("size", [0.0, 1e-4, 1e3], ids=["zeros", "small", "large"])
    def test_outputs_and_gradients_are_finite(self, size: float) -> None:
        part, x = self.build(torch.float32), self.input(2, 33, torch.float32) * size
        y, state = part(x)
        assert y.isfinite().all()
        assert all(s.isfinite().all() for s in state.values())
        for name, gradient in self.gradients(part, x, part).items():
            assert gradient.isfinite().all(), f"gradient of {name}"

    # the spec

    def test_the_spec_comes_back_from_toml(self) -> None:
        field: Any = (self.spec,) if self.kind in ("mixer", "channel") else self.spec
        name = {"mixer": "mixers", "channel": "channels"}.get(self.kind, self.kind)
        model = ModelSpec.parse({"width": self.width, name: field})
        back = ModelSpec.from_toml(model.to_toml())
        assert back.hash == model.hash and back.to_dict() == model.to_dict()

    def test_an_unknown_field_names_the_nearest(self) -> None:
        cls, _ = resolve(self.kind, self.spec)
        for field in cls.Fields.model_fields:
            wrong = PartSpec(part=self.spec.part, fields={**self.spec.fields, f"{field}x": 1})
            with pytest.raises(SpecError, match=f"Did you mean '{field}'"):
                make(self.kind, wrong, self.width)

    def test_what_a_layer_adds_goes_through_out(self) -> None:
        """So that the model can make it small at the start, by that name."""
        if self.kind == "norm":
            pytest.skip("a norm adds nothing")
        part = self.build()
        outs = [m for name, m in part.named_modules() if f".{name}".endswith(".out")]
        assert outs and all(isinstance(m, nn.Linear) for m in outs), "wanted a Linear called out"
        with torch.no_grad():
            for weight in (p for out in outs for p in out.parameters()):
                weight.zero_()
            assert (part(self.input(2, 7))[0] == 0).all()
