import asyncio
from pathlib import Path

import pytest

from treadle.domain.policy import DangerFullAccess
from treadle.engine.sandbox.unconfined import Unconfined
from treadle.engine.tools.exec import ShellCommand
from treadle.engine.tools.login_environment import Login, LoginEnvironments

BASH = "/bin/bash"
SANDBOX = Unconfined()


@pytest.fixture
async def logins():
    made = LoginEnvironments(BASH)
    yield made
    await made.close()


def env(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": "/usr/bin:/bin", "GONE": "1", **more}


async def look(logins: LoginEnvironments, given: dict[str, str]) -> Login | None:
    """Have it looked for, and wait for what comes of it."""
    logins.find(given, SANDBOX, DangerFullAccess())
    async with asyncio.timeout(20):
        while logins.looking:
            await asyncio.sleep(0.005)
    return logins.find(given, SANDBOX, DangerFullAccess())


async def test_profiles_are_read_once_and_their_variables_handed_on(
    tmp_path: Path, logins: LoginEnvironments
):
    (tmp_path / ".profile").write_text(
        "export GREETING='a b\nc'; unset GONE; echo x >> ~/runs\ngreet() { echo hello; }\n"
    )
    login = await look(logins, env(tmp_path, CODEX_THREAD_ID="1"))
    assert login is not None
    changed = login.apply(env(tmp_path, CODEX_THREAD_ID="2"))
    assert changed["GREETING"] == "a b\nc"
    assert changed["CODEX_THREAD_ID"] == "2"
    assert "GONE" not in changed
    assert "BASH_FUNC_greet%%" in changed
    assert await look(logins, env(tmp_path, CODEX_THREAD_ID="3")) == login
    assert (tmp_path / "runs").read_text() == "x\n"


async def test_a_changed_profile_is_read_again(tmp_path: Path, logins: LoginEnvironments):
    (tmp_path / ".profile").write_text("export COLOUR=red\n")
    first = await look(logins, env(tmp_path))
    (tmp_path / ".profile").write_text("export COLOUR=green\n")
    assert logins.find(env(tmp_path), SANDBOX, DangerFullAccess()) is None
    second = await look(logins, env(tmp_path))
    assert first is not None
    assert second is not None
    assert (first.set["COLOUR"], second.set["COLOUR"]) == ("red", "green")


@pytest.mark.parametrize("profile", ["echo welcome\n", "exit 3\n", "exit 0\n"])
async def test_a_profile_that_does_more_means_real_login_shells(
    tmp_path: Path, logins: LoginEnvironments, profile: str
):
    (tmp_path / ".profile").write_text(profile)
    assert await look(logins, env(tmp_path)) is None


async def test_a_known_login_spares_the_login_shell():
    command = ShellCommand((BASH, "-lc", "ls"), "ls", "/", login=Login({"A": "1"}, ("B",)))
    assert command.to_run({"B": "2", "C": "3"}) == ((BASH, "-c", "ls"), {"A": "1", "C": "3"})
    real = ShellCommand((BASH, "-lc", "ls"), "ls", "/")
    assert real.to_run({"B": "2"}) == ((BASH, "-lc", "ls"), {"B": "2"})
