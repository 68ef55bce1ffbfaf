"""`broker demo`: a real job on real input, cancelled in mid-flight, every stop proved.

The job hashes every file below a directory, one execution per directory. Start reading at `story.py`.

- `command.py` the command: its options, Ctrl-C, exit codes
- `story.py` the story: count, start the fleet, crawl, cancel, follow, report
- `crawl.py` the control plane's side of the job: registers, dispatches, passes results on
- `fleet.py` the worker processes: starts them, talks to them, ends them
- `job.py`, `body.py`, `straggler.py` what a worker process runs, without Typer and Rich; `archive.py` a command
- `tree.py` what is known of each directory; `directory.py` the file system
- `live.py` (with `rows.py`, `marks.py`) and `plain.py` what is shown; `notes.py`, `words.py` the events and texts
"""
