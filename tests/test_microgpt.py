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
import textwrap
from pathlib import Path

import pytest

from microgpt import FLOOR, GPT, SHIPPED, Value, dot, read_docs, rmsnorm, softmax, split

ROOT = Path(__file__).parents[1]
FILE = ROOT / "microgpt.py"
PICTURES = ROOT / "docs" / "microgpt"
NAMES = ROOT.parent / "shared" / "data" / "names" / "names.txt"
real = pytest.mark.skipif(not NAMES.exists(), reason="needs names.txt in ../shared/data/names")

# Andrej Karpathy, "microgpt", 12 February 2026, and the many public copies of its output
FIRST_LOSSES = (
    "3.3660 3.4243 3.1778 3.0664 3.2209 2.9452 3.2894 3.3245 2.8990 3.2229 2.7964 2.9345 3.0544"
)
LAST_LOSS = "2.6497"
LAST_50_LOSSES = "2.323"  # their mean
SAMPLES = (
    "kamon ann karai jaire vialan karia yeran anna areli kaina "
    "konna keylen liole alerin earan lenne kana lara alela anton"
)


def start(docs: list[str], **sizes: int) -> tuple[GPT, list[str], random.Random]:
    """A model before its first step; the order of the draws decides all that follows."""
    rng = random.Random(42)
    docs = list(docs)
    rng.shuffle(docs)
    return GPT(docs, rng, **sizes), docs, rng


def learn(model: GPT, docs: list[str], n: int, steps: int = 1000) -> list[float]:
    """The losses of the first `n` of `steps` steps."""
    return [model.learn(docs[step % len(docs)], 0.01 * (1 - step / steps)) for step in range(n)]


def gradients(model: GPT, doc: str) -> list[float]:
    """d(loss)/d(weight), and all gradients back at zero."""
    (sum(model.losses(doc), Value(0.0)) * Value(1 / (len(doc) + 1))).backward()
    found = [weight.grad for weight in model.weights]
    for weight in model.weights:
        weight.grad = 0.0
    return found


def loss(model: GPT, doc: str) -> float:
    losses = [value.data for value in model.losses(doc)]
    return sum(losses) / len(losses)


def offline() -> dict[str, str]:
    """A world whose network refuses every connection."""
    refused = {name: "http://127.0.0.1:9" for name in ("https_proxy", "HTTPS_PROXY")}
    return {**os.environ, **refused, "no_proxy": ""}


