"""Those around a run: who posts its commands, who follows its log, who tries what is not theirs."""

import asyncio
import random
from typing import Any

import aiohttp
import msgspec

from faults.api import Api, Unknown
from faults.collect import decode_page
from faults.history import Copy, Forged, digest_of
from faults.recorder import Place, Recorder
from faults.writer import Job

STALLED_SECONDS = 20.0
"""Longer than the stream's comments are apart; a connection that is silent longer is dropped."""


class Frame(msgspec.Struct, rename="camel"):
    """What a subscriber looks at in an event."""

    seq: int
    type: str
    payload: msgspec.Raw


_decode_frame = msgspec.json.Decoder(Frame).decode


async def make_run(api: Api, recorder: Recorder, name: str, place: Place, **body: Any) -> str:
    """A run under an idempotency key, asked for twice at once; its id."""
    token = place.tokens["submitter"]
    asked = {**body, "idempotencyKey": f"run-{name}", "maxAttempts": 1000}
    answers = await asyncio.gather(*(api.insist("POST", "/runs", asked, token) for _ in range(2)))
    for answer in answers:
        assert answer.ok, answer.body
        recorder.keyed("runs", f"run-{name}", answer.body["id"])
    run_id = str(answers[0].body["id"])
    recorder.owner_of_run[run_id] = place.name
    return run_id


class Poster:
    """Posts turns and interrupts to a run while it goes on; some of them twice."""

    def __init__(self, api: Api, recorder: Recorder, job: Job, rng: random.Random) -> None:
        self._api = api
        self._recorder = recorder
        self._job = job
        self._rng = rng

    async def run(self, count: int, pause_seconds: float) -> None:
        """Post `count` commands, then say that there are no more."""
        try:
            for number in range(count):
                await asyncio.sleep(self._rng.uniform(0, 2 * pause_seconds))
                await self._post(number)
        finally:
            self._job.no_more_commands.set()

    async def _post(self, number: int) -> None:
        key = f"{self._job.name}-{number}"
        kind = "interrupt" if self._rng.random() < 0.3 else "turn"
        payload = {"prompt": key} if kind == "turn" else {"reason": key}
        body = {"type": kind, "payload": payload, "idempotencyKey": key}
        path = f"/runs/{self._job.run_id}/commands"
        times = 2 if self._rng.random() < 0.5 else 1
        token = self._job.place.tokens["submitter"]
        asking = (self._api.insist("POST", path, body, token) for _ in range(times))
        for answer in await asyncio.gather(*asking):
            if answer.ok:
                self._recorder.keyed(self._job.run_id, key, answer.body["id"])
            elif answer.code != "terminal":
                self._api.odd.append(f"command: {answer.body}")


class Subscriber:
    """Follows a run to its end over as many connections as it takes, each to another manager."""

    def __init__(self, api: Api, recorder: Recorder, run_id: str, name: str, token: str) -> None:
        self._api = api
        self._run_id = run_id
        self._token = token
        self.copy = Copy(name, run_id)
        recorder.runs[run_id].copies.append(self.copy)

    async def stream(self) -> None:
        """By server-sent events."""
        while not self.copy.saw_end:
            url = f"{self._api.any_url()}/api/v1/runs/{self._run_id}/stream"
            seen = self.copy.seqs[-1] if self.copy.seqs else 0
            headers = {"Last-Event-ID": str(seen), "Authorization": f"Bearer {self._token}"}
            timeout = aiohttp.ClientTimeout(total=None, sock_read=STALLED_SECONDS)
            try:
                async with self._api.http.get(url, headers=headers, timeout=timeout) as answer:
                    if answer.status == 200:
                        await self._read_frames(answer.content)
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            if not self.copy.saw_end:
                await self._api.pause()

    async def poll(self) -> None:
        """By pages that wait."""
        path = f"/runs/{self._run_id}/events?limit=1000&waitMs=5000&afterSeq="
        while not self.copy.saw_end:
            seen = self.copy.seqs[-1] if self.copy.seqs else 0
            try:
                answer = await self._api.ask(
                    "GET", f"{path}{seen}", token=self._token, seconds=STALLED_SECONDS
                )
            except Unknown:
                continue
            if not answer.ok:
                await self._api.pause()
                continue
            for row in decode_page(answer.content).items:
                self.copy.see(row.seq, digest_of(row.type, bytes(row.payload)))
            last = self.copy.seqs[-1] if self.copy.seqs else 0
            self.copy.saw_end = answer.body["terminal"] and last >= answer.body["lastSeq"]

    async def _read_frames(self, content: aiohttp.StreamReader) -> None:
        buffer = b""
        while chunk := await content.readany():
            buffer += chunk
            *frames, buffer = buffer.split(b"\n\n")
            for frame in frames:
                self._see(frame)

    def _see(self, frame: bytes) -> None:
        if frame.startswith(b"id: "):
            head, _, data = frame.partition(b"\ndata: ")
            event = _decode_frame(data)
            assert int(head[4:]) == event.seq
            self.copy.see(event.seq, digest_of(event.type, bytes(event.payload)))
        elif frame.startswith(b"event: end"):
            self.copy.saw_end = True


class Thief:
    """Writes with tokens and epochs that give no right to it, for as long as it runs."""

    def __init__(self, api: Api, recorder: Recorder, rng: random.Random) -> None:
        self._api = api
        self._recorder = recorder
        self._rng = rng

    async def run(self, pause_seconds: float) -> None:
        """Try until cancelled."""
        while True:
            await asyncio.sleep(pause_seconds)
            known = [run for run, tokens in self._recorder.old_tokens.items() if tokens]
            if len(known) > 1:
                await self._try(*self._rng.sample(known, 2))

    async def _try(self, run: str, other: str) -> None:
        tokens, epoch = self._recorder.old_tokens[run], self._recorder.newest_epoch[run]
        kinds = {"another run's token": (epoch, self._recorder.old_tokens[other][-1][1])}
        if len(tokens) > 1:
            old_epoch, old_token = self._rng.choice(tokens[:-1])
            kinds["an old token"] = (epoch, old_token)
            kinds["an old epoch"] = (old_epoch, old_token)
            kinds["an old epoch with the new token"] = (old_epoch, tokens[-1][1])
        what = self._rng.choice(sorted(kinds))
        with_epoch, token = kinds[what]
        event = {"type": "command_output", "payload": {"text": f"stolen: {what}"}}
        body = {"epoch": with_epoch, "firstProducerSeq": 1, "events": [event]}
        path, asked = self._rng.choice(
            [("events", body), ("release", {"epoch": with_epoch, "reason": what})]
        )
        try:
            answer = await self._api.ask("POST", f"/runs/{run}/{path}", asked, token)
        except Unknown:
            return
        record = Forged(run, f"{what}: {path} as epoch {with_epoch}", answer.ok)
        self._recorder.runs[run].forged.append(record)
