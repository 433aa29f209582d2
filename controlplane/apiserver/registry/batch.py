"""The strategies of Jobs and CronJobs. Owns their defaults, rules and tables. Must not know their controllers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from controlplane.apiserver.registry import (
    ages,
    columns,
    deployment,
    field,
    pod_warnings,
    selectors,
    validate_pod,
    workload,
)
from controlplane.apiserver.registry.columns import Column, count
from controlplane.apiserver.registry.strategy import JSON, Plain

_MODES = ("Indexed", "NonIndexed")
_CONCURRENCY = ("Allow", "Forbid", "Replace")
_RESTARTS = ("OnFailure", "Never")
_UID_LABEL, _JOB_LABEL = "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"
_OLD_UID_LABEL, _OLD_JOB_LABEL = "controller-uid", "job-name"
_NO_LIMIT = 2**31 - 1


class Jobs(Plain):
    """Jobs."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Status", "What became of the job."),
        Column("Completions", "Successful pods of the wanted ones."),
        Column("Duration", "Time from start to end, or until now."),
        columns.AGE,
        columns.CONTAINERS,
        columns.IMAGES,
        columns.SELECTOR,
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        default_job(obj.setdefault("spec", {}))

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {}
        if not obj["spec"].get("manualSelector"):
            _own_selector(obj)

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors = job_spec("spec", spec)
        if spec.get("selector") is None:
            errors.append(field.required("spec.selector"))
        else:
            errors += selectors.selector("spec.selector", spec["selector"]) + workload.matches(spec, "spec.template")
        return errors

    def validate_change(self, obj: JSON, old: JSON) -> field.Errors:
        spec, before = obj.get("spec") or {}, old.get("spec") or {}
        errors: field.Errors = []
        for key in ("completions", "selector", "template", "completionMode", "podFailurePolicy", "managedBy"):
            if key == "template" and before.get("suspend") and not (old.get("status") or {}).get("startTime"):
                continue
            elastic = key == "completions" and spec.get("completionMode") == "Indexed"
            if not (elastic and spec.get("completions") == spec.get("parallelism")):
                errors += field.immutable(f"spec.{key}", spec.get(key), before.get(key))
        return errors

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        return workload.warnings(obj, old)

    def field_values(self, obj: JSON) -> dict[str, str]:
        return {"status.successful": str((obj.get("status") or {}).get("succeeded") or 0)}

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        return [
            columns.name(obj),
            _job_word(obj, status),
            _completions(spec, status),
            _duration(status, now),
            columns.age(obj, now),
            *columns.containers((spec.get("template") or {}).get("spec")),
            deployment.selector_text(spec.get("selector")),
        ]


