"""A Chromium without a window, driven over its own protocol: open a page, ask it, look at it.

    async with browser(tmp_path) as page:
        await page.open("http://127.0.0.1:7717/console/")
        await page.until("document.querySelectorAll('#runs tr').length === 1")

What the page logs as an error, and what it throws, is kept in `page.errors`.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
WAIT_SECONDS = 20.0
_UNTIL = """new Promise((done, fail) => {
  const end = performance.now() + %d;
  const look = () => {
    let found = false;
    try { found = (%s); } catch (error) { found = false; }
    if (found) done(true);
    else if (performance.now() > end) fail(new Error("not so in time: " + %s));
    else setTimeout(look, 20);
  };
  look();
})"""


class Page:
    """One tab."""

    def __init__(self, link: ClientConnection) -> None:
        self.errors: list[str] = []
        self._link = link
        self._session = ""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.create_task(self._read())

    async def attach(self, width: int, height: int) -> None:
        target = await self._call("Target.createTarget", url="about:blank")
        attached = await self._call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Page", "Log"):
            await self._call(f"{domain}.enable")
        await self.resize(width, height)

    async def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._call("Emulation.setDeviceMetricsOverride", **size)

    async def open(self, url: str) -> None:
        await self._call("Page.navigate", url=url)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = await self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]["exception"]
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; fails when it does not come to be."""
        wait = WAIT_SECONDS * 1000
        await self.run(_UNTIL % (wait, condition, json.dumps(condition)))

    async def click(self, selector: str) -> None:
        await self.until(f"!document.querySelector({json.dumps(selector)}).disabled")
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def type(self, selector: str, text: str) -> None:
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.run(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    async def text(self, selector: str) -> str:
        found: str = await self.run(f"document.querySelector({json.dumps(selector)}).innerText")
        return found

    async def picture(self, path: Path) -> None:
        """What a person sees, as a PNG."""
        answer = await self._call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _call(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._link.send(json.dumps(message))
        async with asyncio.timeout(WAIT_SECONDS + 5):
            return await answer

    async def _read(self) -> None:
        async for text in self._link:
            message = json.loads(text)
            number, params = message.get("id"), message.get("params", {})
            answer = self._answers.pop(number, None)
            if answer is not None and not answer.done():
                if "error" in message:
                    answer.set_exception(AssertionError(message["error"]))
                else:
                    answer.set_result(message["result"])
            elif message.get("method") == "Page.javascriptDialogOpening":
                asyncio.ensure_future(self._accept())  # noqa: RUF006 - short, and ends with the page
            elif message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"]))
            elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])

    async def _accept(self) -> None:
        await self._call("Page.handleJavaScriptDialog", accept=True)


@contextlib.asynccontextmanager
async def browser(folder: Path, width: int = 1280, height: int = 900) -> AsyncGenerator[Page]:
    """A fresh Chromium with one page; ended with all its processes."""
    assert CHROMIUM is not None
    profile = folder / "chromium"
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with connect(await _address(process), max_size=None) as link:
            page = Page(link)
            try:
                await page.attach(width, height)
                yield page
            finally:
                await page.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_SECONDS):
        async for line in process.stderr:
            if b"DevTools listening on " in line:
                return line.decode().split("DevTools listening on ")[1].strip()
    raise AssertionError("Chromium ended before it listened")
