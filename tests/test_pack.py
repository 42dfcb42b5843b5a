"""What `lint` says of a pack: pack.json, the files it names, and the real packs."""

import functools
import json
import random
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.model import Metadata, Tag
from packregistry.pack import METADATA_FILES, Reading, images, lint, presets, values_schema
from packregistry.pack.findings import PROBLEMS_MAX, Findings, closest, field_path
from packregistry.pack.jsontext import DEPTH_MAX, TOKENS_MAX

CORPUS = Path(__file__).resolve().parents[1].parent / "shared" / "corpus" / "packs"


def make_png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def make_document(**changes: Any) -> dict[str, Any]:
    """A pack.json without a flaw; a change to `...` takes the member out."""
    document = {"name": "hello", "displayName": "Hello", "version": "1.2.3", "layer": "addon"} | changes
    return {key: value for key, value in document.items() if value is not ...}


def make_files(document: Any = None, **contents: bytes | None) -> dict[str, bytes]:
    """The files of a pack without a flaw; `values=None` leaves values.yaml out, `pack_json=b""` replaces pack.json."""
    named = {"pack_json": "pack.json", "values": "values.yaml", "logo": "logo.png", "readme": "README.md"}
    files: dict[str, bytes | None] = {
        "pack.json": json.dumps(make_document() if document is None else document, indent=1).encode(),
        "values.yaml": b"",
        "logo.png": make_png(),
        "README.md": b"# Hello\n",
    }
    files.update({named[key]: value for key, value in contents.items()})
    return {title: data for title, data in files.items() if data is not None}


def read(document: Any = None, members: Mapping[str, int] | None = None, **contents: bytes | None) -> Reading:
    files = make_files(document, **contents)
    return lint(files, members if members is not None else {title: len(data) for title, data in files.items()})


def brief(reading: Reading) -> list[tuple[str, str, str]]:
    return [(problem.severity, problem.file, problem.field) for problem in reading.problems]


def text_of(reading: Reading) -> str:
    return "\n".join(str(problem) for problem in reading.problems)


def test_a_pack_without_flaw_has_no_problems_and_says_what_it_is() -> None:
    document = make_document(
        group="lts", addonType="system app", addonSubType="x", cloudTypes=["aws", "aws", "gcp"], eol="", commit_msg="m"
    )
    reading = read(document)
    assert reading.problems == reading.errors == ()
    assert (reading.name, reading.version, reading.group) == ("hello", "1.2.3", "lts")
    assert reading.tag == Tag("lts__1.2.3")
    assert reading.document == document
    assert reading.metadata == Metadata("Hello", "addon", "system app", "x", ("aws", "gcp"))


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        pytest.param(b'{\n "name": caf\xe9}', "is not UTF-8 text", 2, id="latin-1"),
        pytest.param('{"name": "a"}'.encode("utf-16"), "is not UTF-8 text", 1, id="utf-16"),
        pytest.param(b'{\n "name": "a",,\n}', "(column 14)", 2, id="syntax"),
        pytest.param(b"", "cannot be read as JSON", 1, id="empty"),
        pytest.param(b"\n[1]", "a list instead of an object", 2, id="list"),
        pytest.param(b"null", "null instead of an object", 1, id="null"),
        pytest.param(b"true", "true instead of an object", 1, id="true"),
        pytest.param(b"false", "false instead of an object", 1, id="false"),
        pytest.param(b"12.5", "the number 12.5 instead of an object", 1, id="number"),
        pytest.param(b'"x"', 'the string "x" instead of an object', 1, id="string"),
        pytest.param(b'{"a":\n' + b"[" * 10**6, f"more than {DEPTH_MAX} levels deep", 2, id="unclosed and deep"),
        pytest.param(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "levels deep", 1, id="deep"),
        pytest.param(b'{"a":[' + b"1," * TOKENS_MAX + b"1]}", f"more than {TOKENS_MAX} tokens", 0, id="long"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", "too many digits", 0, id="huge integer"),
        pytest.param(b'{"a":1e999}', "out of range", 0, id="infinite"),
        pytest.param(b'{"a":NaN}', "NaN is not a JSON value", 0, id="nan"),
        pytest.param(b'{"a":"\\ud800"}', "surrogate", 0, id="lone surrogate"),
        pytest.param(b'{"a":"' + b'\\"' * 10**6, "cannot be read as JSON", 1, id="unclosed string"),
    ],
)
def test_a_pack_json_that_cannot_be_read_is_one_error_with_its_line(data: bytes, message: str, line: int) -> None:
    reading = read(pack_json=data)
    assert [problem.severity for problem in reading.problems] == ["error"]
    assert message in reading.problems[0].message
    assert reading.problems[0].line == line
    assert reading.problems[0].remedy
    assert (reading.document, reading.name, reading.version, reading.tag) == ({}, None, "", None)
    assert reading.metadata == Metadata("", "")


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX])
def test_nesting_up_to_the_limit_is_read(depth: int) -> None:
    nested = "[" * (depth - 1) + "]" * (depth - 1)
    assert not read(
        pack_json=json.dumps(make_document(readme=...))[:-1].encode() + f', "readme": {nested}}}'.encode()
    ).problems


