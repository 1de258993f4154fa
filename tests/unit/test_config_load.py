"""Layers, checks, places, trust and the cost-free re-reading of configuration."""

import os
from pathlib import Path
from typing import Any

import pytest

from support.config_lab import Lab
from treadle.config.environment import Environment
from treadle.config.errors import ConfigError, FlagError, TextPosition
from treadle.config.key_path import flags_table, split_key_path
from treadle.config.load import load_config, read_installation_id
from treadle.config.store import ConfigStore
from treadle.domain.policy import ReadOnly, WorkspaceWrite


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def error_of(store: ConfigStore, **how: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        store.snapshot(**how)
    return caught.value


def test_layers_win_in_their_documented_order(lab: Lab) -> None:
    lab.system("config", 'model = "s"\nreview_model = "s"\nservice_tier = "s"\n')
    lab.user('model = "u"\nreview_model = "u"\n' + lab.trust())
    (lab.work / ".git").mkdir()
    lab.project('model = "p"\n')
    store = lab.store('model_verbosity="high"')
    config = store.snapshot(str(lab.work))
    assert (config.model.model, config.model.review_model) == ("p", "u")
    assert (config.model.service_tier, config.model.verbosity) == ("s", "high")
    origin = config.origin("model")
    assert origin is not None
    assert origin["name"]["type"] == "project"
    assert config.origin("model_context_window") is None
    assert store.snapshot(str(lab.work), {"model": "o"}).model.model == "o"
    lab.system("managed_config", 'model = "boss"\n')
    assert store.snapshot(str(lab.work), {"model": "o"}).model.model == "boss"


def test_tables_merge_key_by_key_and_lists_replace(lab: Lab) -> None:
    lab.system(
        "config", "[sandbox_workspace_write]\nnetwork_access = true\nwritable_roots = ['/a']"
    )
    lab.user("sandbox_mode = 'workspace-write'\n[sandbox_workspace_write]\nwritable_roots = ['/b']")
    sandbox = lab.store().snapshot().safety.sandbox
    assert sandbox == WorkspaceWrite(writable_roots=("/b",), network_access=True)


@pytest.mark.parametrize(
    ("text", "place", "reason", "kind"),
    [
        ("model = 5\n", (1, 9, 9), "invalid type: integer `5`, expected a string", "value"),
        (
            "sandbox_mode='loose'\n",
            (1, 14, 20),
            "unknown variant `loose`, expected one of `read-only`, `workspace-write`, ",
            "value",
        ),
        (
            "[features]\nmulti_agent='yes'\n",
            (2, 13, 17),
            'invalid type: string "yes", expected a boolean',
            "value",
        ),
        ("[mcp_servers.a]\nurl=5\n", (2, 5, 5), "invalid type: integer `5`, expected a", "value"),
        ("model = \n", (1, 9, 9), "Invalid value", "syntax"),
        ("[model_providers.x]\nbase_url='u'\n", (1, 2, 18), "provider name must not", "value"),
    ],
)
def test_a_fault_is_told_with_file_and_place(
    lab: Lab, text: str, place: Any, reason: str, kind: str
) -> None:
    lab.user(text)
    store = lab.store()
    error = error_of(store)
    line, first, last = place
    assert error.range is not None
    assert (error.range.start, error.range.end) == (
        TextPosition(line, first),
        TextPosition(line, last),
    )
    path = lab.home / "config.toml"
    assert str(error).startswith(f"failed to load configuration: {path}:{line}:{first}: ")
    assert reason in str(error)
    assert error.kind == kind
    (problem,) = store.problems
    assert problem.summary == "Invalid configuration; using defaults."
    assert (problem.path, problem.range) == (str(path), error.range)


def test_a_broken_file_never_stops_start_up_and_mending_needs_no_restart(lab: Lab) -> None:
    lab.user("model = \n")
    store = lab.store()
    assert store.startup().model.model is None
    error_of(store)
    lab.user('model = "x"\n')
    assert store.snapshot().model.model == "x"
    assert store.problems == ()


def test_start_up_survives_flags_that_lean_on_a_broken_file(lab: Lab) -> None:
    lab.user("model = \n")
    assert lab.store("model=x").startup().model.model == "x"
    config = lab.store('model_provider="mine"').startup()
    assert config.model.provider.id == "openai"
    assert len(config.problems) == 1


def test_an_unknown_provider_is_named(lab: Lab) -> None:
    lab.user('model_provider = "zzz"\n')
    error = error_of(lab.store())
    assert str(error) == "failed to load configuration: Model provider `zzz` not found"
    assert error.read_message == (
        "failed to resolve feature override precedence: Model provider `zzz` not found"
    )


def test_a_request_s_bad_override_names_its_key(lab: Lab) -> None:
    error = error_of(lab.store(), overrides={"model": 5})
    assert str(error) == (
        "failed to load configuration: invalid type: integer `5`, expected a string\nin `model`\n"
    )


def test_unknown_keys_are_a_warning_that_lists_them(lab: Lab) -> None:
    lab.user("bogus = 1\n[model_providers.p]\nname = 'x'\nzip = 1\n")
    (problem,) = lab.store().snapshot().problems
    assert "2 unrecognized configuration settings" in problem.summary
    assert "`model_providers.p.zip` is ignored." in problem.summary


@pytest.mark.parametrize("flag", ["model", "=x", "model=5"])
def test_a_bad_flag_stops_start_up(lab: Lab, flag: str) -> None:
    environment = Environment({"TREADLE_HOME": str(lab.home)}, lab.work)
    with pytest.raises(FlagError):
        load_config(environment, overrides=[flag])


def test_flags_take_toml_values_and_bare_words() -> None:
    table = flags_table(["a.b=[1, 2]", "model=gpt-x"], ["hooks"], ["apps"])
    assert table == {
        "a": {"b": [1, 2]},
        "model": "gpt-x",
        "features": {"hooks": True, "apps": False},
    }


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ('projects."/a.b".trust_level', ("projects", "/a.b", "trust_level")),
        ("a . 'b.c'", ("a", "b.c")),
        ("a\t.b", ("a", "b")),
    ],
)
def test_key_paths_split_at_dots_outside_of_quotes(text: str, segments: Any) -> None:
    assert split_key_path(text) == segments


