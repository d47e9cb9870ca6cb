"""Ends every process of a devnet when its launcher ends, however that ends.

Started first, as the leader of the process group that all others join. The launcher alone holds the other end
of this process's stdin, so that end-of-file means that the launcher is gone; then the whole group is killed,
this process included. Works wherever there are process groups, and leaves no moment in which a process is
started but not yet guarded.
"""

import os
import signal
import sys

if __name__ == "__main__":
    # A terminal that goes away must not end the guard before the guarded.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
