"""Each rule of DESIGN section 9 switched off: by a patch of a script, or by processes that do not keep it.

A patch replaces an exact string of the assembled source, and fails where that is gone: a mutant that changes nothing
would prove nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from broker.store.scripts import Script
from tests.model.game import SCRIPTS, Game
from tests.model.world import World
from tests.model.worlds import BY_NAME


@dataclass(frozen=True)
class Patch:
    """Replaces `old` by `new` in these scripts, or in every script that has it."""

    old: str
    new: str
    scripts: tuple[str, ...] = ()

    def apply(self, scripts: list[Script]) -> list[Script]:
        patched = [self._patched(one) if self._concerns(one) else one for one in scripts]
        if patched == scripts:
            raise AssertionError(f"no script has {self.old!r} any more: the mutant must follow the script")
        return patched

    def _concerns(self, script: Script) -> bool:
        return self.old in script.source and (not self.scripts or script.name in self.scripts)

    def _patched(self, script: Script) -> Script:
        source = script.source.replace(self.old, self.new)
        return replace(script, source=source, sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Mutant:
    """A removed rule, the world that notices, and the invariant that then breaks (any of them, the first found)."""

    removed: str
    world: str
    breaks: tuple[str, ...]
    patches: tuple[Patch, ...] = ()
    off: str = ""
    paths: frozenset[str] = frozenset()
    """Paths that are switched off beside it, where another would hide what is missing."""

    def game(self) -> Game:
        """Its world, without the rule."""
        scripts = SCRIPTS.all()
        for patch in self.patches:
            scripts = patch.apply(scripts)
        return Game(self.changed_world(), scripts)

    def changed_world(self) -> World:
        world = BY_NAME[self.world]
        return replace(world, paths=world.paths - self.paths, off=frozenset({self.off} if self.off else ()))


TOLD = "every_held_execution_is_told"
START = "no_start_under_closed_run_gate_without_intent"
ATTEMPT = "at_most_one_attempt_1"
RANK = "rank_never_falls"
EVIDENCE = "settled_implies_evidence"
RUNS = "never_settled_while_covered_body_runs"
SETTLES = "every_accepted_cancel_settles"
REPORT = "nothing_missing_from_the_report"
FAILED = "no_failure_under_a_gate"
ONE_CLAIM = "one_claim_at_a_time"
FORCED = "forced_cleanup_is_not_interrupted"

NO_CLIMB = Patch("if not subtree_gates then", "if true then")


def climb(script: str) -> tuple[Patch, ...]:
    return (replace(NO_CLIMB, scripts=(script,)),)


MUTANTS = (
    Mutant("climb in register", "registered as running below a subtree", (REPORT, RUNS), climb("register")),
    Mutant("climb in start", "subtree", (START,), climb("start")),
    Mutant("climb in finish", "subtree", (FAILED,), climb("finish")),
    Mutant("gate before load", "spawned child", (TOLD, RUNS, REPORT), off="gate_first"),
    Mutant("gate in start", "one execution", (START,), (
        Patch("  local covering, too_deep = covering_cancels(execution_id, e.parent)\n  return covering[1], too_deep",
              "  return nil, false", ("start",)),)),
    Mutant("gate in register", "registered as running", (REPORT, RUNS), (
        Patch("if #covering > 0 and not is_terminal(e.status) then", "if false then"),)),
    Mutant("gate in register, atomic with the insert", "registered as running", (REPORT, RUNS), (
        Patch("if #covering > 0 and not is_terminal(e.status) then", "if false then"),), off="gate_with_insert"),
    Mutant("gate in finish", "ends by itself", (FAILED,), (
        Patch("local covering = word ~= 'succeeded' and covering_cancels(execution_id, e.parent) or {}",
              "local covering = {}", ("finish",)),)),
    Mutant("list before gate", "driver dies", (SETTLES,), off="list_first"),
    Mutant("takeover", "driver dies", (SETTLES, TOLD), off="takeover"),
    Mutant("publish skips what has an intent", "driver dies", (ATTEMPT,), (
        Patch("  if intent then\n    return 'adopted'", "  if false then\n    return 'adopted'"),)),
    Mutant("PUBLISH in a step of its own", "driver dies", (ATTEMPT,), off="one_script"),
    Mutant("intent and PUBLISH in one script", "one execution", (TOLD, REPORT), (
        Patch("  save_intent(execution_id, e, message.id, published_us, message.attempt, message.force)\n  post(",
              "  post("),
        Patch("messages[i + 2]) == 0 then", "messages[i + 2]) == 0 and get_field(intents_key, messages[i]) then"),
    )),
    Mutant("settled only after the walk", "two levels", (RUNS,), (
        Patch("and operation.phase == 'published' and", "and"),)),
    Mutant("settled only if not dirty", "late parent", (RUNS, SETTLES), (
        Patch("operation.phase == 'published' and operation.dirty ~= '1'", "operation.phase == 'published'"),)),
    Mutant("claim decides never_started", "waiting for approval", (EVIDENCE, RUNS), (
        Patch("return not has_open_claim(e) and not is_seen", "return not is_seen"),)),
    Mutant("walk tells the terminal-but-held", "terminal by the control plane", (TOLD, REPORT), (
        Patch("if is_terminal(before) and not has_open_claim(e) and", "if is_terminal(before) and"),)),
    Mutant("evidence reopens", "started by event after all", (REPORT, RUNS), (
        Patch("return ack.disposition == 'never_started' or (said.standing", "return false and (said.standing"),)),
    Mutant("a start after an end that no holder reported is kept", "started by event after an end", (REPORT, RUNS), (
        Patch("    see_start(execution_id, e, said)\n    if #gates == 0",
              "    if #gates > 0 then see_start(execution_id, e, said) end\n    if #gates == 0"),)),
    Mutant("walk tells what was seen to start", "started by event after an end", (REPORT, RUNS), (
        Patch("and not has_open_claim(e) and not is_seen_to_run(e) then", "and not has_open_claim(e) then"),)),
    Mutant("an end from before a start is not its end", "started by event after an end", (EVIDENCE, RUNS), (
        Patch("(not is_seen_to_run(e) or is_news(e, said))", "true"),)),
    Mutant("a refused start proves no end of what was told", "said to run, and started too", (EVIDENCE, RUNS), (
        Patch("if not get_field(intents_key, execution_id) and was_never_started(e) then",
              "if read_ack(execution_id).settled_us == '' and not has_open_claim(e) then"),)),
    Mutant("a refused start proves no end of what is to be told", "said to run, and started too", (EVIDENCE, RUNS), (
        Patch("if not get_field(intents_key, execution_id) and was_never_started(e) then",
              "if not get_field(intents_key, execution_id) and not has_open_claim(e) then"),)),
    Mutant("ranked acks", "one execution", (RANK,), (
        Patch("  if holds(e, slot, said.incarnation, said.start) then\n    local news = "
              "is_news(ack, RANK[said.disposition], said.seq)",
              "  if e.start == said.start then\n    local news = true"),)),
    Mutant("lost needs proof", "heart missed", (EVIDENCE, RUNS), off="lost_needs_proof"),
    Mutant("one claim at a time", "two workers, one execution", (ONE_CLAIM,), (
        Patch("if not has_open_claim(e) or is_mine(e) or e.start == supersedes then", "if true then"),)),
    Mutant("one list entry per operation", "run, then narrow; driver dies", (SETTLES,), off="entry_per_operation"),
    Mutant("late parents make dirty", "late parent", (RUNS, REPORT, TOLD), (
        Patch("reopen_operation(id, 'late parent', true, reopened)", ""),)),
    Mutant("dirty cleared before the read", "late parent, driver dies", (RUNS, REPORT, TOLD), off="clear_before_read"),
    Mutant("dirty cleared with the phase", "late parent, driver dies", (RUNS, REPORT, TOLD, SETTLES), (
        Patch("operation.dirty, operation.phase = '0', 'walking'", "operation.dirty = '0'"),)),
    Mutant("scope decides settling, not the run", "a stranger refuses", (SETTLES,), off="scope_settles"),
    Mutant("scope decides settling, not the own cancel id", "narrow, then subtree", (RUNS,), off="scope_adopts"),
    Mutant("every covering operation reopens", "started by event after all", (RUNS,), (
        Patch("covering[#covering + 1] = redis.call('HGET', gates_key, '=' .. execution_id) or nil",
              "covering = { covering[1] }"),)),
    Mutant("every covering operation reopens at register", "registered as running below both", (RUNS,), (
        Patch("for _, covering_id in ipairs(covering) do\n    reopen_operation(covering_id, 'registered as running'",
              "for _, covering_id in ipairs({ covering[1] }) do\n    reopen_operation(covering_id, 'registered'"),)),
    Mutant("start leaves an open claim alone", "two workers, one execution", (EVIDENCE, RUNS), (
        Patch("if not get_field(intents_key, execution_id) and was_never_started(e) then",
              "if read_ack(execution_id).settled_us == '' then"),)),
    Mutant("a given-back claim counts as none", "retry", (SETTLES, START), (
        Patch("return not has_open_claim(e) and not is_seen", "return e.start == '0' and not is_seen"),)),
    Mutant("start number on acks and ends", "retry", (EVIDENCE, RUNS, REPORT), (
        Patch("(e.incarnation == incarnation or incarnation == '0') and e.start == start",
              "(e.incarnation == incarnation or incarnation == '0')"),)),
    Mutant("start number on ends", "retry", (EVIDENCE, RUNS, REPORT), (
        Patch("(e.incarnation == incarnation or incarnation == '0') and e.start == start",
              "(e.incarnation == incarnation or incarnation == '0')", ("finish",)),)),
    Mutant("start number rises on supersede", "heart missed, taken over", (TOLD,), (
        Patch("e.start = string.format('%.0f', tonumber(e.start) + 1)",
              "if not has_open_claim(e) then e.start = string.format('%.0f', tonumber(e.start) + 1) end"),)),
    Mutant("epoch rises on supersede", "heart missed, taken over", (TOLD,), (
        Patch("    if has_open_claim(e) then\n      redis.call('HINCRBY', run_key, 'epoch', 1)\n    end", ""),)),
    Mutant("epoch rises on force", "force without push", (TOLD,), (
        Patch("if force == '1' and published > 0 then", "if false then"),)),
    Mutant("epoch read before the intents", "one execution", (TOLD,), off="epoch_first",
           paths=frozenset({"push", "redeliver"})),
    Mutant("held from before SUBSCRIBE", "push and poll without redelivery", (TOLD,), off="held_early"),
    Mutant("an epoch read while a start is under way does not count", "heart missed, taken over", (TOLD,),
           off="starting_unseen"),
    Mutant("a worker without Redis hears of a newer claim", "worker without Redis, taken over", (TOLD,),
           off="start_numbers"),
    Mutant("intent at a gated end", "retry by event", (REPORT, RUNS), (
        Patch("  save_intent(execution_id, e, id, now_us, '1', '0')\n", "", ("finish",)),)),
    Mutant("cooperative after forced is a duplicate", "force", (FORCED,), (
        Patch("(force == '1' or forced == '1')", "(force == '1')"),), off="force_dedupe"),
    Mutant("proof of death is a state", "declared dead by mistake, then dead", (SETTLES,), off="proof_is_state"),
    Mutant("what is asserted again settles only when its workers could speak", "data loss", (RUNS,),
           off="settles_after_loss"),
    Mutant("workers say again what they hold", "data loss", (RUNS, REPORT, TOLD), off="restore"),
    Mutant("an end of before a data loss is none of what is held again", "data loss, given back", (RUNS, REPORT),
           off="held_again"),
    Mutant("settled entries stay on the list", "late parent", (SETTLES,), off="settled_stay_listed"),
)  # fmt: skip
