"""Generation: the same text however it is computed, and `mendel sample`, which prints it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mendel import generate as generation
from mendel import stream as stream_room
from mendel.cli import sample
from mendel.data.tokenizers import Bytes, make_tokenizer
from mendel.formats import native
from mendel.generate import Sampler, generate, generate_batch
from mendel.model import Model, build
from mendel.spec import ModelSpec
from mendel.types import InputError

LLAMA: dict[str, Any] = {
    "width": 16, "n_layers": 2, "context": 32, "vocab": 24, "mixers": {"part": "attention"},
}  # fmt: skip
SPECS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "grouped heads": LLAMA | {"mixers": {"part": "attention", "n_kv_heads": 2}, "tied": True},
    "a window": LLAMA | {"mixers": {"part": "attention", "window": 3}},
    "a convolution": LLAMA | {"mixers": {"part": "attention", "conv": 3}},
    "wide heads with a norm": LLAMA
    | {"mixers": {"part": "attention", "qk_norm": True, "head_dim": 6, "rotary_base": 100.0}},
    "microgpt": LLAMA
    | {
        "embedding": {"part": "token", "position": "learned", "norm": True},
        "mixers": {"part": "attention", "rotary": False},
        "channels": {"part": "mlp", "act": "relu"},
        "norm": {"part": "rms_norm", "gain": False},
        "final_norm": False,
    },
    "nanogpt": LLAMA
    | {
        "embedding": {"part": "token", "position": "learned"},
        "mixers": {"part": "attention", "rotary": False},
        "channels": {"part": "mlp", "act": "gelu"},
        "norm": {"part": "layer_norm", "bias": True},
    },
    "a recurrence": LLAMA | {"mixers": "gated_delta_net", "channels": ["relu2", "geglu"]},
    "a hybrid": LLAMA | {"mixers": ["linear_attention", "attention"], "channels": []},
}


pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name: str = "llama", seed: int = 0, **fields: Any) -> Model:
    """A model whose logits differ enough for its texts to be alive."""
    model = build(ModelSpec.parse(SPECS[name] | fields), seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.05)  # gains and biases are not as they are at the start
    return model


def by_definition(model: Model, prompt: list[int], n: int) -> list[int]:
    """The likeliest tokens, each with a whole forward pass from the start."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(n):
            ids.append(int(model(torch.tensor([ids]))[0][0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompt", ([5], [1, 2, 3], list(range(12))), ids=len)
@pytest.mark.parametrize("name", SPECS)
def test_the_fast_stream_gives_the_models_own_logits(name: str, prompt: list[int]) -> None:
    model = tiny(name)
    stream = stream_room.Stream(model)
    mine = [stream.start(torch.tensor([prompt]))]
    text = [7, 7, 3, 20, 0, 11, 5, 9] * 2
    mine += [stream.step([token]) for token in text]
    with torch.inference_mode():
        theirs = model(torch.tensor([prompt + text]))[0][0, len(prompt) - 1 :].numpy()
    np.testing.assert_allclose(np.concatenate(mine), theirs, atol=2e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("small", (True, False), ids=("numpy", "torch"))
@pytest.mark.parametrize("name", SPECS)
def test_the_state_gives_the_text_that_starting_again_would(
    name: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "is_small", lambda model: small)
    model = tiny(name)
    assert list(generate(model, [1, 2], n_tokens=20)) == by_definition(model, [1, 2], 20)


def test_a_long_text_crosses_the_tables_of_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_room, "BLOCK", 4)
    stream_room._phases.cache_clear()
    assert list(generate(tiny(), [1], n_tokens=20)) == by_definition(tiny(), [1], 20)
    stream_room._phases.cache_clear()


@pytest.mark.parametrize("name", ("llama", "a recurrence"))
def test_a_text_of_a_batch_is_the_one_it_would_be_alone(name: str) -> None:
    model, prompts = tiny(name), [[1, 2], [3, 4], [1, 2]]
    samplers = [Sampler(1.0, 0.9, seed) for seed in (0, 1, 2)]
    rows = list(generate_batch(model, prompts, samplers=samplers, n_tokens=25))
    for prompt, sampler, column in zip(prompts, samplers, zip(*rows, strict=True), strict=True):
        alone = generate(model, prompt, n_tokens=25, temperature=1.0, top_p=0.9, seed=sampler.seed)
        assert list(column) == list(alone)


def test_a_text_that_goes_on_from_its_own_half_goes_on_as_it_would_have() -> None:
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 0.95, "seed": 3}
    whole = list(generate(tiny(), [1, 2], n_tokens=20, **options))
    rest = list(generate(tiny(), [1, 2, *whole[:9]], n_tokens=11, **options))
    assert whole[9:] == rest


def test_the_seed_decides_and_another_one_writes_another_text() -> None:
    texts = [
        list(generate(tiny(), [1], n_tokens=20, temperature=1.0, seed=seed)) for seed in (0, 0, 1)
    ]
    assert texts[0] == texts[1] != texts[2]


@given(seed=st.integers(0, 2**64 - 1), start=st.integers(0, 500))
def test_the_number_of_a_position_does_not_depend_on_where_one_began(seed: int, start: int) -> None:
    sampler, later = Sampler(seed=seed), start + 70
    from_start = sampler.uniforms(start)
    numbers = [next(from_start) for _ in range(71)]
    assert next(sampler.uniforms(later)) == numbers[-1]
    assert all(0 <= number < 1 for number in numbers)


def test_draws_follow_the_probabilities() -> None:
    p = np.array([0.5, 0.0, 0.3, 0.2])
    with np.errstate(divide="ignore"):
        logits = np.log(p).astype(np.float32)
    draws = Sampler(1.0, seed=1).uniforms(0)
    found = [Sampler(1.0).pick(logits, next(draws)) for _ in range(20_000)]
    assert np.bincount(found, minlength=4) / 20_000 == pytest.approx(p, abs=0.015)


def test_top_p_draws_from_the_fewest_tokens_that_have_it_together() -> None:
    logits = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    grid = np.linspace(0, 1 - 1e-12, 201)
    for top_p, kept in ((0.4, {1}), (0.5001, {1, 2}), (0.79, {1, 2}), (0.81, {0, 1, 2})):
        assert {Sampler(1.0, top_p).pick(logits, u) for u in grid} == kept


def test_rounding_of_logits_moves_a_draw_only_at_the_edges() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=2000).astype(np.float32)
    shaken = logits + rng.normal(size=2000).astype(np.float32) * np.float32(1e-6)
    pairs = [(Sampler(1.0).pick(logits, u), Sampler(1.0).pick(shaken, u)) for u in rng.random(2000)]
    assert sum(a != b for a, b in pairs) <= 5


def test_at_temperature_0_the_lowest_id_wins_ties() -> None:
    assert Sampler().pick(np.array([0.0, 2.0, 1.0, 2.0], np.float32), 0.99) == 1


def test_a_tiny_temperature_is_nearly_none() -> None:
    assert Sampler(1e-300).pick(np.array([0.0, 2.0, 1.0], np.float32), 0.5) == 1


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40),
    temperature=st.floats(1e-3, 100),
    top_p=st.floats(0.001, 1),
    u=st.floats(0, 1, exclude_max=True),
)
def test_every_draw_is_an_id(
    logits: list[float], temperature: float, top_p: float, u: float
) -> None:
    assert 0 <= Sampler(temperature, top_p).pick(np.array(logits, np.float32), u) < len(logits)


