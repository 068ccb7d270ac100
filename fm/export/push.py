"""Folders to the Hugging Face hub, in one commit."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm import checkpoint, weights
from fm.card import Card
from fm.errors import FMError, UsageError
from fm.export.hub_card import page, results_in
from fm.export.written import REPORT
from fm.files import sha256_file
from fm.hub import is_repository


@dataclass(frozen=True)
class Pushed:
    """What went to the hub.

    Attributes:
        repo: OWNER/NAME.
        files: their paths.
        readme: the page.
        commit: hash of the commit, None where nothing was sent.
        url: of the commit.
    """

    repo: str
    files: tuple[str, ...]
    readme: str
    commit: str | None = None
    url: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "repo": self.repo,
            "files": list(self.files),
            "commit": self.commit,
            "url": self.url,
        }


_SAID = {checkpoint.CARD, checkpoint.README, REPORT}
"""Files that speak of a model and are none."""


def files_of(folder: Path) -> list[Path]:
    """Return the files of a checkpoint or an export, hidden ones left out.

    Raises:
        FMError: the weights are missing, or not those of the card.
    """
    weights = folder / checkpoint.WEIGHTS
    card = checkpoint.read_card(folder)
    ours = not (folder / "config.json").exists()  # timm's weights are under other keys
    if ours and weights.is_file() and sha256_file(weights) != card.weights_sha256:
        raise FMError(f"{weights}: the hash is not the one in the card; the folder is damaged")
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    inside = [path for path in found if not _hidden(path.relative_to(folder))]
    if {str(path.relative_to(folder)) for path in inside} <= _SAID:
        raise FMError(f"{folder}: weights are missing; push a checkpoint or an exported folder")
    return inside


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.parts)


def push(
    folder: str | os.PathLike[str],
    repo: str,
    *,
    results: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    private: bool = False,
    message: str | None = None,
    dry: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Put a checkpoint or an exported folder on the hub, with a page made from its card.

    The token is the one of `huggingface-cli login` or `HF_TOKEN`. The repository is made if need
    be. All files go up in one commit, so that whoever pulls a revision has all of one model.

    Args:
        folder: a checkpoint folder or `eofm/NAME`, or a folder that `export` wrote.
        repo: OWNER/NAME.
        results: folder of probe results for the page.
        revision: branch, the main one when None.
        private: of a repository that is made.
        message: of the commit.
        dry: send nothing.
        endpoint: of another hub.

    Raises:
        UsageError: `repo` is no OWNER/NAME.
        FMError: the folder is damaged, or the hub refuses or cannot be reached.
    """
    if not is_repository(repo):
        raise UsageError(f"{repo!r}: a repository is OWNER/NAME")
    folder = weights.place(folder)
    card, paths = checkpoint.read_card(folder), files_of(folder)
    scores = results_in(results, card) if results is not None else []
    text = page(card, scores, _body(folder, card))
    names = [str(path.relative_to(folder)) for path in paths]
    names = sorted({*names, checkpoint.README})
    if dry:
        return Pushed(repo, tuple(names), text)
    contents = {
        name: text.encode() if name == checkpoint.README else folder / name for name in names
    }
    told = message or f"{card.name}, weights {card.weights_sha256[:12]}"
    commit, url = _send(contents, repo, revision, private, told, endpoint)
    return Pushed(repo, tuple(names), text, commit, url)


def _body(folder: Path, card: Card) -> str:
    path = folder / checkpoint.README
    body = path.read_text(encoding="utf-8") if path.is_file() else card.readme()
    if body.startswith("---\n"):  # the page of a folder that came from the hub
        body = body.split("\n---\n", 1)[-1]
    return body


def _send(
    contents: Mapping[str, bytes | Path],
    repo: str,
    revision: str | None,
    private: bool,
    message: str,
    endpoint: str | None,
) -> tuple[str, str]:
    from huggingface_hub import CommitOperationAdd, HfApi, errors
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
    )

    # of its HTTP client, which was requests and is httpx
    broken = getattr(errors, "HTTPError", OSError)

    api = HfApi(endpoint=endpoint, library_name="eofm")
    operations: Sequence[Any] = [
        CommitOperationAdd(path_in_repo=name, path_or_fileobj=value)
        for name, value in contents.items()
    ]
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        done = api.create_commit(
            repo, operations=operations, commit_message=message, revision=revision
        )
    except LocalTokenNotFoundError:
        raise FMError(f"{repo}: no token; log in with `hf auth login` or set HF_TOKEN") from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        hint = "; log in with `hf auth login` or set HF_TOKEN" if status in (401, 403) else ""
        raise FMError(f"{repo}: the hub refuses ({_first(error)}){hint}") from None
    except HFValidationError as error:
        raise UsageError(f"{repo}: {_first(error)}") from None
    except (broken, OSError) as error:
        raise FMError(f"{repo}: the hub cannot be reached ({_first(error)})") from None
    return str(done.oid), str(done.commit_url)


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
