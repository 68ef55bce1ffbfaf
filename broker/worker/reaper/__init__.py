"""The small program between a caller and its command: it ends everything below the command, and proves it.

`broker/worker/process.py` runs the file `__main__.py` of this folder with `python -I -S`, one per tree, and imports
from here what it needs itself. Nothing of ours is imported and little of the library: each start of a command waits
for these imports.

The program is a *subreaper*: whatever loses its parent below it becomes its child, also after setsid or a double fork.
So when `waitpid` says that there is no child, the kernel says that nothing is left; /proc only shows whom to signal.

On the channel, a stream socket, goes first the request (request.py), then lines from the caller: `term SECONDS` or
`kill`. The end of the channel, like the caller's own, ends the tree. Lines of JSON come back:

    {"started": PID} or {"failed": ERRNO}
    {"exited": CODE}                                        as subprocess has it: negative is a signal
    {"gone": "tree"|"group", "left": N, "killed": N}        the last one, when everything below is gone

`gone` names the proof, "group" where there is no subreaper (below.py); `left` counts what outlived the command and had
to be told to end, `killed` what had to be ended by SIGKILL.
"""
