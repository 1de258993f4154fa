"""Turns configuration into plans for threads: the engine's `Planner`.

Reads the configuration of the moment for each thread, picks the provider's client and the tools.
The only place where settings of configuration become settings of a thread.
"""

import os
import pwd
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from treadle.cli.wiring.mcp import McpWiring
from treadle.cli.wiring.models import ModelClients
from treadle.cli.wiring.sandboxes import Sandboxes
from treadle.cli.wiring.toolset import Toolset
from treadle.cli.wiring.version import VERSION
from treadle.config.agents_md import read_agents_md
from treadle.config.errors import ConfigError
from treadle.config.settings import Config
from treadle.config.skills import SkillBook
from treadle.config.store import ConfigStore
from treadle.domain.policy import Settings, sandbox_from_mode
from treadle.engine.agent.agent_thread import ModelTraits
from treadle.engine.model import catalog
from treadle.engine.services.planning import (
    AgentLimits,
    Overrides,
    PlanRejected,
    ThreadPlan,
)
from treadle.engine.tools.command_env import (
    CommandIdentity,
    ShellEnvironmentPolicy,
    command_environment,
)


def make_planner(
    config: ConfigStore,
    skills: SkillBook,
    installation_id: str | None,
    record_to: Path | None,
    mcp: McpWiring,
    sandboxes: Sandboxes,
) -> tuple["ConfigPlanner", Callable[[], Awaitable[None]]]:
    """A planner over `config`, and what closes the model clients it makes."""
    models = ModelClients(installation_id, record_to)
    toolset = Toolset(_shell(), mcp)
    planner = ConfigPlanner(config, skills, models, toolset, sandboxes)

    async def close() -> None:
        await toolset.close()
        await models.close()

    return planner, close


def _shell() -> str:
    """The user's shell where it is a POSIX one that the tools know, else bash or sh."""
    try:
        named = pwd.getpwuid(os.getuid()).pw_shell
    except KeyError:
        named = ""
    for candidate in (named, "/bin/bash", "/bin/sh"):
        if Path(candidate).name in ("bash", "zsh", "sh") and Path(candidate).exists():
            return candidate
    return "/bin/sh"


class ConfigPlanner:
    """Plans threads from a `ConfigStore`."""

    def __init__(
        self,
        config: ConfigStore,
        skills: SkillBook,
        models: ModelClients,
        toolset: Toolset,
        sandboxes: Sandboxes,
    ) -> None:
        self._config = config
        self._skills = skills
        self._models = models
        self._toolset = toolset
        self._sandboxes = sandboxes

    def plan(self, overrides: Overrides, sealed: Settings | None) -> ThreadPlan:
        """The plan for a thread (see `Planner.plan`)."""
        cwd = self._folder(overrides, sealed)
        try:
            config = self._config.snapshot(cwd, _as_config(overrides, sealed))
        except ConfigError as error:
            raise PlanRejected(str(error)) from error
        settings = _settings(config, overrides, sealed, cwd)
        prompt = config.prompt
        document = read_agents_md(
            self._config.home,
            Path(cwd),
            root_markers=prompt.root_markers,
            fallback_names=prompt.doc_fallback_names,
            max_bytes=prompt.doc_max_bytes,
        )
        given = _as_config(overrides, sealed)
        make_env = self._environment_maker(config)
        sandbox = self._sandboxes.of(config.safety.sandbox_backend)
        toolbox = self._toolset.make(
            config,
            lambda: self._config.snapshot(cwd, given),
            lambda logins: logins.find(make_env("", ""), sandbox, settings.sandbox),
            has_environment=overrides.has_environment,
        )
        return ThreadPlan(
            settings=settings,
            base_instructions=overrides.base_instructions or prompt.instructions,
            developer_instructions=(
                overrides.developer_instructions or prompt.developer_instructions
            ),
            project_doc=document.text,
            instruction_sources=tuple(str(path) for path in document.sources),
            make_env=make_env,
            shell=Path(self._toolset.shell).name,
            shell_path=self._toolset.shell,
            home=str(self._config.home),
            skills=self._skills.read(settings.cwd).usable,
            timezone=_timezone(self._config.environment.variables),
            model=self._models.client(config.model.provider),
            tools=toolbox.tools,
            close_tools=toolbox.close,
            mcp=toolbox.servers,
            sessions=toolbox.sessions,
            remembers=toolbox.remembers,
            warnings=toolbox.warnings,
            sandbox=sandbox,
            traits=self._traits(settings, config),
            unload_delay_seconds=float(config.store.unload_delay_seconds),
            config=dict(overrides.config),
            switches_steps=config.feature("step_model_switching"),
            agents=_agent_limits(config),
            budget=config.budget,
        )

    def _environment_maker(self, config: Config) -> Callable[[str, str], dict[str, str]]:
        given = config.shell_environment
        policy = ShellEnvironmentPolicy(
            inherit=given.inherit,
            ignore_default_excludes=given.ignore_default_excludes,
            exclude=given.exclude,
            include_only=given.include_only,
            set=dict(given.set),
        )

        def make(session_id: str, thread_id: str) -> dict[str, str]:
            identity = CommandIdentity(
                home=str(self._config.home),
                version=VERSION,
                session_id=session_id,
                thread_id=thread_id,
            )
            return command_environment(self._config.environment.variables, policy, identity)

        return make

    def _folder(self, overrides: Overrides, sealed: Settings | None) -> str:
        base = self._config.environment.working_folder
        if overrides.cwd is not None:
            return str((base / overrides.cwd).absolute())
        return sealed.cwd if sealed else str(base)

    def traits(self, settings: Settings) -> ModelTraits:
        """What the catalog, and configuration over it, say of the model in `settings`."""
        return self._traits(settings, self._config.startup())

    def _traits(self, settings: Settings, config: Config) -> ModelTraits:
        known = catalog.find_model(settings.model, window_tokens=config.model.context_window_tokens)
        reasoning: dict[str, Any] = dict(known.reasoning)
        if config.model.summary is not None:
            reasoning["summary"] = config.model.summary
        verbosity = config.model.verbosity or known.verbosity
        return ModelTraits(
            context_window=known.usable_window_tokens,
            reasoning=reasoning,
            text={"verbosity": verbosity} if verbosity else None,
            parallel_tool_calls=known.parallel_tool_calls,
            compact_at_tokens=config.model.auto_compact_tokens or known.compact_at_tokens,
            compact_prompt=config.prompt.compact_prompt,
        )


