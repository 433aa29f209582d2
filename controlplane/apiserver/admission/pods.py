"""What pods get because of other objects: account and token, priority, tolerations.

Upstream's ServiceAccount, Priority, DefaultTolerationSeconds plug-ins.
"""

import secrets
from typing import Any

from controlplane.apiserver.admission.chain import Attributes, Plugin
from controlplane.apiserver.metadata import ALPHABET
from controlplane.store.storage import Storage
from kube import status
from kube.scheme import PODS, PRIORITY_CLASSES, SECRETS, SERVICE_ACCOUNTS

Object = dict[str, Any]
MIRROR = "kubernetes.io/config.mirror"
TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
ROOT_CA = "kube-root-ca.crt"
UNREACHABLE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
TOLERATION_SECONDS = 300
PREEMPTION = "PreemptLowerPriority"


def is_new_pod(attributes: Attributes) -> bool:
    """Whether a pod is being created (not one of its subresources)."""
    return attributes.operation == "CREATE" and attributes.resource is PODS and not attributes.subresource


class ServiceAccount(Plugin):
    """The account every pod runs as, its pull secrets, and its token where it is wanted."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def mutate(self, attributes: Attributes) -> None:
        """Fill in the account and mount its token."""
        if not is_new_pod(attributes):
            return
        obj, spec = attributes.obj, attributes.obj.setdefault("spec", {})
        if MIRROR in (obj["metadata"].get("annotations") or {}):
            _check_mirror(attributes)
            return
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        entry = self._storage.get(SERVICE_ACCOUNTS.storage_key, f"{attributes.namespace}/{name}")
        if entry is None:
            why = f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found'
            raise status.forbidden(why, resource=PODS, name=attributes.name)
        account = entry.decode()
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = account["imagePullSecrets"]
        wanted = spec.get("automountServiceAccountToken")
        if wanted is None:
            wanted = account.get("automountServiceAccountToken")
        if wanted is not False:
            _mount_token(spec)


def _check_mirror(attributes: Attributes) -> None:
    spec = attributes.obj["spec"]
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        why = "a mirror pod may not reference service accounts"
        raise status.forbidden(why, resource=PODS, name=attributes.name)
    for volume in spec.get("volumes") or []:
        if "secret" in volume:
            why = "a mirror pod may not reference secrets"
            raise status.forbidden(why, resource=SECRETS, name=attributes.name)


def _mount_token(spec: Object) -> None:
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    bare = [c for c in containers if isinstance(c, dict) and not _mounts_token(c)]
    if not bare:
        return
    volumes = spec.setdefault("volumes", [])
    volume = next((v for v in volumes if v.get("name", "").startswith("kube-api-access-") and "projected" in v), None)
    if volume is None:
        volume = _token_volume("kube-api-access-" + "".join(secrets.choice(ALPHABET) for _ in range(5)))
        volumes.append(volume)
    for container in bare:
        mount = {"name": volume["name"], "readOnly": True, "mountPath": TOKEN_PATH}
        container.setdefault("volumeMounts", []).append(mount)


def _mounts_token(container: Object) -> bool:
    return any(mount.get("mountPath") == TOKEN_PATH for mount in container.get("volumeMounts") or [])


def _token_volume(name: str) -> Object:
    token = {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}}
    ca = {"configMap": {"name": ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    namespace = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}}
    return {"name": name, "projected": {"sources": [token, ca, namespace], "defaultMode": 420}}


class Priority(Plugin):
    """The number and policy of the priority class a pod names, or of the default one."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def mutate(self, attributes: Attributes) -> None:
        """Fill in priority, priorityClassName and preemptionPolicy."""
        if not is_new_pod(attributes):
            return
        spec = attributes.obj["spec"]
        chosen = self._class(spec.get("priorityClassName") or "", attributes)
        value, policy = 0, PREEMPTION
        if chosen is not None:
            value, policy = chosen.get("value", 0), chosen.get("preemptionPolicy") or PREEMPTION
            spec["priorityClassName"] = chosen["metadata"]["name"]
        for field, fixed in (("priority", value), ("preemptionPolicy", policy)):
            given = spec.get(field)
            if given is not None and given != fixed:
                why = (
                    f"the {'integer value of priority' if field == 'priority' else 'string value of PreemptionPolicy'} "
                    f"({given}) must not be provided in pod spec; priority admission controller computed {fixed} "
                    "from the given PriorityClass name"
                )
                raise status.forbidden(why, resource=PODS, name=attributes.name)
            spec[field] = fixed

    def _class(self, name: str, attributes: Attributes) -> Object | None:
        cache = self._storage.cache(PRIORITY_CLASSES.storage_key)
        if name:
            entry = cache.items.get(name)
            if entry is None:
                why = f"no PriorityClass with name {name} was found"
                raise status.forbidden(why, resource=PODS, name=attributes.name)
            return entry.decode()
        defaults = [obj for obj in (e.decode() for e in cache.items.values()) if obj.get("globalDefault")]
        return min(defaults, key=lambda obj: obj.get("value", 0)) if defaults else None


class DefaultTolerationSeconds(Plugin):
    """Pods stay five minutes on a node that is not ready or unreachable, unless they say otherwise."""

    async def mutate(self, attributes: Attributes) -> None:
        """Add the tolerations that the pod does not have; also on update, for clients that set the whole list."""
        asked = attributes.operation in ("CREATE", "UPDATE") and not attributes.subresource
        if attributes.resource is not PODS or not asked:
            return
        spec = attributes.obj["spec"]
        tolerations = list(spec.get("tolerations") or [])
        for key in UNREACHABLE:
            if not any(_covers(toleration, key) for toleration in tolerations):
                tolerations.append(
                    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS}
                )
        spec["tolerations"] = tolerations


def _covers(toleration: Object, key: str) -> bool:
    return toleration.get("key", key) in (key, "") and toleration.get("effect", "NoExecute") in ("NoExecute", "")
