"""Refusals in OpenAI's shape; each message says what, got, wanted, do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from mendel.types import did_you_mean

TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error",
    413: "invalid_request_error", 415: "invalid_request_error", 422: "invalid_request_error",
    429: "rate_limit_error", 500: "server_error", 503: "overloaded_error",
    507: "server_error",
}  # fmt: skip
LONGEST = 80  # characters of a value that an error shows


class Refused(Exception):
    """An answer that is no success."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error")
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    def response(self) -> Response:
        return JSON(self.body, self.status, self.headers)


class JSON(Response):
    """A JSON answer; half characters that a model may have written are escaped."""

    media_type = "application/json"

    def __init__(
        self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(dumps(body), status, dict(headers or {}))

    def render(self, content: Any) -> bytes:
        return bytes(content)


def dumps(body: Any) -> bytes:
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii")


def explained(cls: type[BaseModel], error: ValidationError) -> Refused:
    """The first thing that is wrong with a body."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        why = first["ctx"]["error"] if "ctx" in first else "it is no JSON"
        return Refused(400, f"The body is not JSON: {why}. Wanted a JSON object in UTF-8.")
    param = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = list(cls.model_fields)
        near = did_you_mean(str(first["loc"][-1]), known)
        message = f"There is no field {shown(param)}. {near or 'Leave it out.'}"
        return Refused(400, message, param=param, code="unknown_parameter")
    if first["type"] == "missing":
        return Refused(400, f"{param} is missing. Say {param}.", param=param)
    said = first["msg"].removeprefix("Value error, ")
    what = f"{param}={shown(first.get('input'))}: " if param else ""
    end = "" if said.endswith(".") else "."
    return Refused(400, f"{what}{said}{end}", param=param or None)


def shown(value: Any) -> str:
    """A value as an error shows it: never a whole prompt, never what no terminal can print."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = ascii(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} characters)"