def test_a_text_ends_before_its_stop() -> None:
    whole = by_definition(tiny(), [1], 30)
    stop = whole[12]
    assert list(generate(tiny(), [1], n_tokens=30, stop=[stop])) == whole[: whole.index(stop)]


def test_a_batch_goes_on_until_all_have_ended() -> None:
    model, samplers = tiny(), [Sampler(1.0, seed=0), Sampler(1.0, seed=1)]
    first, second = (
        list(generate(model, [1], n_tokens=12, temperature=1.0, seed=seed)) for seed in (0, 1)
    )
    only = next(token for token in first if token not in second)
    rows = generate_batch(model, [[1], [1]], samplers=samplers, n_tokens=12, stop=[only])
    mine, other = zip(*rows, strict=True)
    n = first.index(only)
    assert list(mine) == first[:n] + [None] * (12 - n) and list(other) == second


@pytest.mark.parametrize("small", (True, False), ids=("numpy", "torch"))
def test_learned_positions_that_run_out_leave_what_was_written(
    small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "is_small", lambda model: small)
    model, kept = tiny("microgpt"), list[int]()
    with pytest.raises(InputError, match=r"stopped after 31 of 50 tokens: position 33 is past"):
        for token in generate(model, [1, 2], n_tokens=50):
            kept.append(token)
    assert kept == by_definition(model, [1, 2], 31)


