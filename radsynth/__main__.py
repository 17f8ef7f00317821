"""The command line: `radsynth`, or `python -m radsynth`."""

import signal
import sys
from types import ModuleType


def main() -> None:
    """Load it and run it. A Ctrl-C until it listens ends the process as it ends others, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # With a module of this name TensorBoard, which Fabric loads, imports no TensorFlow where it is installed: that
    # takes seconds, prints its own messages, and would raise its own errors of a full disk.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("notf"))
    from radsynth import cli

    cli.main()


if __name__ == "__main__":
    main()
