"""Standard input and output as a channel: one message a line.

Goes on where `claimed` has taken the streams over. Works on pipes, sockets and terminals through
the event loop, and on plain files through a thread.
"""

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import Callable
from io import FileIO
from typing import Any

from treadle.wire.transport.channel import ChannelClosed
from treadle.wire.transport.claimed import ClaimedStreams
from treadle.wire.transport.framing import LineSplitter

LINE_LIMIT_BYTES = 256 << 20
"""Longest line taken; a turn's input alone may be a megabyte of text plus inline images."""

_PAUSE_AT_FRAMES = 4096
_PIPE_BYTES = 1 << 20
"""The most that Linux lets any user ask for, unless told otherwise."""


class _Lines(asyncio.Protocol):
    """Feeds the splitter and wakes the reader."""

    def __init__(self) -> None:
        self._splitter = LineSplitter(LINE_LIMIT_BYTES)
        self.frames: list[bytes] = []
        self.wake = asyncio.Event()
        self.ended = False
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.frames += self._splitter.feed(data)
        if len(self.frames) > _PAUSE_AT_FRAMES and self._transport and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self.wake.set()

    def eof_received(self) -> None:
        self.finish()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.finish()

    def finish(self) -> None:
        if not self.ended:
            self.frames += self._splitter.end()
        self.ended = True
        self.wake.set()

    def take(self) -> list[bytes]:
        frames, self.frames = self.frames, []
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return frames


_LONG_BYTES = 1 << 16
"""A frame above this size is written by itself."""
_END = memoryview(b"\n")


class _Flow(asyncio.Protocol):
    """Knows whether the write side has room."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()
        self.lost = False

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.lost = True
        self.room.set()


class StdioChannel:
    """The process's own standard streams; make it with `open_stdio`."""

    def __init__(
        self,
        lines: _Lines,
        write: Callable[[memoryview], None],
        flow: _Flow,
        close: Callable[[], Any],
    ) -> None:
        self._lines = lines
        self._write = write
        self._flow = flow
        self._close = close

    async def receive(self) -> list[bytes]:
        """The next lines; empty at end of input."""
        while not self._lines.frames and not self._lines.ended:
            # Part of a long line wakes us too; without the clear this would spin.
            self._lines.wake.clear()
            await self._lines.wake.wait()
        return self._lines.take()

    async def send(self, frames: list[bytes]) -> None:
        """Write frames as lines; raises ChannelClosed when nobody reads any more."""
        if self._flow.lost:
            raise ChannelClosed
        try:
            if len(frames) == 1 and len(frames[0]) > _LONG_BYTES:
                # As it is: what the pipe does not take at once is copied once, not three times.
                self._write(memoryview(frames[0]))
                self._write(_END)
            else:
                frames.append(b"")
                self._write(memoryview(b"\n".join(frames)))
        except OSError as error:
            self._flow.lost = True
            raise ChannelClosed from error
        await self._flow.room.wait()

    def end_input(self) -> None:
        """Take nothing more in, as if the other side had ended its input."""
        self._lines.finish()

    async def close(self) -> None:
        """Flush and give the streams up."""
        await self._close()


async def open_stdio(streams: ClaimedStreams) -> StdioChannel:
    """A channel over claimed streams; what was read of them early comes first."""
    loop = asyncio.get_running_loop()
    read_fd, write_fd = streams.read_fd, streams.write_fd
    lines, flow = _Lines(), _Flow()
    if streams.early:
        lines.data_received(streams.early)
    reader: asyncio.ReadTransport | None = None
    source, target = FileIO(read_fd, "rb"), FileIO(write_fd, "wb")
    if streams.ended:
        lines.finish()
    elif _pollable(read_fd):
        reader, _ = await loop.connect_read_pipe(lambda: lines, source)
    else:
        _read_in_thread(loop, source, lines)
    _widen(write_fd)
    if _pollable(write_fd):
        writer, _ = await loop.connect_write_pipe(lambda: flow, target)
    else:
        return StdioChannel(lines, lambda data: _write_all(target, data), flow, _nothing)
    writer.set_write_buffer_limits(high=1 << 18)

    async def close() -> None:
        if reader is not None:
            reader.close()
        # The transport flushes its buffer before it closes; wait for that, but not for ever.
        writer.close()
        deadline = loop.time() + 2.0
        while not flow.lost and loop.time() < deadline:
            await asyncio.sleep(0)
            if writer.get_write_buffer_size() == 0 and writer.is_closing():
                break
            await asyncio.sleep(0.001)

    return StdioChannel(lines, writer.write, flow, close)


async def _nothing() -> None:
    """Nothing to close: plain files were written through."""


def _pollable(fd: int) -> bool:
    """Whether the event loop can wait for it: pipes, sockets, terminals; not files, /dev/null."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


def _widen(fd: int) -> None:
    """Let a pipe take a long answer at once, where the system allows it.

    Through the usual 64 KiB such an answer needs both processes in turn, time and again.
    """
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _write_all(target: FileIO, view: memoryview) -> None:
    while view:
        view = view[target.write(view) :]


def _read_in_thread(loop: asyncio.AbstractEventLoop, source: FileIO, lines: _Lines) -> None:
    """Plain files cannot be polled; read them in a thread that ends with the file."""

    def read() -> None:
        while data := source.read(1 << 16):
            loop.call_soon_threadsafe(lines.data_received, data)
        loop.call_soon_threadsafe(lines.finish)

    loop.run_in_executor(None, read)
