"""One life of the process: from its start to its end, by whatever cause."""


class Crash(BaseException):
    """The process ends here. Not an Exception, so that no ``except Exception`` catches it on the way out."""


class Life:
    """Shared by everything through which a process touches the world: a dead process must not touch it any more."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.dead = False
        #: Why the life ended, for the trace.
        self.cause = ""

    def check(self) -> None:
        """Raise Crash if this life is over."""
        if self.dead:
            raise Crash(self.cause)

    def end(self, cause: str) -> None:
        """End this life now, from inside.

        Raises:
            Crash: always.
        """
        self.kill(cause)
        raise Crash(cause)

    def kill(self, cause: str) -> None:
        """End this life from outside."""
        if not self.dead:
            self.dead, self.cause = True, cause
