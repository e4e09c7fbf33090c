"""mendel research export: a stand-alone torch file that computes what mendel's model computes."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mendel.parts.menu  # noqa: F401  registers the parts
from mendel.clocks.research.export import export, golden, source
from mendel.parts.part import NAMED, PARTS
from mendel.spec import ModelSpec, Recipe
from mendel.types import InputError

# mendel cannot be imported in there; each folder's tests run as its user would run them
ALONE = """
import sys, pytest
sys.modules["mendel"] = None
for folder in sys.argv[1:]:
    sys.path.insert(0, folder)
    code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", folder, folder])
    if code:
        sys.exit(f"{folder}: {code}")
    for name in ("model", "test_model"):
        del sys.modules[name]
    sys.path.remove(folder)
"""
RICH = {  # every branch of the templates that no name of the menu takes
    "steps_with_decay": {
        "part": "delta_product", "decay": "head", "n_steps": 3, "feature": "silu", "direct": True,
        "rotary": True,
    },
    "steps_by_channel": {"part": "delta_product", "decay": "channel", "key_dim": 3, "value_dim": 5},
    "key_by_head": {"part": "rwkv7", "decay": "head", "write": "dt", "out_norm": False},
    "key_undecayed": {"part": "rwkv7", "decay": "none", "feature": "softmax", "rotary": True},
    "learned_decay": {"part": "linear_attention", "decay": "learned", "feature": "relu"},
    "grouped_window": {
        "part": "attention", "n_kv_heads": 2, "window": 7, "qk_norm": True, "conv": 3,
    },
    "fir_by_token": {"part": "multi_scale_fir", "mix": "token", "kernels": [3, 8]},
}  # fmt: skip


def recipe(mixers: object, **fields: object) -> Recipe:
    model = {"width": 16, "n_layers": 2, "vocab": 11, "mixers": mixers, **fields}
    return Recipe(model=ModelSpec.parse(model))


def run_alone(*folders: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *map(str, folders)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_every_mixer_of_the_menu_is_exported_with_a_test_that_passes_without_mendel(
    tmp_path: Path,
) -> None:
    cases = {name: [name] for name in (*PARTS["mixer"], *NAMED["mixer"])}
    cases |= {name: [fields] for name, fields in RICH.items()}
    for name, mixers in cases.items():
        export(recipe(mixers), tmp_path / name, title=name)
    done = run_alone(*(tmp_path / name for name in cases))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_a_hybrid_in_an_uncommon_shape_is_exported_with_a_test_that_passes_without_mendel(
    tmp_path: Path,
) -> None:
    hybrid = recipe(
        ["gated_delta_net", {"part": "gated_delta_net", "n_heads": 2}, "attention"],
        n_layers=4, channels=["relu2", "swiglu"], norm={"part": "layer_norm", "bias": True},
        embedding={"part": "token", "position": "learned", "norm": True}, tied=True,
        context=30, final_norm=False, init_std=0.05, residual_init="zero",
    )  # fmt: skip
    export(hybrid, tmp_path / "hybrid", title='a """hybrid""" \\')
    done = run_alone(tmp_path / "hybrid")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_the_exported_test_finds_a_changed_sign(tmp_path: Path) -> None:
    export(recipe(["delta_net"], channels=[]), tmp_path / "out", title="delta")
    file = tmp_path / "out" / "model.py"
    text = file.read_text()
    assert text.count("v - r @ S") == 1
    file.write_text(text.replace("v - r @ S", "v + r @ S"))
    done = run_alone(tmp_path / "out")
    assert done.returncode != 0
    assert "test_the_outputs_are_those_of_mendels_model" in done.stdout


def test_only_what_the_model_has_is_in_its_file() -> None:
    text, _ = source(recipe(["gla"]), title="gla")
    assert "class Gla(nn.Module)" in text
    assert not any(word in text for word in ("mendel.", "causal_convolve", "solve_triangular"))
    imported = {node.names[0].name for node in ast.parse(text).body if isinstance(node, ast.Import)}
    assert imported <= {"math", "torch", "torch.nn.functional"}


def test_stored_weights_leave_no_parameter_silent() -> None:
    spec = recipe([{"part": "rwkv7"}], residual_init="zero").model
    stored = golden(spec)
    assert all(
        stored[name].abs().max() > 0.01 for name in stored if name.endswith(("bonus", "out.weight"))
    )
    assert torch.isfinite(stored["output"]).all()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        export(recipe(["gla"]), tmp_path, title="gla")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_head_that_is_no_language_model_is_refused() -> None:
    with pytest.raises(InputError, match="classifier"):
        source(recipe(["gla"], head="classifier"), title="gla")
