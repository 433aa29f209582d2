"""Keeps this node's Node object: registered, its status true, its Lease renewed."""

import asyncio
import logging
from typing import Any, Final

import kube.runtime.log
from kube import scheme, status
from kube.client import errors as client_errors
from kube.client import lease
from kube.runtime import clock
from kube.runtime.backoff import Backoff
from kube.runtime.component import Deps
from nodeagent import config, errors
from nodeagent.cri import records, runtime
from nodeagent.node import health, machine, object

log = logging.getLogger(__name__)

Json = dict[str, Any]
LEASE_NAMESPACE: Final = "kube-node-lease"
RETRY: Final = 0.2  # seconds, the first time
MAX_RETRY: Final = 7.0
RETRY_JITTER: Final = 0.5
IMAGES_EVERY: Final = 30.0


class NodeKeeper:
    """The Node object and what pods are told about it."""

    def __init__(
        self,
        settings: config.Settings,
        deps: Deps,
        *,
        runtime: runtime.Runtime,
        health: health.RuntimeHealth,
        machine: machine.Machine,
    ) -> None:
        self._settings = settings
        self._deps = deps
        self._runtime = runtime
        self._health = health
        self._machine = machine
        self._wake = asyncio.Event()
        self._images: list[records.Image] = []
        self._images_at = float("-inf")
        self._sent: Json = {}
        self._sent_at = float("-inf")
        self._was_ready: str | None = None
        self.under: frozenset[str] | None = None
        self.going_down = False
        self.devices: dict[str, tuple[int, int]] = {}
        """What device plugins bring: capacity and what pods may have of it."""
        self.registered = False
        self.host_ips: tuple[str, ...] = (deps.node_ip,)
        self.memory_capacity = machine.memory
        self.lease = lease.LeaseKeeper(
            deps.client,
            name=settings.node_name,
            namespace=LEASE_NAMESPACE,
            holder=settings.node_name,
            duration=settings.kubelet.node_lease_duration_seconds,
            clock=deps.clock,
        )

    @property
    def allocatable(self) -> dict[str, str]:
        """Resources for pods, as quantities."""
        own = object.allocatable(self._settings, self._machine)
        return own | {name: str(healthy) for name, (_, healthy) in self.devices.items()}

    @property
    def for_pods(self) -> tuple[int, int]:
        """What pods may use together: thousandths of cores, bytes."""
        return object.for_pods(self._settings, self._machine)

    @property
    def labels(self) -> dict[str, str]:
        """The node's own labels."""
        return object.labels(self._settings, self._machine)

    @property
    def network_problem(self) -> str | None:
        """Why pods cannot have a network yet; None when they can."""
        return self._health.network_problem()

    def pressed(self, under: frozenset[str]) -> None:
        """The pressure conditions that hold now."""
        if under != self.under:
            self.under = under
            self.changed()

    def stopping(self, going_down: bool) -> None:
        """Whether the machine is about to stop."""
        self.going_down = going_down
        self.changed()

    def changed(self) -> None:
        """Has the status looked at now."""
        self._wake.set()

    async def run(self) -> None:
        """Registers, then keeps status and lease until cancelled."""
        await self._register()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.lease.run())
            group.create_task(self._keep_status())

    async def _register(self) -> None:
        complaint = ""
        retries = Backoff(RETRY, MAX_RETRY, jitter=RETRY_JITTER)
        while not self.registered:
            try:
                found = await self._find_or_create()
            except (status.ApiError, client_errors.ClientError) as e:
                text = kube.runtime.log.describe(e)
                if text != complaint:
                    log.warning("node %s cannot be registered, will try again: %s", self._settings.node_name, text)
                complaint = text
                await self._deps.clock.sleep(retries.next())
                continue
            self.registered = True
            self.lease.owner = {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self._settings.node_name,
                "uid": found["metadata"]["uid"],
            }
            self._sent = found.get("status", {})

    async def _find_or_create(self) -> Json:
        client, name = self._deps.client, self._settings.node_name
        wanted = object.new(self._settings, addresses=self.host_ips, state=await self._state())
        try:
            created = await client.create(scheme.NODES, wanted)
        except status.ApiError as e:
            if not status.is_already_exists(e):
                raise
        else:
            log.info("node %s registered", name)
            self._sent_at = self._deps.clock.monotonic()
            return created
        found = await client.get(scheme.NODES, name)
        have = found["metadata"].get("labels") or {}
        missing = {key: value for key, value in wanted["metadata"]["labels"].items() if have.get(key) != value}
        if missing:
            found = await client.patch(scheme.NODES, name, {"metadata": {"labels": missing}}, kind="merge")
        return found

    async def _keep_status(self) -> None:
        retries = Backoff(RETRY, MAX_RETRY, jitter=RETRY_JITTER)
        while True:
            self._wake.clear()
            try:
                await self._write()
                retries.reset()
                pause = self._settings.status_update
            except (status.ApiError, client_errors.ClientError) as e:
                log.warning("status of node %s not written: %s", self._settings.node_name, kube.runtime.log.describe(e))
                pause = retries.next()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _write(self) -> None:
        """The status, if it changed or was not sent for long."""
        wanted = object.status(self._settings, addresses=self.host_ips, state=await self._state(), before=self._sent)
        now = self._deps.clock.monotonic()
        same = object.without_heartbeat(wanted) == object.without_heartbeat(self._sent)
        name = self._settings.node_name
        try:
            if same and now - self._sent_at < self._settings.status_report and await self._stands(wanted):
                return
            await self._deps.client.patch(
                scheme.NODES, name, {"status": wanted}, kind="strategic", subresource="status"
            )
        except status.ApiError as e:
            if not status.is_not_found(e):
                raise
            log.warning("node %s is gone from the API; registering it again", name)
            self.registered = False
            await self._register()
            return
        self._sent, self._sent_at = wanted, now
        self._tell_ready(wanted)

    async def _stands(self, wanted: Json) -> bool:
        """Whether the API still shows what was sent: a node that was silent too long is called unknown by others."""
        found = await self._deps.client.get(scheme.NODES, self._settings.node_name)
        shown = {each["type"]: each["status"] for each in found.get("status", {}).get("conditions", ())}
        return all(shown.get(each["type"]) == each["status"] for each in wanted["conditions"])

    def _tell_ready(self, wanted: Json) -> None:
        ready = next(c["status"] for c in wanted["conditions"] if c["type"] == "Ready")
        if ready != self._was_ready:
            self._was_ready = ready
            name = "NodeReady" if ready == "True" else "NodeNotReady"
            reference = {"apiVersion": "v1", "kind": "Node", "name": self._settings.node_name}
            message = f"Node {self._settings.node_name} status is now: {name}"
            self._deps.events.event(reference, "Normal", name, message)

    async def _state(self) -> object.State:
        clock_now = self._deps.clock.monotonic()
        if clock_now - self._images_at > IMAGES_EVERY and self._health.info is not None:
            try:
                self._images = await self._runtime.images.list()
                self._images_at = clock_now
            except errors.RuntimeFault as e:
                log.debug("images not listed: %s", e)
        return object.State(
            machine=self._machine,
            runtime=self._health.info,
            runtime_problem=self._health.runtime_problem(),
            network_problem=self._health.network_problem(),
            images=self._images,
            pressure=machine.pressure(self._settings.root),
            under=self.under,
            going_down=self.going_down,
            devices=self.devices,
            now=clock.rfc3339(self._deps.clock.now()),
        )
