"""URLs that we open, and what their failures mean."""

import sys
from pathlib import Path

import pytest

from fm.errors import FMError, UsageError
from shards.storage.filesystems import judge
from shards.storage.remote import RemoteStorage


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("s3://bucket/set", FMError, "pip install 's3fs'"),
        ("gs://bucket/set", FMError, "pip install 'gcsfs'"),
        ("http://127.0.0.1:9/set", FMError, r"pip install 'fsspec\[http\]'"),
        ("htp://host/set", UsageError, "unknown scheme 'htp'.*did you mean 'http'"),
        ("file:///set", UsageError, "open the folder by its path"),
        ("simplecache::s3://bucket/set", UsageError, "is not one URL"),
        ("s3:/bucket", UsageError, "is not one URL"),
    ],
)
def test_urls_that_cannot_be_opened(
    url: str, error: type, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("s3fs", "gcsfs", "aiohttp"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(error, match=text) as caught:
        RemoteStorage(url, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def _error(name: str, **attributes: object) -> Exception:
    return type(name, (Exception,), attributes)("words")


@pytest.mark.parametrize(
    ("error", "cause", "verdict"),
    [
        (FileNotFoundError("x"), None, "missing"),
        (FileNotFoundError("x"), _error("ClientResponseError", status=404), "missing"),
        (FileNotFoundError("x"), _error("ClientResponseError", status=503), "passing"),
        (FileNotFoundError("x"), _error("ServerDisconnectedError"), "passing"),
        (FileNotFoundError("x"), TimeoutError(), "passing"),
        (_error("HttpError", code=429), None, "passing"),
        (_error("HttpError", code=401), None, "refused"),
        (
            OSError("x"),
            _error("ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 500}}),
            "passing",
        ),
        (
            PermissionError("x"),
            _error("ClientError", response={"ResponseMetadata": {"HTTPStatusCode": 403}}),
            "refused",
        ),
        (_error("NoCredentialsError"), None, "refused"),
        (PermissionError("x"), None, "refused"),
        (ValueError("bad url"), None, "refused"),
        (ConnectionResetError(), None, "passing"),
    ],
)
def test_what_a_failure_means(error: Exception, cause: Exception | None, verdict: str) -> None:
    error.__cause__ = cause
    assert judge(error)[0] == verdict
