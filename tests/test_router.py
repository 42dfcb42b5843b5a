"""From a method and a path to a line of the table."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from packregistry.errors import ParameterInvalidError, PathUnknownError, RegistryError, UnsupportedError
from packregistry.web.call import Call
from packregistry.web.guard import Access
from packregistry.web.router import Route, Router


async def nothing(call: Call) -> web.StreamResponse:
    raise AssertionError("no request is answered here")


def table(*lines: str) -> Router:
    """A router of lines such as `GET /path`."""
    return Router(Route(method, path, Access.READ, nothing) for method, path in (line.split() for line in lines))


ROUTER = table(
    "GET /",
    "GET /v1/",
    "GET /v1/_catalog",
    "GET /v1/{name}/tags/list",
    "PUT /v1/{name}/manifests/{reference}",
    "GET /v1/{name}/manifests/{reference}",
    "GET /files/{path*}",
)


def match(path: str, method: str = "GET") -> tuple[str, dict[str, str]]:
    route, params = ROUTER.match(method, path)
    return route.path, dict(params)


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("", "/", {}),
        ("/", "/", {}),
        ("//", "/", {}),
        ("/v1", "/v1/", {}),
        ("//v1//", "/v1/", {}),
        ("//v1/_catalog", "/v1/_catalog", {}),
        ("/v1//_catalog/", "/v1/_catalog", {}),
        ("/v1/hello/tags/list/", "/v1/{name}/tags/list", {"name": "hello"}),
        ("/v1/he%6Clo//tags/list", "/v1/{name}/tags/list", {"name": "hello"}),
        ("/v1/a%2Fb/tags/list", "/v1/{name}/tags/list", {"name": "a/b"}),
        ("/v1/%2e%2e/tags/list", "/v1/{name}/tags/list", {"name": ".."}),
        ("/v1/../tags/list", "/v1/{name}/tags/list", {"name": ".."}),
        ("/v1/a+b/tags/list", "/v1/{name}/tags/list", {"name": "a+b"}),
        ("/v1/100%/tags/list", "/v1/{name}/tags/list", {"name": "100%"}),
        ("/v1/%00%0d%0a/tags/list", "/v1/{name}/tags/list", {"name": "\0\r\n"}),
        ("/v1/ü/tags/list", "/v1/{name}/tags/list", {"name": "ü"}),
        ("/files/a", "/files/{path*}", {"path": "a"}),
        ("/files//a/%2e%2e//b%2Fc/", "/files/{path*}", {"path": "a/../b/c"}),
    ],
)
def test_a_path_is_split_then_decoded(path: str, route: str, params: dict[str, str]) -> None:
    assert match(path) == (route, params)


@given(st.text(min_size=1))
def test_any_text_arrives_as_it_was_sent(text: str) -> None:
    encoded = quote(text, safe="", errors="surrogatepass")
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(ParameterInvalidError):
            match(f"/v1/{encoded}/tags/list")
    else:
        assert match(f"/v1/{encoded}/tags/list") == ("/v1/{name}/tags/list", {"name": text})


@given(st.text(max_size=40), st.sampled_from(["GET", "HEAD", "PUT", "DELETE", "\r\n"]))
def test_any_path_is_matched_or_refused(path: str, method: str) -> None:
    try:
        match(path, method)
    except RegistryError as error:
        refusal = error
    else:
        return
    assert refusal.status in {400, 404, 405}
    assert str(refusal).isprintable()


@pytest.mark.parametrize(
    "path", ["/v2/", "/v1/hello", "/v1/hello/tags", "/v1/hello/tags/list/x", "/v1/_catalog/tags/list", "/files", "*"]
)
def test_what_is_not_in_the_table_is_unknown(path: str) -> None:
    with pytest.raises(PathUnknownError) as caught:
        match(path)
    assert f'"{path}"' in str(caught.value)


@pytest.mark.parametrize("path", ["/v1/%ff/tags/list", "/v1/%c3/tags/list", "/files/a/%80", "/v1/\udc80/tags/list"])
def test_what_is_not_utf8_is_refused(path: str) -> None:
    with pytest.raises(ParameterInvalidError):
        match(path)


def test_get_answers_head_and_another_method_is_told_what_there_is() -> None:
    assert match("/v1/hello/manifests/1.0.0", "HEAD") == match("/v1/hello/manifests/1.0.0", "GET")
    assert ROUTER.match("PUT", "/v1/hello/manifests/1.0.0")[0].method == "PUT"
    with pytest.raises(UnsupportedError) as caught:
        match("/v1/hello/manifests/1.0.0", "DELETE")
    assert caught.value.headers == {"Allow": "GET, HEAD, PUT"}


@pytest.mark.parametrize(
    "lines",
    [
        ("GET /a", "GET /a/"),
        ("GET /a", "HEAD /a"),
        ("GET /{name}", "GET /{other}/x"),
        ("GET /{path*}", "GET /{path}"),
    ],
    ids=["twice", "HEAD is GET's", "two names of one parameter", "one segment and all"],
)
def test_a_table_that_contradicts_itself_is_refused(lines: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"table twice|in another route"):
        table(*lines)
