"""A stand-in for the refresh process that starts at once: it replies what a test has written into the cache folder.

A file `reply.json` there holds the state that it reports, and a file `die` ends it at the next request. Each request is
appended to `requests.jsonl`.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from wineexp.serving.refresh.messages import ExplanationReply, RefreshRequest, WorkerStart, serve_requests


def main() -> None:
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=WorkerStart)
    folder = Path(start.cache)

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    def handle(request: RefreshRequest, send: Callable[[Any], None]) -> None:
        with (folder / "requests.jsonl").open("ab") as log:
            log.write(msgspec.json.encode({"pid": os.getpid(), "request": request}) + b"\n")
        if (folder / "die").exists():
            (folder / "die").unlink()
            os._exit(1)
        if request.kind == "check":
            send(msgspec.Raw((folder / "reply.json").read_bytes()))
        else:
            send(ExplanationReply(200, msgspec.Raw(b'"explained"')))

    threading.Thread(target=end_with_parent, daemon=True).start()
    serve_requests(socket.socket(fileno=start.listener), handle)


if __name__ == "__main__":
    main()
