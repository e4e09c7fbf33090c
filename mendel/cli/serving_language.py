"""A language model made ready to be served: program, proven plans, chooser, those who watch.

weights --sums--> Model --kernels--> Program --menu, proofs--> plans --Tuner--> Engine --Watched-->
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from mendel import formats
from mendel.clocks.tune.session import Tuner
from mendel.formats.sums import check_sums
from mendel.ledger import Ledger
from mendel.model import Model
from mendel.serve import numerics
from mendel.serve.drafter import together
from mendel.serve.engine import Engine
from mendel.serve.explain import explain
from mendel.serve.http.chat import read_chat
from mendel.serve.http.served import Language
from mendel.serve.observe.observer import Observer
from mendel.serve.plans import PLAIN, Menu, menu
from mendel.serve.protocols import Chooser, Fixed, Program
from mendel.serve.prove import proven
from mendel.serve.reference import Reference
from mendel.serve.watched import Ring, Watched
from mendel.types import Digest, InputError

if TYPE_CHECKING:
    from mendel.cli.serving import Options
    from mendel.cli.starting import Starting

LEAST_BYTES = 16_000_000  # for texts
RECIPE = "recipe.toml"  # what `mendel train` leaves beside a model, or above its seeds


def open_language(
    options: Options, held: ExitStack, starting: Starting
) -> tuple[Language, Sequence[Collector]]:
    """The model of a folder behind its engine; `held` closes what runs beside it."""
    folder = options.folder if options.folder.is_dir() else options.folder.parent
    starting.phase(f"reading {options.folder}")
    if options.folder.is_dir():
        check_sums(folder)
    loaded = formats.load(options.folder, tokenizer=options.tokenizer)
    model, codec = loaded.model.eval(), loaded.tokenizer
    chat = None if codec is None else read_chat(folder, codec)
    small = _small(options, loaded)
    rooms = _rooms(options, model, small)
    starting.phase("making the kernels ready (the first time here they are compiled, about 40 s)")
    program = _program(model, options, rooms[0], starting)
    draft = None if small is None else _program(small, options, rooms[1], starting)
    starting.phase("proving that each plan gives the plain tokens, or reading the proofs")
    asked, known = _plans(program, folder, options, starting, draft)
    about = together(program, draft)
    tuner = None if options.plan else _tuner(about, asked, known, options, held)
    chooser: Chooser = Fixed(options.plan) if options.plan else _chooser(tuner)
    engine = Engine(
        program, known.plans, chooser, max_queue=options.max_queue,
        max_running=options.max_running, draft=draft,
    )  # fmt: skip
    held.callback(engine.close, 0.0)
    if tuner is not None and options.mode == "exact":
        starting.phase("measuring the plans on this machine, or reading what was measured")
        tuner.profile(engine, vocab=program.vocab, context=program.context, tell=starting.count)
    if tuner is not None:
        tuner.begin(engine)
    ring, observer = Ring(), _observer(model, engine, tuner, held)
    lookers = [ring.add, lambda one: observer.heard(one.trace, (*one.request.prompt, *one.ids))]
    lookers += [] if tuner is None else [tuner.heard]
    language = Language(
        engine=Watched(engine, lookers),
        codec=codec,
        vocab=program.vocab,
        context=program.context,
        stop=loaded.stop,
        chat=chat,
        plans=known.plans,
        refused=known.refused,
        program=program.digest,
        mode=options.mode,
        most_texts=options.max_queue,
        explain=lambda name: explain(engine, ring, name),
        observe=observer.told,
    )
    return language, [observer.collector()]


def _small(options: Options, loaded: formats.Loaded) -> Model | None:
    """The draft model, if one is given: of the same tokens, by number and by name."""
    if options.draft is None:
        return None
    if options.draft.is_dir():
        check_sums(options.draft)
    found = formats.load(options.draft)
    mine, its = loaded.model.spec.vocab, found.model.spec.vocab
    if mine != its:
        raise InputError(
            f"--draft {options.draft}: its vocab is {its}, that of {options.folder} {mine}. Wanted "
            "the same tokens. Train it with the model's tokenizer."
        )
    one, other = loaded.tokenizer, found.tokenizer
    if one is not None and other is not None and one.digest != other.digest:
        raise InputError(
            f"--draft {options.draft}: its tokenizer is {other.digest[:12]}, that of "
            f"{options.folder} {one.digest[:12]}. Wanted the same. Train it with the model's."
        )
    return found.model.eval()


def _rooms(options: Options, model: Model, small: Model | None) -> tuple[int, int]:
    """Bytes for the texts of the model and of its draft model: what the weights leave."""
    models = [model] if small is None else [model, small]
    a_weight = 2 if options.dtype == "bf16" else 4
    weights = sum(one.n_params for one in models) * a_weight
    # the observer looks by the model itself
    weights += sum(p.numel() * p.element_size() for p in model.parameters())
    room, least = options.max_memory - weights, LEAST_BYTES * len(models)
    if room < least:
        mb = [f"{n / 1e6:,.0f} MB" for n in (options.max_memory, weights, max(0, room))]
        raise InputError(
            f"--max-memory {mb[0]}: the weights take {mb[1]}, for the kernels and the observer, "
            f"and {mb[2]} are left for texts. Wanted {least / 1e6:,.0f} MB or more. "
            "Give it more, or take a smaller model."
        )
    if small is None:
        return room, 0
    sizes = [one.spec.n_layers * one.spec.width for one in models]  # as a text's keys and values
    its = max(LEAST_BYTES, room * sizes[1] // sum(sizes))
    its = min(its, room - LEAST_BYTES)
    return room - its, its


def _program(model: Model, options: Options, room: int, starting: Starting) -> Program:
    """The model by kernels; by torch where they cannot do a part of it."""
    try:
        return numerics.program(model, dtype=options.dtype, capacity_bytes=room)
    except InputError as error:
        starting.say(f"no exact kernels for this model, so torch runs it, slowly: {error}")
        return Reference(model, options.dtype, room)


def _plans(
    program: Program, folder: Path, options: Options, starting: Starting, draft: Program | None
) -> tuple[Menu, Menu]:
    """What this model and machine could do, and what of it is proven exact here; a pinned plan
    alone needs no other's proof, and a frozen choice is not unmade by a busy machine."""
    pinned, exits = options.plan, _exits(folder, program.n_layers)
    known = menu(program, exits=exits, has_draft=draft is not None)
    if pinned is not None:
        # with the plain one behind it, that an explanation sets beside it
        known = Menu({pinned: known.pinned(pinned), PLAIN.name: PLAIN}, known.refused)
    drops_slow = pinned is None and options.mode == "exact"
    found = proven(program, known, draft=draft, tell=starting.count, drops_slow=drops_slow)
    if pinned is not None:
        found.pinned(pinned)
    return known, found


