"""Orders carried out by the nodes of a Ray cluster: one at a time on each.

Ray finds the nodes, moves the bytes, starts the processes and notices what dies. What is ours is
which machine stands for which place of the plan, and that a result counts once: it comes home as
the value of a task, and a task whose node is lost has none.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from vozmetro.errors import InputError, VozmetroError
from vozmetro.fleet import parcels
from vozmetro.fleet.executor import Keep, Listener, Told
from vozmetro.fleet.parcels import Parcel
from vozmetro.fleet.plan import MachineClass, Plan
from vozmetro.fleet.tasks import Failed, Outcome, Task
from vozmetro.fleet.work import Order, carry_out
from vozmetro.units import plain

SLOT = "vozmetro_slot"
"""Resource of which a node declares one: whatever else runs on the cluster and asks for it waits
while something is measured there."""
MOST_TRIES = 3
"""Times that a task is begun; its machine is lost that often at most."""
PATIENCE_S = 600.0
"""Seconds for which a place waits for a machine of its kind to come, or to come back."""
_LOOK_S = 1.0
_PIECES = 4  # that travel to one machine at a time
_ANSWER_S = 300.0  # to hash gigabytes that are there already

_Place = tuple[str, int]
_Done = Callable[[Order, Outcome], None]


class OnRay:
    """Implements `Executor` on the cluster that `cluster.connect` is connected to.

    Args:
        plan: Whose kinds of machine are looked for.
        patience_s: See PATIENCE_S.
    """

    def __init__(self, plan: Plan, patience_s: float = PATIENCE_S) -> None:
        self._plan, self._patience_s = plan, patience_s
        self._nodes: dict[_Place, str] = {}
        self._gone: set[str] = set()
        self._since: dict[_Place, float] = {}
        self._tries: Counter[Task] = Counter()
        self._waiting: dict[_Place, deque[Order]] = {}
        self._flying: dict[Any, Order] = {}

    def hosts(self, machine: MachineClass) -> list[str]:
        """See `Executor`."""
        return [_name(node) for node in _alive() if _fits(node, machine)]

    def run(self, orders: Sequence[Order], keep: Keep, listen: Listener) -> None:
        """See `Executor`."""
        import ray

        for order in orders:
            self._waiting.setdefault(_place(order), deque()).append(order)

        def done(order: Order, outcome: Outcome) -> None:
            keep(order.task, outcome)
            listen(Told("done", order.task))

        try:
            while any(self._waiting.values()) or self._flying:
                busy = {_place(order) for order in self._flying.values()}
                for place, mine in self._waiting.items():
                    if mine and place not in busy:
                        self._begin(place, mine, done, listen)
                if not self._flying:
                    time.sleep(_LOOK_S)  # until a machine comes
                    continue
                ready, _ = ray.wait(list(self._flying), timeout=_LOOK_S)
                for ref in ready:
                    self._end(ref, self._flying.pop(ref), done, listen)
        finally:
            for ref in self._flying:
                ray.cancel(ref, force=True)

    def _begin(self, place: _Place, mine: deque[Order], done: _Done, listen: Listener) -> None:
        """Begins a place's next order, if the place has a machine that answers."""
        import ray

        node = self._node(place)
        if node is None:
            self._wait(place, mine, done, listen)
            return
        order = mine.popleft()
        try:
            self._send(order, node, listen)
        except (ray.exceptions.RayTaskError, InputError) as error:
            self._tries[order.task] += 1
            done(order, self._failed("fleet_raised", order, error))
            return
        except ray.exceptions.RayError:
            # It is gone, though the cluster may not have noticed: nothing was begun there.
            self._gone.add(node["NodeID"])
            mine.appendleft(order)
            return
        self._tries[order.task] += 1
        # A process for each, so that no task finds what another one left.
        remote: Any = ray.remote(max_calls=1)(_carry_out)
        ref = remote.options(**_pinned(node, slot=True)).remote(order)
        self._flying[ref] = order
        listen(Told("begun", order.task, _name(node)))

    def _end(self, ref: Any, order: Order, done: _Done, listen: Listener) -> None:
        """Takes what came of an order; one whose process or machine died is begun anew."""
        import ray

        try:
            done(order, ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            done(order, self._failed("fleet_raised", order, error))
        except ray.exceptions.RayError as error:
            if self._tries[order.task] >= MOST_TRIES:
                done(order, self._failed("fleet_lost", order, error))
                return
            self._waiting[_place(order)].appendleft(order)
            listen(Told("again", order.task))

    def _failed(self, code: str, order: Order, error: Exception) -> Failed:
        cause = getattr(error, "cause", error)
        if isinstance(cause, VozmetroError):
            return Failed(cause.code, dict(cause.fields))
        detail = (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
        return Failed(code, {"detail": plain(detail), "tries": str(self._tries[order.task])})

    def _node(self, place: _Place) -> dict[str, Any] | None:
        """Returns the node that stands for a place, the same as long as it lives."""
        alive = {node["NodeID"]: node for node in _alive() if node["NodeID"] not in self._gone}
        if self._nodes.get(place) not in alive:
            self._nodes.pop(place, None)
            taken = set(self._nodes.values())
            machine = self._plan.classes[place[0]]
            free = sorted(
                name for name, one in alive.items() if name not in taken and _fits(one, machine)
            )
            if not free:
                return None
            self._nodes[place] = free[0]
        self._since.pop(place, None)
        return alive[self._nodes[place]]

    def _wait(self, place: _Place, mine: deque[Order], done: _Done, listen: Listener) -> None:
        """Waits for a machine; gives up on the place's orders after a time."""
        if place not in self._since:
            self._since[place] = time.monotonic()
            listen(Told("waiting", mine[0].task))
        if time.monotonic() - self._since[place] < self._patience_s:
            return
        labels = self._plan.classes[place[0]].labels
        told = ", ".join(f"{name}={value}" for name, value in labels.items()) or "–"
        while mine:
            done(mine.popleft(), Failed("fleet_no_machine", {"labels": told}))

    def _send(self, order: Order, node: dict[str, Any], listen: Listener) -> None:
        """Brings an order's files to a machine that does not have them; asks whether it lives.

        Raises:
            ray.exceptions.RayError: It does not, or not any more.
        """
        import ray

        wanted = parcels.parcels((*order.subject, *(order.corpus or ())))
        ask = ray.remote(_missing).options(**_pinned(node))
        for index in ray.get(ask.remote(wanted, version("vozmetro")), timeout=_ANSWER_S):
            listen(Told("sending", order.task, _name(node)))
            _send(wanted[index], node)


def _place(order: Order) -> _Place:
    return order.task.machine_class, order.task.place


def _missing(wanted: list[Parcel], release: str) -> list[int]:
    """Runs on the node: which of the parcels it does not have.

    Raises:
        InputError: `fleet_version` where it has another vozmetro than who asks.
    """
    if version("vozmetro") != release:
        raise InputError("fleet_version", here=version("vozmetro"), asked=release)
    return [index for index, one in enumerate(wanted) if not parcels.has(one)]


def _send(parcel: Parcel, node: dict[str, Any]) -> None:
    """Sends a parcel in pieces, a few at a time, so that no large file is ever whole in memory."""
    import ray

    options = {name: value for name, value in _pinned(node).items() if name != "max_retries"}
    arrival: Any = ray.remote(parcels.Arrival).options(**options).remote(parcel)
    flying: deque[Any] = deque()
    try:
        for name, offset, length in parcels.pieces(parcel):
            data = parcels.piece(parcel, name, offset, length)
            flying.append(arrival.take.remote(name, offset, data))
            if len(flying) >= _PIECES:
                ray.get(flying.popleft())
        ray.get([*flying, arrival.end.remote()])
    finally:
        arrival.leave.remote()


def _carry_out(order: Order) -> Outcome:
    # Ray allows one thread to libraries of a task that asks for no CPU; an engine is told its
    # threads by the plan.
    os.environ.pop("OMP_NUM_THREADS", None)
    return carry_out(order)


def _pinned(node: dict[str, Any], slot: bool = False) -> dict[str, Any]:
    """Options of a task for this node alone; with the node's slot, if it declares one."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return {
        "num_cpus": 0,
        "max_retries": 0,
        "resources": {SLOT: 1} if slot and node["Resources"].get(SLOT) else {},
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    }


def _alive() -> list[dict[str, Any]]:
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _fits(node: dict[str, Any], machine: MachineClass) -> bool:
    # The slot stands in the way of nobody's plan: a head that only coordinates declares none and
    # has no labels.
    return all(node["Labels"].get(name) == value for name, value in machine.labels.items())


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}"
