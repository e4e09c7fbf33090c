"""mendel audit on files of strangers, the look at their text, and what a person accepts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mendel.audit import AuditError, Claims
from mendel.audit.accept import UnacceptedError, accept, is_accepted, load_parts
from mendel.audit.examine import examine
from mendel.audit.inputs import InputSpec
from mendel.audit.remote import Remote, Source
from mendel.audit.scan import scan
from mendel.cli import app
from mendel.parts.part import PARTS
from mendel.sandbox import Pool, backend
from mendel.types import InputError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(backend().name is None, reason="no sandbox works here"),
]

MODULES = """
import os, sys, time
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.inner = nn.Linear(width, width)

class Sound(Base):
    def forward(self, x):
        return self.inner(x).cumsum(1)

class Leaky(Base):
    def forward(self, x):
        return self.inner(x) + x.mean(1, keepdim=True)

class Narrow(Base):
    def forward(self, x):
        return self.inner(x.view(x.shape[0], x.shape[1], 64))

class Quits(Base):
    def forward(self, x):
        os._exit(0)

class QuitsWhenLong(Base):
    def forward(self, x):
        if x.shape[1] == 64:
            os._exit(0)
        return self.inner(x)

class Forger(Base):
    '''Replaces what answers for it: says that all is well, and gives no output.'''
    def forward(self, x):
        import mendel.audit.served as served
        served.Served.answer = lambda self, request: {"answers": [], "findings": [], "clean": True}
        return self.inner(x) + x.mean(1, keepdim=True)

class Liar(Base):
    '''Replaces torch, so that every output compares equal in its own process.'''
    def forward(self, x):
        torch.equal = lambda *_: True
        torch.Tensor.max = lambda *_: torch.zeros(())
        print('{"findings": [], "ran": {"causality": "clean"}}')
        return self.inner(x) + x.mean(1, keepdim=True)

class Unbuilt(Base):
    def __init__(self, width=64):
        raise RuntimeError("no such thing")
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("strangers") / "strange.py"
    file.write_text(MODULES)
    return file


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with Pool(preload=("torch", "mendel.audit.served")) as pool:
        yield pool


def audited(pool: Pool, file: Path, name: str) -> set[str]:
    spec, claims = InputSpec.parse("float:B,T,64"), Claims()
    source = Source.parse(f"{file}:{name}", {"width": 64})
    with Remote(pool, source, spec, None, claims) as subject:
        return {f.check for f in examine(subject, spec, claims).errors}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("Sound", set()), ("Leaky", {"causality"}), ("Narrow", {"shapes"}),
     ("QuitsWhenLong", {"shapes"}), ("Liar", {"causality"})],
)  # fmt: skip
def test_a_file_is_judged_from_outside(pool: Pool, file: Path, name: str, wanted: set[str]) -> None:
    found = audited(pool, file, name)
    assert wanted <= found and (wanted or not found)


@pytest.mark.parametrize(
    ("name", "said"),
    [("Quits", "process|ended"), ("Unbuilt", "no such thing"), ("Missing", "It has Base, Sound")],
)  # fmt: skip
def test_what_cannot_be_audited_says_why(pool: Pool, file: Path, name: str, said: str) -> None:
    with pytest.raises(AuditError, match=said):
        audited(pool, file, name)


def test_a_module_that_answers_for_itself_decides_nothing(pool: Pool, file: Path) -> None:
    spec, claims = InputSpec.parse("float:B,T,64"), Claims()
    source = Source.parse(f"{file}:Forger", {"width": 64})
    with Remote(pool, source, spec, None, claims) as subject:
        report = examine(subject, spec, claims)
    assert not report.clean and "causality" in report.undecided
    assert any("Wanted what it was asked for" in note for note in report.notes)


def test_here_and_in_the_sandbox_are_the_same_audit(pool: Pool, file: Path) -> None:
    from mendel.audit import check
    from mendel.audit.served import load_class

    module = load_class(MODULES, "strange.py", "Leaky")()
    spec, claims = InputSpec.parse("float:B,T,64"), Claims()
    source = Source.parse(f"{file}:Leaky", {"width": 64})
    with Remote(pool, source, spec, None, claims) as subject:
        there = examine(subject, spec, claims)
    here = check(module, spec)
    assert [f.what[:20] for f in here.findings] == [f.what[:20] for f in there.findings]
    assert here.ran == there.ran and here.facts["lengths"] == there.facts["lengths"]


# the command


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    error = f"{type(result.exception).__name__}: {result.exception}" if result.exception else ""
    return (2 if isinstance(result.exception, InputError) else result.exit_code), (
        result.output + error
    )