def test_a_byte_order_mark_is_a_warning_and_the_rest_is_read() -> None:
    reading = read(pack_json=b"\xef\xbb\xbf" + json.dumps(make_document()).encode())
    assert brief(reading) == [("warning", "pack.json", "")]
    assert reading.name == "hello"


@pytest.mark.parametrize("key", ["name", "displayName", "version", "layer"])
@pytest.mark.parametrize("value", [..., "", "  ", None, 1, ["x"], {}], ids=repr)
def test_what_is_required_must_be_a_string_with_something_in_it(key: str, value: Any) -> None:
    reading = read(make_document(**{key: value}))
    assert brief(reading) == [("error", "pack.json", key)]


def test_a_required_member_in_other_case_is_pointed_out() -> None:
    reading = read(make_document(displayName=..., DisplayName="Hello"))
    assert 'rename "DisplayName" to "displayName"' in reading.errors[0].remedy


def test_a_problem_carries_the_line_of_its_member() -> None:
    data = b'{\n"name": "hello",\n\n"displayName": "H",\n"version":\n"1.2.3", "charts": [\n"a",\n{"x": "]},:\\""}]'
    data += b',"layer": 1}'
    lines = {problem.field: problem.line for problem in read(pack_json=data).problems}
    assert lines == {"charts[0]": 7, "charts[1]": 8, "layer": 8}


@pytest.mark.parametrize(
    ("layer", "remedy"),
    [
        pytest.param("adon", 'did you mean "addon"?', id="misspelt"),
        pytest.param("K8S", 'did you mean "k8s"?', id="case"),
        pytest.param("zzz", "use one of kernel, os, k8s, cni, csi, addon", id="unlike any"),
    ],
)
def test_an_unknown_layer_is_an_error_with_a_suggestion(layer: str, remedy: str) -> None:
    (problem,) = read(make_document(layer=layer)).errors
    assert (problem.field, problem.remedy) == ("layer", remedy)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        pytest.param({"name": "../x"}, "name", id="name"),
        pytest.param({"version": "1/2"}, "version", id="version"),
        pytest.param({"version": "1.x"}, "version", id="version like a parent tag"),
        pytest.param({"version": "a__b"}, "version", id="version with separator"),
        pytest.param({"group": "a__b"}, "group", id="group with separator"),
        pytest.param({"group": "a b"}, "group", id="group with a blank"),
        pytest.param({"group": "g" * 64, "version": "1." + "0" * 70}, "version", id="both together too long"),
    ],
)
def test_what_is_outside_the_grammar_is_an_error_there(changes: dict[str, str], field: str) -> None:
    reading = read(make_document(**changes))
    assert [(problem.severity, problem.field) for problem in reading.errors] == [("error", field)]
    assert all(problem.remedy and problem.line for problem in reading.errors)
    assert (reading.name is None) == (field == "name")
    assert (reading.tag is None) == (field != "name")


def test_version_and_group_are_both_blamed_when_both_are_wrong() -> None:
    assert {problem.field for problem in read(make_document(version="a b", group="c d")).errors} == {"version", "group"}


def test_a_wrong_group_is_found_without_a_version() -> None:
    assert {problem.field for problem in read(make_document(version=..., group="c d")).errors} == {"version", "group"}


