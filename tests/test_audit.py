"""The auditor finds what is planted, names it, and accuses nobody else."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from planted import Case
from planted.faults import FAULTS
from planted.sound import SOUND
from torch import Tensor, nn

from mendel.audit import AuditError, AuditReport, Claims, InputSpec, check
from mendel.audit.gate import check_spec, reduced, require_sound
from mendel.model import build
from mendel.parts.part import PARTS, Part, State, linear
from mendel.spec import ModelSpec, Spec
from mendel.types import InputError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # planted modules warn as they please
]

DOZEN = (
    "mask-lost-beyond-96", "fft-padded-to-power", "leak-1e-6", "one-channel-of-512",
    "rotary-offset-by-length", "conv-buffer-short", "schedule-late-in-buffer",
    "mixer-gated-delta-net", "fft-with-zeros", "global-max", "total-less-suffix", "hf-llama",
)  # fmt: skip


def judged(case: Case, profile: Any = "quick") -> AuditReport:
    torch.manual_seed(0)
    return check(
        case.build(64),
        case.input,
        claims=Claims(**case.options),
        output=case.output,
        profile=profile,
        rebuild=case.build,
    )


def names(report: AuditReport) -> set[str]:
    return {finding.check for finding in report.errors}


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_a_planted_fault_is_found_and_named(case: Case) -> None:
    report = judged(case)
    assert names(report) & set(case.expected), (case.why, names(report))
    for finding in report.findings:
        assert finding.sure and finding.cause and finding.reproduce


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.name)
def test_a_sound_module_is_not_accused(case: Case) -> None:
    report = judged(case)
    assert report.clean, report.errors
    assert {f.check for f in report.findings} <= {"numerics"}  # a NaN that spreads by 0 x NaN


@pytest.mark.parametrize(
    "case", [c for c in (*FAULTS, *SOUND) if c.name in DOZEN], ids=lambda case: case.name
)
def test_the_full_profile_agrees(case: Case) -> None:
    found = names(judged(case, "full"))
    assert found & set(case.expected) if case.expected else not found


def test_the_dozen_is_there() -> None:
    known = {case.name for case in (*FAULTS, *SOUND)}
    assert set(DOZEN) <= known and len(DOZEN) == 12


def test_the_suite_is_as_large_as_it_is_said_to_be() -> None:
    assert len(FAULTS) >= 40 and len({case.kind for case in FAULTS}) >= 25 and len(SOUND) >= 40


class Ahead(nn.Module):
    """A mean of what came before, and a share of the next token."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.inner, self.share = nn.Linear(64, 64), share

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x).cumsum(1)
        return y + self.share * torch.cat((x[:, 1:], torch.zeros_like(x[:, :1])), 1)


@pytest.mark.parametrize("share", [1e-2, 1e-5, 1e-8, 1e-10])
def test_a_leak_is_found_however_small_down_to_the_rounding(share: float) -> None:
    report = check(Ahead(share), "float:B,T,64")
    (found,) = [f for f in report.errors if f.check == "causality"]
    assert "1 step" in found.cause
    reads = found.evidence["pairs"]
    assert all(u == t + 1 for t, u, _ in reads)


def test_what_lies_below_rounding_is_no_leak() -> None:
    assert check(Ahead(1e-18), "float:B,T,64").clean


class OnlyFloat32(nn.Module):
    """Casts and refuses what is finer, as kernels do; sound but for a share of the next token."""

    def __init__(self, share: float = 0.0) -> None:
        super().__init__()
        self.inner = Ahead(share)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float64:
            raise TypeError("float64 is not supported")
        return self.inner(x)


def test_a_module_without_float64_is_decided_in_float32_and_the_report_says_so() -> None:
    sound, leaky = (check(OnlyFloat32(share), "float:B,T,64") for share in (0.0, 1e-2))
    assert sound.clean and names(leaky) == {"causality"}
    assert sound.facts["decided_in"] == "float32"
    assert any("float64 is not supported" in note for note in sound.notes)


