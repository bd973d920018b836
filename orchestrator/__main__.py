"""Entry point of the `ablate` command: small, so that Ctrl-C is answered while everything else is still imported."""

import os
import sys


def main() -> None:
    """Import and run the command."""
    try:
        from orchestrator.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.stderr.flush()
        os._exit(130)  # the threads of libraries would take their time


if __name__ == "__main__":
    main()
