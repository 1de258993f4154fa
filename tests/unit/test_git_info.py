from pathlib import Path

import pytest

from treadle.engine.services.git_info import read_git_info

COMMIT = "a" * 40


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git = tmp_path / "repo" / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text(COMMIT + "\n")
    (git / "config").write_text(
        '[core]\n\tbare = false\n[remote "origin"]\n\turl = https://example.org/r.git\n'
    )
    return tmp_path / "repo"


def test_a_repository_tells_commit_branch_and_origin(repository: Path):
    assert read_git_info(str(repository)) == {
        "sha": COMMIT,
        "branch": "main",
        "originUrl": "https://example.org/r.git",
    }


def test_a_folder_below_belongs_to_the_repository(repository: Path):
    deep = repository / "a" / "b"
    deep.mkdir(parents=True)
    assert (read_git_info(str(deep)) or {})["sha"] == COMMIT


def test_a_branch_with_slashes_keeps_its_name(repository: Path):
    (repository / ".git/HEAD").write_text("ref: refs/heads/feature/x\n")
    assert read_git_info(str(repository)) == {
        "sha": None,
        "branch": "feature/x",
        "originUrl": "https://example.org/r.git",
    }


def test_packed_references_are_found(repository: Path):
    (repository / ".git/refs/heads/main").unlink()
    packed = f"# pack-refs with: peeled\n{'b' * 40} refs/heads/main\n^{'c' * 40}\n"
    (repository / ".git/packed-refs").write_text(packed)
    assert (read_git_info(str(repository)) or {})["sha"] == "b" * 40


def test_a_detached_head_has_a_commit_and_no_branch(repository: Path):
    (repository / ".git/HEAD").write_text("d" * 40 + "\n")
    info = read_git_info(str(repository)) or {}
    assert (info["sha"], info["branch"]) == ("d" * 40, None)


def test_a_worktree_shares_references_and_origin(repository: Path, tmp_path: Path):
    own = repository / ".git/worktrees/side"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    (own / "commondir").write_text("../..\n")
    side = tmp_path / "side"
    side.mkdir()
    (side / ".git").write_text(f"gitdir: {own}\n")
    assert read_git_info(str(side)) == read_git_info(str(repository))


def test_no_repository_is_no_information(tmp_path: Path):
    assert read_git_info(str(tmp_path)) is None
    assert read_git_info(str(tmp_path / "missing")) is None


@pytest.mark.parametrize("config", [b"[remote", b"\xff\xfe", b'[remote "origin"]\nurl\n', b""])
def test_a_broken_configuration_costs_the_origin_alone(repository: Path, config: bytes):
    (repository / ".git/config").write_bytes(config)
    info = read_git_info(str(repository)) or {}
    assert info["sha"] == COMMIT
    assert info["originUrl"] is None


def test_a_head_that_cannot_be_read_is_no_information(repository: Path):
    (repository / ".git/HEAD").unlink()
    assert read_git_info(str(repository)) is None


def test_a_git_file_that_points_nowhere_is_no_information(tmp_path: Path):
    (tmp_path / ".git").write_text("gitdir: /nowhere/at/all\n")
    assert read_git_info(str(tmp_path)) is None


def test_a_head_that_is_no_text_breaks_nothing(repository: Path):
    (repository / ".git/HEAD").write_bytes(b"ref: refs/heads/\xff\n")
    info = read_git_info(str(repository)) or {}
    assert info["sha"] is None
