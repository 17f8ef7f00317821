"""The command line: `radsynth`, or `python -m radsynth`."""

import signal


def main() -> None:
    """Load it and run it. A Ctrl-C until it listens ends the process as it ends others, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as in the background of a script
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from radsynth import cli

    cli.main()


if __name__ == "__main__":
    main()
