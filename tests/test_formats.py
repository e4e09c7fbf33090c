"""Models on disk: what is written comes back, others read it, and what is broken is named."""

from __future__ import annotations

import contextlib
import json
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mendel.data.tokenizers import Bytes, Chars, load_tokenizer
from mendel.formats import huggingface, load, native
from mendel.generate import generate
from mendel.model import Model, build
from mendel.presets import PRESETS
from mendel.spec import ModelSpec, SpecError
from mendel.types import InputError

STORIES = Path(__file__).parents[2] / "shared" / "data" / "stories260K"
BIN, TOK = STORIES / "stories260K.bin", STORIES / "tok512.bin"
real = pytest.mark.skipif(not BIN.exists(), reason="needs ../shared/data/stories260K")
TOKENS = torch.tensor([[1, 5, 3, 17, 0, 22, 9, 9, 4, 2, 11, 8]])
SAME_TMP = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)

LLAMA: dict[str, Any] = {
    "width": 16, "n_layers": 2, "context": 32, "vocab": 24, "mixers": {"part": "attention"},
}  # fmt: skip
GROUPED = LLAMA | {"mixers": {"part": "attention", "n_kv_heads": 2}}
QK_NORM = {"part": "attention", "qk_norm": True}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its import alone
        module = pytest.importorskip("transformers")
        module.LlamaForCausalLM, module.MistralForCausalLM, module.Qwen3ForCausalLM  # noqa: B018
    module.logging.disable_progress_bar()
    return module


def tiny(seed: int = 1, *, n_out: int | None = None, **fields: Any) -> Model:
    """A model in which no gain is 1 and no bias 0, so that none can be lost unseen."""
    model = build(ModelSpec.parse(LLAMA | fields), seed=seed, n_out=n_out)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.05)
    return model


def logits(model: Model, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.inference_mode():
        return model(tokens)[0]


def their_logits(theirs: Any, tokens: torch.Tensor = TOKENS) -> torch.Tensor:
    with torch.inference_mode():
        output: torch.Tensor = theirs(tokens).logits
        return output


def same_weights(a: Model, b: Model) -> bool:
    mine, its = a.state_dict(), b.state_dict()
    return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)


def refused(action: Callable[[], object], *says: str) -> None:
    with pytest.raises(InputError) as error:
        action()
    for words in says:
        assert words in str(error.value)


# ours

OURS: dict[str, dict[str, Any]] = {
    "llama": {},
    "tied": {"tied": True},
    "a hybrid": {"mixers": ["gated_delta_net", "rwkv7", "sliding_window"], "n_layers": 3},
    "learned positions": {
        "embedding": {"part": "token", "position": "learned"},
        "norm": {"part": "layer_norm", "bias": True},
    },
    "no gains, no channels": {"norm": {"part": "rms_norm", "gain": False}, "channels": []},
}


@pytest.mark.parametrize("name", OURS)
def test_what_is_saved_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = tiny(**OURS[name])
    native.save(model, tmp_path / "m")
    again, tokenizer = native.load(tmp_path / "m")
    assert again.spec == model.spec and tokenizer is None
    assert same_weights(model, again) and torch.equal(logits(model), logits(again))


@pytest.mark.parametrize("head", ("classifier", {"part": "tagger", "crf": True}), ids=str)
def test_a_head_comes_back_with_as_many_labels(head: Any, tmp_path: Path) -> None:
    model = tiny(head=head, n_out=5)
    native.save(model, tmp_path / "m")
    assert same_weights(model, native.load(tmp_path / "m")[0])


