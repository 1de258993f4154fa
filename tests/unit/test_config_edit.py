"""Reading and writing configuration as clients do, and AGENTS.md."""

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.config_lab import Lab
from treadle.config.agents_md import read_agents_md
from treadle.config.edit import ConfigWriteError, Edit, write_config
from treadle.config.key_path import flags_table
from treadle.config.read_view import read_view, requirements_view
from treadle.config.store import ConfigStore


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def put(store: ConfigStore, key: str, value: object, strategy: Any = "replace", **more: Any):
    return write_config(store, [Edit(key, value, strategy)], **more)


def refusal(store: ConfigStore, *edits: Edit, **more: Any) -> ConfigWriteError:
    with pytest.raises(ConfigWriteError) as caught:
        write_config(store, edits, **more)
    return caught.value


def parsed(lab: Lab) -> dict:
    return tomllib.loads((lab.home / "config.toml").read_text())


def test_a_read_has_every_key_and_tells_origins(lab: Lab) -> None:
    lab.user('model = "m"\n[sandbox_workspace_write]\nwritable_roots = ["/a"]\n')
    view = read_view(lab.store("tools.web_search=true").snapshot(), include_layers=True)
    assert (view["config"]["model"], view["config"]["model_provider"]) == ("m", None)
    assert view["config"]["project_doc_max_bytes"] == 32768
    assert view["config"]["tools"] == {"web_search": None}
    assert view["config"]["sandbox_workspace_write"]["writable_roots"] == ["/a"]
    origin = view["origins"]["sandbox_workspace_write.writable_roots.0"]
    assert origin["name"]["file"] == str(lab.home / "config.toml")
    assert view["origins"]["tools.web_search"]["name"] == {"type": "sessionFlags"}
    kinds = [layer["name"]["type"] for layer in view["layers"]]
    assert kinds == ["sessionFlags", "user", "system"]
    empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert view["layers"][2]["version"] == empty
    assert "layers" not in read_view(lab.store().snapshot())


def test_limits_are_reported_in_the_protocol_s_names(lab: Lab) -> None:
    assert requirements_view(lab.store().requirements())["requirements"] is None
    lab.system("requirements", 'allowed_web_search_modes = ["cached"]\n[features]\nx = false\n')
    limits = requirements_view(lab.store().requirements())["requirements"]
    assert limits["allowedWebSearchModes"] == ["cached", "disabled"]
    assert limits["featureRequirements"] == {"x": False}


def test_a_write_keeps_comments_and_the_rest(lab: Lab) -> None:
    lab.user('# mine\nmodel = "a" # why\n\n[tui] # look\ntheme = "x"\n')
    outcome = put(lab.store(), "model", "b")
    assert (lab.home / "config.toml").read_text() == (
        '# mine\nmodel = "b" # why\n\n[tui] # look\ntheme = "x"\n'
    )
    assert outcome.reply["status"] == "ok"


def test_a_write_makes_what_is_missing_and_is_private(lab: Lab) -> None:
    store = lab.store()
    put(store, "mcp_servers.docs", {"command": "true", "env": {"A": "b", "N": None}}, "upsert")
    put(store, f'projects."{lab.work}/a.b".trust_level', "trusted")
    put(store, "not_known.to.anyone", [1, "two", {"three": 3.5}])
    put(store, "model", "late")
    assert parsed(lab) == {
        "mcp_servers": {"docs": {"command": "true", "env": {"A": "b"}}},
        "projects": {f"{lab.work}/a.b": {"trust_level": "trusted"}},
        "not_known": {"to": {"anyone": [1, "two", {"three": 3.5}]}},
        "model": "late",
    }
    assert stat.S_IMODE((lab.home / "config.toml").stat().st_mode) == 0o600
    assert [path.name for path in lab.home.iterdir()] == ["config.toml"]


def test_upsert_merges_and_replace_overwrites(lab: Lab) -> None:
    lab.user("[tui]\na = 1\n[tui.b]\nc = 1\n")
    put(lab.store(), "tui", {"b": {"d": 2}}, "upsert")
    assert parsed(lab)["tui"] == {"a": 1, "b": {"c": 1, "d": 2}}
    put(lab.store(), "tui", {"z": 1})
    assert parsed(lab)["tui"] == {"z": 1}


