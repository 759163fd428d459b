"""A recording that is being read while its connection ends."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest
import soundfile

from sottovoce.serve.protocol import RefusedError
from sottovoce.serve.upload import Upload


def test_a_file_is_closed_by_whoever_reads_it_last(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    begun, ended, said = threading.Event(), threading.Event(), list[bool]()
    read = soundfile.SoundFile.read

    def slowly(self: soundfile.SoundFile, *arguments: object, **options: object) -> object:
        begun.set()
        assert ended.wait(60)
        said.append(self.closed)
        return read(self, *arguments, **options)

    content = recording.read_bytes()
    with Upload(recording.name, len(content)) as upload:
        upload.write(content)
        upload.finish()
        _, blocks = upload.open(1.0, 60.0)
        assert len(next(blocks)) == 22_050
        monkeypatch.setattr(soundfile.SoundFile, "read", slowly)
        reader = threading.Thread(target=lambda: next(blocks))
        reader.start()
        assert begun.wait(60)
    assert any(tmp_path.iterdir())
    ended.set()
    reader.join()
    assert said == [False] and not any(tmp_path.iterdir())
    with pytest.raises(RefusedError, match="the connection has ended"):
        next(blocks)
