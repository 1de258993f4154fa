"""Job manifests: what they say, what they never say, and whether Kubernetes would take them."""

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.control.placement.kubernetes.manifests import job_manifest, job_name, why_not
from treadle.control.placement.kubernetes.settings import (
    KubernetesSettings,
    SettingsRefused,
    read_settings,
)
from treadle.control.records import (
    ExecutionPolicy,
    ProviderCredential,
    Run,
    SecretRef,
    SecretScope,
    SessionRef,
    WorkspaceRef,
)

GOLDEN = Path(__file__).parent / "golden" / "kubernetes_job.json"
RUN_ID = "01a1fc28-f274-7c1d-b1d7-0242ac120002"
RELEASES = ("1.31", "1.37")
MINIMAL = """
namespace = "agents"
image = "registry.test/treadle:1"
manager_url = "http://manager.test:7717"
token_secret = "runner-token"
"""
FULL = (
    MINIMAL
    + """
image_pull_policy = "Always"
image_pull_secrets = ["registry"]
runtime_class = "gvisor"
priority_class = "batch"
queue = "agents"
session_claim = "sessions"
workspace_claim = "workspaces"
node_selector = {pool = "agents"}
tolerations = [{key = "agents", operator = "Exists"}]

[credentials]
codex = "codex-login"

[tenant_credentials.acme]
codex = "acme-login"

[resources]
requests = {cpu = "250m", memory = "512Mi"}
limits = {cpu = "1", memory = "2Gi"}
"""
)


def settings(text: str = MINIMAL, **changes: Any) -> KubernetesSettings:
    return msgspec.structs.replace(read_settings(text), **changes)


def scope(name: str, keys: list[str] | None = None, profile: str = "codex") -> SecretScope:
    ref = SecretRef(name=name, keys=keys or [], mount_path="/anywhere")
    return SecretScope(provider_credentials=[ProviderCredential(profile, ref)])


def run(**changes: Any) -> Run:
    facts: dict[str, Any] = {
        "id": RUN_ID,
        "tenant_id": "acme",
        "project_id": "acme/loom",
        "workspace_ref": WorkspaceRef("/workspace/loom"),
        "session_ref": SessionRef(session_id="s"),
        "provider_id": None,
        "backend_profile": "codex",
        "execution_policy": ExecutionPolicy(),
        "trace_sink": None,
        "labels": {},
        "busy_policy": "enqueue",
        "max_attempts": 5,
        "placement": "kubernetes-job",
        "status": "pending",
        "terminal_status": None,
        "failure_kind": None,
        "failure_message": None,
        "pending_requests": [],
        "claimed_by": None,
        "epoch": 0,
        "attempt": 0,
        "lease_remaining_ms": None,
        "last_seq": 1,
        "cmd_last": 1,
        "created_at": "",
        "updated_at": "",
    }
    return Run(**facts | changes)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["template"]["spec"]


