"""Volumes of the conformance checks: a few pods that mount many, and print what they find one tagged line each."""

from dataclasses import dataclass, field
from typing import Any

from conformance_pods import SLEEP, pod, sh

Json = dict[str, Any]
FLAVOURS = ("plain", "projected")
KINDS = ("configmap", "secret")
MODES = ("0644", "0666", "0777")
AMOUNTS = {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}}
SOURCES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: given}
data: {data-1: value-1, data-2: value-2}
binaryData: {dump.bin: 3q2+7w==}
---
apiVersion: v1
kind: Secret
metadata: {name: given}
stringData: {data-1: value-1, data-2: value-2}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: leaves}
data: {data-1: value-1}
---
apiVersion: v1
kind: Secret
metadata: {name: leaves}
stringData: {data-1: value-1}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: changes}
data: {data-1: value-1}
---
apiVersion: v1
kind: Secret
metadata: {name: changes}
stringData: {data-1: value-1}
"""
COMES = """
apiVersion: v1
kind: ConfigMap
metadata: {name: comes}
data: {data-1: value-1}
---
apiVersion: v1
kind: Secret
metadata: {name: comes}
stringData: {data-1: value-1}
"""


@dataclass
class Book:
    """One pod's volumes, where they are mounted, and the commands whose output is told under a tag."""

    volumes: list[Json] = field(default_factory=list)
    mounts: list[Json] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def mount(self, tag: str, source: Json) -> str:
        """The path of a new volume."""
        self.volumes.append({"name": tag, **source})
        self.mounts.append({"name": tag, "mountPath": f"/v/{tag}"})
        return f"/v/{tag}"

    def tell(self, tag: str, command: str) -> None:
        """One line of the output."""
        self.lines.append(f'echo "@{tag} $({command})"')

    def pod(self, name: str, *, then: str = "true", **spec: Any) -> Json:
        """The pod that tells."""
        container = sh("main", "\n".join([*self.lines, then]), volumeMounts=self.mounts, resources=AMOUNTS)
        return pod(name, container, volumes=self.volumes, restartPolicy="Never", **spec)


def source(flavour: str, kind: str, name: str, *, mode: int | None = None, **more: Any) -> Json:
    """A volume of a ConfigMap or Secret, as itself or projected."""
    modes = {} if mode is None else {"defaultMode": mode}
    if flavour == "projected":
        part = {"configMap" if kind == "configmap" else "secret": {"name": name, **more}}
        return {"projected": {"sources": [part], **modes}}
    key = {"name": name} if kind == "configmap" else {"secretName": name}
    return {"configMap" if kind == "configmap" else "secret": {**key, **more, **modes}}


def downward(flavour: str, items: list[Json], *, mode: int | None = None) -> Json:
    """A downward API volume."""
    modes = {} if mode is None else {"defaultMode": mode}
    if flavour == "projected":
        return {"projected": {"sources": [{"downwardAPI": {"items": items}}], **modes}}
    return {"downwardAPI": {"items": items, **modes}}


def amount(path: str, resource: str, *, container: str = "main") -> Json:
    return {"path": path, "resourceFieldRef": {"containerName": container, "resource": resource}}


def about(path: str, field_path: str, **more: Any) -> Json:
    return {"path": path, "fieldRef": {"fieldPath": field_path}, **more}


def files(book: Book, *, mappings_only: bool = False) -> None:
    """ConfigMaps and Secrets in every way they are mounted."""
    mapped = [{"key": "data-2", "path": "path/to/data-2"}]
    for flavour in FLAVOURS:
        for kind in KINDS:
            tag = f"{flavour}-{kind}"
            book.tell(f"{tag}-simple", f"cat {book.mount(f'{tag}-simple', source(flavour, kind, 'given'))}/data-1")
            path = book.mount(f"{tag}-mapped", source(flavour, kind, "given", items=mapped))
            book.tell(f"{tag}-mapped", f"cat {path}/path/to/data-2; ls {path}")
            if mappings_only:
                continue
            path = book.mount(f"{tag}-mode", source(flavour, kind, "given", mode=0o400))
            book.tell(f"{tag}-mode", f"stat -L -c %a {path}/data-1")
            own = source(flavour, kind, "given", items=[{**mapped[0], "mode": 0o400}])
            book.tell(f"{tag}-own", f"stat -L -c %a {book.mount(f'{tag}-own', own)}/path/to/data-2")
            second = book.mount(f"{tag}-second", source(flavour, kind, "given"))
            book.tell(f"{tag}-both", f"cat {second}/data-1 /v/{tag}-simple/data-1")


