"""`nodeagent install server|agent`: the steps in order, and what is taken back when they are interrupted.

Joining comes before anything is written: a wrong token, an unreachable server, a name that is taken change nothing.
"""

import argparse
import asyncio
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from cryptography import x509

from kube import bootstraptoken, kubeconfig, pki, scheme
from kube.client.errors import ClientError
from kube.client.http import HttpTransport
from kube.client.rest import Client
from kube.runtime import route
from kube.runtime.clock import SystemClock
from kube.status import ApiError
from nodeagent import config
from nodeagent.doctor import command as doctor
from nodeagent.doctor import facts, network_checks, verdict
from nodeagent.install import apply, layout, observe, plan, release, uninstall
from nodeagent.install.errors import InstallError
from nodeagent.install.host import Host, RealHost
from nodeagent.join import discover, join
from nodeagent.join import plan as joining

OWN_TOKEN_SECONDS = 600
MENDED_HERE = ("cri", "cni-folders", "inotify", "cgroups", "network-services", "interrupted", "forwarding")
ROUTES = Path("/proc/net/route")


def run(options: argparse.Namespace) -> int:
    """Install this host; 0 when every service is ready."""
    if not observe.is_root():
        raise InstallError("installing needs root: run the same with sudo")
    host = RealHost()
    seen = observe.facts(host)
    if options.cgroup_driver:
        seen = replace(seen, systemd_cgroup=options.cgroup_driver == "systemd")
    before = apply.record(host)
    refuse_other_role(before, options.role)
    if not options.dry_run:
        preflight(host, options)
    with _interruptible():
        try:
            _install(host, options, seen, before)
        except BaseException:
            if not before.get("complete") and host.read(layout.RECORD) is not None and not options.keep:
                say("taking back what was done so far")
                uninstall.remove(host, whole=False)
            raise
    return 0


def preflight(host: Host, options: argparse.Namespace) -> None:
    """What doctor finds, told; what would keep this host from being a node ends the installation."""
    server = discover.check(options.server[0].split(",")[0]) if options.role == "agent" else ""
    ranges = (options.cluster_cidr, options.service_cidr) if options.role == "server" else ()
    left = doctor.judge(facts.gather(host, server=server, ranges=ranges))
    if doctor.mend(host, left):
        left = doctor.judge(facts.gather(host, server=server, ranges=ranges))
    # What the installation itself puts right is no reason not to begin it.
    left = [each for each in left if each[0].name not in MENDED_HERE]
    if left:
        say("what doctor finds here:")
        sys.stdout.write(doctor.as_text(left))
    fatal = [f"{check.name}: {finding.saw}" for check, finding in left if finding.level == verdict.FAILURE]
    if fatal and not options.ignore_doctor:
        raise InstallError("; ".join(fatal) + " (--ignore-doctor installs all the same)")


def refuse_other_role(before: dict[str, Any], role: str) -> None:
    """A host has one role."""
    if before.get("role") not in (None, role):
        raise InstallError(f"this host is installed as {before['role']}; first run: nodeagent uninstall")


def say(text: str) -> None:
    """A line of progress."""
    print(f"--  {text}", flush=True)


def _install(host: Host, options: argparse.Namespace, seen: plan.Facts, before: dict[str, Any]) -> None:
    name = options.node_name or before.get("node") or socket.gethostname().lower()
    if not config.NODE_NAME.fullmatch(name):
        raise InstallError(f"--node-name: {name!r} is not a DNS name in lower case; the host's own name is no better")
    own = plan.Node(name=name, ip=options.node_ip, cluster=joining.Cluster(), sandbox_image=options.sandbox_image)
    if options.dry_run:
        whole = plan.node(own, seen)
        sys.stdout.write(apply.all_of(plan.server(_server(options)) + whole if options.role == "server" else whole))
        return
    servers: tuple[str, ...]
    if options.role == "server":
        servers = (_serve(host, options, before),)
        text = ""
    else:
        servers = tuple(discover.check(each) for part in options.server for each in part.split(","))
        text = options.token
    cluster, credentials = _join(host, own, servers=servers, token=text, before=before)
    wanted = plan.node(replace(own, cluster=cluster), seen)
    note = {"role": options.role, "node": name, "servers": list(servers)}
    _bring(host, wanted, credentials, note=note)


def _bring(host: Host, wanted: plan.Plan, credentials: Iterable[plan.File], *, note: dict[str, Any]) -> None:
    """Files, release and services."""
    before = apply.record(host)
    current = release.running()
    fresh = current is not None and before.get("release") != current.name
    apply.note(host, **note, complete=bool(before.get("complete")))
    say(f"writing {len(wanted.files)} files")
    layout.MANIFESTS.mkdir(parents=True, exist_ok=True)
    changed = apply.write(host, [*credentials, *wanted.files])
    if current is not None:
        host.link(layout.CURRENT, current)
        host.link(layout.COMMAND, layout.CURRENT / "bin" / "nodeagent")
    apply.prepare(host, changed)
    restart = apply.to_restart(wanted.units, changed, new_release=fresh)
    say(f"starting {', '.join(wanted.units)}")
    apply.start(host, wanted.units, restart=restart)
    apply.note(host, complete=True, **({"release": current.name} if current else {}))
    if current is not None:
        release.tidy(host, current=current)
    say(f"node {note['node']} is up")


def _server(options: argparse.Namespace) -> plan.Server:
    try:
        address = options.advertise_address or plan.advertised(observe.addresses(), observe.default_address())
    except ValueError as e:
        raise InstallError(str(e)) from e
    return plan.Server(
        advertise=address,
        service_cidr=options.service_cidr,
        cluster_cidr=options.cluster_cidr,
        domain=options.cluster_domain,
        dns=options.cluster_dns,
        names=tuple(options.extra_san),
    )


