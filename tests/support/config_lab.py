"""A home, a system folder and a work tree for tests of configuration."""

from pathlib import Path

from treadle.config.environment import Environment
from treadle.config.key_path import flags_table
from treadle.config.store import ConfigStore


class Lab:
    """A home, a system folder and a work tree below one temporary folder."""

    def __init__(self, top: Path) -> None:
        self.home, self.etc, self.work = top / "home", top / "etc", top / "work"
        for folder in (self.home, self.etc, self.work):
            folder.mkdir()

    def user(self, text: str) -> None:
        (self.home / "config.toml").write_text(text)

    def system(self, name: str, text: str) -> None:
        (self.etc / f"{name}.toml").write_text(text)

    def project(self, text: str, folder: str = ".") -> Path:
        dot = self.work / folder / ".codex"
        dot.mkdir(parents=True)
        (dot / "config.toml").write_text(text)
        return dot

    def trust(self, level: str = "trusted") -> str:
        return f'[projects."{self.work}"]\ntrust_level = "{level}"\n'

    def store(self, *overrides: str, profile: str | None = None, **variables: str) -> ConfigStore:
        environment = Environment({"TREADLE_HOME": str(self.home), **variables}, self.work)
        return ConfigStore(environment, flags_table(overrides), profile, self.etc)
