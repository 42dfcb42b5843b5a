"""The least that aiohttp and uvloop can do: every request is answered with the same bytes.

No router to speak of, no log, no headers but the length and the type. What a server on aiohttp takes beyond this is its
own doing.

Usage: python benchmarks/bare.py FILE [--type application/json]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop
from aiohttp import web


def main() -> int:
    """Serve on a free port of the loopback interface, and say which, until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--type", default="application/json")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(args.file.read_bytes(), args.type))
    return 0


async def serve(body: bytes, content_type: str) -> None:
    """Answer with `body` until cancelled."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"bare at http://127.0.0.1:{runner.addresses[0][1]}\n", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
