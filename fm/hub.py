"""Addresses of files on a model hub, and which revision it has now."""

import os
import re
from dataclasses import dataclass
from urllib.parse import quote

import requests

from fm.errors import FMError, UsageError

COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_RESOLVED = re.compile(r"https://[^/]+/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)")


@dataclass(frozen=True)
class HubFile:
    """A file of a hub's repository.

    Attributes:
        repo: `owner/name`.
        path: inside it.
        revision: the commit; empty where none is known.
    """

    repo: str
    path: str
    revision: str = ""

    def url(self) -> str:
        """Return where the endpoint serves it.

        Raises:
            UsageError: no revision.
        """
        if not COMMIT.fullmatch(self.revision):
            raise UsageError(f"{self.repo}: {self.revision or 'no revision'!r} is no commit")
        return f"{endpoint()}/{self.repo}/resolve/{self.revision}/{quote(self.path)}"


def is_repository(name: str) -> bool:
    """Say whether a name can be one of a hub, `OWNER/NAME`; `./mine` is a folder."""
    return _REPOSITORY.fullmatch(name) is not None


def parse(url: str) -> HubFile | None:
    """Read an address that names a commit, such as torchgeo's enums have; None for another."""
    found = _RESOLVED.fullmatch(url)
    return HubFile(found[1], found[3], found[2]) if found else None


def endpoint() -> str:
    """Return the hub's address: `HF_ENDPOINT` (a mirror), or huggingface_hub's own."""
    if told := os.environ.get("HF_ENDPOINT", "").strip():
        if not re.match(r"https?://[^/]", told):
            raise UsageError(f"HF_ENDPOINT={told}: not an address; it begins with https://")
        return told.rstrip("/")
    from huggingface_hub import constants

    return str(constants.ENDPOINT).rstrip("/")


def newest(repo: str, *, seconds: float = 10.0) -> str:
    """Ask which commit a repository's main branch is at.

    Raises:
        FMError: the hub cannot be reached or does not say.
    """
    address = f"{endpoint()}/api/models/{repo}"
    try:
        answer = requests.get(address, timeout=seconds)
        sha = str(answer.json().get("sha", "")) if answer.ok else ""
    except (requests.RequestException, ValueError, AttributeError):
        sha = ""
    if not COMMIT.fullmatch(sha):
        raise FMError(f"{address}: the hub does not say its newest revision; give --revision")
    return sha
