"""A Helm chart, as a directory or a `.tgz`: what it is called, its default values, and the images these name.

A chart is somebody else's work: an archive goes through the checks of `unpack`, a directory through those of
`directory`, and nothing in it is run or rendered. `.helmignore` has no effect: a directory is packed with all it holds.
Everything here is synchronous and meant for a thread.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packregistry import archive, directory, unpack
from packregistry.config import Limits
from packregistry.errors import PackInvalidError
from packregistry.model import shown
from packregistry.pack import yamltree
from packregistry.pack.yamltree import Node, NotYamlError

IMAGES_MAX = 500

_NAME = re.compile(r"[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,99}", re.ASCII)
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
_REPOSITORY = re.compile(rf"{_HOST}[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)
# What may stand before the first key: directives, comments, the marker of a document.
_BEFORE = re.compile(r"%.*|\s*(?:#.*)?|---\s*(?:#.*)?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that was read. `values` is the text of its values.yaml; `images` are sorted."""

    name: str
    version: str
    app_version: str
    description: str
    values: str
    images: tuple[str, ...]

    @property
    def file(self) -> str:
        """What the chart is called when it is packed."""
        return f"{self.name}-{self.version}.tgz"


def read(path: Path, limits: Limits) -> Chart:
    """Read the chart at `path`. Raises `PackInvalidError`, which says what is wrong with it."""
    with _opened(path, limits) as root:
        text = _text(root / "Chart.yaml", path, limits)
        if text is None:
            raise PackInvalidError(f"{path} is no Helm chart: there is no Chart.yaml in it")
        about = _root(text, f"{path}: Chart.yaml")
        values = _normalised(_text(root / "values.yaml", path, limits) or "")
    name, version = _string(about, "name"), _string(about, "version")
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise PackInvalidError(f"{path}: the chart's name is {shown(name)}", remedy="use letters, digits and '-'")
    if not _VERSION.fullmatch(version):
        raise PackInvalidError(f"{path}: the chart's version is {shown(version)}", remedy="write one such as 1.2.3")
    tree = _root(values, f"{path}: values.yaml")
    if tree is not None and tree.kind != "map" and not tree.empty:
        raise PackInvalidError(f"{path}: values.yaml is not a map", remedy="write `key: value` lines")
    app_version = _string(about, "appVersion")
    images = tuple(sorted(set(images_in(tree, app_version))))
    return Chart(name, version, app_version, _string(about, "description"), values, images)


def pack(path: Path, chart: Chart, target: Path, limits: Limits) -> None:
    """Write the chart at `path` to the file `target`: an archive as it is, a directory packed reproducibly."""
    if not path.is_dir():
        shutil.copyfile(path, target)
        return
    with target.open("wb") as out:
        archive.pack(_looked(path, limits).files, chart.name, out)


def images_in(tree: Node | None, app_version: str = "") -> Iterator[str]:
    """The container images that values name, as far as one can tell without rendering the chart.

    They are maps with a `repository` (and `registry`, `tag`, `digest`), and strings under `image`. Where a map has a
    `repository` under `image` but no tag, the chart's `appVersion` is the tag, as charts usually have it.
    """
    stack: list[tuple[str, Node]] = [("", tree)] if tree else []
    # A YAML tree may contain itself.
    seen: set[int] = set()
    found = 0
    while stack and found < IMAGES_MAX:
        key, node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack += [("", item) for item in node.items]
        stack += [(name.text, value) for name, value in node.pairs if name.kind == "scalar"]
        if image := _image(key, node, app_version):
            found += 1
            yield image


def _image(key: str, node: Node, app_version: str) -> str:
    """The image that a map stands for, or an empty string."""
    if node.kind != "map":
        return ""
    inside = key.lower().endswith("image")
    if repository := _string(node, "repository"):
        tag = _string(node, "tag") or (app_version if inside else "")
        if not inside and not tag and not _string(node, "digest"):
            return ""
    elif repository := _string(node, "image"):
        tag = _string(node, "tag") or _string(node, "imageTag")
    else:
        return ""
    return _reference(_string(node, "registry"), repository, tag, _string(node, "digest"))


def _reference(registry: str, repository: str, tag: str, digest: str) -> str:
    repository, at, given = repository.partition("@")
    digest = given if at else digest
    head, slash, last = repository.rpartition("/")
    last, colon, own = last.partition(":")
    tag = own if colon else tag
    path = f"{registry.rstrip('/')}/" * bool(registry) + head + slash + last
    if not _REPOSITORY.fullmatch(path) or (tag and not _TAG.fullmatch(tag)):
        return ""
    if digest:
        return f"{path}@{digest}" if _DIGEST.fullmatch(digest) else ""
    return f"{path}:{tag}" if tag else path


@contextlib.contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[Path]:
    """The directory of a chart, wherever it has to be unpacked for that."""
    if path.is_dir():
        _looked(path, limits)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="packregistry-chart-") as temporary:
        root = Path(temporary) / "chart"
        try:
            with path.open("rb") as source:
                unpack.extract(source, root, limits)
        except OSError as error:
            raise PackInvalidError(f"{path} cannot be read: {error.strerror}") from error
        except PackInvalidError as error:
            raise PackInvalidError(f"{path}: {error.message}", remedy=error.remedy) from error
        yield unpack.content_root(root)


def _looked(path: Path, limits: Limits) -> directory.Tree:
    tree = directory.look(path, limits)
    if tree.problems:
        raise PackInvalidError(f"{path}: " + "; ".join(map(str, tree.problems)))
    return tree


def _text(file: Path, path: Path, limits: Limits) -> str | None:
    """The text of a file of the chart; None where there is none."""
    if not file.is_file():
        return None
    if file.stat().st_size > limits.metadata:
        raise PackInvalidError(f"{path}: {file.name} is too large", remedy=f"limits.metadata allows {limits.metadata}")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PackInvalidError(f"{path}: {file.name} is not UTF-8 text") from error


def _root(text: str, where: str) -> Node | None:
    """The one document of a YAML text, or None where it is empty."""
    try:
        tree = yamltree.parse(text)
    except NotYamlError as error:
        raise PackInvalidError(f"{where}: line {error.line}: it is not YAML: {error.reason}") from error
    if len(tree.roots) > 1 or tree.cut:
        raise PackInvalidError(f"{where}: it has several documents, or is too long", remedy="keep one document")
    return tree.roots[0] if tree.roots else None


def _string(node: Node | None, key: str) -> str:
    value = node.get(key) if node else None
    return (value.string() or "").strip() if value else ""


def _normalised(text: str) -> str:
    """A YAML text that can be put below a key: without what marks a document, its line ends plain, without the last."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    begin = next((number for number, line in enumerate(lines) if not _BEFORE.fullmatch(line)), len(lines))
    lines = [line for line in lines[:begin] if line.lstrip().startswith("#")] + lines[begin:]
    return "\n".join(lines[:-1] if lines and lines[-1].rstrip() == "..." else lines)
