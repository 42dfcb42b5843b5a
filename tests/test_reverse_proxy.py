"""A server process behind real nginx, configured as the documentation says."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from tests import certificates
from tests.factories import make_pack, noise, tarball
from tests.process import DEADLINE, Answer, Server, serving
from tests.test_publish import manifest

pytestmark = [
    pytest.mark.real,
    pytest.mark.process,
    pytest.mark.thorough,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="clients connect from a second loopback address"),
]

# The proxy connects from 127.0.0.1.
CLIENT = "127.0.0.2"
GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "reverse-proxy.md").read_text()
SHARED, WHOLE, BELOW, STRIPPED = re.findall(r"```nginx\n(.*?)```", GUIDE, re.DOTALL)
HOST = "{host}"


@dataclass(frozen=True)
class Setup:
    """One of the ways to do it: a server or a location of nginx, the registry's options, and where clients see it."""

    nginx: str
    prefix: str = ""
    path: str = ""
    host: str = ""


SETUPS = [
    pytest.param(Setup(WHOLE), id="a host of its own"),
    pytest.param(Setup(BELOW, "/packs", "/packs"), id="below a path"),
    pytest.param(Setup(STRIPPED, "", "/packs"), id="below a path that is stripped"),
    pytest.param(Setup(STRIPPED, "/packs", "/packs"), id="below a path that is stripped and configured"),
    pytest.param(Setup(BELOW, "/packs", "/packs", HOST), id="below a path of a configured host"),
]


@dataclass
class Site:
    """A registry as clients see it, at `url`, and the process behind it."""

    url: str
    server: Server

    def ask(
        self, target: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask for what `target` is where clients see the registry: a path below it, or what an answer said."""
        parts = urlsplit(urljoin(self.url, target))
        assert parts.hostname is not None
        connection = http.client.HTTPSConnection(
            parts.hostname,
            parts.port,
            timeout=DEADLINE,
            source_address=(CLIENT, 0),
            context=certificates.trusting(),
        )
        try:
            connection.request(method, f"{parts.path}?{parts.query}".removesuffix("?"), body, dict(headers or {}))
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()


def replaced(text: str, **parts: str) -> str:
    """The documentation's configuration with what a test has elsewhere; each part is in it."""
    for old, new in parts.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def configuration(snippet: str, directory: Path, port: int, upstream: str) -> str:
    """All of nginx's configuration: a snippet, in the server of the documentation if it is a location."""
    shared, pair = directory / "packregistry.conf", certificates.server()
    shared.write_text(SHARED)
    if snippet != WHOLE:
        snippet, count = re.subn(r" +location / \{.*?\n    \}\n", lambda _: snippet, WHOLE, flags=re.DOTALL)
        assert count == 1
    server = replaced(
        snippet,
        **{
            "/etc/nginx/packregistry.conf": str(shared),
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/registry.crt": str(pair.certificate),
            "/etc/nginx/registry.key": str(pair.key),
            "127.0.0.1:5000": upstream,
        },
    )
    kinds = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    paths = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    return (
        f"daemon off; pid {directory}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}\n{server}\n}}\n"
    )


@contextmanager
def nginx(snippet: str, directory: Path, listener: socket.socket, upstream: str) -> Iterator[None]:
    """Nginx with a snippet of the documentation; connections wait in `listener` until it has started."""
    directory.mkdir()
    text = configuration(snippet, directory, listener.getsockname()[1], upstream)
    (directory / "nginx.conf").write_text(text)
    # This is how one nginx hands its sockets to the next: no port has to be guessed.
    environ = {**os.environ, "NGINX": f"{listener.fileno()};"}
    process = subprocess.Popen(
        ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", "stderr"],
        env=environ,
        pass_fds=[listener.fileno()],
        stderr=subprocess.PIPE,
    )
    listener.close()
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE)
    assert "[emerg]" not in errors.decode()


@contextmanager
def proxied(setup: Setup, directory: Path) -> Iterator[Site]:
    """A registry with packs a, b and c behind nginx, where everybody may do everything."""
    for name in ("a", "b", "c"):
        make_pack(directory / "packs", name)
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"https://127.0.0.1:{listener.getsockname()[1]}"
    options = {
        "REGISTRY_AUTH": "none",
        "REGISTRY_PACKS_SETTLE": "0s",
        "REGISTRY_HTTP_TRUSTEDPROXIES": "127.0.0.1",
        "REGISTRY_HTTP_PREFIX": setup.prefix,
        "REGISTRY_HTTP_HOST": origin if setup.host else "",
    }
    with (
        serving(cwd=directory, **{name: value for name, value in options.items() if value}) as server,
        nginx(setup.nginx, directory / "nginx", listener, "{}:{}".format(*server.address)),
    ):
        yield Site(f"{origin}{setup.path}/", server)


