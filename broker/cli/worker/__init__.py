"""`broker worker …`: the processes that hold executions."""
