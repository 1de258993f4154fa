"""Reads a run as it is in the end, past all proxies, into the form that the checker compares."""

from typing import Any

import aiohttp
import msgspec

from faults.history import NO_FACTS, CommandRow, FinalRun, Logged, digest_of

PAGE = 1000


class Row(msgspec.Struct, rename="camel"):
    """An event on the wire."""

    seq: int
    type: str
    payload: msgspec.Raw
    command_id: str | None
    epoch: int | None
    producer_seq: int | None


class Page(msgspec.Struct, rename="camel"):
    """A page of events."""

    items: list[Row]
    last_seq: int


decode_page = msgspec.json.Decoder(Page).decode


async def read_final(url: str, run_id: str) -> FinalRun:
    """The run, its log, its commands, and what the manager's own verification finds."""
    async with aiohttp.ClientSession(f"{url}/api/v1/") as http:

        async def get(path: str) -> bytes:
            async with http.get(path) as answer:
                content = await answer.read()
                assert answer.status == 200, content
                return content

        async def get_json(path: str) -> Any:
            return msgspec.json.decode(await get(path))

        run = await get_json(f"runs/{run_id}")
        log: list[Logged] = []
        while True:
            page = decode_page(await get(f"runs/{run_id}/events?limit={PAGE}&afterSeq={len(log)}"))
            log += [_logged(row) for row in page.items]
            if not page.items:
                break
        commands: list[CommandRow] = []
        while items := (
            await get_json(f"runs/{run_id}/commands?limit={PAGE}&afterSeq={len(commands)}")
        )["items"]:
            commands += [_command(item) for item in items]
        result = await get_json(f"runs/{run_id}/result")
        findings = (await get_json(f"runs/{run_id}/verification"))["findings"]
    return FinalRun(
        run_id,
        run["status"],
        run["terminalStatus"],
        run["lastSeq"],
        log,
        commands,
        findings,
        result["reply"],
    )


def _logged(row: Row) -> Logged:
    payload = bytes(row.payload)
    facts: Any = NO_FACTS
    if row.type == "backend_status" or b'"recoveredFrom"' in payload:
        facts = msgspec.json.decode(payload)
    return Logged(
        row.seq,
        row.type,
        digest_of(row.type, payload),
        row.epoch,
        row.producer_seq,
        row.command_id,
        facts,
    )


def _command(item: dict[str, Any]) -> CommandRow:
    payload = item["payload"]
    words = str(payload.get("prompt") or payload.get("reason") or "")
    # The manager makes commands of its own, for a policy; they have no key.
    key = words if words[-1:].isdigit() else None
    return CommandRow(item["id"], item["cmdSeq"], item["type"], item["state"], key)
