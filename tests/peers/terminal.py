"""A program on a terminal of its own, under tmux: keys go in, screens come out."""

import shlex
import subprocess
import time
from pathlib import Path

from peer_bench import WAIT_SECONDS

COLUMNS, LINES = "110", "40"
MARK = "\u203a"
"""Stands before the prompt, and before what was said."""

LOOK_SECONDS = 0.05
"""A terminal says nothing when it changes: it is looked at this often, up to a bound."""


class Terminal:
    """One tmux server with one window; its socket lies in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "tmux.sock"
        self._exit = folder / "exit-code"

    def run(self, command: list[str], cwd: Path, environment: dict[str, str]) -> None:
        """Start `command`; what ran before is gone."""
        self.end()
        self._exit.unlink(missing_ok=True)
        given = [f"{name}={value}" for name, value in environment.items()]
        line = f"{shlex.join(['env', *given, *command])}; echo $? > {self._exit}; exec sleep 600"
        size = ("-x", COLUMNS, "-y", LINES)
        self._tmux("new-session", "-d", "-s", "main", *size, "-c", str(cwd), line)

    def keys(self, *names: str) -> None:
        """Press keys by their names in tmux."""
        self._tmux("send-keys", "-t", "main", *names)

    def type(self, text: str) -> None:
        """Type text and wait until the prompt has it."""
        self._tmux("send-keys", "-t", "main", "-l", text)
        self.until(f"{MARK} {text[:60]}")

    def enter(self, text: str) -> None:
        """Type text and send it off.

        The program takes keys that come fast for pasted text, in which a return is no command: it
        is given again until the text has left the prompt.
        """
        self.type(text)
        end = time.monotonic() + WAIT_SECONDS
        while f"{MARK} {text}\n" in self._bottom() and time.monotonic() < end:
            time.sleep(0.2)
            self.keys("Enter")
            time.sleep(0.2)

    def _bottom(self) -> str:
        """From the last prompt on."""
        screen = "\n".join(line.rstrip() for line in self.screen().splitlines()) + "\n"
        return screen[screen.rfind(MARK) :]

    def screen(self) -> str:
        """What is to be seen."""
        return self._tmux("capture-pane", "-p", "-t", "main")

    def until(self, *texts: str, gone: tuple[str, ...] = ()) -> str:
        """Wait until the screen shows all `texts` and none of `gone`; the screen."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            screen = self.screen()
            if all(each in screen for each in texts) and not any(each in screen for each in gone):
                return screen
            assert time.monotonic() < end, f"no {texts}, or still {gone}:\n{screen}"
            time.sleep(LOOK_SECONDS)

    def exit_code(self) -> int:
        """Wait for the program's end."""
        end = time.monotonic() + WAIT_SECONDS
        while not self._exit.exists() or not self._exit.read_text().strip():
            assert time.monotonic() < end, f"it does not end:\n{self.screen()}"
            time.sleep(LOOK_SECONDS)
        return int(self._exit.read_text())

    def end(self) -> None:
        """End the program and its terminal."""
        if self._socket.exists():
            self._tmux("kill-server")
            self._socket.unlink(missing_ok=True)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self._socket), "-f", "/dev/null", *arguments],
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        return done.stdout
