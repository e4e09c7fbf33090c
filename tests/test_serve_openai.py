"""The official client is the judge: what it sends is understood, and what it gets it can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from mendel.data.tokenizers import Bytes
from mendel.generate import generate
from mendel.serve.http.server import Running

from . import serve_toy as toy

MODEL = toy.tiny()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with toy.running(toy.served(tmp_path_factory.mktemp("serve"), model=MODEL)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def plain(prompt: str, n: int, **known: Any) -> list[int]:
    """What generate() writes, beside any server."""
    return list(generate(MODEL, list(prompt.encode()), n_tokens=n, **known))


def text(prompt: str, n: int, **known: Any) -> str:
    return Bytes().decode(plain(prompt, n, **known))


def test_a_completion_is_the_text_that_generate_writes(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="toy", prompt="once", max_tokens=30, temperature=0)
    assert answer.choices[0].text == text("once", 30)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 30)
    assert answer.id.startswith("cmpl-") and answer.object == "text_completion"


def test_a_seed_gives_the_draws_of_generate(client: openai.OpenAI) -> None:
    for seed in (0, 7):
        answer = client.completions.create(
            model="toy", prompt="ab", max_tokens=20, seed=seed, temperature=0.8, top_p=0.9
        )
        wanted = text("ab", 20, seed=seed, temperature=0.8, top_p=0.9)
        assert answer.choices[0].text == wanted


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    known: Any = {"model": "toy", "prompt": "xyz", "max_tokens": 40, "seed": 3}
    whole = client.completions.create(**known)
    chunks = list(
        client.completions.create(**known, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    last = [c for c in chunks if c.choices and c.choices[0].finish_reason]
    assert [(c.model_extra or {})["mendel"]["plans"] for c in last] == [["plain"]]  # and its digest
    assert all("mendel" not in (c.model_extra or {}) for c in chunks[: chunks.index(last[0])])
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "length" and not any(reasons[:-1])
    assert chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_n_texts_differ_and_each_has_its_own_seed(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="toy", prompt=["ab", "cd"], n=3, max_tokens=9, seed=5)
    assert [choice.index for choice in answer.choices] == list(range(6))
    wanted = [text(p, 9, seed=5 + k, temperature=1.0) for p in ("ab", "cd") for k in range(3)]
    assert [choice.text for choice in answer.choices] == wanted
    assert answer.usage is not None and answer.usage.prompt_tokens == 4


def test_n_streams_are_not_mixed_up(client: openai.OpenAI) -> None:
    texts = [""] * 3
    for chunk in client.chat.completions.create(
        model="toy", messages=[{"role": "user", "content": "hi"}], n=3, max_tokens=12, seed=1,
        stream=True,
    ):  # fmt: skip
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    prompt = "user: hi\nassistant:"
    assert texts == [text(prompt, 12, seed=1 + k, temperature=1.0) for k in range(3)]


def test_a_chat_is_a_plain_dialogue_where_the_model_has_no_template(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="toy",
        messages=[
            {"role": "system", "content": "Be kind."},
            {
                "role": "user",
                "content": [{"type": "text", "text": t} for t in ("Good ", "day")],
            },
        ],
        max_completion_tokens=15,
        temperature=0,
    )  # fmt: skip
    prompt = "system: Be kind.\nuser: Good day\nassistant:"
    assert answer.choices[0].message.content == text(prompt, 15)
    assert answer.choices[0].message.role == "assistant" and answer.id.startswith("chatcmpl-")


def test_a_stop_string_ends_the_text_before_it_also_across_tokens(client: openai.OpenAI) -> None:
    full = text("once", 60, seed=2, temperature=1.0)
    assert len(full) > 30
    for start in (0, 5, 21):
        stop = full[start : start + 4]  # four bytes or more: as many tokens of this model
        for stream in (False, True):
            got = client.completions.create(
                model="toy", prompt="once", max_tokens=60, seed=2, stop=["\x00never", stop],
                stream=stream,
            )  # fmt: skip
            chunks = list(got) if stream else [got]
            said = "".join(c.choices[0].text for c in chunks)  # type: ignore[union-attr]
            assert said == full[: full.index(stop)]
            assert chunks[-1].choices[0].finish_reason == "stop"  # type: ignore[union-attr]


def test_log_probabilities_belong_to_the_tokens_that_were_told(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="toy", prompt="ab", max_tokens=12, temperature=0, logprobs=3
    )
    said = answer.choices[0].logprobs
    assert said is not None and said.token_logprobs and said.top_logprobs and said.tokens
    assert len(said.tokens) == len(said.token_logprobs) == len(said.top_logprobs) == 12
    for token, logprob, top in zip(
        said.tokens, said.token_logprobs, said.top_logprobs, strict=True
    ):
        assert len(top) == 3 and top[token] == logprob == max(top.values())  # greedy: the best
    chat = client.chat.completions.create(
        model="toy", messages=[{"role": "user", "content": "a"}], max_tokens=5, logprobs=True,
        top_logprobs=2,
    )  # fmt: skip
    rows = chat.choices[0].logprobs
    assert rows is not None and rows.content is not None and len(rows.content) == 5
    assert all(len(row.top_logprobs) == 2 and row.logprob <= 0 for row in rows.content)
    raw = b"".join(bytes(row.bytes or []) for row in rows.content)
    assert raw.decode("utf-8", "replace") == chat.choices[0].message.content


def test_log_probabilities_end_where_a_stop_string_cuts_the_text(client: openai.OpenAI) -> None:
    full = text("once", 60, seed=2, temperature=1.0)
    stop = full[10:13]
    answer = client.completions.create(
        model="toy", prompt="once", max_tokens=60, seed=2, stop=stop, logprobs=0
    )
    said = answer.choices[0].logprobs
    assert said is not None and said.text_offset is not None
    assert max(said.text_offset, default=-1) < len(answer.choices[0].text)


def test_an_answer_follows_a_json_schema(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "kind": {"enum": ["red", "blue"]}},
        "required": ["ok", "kind"],
        "additionalProperties": False,
    }
    for seed in range(3):
        answer = client.chat.completions.create(
            model="toy",
            messages=[{"role": "user", "content": "which?"}],
            max_tokens=60,
            seed=seed,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
        said = json.loads(answer.choices[0].message.content or "")
        assert set(said) == {"ok", "kind"} and said["kind"] in ("red", "blue")
        assert answer.choices[0].finish_reason == "stop"


def test_the_prompt_may_be_ids(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="toy", prompt=list(b"once"), max_tokens=10, temperature=0,
        extra_body={"return_token_ids": True},
    )  # fmt: skip
    assert answer.choices[0].model_extra is not None
    assert answer.choices[0].model_extra["token_ids"] == plain("once", 10)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list().data] == ["toy"]
    assert client.models.retrieve("toy").owned_by == "mendel"
    with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
        client.models.retrieve("gpt")
    with pytest.raises(openai.NotFoundError, match="Wanted 'toy'"):
        client.completions.create(model="gpt", prompt="a")


def test_a_plan_is_pinned_by_name_and_told(client: openai.OpenAI) -> None:
    texts = set()
    for plan in toy.PLANS:
        answer = client.completions.create(
            model="toy", prompt="abcabcabc", max_tokens=30, temperature=0,
            extra_body={"plan": plan},
        )  # fmt: skip
        assert answer.model_extra is not None
        assert answer.model_extra["mendel"]["plans"] == [plan]
        assert len(answer.model_extra["mendel"]["digests"][plan]) == 64
        texts.add(answer.choices[0].text)
    assert texts == {text("abcabcabc", 30)}
    with pytest.raises(openai.BadRequestError, match=r"no plan 'lookup-5'.*'lookup-4'"):
        client.completions.create(
            model="toy", prompt="a", max_tokens=1, extra_body={"plan": "lookup-5"}
        )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_tokens": -1}, "max_tokens=-1"),
        ({"temperature": 9.0}, "temperature=9"),
        ({"n": 0}, "n=0"),
        ({"top_p": 0.0}, "top_p=0"),
        ({"presence_penalty": 0.5}, "no penalties"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"best_of": 4}, "best_of=4"),
        ({"echo": True}, "echo"),
        ({"stop": [""]}, "stop"),
        ({"max_tokens": 4_000}, "256 together"),
        ({"extra_body": {"temprature": 1}}, "Did you mean 'temperature'"),
        ({"extra_body": {"max_tokens": "5"}}, "max_tokens"),
    ],
)
def test_what_cannot_be_done_is_refused_by_its_name(
    client: openai.OpenAI, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="toy", prompt="a", **wrong)
    assert said in caught.value.message
