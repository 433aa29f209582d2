"""Keeps this node's server an endpoint of the cluster DNS Service for as long as it runs.

The slice is looked at whenever it changes, and written when it does not say what it should. Neighbours may mark it as
not ready when they get no answer (see `peers`); that is taken back, with growing patience when they insist.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from kube import status
from kube.client.errors import ClientError
from kube.client.rest import Client
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from proxy.dns import publish
from proxy.dns.config import DNSConfiguration
from proxy.dns.views import EndpointSlice

log = logging.getLogger(__name__)

LOOK_SECONDS, STEADY_SECONDS = 60.0, 120.0
WRITE_SECONDS, WITHDRAW_SECONDS = 10.0, 3.0


class Published:
    """The slice of one server at `address`."""

    def __init__(
        self,
        config: DNSConfiguration,
        *,
        client: Client,
        clock: Clock,
        address: str,
        slices: Mapping[str, EndpointSlice],
    ) -> None:
        self._config, self._client, self._clock = config, client, clock
        self._address, self._slices = address, slices
        self._key = f"{config.namespace}/{publish.slice_name(config)}"
        self._changed = asyncio.Event()
        self._backoff = Backoff(0.2, 30.0)
        self._complained = ""
        self.done = False

    def slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        """For the informer."""
        changed = new or old
        if changed is not None and changed.metadata.name == publish.slice_name(self._config):
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        last = self._clock.monotonic()
        while True:
            self._changed.clear()
            if self._is_right():
                self.done = True
                if self._clock.monotonic() - last > STEADY_SECONDS:
                    self._backoff.reset("publish")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._changed.wait()
                continue
            last = self._clock.monotonic()
            await self._write()
            await self._clock.sleep(self._backoff.next("publish"))

    async def withdraw(self) -> bool:
        """Tells the Service that this server leaves; when the API does not answer in time, it just goes."""
        try:
            async with asyncio.timeout(WITHDRAW_SECONDS):
                await publish.publish(self._client, self._config, address=self._address, ready=False)
        except (status.ApiError, ClientError, TimeoutError) as error:
            log.warning("could not withdraw from Service %s: %s", self._config.service, error)
            return False
        return True

    def others(self) -> bool:
        """Whether another server is ready to take the questions over."""
        return any(
            endpoint.conditions.ready is not False
            for key, each in self._slices.items()
            if key != self._key and each.metadata.labels.service_name == self._config.service
            for endpoint in each.endpoints
        )

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(WRITE_SECONDS):
                await publish.publish(self._client, self._config, address=self._address, ready=True)
            self.done, self._complained = True, ""
        except (status.ApiError, ClientError, TimeoutError) as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.warning("not an endpoint of Service %s yet, it is tried again: %s", self._config.service, error)

    def _is_right(self) -> bool:
        found = self._slices.get(self._key)
        if found is None or len(found.endpoints) != 1:
            return False
        endpoint = found.endpoints[0]
        ports = {port.port for port in found.ports}
        return (
            tuple(endpoint.addresses) == (self._address,)
            and endpoint.conditions.ready is True
            and ports == {self._config.port}
        )
