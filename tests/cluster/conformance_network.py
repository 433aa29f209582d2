"""What the sig-network checks ask of a cluster: servers and clients that speak HTTP and UDP, and the API by kubectl."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import Kubectl

from nodeagent.lab.testing import pods as tools

Json = dict[str, Any]
PYTHON = os.path.realpath(sys.executable)
HTTP, UDP = 8080, 8081
SECONDS = 30.0
SERVER = """
import http.server, os, socket, sys, threading
name = os.environ.get("NAME", os.uname().nodename)
http_port, udp_port = int(sys.argv[1]), int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = f"{name} {self.command} {self.path} {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")
    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = answer
    def log_message(self, *words):
        pass
def datagrams():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", udp_port))
    while True:
        udp.sendto(name.encode(), udp.recvfrom(2048)[1])
threading.Thread(target=datagrams, daemon=True).start()
http.server.ThreadingHTTPServer(("", http_port), Handler).serve_forever()
"""
ASK = """
import socket, sys
kind, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for _ in range(count):
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "http" else socket.SOCK_DGRAM) as one:
            one.settimeout(1.0)
            one.connect((host, port))
            if kind == "http":
                one.sendall(b"GET /hostname HTTP/1.0\\r\\n\\r\\n")
                text = b""
                while data := one.recv(4096):
                    text += data
                print(text.partition(b"\\r\\n\\r\\n")[2].split()[0].decode())
            else:
                one.send(b"?")
                print(one.recv(100).decode())
    except OSError as error:
        print(f"-{type(error).__name__}")
"""


@dataclass
class Net:
    """A namespace with kubectl."""

    kubectl: Kubectl
    node: str
    outcomes: dict[Callable[["Net"], None], BaseException | None] = field(default_factory=dict)

    def get(self, *words: str) -> Json:
        found: Json = json.loads(self.kubectl.ok("get", *words, "-o", "json"))
        return found

    def create(self, *objects: Json) -> None:
        self.kubectl.ok("create", "-f", "-", stdin="\n---\n".join(json.dumps(each) for each in objects))

    def patch(self, *words: str, body: Json, kind: str = "merge") -> Json:
        found = self.kubectl.ok("patch", *words, "--type", kind, "-p", json.dumps(body), "-o", "json")
        return dict(json.loads(found))

    def raw(self, path: str) -> str:
        return self.kubectl.ok("get", "--raw", path)

    def until(self, true: Callable[[], Any], *, seconds: float = SECONDS) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.1)
        return found

    def ask(self, host: str, port: int, *, kind: str = "http", count: int = 1, by: str = "client") -> list[str]:
        """Who answered each time; `-` and what went wrong where nobody did."""
        argv = ["exec", by, "--", PYTHON, "-I", "-S", "-c", ASK, kind, host, str(port), str(count)]
        return self.kubectl.ok(*argv).split()

    def connect(self, host: str, port: int) -> None:
        """Opens a TCP connection from the client."""
        script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
        self.kubectl.ok("exec", "client", "--", PYTHON, "-I", "-S", "-c", script, host, str(port))

    def answered(self, host: str, port: int, *names: str, kind: str = "http", by: str = "client") -> None:
        """Waits until these, and nobody else, answer."""
        self.until(lambda: set(self.ask(host, port, kind=kind, count=16, by=by)) == set(names))

    def address(self, service: str) -> str:
        return str(self.get("service", service)["spec"]["clusterIP"])

    def slices(self, service: str) -> list[Json]:
        return list(self.get("endpointslices", "-l", f"kubernetes.io/service-name={service}")["items"])

    def shown(self, service: str) -> set[str]:
        """The addresses that are ready in a Service's slices."""
        return {
            address
            for each in self.slices(service)
            for endpoint in each.get("endpoints") or ()
            if endpoint["conditions"].get("ready") is not False
            for address in endpoint["addresses"]
        }

    def ip(self, pod: str) -> str:
        return str(self.get("pod", pod)["status"]["podIP"])

    def ready(self, *pods: str) -> None:
        for pod in pods:
            self.kubectl.ok("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=60s", seconds=65)

    def lookup(self, name: str, *words: str, by: str = "client") -> str:
        """What `nslookup` of a pod prints; asked again until it succeeds."""
        done = self.until(
            lambda: (found := self.kubectl(["exec", by, "--", "nslookup", *words, name])).code == 0 and found
        )
        return str(done.out)


def server(name: str, *, http: int = HTTP, udp: int = UDP, **labels: str) -> Json:
    """A pod that answers HTTP and UDP with its name."""
    made = tools.echo(name, port=http, labels=labels)
    made["spec"]["containers"][0]["command"] = [PYTHON, "-I", "-S", "-c", SERVER, str(http), str(udp)]
    return made


def client(name: str, **spec: Any) -> Json:
    """A pod that does nothing until it is told."""
    made = tools.echo(name, labels={})
    container = made["spec"]["containers"][0]
    container["command"] = ["sleep", "86400"]
    del container["readinessProbe"]
    made["spec"] |= spec
    return made


def service(name: str, *ports: Json, selector: dict[str, str] | None = None, **spec: Any) -> Json:
    """A Service; with `selector` {} it has none."""
    chosen = {"app": name} if selector is None else selector
    listed = list(ports) or [{"name": "http", "port": 80, "targetPort": HTTP}]
    body = {"ports": listed, **({"selector": chosen} if chosen else {}), **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def endpoint_slice(name: str, service_name: str, addresses: list[str], *ports: Json) -> Json:
    """A slice by hand."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service_name}},
        "addressType": "IPv4",
        "ports": list(ports),
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }
