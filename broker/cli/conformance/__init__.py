"""`broker conformance`: whether a worker program keeps the protocol, rule by rule. The rules stand in rules.py."""