def empty(book: Book, *, user: str) -> None:
    """Empty folders and what modes files in them have."""
    for medium, form in (("default", {}), ("tmpfs", {"medium": "Memory"})):
        path = book.mount(f"empty-{medium}", {"emptyDir": form})
        # The lab's own disk may be memory, too: only the other way round something is said of it.
        kind = f"; grep -c ' {path} tmpfs' /proc/mounts" if form else ""
        book.tell(f"{user}-{medium}-folder", f"stat -c %a {path}{kind}")
        for mode in MODES:
            made = f"{path}/{mode}"
            book.tell(
                f"{user}-{medium}-{mode}", f"echo -n x > {made}; chmod {mode} {made}; stat -c %a {made}; cat {made}"
            )


def described(book: Book) -> None:
    """What a pod is told of itself in files."""
    items = [
        about("podname", "metadata.name"),
        about("moded", "metadata.name", mode=0o400),
        amount("cpu_limit", "limits.cpu"),
        amount("memory_limit", "limits.memory"),
        amount("cpu_request", "requests.cpu"),
        amount("memory_request", "requests.memory"),
        amount("node_cpu", "limits.cpu", container="free"),
        amount("node_memory", "limits.memory", container="free"),
    ]
    for flavour in FLAVOURS:
        path = book.mount(f"{flavour}-about", downward(flavour, items))
        for item in items:
            book.tell(f"{flavour}-{item['path']}", f"cat {path}/{item['path']}")
        book.tell(f"{flavour}-about-own", f"stat -L -c %a {path}/moded")
        strict = book.mount(f"{flavour}-strict", downward(flavour, items[:1], mode=0o400))
        book.tell(f"{flavour}-about-mode", f"stat -L -c %a {strict}/podname")


def pods() -> list[Json]:
    """All of them."""
    root, other, grouped = Book(), Book(), Book()
    files(root)
    empty(root, user="root")
    described(root)
    root.tell("binary", "od -An -tx1 /v/plain-configmap-simple/dump.bin")
    parts = [
        {"configMap": {"name": "given", "items": [{"key": "data-1", "path": "from-map"}]}},
        {"secret": {"name": "given", "items": [{"key": "data-2", "path": "from-secret"}]}},
        {"downwardAPI": {"items": [about("podname", "metadata.name")]}},
    ]
    path = root.mount("combined", {"projected": {"sources": parts}})
    root.tell("combined", f"cat {path}/podname; cat {path}/from-map; cat {path}/from-secret")
    files(other, mappings_only=True)
    empty(other, user="other")
    for flavour in FLAVOURS:
        at = grouped.mount(flavour, source(flavour, "secret", "given", mode=0o440))
        grouped.tell(f"{flavour}-grouped", f"stat -L -c '%a %g' {at}/data-1; cat {at}/data-1")
    told = root.pod("files")
    told["spec"]["containers"].append(sh("free", "true"))
    return [
        told,
        other.pod("files-of-others", securityContext={"runAsUser": 1000}),
        grouped.pod("files-of-groups", securityContext={"runAsUser": 1000, "fsGroup": 1001}),
        watching(),
    ]


def watching() -> Json:
    """A pod whose files change while it runs."""
    book = Book()
    for flavour in FLAVOURS:
        for kind in KINDS:
            for name in ("leaves", "changes", "comes"):
                book.mount(f"{flavour}-{kind}-{name}", source(flavour, kind, name, optional=True))
        items = [about("labels", "metadata.labels"), about("annotations", "metadata.annotations")]
        book.mount(f"{flavour}-about", downward(flavour, items))
    made = book.pod("watching", then=SLEEP)
    made["metadata"] |= {"labels": {"key1": "value1"}, "annotations": {"builder": "bar"}}
    return made
