"""The two certificates of a node: the one it shows the API server, the one it shows its callers.

Owns which of them this node keeps by itself and which it was given. Knows no request and no renewal.
"""

import random
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from kube import pki, serve
from kube.runtime.component import Deps
from nodeagent import config
from nodeagent.certificates import keeper, plan

Run = tuple[str, Callable[[], Coroutine[Any, Any, None]]]


class NodeCertificates:
    """What the configuration asks for: `rotateCertificates`, `serverTLSBootstrap`, given files, or one's own CA."""

    def __init__(self, settings: config.Settings, deps: Deps, *, ips: Callable[[], tuple[str, ...]]) -> None:
        self._settings, self._deps, self._ips = settings, deps, ips
        self._folder = settings.root / "pki"
        self._context: ssl.SSLContext | None = None
        bootstrap = settings.kubelet.server_tls_bootstrap and not settings.serving_cert and not settings.standalone
        name = settings.node_name
        self._serving = self._keeper(plan.SERVING_FILE, lambda: plan.serving(name, ips())) if bootstrap else None
        self._client = None
        rotates = settings.kubelet.rotate_certificates and not settings.standalone
        if rotates and (self._folder / plan.CLIENT_FILE).exists():
            self._client = self._keeper(plan.CLIENT_FILE, lambda: plan.client(name))

    def runs(self) -> list[Run]:
        """What is to be run beside the kubelet, by name."""
        found = (("client certificate", self._client), ("serving certificate", self._serving))
        return [(name, each.run) for name, each in found if each is not None]

    async def serving_there(self) -> None:
        """Wait until there is something to serve with."""
        if self._serving is not None:
            await self._serving.there.wait()

    def serving_context(self) -> ssl.SSLContext:
        """TLS for the kubelet's API; a renewed certificate counts for the next connection. Raises OSError, PkiError."""
        client_ca = Path(self._settings.client_ca) if self._settings.client_ca else None
        self._context = serve.tls_context(*self._serving_pair(), client_ca)
        return self._context

    def _serving_pair(self) -> tuple[Path, Path]:
        settings = self._settings
        if settings.serving_cert:
            return Path(settings.serving_cert), Path(settings.serving_key)
        if self._serving is not None:
            return self._serving.file, self._serving.file
        pair = pki.node_serving(
            pki.ensure_ca(self._folder, "kubelet-ca", cn=f"{settings.node_name}-ca"),
            name=settings.node_name,
            ips=self._ips(),
        )
        pki.write_pair(self._folder, "kubelet", pair)
        return self._folder / "kubelet.crt", self._folder / "kubelet.key"

    def _keeper(self, file: str, wanted: Callable[[], plan.Wanted]) -> keeper.CertificateKeeper:
        return keeper.CertificateKeeper(
            self._folder / file,
            wanted=wanted,
            client=self._deps.client,
            clock=self._deps.clock,
            jitter=random.random(),
            on_renewed=self._renewed,
        )

    def _renewed(self) -> None:
        if self._context is not None and self._serving is not None:
            self._context.load_cert_chain(self._serving.file, self._serving.file)
