"""fsspec: the filesystem of a URL, and what its failures mean."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import fsspec
from fsspec.registry import known_implementations

from fm.errors import FMError, UsageError, suggest

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.")
_PACKAGES = {
    "http": "fsspec[http]",
    "https": "fsspec[http]",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
}


def scheme_of(url: str) -> str:
    """Return the scheme of a URL that we may open."""
    match = _SCHEME.match(url)
    if match is None or "::" in url:
        raise UsageError(
            f"{url!r} is not one URL such as https://host/folder or s3://bucket/folder"
        )
    scheme = match[1]
    if scheme in ("file", "local"):
        raise UsageError(f"{url}: open the folder by its path")
    if scheme not in fsspec.available_protocols():
        known = suggest(scheme, sorted(known_implementations))
        raise UsageError(f"unknown scheme {scheme!r} in a URL; {known}")
    return scheme


def open_filesystem(scheme: str, url: str, timeout: float, options: Mapping[str, Any]) -> Any:
    """Open the filesystem of a scheme, or say which package is missing."""
    settings = dict(options)
    try:
        if scheme in ("http", "https"):
            import aiohttp

            limit = aiohttp.ClientTimeout(total=None, connect=timeout, sock_read=timeout)
            settings["client_kwargs"] = {"timeout": limit, **settings.get("client_kwargs", {})}
            # a server that compresses would give ranges of other bytes
            settings["headers"] = {**settings.get("headers", {}), "Accept-Encoding": "identity"}
        return fsspec.filesystem(scheme, skip_instance_cache=True, **settings)
    except ImportError as error:
        home = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
        package = _PACKAGES.get(scheme) or (home if home != "fsspec" else "")
        todo = f"pip install '{package}'" if package else str(error)
        raise FMError(f"{url}: {scheme}:// needs a package that is not here; {todo}") from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what caused it, outermost first."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that an error of aiohttp, gcsfs, botocore or azure carries."""
    response = getattr(error, "response", None)
    answer = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    # a body that was cut off has the code 400 inside aiohttp, which no server sent
    code = None if type(error).__module__.startswith("aiohttp.") else getattr(error, "code", None)
    for value in (
        getattr(error, "status", None),
        getattr(error, "status_code", None),
        code,
        answer.get("HTTPStatusCode"),
    ):
        if isinstance(value, int) and 100 <= value < 600:
            return value
    return None


def judge(error: BaseException) -> tuple[str, str]:
    """Say what a failure of a filesystem means.

    fsspec reports every failure of a HEAD request as FileNotFoundError, so what caused an error
    counts for more than its type.

    Returns:
        `missing` (no such file), `refused` (asking again gives the same) or `passing`; and what
        happened, in words.
    """
    links = list(_causes(error))
    for link in links:
        status = _status(link)
        if status is not None:
            passing = status >= 500 or status in (408, 425, 429)
            kind = "passing" if passing else "missing" if status == 404 else "refused"
            return kind, f"HTTP status {status}"
    inner = links[-1]
    said = f"{type(inner).__name__}: {inner}".rstrip(": ").splitlines()[0]
    if isinstance(inner, FileNotFoundError):
        return "missing", said
    refused = (PermissionError, ValueError, TypeError, AttributeError, RuntimeError)
    if isinstance(inner, refused) or "Credentials" in type(inner).__name__:
        return "refused", said
    return "passing", said
