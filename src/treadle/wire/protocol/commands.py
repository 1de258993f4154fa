"""Parameters, results and notifications of `command/exec*` and `process/*` (protocol 0.169.0)."""

from typing import Literal

import msgspec

from treadle.domain.items import Shape
from treadle.domain.policy import SandboxPolicy


class TerminalSize(Shape, kw_only=True):
    """Rows and columns of a terminal, in characters."""

    rows: int
    cols: int


class CommandExecParams(Shape, kw_only=True):
    """Parameters of `command/exec`; `env` adds, and null unsets."""

    command: list[str]
    process_id: str | None = None
    tty: bool = False
    stream_stdin: bool = False
    stream_stdout_stderr: bool = False
    output_bytes_cap: int | None = None
    disable_output_cap: bool = False
    disable_timeout: bool = False
    timeout_ms: int | None = None
    cwd: str | None = None
    env: dict[str, str | None] | None = None
    size: TerminalSize | None = None
    sandbox_policy: SandboxPolicy | None = None
    permission_profile: str | None = None


class CommandExecResult(Shape, kw_only=True):
    """How a command ended; the texts are empty where output was streamed."""

    exit_code: int
    stdout: str
    stderr: str


class CommandWriteParams(Shape, kw_only=True):
    """Parameters of `command/exec/write`."""

    process_id: str
    delta_base64: str | None = None
    close_stdin: bool = False


class CommandIdParams(Shape, kw_only=True):
    """Parameters of `command/exec/terminate`."""

    process_id: str


class CommandResizeParams(Shape, kw_only=True):
    """Parameters of `command/exec/resize`."""

    process_id: str
    size: TerminalSize


class CommandOutput(Shape, kw_only=True):
    """Notification `command/exec/outputDelta`."""

    process_id: str
    stream: Literal["stdout", "stderr"]
    delta_base64: bytes
    cap_reached: bool


class ProcessSpawnParams(Shape, kw_only=True):
    """Parameters of `process/spawn`; a limit that is null is none, one left out the default."""

    command: list[str]
    process_handle: str
    cwd: str
    tty: bool = False
    stream_stdin: bool = False
    stream_stdout_stderr: bool = False
    output_bytes_cap: int | msgspec.UnsetType | None = msgspec.UNSET
    timeout_ms: int | msgspec.UnsetType | None = msgspec.UNSET
    env: dict[str, str | None] | None = None
    size: TerminalSize | None = None


class ProcessWriteParams(Shape, kw_only=True):
    """Parameters of `process/writeStdin`."""

    process_handle: str
    delta_base64: str | None = None
    close_stdin: bool = False


class ProcessIdParams(Shape, kw_only=True):
    """Parameters of `process/kill`."""

    process_handle: str


class ProcessResizeParams(Shape, kw_only=True):
    """Parameters of `process/resizePty`."""

    process_handle: str
    size: TerminalSize


class ProcessOutput(Shape, kw_only=True):
    """Notification `process/outputDelta`."""

    process_handle: str
    stream: Literal["stdout", "stderr"]
    delta_base64: bytes
    cap_reached: bool


class ProcessExited(Shape, kw_only=True):
    """Notification `process/exited`."""

    process_handle: str
    exit_code: int
    output_drain_timed_out: bool
    stdout: str
    stdout_cap_reached: bool
    stderr: str
    stderr_cap_reached: bool
