"""Orders carried out by the nodes of a Ray cluster: one at a time on each.

Ray finds the nodes, moves the bytes, starts the processes and notices what dies. What is ours is
which machine stands for which place of the plan, and that a result counts once: it comes home as
the value of a task, and a task whose node is lost has none.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from vozmetro.errors import InputError, VozmetroError
from vozmetro.fleet import parcels
from vozmetro.fleet.executor import Listener, Told
from vozmetro.fleet.parcels import Parcel
from vozmetro.fleet.plan import MachineClass, Plan
from vozmetro.fleet.tasks import Failed, Outcome, Place, Results, Task
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
_ANSWER_S = 60.0

_BYTES_A_S = 20_000_000  # that a slow disk reads, at least
_Done = Callable[[Order, Outcome], None]


class OnRay:
    """Implements `Executor` on the cluster that `cluster.connect` is connected to.

    Args:
        plan: Whose kinds of machine are looked for.
        patience_s: See PATIENCE_S.
    """

    sends = True

    def __init__(self, plan: Plan, patience_s: float = PATIENCE_S) -> None:
        self._plan, self._patience_s = plan, patience_s
        self._nodes: dict[Place, dict[str, Any]] = {}
        self._gone: set[str] = set()
        self._there: set[tuple[str, str]] = set()
        self._since: dict[Place, float] = {}
        self._tries: Counter[Task] = Counter()
        self._waiting: dict[Place, deque[Order]] = {}
        self._flying: dict[Any, Order] = {}

    def hosts(self, machine: MachineClass) -> list[str]:
        """See `Executor`."""
        return [_name(node) for node in _alive() if _fits(node, machine)]

    def run(self, orders: Sequence[Order], results: Results, listen: Listener) -> None:
        """See `Executor`."""
        import ray

        for order in orders:
            self._waiting.setdefault(order.task.place_of_plan, deque()).append(order)

        def done(order: Order, outcome: Outcome) -> None:
            if not isinstance(outcome, Failed):
                place = order.task.place_of_plan
                results.remember(place, _name(self._nodes[place]))
            results.keep(order.task, outcome)
            listen(Told("done", order.task))

        try:
            while any(self._waiting.values()) or self._flying:
                self._begin_where_free(results, done, listen)
                if not self._flying:
                    time.sleep(_LOOK_S)  # until a machine comes
                    continue
                ready, _ = ray.wait(list(self._flying), timeout=_LOOK_S)
                for ref in ready:
                    self._end(ref, self._flying.pop(ref), done, listen)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise InputError("cluster_lost", detail=_last_line(error)) from error
        finally:
            for ref in self._flying:
                with contextlib.suppress(Exception):
                    ray.cancel(ref, force=True)

    def _begin_where_free(self, results: Results, done: _Done, listen: Listener) -> None:
        busy = {order.task.place_of_plan for order in self._flying.values()}
        # What is asked most of a machine goes first: a class without labels takes what is left.
        for place in sorted(self._waiting, key=self._freedom):
            if self._waiting[place] and place not in busy:
                self._begin(place, results, done, listen)

    def _freedom(self, place: Place) -> tuple[int, Place]:
        return -len(self._plan.classes[place[0]].labels), place

    def _begin(self, place: Place, results: Results, done: _Done, listen: Listener) -> None:
        """Begins a place's next order, if the place has a machine that answers."""
        import ray

        mine = self._waiting[place]
        node = self._node(place, results)
        if node is None:
            self._wait(place, results, done, listen)
            return
        order = mine.popleft()
        try:
            self._send(order, node, listen)
        except (
            ray.exceptions.RayTaskError,
            ray.exceptions.GetTimeoutError,
            VozmetroError,
        ) as error:
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
        except ray.exceptions.OutOfMemoryError as error:
            done(order, self._failed("fleet_memory", order, error))
        except ray.exceptions.RayError as error:
            if self._tries[order.task] >= MOST_TRIES:
                done(order, self._failed("fleet_lost", order, error))
                return
            self._waiting[order.task.place_of_plan].appendleft(order)
            listen(Told("again", order.task))

    def _failed(self, code: str, order: Order, error: Exception) -> Failed:
        cause = getattr(error, "cause", error)
        if isinstance(cause, VozmetroError):
            return Failed(code=cause.code, fields=dict(cause.fields))
        fields = {"detail": _last_line(error), "tries": str(self._tries[order.task])}
        return Failed(code=code, fields=fields)

    def _node(self, place: Place, results: Results) -> dict[str, Any] | None:
        """Returns the node that stands for a place; None if there is none at the moment.

        It is the same one as long as it lives. Once it has given a result only the same machine
        will do, as one place must not tell of two machines, nor one machine of two places.
        """
        alive = {node["NodeID"]: node for node in _alive() if node["NodeID"] not in self._gone}
        known = self._nodes.get(place)
        if known is None or known["NodeID"] not in alive:
            self._nodes.pop(place, None)
            known = self._free(place, results, list(alive.values()))
            if known is None:
                return None
            self._nodes[place] = known
        self._since.pop(place, None)
        return known

    def _free(
        self, place: Place, results: Results, alive: list[dict[str, Any]]
    ) -> dict[str, Any] | None:
        name, machine = place[0], self._plan.classes[place[0]]
        own = results.machine(place)
        others = {results.machine((name, number)) for number in range(1, machine.nodes + 1)} - {own}
        used = {_name(self._nodes[one]) for one in self._active()}
        free = sorted(
            (node for node in alive if _fits(node, machine) and _name(node) not in used | others),
            key=_name,
        )
        if own is not None:
            free = [node for node in free if _name(node) == own]
        return free[0] if free else None

    def _active(self) -> set[Place]:
        """Places with a machine and something left to do."""
        flying = {order.task.place_of_plan for order in self._flying.values()}
        return {one for one in self._nodes if one in flying or self._waiting[one]}

    def _wait(self, place: Place, results: Results, done: _Done, listen: Listener) -> None:
        """Waits for a machine; gives up on the place's orders if none comes for some time."""
        mine, machine = self._waiting[place], self._plan.classes[place[0]]
        if any(one[0] != place[0] and _fits(self._nodes[one], machine) for one in self._active()):
            return  # a machine that would do is at work for another class
        if place not in self._since:
            self._since[place] = time.monotonic()
            listen(Told("waiting", mine[0].task))
        if time.monotonic() - self._since[place] < self._patience_s:
            return
        own = results.machine(place)
        labels = [f"{name}={value}" for name, value in machine.labels.items()]
        told = ", ".join([*labels, *([own] if own else [])]) or "–"
        while mine:
            done(mine.popleft(), Failed(code="fleet_no_machine", fields={"labels": told}))

    def _send(self, order: Order, node: dict[str, Any], listen: Listener) -> None:
        """Brings an order's files to a machine that does not have them; asks whether it lives.

        Raises:
            ray.exceptions.RayError: It does not, or not any more.
        """
        import ray

        wanted = [
            one
            for one in parcels.parcels((*order.subject, *(order.corpus or ())))
            if (node["NodeID"], one.digest) not in self._there
        ]
        ask = ray.remote(_missing).options(**_pinned(node))
        patience = _ANSWER_S + sum(one.bytes for one in wanted) / _BYTES_A_S
        for index in ray.get(ask.remote(wanted, version("vozmetro")), timeout=patience):
            listen(Told("sending", order.task, _name(node)))
            _send(wanted[index], node)
        # Hashed once: hours of measuring are not begun with minutes of reading, each time.
        self._there |= {(node["NodeID"], one.digest) for one in wanted}


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
    arrival: Any = ray.remote(parcels.Arrival).options(**options).remote()
    flying: deque[Any] = deque([arrival.begin.remote(parcel)])
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


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return plain(lines[-1][:300])


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}"