def mounts_of(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    mounts = pod_of(manifest)["containers"][0]["volumeMounts"]
    return {each["mountPath"]: each for each in mounts}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_kubernetes_would_take_it(text: str, release: str) -> None:
    policy = ExecutionPolicy(secret_scope=scope("acme-login", ["auth.json"]))
    for each in (run(), run(execution_policy=policy, workspace_ref=None)):
        manifest = job_manifest(each, 1, settings(text))
        kubernetes_validate.validate(manifest, release, strict=True)
    wrong = manifest | {"spec": manifest["spec"] | {"backOffLimit": 0}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, release, strict=True)


def test_the_whole_of_a_full_one() -> None:
    """What changed on purpose is written anew: delete the file and run this twice."""
    policy = ExecutionPolicy(secret_scope=scope("acme-login", ["config.toml", "auth.json"]))
    manifest = job_manifest(run(execution_policy=policy), 3, settings(FULL))
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
        pytest.fail(f"{GOLDEN.name} was not there; look at it, it is now")
    assert text == GOLDEN.read_text()


def test_a_name_follows_from_run_and_epoch_and_fits() -> None:
    assert job_name(RUN_ID, 3) == f"treadle-{RUN_ID}-3"
    assert len(job_name(RUN_ID, 10**9)) <= 63 - len("-12345")


def test_a_pod_has_no_rights_it_does_not_need() -> None:
    pod = pod_of(job_manifest(run(), 1, settings()))
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_secrets_are_files_of_their_owner_by_reference() -> None:
    policy = ExecutionPolicy(secret_scope=scope("acme-login", ["auth.json"]))
    pod = pod_of(job_manifest(run(execution_policy=policy), 1, settings(FULL)))
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["credentials"]["secret"] == {
        "secretName": "acme-login",
        "defaultMode": 0o400,
        "items": [{"key": "auth.json", "path": "auth.json"}],
    }
    assert volumes["manager-token"]["secret"]["secretName"] == "runner-token"
    own = settings(FULL, tenant_token_secrets={"acme": "acme-token"})
    found = pod_of(job_manifest(run(), 1, own))["volumes"]
    assert "acme-token" in {v["secret"]["secretName"] for v in found if "secret" in v}
    env = pod["containers"][0]["env"]
    assert "secretKeyRef" not in json.dumps(pod)
    assert {each["name"] for each in env if "valueFrom" in each} == {"POD_NAME"}


def test_a_tenant_gets_its_own_secrets_only() -> None:
    known = settings(FULL)

    def secret(tenant: str, profile: str = "codex") -> str | None:
        found = job_manifest(run(tenant_id=tenant, backend_profile=profile), 1, known)
        volumes = pod_of(found)["volumes"]
        return next(
            (v["secret"]["secretName"] for v in volumes if v["name"] == "credentials"), None
        )

    assert secret("acme") == "acme-login"
    assert secret("other") == "codex-login"
    assert secret("acme", "deepseek") is None
    mine = ExecutionPolicy(secret_scope=scope("acme-login"))
    theirs = ExecutionPolicy(secret_scope=scope("codex-login"))
    assert why_not(run(execution_policy=mine), known) is None
    assert "does not give the Secret codex-login" in str(
        why_not(run(execution_policy=theirs), known)
    )
    assert why_not(run(tenant_id="other", execution_policy=theirs), known) is None
    odd = ExecutionPolicy(secret_scope=scope("acme-login", ["../auth.json"]))
    assert "keys in a Secret" in str(why_not(run(execution_policy=odd), known))


def test_sessions_are_kept_apart() -> None:
    def folder(**changes: Any) -> str:
        mounts = mounts_of(job_manifest(run(**changes), 1, settings(FULL)))
        return mounts["/var/lib/treadle/session"]["subPath"]

    assert folder() == folder(id=RUN_ID[:-1] + "3")
    others = [
        folder(tenant_id="other"),
        folder(project_id="other"),
        folder(session_ref=SessionRef(session_id="t")),
        folder(session_ref=SessionRef()),
    ]
    assert len({folder(), *others}) == 5


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/etc",
        "/workspaces",
        "workspace/a",
        "/workspace/../etc",
        "/workspace//a",
        "/workspace/.",
    ],
)
def test_a_workspace_lies_below_its_root(path: str) -> None:
    assert "must be /workspace" in str(why_not(run(workspace_ref=WorkspaceRef(path)), settings()))


@given(st.text(alphabet="ab./", max_size=12))
def test_whatever_workspace_is_taken_stays_in_its_folder(path: str) -> None:
    each = run(workspace_ref=WorkspaceRef("/workspace" + path))
    if why_not(each, settings(FULL)) is None:
        manifest = job_manifest(each, 1, settings(FULL))
        mount = next(m for m in mounts_of(manifest).values() if m["name"] == "workspace")
        tenant, _, below = mount["subPath"].partition("/")
        assert tenant == "acme"
        assert mount["mountPath"] == "/workspace" + (f"/{below}" if below else "")
        assert not {"", ".", ".."} & set(below.split("/")) or not below


def test_a_workspace_of_another_tenant_is_out_of_reach() -> None:
    def folder(tenant: str) -> str:
        mounts = mounts_of(job_manifest(run(tenant_id=tenant), 1, settings(FULL)))
        return mounts["/workspace/loom"]["subPath"]

    assert folder("acme") == "acme/loom"
    odd = [folder(tenant) for tenant in ("..", "acme/loom", "", "a b", "~x")]
    assert all(each.startswith("~") and each.count("/") == 1 for each in odd)
    assert len(set(odd)) == 5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max_job = 3", "max_job"),
        ("max_jobs = 0", "max_jobs"),
        ('session_claim = "My Claim"', "session_claim"),
        ('workspace_root = "/"', "workspace_root"),
        ('workspace_root = "/a/../b"', "workspace_root"),
        ("command = []", "command"),
        ('credentials = {codex = "a b"}', "credentials.codex"),
        ("instance = ", "TOML"),
    ],
)
def test_settings_without_meaning_are_refused_by_name(line: str, said: str) -> None:
    with pytest.raises(SettingsRefused, match=said):
        read_settings(MINIMAL + line)


def test_settings_lack_nothing_that_is_needed() -> None:
    with pytest.raises(SettingsRefused, match="namespace"):
        read_settings("")
    with pytest.raises(SettingsRefused, match="manager_url"):
        read_settings(MINIMAL.replace("http://", "ftp://"))
