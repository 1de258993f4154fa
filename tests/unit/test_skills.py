from pathlib import Path

from treadle.config.skills import read_skills
from treadle.domain.items import SkillInput, TextInput
from treadle.domain.skills import Skill, named_skills

DEMO = Skill("demo", "shows", "/s/demo/SKILL.md")


def write(home: Path, folder: str, text: str) -> None:
    (home / "skills" / folder).mkdir(parents=True)
    (home / "skills" / folder / "SKILL.md").write_text(text)


def test_skills_are_known_by_the_heads_of_their_files(tmp_path: Path):
    write(tmp_path, "b", '---\nname: beta\ndescription: "does b"\n---\ntext')
    write(tmp_path, "group/a", "---\ndescription: does a\n---\n")
    write(tmp_path, "odd", "no head at all")
    write(tmp_path, "open", "---\nname: never closed\n")
    found = [(skill.name, skill.description) for skill in read_skills(tmp_path)]
    assert found == [("a", "does a"), ("beta", "does b")]


def test_a_home_without_skills_has_none(tmp_path: Path):
    assert read_skills(tmp_path) == ()


def test_names_in_text_count_once_and_only_known_ones():
    text = TextInput(text="$demo and $demo, not $$demo, \\$demo, a$demo, $demos or $PATH")
    assert named_skills([text], [DEMO]) == [DEMO]


def test_a_price_names_no_skill():
    assert named_skills([TextInput(text="costs $5 or $demos")], [DEMO]) == []


def test_a_skill_input_needs_no_list():
    (found,) = named_skills([SkillInput(name="x", path="/x/SKILL.md")], [])
    assert found.path == "/x/SKILL.md"
