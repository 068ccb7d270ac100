import argparse
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fm.errors import FMError, UsageError
from fm.foreign import read
from tests.fm.foreign.states import converted, state_of


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_a_malicious_pickle_does_not_execute(tmp_path: Path, form: str) -> None:
    mark, path = tmp_path / "ran", tmp_path / "weights.pth"
    content = {"model": {"a": torch.ones(2)}, "args": Evil(mark)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps({"a": Evil(mark)}, protocol=int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(FMError, match="refused, nothing of it was run") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert "system" in str(caught.value)
    assert not mark.exists()
    pickle.loads(pickle.dumps({"a": Evil(mark)}))
    assert mark.exists(), "the crafted pickle must be one that would have run"


def test_namespace_is_allowed_and_other_classes_are_not(tmp_path: Path) -> None:
    path = tmp_path / "mae.pth"
    args = argparse.Namespace(lr=1e-3, model="mae_vit_large_patch16")
    torch.save({"model": {"a": torch.ones(2)}, "args": args, "epoch": 3, "scaler": {}}, path)
    reading = read(path)
    assert list(reading.state) == ["a"]
    assert reading.part == "model"
    assert reading.beside == ("args", "epoch", "scaler")
    assert len(reading.sha256) == 64
    torch.save({"model": {"a": torch.ones(2)}, "args": Path("x")}, path)
    with pytest.raises(FMError, match="refused, nothing of it was run: the pickle names pathlib"):
        read(path)


def test_safetensors_and_prefixes(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"module.backbone.a": torch.ones(2), "module.backbone.b": torch.ones(3)}, str(path))
    reading = read(path)
    assert list(reading.state) == ["a", "b"]
    assert reading.prefix == "module.backbone."
    assert list(read({"module.a": torch.ones(1), "b": torch.ones(1)}).state) == ["module.a", "b"]
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{garbage")
    with pytest.raises(FMError, match="not a safetensors file"):
        read(path)


def test_two_sets_of_weights_must_be_chosen_from() -> None:
    state = {"model": {"a": torch.ones(1)}, "model_ema": {"a": torch.zeros(1)}, "epoch": 3}
    with pytest.raises(FMError, match="say which by part="):
        read(state)
    assert read(state, part="model").state["a"] == 1
    with pytest.raises(UsageError, match="no part 'x'"):
        read({"model": state["model"]}, part="x")


def test_of_teacher_and_student_the_teacher_is_taken_and_told() -> None:
    state = {"student": {"a": torch.zeros(1)}, "teacher": {"a": torch.ones(1)}, "epoch": 3}
    reading = read(state)
    assert reading.state["a"] == 1
    assert reading.notes == ("weights of the file's teacher; also there: student",)
    assert read(state, part="student").state["a"] == 0
    assert not read(state, part="student").notes
    with pytest.raises(UsageError, match="no part 'x'"):
        read(state, part="x")


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(1000)}, path)
    with pytest.raises(FMError, match="above the limit of 1,000"):
        read(path, max_bytes=1000)
    with pytest.raises(FMError, match="2 tensors, above the limit of 1"):
        read({"a": torch.ones(1), "b": torch.ones(1)}, max_tensors=1)
    with pytest.raises(FMError, match="bytes of tensors, above"):
        read({"a": torch.ones(1000)}, max_bytes=1000)
    # one number that claims a million places must not become a million numbers
    with pytest.raises(FMError, match=r"a says \[1000, 1000\] but stores 4 bytes"):
        read({"a": torch.ones(1).expand(1000, 1000)})
    with pytest.raises(FMError, match="not a plain dense tensor"):
        read({"a": torch.eye(3).to_sparse()})


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(100_000)}, whole)
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(item.filename, old.read(item))
    assert path.stat().st_size < 20_000
    with pytest.raises(FMError, match="unpacks to"):
        read(path, max_bytes=20_000)
    with pytest.raises(FMError, match="is compressed"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04broken"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(FMError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(FMError, match="no such file"):
        read(tmp_path / "none.pth")
    with pytest.raises(FMError, match="no tensors"):
        read({"epoch": 3})


def test_aliases_are_compared() -> None:
    state = state_of("spectral_lightning")
    key = "encoder.vit.blocks.1.mlp.fc2.bias"
    assert len(read(state).aliases) == sum(
        not k.startswith("encoder.vit.spec_vit.")
        and k.startswith("encoder.vit.")
        and "head" not in k
        for k in state
    )
    with pytest.raises(FMError, match=f"{key} should repeat encoder.vit.spec_vit.vit_core.blocks"):
        converted("spectral_lightning", {**state, key: state[key] + 1})


@pytest.mark.parametrize("zipped", [True, False])
def test_a_storage_that_claims_more_than_the_file_holds(tmp_path: Path, zipped: bool) -> None:
    saved = io.BytesIO()
    torch.save({"a": torch.arange(1000.0)}, saved, _use_new_zipfile_serialization=zipped)
    thousand, claim = b"M\xe8\x03", b"J\x00e\xcd\x1d"  # pickled 1000 and 500,000,000
    path = tmp_path / "w.pth"
    if zipped:
        with zipfile.ZipFile(saved) as old, zipfile.ZipFile(path, "w") as new:
            for item in old.infolist():
                data = old.read(item.filename)
                if item.filename.endswith("data.pkl"):
                    assert thousand in data
                    data = data.replace(thousand, claim)
                new.writestr(item.filename, data)
    else:
        path.write_bytes(saved.getvalue().replace(thousand, claim))
    with pytest.raises(FMError, match="not a weight file that can be read"):
        read(path)
