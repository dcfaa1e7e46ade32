"""`python -m carryover` and the `carryover` command; each command imports only what it needs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its exit code."""
    from carryover.commands.cli import cli
    from carryover.commands.encoding import write_any_letter
    from carryover.commands.namesake import namesake

    write_any_letter()
    if said := namesake():
        print(f"warning: {said}", file=sys.stderr)
    sys.exit(cli())


if __name__ == "__main__":
    main()