def test_the_state_of_a_recurrence_or_a_window_does_not_grow() -> None:
    stream = stream_room.Stream(tiny("a window"))
    stream.start(torch.tensor([[1]]))
    for _ in range(1000):
        stream.step([1])
    assert all(mix.k.shape[1] < 150 for _, mix in stream.blocks if hasattr(mix, "k"))


def test_training_goes_on_after_a_sample() -> None:
    model = tiny()
    before = [p.clone() for p in model.parameters()]
    rows = generate(model, [1], n_tokens=5, temperature=1.0)
    next(rows)
    assert not torch.is_inference_mode_enabled()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    model(torch.tensor([[1, 2]]))[0].sum().backward()


BAD = {
    "an empty prompt": ({"prompt_ids": []}, "prompt is empty"),
    "an id outside": ({"prompt_ids": [1, 24]}, "id 24. Wanted 0 to 23"),
    "a negative id": ({"prompt_ids": [-1]}, "id -1"),
    "a negative count": ({"n_tokens": -1}, "n_tokens=-1"),
    "a temperature below 0": ({"temperature": -0.1}, "temperature=-0.1"),
    "a temperature of nan": ({"temperature": float("nan")}, "temperature=nan"),
    "top_p of 0": ({"top_p": 0.0}, "top_p=0.0. Wanted above 0"),
    "top_p above 1": ({"top_p": 1.1}, "top_p=1.1"),
    "a negative seed": ({"seed": -1}, "seed=-1"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_generated_is_refused_at_once(name: str) -> None:
    fields, says = BAD[name]
    with pytest.raises(InputError, match=says):
        generate(tiny(), **{"prompt_ids": [1], **fields})


def test_broken_weights_are_named_and_not_sampled() -> None:
    model = tiny()
    with torch.no_grad():
        model.head.logits.weight[3] = torch.nan
    for temperature in (0.0, 1.0):
        with pytest.raises(InputError, match="logits hold nan"):
            list(generate(model, [1], temperature=temperature))


def test_a_classifier_writes_no_text() -> None:
    model = build(ModelSpec.parse(LLAMA | {"head": "classifier"}), n_out=2)
    with pytest.raises(InputError, match="head='classifier' writes no text"):
        generate(model, [1])


# mendel sample

TEXT = "a dûck — 鴨 🦆🦆 à la carte, naïve. " * 4


@pytest.mark.parametrize("name", ("bytes", "chars", "bpe:300"))
def test_a_text_is_printed_in_whole_characters_and_whole(name: str) -> None:
    codec = make_tokenizer(name, TEXT)
    ids = codec.encode(TEXT).tolist()
    pieces = list(sample.decode(codec, ids[:2], iter(ids[2:])))
    assert "".join(pieces) == codec.decode(ids)[len(codec.decode(ids[:2])) :]
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 20  # as it comes


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*"aé鴨🦆".encode(), 0xFF, 0xE9, 0xC3]), max_size=24))
def test_bytes_that_are_no_text_are_printed_as_all_at_once_would_be(ids: list[int]) -> None:
    pieces = list(sample.decode(Bytes(), [65], iter(ids)))
    assert "".join(pieces) == bytes(ids).decode("utf-8", errors="replace")


def test_garbage_is_not_held_back_for_ever() -> None:
    pieces = sample.decode(Bytes(), [65], iter([0xFF] * 1000))
    assert next(pieces) == "\ufffd"


def app() -> typer.Typer:
    app = typer.Typer()
    sample.add_to(app)
    return app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app(), [str(argument) for argument in arguments])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    native.save(tiny(vocab=256), tmp_path / "model", Bytes())
    return tmp_path / "model"


