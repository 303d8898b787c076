"""Words of a text, and whether a muted word is among them: the plain reading, with Python's own Unicode.

Python's Unicode may be older or newer than the engine's tables; texts for comparisons are of characters that both know.
"""

import re
import unicodedata
from typing import NamedTuple

#: Characters that nobody sees; a joiner is looked at before it goes.
IGNORABLE = re.compile("[\u00ad\u034f\u061c\u180b-\u180e\u200b\u200c\u200e\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ffff]"
)
#: Private use characters are symbols as well.
_SPECIAL = {"™": "\ue001", "℠": "\ue002"}
JOINER = "\u200d"


class Word(NamedTuple):
    text: str
    glued: bool
    prefix: str


def folded(text: str) -> str:
    for _ in range(2):
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold().replace("ı", "i"))
    plain, base = "", ""
    for character in text:
        # An i is an i, with its dot or without.
        if character != "\u0307" or base != "i":
            plain += character
        if not unicodedata.combining(character) and character != JOINER:
            base = character
    return plain


def _stands_alone(character: str) -> bool:
    return unicodedata.category(character) == "Sk" and not "\U0001f3fb" <= character <= "\U0001f3ff"


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if "\U0001f3fb" <= character <= "\U0001f3ff":
        return "tone"
    if "\U0001f1e6" <= character <= "\U0001f1ff":
        return "flag"
    if category[0] == "M":
        return "mark"
    if category[0] in "LN" or character == "_":
        return "unspaced" if UNSPACED.match(character) else "word"
    if category in ("So", "Sm", "Sc", "Co"):
        return "symbol"
    return {"#": "#", "@": "@", JOINER: "joiner"}.get(character, "break")


def words(text: str) -> list[Word]:
    # Trademark signs are symbols although they have letters in them; accents that stand alone are nothing.
    text = "".join(_SPECIAL.get(c, " " if _stands_alone(c) else c) for c in IGNORABLE.sub("", text))
    found: list[Word] = []
    kind, joins, prefix, beside, paired = "break", False, "", False, False
    for character in folded(text):
        this = _kind(character)
        if this == "joiner":
            joins = kind == "symbol"
            continue
        if this == "tone" and kind == "symbol":
            continue
        goes_on = (
            (this == "mark" and kind != "break")
            or (this == "word" and kind == "word")
            or (this == "symbol" and kind == "symbol" and joins)
            or (this == "flag" and kind == "flag" and not paired)
        )
        if goes_on:
            last = found[-1]
            found[-1] = last._replace(text=last.text + (JOINER if this == "symbol" else "") + character)
            paired = this == "flag"
        elif this in ("break", "#", "@", "tone"):
            kind, prefix, beside = "break", this if this in "#@" else "", False
        else:
            kind = "word" if this == "mark" else this
            glued = kind == "unspaced" and beside
            found.append(Word(character, glued, prefix))
            prefix, paired, beside = "", False, kind == "unspaced"
        joins = False
    return [word._replace(text=unicodedata.normalize("NFC", word.text)) for word in found]


def occurs(muted: str, text: str) -> bool:
    """Whether a muted word, phrase or hashtag is in a text."""
    wanted, there = words(muted), words(text)
    for at in range(len(there) - len(wanted) + 1):
        part = there[at : at + len(wanted)]
        same = [word.text for word in part] == [word.text for word in wanted]
        glued = [word.glued for word in part[1:]] == [word.glued for word in wanted[1:]]
        if same and glued and (not wanted[0].prefix or wanted[0].prefix == part[0].prefix):
            return True
    return False
