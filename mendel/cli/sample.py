"""mendel sample: a model's text, printed as it is written."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.types import InputError

if TYPE_CHECKING:
    from mendel.data.tokenizers import Tokenizer
    from mendel.spec import ModelSpec


def add_to(app: typer.Typer) -> None:
    app.command()(sample)


def sample(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE",
            help="What `mendel train` saved, a Hugging Face directory of Llama's family, or "
            "llama2.c's legacy .bin.",
        ),
    ],
    prompt: Annotated[str, typer.Option(help="How the text begins.")] = "",
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="Draw from the fewest tokens of this probability together.")
    ] = 1.0,
    tokens: Annotated[int, typer.Option(help="At most so many.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the draws; the same seed, the same text.")] = 0,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Default: the one that lies with the model.")
    ] = None,
) -> None:
    """Write the text that follows a prompt.

    Without a tokenizer, prompt and answer are the ids of tokens.
    """
    from mendel.formats import load
    from mendel.generate import generate

    loaded = load(model, tokenizer=tokenizer)
    codec = loaded.tokenizer
    start = _ids(prompt, codec, model)
    tokens = min(tokens, _room(loaded.model.spec, len(start), tokens))
    ids = generate(
        loaded.model,
        start,
        n_tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=loaded.stop,
    )
    if codec is None:
        print("no tokenizer lies with the model: ids in, ids out.", file=sys.stderr)
        _print(prompt, (f" {id}" for id in ids))
    else:
        _print(prompt, decode(codec, start, ids))


def _room(spec: ModelSpec, n_prompt: int, wanted: int) -> int:
    """Tokens that learned positions leave; says so where they are fewer than wanted."""
    if spec.embedding.fields.get("position") != "learned":
        return wanted
    room = max(spec.context + 1 - n_prompt, 1)
    if room < wanted:
        print(f"at most {room} tokens: learned positions end at {spec.context}.", file=sys.stderr)
    return room


def decode(codec: Tokenizer, prompt: Sequence[int], ids: Iterator[int]) -> Iterator[str]:
    """The text of ids as they come, in whole characters."""
    from mendel.data.spelling import Spelling

    spelling = Spelling(codec, prompt)
    try:
        for id in ids:
            if text := spelling.push(id):
                yield text
    except (InputError, KeyboardInterrupt):
        yield spelling.end()
        raise
    yield spelling.end()


def _ids(prompt: str, codec: Tokenizer | None, model: Path) -> list[int]:
    if codec is None:
        try:
            return [int(word) for word in prompt.split()]
        except ValueError:
            raise InputError(
                f"no tokenizer lies with {model}, so its prompt is ids. Got --prompt {prompt!r}. "
                "Wanted numbers such as '1 403 407', or --tokenizer PATH of a tokenizer.json."
            ) from None
    ids: list[int] = codec.encode(prompt).tolist()
    if not ids:
        with suppress(InputError):  # texts of lines begin after the end of one
            ids = codec.encode("\n").tolist()
    if not ids:
        raise InputError(
            "the prompt is empty, and this tokenizer has no token that begins a text. Wanted "
            "--prompt with some text."
        )
    return ids


def _print(prompt: str, pieces: Iterator[str]) -> None:
    """Prompt and pieces at once as they come; whatever ends it, the line is ended."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character
    print(prompt, end="", flush=True)
    try:
        for piece in pieces:
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        print(flush=True)
