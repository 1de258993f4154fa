from pathlib import Path

import pytest

from treadle.config.environment import Environment
from treadle.config.skills import SkillBook, SkillList
from treadle.config.store import ConfigStore
from treadle.domain.items import SkillInput, TextInput
from treadle.domain.skills import Skill, named_skills

DEMO = Skill("demo", "shows", "/s/demo/SKILL.md")


def write(home: Path, folder: str, text: str) -> None:
    (home / "skills" / folder).mkdir(parents=True)
    (home / "skills" / folder / "SKILL.md").write_text(text)


def read(home: Path, cwd: Path | None = None) -> SkillList:
    environment = Environment({"TREADLE_HOME": str(home), "HOME": str(home / "person")}, home)
    store = ConfigStore(environment, system_folder=home / "etc")
    return SkillBook(store).read(None if cwd is None else str(cwd))


def test_skills_are_known_by_the_heads_of_their_files(tmp_path: Path):
    write(tmp_path, "b", '---\nname: beta\ndescription: "does b"\n---\ntext')
    write(tmp_path, "group/a", "---\ndescription: >\n  does\n  a\n---\n")
    write(tmp_path, ".hidden/c", "---\ndescription: unseen\n---\n")
    skills = read(tmp_path)
    assert [(skill.name, skill.description) for skill in skills.usable] == [
        ("a", "does a"),
        ("beta", "does b"),
    ]
    assert skills.faults == ()


BAD_HEADS = {
    "no head at all": "missing YAML frontmatter",
    "---\nname: never closed\n": "missing YAML frontmatter",
    "---\nname: [oops\n---\n": "invalid YAML",
    "---\n- a\n- b\n---\n": "missing field `description`",
    "---\nname: x\ndescription: 3\n---\n": "missing field `description`",
    f"---\ndescription: {'y' * 1025}\n---\n": "exceeds maximum length of 1024",
    f"---\ndescription: y\nname: {'n' * 65}\n---\n": "exceeds maximum length of 64",
}


@pytest.mark.parametrize("text", BAD_HEADS)
def test_a_file_that_is_no_skill_says_why(tmp_path: Path, text: str):
    write(tmp_path, "odd", text)
    skills = read(tmp_path)
    assert skills.found == ()
    assert [fault.path for fault in skills.faults] == [str(tmp_path / "skills/odd/SKILL.md")]
    assert BAD_HEADS[text] in skills.faults[0].message


def test_a_home_without_skills_has_none(tmp_path: Path):
    assert read(tmp_path) == SkillList((), ())


def test_the_nearest_of_equal_names_is_offered(tmp_path: Path):
    repository = tmp_path / "repo"
    (repository / ".git").mkdir(parents=True)
    near = repository / ".agents" / "skills" / "same"
    near.mkdir(parents=True)
    (near / "SKILL.md").write_text("---\ndescription: near\n---\n")
    write(tmp_path, "same", "---\ndescription: far\n---\n")
    write(tmp_path, ".system/other", "---\ndescription: of a program\n---\n")
    skills = read(tmp_path, repository / "sub")
    assert [found.scope for found in skills.found] == ["repo", "user", "system"]
    assert [skill.description for skill in skills.usable] == ["of a program", "near"]


def test_names_in_text_count_once_and_only_known_ones():
    text = TextInput(text="$demo and $demo, not $$demo, \\$demo, a$demo, $demos or $PATH")
    assert named_skills([text], [DEMO]) == [DEMO]


def test_a_price_names_no_skill():
    assert named_skills([TextInput(text="costs $5 or $demos")], [DEMO]) == []


def test_a_skill_input_needs_no_list():
    (found,) = named_skills([SkillInput(name="x", path="/x/SKILL.md")], [])
    assert found.path == "/x/SKILL.md"
