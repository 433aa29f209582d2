"""Joining, step by step: verify the server, check this machine against the cluster, get its certificate.

Changes nothing here and leaves nothing in the cluster but the signing request; what came of it is the caller's to keep.
"""

import logging
from dataclasses import dataclass, field

from kube import bootstraptoken, scheme, status
from kube.client import errors as client_errors
from kube.client.http import HttpTransport
from kube.client.rest import Client
from kube.kubeconfig import RestConfig
from kube.runtime.clock import Clock
from nodeagent.certificates import plan as certificates
from nodeagent.certificates import request
from nodeagent.join import discover, plan
from nodeagent.join.errors import JoinError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a machine has after joining."""

    server: str
    servers: tuple[str, ...]
    ca_pem: bytes
    client_pem: bytes = field(repr=False)
    """Certificate and key."""
    cluster: plan.Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Who wants to join what. `patience`: seconds to wait for somebody to approve."""

    servers: tuple[str, ...]
    join: bootstraptoken.JoinString
    machine: plan.Machine
    patience: float = 120.0


async def verify(wish: Wish) -> discover.Found:
    """The server, known to be of the right cluster, with its clock near ours; JoinError otherwise."""
    found = await discover.find(wish.servers, wish.join.pin)
    if problem := discover.skew_problem(found.skew):
        raise JoinError(problem)
    return found


async def join(wish: Wish, *, clock: Clock) -> Joined:
    """Join, or raise JoinError."""
    found = await verify(wish)
    rest = RestConfig(server=found.server, ca_data=found.ca_pem, token=str(wish.join.token))
    client = Client(HttpTransport(rest), user_agent="nodeagent-join")
    try:
        await _check(client, wish.machine)
        cluster = await settings(client)
        pair = await request.issue(client, certificates.client(wish.machine.name), clock=clock, patience=wish.patience)
    except (status.ApiError, client_errors.ClientError, request.Refused) as e:
        raise JoinError(_explain(e, found.server)) from e
    finally:
        await client.close()
    return Joined(server=found.server, servers=wish.servers, ca_pem=found.ca_pem, client_pem=pair, cluster=cluster)


async def _check(client: Client, machine: plan.Machine) -> None:
    answer = await client.get_path("/version")
    if problem := plan.version_problem(answer.get("gitVersion", "")):
        raise JoinError(problem)
    if refused := plan.refusals(machine, await _nodes(client, machine.name)):
        raise JoinError("; ".join(refused))


async def _nodes(client: Client, name: str) -> list[plan.Json]:
    """All nodes, or the namesake where a token may see no more, as kubeadm's tokens."""
    try:
        found: list[plan.Json] = (await client.list(scheme.NODES))["items"]
        return found
    except status.ApiError as e:
        if e.code != 403:
            raise
    try:
        return [await client.get(scheme.NODES, name)]
    except status.ApiError as e:
        if e.code not in (403, 404):
            raise
        return []


async def settings(client: Client) -> plan.Cluster:
    """What all nodes of the cluster agree upon."""
    kubelet = await _setting(client, "kubelet-config", "kubelet")
    return plan.cluster(kubelet, await _setting(client, "kube-proxy", "config.conf"))


async def _setting(client: Client, name: str, key: str) -> str | None:
    try:
        found = await client.get(scheme.CONFIG_MAPS, name, namespace="kube-system")
    except status.ApiError as e:
        if e.code not in (403, 404):
            raise
        return None
    text: str | None = (found.get("data") or {}).get(key)
    return text


def _explain(error: Exception, server: str) -> str:
    if isinstance(error, status.ApiError) and error.code == 401:
        return (
            f"{server} does not accept this token: it has expired or was deleted. `nodeagent token list` on the server "
            "shows those that are good, `nodeagent token create` makes one"
        )
    return f"joining by {server} failed: {error}"
