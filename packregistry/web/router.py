"""From a method and a path to a handler: one table, matched segment by segment.

Paths are split at `/` before anything is decoded, so an encoded slash never makes a segment, and empty segments do
not count: `//v1/_catalog` and `/v1/_catalog/` are `/v1/_catalog`, because a registry's URL is typed with and without
a slash at its end. Each segment is decoded on its own; what a user chose is validated by whoever parses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

from packregistry.errors import ParameterInvalidError, PathUnknownError, UnsupportedError
from packregistry.model import shown
from packregistry.web.call import Handler
from packregistry.web.guard import Access

REST: Final = "*"


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table: who may do what, where, and who does it.

    A path segment is literal, `{parameter}` for one segment, or as the last `{parameter*}` for all that follow.
    A `GET` route answers `HEAD` as well.
    """

    method: str
    path: str
    access: Access
    handler: Handler


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    wildcard: _Node | None = None
    name: str = ""
    routes: dict[str, Route] = field(default_factory=dict)


class Router:
    """Matches requests against a table of routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def match(self, method: str, raw_path: str) -> tuple[Route, Mapping[str, str]]:
        """The route for a request, and its path parameters, decoded.

        Raises `PathUnknownError`, or `UnsupportedError` naming the methods that the path has in an `Allow` header.
        """
        segments = [segment for segment in raw_path.split("/") if segment]
        node, params = self._root, {}
        for position, segment in enumerate(segments):
            following = node.literal.get(segment)
            if following is None:
                following = node.wildcard
                if following is None:
                    raise unknown(raw_path)
                if following.name.endswith(REST):
                    params[following.name[:-1]] = "/".join(decode(rest) for rest in segments[position:])
                    node = following
                    break
                params[following.name] = decode(segment)
            node = following
        if not node.routes:
            raise unknown(raw_path)
        route = node.routes.get(method)
        if route is None:
            allowed = ", ".join(sorted(node.routes))
            raise UnsupportedError(
                f"{shown(method)} is not possible here", remedy=f"use {allowed}", headers={"Allow": allowed}
            )
        return route, params

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/"):
            if not segment:
                continue
            if segment.startswith("{"):
                if node.wildcard is None:
                    node.wildcard = _Node(name=segment[1:-1])
                node = node.wildcard
                if node.name != segment[1:-1]:
                    raise ValueError(f"{route.path}: the parameter is called {node.name} in another route")
            else:
                node = node.literal.setdefault(segment, _Node())
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            if method in node.routes:
                raise ValueError(f"{method} {route.path} is in the table twice")
            node.routes[method] = route


def decode(segment: str) -> str:
    """A path segment with its percent-escapes resolved. Raises `ParameterInvalidError` where that is not UTF-8."""
    if "%" not in segment and segment.isascii():
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeError as error:
        raise ParameterInvalidError(f"{shown(segment)} in the path is not UTF-8") from error


def unknown(raw_path: str) -> PathUnknownError:
    """The refusal for a path that is not in the table."""
    return PathUnknownError(
        f"there is nothing at {shown(raw_path)}", remedy="the registry is at /v1/, its JSON API at /api/v1/packs"
    )