def _agent_limits(config: Config) -> AgentLimits | None:
    agents = config.agents
    if not agents.enabled:
        return None
    return AgentLimits(max_threads=agents.max_threads, max_depth=agents.max_depth)


def _as_config(overrides: Overrides, sealed: Settings | None) -> dict[str, Any]:
    """The overrides as configuration, so that they are checked as configuration is."""
    table: dict[str, Any] = dict(overrides.config)
    provider = overrides.model_provider or (sealed.model_provider if sealed else None)
    if provider is not None:
        table["model_provider"] = provider
    if overrides.model is not None:
        table["model"] = overrides.model
    if overrides.sandbox is not None:
        table["sandbox_mode"] = overrides.sandbox
    if overrides.approval_policy is not None:
        table["approval_policy"] = overrides.approval_policy
    return table


def _settings(config: Config, overrides: Overrides, sealed: Settings | None, cwd: str) -> Settings:
    """Explicit overrides win over what the thread was sealed with, and that over configuration."""
    safety, model = config.safety, config.model
    fresh = Settings(
        model=model.model or catalog.DEFAULT_MODEL,
        model_provider=model.provider.id,
        cwd=cwd,
        approval_policy=safety.approval_policy,
        sandbox=safety.sandbox,
        approvals_reviewer=overrides.approvals_reviewer or safety.approvals_reviewer,
        effort=model.effort,
        summary=model.summary,
        service_tier=overrides.service_tier or model.service_tier,
        workspace_roots=overrides.workspace_roots or (),
        personality=overrides.personality or model.personality,
    )
    if sealed is None:
        return fresh
    kept = msgspec.structs.replace(sealed, cwd=cwd)
    explicit: dict[str, Any] = {}
    if overrides.model is not None or "model" in overrides.config:
        explicit |= {"model": fresh.model, "effort": fresh.effort}
    if overrides.model_provider is not None:
        explicit["model_provider"] = fresh.model_provider
    if overrides.approval_policy is not None or "approval_policy" in overrides.config:
        explicit["approval_policy"] = fresh.approval_policy
    if overrides.sandbox is not None:
        explicit["sandbox"] = sandbox_from_mode(overrides.sandbox, safety.workspace)
    for name in ("approvals_reviewer", "service_tier", "workspace_roots", "personality"):
        if getattr(overrides, name) is not None:
            explicit[name] = getattr(overrides, name)
    return msgspec.structs.replace(kept, **explicit)


def _timezone(variables: Mapping[str, str]) -> str:
    """The zone's name, as far as it can be told without asking the system."""
    named = variables.get("TZ")
    if named:
        return named.removeprefix(":")
    try:
        return str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2] or "Etc/UTC"
    except OSError:
        return "Etc/UTC"
