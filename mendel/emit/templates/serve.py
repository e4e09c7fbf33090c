"""Serve the model over HTTP: python serve.py. Needs requirements-serve.txt.

    POST /predict    {"texts": ["..."], and options} -> {"predictions": [...]}; see answers.py
                     with "why": true each has the words that decided, as predict.py --why says
    GET  /healthz    {"status": "ok"}; needs no key
    GET  /metadata   name, labels, task, digests

It listens to this machine only. To listen to others, say --host and --api-key-file: requests then
carry `Authorization: Bearer KEY`. Put a proxy with TLS before it on any network you do not own.
"""

from __future__ import annotations

import argparse
import hmac
import ipaddress
import json
import sys
from pathlib import Path
from typing import Any

import uvicorn
from answers import requested
from explain import can_explain
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from predict import Model, ModelError
from starlette.middleware.trustedhost import TrustedHostMiddleware

MAX_BODY = 2_000_000  # bytes of a request
MAX_TEXTS = 1_000  # texts of a request
MAX_WHY = 20  # of them with "why": each costs as much as 200 more
MIN_KEY = 16  # characters of a key
METADATA = (
    "name",
    "kind",
    "task",
    "signature",
    "labels",
    "settings",
    "int8",
    "provenance",
    "sha256",
)
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


def create_app(model: Model, key: str | None) -> FastAPI:
    """The application; without a key it answers only to this machine's own names."""
    schema = "/openapi.json" if key is None else None  # without it there are no /docs either
    app = FastAPI(title=model.agent["name"], redoc_url=None, openapi_url=schema)
    if key is None:  # a web page that points its own name at us is turned away
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metadata")
    def metadata(request: Request) -> dict[str, Any]:
        check_key(request, key)
        return {name: model.agent[name] for name in METADATA}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        check_key(request, key)
        texts, why, options = parse(await read_body(request))
        if why and not can_explain(model):
            raise HTTPException(422, "this kind of model cannot say why: leave out why")
        return {"predictions": await run_in_threadpool(answered, model, texts, why, options)}

    return app


def check_key(request: Request, key: str | None) -> None:
    if key is None:
        return
    given = request.headers.get("authorization", "").encode("utf-8", "replace")
    if not hmac.compare_digest(given, f"Bearer {key}".encode()):
        raise HTTPException(
            401, "wanted the header Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
        )


async def read_body(request: Request) -> bytes:
    """The body, or 413 as soon as it is known to be too large."""
    too_large = HTTPException(413, f"the body is larger than {MAX_BODY:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise too_large
    return bytes(body)


def answered(
    model: Model, texts: list[str], why: bool, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """One answer for each text; why: with the words that decided it."""
    answers = [answer.to_dict() for answer in model.predict(texts, **options)]
    if not why:
        return answers
    return [
        {**answer, "why": model.explain(text)} for text, answer in zip(texts, answers, strict=True)
    ]


def parse(body: bytes) -> tuple[list[str], bool, dict[str, Any]]:
    """Texts, whether to say why, and options; 422 with the reason where they are not as wanted."""
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(422, "the body is not JSON") from None
    texts = given.get("texts") if isinstance(given, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise HTTPException(422, 'wanted {"texts": ["...", ...]}, a list of strings')
    why = given.get("why", False)
    if type(why) is not bool:
        raise HTTPException(422, "why: wanted true or false")
    most = MAX_WHY if why else MAX_TEXTS
    if not 1 <= len(texts) <= most:
        with_why = " with why" * why
        raise HTTPException(422, f"{len(texts):,} texts{with_why}; wanted 1 to {most:,}")
    try:
        return texts, why, requested(given)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None


def read_key(file: Path | None, host: str) -> str | None:
    """The key; raises ValueError where one is needed or does not serve."""
    if file is None:
        if is_loopback(host):
            return None
        raise ValueError(f"--host {host} listens to other machines: it needs --api-key-file FILE")
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--api-key-file {file} cannot be read: {error}") from None
    if len(key) < MIN_KEY or key.split() != [key]:
        raise ValueError(f"--api-key-file {file}: wanted one word of {MIN_KEY} characters or more")
    return key


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> int:
    parser = argparse.ArgumentParser(description="Serve the model over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port (8000)")
    parser.add_argument("--api-key-file", type=Path, help="file with the key that callers show")
    parser.add_argument("--threads", type=int, default=1, help="threads for one request (1)")
    args = parser.parse_args()
    try:
        key = read_key(args.api_key_file, args.host)
        app = create_app(Model(threads=args.threads), key)
    except (ValueError, ModelError) as error:
        print(error, file=sys.stderr)
        return 2
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning", server_header=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
