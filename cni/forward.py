"""Pod packets on hosts whose FORWARD policy is DROP, as Docker leaves it: a chain of ours in the filter table accepts.

An accept in a table of ours would not overrule a drop in another one, so this is the one place that adds to a table we
do not own: one chain, and one jump to it, only where the policy is DROP. Owns the chain; the planning is PURE.
"""

import logging
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path

from kube.runtime import process

log = logging.getLogger(__name__)

CHAIN = "NODEAGENT-FORWARD"
PROGRAMS = {4: "/usr/sbin/iptables", 6: "/usr/sbin/ip6tables"}
# Where somebody's change may undo ours, as iptables lays itself out in nf_tables; the legacy tables tell nobody.
TABLES = (("ip", "filter"), ("ip6", "filter"))
CHAINS = frozenset({"FORWARD", CHAIN})
JUMP = f"-A FORWARD -j {CHAIN}"
TIMEOUT_SECONDS = 10.0


def plan(listed: str, *, cidrs: Sequence[str]) -> str:
    """The input of `iptables-restore --noflush`, "" for nothing to do; `listed` is what `iptables -S` says."""
    lines = listed.splitlines()
    if "-P FORWARD DROP" not in lines:
        return ""
    wanted = [f"-A {CHAIN} {side} {ip_network(cidr)} -j ACCEPT" for cidr in cidrs for side in ("-s", "-d")]
    first = next((line for line in lines if line.startswith("-A FORWARD ")), "")
    present = [line for line in lines if line.startswith(f"-A {CHAIN} ")]
    if first == JUMP and present == wanted:
        return ""
    moved = [line.replace("-A", "-D", 1) for line in lines if line == JUMP]
    return "\n".join(["*filter", f":{CHAIN} - [0:0]", *wanted, *moved, f"-I FORWARD 1 -j {CHAIN}", "COMMIT", ""])


async def accept(cidrs: Sequence[str]) -> None:
    """Lets packets from and to these pod ranges pass; where iptables fails, it says so and the work goes on."""
    for version, program in _programs().items():
        mine = [cidr for cidr in cidrs if ip_network(cidr).version == version]
        try:
            if mine and (text := plan(await _listed(program), cidrs=mine)):
                await _restore(program, text)
                log.info("the host drops what it forwards: chain %s now accepts pods' packets", CHAIN)
        except process.ProcessError as error:
            log.warning("whether the host drops pods' packets is unknown: %s", error)


async def remove() -> None:
    """Removes chain and jump, for uninstall; none there is no error."""
    for program in _programs().values():
        lines = (await _listed(program)).splitlines()
        if f"-N {CHAIN}" in lines:
            jumps = [line.replace("-A", "-D", 1) for line in lines if line == JUMP]
            await _restore(program, "\n".join(["*filter", *jumps, f"-F {CHAIN}", f"-X {CHAIN}", "COMMIT", ""]))


def _programs() -> Mapping[int, str]:
    return {version: program for version, program in PROGRAMS.items() if Path(program).exists()}


async def _listed(program: str) -> str:
    return (await process.run([program, "-w", "5", "-S"], timeout=TIMEOUT_SECONDS)).decode(errors="replace")


async def _restore(program: str, text: str) -> None:
    argv = [f"{program}-restore", "-w", "5", "--noflush"]
    await process.run(argv, stdin=text.encode(), timeout=TIMEOUT_SECONDS)
