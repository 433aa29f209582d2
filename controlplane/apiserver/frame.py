"""The FastAPI frame around the resources: version, health, metrics, OpenAPI, OpenID. Knows no resource.

Everything here is small and rarely asked for; who may ask was decided at the front door.
"""

import platform
from collections.abc import Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response

from controlplane.apiserver import negotiate, openapi, openapi_v2, reply
from controlplane.apiserver.health import Health, report
from controlplane.apiserver.tokens import Tokens
from kube import status
from kube.runtime import metrics

MAJOR, MINOR = "1", "36"
GIT_VERSION = "v1.36.2+nodeagent.0.1.0"
HEALTH_KINDS = ("healthz", "livez", "readyz")


def build(*, health: Health, tokens: Tokens, exposition: Callable[[], bytes]) -> FastAPI:
    """The application; `exposition` renders the metrics of the whole process."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _add_version(app)
    for kind in HEALTH_KINDS:
        _add_health(app, kind, health)
    _add_openapi(app)
    _add_openid(app, tokens)

    @app.get("/metrics")
    async def metrics_page() -> Response:
        return Response(exposition(), media_type=metrics.CONTENT_TYPE)

    @app.get("/")
    async def paths() -> Response:
        found = sorted({getattr(route, "path", "") for route in app.routes} | {"/api", "/apis"})
        return _json({"paths": [path for path in found if path and "{" not in path]})

    @app.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
    async def nothing(path: str) -> Response:
        return _error(status.not_served())

    return app


def version_info() -> dict[str, str]:
    """The body of /version."""
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation().lower(),
        "platform": "linux/amd64" if platform.machine() == "x86_64" else f"linux/{platform.machine()}",
    }


def _add_version(app: FastAPI) -> None:
    body = orjson.dumps(version_info())

    @app.get("/version")
    async def version() -> Response:
        return Response(body, media_type="application/json")


def _add_health(app: FastAPI, kind: str, health: Health) -> None:
    @app.get(f"/{kind}")
    async def whole(request: Request) -> Response:
        verdicts = health.judge(kind, excluded=request.query_params.getlist("exclude"))
        code, text = report(kind, verdicts, verbose="verbose" in request.query_params)
        return Response(text, code, media_type="text/plain")

    @app.get(f"/{kind}/{{name}}")
    async def single(name: str) -> Response:
        if name not in health.checks:
            return _error(status.not_served())
        reason = health.checks[name]()
        if reason is None:
            return Response("ok", media_type="text/plain")
        return Response(f"internal server error: {name}: {reason}\n", 500, media_type="text/plain")


def _add_openapi(app: FastAPI) -> None:
    @app.get("/openapi/v3")
    async def index() -> Response:
        return Response(openapi.index(), media_type="application/json")

    @app.get("/openapi/v3/{path:path}")
    async def document(path: str, request: Request) -> Response:
        try:
            negotiate.form(request.headers.get("accept", ""))
        except status.ApiError as e:
            return _error(e)
        body, etag = openapi.document(path), openapi.document_etag(path)
        if body is None:
            return _error(status.not_served())
        headers = {"etag": f'"{etag}"', "vary": "Accept", "cache-control": "no-cache, private"}
        if request.query_params.get("hash") == etag:
            headers["cache-control"] = "public, immutable"
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(b"", 304, headers)
        answer = reply.Reply(body)
        return Response(answer.body, 200, headers, "application/json")

    @app.get("/openapi/v2")
    async def second(request: Request) -> Response:
        """OpenAPI v2 is not served but for what kubectl asks of it about kinds that nobody knows."""
        if not openapi_v2.wanted(request.headers.get("accept", "")):
            return _error(status.not_served())
        return Response(openapi_v2.document(), media_type=openapi_v2.MEDIA_TYPE)


def _add_openid(app: FastAPI, tokens: Tokens) -> None:
    @app.get("/.well-known/openid-configuration")
    async def configuration() -> Response:
        return _json(
            {
                "issuer": tokens.issuer,
                "jwks_uri": f"{tokens.issuer}/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": sorted({key["alg"] for key in tokens.jwks()["keys"]}),
            }
        )

    @app.get("/openid/v1/jwks")
    async def jwks() -> Response:
        return Response(orjson.dumps(tokens.jwks()), media_type="application/jwk-set+json")


def _json(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _error(error: status.ApiError) -> Response:
    return Response(orjson.dumps(error.status), error.code, media_type="application/json")