@pytest.mark.parametrize("group", ["", " ", "\t ", None], ids=repr)
def test_a_blank_group_is_no_group(group: str | None) -> None:
    reading = read(make_document(group=group, eol=" "))
    assert (reading.group, reading.tag) == ("", "1.2.3")
    assert not reading.errors


def test_blank_texts_are_not_worth_a_warning() -> None:
    blank = {"group": " ", "eol": " ", "addonType": "", "addonSubType": "", "cloudType": "", "annotations": {"a": ""}}
    dependency = {"packName": "k", "layer": "", "type": "", "minVersion": "", "maxVersion": ""}
    assert not read(make_document(**blank, constraints={"dependencies": [dependency]})).problems


@pytest.mark.parametrize("version", ["1.5", "v1.1.0", "23.07.1", "latest"])
def test_a_version_that_is_not_semantic_is_a_warning(version: str) -> None:
    reading = read(make_document(version=version))
    assert brief(reading) == [("warning", "pack.json", "version")]
    assert "own rules" in reading.problems[0].message
    assert reading.tag == version


def test_a_name_with_upper_case_is_a_warning() -> None:
    reading = read(make_document(name="Hello"))
    assert brief(reading) == [("warning", "pack.json", "name")]
    assert reading.name == "Hello"


@pytest.mark.parametrize(
    ("more", "severity", "field"),
    [
        pytest.param('"name": "b"', "error", "name", id="name"),
        pytest.param('"version": "1.2.3"', "error", "version", id="version"),
        pytest.param('"group": "", "group": ""', "error", "group", id="group"),
        pytest.param('"n\\u0061me": "b"', "error", "name", id="escaped"),
        pytest.param('"layer": "addon"', "warning", "layer", id="layer"),
        pytest.param('"annotations": {"name": "", "name": ""}', "warning", "annotations.name", id="nested"),
        pytest.param('"readme": [{"name": 1}, {"name": 2, "name": 3}]', "warning", "readme[1].name", id="in a list"),
    ],
)
def test_a_key_that_stands_twice_is_reported_where_it_is_repeated(more: str, severity: str, field: str) -> None:
    reading = read(pack_json=json.dumps(make_document())[:-1].encode() + f",\n{more}}}".encode())
    assert brief(reading) == [(severity, "pack.json", field)]
    assert reading.problems[0].line == 2


@pytest.mark.parametrize(
    ("changes", "severity", "field"),
    [
        pytest.param({"charts": "a.tgz"}, "error", "charts", id="charts"),
        pytest.param({"charts": [1]}, "error", "charts[0]", id="item of charts"),
        pytest.param({"kubeManifests": {"a": "b"}}, "error", "kubeManifests", id="kubeManifests"),
        pytest.param({"ansibleRoles": True}, "error", "ansibleRoles", id="ansibleRoles"),
        pytest.param({"cloudTypes": "all"}, "error", "cloudTypes", id="cloudTypes"),
        pytest.param({"cloudTypes": [None]}, "error", "cloudTypes[0]", id="item of cloudTypes"),
        pytest.param({"cloudType": ["aws"]}, "error", "cloudType", id="cloudType"),
        pytest.param({"addonType": 1}, "error", "addonType", id="addonType"),
        pytest.param({"addonSubType": 1}, "error", "addonSubType", id="addonSubType"),
        pytest.param({"group": 1}, "error", "group", id="group"),
        pytest.param({"eol": False}, "error", "eol", id="eol"),
        pytest.param({"annotations": {"a": True}}, "warning", "annotations.a", id="annotation"),
        pytest.param({"annotations": {"a b": 1}}, "warning", 'annotations["a b"]', id="annotation with odd name"),
        pytest.param({"charts": None}, "warning", "charts", id="null"),
        pytest.param({"constraints": None}, "warning", "constraints", id="constraints null"),
        pytest.param({"annotations": []}, "warning", "annotations", id="an empty list of annotations"),
        pytest.param({"charts": ""}, "warning", "charts", id="empty text for charts"),
        pytest.param({"annotations": ["x"]}, "error", "annotations", id="a list of annotations"),
        pytest.param({"constraints": []}, "warning", "constraints", id="constraints"),
        pytest.param({"constraints": {"resources": None}}, "warning", "constraints.resources", id="resources"),
    ],
)
def test_a_member_of_the_wrong_type_is_an_error_unless_palette_can_live_with_it(
    changes: dict[str, Any], severity: str, field: str
) -> None:
    assert brief(read(make_document(**changes))) == [(severity, "pack.json", field)]


