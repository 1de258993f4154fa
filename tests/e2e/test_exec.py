"""`treadle exec`: one turn, its answer on standard output."""

import signal
from pathlib import Path

from support.command_line import Home, run, started
from support.fake_provider import FakeProvider, Step, created, http_error, reply


async def test_standard_output_is_the_answer_and_nothing_else(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(reply("Forty-two."))

    finished = await run(home, "exec", "what is it?", cwd=workspace)

    assert (finished.code, finished.out) == (0, "Forty-two.\n"), finished.err
    assert "thread " in finished.err


async def test_the_answer_goes_to_a_file_as_well(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(reply("Forty-two."))
    answer = tmp_path / "answer.txt"

    finished = await run(home, "exec", "-o", str(answer), "what is it?", cwd=workspace)

    assert (finished.code, finished.out) == (0, "Forty-two.\n"), finished.err
    assert answer.read_text() == "Forty-two."


async def test_an_answer_file_that_cannot_be_written_is_named_but_the_answer_is_kept(
    home: Home, provider: FakeProvider, workspace: Path, tmp_path: Path
) -> None:
    provider.script(reply("Forty-two."))
    answer = tmp_path / "missing" / "answer.txt"

    finished = await run(home, "exec", "-o", str(answer), "what is it?", cwd=workspace)

    assert (finished.code, finished.out) == (1, "Forty-two.\n")
    assert f"cannot write the answer to {answer}" in finished.err
    assert "Traceback" not in finished.err


async def test_a_later_turn_remembers_the_thread_it_goes_on_with(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(reply("I shall."), reply("Heddle."))
    first = await run(home, "exec", "remember the word heddle", cwd=workspace)
    assert first.code == 0, first.err
    thread = first.err.split("thread ")[1].split()[0]

    second = await run(home, "exec", "--thread", thread, "which word?", cwd=workspace)

    assert (second.code, second.out) == (0, "Heddle.\n"), second.err
    sent = str(provider.requests[-1].body["input"])
    assert "remember the word heddle" in sent
    assert "I shall." in sent


async def test_a_thread_that_is_not_there_is_an_error(home: Home, workspace: Path) -> None:
    unknown = "01890000-0000-7000-8000-000000000000"

    finished = await run(home, "exec", "--thread", unknown, "go on", cwd=workspace)

    assert (finished.code, finished.out) == (1, "")
    assert unknown in finished.err


async def test_a_failed_turn_says_why_and_exits_1(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(http_error(400, "no such luck"))

    finished = await run(home, "exec", "try", cwd=workspace)

    assert (finished.code, finished.out) == (1, "")
    assert "no such luck" in finished.err


async def test_a_home_folder_that_is_missing_is_named(bare_home: Home, workspace: Path) -> None:
    missing = Home(bare_home.folder / "missing")

    finished = await run(missing, "exec", "hello", cwd=workspace)

    assert (finished.code, finished.out) == (2, "")
    assert str(missing.folder) in finished.err
    assert "Traceback" not in finished.err


async def test_a_broken_configuration_file_is_named_with_its_place(
    home: Home, workspace: Path
) -> None:
    (home.folder / "config.toml").write_text("model = \n")

    finished = await run(home, "exec", "hello", cwd=workspace)

    assert finished.code != 0
    assert finished.out == ""
    assert "config.toml" in finished.err
    assert "Traceback" not in finished.err


async def test_ctrl_c_interrupts_the_turn(
    home: Home, provider: FakeProvider, workspace: Path
) -> None:
    provider.script(Step([created()], hang=True))
    async with started(home, "exec", "think long", cwd=workspace) as command:
        await provider.wait_requests(1)
        await command.err.wait_line("thread ")
        command.signal(signal.SIGINT)
        finished = await command.finish()
    assert (finished.code, finished.out) == (130, ""), finished.err
    assert "Traceback" not in finished.err
