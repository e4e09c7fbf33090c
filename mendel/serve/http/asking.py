"""From a checked body to jobs for the engine: prompts to ids, options to a Request."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import cast

from anyio import to_thread
from starlette.concurrency import run_in_threadpool

from mendel.data.tokenizers import Tokenizer
from mendel.generate import Sampler
from mendel.serve.http.errors import Refused
from mendel.serve.http.gate import Caller
from mendel.serve.http.later import Then, of_chat, of_text
from mendel.serve.http.openai import Ask, ChatCompletion, Completion
from mendel.serve.http.served import Language
from mendel.serve.http.writing import Job, Numbers
from mendel.serve.protocols import Grammar, Request
from mendel.types import InputError, did_you_mean

FEW_TOKENS = 16  # of a completion that says no number, as with OpenAI
MANY_TOKENS = 1_024  # of an answer that says no number, where there is room
SHORT = 2_000  # characters that are encoded at once; longer texts go to a thread


async def completion_jobs(asked: Completion, language: Language, caller: Caller) -> list[Job]:
    """n texts for each prompt, in order; raises Refused."""
    codec = language.codec or cast(Tokenizer, Numbers())
    prompts: list[tuple[list[int], Then | None]] = []
    for prompt in asked.prompt:
        if not isinstance(prompt, str):
            prompts.append((list(prompt), None))
            continue
        ids = await _encoded(codec, prompt)
        prompts.append((ids, of_text(codec, prompt, ids, asked.stop) if asked.stop else None))
    return await _jobs(asked, language, caller, prompts, asked.stop, asked.logprobs, FEW_TOKENS)


async def chat_jobs(asked: ChatCompletion, language: Language, caller: Caller) -> list[Job]:
    """n answers; raises Refused."""
    chat = language.chat
    if chat is None:
        raise Refused(
            400,
            "This model has no tokenizer, so it takes no messages. Use /v1/completions with a "
            "prompt of token ids.",
        )
    messages = list(asked.messages)
    try:
        prompt = await run_in_threadpool(chat.ids, messages)
    except InputError as error:
        raise Refused(400, str(error), param="messages") from None
    top = (asked.top_logprobs or 0) if asked.logprobs else None
    stops = (*asked.stop, *chat.stops)
    codec = language.codec
    then = None if codec is None else of_chat(chat, codec, messages, prompt, stops)
    return await _jobs(asked, language, caller, [(prompt, then)], stops, top, MANY_TOKENS)


async def _jobs(
    asked: Ask,
    language: Language,
    caller: Caller,
    prompts: Sequence[tuple[list[int], Then | None]],
    stops: tuple[str, ...],
    n_logprobs: int | None,
    n_usual: int,
) -> list[Job]:
    if asked.plan is not None and asked.plan not in language.plans:
        near = did_you_mean(asked.plan, language.plans)
        near = near or f"There are {', '.join(language.plans)}."
        raise Refused(400, f"There is no plan {asked.plan!r} here. {near}", param="plan")
    codec = language.codec or cast(Tokenizer, Numbers())
    seed = _seed(asked, language)
    jobs: list[Job] = []
    for prompt, then in prompts:
        n_tokens = _n_tokens(asked, language, prompt, n_usual)
        for k in range(asked.n or 1):
            request = Request(
                id=caller.id if not jobs else f"{caller.id}.{len(jobs)}",
                prompt=tuple(prompt),
                n_tokens=n_tokens,
                sampler=Sampler(
                    1.0 if asked.temperature is None else asked.temperature,
                    1.0 if asked.top_p is None else asked.top_p,
                    (seed + k) % 2**64,
                ),
                stop=language.stop,
                n_logprobs=n_logprobs,
                tenant=caller.tenant,
                grammar=await _grammar(asked, language, caller.tenant),
                plan=asked.plan,
                then=then,
            )
            jobs.append(Job(request, codec, stops))
    return jobs


def _seed(asked: Ask, language: Language) -> int:
    if asked.seed is not None:
        return asked.seed % 2**64
    return 0 if language.mode == "deterministic" else secrets.randbits(63)


def _n_tokens(asked: Ask, language: Language, prompt: list[int], n_usual: int) -> int:
    if not prompt:
        raise Refused(400, "The prompt is empty. Wanted at least one token. Begin with some text.")
    low, high = min(prompt), max(prompt)
    if low < 0 or high >= language.vocab:
        raise Refused(
            400,
            f"The prompt has id {low if low < 0 else high}. Wanted 0 to {language.vocab - 1}, the "
            "model's vocab.",
            param="prompt",
        )
    wanted = asked.max_tokens
    if isinstance(asked, ChatCompletion):
        wanted = wanted or asked.max_completion_tokens
    if language.context is None:
        return wanted or n_usual
    room = language.context - len(prompt)
    if room < (wanted or 1):
        raise Refused(
            400,
            f"The prompt has {len(prompt):,} tokens and {wanted or 1:,} are asked for. Wanted "
            f"{language.context:,} together at most. Shorten the prompt, or ask for fewer.",
            code="context_length_exceeded",
        )
    return wanted or min(room, n_usual)


async def _grammar(asked: Ask, language: Language, tenant: str) -> Grammar | None:
    form = asked.response_format
    schema = form.grammar if form else None
    if schema is None:
        return None
    grammars = language.grammars
    if grammars is None:
        raise Refused(
            400,
            "This model has no tokenizer, so its texts have no form. Leave response_format out.",
            param="response_format",
        )
    try:
        return await to_thread.run_sync(
            grammars.of_schema, schema, tenant, limiter=grammars.at_once
        )
    except InputError as error:
        raise Refused(400, str(error), param="response_format") from None


async def _encoded(codec: Tokenizer, text: str) -> list[int]:
    try:
        if len(text) <= SHORT:
            return _ids(codec, text)
        return await run_in_threadpool(_ids, codec, text)
    except InputError as error:
        raise Refused(400, str(error), param="prompt") from None


def _ids(codec: Tokenizer, text: str) -> list[int]:
    return [int(id) for id in codec.encode(text)]
