"""Habits of the house that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = sorted((ROOT / "mendel").rglob("*.py"))
# where text becomes code, and why it may
EXECUTE = {"mendel/audit/execute.py": "for what a person has accepted, and for the sandbox"}
PICKLES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


@pytest.mark.parametrize("file", CODE, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_of_ours_unpickles_or_evaluates_anything(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
            assert not PICKLES & {name.split(".")[0] for name in names}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "torch.load", "os.system")
            assert called != "exec" or str(file.relative_to(ROOT)) in EXECUTE
            arguments = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert arguments.get("shell") != "True"
            assert called != "np.load" or arguments.get("allow_pickle") == "False"


def test_what_opens_a_strangers_file_is_imported_in_the_sandbox_only() -> None:
    """Promise 5: the name stands in text that is sent there, and in no import."""
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
                assert not any(name.startswith("mendel.audit.served") for name in names), file


def test_importing_mendel_loads_nothing_heavy_and_says_nothing() -> None:
    code = (
        "import sys, mendel; print([m for m in ('torch', 'sklearn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "[]" and done.stderr == ""


def test_the_readme_names_only_what_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", readme, flags=re.MULTILINE)
    last = ROOT
    for name in (n for row in rows for n in re.findall(r"`([\w./-]+)`", row)):
        place = ROOT / name if "/" in name or (ROOT / name).exists() else last.parent / name
        assert place.exists(), f"README names {name}"
        last = place
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"README names make {target}"
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert link.startswith("http") or (ROOT / link).exists(), f"README links to {link}"


def test_every_flag_of_design_is_one_of_its_request() -> None:
    from dataclasses import fields

    from mendel.clocks.design.request import Request
    from mendel.spec import Limits

    done = subprocess.run(
        [sys.executable, "-m", "mendel", "design", "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": "/usr/bin"},
    )
    flags = set(re.findall(r"--([a-z-]+)", done.stdout)) - {
        "help",
        "explain",
    }  # say something, ask nothing
    named = {"max-size": "max_bytes", "max-latency": "max_latency_ms", "budget": "budget_s"}
    named |= {"gazetteer": "gazetteers", "licence": "licences"}  # given once for each
    named["tdp"] = "tdp_w"
    known = {f.name for f in fields(Request)} | set(Limits.model_fields)
    assert {named.get(flag, flag.replace("-", "_")) for flag in flags} <= known
    assert len(flags) > 12
