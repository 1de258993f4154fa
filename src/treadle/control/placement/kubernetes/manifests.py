"""From a run and the settings to the Job that carries out one attempt; pure.

The name follows from run and epoch alone, so that making a Job twice makes one. A pod has no more
rights than it needs: no account token, no root, nothing writable but folders of its own. Secrets
come as files that are named, never as variables or values. What a Job is worth is said in labels
under `treadle.dev/`; what is only to be read by people, in annotations.
"""

import hashlib
import re
from typing import Any

from treadle.control.placement.kubernetes.settings import KubernetesSettings
from treadle.control.records import ProviderCredential, Run, RunSpec

PREFIX = "treadle.dev/"
INSTANCE = PREFIX + "instance"
RUN_ID = PREFIX + "run-id"
EPOCH = PREFIX + "epoch"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

TOKEN_FOLDER = "/var/run/treadle/manager"
CREDENTIAL_FOLDER = "/var/run/treadle/credentials"
HOME = "/home/treadle"
AGENT_HOME = f"{HOME}/agent"
"""Made by the runner itself, who has to own it."""
SESSION_FOLDER = "/var/lib/treadle/session"
GRACE_SECONDS = 30
"""What a runner has to give its run back when its pod is to go."""
OWNER_READS = 0o400

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}\Z")
_FOLDER = re.compile(r"[a-zA-Z0-9][-._a-zA-Z0-9]{0,62}\Z")
Manifest = dict[str, Any]


def job_name(run_id: str, epoch: int) -> str:
    """The name of the Job whose runner is to claim the run under this epoch."""
    return f"treadle-{run_id}-{epoch}"


def selector(settings: KubernetesSettings) -> str:
    """The label selector of all that is ours."""
    return f"{INSTANCE}={settings.instance}"


def why_not(run: Run | RunSpec, settings: KubernetesSettings) -> str | None:
    """Why no Job can be made for a run, and what to change; None when one can."""
    workspace = run.workspace_ref
    if workspace is not None and not _is_below(workspace.path, settings.workspace_root):
        return (
            f"workspaceRef.path must be {settings.workspace_root} or a plain path below it for "
            "runs that are placed as Kubernetes Jobs."
        )
    credential = _credential(run)
    if credential is None:
        return None
    given, asked = secret_of(run, settings), credential.secret_ref
    if asked.name != given:
        return (
            f"This manager does not give the Secret {asked.name} to profile {run.backend_profile} "
            "of this tenant; leave secretScope out, or name the one that its operator configured."
        )
    if not all(_KEY.match(key) and key not in {".", ".."} for key in asked.keys):
        return "secretRef.keys must be names of keys in a Secret."
    return None


def secret_of(run: Run | RunSpec, settings: KubernetesSettings) -> str | None:
    """The Secret with the credentials of the run's profile, where there is one."""
    own = settings.tenant_credentials.get(run.tenant_id, settings.credentials)
    return own.get(run.backend_profile)


def job_manifest(run: Run, epoch: int, settings: KubernetesSettings) -> Manifest:
    """The Job for the attempt at a run under this epoch; `why_not` has nothing against the run."""
    labels = {
        "app.kubernetes.io/name": "treadle",
        "app.kubernetes.io/component": "runner",
        INSTANCE: settings.instance,
        RUN_ID: run.id,
        EPOCH: str(epoch),
    }
    annotations = {
        PREFIX + "tenant": run.tenant_id,
        PREFIX + "project": run.project_id,
        PREFIX + "backend-profile": run.backend_profile,
    }
    queued = {} if settings.queue is None else {QUEUE_LABEL: settings.queue}
    meta = {
        "name": job_name(run.id, epoch),
        "namespace": settings.namespace,
        "labels": labels | queued,
        "annotations": annotations,
    }
    disruption = [{"type": "DisruptionTarget", "status": "True"}]
    spec: Manifest = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "activeDeadlineSeconds": settings.attempt_seconds,
        "ttlSecondsAfterFinished": settings.keep_seconds,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": disruption}]},
        "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": _pod_spec(run, epoch, settings),
        },
    }
    if settings.queue is not None:
        spec["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def _pod_spec(run: Run, epoch: int, settings: KubernetesSettings) -> Manifest:
    volumes, mounts = _volumes(run, settings)
    user = settings.run_as_user
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            # Files of Secrets belong to root: their group, which may read them, is the runner's.
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(run, epoch, settings, mounts)],
        "volumes": volumes,
    }
    optional = {
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "runtimeClassName": settings.runtime_class,
        "priorityClassName": settings.priority_class,
        "nodeSelector": settings.node_selector,
        "tolerations": settings.tolerations,
    }
    return spec | {name: value for name, value in optional.items() if value}


