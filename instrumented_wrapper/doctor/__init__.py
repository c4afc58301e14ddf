"""``python -m instrumented_wrapper``: report what is installed, patched and configured, and whether it works.

`overview` is the default output; `command_line` is the doctor, which checks the environment (`checks`), databases
(`hosts`, `files`, `rehearsal`) and a running program (`program`, and `inside` it).
"""
