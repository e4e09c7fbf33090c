"""Optimizers: stacked seeds never meet, states resume bit for bit; budgets are spent exactly."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mendel.spec import SpecError
from mendel.train.optim import (
    AdamW,
    OptimSpec,
    StateError,
    clip,
    make_optimizer,
    orthogonalise,
)
from mendel.train.schedule import FIRST, Budget, BudgetError, Pace, Schedule
from mendel.types import InputError

SHAPES = {
    "tok_emb.weight": (11, 8),
    "block.0.query.weight": (8, 8),
    "block.0.up.weight": (24, 8),
    "block.0.down.weight": (8, 24),
    "block.0.conv.weight": (8, 4),
    "block.0.norm": (8,),
    "lm_head.weight": (11, 8),
}
MATRICES = ("block.0.query.weight", "block.0.up.weight", "block.0.down.weight")
KINDS = ("adamw", "muon")


def tensors(seed: int, n_seeds: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    lead = (n_seeds,) if n_seeds else ()
    return {name: torch.randn(*lead, *shape, generator=rng) for name, shape in SHAPES.items()}


def train(
    spec: OptimSpec, n_seeds: int, steps: range, start: Path | None = None
) -> dict[str, Tensor]:
    """Parameters and state after some steps, from the beginning or from a file."""
    parameters = tensors(0, n_seeds)
    optimizer = make_optimizer(spec, parameters, matrices=MATRICES)
    if start is not None:
        saved = load_file(start)
        for name, value in parameters.items():
            value.copy_(saved[name])
        optimizer.load_state_tensors(saved)
    for step in steps:
        optimizer.step(tensors(100 + step, n_seeds), multiplier=1 - step / 20)
    return parameters | optimizer.state_tensors()


# ---- who changes what


@pytest.mark.parametrize("kind", KINDS)
def test_only_matrices_decay(kind: str) -> None:
    spec = OptimSpec.parse({"kind": kind, "weight_decay": 0.5, "lr": 0.1, "muon_lr": 0.1})
    parameters = tensors(0)
    still = {name: torch.zeros_like(value) for name, value in parameters.items()}
    make_optimizer(spec, parameters, matrices=MATRICES).step(still)
    moved = {n for n, before in tensors(0).items() if not torch.equal(before, parameters[n])}
    assert moved == set(MATRICES)


def test_an_unknown_field_of_an_optimizer_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="momentum"):
        OptimSpec.parse({"momentun": 0.9})


# ---- Muon


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_takes_the_steps_of_torchs_muon(scale: str, nesterov: bool) -> None:
    fields = {"scale": scale, "nesterov": nesterov, "muon_lr": 0.02, "weight_decay": 0.1}
    ours = {name: tensors(0)[name] for name in MATRICES}
    theirs = [torch.nn.Parameter(tensors(0)[name]) for name in MATRICES]
    optimizer = make_optimizer(OptimSpec.parse(fields), ours, matrices=ours)
    peer = torch.optim.Muon(
        theirs, lr=0.02, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn=scale
    )
    for step in range(5):
        grads = tensors(100 + step)
        for name, value in zip(MATRICES, theirs, strict=True):
            value.grad = grads[name]
        optimizer.step(grads)
        peer.step()
    for name, value in zip(MATRICES, theirs, strict=True):
        far = (value.detach() - tensors(0)[name]).norm()
        assert (ours[name] - value.detach()).norm() < 0.02 * far  # both round to bfloat16


@pytest.mark.parametrize("shape", [(8, 8), (3, 32, 8), (2, 3, 8, 32)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_orthogonalised_matrices_have_singular_values_near_one(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 100
    values = torch.linalg.svdvals(orthogonalise(matrices, dtype=dtype, steps=10).float())
    assert float(values.min()) > 0.6 and float(values.max()) < 1.3


def test_a_zero_gradient_is_no_division_by_zero() -> None:
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 6)).float(), torch.zeros(2, 4, 6))


# ---- seeds in one run


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_seeds_are_trained_as_if_each_were_alone(kind: str) -> None:
    spec = OptimSpec.parse({"kind": kind, "dtype": "float32"})
    parameters, n = tensors(0, 3), 3
    optimizer = make_optimizer(spec, parameters, matrices=MATRICES)
    alone = [{name: value[i].clone() for name, value in parameters.items()} for i in range(n)]
    single = [make_optimizer(spec, one, matrices=MATRICES) for one in alone]
    for step in range(4):
        grads = tensors(100 + step, 3)
        optimizer.step(grads)
        for i in range(n):
            single[i].step({name: grad[i].clone() for name, grad in grads.items()})
    for i in range(n):
        for name, value in alone[i].items():
            torch.testing.assert_close(parameters[name][i], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_that_turns_nan_changes_no_other(kind: str) -> None:
    spec = OptimSpec.parse({"kind": kind})
    parameters, grads = tensors(0, 3), tensors(1, 3)
    grads["block.0.up.weight"][1] = math.nan
    norms = clip(grads, 1.0, stacked=True)
    make_optimizer(spec, parameters, matrices=MATRICES).step(grads)
    assert norms.isfinite().tolist() == [True, False, True]
    assert all(value[[0, 2]].isfinite().all() for value in parameters.values())
    assert parameters["block.0.up.weight"][1].isnan().all()


def test_clipped_gradients_have_at_most_the_norm_each_seed_by_its_own() -> None:
    grads = tensors(1, 3)
    for value in grads.values():
        value[2] *= 1e-3
    before = {name: value.clone() for name, value in grads.items()}
    norms = clip(grads, 1.0, stacked=True)
    for i in range(3):
        want = torch.cat([value[i].flatten() for value in before.values()]).norm()
        got = torch.cat([value[i].flatten() for value in grads.values()]).norm()
        torch.testing.assert_close(norms[i], want)
        torch.testing.assert_close(got, want.clamp(max=1.0), rtol=1e-4, atol=1e-6)
        one = {name: value[i].clone() for name, value in before.items()}
        torch.testing.assert_close(clip(one, 1.0), want)
        for name, value in one.items():
            torch.testing.assert_close(value, grads[name][i])


# ---- resuming


@pytest.mark.parametrize("n_seeds", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_five_steps_and_five_after_loading_are_ten_bit_for_bit(
    kind: str, n_seeds: int, tmp_path: Path
) -> None:
    spec = OptimSpec.parse({"kind": kind})
    save_file(train(spec, n_seeds, range(5)), tmp_path / "half.safetensors")
    resumed = train(spec, n_seeds, range(5, 10), start=tmp_path / "half.safetensors")
    whole = train(spec, n_seeds, range(10))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_state_of_another_model_is_refused_by_name() -> None:
    state = make_optimizer(OptimSpec(), tensors(0), matrices=MATRICES).state_tensors()
    with pytest.raises(StateError, match=r"muon\.block\.0\.down\.weight\.momentum has another"):
        make_optimizer(OptimSpec(), tensors(0), matrices=MATRICES).load_state_tensors(
            {**state, "muon.block.0.down.weight.momentum": torch.zeros(2, 2)}
        )
    with pytest.raises(StateError, match="is missing"):
        make_optimizer(OptimSpec(), tensors(0), matrices=MATRICES).load_state_tensors({})


# ---- budgets


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [
        ("10m", "seconds", 600),
        ("90s", "seconds", 90),
        ("1.5 h", "seconds", 5400),
        ("2000steps", "steps", 2000),
        ("2_000 Steps", "steps", 2000),
        ("5e6tokens", "tokens", 5e6),
        ("1e15flops", "flops", 1e15),
    ],
)
def test_a_budget_is_read_as_people_write_it(text: str, kind: str, amount: float) -> None:
    assert Budget.parse(text) == Budget(kind, amount)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    ["", "10", "m", "-1s", "0s", "1e999s", "nan steps", "2.5steps", "10x", "1e15 flips", "1,s2"],
)
def test_what_is_no_budget_is_refused_with_examples(text: str) -> None:
    with pytest.raises(BudgetError, match="2000steps"):
        Budget.parse(text)
    assert issubclass(BudgetError, InputError)


def test_a_misspelt_unit_names_the_nearest() -> None:
    with pytest.raises(BudgetError, match="Did you mean 'flops'"):
        Budget.parse("1e15 flips")


@given(
    st.sampled_from(["seconds", "steps", "tokens", "flops"]),
    st.floats(1e-300, 1e300) | st.integers(1, 10**18).map(float),
)
def test_a_budget_as_text_is_the_same_budget(kind: str, amount: float) -> None:
    budget = Budget(kind, math.ceil(amount) if kind == "steps" else amount)  # type: ignore[arg-type]
    assert Budget.parse(str(budget)) == budget


@given(st.text(max_size=20))
def test_any_text_is_a_budget_or_a_budget_error(text: str) -> None:
    with contextlib.suppress(BudgetError):
        assert 0 < Budget.parse(text).amount < math.inf


# ---- schedules

schedules = st.builds(
    Schedule,
    warmup=st.floats(0, 0.999),
    shape=st.sampled_from(["constant", "linear", "cosine"]),
    final=st.floats(0, 1),
)


@given(schedules, st.floats(0, 1))
def test_a_multiplier_is_a_share_of_the_peak(schedule: Schedule, progress: float) -> None:
    assert 0 <= schedule.multiplier(progress) <= 1 + 1e-12


@given(schedules)
def test_a_schedule_peaks_after_warm_up_and_ends_at_its_final_share(schedule: Schedule) -> None:
    end = 1.0 if schedule.shape == "constant" else schedule.final
    assert math.isclose(schedule.multiplier(1.0), end, abs_tol=1e-9)
    assert math.isclose(schedule.multiplier(schedule.warmup), 1.0)
    assert schedule.multiplier(0.0) == (FIRST if schedule.warmup > 0 else 1.0)


def test_a_linear_schedule_of_steps_is_exactly_one_minus_step_over_steps() -> None:
    pace = Pace(Budget("steps", 1000), Schedule(shape="linear", final=0.0))
    assert list(pace) == [1 - i / 1000 for i in range(1000)]


# ---- pace


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.at = 1e6

    def __call__(self) -> float:
        return self.at


def walk(pace: Pace, clock: Clock, tick_s: float, limit: int = 10**6) -> list[float]:
    given = []
    while len(given) < limit and (multiplier := pace.next()) is not None:
        given.append(multiplier)
        clock.at += tick_s
    return given


@given(st.sampled_from(["tokens", "flops"]), st.floats(1e-3, 1e6), st.floats(1, 1e6))
@settings(max_examples=50)
def test_a_budget_of_work_is_never_overspent_but_for_the_first_step(
    kind: str, per_step: float, n: float
) -> None:
    budget = Budget(kind, per_step * n / 1e3)  # type: ignore[arg-type]
    n_steps = Pace(budget, Schedule(), per_step=per_step).n_steps
    assert n_steps is not None and n_steps >= 1
    assert n_steps == 1 or n_steps * per_step <= budget.amount * (1 + 1e-12)


@given(st.floats(1e-6, 100), st.floats(1e-3, 10), schedules)
@settings(max_examples=50, deadline=None)
def test_a_measured_run_has_a_step_ends_and_is_replayed_exactly(
    budget_s: float, share: float, schedule: Schedule
) -> None:
    clock = Clock()
    pace = Pace(Budget("seconds", budget_s), schedule, now=clock)
    given_then = walk(pace, clock, budget_s * share)
    assert 1 <= len(given_then) <= 1 / share + 3
    record = json.loads(json.dumps(pace.record()))
    assert list(Pace.replay(record)) == given_then
    assert (
        Pace.replay(record).n_steps == len(given_then) == sum(n for _, n in record["multipliers"])
    )


def test_a_resumed_run_goes_on_where_it_was_however_long_it_lay() -> None:
    whole_clock, clock = Clock(), Clock()
    schedule = Schedule(warmup=0.1, shape="linear", final=0.0)
    whole = walk(Pace(Budget("seconds", 8), schedule, now=whole_clock), whole_clock, 0.125)
    first = Pace(Budget("seconds", 8), schedule, now=clock)
    begun = walk(first, clock, 0.125, limit=20)
    record = json.loads(json.dumps(first.record()))
    clock.at += 12345
    second = Pace.resume(record, now=clock)
    assert begun + walk(second, clock, 0.125) == whole and second.done
    assert list(Pace.replay(second.record())) == whole


def test_a_resumed_run_of_steps_has_the_steps_that_are_left() -> None:
    pace = Pace(Budget("steps", 10), Schedule(warmup=0.3))
    begun = [pace.next() for _ in range(4)]
    resumed = Pace.resume(json.loads(json.dumps(pace.record())))
    assert begun + list(resumed) == list(Pace(Budget("steps", 10), Schedule(warmup=0.3)))
    assert resumed.progress == 1.0 and resumed.next() is None


def test_a_long_measured_run_has_a_short_record() -> None:
    clock = Clock()
    pace = Pace(Budget("seconds", 100), Schedule(shape="linear"), now=clock)
    walk(pace, clock, 100 / 300_000)
    assert len(json.dumps(pace.record())) < 2_000_000 and pace.step >= 300_000


def test_a_run_whose_steps_cost_nothing_is_refused() -> None:
    with pytest.raises(BudgetError, match="tokens of one step"):
        Pace(Budget("tokens", 10), Schedule())


@pytest.mark.parametrize("record", [{}, {"budget": "10m"}, {"budget": 3}])
def test_a_record_that_is_none_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Pace.resume(record)
    with pytest.raises(BudgetError, match="cannot be replayed"):
        Pace.replay(Pace(Budget("seconds", 1), Schedule()).record())


def test_a_gradient_that_lies_transposed_in_memory_is_read_rightly() -> None:
    """torch 2.13's fused AdamW on a CPU takes the strides of the parameter for the gradient's."""
    results = []
    for lay in (lambda g: g, lambda g: g.mT.contiguous().mT):
        weight = torch.zeros(3, 5, requires_grad=True)
        optimizer = AdamW({"w": weight}, OptimSpec(kind="adamw", lr=0.1))
        optimizer.step({"w": lay(torch.linspace(-1, 1, 15).view(3, 5))})
        results.append(weight.detach().clone())
    assert torch.equal(*results)
