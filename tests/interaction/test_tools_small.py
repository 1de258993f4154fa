import base64
import os

from support.toolkit import call, make_context
from treadle.engine.tools.command_env import (
    CommandIdentity,
    ShellEnvironmentPolicy,
    command_environment,
)
from treadle.engine.tools.exec_sessions import ExecSessions
from treadle.engine.tools.plan import UpdatePlan
from treadle.engine.tools.shell import Shell, ShellScript
from treadle.engine.tools.tool import ToolCall, ToolOutput
from treadle.engine.tools.toolbox import MAX_ANSWER_CHARS, Toolbox
from treadle.engine.tools.view_image import ViewImage

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Chatty:
    name = "chatty"
    spec = {"type": "function", "name": "chatty"}

    async def run(self, call, context):
        return ToolOutput(text="x" * 1_000_000)


async def test_unknown_tools_are_told_to_the_model(tmp_path):
    box = Toolbox([UpdatePlan()])
    output = await box.run(call("nope", {}), make_context(str(tmp_path)))
    assert (output.text, output.success) == ("unsupported call: nope", False)


async def test_a_namespaced_call_is_no_builtin(tmp_path):
    box = Toolbox([UpdatePlan()])
    stray = ToolCall(name="update_plan", namespace="other", call_id="c", arguments="{}")
    output = await box.run(stray, make_context(str(tmp_path)))
    assert output.text == "unsupported call: other.update_plan"


async def test_answers_of_tools_are_bounded(tmp_path):
    output = await Toolbox([Chatty()]).run(call("chatty", {}), make_context(str(tmp_path)))
    assert MAX_ANSWER_CHARS <= len(output.text) < MAX_ANSWER_CHARS + 100
    assert "tokens truncated" in output.text


async def test_unlisted_tools_answer_but_are_not_offered(tmp_path):
    box = Toolbox([UpdatePlan()], unlisted=[Chatty()])
    assert [spec["name"] for spec in box.specs] == ["update_plan"]
    output = await box.run(call("chatty", {}), make_context(str(tmp_path)))
    assert output.text.startswith("xxx")


async def test_a_plan_is_told_in_the_protocols_words(tmp_path):
    context = make_context(str(tmp_path))
    steps = [{"step": "look", "status": "completed"}, {"step": "do", "status": "in_progress"}]
    wanted = {"explanation": "why", "plan": steps}
    assert (await UpdatePlan().run(call("update_plan", wanted), context)).text == "Plan updated"
    assert context.reporter.plans == [
        ("why", [{"step": "look", "status": "completed"}, {"step": "do", "status": "inProgress"}])
    ]
    assert context.reporter.log == []


async def test_a_plan_with_an_unknown_status_changes_nothing(tmp_path):
    context = make_context(str(tmp_path))
    wanted = {"plan": [{"step": "look", "status": "maybe"}]}
    output = await UpdatePlan().run(call("update_plan", wanted), context)
    assert output.text.startswith("failed to parse function arguments: ")
    assert context.reporter.plans == []


async def test_an_image_is_shown_and_becomes_an_item(tmp_path):
    (tmp_path / "dot.png").write_bytes(PNG)
    context = make_context(str(tmp_path))
    output = await ViewImage().run(call("view_image", {"path": "dot.png"}), context)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert output.content == [{"type": "input_image", "image_url": url, "detail": "original"}]
    assert [item.path for item in context.reporter.items("completed")] == [
        str(tmp_path / "dot.png")
    ]


async def test_what_is_no_image_is_not_shown(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    context = make_context(str(tmp_path))
    output = await ViewImage().run(call("view_image", {"path": "text.png"}), context)
    assert output.text.startswith("unable to process image at")
    output = await ViewImage().run(call("view_image", {"path": "none.png"}), context)
    missing = f"unable to locate image at `{tmp_path}/none.png`"
    assert output.text == f"{missing}: No such file or directory (os error 2)"
    os.mkfifo(tmp_path / "pipe.png")
    output = await ViewImage().run(call("view_image", {"path": "pipe.png"}), context)
    assert output.text.endswith("it is not a file")
    assert context.reporter.log == []


async def test_classic_shell_ends_what_runs_too_long(tmp_path):
    sessions = ExecSessions()
    context = make_context(str(tmp_path))
    wanted = {"command": ["bash", "-c", "echo begun; sleep 61"], "timeout_ms": 300}
    output = await Shell(sessions).run(call("shell", wanted), context)
    assert output.text.startswith("Exit code: 124\n")
    assert "command timed out after" in output.text
    assert output.text.endswith("begun\n")
    (done,) = context.reporter.items("completed")
    assert (done.status, done.exit_code, done.source) == ("failed", 124, "agent")
    await sessions.close()


async def test_classic_script_runs_in_the_shell(tmp_path):
    sessions = ExecSessions()
    wanted = {"command": "echo $((1+2))", "login": False}
    context = make_context(str(tmp_path))
    output = await ShellScript(sessions).run(call("shell_command", wanted), context)
    assert output.text.startswith("Exit code: 0\nWall time: 0.")
    assert output.text.endswith("Output:\n3\n")
    await sessions.close()


ME = CommandIdentity(home="/h", version="1", session_id="s", thread_id="t")
BASE = {"PATH": "/bin", "HOME": "/root", "API_TOKEN": "a", "PLAIN": "p", "TERM": "xterm"}


def seen(**policy):
    env = command_environment(BASE, ShellEnvironmentPolicy(**policy), ME)
    return {name for name in env if name in {*BASE, "GIVEN"}} - {"TERM"}


def test_commands_inherit_what_the_policy_lets_through():
    assert seen() == {"PATH", "HOME", "API_TOKEN", "PLAIN"}
    assert seen(inherit="core") == {"PATH", "HOME"}
    assert seen(inherit="none", set={"GIVEN": "x"}) == {"GIVEN"}
    assert seen(ignore_default_excludes=False) == {"PATH", "HOME", "PLAIN"}
    assert seen(exclude=("pl*",)) == {"PATH", "HOME", "API_TOKEN"}
    assert seen(include_only=("P*",), set={"GIVEN": "x"}) == {"PATH", "PLAIN"}


def test_commands_know_who_they_run_for_and_stay_quiet():
    env = command_environment(BASE, ShellEnvironmentPolicy(set={"PAGER": "less"}), ME)
    assert (env["TERM"], env["NO_COLOR"], env["LC_ALL"], env["PAGER"]) == (
        "dumb",
        "1",
        "C.UTF-8",
        "less",
    )
    assert env["CODEX_THREAD_ID"] == env["TREADLE_THREAD_ID"] == "t"
