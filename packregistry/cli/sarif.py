"""Problems of packs in SARIF 2.1.0, which code scanning services read.

The format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from packregistry import __version__
from packregistry.model import Json, Problem

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(found: Sequence[tuple[Path, Sequence[Problem]]]) -> Json:
    """The log of one run over pack directories. A problem's rule is the file it is about."""
    rules = sorted({_rule(problem) for _, problems in found for problem in problems})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "packregistry",
                        "version": __version__,
                        "rules": [{"id": rule, "shortDescription": {"text": _about(rule)}} for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(root, problem) for root, problems in found for problem in problems],
            }
        ],
    }


def _rule(problem: Problem) -> str:
    name = problem.file.rpartition("/")[2]
    return (
        name if name in {"pack.json", "values.yaml", "schema.yaml", "presets.yaml", "README.md", "logo.png"} else "pack"
    )


def _about(rule: str) -> str:
    return "A pack can be published and used" if rule == "pack" else f"{rule} is as Palette wants it"


def _result(root: Path, problem: Problem) -> Json:
    text = ": ".join(part for part in (problem.field, problem.message) if part)
    location: Json = {"artifactLocation": {"uri": quote((root / problem.file).as_posix())}}
    if problem.line:
        location["region"] = {"startLine": problem.line}
    return {
        "ruleId": _rule(problem),
        "level": problem.severity,
        "message": {"text": f"{text} ({problem.remedy})" if problem.remedy else text},
        "locations": [{"physicalLocation": location}],
    }
