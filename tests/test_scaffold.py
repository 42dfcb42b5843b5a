"""Packs made from Helm charts."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from packregistry import chart, offer, scaffold, unpack
from packregistry.chart import images_in
from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.failures import TargetError
from packregistry.model import PackName
from packregistry.pack import images, yamltree
from tests import archives as tar
from tests.factories import CORPUS
from tests.test_unpack import packed, tree

NAME = PackName("my-pack")
VALUES = """\
# How many.
replicas: 2

image:
  repository: library/nginx
  tag: 1.20   # not a number
text: |
  first
    second

  third
list:
- a
- {b: "c\\
  d"}
"""


def make_chart(
    parent: Path,
    name: str = "web",
    version: str = "1.2.3",
    values: str | None = VALUES,
    files: Mapping[str, bytes] | None = None,
    more: str = "",
) -> Path:
    """A Helm chart's directory."""
    about = f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: '9.9'\ndescription: Serves | pages\n{more}"
    root = parent / "charts-src" / "directory"
    if root.exists():
        root = parent / "charts-src" / f"directory-{name}-{version}"
    all_files = {
        "Chart.yaml": about.encode(),
        "templates/a.yaml": b"{{ .Values.x }}\n",
        **({} if values is None else {"values.yaml": values.encode()}),
        **(files or {}),
    }
    for path, content in all_files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return root


def tgz(parent: Path, root: Path) -> Path:
    """The chart at `root` as an archive."""
    target = parent / "chart.tgz"
    target.write_bytes(packed(tree(root), "web").getvalue())
    return target


def build(tmp_path: Path, *paths: Path) -> Path:
    return scaffold.build(NAME, tmp_path / "out", paths, Limits()).directory


def refusal(tmp_path: Path, *paths: Path) -> str:
    """Why there is no pack; nothing is left of the attempt."""
    with pytest.raises(PackInvalidError) as caught:
        scaffold.build(NAME, tmp_path / "new" / "out", paths, Limits())
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())
    return str(caught.value)


@pytest.mark.parametrize("archived", [False, True], ids=["directory", "tgz"])
def test_a_chart_becomes_a_pack_without_problems(tmp_path: Path, archived: bool) -> None:
    source = make_chart(tmp_path)
    built = scaffold.build(NAME, tmp_path / "out", [tgz(tmp_path, source) if archived else source], Limits())
    assert (built.name, built.version, built.charts) == ("my-pack", "1.2.3", ("web-1.2.3.tgz",))
    assert built.images == ("library/nginx:1.20",)
    assert offer.inspect(tmp_path / "out", Limits()).reading.problems == ()
    assert json.loads((tmp_path / "out" / "pack.json").read_text()) == {
        "name": "my-pack",
        "displayName": "Web",
        "version": "1.2.3",
        "layer": "addon",
        "addonType": "app services",
        "cloudTypes": ["all"],
        "annotations": {"description": "Serves | pages"},
        "charts": ["charts/web-1.2.3.tgz"],
    }
    assert sorted(tree(tmp_path / "out")) == [
        "README.md",
        "charts/web-1.2.3.tgz",
        "logo.png",
        "pack.json",
        "values.yaml",
    ]
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "| web | 1.2.3 | 9.9 |" in readme


def test_the_values_of_the_chart_are_there_as_they_were_written(tmp_path: Path) -> None:
    text = (build(tmp_path, make_chart(tmp_path)) / "values.yaml").read_text()
    assert "    # How many.\n    replicas: 2\n\n    image:\n" in text
    assert "tag: 1.20   # not a number" in text
    assert "text: |\n      first\n        second\n\n      third\n" in text
    assert images(text.encode()) == ["library/nginx:1.20"]


def test_every_blank_of_a_text_stays(tmp_path: Path) -> None:
    values = "a: |\n  x\n     \n  y\nb: |+\n  z\n\n\n"
    first, second = make_chart(tmp_path, values=values), make_chart(tmp_path, "db", values="c: 1\n")
    text = (build(tmp_path, first, second) / "values.yaml").read_text()
    root = yamltree.parse(text).roots[0].get("charts")
    web = root.get("web") if root else None
    assert web is not None
    assert [value.text for _, value in web.pairs] == ["x\n   \ny\n", "z\n\n\n"]


def test_an_archive_goes_into_the_pack_as_it_is(tmp_path: Path) -> None:
    archive = tgz(tmp_path, make_chart(tmp_path))
    assert (build(tmp_path, archive) / "charts" / "web-1.2.3.tgz").read_bytes() == archive.read_bytes()


def test_a_directory_is_packed_the_same_each_time_below_the_name_of_the_chart(tmp_path: Path) -> None:
    source = make_chart(tmp_path)
    once = scaffold.build(NAME, tmp_path / "a", [source], Limits()).directory / "charts" / "web-1.2.3.tgz"
    twice = scaffold.build(NAME, tmp_path / "b", [source], Limits()).directory / "charts" / "web-1.2.3.tgz"
    assert once.read_bytes() == twice.read_bytes()
    unpack.extract(io.BytesIO(once.read_bytes()), tmp_path / "x", Limits())
    assert tree(tmp_path / "x" / "web") == tree(source)


def test_without_a_chart_it_is_a_skeleton_without_problems(tmp_path: Path) -> None:
    root = build(tmp_path)
    reading = offer.inspect(root, Limits()).reading
    assert (reading.problems, reading.tag) == ((), "0.1.0")
    assert not (root / "charts").exists()
    assert "images: []" in (root / "values.yaml").read_text()


def test_several_charts_share_a_pack_and_the_first_names_it(tmp_path: Path) -> None:
    first = make_chart(tmp_path, "web", "1.0.0+build.5")
    second = make_chart(tmp_path, "db", "2.0.0", values="image: {repository: postgres}\n")
    built = scaffold.build(NAME, tmp_path / "out", [first, second], Limits())
    assert built.version == "1.0.0-build.5"
    assert built.images == ("library/nginx:1.20", "postgres:9.9")
    assert built.charts == ("web-1.0.0+build.5.tgz", "db-2.0.0.tgz")
    root = yamltree.parse((tmp_path / "out" / "values.yaml").read_text()).roots[0].get("charts")
    assert root is not None
    assert [name.text for name, _ in root.pairs] == ["web", "db"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (None, "{}"),
        ("", "{}"),
        ("# only a comment\n", "# only a comment"),
        ("---\na: 1\n...\n", "    a: 1\n"),
        ("\ufeffa: 1\r\nb: 2\r\n", "    a: 1\n    b: 2\n"),
        ("%YAML 1.1\n---\na: 1\n", "    a: 1\n"),
        ("{a: 1, b: [2]}\n", "    {a: 1, b: [2]}\n"),
        ("{}\n", "    {}\n"),
        ("null\n", "{}"),
        ("a: &x {b: 1}\nc: *x\n", "    c: *x\n"),
    ],
    ids=["none", "empty", "comment", "markers", "windows", "directive", "flow", "empty map", "null", "anchors"],
)
def test_values_of_every_form_can_be_put_below_the_chart(tmp_path: Path, values: str | None, expected: str) -> None:
    root = build(tmp_path, make_chart(tmp_path, values=values))
    text = (root / "values.yaml").read_text()
    assert expected in text
    assert offer.inspect(root, Limits()).reading.problems == ()
    assert len(yamltree.parse(text).roots) == 1


@pytest.mark.parametrize("name", ["true", "2048", "On"])
def test_a_name_that_yaml_takes_for_something_else_is_quoted(tmp_path: Path, name: str) -> None:
    source = make_chart(tmp_path, f'"{name}"')
    text = (scaffold.build(PackName(name), tmp_path / "out", [source], Limits()).directory / "values.yaml").read_text()
    assert f'\n  "{name}":\n' in text
    assert f'namespace: "{name.lower()}"' in text


@pytest.mark.parametrize(
    ("name", "namespace"), [("My_Pack.x", "my-pack-x"), ("a" * 70, "a" * 63), ("a" * 62 + ".b", "a" * 62)], ids=str
)
def test_the_namespace_is_one_that_kubernetes_takes(tmp_path: Path, name: str, namespace: str) -> None:
    root = scaffold.build(PackName(name), tmp_path / "out", [], Limits()).directory
    assert f"  namespace: {namespace}\n" in (root / "values.yaml").read_text()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("image: nginx:1", "nginx:1"),
        ("image: nginx", ""),
        ("image: nginx\ntag: '1'", "nginx:1"),
        ("image: nginx\nimageTag: '1'", "nginx:1"),
        ("image: {repository: nginx}", "nginx:9.9"),
        ("image: {repository: nginx, tag: ''}", "nginx:9.9"),
        ("initImage: {repository: nginx}", "nginx:9.9"),
        ("image: {registry: quay.io, repository: a/b, tag: v1}", "quay.io/a/b:v1"),
        ("image: {registry: 'quay.io:5000/', repository: a/b, tag: v1}", "quay.io:5000/a/b:v1"),
        ("image: {repository: 'localhost:5000/a', tag: v1}", "localhost:5000/a:v1"),
        ("image: {repository: 'a:v2', tag: v1}", "a:v2"),
        (f"image: {{repository: a, tag: v1, digest: 'sha256:{'b' * 64}'}}", f"a@sha256:{'b' * 64}"),
        (f"image: 'a@sha256:{'b' * 64}'", f"a@sha256:{'b' * 64}"),
        ("image: {repository: a, digest: 'sha256:b'}", ""),
        ("controller: {repository: a, tag: 1.10}", "a:1.10"),
        ("git: {repository: a}", ""),
        ("git: {repository: 'https://example.com/x.git', tag: v1}", ""),
        ("image: '{{ .Values.x }}'", ""),
        ("image: {repository: Upper, tag: v1}", ""),
        ("image: {repository: a, tag: '*'}", ""),
        ("image: {tag: v1}", ""),
        ("sidecars: [{name: x, image: 'a:1'}, {image: 'b:2'}]", "a:1 b:2"),
        ("a: {b: {c: {image: 'x/y:1'}}}", "x/y:1"),
        ("a: &a {image: 'x:1', self: *a}", "x:1"),
    ],
    ids=str,
)
def test_images_are_found_in_the_shapes_that_charts_have(values: str, expected: str) -> None:
    found = sorted(images_in(yamltree.parse(values).roots[0], "9.9"))
    if values == "image: nginx":
        expected = "nginx"
    assert found == expected.split()


