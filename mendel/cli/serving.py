"""What `mendel serve` puts together: model, program, plans, engine, chooser, server."""

from __future__ import annotations

import logging
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mendel.cli.starting import Starting, interruptible
from mendel.serve.http.keys import read_keys
from mendel.serve.http.sockets import bound, listen, more_files
from mendel.types import InputError

if TYPE_CHECKING:
    from mendel.serve.http.served import Served

AGENT = "agent.json"


@dataclass(frozen=True)
class Options:
    """The flags of `mendel serve`."""

    folder: Path
    host: str
    port: int
    mode: Literal["exact", "deterministic"]
    dtype: Literal["float32", "bf16"]
    max_memory: int
    keys: Path | None
    plan: str | None
    drain_s: float
    name: str | None
    tokenizer: Path | None
    max_queue: int
    max_running: int
    feedback: Path | None
    log_requests: bool
    draft: Path | None = None


def run(options: Options) -> None:
    """Serve until a signal comes."""
    _log(options.log_requests)
    keys = read_keys(options.keys, options.host)
    if not options.folder.exists():
        raise InputError(
            f"{options.folder} is absent. Wanted a model's folder. Train one by `mendel train`."
        )
    sys.setswitchinterval(0.0005)  # a token waits no longer than that for the loop, or the engine
    more_files()
    with ExitStack() as held:
        sock = bound(options.host, options.port)
        held.callback(sock.close)
        with interruptible(), Starting() as starting:
            served = opened(options, held, starting)
            served.keys = keys
            from mendel.serve.http.app import create_app
            from mendel.serve.http.server import serve

            app = create_app(served)
        listen(sock)  # from here on those who come are served
        print(f"{served.name} at {_address(sock)}: {_said(served, options)}", flush=True)
        serve(app, served, sock, options.drain_s)
        with interruptible():
            held.close()


def opened(options: Options, held: ExitStack, starting: Starting) -> Served:
    """What lies in the folder, ready; `held` closes what runs beside it."""
    starting.phase("loading what serves")  # torch alone takes seconds
    from mendel.ledger import home
    from mendel.serve.http.served import Served

    folder = options.folder
    name = options.name or folder.resolve().name.removesuffix(".bin")
    feedback = options.feedback or home() / "feedback" / f"{name}.jsonl"
    served = Served(name, int(time.time()), feedback)
    if (folder / AGENT).is_file():
        from mendel.emit.runtime import load_model

        _no_language(options)
        starting.phase(f"reading {folder}")
        served.agent = load_model(folder)
    else:
        from mendel.cli.serving_language import open_language

        served.language, served.collectors = open_language(options, held, starting)
    return served


def _no_language(options: Options) -> None:
    """raises InputError for a flag that says how texts are written"""
    given = {
        "--dtype": options.dtype != "float32", "--mode": options.mode != "exact",
        "--plan": options.plan is not None, "--draft": options.draft is not None,
        "--tokenizer": options.tokenizer is not None,
    }  # fmt: skip
    flag = next((flag for flag, is_given in given.items() if is_given), None)
    if flag is not None:
        raise InputError(
            f"{flag} is for language models, and {options.folder} is an agent, which runs as it "
            f"was made. Leave {flag} out."
        )


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _said(served: Served, options: Options) -> str:
    if served.language is None:
        return f"an agent of kind {served.agent.agent['kind']}"
    plans = ", ".join(served.language.plans)
    return f"{options.dtype}, {options.mode}, plans {plans}"


def _log(is_on: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    log = logging.getLogger("mendel")
    log.addHandler(handler)
    log.setLevel(logging.INFO if is_on else logging.WARNING)
    logging.getLogger("uvicorn.error").addHandler(handler)