def run(*flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The file as a user runs it."""
    command = [sys.executable, "-W", "error", str(FILE), *flags]
    return subprocess.run(command, capture_output=True, text=True, env={**offline(), **env})


# what was published


@real
def test_the_first_losses_are_the_published_ones() -> None:
    model, docs, _ = start(read_docs(str(NAMES)))
    assert " ".join(f"{loss:.4f}" for loss in learn(model, docs, 13)) == FIRST_LOSSES


@real
@pytest.mark.slow
def test_the_last_losses_and_the_samples_are_the_published_ones() -> None:
    model, docs, rng = start(read_docs(str(NAMES)))
    losses = learn(model, docs, 1000)
    assert f"{losses[-1]:.4f}" == LAST_LOSS
    assert f"{sum(losses[-50:]) / 50:.3f}" == LAST_50_LOSSES
    assert " ".join(model.sample(rng) for _ in range(20)) == SAMPLES


@real
def test_the_model_has_the_published_shape() -> None:
    model, docs, _ = start(read_docs(str(NAMES)))
    shapes = {name: (len(matrix), len(matrix[0])) for name, matrix in model.state.items()}
    square = {f"layer0.attn_{w}": (16, 16) for w in ("wq", "wk", "wv", "wo")}
    outside = {"wte": (27, 16), "wpe": (16, 16), "lm_head": (27, 16)}
    mlp = {"layer0.mlp_fc1": (64, 16), "layer0.mlp_fc2": (16, 64)}
    assert list(shapes.items()) == list({**outside, **square, **mlp}.items())
    assert (len(docs), model.bos, len(model.weights)) == (32_033, 26, 4_192)


# autograd


@pytest.mark.parametrize(("layers", "doc"), [(1, "b"), (2, "ca")])
def test_every_gradient_agrees_with_central_differences(layers: int, doc: str) -> None:
    sizes = {"width": 4, "heads": 2, "layers": layers, "block": 4}
    model = GPT(["abcd"], random.Random(1), **sizes)
    step = 1e-6
    for weight, gradient in zip(model.weights, gradients(model, doc), strict=True):
        here, around = weight.data, []
        for weight.data in (here - step, here + step):
            around.append(loss(model, doc))
        weight.data = here
        assert gradient == pytest.approx((around[1] - around[0]) / (2 * step), abs=1e-8)


def test_sums_products_and_powers_have_the_slopes_of_calculus() -> None:
    x, y = Value(0.7), Value(-1.3)
    (x * y + x**3 + y**-1 + dot([x, x, y], [x, y, y])).backward()  # the dot is xx + xy + yy
    assert x.grad == pytest.approx(-1.3 + 3 * 0.49 + 2 * 0.7 - 1.3)
    assert y.grad == pytest.approx(0.7 - 1 / 1.69 + 0.7 - 2 * 1.3)


@pytest.mark.parametrize("function", [softmax, rmsnorm, lambda xs: softmax(xs, 2.0)])
def test_softmax_and_rmsnorm_have_the_slopes_of_calculus(function) -> None:  # type: ignore[no-untyped-def]
    at, step = [0.3, -0.2, 1.1], 1e-6
    for i in range(3):
        xs = [Value(x) for x in at]
        function(xs)[0].backward()
        ends = [[x + (i == j) * d for j, x in enumerate(at)] for d in (-step, step)]
        low, high = (function([Value(x) for x in end])[0].data for end in ends)
        assert xs[i].grad == pytest.approx((high - low) / (2 * step), abs=1e-8)


def test_a_long_chain_does_not_reach_the_recursion_limit() -> None:
    x = total = Value(1.0)
    for _ in range(20 * sys.getrecursionlimit()):
        total = total + x
    total.backward()
    assert x.grad == total.data


def test_softmax_survives_large_scores() -> None:
    chances = [chance.data for chance in softmax([Value(1000.0), Value(999.0), Value(-1000.0)])]
    assert chances == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])


# the model


def test_a_position_sees_nothing_of_its_future() -> None:
    model, _, _ = start(SHIPPED.split())
    anna, anton = ([value.data for value in model.losses(doc)] for doc in ("anna", "anton"))
    assert anna[:2] == anton[:2] and anna[2] != anton[2]  # until the one expects n, the other t


def test_a_position_sees_all_of_its_past() -> None:
    model, _, _ = start(SHIPPED.split(), layers=2)
    nora, dora = ([value.data for value in model.losses(doc)] for doc in ("nora", "dora"))
    assert all(a != b for a, b in zip(nora[1:], dora[1:], strict=True))


def test_two_steps_of_learning_are_adam_as_published() -> None:
    model, twin = (start(SHIPPED.split(), width=4, heads=1)[0] for _ in range(2))
    m = v = [0.0] * len(twin.weights)
    for step, (doc, rate) in enumerate([("emma", 0.01), ("zoe", 0.005)], start=1):
        grads = gradients(twin, doc)
        m = [0.85 * a + 0.15 * g for a, g in zip(m, grads, strict=True)]
        v = [0.99 * a + 0.01 * g * g for a, g in zip(v, grads, strict=True)]
        for weight, a, b in zip(twin.weights, m, v, strict=True):
            fair = a / (1 - 0.85**step), b / (1 - 0.99**step)
            weight.data -= rate * fair[0] / (math.sqrt(fair[1]) + 1e-8)
        model.learn(doc, rate)
        got, wanted = ([w.data for w in some.weights] for some in (model, twin))
        assert got == pytest.approx(wanted, rel=1e-12)


def test_learning_lowers_the_loss() -> None:
    model, docs, _ = start(SHIPPED.split(), width=8, heads=2)
    losses = learn(model, docs, 150, steps=150)
    assert sum(losses[-50:]) < 0.9 * sum(losses[:50])


def test_a_sample_ends_at_the_block() -> None:
    model, _, rng = start(["aaaaa"], width=1, heads=1, block=7)
    samples = [model.sample(rng, temperature=100.0) for _ in range(1000)]
    assert max(map(len, samples)) == 7 and set("".join(samples)) == {"a"}


# honest


def test_no_held_out_document_is_learned_from() -> None:
    docs = ["anna", "bob", "anna", *(f"name{n}" for n in range(97)), "bob"]
    kept, held = split(docs)
    assert not set(kept) & set(held) and sorted(kept + held) == sorted(set(docs))
    assert len(held) == 10 and split(docs) == (kept, held)


@real
def test_a_tenth_of_the_distinct_names_is_held_out() -> None:
    kept, held = split(read_docs(str(NAMES)))
    assert (len(kept), len(held)) == (26_544, 2_950)


def test_holdout_prints_its_loss_beside_the_floor_of_ngrams() -> None:
    done = run("--holdout", "--steps", "2")
    assert (done.returncode, done.stderr) == (0, "")
    held = len(split(SHIPPED.split())[1])
    assert f"\ntesting on {held} documents that were never seen\nheld-out loss 3." in done.stdout
    assert FLOOR == 2.061 and "(guessing: 3.296; 5-grams of names.txt: 2.061)" in done.stdout


# the program


def test_the_file_is_short_and_needs_only_the_standard_library() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert {str(name).split(".")[0] for name in names} <= sys.stdlib_module_names


def test_importing_the_file_says_and_draws_nothing() -> None:
    code = """
        import random
        before = random.getstate()
        import microgpt
        assert random.getstate() == before
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=offline())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_network_it_learns_the_names_that_ship() -> None:
    done = run("--steps", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "could not download names.txt" in done.stdout and "Connection refused" in done.stdout
    assert f"\n{len(SHIPPED.split())} documents, 26 characters, 4,192 weights\n" in done.stdout
    assert len(done.stdout.partition("\nsampled:\n")[2].splitlines()) == 20


def test_a_second_run_prints_the_same_and_another_seed_does_not() -> None:
    first, again = run("--steps", "5"), run("--steps", "5", PYTHONHASHSEED="7")
    assert first.stdout == again.stdout != run("--steps", "5", "--seed", "1").stdout


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        (None, [], r"No such file or directory: '.*docs\.txt'\. Wanted a text file"),
        (b"\xff\xfe\x00", [], r"can't decode byte 0xff.*Wanted a text file in UTF-8"),
        (b"", [], r"no documents to learn from\. Wanted a text file, one document a line"),
        (b" \n\n", [], r"no documents to learn from"),
        (b"anna\nanna\n", ["--holdout"], r"no documents to learn from"),
        (b"anna\nbob\n", ["--heads", "5"], r"--heads 5 does not divide --width 16\. Set a divisor"),
        (b"anna\nbob\n", ["--heads", "0"], r"wanted .*--heads.* of at least 1"),
        (b"anna\nbob\n", ["--steps", "many"], r"argument --steps: invalid int value: 'many'"),
        (b"anna\n" + b"x" * 16, [], r"--block 16 cannot hold 16 characters\. Set 17"),
    ],
)
def test_bad_input_is_answered_by_what_to_do(
    text: bytes | None, flags: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "docs.txt"
    if text is not None:
        file.write_bytes(text)
    done = run(str(file), *flags)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert re.search(message, done.stderr)


def test_ctrl_c_ends_the_training_and_samples() -> None:
    command = [sys.executable, "-u", str(FILE), "--steps", "100000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=offline()
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        next(line for line in running.stdout if line.startswith("step"))
        running.send_signal(signal.SIGINT)
        printed, complaints = running.stdout.read(), running.stderr.read()
    assert (running.returncode, complaints) == (0, "")
    assert "stopped" in printed
    assert len(printed.partition("\nsampled:\n")[2].splitlines()) == 20


# docs/microgpt.md


def test_the_pictures_are_what_the_file_computes_now() -> None:
    spec = importlib.util.spec_from_file_location("draw", PICTURES / "draw.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert {file.name for file in PICTURES.glob("*.svg")} == set(module.PICTURES)
    for name, draw in module.PICTURES.items():
        assert draw() == (PICTURES / name).read_text(encoding="utf-8"), f"{name} is out of date"


def test_the_walk_quotes_the_file_as_it_is_and_shows_every_picture() -> None:
    walk = (ROOT / "docs" / "microgpt.md").read_text(encoding="utf-8")
    file = FILE.read_text(encoding="utf-8")
    quotes = re.findall(r"```python\n(.*?)```", walk, re.DOTALL)
    assert len(quotes) > 5
    for quote in quotes:
        assert any(textwrap.indent(quote, " " * n) in file for n in (0, 4, 8, 12, 16)), quote
    pictures = re.findall(r"\]\((microgpt/[a-z]+\.svg)\)", walk)
    assert {f"microgpt/{picture.name}" for picture in PICTURES.glob("*.svg")} == set(pictures)