def test_sample_prints_the_prompt_and_what_follows(saved: Path) -> None:
    result = run(saved, "--prompt", "ab", "--tokens", 12)
    ids = by_definition(tiny(vocab=256), list(b"ab"), 12)
    assert result.exit_code == 0
    assert result.stdout == "ab" + bytes(ids).decode("utf-8", errors="replace") + "\n"


def test_sample_without_a_tokenizer_reads_and_writes_ids(tmp_path: Path) -> None:
    native.save(tiny(), tmp_path / "model")
    result = run(tmp_path / "model", "--prompt", "1 2", "--tokens", 3)
    assert result.stdout.split() == ["1", "2", *map(str, by_definition(tiny(), [1, 2], 3))]
    assert "no tokenizer" in result.stderr
    result = run(tmp_path / "model", "--prompt", "hello")
    assert isinstance(result.exception, InputError)
    assert "--tokenizer PATH" in str(result.exception)


def test_sample_takes_the_tokenizer_that_it_is_given(tmp_path: Path) -> None:
    native.save(tiny(vocab=256), tmp_path / "model")
    Bytes().save(tmp_path / "other.json")
    result = run(tmp_path / "model", "--prompt", "a", "--tokenizer", tmp_path / "other.json")
    assert result.exit_code == 0 and result.stdout.startswith("a")


def test_an_empty_prompt_begins_a_line_or_is_refused(tmp_path: Path) -> None:
    native.save(tiny(vocab=256), tmp_path / "model", Bytes())
    result = run(tmp_path / "model", "--tokens", 4)
    wanted = bytes(by_definition(tiny(vocab=256), list(b"\n"), 4)).decode(errors="replace")
    assert result.exit_code == 0 and result.stdout == wanted + "\n"
    native.save(tiny(), tmp_path / "letters", make_tokenizer("chars", "abcd"))
    assert "prompt is empty" in str(run(tmp_path / "letters").exception)


def test_where_learned_positions_end_the_text_ends_and_it_is_said(tmp_path: Path) -> None:
    native.save(tiny("microgpt", vocab=256), tmp_path / "model", Bytes())
    result = run(tmp_path / "model", "--prompt", "ab")
    ids = by_definition(tiny("microgpt", vocab=256), list(b"ab"), 31)
    assert result.stdout == "ab" + bytes(ids).decode("utf-8", errors="replace") + "\n"
    assert result.exit_code == 0 and "at most 31 tokens" in result.stderr


def test_ctrl_c_ends_the_line_and_keeps_the_text(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Iterator[int]:
        yield from b"xy\xe9"
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "generate", interrupted)
    result = run(saved, "--prompt", "ab")
    assert result.exit_code == 130 and result.stdout == "abxy\ufffd\n"


def test_ctrl_c_in_a_shell_ends_a_sample_without_a_traceback(saved: Path) -> None:
    code = "import typer; from mendel.cli import sample; a = typer.Typer(); sample.add_to(a); a()"
    command = [sys.executable, "-c", code, str(saved)]
    command += ["--prompt", "ab", "--tokens", "100000000", "--temperature", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.read(20)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == b"" and rest.endswith(b"\n")


def test_an_adapter_or_a_hook_on_a_matrix_is_obeyed() -> None:
    class Adapter(torch.nn.Module):
        """As peft wraps a matrix: its weight is the old one, its output is not."""

        def __init__(self, inner: torch.nn.Linear) -> None:
            super().__init__()
            self.inner, self.weight = inner, inner.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) - 3 * x

    model = tiny("microgpt")
    layer: Any = model.layers[0]
    layer.mixer.out = Adapter(layer.mixer.out)
    tokens = torch.tensor([[3, 1, 4]])
    with torch.no_grad():
        wanted = model(tokens)[0][0, -1].numpy()
        unadapted = tiny("microgpt")(tokens)[0][0, -1].numpy()
    assert np.allclose(stream_room.Stream(model).start(tokens)[0], wanted, atol=1e-5)
    assert not np.allclose(wanted, unadapted, atol=1e-5)
