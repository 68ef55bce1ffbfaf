"""Which mutants stand for which rule: the rows of DESIGN section 9, then what the model has found beyond them."""

from __future__ import annotations

from tests.model.mutants import MUTANTS, Mutant

RULES: dict[str, tuple[str, ...]] = {
    "`register`, `start` and `finish` climb to the gates above": (
        "climb in register", "climb in start", "climb in finish",
    ),
    "gate before load": ("gate before load",),
    "gate in `start`": ("gate in start",),
    "gate in `register`, atomic with the insert": ("gate in register", "gate in register, atomic with the insert"),
    "gate in `finish`": ("gate in finish",),
    "list before gate; takeover": ("list before gate", "takeover"),
    "publish skips what has an intent": ("publish skips what has an intent",),
    "intent and PUBLISH in one script": ("PUBLISH in a step of its own", "intent and PUBLISH in one script"),
    "settled only after the walk, and only if not dirty": ("settled only after the walk", "settled only if not dirty"),
    "the claim decides `never_started`": ("claim decides never_started",),
    "the walk tells what has ended by its record and is held": ("walk tells the terminal-but-held",),
    "evidence reopens": ("evidence reopens",),
    "ranked acks": ("ranked acks",),
    "`lost` needs proof": ("lost needs proof",),
    "one claim at a time": ("one claim at a time",),
    "one list entry per operation": ("one list entry per operation",),
    "late parents make dirty; dirty is cleared with the phase, before the read, and read again before settling": (
        "late parents make dirty", "dirty cleared with the phase", "dirty cleared before the read",
        "settled only if not dirty",
    ),
    "scope decides settling": (
        "scope decides settling, not the run", "scope decides settling, not the own cancel id",
    ),
    "every covering operation reopens": (
        "every covering operation reopens", "every covering operation reopens at register",
    ),
    "`start` leaves an open claim alone": ("start leaves an open claim alone",),
    "a claim that was given back counts as none": ("a given-back claim counts as none",),
    "start number on acks and ends; it rises on supersede": (
        "start number on acks and ends", "start number on ends", "start number rises on supersede",
    ),
    "epoch rises on supersede and force; it is read before the intents": (
        "epoch rises on supersede", "epoch rises on force", "epoch read before the intents",
        "an epoch read while a start is under way does not count",
    ),
    "held from before SUBSCRIBE": ("held from before SUBSCRIBE",),
    "intent at a gated end": ("intent at a gated end",),
    "a cooperative cancel after a forced one is a duplicate": ("cooperative after forced is a duplicate",),
    "proof of death is a state": ("proof of death is a state",),
    "settled entries stay on the list": ("settled entries stay on the list",),
    "*beyond:* a start after an end that no holder reported is told": (
        "a start after an end that no holder reported is kept", "walk tells what was seen to start",
        "an end from before a start is not its end",
    ),
    "*beyond:* a refused start settles nothing that is told, or said to run": (
        "a refused start proves no end of what was told", "a refused start proves no end of what is to be told",
    ),
    "*beyond:* a worker without Redis hears of a newer claim": ("a worker without Redis hears of a newer claim",),
    "*beyond:* after a data loss workers speak before anything settles, and not of ends from before": (
        "what is asserted again settles only when its workers could speak", "workers say again what they hold",
        "an end of before a data loss is none of what is held again",
    ),
}  # fmt: skip


def table() -> str:
    """In Markdown: each rule, what it is switched off by, and where that is noticed, as what."""
    of = {one.removed: one for one in MUTANTS}
    lines = ["| rule | switched off: mutant → world: invariant that breaks |", "|---|---|"]
    lines += [f"| {rule} | {'<br>'.join(_line(of[one]) for one in mutants)} |" for rule, mutants in RULES.items()]
    return "\n".join(lines)


def _line(mutant: Mutant) -> str:
    return f"{mutant.removed} → {mutant.world}: {' or '.join(f'`{one}`' for one in mutant.breaks)}"