@pytest.mark.parametrize(
    ("constraints", "field", "remedy"),
    [
        pytest.param({"dependencies": [{}]}, "dependencies[0].packName", "add it", id="no packName"),
        pytest.param(
            {"dependencies": [{"packName": "k", "type": "optinal"}]}, "dependencies[0].type", '"optional"', id="type"
        ),
        pytest.param(
            {"dependencies": [{"packName": "k", "layer": "k9s"}]}, "dependencies[0].layer", '"k8s"', id="layer"
        ),
        pytest.param(
            {"dependencies": [{"packName": "k", "minVersion": 1}]},
            "dependencies[0].minVersion",
            "a string",
            id="version",
        ),
        pytest.param(
            {"dependencies": [{"packName": "k", "minversion": ""}]},
            "dependencies[0].minversion",
            '"minVersion"',
            id="key",
        ),
        pytest.param({"resources": [{"type": "ram"}]}, "resources[0].type", "cpu, memory", id="resource"),
        pytest.param(
            {"resources": [{"type": "cpu", "minLimit": "1"}]}, "resources[0].minLimit", "a number", id="limit"
        ),
        pytest.param(
            {"resources": [{"type": "cpu", "components": [{"scheduleType": "workers"}]}]},
            "resources[0].components[0].scheduleType",
            '"worker"',
            id="schedule",
        ),
        pytest.param({"dependancies": []}, "dependancies", '"dependencies"', id="unknown"),
    ],
)
def test_every_violation_in_the_constraints_is_a_warning(constraints: Any, field: str, remedy: str) -> None:
    reading = read(make_document(constraints=constraints))
    assert brief(reading) == [("warning", "pack.json", f"constraints.{field}")]
    assert remedy in reading.problems[0].remedy


def test_all_documented_constraints_are_accepted() -> None:
    kinds = ["required", "optional", "notSupported", "upgrade"]
    components = [
        {"scheduleType": kind, "resourceRequestParamRef": "a.b", "replicaCountParamRef": "c"}
        for kind in ("all", "control-plane", "master", "worker")
    ]
    constraints = {
        "dependencies": [
            {"packName": "k", "layer": "k8s", "minVersion": "1", "maxVersion": "", "type": kind} for kind in kinds
        ],
        "resources": [
            {"type": kind, "minLimit": 1.5, "components": components} for kind in ("cpu", "memory", "diskSize")
        ],
    }
    assert not read(make_document(constraints=constraints)).problems


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        pytest.param({"displayname": "x"}, "displayname", 'did you mean "displayName"?', id="member"),
        pytest.param({"zzz": 1}, "zzz", "Palette ignores it", id="member unlike any"),
        pytest.param({"cloudTypes": ["azur"]}, "cloudTypes[0]", 'did you mean "azure"?', id="cloud type"),
        pytest.param({"cloudType": "vSphere"}, "cloudType", 'did you mean "vsphere"?', id="single cloud type"),
    ],
)
def test_what_palette_does_not_know_is_a_warning(changes: dict[str, Any], field: str, remedy: str) -> None:
    reading = read(make_document(**changes))
    assert brief(reading) == [("warning", "pack.json", field)]
    assert remedy in reading.problems[0].remedy


@pytest.mark.parametrize("key", ["commit_msg", "kubeVersion", "readme"])
def test_members_known_in_the_wild_are_accepted(key: str) -> None:
    assert not read(make_document(**{key: ["anything"]})).problems


def test_metadata_is_one_printable_line_each_and_bounded() -> None:
    name = "A\x1b[31m\n\tB" + "x" * 5000
    reading = read(make_document(displayName=name, cloudTypes=[f"c{n}" for n in range(100)] + [1, ""]))
    assert reading.metadata.display_name == ("A [31m B" + "x" * 5000)[:256]
    assert reading.metadata.cloud_types == tuple(f"c{n}" for n in range(64))


@pytest.mark.parametrize("cloud_types", [..., [], None], ids=repr)
def test_the_old_single_cloud_type_counts_when_there_is_no_list(cloud_types: Any) -> None:
    assert read(make_document(cloudTypes=cloud_types, cloudType="aws")).metadata.cloud_types == ("aws",)


