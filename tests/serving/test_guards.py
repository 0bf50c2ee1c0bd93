"""Bodies are parsed where they make no others wait."""

import asyncio
import gzip
import threading

from wineexp.serving.http import guards
from wineexp.serving.http.guards import MAX_INLINE_BYTES, Body, parse_body


def test_a_small_body_does_not_wait_for_large_ones_also_where_it_is_compressed() -> None:
    def compressed(size: int) -> Body:
        return Body(gzip.compress(bytes(size)), "application/json", "gzip", 2**22)

    async def parse() -> None:
        read = threading.Event()
        guards._reader.submit(read.wait, 20)
        try:
            for size in (3, MAX_INLINE_BYTES):
                assert await asyncio.wait_for(parse_body(len, compressed(size)), 5) == size
            large = asyncio.ensure_future(parse_body(len, compressed(MAX_INLINE_BYTES + 1)))
            await asyncio.sleep(0.05)
            assert not large.done()
        finally:
            read.set()
        assert await large == MAX_INLINE_BYTES + 1

    asyncio.run(parse())
