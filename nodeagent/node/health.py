"""Whether the runtime and its network are ready: asked often until they are, rarely after, and never failing."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from kube.runtime.clock import Clock
from nodeagent import errors
from nodeagent.cri import records, runtime

log = logging.getLogger(__name__)

ASK_UNTIL_READY: Final = 0.25
ASK_WHEN_READY: Final = 5.0
PATIENCE: Final = 30.0
"""Seconds without an answer after which the runtime counts as down."""


class RuntimeHealth:
    """The last answer of the runtime, and how old it is. `on_change` is called when readiness changes."""

    def __init__(self, runtime: runtime.Runtime, *, clock: Clock, on_change: Callable[[], None]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._on_change = on_change
        self._answered_at = clock.monotonic()
        self._told: tuple[str | None, str | None] = ("not asked yet", "not asked yet")
        self.info: records.RuntimeInfo | None = None
        self.failure = "it has not been asked yet"

    def runtime_problem(self) -> str | None:
        """Why the runtime is not ready, None if it is. An outage counts after 30 s."""
        silence = self._clock.monotonic() - self._answered_at
        if self.info is None or silence > PATIENCE:
            return f"container runtime is down: {self.failure}"
        if not self.info.ready:
            return f"container runtime not ready: RuntimeReady=false {self.info.ready_message}"
        return None

    def network_problem(self) -> str | None:
        """Why pods get no network, None if they do."""
        if self.info is None:
            return f"container runtime is down: {self.failure}"
        if self.info.network_ready:
            return None
        reason, _, message = self.info.network_message.partition(": ")
        return f"container runtime network not ready: NetworkReady=false reason:{reason} message:{message}"

    async def run(self) -> None:
        """Asks until cancelled."""
        while True:
            await self.ask()
            state = (self.runtime_problem(), self.network_problem())
            if state != self._told:
                self._told = state
                log.info("runtime: %s", "; ".join(problem for problem in state if problem) or "ready")
                self._on_change()
            ready = state == (None, None) and not self.failure
            await self._clock.sleep(ASK_WHEN_READY if ready else ASK_UNTIL_READY)

    async def ask(self) -> None:
        """One question; a failure is remembered, not raised."""
        try:
            async with asyncio.timeout(PATIENCE):
                self.info = await self._runtime.info()
        except errors.CriDisabled as e:
            self.failure = f'containerd runs without its CRI plugin: remove "cri" from disabled_plugins ({e.message})'
        except errors.RuntimeFault as e:
            self.failure = e.message
        except TimeoutError:
            self.failure = "no answer"
        else:
            self.failure = ""
            self._answered_at = self._clock.monotonic()
