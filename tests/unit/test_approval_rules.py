"""The pure rules of approval: scripts read strictly, prefixes matched, decisions as tables."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.domain.policy import DangerFullAccess, ReadOnly, WorkspaceWrite
from treadle.engine.tools.approval_rules import (
    Ask,
    CommandRequest,
    Refuse,
    RunFree,
    RunSandboxed,
    decide_command,
    decide_patch,
)
from treadle.engine.tools.command_safety import deletes_by_force, only_reads
from treadle.engine.tools.exec_policy import (
    ExecPolicy,
    RuleError,
    allow_line,
    parse_rules,
)
from treadle.engine.tools.grants import Granted, Grants
from treadle.engine.tools.shell_words import plain_commands, script_commands

FULL, WORKSPACE, READ = DangerFullAccess(), WorkspaceWrite(), ReadOnly()
words = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)


# ------------------------------------------------------------------ scripts


@pytest.mark.parametrize(
    ("script", "commands"),
    [
        ("ls", (("ls",),)),
        (
            "cat a | wc -l && echo 'x y' ; pwd",
            (("cat", "a"), ("wc", "-l"), ("echo", "x y"), ("pwd",)),
        ),
        ("ls\npwd\n", (("ls",), ("pwd",))),
        ('echo "a b"c', (("echo", "a bc"),)),
        ("echo '$HOME'", (("echo", "$HOME"),)),
    ],
)
def test_plain_scripts_are_read(script: str, commands: object):
    assert plain_commands(script) == commands


@pytest.mark.parametrize(
    "script",
    [
        "",
        "ls > a",
        "cat < a",
        "echo $(rm a)",
        "echo `rm a`",
        "echo $HOME",
        'echo "$(rm a)"',
        "ls *",
        "ls & rm a",
        "(ls)",
        "{ ls; }",
        "A=1 ls",
        "ls \\\n; rm a",
        "ls # rm",
        "if true; then rm a; fi",
        "eval ls",
        "ls &&",
        "&& ls",
        "echo 'open",
        "ls ~",
        "echo a; ; echo b |",
    ],
)
def test_whatever_a_shell_would_interpret_is_not_read(script: str):
    assert plain_commands(script) is None


@pytest.mark.parametrize(
    ("shell", "read"),
    [
        ("bash", True),
        ("/bin/sh", True),
        ("/usr/bin/zsh", True),
        ("./bash", False),
        ("/w/sh", False),
    ],
)
def test_only_shells_of_the_system_are_looked_into(shell: str, read: bool):
    assert (script_commands((shell, "-lc", "ls")) == (("ls",),)) is read


@given(st.lists(words, min_size=1, max_size=4))
def test_a_quoted_command_reads_as_its_words_or_not_at_all(command: list[str]):
    assert plain_commands(shlex.join(command)) in (None, (tuple(command),))


@given(st.text(max_size=60))
def test_any_script_can_be_looked_at(script: str):
    read = plain_commands(script)
    assert read is None or all(command for command in read)


# ------------------------------------------------------------------ safety


@pytest.mark.parametrize(
    ("command", "reads"),
    [
        ("cat a", True),
        ("find . -name a", True),
        ("find . -delete", False),
        ("find . -exec rm {} +", False),
        ("sed -n 1,5p a", True),
        ("sed -i s/a/b/ a", False),
        ("rg --pre sh a", False),
        ("rg a", True),
        ("git status", True),
        ("git log --output=a", False),
        ("git -c core.pager=sh log", False),
        ("git push", False),
        ("touch a", False),
        ("./cat a", False),
        ("sort -o a a", False),
    ],
)
def test_only_known_readers_read(command: str, reads: bool):
    assert only_reads(shlex.split(command)) is reads


@pytest.mark.parametrize(
    ("command", "deletes"),
    [
        ("rm -rf a", True),
        ("rm -f a", True),
        ("rm --force a", True),
        ("/bin/rm -fr a", True),
        ("sudo rm -rf a", True),
        ("env A=1 rm -rf a", True),
        ("rm a", False),
        ("rm -- -f", False),
        ("grep -rf a b", False),
    ],
)
def test_forced_deletes_are_known(command: str, deletes: bool):
    assert deletes_by_force(shlex.split(command)) is deletes


# ------------------------------------------------------------------ rules


def test_rules_are_read_and_the_strictest_match_counts():
    policy = ExecPolicy(
        parse_rules(
            '# mine\nprefix_rule(pattern=["git", ["status", "log"]], decision="allow")\n'
            'prefix_rule(pattern=["git"], decision="prompt")\n'
            'prefix_rule(\n    pattern=["rm"],\n    decision="forbidden",\n)\n'
        )
    )
    verdicts = [
        rule and rule.verdict
        for rule in map(policy.judge, (["git", "log"], ["/usr/bin/rm", "a"], ["./rm"], ["ls"]))
    ]
    assert verdicts == ["prompt", "forbidden", None, None]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import os", 1),
        ("\nprefix_rule(pattern=[])", 2),
        ('prefix_rule(["a"])', 1),
        ('prefix_rule(pattern=["a"], decision="maybe")', 1),
        ('prefix_rule(pattern=["a"], color="red")', 1),
        ("prefix_rule(pattern=[__import__('os')])", 1),
        ('network_rule(host="a")', 1),
        ("prefix_rule(", 1),
    ],
)
def test_anything_but_plain_rules_is_refused_with_its_line(text: str, line: int):
    with pytest.raises(RuleError, match=f"line {line}"):
        parse_rules(text)


@given(st.lists(words, min_size=1, max_size=4))
def test_a_kept_prefix_reads_back_and_matches_what_begins_with_it(prefix: list[str]):
    [rule] = parse_rules(allow_line(prefix))
    assert rule.matches([*prefix, "more"])
    assert not rule.matches(prefix[:-1])


# ------------------------------------------------------------------ decisions


def decide(script: str, policy: object, sandbox: object, rules: str = "", **more: object):
    request = CommandRequest(argv=("/bin/bash", "-lc", script), cwd="/w", **more)
    return decide_command(request, policy, sandbox, ExecPolicy(parse_rules(rules)))


GRANULAR = {"granular": {"sandbox_approval": True, "rules": False, "mcp_elicitations": True}}


@pytest.mark.parametrize(
    ("script", "policy", "sandbox", "escalated", "kind"),
    [
        ("touch a", "on-request", WORKSPACE, False, RunSandboxed),
        ("touch a", "on-request", READ, False, RunSandboxed),
        ("touch a", "on-request", WORKSPACE, True, Ask),
        ("touch a", "on-request", FULL, True, RunSandboxed),
        ("touch a", "on-failure", WORKSPACE, True, Ask),
        ("touch a", "never", WORKSPACE, False, RunSandboxed),
        ("touch a", "never", WORKSPACE, True, Refuse),
        ("touch a", "never", FULL, True, RunSandboxed),
        ("touch a", GRANULAR, WORKSPACE, True, Ask),
        ("touch a", {"granular": {"sandbox_approval": False}}, WORKSPACE, True, Refuse),
        ("ls", "untrusted", READ, False, RunSandboxed),
        ("ls", "untrusted", READ, True, Ask),
        ("ls; touch a", "untrusted", FULL, False, Ask),
        ("ls $X", "untrusted", FULL, False, Ask),
        ("rm -rf a", "untrusted", FULL, False, Ask),
        ("rm -rf a", "on-request", FULL, False, Ask),
        ("ls && rm -rf a", "never", FULL, False, Refuse),
        ("rm -rf a", "never", WORKSPACE, False, Refuse),
    ],
)
def test_decisions_follow_policy_sandbox_and_request(
    script: str, policy: object, sandbox: object, escalated: bool, kind: type
):
    assert isinstance(decide(script, policy, sandbox, escalated=escalated), kind)


@pytest.mark.parametrize(
    ("script", "policy", "rule", "kind"),
    [
        ("touch a", "untrusted", "allow", RunFree),
        ("touch a; ls", "untrusted", "allow", RunFree),
        ("touch a; mkdir b", "untrusted", "allow", Ask),
        ("touch a; mkdir b", "on-request", "allow", RunSandboxed),
        ("touch a", "on-request", "prompt", Ask),
        ("touch a", "never", "prompt", Refuse),
        ("touch a", GRANULAR, "prompt", Refuse),
        ("ls && touch a", "on-request", "forbidden", Refuse),
        ("touch a", "untrusted", "forbidden", Refuse),
    ],
)
def test_rules_decide_before_the_policy(script: str, policy: object, rule: str, kind: type):
    rules = f'prefix_rule(pattern=["touch"], decision="{rule}")'
    assert isinstance(decide(script, policy, WORKSPACE, rules), kind)


@pytest.mark.parametrize(
    ("script", "prefix", "proposed"),
    [
        ("touch a", None, ("touch", "a")),
        ("npm run build", ("npm", "run"), ("npm", "run")),
        ("npm run build", ("yarn",), ("npm", "run", "build")),
        ("python x.py", ("python",), ("python", "x.py")),
        ("bash", None, None),
        ("touch a; touch b", None, None),
        ("touch $X", None, None),
    ],
)
def test_only_a_fitting_and_narrow_prefix_is_proposed(
    script: str, prefix: tuple[str, ...] | None, proposed: tuple[str, ...] | None
):
    decision = decide(script, "untrusted", WORKSPACE, prefix=prefix)
    assert isinstance(decision, Ask)
    assert decision.amendment == proposed


@given(st.text(max_size=40), st.sampled_from([FULL, WORKSPACE, READ]), st.booleans())
def test_never_asks_nothing_and_lets_nothing_out_of_the_sandbox(
    script: str, sandbox: object, escalated: bool
):
    decision = decide(script, "never", sandbox, escalated=escalated)
    assert isinstance(decision, RunSandboxed | Refuse)


@pytest.mark.parametrize(
    ("policy", "inside", "remembered", "kind"),
    [
        ("untrusted", True, False, Ask),
        ("untrusted", True, True, RunFree),
        ("on-request", True, False, RunFree),
        ("on-request", False, False, Ask),
        ("never", False, False, Refuse),
        ("never", True, False, RunFree),
    ],
)
def test_patches_are_asked_about_where_they_leave_the_sandbox(
    policy: str, inside: bool, remembered: bool, kind: type
):
    decision = decide_patch(policy, inside=inside, refusal="no", remembered=remembered)
    assert isinstance(decision, kind)


# ------------------------------------------------------------------ grants


def test_grants_of_a_turn_end_with_it_and_widen_only_what_can_be_widened():
    grants = Grants()
    grants.add(Granted(write=("/a",), network=True), "t1")
    grants.add(Granted(write=("/b",)), None)
    assert grants.widen(WORKSPACE, "t1") == WorkspaceWrite(
        writable_roots=("/b", "/a"), network_access=True
    )
    assert grants.widen(WORKSPACE, "t2") == WorkspaceWrite(writable_roots=("/b",))
    assert grants.widen(READ, "t1") == ReadOnly(network_access=True)
    assert grants.widen(FULL, "t1") == FULL
