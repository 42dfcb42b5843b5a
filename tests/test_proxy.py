"""How clients see the registry, directly and through proxies."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from packregistry.config import Http, load
from packregistry.config.values import NETWORKS, URL_PREFIX
from packregistry.web.proxy import HOPS_MAX, PEERS_MAX, PREFIX_MAX, Seen, Vantage

GUIDE = (Path(__file__).resolve().parents[1] / "docs" / "reverse-proxy.md").read_text()
PROXY = "10.0.0.1"
CLIENT = "203.0.113.9"


def http(*trusted: str, host: str = "", prefix: str = "") -> Http:
    return Http(host=host, prefix=prefix, trustedproxies=tuple(map(NETWORKS.parse, trusted)))


BEHIND = Vantage(http("10.0.0.0/8", "2001:db8:1::/48", "fe80::/10"))
ALONE = Vantage(http())


def headers(**values: str | list[str]) -> CIMultiDict[str]:
    """Headers such as `X-Forwarded-For` for `for_`; a list is several of the same name."""
    found: CIMultiDict[str] = CIMultiDict()
    for name, texts in values.items():
        for value in [texts] if isinstance(texts, str) else texts:
            found.add(f"X-Forwarded-{name.strip('_').title()}", value)
    return found


@dataclass
class Request:
    remote: str | None = PROXY
    secure: bool = False
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)


# The path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        pytest.param("/packs/v1/_catalog", "/v1/_catalog", id="not stripped by the proxy"),
        pytest.param("/v1/_catalog", "/v1/_catalog", id="stripped by the proxy"),
        pytest.param("/health", "/health", id="a probe"),
        pytest.param("/packs", "/", id="the prefix alone"),
        pytest.param("/packs/", "/", id="the prefix and a slash"),
        pytest.param("//packs//v1/", "//v1/", id="doubled slashes"),
        pytest.param("/%70ac%6Bs/v1/", "/v1/", id="percent-encoded"),
        pytest.param("/packs/v1/a%2Fb/tags/list", "/v1/a%2Fb/tags/list", id="the rest stays encoded"),
        pytest.param("/packs/packs/v1/", "/packs/v1/", id="only once"),
        pytest.param("/packsv1/", "/packsv1/", id="half a segment"),
        pytest.param("/packs%2Fv1/", "/packs%2Fv1/", id="an encoded slash ends no segment"),
        pytest.param("/packs\n/v1/", "/packs\n/v1/", id="a line end ends no segment"),
        pytest.param("/packs\n", "/packs\n", id="nor does one at the end"),
        pytest.param("/Packs/v1/", "/Packs/v1/", id="another case"),
        pytest.param("/v1/packs/tags/list", "/v1/packs/tags/list", id="not at the beginning"),
        pytest.param("http://registry.example/packs/v1/", "/v1/", id="absolute"),
        pytest.param("HTTPS://user@[::1]:5000//packs/v1/", "/v1/", id="absolute with everything"),
        pytest.param("http://registry.example", "/", id="absolute without a path"),
        pytest.param(
            "/http://registry.example/packs/", "/http://registry.example/packs/", id="a path with a URL in it"
        ),
        pytest.param("", "", id="empty"),
        pytest.param("*", "*", id="no path"),
    ],
)
def test_the_prefix_is_taken_away_where_it_is_there(raw: str, path: str) -> None:
    assert Vantage(http(prefix="/packs")).path_of(raw) == path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/a/b-1.0~_/v1/", "/v1/"),
        ("//a//b-1.0~_//v1/", "//v1/"),
        ("/a/b%2d1%2E0%7e%5F/v1/", "/v1/"),
        ("/a/b%2D1.0~_", "/"),
        ("/a/v1/", "/a/v1/"),
        ("/a/b-1x0~_/v1/", "/a/b-1x0~_/v1/"),
        ("/a%2Fb-1.0~_/v1/", "/a%2Fb-1.0~_/v1/"),
    ],
)
def test_a_prefix_may_have_several_segments(raw: str, path: str) -> None:
    assert Vantage(http(prefix="/a/b-1.0~_")).path_of(raw) == path


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/packs/v1/", "/packs/v1/"),
        ("//v1//", "//v1//"),
        ("http://registry.example/v1/", "/v1/"),
        ("http://registry.example", "/"),
    ],
)
def test_a_path_is_left_alone_without_a_prefix(raw: str, path: str) -> None:
    assert ALONE.path_of(raw) == path


PREFIXES = st.from_regex(r"(?:/[A-Za-z0-9._~-]{1,4}){1,3}", fullmatch=True).filter(
    lambda text: {".", ".."}.isdisjoint(text.split("/"))
)


@given(PREFIXES, st.sampled_from(["", "/", "/v1/_catalog", "//x%2F"]), st.data())
def test_a_prefix_is_found_however_it_is_encoded(prefix: str, rest: str, data: st.DataObject) -> None:
    forms = (("/", "//") if c == "/" else (c, f"%{ord(c):02x}", f"%{ord(c):02X}") for c in prefix)
    path = "".join(data.draw(st.sampled_from(form)) for form in forms)
    assert Vantage(http(prefix=prefix)).path_of(path + rest) == (rest or "/")


# The address


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        pytest.param("192.0.2.7", "192.0.2.7", id="IPv4"),
        pytest.param("2001:DB8:0:0::7", "2001:db8::7", id="IPv6"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7", id="IPv4 on a dual-stack socket"),
        pytest.param("::ffff:192.0.2.7%eth0", "192.0.2.7", id="and with a zone"),
        pytest.param("fe81::1%eth0", "fe81::1", id="zone"),
        pytest.param("fe81::1%a\r\nX: y", "fe81::1", id="odd zone"),
        pytest.param(None, "-", id="none"),
        pytest.param("", "-", id="a socket without addresses"),
        pytest.param("/run/registry.sock", "-", id="no address"),
        pytest.param("192.0.2.7\r\n", "-", id="line end"),
        pytest.param("fe81::1%" + "x" * 5000, "-", id="long"),
    ],
)
@pytest.mark.parametrize("vantage", [ALONE, Vantage(http("10.0.0.0/8"))], ids=["nothing trusted", "another trusted"])
def test_a_client_is_who_asks(vantage: Vantage, remote: str | None, address: str) -> None:
    sent = headers(for_=CLIENT, proto="https", prefix="/evil")
    assert vantage.client_of(remote, sent) == address
    assert not vantage.is_secure(remote, sent, tls=False)
    assert vantage.url("/v1/", remote, sent) == "/v1/"
    assert vantage.of(Request(remote, headers=sent)) == Seen(address, False, "")


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        pytest.param([], PROXY, id="nothing"),
        pytest.param("", PROXY, id="empty"),
        pytest.param(CLIENT, CLIENT, id="one"),
        pytest.param(f"\t {CLIENT} ", CLIENT, id="blanks"),
        pytest.param(f"192.0.2.1, {CLIENT}", CLIENT, id="what the client made up"),
        pytest.param(f"192.0.2.1, {CLIENT},10.9.9.9 , 10.1.1.1", CLIENT, id="through several proxies"),
        pytest.param(["192.0.2.1", f"192.0.2.2, {CLIENT}", "10.9.9.9, 10.1.1.1"], CLIENT, id="several headers"),
        pytest.param([f"{CLIENT}, 192.0.2.1", "10.9.9.9"], "192.0.2.1", id="in the order of the headers"),
        pytest.param("10.3.3.3, 10.2.2.2", "10.3.3.3", id="a client inside"),
        pytest.param(f"{CLIENT}:5678", CLIENT, id="port"),
        pytest.param("[2001:db8:2::7]:5678", "2001:db8:2::7", id="IPv6 and port"),
        pytest.param("[2001:db8:2::7]", "2001:db8:2::7", id="IPv6 in brackets"),
        pytest.param("2001:DB8:2:0::7", "2001:db8:2::7", id="IPv6"),
        pytest.param("[fe81::1%25eth0]:80", "fe81::1", id="IPv6 with a zone"),
        pytest.param(f"::ffff:{CLIENT}", CLIENT, id="IPv4 as IPv6"),
        pytest.param(f"[::ffff:{CLIENT}]:80", CLIENT, id="IPv4 as IPv6 and port"),
        pytest.param(f"{CLIENT}, ::ffff:10.2.2.2", CLIENT, id="proxy with IPv4 as IPv6"),
        pytest.param(f"{CLIENT}, 10.2.2.2:5678, [2001:db8:1::9]:80, fe80::9%eth1", CLIENT, id="proxies of all kinds"),
        pytest.param("unknown", PROXY, id="unknown"),
        pytest.param(f"{CLIENT}, unknown, 10.2.2.2", "10.2.2.2", id="unknown to a proxy"),
        pytest.param(f"{CLIENT}, , 10.2.2.2", "10.2.2.2", id="empty to a proxy"),
        pytest.param(f"{CLIENT},", PROXY, id="empty at the end"),
        pytest.param(f"unknown, {CLIENT}", CLIENT, id="garbage left of the client"),
        pytest.param(f'"{CLIENT}"', PROXY, id="quoted"),
        pytest.param(f"for={CLIENT}", PROXY, id="another header's form"),
        pytest.param(f"[{CLIENT}]", PROXY, id="IPv4 in brackets"),
        pytest.param(f"{CLIENT}:", PROXY, id="no port after a colon"),
        pytest.param(f"{CLIENT}:123456", PROXY, id="long port"),
        pytest.param(f"{CLIENT}:٣", PROXY, id="foreign digits"),
        pytest.param("203.0.113.09", PROXY, id="leading zero"),
        pytest.param("203.0.113.256", PROXY, id="out of range"),
        pytest.param("[2001:db8:2::7", PROXY, id="open bracket"),
        pytest.param("2001:db8:2::7]:80", PROXY, id="closing bracket"),
        pytest.param(f"{CLIENT} 192.0.2.1", PROXY, id="no comma"),
        pytest.param(f"{CLIENT}\r\nX-Evil: 1", PROXY, id="line end"),
        pytest.param("1" * 100_000, PROXY, id="long"),
        pytest.param("[" + "::" * 50_000, PROXY, id="long and in brackets"),
        pytest.param(f"\v{CLIENT}", PROXY, id="odd blanks"),
    ],
)
def test_a_client_is_whom_trusted_proxies_name(forwarded: str | list[str], address: str) -> None:
    assert BEHIND.client_of(PROXY, headers(for_=forwarded)) == address


@pytest.mark.parametrize("remote", ["::ffff:10.0.0.1", "2001:db8:1::1", "fe80::1%eth0"])
@pytest.mark.parametrize("vantage", [BEHIND, Vantage(http("::ffff:10.0.0.0/104", "2001:db8:1::1", "fe80::1"))])
def test_a_proxy_is_trusted_in_whatever_form_it_is_seen(vantage: Vantage, remote: str) -> None:
    assert vantage.client_of(remote, headers(for_=CLIENT)) == CLIENT


@pytest.mark.parametrize("remote", ["9.255.255.255", "11.0.0.0", "2001:db8:2::1", "::ffff:11.0.0.0", "::a00:1"])
def test_a_neighbour_of_proxies_is_not_trusted(remote: str) -> None:
    assert BEHIND.client_of(remote, headers(for_=CLIENT)) != CLIENT


def test_networks_of_ipv6_hold_no_ipv4() -> None:
    assert Vantage(http("::/0")).client_of("::ffff:10.0.0.1", headers(for_=CLIENT)) == "10.0.0.1"


def test_only_so_many_proxies_are_followed() -> None:
    hops = [CLIENT, *(f"10.0.1.{number}" for number in range(HOPS_MAX + 8))]
    assert BEHIND.client_of(PROXY, headers(for_=", ".join(hops))) == "10.0.1.8"
    assert BEHIND.client_of(PROXY, headers(for_=hops)) == "10.0.1.8"
    assert BEHIND.client_of(PROXY, headers(for_=", ".join(hops[:HOPS_MAX]))) == CLIENT


def test_addresses_are_remembered_within_bounds() -> None:
    vantage = Vantage(http())
    first = vantage.of(Request("192.0.2.1"))
    for number in range(PEERS_MAX):
        assert vantage.of(Request(str(ipaddress.IPv4Address(number)))).address == str(ipaddress.IPv4Address(number))
    assert vantage.of(Request("192.0.2.1")) == first
    assert vantage.of(Request("192.0.2.1")) is not first


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
TRUSTED = st.one_of(st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(network="2001:db8:1::/48"))
FOREIGN = ADDRESSES.filter(lambda found: BEHIND.client_of(str(found), headers(for_=CLIENT)) != CLIENT)
HEADER = st.one_of(st.text(), st.from_regex(r"[0-9a-f.:,\[\]% ]*", fullmatch=True))


def written(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> st.SearchStrategy[str]:
    """An address in every form that proxies write."""
    if isinstance(address, ipaddress.IPv6Address):
        return st.sampled_from([f"{address}", f"[{address}]", f"[{address}]:443", address.exploded, f"{address}%eth0"])
    return st.sampled_from([f"{address}", f"{address}:443", f"::ffff:{address}", f"[::ffff:{address}]:1"])


def plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


@given(FOREIGN, st.lists(HEADER, max_size=3), HEADER, HEADER)
def test_an_untrusted_address_is_never_overridden(
    remote: ipaddress.IPv4Address | ipaddress.IPv6Address, forwarded: list[str], proto: str, prefix: str
) -> None:
    sent = headers(for_=forwarded, proto=["https", proto], prefix=["/evil", prefix])
    assert BEHIND.of(Request(str(remote), headers=sent)) == Seen(plain(remote), False, "")


@given(FOREIGN.flatmap(lambda a: st.tuples(st.just(a), written(a))), st.data(), st.lists(HEADER, max_size=2), HEADER)
def test_nothing_left_of_the_first_untrusted_address_has_influence(
    client: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, str], data: st.DataObject, lines: list[str], left: str
) -> None:
    proxies = data.draw(st.lists(TRUSTED.flatmap(written), max_size=4))
    right = ["".join(data.draw(st.sampled_from([", ", ",", " ,\t"])) + hop for hop in proxies)]
    sent = headers(for_=[*lines, f"{left},{client[1]}{right[0]}"])
    assert BEHIND.client_of(PROXY, sent) == plain(client[0])


@given(st.one_of(st.none(), st.just(PROXY), HEADER), st.lists(HEADER, max_size=4), HEADER, HEADER)
@example(PROXY, ["::1%\r\n" + "x" * 100], "", "")
def test_whatever_is_sent_what_is_seen_is_short_and_clean(
    remote: str | None, forwarded: list[str], proto: str, prefix: str
) -> None:
    seen = BEHIND.of(Request(remote, headers=headers(for_=forwarded, proto=proto, prefix=prefix)))
    assert re.fullmatch(r"-|[0-9a-f.:]{2,45}", seen.address, re.ASCII)
    assert re.fullmatch(r"(?:/[A-Za-z0-9._~-]+)*", seen.base, re.ASCII)
    assert len(seen.base) <= PREFIX_MAX


# Encryption


@pytest.mark.parametrize(
    ("proto", "secure"),
    [
        pytest.param("https", True, id="https"),
        pytest.param(" HTTPS\t", True, id="another case"),
        pytest.param("http", False, id="http"),
        pytest.param([], False, id="nothing"),
        pytest.param("", False, id="empty"),
        pytest.param("https, http", False, id="the nearest proxy says no"),
        pytest.param("http, https", True, id="the nearest proxy says yes"),
        pytest.param(["https", "http"], False, id="the nearest proxy says no, in a header of its own"),
        pytest.param(["http", "https"], True, id="the nearest proxy says yes, in a header of its own"),
        pytest.param("https,", False, id="empty at the end"),
        pytest.param("httpsx", False, id="no such word"),
        pytest.param("wss", False, id="another protocol"),
    ],
)
def test_a_trusted_proxy_says_whether_it_is_encrypted(proto: str | list[str], secure: bool) -> None:
    sent = headers(proto=proto)
    assert BEHIND.is_secure(PROXY, sent, tls=False) is secure
    assert BEHIND.is_secure(PROXY, sent, tls=True)
    assert BEHIND.of(Request(PROXY, headers=sent)).secure is secure


@pytest.mark.parametrize("vantage", [ALONE, BEHIND], ids=["nothing trusted", "another trusted"])
def test_a_client_is_believed_its_own_encryption_alone(vantage: Vantage) -> None:
    sent = headers(proto="https")
    assert not vantage.is_secure(CLIENT, sent, tls=False)
    assert vantage.is_secure(CLIENT, headers(proto="http"), tls=True)
    assert not vantage.of(Request(CLIENT, headers=sent)).secure
    assert vantage.of(Request(CLIENT, secure=True)).secure


def test_an_absolute_https_target_does_not_make_a_request_encrypted() -> None:
    request = make_mocked_request("GET", "https://registry.example/v1/")
    assert not ALONE.of(request).secure


# URLs


@pytest.mark.parametrize(
    ("host", "prefix", "url"),
    [
        pytest.param("", "", "/v1/", id="neither"),
        pytest.param("", "/packs", "/packs/v1/", id="prefix"),
        pytest.param("https://registry.example", "", "https://registry.example/v1/", id="host"),
        pytest.param("https://[::1]:80", "/a/b", "https://[::1]:80/a/b/v1/", id="both"),
    ],
)
def test_urls_begin_as_configured(host: str, prefix: str, url: str) -> None:
    vantage = Vantage(http("10.0.0.0/8", host=host, prefix=prefix))
    assert vantage.url("/v1/") == url
    for remote in (CLIENT, PROXY):
        assert vantage.url("/v1/", remote, headers()) == url
        assert vantage.of(Request(remote)).base + "/v1/" == url
        assert vantage.of(Request(remote, secure=True)).base + "/v1/" == url


@pytest.mark.parametrize(
    ("sent", "base"),
    [
        pytest.param("/packs", "/packs", id="prefix"),
        pytest.param("/packs/", "/packs", id="slash at the end"),
        pytest.param(" /a/b.c~d_e-f ", "/a/b.c~d_e-f", id="every character"),
        pytest.param([], "", id="nothing"),
        pytest.param("", "", id="empty"),
        pytest.param("/", "", id="root"),
        pytest.param("//", "", id="slashes"),
        pytest.param(["/evil", "/packs"], "/packs", id="the nearest proxy's"),
        pytest.param("/evil, /packs", "/packs", id="the nearest proxy's in one header"),
        pytest.param("packs", "", id="no path"),
        pytest.param("//evil.example", "", id="another host"),
        pytest.param("/packs//x", "", id="doubled slash"),
        pytest.param("https://evil.example", "", id="a URL"),
        pytest.param("/..", "", id="dot segment"),
        pytest.param("/packs/./x", "", id="dot segment inside"),
        pytest.param("/pa%63ks", "", id="percent-encoded"),
        pytest.param("/packs\r\nX-Evil: 1", "", id="line end"),
        pytest.param("/packs\n", "", id="line end at the end"),
        pytest.param("/packs>; rel=x", "", id="end of a link"),
        pytest.param("/packs?x=", "", id="query"),
        pytest.param("/päcks", "", id="not ASCII"),
        pytest.param("/\\evil.example", "", id="backslash"),
        pytest.param("/" + "x" * (PREFIX_MAX - 1), "/" + "x" * (PREFIX_MAX - 1), id="longest"),
        pytest.param("/" + "x" * PREFIX_MAX, "", id="too long"),
    ],
)
def test_a_trusted_proxy_says_what_it_has_stripped(sent: str | list[str], base: str) -> None:
    assert BEHIND.url("/v1/", PROXY, headers(prefix=sent)) == base + "/v1/"
    assert BEHIND.of(Request(PROXY, headers=headers(prefix=sent))).base == base
    assert BEHIND.of(Request(CLIENT, headers=headers(prefix=sent))).base == ""


@given(HEADER)
def test_a_prefix_from_a_proxy_could_be_configured(sent: str) -> None:
    base = BEHIND.url("", PROXY, headers(prefix=sent))
    assert URL_PREFIX.parse(base) == base


def test_the_configured_prefix_counts_before_a_proxys() -> None:
    vantage = Vantage(http("10.0.0.0/8", prefix="/packs"))
    assert vantage.url("/v1/", PROXY, headers(prefix="/other")) == "/packs/v1/"


def test_a_proxys_prefix_follows_the_configured_host() -> None:
    vantage = Vantage(http("10.0.0.0/8", host="https://registry.example"))
    assert vantage.url("/v1/", PROXY, headers(prefix="/packs")) == "https://registry.example/packs/v1/"


@pytest.mark.parametrize("remote", [PROXY, CLIENT])
def test_no_host_from_a_header_is_believed(remote: str) -> None:
    sent = CIMultiDict({"X-Forwarded-Host": "evil.example", "Host": "evil.example", "Forwarded": "host=evil.example"})
    assert BEHIND.of(Request(remote, headers=sent)) == Seen(remote, False, "")


# All together


def test_all_is_seen_at_once() -> None:
    sent = headers(for_=f"{CLIENT}, 10.2.2.2", proto="https", prefix="/packs")
    assert BEHIND.of(Request(PROXY, headers=sent)) == Seen(CLIENT, True, "/packs")


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_what_is_seen_is_shared_where_no_proxy_speaks(secure: bool) -> None:
    vantage = Vantage(http(prefix="/packs"))
    first = vantage.of(Request(CLIENT, secure))
    assert first == Seen(CLIENT, secure, "/packs")
    assert vantage.of(Request(CLIENT, secure, headers(for_="192.0.2.1", prefix="/x"))) is first


def test_headers_of_one_who_is_not_trusted_are_not_even_looked_at() -> None:
    class Headless:
        remote = CLIENT
        secure = False

        @property
        def headers(self) -> CIMultiDict[str]:
            raise AssertionError("nobody asked")

    assert BEHIND.of(Headless()).address == CLIENT


def test_a_request_of_the_server_can_be_asked() -> None:
    request: web.Request = make_mocked_request("GET", "/v1/", headers(for_=CLIENT, proto="https", prefix="/packs"))
    request = request.clone(remote=PROXY)
    assert BEHIND.of(request) == Seen(CLIENT, True, "/packs")


def test_the_guides_configuration_can_be_used(tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    assert found
    file = tmp_path / "config.yml"
    file.write_text(f"version: 0.1\n{found[1]}")
    loaded = load(file, {}, {})
    assert Vantage(loaded.config.http).client_of("127.0.0.1", headers(for_=CLIENT)) == CLIENT
