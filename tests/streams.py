"""Streams that tests write to."""

from __future__ import annotations

import asyncio
import io


class Noticing(io.StringIO):
    """Text in memory, and an event that says when some came."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def write(self, text: str, /) -> int:
        self.written.set()
        return super().write(text)
