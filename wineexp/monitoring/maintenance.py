"""Makes segments of a folder's closed journals and deletes what is too old; a server starts it now and then.

python -m wineexp.monitoring.maintenance FOLDER MAX_AGE_DAYS MAX_BYTES
"""

import sys
from pathlib import Path

from wineexp.monitoring import segments


def main(folder: str, max_age_days: str, max_bytes: str) -> None:
    """Maintain a folder once; an empty limit is none."""
    segments.seal(Path(folder))
    segments.remove_old(
        Path(folder),
        max_age_seconds=86_400 * float(max_age_days) if max_age_days else None,
        max_bytes=int(max_bytes) if max_bytes else None,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