def test_the_command_exits_0_1_and_2(file: Path) -> None:
    assert run("audit", f"{file}:Sound", "--kwargs", '{"width": 64}')[0] == 0
    code, text = run("audit", f"{file}:Leaky", "--input", "float:B,T,64", "--json")
    report = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert (
        code == 1 and report["sandbox"] == backend().name and len(report["facts"]["digest"]) == 64
    )
    assert [f["check"] for f in report["findings"]] == ["causality"]
    assert any("reaches files" in sight for sight in report["scan"])
    assert run("audit", f"{file}:Quits", "--input", "float:B,T,64")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [(["nothing.py:Sound"], "no file"), (["Sound"], "FILE.py:CLASS"),
     (["{file}:Sound"], "--input"), (["{file}:Sound", "--kwargs", "{"], "no JSON"),
     (["{file}:Sound", "--kwargs", "[1]"], "Wanted"), (["{file}:no class"], "names no class"),
     (["{file}:Sound", "--fail-on", "never"], "error or warning"),
     (["{file}:Sound", "--input", "float:T"], "Wanted"), (["modren"], "Did you mean 'modern'"),
     (["modern", "--output", "3"], "Leave them out")],
)  # fmt: skip
def test_bad_words_say_what_was_wanted(file: Path, words: list[str], said: str) -> None:
    code, text = run("audit", *(word.replace("{file}", str(file)) for word in words))
    assert code == 2 and said in text


def test_a_file_that_is_no_python_is_an_input_error(tmp_path: Path) -> None:
    for i, data in enumerate((b"def f(:\n", b"\xff\xfe\x00", b"x = " + b"(" * 500)):
        bad = tmp_path / f"bad{i}.py"
        bad.write_bytes(data)
        code, text = run("audit", f"{bad}:A", "--input", "float:B,T,8")
        assert code == 2 and ("no Python" in text or "no UTF-8" in text)


# the look at the text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("import os", "reaches files"),
        ("from os import environ as e", "reaches files"),
        ("import subprocess as s", "starts programs"),
        ("import torch.nn as nn\neval('1')", "runs text as code"),
        ("import torch as t\nt.load('x')", "may unpickle"),
        ("from torch import hub\nhub.load('a', 'b')", "fetches code"),
        ("import socket", "opens connections"),
        ("(lambda: 0).__globals__", "reaches around"),
        ("from . import neighbour", "not part of this file"),
        ("import antigravity", "not among the modules"),
        ("import numpy\nnumpy.load('x')", "may unpickle"),
    ],
)
def test_what_a_part_has_no_business_with_is_named(text: str, seen: str) -> None:
    assert any(seen in str(sight) for sight in scan(text))


def test_an_ordinary_part_has_nothing_to_see() -> None:
    here = Path(sys.modules["mendel.parts.part"].__file__ or "").parent
    for name in ("attention", "recurrent", "convolution"):
        assert scan((here / f"{name}.py").read_text()) == []


# what a person accepts

PART = """
from mendel.parts.part import Part, linear, register
from mendel.spec import Spec

@register("mixer", "strange_{n}")
class Strange(Part):
    class Fields(Spec):
        pass
    def __init__(self, fields, width):
        super().__init__()
        self.out = linear(width, width)
    def forward(self, x, state=None, *, naive=False):
        return self.out(x), {{}}
"""


def test_strange_code_runs_only_once_its_digest_is_accepted(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PART.format(n=1))
    with pytest.raises(UnacceptedError, match="mendel accept"):
        load_parts(file)
    assert "strange_1" not in PARTS["mixer"]
    accept(file.read_text(), file)
    load_parts(file)
    assert PARTS["mixer"].pop("strange_1")


def test_one_letter_makes_it_a_stranger_again(tmp_path: Path, home: Path) -> None:
    text = PART.format(n=2)
    accept(text, tmp_path / "mine.py")
    assert is_accepted(text) and not is_accepted(text + " ")


def test_the_command_asks_and_then_takes_the_part(tmp_path: Path, home: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import os\n" + PART.format(n=3))
    refused = CliRunner().invoke(app, ["accept", str(file)], input="n\n")
    assert refused.exit_code == 1 and "reaches files" in refused.output
    with pytest.raises(UnacceptedError):
        load_parts(file)
    taken = CliRunner().invoke(app, ["accept", str(file)], input="y\n")
    assert taken.exit_code == 0
    assert CliRunner().invoke(app, ["--parts", str(file), "parts", "strange_3"]).exit_code == 0
    assert PARTS["mixer"].pop("strange_3")