@pytest.mark.parametrize("text", ["", "a..b", "a.", '"a', 'a."b"c'])
def test_key_paths_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="keyPath"):
        split_key_path(text)


@pytest.mark.parametrize(
    ("level", "sandbox", "approval"),
    [
        ("trusted", WorkspaceWrite(), "on-request"),
        ("untrusted", WorkspaceWrite(), "untrusted"),
        (None, ReadOnly(), "on-request"),
    ],
)
def test_trust_decides_where_nothing_is_configured(
    lab: Lab, level: Any, sandbox: Any, approval: Any
) -> None:
    (lab.work / ".git").mkdir()
    deep = lab.work / "deep"
    deep.mkdir()
    lab.user(lab.trust(level) if level else "")
    safety = lab.store().snapshot(str(deep)).safety
    assert (safety.sandbox, safety.approval_policy, safety.trust) == (sandbox, approval, level)


def test_an_untrusted_project_is_listed_but_does_not_count(lab: Lab) -> None:
    lab.project('model = "evil"\n')
    config = lab.store().snapshot(str(lab.work))
    assert config.model.model is None
    layer = config.stack.layers[0]
    assert layer.disabled_reason is not None
    assert str(lab.work) in layer.disabled_reason


def test_a_broken_project_file_matters_only_when_trusted(lab: Lab) -> None:
    dot = lab.project("model = \n")
    store = lab.store()
    store.snapshot(str(lab.work))
    lab.user(lab.trust())
    assert str(dot) in str(error_of(store, cwd=str(lab.work)))
    store.snapshot()


def test_a_project_cannot_choose_the_provider(lab: Lab) -> None:
    lab.user(lab.trust())
    lab.project('model = "m"\nmodel_provider = "evil"\n[model_providers.evil]\nname = "x"\n')
    config = lab.store().snapshot(str(lab.work))
    assert config.model.provider.id == "openai"
    assert config.stack.layers[0].table == {"model": "m"}
    assert any("model_provider, model_providers" in problem.summary for problem in config.problems)


def test_the_nearest_project_folder_wins(lab: Lab) -> None:
    (lab.work / ".git").mkdir()
    lab.user(lab.trust())
    lab.project('model = "top"\nreview_model = "top"\n')
    lab.project('model = "sub"\n', "sub")
    model = lab.store().snapshot(str(lab.work / "sub")).model
    assert (model.model, model.review_model) == ("sub", "top")


def test_a_change_of_equal_size_is_seen_at_once(lab: Lab) -> None:
    lab.user('model = "a"\n')
    store = lab.store()
    for name in "bcdefgh":
        lab.user(f'model = "{name}"\n')
        assert store.snapshot().model.model == name


def test_an_unchanged_snapshot_is_the_same_object(lab: Lab) -> None:
    lab.user('model = "a"\n')
    os.utime(lab.home / "config.toml", (1, 1))
    store = lab.store()
    assert store.snapshot(str(lab.work)) is store.snapshot(str(lab.work))


