"""A real Triton without a container: its environment, one run of it, the watch over both.

`environment` makes the folder that holds the binaries, `process` starts and stops one tritonserver, `runs` and
`watchdog` leave nothing behind however the run ends, `supervisor` keeps a Triton answering.
"""