def _serve(host: Host, options: argparse.Namespace, before: dict[str, Any]) -> str:
    """The control plane on this host; the URL it is reached by."""
    wanted = _server(options)
    current = release.running()
    fresh = current is not None and before.get("release") != current.name
    apply.note(host, role="server", complete=bool(before.get("complete")))
    changed = apply.write(host, plan.server(wanted).files)
    if current is not None:
        host.link(layout.CURRENT, current)
        host.link(layout.COMMAND, layout.CURRENT / "bin" / "nodeagent")
    if changed:
        host.run(["systemctl", "daemon-reload"])
    (layout.STATE / "server").mkdir(parents=True, exist_ok=True, mode=0o700)
    say(f"starting {layout.SERVER_UNIT}")
    units = (layout.SERVER_UNIT,)
    apply.start(host, units, restart=apply.to_restart(units, changed, new_release=fresh))
    return f"https://{wanted.advertise}:6443"


def _join(
    host: Host, own: plan.Node, *, servers: tuple[str, ...], token: str, before: dict[str, Any]
) -> tuple[joining.Cluster, list[plan.File]]:
    """The cluster's settings, and this node's credentials unless it has good ones already."""
    pin = bootstraptoken.parse_join(token).pin if token else None
    if host.read(layout.KUBECONFIG) and host.read(layout.CLIENT):
        _same_cluster(host, pin)
        return asyncio.run(_settings()), []
    if not token and before.get("role") != "agent" and host.read(layout.ADMIN):
        token = asyncio.run(_own_token())
    if not token:
        raise InstallError("--token: needed to join; `nodeagent token create` on the server prints one")
    machine = joining.Machine(
        name=own.name, machine_id=observe.machine_id(host), ip=own.ip or route.towards(servers[0])
    )
    say(f"joining {', '.join(servers)} as node {machine.name} with address {machine.ip}")
    wish = join.Wish(servers=servers, join=bootstraptoken.parse_join(token), machine=machine)
    joined = asyncio.run(join.join(wish, clock=SystemClock()))
    refuse_overlap(joined.cluster.pod_cidr, facts.routes((host.read(ROUTES) or b"").decode()))
    return joined.cluster, credentials(joined, own.name)


def refuse_overlap(pod_cidr: str, routes: Sequence[str]) -> None:
    """Pods' addresses that this host's network has already would be reached by nobody."""
    for each in (text for text in pod_cidr.split(",") if text and ":" not in text):
        if clash := network_checks.overlap(each, tuple(routes)):
            raise InstallError(
                f"the cluster's pods have addresses in {each}, which overlaps this host's route {clash}: take that "
                "route away, or make the cluster with another range (nodeagent install server --cluster-cidr)"
            )


def credentials(joined: join.Joined, name: str) -> list[plan.File]:
    """The files of what was got by joining."""
    text = kubeconfig.render(
        server=joined.server,
        user=pki.NODE_PREFIX + name,
        ca_data=joined.ca_pem,
        pair_file=str(layout.CLIENT),
        more_servers=[each for each in joined.servers if each != joined.server],
    )
    return [
        plan.File(path=layout.CA, content=joined.ca_pem),
        plan.File(path=layout.CLIENT, content=joined.client_pem, mode=0o600),
        plan.File(path=layout.KUBECONFIG, content=text.encode(), mode=0o600),
    ]


def _same_cluster(host: Host, pin: str | None) -> None:
    """A machine that was of another cluster is not silently taken over."""
    ca = host.read(layout.CA) or b""
    if pin is not None and not pki.pinned(ca, pin):
        raise InstallError(
            f"this machine belongs to another cluster ({layout.CA} is not the CA the token names); to leave it, with "
            "all its pods, first run: nodeagent uninstall"
        )
    try:
        cert = pki.load_cert(layout.CLIENT)
    except pki.PkiError as e:
        raise InstallError(f"{e}; to join anew, remove {layout.CLIENT} and run this again") from e
    if cert.not_valid_after_utc < SystemClock().now():
        raise InstallError(
            f"{layout.CLIENT} ended at {cert.not_valid_after_utc}: remove it and run this again with a fresh token"
        )


async def _settings() -> joining.Cluster:
    """The cluster's settings, asked for with this node's own credentials."""
    client = Client(HttpTransport(kubeconfig.load(layout.KUBECONFIG)), user_agent="nodeagent-install")
    try:
        return await join.settings(client)
    except (ApiError, ClientError) as e:
        raise InstallError(f"this node has joined already, but its cluster does not answer: {e}") from e
    finally:
        await client.close()


async def _own_token() -> str:
    """The server's host joins like any other, with a token that is gone in ten minutes."""
    rest = kubeconfig.load(layout.ADMIN)
    client = Client(HttpTransport(rest), user_agent="nodeagent-install")
    try:
        pin = pki.pin(x509.load_pem_x509_certificate(rest.ca_data or b""))
        made = bootstraptoken.JoinString(bootstraptoken.new(), pin)
        end = SystemClock().now() + timedelta(seconds=OWN_TOKEN_SECONDS)
        secret = bootstraptoken.secret(made.token, expires=end, description="the server's own node")
        await client.create(scheme.SECRETS, secret)
        return str(made)
    except (ApiError, ClientError) as e:
        raise InstallError(f"the server does not answer: {e}") from e
    finally:
        await client.close()


class _interruptible:
    """SIGTERM ends an install as Ctrl-C does, so that what was begun can be taken back."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, self._end)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def _end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt
