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
    #: Sixteen bits of ``language_code``: the person's first language.
    LANGUAGE_SHIFT = 16
    #: Sixteen bits of ``country_code``.
    COUNTRY_SHIFT = 32


class ProfileState(IntEnum):
    """Whether the account is in use."""

    ACTIVE = 0
    SUSPENDED = 1
    DEACTIVATED = 2


class SensitiveMedia(IntEnum):
    """What the person wants done with sensitive media."""

    WARN = 0
    SHOW = 1
    HIDE = 2
