"""How the next prompt of a talk will begin, as its asker will send it: for warming.

prompt, output --told as text, ended at a stop--> history --written anew--> ids

The ids that come again need not be those that were written: a text has many spellings, a stop
string ends inside a token, a chat's template writes earlier answers its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mendel.data.spelling import Spelling
from mendel.data.tokenizers import Tokenizer
from mendel.serve.http.chat import Chat
from mendel.serve.http.openai import Message
from mendel.serve.protocols import Reason
from mendel.types import InputError

Then = Callable[[tuple[int, ...], Reason], Sequence[int] | None]


def of_chat(
    chat: Chat,
    codec: Tokenizer,
    messages: Sequence[Message],
    prompt: Sequence[int],
    stops: Sequence[str],
) -> Then:
    """Of an answer to these messages."""

    def then(output: tuple[int, ...], reason: Reason) -> list[int] | None:
        answer = _told(codec, prompt, stops, output, reason)
        try:
            return None if answer is None else chat.later(messages, answer) or None
        except InputError:
            return None  # the template has no place for one more message

    return then


def of_text(codec: Tokenizer, text: str, prompt: Sequence[int], stops: Sequence[str]) -> Then:
    """Of what is written on from a text; without its last token, that may grow together with what
    follows."""

    def then(output: tuple[int, ...], reason: Reason) -> list[int] | None:
        answer = _told(codec, prompt, stops, output, reason)
        return None if answer is None else [int(id) for id in codec.encode(text + answer)][:-1]

    return then


def _told(
    codec: Tokenizer,
    prompt: Sequence[int],
    stops: Sequence[str],
    output: Sequence[int],
    reason: Reason,
) -> str | None:
    """The text that the asker was given; None where they left before its end."""
    spelling = Spelling(codec, prompt)
    text = "".join(spelling.push(id) for id in output) + spelling.end()
    at = min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)
    if at is None and reason not in ("stop", "length"):
        return None
    return text[:at]
