"""`zoompool`, and the same as `python -m broker`."""

from __future__ import annotations

from broker.cli import app


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 one of our errors (one line on stderr), 2 wrong usage."""
    app(prog_name="zoompool")


if __name__ == "__main__":
    main()
