"""What is asked, and which objects it is about. PURE: words and listed objects in, one frozen value out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

Object = Mapping[str, Any]
Objects = Mapping[str, Sequence[Object]]
POD, NODE, SERVICE, ADDRESS, NAME = "pod", "node", "service", "address", "name"
PREFIXES = {"pod": POD, "po": POD, "node": NODE, "no": NODE, "svc": SERVICE, "service": SERVICE}


class QuestionError(Exception):
    """The question cannot be asked like this; the message says what to say instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A pod, a node, a Service, an address or a name; `ip` is "" for a name, `node` the machine it is on, if known."""

    kind: str
    name: str
    namespace: str = ""
    ip: str = ""
    node: str = ""
    uid: str = ""
    phase: str = ""
    ports: tuple[int, ...] = ()

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One connection: from where, to where, on which port; `protocol` is tcp or udp."""

    source: End
    target: End
    port: int
    protocol: str


def ask(words: Sequence[str], objects: Objects, *, namespace: str, protocol: str) -> Question:
    """The question in words: `A -> B:PORT`, the arrow may be left out. Raises QuestionError."""
    said = [word for word in " ".join(words).replace("->", " ").split() if word]
    if len(said) != 2:
        raise QuestionError("say: nodeagent trace POD -> SERVICE:PORT")
    source = _source(said[0], objects, namespace=namespace)
    text, port = _port(said[1])
    target = _target(text, objects, namespace=source.namespace or namespace, named=source.kind == POD)
    chosen = port or next(iter(target.ports), 0)
    if not 0 < chosen < 65536:
        raise QuestionError(f"no port is known for {text}: say it, as in {text}:80")
    return Question(source=source, target=target, port=chosen, protocol=protocol)


def _port(text: str) -> tuple[str, int]:
    head, colon, tail = text.rpartition(":")
    if not colon or not tail.isdigit() or (":" in head and not head.startswith("[")):
        return text.strip("[]"), 0
    return head.strip("[]"), int(tail)


def _source(text: str, objects: Objects, *, namespace: str) -> End:
    kind, name, space = _split(text, namespace)
    finders = (_pod, _node) if not kind else {POD: (_pod,), NODE: (_node,)}.get(kind, ())
    for find in finders:
        if found := find(objects, name, space):
            return found
    raise QuestionError(f"no pod {space}/{name} and no node {name}: a connection starts at a pod or a node")


def _target(text: str, objects: Objects, *, namespace: str, named: bool) -> End:
    try:
        return by_address(objects, str(ip_address(text)))
    except ValueError:
        pass
    kind, name, space = _split(text, namespace)
    if not kind and (found := _pod(objects, name, space)):
        return found
    service = _service(objects, name, space)
    if not kind and (named and "/" not in text):
        # As a program in a pod would: by its name, with the port of the Service where it is one.
        head, _, rest = name.partition(".")
        meant = service or _service(objects, head, rest.partition(".")[0])
        if meant or not _node(objects, name, space):
            return End(kind=NAME, name=name, ports=meant.ports if meant else ())
    found = {POD: _pod, NODE: _node, SERVICE: _service}[kind](objects, name, space) if kind else service
    found = found or (_node(objects, name, space) if not kind else None)
    if found is None and not kind:
        return End(kind=NAME, name=name)
    if found is None:
        raise QuestionError(f"no {kind} {space}/{name}" if kind != NODE else f"no node {name}")
    if not found.ip:
        raise QuestionError(f"{found} has no address")
    return found


def _split(text: str, namespace: str) -> tuple[str, str, str]:
    """Kind ("" where none is said), name and namespace of `name`, `pod/name`, `space/name`, `pod/space/name`."""
    parts = text.split("/")
    kind = PREFIXES.get(parts[0], "") if len(parts) > 1 else ""
    rest = parts[1:] if kind else parts
    return (kind, rest[-1], rest[0]) if len(rest) == 2 else (kind, rest[-1], namespace)


def by_address(objects: Objects, ip: str) -> End:
    """Whose address it is: a running pod's, a node's, or nobody's here."""
    for item in objects["pods"]:
        state = item.get("status", {})
        if state.get("podIP") == ip and not item["spec"].get("hostNetwork") and state.get("phase") == "Running":
            return pod(item)
    for item in objects["nodes"]:
        if node(item).ip == ip:
            return node(item)
    return End(kind=ADDRESS, name=ip, ip=ip)


def _pod(objects: Objects, name: str, namespace: str) -> End | None:
    return next((pod(item) for item in objects["pods"] if _named(item, name, namespace)), None)


def _node(objects: Objects, name: str, namespace: str) -> End | None:
    return next((node(item) for item in objects["nodes"] if item["metadata"]["name"] == name), None)


def _service(objects: Objects, name: str, namespace: str) -> End | None:
    return next((_of_service(item) for item in objects["services"] if _named(item, name, namespace)), None)


def _named(item: Object, name: str, namespace: str) -> bool:
    return bool(item["metadata"]["name"] == name and item["metadata"]["namespace"] == namespace)


def pod(item: Object) -> End:
    """A pod as an end."""
    meta, spec, state = item["metadata"], item["spec"], item.get("status", {})
    ports = tuple(port["containerPort"] for each in spec.get("containers", ()) for port in each.get("ports", ()))
    return End(
        kind=POD,
        name=meta["name"],
        namespace=meta["namespace"],
        ip=state.get("podIP", ""),
        node=spec.get("nodeName", ""),
        uid=meta["uid"],
        phase=state.get("phase", "Pending"),
        ports=ports,
    )


def node(item: Object) -> End:
    """A node as an end."""
    name = item["metadata"]["name"]
    found = [each["address"] for each in item.get("status", {}).get("addresses", ()) if each["type"] == "InternalIP"]
    return End(kind=NODE, name=name, ip=found[0] if found else "", node=name)


def _of_service(item: Object) -> End:
    meta, spec = item["metadata"], item["spec"]
    address = spec.get("clusterIP", "")
    ports = tuple(port["port"] for port in spec.get("ports", ()))
    ip = "" if address == "None" else address
    return End(kind=SERVICE, name=meta["name"], namespace=meta["namespace"], ip=ip, ports=ports)
