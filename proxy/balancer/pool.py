"""Addresses to give: which are in the pool, and which one a Service gets. PURE."""

from collections.abc import Collection, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
Range = tuple[Address, Address]
MAX_OFFERS = 4096


def parse(text: str) -> Range:
    """First and last address of a block, of `first-last`, or of one address. Raises ValueError naming the text."""
    first, dash, last = text.partition("-")
    try:
        if dash:
            low, high = ip_address(first.strip()), ip_address(last.strip())
        else:
            network = ip_network(text.strip(), strict=False)
            low, high = network[0], network[-1]
    except ValueError as error:
        raise ValueError(f"addresses: {text!r} is neither a block nor a range: {error}") from None
    if low.version != high.version or int(low) > int(high):
        raise ValueError(f"addresses: {text!r} does not go from a lower to a higher address of one IP version")
    return low, high


class Pool:
    """The addresses of some ranges."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._ranges = [parse(text) for text in texts]

    @property
    def versions(self) -> frozenset[int]:
        """The IP versions there are addresses of."""
        return frozenset(low.version for low, _ in self._ranges)

    def __contains__(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(
            low.version == address.version and int(low) <= int(address) <= int(high) for low, high in self._ranges
        )

    def offers(self, version: int, *, wanted: Sequence[str], taken: Collection[str]) -> Iterator[str]:
        """Addresses a Service may have, the best first: what it asks for or had, then the lowest free ones.

        Who asks for an address gets that one or none: the first of `wanted` is the Service's own wish, "" without.
        """
        asked, *had = (*wanted, "")
        if asked and _version(asked) in (version, 0):
            yield from [asked] if asked in self and asked not in taken else []
            return
        usable = [text for text in had if text in self and text not in taken and _version(text) == version]
        yield from usable
        yield from (text for text in self._all(version) if text not in taken and text not in usable)

    def _all(self, version: int) -> Iterator[str]:
        left = MAX_OFFERS
        for low, high in self._ranges:
            if low.version == version:
                for number in range(min(int(high) - int(low) + 1, left)):
                    yield str(low + number)
                left -= int(high) - int(low) + 1
                if left <= 0:
                    return


def _version(text: str) -> int:
    """4 or 6; 0 for what is no address."""
    try:
        return ip_address(text).version
    except ValueError:
        return 0
