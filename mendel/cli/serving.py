"""What `mendel serve` puts together: model, program, plans, engine, chooser, server."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mendel.ledger import home
from mendel.model import Model
from mendel.serve.http.chat import read_chat
from mendel.serve.http.served import Language, Served
from mendel.serve.protocols import Chooser, Fixed, Program
from mendel.spec import PlanSpec
from mendel.types import InputError, did_you_mean

AGENT = "agent.json"
LEAST_BYTES = 16_000_000  # for texts


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


def run(options: Options) -> None:
    """Serve until a signal comes."""
    from mendel.serve.http.app import create_app
    from mendel.serve.http.keys import read_keys
    from mendel.serve.http.server import listen, more_files, serve

    _log(options.log_requests)
    keys = read_keys(options.keys, options.host)
    sys.setswitchinterval(0.0005)  # a token waits no longer than that for the loop, or the engine
    more_files()
    with ExitStack() as held:
        sock = listen(options.host, options.port)
        held.callback(sock.close)
        served = opened(options, held)
        served.keys = keys
        host, port = sock.getsockname()[:2]
        place = f"[{host}]" if ":" in host else host
        print(f"{served.name} at http://{place}:{port}: {_said(served, options)}", flush=True)
        serve(create_app(served), served, sock, options.drain_s)


def opened(options: Options, held: ExitStack) -> Served:
    """What lies in the folder, ready; `held` closes what runs beside it."""
    folder = options.folder
    name = options.name or folder.resolve().name.removesuffix(".bin")
    feedback = options.feedback or home() / "feedback" / f"{name}.jsonl"
    served = Served(name, int(time.time()), feedback)
    if (folder / AGENT).is_file():
        from mendel.emit.runtime import load_model

        served.agent = load_model(folder)
    else:
        _open_language(served, options, held)
    return served


def _open_language(served: Served, options: Options, held: ExitStack) -> None:
    from mendel import formats
    from mendel.formats.sums import check_sums
    from mendel.serve.engine import Engine

    if options.folder.is_dir():
        check_sums(options.folder)
    loaded = formats.load(options.folder, tokenizer=options.tokenizer)
    model, codec = loaded.model.eval(), loaded.tokenizer
    program = _program(model, options)
    plans = {"plain": PlanSpec()}
    chooser = _chooser(plans, options)
    engine = Engine(
        program, plans, chooser, max_queue=options.max_queue, max_running=options.max_running
    )
    held.callback(engine.close, 0.0)
    chat = None if codec is None else read_chat(_folder(options.folder), codec)
    served.language = Language(
        engine=engine, codec=codec, vocab=program.vocab, context=program.context,
        stop=loaded.stop, chat=chat, plans=plans, program=program.digest, mode=options.mode,
    )  # fmt: skip


def _program(model: Model, options: Options) -> Program:
    """The model by kernels; by torch where they cannot do a part of it."""
    from mendel.serve.reference import Reference

    width = 2 if options.dtype == "bf16" else 4
    room = options.max_memory - model.n_params * width
    if room < LEAST_BYTES:
        mb = [f"{n / 1e6:,.0f} MB" for n in (options.max_memory, model.n_params * width, room)]
        raise InputError(
            f"--max-memory {mb[0]}: the weights take {mb[1]}, and {mb[2]} are left for texts. "
            f"Wanted {LEAST_BYTES / 1e6:,.0f} MB or more. Give it more, or take a smaller model."
        )
    return Reference(model, options.dtype, room)


def _chooser(plans: Mapping[str, PlanSpec], options: Options) -> Chooser:
    if options.plan is not None and options.plan not in plans:
        near = did_you_mean(options.plan, plans)
        raise InputError(
            f"--plan {options.plan}: there is no such plan for this model here. {near} Wanted one "
            f"of {', '.join(plans)}."
        )
    return Fixed(options.plan or next(iter(plans)))


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


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
