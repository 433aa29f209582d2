"""`nodeagent support-bundle`: versions, configuration, units, logs, rules, routes and objects in one archive.

Secrets never enter it: whole files that are secret are left out, and what looks like a secret in the others is struck
out. `redact` and `without_secrets` are pure.
"""

import argparse
import asyncio
import io
import json
import re
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nodeagent.doctor import command, facts
from nodeagent.install import layout
from nodeagent.install.host import Host, RealHost

STRUCK: Final = "***"
COMMANDS: Final = {
    "uname.txt": ["uname", "-a"],
    "os-release.txt": ["cat", "/etc/os-release"],
    "addresses.txt": ["ip", "address"],
    "links.txt": ["ip", "-d", "link"],
    "routes.txt": ["ip", "route", "show", "table", "all"],
    "neighbours.txt": ["ip", "neighbour"],
    "fdb.txt": ["bridge", "fdb"],
    "nft.txt": ["nft", "list", "ruleset"],
    "iptables-legacy.txt": ["iptables-legacy-save"],
    "sockets.txt": ["ss", "-lntup"],
    "mounts.txt": ["cat", "/proc/self/mounts"],
    "memory.txt": ["cat", "/proc/meminfo"],
    "disk.txt": ["df", "-h"],
    "containerd-version.txt": ["containerd", "--version"],
    "containers.txt": ["ctr", "-n", "k8s.io", "containers", "ls"],
    "images.txt": ["ctr", "-n", "k8s.io", "images", "ls"],
}
UNITS: Final = (layout.SERVER_UNIT, layout.AGENT_UNIT, layout.DNS_UNIT, layout.CONTAINERD_UNIT)
LINES: Final = "2000"
KINDS: Final = ("NODES", "PODS", "SERVICES", "ENDPOINT_SLICES", "EVENTS", "CERTIFICATE_SIGNING_REQUESTS", "DEPLOYMENTS")
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
_JWT = re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*")
_FIELD = re.compile(r"(?i)((?:password|secret|token|authorization|-key-data)\"?\s*[:=]\s*)(\"[^\"]*\"|\S+)")
_SECRET_NAME = re.compile(r"(?i)passw|secret|token|key|credential")


def redact(text: str) -> str:
    """A text with everything that proves an identity struck out. PURE."""
    for pattern in (_PRIVATE, _TOKEN, _JWT):
        text = pattern.sub(STRUCK, text)
    return _FIELD.sub(rf"\g<1>{STRUCK}", text)


def without_secrets(obj: Any) -> Any:
    """An API object without the values of environment variables and fields that are named like secrets. PURE."""
    if isinstance(obj, list):
        return [without_secrets(each) for each in obj]
    if not isinstance(obj, dict):
        return obj
    if "value" in obj and _SECRET_NAME.search(str(obj.get("name", ""))):
        obj = {**obj, "value": STRUCK}
    gone = ("managedFields", "kubectl.kubernetes.io/last-applied-configuration")
    return {key: without_secrets(value) for key, value in obj.items() if key not in gone}


def run(options: argparse.Namespace) -> int:
    """Write the archive and print its name."""
    host = RealHost()
    name = f"nodeagent-{socket.gethostname()}-{time.strftime('%Y%m%d-%H%M%S')}"
    target = options.file or Path(f"{name}.tar.gz")
    with tarfile.open(target, "w:gz") as archive:
        for file, text in contents(host):
            data = redact(text).encode()
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size, entry.mtime = len(data), int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    target.chmod(0o600)
    print(target)
    return 0


def contents(host: Host) -> Iterator[tuple[str, str]]:
    """Every file of the archive. What cannot be had says why."""
    found = command.judge(facts.gather(host))
    yield "doctor.txt", command.as_text(found)
    for name, argv in COMMANDS.items():
        yield f"host/{name}", host.run(argv, check=False)
    for unit in UNITS:
        yield f"units/{unit}.txt", host.run(["systemctl", "cat", unit], check=False)
        yield f"units/{unit}.status", host.run(["systemctl", "status", "--no-pager", unit], check=False)
        yield f"logs/{unit}.txt", host.run(["journalctl", "-u", unit, "-n", LINES, "--no-pager"], check=False)
    for path in (*sorted(layout.ETC.glob("*.yaml")), layout.CONTAINERD_OURS, layout.RECORD):
        yield f"configuration/{path.name}", (host.read(path) or b"").decode(errors="replace")
    for path in sorted(Path("/etc/cni/net.d").glob("*")):
        yield f"cni/{path.name}", (host.read(path) or b"").decode(errors="replace")
    yield from asyncio.run(_objects())


async def _objects() -> list[tuple[str, str]]:
    """The objects of the API this node may read, without Secrets and config maps."""
    from kube import kubeconfig, scheme, status
    from kube.client import errors
    from kube.client.http import HttpTransport
    from kube.client.rest import Client

    file = layout.ADMIN if layout.ADMIN.exists() else layout.KUBECONFIG
    try:
        client = Client(HttpTransport(kubeconfig.load(file)), user_agent="nodeagent-support", timeout=10)
    except kubeconfig.KubeconfigError as e:
        return [("objects/none.txt", str(e))]
    found = []
    try:
        for kind in KINDS:
            resource: scheme.Resource = getattr(scheme, kind)
            try:
                items = without_secrets((await client.list(resource, limit=2000))["items"])
                text = json.dumps(items, indent=1)
            except (status.ApiError, errors.ClientError) as e:
                text = str(e)
            found.append((f"objects/{resource.plural}.json", text))
    finally:
        await client.close()
    return found
