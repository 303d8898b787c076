"""Words of texts against the plain reading of Python's own Unicode, and what people expect of a muted word."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batch import Kind, make_batch
from engine.muted_words import folding
from engine.muted_words.folding import WORDS_MAX, load_tables, make_folder, next_word, words_in
from engine.muted_words.state import MutedWords, MutedWordsConfig, occurs
from tests.oracles import muted_words as plain

ALPHABET = (
    "aAbBkKeEéÉe\u0301ßẞſİıΣσςᾳᾼ\u0301\u0327\u0323ａＡ１1²①ⓐ™℠ﬁǅØøåÅ\u212b"
    "日本語にほんがか\u3099ｶﾞガ々ーไทยกาิ่မြန်ខ្មែរ한국어각\u1100\u1161\u11a8हिन्दीعربي\u0651\u064eﷺ"
    "🔥❤\ufe0f🏽👍\U0001f1eb\U0001f1f7\U0001f1ea\u200d♀€+㊗℃\u200b\u00ad\u2060_#@＃ .,!'’-\n\t、。・`´¨"
)
texts = st.text(st.sampled_from(ALPHABET), max_size=14)
words = texts.filter(lambda text: bool(plain.words(text)))


def muting(*muted: str) -> MutedWords:
    room = MutedWords(MutedWordsConfig(people_max=4, words_max=64, words_per_person_max=32))
    encoded = [word.encode() for word in muted]
    sizes = np.array([len(word) for word in encoded], np.int64)
    room.apply(
        make_batch(
            b"".join(encoded), kind=[Kind.MUTE_WORD] * len(muted), user_id=[1] * len(muted),
            timestamp_ms=[1] * len(muted), payload=range(len(muted)), tweet_text_start=np.cumsum(sizes) - sizes,
            tweet_text_bytes=sizes,
        )
    )  # fmt: skip
    return room


def is_muted(room: MutedWords, text: str) -> bool:
    muted = room.make_muted()
    room.of(1, muted)
    return occurs(muted, make_folder(), text)


def split(text: str) -> list[tuple[int, bool, str]]:
    folder, source = make_folder(), np.frombuffer(bytearray(text.encode()), np.uint8)
    found = []
    while word := int(next_word(folder, source, np.int64(0), np.int64(len(source)))):
        prefix = "\0#@"[int(folder.cursor[folding.PREFIX])].strip("\0")
        found.append((word, bool(folder.cursor[folding.GLUED]), prefix))
    return found


@settings(max_examples=600, deadline=None)
@given(texts, texts)
def test_words_are_equal_where_their_plain_forms_are(one, other):
    mine, theirs = split(one) + split(other), plain.words(one) + plain.words(other)
    assert [(glued, prefix) for _, glued, prefix in mine] == [(word.glued, word.prefix) for word in theirs]
    numbers: dict[str, int] = {}
    for (number, _, _), word in zip(mine, theirs, strict=True):
        assert numbers.setdefault(word.text, number) == number, word
    assert len(set(numbers.values())) == len(numbers)


@settings(max_examples=400, deadline=None)
@given(st.lists(words, min_size=1, max_size=4), texts, texts, st.sampled_from(["", " ", "!", "#"]))
def test_a_text_has_a_muted_word_where_the_plain_reading_says_so(muted, before, after, between):
    room = muting(*muted)
    for text in (before, before + between + muted[0] + between + after, after + muted[-1]):
        assert is_muted(room, text) == any(plain.occurs(word, text) for word in muted)


@pytest.mark.parametrize(
    ("muted", "text", "there"),
    [
        ("flock", "the Flock!", True),
        ("flock", "#FLOCK", True),
        ("flock", "ｆｌｏｃｋ", True),
        ("flock", "Ⓕⓛⓞⓒⓚ", True),
        ("flock", "the flock's turn", True),
        ("flock", "Flock™", True),
        ("flock", "flo\u200bck", True),
        ("flock", "a flocking", False),
        ("flock", "overflock", False),
        ("flock", "flock_1 flock1", False),
        ("FLOCK!", "the flock turns", True),
        ("café", "cafe\u0301", True),
        ("café", "cafe", False),
        ("straße", "STRASSE", True),
        ("istanbul", "İSTANBUL!", True),
        ("istanbul", "I\u0307stanbul", True),
        ("ıspanak", "ISPANAK", True),
        ("İzmir", "izmir", True),
        ("naïve", "naive", False),
        ("#flock", "the flock", False),
        ("#flock", "the #Flock", True),
        ("#flock", "＃flock", True),
        ("@flock", "the flock", False),
        ("@flock", "hi @flock!", True),
        ("breaking news", "Breaking, NEWS!", True),
        ("breaking news", "news breaking", False),
        ("breaking news", "breaking the news", False),
        ("don't", "I DON’T", True),
        ("鳥", "小鳥が飛ぶ", True),
        ("小鳥", "小鳥が飛ぶ", True),
        ("小鳥", "小さな鳥", False),
        ("小鳥", "小、鳥", False),
        ("カ", "バガ", False),
        ("バガ", "ﾊﾞｶﾞ", True),
        ("นก", "ฝูงนกบิน", True),
        ("นก", "ฝูงปลา", False),
        ("한국", "한국 사람", True),
        ("🔥", "so🔥🔥good", True),
        ("❤", "I ❤️ it", True),
        ("👍", "👍🏽", True),
        ("👩", "👨‍👩‍👧", False),
        ("👨‍👩‍👧", "my 👨‍👩‍👧!", True),
        ("🇫🇷", "🇪🇸🇫🇷", True),
        ("🇫🇷", "🇨🇫🇷🇺", False),
        ("c++", "I write C++", True),
        ("c++", "plain C", False),
    ],
)
def test_what_people_expect(muted, text, there):
    assert is_muted(muting(muted), text) is there
    assert plain.occurs(muted, text) is there


def test_a_text_with_very_many_words_is_searched_whole():
    room = muting("needle in hay")
    hay = "hay " * 100_000
    assert not is_muted(room, hay)
    assert is_muted(room, hay + "needle in hay")


def test_the_longest_phrase():
    assert words_in("a " * WORDS_MAX) == WORDS_MAX
    assert words_in("a " * (WORDS_MAX + 1)) == WORDS_MAX + 1
    room = muting("a " * WORDS_MAX)
    assert is_muted(room, "a " * WORDS_MAX)
    assert not is_muted(room, "a " * (WORDS_MAX - 1) + "b a")


@given(st.binary(max_size=40))
def test_bytes_that_are_no_text_do_no_harm(data):
    source = np.frombuffer(bytearray(data), np.uint8)
    folder, count = make_folder(), 0
    while next_word(folder, source, np.int64(0), np.int64(len(source))):
        count += 1
    assert count <= 2 * len(data)


def test_the_tables_fold_as_python_does():
    """Every character that Python's Unicode knows, by itself; ignorable ones and those of the docstring aside."""
    tables = load_tables()
    wrong = []
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Cn", "Cs", "Sk", "Cf") or character in "™℠":
            continue
        record = tables.records[tables.places[int(tables.blocks[code >> 7]) * 128 + (code & 127)]]
        part, _, start, length = record.tolist()
        if part in (folding.SKIP, folding.HANGUL) or character == "\u0345":
            continue
        fold = "".join(map(chr, tables.folds[start : start + length].tolist())) if length else character
        expected = plain.IGNORABLE.sub("", plain.folded(character)).replace("\u1160", "")
        # The dot over an i goes when words are read.
        if unicodedata.normalize("NFKD", fold.replace("\u0345", "ι")).replace("i\u0307", "i") != expected:
            wrong.append(f"{code:x}")
    assert not wrong
