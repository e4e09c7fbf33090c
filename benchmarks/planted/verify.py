"""Is each planted fault real, and each sound module sound? By brute force, without the auditor.

    cd benchmarks; python -m planted.verify [--write | PART OF A NAME ...]

One line a case; sizes are of the outputs' standard deviation, on standard normals in float64.
--write keeps what was measured in measured.json, and the cases say it in `why`.
Exit 1 where a fault changes nothing or a sound module is not sound.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import Case
from .faults import FAULTS, MEASURED
from .sound import SOUND

WIDTH, NOISE = 64, 1e-9
FLOAT32_INSIDE = {"norm-in-float32", "softmax-in-float32"}  # and what is Hugging Face's


class Verdict(NamedTuple):
    real: bool
    text: str


Rule = Callable[[Case], Verdict]


def built(case: Case, dtype: torch.dtype = torch.float64, train: bool = False) -> nn.Module:
    torch.manual_seed(0)
    return case.build(WIDTH).to(dtype).train(train)


def inputs(case: Case, B: int, T: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(B, T) tokens or (B, T, C) normals, whatever the case's own order."""
    torch.manual_seed(1)
    if case.input.startswith("tokens"):
        return torch.randint(50, (B, T))
    return torch.randn(B, T, WIDTH).to(dtype)


def call(case: Case, module: nn.Module, x: Tensor, **state: Any) -> tuple[Tensor, Any]:
    """The sequence (B, T, C), and all that the module returned."""
    time_first = case.input.startswith(("float:T", "tokens:T"))
    raw = module(x.transpose(0, 1) if time_first else x, **state)
    y = raw if isinstance(raw, Tensor) else raw[0 if case.output is None else case.output]
    return (y.transpose(0, 1) if time_first else y), raw


@torch.no_grad()
def output(case: Case, module: nn.Module, x: Tensor) -> Tensor:
    return call(case, module, x)[0].clone()


def apart(a: Tensor, b: Tensor) -> float:
    """Largest difference, in standard deviations of b; infinities that agree do not differ."""
    if not b.numel():
        return 0.0
    a, b = a.double(), b.double()
    finite = b[~b.isinf()]
    scale = finite.std().item() if finite.numel() > 1 else 1.0
    return torch.where(a == b, 0.0, (a - b).abs()).max().item() / (scale + 1e-30)


def by_channel(a: Tensor, b: Tensor) -> float:
    """`apart`, where a channel that one of them lacks is 0 in the other."""
    C = max(a.shape[-1], b.shape[-1])
    return apart(*(F.pad(y, (0, C - y.shape[-1])) for y in (a, b)))


# faults