@pytest.mark.parametrize("key", ["charts", "kubeManifests", "ansibleRoles"])
@pytest.mark.parametrize(
    ("reference", "severity"),
    [
        pytest.param("charts/a-1.0.0.tgz", "", id="there"),
        pytest.param("./charts//a-1.0.0.tgz", "", id="there, written oddly"),
        pytest.param("charts/b", "", id="folder"),
        pytest.param("charts", "", id="outer folder"),
        pytest.param("charts/c-1.0.0.tgz", "warning", id="missing"),
        pytest.param("charts/a", "warning", id="beginning of a name"),
        pytest.param(" ", "warning", id="blank"),
        pytest.param("../a.tgz", "error", id="parent"),
        pytest.param("charts/../charts/a-1.0.0.tgz", "error", id="parent inside"),
        pytest.param("charts\\..\\..\\a", "error", id="parent with backslashes"),
        pytest.param("/etc/passwd", "error", id="absolute"),
        pytest.param("\\\\host\\share", "error", id="absolute with backslashes"),
        pytest.param("C:\\a.tgz", "error", id="absolute with drive"),
    ],
)
def test_a_referenced_file_must_be_in_the_pack_and_may_not_lead_out_of_it(
    key: str, reference: str, severity: str
) -> None:
    members = {"charts/a-1.0.0.tgz": 1, "charts/b/Chart.yaml": 1}
    reading = read(make_document(**{key: [reference]}), members)
    assert brief(reading) == ([(severity, "pack.json", f"{key}[0]")] if severity else [])


@pytest.mark.parametrize(
    ("reference", "remedy"),
    [
        pytest.param("charts/foo-1.0.0.tgz", 'did you mean "charts/foo-1.0.1.tgz"?', id="other version"),
        pytest.param("charts/crds-1.4.0.tgz", 'unpacked, as "charts/crds"', id="unpacked"),
        pytest.param("charts/crds.tgz", 'unpacked, as "charts/crds"', id="unpacked without version"),
        pytest.param("charts/crds-extra-2.tgz", 'unpacked, as "charts/crds-extra"', id="the longest name"),
        pytest.param("charts/crdsx-2.tgz", "add the file, or remove the reference", id="only the beginning of a name"),
        pytest.param("manifests/zzz.yaml", "add the file, or remove the reference", id="unlike any"),
    ],
)
def test_a_missing_file_comes_with_what_may_have_been_meant(reference: str, remedy: str) -> None:
    folders = ["charts/crds", "charts/crds-extra", "charts/other/charts/crds"]
    members = {"charts/foo-1.0.1.tgz": 1, "charts/x/foo-1.0.0.txt": 1} | {f"{name}/Chart.yaml": 1 for name in folders}
    (problem,) = read(make_document(charts=[reference]), members).problems
    assert remedy in problem.remedy


def test_help_with_missing_files_is_bounded_but_every_one_is_reported() -> None:
    reading = read(make_document(charts=[f"charts/some-{n}.tgz" for n in range(150)]), {"charts/some-x.tgz": 1})
    assert len(reading.problems) == 150
    assert sum("did you mean" in problem.remedy for problem in reading.problems) == 20


@pytest.mark.parametrize(
    ("title", "severity"),
    [("pack_json", "error"), ("values", "error"), ("logo", "error"), ("readme", "warning")],
)
def test_a_missing_file_is_reported(title: str, severity: str) -> None:
    (problem,) = read(**{title: None}).problems
    assert (problem.severity, problem.message) == (severity, "is missing")


@pytest.mark.parametrize(
    ("title", "member", "remedy"),
    [
        pytest.param("values", "values.yml", 'rename "values.yml" to "values.yaml"', id="suffix"),
        pytest.param("readme", "Readme.MD", 'rename "Readme.MD" to "README.md"', id="case"),
        pytest.param("logo", "logo.svg", "add it", id="another kind of file"),
        pytest.param("logo", "charts/a/logo.png", "add it", id="of a chart"),
        pytest.param("pack_json", "hello/pack.json", 'there is one in "hello"', id="one folder too high"),
        pytest.param("values", "charts/a/values.yaml", "it may be empty", id="values of a chart"),
    ],
)
def test_a_missing_file_with_a_namesake_is_pointed_out(title: str, member: str, remedy: str) -> None:
    (problem,) = read(members={member: 1, "charts/b/c/pack.json": 1}, **{title: None}).problems
    assert remedy in problem.remedy


