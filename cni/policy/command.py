"""`nodeagent policy explain A B PORT`: asks the API and says which policy allows or denies a connection.

Owns the command line and what is read for it; the judgement is `explain`'s.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cni.policy import backends, explain, model, rules
from cni.policy.explain import End
from cni.policy.model import Pod, PolicyNamespace, PolicyPod
from cni.policy.rules import Policy
from kube import kubeconfig, scheme, status
from kube.client.errors import ClientError
from kube.client.http import HttpTransport
from kube.client.rest import Client
from kube.scheme import Resource
from kube.types import NetworkPolicy, decode
from kube.types.base import DecodeError

ALLOWED, DENIED, FAILED = 0, 1, 2
PROTOCOLS = ("tcp", "udp", "sctp")


class UsageError(Exception):
    """What was asked cannot be answered; the message says why."""


def run(arguments: argparse.Namespace) -> int:
    """Prints the verdict. 0 allowed (to a Service: to all of its endpoints), 1 denied, 2 it cannot be said."""
    try:
        path = Path(arguments.kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube/config")
        found = asyncio.run(_read(path, services=backends.named(arguments.to) is not None))
        verdicts = judge_all(found, source=arguments.source, to=arguments.to, port=arguments.port)
    except (UsageError, kubeconfig.KubeconfigError, status.ApiError, ClientError, DecodeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    for place, verdict in verdicts:
        first, *rest = explain.words(verdict)
        print("\n".join([first + place, *rest]))
    return ALLOWED if all(verdict.allowed for _, verdict in verdicts) else DENIED


Objects = Mapping[str, Sequence[Mapping[str, Any]]]


def judge_all(found: Objects, *, source: str, to: str, port: str) -> Sequence[tuple[str, explain.Verdict]]:
    """One verdict, or for `svc/namespace/name` one for each endpoint, with its place in words. Raises UsageError. PURE.

    A Service also needs the keys services and endpointslices.
    """
    service = backends.named(to)
    if service is None:
        return [("", judge(found, source=source, to=to, port=port))]
    try:
        ends = backends.of(found, service, port=port)
    except backends.UnknownService as error:
        raise UsageError(str(error)) from error
    return [
        (
            f" at endpoint {address} {number}/{protocol}",
            judge(found, source=source, to=address, port=f"{number}/{protocol}"),
        )
        for address, protocol, number in ends
    ]


def judge(found: Objects, *, source: str, to: str, port: str) -> explain.Verdict:
    """The verdict from listed objects (keys pods, namespaces, networkpolicies). Raises UsageError. PURE."""
    pods = {}
    for item in found["pods"]:
        pod = decode(json.dumps(item), PolicyPod)
        pods[f"{pod.metadata.namespace}/{pod.metadata.name}"] = pod
    spaces = [decode(json.dumps(item), PolicyNamespace) for item in found["namespaces"]]
    start, end = _end(source, pods), _end(to, pods)
    protocol, number = _port(port, end.pod)
    return explain.decide(
        list(map(_policy, found["networkpolicies"])),
        {each.metadata.name: each.metadata.labels for each in spaces},
        source=start,
        to=end,
        protocol=protocol,
        port=number,
    )


async def _read(path: Path, *, services: bool) -> Objects:
    client = Client(HttpTransport(kubeconfig.load(path)), user_agent="nodeagent-policy")
    try:
        wanted = (*WANTED, *OF_SERVICES) if services else WANTED
        return {each.plural: await _items(client, each) for each in wanted}
    finally:
        await client.close()


WANTED = (scheme.PODS, scheme.NAMESPACES, scheme.NETWORK_POLICIES)
OF_SERVICES = (scheme.SERVICES, scheme.ENDPOINT_SLICES)


async def _items(client: Client, resource: Resource) -> Sequence[Mapping[str, Any]]:
    items: Sequence[Mapping[str, Any]] = (await client.list(resource)).get("items") or ()
    return items


def _policy(item: Mapping[str, Any]) -> Policy:
    try:
        return rules.policy(decode(json.dumps(item), NetworkPolicy))
    except rules.PolicyError as error:
        raise UsageError(str(error)) from error


def _end(text: str, pods: Mapping[str, PolicyPod]) -> End:
    """A pod by `namespace/name` or `name` in `default`, or an address, which may be a pod's."""
    by_address: dict[str, Pod] = {}
    for found in pods.values():
        pod = model.pod(found, node="")
        for each in pod.addresses if pod else ():
            if pod and (each not in by_address or pod.rank > by_address[each].rank):
                by_address[each] = pod
    try:
        address = str(ip_address(text))
    except ValueError:
        key = text if "/" in text else f"default/{text}"
    else:
        return End(address=address, pod=by_address.get(address))
    if key not in pods:
        raise UsageError(f"no pod {key}: give namespace/name or an address")
    named = model.pod(pods[key], node="")
    if named is None:
        raise UsageError(f"pod {key} has no address of its own (host network, ended, or not started): no policy holds")
    return End(address=named.addresses[0], pod=named)


def _port(text: str, owner: Pod | None) -> tuple[str, int]:
    """`80`, `80/udp`, or the name of one of the owner's ports, as protocol and number."""
    port, _, protocol = text.partition("/")
    protocol = (protocol or "tcp").lower()
    if protocol not in PROTOCOLS:
        raise UsageError(f"port {text!r}: protocol is none of {', '.join(PROTOCOLS)}")
    if port.isdigit() and 0 < int(port) <= rules.LAST_PORT:
        return protocol, int(port)
    named = [each for each in (owner.ports if owner else ()) if (each.name, each.protocol) == (port, protocol)]
    if not named:
        raise UsageError(f"port {text!r}: neither a port number nor the name of a {protocol} port of the second pod")
    return protocol, named[0].port
