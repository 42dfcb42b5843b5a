"""What is found in a pack's files one by one: values.yaml, schema.yaml, presets.yaml and the logo."""

import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from packregistry.model import Problem
from packregistry.pack import (
    images,
    logopng,
    presets,
    presetsyaml,
    re2,
    schemayaml,
    values_schema,
    valuesyaml,
    yamltree,
)
from packregistry.pack.findings import Findings
from packregistry.pack.valuesyaml import mask


def check(checker: Callable[[bytes, Findings], None], data: str | bytes) -> tuple[Problem, ...]:
    findings = Findings()
    checker(data if isinstance(data, bytes) else data.encode(), findings)
    assert all(problem.remedy for problem in findings.problems())
    return findings.problems()


def check_values(data: str | bytes) -> list[tuple[str, int]]:
    return [(problem.severity, problem.line) for problem in check(valuesyaml.check, data)]


# values.yaml


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing yet\n",
        "---\n",
        "null\n",
        "~",
        "a: 1\n---\nb: 2\n",
        "\ufeffa: 1\n",
        "a: &x [1]\nb: *x\n",
        "a: {{ .spectro.system.cluster.name }}-suffix\n",
        'a: "{{ include "x" . }}"\n',
        "{{- if .Values.a }}\na: 1\n{{- end }}\n",
        "a:\n  {{ if x }}{{ y }}\n  b: 1\n{{/* two\n  lines */}}\nc: {{ x }}/d\n",
        "a: {b: {{ .x }}}\n",
        "a: {{{ .x }}}\n",
        "a:\n- {{ .x }}:{{ .y }}\n",
        "a: # {{ unclosed\n  b: '{{ x }}'\n",
    ],
    ids=repr,
)
def test_values_that_are_yaml_or_become_it_with_macros_masked_are_fine(text: str) -> None:
    assert check_values(text) == []


@pytest.mark.parametrize(
    ("text", "severity", "line"),
    [
        pytest.param("a: 1\nb: [\n", "error", 3, id="unclosed"),
        pytest.param("a:\n\tb: 1\n", "error", 2, id="tab"),
        pytest.param("a: 1\nb: *nowhere\n", "error", 2, id="unknown alias"),
        pytest.param("a: 1\n\nb: \x07\n", "error", 3, id="control character"),
        pytest.param("a: &x 1\n---\nb: *x\n", "error", 3, id="alias into another document"),
        pytest.param("a: 1\nb: " + "[" * 201, "error", 2, id="deep"),
        pytest.param(b"a: 1\nb: caf\xe9\n", "error", 2, id="latin-1"),
        pytest.param("a: {{ x }}: {{ y }}\nb: [\n", "warning", 1, id="broken with macros"),
        pytest.param("{{ x }}\na: 1\nb: [\n", "warning", 4, id="lines stay when masked"),
        pytest.param("{{/* x\n*/}}\na: 1\nb: [\n", "warning", 5, id="lines stay when a comment is masked"),
        pytest.param("\n- a\n", "warning", 2, id="list"),
        pytest.param("\n\nhello\n", "warning", 3, id="scalar"),
        pytest.param("a: 1\n---\n- b\n", "warning", 3, id="second document"),
    ],
)
def test_values_with_a_flaw_have_one_problem_with_its_line(text: str | bytes, severity: str, line: int) -> None:
    assert check_values(text) == [(severity, line)]


@pytest.mark.parametrize(("text", "kind"), [("- a", "a list"), ("a", "a single value")])
def test_values_that_are_no_map_are_called_what_they_are(text: str, kind: str) -> None:
    (problem,) = check(valuesyaml.check, text)
    assert problem.message == f"is {kind} instead of a map"


def test_values_are_read_up_to_a_limit_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yamltree, "EVENTS_MAX", 103)  # of which three open the stream, the document and the map
    assert check_values("a: 1\n" * 50 + "b: [\n") == [("warning", 51)]
    monkeypatch.setattr(yamltree, "EVENTS_MAX", 106)
    assert check_values("a: 1\n" * 50) == []


