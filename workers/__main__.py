"""`python -m workers QUEUE`: the same as `zoompool worker QUEUE`, without the command line's other parts."""

from __future__ import annotations

import sys

from broker.jobs import QueueName
from broker.settings import load_settings
from workers.run import run_worker


def main() -> None:
    """Run a worker on the queue that the first argument names."""
    names = [name.value for name in QueueName]
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        raise SystemExit(f"usage: python -m workers {{{'|'.join(names)}}}")
    run_worker(QueueName(sys.argv[1]), load_settings())


if __name__ == "__main__":
    main()
