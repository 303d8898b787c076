"""One life of the process: from its start to its end, whatever that is."""


class Crash(BaseException):
    """The process ends here. Not an Exception: nothing may catch it on its way out."""


class Life:
    """Shared by everything through which a process touches the world: once dead, it touches nothing any more."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.dead = False
        #: Why it ended, for the trace.
        self.cause = ""

    def check(self) -> None:
        """Raises Crash when this life is over."""
        if self.dead:
            raise Crash(self.cause)

    def end(self, cause: str) -> None:
        """End it here and now.

        Raises:
            Crash: always.
        """
        self.kill(cause)
        raise Crash(cause)

    def kill(self, cause: str) -> None:
        """End it from outside."""
        if not self.dead:
            self.dead, self.cause = True, cause
