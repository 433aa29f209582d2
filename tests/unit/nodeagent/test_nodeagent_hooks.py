"""Lifecycle hooks: what counts as a failure, and how it reads."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from nodeagent_given import container, pod

from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.pods import hooks
from tests.fakes.clock import LoopClock
from tests.fakes.runtime import FakeRuntime


class Answering(BaseHTTPRequestHandler):
    """Answers with the status its path names."""

    seen: list[tuple[str, str]] = []
    agents: list[str] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("X-Own", "")))
        self.agents.append(self.headers.get("User-Agent", ""))
        self.send_response(int(self.path.rsplit("/", 1)[-1]))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


async def run(handler: dict[str, Any], *, timeout: float | None = 5.0, ports: Any = ()) -> FakeRuntime:
    runtime = FakeRuntime()
    box = await runtime.sandboxes.run(cri.PodSandboxConfig())
    config = cri.ContainerConfig(image=cri.ImageSpec(image="sha256:bb"), command=["sleep", "9"])
    made = await runtime.containers.create(box, config, sandbox=cri.PodSandboxConfig())
    await runtime.containers.start(made)
    of = pod(container(lifecycle={"preStop": handler}, ports=ports))
    lifecycle = of.spec.containers[0].lifecycle
    assert lifecycle is not None and lifecycle.pre_stop is not None
    await hooks.run(
        lifecycle.pre_stop,
        of.spec.containers[0],
        made,
        pod_ip="127.0.0.1",
        timeout=timeout,
        execs=runtime.execs,
        clock=LoopClock(),
    )
    return runtime


async def test_a_command_runs_in_the_container() -> None:
    assert "ExecSync echo hi" in (await run({"exec": {"command": ["echo", "hi"]}})).calls


async def test_a_command_that_fails_is_told_with_its_code() -> None:
    with pytest.raises(hooks.HookError, match="command exited with 1"):
        await run({"exec": {"command": ["false"]}})


async def test_a_hook_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(hooks.HookError, match="did not end within"):
        await run({"sleep": {"seconds": 60}}, timeout=0.05)


async def test_a_hook_may_just_wait() -> None:
    began = asyncio.get_running_loop().time()
    await run({"sleep": {"seconds": 0}})
    assert asyncio.get_running_loop().time() - began < 2


async def test_http_asks_the_pod_with_the_hooks_headers_and_a_named_port(port: int) -> None:
    get = {"port": "web", "path": "/ok/200", "httpHeaders": [{"name": "X-Own", "value": "v"}]}
    await run({"httpGet": get}, ports=[{"name": "web", "containerPort": port}])
    assert ("/ok/200", "v") in Answering.seen


async def test_whatever_http_answers_is_a_success(port: int) -> None:
    await run({"httpGet": {"port": port, "path": "/500"}})
    assert Answering.seen[-1] == ("/500", "") and Answering.agents[-1] == "kube-lifecycle/1.36"


async def test_plain_http_is_tried_where_https_was_meant_without_the_login(port: int) -> None:
    get = {"port": port, "path": "/200", "scheme": "HTTPS", "httpHeaders": [{"name": "X-Own", "value": "plain"}]}
    await run({"httpGet": get})
    assert Answering.seen[-1] == ("/200", "plain")


@pytest.mark.parametrize(
    ("get", "said"),
    [
        ({"path": "/200", "port": "absent"}, "couldn't find port: absent"),
        ({"path": "/200", "port": 1}, "failed"),
    ],
)
async def test_http_that_fails_says_why(port: int, get: dict[str, Any], said: str) -> None:
    with pytest.raises(hooks.HookError, match=said):
        await run({"httpGet": {"port": port, **get}})


async def test_tcp_hooks_are_refused_as_upstream_does() -> None:
    with pytest.raises(hooks.HookError, match="not supported"):
        await run({"tcpSocket": {"port": 80}})


async def test_a_container_that_is_gone_fails_its_command() -> None:
    runtime = FakeRuntime()
    of = pod(container(lifecycle={"preStop": {"exec": {"command": ["x"]}}}))
    handler = of.spec.containers[0].lifecycle
    assert handler is not None and handler.pre_stop is not None
    with pytest.raises(hooks.HookError, match="not running"):
        await hooks.run(
            handler.pre_stop,
            of.spec.containers[0],
            "gone",
            pod_ip="",
            timeout=1,
            execs=runtime.execs,
            clock=LoopClock(),
        )
