"""The proxy does to a connection what it is asked to do, and nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from faults.proxy import DOWN, UP, Proxy, proxied
from treadle.control.http.server import ManagerOptions, serve

ECHO_BYTES = b"0123456789" * 10


@asynccontextmanager
async def echo() -> AsyncGenerator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection through a proxy to a server that says back what it hears."""

    async def say_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(say_back, "127.0.0.1", 0)
    async with server, proxied(server.sockets[0].getsockname()[:2]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        yield proxy, reader, writer
        writer.close()


async def said_back(reader: asyncio.StreamReader, count: int) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readexactly(count)


async def test_what_is_well_passes():
    async with echo() as (_, reader, writer):
        writer.write(ECHO_BYTES)
        assert await said_back(reader, 100) == ECHO_BYTES


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_a_connection_is_reset_at_the_byte_that_was_asked_for(direction: str):
    async with echo() as (proxy, reader, writer):
        proxy.trouble.cut_after[direction] = 37
        writer.write(ECHO_BYTES)
        got = bytearray()

        async def read_on() -> None:
            while chunk := await reader.read(1000):
                got.extend(chunk)

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(read_on(), 5)
        assert len(got) <= 37
        assert proxy.done["cut"] == 1


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_what_is_held_arrives_when_it_is_healed(direction: str):
    async with echo() as (proxy, reader, writer):
        proxy.hold(direction)
        writer.write(ECHO_BYTES)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        proxy.heal()
        assert await said_back(reader, 100) == ECHO_BYTES


async def test_a_post_arrives_twice_and_is_answered_once(tmp_path: Path):
    manager = await serve(ManagerOptions(data_folder=tmp_path))
    port = int(manager.address.rsplit(":", 1)[1])
    try:
        async with proxied(("127.0.0.1", port)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/api/v1/runs"
            proxy.trouble.double_posts = 1
            async with httpx.AsyncClient(timeout=10) as http:
                assert (await http.post(url, json={})).status_code == 201
                assert (await http.post(url, json={})).status_code == 201
                async with asyncio.timeout(10):
                    while len((await http.get(url)).json()["items"]) < 3:
                        await asyncio.sleep(0.01)
            assert proxy.done["doubled"] == 1
    finally:
        await manager.stop()


async def test_a_commit_happens_though_its_answer_is_lost(postgres_url: str):
    import asyncpg

    rest, _, database = postgres_url.rpartition("/")
    host, port = rest.rpartition("@")[2].split(":")
    async with proxied((host, int(port)), speaks="postgres") as proxy:
        through = f"postgresql://treadle@127.0.0.1:{proxy.port}/{database}"
        session = await asyncpg.connect(through)
        await session.execute("CREATE TABLE said (word text)")
        await session.execute("BEGIN")
        await session.execute("INSERT INTO said VALUES ('kept')")
        proxy.trouble.lose_commits = 1
        with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
            await session.fetch("COMMIT")
        assert proxy.done["commit-lost"] == 1
        again = await asyncpg.connect(postgres_url)
        assert await again.fetchval("SELECT word FROM said") == "kept"
        await again.close()
