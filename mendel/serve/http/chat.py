"""A conversation as tokens: by the model's own template, or a plain one.

Without a template of the model's, a message is a line `role: text`, the answer is what follows
`assistant:`, and a line that begins with a role ends it.

What people write never becomes a special token, whatever it spells: only the template's own words
do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mendel.data.tokenizers import Tokenizer
from mendel.serve.http.openai import Message, Role
from mendel.types import InputError

CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
PLAIN_STOPS = ("\nuser:", "\nsystem:", "\nassistant:", "\ntool:")
PRIVATE = range(0xE000, 0xF8FF)  # characters that mean nothing


class Chat:
    """How messages become a prompt."""

    def __init__(self, codec: Tokenizer, template: str | None, names: dict[str, str]) -> None:
        self._codec, self._template, self._names = codec, template, names

    @property
    def stops(self) -> tuple[str, ...]:
        """Strings that end an answer besides the caller's."""
        return () if self._template is not None else PLAIN_STOPS

    def ids(self, messages: Sequence[Message]) -> list[int]:
        """The prompt; raises InputError where the template refuses the messages."""
        if self._template is None:
            lines = [f"{m.role}: {m.text.strip()}\n" for m in messages]
            return [int(i) for i in self._codec.encode("".join(lines) + "assistant:")]
        mark = _unused("".join(m.model_dump_json() for m in messages))
        text = self._rendered([self._safe(m, mark) for m in messages])
        return self._encoded(text, mark)

    def later(self, messages: Sequence[Message], answer: str) -> list[int]:
        """How the prompt begins that has these messages, this answer, and one more in turn.

        The history is written anew: ids may be others than the model wrote. The last token is left
        out, for it may grow together with what follows.
        """
        role: Role = next((m.role for m in reversed(messages) if m.role != "assistant"), "user")
        told = [*messages, Message(role="assistant", content=answer)]
        if self._template is None:
            lines = [f"{m.role}: {m.text.strip()}\n" for m in told]
            return [int(i) for i in self._codec.encode("".join(lines) + f"{role}: ")][:-1]
        used = "".join(m.model_dump_json() for m in told)
        mark = _unused(used)
        here = _unused(used + mark)
        texts = [*told, Message(role=role, content=here)]
        text, found, _ = self._rendered([self._safe(m, mark) for m in texts]).partition(here)
        return self._encoded(text, mark)[:-1] if found else []

    def _encoded(self, text: str, mark: str) -> list[int]:
        """What was rendered, as ids; the template's own special tokens are theirs."""
        ids: list[int] = []
        for piece in self._splitter.split(text) if self._special else [text]:
            if piece in self._special:
                ids.append(self._special[piece])
            elif piece:
                plain = [int(i) for i in self._codec.encode(piece.replace(mark, ""))]
                ids += plain[1:] if plain and plain[0] == self._codec.bos else plain
        return ids

    def _safe(self, message: Message, mark: str) -> dict[str, Any]:
        """As templates want it, each spelling of a special token broken by a mark, wherever."""

        def broken(value: Any) -> Any:
            if isinstance(value, str):
                return self._splitter.sub(lambda m: m[0][0] + mark + m[0][1:], value)
            if isinstance(value, dict):
                return {broken(key): broken(one) for key, one in value.items()}
            return [broken(one) for one in value] if isinstance(value, list) else value

        said = message.model_dump(exclude_none=True) | {"content": message.text}
        return {key: broken(value) if self._special else value for key, value in said.items()}

    def _rendered(self, messages: list[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._compiled.render(
                messages=messages, add_generation_prompt=True, tools=None, **self._names
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise InputError(
                f"the model's chat template refuses these messages: {error}. Wanted an order of "
                "roles that it knows. Send them otherwise, or use /v1/completions."
            ) from None
        return text

    @cached_property
    def _compiled(self) -> Any:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        world = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        world.globals["raise_exception"] = _raise
        world.filters["tojson"] = _json  # Jinja's own escapes what HTML minds
        world.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        return world.from_string(self._template or "")

    @cached_property
    def _special(self) -> dict[str, int]:
        spec = json.loads(self._codec.to_json())
        return {str(t["content"]): int(t["id"]) for t in spec.get("added_tokens") or []}

    @cached_property
    def _splitter(self) -> re.Pattern[str]:
        longest_first = sorted(self._special, key=len, reverse=True)
        return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def read_chat(folder: Path, codec: Tokenizer) -> Chat:
    """The chat of a model's directory; raises InputError for a template that is none."""
    file = folder / CONFIG
    config = _config(file) if file.is_file() else {}
    template = config.get("chat_template")
    if isinstance(template, list):  # several by name
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if (folder / TEMPLATE).is_file():
        template = (folder / TEMPLATE).read_text(encoding="utf-8")
    chat = Chat(codec, template if isinstance(template, str) else None, _special_names(config))
    if chat.stops == ():
        _check(chat, folder)
    return chat


def _check(chat: Chat, folder: Path) -> None:
    from jinja2 import TemplateError

    try:
        _ = chat._compiled
    except TemplateError as error:
        raise InputError(
            f"{folder}: the chat template is no Jinja template: {error}. Wanted one that renders, "
            f"or none: take chat_template out of {CONFIG}."
        ) from None


def _config(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} is no JSON object. Fetch it again, or delete it.")
    return found


def _special_names(config: dict[str, Any]) -> dict[str, str]:
    """bos_token, eos_token, ..., which templates write out."""
    names = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        names[name] = value if isinstance(value, str) else ""
    return names


def _unused(text: str) -> str:
    used = set(text)
    found = next((chr(c) for c in PRIVATE if chr(c) not in used), None)
    if found is None:
        raise InputError(
            f"the messages hold all {len(PRIVATE):,} private characters of Unicode. Wanted one "
            "that they leave free. Take some out."
        )
    return found


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
