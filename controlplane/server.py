"""The one server process: store, API server, scheduler and controllers, each supervised on its own.

Owns the order of start and stop. Knows no rule of any of them.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from controlplane import bootstrap, errors, memory
from controlplane.apiserver import app, events
from controlplane.config import Settings
from controlplane.part import BUILDS, USERS, Part
from controlplane.store import sqlite
from controlplane.store.storage import Storage
from kube import kubeconfig, pki, serve
from kube.client.identity import User
from kube.client.inprocess import InProcessTransport
from kube.client.rest import Client
from kube.runtime import metrics
from kube.runtime.clock import Clock, SystemClock
from kube.runtime.component import Component
from kube.runtime.supervise import Supervisor, watch_signals

log = logging.getLogger(__name__)

COMPACT_SECONDS = 300.0


def run(settings: Settings, *, parts: Sequence[str] = tuple(BUILDS)) -> None:
    """Serve, with these parts beside the API server, until a signal ends it; ConfigurationError or StoreError when it
    cannot start.
    """
    memory.keep_large_blocks()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_all(settings, clock=SystemClock(), parts=parts))


async def serve_all(settings: Settings, *, clock: Clock, parts: Sequence[str]) -> None:
    """Open everything, run everything, close everything."""
    prepare(settings)
    sockets = listen(settings)
    storage = Storage(sqlite.SqliteBackend(settings.data / "store.db"), monotonic=clock.monotonic)
    try:
        app.register(storage)
        await storage.open()
        registry = metrics.registry(process=True)
        api = app.build(
            settings, storage, clock=clock, registry=registry, exposition=lambda: metrics.exposition(registry)
        )
        client_ca = (settings.pki / "ca.crt").read_text()
        front_proxy_ca = (settings.pki / "front-proxy-ca.crt").read_text()
        await bootstrap.ensure(api.context.objects, settings, client_ca=client_ca, front_proxy_ca=front_proxy_ca)
        write_kubeconfig(settings)
        supervisor = Supervisor(_factories(settings, api, storage, sockets, clock, parts), clock=clock)
        api.health.add("store", lambda: None, live=True)
        for name in ("apiserver", *parts):
            api.health.add(name, lambda name=name: supervisor.ready()[name])  # type: ignore[misc]
        await watch_signals(supervisor)
    finally:
        await storage.close()
        for sock in sockets:
            sock.close()


def prepare(settings: Settings) -> None:
    """Directories, certificates and the administrator's kubeconfig; ConfigurationError says what is in the way."""
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        pki.ensure_cluster(
            settings.pki,
            service_ip=settings.service_ip,
            zone=settings.zone,
            advertise=settings.advertise,
            extra_sans=[*settings.raw.extra_sans, *_named_hosts(settings)],
        )
    except OSError as e:
        raise _unwritable(e, settings.data) from e
    except pki.PkiError as e:
        raise errors.ConfigurationError(str(e)) from e


def write_kubeconfig(settings: Settings) -> None:
    """The administrator's kubeconfig, where the configuration asks for one; after everything is open."""
    if not settings.raw.kubeconfig:
        return
    path = Path(settings.raw.kubeconfig)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kubeconfig.write(
            path,
            server=settings.raw.kubeconfig_server or f"https://{settings.advertise}:{settings.port}",
            user="kubernetes-admin",
            ca_data=(settings.pki / "ca.crt").read_bytes(),
            cert_data=(settings.pki / "admin.crt").read_bytes(),
            key_data=(settings.pki / "admin.key").read_bytes(),
        )
    except OSError as e:
        raise _unwritable(e, path) from e


def _unwritable(error: OSError, path: Path) -> errors.ConfigurationError:
    return errors.ConfigurationError(f"{error.filename or path}: {error.strerror}: it must be writable")


def _named_hosts(settings: Settings) -> list[str]:
    hosts = [text.rpartition(":")[0].strip("[]") for text in settings.listen]
    return [host for host in hosts if host not in ("0.0.0.0", "::")]


def listen(settings: Settings) -> list[socket.socket]:
    """The listening sockets: inherited ones, else those of the configuration; ConfigurationError for a taken port."""
    if inherited := serve.inherited_sockets():
        return inherited
    found: list[socket.socket] = []
    for address in settings.listen:
        try:
            found.append(serve.listen(address))
        except OSError as e:
            for sock in found:
                sock.close()
            text = e.strerror or str(e)
            raise errors.ConfigurationError(f"{text}: is another server running? `listen` names the addresses") from e
    return found


def _factories(
    settings: Settings,
    api: app.ApiServer,
    storage: Storage,
    sockets: Sequence[socket.socket],
    clock: Clock,
    parts: Sequence[str],
) -> dict[str, Callable[[], Component]]:
    def part(name: str) -> Callable[[], Component]:
        build, user = BUILDS[name](settings), USERS[name]
        agent = f"{user.removeprefix('system:')}/nodeagent"

        def make() -> Component:
            client = Client(InProcessTransport(api.app, User(user)), user_agent=agent)
            return Part(name, build, client=client, clock=clock, address=settings.advertise)

        return make

    return {
        "apiserver": lambda: Listener(settings, api, storage, sockets),
        "housekeeping": lambda: Housekeeping(api, storage, clock),
        **{name: part(name) for name in parts},
    }


class Idle:
    """The parts of a Component that most of ours do not need."""

    def ready(self) -> str | None:
        """Ready as soon as it runs."""
        return None

    async def reload(self) -> None:
        """Nothing to reload."""

    async def close(self) -> None:
        """Nothing outlives run()."""


class Listener(Idle):
    """The API server on its sockets."""

    name = "apiserver"

    def __init__(
        self, settings: Settings, api: app.ApiServer, storage: Storage, sockets: Sequence[socket.socket]
    ) -> None:
        folder = settings.pki
        tls = serve.tls_context(folder / "apiserver.crt", folder / "apiserver.key", folder / "ca.crt")
        self._storage = storage
        self._stopping = False
        self._server = serve.Server(api.app, sockets=sockets, tls=tls, name="apiserver")

    async def run(self) -> None:
        """Serve; when asked to stop, end watches first, so that clients come back elsewhere at once."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.run())
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._stopping = True
                for cache in self._storage.caches().values():
                    cache.end_watches()

    def ready(self) -> str | None:
        """Not ready once it stops."""
        return "shutting down" if self._stopping else None


class Housekeeping(Idle):
    """Forgets old history and old events."""

    name = "housekeeping"

    def __init__(self, api: app.ApiServer, storage: Storage, clock: Clock) -> None:
        self._expiry = events.Expiry(api.context.objects, storage, clock=clock)
        self._storage = storage
        self._clock = clock

    async def run(self) -> None:
        """Every five minutes."""
        while True:
            try:
                await self._storage.compact(keep_seconds=COMPACT_SECONDS)
                await self._expiry.expire()
            except errors.StoreError as e:
                log.warning("housekeeping: %s; tried again in %g s", e, COMPACT_SECONDS)
            await self._clock.sleep(COMPACT_SECONDS)