def test_the_tokenizer_comes_along(tmp_path: Path) -> None:
    native.save(tiny(), tmp_path / "m", Chars("abcdefgh"))
    tokenizer = load(tmp_path / "m").tokenizer
    assert tokenizer is not None and tokenizer.encode("bad").tolist() == [1, 0, 3]
    native.save(tiny(), tmp_path / "m")  # one of the model before would write another text
    assert load(tmp_path / "m").tokenizer is None


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16, torch.float64), ids=str)
def test_floats_of_every_width_are_read_as_float32_unless_asked(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = tiny().to(dtype)
    native.save(model, tmp_path / "m")
    assert same_weights(native.load(tmp_path / "m")[0], model.float())
    assert next(native.load(tmp_path / "m", dtype=dtype)[0].parameters()).dtype == dtype


def test_a_save_keeps_what_else_lies_in_the_directory_and_leaves_nothing_beside(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "deep" / "m"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    native.save(tiny(), folder)
    native.save(tiny(2, tied=True), folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert same_weights(native.load(folder)[0], tiny(2, tied=True))
    assert [file.name for file in folder.parent.iterdir()] == ["m"]


def test_a_save_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native.save(tiny(), tmp_path / "m")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Chars, "save", full)
    with pytest.raises(OSError, match="No space left"):
        native.save(tiny(2), tmp_path / "m", Chars("ab"))
    refused(lambda: native.save(tiny(2), tmp_path / "m", Bytes()), "256 ids", "vocab is 24")
    assert same_weights(native.load(tmp_path / "m")[0], tiny())
    assert [file.name for file in tmp_path.iterdir() if "home" not in file.name] == ["m"]


def test_a_save_that_was_interrupted_between_its_files_is_named_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native.save(tiny(), tmp_path / "m")
    real_replace, done = native.os.replace, []

    def once(source: Path, target: Path) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(real_replace(source, target))

    monkeypatch.setattr(native.os, "replace", once)
    with pytest.raises(KeyboardInterrupt):  # same shapes, another model
        native.save(tiny(2, mixers={"part": "attention", "n_heads": 2}), tmp_path / "m")
    refused(lambda: native.load(tmp_path / "m"), "spec.toml", "mixers", "Delete spec.toml")
    (tmp_path / "m" / "spec.toml").unlink()
    assert load(tmp_path / "m").model.spec.mixers[0].fields == {"n_heads": 2}


def test_weights_by_another_hand_need_no_metadata(tmp_path: Path) -> None:
    native.save(tiny(), tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    save_file(load_file(weights), weights)
    assert same_weights(native.load(tmp_path / "m")[0], tiny())


def change(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    native.save(tiny(), tmp_path / "m")
    return tmp_path / "m"


def test_weights_that_do_not_fit_are_named(ours: Path) -> None:
    good = load_file(ours / "model.safetensors")
    q = "layers.0.mixer.q.weight"
    change({k: v for k, v in good.items() if ".1." not in k}, ours)
    refused(lambda: native.load(ours), "missing layers.1.", "and 6 more", "spec.toml")
    change(good | {"layers.0.mixer.qq": torch.ones(1)}, ours)
    refused(lambda: native.load(ours), "unexpected layers.0.mixer.qq")
    change(good | {q: torch.ones(16, 8)}, ours)
    refused(lambda: native.load(ours), f"{q} is 16x8, wanted 16x16")
    for dtype, name in ((torch.int8, "I8"), (torch.float8_e4m3fn, "F8_E4M3")):
        change(good | {q: torch.ones(16, 16).to(dtype)}, ours)
        refused(lambda: native.load(ours), f"{q} is {name}", "BF16", "Quantized")


@pytest.mark.parametrize("n", (0, 4, 8, 200, -1))
def test_weights_that_were_cut_are_refused(ours: Path, n: int) -> None:
    weights = ours / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:n])
    refused(lambda: native.load(ours), "no whole safetensors file", "bytes", "cut")


def test_a_directory_without_weights_says_so(ours: Path) -> None:
    (ours / "model.safetensors").unlink()
    refused(lambda: load(ours), "model.safetensors is missing")


BAD_SPECS = {
    "not TOML": ("width = = 3", "not TOML"),
    "an unknown field": ("witdh = 16\nvocab = 24", "Did you mean 'width'?"),
    "an unknown part": ("width = 16\nvocab = 24\nmixers = ['atention']", "attention"),
    "no vocabulary": ("width = 16", "vocab=0"),
    "too many layers": ("vocab = 24\nn_layers = 1000000000", "n_layers=1000000000"),
    "too wide": ("vocab = 24\nn_layers = 1\nwidth = 4000000000000", "4000000000000"),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_a_spec_that_is_none_is_refused(name: str, ours: Path) -> None:
    text, says = BAD_SPECS[name]
    change(load_file(ours / "model.safetensors"), ours)
    (ours / "spec.toml").write_text(text)
    refused(lambda: native.load(ours), says)


# Hugging Face

LLAMAS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("LlamaForCausalLM", {}),
    "grouped heads, tied": ("LlamaForCausalLM", GROUPED | {"tied": True}),
    "one key for all": ("LlamaForCausalLM", {"mixers": "multi_query"}),
    "wide heads, another base": (
        "LlamaForCausalLM",
        {"mixers": {"part": "attention", "head_dim": 6, "rotary_base": 500.0}},
    ),
    "another eps and hidden width": (
        "LlamaForCausalLM",
        {
            "norm": {"part": "rms_norm", "eps": 0.01},
            "channels": {"part": "swiglu", "hidden": 20},
        },
    ),
    "norms without a gain": ("LlamaForCausalLM", {"norm": {"part": "rms_norm", "gain": False}}),
    "a window": ("MistralForCausalLM", {"mixers": {"part": "attention", "window": 4}}),
    "heads that do not divide the width": (
        "MistralForCausalLM",
        {"mixers": {"part": "attention", "n_heads": 3, "head_dim": 4}},
    ),
    "queries with a norm": (
        "Qwen3ForCausalLM",
        {"mixers": QK_NORM | {"qk_norm_eps": 1e-3}, "norm": {"part": "rms_norm", "eps": 1e-3}},
    ),
    "windows in some layers": ("Qwen3ForCausalLM", {"mixers": [QK_NORM | {"window": 4}, QK_NORM]}),
    "the preset modern": ("Qwen3ForCausalLM", PRESETS["modern"]["model"]),
}


@pytest.mark.parametrize("name", LLAMAS)
def test_what_is_exported_gives_the_same_logits_in_transformers_and_comes_back(
    name: str, tmp_path: Path, transformers: Any
) -> None:
    architecture, fields = LLAMAS[name]
    model = tiny(**fields)
    huggingface.save(model, tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert type(theirs).__name__ == architecture
    torch.testing.assert_close(logits(model), their_logits(theirs), atol=1e-4, rtol=1e-4)
    again = load(tmp_path / "hf")
    assert again.kind == "huggingface"
    torch.testing.assert_close(logits(model), logits(again.model), atol=0, rtol=0)
    if "without a gain" not in name:  # there, theirs are ones
        assert same_weights(model, again.model)


THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "llama, tied": ("Llama", {"tie_word_embeddings": True, "head_dim": 6}),
    "llama with another base": (
        "Llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}, "rms_norm_eps": 1e-3},
    ),
    "mistral": ("Mistral", {"sliding_window": 4, "num_key_value_heads": 2}),
    "mistral without a window": ("Mistral", {"sliding_window": None, "num_key_value_heads": 4}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-2}),
    "qwen3 with windows": (
        "Qwen3",
        {
            "num_key_value_heads": 4,
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 4,
            "max_window_layers": 1,
        },
    ),
}


def save_theirs(transformers: Any, folder: Path, name: str = "llama", **options: Any) -> Any:
    architecture, fields = THEIRS[name]
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=24, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, initializer_range=0.2, max_position_embeddings=64, **fields,
    )  # fmt: skip
    torch.manual_seed(3)
    theirs = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    for parameter in theirs.parameters():
        parameter.data.mul_(1.3).add_(0.03)
    theirs.save_pretrained(folder, **options)
    return theirs


