"""The environment of a container, and `$(VAR)` in its command and arguments. PURE.

Owns the order and the rules: service variables, then envFrom, then env, each seeing what came before.
Must not know where ConfigMaps and Secrets come from.
Follows the environment rules of the 1.36 kubelet and its third-party expansion package.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from kube import types
from nodeagent.errors import NodeagentError
from nodeagent.pods import downward

Container = types.Container | types.EphemeralContainer
Contents = Mapping[str, Mapping[str, bytes]]
"""Data of ConfigMaps or Secrets of the pod's namespace, by name; what is absent does not exist."""


class EnvError(NodeagentError):
    """The environment cannot be made. The container waits with reason CreateContainerConfigError and this message."""


@dataclasses.dataclass(frozen=True, slots=True)
class References:
    """The ConfigMaps and Secrets an environment reads."""

    config_maps: frozenset[str]
    secrets: frozenset[str]


def references(container: Container) -> References:
    """List what `expand` needs, so that it can be fetched first."""
    config_maps = {source.config_map_ref.name for source in container.env_from if source.config_map_ref}
    secrets = {source.secret_ref.name for source in container.env_from if source.secret_ref}
    for variable in container.env:
        if variable.value_from and variable.value_from.config_map_key_ref:
            config_maps.add(variable.value_from.config_map_key_ref.name)
        if variable.value_from and variable.value_from.secret_key_ref:
            secrets.add(variable.value_from.secret_key_ref.name)
    return References(frozenset(config_maps), frozenset(secrets))


def expand(
    pod: types.Pod,
    container: Container,
    *,
    services: Iterable[types.Service] = (),
    config_maps: Contents,
    secrets: Contents,
    pod_ip: str = "",
    host_ip: str = "",
    allocatable: downward.Quantities | None = None,
    pod_ips: Sequence[str] = (),
) -> list[tuple[str, str]]:
    """Name and value of every variable. Raises EnvError with the message upstream shows."""
    facts = downward.Facts(
        pod_ips=pod_ips or ((pod_ip,) if pod_ip else ()),
        host_ips=(host_ip,) if host_ip else (),
        allocatable=allocatable or {},
    )
    variables = service_variables(pod, services)
    for source in container.env_from:
        variables |= _from_source(source, pod.metadata.namespace, config_maps, secrets)
    for variable in container.env:
        if variable.value or variable.value_from is None:
            variables[variable.name] = substitute(variable.value, variables)
            continue
        value = _from_reference(variable.value_from, pod, container, config_maps, secrets, facts)
        if value is not None:
            variables[variable.name] = value
    return list(variables.items())


def expand_words(words: Iterable[str], variables: Iterable[tuple[str, str]]) -> list[str]:
    """Put variables into a command or its arguments."""
    known = dict(variables)
    return [substitute(word, known) for word in words]


def substitute(text: str, variables: Mapping[str, str], *, missing: list[str] | None = None) -> str:
    """Replace `$(NAME)`; `$$` stands for `$`, and an unknown or unclosed name stays as it is.

    Unknown names are put into `missing`.
    """
    parts, position = [], 0
    while (dollar := text.find("$", position)) >= 0:
        parts.append(text[position:dollar])
        following = text[dollar + 1 : dollar + 2]
        end = text.find(")", dollar + 2) if following == "(" else -1
        if following == "$":
            parts.append("$")
            position = dollar + 2
        elif end >= 0:
            name = text[dollar + 2 : end]
            parts.append(variables.get(name, f"$({name})"))
            if missing is not None and name not in variables:
                missing.append(name)
            position = end + 1
        else:
            parts.append("$" + following)
            position = dollar + 1 + len(following)
    return "".join(parts) + text[position:]


def service_variables(pod: types.Pod, services: Iterable[types.Service]) -> dict[str, str]:
    """Variables for the services a pod may see: those of its namespace unless it opts out, and always `kubernetes`."""
    seen: dict[str, str] = {}
    links = pod.spec.enable_service_links is not False
    for service in services:
        meta, address = service.metadata, service.spec.cluster_ip
        if address in ("", "None") or not service.spec.ports:
            continue
        everywhere = meta.namespace == "default" and meta.name == "kubernetes"
        own = links and meta.namespace == pod.metadata.namespace
        # A namespace's own service named `kubernetes` hides the cluster's.
        if own or (everywhere and "KUBERNETES_SERVICE_HOST" not in seen):
            seen |= _of_service(meta.name, address, service.spec.ports)
    return seen


def _of_service(name: str, address: str, ports: Sequence[types.ServicePort]) -> dict[str, str]:
    prefix = name.upper().replace("-", "_")
    host = f"[{address}]" if ":" in address else address
    variables = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0].port)}
    for port in ports:
        if port.name:
            variables[f"{prefix}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
    for number, port in enumerate(ports):
        url = f"{port.protocol.lower()}://{host}:{port.port}"
        link = f"{prefix}_PORT_{port.port}_{port.protocol.upper()}"
        if number == 0:
            variables[f"{prefix}_PORT"] = url
        variables[link] = url
        variables[f"{link}_PROTO"] = port.protocol.lower()
        variables[f"{link}_PORT"] = str(port.port)
        variables[f"{link}_ADDR"] = address
    return variables


def _from_source(
    source: types.EnvFromSource, namespace: str, config_maps: Contents, secrets: Contents
) -> dict[str, str]:
    reference = source.config_map_ref or source.secret_ref
    if reference is None:
        return {}
    kind, contents = ("configmap", config_maps) if source.config_map_ref else ("secret", secrets)
    data = contents.get(reference.name)
    if data is None:
        if reference.optional:
            return {}
        raise EnvError(f'{kind} "{reference.name}" not found')
    named = {source.prefix + key: value for key, value in data.items()}
    return {name: _text(value, kind, namespace, reference.name) for name, value in named.items() if _is_name(name)}


def _is_name(name: str) -> bool:
    return bool(name) and all(" " <= c <= "~" and c != "=" for c in name)


def _from_reference(
    source: types.EnvVarSource,
    pod: types.Pod,
    container: Container,
    config_maps: Contents,
    secrets: Contents,
    facts: downward.Facts,
) -> str | None:
    try:
        if source.field_ref:
            return downward.field(source.field_ref.field_path, pod, facts=facts)
        if source.resource_field_ref:
            return downward.resource(source.resource_field_ref, pod, container, facts=facts)
    except downward.DownwardError as e:
        raise EnvError(str(e)) from e
    if source.config_map_key_ref:
        return _key("configmap", source.config_map_key_ref, pod.metadata.namespace, config_maps)
    if source.secret_key_ref:
        return _key("secret", source.secret_key_ref, pod.metadata.namespace, secrets)
    raise EnvError("env valueFrom: this kind of source is not supported")


_SHOWN = {"configmap": "ConfigMap", "secret": "Secret"}


def _key(
    kind: str, reference: types.ConfigMapKeySelector | types.SecretKeySelector, namespace: str, contents: Contents
) -> str | None:
    data = contents.get(reference.name)
    if data is None:
        if reference.optional:
            return None
        raise EnvError(f'{kind} "{reference.name}" not found')
    if reference.key not in data:
        if reference.optional:
            return None
        raise EnvError(f"couldn't find key {reference.key} in {_SHOWN[kind]} {namespace}/{reference.name}")
    return _text(data[reference.key], kind, namespace, reference.name)


def _text(value: bytes, kind: str, namespace: str, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as e:
        # CRI carries variables as text: bytes that are none cannot be passed on.
        raise EnvError(f"{_SHOWN[kind]} {namespace}/{name} has a value that is not UTF-8") from e
