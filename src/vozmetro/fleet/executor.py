"""Who carries a fleet's orders out, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from vozmetro.fleet.parcels import at_home
from vozmetro.fleet.plan import MachineClass
from vozmetro.fleet.tasks import Outcome, Task
from vozmetro.fleet.work import InterruptedHereError, Order, carry_out

Happening = Literal["begun", "done", "again", "waiting", "sending"]


@dataclass(frozen=True)
class Told:
    """What happens to a task.

    Attributes:
        what: `begun`; `done`; `again` where its machine was lost and it will be tried anew;
            `waiting` for a machine; `sending` files to its machine.
        task: Which.
        host: Name of the machine; empty for none.
    """

    what: Happening
    task: Task
    host: str = ""


Listener = Callable[[Told], None]
Keep = Callable[[Task, Outcome], None]
"""Takes a result, on the caller's machine, as soon as it is there."""


class Executor(Protocol):
    """Carries orders out, each once."""

    def hosts(self, machine: MachineClass) -> list[str]:
        """Returns the names of the machines of a kind that are there now."""

    def run(self, orders: Sequence[Order], keep: Keep, listen: Listener) -> None:
        """Carries orders out; every one of them gets its outcome, which is kept at once.

        Raises:
            KeyboardInterrupt: Ctrl-C; what is kept stays kept.
        """


class Local:
    """Implements `Executor` on this machine, which is of one kind; without Ray.

    Args:
        machine_class: Name of this machine's kind in the plan.
    """

    def __init__(self, machine_class: str) -> None:
        self._class = machine_class

    def hosts(self, machine: MachineClass) -> list[str]:
        """See `Executor`."""
        del machine
        return ["localhost"]

    def run(self, orders: Sequence[Order], keep: Keep, listen: Listener) -> None:
        """See `Executor`; orders for other kinds of machine are left."""
        for order in orders:
            if (order.task.machine_class, order.task.place) != (self._class, 1):
                continue
            listen(Told("begun", order.task, "localhost"))
            try:
                outcome = carry_out(_at_home(order))
            except InterruptedHereError as error:
                raise KeyboardInterrupt from error
            keep(order.task, outcome)
            listen(Told("done", order.task, "localhost"))


def _at_home(order: Order) -> Order:
    """The same order on the machine where its files lie: none of them travels."""
    corpus = None if order.corpus is None else (at_home(order.corpus),)
    return replace(order, subject=(at_home(order.subject),), corpus=corpus)
