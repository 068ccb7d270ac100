"""`fm models pull`: released weights by name, and those that eofm carries."""

import argparse
import json
from pathlib import Path

from fm.verbs import said


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", help="of fm models list, or of one of torchgeo's weight enums")
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
    from fm.pull.released import pull
    from fm.weights import is_carried

    if is_carried(arguments.name):
        return _carried(arguments)
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
        values = {
            "name": done.name,
            "path": str(done.path),
            "sha256": done.sha256,
            "parent": done.parent,
            "licence": arguments.licence or item.licence,
            "report": None if done.report is None else done.report.to_dict(),
        }
        print(json.dumps(values, indent=2))
        return 0
    if done.report is not None:
        print(done.report.text())
    print(f"{done.name}: {done.parent}; licence {arguments.licence or item.licence}")
    print(f"written to {done.path}")
    return 0


def _carried(arguments: argparse.Namespace) -> int:
    """Copy weights that came with eofm; nothing is fetched, and nothing is left to say of them."""
    from fm import weights
    from fm.errors import UsageError

    parser = argparse.ArgumentParser()
    configure(parser)
    plain = vars(parser.parse_args([arguments.name]))
    taken = ("name", "to", "overwrite", "json", "run")
    unused = [k for k, v in plain.items() if k not in taken and getattr(arguments, k) != v]
    if unused:
        raise UsageError(
            f"{arguments.name} came with eofm, card and hash beside it; leave out "
            f"{', '.join('--' + {'source': 'from'}.get(k, k).replace('_', '-') for k in unused)}"
        )
    path = Path(arguments.to or arguments.name.removeprefix(weights.PREFIX))
    card = weights.copy(arguments.name, path, overwrite=arguments.overwrite)
    if arguments.json:
        values = {
            "name": arguments.name,
            "path": str(path),
            "sha256": card["weights_sha256"],
            "parent": card["parent"],
            "licence": card["licence"],
            "report": None,
        }
        print(json.dumps(values, indent=2))
    else:
        print(f"{arguments.name}: sha256 {card['weights_sha256']}; licence {card['licence']}")
        print(f"written to {path}")
    return 0
