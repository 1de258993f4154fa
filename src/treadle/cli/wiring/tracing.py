"""Sends spans to the OpenTelemetry collector that the environment names.

The library's own variables decide where they go: `OTEL_EXPORTER_OTLP_ENDPOINT` (or the one for
traces), headers, time limits, `OTEL_SERVICE_NAME`. The extra `otel` brings the library. Spans are
sent from a thread in batches; a collector that does not answer loses spans, never work.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from treadle.config.environment import Environment
from treadle.kit import tracing
from treadle.kit.tracing import Attribute

STOP_MS = 2000
"""How long the last spans may take on the way out."""


class OpenTelemetryTracer:
    """A `kit.tracing.Tracer` over the library's own."""

    def __init__(self, tracer: Any) -> None:
        """Use a tracer of the library."""
        self._tracer = tracer

    def span(
        self, name: str, attributes: dict[str, Attribute], parent: str | None
    ) -> AbstractContextManager[object]:
        """See `Tracer.span`; an unreadable parent counts as none."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = None
        if parent is not None:
            context = TraceContextTextMapPropagator().extract({"traceparent": parent})
        return self._tracer.start_as_current_span(name, context=context, attributes=attributes)

    def traceparent(self) -> str | None:
        """See `Tracer.traceparent`."""
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        return carrier.get("traceparent")


def start_tracing(environment: Environment, process: str) -> Callable[[], None]:
    """Trace this process; returns what sends the last spans. Says so when it cannot."""
    try:
        provider = _provider(environment.variables, process)
    except ModuleNotFoundError:
        print(
            "treadle: a collector of traces is named, but OpenTelemetry is not installed; run"
            " `pip install 'treadle[otel]'`. Going on without traces.",
            file=sys.stderr,
        )
        return _nothing
    tracing.install(OpenTelemetryTracer(provider.get_tracer("treadle")))

    def stop() -> None:
        tracing.install(None)
        provider.force_flush(STOP_MS)
        provider.shutdown()

    return stop


def _provider(variables: Mapping[str, str], process: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = variables.get("OTEL_SERVICE_NAME") or f"treadle-{process}"
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _nothing() -> None:
    """Nothing was traced."""
