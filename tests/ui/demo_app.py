"""Runs the demonstration service of docs/demo.py on the port that it is told, and tells each request."""

from __future__ import annotations

import asyncio
import logging
import runpy
import sys
from pathlib import Path

from tornado.log import enable_pretty_logging

DEMO = Path(__file__).parents[2] / "docs" / "demo.py"


async def main(port: int) -> None:
    demo = runpy.run_path(str(DEMO))
    routes = [("/", demo["Page"]), ("/events", demo["Events"]), ("/socket", demo["Socket"]), ("/upload", demo["Upload"])]
    demo["Application"](routes, port=port).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.INFO)
    enable_pretty_logging()
    asyncio.run(main(int(sys.argv[1])))
