"""The protocol half of the fake app-server: lines in and out, threads, one turn at a time.

Speaks just enough of the app-server protocol to be started, given a thread, a turn and an
interrupt. What happens in a turn is a script (`fake_scripts`). Standard library only, so that it
starts fast; no model, no tools, no sandbox.
"""

import json
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]


DEAF = frozenset({"ignore-interrupt", "ignore-signals"})
"""Modes in which an interrupt is not even answered."""


class Interrupted(Exception):
    """The client interrupted the turn."""


class Refused(Exception):
    """A request is answered with this JSON-RPC error."""

    def __init__(self, message: str, code: int = -32600, data: Any = None) -> None:
        """Carry what the error object says."""
        super().__init__(message)
        self.error: Json = {"code": code, "message": message}
        if data is not None:
            self.error["data"] = data


class FakeServer:
    """The protocol half: lines in and out, threads, one turn at a time."""

    def __init__(self, mode: str, script: "Script", home: str, count: int) -> None:
        """Play `script` in each turn; `count` scales the modes that repeat themselves."""
        self.mode = mode
        self.home = home
        self.count = count
        self._script = script
        self.thread_id = ""
        self.turn_id = ""
        self._pending_start: Any = None
        self._inbox: queue.Queue[bytes | None] = queue.Queue(maxsize=1024)
        self._waiting: list[Json] = []
        self._replies: dict[int, Json] = {}
        self._next_request = 0

    def run(self) -> None:
        """Serve until standard input ends."""
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            message = self._waiting.pop(0) if self._waiting else self._take(None)
            if message is None:
                return
            self._handle(message)

    def _read(self) -> None:
        for line in sys.stdin.buffer:
            self._inbox.put(line)
        self._inbox.put(None)

    def _take(self, seconds: float | None) -> Json | None:
        """Next message; None at the end of input. Raises queue.Empty when `seconds` are over."""
        line = self._inbox.get(timeout=seconds)
        return None if line is None else json.loads(line)

    # What scripts say

    def write_raw(self, text: str) -> None:
        """Write bytes to standard output that need not be a message."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def send(self, message: Json) -> None:
        """Write one message."""
        self.write_raw(json.dumps(message, separators=(",", ":")) + "\n")

    def notify(self, method: str, **params: Any) -> None:
        """Send a notification as the app-server does, with the time it was made."""
        self.send({"method": method, "params": params, "emittedAtMs": int(time.time() * 1000)})  # noqa: TID251 - a process of its own

    def in_turn(self, method: str, **params: Any) -> None:
        """Send a notification that names the current thread and turn."""
        self.notify(method, threadId=self.thread_id, turnId=self.turn_id, **params)

    def item(self, stage: str, **item: Any) -> None:
        """Send `item/started` or `item/completed`."""
        self.in_turn(f"item/{stage}", item=item)

    def message(self, text: str, item_id: str) -> None:
        """Send one agent message from start to end."""
        self.item("started", type="agentMessage", id=item_id, text="")
        self.item("completed", type="agentMessage", id=item_id, text=text)

    def started(self) -> None:
        """Say that the turn runs."""
        self.notify("turn/started", threadId=self.thread_id, turn=self.turn("inProgress"))

    def completed(self, status: str = "completed", error: Json | None = None) -> None:
        """Say that the turn is over."""
        turn = {**self.turn(status), "error": error}
        self.notify("turn/completed", threadId=self.thread_id, turn=turn)

    def turn(self, status: str) -> Json:
        """The turn's wire form."""
        return {"id": self.turn_id, "items": [], "status": status, "error": None}

    def answer_start(self, result: Json | None = None) -> None:
        """Answer the pending `turn/start`, once."""
        if self._pending_start is not None:
            self.send(
                {"id": self._pending_start, "result": result or {"turn": self.turn("inProgress")}}
            )
            self._pending_start = None

    def pause(self, seconds: float) -> None:
        """Wait while staying interruptible; raises Interrupted."""
        deadline = time.monotonic() + seconds  # noqa: TID251 - a process of its own
        while (left := deadline - time.monotonic()) > 0:  # noqa: TID251 - a process of its own
            try:
                self._during_turn(self._take(left))
            except queue.Empty:
                return

    def ask(self, method: str, **params: Any) -> Json:
        """Send a server request and wait for the client's reply."""
        request_id = self.ask_only(method, **params)
        while request_id not in self._replies:
            self._during_turn(self._take(None))
        return self._replies.pop(request_id)

    def ask_only(self, method: str, **params: Any) -> int:
        """Send a server request without waiting; its id."""
        request_id, self._next_request = self._next_request, self._next_request + 1
        params = {"threadId": self.thread_id, "turnId": self.turn_id, **params}
        self.send({"method": method, "id": request_id, "params": params})
        return request_id

    def _during_turn(self, message: Json | None) -> None:
        if message is None:
            raise SystemExit(0)
        if "method" not in message:
            self._replies[message["id"]] = message
        elif message["method"] == "turn/interrupt" and self.mode not in DEAF:
            self.send({"id": message["id"], "result": {}})
            raise Interrupted
        elif message["method"] == "turn/steer" and self.mode == "refuse-steer":
            error = {"code": -32600, "message": "no active turn to steer"}
            self.send({"id": message["id"], "error": error})
        elif message["method"] == "turn/steer":
            self.send({"id": message["id"], "result": {"turnId": self.turn_id}})
            text = message["params"]["input"][0]["text"]
            self.message(f"steered: {text}", f"msg_{uuid.uuid4().hex[:8]}")
        elif "id" in message and message["method"] != "turn/interrupt":
            self._waiting.append(message)

    # What clients ask

    def _handle(self, message: Json) -> None:
        if "id" not in message or "method" not in message:
            return
        try:
            result = self._answer(message)
        except Refused as refusal:
            self._pending_start = None
            self.send({"id": message["id"], "error": refusal.error})
            return
        if result is not None:
            self.send({"id": message["id"], "result": result})

    def _answer(self, message: Json) -> Json | None:
        method: str = message["method"]
        params: Json = message.get("params") or {}
        if method == "initialize":
            return {
                "userAgent": "treadle-fake/0.169.0",
                "codexHome": self.home,
                "platformFamily": "unix",
                "platformOs": "linux",
            }
        if method == "thread/start":
            self._check_thread(params)
            if self.mode == "asks-at-start":
                self.ask("mcpServer/elicitation/request", turnId=None, serverName="loom")
            self.thread_id = f"thread_{uuid.uuid4().hex}"
            return self._thread(params)
        if method == "thread/resume":
            if self.mode == "resume-no-rollout":
                raise Refused(f"no rollout found for thread id {params['threadId']}")
            self.thread_id = params["threadId"]
            return self._thread(params)
        if method == "turn/start":
            return self._play(message["id"], params)
        if method == "turn/interrupt":
            raise Refused("no active turn to interrupt")
        raise Refused(f"Invalid request: unknown variant `{method}`")

    def _check_thread(self, params: Json) -> None:
        if self.mode == "require-danger-sandbox" and params.get("sandbox") != "danger-full-access":
            raise Refused("this backend requires sandbox danger-full-access")
        self._check_model(params)

    def _check_model(self, params: Json) -> None:
        if self.mode == "reject-unexpected-model" and params.get("model") is not None:
            raise Refused("model must be left to config.toml")

    def _thread(self, params: Json) -> Json:
        return {
            "thread": {"id": self.thread_id, "turns": [], "status": {"type": "idle"}},
            "model": params.get("model") or "fake-model",
            "modelProvider": "fake",
            "cwd": params.get("cwd") or "/",
            "approvalPolicy": params.get("approvalPolicy") or "never",
        }

    def _play(self, request_id: Any, params: Json) -> None:
        self._check_model(params)
        if self.mode == "require-explicit-model" and params.get("model") != "gpt-5.5":
            raise Refused("model gpt-5.5 must be given explicitly")
        self.turn_id = f"turn_{uuid.uuid4().hex}"
        self._pending_start = request_id
        prompt = " ".join(part.get("text", "") for part in params["input"])
        try:
            self._script(self, prompt)
        except Interrupted:
            self.completed("interrupted")


Script = Callable[[FakeServer, str], None]