def test_values_full_of_aliases_to_aliases_are_read_at_once() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    assert check_values("\n".join(lines)) == []


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a: {{ x }}/b", "a: \ue000/b"),
        ("  {{ x }}  {{- y -}}\t\r\nb", "\nb"),
        ("{{ x", "{{ x"),
        ("{{ a {{ b }} c", "{{ a \ue000 c"),
        ("a{{/* b\nc */ -}}d\ne", "a\ue000\n\ue000d\ne"),
        ("a {{/* never closed", "a {{/* never closed"),
        ("{a: {{ x }}}", "{a: \ue000}"),
        ("{{{ x }}}", "{\ue000}"),
    ],
    ids=repr,
)
def test_masking_leaves_yaml_and_every_line_where_it_was(text: str, masked: str) -> None:
    assert mask(text) == masked


@settings(deadline=None)
@given(st.lists(st.sampled_from(["{{", "}}", "/*", "*/", "\n", "-", " ", "a"]), max_size=30).map("".join))
def test_masking_never_changes_the_number_of_lines(text: str) -> None:
    assert mask(text).count("\n") == text.count("\n")


IMAGES = """\
pack:
  content:
    images:
      - image: b:1
      - image: "a:1"
      - image: b:1   # again
      - image: {{ .spectro.registry }}/c:1
      - image: '{{ .spectro.registry }}/d:1'
      - image: e@sha256:00
      - image:
      - name: f:1
      - g:1
    charts:
      - image: not/an:image
"""


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("charts:\n  a: 1\n", id="fine"),
        pytest.param("charts: {{ x }}: {{ y }}: [\n  image: z:1\n", id="the rest is broken"),
        pytest.param("\tz: [\n", id="broken with a tab"),
        pytest.param("  bad: [\n", id="the pack block is broken"),
        pytest.param("  bad: [\n#\n\ncharts:\n  images:\n    - image: z:1\n", id="all is broken"),
    ],
)
def test_images_are_found_in_order_once_and_without_those_that_have_macros(rest: str) -> None:
    found = images((IMAGES + rest).encode())
    assert found == ["b:1", "a:1", "e@sha256:00"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pack:\n",
        "pack: [1]\n",
        "pack:\n  content: x\n",
        "pack:\n  content:\n    images: x\n",
        "pack:\n  content:\n    images:\n      - image: {a: b}\n      - image: ~\n      - image: ''\n",
        "pack: &p\n  content: *p\n",
        "other:\n  content:\n    images:\n      - image: a\n",
        "x: [\n",
        "x: [\ncontent:\n  images:\n    - image: a\n",
    ],
    ids=repr,
)
def test_values_without_images_have_none(text: str) -> None:
    assert images(text.encode()) == []


def test_images_of_every_document_and_behind_an_alias_are_found() -> None:
    text = "x: &i {image: a}\npack: {content: {images: [*i, {image: b}]}}\n---\npack: {content: {images: [{image: c}]}}"
    assert images(text.encode()) == ["a", "b", "c"]


def test_images_survive_bytes_that_are_not_utf_8() -> None:
    assert images(b"\xef\xbb\xbfpack: {content: {images: [{image: a}]}} # caf\xe9") == ["a"]


@pytest.mark.parametrize("key", ["pack:", '"pack":', "'pack' :"])
def test_the_pack_block_is_found_however_its_key_is_written(key: str) -> None:
    text = f"x: [\n{key}\n  content:\n    images:\n    - image: a:1\n{{{{ if x }}}}\n    - image: b:1\ny: 1\n"
    assert images(text.encode()) == ["a:1", "b:1"]


def test_the_search_by_hand_ends_with_the_list_of_images() -> None:
    text = (
        "pack:\n  images:\n  - image: a:1\n  # image: c:1\n  other:\n  - image: b:1\n images:\n - image: d:1\n bad: [\n"
    )
    assert images(text.encode()) == ["a:1", "d:1"]


# schema.yaml


