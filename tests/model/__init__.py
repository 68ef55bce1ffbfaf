"""Programs that try to break the promise: every order of steps of a small world, over the real scripts.

Start at explorer.py (what is tried), worker.py and driver.py (what can happen), invariants.py (what must hold) and
mutants.py (each rule of DESIGN section 9 switched off, and the invariant that must then break).
"""
