import io

import pytest

from medssl.ingest import discover
from medssl.ingest.records import File, Reject


def test_a_file_that_fails_while_it_is_read_is_rejected_and_ends_no_run(tmp_path, monkeypatch):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    path = tmp_path / "scan.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setattr(discover, "open_file", lambda file: Failing())
    with pytest.raises(Reject) as verdict:
        discover.sniff(File(str(path), "scans", "scan.png", 8, 0, "f0"))
    assert verdict.value.code == "unreadable"