def rules_of(template: str) -> dict[str, Any]:
    (rule,) = values_schema(yaml.safe_dump({"a.b": {"schema": template}}).encode())
    return {key: value for key, value in rule.items() if value and key != "path"}


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("{{ required }}", {"required": True}),
        ("{{readonly}}", {"readonly": True}),
        ("{{- required | readonly -}}", {"required": True, "readonly": True}),
        ('{{ hints "a" "b" | hints "c | d" }}', {"hints": ["a", "b", "c | d"]}),
        ('{{ hints "say \\"no\\"" }}', {"hints": ['say "no"']}),
        ('{{ format "${string}" }}', {"format": "${string}", "type": "string"}),
        (
            '{{ format "${password:/^\\d{2,3}/[a-z]+$/}" }}',
            {"format": "${password:/^\\d{2,3}/[a-z]+$/}", "type": "password", "regex": "^\\d{2,3}/[a-z]+$"},
        ),
        (
            '{{ format "${number:[5000-5005]}" }}',
            {"format": "${number:[5000-5005]}", "type": "number", "range": "5000-5005"},
        ),
        (
            '{{ format "${list:[PACK, GIT,]}" }}',
            {"format": "${list:[PACK, GIT,]}", "type": "list", "options": ["PACK", "GIT"]},
        ),
        (
            '{{ required | format "${ipv4} - ${ipv4}" | hints "pool"}}',
            {"required": True, "format": "${ipv4} - ${ipv4}", "type": "string", "hints": ["pool"]},
        ),
        (
            '{{ format "${string}, ${string:/size=\\d+/}" }}',
            {"format": "${string}, ${string:/size=\\d+/}", "type": "string"},
        ),
        ('{{ format "v${version}" }}', {"format": "v${version}", "type": "string"}),
        ('{{ format "${boolean}" }}', {"format": "${boolean}", "type": "boolean"}),
        ('{{ format "${number:[5-5]}" }}', {"format": "${number:[5-5]}", "type": "number", "range": "5-5"}),
        ('{{ format "' + "${string}" * 20 + '" }}', {"format": "${string}" * 20, "type": "string"}),
        ('{{ hints "' + "h" * 1985 + '" }}', {"hints": ["h" * 1985]}),
        ('{{ format "${number:[-1.5-2]}" }}', {"format": "${number:[-1.5-2]}", "type": "number", "range": "-1.5-2"}),
    ],
    ids=repr,
)
def test_a_template_is_read_into_a_rule_and_has_no_flaw(template: str, rule: dict[str, Any]) -> None:
    assert rules_of(template) == rule
    assert check(schemayaml.check, yaml.safe_dump({"a.b": {"schema": template}})) == ()


@pytest.mark.parametrize(
    ("template", "message", "remedy"),
    [
        ("required", "is not a template", "{{ … }}"),
        ("{{ requird }}", '"requird" is not a function', 'did you mean "required"?'),
        ("{{ zzz }}", '"zzz" is not a function', "use required, readonly, format, hints"),
        ("{{ }}", "a function is missing at the end", "use required"),
        ("{{ required | }}", "a function is missing at the end", "use required"),
        ("{{ | required }}", "a function is missing beside a |", "use required"),
        ('{{ hints "a }}', "a quote is not closed", "two"),
        ("{{ required readonly }}", '"readonly" is not expected here', "separate functions by |"),
        ('{{ "a" }}', '"a" is not expected here', "separate functions by |"),
        ("{{ format }}", "format wants one text", "write format"),
        ('{{ format "${string}" "${string}" }}', "format wants one text", "write format"),
        ('{{ format "string" }}', '"string" is not a format', "${TYPE}"),
        ('{{ format "${string} ${string" }}', "is not a format", "${TYPE}"),
        ('{{ format "' + "${string}" * 21 + '" }}', "is not a format", "${TYPE}"),
        ('{{ format "${strin}" }}', '"strin" is not a type', 'did you mean "string"?'),
        ('{{ format "${}" }}', '"" is not a type', "use one of string, number"),
        ('{{ format "${string:/a}" }}', '"/a" is neither', "regex"),
        ('{{ format "${string:/a(/}" }}', "a parenthesis is not closed", "RE2"),
        ('{{ format "${number:[9-1]}" }}', '"9-1" is not a range', "[lowest-highest]"),
        ('{{ format "${number:[a]}" }}', '"a" is not a range', "[lowest-highest]"),
        ('{{ format "${list}" }}', "a list without options", "${list:[one,other]}"),
        ('{{ format "${list:[ , ]}" }}', "a list without options", "${list:[one,other]}"),
        ("{{ " + "x" * 2000 + " }}", "more than 2000 characters", "shorten"),
    ],
    ids=lambda value: value[:40],
)
def test_a_broken_template_is_a_warning_with_line_and_field(template: str, message: str, remedy: str) -> None:
    text = yaml.safe_dump({"a.$[].c": {"schema": template}}, width=10**6)
    (problem,) = check(schemayaml.check, "\n" + text)
    assert (problem.severity, problem.file, problem.line, problem.field) == ("warning", "schema.yaml", 3, "a.$[].c")
    assert message in problem.message
    assert remedy in problem.remedy


