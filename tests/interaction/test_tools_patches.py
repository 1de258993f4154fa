import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.toolkit import call, make_context
from treadle.domain.policy import ReadOnly, WorkspaceWrite
from treadle.engine.tools.edit_files import ApplyPatch
from treadle.engine.tools.exec import ExecCommand
from treadle.engine.tools.exec_sessions import ExecSessions

WORKSPACE = WorkspaceWrite(exclude_slash_tmp=True, exclude_tmpdir_env_var=True)

ALL_KINDS = """*** Begin Patch
*** Add File: dir/new.txt
+hello
+world
*** Update File: old.txt
@@
 a
-b
+B
 c
*** Update File: from.txt
*** Move to: to.txt
@@
-m1
+m2
*** Delete File: gone.txt
*** End Patch"""
BEFORE = {"old.txt": "a\nb\nc\n", "from.txt": "m1\n", "gone.txt": "bye\n"}
AFTER = {"dir/new.txt": "hello\nworld\n", "old.txt": "a\nB\nc\n", "to.txt": "m2\n"}
SUCCESS = (
    "Exit code: 0\nWall time: 0 seconds\nOutput:\nSuccess. Updated the following files:\n"
    "A dir/new.txt\nM old.txt\nM to.txt\nD gone.txt\n"
)


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def fill(folder: Path) -> None:
    for name, text in BEFORE.items():
        (folder / name).write_text(text)


def add(path: str) -> str:
    return f"*** Begin Patch\n*** Add File: {path}\n+x\n*** End Patch"


async def apply(text, context):
    return await ApplyPatch().run(call("apply_patch", text), context)


async def test_a_patch_changes_files_and_tells_item_and_model(tmp_path):
    fill(tmp_path)
    context = make_context(str(tmp_path), WORKSPACE)
    output = await apply(ALL_KINDS, context)
    assert output.text == SUCCESS
    assert tree(tmp_path) == AFTER
    assert [kind for kind, _ in context.reporter.log] == ["started", "completed", "diff"]
    (started,), (done,) = context.reporter.items("started"), context.reporter.items("completed")
    assert (started.status, done.status) == ("inProgress", "completed")
    assert [(change.path, change.kind, change.diff) for change in done.changes] == [
        (str(tmp_path / "dir/new.txt"), {"type": "add"}, "hello\nworld\n"),
        (
            str(tmp_path / "old.txt"),
            {"type": "update", "move_path": None},
            "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n",
        ),
        (
            str(tmp_path / "from.txt"),
            {"type": "update", "move_path": str(tmp_path / "to.txt")},
            f"@@ -1 +1 @@\n-m1\n+m2\n\n\nMoved to: {tmp_path}/to.txt",
        ),
        (str(tmp_path / "gone.txt"), {"type": "delete"}, "bye\n"),
    ]


async def test_the_turns_diff_is_one_that_git_applies(tmp_path):
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    work, other = tmp_path / "work", tmp_path / "other"
    for folder in (work, other):
        folder.mkdir()
        fill(folder)
        subprocess.run([git, "init", "-q", folder], check=True)
    context = make_context(str(work))
    await apply(ALL_KINDS, context)
    diff = context.journal.diff()
    applied = subprocess.run([git, "apply", "-"], input=diff.encode(), cwd=other, check=False)
    assert applied.returncode == 0
    assert tree(other) == AFTER
    blob = subprocess.check_output([git, "hash-object", "old.txt"], cwd=work, text=True).strip()
    assert f"..{blob}\n--- a/old.txt" in diff


async def test_changes_taken_back_leave_no_diff(tmp_path):
    context = make_context(str(tmp_path))
    await apply(add("a"), context)
    assert "new file mode 100644" in context.journal.diff()
    await apply("*** Begin Patch\n*** Delete File: a\n*** End Patch", context)
    assert context.journal.diff() == ""


async def test_a_patch_that_does_not_fit_changes_nothing_and_shows_no_item(tmp_path):
    (tmp_path / "old.txt").write_text("x\n")
    context = make_context(str(tmp_path))
    output = await apply(
        "*** Begin Patch\n*** Add File: new\n+x\n*** Update File: old.txt\n@@\n-a\n+b\n"
        "*** End Patch",
        context,
    )
    assert output.text == (
        f"apply_patch verification failed: Failed to find expected lines in {tmp_path}/old.txt:\na"
    )
    assert tree(tmp_path) == {"old.txt": "x\n"}
    assert context.reporter.log == []


