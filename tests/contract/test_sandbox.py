"""What every sandbox promises, tried by escaping from it. A backend is skipped, with the reason,
only where the machine cannot do it."""

import os
import re
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from support.toolkit import ENV
from treadle.domain.policy import DangerFullAccess, ExternalSandbox, ReadOnly, WorkspaceWrite
from treadle.engine.sandbox import bubblewrap, landlock, namespaces
from treadle.engine.sandbox.launch_plan import SandboxReport, SandboxUnavailable
from treadle.engine.sandbox.select import ContainerIsSandbox, ProbedSandbox, probe
from treadle.engine.sandbox.unconfined import Unconfined

SEARCH_PATH = os.environ.get("PATH", "")
WORKSPACE = WorkspaceWrite(exclude_slash_tmp=True, exclude_tmpdir_env_var=True)


def _bubblewrap():
    program = bubblewrap.find_program(SEARCH_PATH)
    if program is None:
        pytest.skip("bubblewrap is not installed")
    if (reason := bubblewrap.why_not(program)) is not None:
        pytest.skip(f"bubblewrap does not work here: {reason}")
    return bubblewrap.Bubblewrap(program)


def _namespaces():
    if (reason := namespaces.why_not()) is not None:
        pytest.skip(f"no user namespaces here: {reason}")
    return namespaces.Namespaces()


def _landlock():
    if (reason := landlock.why_not()) is not None:
        pytest.skip(f"no Landlock here: {reason}")
    return landlock.Landlock()


MAKERS = {"bubblewrap": _bubblewrap, "namespaces": _namespaces, "landlock": _landlock}


@pytest.fixture(params=["bubblewrap", "namespaces"])
def sandbox(request):
    """A backend that enforces every policy."""
    return MAKERS[request.param]()


