"""What a manager counts about itself, in a registry of its own.

Names and labels are described in `docs/operations.md`. Labels are closed sets: a value that a
caller chose never becomes one. Knows neither HTTP nor the database.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from treadle.control.records import Claim, NewEvent
from treadle.domain.failures import FailureKind
from treadle.kit.clock import Clock, parse_iso

OTHER = "other"
_KINDS = frozenset(FailureKind)
_WAIT_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
_DATABASE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)


@dataclass(slots=True)
class Place:
    """Where one subscriber of a stream is in a run's log."""

    run_id: str
    after_seq: int


class _Told(msgspec.Struct, rename="camel"):
    """What of an event's payload is counted; anything may stand there."""

    phase: Any = None
    failure_kind: Any = None
    will_retry: Any = None


class Metrics:
    """The metrics of one manager."""

    def __init__(self, clock: Clock) -> None:
        """Make the registry; `clock` measures how long work waited."""
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._clock = clock
        self._places: dict[int, Place] = {}
        self.registry = registry = CollectorRegistry()
        self.claim_wait = Histogram(
            "treadle_claim_wait_seconds",
            "Age of the oldest pending command when its run was claimed.",
            buckets=_WAIT_BUCKETS,
            registry=registry,
        )
        self.claims = Counter("treadle_claims", "Claims granted.", ["reason"], registry=registry)
        self.lease_expirations = Counter(
            "treadle_lease_expirations", "Lapsed leases that were swept.", registry=registry
        )
        self.gone_leases = Counter(
            "treadle_gone_leases",
            "Leases that lapsed because their runner was reported gone.",
            registry=registry,
        )
        self.fenced_writes = Counter(
            "treadle_fenced_writes_rejected",
            "Writes under an epoch that is over.",
            ["operation"],
            registry=registry,
        )
        self.lost_runs = Counter(
            "treadle_heartbeat_lost_runs", "Runs that heartbeats reported lost.", registry=registry
        )
        self.append_events = Histogram(
            "treadle_append_batch_events",
            "Events per append.",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.database_seconds = Histogram(
            "treadle_database_seconds",
            "Time until the answer of the database, for writes until the commit is durable.",
            ["operation"],
            buckets=_DATABASE_BUCKETS,
            registry=registry,
        )
        self.retries = Counter(
            "treadle_retries",
            "Failures that were tried again.",
            ["failure_kind"],
            registry=registry,
        )
        self.failures = Counter(
            "treadle_failures",
            "Commands and runs that ended with a failure kind.",
            ["scope", "failure_kind"],
            registry=registry,
        )
        self.live_leases = Gauge(
            "treadle_live_leases", "Runs under a live lease.", registry=registry
        )
        self.waiting_runs = Gauge(
            "treadle_waiting_runs", "Runs with commands that wait for a runner.", registry=registry
        )
        self.needs_input_runs = Gauge(
            "treadle_needs_input_runs",
            "Runs whose agent waits for an answer.",
            registry=registry,
        )
        self.queue_age = Gauge(
            "treadle_queue_age_seconds",
            "Longest time since a waiting run last changed.",
            registry=registry,
        )
        self.stream_lag = Gauge(
            "treadle_stream_lag_events",
            "Events that the slowest subscriber has not been sent.",
            registry=registry,
        )
        self.loop_late = Gauge(
            "treadle_event_loop_late_seconds",
            "Delay of the event loop's beat.",
            registry=registry,
        )
        self.database_up = Gauge(
            "treadle_database_up", "1 when the database answered this scrape.", registry=registry
        )
        Gauge(
            "treadle_stream_subscribers", "Event streams that are open.", registry=registry
        ).set_function(lambda: len(self._places))

    @contextmanager
    def follow(self, run_id: str, after_seq: int) -> Generator[Place]:
        """Count a subscriber; it keeps its place up to date."""
        place = Place(run_id, after_seq)
        self._places[id(place)] = place
        try:
            yield place
        finally:
            del self._places[id(place)]

    def places(self) -> list[Place]:
        """The subscribers of now."""
        return list(self._places.values())

    def count_claims(self, claims: Iterable[Claim]) -> None:
        """Count granted claims and how long their work had waited."""
        for claim in claims:
            self.claims.labels(claim.reason).inc()
            waiting = [each.created_at for each in claim.commands if each.state == "pending"]
            if waiting:
                self.claim_wait.observe(max(0.0, self._clock.now() - parse_iso(min(waiting))))

    def count_events(self, events: Iterable[NewEvent]) -> None:
        """Count the retries and failures that new events of a runner tell of."""
        for event in events:
            if event.type not in {"error", "backend_status"}:
                continue
            try:
                told = msgspec.json.decode(event.payload, type=_Told)
            except msgspec.MsgspecError:
                continue
            self._count_told(event.type, told)

    def _count_told(self, event_type: str, told: _Told) -> None:
        named = isinstance(told.failure_kind, str)
        kind = told.failure_kind if named and told.failure_kind in _KINDS else OTHER
        if event_type == "error":
            if told.will_retry is True:
                self.retries.labels(kind).inc()
        elif named and told.phase in ("command-terminal", "run-terminal"):
            self.failures.labels(told.phase.removesuffix("-terminal"), kind).inc()