@pytest.mark.parametrize("name", THEIRS)
def test_what_transformers_saved_gives_the_same_logits_in_ours(
    name: str, tmp_path: Path, transformers: Any
) -> None:
    theirs = save_theirs(transformers, tmp_path / "hf", name)
    model = load(tmp_path / "hf").model
    torch.testing.assert_close(logits(model), their_logits(theirs), atol=1e-4, rtol=1e-4)


def test_shards_are_read_and_a_missing_one_is_named(tmp_path: Path, transformers: Any) -> None:
    theirs = save_theirs(transformers, tmp_path, max_shard_size="5KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    torch.testing.assert_close(
        logits(load(tmp_path).model), their_logits(theirs), atol=1e-4, rtol=1e-4
    )
    shards[1].unlink()
    refused(lambda: load(tmp_path), f"lacks {shards[1].name}", f"of {len(shards)} files")


def test_a_config_of_before_transformers_5_is_read_alike(tmp_path: Path) -> None:
    huggingface.save(tiny(mixers={"part": "attention", "rotary_base": 500.0}), tmp_path / "hf")
    edit(tmp_path / "hf", rope_parameters=None, rope_scaling=None, head_dim=None)
    weights = tmp_path / "hf" / "model.safetensors"
    old = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    save_file(load_file(weights) | old, weights)
    again = load(tmp_path / "hf").model
    assert same_weights(again, tiny()) and again.spec.mixers[0].fields["rotary_base"] == 500.0


