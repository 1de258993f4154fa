"""Flags of the app-server that keep it from starting, and what it says then."""

from pathlib import Path

import pytest

from treadle.cli import app_server, doctor

AUTH = "`--ws-auth capability-token` or `--ws-auth signed-bearer-token`"
CAPABILITY = ("--listen", "ws://127.0.0.1:0", "--ws-auth", "capability-token")
SIGNED = ("--listen", "ws://127.0.0.1:0", "--ws-auth", "signed-bearer-token")


@pytest.mark.parametrize(
    ("flags", "code", "telling"),
    [
        (("--listen", "http://x"), 2, "unsupported --listen URL `http://x`; expected `stdio://`"),
        (("--listen", "ws://localhost:1"), 2, "expected `ws://IP:PORT`"),
        (("--listen", "ws://127.0.0.1:70000"), 2, "expected `ws://IP:PORT`"),
        (("--listen", "ws://::1:80"), 2, "expected `ws://IP:PORT`"),
        (("--listen", "off"), 1, "no transport configured"),
        (
            ("--listen", "ws://0.0.0.0:4500"),
            1,
            "refusing to start non-loopback websocket listener 0.0.0.0:4500 without auth",
        ),
        (("--listen", "ws://[::]:4500"), 1, "non-loopback websocket listener [::]:4500"),
        (CAPABILITY, 1, "`--ws-token-file` or `--ws-token-sha256` is required"),
        (("--ws-token-file", "x"), 1, f"websocket auth flags require {AUTH}"),
        ((*CAPABILITY, "--ws-token-sha256", "abc"), 1, "must be a 64-character hex"),
        (
            (*CAPABILITY, "--ws-token-sha256", "abc", "--ws-token-file", "x"),
            1,
            "are mutually exclusive",
        ),
        ((*CAPABILITY, "--ws-token-file", "gone"), 1, "gone: No such file or directory (os error"),
        ((*CAPABILITY, "--ws-token-file", "empty"), 1, "empty must not be empty"),
        ((*CAPABILITY, "--ws-issuer", "x"), 1, "requires `--ws-auth signed-bearer-token`"),
        (SIGNED, 1, "`--ws-shared-secret-file` is required"),
        ((*SIGNED, "--ws-shared-secret-file", "short"), 1, "must be at least 32 bytes"),
        (("-c", "nonsense"), 1, "nonsense"),
        (("-c", "sandbox_mode=loose"), 1, "loose"),
        (("--enable", "no_such_feature"), 1, "no_such_feature"),
    ],
)
def test_a_server_that_cannot_start_says_why(
    flags: tuple[str, ...],
    code: int,
    telling: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path))
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "short").write_text("x" * 31 + "\n")
    assert app_server.run(list(flags)) == code
    assert telling in capsys.readouterr().err


def test_a_home_that_is_named_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("TREADLE_HOME", raising=False)
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "absent"))
    assert app_server.run([]) == 1
    assert "CODEX_HOME points to" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


# ---------------------------------------------------------------- doctor


def test_the_doctor_finds_a_usable_machine_and_shows_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    flags = ["-c", "sandbox_mode=danger-full-access"]
    assert doctor.run(flags) == 0
    assert doctor.run([*flags, "--json"]) == 0
    said = capsys.readouterr().out
    assert "key is there" in said
    assert "sk-very-secret" not in said
    assert '"usable": true' in said
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_the_doctor_names_what_is_missing_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "config.toml").write_text("model = \n")
    assert doctor.run([]) == 1
    said = capsys.readouterr().out
    assert "export OPENAI_API_KEY" in said
    assert f"{tmp_path / 'config.toml'}:1" in said
    assert "mend the file" in said
