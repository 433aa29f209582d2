"""The lab's own container images, written by this code from programs of the host: no registry is asked.

An image is an OCI image layout in one tar archive, byte for byte the same on every run. Must not know how it gets
into a machine's containerd; `load` is given a way to run commands there.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from nodeagent.lab import errors, processes

BUSYBOX = "nodeagent.local/busybox:1"
PAUSE = "nodeagent.local/pause:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CTR = ("ctr", "--namespace", "k8s.io", "images")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What to put into an image: programs by path, links to them, folders, and the command that runs by default."""

    name: str
    files: Mapping[str, bytes]
    links: Mapping[str, str]
    folders: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    modes: Mapping[str, int] = field(default_factory=dict)
    """Of files that are not as programs are (0755)."""


def of_folder(folder: Path, *, name: str, entrypoint: Sequence[str] = (), command: Sequence[str] = ()) -> Image:
    """An image of what is in a folder. Raises LabError for what an image cannot hold, OSError."""
    files: dict[str, bytes] = {}
    links: dict[str, str] = {}
    folders: list[str] = []
    modes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        inside = str(path.relative_to(folder))
        if path.is_symlink():
            links[inside] = str(path.readlink())
        elif path.is_dir():
            folders.append(inside)
        elif path.is_file():
            files[inside], modes[inside] = path.read_bytes(), path.stat().st_mode & 0o7777
        else:
            raise errors.LabError(f"{path} is neither a file nor a folder nor a link")
    if not files and not links:
        raise errors.LabError(f"{folder} holds no file")
    return Image(
        name=name, files=files, links=links, folders=folders, entrypoint=entrypoint, command=command, modes=modes
    )


def busybox(program: bytes, *, applets: Sequence[str]) -> Image:
    """A small Unix of one static program."""
    return Image(
        name=BUSYBOX,
        files={
            "bin/busybox": program,
            "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
            "etc/nsswitch.conf": b"hosts: files dns\n",
        },
        links={f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
        folders=("dev", "proc", "root", "sys", "tmp", "usr", "var", "www"),
        command=("sh",),
    )


def pause(program: bytes) -> Image:
    """The sandbox image: a first process that waits and reaps."""
    return Image(name=PAUSE, files={"pause": program}, links={}, entrypoint=("/pause", "-P"))


def archive(*images: Image, architecture: str) -> bytes:
    """The images as one OCI layout in a tar archive."""
    blobs: dict[str, bytes] = {}
    manifests = [_add(blobs, image, architecture=architecture) for image in images]
    index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    return _tar(files={"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": index, **blobs}, mode=0o644)


def _add(blobs: dict[str, bytes], image: Image, *, architecture: str) -> dict[str, object]:
    """Put an image's blobs in, and return its entry for the index."""
    layer = _layer(image)
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Entrypoint": list(image.entrypoint),
                "Cmd": list(image.command),
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, layer)],
        }
    )
    blobs.update((f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob) for blob in (layer, config, manifest))
    return _descriptor(MANIFEST, manifest) | {
        "annotations": {
            "io.containerd.image.name": image.name,
            "org.opencontainers.image.ref.name": image.name.rpartition(":")[2],
        },
        "platform": {"architecture": architecture, "os": "linux"},
    }


def _layer(image: Image) -> bytes:
    folders = sorted(
        {str(p) for name in (*image.files, *image.links) for p in Path(name).parents if p.name} | set(image.folders)
    )
    return _tar(files=image.files, links=image.links, folders=folders, mode=0o755, modes=image.modes)


def _tar(
    *,
    files: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
    folders: Sequence[str] = (),
    mode: int,
    modes: Mapping[str, int] = MappingProxyType({}),
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in folders:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), modes.get(name, mode)
            tar.addfile(entry, io.BytesIO(content))
        for name, target in sorted((links or {}).items()):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            tar.addfile(entry)
    return buffer.getvalue()


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def own_architecture() -> str:
    """This host's architecture as images name it. Raises LabError on one no image here is made for."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise errors.LabError(f"no image can be made for the architecture {machine}")
    return ARCHITECTURES[machine]


def build(folder: Path) -> list[Path]:
    """Write the lab's images as archives into `folder`. Raises LabError when a program they are made of is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    shell = _program(("/bin/busybox", "/usr/bin/busybox"), package="busybox-static")
    reaper = _program(("/usr/bin/catatonit", "/usr/libexec/catatonit/catatonit"), package="catatonit")
    applets = processes.run([str(shell), "--list"]).decode().split()
    made = (busybox(shell.read_bytes(), applets=applets), pause(reaper.read_bytes()))
    path = folder / "images.tar"
    path.write_bytes(archive(*made, architecture=own_architecture()))
    return [path]


def _program(places: Sequence[str], *, package: str) -> Path:
    for place in places:
        path = Path(place)
        if path.exists():
            if b"ld-linux" in path.read_bytes()[:4096]:
                raise errors.LabError(f"{path} is not a static program", hint=f"apt-get install {package}")
            return path
    raise errors.LabError(f"{places[0]} is missing", hint=f"apt-get install {package}")
