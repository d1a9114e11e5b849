"""`python -m workers QUEUE [--stock]`: the same as `zoompool worker`, without the command line's other parts."""

from __future__ import annotations

import argparse

from broker.jobs import QueueName
from broker.settings import load_settings
from workers.run import run_worker


def main() -> None:
    """Run a worker on the queue that the first argument names."""
    parser = argparse.ArgumentParser(prog="python -m workers")
    parser.add_argument("queue", choices=[name.value for name in QueueName])
    parser.add_argument("--stock", action="store_true", help="RQ's own worker, one job at a time")
    given = parser.parse_args()
    run_worker(QueueName(given.queue), load_settings(), stock=given.stock)


if __name__ == "__main__":
    main()
