"""Plays Palette: registers a registry as a tenant admin does, validates it, and synchronises every pack.

What Palette sends is known from its API: an endpoint with or without a slash at its end, authentication of the type
`noAuth`, `basic` or `token`, and TLS with a CA, with a client certificate, or without looking at the certificate.

`.ci/palette --help` says how it is run as a program. It synchronises everything, once more when nothing has changed,
and once more after a change, checks every answer, and exits with 1 if one of them is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import hashlib
import io
import json
import math
import re
import ssl
import subprocess
import sys
import tarfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

T = TypeVar("T")
Files = dict[str, tuple[bytes, bool]]
"""Path → content, and whether it may be run."""

DEADLINE = 30.0
CONNECTIONS = 8
SHOWN_MAX = 20
TITLE = "org.opencontainers.image.title"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SMALL = ("pack.json", "values.yaml", "README.md", "schema.yaml", "presets.yaml", "logo.png")
REQUIRED = ("pack.json", "values.yaml", "logo.png")
PNG = "image/png"
OCTETS = "application/octet-stream"
UNAUTHORIZED = "401 UNAUTHORIZED"
# Whoever is wrong too often has to wait, and this program is so each time.
REFUSED = f"{UNAUTHORIZED}|429 TOOMANYREQUESTS"
# A CA that has signed nothing, and whose key is lost.
STRANGER = """-----BEGIN CERTIFICATE-----
MIIBhzCCAS2gAwIBAgIUVO1Zrrfb+Xbbtu4/1slOwQ2K7rYwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNc29tZWJvZHkgZWxzZTAgFw0yNjExMjQxMzUxNTBaGA8yMTI2
MTAzMTEzNTE1MFowGDEWMBQGA1UEAwwNc29tZWJvZHkgZWxzZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABMDv2oSVvhqg2CzE77q0RxOfMgP5QYl851ADXMwEA7nr
1XMw+Uw+92eNseuUIuVCeGSVmsygj+S7GpHb6WslolCjUzBRMB0GA1UdDgQWBBSh
pcAkTdXqjM+oGXDY1FQrV09aNDAfBgNVHSMEGDAWgBShpcAkTdXqjM+oGXDY1FQr
V09aNDAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCzx2XPa1hS
eOoVr5p0GvwSRGR121Cl2BjWqYYrsZ+vJgIgYK/Kgz2ennRaX01eTNrOniuBURXR
P9Cv7uJw+CVvPcs=
-----END CERTIFICATE-----
"""


class ValidationError(Exception):
    """What Palette shows below the form."""


class WrongError(Exception):
    """An answer that is not what it has to be."""


@dataclass(frozen=True)
class Registration:
    """The fields of the form. `certificate` and `key` are the client's; `ca` is a file, or the text of one."""

    endpoint: str
    auth: Literal["noAuth", "basic", "token"] = "noAuth"
    username: str = ""
    password: str = ""
    token: str = ""
    ca: Path | str | None = None
    certificate: Path | None = None
    key: Path | None = None
    skip_verify: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        if self.auth == "basic":
            pair = f"{self.username}:{self.password}".encode()
            return {"Authorization": "Basic " + base64.b64encode(pair).decode()}
        return {"Authorization": f"Bearer {self.token}"} if self.auth == "token" else {}

    @property
    def tls(self) -> ssl.SSLContext:
        text = self.ca if isinstance(self.ca, str) else None
        context = ssl.create_default_context(cafile=None if text else self.ca, cadata=text)
        # As in Go, which looks only at what matters: Python 3.13 asks more of a CA than plain openssl puts into it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)
        return context

    def validate(self) -> None:
        """Try the registry out, as the button *Validate* does. Raises `ValidationError`."""
        asyncio.run(self.validated(Phase("validate")))

    async def validated(self, phase: Phase) -> None:
        """As `validate`, counted in a phase."""
        try:
            async with connected(self, phase) as client:
                for path in ("/v1/", "/v1/_catalog"):
                    answer = await client.ask(path)
                    if answer.status != 200:
                        raise ValidationError(f"{path}: {answer.status} {answer.code}")
        except (WrongError, OSError) as error:
            raise ValidationError(f"{self.endpoint}: {error}") from error

    def synchronise(self) -> dict[str, list[str]]:
        """Fetch and check every pack; return the tags of each. Raises `WrongError`."""

        async def all_of_it() -> dict[str, list[str]]:
            async with connected(self, Phase("full")) as client:
                found = await Sync(client).everything()
            if client.phase.wrong:
                raise WrongError("; ".join(client.phase.wrong))
            return found

        return asyncio.run(all_of_it())


