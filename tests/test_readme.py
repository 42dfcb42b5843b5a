"""README says what is true."""

from __future__ import annotations

import re
from pathlib import Path

from packregistry import config
from packregistry.web.routes import routes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_configuration_table_is_the_one_of_the_options() -> None:
    found = re.search(r"<!-- options:.*?-->\n(.*?)\n<!-- /options -->", README, re.DOTALL)
    assert found
    assert found[1].strip() == config.markdown_table().strip(), "run: python tests/test_readme.py"


def test_every_route_is_in_the_table_of_what_it_speaks() -> None:
    for route in routes():
        words = [part for part in route.path.split("/") if part and not part.startswith("{")]
        assert all(word in README for word in words), route.path


def test_files_that_are_linked_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


if __name__ == "__main__":
    table = f"-->\n{config.markdown_table().strip()}\n<!-- /options -->"
    (ROOT / "README.md").write_text(
        re.sub(r"-->\n.*?<!-- /options -->", lambda _: table, README, count=1, flags=re.DOTALL)
    )
