import pytest

from treadle.engine.tools.patch import (
    AddFile,
    DeleteFile,
    PatchError,
    UpdateFile,
    apply_hunks,
    parse_patch,
)
from treadle.engine.tools.unified_diff import unified_hunks


def wrap(*lines: str) -> str:
    return "\n".join(["*** Begin Patch", *lines, "*** End Patch"])


def patched(text: str, *lines: str) -> str:
    (change,) = parse_patch(wrap("*** Update File: f", *lines))
    assert isinstance(change, UpdateFile)
    return apply_hunks(text, change.hunks, "f")


def test_a_patch_reads_as_its_changes_in_order():
    changes = parse_patch(
        wrap(
            "*** Add File: new.txt",
            "+a",
            "+",
            "*** Delete File: gone.txt",
            "*** Update File: from.txt",
            "*** Move to: to.txt",
            "@@ def f():",
            " x",
            "-y",
            "+Y",
            "*** End of File",
        )
    )
    assert changes[:2] == [AddFile("new.txt", "a\n\n"), DeleteFile("gone.txt")]
    update = changes[2]
    assert isinstance(update, UpdateFile)
    assert (update.path, update.move_to) == ("from.txt", "to.txt")
    (hunk,) = update.hunks
    assert (hunk.context, hunk.lines, hunk.at_end) == ("def f():", (" x", "-y", "+Y"), True)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("hello", "The first line of the patch must be '*** Begin Patch'"),
        ("*** Begin Patch\n*** Add File: a\n+b", "The last line of the patch must be"),
        (wrap("nonsense"), "invalid hunk at line 2, 'nonsense' is not a valid hunk header"),
        (wrap("*** Update File: a"), "invalid hunk at line 2, Update file hunk for path 'a' is"),
        (wrap("*** Update File: a", "@@"), "Update hunk does not contain any lines"),
        (wrap("*** Update File: a", "@@", "bad"), "Unexpected line found in update hunk: 'bad'"),
    ],
)
def test_what_is_no_patch_says_where_it_fails(text: str, error: str):
    with pytest.raises(PatchError) as raised:
        parse_patch(text)
    assert error in str(raised.value)


def test_here_document_around_a_patch_is_forgiven():
    text = "<<'EOF'\n" + wrap("*** Delete File: a") + "\nEOF"
    assert parse_patch(text) == [DeleteFile("a")]


@pytest.mark.parametrize(
    ("text", "lines", "result"),
    [
        pytest.param("a\nb\nc\n", ["@@", " a", "-b", "+B", " c"], "a\nB\nc\n", id="plain"),
        pytest.param("a\nb\n", [" a", "-b", "+B"], "a\nB\n", id="no marker"),
        pytest.param("a  \nb\n", ["@@", " a", "-b", "+B"], "a  \nB\n", id="context stays as it is"),
        pytest.param("   a\nb\n", ["@@", "-a", "+A"], "A\nb\n", id="indentation"),
        pytest.param("x \u2014 \u201cy\u201d\n", ["@@", '-x - "y"', "+z"], "z\n", id="typography"),
        pytest.param("x\nf1\nx\nf2\nx\n", ["@@ f2", "-x", "+y"], "x\nf1\nx\nf2\ny\n", id="context"),
        pytest.param("a\n", ["@@", "+b"], "a\nb\n", id="addition goes to the end"),
        pytest.param("a\nb", ["@@", "-b", "+c"], "a\nc\n", id="final newline"),
        pytest.param("x\ny\nx\n", ["@@", "-x", "+z", "*** End of File"], "x\ny\nz\n", id="at end"),
        pytest.param("a\nb\n", ["@@", " a", "-b", "+c", " "], "a\nc\n", id="blank for newline"),
        pytest.param("a\n\nb\n", ["@@", " a", "", "-b", "+c"], "a\n\nc\n", id="bare blank line"),
        pytest.param("a\r\nb\r\n", ["@@", " a", "-b", "+B"], "a\r\nB\r\n", id="CRLF"),
        pytest.param(
            "a\nb\nc\nd\n", ["@@", "-a", "+A", "@@", "-d", "+D"], "A\nb\nc\nD\n", id="two hunks"
        ),
        pytest.param("x\n", ["@@", "-x"], "", id="everything removed"),
    ],
)
def test_hunks_change_a_text(text: str, lines: list[str], result: str):
    assert patched(text, *lines) == result


def test_lines_that_are_not_there_are_named():
    with pytest.raises(PatchError) as raised:
        patched("x\n", "@@", " a", "-b", "+c")
    assert str(raised.value) == "Failed to find expected lines in f:\na\nb"


def test_context_that_is_not_there_is_named():
    with pytest.raises(PatchError) as raised:
        patched("x\n", "@@ class A:", "-x", "+y")
    assert str(raised.value) == "Failed to find context 'class A:' in f"


def test_later_hunks_look_behind_earlier_ones():
    with pytest.raises(PatchError):
        patched("a\nb\n", "@@", "-b", "+B", "@@", "-a", "+A")


@pytest.mark.parametrize(
    ("old", "new", "context", "hunks"),
    [
        ("a\nb\nc\nd\ne\n", "a\nb\nX\nd\ne\n", 1, "@@ -2,3 +2,3 @@\n b\n-c\n+X\n d\n"),
        ("", "a\n", 3, "@@ -0,0 +1 @@\n+a\n"),
        ("a\n", "", 3, "@@ -1 +0,0 @@\n-a\n"),
        ("a", "a\n", 3, "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"),
        ("a\x0cb\n", "a\x0cc\n", 3, "@@ -1 +1 @@\n-a\x0cb\n+a\x0cc\n"),
        ("same\n", "same\n", 3, ""),
    ],
)
def test_hunks_between_texts_are_as_diff_writes_them(old: str, new: str, context: int, hunks: str):
    assert unified_hunks(old, new, context) == hunks
