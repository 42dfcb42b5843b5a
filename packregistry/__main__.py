"""`python -m packregistry`."""

from packregistry.cli import main

main(prog_name="packregistry")
