"""Programs that try to break the promise: a fleet under faults with ground truth (`python -m tests.chaos`), …"""
