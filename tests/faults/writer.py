"""A light runner: it claims a run and writes to it as the protocol allows, without a backend.

Each life claims anew. A life ends when the run ends, when it is fenced, or as a fault wants it: it
dies without a word, or it sleeps until another life has the run and then tries to go on, which must
be refused. It takes up turns and interrupts in order and closes them.
"""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import msgspec

from faults.api import Answer, Api, Unknown
from faults.history import Acked, Forged, Granted, Reported, Tried, digest_of
from faults.recorder import Place, Recorder
from treadle.control.records import MAX_EVENTS_PER_APPEND

OPEN = {"pending", "delivered"}
GONE = {"fenced", "claim-token-invalid"}
NOT_ENDED_YET = 20.0


@dataclass
class Job:
    """A run to be written: at least `quota` events, in batches of up to `max_batch`.

    With `same_name` all lives are one runner, as when a process is started again under its name.
    """

    run_id: str
    name: str
    quota: int
    max_batch: int
    lease_ms: int
    place: Place
    same_name: bool = False
    no_more_commands: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by who posts the commands, once all are posted."""


@dataclass
class Hold:
    """A claim as its life knows it."""

    runner: str
    session: str
    epoch: int
    token: str
    next_seq: int = 1
    seen_command: int = 0
    turns: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    interrupts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    taken: set[str] = field(default_factory=set[str])


class Fenced(Exception):
    """This life has lost the run."""


class Ended(Exception):
    """The run is over."""


class Writer:
    """The lives of one run's runners, one after the other."""

    def __init__(self, api: Api, recorder: Recorder, job: Job, rng: random.Random) -> None:
        self._api = api
        self._recorder = recorder
        self._history = recorder.runs[job.run_id]
        self._job = job
        self._rng = rng
        self._lives = 0
        self._written = 0
        self._fate = ""
        self._path = f"/runs/{job.run_id}"
        self._late: set[asyncio.Task[None]] = set()
        self.is_over = False
        self.fenced = 0

    def meet(self, fate: str) -> None:
        """What the life at work meets: it is to `die`, to `sleep` and come back as a zombie, or to
        `exit` so that it is seen; `accused`, it goes on and is reported gone.
        """
        self._fate = fate

    async def run(self) -> None:
        """Write until the run is over."""
        try:
            while True:
                self._lives += 1
                hold = await self._claim()
                try:
                    await self._live(hold)
                except Fenced:
                    self.fenced += 1
        except Ended:
            self.is_over = True
        if self._late:
            await asyncio.wait(self._late)

    async def _live(self, hold: Hold) -> None:
        while True:
            fate, self._fate = self._fate, ""
            if fate == "die":
                return
            if fate in {"exit", "accused"}:
                self._beside(self._report(hold))
            if fate == "sleep":
                self._beside(self._come_back(hold))
            if fate in {"sleep", "exit"}:
                return
            await self._write(hold, self._batch(hold))

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # Claiming

    async def _claim(self) -> Hold:
        life = f"{self._job.name}-{self._lives}"
        runner = self._job.name if self._job.same_name else life
        body = {"id": runner, "runId": self._job.run_id, "attemptId": life}
        token = self._job.place.tokens["runner"]
        self._recorder.owner_of_runner[runner] = self._job.place.name
        registered = await self._api.insist("POST", "/runners/register", body, token)
        session = str(registered.body["sessionId"])
        ask = {"runnerId": runner, "leaseMs": self._job.lease_ms, "attemptId": life}
        while True:
            asked_at = self._recorder.now()
            answer = await self._api.insist("POST", f"{self._path}/claim", ask, token)
            if answer.ok:
                return self._granted((runner, life), session, asked_at, answer.body)
            if answer.code == "terminal":
                raise Ended
            if answer.code != "lease-held":
                self._api.odd.append(f"claim: {answer.body}")
            await self._api.pause()

    def _granted(
        self, who: tuple[str, str], session: str, asked_at: float, claim: dict[str, Any]
    ) -> Hold:
        run_id, epoch = self._job.run_id, int(claim["epoch"])
        runner, life = who
        grant = Granted(asked_at, self._recorder.now(), run_id, epoch, life)
        self._recorder.granted(grant, claim["token"])
        hold = Hold(runner, session, epoch, claim["token"])
        for command in claim["commands"]:
            self._take_command(hold, command)
        return hold

    # Writing

    @property
    def _is_ahead(self) -> bool:
        return self._recorder.acked_events >= self._recorder.allowed_events

    def _batch(self, hold: Hold) -> list[dict[str, Any]]:
        """Progress on whatever is at hand; the end of the run in a batch of its own."""
        events = self._interrupted(hold)
        at = hold.next_seq
        for command in list(hold.turns):
            if command["id"] not in hold.taken:
                hold.taken.add(command["id"])
                events.append(_status("command-acknowledged", command["id"]))
                break
            if self._rng.random() < 0.5:
                hold.turns.remove(command)
                events += [
                    _output(hold, at + len(events), command["id"]),
                    _status("command-terminal", command["id"], state="completed"),
                ]
            break
        if self._written >= self._job.quota:
            if self._job.no_more_commands.is_set() and not hold.turns:
                return [*events, _status("run-terminal", None, terminalStatus="completed")]
            return [*events, _output(hold, at + len(events), None)]
        wanted = 1 if self._is_ahead else self._rng.randint(1, self._job.max_batch)
        wanted = min(wanted, MAX_EVENTS_PER_APPEND - len(events))
        return events + [_output(hold, at + len(events) + n, None) for n in range(wanted)]

    @staticmethod
    def _interrupted(hold: Hold) -> list[dict[str, Any]]:
        """What interrupts do: each closes its turn, or is told that there is none."""
        events: list[dict[str, Any]] = []
        for command in hold.interrupts:
            events.append(_status("interrupt-command-acknowledged", command["id"]))
            target = command["targetCommandId"]
            hit = [turn for turn in hold.turns if turn["id"] == target]
            for turn in hit:
                hold.turns.remove(turn)
                events.append(_status("command-terminal", turn["id"], state="cancelled"))
            state = "completed" if hit else "rejected"
            events.append(_status("command-terminal", command["id"], state=state))
        hold.interrupts.clear()
        return events

    async def _write(self, hold: Hold, events: list[dict[str, Any]]) -> None:
        payloads = [(event["type"], bytes(event["payload"])) for event in events]
        digests = tuple(digest_of(kind, payload) for kind, payload in payloads)
        first, run_id = hold.next_seq, self._job.run_id
        self._history.tried.append(Tried(self._recorder.now(), run_id, hold.epoch, first, digests))
        body = {"epoch": hold.epoch, "firstProducerSeq": first, "events": events}
        while True:
            asked_at = self._recorder.now()
            try:
                answer = await self._api.ask("POST", f"{self._path}/events", body, hold.token)
            except Unknown:
                await self._api.pause()
                continue
            if answer.ok:
                self._acknowledged(hold, asked_at, len(events), answer)
                break
            self._refused(hold, answer)
            await self._api.pause()
        if answer.body["cmdLast"] > hold.seen_command:
            await self._fetch_commands(hold)
        if self._written >= self._job.quota or self._is_ahead:
            await asyncio.sleep(0.05)  # nothing but commands is left to do, or faults are awaited

    def _acknowledged(self, hold: Hold, asked_at: float, count: int, answer: Answer) -> None:
        body = answer.body
        self._history.acked.append(
            Acked(
                asked_at,
                self._recorder.now(),
                self._job.run_id,
                hold.epoch,
                body["ackedProducerSeq"],
                body["lastSeq"],
                body["duplicate"],
            )
        )
        hold.next_seq += count
        self._written += count
        self._recorder.acked_events += count
        if body["ackedProducerSeq"] != hold.next_seq - 1:
            self._api.odd.append(f"append of {count} up to {hold.next_seq - 1}: {body}")

    def _refused(self, hold: Hold, answer: Answer) -> None:
        if answer.code in GONE:
            raise Fenced
        if answer.code == "terminal":
            raise Ended
        if not answer.passes:
            self._api.odd.append(f"append of epoch {hold.epoch}: {answer.body}")
            raise Fenced

    # Commands

    async def _fetch_commands(self, hold: Hold) -> None:
        path = f"{self._path}/commands?afterSeq={hold.seen_command}&limit=1000"
        try:
            answer = await self._api.ask("GET", path, token=self._job.place.tokens["reader"])
        except Unknown:
            return  # the next answer tells again
        for command in answer.body["items"] if answer.ok else []:
            self._take_command(hold, command)

    def _take_command(self, hold: Hold, command: dict[str, Any]) -> None:
        if command["cmdSeq"] <= hold.seen_command:
            return
        hold.seen_command = command["cmdSeq"]
        if command["state"] not in OPEN:
            return
        where = hold.interrupts if command["type"] == "interrupt" else hold.turns
        where.append(command)

    # Being gone, or said to be

    async def _report(self, hold: Hold) -> None:
        """Say that a life is over: at once or late, once or twice."""
        run_id = self._job.run_id
        self._history.reported.append(Reported(run_id, hold.epoch))
        await asyncio.sleep(self._rng.choice([0.0, 0.3, 2.0, 2.5]) * self._job.lease_ms / 1000)
        body = {"sessionId": hold.session, "reason": "killed by SIGKILL"}
        path, token = f"/runners/{hold.runner}/gone", self._job.place.tokens["runner"]
        for _ in range(self._rng.choice([1, 1, 2])):
            answer = await self._api.insist("POST", path, body, token)
            if not answer.ok:
                self._api.odd.append(f"report of {hold.runner}: {answer.body}")
            elif run_id in answer.body["lapsedRuns"]:
                report = Reported(run_id, hold.epoch, self._recorder.now())
                self._history.reported.append(report)

    # Coming back too late

    async def _come_back(self, hold: Hold) -> None:
        """Wait until another life has the run, then try every write there is."""
        newest, run_id = self._recorder.newest_epoch, self._job.run_id
        await asyncio.sleep(2 * self._job.lease_ms / 1000)
        async with asyncio.timeout(120):
            while newest[run_id] <= hold.epoch and not self.is_over:
                await asyncio.sleep(0.05)
        event = _output(hold, hold.next_seq, None)
        writes = [
            (f"{self._path}/events", {"firstProducerSeq": hold.next_seq, "events": [event]}),
            (f"{self._path}/release", {"reason": "late"}),
        ]
        for path, body in writes:
            answer = await self._api.insist("POST", path, {"epoch": hold.epoch, **body}, hold.token)
            what = f"zombie of epoch {hold.epoch}: POST {path}"
            # After the end of a run nothing can change any more; a release is told so, harmlessly.
            accepted = answer.ok and not self.is_over
            self._history.forged.append(Forged(run_id, what, accepted))


def _output(hold: Hold, seq: int, command_id: str | None) -> dict[str, Any]:
    text = f"{hold.runner} {hold.epoch}.{seq} "
    return _event("command_output", {"text": text}, command_id)


def _status(phase: str, command_id: str | None, **facts: Any) -> dict[str, Any]:
    return _event("backend_status", {"phase": phase, **facts}, command_id)


def _event(kind: str, payload: dict[str, Any], command_id: str | None) -> dict[str, Any]:
    raw = msgspec.Raw(msgspec.json.encode(payload))
    return {"type": kind, "payload": raw, "commandId": command_id}
