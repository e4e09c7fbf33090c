"""microgpt.py gives the published numbers, and its gradients are those of calculus."""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import random
import re
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import microgpt
from microgpt import GPT, Adam, Tokenizer, Value, dot, mean, sample, softmax, split, train

ROOT = Path(__file__).parents[1]
FILE = ROOT / "microgpt.py"
PICTURES = ROOT / "docs" / "microgpt"
NAMES = ROOT.parent / "shared" / "data" / "names" / "names.txt"
real = pytest.mark.skipif(not NAMES.exists(), reason="needs names.txt in ../shared/data/names")

# from "microgpt", Andrej Karpathy's blog, 12 February 2026, and the copies of its output
FIRST_LOSSES = [3.3660, 3.4243, 3.1778, 3.0664, 3.2209, 2.9452, 3.2894]
FIRST_LOSSES += [3.3245, 2.8990, 3.2229, 2.7964, 2.9345, 3.0544]
LAST_LOSS = 2.6497
LAST_50_LOSSES = 2.323  # their mean
SAMPLES = ["kamon", "ann", "karai", "jaire", "vialan", "karia", "yeran", "anna", "areli", "kaina"]
SAMPLES += [
    "konna",
    "keylen",
    "liole",
    "alerin",
    "earan",
    "lenne",
    "kana",
    "lara",
    "alela",
    "anton",
]


class Start(NamedTuple):
    """What there is before the first step; made in this order, for each draws on `rng`."""

    docs: list[str]
    tokenizer: Tokenizer
    model: GPT
    rng: random.Random

    def losses(self, n: int) -> list[float]:
        encoded = [self.tokenizer.encode(doc) for doc in self.docs]
        return list(islice(train(self.model, encoded, steps=1000), n))


def start(docs: list[str], seed: int = 42, **sizes: int) -> Start:
    rng = random.Random(seed)
    docs = list(docs)
    rng.shuffle(docs)
    tokenizer = Tokenizer(docs)
    return Start(docs, tokenizer, GPT(tokenizer.n_vocab, rng, **sizes), rng)


