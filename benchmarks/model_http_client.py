"""aiohttp against httpx for model streams: import, small exchange, long stream.

Serves canned answers from a second process and measures each library in a fresh one:

    python benchmarks/model_http_client.py

Prints one line per library. `docs/decisions/0001-http-client-for-model-streams.md` has the figures.
"""

# ruff: noqa: T201, TID251 - a script that prints and that stands outside the package

import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable

SMALL_EXCHANGES = 300
DELTAS = 20_000
STREAMS = 5
BODY = json.dumps({"model": "m", "input": ["x" * 4000]}).encode()


def _sse(count: int) -> bytes:
    delta = {"type": "response.output_text.delta", "item_id": "msg-1", "delta": "tok "}
    one = f"event: {delta['type']}\ndata: {json.dumps(delta)}\n\n"
    return (one * count + 'data: {"type":"response.completed","response":{}}\n\n').encode()


def _chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        + framed
        + b"0\r\n\r\n"
    )


async def _serve() -> None:
    # One HTTP chunk per event, as providers send them: framing is part of the cost.
    answers = {b"/small": _chunked(_sse(5), 140), b"/long": _chunked(_sse(DELTAS), 140)}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            path = line.split(b" ")[1]
            while (header := await reader.readline()).strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            await reader.readexactly(length)
            writer.write(answers[path])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


Post = Callable[[str], AsyncIterator[bytes]]


async def _measure(library: str, port: int) -> dict[str, float]:
    before, begun = _rss_mb(), time.perf_counter()
    close, post = (_aiohttp if library == "aiohttp" else _httpx)()
    imported = time.perf_counter() - begun
    figures = {"import and client, ms": imported * 1e3, "RSS added, MB": _rss_mb() - before}
    base = f"http://127.0.0.1:{port}"

    async def exchange(path: str) -> int:
        return sum([len(chunk) async for chunk in post(base + path)])

    await exchange("/small")
    waits: list[float] = []
    for _ in range(SMALL_EXCHANGES):
        begun = time.perf_counter()
        await exchange("/small")
        waits.append(time.perf_counter() - begun)
    figures["small exchange, ms"] = statistics.median(waits) * 1e3
    begun, cpu = time.perf_counter(), time.process_time()
    for _ in range(STREAMS):
        await exchange("/long")
    figures["deltas/s"] = DELTAS * STREAMS / (time.perf_counter() - begun)
    figures["CPU per 1000 deltas, ms"] = (time.process_time() - cpu) / DELTAS / STREAMS * 1e6
    await close()
    return figures


def _aiohttp():
    import aiohttp

    session = aiohttp.ClientSession(read_bufsize=256 * 1024)

    async def post(url: str) -> AsyncIterator[bytes]:
        async with session.post(url, data=BODY) as response:
            while chunk := await response.content.readany():
                yield chunk

    return session.close, post


def _httpx():
    import httpx

    client = httpx.AsyncClient(timeout=60)

    async def post(url: str) -> AsyncIterator[bytes]:
        async with client.stream("POST", url, content=BODY) as response:
            async for chunk in response.aiter_raw():
                yield chunk

    return client.aclose, post


def main() -> None:
    """Serve, measure in fresh processes, print."""
    if sys.argv[1:] == ["serve"]:
        asyncio.run(_serve())
        return
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(_measure(sys.argv[1], int(sys.argv[2])))))
        return
    server = subprocess.Popen(
        [sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        for library in ("aiohttp", "httpx"):
            run = subprocess.run(
                [sys.executable, __file__, library, port],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            figures = json.loads(run.stdout)
            print(library, "  ".join(f"{name}: {value:.2f}" for name, value in figures.items()))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