def _container(
    run: Run, epoch: int, settings: KubernetesSettings, mounts: list[Manifest]
) -> Manifest:
    container: Manifest = {
        "name": "runner",
        "image": settings.image,
        "command": settings.command,
        "args": [
            *("runner", "once", "--run-id", run.id, "--manager-url", settings.manager_url),
            *("--token-file", f"{TOKEN_FOLDER}/token"),
            # Of its own for each pod, so that the end of one is never taken for that of another.
            *("--runner-id", "$(POD_NAME)", "--attempt-id", job_name(run.id, epoch)),
            *("--placement", "kubernetes-job"),
            *("--lease-ms", str(settings.lease_ms)),
            *("--idle-timeout-ms", str(settings.idle_timeout_ms)),
            *settings.runner_args,
        ],
        "env": _env(run, settings),
        "resources": {"requests": settings.resources.requests, "limits": settings.resources.limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if settings.image_pull_policy is not None:
        container["imagePullPolicy"] = settings.image_pull_policy
    return container


def _env(run: Run, settings: KubernetesSettings) -> list[Manifest]:
    """Names and places only; what is secret is in files."""
    values = {"HOME": HOME, "TMPDIR": "/tmp", "TREADLE_HOME": AGENT_HOME}
    if secret_of(run, settings) is not None:
        values["TREADLE_CODEX_SECRET_HOME"] = CREDENTIAL_FOLDER
    if settings.session_claim is not None:
        values["TREADLE_SESSION_PVC_NAME"] = settings.session_claim
        values["TREADLE_SESSION_PVC_NAMESPACE"] = settings.namespace
        values["TREADLE_SESSION_PVC_MOUNT_PATH"] = SESSION_FOLDER
        values["TREADLE_SESSION_FOLDER"] = SESSION_FOLDER
    own_name = {"fieldRef": {"fieldPath": "metadata.name"}}
    return [
        {"name": "POD_NAME", "valueFrom": own_name},
        *({"name": name, "value": value} for name, value in values.items()),
    ]


def _volumes(run: Run, settings: KubernetesSettings) -> tuple[list[Manifest], list[Manifest]]:
    """Volumes of the pod and where they are mounted."""
    scratch = {"emptyDir": {"sizeLimit": settings.scratch_size}}
    token_secret = settings.tenant_token_secrets.get(run.tenant_id, settings.token_secret)
    token = _secret_volume(token_secret, ["token"])
    volumes: list[Manifest] = [
        {"name": "home", **scratch},
        {"name": "tmp", **scratch},
        {"name": "manager-token", **token},
    ]
    mounts: list[Manifest] = [
        {"name": "home", "mountPath": HOME},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "manager-token", "mountPath": TOKEN_FOLDER, "readOnly": True},
    ]
    secret, credential = secret_of(run, settings), _credential(run)
    if secret is not None:
        keys = sorted(set(credential.secret_ref.keys)) if credential else []
        volumes.append({"name": "credentials", **_secret_volume(secret, keys)})
        mounts.append({"name": "credentials", "mountPath": CREDENTIAL_FOLDER, "readOnly": True})
    if settings.session_claim is not None:
        volumes.append({"name": "session", **_claim_volume(settings.session_claim)})
        below = _session_folder(run)
        mounts.append({"name": "session", "mountPath": SESSION_FOLDER, "subPath": below})
    if run.workspace_ref is not None:
        path = run.workspace_ref.path.rstrip("/")
        mount: Manifest = {"name": "workspace", "mountPath": path}
        if settings.workspace_claim is None:
            volumes.append({"name": "workspace", **scratch})
        else:
            volumes.append({"name": "workspace", **_claim_volume(settings.workspace_claim)})
            mount["subPath"] = _tenant_folder(run) + path[len(settings.workspace_root) :]
        mounts.append(mount)
    return volumes, mounts


def _secret_volume(name: str, keys: list[str]) -> Manifest:
    """A Secret as files for their owner's eyes; all of its keys when none is named."""
    secret: Manifest = {"secretName": name, "defaultMode": OWNER_READS}
    if keys:
        secret["items"] = [{"key": key, "path": key} for key in keys]
    return {"secret": secret}


def _claim_volume(name: str) -> Manifest:
    return {"persistentVolumeClaim": {"claimName": name}}


def _session_folder(run: Run) -> str:
    """A folder for what is kept of one session of one project; of a run alone without a session."""
    ref = run.session_ref
    session = ref.session_id or ref.conversation_id or run.id
    text = "\0".join((run.tenant_id, run.project_id, session))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]


def _tenant_folder(run: Run) -> str:
    """A folder that no other tenant's runs see."""
    if _FOLDER.match(run.tenant_id):
        return run.tenant_id
    return "~" + hashlib.sha256(run.tenant_id.encode(errors="surrogatepass")).hexdigest()[:40]


def _credential(run: Run | RunSpec) -> ProviderCredential | None:
    """What the run itself says of its profile's credential."""
    scope = run.execution_policy.secret_scope
    named = (scope.provider_credentials if scope else None) or []
    return next((each for each in named if each.profile == run.backend_profile), None)


def _is_below(path: str, root: str) -> bool:
    parts = path.rstrip("/").split("/")
    plain = not {"", ".", ".."} & set(parts[1:]) and ":" not in path and "\0" not in path
    return plain and f"{path.rstrip('/')}/".startswith(f"{root}/")
