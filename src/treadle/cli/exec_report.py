"""What `treadle exec` shows: words for a person or events for a program, and the answer's file.

Standard output carries the answer alone, or one JSON event a line; everything else goes to standard
error. A reader who left is told by `BrokenPipeError`. Knows notifications, and no client.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Protocol

from treadle.cli.exec_events import Shaper, error_text
from treadle.cli.progress import complain
from treadle.kit.clock import Clock

LIVE_SECONDS = 0.5
"""At most this often is the answer's file written anew while the answer streams."""


class Report(Protocol):
    """Follows one run of the command."""

    def thread(self, session: dict[str, Any]) -> None:
        """The thread is known now; `session` is the answer that opened it."""
        ...

    def told(self, method: str, params: dict[str, Any]) -> None:
        """A notification of the thread came."""
        ...

    def ended(self, turn: dict[str, Any], reason: str | None) -> None:
        """The turn is over; `reason` says why it was stopped, if it was."""
        ...


class Events:
    """One JSON event a line."""

    def __init__(self) -> None:
        self._shaper = Shaper()

    def thread(self, session: dict[str, Any]) -> None:
        """See `Report`."""
        _print({"type": "thread.started", "thread_id": session["thread"]["id"]})

    def told(self, method: str, params: dict[str, Any]) -> None:
        """See `Report`."""
        for event in self._shaper.shape(method, params):
            _print(event)

    def ended(self, turn: dict[str, Any], reason: str | None) -> None:
        """See `Report`. An interrupted turn without an error has no event, as in the reference."""
        for event in self._shaper.end(turn, reason):
            _print(event)


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False, separators=(",", ":")), flush=True)


class Words:
    """The answer on standard output, progress on standard error."""

    def __init__(self) -> None:
        self._answer: str | None = None
        self._tokens: int | None = None

    def thread(self, session: dict[str, Any]) -> None:
        """See `Report`."""
        _say(f"thread {session['thread']['id']}")
        model = f"{session['model']} by {session['modelProvider']}"
        _say(f"{model}, sandbox {session['sandbox']['type']}, in {session['cwd']}")

    def told(self, method: str, params: dict[str, Any]) -> None:
        """See `Report`."""
        match method:
            case "item/started" if params["item"]["type"] == "commandExecution":
                _say(f"$ {params['item']['command']}")
            case "item/completed":
                self._completed(params["item"])
            case "thread/tokenUsage/updated":
                self._tokens = params["tokenUsage"]["total"]["totalTokens"]
            case "warning":
                complain(params["message"])
            case "error" if params.get("willRetry"):
                complain(f"{error_text(params['error'])} (trying again)")
            case _:
                return

    def _completed(self, item: dict[str, Any]) -> None:
        match item["type"]:
            case "agentMessage":
                if self._answer is not None:
                    _say(self._answer)
                self._answer = item["text"]
            case "commandExecution" if item["status"] != "completed":
                code = item["exitCode"]
                _say(f"  {item['status']}" + (f", exit code {code}" if code is not None else ""))
            case "fileChange":
                paths = ", ".join(change["path"] for change in item["changes"])
                _say(f"edited {paths}" if item["status"] == "completed" else f"no edit: {paths}")
            case "mcpToolCall":
                _say(f"{item['server']}.{item['tool']}: {item['status']}")
            case _:
                return

    def ended(self, turn: dict[str, Any], reason: str | None) -> None:
        """See `Report`."""
        if turn["status"] != "completed":
            error: dict[str, Any] = turn.get("error") or {}
            complain(reason or error.get("message") or f"the turn was {turn['status']}")
        if self._tokens is not None:
            _say(f"tokens used {self._tokens}")
        if turn["status"] == "completed" and self._answer is not None:
            print(self._answer, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class LastMessage:
    """The file with the agent's last words, kept up to date while they come.

    Each state replaces the file as a whole, so that a reader never sees half of one; where the path
    is no regular file (a pipe, a terminal) only the end is written.
    """

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._live = not file.exists() or file.is_file()
        self._texts: dict[str, str] = {}
        self._last = ""
        self._written = clock.monotonic() - LIVE_SECONDS

    def told(self, method: str, params: dict[str, Any]) -> None:
        """A notification of the thread came."""
        if method == "item/agentMessage/delta":
            text = self._texts.get(params["itemId"], "") + params["delta"]
            self._texts[params["itemId"]] = self._last = text
            if self._live and self._clock.monotonic() - self._written >= LIVE_SECONDS:
                self._replace()
        elif method == "item/completed" and params["item"]["type"] == "agentMessage":
            self._texts.pop(params["item"]["id"], None)
            self._last = params["item"]["text"]
            if self._live:
                self._replace()

    def ended(self) -> bool:
        """The turn is over; whether the file has the last message."""
        try:
            if self._live:
                self._write()
            else:
                self._file.write_text(self._last, encoding="utf-8")
        except OSError as error:
            complain(f"cannot write the answer to {self._file}: {error.strerror}")
            return False
        return True

    def _replace(self) -> None:
        try:
            self._write()
        except OSError:
            self._live = False  # told at the end, when it matters

    def _write(self) -> None:
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        try:
            draft.write_text(self._last, encoding="utf-8")
            draft.replace(self._file)
        finally:
            draft.unlink(missing_ok=True)
        self._written = self._clock.monotonic()