@pytest.fixture(params=sorted(MAKERS))
def any_sandbox(request):
    return MAKERS[request.param]()


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def run(sandbox, work: Path, policy, script: str, env: dict[str, str] | None = None, roots=()):
    plan = sandbox.plan(
        ["/bin/bash", "-c", script],
        cwd=str(work),
        env={**ENV, **(env or {})},
        policy=policy,
        workspace_roots=roots,
    )
    return subprocess.run(
        plan.argv,
        cwd=plan.cwd,
        env=plan.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_read_only_reads_everything_and_writes_nothing(any_sandbox, work):
    (work / "a.txt").write_text("words\n")
    script = (
        "cat a.txt; (echo x > a.txt); (echo x > new); mkdir d; rm a.txt; "
        "echo > /dev/null && echo ok"
    )
    done = run(any_sandbox, work, ReadOnly(), script)
    assert done.stdout == "words\nok\n"
    assert [path.name for path in work.iterdir()] == ["a.txt"]
    assert (work / "a.txt").read_text() == "words\n"


def test_status_and_folder_are_the_commands_own(any_sandbox, work):
    done = run(any_sandbox, work, ReadOnly(), "pwd; exit 7")
    assert (done.stdout, done.returncode) == (f"{work}\n", 7)


def test_missing_program_is_a_plain_failure(any_sandbox, work):
    plan = any_sandbox.plan(
        ["no-such-program"], cwd=str(work), env=ENV, policy=ReadOnly(), workspace_roots=()
    )
    done = subprocess.run(
        plan.argv, cwd=plan.cwd, env=plan.env, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "no-such-program" in done.stderr
    assert "namespace" not in done.stderr


def test_workspace_write_writes_in_its_roots_only(any_sandbox, work, tmp_path):
    extra, other = tmp_path / "extra", tmp_path / "other"
    extra.mkdir()
    other.mkdir()
    policy = WorkspaceWrite(
        writable_roots=(str(extra),), exclude_slash_tmp=True, exclude_tmpdir_env_var=True
    )
    script = f"echo a > in; echo b > {extra}/in; echo c > {other}/in; echo d > ../out; true"
    done = run(any_sandbox, work, policy, script)
    assert (work / "in").exists()
    assert (extra / "in").exists()
    assert not (other / "in").exists()
    assert not (tmp_path / "out").exists()
    assert len(re.findall("Read-only file system|Permission denied", done.stderr)) == 2


def test_temporary_folders_follow_the_policy(any_sandbox, work, tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    script = f"(echo x > {temporary}/x) 2>/dev/null && echo yes || echo no"
    env = {"TMPDIR": str(temporary)}
    opened = WorkspaceWrite(exclude_slash_tmp=True)
    assert run(any_sandbox, work, opened, script, env).stdout == "yes\n"
    assert run(any_sandbox, work, WORKSPACE, script, env).stdout == "no\n"


def test_links_do_not_lead_out(any_sandbox, work, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("old")
    (work / "up").symlink_to(outside)
    (work / "link").symlink_to(outside / "file")
    script = (
        f"echo x > up/new; echo x > link; ln {outside}/file hard && echo x > hard; "
        "mkdir d; echo old > d/f; ln d/f d/g && echo new > d/g; "
        f"mv {outside}/file . ; mv d/f {outside}"
    )
    run(any_sandbox, work, WORKSPACE, script)
    assert (work / "d" / "f").read_text() == "new\n"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "old"


def test_settings_folders_of_the_workspace_are_protected(sandbox, work):
    for name in (".git", ".codex", ".agents", ".treadle"):
        (work / name).mkdir()
    (work / ".git" / "hooks").mkdir()
    script = (
        "for d in .git .git/hooks .codex .agents .treadle; do echo x > $d/x; done; "
        "rm -rf .git; mv .git g; mv .codex c; chmod 777 .git; echo x > ok; true"
    )
    run(sandbox, work, WORKSPACE, script)
    assert sorted(path.name for path in work.rglob("*")) == [
        ".agents",
        ".codex",
        ".git",
        ".treadle",
        "hooks",
        "ok",
    ]


def test_a_worktrees_real_git_folder_is_protected(any_sandbox, tmp_path):
    main = tmp_path / "main"
    real = main / ".git" / "worktrees" / "w"
    real.mkdir(parents=True)
    tree = tmp_path / "main" / "tree"
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {real}\n")
    policy = WorkspaceWrite(
        writable_roots=(str(main),), exclude_slash_tmp=True, exclude_tmpdir_env_var=True
    )
    run(any_sandbox, tree, policy, f"echo x > {real}/config; echo gitdir: /tmp > .git; true")
    assert not (real / "config").exists()
    assert (tree / ".git").read_text() == f"gitdir: {real}\n"


def test_the_workspace_is_left_as_it_was(sandbox, work):
    run(sandbox, work, WORKSPACE, "echo hi > made.txt")
    assert [path.name for path in work.iterdir()] == ["made.txt"]


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_network_is_closed_until_opened_also_to_this_machine(any_sandbox, work, listener):
    script = f"(exec 3<>/dev/tcp/127.0.0.1/{listener}) 2>/dev/null && echo open || echo closed"
    assert run(any_sandbox, work, ReadOnly(), script).stdout == "closed\n"
    assert run(any_sandbox, work, ReadOnly(network_access=True), script).stdout == "open\n"


def test_workspace_network_follows_the_policy(any_sandbox, work, listener):
    script = f"(exec 3<>/dev/tcp/127.0.0.1/{listener}) 2>/dev/null && echo open || echo closed"
    opened = WorkspaceWrite(network_access=True)
    assert run(any_sandbox, work, WORKSPACE, script).stdout == "closed\n"
    assert run(any_sandbox, work, opened, script).stdout == "open\n"


CONNECT = (
    "import socket; s = socket.socket(socket.AF_UNIX);\n"
    "try: s.connect('{path}'); print('open')\n"
    "except OSError: print('closed')"
)


def test_local_sockets_are_no_way_out(any_sandbox, tmp_path, monkeypatch):
    python = shutil.which("python3")
    assert python is not None
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        server.listen()
        script = f'{python} -c "{CONNECT.format(path="s")}"'
        assert run(any_sandbox, tmp_path, ReadOnly(), script).stdout == "closed\n"
        assert run(any_sandbox, tmp_path, ReadOnly(network_access=True), script).stdout == "open\n"


DATAGRAM = """
import socket
for make in (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
             lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0],
             lambda: socket.socket(socket.AF_UNIX, socket.SOCK_RAW)):
    try: make().sendto(b"out", "s"); print("sent")
    except OSError: print("refused")
socket.socketpair()[0].sendall(b"in")
"""


def test_local_datagrams_which_need_no_connection_are_no_way_out(
    any_sandbox, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "try.py").write_text(DATAGRAM)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind("s")
        server.setblocking(False)
        done = run(any_sandbox, tmp_path, ReadOnly(), "python3 try.py")
        assert done.stdout.split() == ["refused"] * 3, done.stderr
        with pytest.raises(BlockingIOError):
            server.recv(10)
        opened = run(any_sandbox, tmp_path, ReadOnly(network_access=True), "python3 try.py")
        assert opened.stdout.split()[0] == "sent", opened.stderr


NAMELESS = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
try: s.connect("\\0" + sys.argv[1]); print("open")
except OSError: print("closed")
"""


def test_sockets_without_a_file_are_no_way_out(any_sandbox, tmp_path):
    name = f"treadle-test-{os.getpid()}"
    (tmp_path / "try.py").write_text(NAMELESS.replace("\\\\", "\\"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        done = run(any_sandbox, tmp_path, ReadOnly(), f"python3 try.py {name}")
    assert done.stdout == "closed\n", done.stderr


SET_USER_ID = """
import os, sys
def tried(name, make):
    try: make()
    except OSError: print(name, "refused")
    else: print(name, "done")
open("f", "w").close()
tried("chmod", lambda: os.chmod("f", 0o4755))
tried("fchmod", lambda: os.fchmod(os.open("f", os.O_RDWR), 0o4755))
tried("open", lambda: os.open("g", os.O_CREAT | os.O_WRONLY, 0o4755))
tried("mknod", lambda: os.mknod("h", 0o104755))
os.chmod("f", 0o755)
os.close(os.open("i", os.O_CREAT | os.O_WRONLY, 0o755))
"""


def test_no_file_gets_a_set_user_id_bit_and_none_counts(any_sandbox, work):
    (work / "try.py").write_text(SET_USER_ID)
    for policy in (WORKSPACE, WorkspaceWrite(network_access=True, exclude_slash_tmp=True)):
        done = run(any_sandbox, work, policy, "python3 try.py; grep NoNewPrivs /proc/self/status")
        assert done.stdout.split("\n")[:4] == [
            *("chmod refused", "fchmod refused", "open refused", "mknod refused")
        ], done.stderr
        assert done.stdout.split()[-2:] == ["NoNewPrivs:", "1"]
    assert [p for p in work.iterdir() if p.stat().st_mode & stat.S_ISUID] == []


def test_the_kernels_settings_are_out_of_reach(any_sandbox, work):
    script = (
        "(echo x > /proc/sys/kernel/hostname); (echo 1 > /proc/sysrq-trigger); "
        "(echo 0 > /proc/1/oom_score_adj); (echo x > /sys/kernel/uevent_helper); "
        f"ls /proc/{os.getpid()}/root/; readlink /proc/{os.getpid()}/fd/0; "
        f"cat /proc/{os.getpid()}/mem; echo x > /proc/self/root/out; true"
    )
    before = os.uname().nodename
    done = run(any_sandbox, work, WorkspaceWrite(network_access=True), script)
    assert done.stdout == ""
    assert os.uname().nodename == before
    assert not Path("/out").exists()


def test_read_only_leaves_modes_and_times_alone(any_sandbox, work):
    file = work / "a.txt"
    file.write_text("x")
    before = file.stat()
    run(any_sandbox, work, ReadOnly(), "chmod 777 a.txt; touch -d 2001-01-01 a.txt; true")
    assert (file.stat().st_mode, file.stat().st_mtime) == (before.st_mode, before.st_mtime)


def test_no_power_is_left_to_undo_the_fence(sandbox, work, tmp_path):
    script = (
        "mount -o remount,rw / ; umount -l . ; mount -t tmpfs none . ; "
        f"(cd /; echo x > {tmp_path}/out); grep CapEff /proc/self/status"
    )
    done = run(sandbox, work, ReadOnly(), script)
    assert done.stdout.split() == ["CapEff:", "0000000000000000"]
    assert not (tmp_path / "out").exists()


def test_disks_are_not_to_be_found(sandbox, work):
    script = "find /dev -type b | wc -l; ls /dev | grep -c null; test -w /dev/shm; echo $?"
    assert run(sandbox, work, ReadOnly(), script).stdout == "0\n1\n0\n"


def test_processes_outside_are_out_of_reach(any_sandbox, work):
    with subprocess.Popen(["sleep", "60"]) as victim:
        script = f"kill {victim.pid}; cat /proc/{victim.pid}/environ > /dev/null && echo read"
        done = run(any_sandbox, work, ReadOnly(), script)
        alive = victim.poll() is None
        victim.kill()
    if isinstance(any_sandbox, landlock.Landlock) and not alive:
        pytest.skip("this kernel's Landlock does not scope signals")
    assert alive
    assert "read" not in done.stdout


def test_full_access_and_external_fences_start_plainly(any_sandbox, work):
    for policy in (DangerFullAccess(), ExternalSandbox()):
        plan = any_sandbox.plan(["true"], cwd=str(work), env=ENV, policy=policy, workspace_roots=())
        assert plan.argv == ("true",)


def test_landlock_grants_beside_protected_folders_what_is_there_already(work):
    sandbox = MAKERS["landlock"]()
    for name in (".git/hooks", ".codex", "src"):
        (work / name).mkdir(parents=True)
    (work / "a.txt").write_text("old\n")
    (work / "link").symlink_to(work / ".git")
    script = (
        "for d in .git .git/hooks .codex link; do echo x > $d/x; ln -s /bin/true $d/y; done; "
        "mv .git g; rm -rf .git; mv .codex src/c; ln .git/hooks src/h; "
        "echo new > a.txt; echo x > src/made; mv src/made src/moved; echo x > new"
    )
    run(sandbox, work, WORKSPACE, script)
    assert sorted(str(path.relative_to(work)) for path in work.rglob("*")) == [
        *(".codex", ".git", ".git/hooks", "a.txt", "link", "src", "src/moved"),
    ]
    assert (work / "a.txt").read_text() == "new\n"


def test_without_a_backend_policies_fail_closed_and_say_what_to_do(work):
    report = SandboxReport(backend="none", enforced=False, why_not="nothing", remedy="do this")
    for policy in (ReadOnly(), WORKSPACE):
        with pytest.raises(SandboxUnavailable, match="nothing; do this"):
            Unconfined(report).plan(
                ["true"], cwd=str(work), env=ENV, policy=policy, workspace_roots=()
            )


def test_a_bubblewrap_that_does_not_work_is_passed_over(tmp_path):
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces >&2; exit 1\n")
    broken.chmod(0o755)
    assert probe(str(tmp_path)).report.backend != "bubblewrap"


def test_full_access_does_not_wait_for_a_probe(work, monkeypatch):
    monkeypatch.setattr("treadle.engine.sandbox.select.probe", lambda _path: pytest.fail("probed"))
    plan = ProbedSandbox(SEARCH_PATH).plan(
        ["true"], cwd=str(work), env=ENV, policy=DangerFullAccess(), workspace_roots=()
    )
    assert plan.argv == ("true",)


def test_a_container_that_is_the_sandbox_starts_everything_plainly(work):
    plan = ContainerIsSandbox().plan(
        ["true"], cwd=str(work), env=ENV, policy=ReadOnly(), workspace_roots=()
    )
    assert plan.argv == ("true",)
    assert ContainerIsSandbox().report.backend == "external"
