"""Security contexts of pods and containers as CRI takes them, after upstream's securitycontext package. PURE."""

from typing import Final

from kube import types
from nodeagent import errors
from nodeagent.cri import records
from nodeagent.cri.v1 import cri_pb2 as cri
from nodeagent.pods import spec, userns

MASKED: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def of_pod(pod: types.Pod) -> types.PodSecurityContext:
    """The pod's context, empty if it has none."""
    return pod.spec.security_context or types.PodSecurityContext()


def of_container(container: spec.AnyContainer) -> types.SecurityContext:
    """The container's own context, empty if it has none."""
    return container.security_context or types.SecurityContext()


def namespaces(
    pod: types.Pod, *, target: str = "", for_sandbox: bool = False, first_id: int = 0
) -> cri.NamespaceOption:
    """Which namespaces are shared with whom; `target` is the container an ephemeral one looks into.

    `first_id` is the node's id that is 0 in the pod's user namespace, 0 where it has none.
    """
    if pod.spec.host_pid:
        pid = cri.NODE
    elif pod.spec.share_process_namespace or for_sandbox:
        pid = cri.POD if pod.spec.share_process_namespace else cri.CONTAINER
    else:
        pid = cri.TARGET if target else cri.CONTAINER
    return cri.NamespaceOption(
        network=cri.NODE if pod.spec.host_network else cri.POD,
        ipc=cri.NODE if pod.spec.host_ipc else cri.POD,
        pid=pid,
        target_id=target if pid == cri.TARGET else "",
        userns_options=userns.options(first_id),
    )


def sandbox(pod: types.Pod, *, seccomp_default: bool, first_id: int = 0) -> cri.LinuxSandboxSecurityContext:
    """The sandbox's context: that of the pod, privileged if any of its containers is."""
    context = of_pod(pod)
    found = cri.LinuxSandboxSecurityContext(
        namespace_options=namespaces(pod, for_sandbox=True, first_id=first_id),
        privileged=any(of_container(c).privileged for c in spec.every(pod)),
        supplemental_groups=groups(pod),
        # The sandbox runs the runtime's own pause program: upstream confines it whatever the pod asks.
        seccomp=cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault),
        supplemental_groups_policy=groups_policy(pod),
    )
    if context.run_as_user is not None:
        found.run_as_user.value = context.run_as_user
    if context.run_as_group is not None:
        found.run_as_group.value = context.run_as_group
    if context.se_linux_options is not None:
        found.selinux_options.CopyFrom(selinux(context.se_linux_options))
    return found


def groups(pod: types.Pod) -> list[int]:
    """Supplemental groups, the volumes' group first."""
    context = of_pod(pod)
    own = [context.fs_group] if context.fs_group is not None else []
    return [*own, *context.supplemental_groups]


def groups_policy(pod: types.Pod) -> cri.SupplementalGroupsPolicy:
    """Whether groups the image names count too."""
    return cri.Strict if of_pod(pod).supplemental_groups_policy == "Strict" else cri.Merge


def container(
    pod: types.Pod,
    it: spec.AnyContainer,
    *,
    image: records.Image,
    target: str = "",
    seccomp_default: bool = False,
    first_id: int = 0,
) -> cri.LinuxContainerSecurityContext:
    """The container's context; `StartError` if it may not run as the user it would run as."""
    context, pods = of_container(it), of_pod(pod)
    privileged = bool(context.privileged)
    unmasked = privileged or context.proc_mount == "Unmasked"
    found = cri.LinuxContainerSecurityContext(
        capabilities=capabilities(context),
        privileged=privileged,
        namespace_options=namespaces(pod, target=target, first_id=first_id),
        readonly_rootfs=bool(context.read_only_root_filesystem),
        supplemental_groups=groups(pod),
        no_new_privs=context.allow_privilege_escalation is False,
        masked_paths=[] if unmasked else MASKED,
        readonly_paths=[] if unmasked else READ_ONLY,
        seccomp=seccomp(
            context.seccomp_profile or pods.seccomp_profile, default=seccomp_default, privileged=privileged
        ),
        supplemental_groups_policy=groups_policy(pod),
    )
    set_user(found, pod, it, image)
    if (options := context.se_linux_options or pods.se_linux_options) is not None:
        found.selinux_options.CopyFrom(selinux(options))
    if (profile := context.app_armor_profile or pods.app_armor_profile) is not None:
        found.apparmor.CopyFrom(security_profile(profile.type, profile.localhost_profile))
    return found


def set_user(
    found: cri.LinuxContainerSecurityContext, pod: types.Pod, it: spec.AnyContainer, image: records.Image
) -> None:
    """User and group: the container's, the pod's, the image's, root; checked against runAsNonRoot."""
    context, pods = of_container(it), of_pod(pod)
    user = context.run_as_user if context.run_as_user is not None else pods.run_as_user
    group = context.run_as_group if context.run_as_group is not None else pods.run_as_group
    if user is None and image.username:
        found.run_as_username = image.username
    else:
        user = user if user is not None else image.uid or 0
        found.run_as_user.value = user
    if group is not None:
        found.run_as_group.value = group
    non_root = context.run_as_non_root if context.run_as_non_root is not None else pods.run_as_non_root
    if not non_root:
        return
    where = f'(pod: "{spec.shown(pod)}", container: {it.name})'
    if user == 0:
        explicit = context.run_as_user == 0 or pods.run_as_user == 0
        why = (
            "container's runAsUser breaks non-root policy"
            if explicit
            else ("container has runAsNonRoot and image will run as root")
        )
        raise errors.StartError("CreateContainerConfigError", f"{why} {where}")
    if user is None:
        named = f"container has runAsNonRoot and image has non-numeric user ({image.username})"
        why = f"{named}, cannot verify user is non-root"
        raise errors.StartError("CreateContainerConfigError", f"{why} {where}")


def capabilities(context: types.SecurityContext) -> cri.Capability:
    """Capabilities added and dropped, without the prefix some users write."""
    if context.capabilities is None:
        return cri.Capability()
    return cri.Capability(add_capabilities=context.capabilities.add, drop_capabilities=context.capabilities.drop)


def seccomp(profile: types.SeccompProfile | None, *, default: bool, privileged: bool = False) -> cri.SecurityProfile:
    """The system call filter: none unless asked for or the node's default."""
    if privileged:
        return cri.SecurityProfile(profile_type=cri.SecurityProfile.Unconfined)
    if profile is not None:
        return security_profile(profile.type, profile.localhost_profile)
    kind = cri.SecurityProfile.RuntimeDefault if default else cri.SecurityProfile.Unconfined
    return cri.SecurityProfile(profile_type=kind)


def security_profile(kind: str, localhost: str | None) -> cri.SecurityProfile:
    """A seccomp or AppArmor profile by its API name."""
    if kind == "Localhost":
        return cri.SecurityProfile(profile_type=cri.SecurityProfile.Localhost, localhost_ref=localhost or "")
    return cri.SecurityProfile(
        profile_type=cri.SecurityProfile.RuntimeDefault if kind == "RuntimeDefault" else cri.SecurityProfile.Unconfined
    )


def selinux(options: types.SELinuxOptions) -> cri.SELinuxOption:
    """SELinux options as CRI takes them."""
    return cri.SELinuxOption(
        user=options.user or "", role=options.role or "", type=options.type or "", level=options.level or ""
    )
