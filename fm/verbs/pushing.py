"""`fm models push`: a folder to the Hugging Face hub."""

import argparse
import json


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("folder", help="a checkpoint, or a folder of fm models export")
    parser.add_argument("repo", metavar="OWNER/NAME", help="repository; made if need be")
    parser.add_argument("--results", metavar="FOLDER", help="probe results for the page")
    parser.add_argument("--revision", metavar="BRANCH", help="to push to; the main one if absent")
    parser.add_argument("--private", action="store_true", help="where the repository is made")
    parser.add_argument("--message", help="of the commit")
    parser.add_argument("--endpoint", metavar="URL", help="of another hub")
    parser.add_argument("--dry-run", action="store_true", help="print the page, send nothing")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Push, and tell the commit that pins what was sent."""
    from fm.export.push import push

    done = push(
        arguments.folder,
        arguments.repo,
        results=arguments.results,
        revision=arguments.revision,
        private=arguments.private,
        message=arguments.message,
        dry=arguments.dry_run,
        endpoint=arguments.endpoint,
    )
    if arguments.json:
        print(json.dumps(done.to_dict(), indent=2))
    elif arguments.dry_run:
        print(done.readme)
        print(f"would push {', '.join(done.files)} to {done.repo}")
    else:
        print(f"{len(done.files)} files to {done.repo}, commit {done.commit}: {done.url}")
    return 0
