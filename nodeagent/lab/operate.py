"""What is done to the machines of a lab that is up: power cut and power on, a service restarted.

`kill` is what a pulled plug does: nothing in the machine is told. `start` boots it again with its disk as it was, its
memory and /run empty. Must not know what runs on the cluster.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from nodeagent.lab import (
    cluster,
    containerd,
    cuts,
    errors,
    leftovers,
    machine,
    plan,
    processes,
    shapes,
    state,
    underlay,
)

RESTART_SECONDS = 20.0
POLL_SECONDS = 0.01


def kill(running: cluster.Running, name: str) -> None:
    """End a machine at once, with everything in it. Raises LabError when it is not running."""
    first = running.first(name)
    with state.changing(running.plan.directory, running.record) as record:
        if processes.end([first], term_seconds=0):
            raise errors.LabError(f"the first process of {name} ({first.pid}) does not end")
        leftovers.remove_cgroups(running.machine(name).cgroup)
        record.processes.remove(first)
        record.killed.append(name)


def start(running: cluster.Running, name: str) -> None:
    """Boot a machine that was killed. Raises LabError when it runs, or does not come up."""
    each = running.machine(name)
    with state.changing(running.plan.directory, running.record) as record, contextlib.ExitStack() as stack:
        if name not in record.killed:
            raise errors.LabError(f"machine {name} is running already", hint=f"nodeagent lab kill {name} ends it")
        if each is running.plan.server:
            api = stack.enter_context(cluster.loopback(record.port))
            each = _with_socket(each, api)
        host = plan.Host(python=sys.executable, containerd=shutil.which("containerd") or "", source=cluster.SOURCE)
        keeper = running.keeper
        _unplug(keeper, name)
        starting = machine.launch(each, host=host)
        underlay.configure(keeper, plan.cable_batch(each, starting.first.pid))
        machine.finish(starting)
        record.processes.append(starting.first)
        record.killed.remove(name)


def _with_socket(each: plan.Machine, api: socket.socket) -> plan.Machine:
    """The server machine with a socket handed over anew, its boot document told so."""
    path = each.directory / "boot.json"
    spec = json.loads(path.read_text())
    for known in spec["sockets"]:
        known["fd"] = -1 if known["address"] else api.fileno()
    path.write_text(json.dumps(spec, indent=1))
    return replace(each, sockets=tuple(plan.Socket(**known) for known in spec["sockets"]))


def _unplug(keeper: state.Process, name: str) -> None:
    """The old cable goes with the dead machine's network, which the kernel may not have cleared away yet."""
    with contextlib.suppress(errors.LabError):
        underlay.configure(keeper, f"link del {plan.port_of(name)}\n")


def restart(running: cluster.Running, service: str, *, machines: Sequence[str] = ()) -> list[str]:
    """Stop a service (SIGTERM) where it runs, or on these machines only, and return when it has been started anew.

    Returns the names of the machines. Raises LabError when nothing runs it.
    """
    wanted = machines or [m.name for m in running.plan.machines if m.name not in running.record.killed]
    having = [name for name in wanted if any(s.name == service for s in running.machine(name).services)]
    if not having or (machines and len(having) != len(machines)):
        known = ", ".join(dict.fromkeys(s.name for m in running.plan.machines for s in m.services))
        raise errors.LabError(f"no service {service!r} on {', '.join(wanted)}; there are {known}")
    before = {name: machine.service_pid(running.first(name), service) for name in having}
    for pid in before.values():
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
    for name, pid in before.items():
        _wait_for_other(running.first(name), service, pid)
    return having


def _wait_for_other(first: state.Process, service: str, old: int | None) -> None:
    deadline = time.monotonic() + RESTART_SECONDS
    while machine.service_pid(first, service) in (None, old):
        if time.monotonic() > deadline:
            hint = f"nodeagent lab logs {first.name} {service}"
            raise errors.LabError(f"{service} of {first.name} is not back after {RESTART_SECONDS:.0f} s", hint=hint)
        time.sleep(POLL_SECONDS)
    if service == "containerd":
        containerd.wait_until_up(first)


def partition(running: cluster.Running, name: str, others: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Cut the wires between a machine and others, or all others. Returns every cut there is now."""
    if running.record.underlay == shapes.ROUTED:
        raise errors.LabError("there are no wires between machines behind routers", hint="use an underlay of links")
    cut = others or [each.name for each in running.plan.machines if each.name != name]
    pairs = [cuts.pair(running.machine(name).name, running.machine(other).name) for other in cut]
    return _rewire(running, lambda now: now | set(pairs))


def heal(running: cluster.Running, name: str = "", others: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Mend the wires between a machine and others; without others all of its wires, without a name all there are.

    Returns the cuts that remain.
    """
    for each in (name, *others):
        if each:
            running.machine(each)
    if others:
        mended = {cuts.pair(name, other) for other in others}
        return _rewire(running, lambda now: now - mended)
    return _rewire(running, lambda now: {each for each in now if name and name not in each})


def _rewire(running: cluster.Running, change: cuts.Change) -> list[tuple[str, str]]:
    with state.changing(running.plan.directory, running.record) as record:
        wanted = sorted(change({(one, other) for one, other in record.cuts}))
        underlay.filter(running.keeper, cuts.ruleset(wanted))
        record.cuts = [list(each) for each in wanted]
    return wanted
