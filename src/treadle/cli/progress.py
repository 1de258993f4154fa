"""A run's events as lines for a person.

Prints what matters as it happens: phases, tool calls, their output (cut), errors, the answer. Plain
text without colour where the output is no terminal.
"""

import sys
from typing import Any

OUTPUT_LINES = 12
"""Lines of a command's output that are shown; the log has all of them."""

_QUIET_PHASES = {
    "run-created",
    "command-created",
    "command-acknowledged",
    "active-turn-control-ready",
    "backend-turn-finished",
    "codex-app-server-notifications-suppressed",
    "command-terminal",
    "run-terminal",
    "run-released",
}


class Progress:
    """Prints the events of one run."""

    def __init__(self, run_id: str = "RUN") -> None:
        """Print to standard output; `run_id` is named where something can be done."""
        from rich.console import Console

        self._run_id = run_id

        self._console = Console(highlight=False, soft_wrap=True)
        self._shown: dict[str, int] = {}
        self.answer: str | None = None

    def show(self, kind: str, payload: dict[str, Any]) -> None:
        """Print one event, if a person wants to see it."""
        match kind:
            case "backend_status":
                self._phase(payload)
            case "tool_call":
                self._tool(payload)
            case "command_output":
                self._output(payload)
            case "assistant_message":
                self._message(payload)
            case "error":
                self._error(payload)
            case _:
                return

    def line(self, mark: str, text: str, style: str = "") -> None:
        """Print a marked line."""
        self._console.print(f"{mark} ", style="dim", end="")
        self._console.print(text, style=style, markup=False)

    def _phase(self, payload: dict[str, Any]) -> None:
        phase = str(payload.get("phase", ""))
        if phase in _QUIET_PHASES:
            return
        if phase == "server-request-opened":
            self._question(payload)
            return
        told = {
            "run-claimed": f"run claimed by {payload.get('runnerId', 'a runner')}",
            "codex-app-server-starting": "agent starting",
            "turn/completed": f"turn {payload.get('status') or 'over'}",
            "server-request-settled": _settled(payload),
            "interrupt-escalated": f"the agent ignores the interrupt: {payload.get('signal')}",
        }.get(phase, phase)
        self.line("·", told, "dim")

    def _question(self, payload: dict[str, Any]) -> None:
        request = payload.get("requestId")
        self.line("?", f"{payload.get('kind')} {request}: {payload.get('summary')}", "yellow")
        decisions = "|".join(map(str, payload.get("decisions") or []))
        self.line("?", f"  treadle runs answer {self._run_id} {request} {decisions}", "yellow")

    def _tool(self, payload: dict[str, Any]) -> None:
        summary: dict[str, Any] = payload.get("summary") or {}
        text = str(summary.get("text") or payload.get("toolName") or "")
        started = payload.get("method") == "item/started"
        self.line("▸" if started else "✓", text, "cyan" if started else "green")

    def _output(self, payload: dict[str, Any]) -> None:
        item = str(payload.get("itemId", ""))
        for line in str(payload.get("text", "")).splitlines():
            shown = self._shown[item] = self._shown.get(item, 0) + 1
            if shown <= OUTPUT_LINES:
                self.line("│", f"  {line}", "dim")
            elif shown == OUTPUT_LINES + 1:
                self.line("│", "  …", "dim")

    def _message(self, payload: dict[str, Any]) -> None:
        if payload.get("progress"):
            return
        self.answer = str(payload.get("text", ""))
        self.line("●", self.answer, "bold")

    def _error(self, payload: dict[str, Any]) -> None:
        kind = payload.get("failureKind") or "error"
        text = payload.get("message") or ""
        retry = " (will be tried again)" if payload.get("willRetry") else ""
        self.line("!", f"{kind}{retry}: {text}", "red")


def _settled(payload: dict[str, Any]) -> str:
    what = payload.get("summary") or payload.get("method")
    return f"{what}: {payload.get('decision')} (by {payload.get('by')})"


def complain(text: str) -> None:
    """A line on standard error."""
    print(f"treadle: {text}", file=sys.stderr)
