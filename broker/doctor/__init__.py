"""Checks of everything that a deployment needs, as data: each says what is so and, if that is wrong, what to do.

Nothing here prints, and nothing is changed. How jobs are run is none of the broker's business, so the checks of queues,
workers and the scheduler are in `workers.health`; `zoompool doctor` puts all together.
"""

from broker.doctor.finding import Finding, Level, failure

__all__ = ["Finding", "Level", "failure"]
