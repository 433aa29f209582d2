"""The network between the machines: a namespace with a bridge, a cable to each machine, and a way out when there is
one.

Nothing of it is on the host: the namespace lives as long as its keeper process. Must not know what the machines
run.
"""

import contextlib
import ipaddress
import os
import shutil
import subprocess
import time
from pathlib import Path

from nodeagent.lab import errors, machine, plan, processes, shapes, state

KEEPER = "underlay"
OUTSIDE = "outside"
NAMESPACE_SECONDS = 5.0
# slirp4netns' own network: the way out, with its resolver.
OUTSIDE_CIDR = "10.0.2.0/24"
OUTSIDE_RESOLVER = "10.0.2.3"


def start(directory: Path, *, cgroups: list[Path], shape: str = shapes.ONE_LINK) -> state.Process:
    """Make the namespace and its bridges; the returned process keeps it."""
    with open(directory / "underlay.log", "ab") as log:
        keeper = subprocess.Popen(
            ["unshare", "--net", "--", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    machine.join(keeper.pid, cgroups)
    _wait_for_namespace(keeper)
    process = processes.describe(KEEPER, keeper.pid)
    configure(process, plan.underlay_batch(shape))
    _write_sysctls(process)
    return process


def _wait_for_namespace(keeper: "subprocess.Popen[bytes]") -> None:
    own = os.readlink("/proc/self/ns/net")
    deadline = time.monotonic() + NAMESPACE_SECONDS
    while time.monotonic() < deadline and keeper.poll() is None:
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{keeper.pid}/ns/net") != own:
                return
        time.sleep(0.002)
    raise errors.LabError(
        "no network namespace could be made", hint="the lab needs root and a kernel with CONFIG_NET_NS"
    )


def _write_sysctls(keeper: state.Process) -> None:
    """Route for the machines; leave their bridged packets alone, they are each machine's own business."""
    script = (
        "echo 1 > /proc/sys/net/ipv4/ip_forward;"
        "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done;"
        "for f in /proc/sys/net/bridge/bridge-nf-call-iptables; do [ -e $f ] && echo 0 > $f; done; true"
    )
    processes.run(processes.network_of(keeper.pid, ["sh", "-c", script]))


def configure(keeper: state.Process, batch: str) -> None:
    """Apply `ip -batch` lines in the underlay."""
    processes.run(processes.network_of(keeper.pid, ["ip", "-batch", "-"]), stdin=batch.encode())


def filter(keeper: state.Process, rules: str) -> None:
    """Apply nft's text in the underlay, whole or not at all."""
    processes.run(processes.network_of(keeper.pid, ["nft", "-f", "-"]), stdin=rules.encode())


def open_outside(keeper: state.Process, directory: Path, *, cgroups: list[Path]) -> state.Process | None:
    """Give the machines a way out through a user-mode network.

    None when slirp4netns is not installed or does not start.
    """
    program = shutil.which("slirp4netns")
    if program is None:
        return None
    ready, told = os.pipe()
    with open(directory / "outside.log", "ab") as log, os.fdopen(ready, "rb") as pipe:
        child = subprocess.Popen(
            [program, "--configure", "--mtu=1500", "--disable-host-loopback", f"--cidr={OUTSIDE_CIDR}",
             f"--ready-fd={told}", str(keeper.pid), "outside"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=(told,),
        )  # fmt: skip
        os.close(told)
        machine.join(child.pid, cgroups)
        if pipe.read(1) != b"1":
            child.wait(timeout=5)
            return None
    _masquerade(keeper)
    return processes.describe(OUTSIDE, child.pid)


def _masquerade(keeper: state.Process) -> None:
    rules = (
        "table ip outside {\n chain postrouting {\n  type nat hook postrouting priority 100;\n"
        f"  ip saddr {plan.UNDERLAY} oifname outside masquerade\n }}\n}}\n"
    )
    filter(keeper, rules)


def resolvers(*, outside: bool) -> list[str]:
    """The name servers to write into the machines' resolv.conf; none when there is no way out."""
    return [str(ipaddress.IPv4Address(OUTSIDE_RESOLVER))] if outside else []
