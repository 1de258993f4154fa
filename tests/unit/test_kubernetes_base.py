"""The base for kustomize: Kubernetes would take it, and it grants what is used and no more."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from treadle.cli.manager import build_parser
from treadle.control.placement.kubernetes.settings import read_settings

BASE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text())
FILES = [*KUSTOMIZATION["resources"], "secrets.example.yaml"]


def objects(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((BASE / name).read_text()))


def find(name: str, kind: str) -> dict[str, Any]:
    return next(each for each in objects(name) if each["kind"] == kind)


@pytest.mark.parametrize("release", ["1.31", "1.37"])
@pytest.mark.parametrize("name", FILES)
def test_kubernetes_would_take_it(name: str, release: str) -> None:
    for each in objects(name):
        kubernetes_validate.validate(each, release, strict=True)


def test_every_file_is_in_it_but_the_example() -> None:
    files = KUSTOMIZATION["configMapGenerator"][0]["files"]
    assert {*FILES, *files, "kustomization.yaml"} == {path.name for path in BASE.iterdir()}


def test_the_manager_may_do_what_the_client_does_and_no_more() -> None:
    role = find("accounts.yaml", "Role")
    granted = {rule["resources"][0]: set(rule["verbs"]) for rule in role["rules"]}
    assert granted == {
        "jobs": {"create", "delete", "list", "watch"},
        "pods": {"list", "watch"},
        "events": {"list"},
    }
    assert role["metadata"]["namespace"] == "treadle-runners"
    assert not [each for each in objects("accounts.yaml") if "Cluster" in each["kind"]]


def test_settings_and_arguments_are_understood() -> None:
    settings = read_settings((BASE / "kubernetes.toml").read_text())
    service = find("manager.yaml", "Service")
    where = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
    assert settings.manager_url == f"http://{where}:{service['spec']['ports'][0]['port']}"
    secrets = {each["metadata"]["name"] for each in objects("secrets.example.yaml")}
    assert {settings.token_secret, *settings.credentials.values()} == secrets
    pod = find("manager.yaml", "Deployment")["spec"]["template"]["spec"]
    program, *arguments = pod["containers"][0]["args"]
    options = build_parser().parse_args(arguments)
    assert (program, str(options.kubernetes)) == ("manager", "/etc/treadle/kubernetes.toml")


def test_nothing_is_reachable_that_is_not_named() -> None:
    policies = objects("network.yaml")
    denials = [each for each in policies if each["metadata"]["name"] == "default-deny"]
    assert {each["metadata"]["namespace"] for each in denials} == {"treadle", "treadle-runners"}
    for each in denials:
        assert each["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_examples_hold_no_secret() -> None:
    for each in objects("secrets.example.yaml"):
        assert all(value.startswith("<") for value in each["stringData"].values())


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl renders it where there is one")
def test_kustomize_renders_it() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(BASE)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    kinds = [each["kind"] for each in yaml.safe_load_all(done.stdout)]
    assert kinds.count("NetworkPolicy") == 4
    assert "Secret" not in kinds
    assert "registry.example/treadle:1" in done.stdout
