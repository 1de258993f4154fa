"""How runners are placed as Jobs: what an operator writes into one TOML file; pure.

Every value has its meaning beside it; docs/kubernetes.md shows a file. Secrets are named here and
never held. Unknown keys are refused, since a misspelt limit would be none.
"""

import re
import tomllib
from typing import Annotated, Any

import msgspec

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
Seconds = Annotated[int, msgspec.Meta(ge=1, le=30 * 24 * 3600)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class SettingsRefused(Exception):
    """The settings cannot be used; the text names the key and what it should be."""


class Resources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a runner's container, as Kubernetes writes them: `cpu = "500m"`."""

    requests: dict[str, str] = msgspec.field(
        default_factory=lambda: {"cpu": "500m", "memory": "1Gi"}
    )
    limits: dict[str, str] = msgspec.field(default_factory=lambda: {"cpu": "2", "memory": "4Gi"})


class Api(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the API server is; left out, the one of the cluster that the manager runs in."""

    url: Text
    token_file: str | None = None
    """Read again for each call."""
    ca_file: str | None = None


class KubernetesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All that the manager is told about placing Jobs."""

    namespace: Text
    """Where Jobs are made."""
    image: Text
    """The image of a runner; it holds `treadle` and what agents need."""
    manager_url: Text
    """The manager as pods reach it."""
    token_secret: Text
    """Secret whose key `token` is an API token of role runner."""
    tenant_token_secrets: dict[str, str] = {}
    """The same for single tenants; tokens that are of the tenant keep its pods out of others'."""
    api: Api | None = None
    instance: Text = "treadle"
    """Tells the Jobs of several managers' databases in one namespace apart."""
    credentials: dict[str, str] = {}
    """Secret of each backend profile; a run may name no other."""
    tenant_credentials: dict[str, dict[str, str]] = {}
    """The same for single tenants, for whom it takes the place of `credentials`."""
    service_account: Text = "treadle-runner"
    image_pull_policy: str | None = None
    image_pull_secrets: list[str] = []
    resources: Resources = msgspec.field(default_factory=Resources)
    run_as_user: Annotated[int, msgspec.Meta(ge=1)] = 10001
    """User and group of the runner, never root."""
    runtime_class: str | None = None
    priority_class: str | None = None
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    queue: str | None = None
    """Local queue of Kueue: Jobs begin suspended, and Kueue starts them."""
    session_claim: str | None = None
    """PersistentVolumeClaim for threads and spools, a folder per session; else they go with the
    pod."""
    workspace_root: Text = "/workspace"
    """Runs name a folder at or below this."""
    workspace_claim: str | None = None
    """PersistentVolumeClaim with a folder per tenant and the workspaces below; a pod sees its run's
    only. Without one a workspace begins empty."""
    scratch_size: Text = "4Gi"
    """Limit of each of a pod's own folders."""
    attempt_seconds: Seconds = 6 * 3600
    """An attempt that takes longer is ended, and its run with it."""
    start_seconds: Seconds = 300
    """A pod that did not start in this time is given up."""
    keep_seconds: Seconds = 3600
    """How long a finished Job stays to be looked at."""
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=0)] = 60_000
    """How long a runner waits for another command before it gives its run back."""
    lease_ms: Annotated[int, msgspec.Meta(ge=1000, le=600_000)] = 15_000
    max_jobs: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 100
    """Jobs at once; runs beyond that wait."""
    command: list[str] = msgspec.field(default_factory=lambda: ["treadle"])
    """What starts `treadle` in the image."""
    runner_args: list[str] = []
    """More arguments of `treadle runner once`."""


def read_settings(text: str) -> KubernetesSettings:
    """The settings of a TOML file.

    Raises:
        SettingsRefused: it is no TOML, or says what has no meaning.
    """
    try:
        settings = msgspec.convert(tomllib.loads(text), KubernetesSettings)
    except tomllib.TOMLDecodeError as error:
        raise SettingsRefused(f"it is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise SettingsRefused(str(error)) from error
    _check(settings)
    return settings


def _check(settings: KubernetesSettings) -> None:
    names = {
        "namespace": settings.namespace,
        "token_secret": settings.token_secret,
        "instance": settings.instance,
        "service_account": settings.service_account,
        "session_claim": settings.session_claim,
        "workspace_claim": settings.workspace_claim,
    }
    names |= {f"credentials.{profile}": name for profile, name in settings.credentials.items()}
    names |= {f"tenant_token_secrets.{k}": v for k, v in settings.tenant_token_secrets.items()}
    for tenant, own in settings.tenant_credentials.items():
        names |= {f"tenant_credentials.{tenant}.{key}": name for key, name in own.items()}
    for key, name in names.items():
        if name is not None and not NAME.match(name):
            raise SettingsRefused(f"{key} must be a name as Kubernetes has them, not {name!r}")
    if len(settings.instance) > 63:
        raise SettingsRefused("instance may have 63 characters at most")
    if not settings.manager_url.startswith(("http://", "https://")):
        raise SettingsRefused("manager_url must begin with http:// or https://")
    if not settings.command:
        raise SettingsRefused("command must name a program")
    root = settings.workspace_root
    if not root.startswith("/") or root == "/" or root.endswith("/") or ".." in root.split("/"):
        raise SettingsRefused(
            "workspace_root must be an absolute folder other than /, without .. or / at its end"
        )
