"""Keeps one certificate file good: asks for the first, and for the next before the present one ends.

The file holds certificate and key together and is replaced as a whole: who reads it sees the old pair or the new one.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from cryptography import x509

import kube.runtime.log
from kube import pki, status
from kube.client import errors as client_errors
from kube.client.rest import Client
from kube.runtime import files
from kube.runtime.backoff import Backoff
from kube.runtime.clock import Clock
from nodeagent.certificates import plan, request

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
"""How often names and clock are looked at: addresses change, and machines sleep."""


class CertificateKeeper:
    """One file; `wanted` says at each look what should be in it, `jitter` (0 to 1) spreads renewals."""

    def __init__(
        self,
        file: Path,
        *,
        wanted: Callable[[], plan.Wanted],
        client: Client,
        clock: Clock,
        jitter: float,
        on_renewed: Callable[[], None] = lambda: None,
    ) -> None:
        self.file = file
        self.there = asyncio.Event()
        self._wanted, self._client, self._clock = wanted, client, clock
        self._jitter, self._on_renewed = jitter, on_renewed
        self._backoff = Backoff(1.0, 300.0, jitter=0.1)

    async def run(self) -> None:
        """Until cancelled. What goes wrong is told once and tried again; the present certificate stays in use."""
        complaint = ""
        while True:
            cert = self._present()
            if cert is not None:
                self.there.set()
            pause = plan.pause(cert, self._wanted(), now=self._clock.now(), jitter=self._jitter)
            if pause > 0:
                await self._clock.sleep(min(pause, LOOK_SECONDS))
                continue
            try:
                await self._renew()
                complaint = ""
            except (status.ApiError, client_errors.ClientError, request.Refused) as e:
                text = request.explain(e) or kube.runtime.log.describe(e)
                if text != complaint:
                    complaint = text
                    log.warning("%s cannot be renewed, will try again: %s", self.file, text)
                await self._clock.sleep(self._backoff.next(""))

    async def _renew(self) -> None:
        pair = await request.issue(self._client, self._wanted(), clock=self._clock)
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        await asyncio.to_thread(files.replace, self.file, pair, 0o600)
        self._backoff.reset("")
        log.info("%s: new certificate until %s", self.file, pki.load_cert(self.file).not_valid_after_utc)
        self.there.set()
        self._on_renewed()

    def _present(self) -> x509.Certificate | None:
        """The certificate in the file, None when there is none that could be used."""
        try:
            cert = pki.load_cert(self.file)
        except pki.PkiError:
            return None
        return cert if cert.not_valid_after_utc > self._clock.now() else None
