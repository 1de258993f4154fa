"""The web console: what is served, under which policy, and what its script may call."""

import re
from pathlib import Path

import pytest

from support.control_lab import ControlLab, control_lab
from treadle.control.http.console import FILES, FOLDER, SCRIPTS
from treadle.control.http.operations import OPERATIONS

MAX_LINES = 1000


def source(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def scripts() -> str:
    """All that the page runs."""
    return "\n".join(source(name) for name in SCRIPTS)


@pytest.mark.parametrize("locked", [False, True])
async def test_all_files_are_served_without_a_token_under_a_strict_policy(
    tmp_path: Path, locked: bool
) -> None:
    async with control_lab(tmp_path, locked=locked) as lab:
        lab.http.headers.pop("authorization", None)
        for path, (name, media_type) in FILES.items():
            answer = await lab.http.get(f"/console/{path}")
            assert (answer.status_code, answer.text) == (200, source(name))
            assert answer.headers["content-type"] == media_type
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
        moved = await lab.http.get("/console")
        assert (moved.status_code, moved.headers["location"]) == (308, "/console/")
        opened = await lab.http.get("/")
        assert (opened.status_code, opened.headers["location"]) == (307, "/console/")


@pytest.mark.parametrize("name", ["other.js", "..%2Fhttp%2Fserver.py", "%2e%2e%2frecords.py"])
async def test_nothing_else_is_served(tmp_path: Path, name: str) -> None:
    async with control_lab(tmp_path) as lab:
        assert (await lab.http.get(f"/console/{name}")).status_code == 404


def test_the_page_loads_only_its_own_files_and_has_no_inline_code() -> None:
    page = source("index.html")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert {path for path in loaded if not path.startswith("#")} == {
        "data:,",
        "console.css",
        "console.js",
    }
    assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page) == []
    imported = re.findall(r'from "\./([^"]*)"', scripts())
    assert set(imported) | {"console.js"} == set(SCRIPTS)
    assert len(re.findall(r"\bimport\b", scripts())) == len(imported)
    for name in (*SCRIPTS, "console.css"):
        assert re.findall(r"https?://|@import|url\(", source(name)) == []


def test_the_script_makes_no_markup_and_keeps_the_token_in_the_session_only() -> None:
    script = scripts()
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    assert re.findall(forbidden, script) == []
    assert re.findall(r"localStorage|document\.cookie|indexedDB", script) == []
    assert "sessionStorage" in script


def test_the_script_calls_documented_operations_only() -> None:
    script = scripts().replace("${API}", "/api/v1")
    script = script.replace("${encodeURIComponent(id)}", "{run_id}")
    script = script.replace("${encodeURIComponent(runnerId)}", "{runner_id}")
    called = {path.partition("?")[0] for path in re.findall(r'[`"](/[a-z][^`"]*)[`"]', script)}
    assert called - {"/api/v1"} <= {each.path for each in OPERATIONS}
    assert len(called) >= 6, "the paths of the script were not found"
    assert len(re.findall(r"\bfetch\(", script)) == 1, "every call goes through one place"


def test_every_element_the_script_looks_for_is_on_the_page() -> None:
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', scripts()))
    assert wanted <= set(re.findall(r'id="([\w-]+)"', source("index.html")))


def test_the_console_stays_small() -> None:
    assert sum(len(source(name).splitlines()) for name, _ in FILES.values()) < MAX_LINES


async def answered(lab: ControlLab, path: str, **headers: str) -> int:
    return (await lab.http.get(path, headers=headers)).status_code


async def test_a_page_of_this_manager_may_call_and_a_foreign_one_may_not(tmp_path: Path) -> None:
    async with control_lab(tmp_path) as lab:
        assert await answered(lab, "/api/v1/runs", Origin=lab.manager.address) == 200
        assert await answered(lab, "/api/v1/runs", Origin="https://elsewhere.example") == 403
