"""The bits of ``context_id`` in a USER row: the parts of a profile that ranking and safety read."""

from enum import IntEnum


class ProfileBit(IntEnum):
    """Single bits, and the first bits of small codes."""

    VERIFIED = 1
    PROTECTED = 2
    #: Two bits of ``ProfileState``.
    STATE_SHIFT = 2
    #: Two bits of ``SensitiveMedia``.
    SENSITIVE_MEDIA_SHIFT = 4
    #: The person does not want to be recommended to people who do not follow them.
    NOT_RECOMMENDED = 1 << 6
    #: Sixteen bits of ``language_code``: the person's first language.
    LANGUAGE_SHIFT = 16
    #: Sixteen bits of ``country_code``.
    COUNTRY_SHIFT = 32


class ProfileState(IntEnum):
    """Whether the account is in use."""

    ACTIVE = 0
    SUSPENDED = 1
    DEACTIVATED = 2
    #: Never in an event: the person was erased, and has not come back since.
    ERASED = 3


class SensitiveMedia(IntEnum):
    """What the person wants done with sensitive media."""

    WARN = 0
    SHOW = 1
    HIDE = 2


class Standing(IntEnum):
    """Bits of what a profile means for showing a person's tweets and name."""

    #: Nothing of the person is shown to anybody.
    SUSPENDED = 1
    DEACTIVATED = 2
    #: Shown to followers, and to the person, only.
    PROTECTED = 4
    #: Recommended to nobody: shown to followers only, though asked-for answers may name the person.
    NOT_RECOMMENDED = 8
    #: The room has no profile of the person and has lost profiles that safety needs: nothing can be said.
    UNKNOWN = 16
    #: The person was erased, and has not come back.
    ERASED = 32


#: Standings whose people are shown to nobody.
GONE = Standing.SUSPENDED | Standing.DEACTIVATED | Standing.UNKNOWN | Standing.ERASED
#: Standings whose people are shown only to their followers.
FOLLOWERS_ONLY = Standing.PROTECTED | Standing.NOT_RECOMMENDED
