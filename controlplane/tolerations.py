"""Whether a pod puts up with a taint. Pure; the scheduler and the controllers agree on it here."""

from collections.abc import Iterable

from controlplane.projection import Taint, Toleration


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    if toleration.operator == "Exists":
        return True
    return bool(toleration.key) and toleration.value == taint.value


def untolerated(tolerations: Iterable[Toleration], taints: Iterable[Taint]) -> list[Taint]:
    """Taints that no toleration covers."""
    known = tuple(tolerations)
    return [taint for taint in taints if not any(tolerates(toleration, taint) for toleration in known)]