def edit(folder: Path, **changes: Any) -> None:
    """Change config.json; None takes a key out."""
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


BAD_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another architecture": (
        {"model_type": "gpt2"},
        "'gpt2' is not read. Wanted one of llama, mistral, qwen3",
    ),
    "no architecture": ({"model_type": None}, "the architecture None"),
    "biases": ({"attention_bias": True}, "attention_bias=true"),
    "biases in the channels": ({"mlp_bias": True}, "mlp_bias=true"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
    "quantized": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "scaled positions": (
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
        "rope_type='llama3'",
    ),
    "scaled positions, as they were": (
        {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 2.0}},
        "rope_type='linear'",
    ),
    "half-turned heads": (
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
        "partial_rotary_factor=0.5",
    ),
    "no width": ({"hidden_size": None}, "hidden_size is missing"),
    "a width that is none": ({"hidden_size": "wide"}, "hidden_size='wide'"),
    "heads that do not divide": ({"num_key_value_heads": 3}, "n_kv_heads=3"),
    "layers that are not there": ({"num_hidden_layers": 3}, "missing model.layers.2."),
    "too few layers": ({"num_hidden_layers": 1}, "unexpected model.layers.1."),
    "another width": ({"intermediate_size": 8}, "wanted 8x16"),
    "a base that is none": ({"rope_parameters": {"rope_theta": "x"}}, "rope_theta='x'"),
    "positions that are no table": ({"rope_parameters": 3}, "rope_parameters=3"),
    "heads that are no number": ({"head_dim": "x"}, "head_dim='x'"),
    "windows that are no number": (
        {"model_type": "mistral", "sliding_window": "x"},
        "sliding_window='x'",
    ),
    "unknown layers": (
        {"model_type": "qwen3", "use_sliding_window": True, "layer_types": ["linear", "x"]},
        "layer_types",
    ),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
def test_a_config_that_ours_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    changes, says = BAD_CONFIGS[name]
    huggingface.save(tiny(), tmp_path / "hf")
    edit(tmp_path / "hf", **changes)
    refused(lambda: load(tmp_path / "hf"), says)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from([
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "max_position_embeddings", "rms_norm_eps", "rope_theta",
    "rope_parameters", "rope_scaling", "tie_word_embeddings", "sliding_window", "layer_types",
    "use_sliding_window", "max_window_layers", "hidden_act", "model_type", "eos_token_id",
])  # fmt: skip


