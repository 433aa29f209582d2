"""Which backend this host gets, and the removal of what other modes left behind.

The choice is pure. Probing asks the host's programs and waits for them: some ten milliseconds, once at a start.
"""

import logging
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.backends import ruleset
from proxy.backends.iptables import FOLDER, HostXtables, IptablesBackend
from proxy.backends.nftables import NFT, KernelNft, NftablesBackend
from proxy.backends.protocol import Backend, BackendError
from proxy.rules.plan import RuleSet

log = logging.getLogger(__name__)

NFTABLES, IPTABLES = "nftables", "iptables"
LEGACY, NFT_KIND = "legacy", "nft"
MODES = ("", NFTABLES, IPTABLES, LEGACY)
LEGACY_TABLES = (Path("/proc/net/ip_tables_names"), Path("/proc/net/ip6_tables_names"))
TCP_LIBERAL = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
UPSTREAM_TABLE = "kube-proxy"
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a host can do: why nftables is refused ("" when it works); what its iptables stands on (`nft`, `legacy`, ""
    without any); whether the legacy tables hold rules, and the kernel takes late TCP packets for valid."""

    nftables: str
    iptables: str
    legacy_rules: bool
    tcp_liberal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The mode, and for iptables which of its two kinds; whether the kernel takes late TCP packets for valid."""

    mode: str
    kind: str = ""
    tcp_liberal: bool = False


def choose(mode: str, host: Host, *, tcp_liberal: bool = False) -> Choice:
    """nftables where it works, else iptables in the tables that hold the host's rules. BackendError without either.

    `tcp_liberal`: the kernel is going to be told to take late TCP packets for valid.
    """
    liberal = tcp_liberal or host.tcp_liberal
    if mode in ("", NFTABLES) and not host.nftables:
        return Choice(mode=NFTABLES, tcp_liberal=liberal)
    if mode == NFTABLES:
        raise BackendError(f"mode nftables: {host.nftables}; leave mode empty to have iptables instead")
    if not host.iptables:
        raise BackendError(
            f"neither nftables ({host.nftables or 'not asked for'}) nor iptables can be used: install one"
        )
    legacy = mode == LEGACY or host.legacy_rules or host.iptables == LEGACY
    return Choice(mode=IPTABLES, kind=LEGACY if legacy else NFT_KIND, tcp_liberal=liberal)


def probe() -> Host:
    """Asks this host."""
    return Host(
        nftables=_nftables(),
        iptables=_iptables(),
        legacy_rules=_legacy_rules(),
        tcp_liberal=_text(TCP_LIBERAL) == "1",
    )


def build(choice: Choice, *, cluster_cidrs: Sequence[str]) -> Backend:
    """The backend of a choice."""
    if choice.mode == NFTABLES:
        return NftablesBackend(cluster_cidrs=cluster_cidrs, tcp_liberal=choice.tcp_liberal)
    return IptablesBackend(HostXtables(kind=choice.kind), cluster_cidrs=cluster_cidrs, tcp_liberal=choice.tcp_liberal)


async def remove_others(choice: Choice) -> None:
    """What other modes left: ours and upstream's, for only one proxy can serve a node. Raises BackendError."""
    if choice.mode == NFTABLES:
        await remove_iptables()
    else:
        await NftablesBackend().cleanup()
    await KernelNft().load(ruleset.removal(UPSTREAM_TABLE))


async def remove_iptables() -> None:
    """The chains of kube-proxy's names, in both kinds of tables where there are any."""
    kinds = ["nft"] if _exists("iptables-nft-save") else []
    if any(_text(path) for path in LEGACY_TABLES) and _exists("iptables-legacy-save"):
        kinds.append(LEGACY)
    for kind in kinds:
        await IptablesBackend(HostXtables(kind=kind)).cleanup()


def _nftables() -> str:
    text = ruleset.whole(RuleSet())
    try:
        subprocess.run(
            [NFT, "-c", "-f", "-"], input=text.encode(), check=True, capture_output=True, timeout=TIMEOUT_SECONDS
        )
    except FileNotFoundError:
        return f"{NFT} is not installed"
    except subprocess.CalledProcessError as error:
        return f"nft refuses our table: {error.stderr.decode(errors='replace').strip()[:200]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


def _iptables() -> str:
    try:
        argv = [f"{FOLDER}/iptables", "--version"]
        said = subprocess.run(argv, capture_output=True, check=True, timeout=TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return NFT_KIND if b"nf_tables" in said else LEGACY


def _legacy_rules() -> bool:
    """Looks without loading the legacy tables, which asking iptables-legacy would do."""
    if not any(_text(path) for path in LEGACY_TABLES) or not _exists("iptables-legacy-save"):
        return False
    try:
        argv = [f"{FOLDER}/iptables-legacy-save"]
        saved = subprocess.run(argv, capture_output=True, check=True, timeout=TIMEOUT_SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("cannot see whether legacy tables hold rules: %s", error)
        return False
    return any(line.startswith(b"-A") for line in saved.splitlines())


def _exists(program: str) -> bool:
    return Path(FOLDER, program).exists()


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
