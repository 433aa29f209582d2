"""Status errors: upstream's words, reasons, codes, details and causes."""

from __future__ import annotations

import json

import pytest

from kube import scheme, status
from kube.status import ApiError, FieldError


@pytest.mark.parametrize(
    ("error", "code", "reason", "message"),
    [
        (status.not_found(scheme.PODS, "x"), 404, "NotFound", 'pods "x" not found'),
        (status.not_found(scheme.DEPLOYMENTS, "x"), 404, "NotFound", 'deployments.apps "x" not found'),
        (status.not_served(), 404, "NotFound", "the server could not find the requested resource"),
        (status.already_exists(scheme.DEPLOYMENTS, "x"), 409, "AlreadyExists", 'deployments.apps "x" already exists'),
        (
            status.name_not_generated(scheme.PODS, "x-abc"),
            409,
            "AlreadyExists",
            'pods "x-abc" already exists, the server was not able to generate a unique name for the object',
        ),
        (
            status.conflict(scheme.PODS, "x"),
            409,
            "Conflict",
            'Operation cannot be fulfilled on pods "x": the object has been modified; '
            "please apply your changes to the latest version and try again",
        ),
        (status.bad_request("no"), 400, "BadRequest", "no"),
        (status.unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (status.forbidden("no", resource=scheme.PODS, name="x"), 403, "Forbidden", 'pods "x" is forbidden: no'),
        (status.forbidden("no", resource=scheme.PODS), 403, "Forbidden", "pods is forbidden: no"),
        (status.forbidden("no"), 403, "Forbidden", "forbidden: no"),
        (
            status.method_not_allowed(scheme.TOKEN_REVIEWS, "list"),
            405,
            "MethodNotAllowed",
            'list is not supported on resources of kind "tokenreviews.authentication.k8s.io"',
        ),
        (
            status.method_not_allowed(),
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        (
            status.not_acceptable(["application/json"]),
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        ),
        (
            status.unsupported_media_type(["application/json", "application/yaml"]),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            "application/json, application/yaml",
        ),
        (status.expired("too old"), 410, "Expired", "too old"),
        (status.gone("gone"), 410, "Gone", "gone"),
        (
            status.too_large("limit is 3145728"),
            413,
            "RequestEntityTooLarge",
            "Request entity too large: limit is 3145728",
        ),
        (status.too_many_requests("slow down"), 429, "TooManyRequests", "slow down"),
        (status.timeout("late"), 504, "Timeout", "Timeout: late"),
        (
            status.future_resource_version(9, 3),
            504,
            "Timeout",
            "Timeout: Too large resource version: 9, current: 3",
        ),
        (
            status.server_timeout(scheme.PODS, "list"),
            500,
            "ServerTimeout",
            "The list operation against pods could not be completed at this time, please try again.",
        ),
        (status.internal("boom"), 500, "InternalError", "Internal error occurred: boom"),
        (status.unavailable("starting"), 503, "ServiceUnavailable", "starting"),
    ],
)
def test_the_words_of_each_error(error: ApiError, code: int, reason: str, message: str) -> None:
    assert (error.code, error.reason, error.message) == (code, reason, message)
    assert str(error) == message
    assert error.status["kind"] == "Status"
    assert error.status["status"] == "Failure"


def test_details_name_the_object_with_the_plural_as_kind() -> None:
    assert status.not_found(scheme.DEPLOYMENTS, "x").details == {"name": "x", "group": "apps", "kind": "deployments"}
    assert status.not_found(scheme.PODS, "x").details == {"name": "x", "kind": "pods"}


def test_details_of_an_invalid_object_name_the_kind_and_one_cause_per_field() -> None:
    errors = [status.required("spec.a"), status.invalid_value("spec.b", "v", "too blue")]
    error = status.invalid(scheme.DEPLOYMENTS, "x", errors)
    assert error.code == 422
    assert error.details == {
        "name": "x",
        "group": "apps",
        "kind": "Deployment",
        "causes": [
            {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
            {"reason": "FieldValueInvalid", "message": 'Invalid value: "v": too blue', "field": "spec.b"},
        ],
    }


def test_one_field_error_stands_alone_and_several_stand_in_brackets() -> None:
    image = status.required("spec.containers[0].image")
    one = status.invalid("Pod", "x", [image])
    assert one.message == 'Pod "x" is invalid: spec.containers[0].image: Required value'
    two = status.invalid("Deployment.apps", "x", [image, status.required("spec.selector")])
    assert two.message == (
        'Deployment.apps "x" is invalid: [spec.containers[0].image: Required value, spec.selector: Required value]'
    )


def test_an_error_said_twice_is_printed_once() -> None:
    assert status.aggregate([status.required("a"), status.required("a")]) == "a: Required value"


def test_an_invalid_object_without_field_errors_has_no_colon() -> None:
    assert status.invalid("Pod", "x", []).message == 'Pod "x" is invalid'


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (status.required("a"), "a: Required value"),
        (status.required("a", "must be there"), "a: Required value: must be there"),
        (status.invalid_value("a", "v", "why"), 'a: Invalid value: "v": why'),
        (status.invalid_value("a", 'q"uote', "why"), 'a: Invalid value: "q\\"uote": why'),
        (
            status.invalid_value("a", -1, "must be greater than or equal to 0"),
            ("a: Invalid value: -1: must be greater than or equal to 0"),
        ),
        (status.invalid_value("a", True), "a: Invalid value: true"),
        (status.invalid_value("a", None, "why"), 'a: Invalid value: "null": why'),
        (status.invalid_value("a", {"k": ["v"]}, "why"), 'a: Invalid value: {"k":["v"]}: why'),
        (status.unsupported("a", "x", ["b", "a"]), 'a: Unsupported value: "x": supported values: "a", "b"'),
        (status.unsupported("a", "x", []), 'a: Unsupported value: "x"'),
        (status.forbidden_field("a", "may not change"), "a: Forbidden: may not change"),
        (status.duplicate("a[1].name", "x"), 'a[1].name: Duplicate value: "x"'),
        (status.too_long("a", 63), "a: Too long: may not be more than 63 bytes"),
        (status.too_many("a", 9, 8), "a: Too many: 9: must have at most 8 items"),
        (FieldError("NotFound", "a", "", "x"), 'a: Not found: "x"'),
        (FieldError("Internal", "a", "boom"), "a: Internal error: boom"),
        (FieldError("TypeInvalid", "a", "must be a list", 1), "a: Invalid value: 1: must be a list"),
    ],
)
def test_the_words_of_each_field_error(error: FieldError, text: str) -> None:
    assert str(error) == text


def test_a_status_body_is_read_back_as_the_same_error() -> None:
    sent = status.conflict(scheme.PODS, "x")
    read = status.from_body(409, json.dumps(sent.status).encode())
    assert read.status == sent.status
    assert status.is_conflict(read)


def test_a_body_without_a_code_takes_the_code_of_the_reply() -> None:
    assert status.from_body(503, b'{"kind": "Status", "message": "x"}').code == 503


@pytest.mark.parametrize(
    ("code", "body", "reason", "message"),
    [
        (404, b"404 page not found", "NotFound", "404 page not found"),
        (502, b"", "Unknown", "the server answered 502 without a body"),
        (500, b'{"kind": "Pod"}', "InternalError", '{"kind": "Pod"}'),
        (403, b"\xff\xfe", "Forbidden", "\ufffd\ufffd"),
    ],
)
def test_a_body_that_is_no_status_still_becomes_an_error(code: int, body: bytes, reason: str, message: str) -> None:
    error = status.from_body(code, body)
    assert (error.code, error.reason, error.message) == (code, reason, message)


def test_retry_after_is_read_from_the_details() -> None:
    assert status.too_many_requests("x", retry_after=3).retry_after == 3
    assert status.not_found(scheme.PODS, "x").retry_after is None


def test_a_future_resource_version_carries_the_cause_clients_look_for() -> None:
    causes = status.future_resource_version(9, 3).details["causes"]
    assert causes == [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]


def test_a_blocked_eviction_is_told_to_try_again_with_its_cause() -> None:
    error = status.eviction_blocked("no", causes=[{"reason": "DisruptionBudget", "message": "m"}])
    assert error.code == 429
    assert error.details["causes"][0]["reason"] == "DisruptionBudget"


def test_predicates_tell_errors_apart() -> None:
    not_found, conflict = status.not_found(scheme.PODS, "x"), status.conflict(scheme.PODS, "x")
    assert status.is_not_found(not_found) and not status.is_not_found(conflict)
    assert status.is_conflict(conflict) and not status.is_conflict(status.already_exists(scheme.PODS, "x"))
    assert status.is_already_exists(status.already_exists(scheme.PODS, "x"))
    assert status.is_gone(status.expired("x")) and status.is_gone(status.gone("x")) and not status.is_gone(conflict)
    assert not status.is_not_found(ValueError("x"))


def test_success_names_what_was_deleted() -> None:
    body = status.success(details={"name": "x", "kind": "pods", "uid": "u"})
    assert body["status"] == "Success"
    assert body["details"] == {"name": "x", "kind": "pods", "uid": "u"}
    assert "details" not in status.success()