@pytest.mark.parametrize(
    "path", ["../out", "up/out", ".git/hooks/x", ".codex/config.toml", "dangling", "hooks/x"]
)
async def test_writing_outside_the_policys_roots_is_refused(tmp_path, path):
    work = tmp_path / "work"
    (work / ".git/hooks").mkdir(parents=True)
    (work / "up").symlink_to(tmp_path)
    (work / "dangling").symlink_to(tmp_path / "out")
    (work / "hooks").symlink_to(work / ".git/hooks")
    context = make_context(str(work), WORKSPACE)
    output = await apply(add(path), context)
    assert output.text.startswith("patch rejected: ")
    assert str(work) in output.text
    assert not (tmp_path / "out").exists()
    assert not (work / ".git/hooks/x").exists()
    assert not (work / ".codex").exists()
    assert [item.status for item in context.reporter.items("completed")] == ["failed"]


async def test_read_only_refuses_every_patch_and_says_so(tmp_path):
    output = await apply(add("a"), make_context(str(tmp_path), ReadOnly()))
    assert "the sandbox is read-only" in output.text
    assert tree(tmp_path) == {}


async def test_full_access_writes_anywhere(tmp_path):
    (tmp_path / "work").mkdir()
    output = await apply(add("../out"), make_context(str(tmp_path / "work")))
    assert output.success
    assert (tmp_path / "out").read_text() == "x\n"


async def test_modes_links_and_odd_bytes_survive_an_update(tmp_path):
    script = tmp_path / "run.sh"
    script.write_bytes(b"\xff\nold\n")
    script.chmod(0o755)
    (tmp_path / "link").symlink_to("run.sh")
    update = "*** Begin Patch\n*** Update File: link\n@@\n-old\n+new\n*** End Patch"
    context = make_context(str(tmp_path))
    assert (await apply(update, context)).success
    assert script.read_bytes() == b"\xff\nnew\n"
    assert script.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".treadle")] == []
    assert (
        context.reporter.items("completed")[0]
        .changes[0]
        .diff.startswith("@@ -1,2 +1,2 @@\n \ufffd")
    )


async def test_a_folder_in_the_way_is_told(tmp_path):
    (tmp_path / "d").mkdir()
    context = make_context(str(tmp_path))
    output = await apply("*** Begin Patch\n*** Delete File: d\n*** End Patch", context)
    assert output.text.endswith(f"path `{tmp_path}/d` is not a file")
    os.mkfifo(tmp_path / "pipe")
    output = await apply("*** Begin Patch\n*** Delete File: pipe\n*** End Patch", context)
    assert output.text.endswith(f"path `{tmp_path}/pipe` is not a file")
    (tmp_path / "file").write_text("")
    output = await apply(add("file/below"), context)
    assert output.text.startswith("Exit code: 1\n")
    assert "File exists" in output.text
    assert [item.status for item in context.reporter.items("completed")] == ["failed"]


async def test_a_patch_typed_into_the_shell_is_a_file_change(tmp_path):
    fill(tmp_path)
    context = make_context(str(tmp_path), WORKSPACE)
    wanted = {"cmd": f"apply_patch <<'EOF'\n{ALL_KINDS}\nEOF\n"}
    output = await ExecCommand(ExecSessions()).run(call("exec_command", wanted), context)
    assert output.text == f"Wall time: 0.0000 seconds\nOutput:\n{SUCCESS}"
    assert tree(tmp_path) == AFTER
    assert [type(item).__name__ for item in context.reporter.items("completed")] == ["FileChange"]


async def test_a_patch_typed_after_cd_starts_there(tmp_path):
    (tmp_path / "a b").mkdir()
    wanted = {"cmd": f"cd 'a b' && apply_patch <<EOF\n{add('x')}\nEOF"}
    context = make_context(str(tmp_path))
    await ExecCommand(ExecSessions()).run(call("exec_command", wanted), context)
    assert tree(tmp_path) == {"a b/x": "x\n"}


async def test_a_script_that_does_more_than_patch_is_a_command(tmp_path):
    wanted = {"cmd": f"apply_patch <<'EOF'\n{add('x')}\nEOF\necho more", "login": False}
    context = make_context(str(tmp_path))
    sessions = ExecSessions()
    await ExecCommand(sessions).run(call("exec_command", wanted), context)
    (done,) = context.reporter.items("completed")
    assert done.aggregated_output.endswith("more\n")
    await sessions.close()
