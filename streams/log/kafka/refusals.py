"""What a broker's refusals mean, in words for the operator."""

from typing import Final

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)

#: The broker knows who asks, and does not let them.
FORBIDDEN: Final = (ClusterAuthorizationFailedError, TopicAuthorizationFailedError)
#: A record, or the batch that holds it, is larger than the topic takes.
TOO_LARGE: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_CREDENTIALS: Final = (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)


def hopeless(error: BaseException) -> bool:
    """Whether the same question will be refused again, until somebody changes something."""
    if isinstance(error, _CREDENTIALS):
        return True
    return isinstance(error, BrokerResponseError) and not error.retriable


def describe(error: BaseException) -> str:
    """An error of Kafka in a few words; with where it happened, if that was noted."""
    return ": ".join([*getattr(error, "__notes__", ())[:1], str(error) or type(error).__name__])


def no_right(operation: str, topic: str) -> str:
    """One line about a missing right."""
    return f"no right to {operation} topic {topic!r}"
