"""From sources to files: which files, with which bytes and modes, a generated volume has. PURE.

Owns the selection of keys, the modes and the messages for what is missing. Must not know where objects come from
or how files are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

from kube import quantity, types
from nodeagent.pods import downward
from nodeagent.volumes.model import Content, File, Files, VolumeError

Kind = Literal["configmap", "secret"]
DEFAULT_MODE = 0o644
DEFAULT_TOKEN_SECONDS = 3600


@dataclasses.dataclass(frozen=True, slots=True)
class ObjectKey:
    """A ConfigMap or Secret."""

    kind: Kind
    namespace: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class TokenKey:
    """A token to be asked for. `seconds` is the wanted life."""

    pod_uid: str
    audience: str
    seconds: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Everything the files of a pod's volumes are made from. An absent object is None."""

    objects: Mapping[ObjectKey, Content | None]
    tokens: Mapping[TokenKey, str]
    facts: downward.Facts


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What has to be fetched before `files` can be called."""

    objects: frozenset[ObjectKey]
    tokens: frozenset[TokenKey]


def is_generated(volume: types.Volume) -> bool:
    """Tell whether the agent itself writes this volume's files."""
    return bool(volume.config_map or volume.secret or volume.downward_api or volume.projected)


def is_readonly(volume: types.Volume) -> bool:
    """Tell whether containers may only read it, whatever their mount says."""
    claim = volume.persistent_volume_claim
    return is_generated(volume) or volume.image is not None or (claim is not None and claim.read_only)


def needs(pod: types.Pod, volume: types.Volume) -> Needs:
    """List the objects and tokens behind a volume."""
    namespace = pod.metadata.namespace
    if volume.config_map:
        return Needs(frozenset({ObjectKey("configmap", namespace, volume.config_map.name)}), frozenset())
    if volume.secret:
        return Needs(frozenset({ObjectKey("secret", namespace, volume.secret.secret_name)}), frozenset())
    objects: set[ObjectKey] = set()
    tokens: set[TokenKey] = set()
    for source in volume.projected.sources if volume.projected else ():
        if source.config_map:
            objects.add(ObjectKey("configmap", namespace, source.config_map.name))
        if source.secret:
            objects.add(ObjectKey("secret", namespace, source.secret.name))
        if source.service_account_token:
            tokens.add(_token_key(pod, source.service_account_token))
    return Needs(frozenset(objects), frozenset(tokens))


def files(pod: types.Pod, volume: types.Volume, inputs: Inputs) -> Files:
    """Make the files of one volume. Raises VolumeError."""
    if volume.config_map:
        key = ObjectKey("configmap", pod.metadata.namespace, volume.config_map.name)
        return _from_object(key, volume.config_map, inputs, volume.config_map.default_mode)
    if volume.secret:
        key = ObjectKey("secret", pod.metadata.namespace, volume.secret.secret_name)
        return _from_object(key, volume.secret, inputs, volume.secret.default_mode)
    if volume.downward_api:
        return _from_pod(pod, volume.downward_api.items, inputs, volume.downward_api.default_mode)
    if volume.projected:
        return _projected(pod, volume.projected, inputs)
    raise VolumeError(f"volume {volume.name} is not made of generated files")


def _projected(pod: types.Pod, projected: types.ProjectedVolumeSource, inputs: Inputs) -> Files:
    found: dict[str, File] = {}
    mode = projected.default_mode
    for source in projected.sources:
        if source.config_map:
            key = ObjectKey("configmap", pod.metadata.namespace, source.config_map.name)
            found |= _from_object(key, source.config_map, inputs, mode)
        elif source.secret:
            key = ObjectKey("secret", pod.metadata.namespace, source.secret.name)
            found |= _from_object(key, source.secret, inputs, mode)
        elif source.downward_api:
            found |= _from_pod(pod, source.downward_api.items, inputs, mode)
        elif source.service_account_token:
            found |= _token(pod, source.service_account_token, inputs, mode)
        else:
            raise VolumeError("projected volume: this kind of source is not supported")
    return found


_Source = types.ConfigMapVolumeSource | types.SecretVolumeSource | types.ConfigMapProjection | types.SecretProjection


def _from_object(key: ObjectKey, source: _Source, inputs: Inputs, default: int | None) -> dict[str, File]:
    content = inputs.objects.get(key)
    mode = DEFAULT_MODE if default is None else default
    if content is None:
        if source.optional:
            return {}
        raise VolumeError(f'{key.kind} "{key.name}" not found')
    if not source.items:
        return {name: File(data, mode) for name, data in content.data.items()}
    found: dict[str, File] = {}
    for item in source.items:
        if item.key in content.data:
            found[safe_path(item.path)] = File(content.data[item.key], mode if item.mode is None else item.mode)
        elif not source.optional:
            shown = (
                "configmap references non-existent config key"
                if key.kind == "configmap"
                else "references non-existent secret key"
            )
            raise VolumeError(f"{shown}: {item.key}")
    return found


def _from_pod(
    pod: types.Pod, items: Iterable[types.DownwardAPIVolumeFile], inputs: Inputs, default: int | None
) -> dict[str, File]:
    found: dict[str, File] = {}
    for item in items:
        try:
            if item.field_ref:
                text = downward.field(item.field_ref.field_path, pod, facts=inputs.facts)
            elif item.resource_field_ref:
                text = downward.resource(item.resource_field_ref, pod, None, facts=inputs.facts)
            else:
                raise VolumeError(f"downward API file {item.path} has neither fieldRef nor resourceFieldRef")
        except (downward.DownwardError, quantity.QuantityError) as e:
            raise VolumeError(str(e)) from e
        mode = item.mode if item.mode is not None else default
        found[safe_path(item.path)] = File(text.encode(), DEFAULT_MODE if mode is None else mode)
    return found


def _token_key(pod: types.Pod, source: types.ServiceAccountTokenProjection) -> TokenKey:
    return TokenKey(pod.metadata.uid, source.audience or "", source.expiration_seconds or DEFAULT_TOKEN_SECONDS)


def _token(
    pod: types.Pod, source: types.ServiceAccountTokenProjection, inputs: Inputs, default: int | None
) -> dict[str, File]:
    user = common_user(pod)
    context = pod.spec.security_context
    mode = DEFAULT_MODE if default is None else default
    if user is not None or (context is not None and context.fs_group is not None):
        mode = 0o600  # its owner, or the group added when it is written, is enough
    return {safe_path(source.path): File(inputs.tokens[_token_key(pod, source)].encode(), mode, user)}


def common_user(pod: types.Pod) -> int | None:
    """The user every container of the pod runs as, if its object says so."""
    context = pod.spec.security_context
    default = context.run_as_user if context else None
    users = set()
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        own = container.security_context.run_as_user if container.security_context else None
        users.add(default if own is None else own)
    return users.pop() if len(users) == 1 else None


def safe_path(path: str) -> str:
    """Return the path if it stays inside its volume. Raises VolumeError."""
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise VolumeError(f"invalid path in volume: {path!r} must be relative and must not contain '..'")
    return "/".join(part for part in parts if part not in ("", "."))
