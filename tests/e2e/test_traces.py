"""Spans of real processes at a collector: a turn with its tools, a runner with its manager."""

import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.command_line import Home, run, started
from support.fake_provider import FakeProvider, calls, function_call, reply
from support.manager_api import ManagerApi


@dataclass
class Collector:
    """Takes spans over HTTP, as an OpenTelemetry collector does."""

    spans: list[Any] = field(default_factory=list[Any])
    url: str = ""

    async def take(self, request: web.Request) -> web.Response:
        body = ExportTraceServiceRequest()
        body.ParseFromString(await request.read())
        for resource in body.resource_spans:
            service = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(service["service.name"], span) for span in scope.spans]
        return web.Response()

    def named(self, name: str) -> list[Any]:
        return [span for _, span in self.spans if span.name == name]

    def home(self, home: Home) -> Home:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url}
        return replace(home, variables={**home.variables, **endpoint})


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]
    found.url = f"http://127.0.0.1:{port}"
    yield found
    await runner.cleanup()


async def test_a_turn_is_one_trace_down_to_its_tools(
    home: Home, provider: FakeProvider, collector: Collector
) -> None:
    call = function_call("exec_command", {"cmd": "true"}, "call-7")
    provider.script(calls(call), reply("Done"))
    done = await run(collector.home(home), "exec", "a secret prompt")
    assert done.code == 0, done.err
    (turn,) = collector.named("turn")
    requests, (tool,) = collector.named("model request"), collector.named("tool exec_command")
    assert len(requests) == 2
    assert {span.trace_id for span in [*requests, tool]} == {turn.trace_id}
    assert {service for service, _ in collector.spans} == {"treadle-exec"}
    (attribute,) = tool.attributes
    assert (attribute.key, attribute.value.string_value) == ("call.id", "call-7")
    assert "a secret prompt" not in str(collector.spans)


async def test_a_runner_and_its_manager_are_one_trace(
    bare_home: Home, collector: Collector, tmp_path: Path
) -> None:
    traced, data = collector.home(bare_home), tmp_path / "data"
    async with started(traced, "manager", "--port", "0", "--data", str(data), "--json") as manager:
        url = json.loads(await manager.wait_line("listening"))["listening"]
        async with ManagerApi(url, data) as api:
            run_id, _ = await api.create_turn(tmp_path)
        fake = ["--codex-command", sys.executable, "--codex-arg=-m"]
        arguments = ["--run-id", run_id, "--data", str(data), "--one-shot", *fake]
        done = await run(
            traced, "runner", "once", *arguments, "--codex-arg=treadle.testing.fake_backend"
        )
        assert done.code == 0, done.err
        manager.signal(signal.SIGINT)
        await manager.finish()
    (attempt,), (turn,) = collector.named("runner run"), collector.named("runner turn")
    assert turn.parent_span_id == attempt.span_id
    appends = collector.named("http POST /api/v1/runs/{run_id}/events")
    assert turn.trace_id in {span.trace_id for span in appends}
    parents = {span.span_id for span in appends}
    assert any(span.parent_span_id in parents for span in collector.named("db append"))


async def test_a_collector_that_is_gone_costs_no_work(home: Home, provider: FakeProvider) -> None:
    provider.script(reply("Done"))
    gone = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    done = await run(replace(home, variables=gone), "exec", "go")
    assert (done.code, done.out) == (0, "Done\n")
