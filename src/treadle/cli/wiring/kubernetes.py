"""Placing runners as Kubernetes Jobs, wired for a manager."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treadle.control.db.repository import Repository
    from treadle.control.events import Bells
    from treadle.control.placement.kubernetes.client import ApiAccess
    from treadle.control.placement.kubernetes.settings import KubernetesSettings
    from treadle.control.placement.placer import MakePlacer, Placer
    from treadle.kit.clock import Clock

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class NoKubernetes(Exception):
    """Jobs cannot be placed as asked; the text says why and what to do."""


def kubernetes_placer(file: Path, variables: Mapping[str, str]) -> "MakePlacer":
    """The maker of a placer with the settings of `file`.

    Raises:
        NoKubernetes: the file cannot be used, or says of no API server outside of a cluster.
    """
    from treadle.control.placement.kubernetes.client import KubernetesClient
    from treadle.control.placement.kubernetes.reconciler import KubernetesPlacer
    from treadle.control.placement.kubernetes.settings import SettingsRefused, read_settings

    try:
        settings = read_settings(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise NoKubernetes(f"cannot read {file}: {error.strerror}") from error
    except (SettingsRefused, UnicodeDecodeError) as error:
        raise NoKubernetes(f"{file} cannot be used: {error}") from error
    access = _access(settings, variables)
    try:
        client = KubernetesClient(access, settings.namespace)
    except (OSError, ssl.SSLError) as error:
        raise NoKubernetes(f"cannot use the authority {access.ca_file}: {error}") from error

    def make(repository: "Repository", bells: "Bells", clock: "Clock") -> "Placer":
        return KubernetesPlacer(client, settings, repository, bells, clock)

    return make


def _access(settings: "KubernetesSettings", variables: Mapping[str, str]) -> "ApiAccess":
    from treadle.control.placement.kubernetes.client import ApiAccess

    api = settings.api
    if api is not None:
        token_file = Path(api.token_file) if api.token_file else None
        return ApiAccess(api.url, token_file, Path(api.ca_file) if api.ca_file else None)
    host, port = variables.get("KUBERNETES_SERVICE_HOST"), variables.get("KUBERNETES_SERVICE_PORT")
    if not host or not (ACCOUNT / "token").exists():
        raise NoKubernetes(
            "this is no pod with a service account, and the settings have no [api] with the url of "
            "an API server and a token_file"
        )
    name = f"[{host}]" if ":" in host else host
    return ApiAccess(f"https://{name}:{port or 443}", ACCOUNT / "token", ACCOUNT / "ca.crt")
