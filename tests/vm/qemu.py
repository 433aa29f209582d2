"""One machine in qemu: its command line, its life, and commands run in it through the guest agent.

Two links each: the first as Vagrant's (user-mode NAT, the same address in every machine, no way out, ports forwarded
from the host's loopback); the second is a cable to a peer. Must not know what runs in a machine.
"""

import base64
import contextlib
import dataclasses
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vm import image

BOOT_SECONDS = 300.0
CALL_SECONDS = 20.0
NAT_ADDRESS = "10.0.2.15"
PROGRAM = "qemu-system-x86_64"
PROCESSOR = "host,arch-capabilities=off"
"""A host that is a virtual machine itself may promise this register and then refuse to set it."""
PROBE_SECONDS = 10.0
KERNEL_OPTIONS = "root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.show_status=0 mitigations=off audit=0"


class MachineError(Exception):
    """A machine did not do what it was told."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine. `folder` holds its disk, sockets and console; `seed` is its second disk, a tar archive."""

    name: str
    folder: Path
    seed: Path
    peer: Path
    """The folder of the machine at the cable's other end, which may not be there."""
    number: int = 0
    memory_mib: int = 2048
    cpus: int = 2
    ports: tuple[tuple[int, int], ...] = ()
    """(port on the host's loopback, port of the machine)."""

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def socket(self, name: str) -> Path:
        return self.folder / f"{name}.sock"


def command(it: Machine, *, boot: image.Image, kvm: bool) -> list[str]:
    """The whole command line."""
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{host}-{NAT_ADDRESS}:{own}" for host, own in it.ports)
    processor = ["-accel", "kvm", "-cpu", PROCESSOR] if kvm else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    words = [PROGRAM, "-name", it.name, "-machine", "q35", *processor, "-nodefaults", "-no-user-config"]
    words += ["-m", str(it.memory_mib), "-smp", str(it.cpus), "-display", "none", "-rtc", "base=utc,clock=host"]
    words += ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", KERNEL_OPTIONS]
    words += ["-serial", f"file:{it.console}", "-qmp", f"unix:{it.socket('qmp')},server=on,wait=off"]
    words += ["-drive", f"file={it.folder}/disk.qcow2,if=virtio,format=qcow2,cache=unsafe"]
    words += ["-drive", f"file={it.seed},if=virtio,format=raw,readonly=on"]
    words += ["-device", "virtio-serial", "-chardev", f"socket,id=agent,path={it.socket('agent')},server=on,wait=off"]
    words += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", "-device", "virtio-rng-pci"]
    words += ["-netdev", f"user,id=nat,restrict=on{forwards}", "-device", "virtio-net-pci,netdev=nat"]
    ends = f"local.type=unix,local.path={it.socket('cable')},remote.type=unix,remote.path={it.peer / 'cable.sock'}"
    device = f"virtio-net-pci,netdev=lan,mac=52:54:00:00:56:{it.number:02x}"
    return [*words, "-netdev", f"dgram,id=lan,{ends}", "-device", device]