def test_a_readme_that_is_not_utf_8_is_a_warning_with_its_line() -> None:
    (problem,) = read(readme=b"\xef\xbb\xbf# Hi\n\ncaf\xe9\n").problems
    assert (problem.severity, problem.file, problem.line) == ("warning", "README.md", 3)


def test_a_pack_without_files_has_an_error_for_each_one_it_needs() -> None:
    reading = lint({}, {})
    assert {problem.file for problem in reading.errors} == {"pack.json", "values.yaml", "logo.png"}
    assert reading.document == {}


def test_all_problems_of_all_files_come_at_once_with_errors_first() -> None:
    reading = read(make_document(layer="x", zzz=1), values=b"a: [", logo=b"", readme=b"\xff")
    assert brief(reading) == [
        ("error", "logo.png", ""),
        ("error", "pack.json", "layer"),
        ("error", "values.yaml", ""),
        ("warning", "README.md", ""),
        ("warning", "pack.json", "zzz"),
    ]
    assert list(reading.problems) == sorted(reading.problems)


@pytest.mark.parametrize(("wrong", "listed"), [(PROBLEMS_MAX, PROBLEMS_MAX), (1500, PROBLEMS_MAX)])
def test_the_list_of_problems_is_cut_and_says_how_many_more_there_are(wrong: int, listed: int) -> None:
    reading = read(make_document(cloudTypes=[f"cloud{n}" for n in range(wrong)]))
    assert len(reading.problems) == listed
    if wrong > listed:
        assert f"{wrong - listed + 1} more problems" in reading.problems[-1].message
        assert reading.problems[-1].severity == "warning"


def test_what_is_cut_from_the_errors_is_still_an_error() -> None:
    reading = read(make_document(charts=[1] * 300))
    assert reading.problems[-1].severity == "error"
    assert len(reading.errors) == PROBLEMS_MAX


def test_suggestions_are_given_for_the_first_mistakes_only() -> None:
    findings = Findings()
    remedies = [findings.suggest("azur", ["azure"], "otherwise") for _ in range(201)]
    assert remedies == ['did you mean "azure"?'] * 200 + ["otherwise"]


def test_a_very_long_word_is_not_compared() -> None:
    assert closest("a" * 201, ["a" * 201]) == ""
    assert closest("a" * 200, ["a" * 200]) == "a" * 200


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("a", 0, "b"), "a[0].b"),
        (("a.b/c",), "a.b/c"),
        (("", "x"), '[""].x'),
        (("a", "b\n"), 'a["b\\n"]'),
        (("a", "\ud800"), 'a["\\ud800"]'),
        (("x" * 201,), '["' + "x" * 80 + '\\u2026"]'),
        ((), ""),
    ],
    ids=repr,
)
def test_a_field_path_is_dotted_and_safe_to_print(path: tuple[str | int, ...], text: str) -> None:
    assert field_path(path) == text


def test_the_shipped_schema_is_valid_and_accepts_a_plain_pack_json() -> None:
    path = Path(__file__).parents[1] / "packregistry" / "pack" / "pack.schema.json"
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(make_document())) == []
    assert [list(error.path) for error in validator.iter_errors(make_document(layer="x"))] == [["layer"]]


def test_the_same_bytes_give_the_same_problems() -> None:
    document = make_document(layer="x", zzz=1, cloudTypes=["a", "b"], charts=["c", "d"], constraints={"q": 1})
    titles = list(files := make_files(document, values=b"a: [", logo=b"BM"))
    members = {f"charts/{n}": n for n in range(20)}
    expected = lint(files, members)
    shuffler = random.Random(1)
    for _ in range(5):
        shuffler.shuffle(titles)
        keys = list(members)
        shuffler.shuffle(keys)
        again = lint({title: files[title] for title in titles}, {key: members[key] for key in keys})
        assert again.problems == expected.problems


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)
member_names = st.sampled_from(sorted(make_document(charts=0, cloudTypes=0, cloudType=0, constraints=0, group=0, x=0)))
constraint_values = st.fixed_dictionaries(
    {},
    optional={
        key: st.lists(st.dictionaries(st.sampled_from(["type", "layer", "packName", "components"]), json_values))
        for key in ("dependencies", "resources")
    },
)


