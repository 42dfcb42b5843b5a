"""A self-hosted registry server for Spectro Cloud packs."""

__version__ = "0.1.0"
