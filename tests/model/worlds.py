"""The worlds: each as small as what it is about allows. A mutant names the one that kills it."""

from __future__ import annotations

from broker.protocol.states import Scope
from tests.model.world import PATHS, Asked, Budget, Event, Execution, World

ROOT, CHILD, GRANDCHILD = "root", "child", "grandchild"
RUN_CANCEL = Asked()
SUBTREE = Asked(Scope.SUBTREE, CHILD)
NARROW = Asked(Scope.EXECUTION, CHILD)
PENDING = ((ROOT, "", "pending"),)
FAMILY = ((ROOT, "", "pending"), (CHILD, ROOT, "pending"))
ALONE = Execution(ROOT)
SPAWNED = Execution(CHILD, ROOT, spawned=True)

WORLDS = (
    World("one execution", (ALONE,), known=PENDING),
    World("spawned child", (ALONE, SPAWNED)),
    World("two levels", (ALONE, Execution(CHILD, ROOT)), known=FAMILY),
    World("three levels, the lowest spawned",
          (ALONE, Execution(CHILD, ROOT), Execution(GRANDCHILD, CHILD, spawned=True)), known=FAMILY),
    World("ends by itself", (Execution(ROOT, ends=("failed", "succeeded")),), known=PENDING),
    World("retry", (Execution(ROOT, starts=2, ends=("queued",)),), known=PENDING, budget=Budget(lost_answers=1)),
    World("driver dies", (ALONE,), known=PENDING, drivers=2, budget=Budget(driver_crashes=1, takeovers=1)),
    World("driver dies between levels", (ALONE, Execution(CHILD, ROOT)), known=FAMILY, budget=Budget(driver_crashes=1)),
    World("cut off", (ALONE,), budget=Budget(cuts=1, drops=1), known=PENDING),
    World("subtree", (Execution(CHILD, ROOT, ends=("failed",)), Execution(GRANDCHILD, CHILD, spawned=True)), (SUBTREE,),
          known=FAMILY),
    World("narrow, and how it can race", (Execution(CHILD, ROOT, ends=("succeeded",)),), (NARROW,), known=FAMILY),
    World("worker without Redis", (Execution(ROOT, remote=(0,), ends=("failed",)),), known=PENDING,
          budget=Budget(lost_answers=1)),
    World("worker without Redis, taken over", (Execution(ROOT, workers=(0, 1), starts=2, remote=(0,)),), known=PENDING,
          workers=2, budget=Budget(missed_beats=1)),
    World("two workers, one execution", (Execution(ROOT, workers=(0, 1), starts=2),), known=PENDING, workers=2),
    World("heart missed, taken over", (Execution(ROOT, workers=(0, 1), starts=2),), (), known=PENDING, workers=2,
          budget=Budget(missed_beats=1)),
    World("heart missed, taken over, cancelled", (Execution(ROOT, workers=(0, 1), starts=2),), known=PENDING, workers=2,
          budget=Budget(missed_beats=1)),
    World("heart missed", (ALONE,), known=PENDING, budget=Budget(missed_beats=1)),
    World("declared dead by mistake, then dead", (ALONE,), known=PENDING,
          budget=Budget(missed_beats=1, declared=1, worker_crashes=1)),
    World("worker dies, restarts", (Execution(ROOT, starts=2),), known=PENDING,
          budget=Budget(worker_crashes=1, restarts=1)),
    World("start answer lost", (ALONE,), known=PENDING, budget=Budget(lost_answers=1)),
    World("waiting for approval", (ALONE,), known=PENDING, events=(Event(ROOT, "waiting", while_runs=ROOT),)),
    World("terminal by the control plane", (ALONE,), known=PENDING, events=(Event(ROOT, "timeout", while_runs=ROOT),)),
    World("started by event after all", (), (RUN_CANCEL, SUBTREE), known=FAMILY, events=(Event(CHILD, "running"),)),
    World("said to run, and started too", (ALONE,), known=PENDING,
          events=(Event(ROOT, "running"), Event(ROOT, "failed", needs=(0,)))),
    World("started by event after an end", (ALONE,), known=PENDING,
          events=(Event(ROOT, "failed"), Event(ROOT, "running", needs=(0,)),
                  Event(ROOT, "failed", needs=(0,), again=True), Event(ROOT, "failed", needs=(1,)))),
    World("started by event after an end, given back", (Execution(ROOT, ends=("queued",)),),
          (Asked(Scope.SUBTREE, ROOT),), known=PENDING,
          events=(Event(ROOT, "failed"), Event(ROOT, "running", needs=(0,)))),
    World("event-started worker", (Execution(ROOT, by_event=(0,)),), known=PENDING),
    World("retry by event", (Execution(ROOT, workers=(0, 1), starts=2, by_event=(1,), ends=("queued",)),),
          known=PENDING, workers=2),
    World("registered as running", (), known=PENDING, events=(Event(CHILD, "running", "register", ROOT),)),
    World("registered as running below a subtree", (), (SUBTREE,), known=FAMILY,
          events=(Event(GRANDCHILD, "running", "register", CHILD),)),
    World("registered as running below both", (), (RUN_CANCEL, SUBTREE), known=FAMILY,
          events=(Event(GRANDCHILD, "running", "register", CHILD),)),
    World("late parent", (Execution(GRANDCHILD, "middle"),), (SUBTREE,),
          known=(*FAMILY, (GRANDCHILD, "middle", "pending")), events=(Event("middle", "pending", "register", CHILD),)),
    World("late parent, driver dies", (Execution(GRANDCHILD, "middle"),), (SUBTREE,),
          known=(*FAMILY, (GRANDCHILD, "middle", "pending")), events=(Event("middle", "pending", "register", CHILD),),
          budget=Budget(driver_crashes=1)),
    World("run and subtree", (Execution(CHILD, ROOT),), (RUN_CANCEL, SUBTREE), known=FAMILY, drivers=2),
    World("run, then narrow; driver dies", (Execution(CHILD, ROOT),), (RUN_CANCEL, NARROW), known=FAMILY, drivers=2,
          budget=Budget(driver_crashes=1)),
    World("narrow, then run", (Execution(CHILD, ROOT),), (NARROW, RUN_CANCEL._replace(needs=(0,))), known=FAMILY),
    World("narrow, then subtree", (Execution(CHILD, ROOT),), (NARROW, SUBTREE._replace(needs=(0,))), known=FAMILY),
    World("a stranger refuses", (Execution(ROOT, refuses=True),),
          (Asked(Scope.EXECUTION, ROOT), SUBTREE), known=((ROOT, "", "pending"), (CHILD, "", "pending"))),
    World("data loss", (ALONE,), known=PENDING, budget=Budget(losses=1)),
    World("data loss, a family", (ALONE, SPAWNED), budget=Budget(losses=1)),
    World("data loss, narrow", (ALONE,), (Asked(Scope.EXECUTION, ROOT),), known=PENDING, budget=Budget(losses=1)),
    World("data loss, given back", (Execution(ROOT, starts=2, ends=("queued",)),), budget=Budget(losses=1)),
    World("data loss, some of it saved", (ALONE,), known=PENDING, budget=Budget(losses=1, saves=1)),
    World("data loss, saved with a claim given back", (Execution(ROOT, starts=2, ends=("queued",)),),
          budget=Budget(losses=1, saves=1)),
    World("force", (Execution(ROOT, refuses=True),), known=PENDING, budget=Budget(forces=1, again=1)),
    World("force without push", (Execution(ROOT, refuses=True),), known=PENDING, budget=Budget(forces=1),
          paths=PATHS - {"push"}),
    World("push and poll without redelivery", (ALONE,), known=PENDING, paths=PATHS - {"redeliver"}),
)  # fmt: skip

BY_NAME = {world.name: world for world in WORLDS}

PROVED_ALONE = {
    "push": World("push alone", (ALONE,), known=PENDING, paths=frozenset({"push", "confirm"})),
    "poll": World("poll alone", (ALONE,), known=PENDING, paths=frozenset({"poll"})),
    "reconcile": World(
        "reconcile alone", (ALONE,), known=PENDING, paths=frozenset({"reconcile", "confirm"}), sure_cuts=True
    ),
    "redelivery": World(
        "redelivery alone",
        (ALONE,),
        known=PENDING,
        paths=frozenset({"redeliver", "push"}),
        budget=Budget(drops=1, cuts=1),
    ),
    "a worker without Redis asks": World(
        "asking alone", (Execution(ROOT, remote=(0,)),), known=PENDING, paths=frozenset({"ask", "confirm"})
    ),
    "confirm before start": World(
        "confirm before start alone", (ALONE,), drivers=2, known=PENDING, paths=frozenset({"push", "confirm"})
    ),
}
"""Each redundant path with the others switched off. What it carries then is in tests/model/test_paths.py."""
