"""Pushing to a hub that runs on this machine: real requests, no network."""

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

import fm
from fm import checkpoint
from fm.cli import main
from fm.errors import FMError, UsageError
from fm.export import Settings, export
from fm.export.push import push
from tests.fm.export.models import saved, vit

OID = "a" * 40


@dataclass
class Hub:
    """What a hub was sent."""

    url: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    commits: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    token: str = "hf_right"

    def files(self) -> dict[str, bytes]:
        """Return the files of the only commit."""
        ((_, lines),) = self.commits
        return {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    kept = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Bearer {kept.token}":
                self.reply(401, {"error": "Invalid credentials"})
            elif self.path == "/api/repos/create":
                kept.created.append(json.loads(body))
                self.reply(
                    200, {"url": f"{kept.url}/me/model", "name": "me/model", "id": "me/model"}
                )
            elif self.path == "/api/validate-yaml":
                self.reply(200, {"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                files = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in json.loads(body)["files"]
                ]
                self.reply(200, {"files": files})
            elif "/commit/" in self.path:
                kept.commits.append((self.path, [json.loads(x) for x in body.splitlines()]))
                url = f"{kept.url}/me/model/commit/{OID}"
                self.reply(200, {"commitUrl": url, "commitOid": OID, "hookOutput": ""})
            else:
                self.reply(404, {"error": self.path})

        def reply(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    yield kept
    server.shutdown()
    server.server_close()


def trained(folder: Path) -> Path:
    model = vit()
    card = replace(
        checkpoint.describe(model, "tiny"),
        licence="CC-BY-4.0",
        objective={"kind": "mae"},
        data={
            "name": "s2",
            "samples": 12,
            "cells": [5, 9, 11],
            "cell_km": 10.0,
            "months": ["2021-06"],
        },
    )
    checkpoint.save(folder / "model", model, card)
    return folder / "model"


def scored(folder: Path, sha256: str) -> None:
    folder.mkdir()
    values = {
        "model": {"weights_sha256": sha256},
        "benchmark": {"name": "eurosat", "version": 1, "task": "classification"},
        "protocol": {"name": "linear", "version": 2},
        "primary": "accuracy",
        "metrics": {"accuracy": {"value": 0.9125, "low": 0.9, "high": 0.92}},
        "seed": 0,
    }
    (folder / "one.json").write_text(json.dumps(values))


def front(readme: str) -> dict[str, Any]:
    return yaml.safe_load(readme.split("---\n")[1])


def test_one_commit_holds_weights_card_and_page(hub: Hub, tmp_path: Path) -> None:
    folder = trained(tmp_path)
    sha256 = checkpoint.read_card(folder).weights_sha256
    scored(tmp_path / "results", sha256)
    done = push(folder, "me/model", results=tmp_path / "results", private=True, endpoint=hub.url)
    assert (done.commit, done.url) == (OID, f"{hub.url}/me/model/commit/{OID}")
    assert hub.created[0]["name"] == "model"
    assert hub.created[0].get("private") or hub.created[0].get("visibility") == "private"
    assert hub.commits[0][0] == "/api/models/me/model/commit/main"
    files = hub.files()
    assert set(files) == {"README.md", "card.json", "model.safetensors"}
    (tmp_path / "back").mkdir()
    for name, data in files.items():
        (tmp_path / "back" / name).write_bytes(data)
    assert fm.load(tmp_path / "back").card == checkpoint.read_card(folder)
    told = front(files["README.md"].decode())
    assert told["license"] == "cc-by-4.0"
    geo = told["geo_embedding"]
    assert geo["dimension"] == 32
    assert geo["gsd_m"] == {"s2l2a_10": 10.0}
    assert geo["bands"]["s2l2a_10"][0]["wavelength_nm"] == pytest.approx(492.4, abs=1)
    assert geo["products"][0]["level"].startswith("L2A")
    assert geo["training_data"][0]["cells"] == 3
    assert geo["weights_sha256"] == sha256
    (result,) = told["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.9125
    assert "| eurosat@1 | linear@2 | accuracy | 0.9125 | 0.9 to 0.92 | 0 |" in done.readme
    assert "[5, 9, 11]" not in done.readme


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(saved(tmp_path, vit()), to="torch-export", out=out, settings=Settings("physical"))
    (out / "model.pt2").unlink()
    with pytest.raises(FMError, match="weights are missing"):
        push(out, "me/model", dry=True)


def test_results_of_other_weights_are_refused(tmp_path: Path) -> None:
    scored(tmp_path / "results", "0" * 64)
    with pytest.raises(FMError, match="none of 1 results is of these weights"):
        push(trained(tmp_path), "me/model", results=tmp_path / "results", dry=True)


def test_an_exported_folder_is_pushed_with_its_own_page(hub: Hub, tmp_path: Path) -> None:
    export(
        saved(tmp_path, vit()), to="timm", out=tmp_path / "out", settings=Settings(tokens=(4, 4))
    )
    push(tmp_path / "out", "me/model", endpoint=hub.url)
    files = hub.files()
    assert {"config.json", "export.json", "model.safetensors"} <= set(files)
    page = files["README.md"].decode()
    assert front(page)["license"] == "unknown"
    assert "timm.create_model" in page
    assert page.count("---\n") == (tmp_path / "out" / "README.md").read_text().count("---\n") + 2


def test_what_the_hub_refuses_is_one_line(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(tmp_path)
    hub.token = "hf_other"
    with pytest.raises(FMError, match=r"the hub refuses \(.*401.*HF_TOKEN"):
        push(folder, "me/model", endpoint=hub.url)
    with pytest.raises(FMError, match="cannot be reached"):
        push(folder, "me/model", endpoint="http://127.0.0.1:9")
    for name in ("model", "a b/c d", "me/", "me/x/y", "../x"):
        with pytest.raises(UsageError, match="OWNER/NAME"):
            push(folder, name, endpoint=hub.url, dry=True)
    with pytest.raises(FMError, match="no such folder of results"):
        push(folder, "me/model", results=tmp_path / "nowhere", dry=True)
    assert main(["models", "push", str(folder), "me/model", "--dry-run"]) == 0
    assert "would push README.md, card.json, model.safetensors" in capsys.readouterr().out
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(FMError, match="the hash is not the one in the card"):
        push(folder, "me/model", endpoint=hub.url)
    assert hub.commits == []