def _exits(folder: Path, n_layers: int) -> tuple[int, ...]:
    """Depths that the model was trained to predict at, if it was: its recipe says so."""
    for file in (folder / RECIPE, folder.parent / RECIPE):
        if file.is_file():
            try:
                how = tomllib.loads(file.read_text(encoding="utf-8")).get("train", {})
            except (OSError, ValueError):
                return ()
            if how.get("exit_loss"):
                return tuple(sorted({max(1, n_layers // 3), max(1, n_layers // 2)} - {n_layers}))
            return ()
    return ()


def _tuner(about: Digest, asked: Menu, known: Menu, options: Options, held: ExitStack) -> Tuner:
    ledger = Ledger()
    held.callback(ledger.close)
    tuner = Tuner(ledger, about, known.plans, options.mode, menu=list(asked.plans))
    held.callback(tuner.close)
    return tuner


def _chooser(tuner: Tuner | None) -> Chooser:
    assert tuner is not None
    return tuner.chooser


def _observer(model: Model, engine: Engine, tuner: Tuner | None, held: ExitStack) -> Observer:
    def is_idle() -> bool:
        return not engine.stats().n_running

    if tuner is None:
        observer = Observer(model, is_idle=is_idle)
    else:
        classes, more = tuner.chooser.class_of, {"tune": tuner.status}
        observer = Observer(model, class_of=classes, is_idle=is_idle, more=more)
    observer.begin()
    held.callback(observer.close)
    return observer