@pytest.mark.parametrize("text", ["", "# later\n", "---\n", "~\n"], ids=repr)
def test_an_empty_schema_is_fine(text: str) -> None:
    assert check(schemayaml.check, text) == ()
    assert values_schema(text.encode()) == []


@pytest.mark.parametrize(
    ("text", "severity", "line", "field"),
    [
        pytest.param("a: [\n", "error", 2, "", id="not YAML"),
        pytest.param("\n- a\n", "error", 2, "", id="list"),
        pytest.param("a", "error", 1, "", id="scalar"),
        pytest.param(b"\xff", "error", 1, "", id="not UTF-8"),
        pytest.param("\na: x\n", "warning", 2, "a", id="no map below the path"),
        pytest.param("a:\n  schema:\n", "warning", 2, "a", id="no text"),
        pytest.param("a:\n  schema: [x]\n", "warning", 2, "a", id="no scalar"),
        pytest.param("a: {schema: '{{ required }}'}\na: {schema: '{{ required }}'}\n", "warning", 2, "a", id="twice"),
    ],
)
def test_a_schema_of_the_wrong_shape_is_reported(text: str | bytes, severity: str, line: int, field: str) -> None:
    problems = check(schemayaml.check, text)
    assert [(item.severity, item.line, item.field) for item in problems] == [(severity, line, field)]


def test_rules_come_in_the_order_of_the_file_and_broken_entries_are_left_out() -> None:
    text = "b: {schema: '{{ required }}'}\na: {}\nc: {schema: nothing}\n"
    assert [(rule["path"], rule["required"]) for rule in values_schema(text.encode())] == [("b", True), ("c", False)]
    assert values_schema(b"a: [") == []


def test_a_schema_with_too_many_entries_is_cut_and_that_is_said() -> None:
    text = "".join(f"a{n}: {{schema: '{{{{ required }}}}'}}\n" for n in range(schemayaml.ENTRIES_MAX))
    assert check(schemayaml.check, text) == ()
    text += "more: {schema: '{{ required }}'}\n"
    assert len(values_schema(text.encode())) == schemayaml.ENTRIES_MAX
    assert ["more than 2000 entries" in problem.message for problem in check(schemayaml.check, text)] == [True]


@pytest.mark.parametrize(
    "pattern",
    [
        r"^([a-z0-9].*)$",
        r"size=\d+",
        r"(?i)a|b",
        r"(?P<n>a)(?<m>b)(?:c)(?s-m:d)(?-i)",
        r"[[:alpha:]_\pL\p{Greek}\P{^Lu}]+\z",
        r"[]a][^]b][a\]][-a][a-]",
        r"\Qa(b\E{2}",
        r"\Qa(",
        r"a{2}b{2,}c{2,3}?d*?e+?f??",
        r"{,5}a{x}b}]",
        r"\x41\x{1F600}\012\0\.\/\-\_",
        r"a{1000}b{3,3}c{1,1000}",
        "(" * 1000 + ")" * 1000,
        r"",
        r"()|",
        "é+",
    ],
)
def test_re2_syntax_has_no_flaw(pattern: str) -> None:
    assert re2.flaw(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a(", "a parenthesis is not closed"),
        ("a)", "closed that was not opened"),
        ("(" * 1001, "nested too deep"),
        ("[a", "a bracket is not closed"),
        ("[]", "a bracket is not closed"),
        ("[[:alpha:]", "a bracket is not closed"),
        ("[[:alpa:]]", "no character class [:alpa:]"),
        ("[z-a]", "the range z-a is backwards"),
        ("*a", "nothing to repeat before *"),
        ("(+a)", "nothing to repeat before +"),
        ("a|?", "nothing to repeat before ?"),
        ("(?i)*", "nothing to repeat before *"),
        ("a**", "nothing to repeat before *"),
        ("a{2}{3}", "nothing to repeat before {3}"),
        ("a{1001}", "at most 1000 times"),
        ("a{1,1001}", "at most 1000 times"),
        ("a{" + "9" * 5000 + "}", "at most 1000 times"),
        ("a{3,2}", "ends below its beginning"),
        ("(?=a)", "no group of the kind (?="),
        ("(?<!a)", "no group of the kind (?<"),
        (r"(a)\1", r"no escape \1"),
        (r"\Z", r"no escape \Z"),
        ("a\\", "ends in a backslash"),
    ],
)
def test_what_re2_refuses_has_a_flaw(pattern: str, reason: str) -> None:
    assert reason in re2.flaw(pattern)


