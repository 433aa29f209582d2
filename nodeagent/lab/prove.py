"""Proof that a lab is a cluster: the API answers, the nodes are Ready, and a pod reaches a Service by address and name.

Speaks to the API server as any client does. Must not know machines.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from kube import kubeconfig, scheme, status
from kube.client import errors as client_errors
from kube.client import http, rest
from nodeagent.lab import demo, errors, phases

T = TypeVar("T")
Object = dict[str, Any]
API_SECONDS = 60.0
NODES_SECONDS = 60.0
PODS_SECONDS = 60.0
POLL_SECONDS = 0.05
LAST_REPLIES = 3


async def wait_for_cluster(config: Path, *, nodes: int, report: phases.Phases) -> None:
    """Return when the API is ready and this many nodes are. Raises LabError naming what is not."""
    client = connect(config)
    try:
        with report.step("API server"):
            await until("the API server", lambda: api_ready(client), seconds=API_SECONDS)
        with report.step("nodes") as step:
            await until("all nodes to be Ready", lambda: nodes_ready(client, nodes), seconds=NODES_SECONDS)
            step.detail = f"{nodes} Ready"
    finally:
        await client.close()


async def prove(config: Path, *, report: phases.Phases) -> list[str]:
    """Run the demonstration and return the replies, one line each. Raises LabError with what went wrong."""
    client = connect(config)
    try:
        return await _demonstrate(client, report=report)
    except (client_errors.ClientError, status.ApiError) as error:
        raise errors.LabError(f"the demonstration failed: {error}") from error
    finally:
        await client.close()


async def _demonstrate(client: rest.Client, *, report: phases.Phases) -> list[str]:
    with report.step("Deployment web"):
        await client.create(scheme.DEPLOYMENTS, demo.deployment())
        service = await client.create(scheme.SERVICES, demo.service())
        await until("the two replicas of web", lambda: available(client), seconds=PODS_SECONDS)
    with report.step("Service web, by address and by name") as step:
        await client.create(scheme.PODS, demo.client(service["spec"]["clusterIP"]))
        phase = await until("the client pod to end", lambda: ended(client), seconds=PODS_SECONDS)
        replies = (await log(client, demo.CLIENT)).splitlines()
        step.detail = f"{len(replies)} replies"
    if phase != "Succeeded":
        raise errors.LabError("the client pod did not reach the Service: " + "; ".join(replies[-LAST_REPLIES:]))
    return replies


def connect(config: Path) -> rest.Client:
    """A client with this kubeconfig."""
    return rest.Client(http.HttpTransport(kubeconfig.load(config)), user_agent="nodeagent-lab")


async def until(what: str, check: Callable[[], Awaitable[T | None]], *, seconds: float) -> T:
    """Ask again until `check` gives a value. Raises LabError with the last reason when it does not in time."""
    deadline = time.monotonic() + seconds
    reason = "not yet"
    while True:
        try:
            if (value := await check()) is not None:
                return value
        except (client_errors.ClientError, status.ApiError) as error:
            reason = str(error)
        if time.monotonic() > deadline:
            raise errors.LabError(
                f"waited {seconds:.0f} s for {what}: {reason}", hint="look into .lab/machines/*/data/*"
            )
        await asyncio.sleep(POLL_SECONDS)


async def api_ready(client: rest.Client) -> bool | None:
    """True when /readyz says so."""
    answer = await client.transport.request("GET", "/readyz", timeout=5)
    return True if answer.status == 200 else None


async def nodes_ready(client: rest.Client, count: int) -> bool | None:
    """True when this many nodes have the condition Ready."""
    items = (await client.list(scheme.NODES))["items"]
    return True if sum(has_condition(node, "Ready") for node in items) >= count else None


def has_condition(obj: Object, name: str) -> bool:
    """Whether the object's status has this condition as True."""
    conditions = obj.get("status", {}).get("conditions", [])
    return any(each["type"] == name and each["status"] == "True" for each in conditions)


async def available(client: rest.Client) -> bool | None:
    """True when every replica of web is available."""
    found = await client.get(scheme.DEPLOYMENTS, demo.NAME, namespace=demo.NAMESPACE)
    return True if found.get("status", {}).get("availableReplicas", 0) == demo.REPLICAS else None


async def ended(client: rest.Client) -> str | None:
    """The client pod's phase, once it is a last one."""
    pod = await client.get(scheme.PODS, demo.CLIENT, namespace=demo.NAMESPACE)
    phase = pod.get("status", {}).get("phase", "")
    return phase if phase in ("Succeeded", "Failed") else None


async def log(client: rest.Client, pod: str) -> str:
    """What the pod printed."""
    path = scheme.PODS.path(namespace=demo.NAMESPACE, name=pod, subresource="log")
    answer = await client.transport.request("GET", path, timeout=10)
    if answer.status != 200:
        raise status.from_body(answer.status, answer.body)
    return answer.body.decode(errors="replace")


async def overview(config: Path) -> dict[str, list[Object]]:
    """The nodes, pods and services there are."""
    client = connect(config)
    try:
        kinds = {"nodes": scheme.NODES, "pods": scheme.PODS, "services": scheme.SERVICES}
        return {name: (await client.list(resource))["items"] for name, resource in kinds.items()}
    finally:
        await client.close()