@dataclass
class Phase:
    """What was asked and what came of it. `times` are seconds from asking to the last byte; `bytes` are of bodies."""

    name: str
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bytes: int = 0
    connections: int = 0
    wrong: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    def row(self) -> str:
        """Its line of the table, under `HEAD`."""
        spent, ordered = time.perf_counter() - self.begun, sorted(self.times) or [0.0]
        p50, p99 = (1000 * ordered[math.ceil(len(ordered) * part) - 1] for part in (0.5, 0.99))
        return (
            f"{self.name:<10}{len(self.times):>9}{self.statuses[304]:>7}{self.bytes:>12}"
            f"{self.connections:>13}{spent:>9.2f}{p50:>9.1f}{p99:>9.1f}"
        )

    async def noting(self, work: Awaitable[T]) -> T | None:
        """The result of some work, or nothing where an answer was wrong, which is noted."""
        try:
            return await work
        except (WrongError, OSError) as error:
            self.wrong.append(str(error))
            return None

    async def all(self, works: Iterable[Awaitable[T]]) -> list[T | None]:
        """Do all at once. Requests wait for one of the connections."""
        return list(await asyncio.gather(*map(self.noting, works)))


HEAD = f"{'phase':<10}{'requests':>9}{'304':>7}{'bytes':>12}{'connections':>13}{'seconds':>9}{'p50 ms':>9}{'p99 ms':>9}"


@dataclass(frozen=True)
class Answer:
    """A response, read whole; `asked` is what to call it in a message, `url` where it was asked for."""

    asked: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of a refusal in the form that registries have for it."""
        try:
            return str(json.loads(self.body)["errors"][0]["code"])
        except (ValueError, LookupError, TypeError):
            return "without a code"

    def must(self, status: int, **headers: str) -> Answer:
        """Check the status and headers, `_` for `-` in their names. Raises `WrongError` at the first that is wrong."""
        if self.status != status:
            raise WrongError(f"{self.asked}: the status is {self.status}, not {status}")
        for name, wanted in headers.items():
            found = self.headers.get(name.replace("_", "-"))
            if found != wanted:
                raise WrongError(f"{self.asked}: {name.replace('_', '-')} is {found or 'missing'}, not {wanted}")
        return self

    def document(self) -> Any:
        """The JSON in it. Raises `WrongError`."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise WrongError(f"{self.asked}: the body is not JSON: {error}") from error


