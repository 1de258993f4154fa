"""Credentials reach the agent's home privately, or the run is blocked."""

import json
from pathlib import Path

import pytest

from treadle.runner.home import SecretUnavailable, keep_threads, prepare_home


def source(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "mounted"
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)
    return folder


AUTH = json.dumps(
    {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": "sk-canary-value",
        "tokens": {"id_token": "nested-canary"},
    }
)
CONFIG = """
model = "m1"
[model_providers.x]
env_key = "NAME_OF_VARIABLE"
experimental_bearer_token = "bearer-canary"
http_headers = { X-Trace = "header-canary" }
"""


def test_files_are_copied_privately(tmp_path: Path) -> None:
    mounted = source(tmp_path, auth_json=AUTH, config_toml=CONFIG)
    home = prepare_home(tmp_path / "home", mounted, profile="codex", required=["auth.json"])
    assert home.path.stat().st_mode & 0o777 == 0o700
    copied = sorted(path.name for path in home.path.iterdir())
    assert copied == ["auth.json", "config.toml"]
    assert all((home.path / name).stat().st_mode & 0o777 == 0o600 for name in copied)


def test_every_secret_value_is_known_and_no_other(tmp_path: Path) -> None:
    mounted = source(tmp_path, auth_json=AUTH, config_toml=CONFIG)
    home = prepare_home(tmp_path / "home", mounted, profile="codex", required=[])
    assert set(home.secrets) == {
        "sk-canary-value",
        "nested-canary",
        "bearer-canary",
        "header-canary",
    }


def test_a_file_that_the_secret_lost_does_not_stay_in_the_home(tmp_path: Path) -> None:
    mounted = source(tmp_path, auth_json=AUTH, config_toml=CONFIG)
    prepare_home(tmp_path / "home", mounted, profile="x", required=None)
    (mounted / "auth.json").unlink()
    home = prepare_home(tmp_path / "home", mounted, profile="x", required=None)
    assert not (home.path / "auth.json").exists()


@pytest.mark.parametrize(
    ("profile", "required", "missing"),
    [
        ("codex", ["auth.json"], "config.toml"),
        ("dsflash-go", [], "config.toml"),
        ("own", ["extra.key"], "extra.key"),
        ("own", ["../../etc/passwd"], "passwd"),
    ],
)
def test_a_missing_file_is_named(
    tmp_path: Path, profile: str, required: list[str], missing: str
) -> None:
    mounted = source(tmp_path, auth_json=AUTH)
    with pytest.raises(SecretUnavailable, match=missing):
        prepare_home(tmp_path / "home", mounted, profile=profile, required=required)
    assert not (tmp_path / "home").exists()


def test_a_run_without_a_named_credential_uses_what_is_there(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "home", None, profile="codex", required=None)
    assert home.path.is_dir()
    assert home.facts == {"name": "codex"}


@pytest.mark.parametrize("key", ["slug", "id"])
def test_the_context_window_of_the_configured_model_is_told(tmp_path: Path, key: str) -> None:
    models = [{key: "m0", "context_window": 5}, {key: "m1", "contextWindow": 1_000_000}]
    mounted = source(tmp_path, auth_json=AUTH, config_toml=CONFIG)
    (mounted / "model-catalog.json").write_text(json.dumps({"models": models}))
    home = prepare_home(tmp_path / "home", mounted, profile="dsflash-go", required=None)
    assert home.facts == {"name": "dsflash-go", "model": "m1", "contextWindow": 1_000_000}


def test_a_config_that_is_no_toml_is_the_backends_to_complain_about(tmp_path: Path) -> None:
    mounted = source(tmp_path, auth_json=AUTH, config_toml="= nonsense")
    home = prepare_home(tmp_path / "home", mounted, profile="codex", required=[])
    assert home.facts == {"name": "codex"}


def test_threads_are_kept_elsewhere_than_credentials(tmp_path: Path) -> None:
    mounted, volume = source(tmp_path, auth_json=AUTH, config_toml=CONFIG), tmp_path / "volume"
    for name in ("first", "second"):  # two pods, one volume
        home = prepare_home(tmp_path / name, mounted, profile="codex", required=[])
        keep_threads(home.path, volume)
        keep_threads(home.path, volume)
    (tmp_path / "first" / "sessions" / "rollout").write_text("said")
    assert (tmp_path / "second" / "sessions" / "rollout").read_text() == "said"
    assert [path.name for path in volume.iterdir()] == ["sessions"]


def test_threads_that_a_home_has_stay(tmp_path: Path) -> None:
    (tmp_path / "home" / "sessions").mkdir(parents=True)
    keep_threads(tmp_path / "home", tmp_path / "volume")
    assert not (tmp_path / "home" / "sessions").is_symlink()
