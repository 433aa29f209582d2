"""What a test says of the network: this reaches that, this does not, and why not; the report when it is not so.

Must not know pytest: a wrong expectation is an AssertionError with the whole story in it.
"""

from nodeagent.lab.testing import path, probe, reach
from nodeagent.lab.testing.handle import Lab
from nodeagent.lab.testing.pods import Pod
from nodeagent.lab.testing.reach import Attempt, Place

REASONS = (probe.REFUSED, probe.TIMEOUT, probe.NO_NAME, probe.NO_ROUTE)


class Reachable:
    """Expects connections to come about."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(
        self,
        source: Pod | str,
        to: Place | str,
        *,
        port: int | None = None,
        protocol: str = "TCP",
        within: float = reach.WITHIN_SECONDS,
    ) -> Attempt:
        """`source` (a pod or a machine's name) reaches `to` (a pod, a Service, "name:port") within so many seconds.

        Returns the attempt that did, with what came back. Raises AssertionError when none does.
        """
        __tracebackhide__ = True
        goal = reach.target(self._lab, to, port=port)
        last, met = reach.until(
            lambda: reach.attempt(self._lab, source, goal, protocol=protocol), lambda each: each.reached, within=within
        )
        if not met:
            raise AssertionError(
                f"{source} should reach {to} ({goal}) over {protocol} within {within:g} s: {last}\n"
                + path.told(self._lab, source, goal, protocol=protocol)
            )
        return last


class Unreachable:
    """Expects connections not to come about."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __call__(
        self,
        source: Pod | str,
        to: Place | str,
        *,
        port: int | None = None,
        protocol: str = "TCP",
        because: str = "",
        within: float = reach.WITHIN_SECONDS,
    ) -> Attempt:
        """`source` comes not to reach `to` within so many seconds; where `because` is given, in that way: "refused",
        "timeout", "no name" or "no route". Raises AssertionError when it does, or fails otherwise.
        """
        __tracebackhide__ = True
        if because and because not in REASONS:
            raise ValueError(f"because: {because!r} is none of {', '.join(REASONS)}")
        goal = reach.target(self._lab, to, port=port)
        wanted = (because,) if because else REASONS
        last, met = reach.until(
            lambda: reach.attempt(self._lab, source, goal, protocol=protocol),
            lambda each: each.outcome in wanted,
            within=within,
        )
        if not met:
            raise AssertionError(
                f"{source} should not reach {to} ({goal}) over {protocol}"
                + (f", but be told {because!r}" if because else "")
                + f" within {within:g} s: {last}\n"
                + path.told(self._lab, source, goal, protocol=protocol)
            )
        return last