@settings(deadline=None)
@given(st.text(alphabet="ab()[]{}|*+?\\^$:-,<>PQE09", max_size=20))
def test_any_pattern_is_judged(pattern: str) -> None:
    assert isinstance(re2.flaw(pattern), str)


# presets.yaml

PRESETS = """\
presets:
  - name: off
    displayName: Turn off
    group: Backend
    remove: ["a.b", c]
    add: |
      a:
        b: {{ .x }}
  - name: "on"
"""


def test_presets_are_read_with_what_is_missing_empty() -> None:
    assert check(presetsyaml.check, PRESETS) == ()
    assert presets(PRESETS.encode()) == [
        {
            "name": "off",
            "displayName": "Turn off",
            "group": "Backend",
            "remove": ["a.b", "c"],
            "add": "a:\n  b: {{ .x }}\n",
        },
        {"name": "on", "displayName": "", "group": "", "remove": [], "add": ""},
    ]


@pytest.mark.parametrize("text", ["", "# later\n", "presets:\n", "presets: []\n"], ids=repr)
def test_no_presets_are_fine(text: str) -> None:
    assert check(presetsyaml.check, text) == ()
    assert presets(text.encode()) == []


@pytest.mark.parametrize(
    ("text", "severity", "line", "field"),
    [
        pytest.param("presets: [\n", "error", 2, "", id="not YAML"),
        pytest.param(b"\n\xff", "error", 2, "", id="not UTF-8"),
        pytest.param("\n- name: a\n", "error", 2, "", id="list"),
        pytest.param("hello", "error", 1, "", id="scalar"),
        pytest.param("preset: []\n", "error", 1, "", id="other key"),
        pytest.param("a: 1\npresets: {a: b}\n", "error", 2, "", id="map of presets"),
        pytest.param("presets: x\n", "error", 1, "", id="presets a scalar"),
        pytest.param("presets:\n- a\n", "warning", 2, "presets[0]", id="no map"),
        pytest.param("presets:\n- name: a\n- add: b\n", "warning", 3, "presets[1].name", id="no name"),
        pytest.param("presets:\n- add: x\n  name: ' '\n", "warning", 3, "presets[0].name", id="blank name"),
        pytest.param("presets:\n- name: a\n- name: a\n", "warning", 3, "presets[1].name", id="name twice"),
        pytest.param("presets:\n- name: a\n  remove: b\n", "warning", 3, "presets[0].remove", id="remove"),
        pytest.param("presets:\n- name: a\n  remove: [[b]]\n", "warning", 3, "presets[0].remove", id="item of remove"),
        pytest.param("presets:\n- name: a\n  add: {b: c}\n", "warning", 3, "presets[0].add", id="add"),
    ],
)
def test_presets_of_the_wrong_shape_are_reported(text: str | bytes, severity: str, line: int, field: str) -> None:
    problems = check(presetsyaml.check, text)
    assert [(item.severity, item.line, item.field) for item in problems] == [(severity, line, field)]


def test_null_members_of_a_preset_are_fine() -> None:
    assert check(presetsyaml.check, "presets: [{name: a, remove: ~, add: }]") == ()


def test_broken_presets_give_what_can_be_read() -> None:
    assert presets(b"presets: [") == []
    assert [item["name"] for item in presets(b"presets: [a, {name: b, remove: {c: d}, add: [e]}]")] == ["b"]


def test_presets_multiplied_by_aliases_are_cut_and_that_is_said() -> None:
    text = f"r: &r [{'a,' * 1000}]\npresets:\n" + "".join(f"- {{name: n{n}, remove: *r}}\n" for n in range(500))
    assert check(presetsyaml.check, text) == ()
    text += "- {name: more}\n"
    found = presets(text.encode())
    assert (len(found), len(found[0]["remove"])) == (presetsyaml.PRESETS_MAX, presetsyaml.REMOVE_MAX)
    assert ["more than 500 presets" in problem.message for problem in check(presetsyaml.check, text)] == [True]


# logo.png


