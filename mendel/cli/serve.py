"""mendel serve: a model or an agent over HTTP, OpenAI's way; and what the server says of itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mendel.cli.amounts import BYTES, SECONDS, parser
from mendel.types import InputError

URL = "http://127.0.0.1:8000"
TIMEOUT_S = 600  # an explanation runs a request a dozen times
Seconds = Annotated[float, typer.Option(parser=parser(SECONDS, "10s"), metavar="TIME")]
Bytes = Annotated[float, typer.Option(parser=parser(BYTES, "2GB"), metavar="BYTES")]


def add_to(app: typer.Typer) -> None:
    app.command()(serve)


def serve(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DIR | status | explain",
            help="A model that `mendel train` or Hugging Face saved, or what `mendel design` "
            "wrote; or ask a running server.",
        ),
    ],
    request_id: Annotated[str | None, typer.Argument(help="Of explain.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Another than loopback needs a key.")] = "127.0.0.1",
    mode: Annotated[
        str, typer.Option(help="exact, or deterministic: the plan is frozen, and named.")
    ] = "exact",
    dtype: Annotated[str, typer.Option(help="float32 or bf16.")] = "float32",
    max_memory: Bytes = 2e9,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="A line each: KEY, or TENANT KEY. For status and explain, the first one is sent."
        ),
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Always this one; see /v1/plans.")] = None,
    drain: Seconds = 10.0,
    name: Annotated[str | None, typer.Option(help="Of the model. Default: the folder's.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Default: the model's own.")] = None,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 256,
    max_running: Annotated[
        int, typer.Option(min=1, help="Texts in a batch; a tenant with none comes in beyond.")
    ] = 64,
    feedback: Annotated[
        Path | None, typer.Option(help="Default: feedback/NAME.jsonl in mendel's home.")
    ] = None,
    log_requests: Annotated[bool, typer.Option("--log-requests", help="A line each.")] = False,
    draft: Annotated[
        Path | None, typer.Option(help="A small model of the same tokens, that guesses.")
    ] = None,
    url: Annotated[str, typer.Option(help="Of status and explain.")] = URL,
    as_json: Annotated[bool, typer.Option("--json", help="Of status.")] = False,
) -> None:
    """Serve a model over HTTP, or ask a server: serve status, serve explain REQUEST_ID."""
    if what == "status":
        _status(_asked(url, "/v1/observe", api_key_file), as_json)
        return
    if what == "explain":
        if request_id is None:
            raise InputError("serve explain needs the id of an answer, such as cmpl-1f0a...")
        found = _asked(url, f"/v1/explain/{_quoted(request_id)}", api_key_file)
        print(json.dumps(found, indent=2))
        return
    if request_id is not None:
        raise InputError(f"serve takes one folder. Got {what} and {request_id}.")
    from mendel.cli.serving import Options, run

    options = Options(
        folder=Path(what), host=host, port=port, mode=_one_of("--mode", mode, _MODES),
        dtype=_one_of("--dtype", dtype, _DTYPES), max_memory=int(max_memory),
        keys=api_key_file, plan=plan, drain_s=drain, name=name, tokenizer=tokenizer,
        max_queue=max_queue, max_running=max_running, feedback=feedback,
        log_requests=log_requests, draft=draft,
    )  # fmt: skip
    run(options)


_MODES: tuple[Literal["exact"], Literal["deterministic"]] = ("exact", "deterministic")
_DTYPES: tuple[Literal["float32"], Literal["bf16"]] = ("float32", "bf16")


def _one_of(flag: str, got: str, wanted: tuple[Any, ...]) -> Any:
    if got not in wanted:
        raise InputError(f"{flag} {got}: wanted {' or '.join(wanted)}.")
    return got


def _quoted(id: str) -> str:
    from urllib.parse import quote

    return quote(id, safe="")


def _asked(url: str, path: str, key_file: Path | None) -> dict[str, Any]:
    """What a running server answers; raises InputError that says why it does not."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    from mendel.serve.http.keys import first_key

    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url {url} is no address. Wanted one such as {URL}.")
    request = Request(url.rstrip("/") + path)  # noqa: S310  checked above
    if key_file is not None:
        request.add_header("Authorization", f"Bearer {first_key(key_file)}")
    try:
        with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        raise InputError(f"{url}: {_message(error.read()) or error.reason}") from None
    except (URLError, OSError, ValueError) as error:
        raise InputError(
            f"no server of mendel's answers at {url}: {error}. Start one by `mendel serve DIR`, or "
            "say --url."
        ) from None
    return found


def _message(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _status(seen: dict[str, Any], as_json: bool) -> None:
    """What the observer shows as its tables, the rest as it is."""
    if as_json:
        print(json.dumps(seen, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from mendel.serve.observe.show import table

    console = Console(file=sys.stdout)
    if "classes" in seen:
        console.print(table(seen))
    engine = Table(title="engine", title_justify="left", show_header=False, box=None)
    for fact, value in _flat(seen.get("engine", {})):
        engine.add_row(fact, value)
    console.print(engine)


def _flat(facts: Any, above: str = "") -> list[tuple[str, str]]:
    if isinstance(facts, dict):
        rows = []
        for key, value in facts.items():
            rows += _flat(value, f"{above}.{key}" if above else str(key))
        return rows
    if isinstance(facts, list):
        rows = []
        for i, value in enumerate(facts):
            rows += _flat(value, f"{above}[{i}]")
        return rows
    text = f"{facts:,.4g}" if isinstance(facts, float) else str(facts)
    return [(above, text)]
