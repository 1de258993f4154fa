"""What is loaded when: each module, data class and pattern is paid for by every start."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "aiohttp",
    "asyncpg",
    "google",
    "grpc",
    "httpx",
    "mcp",
    "pydantic",
    "rich",
    "sqlite3",
    "starlette",
    "uvicorn",
    "websockets",
    "zstandard",
}
THREAD = "0199a213-81c0-7800-8aa1-bbab2a035a53"
CONFIG = """\
model = "mock-model"
model_provider = "mock"
[model_providers.mock]
name = "mock"
base_url = "http://127.0.0.1:9/v1"
"""
LOG = f"""\
{{"timestamp":"2025-10-01T10:00:00.000Z","type":"session_meta","payload":{{"id":"{THREAD}",\
"timestamp":"2025-10-01T10:00:00.000Z","cwd":"/","originator":"test","cli_version":"0.0.0",\
"source":"cli","model_provider":"mock"}}}}
{{"timestamp":"2025-10-01T10:00:01.000Z","type":"event_msg","payload":{{"type":"user_message",\
"message":"hello","kind":"plain"}}}}
"""

LEFT_OUT = """
aiohttp bz2 difflib email hmac http json lzma pathspec random secrets shutil tempfile unicodedata
treadle.appserver.handlers.host_table treadle.appserver.handlers.thread_table
treadle.cli.wiring.account_service treadle.cli.wiring.command_host treadle.cli.wiring.feedback
treadle.cli.wiring.skill_service treadle.cli.wiring.tool_list
treadle.config.edit treadle.config.read_view
treadle.engine.agent.metering treadle.engine.agent.response_reader treadle.engine.agent.turn_life
treadle.engine.agent.turn_loop treadle.engine.agent.turn_report
treadle.engine.model.model_client treadle.engine.model.responses treadle.engine.model.retry
treadle.engine.model.sse treadle.engine.model.transport
treadle.engine.sandbox.bubblewrap treadle.engine.sandbox.landlock
treadle.engine.services.approvals treadle.engine.services.commands
treadle.engine.services.device_keys treadle.engine.services.feedback
treadle.engine.services.file_search treadle.engine.services.git_diff treadle.engine.services.mcp
treadle.engine.services.special_turns treadle.engine.services.thread_fork
treadle.engine.services.thread_life treadle.engine.services.thread_search
treadle.engine.store.memory
treadle.engine.tools.agent_tools treadle.engine.tools.client_tools
treadle.config.mcp_servers treadle.engine.tools.mcp_logins treadle.engine.tools.mcp_pool
treadle.engine.tools.exec_policy treadle.engine.tools.exec_sessions
treadle.engine.tools.login_environment treadle.engine.tools.toolbox
treadle.kit.commands treadle.kit.processes
treadle.wire.protocol.host_methods treadle.wire.protocol.not_offered
treadle.wire.protocol.thread_changes treadle.wire.protocol.thread_methods
"""
"""What a process that only shows a thread has no use for."""

MOST_OF_OURS = 185
"""Modules of the package, a few more than there are; a tenth of a millisecond each at the least."""


def run_python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        timeout=50,
        check=False,
    )


def loaded_by(imports: str) -> set[str]:
    found = run_python("-c", f"import sys, {imports}; print(*sys.modules)")
    assert found.returncode == 0, found.stderr
    return set(found.stdout.decode().split())


@pytest.mark.parametrize("module", ["treadle", "treadle.cli.main", "treadle.cli.app_server"])
def test_no_heavy_library_is_loaded_at_start_up(module: str):
    loaded = loaded_by(module)
    assert module in loaded
    assert loaded & HEAVY == set()


def test_a_client_is_greeted_before_the_event_loop_is_loaded():
    greeting = "treadle.appserver.front_door, treadle.wire.transport.claimed"
    facts = "treadle.cli.wiring.facts"
    loaded = loaded_by(f"treadle.cli.app_server, {greeting}, {facts}")
    assert loaded & {"asyncio", "logging", "ssl", "argparse"} == set()


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh server had loaded when it had answered its first resume."""
    home = tmp_path_factory.mktemp("home")
    (home / "config.toml").write_text(CONFIG)
    folder = home / "sessions" / "2025" / "10" / "01"
    folder.mkdir(parents=True)
    (folder / f"rollout-2025-10-01T10-00-00-{THREAD}.jsonl").write_text(LOG)
    program = ROOT / "tests" / "support" / "resume_footprint.py"
    found = run_python(str(program), THREAD, TREADLE_HOME=str(home), HOME=str(home))
    assert found.returncode == 0, found.stderr.decode()
    said = msgspec.json.decode(found.stdout)
    assert said["answer"]["result"]["thread"]["turns"], said["answer"]
    return said


def test_a_thread_is_resumed_without_what_other_requests_need(resumed: dict[str, Any]):
    assert set(resumed["modules"]) & set(LEFT_OUT.split()) == set()


def test_what_is_left_out_of_a_resume_exists():
    ours = [name for name in LEFT_OUT.split() if name.startswith("treadle.")]
    places = [ROOT / "src" / f"{name.replace('.', '/')}.py" for name in ours]
    assert [str(place) for place in places if not place.is_file()] == []


def test_a_thread_is_resumed_with_few_modules(resumed: dict[str, Any]):
    ours = [name for name in resumed["modules"] if name.split(".")[0] == "treadle"]
    assert len(ours) <= MOST_OF_OURS, "load what few requests need when it is first used"


def test_values_are_structs_where_every_start_makes_their_types(resumed: dict[str, Any]):
    """Each data class takes half a millisecond to make, a struct a tenth of it or less."""
    # Loaded before the greeting, as is what makes data classes.
    front = {"treadle.config.environment.Environment", "treadle.config.environment.Found"}
    assert set(resumed["dataclasses"]) - front == set()


def test_patterns_are_compiled_when_first_matched(resumed: dict[str, Any]):
    assert resumed["patterns"] == []
