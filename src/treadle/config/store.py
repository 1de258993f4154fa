"""The configuration of a process: its layers, read anew whenever their files changed.

`ConfigStore.snapshot` is the effective configuration of one moment and costs some stat calls while
nothing changes. What the values mean, which layer wins and what is valid is decided in the pure
modules beside this one.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from treadle.config.environment import Environment
from treadle.config.errors import ConfigError, ConfigProblem, FlagError
from treadle.config.files import FileReader, Reading
from treadle.config.key_path import dotted_table, merge
from treadle.config.keys import ROOT
from treadle.config.layers import Layer, Stack, make_layer, merge_layers
from treadle.config.logins import FILE_NAME as LOGIN_FILE
from treadle.config.logins import Login, read_login
from treadle.config.projects import find_root, folder_chain, project_layers, trust_of
from treadle.config.providers import DEFAULT_PROVIDER, check_providers, read_providers
from treadle.config.requirements import Requirements, check_requirements
from treadle.config.schema import ValueFault
from treadle.config.settings import (
    DEFAULT_TERMINAL_WAIT_MS,
    Config,
    TrustLevel,
    read_agents,
    read_budget,
    read_features,
    read_model,
    read_prompt,
    read_safety,
    read_shell_environment,
    read_store,
    read_web,
)
from treadle.config.toml_text import locate, parse_toml

SYSTEM_FOLDER = Path("/etc/codex")
_SNAPSHOTS_KEPT = 128


class ConfigStore:
    """The layers of configuration of one process, read anew whenever their files changed."""

    def __init__(
        self,
        environment: Environment,
        flags: Mapping[str, Any] | None = None,
        profile: str | None = None,
        system_folder: Path = SYSTEM_FOLDER,
    ) -> None:
        """Read nothing yet.

        Raises:
            FlagError: a flag's value is not what its key takes.
        """
        self.environment = environment
        self.home = environment.home_folder()
        self.flags: Mapping[str, Any] = flags or {}
        self.profile = profile
        self.system_folder = system_folder
        self._api_key: str | None = None
        self._switches: dict[str, bool] = {}
        self._reader = FileReader()
        self._snapshots: OrderedDict[tuple[str | None, bytes], tuple[Reading, Config]]
        self._snapshots = OrderedDict()
        try:
            ROOT.check(self.flags, (), [])
        except ValueFault as fault:
            raise FlagError(f"{fault.reason}\nin `{'.'.join(fault.key)}`\n") from fault

    def use_key(self, api_key: str | None) -> None:
        """Put `api_key`, if there is one, before the key of a stored login."""
        self._api_key = api_key
        self._snapshots.clear()

    def switch(self, features: Mapping[str, bool]) -> None:
        """Switch features for this process where no file and no flag says otherwise."""
        self._switches.update(features)
        self._snapshots.clear()

    @property
    def user_file(self) -> Path:
        """The user's file, the only one that requests may write."""
        return self.home / "config.toml"

    @property
    def problems(self) -> tuple[ConfigProblem, ...]:
        """What is wrong at the moment, for warnings at start-up; empty when all is well."""
        try:
            return self.snapshot().problems
        except ConfigError as error:
            return (error.as_problem(),)

    def snapshot(
        self, cwd: str | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Config:
        """The effective configuration now, for a working folder and a request's overrides.

        `overrides` has configuration's names, dotted if need be, and counts as session flags.

        Raises:
            ConfigError: a file or a value is unusable; its text is fit to be answered.
        """
        key = (cwd, msgspec.json.encode(overrides or {}, order="deterministic", enc_hook=str))
        cached = self._snapshots.get(key)
        if cached is not None and self._reader.is_current(cached[0]):
            self._snapshots.move_to_end(key)
            return cached[1]
        reading = self._reader.start()
        config = self._build(reading, cwd, dotted_table(overrides or {}))
        self._snapshots[key] = (reading, config)
        while len(self._snapshots) > _SNAPSHOTS_KEPT:
            self._snapshots.popitem(last=False)
        return config

    def startup(self) -> Config:
        """As `snapshot`, but the defaults (under the flags) when the files are unusable."""
        try:
            return self.snapshot()
        except ConfigError as error:
            problems = (error.as_problem(),)
        try:
            return self._defaults(self.flags, problems)
        except ConfigError:
            # The flags lean on the unusable files, by naming a provider of theirs for instance.
            return self._defaults({}, problems)

    def _defaults(self, flags: Mapping[str, Any], problems: tuple[ConfigProblem, ...]) -> Config:
        stack = Stack((make_layer({"type": "sessionFlags"}, flags),))
        return self._assemble(self._reader.start(), None, stack, Requirements(), problems=problems)

    def requirements(self) -> Requirements:
        """The administrator's limits now.

        Raises:
            ConfigError: the file exists and is not understood.
        """
        return self._requirements(self._reader.start())

    def stack(self, cwd: str | None = None, overrides: Mapping[str, Any] | None = None) -> Stack:
        """The layers now, unchecked, highest first.

        Raises:
            ConfigError: one of the files is no TOML.
        """
        reading = self._reader.start()
        return self._stack(reading, cwd, dotted_table(overrides or {}))[0]

    def trust(self, cwd: str) -> TrustLevel | None:
        """What the user says of a folder, its project or its repository; None for nothing.

        Raises:
            ConfigError: one of the files is no TOML.
        """
        return self._stack(self._reader.start(), cwd, {})[1]

    def read_text(self, path: Path) -> str | None:
        """A file's text now; None when there is none.

        Raises:
            ConfigError: it exists and cannot be read.
        """
        return self._reader.start().text(path)

    def _build(self, reading: Reading, cwd: str | None, overrides: dict[str, Any]) -> Config:
        requirements = self._requirements(reading)
        stack, trust = self._stack(reading, cwd, overrides)
        stack.check()
        try:
            return self._assemble(reading, cwd, stack, requirements, trust)
        except ConfigError as error:
            raise _placed(error, stack) from error

    def _assemble(
        self,
        reading: Reading,
        cwd: str | None,
        stack: Stack,
        requirements: Requirements,
        trust: TrustLevel | None = None,
        problems: tuple[ConfigProblem, ...] = (),
    ) -> Config:
        table = stack.effective()
        if self._switches:
            table = merge({"features": self._switches}, table)
        _refuse_retired(table)
        check_providers(table)
        providers = read_providers(table, self.environment, self._login(reading))
        provider_id = table.get("model_provider") or DEFAULT_PROVIDER
        if provider_id not in providers:
            raise ConfigError(f"Model provider `{provider_id}` not found")
        plain = read_safety(table, trust)
        defaults = {"approval_policy": str(plain.approval_policy)}
        table, replaced = requirements.apply(
            table, {**defaults, "sandbox_mode": plain.sandbox_mode}
        )
        return Config(
            home=self.home,
            cwd=Path(cwd) if cwd else None,
            model=read_model(
                table, providers[provider_id], self._path(table, "model_catalog_json")
            ),
            safety=read_safety(table, trust),
            prompt=read_prompt(table, self._instructions(reading, table)),
            shell_environment=read_shell_environment(table),
            store=read_store(table, self._path(table, "sqlite_home") or self.home),
            web=read_web(table),
            providers=MappingProxyType(providers),
            features=MappingProxyType(read_features(table)),
            terminal_max_wait_ms=table.get(
                "background_terminal_max_timeout", DEFAULT_TERMINAL_WAIT_MS
            ),
            forced_login_method=table.get("forced_login_method"),
            agents=read_agents(table),
            budget=read_budget(table),
            table=table,
            stack=stack,
            problems=(*problems, *stack.problems(), *replaced),
        )

    def _stack(
        self, reading: Reading, cwd: str | None, overrides: dict[str, Any]
    ) -> tuple[Stack, TrustLevel | None]:
        above: list[Layer] = []
        managed = self.system_folder / "managed_config.toml"
        if (text := reading.text(managed)) is not None:
            above.append(_file_layer("legacyManagedConfigTomlFromFile", managed, text))
        if flags := merge(self.flags, overrides):
            above.append(make_layer({"type": "sessionFlags"}, flags))
        below = [*self._user_layers(reading), self._system_layer(reading)]
        if cwd is None:
            return Stack((*above, *below)), None
        table = merge_layers([*above, *below])
        markers: Any = table.get("project_root_markers", [".git"])
        markers = [name for name in markers if isinstance(name, str)]
        root = find_root(reading, Path(cwd), markers)
        trust = trust_of(table.get("projects"), Path(cwd), root, find_root(reading, Path(cwd)))
        folders = folder_chain(Path(cwd), root)
        projects = project_layers(reading, folders, self.home, trust)
        return Stack((*above, *projects, *below)), trust

    def _user_layers(self, reading: Reading) -> list[Layer]:
        layers: list[Layer] = []
        if self.profile is not None:
            path = self.home / f"{self.profile}.config.toml"
            text = reading.text(path)
            if text is None:
                raise ConfigError(f"config profile `{self.profile}` not found: no file {path}")
            layers.append(_file_layer("user", path, text, profile=self.profile))
        text = reading.text(self.user_file) or ""
        layers.append(_file_layer("user", self.user_file, text, profile=None))
        return layers

    def _system_layer(self, reading: Reading) -> Layer:
        path = self.system_folder / "config.toml"
        return _file_layer("system", path, reading.text(path) or "")

    def _requirements(self, reading: Reading) -> Requirements:
        path = self.system_folder / "requirements.toml"
        text = reading.text(path)
        if text is None:
            return Requirements()
        return check_requirements(parse_toml(text, str(path)), str(path), text)

    def login(self) -> Login | None:
        """The login now: this process's own key, else the stored one if it can be read."""
        return self._login(self._reader.start())

    def _login(self, reading: Reading) -> Login | None:
        if self._api_key:
            return Login("apikey", self._api_key)
        try:
            return read_login(reading.text(self.home / LOGIN_FILE))
        except ConfigError:
            return None

    def _path(self, table: Mapping[str, Any], key: str) -> Path | None:
        value = table.get(key)
        return self.environment.expand(value, self.home) if value else None

    def _instructions(self, reading: Reading, table: Mapping[str, Any]) -> str | None:
        path = self._path(table, "model_instructions_file")
        if path is None:
            return None
        text = reading.text(path)
        if text is None or not text.strip():
            state = "not found" if text is None else "empty"
            raise ConfigError(
                f"model instructions file {path} is {state}", key=("model_instructions_file",)
            )
        return text.strip()


def _file_layer(kind: str, path: Path, text: str, **more: Any) -> Layer:
    name = {"type": kind, "file": str(path), **more}
    return make_layer(name, parse_toml(text, str(path)), text=text, path=str(path))


def _refuse_retired(table: Mapping[str, Any]) -> None:
    if name := table.get("profile"):
        raise ConfigError(
            f'legacy `profile = "{name}"` config is no longer supported;'
            f" use `--profile {name}` with `{name}.config.toml` instead"
        )
    if "experimental_thread_store_endpoint" in table:
        raise ConfigError(
            "`experimental_thread_store_endpoint` is no longer supported;"
            " remove it from config.toml and set `experimental_thread_store` instead"
        )


def _placed(error: ConfigError, stack: Stack) -> ConfigError:
    """The error with the file and place of its key, where a file has it."""
    layer = stack.origin(error.place) if error.place and error.path is None else None
    if layer is None or layer.text is None:
        return error
    return ConfigError(
        error.reason,
        kind=error.kind,
        key=error.key,
        path=layer.path,
        range=locate(layer.text, error.place),
    )
