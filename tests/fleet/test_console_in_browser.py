"""The web console in a real browser: what an operator sees and does, on a real manager."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.harness import Fleet
from support.browser import CHROMIUM, Page, browser
from support.control_lab import API_TOKEN, control_lab

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
ATTENDED = {"approval": "on-request"}
PICTURES = os.environ.get("TREADLE_TEST_PICTURES")
"""A folder for pictures of the pages, for whoever wants to look at them."""


@pytest.fixture
async def page(fleet: Fleet, tmp_path: Path) -> AsyncIterator[Page]:
    async with browser(tmp_path) as page:
        await page.open(f"{fleet.url}/console/")
        yield page
        assert page.errors == []


async def picture(page: Page, name: str) -> None:
    if PICTURES:
        await page.picture(Path(PICTURES) / f"{name}.png")


def seen(selector: str, text: str) -> str:
    return f"document.querySelector('{selector}').innerText.includes({text!r})"


async def test_a_question_is_found_and_accepted_and_its_run_followed_to_the_end(
    fleet: Fleet, page: Page
) -> None:
    other = await fleet.create("waits for a runner")
    work = await fleet.create("may I", policy=ATTENDED)
    running = asyncio.create_task(work.go("approval-request"))
    await page.until(seen("#waiting", "1 run waits for you"))
    await page.until(seen("#runs", other.run_id))
    await page.until(seen("#runs", "rm -rf build"))
    await page.run("document.querySelector('#waiting').click()")
    await page.until(seen("#asked", "Run a command?"))
    await page.until(seen("#state", "needs-input"))
    await page.until(seen("#live", "live"))
    await picture(page, "question")
    await page.click("#asked button[data-decision=accept]")
    assert (await running).terminal_status == "completed"
    await page.until(seen("#live", "ended: completed"))
    await page.until(seen("#result", "decision: accept"))
    await page.until("document.querySelector('#questions').hidden")
    timeline = await page.text("#timeline")
    assert "server-request-settled · accept" in timeline
    assert "run-terminal" in timeline
    await page.until("document.querySelector('#cancel').disabled")
    await picture(page, "completed")
    await page.resize(390, 800)
    await picture(page, "phone")
    assert await page.run("document.documentElement.scrollWidth") <= 390


async def test_a_form_is_filled_in(fleet: Fleet, page: Page) -> None:
    work = await fleet.create("ask all", policy=ATTENDED)
    running = asyncio.create_task(work.go("every-request"))
    await page.open(f"{fleet.url}/console/#{work.run_id}")
    for kind in ("Run a command?", "Change files?", "Allow more?"):
        await page.until(seen("#asked", kind))
        await page.click("#asked button[data-decision=accept]")
    await page.type("#asked input[name=colour]", "blue")
    await picture(page, "form")
    await page.click("#asked button[data-decision=accept]")
    await page.type("#asked input[name=width]", "4")
    await page.click("#asked button[data-decision=accept]")
    await page.type("#asked input[name=text]", "woven")
    await page.click("#asked button[data-decision=accept]")
    for request in ("1-7", "1-8"):
        await page.click(f"#asked article[data-request='{request}'] button[data-decision=decline]")
    assert (await running).terminal_status == "completed"
    reply = (await work.result()).reply
    assert '"colour": {"answers": ["blue"]}' in reply
    assert '{"width": 4}' in reply
    assert "woven" in reply


async def test_a_turn_is_steered_interrupted_and_its_run_cancelled(
    fleet: Fleet, page: Page
) -> None:
    work = await fleet.create("long")
    running = asyncio.create_task(work.go("missing-terminal", one_shot=False))
    await page.open(f"{fleet.url}/console/#{work.run_id}")
    await page.until(seen("#state", "running"))
    # A turn that is only about to begin takes no words yet.
    await work.until(lambda event: event.payload.get("phase") == "active-turn-control-ready")
    await page.type("#words", "go left")
    await page.click("#steer")
    await page.until(seen("#timeline", "steered: go left"))
    await page.click("#interrupt")
    await page.until(seen("#timeline", "turn/interrupt:completed"))
    await page.until(seen("#state", "claimed"))
    await page.click("#cancel")
    await page.until(seen("#live", "ended: cancelled"))
    assert (await running).terminal_status == "cancelled"


async def test_a_failure_shows_what_to_do(fleet: Fleet, page: Page) -> None:
    work = await fleet.create("fail")
    await work.go("provider-401-rpc-error")
    await page.open(f"{fleet.url}/console/#{work.run_id}")
    await page.until(seen("#result", "provider-auth-failed"))
    await page.until(seen("#result", "What to do: Replace the provider"))
    await page.until(seen("#runs", "provider-auth-failed"))
    await picture(page, "failure")


async def test_runners_are_shown_and_drained(fleet: Fleet, page: Page) -> None:
    await fleet.client.register(id="idle-one", placement="process", backendProfile="codex")
    work = await fleet.create("long")
    running = asyncio.create_task(work.go("missing-terminal", runner_id="busy-one", lease_ms=900))
    await page.open(f"{fleet.url}/console/#runners")
    await page.until(seen("#runners", "busy-one"))
    await page.until(seen("#runners", "idle-one"))
    await page.until("document.querySelector('#runners .badge').innerText === 'busy'")
    await picture(page, "runners")
    await page.click("#runners tr:first-child button")
    await page.until("document.querySelector('#runners .badge').innerText === 'draining'")
    assert [r.draining for r in (await fleet.client.list_runners()).items] == [True, False]
    running.cancel()
    await asyncio.wait({running})
    await page.click("#gone")  # it said that it is gone when it ended
    badges = "[...document.querySelectorAll('#runners .badge')]"
    await page.until(f"{badges}.some((badge) => badge.innerText === 'gone')")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
async def test_the_door_asks_for_the_token_and_keeps_it_in_the_tab(tmp_path: Path) -> None:
    async with control_lab(tmp_path / "manager", locked=True) as lab, browser(tmp_path) as page:
        run_id, _ = await lab.run_with_turn()
        await page.open(f"{lab.manager.address}/console/")
        await page.until("!document.querySelector('#door').hidden")
        assert await page.run("document.querySelector('#desk').hidden")
        await page.type("#token", "wrong")
        await page.click("#door button")
        await page.until(seen("#notice", "does not take this token"))
        await page.type("#token", API_TOKEN)
        await page.click("#door button")
        await page.until(seen("#runs", run_id))
        assert await page.run("localStorage.length") == 0
        assert API_TOKEN not in await page.run("document.documentElement.outerHTML + location.href")
        await page.click("#forget")
        await page.until("!document.querySelector('#door').hidden")
        assert await page.run("sessionStorage.length") == 0
        assert all("401" in error for error in page.errors)