class Client:
    """Asks as a Go program does: over a few connections that are kept. `phase` is what counts it."""

    def __init__(self, way: Registration, session: aiohttp.ClientSession, phase: Phase) -> None:
        self.phase = phase
        self._endpoint = way.endpoint
        self._session = session
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for a path below the endpoint, or the URL of a link. Raises `WrongError` where nothing comes back."""
        url = target if "://" in target else self._endpoint + target
        asked = f"{method} {target}"
        if urlsplit(url)[:2] != urlsplit(self._endpoint)[:2]:
            raise WrongError(f"{asked}: leads away from {self._endpoint}, to where no credentials should go")
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._slots:
            begun = time.perf_counter()
            try:
                # No redirect is followed: a client may lose its credentials on the way.
                async with self._session.request(
                    method, URL(url, encoded=True), headers=given, allow_redirects=False
                ) as response:
                    body = await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise WrongError(f"{asked}: {error or 'no answer in time'}") from error
            self.phase.times.append(time.perf_counter() - begun)
        self.phase.statuses[response.status] += 1
        self.phase.bytes += len(body)
        return Answer(asked, url, response.status, response.headers, body)


@asynccontextmanager
async def connected(way: Registration, phase: Phase) -> AsyncIterator[Client]:
    """A client that is registered this way."""
    made = aiohttp.TraceConfig()
    holder: list[Client] = []

    async def count(*_: object) -> None:
        holder[0].phase.connections += 1

    made.on_connection_create_end.append(count)
    secure = way.tls if way.endpoint.startswith("https:") else True
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=secure),
        timeout=aiohttp.ClientTimeout(DEADLINE),
        headers={**way.headers, "User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"},
        trace_configs=[made],
    ) as session:
        holder.append(Client(way, session, phase))
        yield holder[0]


def read_archive(data: bytes, asked: str) -> Files:
    """The files in the one folder of a tar.gz. Raises `WrongError`."""
    found: Files = {}
    tops: set[str] = set()
    try:
        with gzip.open(io.BytesIO(data)) as unzipped, tarfile.open(fileobj=unzipped, mode="r:") as archive:
            for member in archive:
                top, _, path = member.name.partition("/")
                tops.add(top)
                if member.isdir():
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None or not path or ".." in path.split("/") or path in found:
                    raise WrongError(f"{asked}: {member.name} is no file in a folder, or is there twice")
                found[path] = (content.read(), bool(member.mode & 0o111))
            # What tarfile leaves unread has the checksum of everything behind it.
            while unzipped.read(65536):
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise WrongError(f"{asked}: the archive is no tar.gz: {error}") from error
    if len(tops) != 1:
        raise WrongError(f"{asked}: the archive has {len(tops)} folders, and a pack is one")
    return found


def read_directory(root: Path) -> Files:
    """The files of a pack's directory, but for what is not the pack's: `.git`, and what Kubernetes mounts behind."""
    return {
        str(path.relative_to(root)): (path.read_bytes(), bool(path.stat().st_mode & 0o111))
        for path in root.rglob("*")
        if path.is_file() and not any(part == ".git" or part.startswith("..") for part in path.relative_to(root).parts)
    }


Identity = tuple[str, str, str]


def identity(text: bytes) -> Identity:
    """Name, version and group in a pack.json."""
    document = json.loads(text.decode("utf-8-sig"))
    return document["name"], document["version"], (document.get("group") or "").strip()


def directories(root: Path) -> dict[Identity, list[Path]]:
    """The directories below `root` that are packs, by what they are; one in another belongs to that."""
    found: dict[Identity, list[Path]] = {}
    packs = {path.parent for path in root.rglob("pack.json")}
    for pack in sorted(packs):
        hidden = any(part.startswith(".") for part in pack.relative_to(root).parts)
        if not hidden and packs.isdisjoint(pack.parents):
            found.setdefault(identity((pack / "pack.json").read_bytes()), []).append(pack)
    return found


@dataclass(frozen=True)
class Kept:
    """What a client remembers of what it has: the headers that come again with a HEAD."""

    digest: str
    size: int
    media_type: str


class Sync:
    """What a client has of a registry, and how it gets the rest. With `packs`, archives are compared with directories.

    What is had already is asked for with `If-None-Match`, and has to be a 304. What is wrong is noted in the phase.
    """

    def __init__(self, client: Client, packs: Path | None = None) -> None:
        self._client = client
        self._packs = packs
        self._directories: dict[Identity, list[Path]] = {}
        self._manifests: dict[str, bytes] = {}
        self._archives: dict[str, dict[str, str]] = {}
        self._asked: dict[str, asyncio.Future[bytes | None]] = {}
        self.kept: dict[str, Kept] = {}
        self.lists: dict[str, int] = {}
        self.compared = 0

    async def everything(self, *, paged: bool = True) -> dict[str, list[str]]:
        """Get all that is new and check it; return the tags of each pack. What is gone is forgotten."""
        phase = self._client.phase
        self._asked, self.lists = {}, {}
        if self._packs:
            self._directories = await asyncio.to_thread(directories, self._packs)
        names = await phase.noting(self._list("/v1/_catalog", "repositories", paged=paged)) or []
        tags = await phase.all(self._list(f"/v1/{name}/tags/list", "tags", paged=paged) for name in names)
        found = {name: some or [] for name, some in zip(names, tags, strict=True)}
        await phase.all(self._release(name, tag) for name, some in found.items() for tag in some)
        self.kept = {path: kept for path, kept in self.kept.items() if path in self._asked}
        phase.wrong += [
            f"{path}: {name} {version} is not served"
            for (name, version, group), (path, *_) in self._directories.items()
            if (f"{group}__{version}" if group else version) not in found.get(name, [])
        ]
        return found

    async def unchanged(self) -> None:
        """Ask for everything again, knowing it: only headers come, and they are the same as before."""
        phase = self._client.phase
        await phase.all(self._content(path) for path in self.kept)
        await phase.all(self._head(path) for path in (*self.kept, *self.lists))
        asked = 2 * len(self.kept) + len(self.lists)
        if (len(phase.times), phase.statuses[304], phase.bytes) != (asked, len(self.kept), 0):
            phase.wrong.append(
                f"nothing had changed, so {asked} requests should be {len(self.kept)} times 304 and 0 bytes, but "
                f"{len(phase.times)} were {phase.statuses[304]} times 304 and {phase.bytes} bytes"
            )

    async def _head(self, path: str) -> None:
        answer = (await self._client.ask(path, "HEAD")).must(200)
        if path in self.lists:
            answer.must(200, Content_Type="application/json", Content_Length=str(self.lists[path]))
        else:
            kept = self.kept[path]
            _labelled(answer, kept.digest).must(200, Content_Type=kept.media_type, Content_Length=str(kept.size))

    async def _list(self, path: str, key: str, *, paged: bool) -> list[str]:
        """A list, whole; with `paged` also in pages, which together have to be the same."""
        answer = await self._client.ask(path)
        whole = _entries(answer, key)
        if whole != sorted(set(whole)) or "Link" in answer.headers:
            raise WrongError(f"{answer.asked}: the {key} are not all of them, sorted, once")
        self.lists[path] = len(answer.body)
        size, found = max(1, math.ceil(len(whole) / 3)), list[str]()
        target = f"{path}?n={size}" if paged else ""
        while target and len(found) <= len(whole):
            answer = await self._client.ask(target)
            page = _entries(answer, key)
            link = answer.headers.get("Link", "")
            if len(page) > size or (link and not (page and link.startswith("<") and link.endswith('>; rel="next"'))):
                raise WrongError(f"{answer.asked}: a page of {len(page)} {key}, and Link is {link or 'missing'}")
            found += page
            target = urljoin(answer.url, link[1 : link.index(">")]) if link else ""
        if paged and found != whole:
            raise WrongError(f"GET {path}: in pages of {size} it has {len(found)} {key}, and whole {len(whole)}")
        return whole

    async def _content(
        self, path: str, media_type: str = "", digest: str = "", size: int | None = None
    ) -> bytes | None:
        """What is at a path, checked, if it is not known; what is known and unchanged is nothing.

        Without a `media_type` it is a manifest, which says its own.
        """
        known = self.kept.get(path)
        answer = await self._client.ask(path, **({"If_None_Match": f'"{known.digest}"'} if known else {}))
        if known and answer.status == 304:
            _labelled(answer, known.digest)
            return None
        body = answer.must(200).body
        found = _digest(body)
        if known and found == known.digest:
            raise WrongError(f"{answer.asked}: sent again, though If-None-Match names it: the status is 200, not 304")
        if (digest and found != digest) or (size is not None and len(body) != size):
            due = digest if size is None else f"{size} bytes and {digest}"
            raise WrongError(f"{answer.asked}: the body has {len(body)} bytes and the digest {found}, not {due}")
        wanted = media_type or (known.media_type if known else answer.document().get("mediaType", MANIFEST))
        _labelled(answer, found).must(200, Content_Type=wanted, Content_Length=str(len(body)))
        self.kept[path] = Kept(found, len(body), wanted)
        return body

    async def _once(self, path: str, media_type: str = "", digest: str = "", size: int | None = None) -> bytes | None:
        """As `_content`, but asked for only once in each look."""
        if path not in self._asked:
            self._asked[path] = asyncio.ensure_future(self._content(path, media_type, digest, size))
        return await self._asked[path]

    async def _blob(self, name: str, digest: str, size: int | None = None) -> bytes | None:
        return await self._once(f"/v1/{name}/blobs/{digest}", OCTETS, digest, size)

    async def _release(self, name: str, tag: str) -> None:
        """What a tag stands for: its manifest, by both names, and all that this needs."""
        path = f"/v1/{name}/manifests/"
        body = await self._once(path + tag)
        digest = self.kept[path + tag].digest
        if body is not None:
            self._manifests[digest] = body
        if path + digest in self._asked:
            return
        await self._once(path + digest, "", digest)
        document = json.loads(self._manifests[digest])
        titled = [(item.get("annotations", {}).get(TITLE, ""), item) for item in document["layers"]]
        archives = [item for title, item in titled if title.endswith((".tar.gz", ".tgz"))]
        if len(archives) != 1:
            raise WrongError(f"GET {path}{tag}: {len(archives)} layers are archives, and a pack is one")
        small = await self._archive(name, archives[0]["digest"], archives[0]["size"])
        for title, item in titled:
            if title in small and small[title] != item["digest"]:
                raise WrongError(f"GET {path}{tag}: {title} is not the one in the archive")
        works = [self._blob(name, item["digest"], item["size"]) for item in (document["config"], *document["layers"])]
        works += [self._blob(name, one) for one in small.values()]
        logo = small["logo.png"]
        works.append(self._once(f"/v1/{name}/blobs/{logo}?type={PNG}", PNG, logo))
        await self._client.phase.all(works)

    async def _archive(self, name: str, digest: str, size: int) -> dict[str, str]:
        """The digests of the small files in an archive, by title."""
        body = await self._blob(name, digest, size)
        if body is not None:
            path = f"/v1/{name}/blobs/{digest}"
            try:
                self._archives[digest] = await asyncio.to_thread(self._opened, body, f"GET {path}")
            except WrongError:
                self.kept.pop(path, None)
                raise
        return self._archives[digest]

    def _opened(self, body: bytes, asked: str) -> dict[str, str]:
        """As `_archive`; the archive is compared with its directory if that is known."""
        files = read_archive(body, asked)
        if missing := [title for title in REQUIRED if title not in files]:
            raise WrongError(f"{asked}: the archive has no {', '.join(missing)}")
        candidates = self._directories.get(identity(files["pack.json"][0]), [])
        if candidates and all(read_directory(directory) != files for directory in candidates):
            raise WrongError(f"{asked}: the archive is not what is in {candidates[0]}")
        self.compared += bool(candidates)
        return {title: _digest(files[title][0]) for title in SMALL if title in files}


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _labelled(answer: Answer, digest: str) -> Answer:
    """Check what says which content an answer is of. Raises `WrongError`."""
    return answer.must(answer.status, ETag=f'"{digest}"', Docker_Content_Digest=digest)


def _entries(answer: Answer, key: str) -> list[str]:
    """The entries of a list, or of a page of one. Raises `WrongError`."""
    document = answer.must(200, Content_Type="application/json").document()
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise WrongError(f"{answer.asked}: the body has no list of {key}")
    return entries


async def changed(sync: Sync, client: Client, command: str, wait: float) -> dict[str, list[str]]:
    """Run a command and get what it changes, once that is to be seen and whole; return the tags of each pack.

    Each look is a phase of its own. Raises `WrongError`.
    """
    done = await asyncio.to_thread(subprocess.run, command, shell=True, timeout=2 * DEADLINE, check=False)
    if done.returncode:
        raise WrongError(f"--change: the command ended with exit code {done.returncode}")
    end = time.monotonic() + wait
    gone: set[str] = set()
    fresh = 0
    while True:
        is_last = time.monotonic() >= end
        client.phase, before = Phase("change"), dict(sync.kept)
        found = await sync.everything(paged=False)
        sizes = [kept.size for path, kept in sync.kept.items() if before.get(path) != kept]
        fresh += len(sizes)
        gone |= {path for path in before.keys() - sync.kept.keys() if ":" not in path}
        # What changes while it is looked at may be half old and half new; a second look tells.
        if is_last or ((fresh or gone) and not client.phase.wrong):
            break
        await asyncio.sleep(0.2)
    if not (fresh or gone or client.phase.wrong):
        raise WrongError(f"--change: nothing had changed {wait:g} s after the command")
    expected = sum(sizes) + sum(sync.lists.values())
    if client.phase.bytes != expected and not client.phase.wrong:
        client.phase.wrong.append(f"{client.phase.bytes} bytes came, and only {expected} are changes or lists")
    for path in sorted(gone):
        await client.phase.noting(_gone(client, path))
    return found


async def _gone(client: Client, path: str) -> None:
    (await client.ask(path, "HEAD")).must(404)


ANY = "."


def registrations(options: argparse.Namespace) -> list[tuple[str, Registration, str]]:
    """The ways to fill in the form, the one to go on with first; each with what its refusal says, if it is refused."""
    bare = options.url.rstrip("/")
    own = Registration(options.url, ca=options.ca, certificate=options.client_cert, key=options.client_key)
    basic = replace(own, auth="basic", username=options.user, password=options.password)
    token = replace(own, auth="token", token=options.token)
    first = basic if options.user else token if options.token else own
    ways = [
        ("as given", first, ""),
        ("no slash at the end", replace(first, endpoint=bare), ""),
        ("a slash at the end", replace(first, endpoint=bare + "/"), ""),
    ]
    if options.user:
        ways.append(("a wrong password", replace(basic, password=options.password + "x"), REFUSED))
    if options.token:
        ways += [
            ("type token", token, ""),
            ("a token as password", replace(own, auth="basic", username="any", password=options.token), ""),
            ("a wrong token", replace(token, token=options.token + "x"), REFUSED),
        ]
    if options.client_cert:
        ways.append(("no client certificate", replace(own, certificate=None, key=None), ANY))
    elif first is not own:
        ways.append(("noAuth", own, UNAUTHORIZED))
    if bare.startswith("https:"):
        ways += [
            ("another CA", replace(first, ca=STRANGER), "certificate verify failed"),
            ("skip verify", replace(first, ca=None, skip_verify=True), ""),
        ]
    return ways


async def validate(ways: Sequence[tuple[str, Registration, str]], phase: Phase) -> None:
    """Fill in the form in all these ways, and see who is let in. Without the first way the rest would say no more."""
    for label, way, refusal in ways:
        try:
            await way.validated(phase)
        except ValidationError as error:
            if not refusal or not re.search(refusal, str(error)):
                phase.wrong.append(f"validate with {label}: {error}")
                if way is ways[0][1]:
                    return
        else:
            if refusal:
                phase.wrong.append(f"validate with {label}: is let in")
    own = replace(ways[0][1], auth="noAuth")
    async with connected(own, phase) as client:
        await phase.noting(_greeted(client, asks=ways[0][1] != own and not own.certificate))


async def _greeted(client: Client, *, asks: bool) -> None:
    """Check what is said to those who have not said who they are: a probe, and a browser that is to ask."""
    health = (await client.ask("/health")).must(200, Content_Type="application/json")
    if health.body != b'{"status":"UP"}':
        raise WrongError(f'{health.asked}: the body is not {{"status":"UP"}}')
    if asks:
        answer = (await client.ask("/v1/")).must(401)
        if not answer.headers.get("WWW-Authenticate", "").startswith('Basic realm="'):
            raise WrongError(f"{answer.asked}: WWW-Authenticate does not ask for a password, and a browser would not")


async def play(options: argparse.Namespace) -> list[str]:
    """Do all of it and print the table; return what is wrong."""
    wrong: list[str] = []

    def ended(phase: Phase, most: int | None = None) -> None:
        _say(phase.row())
        if most is not None and phase.connections > most + len(phase.times) // 100:
            phase.wrong.append(f"{phase.connections} connections were made: they are not kept")
        wrong.extend(f"{phase.name}: {text}" for text in phase.wrong)

    _say(HEAD)
    ways, phase = registrations(options), Phase("validate")
    await validate(ways, phase)
    ended(phase)
    if not phase.statuses[200]:
        return wrong
    async with connected(ways[0][1], Phase("full")) as client:
        sync = Sync(client, options.packs)
        found = await sync.everything()
        if not sync.kept:
            client.phase.wrong.append("there are no packs, so nothing was tried")
        ended(client.phase, CONNECTIONS)
        client.phase = Phase("unchanged")
        await sync.unchanged()
        ended(client.phase, CONNECTIONS)
        if options.change:
            client.phase = Phase("change")
            try:
                found = await changed(sync, client, options.change, options.wait)
            except (WrongError, OSError, subprocess.TimeoutExpired) as error:
                client.phase.wrong.append(str(error))
            ended(client.phase, CONNECTIONS)
    tags = sum(map(len, found.values()))
    _say(f"{len(found)} packs, {tags} tags, {sync.compared} archives compared with directories")
    return wrong


def arguments() -> argparse.ArgumentParser:
    """What the program is told."""
    parser = argparse.ArgumentParser(prog=".ci/palette", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="the endpoint, with or without a slash at its end")
    parser.add_argument("--ca", type=_file, help="the CA of the server, in PEM; without it those of this machine")
    parser.add_argument("--user", default="", help="without it, and without --token, everybody has to be let in")
    parser.add_argument("--password", default="")
    parser.add_argument("--token", default="", help="tried out as well as the user, or used where there is none")
    parser.add_argument("--packs", type=_directory, help="every pack below it has to be served as it is there")
    parser.add_argument("--client-cert", type=_file, help="Palette's own certificate, in PEM")
    parser.add_argument("--client-key", type=_file)
    parser.add_argument("--change", default="", help="a shell command that changes packs, for a third synchronisation")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds until the change has to be seen (60)")
    parser.add_argument("--timeout", type=float, default=280.0, help="seconds that all of it may take (280)")
    return parser


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is not a file")
    return Path(text)


def _directory(text: str) -> Path:
    if not directories(Path(text)):
        raise argparse.ArgumentTypeError(f"there is no pack below {text}")
    return Path(text)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(args: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code: 0 if all is well, 1 if something is wrong, 2 for wrong usage."""
    options = arguments().parse_args(args)

    async def bounded() -> list[str]:
        async with asyncio.timeout(options.timeout):
            return await play(options)

    try:
        wrong = asyncio.run(bounded())
    except TimeoutError:
        wrong = [f"it is not done after {options.timeout:g} s"]
    except OSError as error:
        wrong = [str(error)]
    for text in wrong[:SHOWN_MAX]:
        _say(f"wrong: {text}")
    _say(f"palette: {len(wrong)} wrong" if wrong else "palette: ok")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