def test_null_removes_a_key_and_what_it_leaves_empty(lab: Lab) -> None:
    lab.user('model = "m"\n[tools]\nweb_search = true\n[tui]\na = 1\nb = 2\n')
    for key in ("tools.web_search", "tui.a", "never_was", "model.x"):
        put(lab.store(), key, None)
    assert parsed(lab) == {"model": "m", "tui": {"b": 2}}


def test_a_version_guards_against_others_changes(lab: Lab) -> None:
    lab.user('model = "a"\n')
    store = lab.store()
    first = store.snapshot().stack.layers[0].version
    second = put(store, "model", "b", expected_version=first).version
    error = refusal(store, Edit("model", "c"), expected_version=first)
    assert error.code == "configVersionConflict"
    assert write_config(store, [], expected_version=second).version == second
    origin = store.snapshot().origin("model")
    assert origin is not None
    assert origin["version"] == second


@pytest.mark.parametrize(
    ("key", "value", "telling"),
    [
        ("approval_policy", "whenever", "approval_policy"),
        ("sandbox_mode", 7, "sandbox_mode"),
        ("model", {"x": 1}, "invalid type: map, expected a string\nin `model`\n"),
        ("mcp_servers.docs", {"url": 5}, "mcp_servers"),
        ("model_providers.x.base_url", "u", "must not be empty\nin `model_providers`\n"),
        ("mcp_servers.a", {"env": {}}, "invalid transport\nin `mcp_servers.a`\n"),
        ("features.multi_agent", "yes", "features"),
        ("model_context_window", 1.5, "model_context_window"),
        ("model.x", "y", "Invalid configuration: "),
        ("", 1, "keyPath must not be empty"),
        ("tools..x", 1, "keyPath segments must not be empty"),
        ("profile", "p", "legacy"),
    ],
)
def test_a_bad_value_is_refused_and_the_whole_batch_with_it(
    lab: Lab, key: str, value: Any, telling: str
) -> None:
    lab.user('model = "a"\n')
    error = refusal(lab.store(), Edit("review_model", "ok"), Edit(key, value))
    assert error.code == "configValidationError"
    assert telling in str(error)
    assert (lab.home / "config.toml").read_text() == 'model = "a"\n'


def test_only_the_user_s_file_is_written(lab: Lab) -> None:
    error = refusal(lab.store(), Edit("model", "x"), file_path="/etc/codex/config.toml")
    assert error.code == "configLayerReadonly"


def test_a_write_goes_through_a_link(lab: Lab) -> None:
    real = lab.work / "dotfiles.toml"
    real.write_text("")
    link = lab.home / "config.toml"
    link.symlink_to(real)
    put(lab.store(), "model", "linked", file_path=str(link))
    assert link.is_symlink()
    assert tomllib.loads(real.read_text()) == {"model": "linked"}


def test_a_write_that_does_not_count_says_what_hides_it(lab: Lab) -> None:
    reply = put(lab.store('model="flag"'), "model", "mine").reply
    assert reply["status"] == "okOverridden"
    hidden = reply["overriddenMetadata"]
    assert hidden["message"] == "Overridden by session flags"
    assert hidden["overridingLayer"]["name"] == {"type": "sessionFlags"}
    assert hidden["effectiveValue"] == "flag"
    assert flags_table(['model="flag"']) == {"model": "flag"}


def test_agents_files_are_joined_from_the_general_to_the_near(lab: Lab) -> None:
    (lab.work / ".git").mkdir()
    deep = lab.work / "a" / "b"
    deep.mkdir(parents=True)
    (lab.home / "AGENTS.md").write_text("home\n")
    (lab.work / "AGENTS.md").write_text("top")
    (lab.work / "a" / "AGENTS.md").write_text("plain")
    (lab.work / "a" / "AGENTS.override.md").write_text("override")
    (deep / "CLAUDE.md").write_text("fallback")
    found = read_agents_md(lab.home, deep, fallback_names=["CLAUDE.md"])
    assert found.text == "home\n\n--- project-doc ---\n\ntop\n\noverride\n\nfallback"
    assert [path.name for path in found.sources] == [
        "AGENTS.md",
        "AGENTS.md",
        "AGENTS.override.md",
        "CLAUDE.md",
    ]


def test_agents_files_stop_at_their_size_limit(lab: Lab) -> None:
    (lab.work / "AGENTS.md").write_text("é" * 10)
    assert read_agents_md(lab.home, lab.work, max_bytes=5).text == "éé"
    assert read_agents_md(lab.home, lab.work, max_bytes=0).text is None
