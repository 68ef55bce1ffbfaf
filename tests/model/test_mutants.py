"""Without a rule of DESIGN section 9 the model finds what goes wrong, and which invariant says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.explorer import Violation, explore
from tests.model.game import SCRIPTS
from tests.model.mutants import MUTANTS, Mutant, Patch
from tests.model.rules import RULES, table

LIMIT = 20_000


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.removed)
def test_a_removed_rule_is_noticed(mutant: Mutant) -> None:
    with pytest.raises(Violation) as found:
        explore(mutant.game(), LIMIT)

    assert found.value.invariant in mutant.breaks, found.value


def test_every_mutant_stands_for_a_rule_and_the_table_says_which() -> None:
    """`python -m tests.model --rules` writes the table anew."""
    assert {one for mutants in RULES.values() for one in mutants} == {one.removed for one in MUTANTS}
    assert table() in (Path(__file__).parent / "README.md").read_text()


def test_a_patch_of_what_is_gone_is_refused() -> None:
    with pytest.raises(AssertionError, match="no script has"):
        Patch("a line that nobody wrote", "").apply(SCRIPTS.all())
