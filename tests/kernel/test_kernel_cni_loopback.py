"""The `loopback` plugin in a throw-away namespace."""

import json
import subprocess
from collections.abc import Callable

from cni.plugin import Plugin


def call(command: str, path: str) -> tuple[int, bytes]:
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "one",
        "CNI_NETNS": path,
        "CNI_IFNAME": "lo",
        "CNI_PATH": "/opt/cni/bin",
    }
    return Plugin().call(variables, b'{"cniVersion": "1.0.0", "name": "cni-loopback", "type": "loopback"}')


def state(path: str) -> str:
    argv = ["nsenter", f"--net={path}", "ip", "-o", "link", "show", "lo"]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=10).stdout


def test_adding_brings_lo_up_and_says_so(new_namespace: Callable[[str], str]) -> None:
    path = new_namespace("pod")
    assert "UP" not in state(path)
    code, body = call("ADD", path)
    assert code == 0, body
    assert json.loads(body)["interfaces"][0]["name"] == "lo"
    assert "UP" in state(path)


def test_checking_notices_that_lo_is_down(new_namespace: Callable[[str], str]) -> None:
    path = new_namespace("pod")
    code, body = call("CHECK", path)
    assert code == 1
    assert "lo is down" in json.loads(body)["details"]
    call("ADD", path)
    assert call("CHECK", path) == (0, b"")


def test_deleting_needs_no_namespace() -> None:
    assert call("DEL", "/run/netns/gone") == (0, b"")


def test_adding_to_a_namespace_that_is_gone_is_refused() -> None:
    code, body = call("ADD", "/run/netns/gone")
    assert code == 1
    assert json.loads(body)["code"] == 3
