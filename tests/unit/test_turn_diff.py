from pathlib import Path

import pytest

from treadle.engine.tools.turn_diff import TurnDiff


@pytest.mark.parametrize(("repository", "shown"), [(True, "sub/a.txt"), (False, "a.txt")])
def test_paths_are_relative_to_the_repository_or_else_to_the_folder(
    tmp_path: Path, repository: bool, shown: str
):
    folder = tmp_path / "sub"
    folder.mkdir()
    if repository:
        (tmp_path / ".git").mkdir()
    journal = TurnDiff(str(folder))
    journal.before_change(str(folder / "a.txt"))
    (folder / "a.txt").write_text("one\n")
    assert journal.diff().startswith(f"diff --git a/{shown} b/{shown}\n")