def run(*flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The file as a user runs it, in a world whose network refuses every connection."""
    env = {**os.environ, "https_proxy": "http://127.0.0.1:9", **env}
    command = [sys.executable, "-W", "error", str(FILE), *flags]
    return subprocess.run(command, capture_output=True, text=True, env=env)


# what was published


@real
def test_the_first_losses_are_the_published_ones() -> None:
    begun = start(microgpt.read_docs(str(NAMES)))
    losses = begun.losses(len(FIRST_LOSSES))
    assert [f"{loss:.4f}" for loss in losses] == [f"{loss:.4f}" for loss in FIRST_LOSSES]


@real
@pytest.mark.slow
def test_the_last_losses_and_the_samples_are_the_published_ones() -> None:
    begun = start(microgpt.read_docs(str(NAMES)))
    losses = begun.losses(1000)
    assert f"{losses[-1]:.4f}" == f"{LAST_LOSS:.4f}"
    assert f"{sum(losses[-50:]) / 50:.3f}" == f"{LAST_50_LOSSES:.3f}"
    assert [sample(begun.model, begun.tokenizer, begun.rng) for _ in range(20)] == SAMPLES


@real
def test_the_model_has_the_published_shape() -> None:
    begun = start(microgpt.read_docs(str(NAMES)))
    layer = ["attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2"]
    assert list(begun.model.state) == ["wte", "wpe", "lm_head", *(f"layer0.{n}" for n in layer)]
    assert len(begun.docs) == 32_033 and begun.tokenizer.n_vocab == 27
    assert len(begun.model.params()) == 4192


# autograd


def test_gradients_agree_with_central_differences_for_every_weight() -> None:
    model = GPT(5, random.Random(1), width=4, heads=2, layers=2, block=4)
    tokens = [4, 0, 3, 1, 4]
    mean(model.losses(tokens)).backward()
    step = 1e-6
    for weight in model.params():
        around = []
        for weight.data in (weight.data - step, weight.data + 2 * step):
            around.append(mean(model.losses(tokens)).data)
        weight.data -= step
        assert weight.grad == pytest.approx((around[1] - around[0]) / (2 * step), abs=1e-8)


def test_every_operation_has_the_slope_of_calculus() -> None:
    x, y = Value(0.7), Value(-1.3)
    (x * y + x.exp() - (x / y) ** 2 + x.log() + y.relu() + (3 - 2 * x) + (-x) * 0.5).backward()
    assert x.grad == pytest.approx(-1.3 + math.exp(0.7) - 1.4 / 1.69 + 1 / 0.7 - 2 - 0.5)
    assert y.grad == pytest.approx(0.7 + 2 * 0.49 / (-1.3) ** 3)


def test_a_value_used_twice_gets_both_gradients() -> None:
    x, y = Value(3.0), Value(5.0)
    dot([x, x], [x, y]).backward()  # x * x + x * y
    assert (x.grad, y.grad) == (11.0, 3.0)


def test_a_long_chain_does_not_reach_the_recursion_limit() -> None:
    x = total = Value(1.0)
    for _ in range(20 * sys.getrecursionlimit()):
        total = total + x
    total.backward()
    assert x.grad == total.data


def test_softmax_survives_large_numbers_and_sums_to_one() -> None:
    chances = [p.data for p in softmax([Value(1000.0), Value(999.0), Value(-1000.0)])]
    assert sum(chances) == pytest.approx(1) and chances[0] == pytest.approx(1 / (1 + math.exp(-1)))


# the model


def test_a_position_sees_nothing_of_its_future() -> None:
    model = start(microgpt.SHIPPED).model
    ends = [[loss.data for loss in model.losses([26, 4, 12, last])] for last in (0, 26)]
    assert ends[0][:2] == ends[1][:2] and ends[0][2] != ends[1][2]


def test_tokens_come_back_as_the_text_they_came_from() -> None:
    tokenizer = Tokenizer(["emma", "ava"])
    assert tokenizer.encode("eva") == [4, 1, 3, 0, 4] and tokenizer.n_vocab == 5
    assert tokenizer.decode([1, 3, 0]) == "eva"


def test_one_adam_step_is_the_published_formula() -> None:
    weight = Value(0.5)
    weight.grad = -0.2
    adam = Adam([weight])
    adam.step(rate=0.01)
    assert weight.data == pytest.approx(0.51)  # the first step is as long as the rate
    weight.grad = 0.1
    adam.step(rate=0.01)
    m = (0.85 * 0.15 * -0.2 + 0.15 * 0.1) / (1 - 0.85**2)
    v = (0.99 * 0.01 * 0.04 + 0.01 * 0.01) / (1 - 0.99**2)
    assert weight.data == pytest.approx(0.51 - 0.01 * m / math.sqrt(v))
    assert weight.grad == 0  # ready for the next name


def test_training_lowers_the_loss() -> None:
    losses = start(microgpt.SHIPPED, width=8, heads=2).losses(150)
    assert sum(losses[-50:]) < 0.9 * sum(losses[:50])


# honest


def test_no_held_out_name_is_trained_on() -> None:
    docs = ["anna", "bob", "anna", *(f"name{n}" for n in range(98)), "bob"]
    kept, held = split(docs)
    assert not set(kept) & set(held)
    assert sorted(kept + held) == sorted(set(docs)) and len(held) == 10
    assert split(docs) == (kept, held)


@real
def test_holdout_prints_its_loss_beside_the_floor_of_ngrams() -> None:
    tiny = ["--width", "2", "--heads", "1", "--block", "16", "--steps", "1"]
    done = run(str(NAMES), "--holdout", *tiny)
    assert done.returncode == 0 and done.stderr == ""
    assert re.search(r"held-out loss 3\.\d{3} nats per token, on 2,949 documents", done.stdout)
    assert "2.080" in done.stdout and "26,545 documents" in done.stdout


def test_holdout_of_other_text_is_not_compared_with_names() -> None:
    done = run("--holdout", "--steps", "2")
    assert "held-out loss" in done.stdout and "2.080" not in done.stdout


# the program


def test_the_file_is_short_and_needs_only_the_standard_library() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names


def test_importing_the_file_does_nothing() -> None:
    code = "import random; before = random.getstate(); import microgpt; "
    code += "assert random.getstate() == before"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_network_it_trains_on_the_names_that_ship() -> None:
    done = run("--steps", "3")
    assert done.returncode == 0 and done.stderr == ""
    assert f"the {len(microgpt.SHIPPED)} names that ship" in done.stdout
    assert len(done.stdout.rpartition("sampled:\n")[2].splitlines()) == 20


def test_the_names_that_ship_are_distinct_and_use_the_whole_alphabet() -> None:
    assert len(set(microgpt.SHIPPED)) == len(microgpt.SHIPPED)
    assert Tokenizer(microgpt.SHIPPED).n_vocab == 27


def test_a_second_run_prints_the_same_and_another_seed_does_not() -> None:
    first, again = run("--steps", "5"), run("--steps", "5", PYTHONHASHSEED="7")
    assert first.stdout == again.stdout != run("--steps", "5", "--seed", "1").stdout


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (None, [], r"cannot read .*docs\.txt: No such file.*Wanted a text file"),
        ("", [], r"no text.*Wanted one document a line"),
        (" \n\n", [], r"no text.*Wanted one document a line"),
        (b"\xff\xfe\x00", [], r"cannot read .*docs\.txt: .*Wanted a text file"),
        ("anna\nbob\n", ["--heads", "5"], r"5 does not divide 16.*1 2 4 8 16"),
        ("anna\n" + "x" * 40, ["--block", "32"], r"40 characters.*at most 31.*--block 41"),
        ("anna\nbob\n", ["--holdout"], r"2 distinct documents.*at least 10"),
        ("anna\nbob\n", ["--width", "0"], r"--width: 0 is too small.*at least 1"),
        ("anna\nbob\n", ["--steps", "many"], r"--steps: .*many"),
    ],
)
def test_bad_input_is_answered_by_what_to_do(
    text: str | bytes | None, flags: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "docs.txt"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run(str(file), *flags)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "step" not in done.stdout
    assert re.search(message, done.stderr.replace("\n", " "))


def test_ctrl_c_ends_the_training_and_samples() -> None:
    env = {**os.environ, "https_proxy": "http://127.0.0.1:9", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(FILE), "--steps", "100000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        next(line for line in running.stdout if line.startswith("step"))
        running.send_signal(signal.SIGINT)
        printed, complaints = running.stdout.read(), running.stderr.read()
    assert running.returncode == 0 and complaints == ""
    assert "stopped after step" in printed and len(printed.splitlines()) > 20


# the pictures of docs/microgpt.md


def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", PICTURES / "draw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