def future_change(
    case: Case,
    T: int = 64,
    scale: float = 1.0,
    train: bool = False,
    loud: float = 1.0,
    token: str = "",
    dtype: torch.dtype = torch.float64,
) -> float:
    """How far outputs before u move when what the last row has from u on is drawn again."""
    module, x, largest = built(case, dtype, train), inputs(case, 2, T, dtype), 0.0
    x = x * scale if x.is_floating_point() else x
    torch.manual_seed(2)
    before = output(case, built(case, dtype, train), x)
    for u in sorted({1, T // 3, T // 2, T - 1} - {0}):
        for one in (False, True):
            other, end = x.clone(), u + 1 if one else T
            if x.is_floating_point():
                other[-1, u:end] = torch.randn_like(x[-1, u:end]) * scale * loud
            elif token:
                other[-1, u:end] = 0 if token == "zero" else x[-1, u - 1]
            else:
                other[-1, u:end] = torch.randint(50, (end - u,))
            after = output(case, module, other)
            largest = max(largest, apart(after[-1, :u], before[-1, :u]))
    return largest


def leaks(case: Case, **how: Any) -> Verdict:
    size = future_change(case, **how)
    bound = NOISE if how.get("dtype", torch.float64) == torch.float64 else 1e-3
    return Verdict(size > bound, f"moves earlier outputs by {size:.1e}{_said(how)}")


def leaks_backward(case: Case) -> Verdict:
    module, x = built(case), inputs(case, 1, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(call(case, module, x)[0][:, 4].sum(), x)
    size = gradient[:, 5:].abs().max().item()
    value = future_change(case)
    real = size > NOISE and value < NOISE
    return Verdict(real, f"gradient {size:.1e} from the future, values {value:.0e}")


def leaks_without_gradients(case: Case) -> Verdict:
    with torch.enable_grad():
        tracked = call(case, built(case), inputs(case, 2, 64))[0].detach()
    plain = output(case, built(case), inputs(case, 2, 64))
    real, text = leaks(case)
    return Verdict(real and apart(plain, tracked) > NOISE, f"{text}, under no_grad alone")


def depends_on_length(case: Case, short: int = 41, long: int = 64) -> Verdict:
    x = inputs(case, 2, long)
    size = apart(output(case, built(case), x[:, :short]), output(case, built(case), x)[:, :short])
    content = max(future_change(case, T) for T in (short, long))
    return Verdict(
        size > NOISE and content < NOISE,
        f"{short} tokens against {long}: {size:.1e}, by content {content:.0e}",
    )


def mixes_rows(case: Case, train: bool = False, T: int = 32, B: int = 3) -> Verdict:
    x = inputs(case, B, T)
    whole = output(case, built(case, train=train), x)
    size = max(
        apart(output(case, built(case, train=train), x[b : b + 1])[0], whole[b]) for b in range(B)
    )
    return Verdict(size > NOISE, f"a row alone differs by {size:.1e}")


def remembers(case: Case) -> Verdict:
    module, x = built(case), inputs(case, 2, 24)
    first = output(case, module, x.clone())
    size = max(apart(output(case, module, x.clone()), first) for _ in range(4))
    return Verdict(size > NOISE, f"the same call again differs by {size:.1e}")


def remembers_late(case: Case) -> Verdict:
    module, x = built(case), inputs(case, 1, 4)
    first = output(case, module, x)
    early = max(apart(output(case, module, x), first) for _ in range(998))
    late = max(apart(output(case, module, x), first) for _ in range(4))
    return Verdict(early == 0 and late > NOISE, f"998 calls: {early:.0e}; after: {late:.1e}")


def remembers_length(case: Case) -> Verdict:
    x = inputs(case, 2, 64)
    module = built(case)
    output(case, module, x)
    size = apart(output(case, module, x[:, :24]), output(case, built(case), x[:, :24]))
    return Verdict(size > NOISE, f"after a call of 64 tokens differs by {size:.1e}")


def changes_input(case: Case) -> Verdict:
    module, x = built(case), inputs(case, 2, 24)
    given = x.clone()
    output(case, module, given)
    return Verdict(not torch.equal(given, x), f"its input moves by {apart(given, x):.1e}")


def reseeds(case: Case) -> Verdict:
    module, x, drawn = built(case), inputs(case, 2, 24), []
    for seed in (3, 4):
        torch.manual_seed(seed)
        output(case, module, x)
        drawn.append(torch.rand(4))
    return Verdict(torch.equal(*drawn), "after it two seeds draw the same numbers")


def differs_by_mode(case: Case) -> Verdict:
    x = inputs(case, 2, 32)
    size = apart(output(case, built(case, train=True), x), output(case, built(case), x))
    dropout = any(isinstance(m, nn.Dropout) and m.p for m in built(case).modules())
    return Verdict(size > NOISE and not dropout, f"train against eval: {size:.1e}, no dropout")


@torch.no_grad()
def stepwise(case: Case, T: int = 40) -> tuple[Tensor, Any]:
    module, x = built(case), inputs(case, 2, T)
    name, steps, carried = case.options["state"], [], None
    for t in range(T):
        here = x[:, t : t + 1]
        y, raw = call(case, module, here, **({name: carried} if t else {}))
        carried = raw[case.options["state_output"]]
        steps.append(y)
    return torch.cat(steps, 1), carried


def steps_differ(case: Case) -> Verdict:
    size = apart(stepwise(case)[0], output(case, built(case), inputs(case, 2, 40)))
    return Verdict(size > NOISE, f"token by token differs by {size:.1e}")


def state_size(case: Case, T: int) -> int:
    return sum(t.numel() for t in tree_leaves(stepwise(case, T)[1]) if isinstance(t, Tensor))


def state_grows(case: Case) -> Verdict:
    sizes = [state_size(case, T) for T in (40, 80, 160)]
    return Verdict(sizes[2] > sizes[1] > sizes[0], f"numbers in the state: {sizes}")


@torch.no_grad()
def state_overwritten(case: Case) -> Verdict:
    module, x = built(case), inputs(case, 2, 8)
    state = call(case, module, x)[1][1]
    tries = [call(case, module, x[:, :1], state=state)[0].clone() for _ in range(2)]
    return Verdict(
        apart(*tries) > NOISE, f"a second try from a state differs by {apart(*tries):.1e}"
    )


def dead(case: Case) -> Verdict:
    module = built(case, torch.float32, train=True)
    best = {name: 0.0 for name, _ in module.named_parameters()}
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        y = call(case, module, inputs(case, 2, 32, torch.float32))[0]
        (y - torch.randn_like(y)).square().mean().backward()
        for name, p in module.named_parameters():
            best[name] = max(best[name], 0.0 if p.grad is None else p.grad.abs().max().item())
        optimiser.step()
    none = [name for name, size in best.items() if size == 0]
    return Verdict(bool(none), f"no gradient in 3 steps: {', '.join(none) or 'none'}")


def gradient_by_age(case: Case, age: int) -> float:
    module, x = built(case), inputs(case, 1, age + 1).requires_grad_()
    y = call(case, module, x)[0][:, -1]
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return float(gradient[:, 0].norm())


def explodes(case: Case) -> Verdict:
    sizes = [gradient_by_age(case, age) for age in (32, 64, 128)]
    shown = ", ".join(f"{s:.1e}" for s in sizes)
    rate = (sizes[2] / (sizes[1] + 1e-300)) ** (1 / 64)
    return Verdict(rate > 1.1, f"gradients over 32, 64, 128 tokens: {shown}; {rate:.2f} a token")


Make = Callable[[Tensor], Tensor]


def ordinary(x: Tensor) -> Tensor:
    return x


def zero_token(x: Tensor) -> Tensor:
    return torch.cat((x[:, :3], torch.zeros_like(x[:, 3:4]), x[:, 4:]), 1)


def constant(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def huge(x: Tensor) -> Tensor:
    return 300 * x


def with_nan(x: Tensor) -> Tensor:
    return torch.cat((x[:, :3], torch.full_like(x[:, 3:4], float("nan")), x[:, 4:]), 1)


def gradient_breaks(case: Case, make: Make = ordinary) -> Verdict:
    module = built(case, torch.float32)
    x = make(inputs(case, 2, 16, torch.float32)).requires_grad_()
    y = call(case, module, x)[0]
    y.sum().backward()
    grads = [x.grad, *(p.grad for p in module.parameters())]
    n_bad = sum(not g.isfinite().all() for g in grads if g is not None)
    real = bool(y.isfinite().all()) and n_bad > 0
    return Verdict(real, f"{make.__name__}: finite forward, {n_bad} gradients are not")


def breaks(
    case: Case, make: Make = ordinary, dtype: torch.dtype = torch.float32, T: int = 32
) -> Verdict:
    """Not finite there, and finite on ordinary short float64 inputs."""
    y = output(case, built(case, dtype), make(inputs(case, 2, T, dtype)))
    usual = output(case, built(case), inputs(case, 2, 32))
    share = 1 - y.isfinite().double().mean().item()
    real = share > 0 and bool(usual.isfinite().all())
    return Verdict(real, f"{make.__name__}, {str(dtype)[6:]}, T={T}: {share:.0%} not finite")


def breaks_bf16(case: Case) -> Verdict:
    """Also under autocast, and not in float32."""
    x = inputs(case, 2, 64, torch.float32)
    fine = bool(output(case, built(case, torch.float32), x).isfinite().all())
    with torch.autocast("cpu", torch.bfloat16):
        auto = output(case, built(case, torch.float32), x).isfinite().double().mean().item()
    real, text = breaks(case, dtype=torch.bfloat16, T=64)
    return Verdict(real and fine, f"{text}; float32 finite: {fine}; autocast {1 - auto:.0%}")


def swallows(case: Case) -> Verdict:
    y = output(case, built(case), with_nan(inputs(case, 2, 16)))
    return Verdict(bool(y[:, 3].isfinite().all()), "a token of NaN gives numbers")


class Work(TorchDispatchMode):
    """Counts the numbers that operations read and write; views count nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            leaves = tree_leaves((args, kwargs, out))
            self.numbers += sum(t.numel() for t in leaves if isinstance(t, Tensor))
        return out


def work(case: Case, T: int) -> int:
    module, x = built(case, torch.float32), inputs(case, 1, T, torch.float32)
    with Work() as counted:
        output(case, module, x)
    return int(counted.numbers)


def quadratic(case: Case) -> Verdict:
    numbers = [work(case, T) for T in (512, 1024, 2048)]
    exponent = torch.tensor(numbers[2] / numbers[1]).log2().item()
    claims = bool(case.options.get("linear"))
    return Verdict(claims and exponent > 1.4, f"numbers moved grow as T^{exponent:.2f}, claims 1")


def fails(case: Case, *shapes: tuple[int, int], strided: bool = False) -> Verdict:
    """At these (B, T), and not at (2, 64)."""
    output(case, built(case), inputs(case, 2, 64))
    seen = []
    for B, T in shapes:
        x = inputs(case, B, T)
        try:
            y = output(case, built(case), x.mT.contiguous().mT if strided else x)
            seen.append("" if y.shape[:2] == x.shape[:2] else f"gives {tuple(y.shape[:2])}")
        except (RuntimeError, IndexError, ValueError) as error:
            seen.append(str(error).splitlines()[0][:50])
    return Verdict(all(seen), f"at {shapes}: {seen[0]}")


def fails_at_width(case: Case) -> Verdict:
    module = case.build(96)
    try:
        module(torch.randn(2, 8, 96))
    except RuntimeError as error:
        return Verdict(True, f"width 96: {str(error).splitlines()[0][:50]}")
    return Verdict(False, "width 96 works")


DEFAULT: dict[str, Rule] = {
    "causality": leaks, "length": depends_on_length, "batch": mixes_rows, "state": remembers,
    "mode": differs_by_mode, "step": steps_differ, "gradients": dead, "cost": quadratic,
}  # fmt: skip
RULES: dict[str, Rule] = {
    "mask-constant-weak-for-large": partial(leaks, scale=1000.0),
    "mask-lost-beyond-96": partial(leaks, T=128),
    "open-in-float32": partial(leaks, dtype=torch.float32),
    "open-in-bfloat16": partial(leaks, dtype=torch.bfloat16),
    "open-without-gradients": leaks_without_gradients,
    "row-3-sees-row-0": partial(mixes_rows, B=5),
    "open-in-training": partial(leaks, train=True),
    "batch-norm": partial(mixes_rows, train=True),
    "beyond-chunk-64": partial(leaks, T=96), "beyond-chunk-128": partial(leaks, T=192),
    "remainder-open": partial(leaks, T=100), "multiple-open": partial(leaks, T=128),
    "leak-of-gradient": leaks_backward, "branch-huge": partial(leaks, loud=1e4),
    "branch-rare": partial(leaks, loud=3.0), "model-sees-repeat": partial(leaks, token="repeated"),
    "model-takes-0-for-padding": partial(leaks, token="zero"),
    "low-precision-when-long": partial(depends_on_length, short=64, long=128),
    "expert-room-over-batch": mixes_rows,
    "schedule-starts-late": remembers_late, "schedule-late-in-buffer": remembers_late,
    "positions-of-first-call": remembers_length, "mask-of-first-call": remembers_length,
    "input-in-place": changes_input, "reseeds-everybody": reseeds,
    "cache-grows": state_grows, "state-in-place": state_overwritten,
    "explodes-linear": explodes, "explodes-in-chaos": explodes,
    "length-at-zero": partial(gradient_breaks, make=zero_token),
    "where-of-root": gradient_breaks, "root-of-relu": gradient_breaks,
    "variance-in-bf16": breaks_bf16, "decay-in-bf16": breaks_bf16, "mask-in-bf16": breaks_bf16,
    "nan-to-num": swallows, "nan-cleared-at-input": swallows,
    "deviation-zero": partial(breaks, make=constant),
    "length-zero": partial(breaks, make=zero_token),
    "exp-unguarded": partial(breaks, make=huge), "softplus-by-hand": partial(breaks, make=huge),
    "decay-by-ratio": partial(breaks, T=160),
    "log-of-zero": partial(gradient_breaks, make=zero_token),
    "batch-of-2": lambda c: fails(c, (1, 64), (3, 64)),
    "length-of-128": lambda c: fails(c, (2, 129)),
    "length-below-stated": lambda c: fails(c, (2, 129)),
    "width-of-64": fails_at_width, "fails-at-one": lambda c: fails(c, (2, 1), (1, 8)),
    "multiple-of-8": lambda c: fails(c, (2, 1), (2, 63)),
    "remainder-dropped": lambda c: fails(c, (2, 63)),
    "view-of-input": lambda c: fails(c, (2, 64), strided=True),
    "fails-below-4": lambda c: fails(c, (2, 1), (2, 3)),
}  # fmt: skip


def _said(how: dict[str, Any]) -> str:
    return f" ({', '.join(f'{k}={v}' for k, v in how.items())})" if how else ""


# sound modules


def is_sound(case: Case) -> Verdict:
    inside = case.kind == "huggingface" or case.name in FLOAT32_INSIDE
    bound = 1e-5 if inside else NOISE
    found = {name: size for name, size in _sizes(case)}
    worst = max(found, key=lambda name: found[name])
    missed = [f"{name} {size:.0e}" for name, size in found.items() if not size <= bound]
    return Verdict(not missed, "; ".join(missed) or f"largest: {worst} {found[worst]:.0e}")


def _sizes(case: Case) -> Iterator[tuple[str, float]]:
    free, x = case.options.get("bidirectional", False), inputs(case, 3, 130)
    whole = output(case, built(case), x)
    if not free:
        yield "future", max(future_change(case, T) for T in (7, 64, 130))
        yield (
            "length",
            max(
                by_channel(output(case, built(case), x[:, :T]), whole[:, :T])
                for T in (1, 17, 64, 129)
            ),
        )
    yield "rows", apart(output(case, built(case), x[1:2])[0], whole[1])
    module = built(case)
    output(case, module, x[:, :50])
    yield "calls", apart(output(case, module, x), whole)
    absent = whole.isneginf().all(0).all(0)  # a channel that never is, as in a padded vocabulary
    yield "finite", 0.0 if (whole.isfinite() | absent).all() else float("inf")
    if not _drops(case):
        yield "mode", apart(output(case, built(case, train=True), x), whole)
    if "state" in case.options:
        yield "steps", apart(stepwise(case)[0], output(case, built(case), inputs(case, 2, 40)))
    if case.options.get("linear") and "state" in case.options and case.kind == "hand-written":
        yield "state", float(state_size(case, 80) > state_size(case, 40))


def _drops(case: Case) -> bool:
    modules = list(built(case).modules())
    return any(getattr(m, "p", 0) or getattr(m, "dropout", 0) for m in modules if not _free(m))


def _free(module: nn.Module) -> bool:
    return not isinstance(module, nn.Dropout | nn.RNNBase | nn.MultiheadAttention)


def judge(case: Case) -> Verdict:
    if not case.expected:
        return is_sound(case)
    return (RULES.get(case.name) or DEFAULT[case.expected[0]])(case)


def main(wanted: list[str]) -> int:
    warnings.filterwarnings("ignore")
    write = wanted == ["--write"]
    names = [case.name for case in (*FAULTS, *SOUND)]
    assert len(set(names)) == len(names)
    measured: dict[str, str] = {}
    failed = 0
    for case in (*FAULTS, *SOUND):
        if not write and wanted and not any(part in case.name for part in wanted):
            continue
        real, text = judge(case)
        failed += not real
        measured |= {case.name: text} if case.expected else {}
        called = (
            ("" if real else "no ") + "fault" if case.expected else "sound" if real else "unsound"
        )
        print(f"{called:9} {case.name:32} {'/'.join(case.expected):22} {text}", flush=True)
    if write:
        MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    kinds = len({case.kind for case in FAULTS})
    print(f"{len(FAULTS)} faults of {kinds} kinds, {len(SOUND)} sound modules; {failed} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
