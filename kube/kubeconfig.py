"""kubeconfig files: where the API server is and how to prove who one is.

Owns reading and writing the stock format. Must not know how connections are made, nor import anything for TLS.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kube.runtime import files

# The stock format has one server a cluster, and leaves room for what others add.
_SERVERS = "nodeagent/servers"


class KubeconfigError(Exception):
    """A kubeconfig cannot be used; the text names the file, the field and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestConfig:
    """One server and one identity. Of each `*_data` / `*_file` pair at most one is set; files may change later."""

    server: str
    ca_data: bytes | None = None
    ca_file: Path | None = None
    tls_server_name: str | None = None
    cert_data: bytes | None = None
    cert_file: Path | None = None
    key_data: bytes | None = field(default=None, repr=False)
    key_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    namespace: str = "default"
    more_servers: tuple[str, ...] = ()
    """Other servers of the same cluster, with the same CA, to turn to when the first is silent."""


def load(path: Path, context: str | None = None) -> RestConfig:
    """The connection of `context`, by default the current one. KubeconfigError names what is missing."""
    document = _read(path)
    name = context or document.get("current-context")
    if not name:
        raise KubeconfigError(f"{path}: current-context: not set, and no context was named")
    chosen = _named(document, "contexts", "context", name, path)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster"), path)
    user = _named(document, "users", "user", chosen.get("user"), path) if chosen.get("user") else {}
    _refuse_unsupported(cluster, user, path)
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("https://", "http://")):
        raise KubeconfigError(f"{path}: cluster.server: want an https:// address, found {server!r}")
    return RestConfig(
        server=server.rstrip("/"),
        ca_data=_embedded(cluster, "certificate-authority-data", path),
        ca_file=_beside(path, cluster.get("certificate-authority")),
        tls_server_name=cluster.get("tls-server-name"),
        cert_data=_embedded(user, "client-certificate-data", path),
        cert_file=_beside(path, user.get("client-certificate")),
        key_data=_embedded(user, "client-key-data", path),
        key_file=_beside(path, user.get("client-key")),
        token=user.get("token"),
        token_file=_beside(path, user.get("tokenFile")),
        namespace=chosen.get("namespace") or "default",
        more_servers=_more_servers(cluster),
    )


def in_cluster(folder: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")) -> RestConfig:
    """The connection a pod is given by its service account."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise KubeconfigError("not in a pod: KUBERNETES_SERVICE_HOST or the service account token is missing")
    address = f"[{host}]" if ":" in host else host
    return RestConfig(server=f"https://{address}:{port}", ca_file=folder / "ca.crt", token_file=folder / "token")


def write(
    path: Path,
    *,
    server: str,
    user: str,
    ca_data: bytes,
    cert_data: bytes | None = None,
    key_data: bytes | None = None,
    token: str | None = None,
    cluster: str = "kubernetes",
    namespace: str | None = None,
) -> None:
    """Write a one-context kubeconfig with everything embedded, mode 0600, replacing the file durably."""
    text = render(
        server=server,
        user=user,
        ca_data=ca_data,
        cert_data=cert_data,
        key_data=key_data,
        token=token,
        cluster=cluster,
        namespace=namespace,
    )
    files.replace(path, text.encode(), 0o600)


def render(
    *,
    server: str,
    user: str,
    ca_data: bytes,
    cert_data: bytes | None = None,
    key_data: bytes | None = None,
    pair_file: str | None = None,
    token: str | None = None,
    cluster: str = "kubernetes",
    namespace: str | None = None,
    more_servers: Sequence[str] = (),
) -> str:
    """A one-context kubeconfig as text; without `user` only the cluster, as cluster-info has it.

    `pair_file` holds certificate and key together, and changes when they are renewed.
    """
    import yaml

    context = {"cluster": cluster, "user": user} | ({"namespace": namespace} if namespace else {})
    identity: dict[str, str] = {}
    if cert_data is not None and key_data is not None:
        identity["client-certificate-data"] = base64.b64encode(cert_data).decode()
        identity["client-key-data"] = base64.b64encode(key_data).decode()
    if pair_file is not None:
        identity |= {"client-certificate": pair_file, "client-key": pair_file}
    if token is not None:
        identity["token"] = token
    name = f"{user}@{cluster}"
    where: dict[str, Any] = {"server": server, "certificate-authority-data": base64.b64encode(ca_data).decode()}
    if more_servers:
        where["extensions"] = [{"name": _SERVERS, "extension": {"servers": list(more_servers)}}]
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": where}],
        "contexts": [{"name": name, "context": context}] if user else [],
        "current-context": name if user else "",
        "preferences": {},
        "users": [{"name": user, "user": identity}] if user else [],
    }
    return yaml.dump(document, sort_keys=False, width=1 << 20)


def learn_servers(path: Path, servers: Sequence[str]) -> bool:
    """Have the file name these servers besides its first; whether that changed anything."""
    import yaml

    document = _read(path)
    context = _named(document, "contexts", "context", document.get("current-context"), path)
    cluster = _named(document, "clusters", "cluster", context.get("cluster"), path)
    more = [each for each in servers if each != cluster.get("server")]
    if list(_more_servers(cluster)) == more:
        return False
    others = [each for each in cluster.get("extensions") or () if each.get("name") != _SERVERS]
    cluster["extensions"] = [*others, {"name": _SERVERS, "extension": {"servers": more}}]
    files.replace(path, yaml.dump(document, sort_keys=False, width=1 << 20).encode(), 0o600)
    return True


def _more_servers(cluster: Mapping[str, Any]) -> tuple[str, ...]:
    for each in cluster.get("extensions") or ():
        if each.get("name") == _SERVERS:
            return tuple((each.get("extension") or {}).get("servers") or ())
    return ()


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise KubeconfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict) or document.get("kind") != "Config":
        raise KubeconfigError(f"{path}: kind: want Config")
    return document


def _named(document: Mapping[str, Any], group: str, kind: str, name: Any, path: Path) -> dict[str, Any]:
    for entry in document.get(group) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            content = entry.get(kind)
            if isinstance(content, dict):
                return content
            raise KubeconfigError(f"{path}: {group}: {name!r} has no {kind}")
    raise KubeconfigError(f"{path}: {group}: no {kind} named {name!r}")


def _refuse_unsupported(cluster: Mapping[str, Any], user: Mapping[str, Any], path: Path) -> None:
    for field_ in ("exec", "auth-provider", "username", "password", "as"):
        if user.get(field_):
            raise KubeconfigError(f"{path}: user.{field_}: not supported; use a client certificate or a token")
    for field_ in ("insecure-skip-tls-verify", "proxy-url"):
        if cluster.get(field_):
            raise KubeconfigError(f"{path}: cluster.{field_}: not supported; name the CA, and dial directly")


def _embedded(section: Mapping[str, Any], name: str, path: Path) -> bytes | None:
    if not section.get(name):
        return None
    try:
        return base64.b64decode("".join(section[name].split()), validate=True)
    except (binascii.Error, AttributeError, ValueError) as error:
        raise KubeconfigError(f"{path}: {name}: not base64") from error


def _beside(path: Path, name: Any) -> Path | None:
    return path.parent / name if name else None
