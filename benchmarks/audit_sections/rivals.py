"""What people do instead of an audit: three short tests of causality, on the same modules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from planted import Case
from torch import Tensor, nn

from mendel.audit import InputSpec

T, B = 64, 2
Test = Callable[[nn.Module, Case], bool]  # module, case -> accused


def prefix(module: nn.Module, case: Case) -> bool:
    """Change the second half of the input; is the first half of the output still allclose?"""
    spec = InputSpec.parse(case.input)
    x, other = (spec.draw(B, T, seed, torch.float32) for seed in (0, 1))
    changed = torch.cat((x[:, : T // 2], other[:, T // 2 :]), 1)
    with torch.no_grad():
        one, two = _run(module, spec, case, x), _run(module, spec, case, changed)
    return not torch.allclose(one[:, : T // 2], two[:, : T // 2], atol=1e-5)


def poison(module: nn.Module, case: Case) -> bool:
    """Set the last input to NaN; is there a NaN before it?"""
    spec = InputSpec.parse(case.input)
    if spec.kind == "tokens":
        return False
    x = spec.draw(B, T, 0, torch.float32)
    x[:, -1] = float("nan")
    with torch.no_grad():
        return bool(_run(module, spec, case, x)[:, :-1].isnan().any())


def gradient(module: nn.Module, case: Case) -> bool:
    """Has the output in the middle a gradient with respect to a later input?"""
    spec = InputSpec.parse(case.input)
    if spec.kind == "tokens":
        return False
    x = spec.draw(B, T, 0, torch.float32).requires_grad_()
    _run(module, spec, case, x)[:, T // 2].sum().backward()
    return x.grad is not None and bool((x.grad[:, T // 2 + 1 :] != 0).any())


RIVALS: dict[str, Test] = {
    "prefix, float32, allclose 1e-5": prefix,
    "poisoning with NaN": poison,
    "gradient is not zero": gradient,
}


def accuses(test: Test, case: Case) -> bool:
    """A test that breaks on a module says nothing against it."""
    torch.manual_seed(0)
    try:
        return test(case.build(64).eval(), case)
    except Exception:
        return False


def _run(module: nn.Module, spec: InputSpec, case: Case, x: Tensor) -> Tensor:
    out = module(spec.lay_out(x))
    if isinstance(case.output, str):
        out = out[case.output] if isinstance(out, dict) else getattr(out, case.output)
    elif case.output is not None:
        out = out[case.output]
    elif not isinstance(out, Tensor):
        out = next(iter(out.values())) if isinstance(out, dict) else out[0]
    return spec.bring_back(out)
