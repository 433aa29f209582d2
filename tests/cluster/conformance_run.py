"""What the checks of the conformance suite ask of a cluster: one set of pods, looked at by many tests."""

import asyncio
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from harness import Kubectl

from kube import kubeconfig
from kube.client import tls

Json = dict[str, Any]


@dataclass
class Run:
    """The pods, and what became of them."""

    kubectl: Kubectl
    seen: dict[str, str] = field(default_factory=dict)

    def pod(self, name: str) -> Json:
        found: Json = json.loads(self.kubectl.ok("get", "pod", name, "-o", "json"))
        return found

    def phase(self, name: str, *phases: str, seconds: float = 90.0) -> Json:
        """The pod once it is in one of these phases."""
        return self.until(
            lambda: (it := self.pod(name)) and it["status"].get("phase") in phases and it, seconds=seconds
        )

    def until(self, true: Callable[[], Any], *, seconds: float = 90.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.2)
        return found

    def log(self, name: str, container: str) -> str:
        """What a container that has ended printed."""
        key = f"{name}/{container}"
        if key not in self.seen:
            self.phase(name, "Succeeded", "Failed")
            self.seen[key] = self.kubectl.ok("logs", name, "-c", container)
        return self.seen[key]

    def variables(self, name: str, container: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.log(name, container).splitlines() if "=" in line)

    def container(self, name: str, container: str, *, init: bool = False) -> Json:
        entries = self.pod(name)["status"].get("initContainerStatuses" if init else "containerStatuses", [])
        return next((dict(each) for each in entries if each["name"] == container), {})

    def ended(self, name: str, container: str) -> Json:
        """How a container ended."""
        found = self.until(lambda: self.container(name, container).get("state", {}).get("terminated"))
        return dict(found)

    def ready(self, name: str, *, seconds: float = 90.0) -> None:
        self.kubectl.ok(
            "wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={seconds:.0f}s", seconds=seconds + 5
        )

    def echoed(self, text: str, *, seconds: float = 60.0) -> None:
        """The hook handler was asked for this."""
        self.until(lambda: text in self.kubectl.ok("logs", "handler"), seconds=seconds)


async def websocket(run: Run, path: str, protocol: str) -> list[bytes]:
    """All messages of a WebSocket, until it ends."""
    rest = kubeconfig.load(run.kubectl.config)
    context: ssl.SSLContext = tls.context(rest)
    name = "v4.channel.k8s.io" if protocol == "v4" else protocol
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession() as session,
        session.ws_connect(rest.server + path, ssl=context, protocols=(name,)) as socket,
    ):
        return [m.data if isinstance(m.data, bytes) else m.data.encode() async for m in socket]
