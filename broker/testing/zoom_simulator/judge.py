"""The judge: what a user of Zoom did wrong, seen from inside of Zoom and from nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from broker.testing.zoom_simulator.entities import Meeting, zulu


class Consequence(StrEnum):
    """What Zoom did about one meeting too many."""

    ENDED_OTHER = "ended_other"
    REFUSED_START = "refused_start"


@dataclass(frozen=True)
class Overlap:
    """A moment in which a host was made to run more meetings than its capacity.

    Attributes:
        host: its e-mail.
        capacity: how many it may run.
        meetings: ids of those that ran, and last the one that was started too.
        agendas: their agendas, which tell whose they are, in the same order.
        at: when.
        consequence: what Zoom did about it.
        thrown_out: how many people lost their meeting by it.
    """

    host: str
    capacity: int
    meetings: tuple[int, ...]
    agendas: tuple[str, ...]
    at: str
    consequence: Consequence
    thrown_out: int


class Judge:
    """Keeps the record. The world tells it everything; no caller of the API can keep something from it."""

    def __init__(self) -> None:
        self.overlaps: list[Overlap] = []
        self.meetings_created = 0
        self.meetings_started = 0
        self.meetings_ended = 0
        self.meetings_deleted = 0
        self._existing: dict[int, Meeting] = {}
        self._peak: Counter[str] = Counter()

    def created(self, meeting: Meeting) -> None:
        """A meeting exists from now on."""
        self.meetings_created += 1
        self._existing[meeting.id] = meeting

    def started(self, meeting: Meeting) -> None:
        """A meeting runs; its host's `running` has it already."""
        self.meetings_started += 1
        email = meeting.host.email
        self._peak[email] = max(self._peak[email], len(meeting.host.running))

    def overlapped(
        self, running: Sequence[Meeting], started: Meeting, at_s: float, consequence: Consequence, thrown_out: int
    ) -> None:
        """A host that had no room was asked to run one more."""
        involved = (*running, started)
        host = started.host
        if consequence is Consequence.ENDED_OTHER:
            # Zoom puts an end to it at once. For that moment there was one more than the host may run.
            self._peak[host.email] = max(self._peak[host.email], len(involved))
        self.overlaps.append(
            Overlap(
                host=host.email,
                capacity=host.capacity,
                meetings=tuple(meeting.id for meeting in involved),
                agendas=tuple(meeting.listed_agenda for meeting in involved),
                at=zulu(at_s),
                consequence=consequence,
                thrown_out=thrown_out,
            )
        )

    def ended(self, meeting: Meeting) -> None:
        """A meeting ran and is over."""
        self.meetings_ended += 1

    def gone(self, meeting: Meeting) -> None:
        """A meeting does not exist any more, so nobody can start it again."""
        self.meetings_deleted += 1
        self._existing.pop(meeting.id, None)

    def orphans(self) -> list[Meeting]:
        """The meetings that exist: they run, or whoever has the link can start them. After all is over: left behind."""
        return list(self._existing.values())

    def verdict(self) -> dict[str, Any]:
        """All that is on record, fit for JSON. Orphans mean something once everybody believes to be done."""
        return {
            "double_booked": len(self.overlaps),
            "double_bookings": [asdict(overlap) for overlap in self.overlaps],
            "thrown_out": sum(overlap.thrown_out for overlap in self.overlaps),
            "orphan_meetings": len(self._existing),
            "orphans": [
                {
                    "id": meeting.id,
                    "uuid": meeting.uuid,
                    "host": meeting.host.email,
                    "status": meeting.status.value,
                    "agenda": meeting.listed_agenda,
                    "created_at": zulu(meeting.created_at_s),
                    "participants": len(meeting.participants),
                }
                for meeting in self._existing.values()
            ],
            "meetings_created": self.meetings_created,
            "meetings_started": self.meetings_started,
            "meetings_ended": self.meetings_ended,
            "meetings_deleted": self.meetings_deleted,
            "peak_concurrent": dict(self._peak),
        }