def test_nothing_of_the_callers_is_changed() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).train()
    before = {name: p.clone() for name, p in module.named_parameters()}
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    drawn = random.random(), np.random.rand(), torch.rand(1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    check(module, "float:B,T,8")
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn
    assert module.training and all(
        torch.equal(p, before[name]) and p.grad is None for name, p in module.named_parameters()
    )


def test_equal_audits_have_equal_findings() -> None:
    module = Ahead(1e-3)
    one, two = (check(module, "float:B,T,64") for _ in range(2))
    assert one.findings == two.findings and one.ran == two.ran


def test_the_reproduction_reproduces() -> None:
    module = Ahead(1e-3)
    (found,) = check(module, "float:B,T,64").errors
    made: dict[str, Any] = {}
    exec(found.reproduce, made)
    gap = (module.double()(made["x"]) - module(made["changed"])).abs().amax((0, 2))
    cut = int((made["x"] != made["changed"]).any(-1).any(0).nonzero()[0])
    assert float(gap[:cut].max()) == pytest.approx(found.evidence["gap"])


def test_a_report_is_json_and_comes_back() -> None:
    report = check(Ahead(1e-3), "float:B,T,64")
    text = json.dumps(report.to_dict(), allow_nan=False)
    back = AuditReport.from_dict(json.loads(text))
    assert back.to_dict() == report.to_dict() and names(back) == {"causality"}


def test_an_example_may_be_a_tensor() -> None:
    assert check(nn.Linear(8, 8), torch.zeros(2, 5, 8)).facts["input"] == "float:B,T,8"
    tokens = InputSpec.of(torch.tensor([[1, 9]]))
    assert str(tokens) == "tokens:B,T,10"


@pytest.mark.parametrize(
    "text",
    ["", "float", "float:64", "float:B,64", "float:B,T,x", "float:B,T,0", "float:B,B,T", "ints:B,T",
     "tokens:B,T", "tokens:B,5,T", "tokens:B,T,5,5", "float:B,T,-3"],
)  # fmt: skip
def test_an_input_that_is_none_says_what_was_wanted(text: str) -> None:
    with pytest.raises(InputError, match=r"Wanted \"float:B,T,64\""):
        InputSpec.parse(text)


@pytest.mark.parametrize("text", ["float:B,T,64", "float:T,B,8,16", "float:B,32,T", "tokens:T,B,7"])
def test_an_input_comes_back_as_text(text: str) -> None:
    spec = InputSpec.parse(text)
    assert str(spec) == text
    x = spec.draw(2, 5, 0)
    assert x.shape[:2] == (2, 5) and torch.equal(spec.bring_back(spec.lay_out(x)), x)


def test_what_cannot_run_raises_and_says_why() -> None:
    with pytest.raises(AuditError, match=r"does not run on an input.*mat1 and mat2"):
        check(nn.Linear(7, 7), "float:B,T,8")
    with pytest.raises(AuditError, match=r"Wanted a tensor|time axis|no sequence|shape"):
        check(nn.LSTM(8, 8, batch_first=True), "float:B,T,8", output=1)
    with pytest.raises(InputError, match="needs an example"):
        check(nn.Linear(7, 7))


# specs, and the gate before training


SMALL = {"width": 32, "n_layers": 3, "context": 64, "mixers": ["gated_delta_net", "attention"]}


def test_a_spec_is_audited_once(monkeypatch: pytest.MonkeyPatch, home: Any) -> None:
    spec = ModelSpec.parse(SMALL)
    first = check_spec(spec)
    assert first.clean and len(list((home / "audits").iterdir())) == 1
    monkeypatch.setattr("mendel.audit.gate.check", lambda *_, **__: pytest.fail("audited twice"))
    again = check_spec(ModelSpec.parse({**SMALL, "n_layers": 8, "vocab": 5000}))
    assert again.to_dict() == json.loads(json.dumps(first.to_dict()))


def test_a_broken_cache_is_made_anew(home: Any) -> None:
    spec = ModelSpec.parse({**SMALL, "mixers": ["short_conv"], "n_layers": 1})
    check_spec(spec)
    (file,) = (home / "audits").iterdir()
    file.write_text('{"subject": "Mo')
    assert check_spec(spec).clean and json.loads(file.read_text())["subject"] == "Model"


def test_another_head_does_not_hide_the_body() -> None:
    spec = ModelSpec.parse({**SMALL, "head": "classifier", "vocab": 9})
    small = reduced(spec)
    assert small.head.part == "lm" and small.vocab == 9 and small.n_layers == 2
    build(small)


def test_a_leaking_part_is_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mean(Part):
        """Reads the whole text."""

        kind, name = "mixer", "mean"

        class Fields(Spec):
            pass

        def __init__(self, fields: Spec, width: int) -> None:
            super().__init__()
            self.out = linear(width, width)

        def forward(
            self, x: Tensor, state: State | None = None, *, naive: bool = False
        ) -> tuple[Tensor, State]:
            return self.out(x.mean(1, keepdim=True).expand_as(x)), {}

    monkeypatch.setitem(PARTS["mixer"], "mean", Mean)
    with pytest.raises(InputError, match=r"fails its audit: causality: .*Nothing was trained"):
        require_sound(ModelSpec.parse({**SMALL, "mixers": ["mean"]}))
