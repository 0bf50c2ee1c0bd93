"""Data sets whose file is named by an address: fetched once, pinned, and refused where pin and address disagree."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from wineexp import UserError
from wineexp.core import paths
from wineexp.data import pin
from wineexp.data.datasets import table

CONTENT = b"size,kind\n1,a\n2,b\n"
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a site with two tables; `paths.ROOT` is a folder of the test's own."""
    served, project = tmp_path / "served", tmp_path / "project"
    served.mkdir()
    project.mkdir()
    monkeypatch.setattr(paths, "ROOT", project)
    for name in ("own table.csv", "other.csv"):
        (served / name).write_bytes(CONTENT)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_is_fetched_once_and_pinned(site: str, tmp_path: Path) -> None:
    url = f"{site}/own%20table.csv?raw=1"
    dataset = table([url, f"{site}/other.csv#md5={MD5}"])
    assert dataset.frame["size"].tolist() == [1, 2, 1, 2]
    pinned = pin.read("data/raw/own table.csv")
    assert (pinned.source_url, pinned.md5, dataset.pins[0]) == (url, MD5, pinned)
    for file in (tmp_path / "served").iterdir():
        file.unlink()
    assert len(table(f"{url}#md5={MD5}").frame) == 2
    # As for every pin: other bytes are refused, and a missing file is asked for again where the pin says.
    pinned.path.write_bytes(CONTENT + b"3,a\n")
    with pytest.raises(UserError, match=r"own table\.csv has 22 bytes .* pins 18"):
        table(url)


def test_another_file_is_not_taken_for_that_of_an_address(site: str) -> None:
    url, wrong = f"{site}/other.csv", "0" * 32
    with pytest.raises(UserError, match=f"{url}: refused, since the md5 {wrong} is wanted, and .* has {MD5}"):
        table(f"{url}#md5={wrong}")
    assert not (paths.ROOT / "data/raw").exists()
    table(url)
    with pytest.raises(UserError, match=rf"the md5 {wrong} is wanted, and data/raw/other\.csv\.dvc pins {MD5}"):
        table(f"{url}#md5={wrong}")
    with pytest.raises(UserError, match=rf"elsewhere\.example/other\.csv: data/raw/other\.csv is from {url}; move"):
        table("https://elsewhere.example/other.csv")
    (paths.ROOT / "data/raw/other.csv.dvc").unlink()
    with pytest.raises(UserError, match=r"data/raw/other\.csv is there already, and nothing says that it is from"):
        table(url)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9/", "the address names no file"),
        ("http://127.0.0.1:9/a.csv#first", "#first is no md5; write #md5= and 32 hexadecimal digits"),
        ("http://127.0.0.1:9/a.csv", "cannot be fetched: .*refused"),
    ],
)
@pytest.mark.usefixtures("site")
def test_an_address_without_a_file_is_refused(address: str, message: str) -> None:
    with pytest.raises(UserError, match=f"{address}.*{message}"):
        table(address)