def default_job(spec: JSON) -> None:
    """Defaults of a job spec, in a Job and in a CronJob's template."""
    workload.default_template(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", _NO_LIMIT if spec.get("backoffLimitPerIndex") is not None else 6)
    spec["completionMode"] = spec.get("completionMode") or "NonIndexed"
    spec.setdefault("suspend", False)
    failed_only = spec.get("podFailurePolicy") is not None
    spec["podReplacementPolicy"] = spec.get("podReplacementPolicy") or (
        "Failed" if failed_only else "TerminatingOrFailed"
    )


def _own_selector(obj: JSON) -> None:
    """The selector and the labels that tell the pods of one job from all others."""
    meta, spec = obj["metadata"], obj["spec"]
    uid = meta.setdefault("uid", str(uuid4()))
    found = spec["template"].setdefault("metadata", {}).setdefault("labels", {})
    for key in (_UID_LABEL, _OLD_UID_LABEL):
        found.setdefault(key, uid)
    for key in (_JOB_LABEL, _OLD_JOB_LABEL):
        found.setdefault(key, meta.get("name") or "")
    chosen = spec.setdefault("selector", {}).setdefault("matchLabels", {})
    chosen.setdefault(_UID_LABEL, uid)


def job_spec(path: str, spec: JSON) -> field.Errors:
    """Faults of a job spec but for its selector."""
    keys = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    errors = workload.numbers(path, spec, *keys, "backoffLimitPerIndex", "maxFailedIndexes")
    mode = spec.get("completionMode")
    if mode is not None and mode not in _MODES:
        errors.append(field.unsupported(f"{path}.completionMode", mode, _MODES))
    if mode == "Indexed" and spec.get("completions") is None:
        errors.append(field.required(f"{path}.completions", "when completion mode is Indexed"))
    template = spec.get("template") or {}
    errors += validate_pod.template(f"{path}.template", template)
    policy = (template.get("spec") or {}).get("restartPolicy") or ""
    if policy not in _RESTARTS:
        if policy in ("", "Always"):
            why = "valid values: " + ", ".join(f'"{item}"' for item in _RESTARTS)
            errors.append(field.required(f"{path}.template.spec.restartPolicy", why))
        else:
            errors.append(field.unsupported(f"{path}.template.spec.restartPolicy", policy, _RESTARTS))
    return errors


def _job_word(obj: JSON, status: JSON) -> str:
    true = {item.get("type") for item in status.get("conditions") or () if item.get("status") == "True"}
    for kind, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if kind in true:
            return word
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if kind in true:
            return kind
    return "Running"


def _completions(spec: JSON, status: JSON) -> str:
    done = status.get("succeeded") or 0
    if spec.get("completions") is not None:
        return f"{done}/{spec['completions']}"
    parallel = spec.get("parallelism") or 0
    return f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"


def _duration(status: JSON, now: datetime) -> str:
    start = columns.parse_time(status.get("startTime"))
    if start is None:
        return ""
    end = columns.parse_time(status.get("completionTime")) or now
    return ages.human((end - start).total_seconds())


class CronJobs(Plain):
    """CronJobs."""

    columns: tuple[Column, ...] = (
        columns.NAME,
        Column("Schedule", "When jobs are made, in cron's five fields."),
        Column("Timezone", "Time zone of the schedule."),
        Column("Suspend", "True while no jobs are made.", type="boolean"),
        count("Active", "Jobs that run now."),
        Column("Last Schedule", "Time since the last job was made."),
        columns.AGE,
        columns.CONTAINERS,
        columns.IMAGES,
        columns.SELECTOR,
    )
    generation_of = ("spec",)

    def fill(self, obj: JSON) -> None:
        spec = obj.setdefault("spec", {})
        spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        template = spec.setdefault("jobTemplate", {})
        template.setdefault("metadata", {})
        inner = template.setdefault("spec", {})
        workload.default_template(inner)

    def prepare_create(self, obj: JSON) -> None:
        super().prepare_create(obj)
        obj["status"] = {}

    def validate_create(self, obj: JSON) -> field.Errors:
        errors = super().validate_create(obj)
        name = (obj.get("metadata") or {}).get("name") or ""
        if len(name) > 52:
            errors.append(field.invalid("metadata.name", name, "must be no more than 52 characters"))
        return errors

    def validate(self, obj: JSON) -> field.Errors:
        spec = obj.get("spec") or {}
        errors: field.Errors = []
        if not spec.get("schedule"):
            errors.append(field.required("spec.schedule"))
        errors += workload.numbers("spec", spec, "startingDeadlineSeconds")
        policy = spec.get("concurrencyPolicy") or ""
        if policy not in _CONCURRENCY:
            path = "spec.concurrencyPolicy"
            errors.append(field.unsupported(path, policy, _CONCURRENCY) if policy else field.required(path))
        template = spec.get("jobTemplate") or {}
        errors += selectors.labels("spec.jobTemplate.labels", (template.get("metadata") or {}).get("labels"))
        errors += job_spec("spec.jobTemplate.spec", template.get("spec") or {})
        return errors + workload.numbers("spec", spec, "successfulJobsHistoryLimit", "failedJobsHistoryLimit")

    def warnings(self, obj: JSON, old: JSON | None) -> list[str]:
        """Hints on the template of its jobs' pods."""
        inner = (((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
        at = "spec.jobTemplate.spec.template."
        named = pod_warnings.name(obj, use="Pod names and hostnames") if old is None else []
        return named + pod_warnings.of(inner.get("metadata") or {}, inner.get("spec") or {}, at=at)

    def cells(self, obj: JSON, now: datetime) -> list[Any]:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        inner = (spec.get("jobTemplate") or {}).get("spec") or {}
        last = status.get("lastScheduleTime")
        return [
            columns.name(obj),
            spec.get("schedule") or "",
            spec.get("timeZone") or columns.UNSET,
            "True" if spec.get("suspend") else "False",
            len(status.get("active") or ()),
            columns.since(last, now) if last else columns.UNSET,
            columns.age(obj, now),
            *columns.containers((inner.get("template") or {}).get("spec")),
            deployment.selector_text(inner.get("selector")),
        ]