class Running:
    """A machine that has been started."""

    def __init__(self, it: Machine, process: "subprocess.Popen[bytes]") -> None:
        self.machine = it
        self._process = process

    def __call__(self, *argv: str, stdin: bytes = b"", seconds: float = 60.0) -> str:
        """What the command prints. MachineError with what it said when it fails."""
        found = self.run(argv, stdin=stdin, seconds=seconds)
        if found.returncode != 0:
            said = f"{found.stdout[-2000:]}{found.stderr}".strip()
            raise MachineError(f"{self.machine.name}: {' '.join(argv)}: {found.returncode}: {said}")
        return found.stdout

    def sh(self, script: str, *, seconds: float = 60.0) -> str:
        """What the shell script prints."""
        return self("/bin/sh", "-c", script, seconds=seconds)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", seconds: float = 60.0
    ) -> "subprocess.CompletedProcess[str]":
        """The command's exit code and what it printed, whatever they are."""
        deadline = time.monotonic() + seconds
        arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        pid = self._agent("guest-exec", arguments)["pid"]
        while not (found := self._agent("guest-exec-status", {"pid": pid}))["exited"]:
            if time.monotonic() > deadline:
                raise MachineError(f"{self.machine.name}: {' '.join(argv)}: not done in {seconds:.0f} s")
            time.sleep(0.05)
        out, err = (base64.b64decode(found.get(name, "")).decode(errors="replace") for name in ("out-data", "err-data"))
        return subprocess.CompletedProcess(argv, found.get("exitcode", 128 + found.get("signal", 0)), out, err)

    def wait_until_up(self, *, seconds: float = BOOT_SECONDS) -> None:
        """Until systemd has started everything it is going to start."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                state = self.run(["/usr/bin/systemctl", "is-system-running"], seconds=10).stdout.strip()
            except (MachineError, OSError, ValueError) as e:
                state = str(e)
            if state in ("running", "degraded"):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                end = self.machine.console.read_text(errors="replace")[-2000:] if self.machine.console.exists() else ""
                raise MachineError(f"{self.machine.name} is not up: {state}; its console ends:\n{end}")
            time.sleep(0.5)

    def reboot(self) -> None:
        """Asks for a reboot and waits until the machine is up again."""
        before = self("/bin/cat", "/proc/sys/kernel/random/boot_id")
        with contextlib.suppress(MachineError, OSError):
            self.run(["/usr/bin/systemctl", "reboot"], seconds=5)
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            with contextlib.suppress(MachineError, OSError, ValueError):
                if self("/bin/cat", "/proc/sys/kernel/random/boot_id", seconds=5) != before:
                    break
            if time.monotonic() > deadline:
                raise MachineError(f"{self.machine.name} did not reboot")
            time.sleep(0.5)
        self.wait_until_up()

    def pause(self) -> None:
        """Stops its processors, as a laptop that sleeps."""
        self._monitor("stop")

    def resume(self) -> None:
        """Lets it go on."""
        self._monitor("cont")

    def status(self) -> str:
        """`running`, `paused`, `internal-error`, ..."""
        return str(self._monitor("query-status")["status"])

    def memory_of_qemu(self) -> int:
        """Bytes of the host's memory that the machine holds."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) << 10

    def end(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait(10)

    def _agent(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """One call of the guest agent, on a connection of its own: what was asked before a reboot is never read."""
        with _conversation(self.machine.socket("agent")) as say:
            mark = secrets.randbelow(1 << 31)
            say("guest-sync", {"id": mark}, until=mark)
            return say(name, arguments)

    def _monitor(self, name: str) -> Any:
        with _conversation(self.machine.socket("qmp")) as say:
            say("qmp_capabilities", {})
            return say(name, {})


@contextlib.contextmanager
def _conversation(path: Path) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(CALL_SECONDS)
        connection.connect(str(path))
        with connection.makefile("rwb") as stream:

            def say(name: str, arguments: Mapping[str, Any], *, until: object = None) -> Any:
                stream.write(json.dumps({"execute": name, "arguments": dict(arguments)}).encode() + b"\n")
                stream.flush()
                for line in stream:
                    message = json.loads(line)
                    if "error" in message and until is None:
                        raise MachineError(f"{name}: {message['error'].get('desc')}")
                    if "return" in message and (until is None or message["return"] == until):
                        return message["return"]
                raise MachineError(f"{name}: no answer")

            yield say


def start(it: Machine, *, boot: image.Image, kvm: bool) -> Running:
    """Starts it on a fresh layer over the image's disk."""
    layer = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(boot.disk), f"{it.folder}/disk.qcow2"]
    subprocess.run(layer, check=True, timeout=30)
    with (it.folder / "qemu.log").open("wb") as log:
        process = subprocess.Popen(command(it, boot=boot, kvm=kvm), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return Running(it, process)


def kvm_works(folder: Path, boot: image.Image) -> bool:
    """Whether the host's processor runs the kernel here: tried, since a device that opens may still run nothing, or,
    inside another virtual machine, run it slower than emulation does."""
    console = folder / "probe.log"
    words = [PROGRAM, "-accel", "kvm", "-cpu", PROCESSOR, "-machine", "q35", "-m", "512", "-nodefaults"]
    words += ["-display", "none", "-serial", f"file:{console}", "-kernel", str(boot.kernel), "-append", "console=ttyS0"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PROBE_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if console.exists() and b"Linux version" in console.read_bytes():
                return True
            time.sleep(0.2)
        return False
    finally:
        process.kill()
        process.wait(10)


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
