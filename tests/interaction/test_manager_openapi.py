"""The OpenAPI document is complete, and what the manager answers is what it says."""

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from starlette.routing import Route

from support.control_lab import API_TOKEN, control_lab
from treadle.control.http import commands, events, health, openapi, runners, runs, scrape, tokens
from treadle.control.http.openapi import describe_api
from treadle.control.http.operations import OPERATIONS

EXAMPLES = 6
START_SECONDS = 20.0
PAGE = Path(__file__).parents[2] / "docs" / "control-api.md"
MODULES = (commands, events, health, openapi, runners, runs, scrape, tokens)


def test_the_description_has_every_route_and_no_other() -> None:
    routes: list[Route] = [route for module in MODULES for route in module.ROUTES]
    served = {(method, route.path) for route in routes for method in route.methods or ()}
    described = {(each.method, each.path) for each in OPERATIONS}
    assert described == {pair for pair in served if pair[0] != "HEAD"}


def test_every_reference_of_the_description_has_its_target() -> None:
    document = describe_api()
    schemas = document["components"]["schemas"]

    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
            for member in value.values():
                yield from walk(member)
        elif isinstance(value, list):
            for entry in value:
                yield from walk(entry)

    wanted = {ref.rpartition("/")[2] for ref in walk(document)}
    assert wanted
    assert wanted <= set(schemas)
    names = [item["operationId"] for path in document["paths"].values() for item in path.values()]
    assert len(names) == len(set(names))


def test_the_page_describes_every_path() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for operation in OPERATIONS:
        path = operation.path
        for name in ("run", "runner", "command", "token"):
            path = path.replace(f"{{{name}_id}}", f"{{{name}Id}}")
        assert path in page, path


async def test_the_description_is_served_to_whom_may_read(tmp_path: Path) -> None:
    async with control_lab(tmp_path, locked=True) as lab:
        assert (await lab.get("/api/v1/openapi.json"))["openapi"] == "3.1.0"
        lab.http.headers.pop("authorization")
        assert (await lab.http.get("/api/v1/openapi.json")).status_code == 401


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A manager on a thread of its own, since the generated requests are not asynchronous."""
    import asyncio

    folder = tmp_path_factory.mktemp("manager")
    found: list[str] = []
    handles: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    listening = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        async with control_lab(folder, locked=True) as lab:
            found.append(lab.manager.address)
            handles.append((asyncio.get_running_loop(), stop))
            listening.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert listening.wait(START_SECONDS)
    yield found[0]
    loop, stop = handles[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(START_SECONDS)
    assert not thread.is_alive()


def real_ids(address: str) -> dict[str, str]:
    """Ids of a run, a command and a runner that exist."""
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    with httpx.Client(base_url=f"{address}/api/v1", headers=headers) as http:
        run_id = http.post("/runs", json={}).json()["id"]
        turn = {"type": "turn", "payload": {"prompt": "p"}}
        command_id = http.post(f"/runs/{run_id}/commands", json=turn).json()["id"]
        runner_id = http.post("/runners/register", json={}).json()["id"]
        asked = {"name": "n", "role": "reader", "tenantId": "t"}
        token_id = http.post("/tokens", json=asked).json()["apiToken"]["id"]
    return {
        "run_id": run_id,
        "command_id": command_id,
        "runner_id": runner_id,
        "token_id": token_id,
    }


# The stream of a run that goes on never ends; test_manager_http reads it.
TRIED = [each for each in OPERATIONS if not each.path.endswith("/stream")]


@pytest.mark.timeout(30)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("operation", TRIED, ids=lambda each: f"{each.method} {each.path}")
def test_generated_requests_get_documented_answers(address: str, operation: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import (
            content_type_conformance,
            response_schema_conformance,
            status_code_conformance,
        )
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    schema = schemathesis.openapi.from_dict(describe_api())
    schema.config.update(base_url=address)
    ids = real_ids(address)
    statuses: set[int] = set()
    chosen = schema[operation.path][operation.method]

    @given(case=chosen.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.filter_too_much,
            HealthCheck.data_too_large,
        ],
    )
    def try_it(case: Any) -> None:
        if len(statuses) % 2 == 0:
            case.path_parameters = {name: ids[name] for name in case.path_parameters or {}}
        if "waitMs" in (case.query or {}):
            case.query["waitMs"] = 1
        if isinstance(case.body, dict) and "waitMs" in case.body:
            case.body["waitMs"] = 1
        answer = case.call_and_validate(
            checks=checks, headers={"Authorization": f"Bearer {API_TOKEN}"}, timeout=10
        )
        statuses.add(answer.status_code)

    try_it()
    assert statuses, "nothing was tried"