@SAME_TMP
@given(kind=st.sampled_from(["llama", "mistral", "qwen3"]), changes=st.dictionaries(KEYS, JSON))
def test_whatever_a_config_says_it_is_read_or_refused(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    if not (tmp_path / "hf").exists():
        huggingface.save(tiny(), tmp_path / "hf")
        (tmp_path / "good.json").write_bytes((tmp_path / "hf" / "config.json").read_bytes())
    good = json.loads((tmp_path / "good.json").read_text())
    (tmp_path / "hf" / "config.json").write_text(json.dumps(good | {"model_type": kind} | changes))
    with contextlib.suppress(InputError):
        logits(load(tmp_path / "hf").model)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    huggingface.save(tiny(), tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").rename(tmp_path / "hf" / "pytorch_model.bin")
    refused(lambda: load(tmp_path / "hf"), "pytorch_model.bin", "pickle", "save_pretrained")


UNLIKE_LLAMA: dict[str, tuple[dict[str, Any], str]] = {
    "a recurrence": ({"mixers": ["attention", "gla"]}, "mixers='gla'"),
    "no rotary positions": ({"mixers": {"part": "attention", "rotary": False}}, "mixers.rotary"),
    "a convolution": ({"mixers": {"part": "attention", "conv": 3}}, "mixers.conv"),
    "an MLP": ({"channels": "gelu"}, "channels='gelu'"),
    "another gate": ({"channels": "geglu"}, "channels='geglu'"),
    "no channels": ({"channels": []}, "channels=()"),
    "hidden widths that differ": (
        {"channels": ["swiglu", {"part": "swiglu", "hidden": 8}]},
        "channels.hidden=[8, 44]",
    ),
    "layer norm": ({"norm": "layer_norm"}, "norm='layer_norm'"),
    "no last norm": ({"final_norm": False}, "final_norm=False"),
    "learned positions": (
        {"embedding": {"part": "token", "position": "learned"}},
        "embedding.position='learned'",
    ),
    "a normed embedding": ({"embedding": {"part": "token", "norm": True}}, "embedding.norm=True"),
    "windows in some layers": ({"mixers": ["sliding_window", "attention"]}, "mixers.window"),
    "two windows": (
        {"mixers": [QK_NORM | {"window": 2}, QK_NORM | {"window": 3}]},
        "mixers.window=[2, 3]",
    ),
    "an eps of its own": ({"mixers": QK_NORM | {"qk_norm_eps": 0.1}}, "mixers.qk_norm_eps=0.1"),
    "heads that differ": (
        {"mixers": ["attention", {"part": "attention", "n_heads": 2}]},
        "n_heads",
    ),
    "a classifier": ({"head": "classifier"}, "head='classifier'"),
}


@pytest.mark.parametrize("name", UNLIKE_LLAMA)
def test_what_llama_cannot_express_is_named_and_nothing_is_written(
    name: str, tmp_path: Path
) -> None:
    fields, says = UNLIKE_LLAMA[name]
    refused(lambda: huggingface.save(tiny(**fields), tmp_path / "hf"), says, "Wanted")
    assert not (tmp_path / "hf").exists()


def test_the_tokenizer_of_an_export_is_one_of_theirs(tmp_path: Path, transformers: Any) -> None:
    codec = Chars("abcdefgh \n")
    huggingface.save(tiny(), tmp_path / "hf", codec)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert theirs("bad hag")["input_ids"] == codec.encode("bad hag").tolist()
    assert theirs.decode(codec.encode("bad hag\n")) == "bad hag\n"
    again = load(tmp_path / "hf").tokenizer
    assert again is not None and again.digest == codec.digest


# llama2.c


@pytest.fixture(scope="module")
def stories() -> Any:
    return load(BIN)


def numpy_forward(tokens: list[int]) -> Iterator[np.ndarray]:
    """run.c in numpy: the logits at each of the tokens."""
    dim, hidden, n_layers, n_heads, n_kv, vocab, _ = np.fromfile(BIN, "<i4", 7)
    D, floats = dim // n_heads, np.fromfile(BIN, "<f4", offset=28)

    def take(*shape: int) -> np.ndarray:
        nonlocal floats
        n = int(np.prod(shape))
        values, floats = floats[:n].reshape(shape), floats[n:]
        return values

    embedding = take(vocab, dim)
    n1, wq = take(n_layers, dim), take(n_layers, dim, dim)
    wk, wv = take(n_layers, n_kv * D, dim), take(n_layers, n_kv * D, dim)
    wo, n2 = take(n_layers, dim, dim), take(n_layers, dim)
    w1, w2 = take(n_layers, hidden, dim), take(n_layers, dim, hidden)
    w3, n3 = take(n_layers, hidden, dim), take(dim)

    def rms(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean() + 1e-5) * gain

    def turn(x: np.ndarray, position: int) -> np.ndarray:
        angle = position * 10000.0 ** (-np.arange(0, D, 2) / D)
        even, odd = x[:, ::2], x[:, 1::2]
        turned = even * np.cos(angle) - odd * np.sin(angle)
        return np.stack([turned, even * np.sin(angle) + odd * np.cos(angle)], -1).reshape(-1, D)

    keys: list[list[np.ndarray]] = [[] for _ in range(n_layers)]
    values: list[list[np.ndarray]] = [[] for _ in range(n_layers)]
    for position, token in enumerate(tokens):
        x = embedding[token]
        for i in range(n_layers):
            h = rms(x, n1[i])
            q = turn((wq[i] @ h).reshape(n_heads, D), position)
            keys[i].append(turn((wk[i] @ h).reshape(n_kv, D), position))
            values[i].append((wv[i] @ h).reshape(n_kv, D))
            group = np.arange(n_heads) // (n_heads // n_kv)
            k, v = np.stack(keys[i])[:, group], np.stack(values[i])[:, group]
            weights = np.exp(np.einsum("hd,thd->ht", q, k) / np.sqrt(D))
            weights /= weights.sum(1, keepdims=True)
            x = x + wo[i] @ np.einsum("ht,thd->hd", weights, v).ravel()
            h = rms(x, n2[i])
            gate = w1[i] @ h
            x = x + w2[i] @ (gate / (1 + np.exp(-gate)) * (w3[i] @ h))
        yield embedding @ rms(x, n3)


@real
def test_real_stories_prints_the_text_that_its_authors_publish(stories: Any) -> None:
    ids = list(generate(stories.model, [1], n_tokens=199))
    text = stories.tokenizer.decode([1, *ids])
    assert text.startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park. One day, she saw a big, red ball."
    )
    theirs = [int(z.argmax()) for z in numpy_forward([1, *ids[:-1]])]
    assert ids == theirs and len(ids) == 199


@real
def test_real_stories_exported_gives_the_same_logits_and_text_in_transformers(
    stories: Any, tmp_path: Path, transformers: Any
) -> None:
    huggingface.save(stories.model, tmp_path / "hf", stories.tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    ids = [1, *generate(stories.model, [1], n_tokens=199)]
    torch.testing.assert_close(
        logits(stories.model, torch.tensor([ids])),
        their_logits(theirs, torch.tensor([ids])),
        atol=1e-4,
        rtol=1e-4,
    )
    codec = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    text = "Once upon a time, there was a dragon."
    assert codec(text)["input_ids"] == stories.tokenizer.encode(text).tolist()
    again = load(tmp_path / "hf")
    assert same_weights(again.model, stories.model) and again.stop == {1}


def write_legacy(file: Path, *, tied: bool, kv: int = 2) -> dict[str, np.ndarray]:
    """A legacy file of random numbers, by export.py's order; returns what was written."""
    dim, hidden, layers, heads, vocab, length = 8, 12, 2, 2, 10, 6
    rng = np.random.default_rng(0)
    kv_dim = kv * dim // heads
    shapes = {
        "embedding": (vocab, dim), "n1": (layers, dim), "wq": (layers, dim, dim),
        "wk": (layers, kv_dim, dim), "wv": (layers, kv_dim, dim), "wo": (layers, dim, dim),
        "n2": (layers, dim), "w1": (layers, hidden, dim), "w2": (layers, dim, hidden),
        "w3": (layers, hidden, dim), "n3": (dim,), "freqs": (2, length, dim // heads // 2),
    }  # fmt: skip
    shapes |= {} if tied else {"classifier": (vocab, dim)}
    arrays = {name: rng.normal(size=shape).astype("<f4") for name, shape in shapes.items()}
    header = struct.pack("<7i", dim, hidden, layers, heads, kv, vocab if tied else -vocab, length)
    file.write_bytes(header + b"".join(array.tobytes() for array in arrays.values()))
    return arrays


@pytest.mark.parametrize("tied", (True, False))
def test_every_matrix_of_a_legacy_file_goes_to_its_place(tied: bool, tmp_path: Path) -> None:
    arrays = write_legacy(tmp_path / "m.bin", tied=tied, kv=1)
    loaded = load(tmp_path / "m.bin")
    model, layer = loaded.model, loaded.model.layers[1]
    assert loaded.kind == "llama2c" and loaded.tokenizer is None and model.spec.tied is tied
    pairs: list[tuple[torch.Tensor, np.ndarray]] = [
        (model.embedding.tokens.weight, arrays["embedding"]),
        (model.head.logits.weight, arrays["embedding" if tied else "classifier"]),
        (model.final_norm.gain, arrays["n3"]),
        (layer.mixer_norm.gain, arrays["n1"][1]),
        (layer.mixer.v.weight, arrays["wv"][1]),
        (layer.mixer.out.weight, arrays["wo"][1]),
        (layer.channel.gate.weight, arrays["w1"][1]),
        (layer.channel.out.weight, arrays["w2"][1]),
        (layer.channel.up.weight, arrays["w3"][1]),
        (layer.mixer.q.weight[[0, 2, 1, 3, 4, 6, 5, 7]], arrays["wq"][1]),
        (layer.mixer.k.weight[[0, 2, 1, 3]], arrays["wk"][1]),
    ]
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.detach().numpy(), theirs)


def test_a_legacy_file_that_is_not_whole_is_refused_with_its_sizes(tmp_path: Path) -> None:
    write_legacy(file := tmp_path / "m.bin", tied=True)
    raw = file.read_bytes()
    whole = f"Wanted {len(raw):,} by its header"
    file.write_bytes(raw[:-4])
    refused(lambda: load(file), f"has {len(raw) - 4:,} bytes", whole, "cut")
    file.write_bytes(raw + b"more")
    refused(lambda: load(file), f"has {len(raw) + 4:,} bytes", whole, "appended")
    file.write_bytes(raw[:20])
    refused(lambda: load(file), "has 20 bytes", "header of 28")
    file.write_bytes(b"")
    refused(lambda: load(file), "has 0 bytes")


BAD_HEADERS = {
    "no width": (0, 12, 2, 2, 2, 10, 6),
    "a negative count": (8, 12, -2, 2, 2, 10, 6),
    "heads that do not divide": (8, 12, 2, 3, 3, 10, 6),
    "kv_heads that do not divide": (8, 12, 2, 4, 3, 10, 6),
    "odd heads": (6, 12, 2, 2, 2, 10, 6),
    "no tokens": (8, 12, 2, 2, 2, 0, 6),
    "absurd sizes": (2**30, 12, 2, 2, 2, 10, 6),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_an_absurd_header_is_refused_before_anything_is_allocated(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "m.bin").write_bytes(struct.pack("<7i", *BAD_HEADERS[name]) + bytes(100))
    refused(lambda: load(tmp_path / "m.bin"), "does not begin like llama2.c's legacy file", "dim=")


@SAME_TMP
@given(st.binary(max_size=200) | st.tuples(*[st.integers(-3, 40)] * 7).map(
    lambda counts: struct.pack("<7i", *counts) + bytes(64)
))  # fmt: skip
def test_whatever_bytes_a_file_holds_it_is_refused_with_a_message(
    tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "m.bin").write_bytes(raw)
    refused(lambda: load(tmp_path / "m.bin"), "Wanted")


def test_a_later_version_of_llama2c_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(struct.pack("<2i", 0x616B3432, 2) + bytes(248))
    refused(lambda: load(tmp_path / "m.bin"), "version 2", "--version 0")


@real
def test_real_stories_takes_the_tokenizer_beside_it_or_another(tmp_path: Path) -> None:
    (tmp_path / "m.bin").symlink_to(BIN)
    assert load(tmp_path / "m.bin").tokenizer is None
    given = load(tmp_path / "m.bin", tokenizer=TOK).tokenizer
    load_tokenizer(TOK).save(tmp_path / "tokenizer.json")
    beside = load(tmp_path / "m.bin").tokenizer
    assert given is not None and beside is not None and given.digest == beside.digest


# whichever it is


def test_what_is_no_model_is_told_what_could_be_read(tmp_path: Path) -> None:
    could = "Wanted a directory that mendel saved"
    refused(lambda: load(tmp_path / "none"), "there is no", could, "llama, mistral, qwen3")
    (tmp_path / "folder").mkdir()
    refused(lambda: load(tmp_path / "folder"), "it holds nothing", could)
    (tmp_path / "folder" / "cat.png").touch()
    refused(lambda: load(tmp_path / "folder"), "it holds cat.png", could)
    for begin, name in ((b"GGUF\x03", "GGUF"), (b"PK\x03\x04", "pickle"), (b"\x80\x02", "pickle")):
        (tmp_path / "m.bin").write_bytes(begin + bytes(100))
        refused(lambda: load(tmp_path / "m.bin"), name, could)


def test_one_file_of_a_model_points_to_its_directory(ours: Path) -> None:
    refused(lambda: load(ours / "model.safetensors"), "Give its directory", str(ours))
    refused(lambda: load(ours / "spec.toml"), "Give its directory", str(ours))


def test_a_tokenizer_of_another_model_is_refused(ours: Path, tmp_path: Path) -> None:
    Bytes().save(tmp_path / "tokenizer.json")
    refused(lambda: load(ours, tokenizer=tmp_path / "tokenizer.json"), "256 ids", "vocab is 24")


def test_spec_errors_stay_spec_errors(ours: Path) -> None:
    (ours / "spec.toml").write_text("witdh = 1")
    with pytest.raises(SpecError, match=r"spec.toml: ModelSpec has no field 'witdh'"):
        load(ours)


def test_the_weights_carry_their_spec(ours: Path) -> None:
    with safe_open(ours / "model.safetensors", "pt") as handle:
        assert ModelSpec.from_json(handle.metadata()["mendel_spec"]) == tiny().spec
