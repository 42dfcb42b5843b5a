"""The sample packs in packs/ are what a newcomer copies: complete, consistent, and without a single problem."""

from __future__ import annotations

import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from packregistry.pack import lint

PACKS = Path(__file__).resolve().parents[1] / "packs"
SMALL_FILES = ("pack.json", "values.yaml", "README.md", "logo.png", "schema.yaml", "presets.yaml")
PNG_256 = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (256).to_bytes(4, "big") * 2

SAMPLES = sorted(path for path in PACKS.iterdir() if path.is_dir())
CHARTS = [chart for sample in SAMPLES for chart in sorted(sample.glob("charts/*.tgz"))]

each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
each_chart = pytest.mark.parametrize("chart", CHARTS, ids=lambda path: path.name)


def metadata_of(sample: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((sample / "pack.json").read_text("utf-8"))
    return document


def values_of(sample: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((sample / "values.yaml").read_text("utf-8"))
    return document


def content_of(directory: Path) -> dict[str, bytes]:
    """The files below `directory`, by path relative to it."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def images_used(node: object) -> set[str]:
    """Every image in a tree of values: `image: NAME`, or `image: {repository, tag}` as Helm charts have it."""
    if isinstance(node, list):
        return set().union(*map(images_used, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(images_used, node.values()))
    match node.get("image"):
        case str(image):
            found.add(image)
        case {"repository": repository, "tag": tag}:
            found.add(f"{repository}:{tag}")
    return found


def paths_of(node: object, prefix: str = "") -> set[str]:
    """The dotted path of every value in a tree, with `$[]` for the items of a list, as schema.yaml writes them."""
    match node:
        case dict():
            below = [paths_of(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in node.items()]
        case list():
            below = [paths_of(value, f"{prefix}.$[]") for value in node]
        case _:
            below = []
    return {prefix}.union(*below)


def presets_of(sample: Path) -> list[dict[str, Any]]:
    path = sample / "presets.yaml"
    return list(yaml.safe_load(path.read_text("utf-8"))["presets"]) if path.exists() else []


def settable_paths(sample: Path) -> set[str]:
    """The path of every value that values.yaml sets, or a preset does."""
    added = (paths_of(yaml.safe_load(item["add"])) for item in presets_of(sample))
    return paths_of(values_of(sample)).union(*added)


def test_there_are_samples_with_versions_groups_charts_schemas_and_presets() -> None:
    """A first `make serve` shows two versions of one pack, a group tag, and each kind of file a pack can have."""
    names = Counter(metadata_of(sample)["name"] for sample in SAMPLES)
    assert len(names) >= 3
    assert max(names.values()) >= 2
    assert any(metadata_of(sample).get("group") for sample in SAMPLES)
    assert CHARTS
    for kind in ("schema.yaml", "presets.yaml", "manifests"):
        assert any((sample / kind).exists() for sample in SAMPLES), kind


def test_no_two_samples_are_the_same_release() -> None:
    releases = Counter((item["name"], item.get("group", ""), item["version"]) for item in map(metadata_of, SAMPLES))
    assert [release for release, count in releases.items() if count > 1] == []


@each_sample
def test_a_sample_lies_in_a_directory_named_after_its_release(sample: Path) -> None:
    metadata = metadata_of(sample)
    assert sample.name == f"{metadata['name']}-{metadata['version']}"


@each_sample
def test_a_sample_has_the_files_every_pack_should_have(sample: Path) -> None:
    for required in ("pack.json", "values.yaml", "logo.png", "README.md"):
        assert (sample / required).stat().st_size > 0, required


@each_sample
def test_a_logo_is_a_small_square_png(sample: Path) -> None:
    """256 by 256 pixels and below 15 KB, so that a page full of packs loads at once."""
    logo = (sample / "logo.png").read_bytes()
    assert logo.startswith(PNG_256)
    assert len(logo) < 15_000


@each_sample
def test_pack_json_and_the_files_of_a_sample_name_each_other(sample: Path) -> None:
    metadata = metadata_of(sample)
    assert {*metadata.get("kubeManifests", [])} == {f"manifests/{p.name}" for p in sample.glob("manifests/*.yaml")}
    assert {*metadata.get("charts", [])} == {f"charts/{p.name}" for p in sample.glob("charts/*.tgz")}


@each_sample
def test_values_have_a_section_for_each_manifest_and_each_chart(sample: Path) -> None:
    values = values_of(sample)
    assert values["pack"]["namespace"]
    assert {*values.get("manifests", {})} == {path.stem for path in sample.glob("manifests/*.yaml")}
    assert {*values.get("charts", {})} == {path.name for path in sample.glob("charts/*") if path.is_dir()}


@each_sample
def test_a_manifest_reads_only_values_that_the_pack_or_a_preset_sets(sample: Path) -> None:
    """A misspelt value would render as nothing, silently."""
    settable = settable_paths(sample)
    for manifest in sample.glob("manifests/*.yaml"):
        read = {*re.findall(r"\.Values\.([A-Za-z.]+)", manifest.read_text("utf-8"))}
        assert read
        assert {f"manifests.{manifest.stem}.{path}" for path in read} <= settable


@each_sample
def test_the_image_list_names_exactly_the_images_that_are_run(sample: Path) -> None:
    """An air-gapped site mirrors `pack.content.images` and nothing else."""
    values = values_of(sample)
    listed = {item["image"] for item in values["pack"]["content"]["images"]}
    assert listed == images_used(values.get("manifests", {})) | images_used(values.get("charts", {}))


@each_sample
def test_the_schema_speaks_only_of_values_that_the_pack_or_a_preset_sets(sample: Path) -> None:
    schema = sample / "schema.yaml"
    if not schema.exists():
        return
    known = settable_paths(sample)
    # Nothing is known of the items of a list that is empty by default.
    unknown = {path for path in yaml.safe_load(schema.read_text("utf-8")) if path not in known}
    assert {path for path in unknown if path.removesuffix(".$[]") not in known} == set()


@each_sample
def test_the_presets_a_pack_enables_exist_one_to_a_group(sample: Path) -> None:
    first_line = (sample / "values.yaml").read_text("utf-8").splitlines()[0]
    presets = [(item["group"], item["name"]) for item in presets_of(sample)]
    listed = first_line.partition("# spectrocloud.com/enabled-presets: ")[2]
    enabled = [tuple(item.split(":")) for item in listed.split(",") if item]
    assert {*enabled} <= {*presets}
    assert [group for group, _ in enabled] == list(dict.fromkeys(group for group, _ in presets))


@each_chart
def test_a_packed_chart_holds_exactly_the_unpacked_chart(chart: Path) -> None:
    """Both are in the pack, and one that was edited without the other would serve two truths."""
    with tarfile.open(chart, mode="r:gz") as archive:
        files = [member for member in archive if not member.isdir()]
        packed = {member.name: file.read() for member in files if (file := archive.extractfile(member))}
    [folder] = {name.partition("/")[0] for name in packed}
    metadata = yaml.safe_load(packed[f"{folder}/Chart.yaml"])
    assert (folder, chart.name) == (metadata["name"], f"{metadata['name']}-{metadata['version']}.tgz")
    assert packed == {f"{folder}/{path}": data for path, data in content_of(chart.parent / folder).items()}, (
        f"pack the chart again: the command is in {chart.parents[1].name}/README.md"
    )


@each_sample
def test_linting_a_sample_finds_no_problem(sample: Path) -> None:
    """The samples are the models for other packs, so not even a warning is let through."""
    members = content_of(sample)
    files = {name: members[name] for name in SMALL_FILES if name in members}
    reading = lint(files, {path: len(data) for path, data in members.items()})
    assert [str(problem) for problem in reading.problems] == []
