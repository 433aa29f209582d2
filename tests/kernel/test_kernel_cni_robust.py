"""Nothing is left behind: by a plugin killed at any step, by hundreds of calls at once, beside others on the host."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cni import netns
from cni.plugin import Plugin

KILLED, DONE, FAILED = 9, 0, 3
# The system calls by which a call changes anything; the process dies before the chosen one.
STEPS = frozenset({"open", "write", "fsync", "send", "sendto", "unlink", "rename", "replace", "link", "flock", "mkdir"})
WORKERS, CALLS = 20, 500


class Host:
    """The plugin on the host of this test; `net` is its network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def call(self, command: str, container: str, pod: str, **more: Any) -> tuple[int, Any]:
        config = {
            "cniVersion": "1.1.0",
            "name": "net",
            "ipam": {"dataDir": str(self.folder), "ranges": [[{"subnet": "10.88.0.0/22"}]]},
            "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]},
        } | more
        variables = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_NETNS": pod, "CNI_IFNAME": "eth0"}
        variables["CNI_PATH"] = "/opt/cni/bin"
        code, body = Plugin().call({k: v for k, v in variables.items() if v}, json.dumps(config).encode())
        return code, json.loads(body) if body else None

    def left(self) -> list[str]:
        """Everything of pods that is on the host."""
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout.splitlines()
        found = [line for line in links if "veth" in line or "ifb" in line]
        found += [p.name for p in (self.folder / "net").glob("[0-9]*")]
        found += [p.name for p in (self.folder / "net.ports").glob("*.json")]
        tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
        return found + [line for line in tables.splitlines() if "nodeagent-ports" in line]


def killed_at(step: int, work: Callable[[], tuple[int, Any]]) -> int:
    """Runs the work in a child that dies before its step-th change; how it ended."""
    child = os.fork()
    if child == 0:
        seen = 0

        def count(_: object, event: str, function: Any) -> None:
            nonlocal seen
            if event == "c_call" and getattr(function, "__name__", "") in STEPS:
                seen += 1
                if seen == step:
                    os._exit(KILLED)

        try:
            sys.setprofile(count)
            code, _ = work()
            os._exit(DONE if code == 0 else FAILED)
        finally:
            os._exit(FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def host(inside_host: str, tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("cleaner", ["DEL", "GC"])
def test_an_add_killed_at_any_step_leaves_nothing_after_del_or_gc(
    host: Host, new_namespace: Callable[[str], str], cleaner: str
) -> None:
    pod, ended, step = new_namespace("a"), KILLED, 0
    while ended == KILLED:
        step += 1
        ended = killed_at(step, lambda: host.call("ADD", "one", pod))
        more: dict[str, Any] = {"cni.dev/valid-attachments": []} if cleaner == "GC" else {}
        assert host.call(cleaner, "one", pod, **more) == (0, None)
        assert host.left() == [], f"killed before step {step}"
    assert ended == DONE
    assert step > 15


def test_a_del_killed_at_any_step_is_finished_by_the_next(host: Host, new_namespace: Callable[[str], str]) -> None:
    pod, ended, step = new_namespace("a"), KILLED, 0
    while ended == KILLED:
        step += 1
        assert host.call("ADD", "one", pod)[0] == 0
        ended = killed_at(step, lambda: host.call("DEL", "one", pod))
        assert host.call("DEL", "one", pod) == (0, None)
        assert host.left() == [], f"killed before step {step}"
    assert ended == DONE
    assert step > 5


@pytest.mark.timeout(300)
def test_hundreds_of_adds_and_dels_at_once_give_no_address_twice_and_leave_nothing(
    host: Host, inside_host: str, new_namespace: Callable[[str], str]
) -> None:
    pods = [new_namespace(f"p{number}") for number in range(WORKERS)]
    held: Counter[str] = Counter()
    twice: list[str] = []

    def enter() -> None:
        netns._setns(os.open(inside_host, os.O_RDONLY | os.O_CLOEXEC))

    def work(number: int) -> None:
        for turn in range(CALLS // WORKERS):
            container = f"c{number}-{turn}"
            code, result = host.call("ADD", container, pods[number], runtimeConfig={})
            assert code == 0, result
            address = result["ips"][0]["address"]
            held[address] += 1
            if held[address] > 1:
                twice.append(address)
            held[address] -= 1
            assert host.call("DEL", container, pods[number]) == (0, None)

    with ThreadPoolExecutor(WORKERS, initializer=enter) as threads:
        list(threads.map(work, range(WORKERS)))
    assert twice == []
    assert host.left() == []
    assert len(os.listdir("/proc/self/fd")) < 100


def test_what_others_have_on_the_host_is_not_touched_by_gc(host: Host, new_namespace: Callable[[str], str]) -> None:
    subprocess.run(["ip", "link", "add", "vethforeign", "type", "veth", "peer", "name", "other"], check=True)
    subprocess.run(["nft", "add", "table", "ip", "foreign"], check=True)
    host.call("ADD", "one", new_namespace("a"))
    assert host.call("GC", "one", "", **{"cni.dev/valid-attachments": []}) == (0, None)
    assert [line for line in host.left() if "vethforeign" not in line] == []
    assert subprocess.run(["ip", "link", "show", "vethforeign"], capture_output=True).returncode == 0
    assert b"foreign" in subprocess.run(["nft", "list", "tables"], capture_output=True).stdout
