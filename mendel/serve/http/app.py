"""The application: every route, and what each needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from mendel.data.spelling import token_bytes
from mendel.serve.http import answering, asking
from mendel.serve.http.errors import JSON, Refused, explained
from mendel.serve.http.feedback import Feedback, Store
from mendel.serve.http.gate import Gate, caller
from mendel.serve.http.metrics import Metrics
from mendel.serve.http.openai import Ask, ChatCompletion, Completion
from mendel.serve.http.otel import spans
from mendel.serve.http.predict import Prediction, predicted
from mendel.serve.http.served import Language, Served, as_dict
from mendel.serve.http.streams import Bridge
from mendel.serve.http.told import Message, Text, Told, Words
from mendel.serve.http.writing import Job, Writing
from mendel.serve.protocols import Overloaded
from mendel.spec import PlanSpec
from mendel.types import InputError

B = TypeVar("B", bound=BaseModel)
PREFIXES = ("cmpl-", "chatcmpl-")
SHORT = 50_000  # bytes of a body that is read at once; others' tokens wait for no longer one


class Routes:
    """The routes of one server."""

    def __init__(self, served: Served, metrics: Metrics) -> None:
        self.served, self.metrics = served, metrics
        self.store = Store(served.feedback)
        self.bridge: Bridge | None = None
        self.is_explaining = False
        codec = served.language.codec if served.language else None
        self.words = Words(token_bytes(codec) if codec is not None else None)

    async def healthz(self) -> Response:
        return JSON({"status": "ok"})

    async def readyz(self) -> Response:
        leaving = self.served.is_leaving
        return JSON({"status": "leaving" if leaving else "ready"}, 503 if leaving else 200)

    async def metrics_text(self) -> Response:
        text = await run_in_threadpool(self.metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def models(self) -> Response:
        return JSON({"object": "list", "data": [self._model()]})

    async def model(self, model: str) -> Response:
        self._check_model(model)
        return JSON(self._model())

    async def completions(self, request: Request) -> Response:
        asked = await body(request, Completion)
        language = self._language(asked.model)
        jobs = await asking.completion_jobs(asked, language, caller(request.scope))
        return await self._answer(request, asked, jobs, Text)

    async def chat(self, request: Request) -> Response:
        asked = await body(request, ChatCompletion)
        language = self._language(asked.model)
        jobs = await asking.chat_jobs(asked, language, caller(request.scope))
        return await self._answer(request, asked, jobs, Message)

    async def predict(self, request: Request) -> Response:
        asked = await body(request, Prediction)
        self._check_model(asked.model)
        agent = self.served.agent
        if agent is None:
            raise Refused(
                404,
                f"{self.served.name} is a language model. Use /v1/completions.",
                code="no_agent",
            )
        answers = await run_in_threadpool(predicted, agent, asked)
        return JSON({"model": self.served.name, "predictions": answers})

    async def feedback(self, request: Request) -> Response:
        said = await body(request, Feedback)
        who = caller(request.scope)
        known = {"model": self.served.name, "tenant": who.tenant, "request": who.id}
        await run_in_threadpool(self.store.add, said, **known)
        return JSON({"stored": True, "id": who.id})

    async def observe(self) -> Response:
        language = self._language(None)
        seen = await run_in_threadpool(language.observe) if language.observe else {}
        return JSON({"engine": as_dict(language.engine.stats()), **seen})

    async def explain(self, request: Request, id: str) -> Response:
        language = self._language(None)
        plain = next((id.removeprefix(p) for p in PREFIXES if id.startswith(p)), id)
        unknown = Refused(
            404, f"No request {id[:80]!r} is remembered. The last ones are, until a restart."
        )
        if self.served.asked.get(plain.partition(".")[0]) != caller(request.scope).tenant:
            raise unknown
        if language.explain is None:
            raise Refused(404, "This server does not keep requests, so it explains none.")
        if self.is_explaining:  # it runs the request a dozen times
            again = {"retry-after": "5"}
            raise Refused(429, "Another request is being explained. Wait for it.", headers=again)
        self.is_explaining = True
        try:
            found = await run_in_threadpool(language.explain, plain)
        except InputError as error:
            raise Refused(404, str(error)) from None
        except Overloaded as error:
            raise Refused(429, str(error), headers={"retry-after": "5"}) from None
        finally:
            self.is_explaining = False
        return JSON(dict(found))

    async def plans(self) -> Response:
        language = self._language(None)
        rows = [
            {"name": n, "digest": language.plan_digest(n), "spec": spec.model_dump(mode="json")}
            for n, spec in language.plans.items()
        ]
        about = {"mode": language.mode, "program": language.program}
        return JSON({**about, "plans": rows, "refused": dict(language.refused)})

    async def plan_schema(self) -> Response:
        return JSON(PlanSpec.model_json_schema())

    async def _answer(
        self, request: Request, asked: Ask, jobs: list[Job], kind: type[Told]
    ) -> Response:
        language, who, limits = (
            self._language(asked.model),
            caller(request.scope),
            self.served.limits,
        )
        assert self.bridge is not None
        told = kind(who.id, self.served.name, language, self.words, bool(asked.return_token_ids))
        n_prompts = [len(job.request.prompt) for job in jobs[:: asked.n or 1]]
        most = language.most_texts
        if most is not None and len(jobs) > most:
            raise Refused(
                400,
                f"{len(jobs)} texts are asked for. Wanted at most {most}, as many as may wait "
                "here. Ask in several requests.",
            )
        writing = Writing(language.engine, self.bridge, jobs, self.metrics)
        self.served.remember(who.id, who.tenant)
        writing.start(limits.n_waiting if asked.stream else None)
        if not asked.stream:
            return await answering.at_once(request, writing, told, n_prompts)
        return answering.Stream(
            writing, told, n_prompts, with_usage=asked.with_usage, send_s=limits.send_s
        )

    def _model(self) -> dict[str, Any]:
        kind = "language model" if self.served.language else "agent"
        about = {"created": self.served.created, "owned_by": "mendel", "kind": kind}
        return {"id": self.served.name, "object": "model", **about}

    def _language(self, model: str | None) -> Language:
        self._check_model(model)
        if self.served.language is None:
            raise Refused(404, f"{self.served.name} is an agent. Use /v1/predict.", code="no_model")
        return self.served.language

    def _check_model(self, model: str | None) -> None:
        if model is not None and model != self.served.name:
            raise Refused(
                404,
                f"There is no model {model[:80]!r} here. Wanted {self.served.name!r}: see "
                "/v1/models.",
                param="model",
                code="model_not_found",
            )


def create_app(served: Served) -> FastAPI:
    """The application of one server; it starts nothing before it runs in a loop."""
    metrics = Metrics(served.collectors)
    if served.language is not None:
        engine = served.language.engine
        metrics.gauges(lambda: as_dict(engine.stats()))
    routes = Routes(served, metrics)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        routes.bridge = Bridge(asyncio.get_running_loop())
        yield

    traced = spans()

    def heard(route: str, status: int, took_s: float) -> None:
        metrics.heard(route, status, took_s)
        traced.ended(route, time.time() - took_s, took_s, {"status": status})

    app = FastAPI(title="mendel", docs_url=None, redoc_url=None, lifespan=life, version=served.name)
    _add(app, routes)
    app.add_middleware(
        Gate,
        keys=served.keys,
        limits=served.limits,
        n_connections=lambda: served.n_connections(),
        is_leaving=lambda: served.is_leaving,
        heard=heard,
    )
    return app


def _add(app: FastAPI, routes: Routes) -> None:
    def get(path: str, call: Callable[..., Any]) -> None:
        app.add_api_route(path, call, methods=["GET"], response_class=Response)

    def post(path: str, call: Callable[..., Any], wanted: type[BaseModel]) -> None:
        schema = wanted.model_json_schema(mode="validation")
        content = {"application/json": {"schema": _flat(schema)}}
        extra = {"requestBody": {"required": True, "content": content}}
        app.add_api_route(
            path, call, methods=["POST"], response_class=Response, openapi_extra=extra
        )

    get("/healthz", routes.healthz)
    get("/readyz", routes.readyz)
    get("/metrics", routes.metrics_text)
    get("/v1/models", routes.models)
    get("/v1/models/{model:path}", routes.model)
    post("/v1/completions", routes.completions, Completion)
    post("/v1/chat/completions", routes.chat, ChatCompletion)
    post("/v1/predict", routes.predict, Prediction)
    post("/v1/feedback", routes.feedback, Feedback)
    get("/v1/observe", routes.observe)
    get("/v1/explain/{id}", routes.explain)
    get("/v1/plans", routes.plans)
    get("/v1/plans/schema", routes.plan_schema)

    @app.exception_handler(StarletteHTTPException)
    async def unknown(request: Request, error: StarletteHTTPException) -> Response:
        path = request.url.path[:80]
        said = {404: f"There is no {path!r}. See /openapi.json for what there is.",
                405: f"{request.method} is not for {path!r}. See /openapi.json."}  # fmt: skip
        message = said.get(error.status_code, str(error.detail))
        return Refused(error.status_code, message, headers=error.headers).response()


async def body(request: Request, wanted: type[B]) -> B:
    """The body, checked; raises Refused that says what is wrong with it."""
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise Refused(408, "The caller left.") from None
    try:
        if len(raw) <= SHORT:
            return wanted.model_validate_json(raw)
        return await run_in_threadpool(wanted.model_validate_json, raw)
    except ValidationError as error:
        raise explained(wanted, error) from None


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema without $defs of its own: inside OpenAPI its pointers would lead nowhere."""
    known = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        if isinstance(node, list):
            return [resolved(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return resolved(known[node["$ref"].rpartition("/")[2]])
        return {key: resolved(value) for key, value in node.items()}

    flat: dict[str, Any] = resolved(schema)
    return flat
