"""Who carries a fleet's orders out, and what is told meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from vozmetro.fleet.plan import MachineClass
from vozmetro.fleet.tasks import Results, Task
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


class Executor(Protocol):
    """Carries orders out, each once.

    Attributes:
        sends: Whether files have to travel to the machines.
    """

    sends: bool

    def hosts(self, machine: MachineClass) -> list[str]:
        """Returns the names of the machines of a kind that are there now."""

    def run(self, orders: Sequence[Order], results: Results, listen: Listener) -> None:
        """Carries orders out; the outcome of each is kept in the results at once.

        Raises:
            InputError: `cluster_lost`; what is kept stays kept.
            KeyboardInterrupt: Ctrl-C; what is kept stays kept.
        """


class Local:
    """Implements `Executor` on this machine, which is of one kind; without Ray.

    Args:
        machine_class: Name of this machine's kind in the plan.
        place: Which of that kind it is, from 1.
    """

    sends = False

    def __init__(self, machine_class: str, place: int = 1) -> None:
        self._place = machine_class, place

    def hosts(self, machine: MachineClass) -> list[str]:
        """See `Executor`."""
        del machine
        return ["localhost"]

    def run(self, orders: Sequence[Order], results: Results, listen: Listener) -> None:
        """See `Executor`; orders for other machines are left."""
        for order in orders:
            if order.task.place_of_plan != self._place:
                continue
            listen(Told("begun", order.task, "localhost"))
            try:
                outcome = carry_out(order)
            except InterruptedHereError as error:
                raise KeyboardInterrupt from error
            results.keep(order.task, outcome)
            listen(Told("done", order.task, "localhost"))
