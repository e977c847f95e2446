"""The answer to a batch: the outcome of each event, and the status of the whole batch. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from triggers import errors
from triggers.domain import Accepted
from triggers.events.waiting_event import AcceptOutcome
from triggers.fairness.pace import Steps
from triggers.http import problems
from triggers.http.problems import BatchItem


class BatchAnswer(msgspec.Struct):
    """The outcome of each event of a batch, in the order of the request."""

    results: list[BatchItem]


def items(outcomes: Sequence[AcceptOutcome], root_path: str) -> Steps[list[BatchItem]]:
    """The outcomes as the answer shows them. Links begin with `root_path`."""
    found = []
    for index, outcome in enumerate(outcomes):
        found.append(_item(index, outcome, root_path))
        yield
    return found


def seconds_to_wait(outcomes: Sequence[AcceptOutcome]) -> int:
    """Seconds after which refused events that may succeed later can be sent again; 0 if there are none."""
    return max((problems.seconds_to_wait(each) for each in _refused(outcomes)), default=0)


def refusal(outcomes: Sequence[AcceptOutcome], results: list[BatchItem]) -> errors.TriggersError | None:
    """The error that answers a batch if none of its events was accepted. None for any other batch.

    If all events have the same status, the error has it too, so that a caller who looks only at the status
    does the same as after a single event.
    """
    refused = _refused(outcomes)
    if not refused or len(refused) < len(outcomes):
        return None
    if len({problems.kind_of(each).status for each in refused}) > 1:
        return errors.BatchRefused(results=results)
    kind = next(cls for cls in type(refused[0]).__mro__ if all(isinstance(each, cls) for each in refused))
    assert issubclass(kind, errors.TriggersError)
    if issubclass(kind, errors.Unavailable):
        # The message of such an error says whether events may have been stored.
        return kind(retry_after=seconds_to_wait(outcomes), results=results)
    return kind("No event of the batch was accepted; `results` has the reason for each.", results=results)


def _refused(outcomes: Sequence[AcceptOutcome]) -> list[errors.TriggersError]:
    return [each for each in outcomes if isinstance(each, errors.TriggersError)]


def _item(index: int, outcome: AcceptOutcome, root_path: str) -> BatchItem:
    if isinstance(outcome, Accepted):
        return BatchItem(index=index, status=200 if outcome.duplicate else 201, id=outcome.id)
    members = problems.problem(outcome, root_path=root_path)
    return BatchItem(
        index=index, status=members["status"], problem=msgspec.convert(members, problems.Problem)
    )