def chunk(kind: bytes, body: bytes = b"", crc: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def make_png(width: int = 1, height: int = 1, *, middle: bytes = b"", end: bytes = chunk(b"IEND")) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(b"\0\0")) + end


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(make_png(), id="small"),
        pytest.param(make_png(logopng.SIDE_MAX, logopng.SIDE_MAX), id="largest"),
        pytest.param(make_png(middle=chunk(b"tEXt", b"x") * 100), id="many chunks"),
        pytest.param(make_png() + b"more", id="something behind the end"),
    ],
)
def test_a_png_is_fine(data: bytes) -> None:
    assert check(logopng.check, data) == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(make_png()[:-1], "ends before its end", id="last byte missing"),
        pytest.param(make_png()[:50], "ends before its end", id="cut in a chunk"),
        pytest.param(make_png()[:8], "ends before its end", id="signature only"),
        pytest.param(make_png(end=b""), "ends before its end", id="no IEND"),
        pytest.param(make_png(middle=chunk(b"tEXt", b"x", crc=1)), "a checksum is wrong", id="checksum"),
        pytest.param(make_png(0, 5), "claims to be 0 x 5 pixels", id="no width"),
        pytest.param(make_png(5, 0), "claims to be 5 x 0 pixels", id="no height"),
        pytest.param(make_png(16385, 1), "claims to be 16385 x 1 pixels", id="too wide"),
        pytest.param(make_png(1, 2**32 - 1), "claims to be 1 x 4294967295 pixels", id="too high"),
        pytest.param(make_png()[:8] + chunk(b"IDAT"), "does not begin with a header", id="no header"),
        pytest.param(make_png()[:8] + chunk(b"IHDR", b"\0\0\0\1"), "does not begin with a header", id="short header"),
        pytest.param(make_png(middle=chunk(b"tEXt") * 10_000), "more than 10000 parts", id="endless"),
    ],
)
def test_a_damaged_png_is_a_warning(data: bytes, message: str) -> None:
    (problem,) = check(logopng.check, data)
    assert problem.severity == "warning"
    assert message in problem.message


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8", "WebP"),
        (b"BM\0\0", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"\0\0\1\0", "ICO"),
        (b"\0\0\0\x1cftypavif\0\0", "AVIF"),
        (b"<?xml version='1.0'?>\n<SVG xmlns=''>", "SVG"),
    ],
)
def test_another_image_format_is_a_warning_that_names_it(data: bytes, name: str) -> None:
    (problem,) = check(logopng.check, data)
    assert problem.severity == "warning"
    assert f"is a {name} image" in problem.message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not an image"),
        (b"RIFF\0\0\0\0WAVE", "is not an image"),
        (b"\x89PNG\n", "is not an image"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    ],
)
def test_what_is_no_image_is_an_error(data: bytes, message: str) -> None:
    (problem,) = check(logopng.check, data)
    assert problem.severity == "error"
    assert message in problem.message


# YAML as a tree


def test_a_tree_has_every_kind_of_node_with_its_line() -> None:
    (root,) = yamltree.parse("a:\n  - &x 'b'\n  - ~\n[c]: *x\na: again\n").roots
    listed = root.get("a")
    assert listed is not None
    assert (root.kind, root.line, listed.kind, listed.line) == ("map", 1, "list", 2)
    assert [(item.text, item.style, item.line, item.string()) for item in listed.items] == [
        ("b", "'", 2, "b"),
        ("~", "", 3, None),
    ]
    assert root.pairs[1][0].kind == "list"
    assert root.pairs[1][1] is listed.items[0]
    assert root.get("c") is None
    assert listed.get("a") is None
    assert listed.string() is None


@pytest.mark.parametrize(("levels", "fits"), [(yamltree.DEPTH_MAX, True), (yamltree.DEPTH_MAX + 1, False)])
@pytest.mark.parametrize("opening", ["- ", "["])
def test_nesting_is_read_up_to_the_limit(opening: str, levels: int, fits: bool) -> None:
    text = opening * levels + ("]" * levels if opening == "[" else "x")
    if fits:
        assert len(yamltree.parse(text).roots) == 1
    else:
        with pytest.raises(yamltree.NotYamlError, match="200 levels"):
            yamltree.parse(text)


def test_pyyaml_without_libyaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: 'b'\nc: [d, &e f, *e]\ng: |\n  h\n"
    fast = repr(yamltree.parse(text))
    monkeypatch.setattr(yamltree, "_LOADER", yaml.SafeLoader)
    assert repr(yamltree.parse(text)) == fast
    with pytest.raises(yamltree.NotYamlError) as caught:
        yamltree.parse("a: 1\nb: [\n")
    assert caught.value.line == 3
    with pytest.raises(yamltree.NotYamlError) as caught:
        yamltree.parse("a: 1\nb: \x07")
    assert caught.value.line == 2