def test_providers_resolve_their_keys_from_the_environment(lab: Lab) -> None:
    lab.user(
        'model_provider = "p"\n[model_providers.p]\nname = "P"\nenv_key = "KEY"\n'
        'env_key_instructions = "Ask."\nenv_http_headers = { X-A = "A", X-B = "B" }\n'
    )
    provider = lab.store(A="1").snapshot().model.provider
    assert (provider.bearer, provider.missing_env) == (None, "KEY")
    assert provider.missing_env_message == "Missing environment variable: `KEY`. Ask."
    assert provider.headers == {"X-A": "1"}
    found = lab.store(KEY="sesame").snapshot().model.provider
    assert (found.bearer, found.missing_env) == ("sesame", None)
    assert "sesame" not in repr(found)


def test_a_stored_login_goes_only_to_who_asks_for_it(lab: Lab) -> None:
    (lab.home / "auth.json").write_text('{"OPENAI_API_KEY": "sk-x"}')
    lab.user(
        '[model_providers.a]\nname = "A"\n[model_providers.b]\nname = "B"\n'
        "requires_openai_auth = true\n"
    )
    providers = lab.store().snapshot().providers
    assert [providers[name].bearer for name in ("a", "b", "openai")] == [None, "sk-x", "sk-x"]
    (lab.home / "auth.json").write_text("not json")
    assert lab.store().snapshot().providers["b"].bearer is None


def test_a_profile_overlays_the_user_s_file(lab: Lab) -> None:
    lab.user('model = "base"\nreview_model = "base"\n')
    (lab.home / "fast.config.toml").write_text('model = "fast"\n')
    model = lab.store(profile="fast").snapshot().model
    assert (model.model, model.review_model) == ("fast", "base")
    assert "`slow` not found" in str(error_of(lab.store(profile="slow")))


def test_requirements_clamp_and_say_so(lab: Lab) -> None:
    lab.system(
        "requirements",
        'allowed_approval_policies = ["on-request"]\nallowed_sandbox_modes = ["read-only"]\n'
        "[features]\ngoals = false\n",
    )
    lab.user('approval_policy = "never"\n[features]\ngoals = true\n' + lab.trust())
    config = lab.store().snapshot(str(lab.work))
    assert config.safety.approval_policy == "on-request"
    assert config.safety.sandbox == ReadOnly()
    assert config.features == {"goals": False}
    (problem,) = config.problems
    assert "`approval_policy`" in problem.summary
    assert "requirements.toml" in problem.summary


def test_requirements_that_are_not_understood_close_the_door(lab: Lab) -> None:
    lab.system("requirements", 'allowed_approval_policies = ["whenever"]\n')
    error = error_of(lab.store())
    assert "requirements.toml:1:" in str(error)
    assert "requirements.toml" in error.read_message


def test_variables_have_twins_and_our_own_wins() -> None:
    twins = {"AGENTRUN_CODEX_SHELL_SANDBOX": "a"}
    found = Environment(twins, Path("/")).find("TREADLE_CODEX_SHELL_SANDBOX")
    assert found is not None
    assert (found.value, found.name) == ("a", "AGENTRUN_CODEX_SHELL_SANDBOX")
    both = Environment({**twins, "TREADLE_CODEX_SHELL_SANDBOX": "t"}, Path("/"))
    assert both.get("TREADLE_CODEX_SHELL_SANDBOX") == "t"


@pytest.mark.parametrize(
    ("variables", "home"),
    [
        ({"TREADLE_HOME": "/t", "CODEX_HOME": "/c"}, "/t"),
        ({"CODEX_HOME": "/c"}, "/c"),
        ({"HOME": "/u"}, "/u/.treadle"),
    ],
)
def test_the_home_folder_has_one_order_of_names(variables: Any, home: str) -> None:
    assert Environment(variables, Path("/w")).home_folder() == Path(home)


def test_the_installation_id_is_made_once_and_private(lab: Lab) -> None:
    first = read_installation_id(lab.home)
    assert first == read_installation_id(lab.home)
    assert (lab.home / "installation_id").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in lab.home.iterdir()] == ["installation_id"]


def test_threads_close_at_once_unless_configured(lab: Lab) -> None:
    assert lab.store().snapshot().store.unload_delay_seconds == 0
    lab.user('thread_unload_delay_secs = 60\nexperimental_thread_store = {type="in_memory",id="x"}')
    store = lab.store().snapshot().store
    assert (store.unload_delay_seconds, store.kind, store.id) == (60, "in_memory", "x")


def test_a_flag_for_a_feature_that_does_not_exist_is_refused_with_the_nearest_name():
    with pytest.raises(FlagError, match=r"`goal`; did you mean `goals`\?"):
        flags_table((), enable=["goal"])
    with pytest.raises(FlagError, match=r"no feature `zzzz`$"):
        flags_table((), disable=["zzzz"])


def test_an_unknown_feature_in_a_file_is_a_warning_that_names_it(lab: Lab):
    lab.user("[features]\ngoals = true\nno_such = true\n")
    (problem,) = lab.store().problems
    assert "`features.no_such`" in problem.summary
    assert "goals" not in problem.summary
