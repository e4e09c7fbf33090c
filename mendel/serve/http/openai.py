"""What OpenAI's clients send, checked; fields that would change the answer and cannot are refused.

Fields of the API that change no text (user, store, metadata, ...) are taken and left; others that
nobody knows are named in the error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

MAX_N = 64  # texts of one prompt
MAX_PROMPTS = 64
MAX_TEXTS = 128  # of one request, prompts times n
MAX_STOPS, LONGEST_STOP = 16, 512
MAX_TOP = 20
MOST_TOKENS = 1_000_000


class Body(BaseModel):
    """A JSON object; numbers are no strings, and fields that are not here are refused."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, protected_namespaces=()
    )


def _only(*allowed: Any, why: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is not None and value not in allowed:
            wanted = " or ".join(repr(a) for a in allowed) or "nothing"
            raise ValueError(f"{why}. Wanted {wanted}: leave it out.")
        return value

    return check


def _none(why: str) -> Any:
    return Annotated[Any, AfterValidator(_only(why=why)), WithJsonSchema({"type": "null"})]


def _stops(value: Any) -> Any:
    given = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(given, list) or not all(isinstance(s, str) for s in given):
        raise ValueError("wanted a string or a list of strings")
    if len(given) > MAX_STOPS or not all(0 < len(s) <= LONGEST_STOP for s in given):
        raise ValueError(f"wanted at most {MAX_STOPS} strings of 1 to {LONGEST_STOP} characters")
    return tuple(given)


def _prompts(value: Any) -> Any:
    """One or more texts, or lists of ids, as a tuple of them."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value:
        if all(type(v) is int for v in value):
            return (tuple(value),)
        if len(value) > MAX_PROMPTS:
            raise ValueError(f"{len(value)} prompts. Wanted at most {MAX_PROMPTS}")
        if all(isinstance(v, str) for v in value):
            return tuple(value)
        lists = all(isinstance(v, list) and v and all(type(i) is int for i in v) for v in value)
        if lists:
            return tuple(tuple(v) for v in value)
    raise ValueError("wanted a text, a list of texts, a list of token ids, or a list of such lists")


def _strings(schema: dict[str, Any]) -> Any:
    return WithJsonSchema(schema)


_TEXT = {"type": "string"}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
Stops = Annotated[
    tuple[str, ...],
    BeforeValidator(_stops),
    _strings({"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "maxItems": 16}]}),
]
Prompts = Annotated[
    tuple[str, ...] | tuple[tuple[int, ...], ...],
    BeforeValidator(_prompts),
    _strings(
        {
            "anyOf": [
                _TEXT,
                {"type": "array", "items": _TEXT, "minItems": 1},
                _IDS,
                {"type": "array", "items": _IDS, "minItems": 1},
            ]
        }
    ),
]
Zero = Annotated[float | None, AfterValidator(_only(0, why="this server has no penalties"))]


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # against listeners who count bytes: TLS is not ours


class JsonSchema(Body):
    name: str = "answer"
    description: str | None = None
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None  # always


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_fits(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with type 'json_schema', and only with it")
        return self

    @property
    def grammar(self) -> dict[str, Any] | None:
        """The JSON schema of the output; None: any text."""
        if self.type == "text":
            return None
        return {"type": "object"} if self.json_schema is None else self.json_schema.schema_


class Ask(Body):
    """What both kinds of completion have in common."""

    model: str | None = None
    n: int | None = Field(None, ge=1, le=MAX_N)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: Stops = ()
    max_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    plan: str | None = None  # ours: pinned by name
    return_token_ids: bool | None = None  # ours

    presence_penalty: Zero = None
    frequency_penalty: Zero = None
    logit_bias: Annotated[dict[str, float] | None, AfterValidator(_only({}, why="not here"))] = None

    user: Any = None  # from here on: taken and left
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> Ask:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options without stream. Say stream=true, or leave it out")
        return self

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class Completion(Ask):
    """POST /v1/completions"""

    prompt: Prompts
    logprobs: int | None = Field(None, ge=0, le=MAX_TOP)
    echo: Annotated[bool | None, AfterValidator(_only(False, why="the prompt is not told"))] = None
    best_of: int | None = Field(None, ge=1, le=MAX_N)
    suffix: _none("this model writes on, it does not fill in") = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _sizes_fit(self) -> Completion:
        if self.best_of not in (None, self.n or 1):
            raise ValueError(f"best_of={self.best_of}: wanted n={self.n or 1}, all are given back")
        if (self.n or 1) * len(self.prompt) > MAX_TEXTS:
            raise ValueError(f"n times prompts: wanted at most {MAX_TEXTS} texts in a request")
        return self


class TextPart(Body):
    type: Literal["text"]
    text: str


Role = Literal["system", "developer", "user", "assistant", "tool"]


class Message(Body):
    role: Role
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[dict[str, Any]] | None = None  # for the template, where it knows them
    refusal: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatCompletion(Ask):
    """POST /v1/chat/completions"""

    messages: list[Message] = Field(min_length=1, max_length=10_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=MOST_TOKENS)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_TOP)
    modalities: Annotated[
        list[str] | None, AfterValidator(_only(["text"], why="this server writes text"))
    ] = None
    tools: Annotated[list[Any] | None, AfterValidator(_only([], why="it calls no tools"))] = None
    tool_choice: Annotated[
        str | None, AfterValidator(_only("none", "auto", why="it calls no tools"))
    ] = None
    functions: _none("it calls no functions") = None  # type: ignore[valid-type]
    function_call: _none("it calls no functions") = None  # type: ignore[valid-type]
    audio: _none("this server writes text") = None  # type: ignore[valid-type]
    prediction: _none("drafts are the plan's own") = None  # type: ignore[valid-type]
    web_search_options: _none("this server searches nothing") = None  # type: ignore[valid-type]
    parallel_tool_calls: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None

    @model_validator(mode="after")
    def _fields_fit(self) -> ChatCompletion:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs without logprobs. Say logprobs=true")
        if self.max_tokens and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens differ. Say one of them")
        return self
