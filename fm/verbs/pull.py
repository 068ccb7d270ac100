"""`fm models pull`: released weights by name, eofm's own, and checkpoints that were pushed."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm.verbs import said

if TYPE_CHECKING:
    from fm.pull.pulled import Pulled


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "name",
        help="of fm models list, of one of torchgeo's weight enums, or OWNER/NAME of a checkpoint "
        "that fm models push put on the hub",
    )
    parser.add_argument("--to", metavar="FOLDER", help="checkpoint folder to write; NAME if absent")
    parser.add_argument("--from", dest="source", metavar="FILE", help="a file at hand, not the hub")
    parser.add_argument("--file", metavar="PATH", help="only the verified file, not converted")
    parser.add_argument("--sha256", default="", metavar="DIGITS", help="of the file, all 64")
    parser.add_argument("--revision", default="", metavar="COMMIT", help="of the repository")
    parser.add_argument(
        "--accept-unpinned", action="store_true", help="go on though revision or hash is not known"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    said.configure(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, verify, convert, and tell what was written."""
    from fm.errors import UsageError
    from fm.foreign import catalogue
    from fm.hub import is_repository
    from fm.pull.released import pull
    from fm.weights import is_carried

    if is_carried(arguments.name):
        return _whole(arguments, "came with eofm, card and hash beside it", ())
    if is_repository(arguments.name):
        pins = ("sha256", "revision", "accept_unpinned", "max_bytes")
        return _whole(arguments, "is a whole checkpoint, taken as it is", pins)
    if arguments.file and arguments.to:
        raise UsageError("--file writes the file alone and --to a checkpoint; give one of them")
    item = catalogue.find(arguments.name)
    done = pull(
        arguments.name,
        arguments.file or arguments.to or item.name,
        file=arguments.source,
        sha256=arguments.sha256,
        revision=arguments.revision,
        accept_unpinned=arguments.accept_unpinned,
        raw=arguments.file is not None,
        overwrite=arguments.overwrite,
        **said.said(arguments, arguments.name),
    )
    if arguments.json:
        print(json.dumps(_told(done), indent=2))
        return 0
    if done.report is not None:
        print(done.report.text())
    print(f"{done.name}: {done.parent}; licence {done.licence}")
    print(f"written to {done.path}")
    return 0


def _whole(arguments: argparse.Namespace, why: str, pins: tuple[str, ...]) -> int:
    """Get a checkpoint that needs no conversion.

    Args:
        arguments: parsed.
        why: most of them say nothing of it.
        pins: the names of those that do, beside where to write.
    """
    from fm.errors import UsageError
    from fm.pull.released import pull

    parser = argparse.ArgumentParser()
    configure(parser)
    plain = vars(parser.parse_args([arguments.name]))
    taken = {"name", "to", "overwrite", "json", "run", *pins}
    unused = [k for k, v in plain.items() if k not in taken and getattr(arguments, k) != v]
    if unused:
        raise UsageError(
            f"{arguments.name} {why}; leave out "
            f"{', '.join('--' + {'source': 'from'}.get(k, k).replace('_', '-') for k in unused)}"
        )
    given = {k: getattr(arguments, k) for k in pins if getattr(arguments, k) is not None}
    path = Path(arguments.to or arguments.name.rpartition("/")[2])
    done = pull(arguments.name, path, overwrite=arguments.overwrite, **given)
    if arguments.json:
        print(json.dumps(_told(done), indent=2))
    else:
        where = done.parent if pins else f"sha256 {done.sha256}"
        print(f"{done.name}: {where}; licence {done.licence}")
        print(f"written to {done.path}")
    return 0


def _told(done: "Pulled") -> dict[str, Any]:
    """Return what was written as values of JSON."""
    return {
        "name": done.name,
        "path": str(done.path),
        "sha256": done.sha256,
        "parent": done.parent,
        "licence": done.licence,
        "report": None if done.report is None else done.report.to_dict(),
    }
