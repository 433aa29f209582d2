"""Components side by side in one process, each restarted on its own.

Owns restart, readiness, signals and the words to systemd. One component's failure never cancels its neighbours.
It must not know any component.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping

import kube.runtime.log
from kube.runtime import lifetime, systemd
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from kube.runtime.component import Component

log = logging.getLogger(__name__)

CLOSE_SECONDS = 10.0
STEADY_SECONDS = 60.0
READY_POLL_SECONDS = 0.2


class Supervisor:
    """Runs what the factories build; a factory is called again after each failure."""

    def __init__(
        self,
        factories: Mapping[str, Callable[[], Component]],
        *,
        clock: Clock,
        notify: Callable[[str], None] = systemd.notify,
    ) -> None:
        self._factories = dict(factories)
        self._clock, self._notify = clock, notify
        self._backoff = Backoff(1.0, 30.0)
        self._running: dict[str, Component] = {}
        self._failures: dict[str, str] = {}
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Keep every component running until `stop` or cancellation; then all of them are closed."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._keep(name), name=name) for name in self._factories]
                tasks.append(group.create_task(self._tell_ready(), name="ready"))
                if (period := systemd.watchdog_seconds()) is not None:
                    tasks.append(group.create_task(self._feed_watchdog(period / 2), name="watchdog"))
                await self._stop.wait()
                self._notify("STOPPING=1")
                for task in tasks:
                    task.cancel()
                self._name_the_late(tasks)
        finally:
            log.info("ended: %s", ", ".join(self._factories))

    def stop(self) -> None:
        """Ask `run` to close everything and return."""
        self._stop.set()

    def ready(self) -> dict[str, str | None]:
        """Per component None or the reason why it is not ready."""
        return {name: self._reason(name) for name in self._factories}

    async def reload(self) -> None:
        """Hand a reload to each running component; one that fails keeps its old configuration."""
        for name, component in list(self._running.items()):
            try:
                await component.reload()
            except Exception as error:
                kube.runtime.log.failure(log, f"{name}: reload failed, the old configuration stays", error)

    def _reason(self, name: str) -> str | None:
        component = self._running.get(name)
        if component is None:
            return self._failures.get(name, "not started")
        try:
            return component.ready()
        except Exception as error:  # a readiness check that fails must not end its neighbours
            return f"cannot say whether it is ready: {kube.runtime.log.describe(error)}"

    def _name_the_late(self, tasks: list[asyncio.Task[None]]) -> None:
        def say() -> None:
            if late := [task.get_name() for task in tasks if not task.done()]:
                log.warning("still waiting for the end of %s", ", ".join(late))

        asyncio.get_running_loop().call_later(2 * CLOSE_SECONDS, say)

    async def _keep(self, name: str) -> None:
        while True:
            started = self._clock.monotonic()
            try:
                await self._run_once(name)
                reason = "ended without being asked to"
                log.error("%s: %s", name, reason)
            except asyncio.CancelledError:
                if _asked_to_end():
                    raise
                reason = "something it waited for was cancelled"
                log.error("%s: %s", name, reason)
            except Exception as error:
                reason = kube.runtime.log.describe(error)
                kube.runtime.log.failure(log, f"{name}: failed", error, level=logging.ERROR)
            self._failures[name] = f"failed: {reason}"
            if self._clock.monotonic() - started > STEADY_SECONDS:
                self._backoff.reset(name)
            wait = self._backoff.next(name)
            log.info("%s: restart in %g s", name, wait)
            await self._clock.sleep(wait)

    async def _run_once(self, name: str) -> None:
        with lifetime.lifetime():
            component = self._factories[name]()
            self._running[name] = component
            try:
                await component.run()
            finally:
                del self._running[name]
                await self._close(name, component)

    async def _close(self, name: str, component: Component) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await component.close()
        except Exception as error:
            kube.runtime.log.failure(log, f"{name}: close failed", error)

    async def _tell_ready(self) -> None:
        told = ""
        while waiting := {name: why for name, why in self.ready().items() if why is not None}:
            status = "waiting for " + "; ".join(f"{name}: {why}" for name, why in waiting.items())
            if status != told:
                told = status
                self._notify(f"STATUS={status[:500]}")
                log.debug("%s", status)
            await self._clock.sleep(READY_POLL_SECONDS)
        self._notify("READY=1\nSTATUS=ready")
        log.info("ready: %s", ", ".join(self._factories))

    async def _feed_watchdog(self, period: float) -> None:
        while True:
            self._notify("WATCHDOG=1")
            await self._clock.sleep(period)


def _asked_to_end() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def supervise(
    factories: Mapping[str, Callable[[], Component]],
    *,
    clock: Clock,
    notify: Callable[[str], None] = systemd.notify,
) -> None:
    """Run components until SIGTERM or SIGINT; SIGHUP reloads them. To be called on the main thread's loop."""
    await watch_signals(Supervisor(factories, clock=clock, notify=notify))


async def watch_signals(supervisor: Supervisor) -> None:
    """Run a supervisor under this process's signals."""
    loop = asyncio.get_running_loop()
    hangup = asyncio.Event()
    actions = {signal.SIGTERM: supervisor.stop, signal.SIGINT: supervisor.stop, signal.SIGHUP: hangup.set}
    for number, action in actions.items():
        loop.add_signal_handler(number, action)
    try:
        async with asyncio.TaskGroup() as group:
            reloading = group.create_task(_reload_on(hangup, supervisor), name="reload")
            await supervisor.run()
            reloading.cancel()
    finally:
        for number in actions:
            loop.remove_signal_handler(number)


async def _reload_on(hangup: asyncio.Event, supervisor: Supervisor) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        log.info("reloading")
        await supervisor.reload()
