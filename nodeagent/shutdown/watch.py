"""Holding up the machine's shutdown until its pods have ended. It does what `plan` says.

Where there is no logind, or it allows less time than is configured, that is said once and pods end as well as they can.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from kube.runtime import files
from kube.runtime.clock import Clock
from nodeagent.pods import pool, spec
from nodeagent.shutdown import dbus, logind, plan

log = logging.getLogger(__name__)

WHY: Final = "Kubelet needs time to handle node shutdown"
RETRY: Final = 30.0
POLL: Final = 0.2
CONFIGURATION: Final = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
Connect = Callable[[], Awaitable[logind.Machine]]


class ShutdownWatch:
    """Listens for shutdowns. `tell` is called with whether the node is going down."""

    def __init__(
        self,
        *,
        shares: Sequence[plan.Share],
        pool: pool.PodPool,
        tell: Callable[[bool], None],
        clock: Clock,
        connect: Connect = logind.connect,
        configuration: Path = CONFIGURATION,
    ) -> None:
        self._shares, self._pool, self._tell, self._clock = tuple(shares), pool, tell, clock
        self._connect, self._configuration = connect, configuration
        self._complaint = ""

    async def run(self) -> None:
        """Holds up shutdowns until cancelled; does nothing where none is configured."""
        while self._shares:
            try:
                await self._listen(await self._connect())
            except (dbus.BusError, OSError) as e:
                if str(e) != self._complaint:
                    self._complaint = str(e)
                    log.warning("a shutdown of this machine will not wait for its pods: %s", e)
            await self._clock.sleep(RETRY)

    async def _listen(self, machine: logind.Machine) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(machine, logind.Logind):
                stack.push_async_callback(machine.close)
            await self._check(machine)
            held = await machine.inhibit(WHY)
            try:
                self._complaint = ""
                async for stopping in machine.shutdowns():
                    self._tell(stopping)
                    if stopping:
                        await self._end_pods()
                        os.close(held)
                        held = -1
                    elif held < 0:
                        held = await machine.inhibit(WHY)
            finally:
                if held >= 0:
                    os.close(held)

    async def _check(self, machine: logind.Machine) -> None:
        """Has logind allow as much time as pods are promised."""
        wanted = sum(share.seconds for share in self._shares)
        if await machine.longest_delay() >= wanted:
            return
        text = f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={int(wanted)}\n"
        self._configuration.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(files.replace, self._configuration, text.encode(), 0o644)
        await asyncio.to_thread(reload_logind)
        await self._clock.sleep(1.0)
        if (allowed := await machine.longest_delay()) < wanted:
            log.warning("logind holds a shutdown up for %g s at most, pods are promised %g s", allowed, wanted)

    async def _end_pods(self) -> None:
        """Round after round: pods are told to end and waited for, as long as their share lasts."""
        active = [worker.pod for worker in self._pool.workers if worker.active]
        log.warning("the machine is about to stop: %d pods are ended first", len(active))
        for each in plan.rounds(active, self._shares):
            for uid, end in each.ends.items():
                if (worker := self._pool.worker(uid)) is not None:
                    worker.finish(end)
            deadline = self._clock.monotonic() + each.seconds
            while (left := self._running(each)) and self._clock.monotonic() < deadline:
                await self._clock.sleep(POLL)
            for name in left:
                log.warning("pod %s did not end in its %g s", name, each.seconds)

    def _running(self, of: plan.Round) -> list[str]:
        workers = (self._pool.worker(uid) for uid in of.ends)
        return [spec.key(worker.pod) for worker in workers if worker is not None and worker.active]


def reload_logind(proc: Path = Path("/proc")) -> None:
    """Has logind read its configuration again, as its unit does: by SIGHUP. Blocking."""
    for entry in proc.iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "systemd-logind":
                os.kill(int(entry.name), signal.SIGHUP)