@pytest.mark.thorough
@settings(max_examples=40, deadline=None)
@given(st.dictionaries(member_names, json_values | constraint_values))
def test_any_json_document_is_read_without_raising(document: dict[str, Any]) -> None:
    reading = read(document)
    assert all(str(problem).encode() and problem.remedy for problem in reading.problems)
    assert reading.errors or (reading.name and reading.tag)


WORDS = "{{ }} /* */ pack: images: presets: schema: ${string:/ /} [ ] { } : - | &a *a ' \""
fragments = st.sampled_from([*WORDS.encode().split(b" "), b" ", b"\n", b"\t", b"image: a", b"\xef\xbb\xbf", b"\x89PNG"])
hostile = st.binary(max_size=60) | st.lists(fragments, max_size=25).map(b"".join)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(METADATA_FILES), hostile), st.dictionaries(st.text(max_size=12), st.just(1)))
def test_no_bytes_make_lint_raise(files: dict[str, bytes], members: dict[str, int]) -> None:
    assert lint(files, members) == lint(files, members)


@settings(deadline=None)
@given(hostile)
def test_no_bytes_make_the_readers_of_details_raise(data: bytes) -> None:
    assert all(isinstance(image, str) for image in images(data))
    assert all(rule["path"] is not None for rule in values_schema(data))
    assert all(isinstance(preset["remove"], list) for preset in presets(data))


@functools.cache
def load_corpus() -> dict[str, tuple[dict[str, bytes], dict[str, int]]]:
    if not CORPUS.is_dir():
        pytest.skip(f"the corpus of real packs is not at {CORPUS}")
    packs = {}
    for folder in sorted(CORPUS.iterdir()):
        files = {title: (folder / title).read_bytes() for title in METADATA_FILES if (folder / title).is_file()}
        paths = [path for path in folder.rglob("*") if path.is_file()]
        packs[folder.name] = (files, {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths})
    return packs


@pytest.mark.corpus
def test_real_packs_have_no_errors_and_only_warnings_that_are_true() -> None:
    readings = {name: lint(*pack) for name, pack in load_corpus().items()}
    assert len(readings) == 70
    assert not [problem for reading in readings.values() for problem in reading.errors]
    assert all(reading.name and reading.tag for reading in readings.values())
    kinds = {(problem.file, problem.field) for reading in readings.values() for problem in reading.problems}
    assert kinds == {("README.md", ""), ("pack.json", "version"), ("pack.json", "charts[0]")}
    (missing,) = readings["haproxy-unified-gateway-1.0.1"].problems
    assert missing.field == "charts[0]"
    assert '"charts/gateway-api-crds"' in missing.remedy


@pytest.mark.corpus
def test_real_packs_give_their_details() -> None:
    packs = load_corpus()
    found = {name: images(files["values.yaml"]) for name, (files, _) in packs.items()}
    assert found["ceph-rbd-3.11.0"][:2] == [
        "registry.k8s.io/sig-storage/csi-node-driver-registrar:v2.10.0",
        "quay.io/cephcsi/cephcsi:v3.11.0",
    ]
    for name, (files, _) in packs.items():
        values = yaml.load(files["values.yaml"], Loader=yaml.CSafeLoader) or {}
        listed = values.get("pack", {}).get("content", {}).get("images", [])
        assert found[name] == list(dict.fromkeys(item["image"] for item in listed))
    rules = values_schema(packs["hello-universe-1.1.1"][0]["schema.yaml"])
    assert [rule["format"] for rule in rules] == [
        "${string}",
        "${string}/${string}:${version}",
        "${number}",
        "${number}",
    ]
    names = [preset["name"] for preset in presets(packs["hello-universe-1.3.1"][0]["presets.yaml"])]
    assert names == ["disable-api", "enable-api"]


@pytest.mark.corpus
def test_linting_all_real_packs_is_quick() -> None:
    packs = load_corpus()
    lint({}, {})
    started = time.process_time()
    for pack in packs.values():
        lint(*pack)
    assert time.process_time() - started < 1.0
