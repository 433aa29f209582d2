"""Acting as somebody else: the Impersonate headers, each checked against what the real user may do.

Owns the headers and the questions asked (apiserver `filters/impersonation.go`). Knows no rule.
"""

from urllib.parse import unquote

from controlplane.apiserver import authz, tokens
from controlplane.apiserver.authn import AUTHENTICATED
from controlplane.apiserver.request import NOBODY, Request
from kube import status
from kube.client.identity import User

PREFIX = b"impersonate-"
EXTRA = "extra-"
ACCOUNT = "system:serviceaccount:"
IDENTITY_GROUP = "authentication.k8s.io"


def user_of(request: Request, authorizer: authz.Authorizer) -> User:
    """The user a request is made as: the real one, or the one it asks to be; 403 when it may not."""
    wanted = [(name[len(PREFIX) :], value) for name, value in request.scope["headers"] if name.startswith(PREFIX)]
    if not wanted:
        return request.user
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in wanted]
    name = next((value for key, value in pairs if key == "user"), "")
    if not name:
        raise status.bad_request("impersonation headers without Impersonate-User: name the user to be")
    groups = tuple(value for key, value in pairs if key == "group")
    uid = next((value for key, value in pairs if key == "uid"), "")
    extra: dict[str, tuple[str, ...]] = {}
    for key, value in pairs:
        if key.startswith(EXTRA):
            field = unquote(key[len(EXTRA) :])
            extra[field] = (*extra.get(field, ()), value)
    for question in _questions(request.user, name, groups, uid, extra):
        decision = authorizer.authorize(question)
        if not decision.allowed:
            subject = f"{question.resource}.{question.group}" if question.group else question.resource
            text = f'{subject} "{question.name}" is forbidden: {authz.message(question, decision)}'
            details = {"name": question.name, "group": question.group, "kind": question.resource}
            raise status.failure(403, "Forbidden", text, details)
    return User(name, _groups(name, groups), uid, extra)


def _questions(
    user: User, name: str, groups: tuple[str, ...], uid: str, extra: dict[str, tuple[str, ...]]
) -> list[authz.Attributes]:
    account = name.removeprefix(ACCOUNT).split(":") if name.startswith(ACCOUNT) else []
    if len(account) == 2:
        found = [authz.Attributes(user, "impersonate", "", "v1", "serviceaccounts", "", *account)]
    else:
        found = [authz.Attributes(user, "impersonate", resource="users", name=name)]
    found += [authz.Attributes(user, "impersonate", resource="groups", name=group) for group in groups]
    if uid:
        found.append(authz.Attributes(user, "impersonate", IDENTITY_GROUP, "v1", "uids", name=uid))
    for field, values in extra.items():
        for value in values:
            found.append(authz.Attributes(user, "impersonate", IDENTITY_GROUP, "v1", "userextras", field, "", value))
    return found


def _groups(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    if name == NOBODY.name:
        return groups or NOBODY.groups
    account = name.removeprefix(ACCOUNT).split(":") if name.startswith(ACCOUNT) else []
    if not groups and len(account) == 2:
        return tokens.service_account_groups(account[0])
    return groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED)