def test_values_full_of_images_are_not_listed_without_end() -> None:
    text = "".join(f"a{number}: {{image: 'a:{number}'}}\n" for number in range(600))
    assert len(list(images_in(yamltree.parse(text).roots[0]))) == chart.IMAGES_MAX


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tar.zipped(tar.member("../evil", b""), tar.END), "not a plain relative path"),
        (tar.zipped(tar.header("web/values.yaml", kind=b"2"), tar.END), "symbolic link"),
        (tar.zipped(tar.member("web/values.yaml", b""), tar.END), "no Chart.yaml"),
        (b"PK\3\4", "zip"),
        (b"", "empty"),
    ],
    ids=["path", "link", "no chart", "zip", "empty"],
)
def test_an_archive_that_is_no_safe_chart_is_refused_and_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "evil.tgz").write_bytes(content)
    said = refusal(tmp_path, tmp_path / "evil.tgz")
    assert reason in said
    assert "evil.tgz" in said


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ("name: ../x\nversion: 1.0.0", '"../x"'),
        ("name: x\nversion: ../1", '"../1"'),
        ("name: x\n", "version"),
        ("version: 1.0.0\n", "name"),
        ("", "name"),
        ("- a", "name"),
        ("a: b: c", "not YAML"),
        ("a: 1\n---\nb: 2", "several documents"),
        ("name: x\nversion: 1__0", "would not be a good pack"),
    ],
    ids=str,
)
def test_a_chart_that_does_not_say_what_it_is_is_refused(tmp_path: Path, about: str, reason: str) -> None:
    source = make_chart(tmp_path, files={"Chart.yaml": about.encode()})
    assert reason in refusal(tmp_path, source)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (b"- a\n", "not a map"),
        (b"a: {{ x }}\n  b", "not YAML"),
        (b"\xff", "not UTF-8"),
        (b"a" * (4 * 1024**2 + 1), "limits.metadata"),
        (b'a: "b\n\n  c"\n{', "not YAML"),
    ],
    ids=["list", "template", "bytes", "large", "broken"],
)
def test_values_that_are_none_are_refused(tmp_path: Path, values: bytes, reason: str) -> None:
    assert reason in refusal(tmp_path, make_chart(tmp_path, files={"values.yaml": values}))


def test_values_that_would_change_are_refused(tmp_path: Path) -> None:
    """A line that only YAML takes for one cannot be indented."""
    assert "cannot be put below" in refusal(tmp_path, make_chart(tmp_path, values="a: |\n  x\u2028  y\nb: 1\n"))


def test_a_chart_is_taken_once(tmp_path: Path) -> None:
    source = make_chart(tmp_path)
    assert "two charts are called web" in refusal(tmp_path, source, source)


def test_a_directory_with_a_link_out_of_it_is_refused(tmp_path: Path) -> None:
    source = make_chart(tmp_path)
    (source / "secret").symlink_to("/etc/hostname")
    assert "leads out" in refusal(tmp_path, source)


def test_a_chart_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "nope.tgz cannot be read: No such file" in refusal(tmp_path, tmp_path / "nope.tgz")


def test_a_pack_is_not_written_over(tmp_path: Path) -> None:
    build(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(TargetError, match="not empty"):
        build(tmp_path, make_chart(tmp_path / "other"))
    assert {path: data for path, data in tree(tmp_path).items() if path.startswith("out")} == before


def test_an_empty_directory_becomes_the_pack(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (build(tmp_path) / "pack.json").exists()


def test_the_logo_has_the_colour_of_the_name() -> None:
    assert scaffold.placeholder("a") == scaffold.placeholder("a") != scaffold.placeholder("b")


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not there")
def test_charts_of_the_corpus_become_packs_without_errors(tmp_path: Path) -> None:
    charts = [*CORPUS.glob("*/charts/*.tgz"), *(path.parent for path in CORPUS.glob("*/charts/*/Chart.yaml"))]
    assert len(charts) > 100
    for number, path in enumerate(sorted(charts)[::8]):
        built = scaffold.build(NAME, tmp_path / str(number), [path], Limits())
        assert not offer.inspect(built.directory, Limits()).reading.errors
