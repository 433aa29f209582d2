"""The OpenAPI endpoints: an index whose hashes follow the content, and the documents it points to."""

import json

from controlplane.apiserver import openapi
from kube import scheme


def test_the_index_names_every_group_and_version_with_its_hash() -> None:
    paths = json.loads(openapi.index())["paths"]
    expected = {f"apis/{group}/{version}" if group else f"api/{version}" for group, version in scheme.group_versions()}
    assert paths.keys() == expected
    url = paths["apis/apps/v1"]["serverRelativeURL"]
    assert url == f"/openapi/v3/apis/apps/v1?hash={openapi.document_etag('apis/apps/v1')}"


def test_a_document_describes_its_group_and_the_hash_is_stable() -> None:
    document = openapi.document("apis/apps/v1")
    assert document is not None
    assert "/apis/apps/v1/namespaces/{namespace}/deployments/{name}" in json.loads(document)["paths"]
    assert openapi.document_etag("/apis/apps/v1/") == openapi.document_etag("apis/apps/v1")


def test_a_path_nothing_is_served_at_has_no_document() -> None:
    for path in ("", "api", "api/v2", "apis/apps", "apis/none.example.com/v1", "version"):
        assert openapi.document(path) is None
        assert openapi.document_etag(path) is None