@pytest.fixture(scope="module", params=SETUPS)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests that leave packs a, b and c as they are."""
    with proxied(request.param, tmp_path_factory.mktemp("site")) as found:
        yield found


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def upload(site: Site, data: bytes) -> str:
    """Upload a blob in two steps, each to where the answer before said; return where the blob is then."""
    begun = site.ask("v1/hello/blobs/uploads/", "POST")
    assert begun.status == 202, begun
    taken = site.ask(begun.headers["location"], "PATCH", data)
    assert taken.status == 202, taken
    done = site.ask(f"{taken.headers['location']}?digest={digest(data)}", "PUT")
    assert done.status == 201, done
    return done.headers["location"]


def test_every_location_of_a_push_leads_back_through_the_proxy(site: Site) -> None:
    # More than nginx takes by default.
    data, config = tarball(files={"manifests/noise": noise(2_000_000)}), b"{}"
    place = upload(site, data)
    upload(site, config)
    published = site.ask("v1/hello/manifests/1.0.0", "PUT", manifest(data, config))
    assert published.status == 201, published
    assert site.ask(published.headers["location"]).body == manifest(data, config)
    blob = site.ask(place)
    assert (blob.status, blob.body) == (200, data)
    assert blob.headers["strict-transport-security"], "the client's connection is encrypted, and nginx says so"


@pytest.mark.parametrize(
    ("path", "parameter", "key"),
    [("v1/_catalog", "n", "repositories"), ("api/v1/packs", "limit", "packs")],
    ids=["v1", "api"],
)
def test_links_lead_from_page_to_page_through_the_proxy(site: Site, path: str, parameter: str, key: str) -> None:
    everything = site.ask(path).json()[key]
    page = site.ask(f"{path}?{parameter}=1")
    pages = [page.json()[key]]
    while "link" in page.headers:
        link = re.fullmatch(r'<(.+)>; rel="next"', page.headers["link"])
        assert link, page.headers
        page = site.ask(link[1])
        pages.append(page.json()[key])
    assert len(everything) >= 3
    assert pages == [[entry] for entry in everything]


def test_what_the_json_api_links_to_is_there(site: Site) -> None:
    places = site.ask("").json()
    assert site.ask(places["health"]).json() == {"status": "UP"}
    (pack, *_) = site.ask(places["packs"]).json()["packs"]
    assert site.ask(site.ask(pack["url"]).json()["versions"][0]["archiveUrl"]).status == 200


@pytest.mark.parametrize("setup", [Setup(WHOLE), Setup(STRIPPED, "", "/packs")], ids=["a host of its own", "stripped"])
def test_what_clients_say_of_themselves_is_not_believed(setup: Setup, tmp_path: Path) -> None:
    evil = {
        "X-Forwarded-For": "198.51.100.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=198.51.100.1;host=evil.example",
        "X-Real-IP": "198.51.100.1",
    }
    with proxied(setup, tmp_path) as site:
        answer = site.ask("v1/_catalog?n=1", headers=evil)
        assert answer.headers["link"].startswith(f"<{setup.path}/v1/_catalog?")
        assert "strict-transport-security" in answer.headers
        assert site.server.get("/health").status == 200
        code, out, _ = site.server.stop()
    assert code == 0
    by_client, by_probe = (line.split() for line in out.splitlines() if " access " in line)
    assert by_client[3] == CLIENT
    assert by_probe[3] == "127.0.0.1"


def test_an_untrusted_proxy_is_the_client(tmp_path: Path) -> None:
    """What a peer says that is not in `http.trustedproxies` changes nothing, though it says it of itself."""
    make_pack(tmp_path / "packs")
    with serving(cwd=tmp_path, REGISTRY_PACKS_SETTLE="0s", REGISTRY_HTTP_TRUSTEDPROXIES="127.0.0.9") as server:
        headers = {"X-Forwarded-For": CLIENT, "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/packs"}
        answer = server.get("/", headers)
        assert json.loads(answer.body)["health"] == "/health"
        assert "strict-transport-security" not in answer.headers
        _, out, _ = server.stop()
    assert [line.split()[3] for line in out.splitlines() if " access " in line] == ["127.0.0.1"]
