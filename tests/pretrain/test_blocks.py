"""What is kept of compiled blocks."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from pretrain.engine.blocks import keep_compiled


def test_a_library_that_a_killed_run_left_half_written_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: torch finds the file by its name, and no later run can load it."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # so that it is taken back
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    # ELF of 64 bits whose table of 3 sections of 64 bytes begins at 200
    head = b"\x7fELF\x02\x01" + bytes(34) + struct.pack("<Q10xHH2x", 200, 64, 3)
    assert len(head) == 64
    content = head + bytes(200 - 64 + 3 * 64)
    folder = tmp_path / "rank-0" / "ab"
    folder.mkdir(parents=True)
    parts = {
        "whole": content,
        "real": Path(np._core._multiarray_umath.__file__).read_bytes(),
        "empty": b"",
        "half": content[: len(content) // 2],
        "short": content[:-1],
        "headless": bytes(64) + content[64:],
    }
    for name, part in parts.items():
        (folder / f"{name}.main.so").write_bytes(part)
    (folder / "other.o").write_bytes(b"")
    keep_compiled(tmp_path)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "rank-0")
    assert sorted(f.name for f in folder.iterdir()) == ["other.o", "real.main.so", "whole.main.so"]
