"""The texts that people in the society write: short readable sentences from word lists, by topic of interest.

A reader of a feed must see at a glance what a tweet is about, so each topic has its own things, settings and
sentences. A tweet's text is a pure function of (topic, second topic, quality, variant).
"""

from typing import NamedTuple


class Topic(NamedTuple):
    """A topic's vocabulary: ``{a}`` in a sentence becomes one of ``things``, ``{b}`` one of ``settings``."""

    name: str
    things: tuple[str, ...]
    settings: tuple[str, ...]
    sentences: tuple[str, ...]


TOPICS: tuple[Topic, ...] = (
    Topic(
        "astronomy",
        ("Saturn's rings", "the Orion nebula", "the lunar terminator", "Jupiter's moons", "the Andromeda galaxy",
         "the Pleiades", "a comet's tail", "the summer Milky Way"),
        ("through an old six-inch reflector", "before the clouds rolled in", "from the balcony",
         "at three in the morning", "under a properly dark sky", "with nothing but binoculars"),
        ("Nobody warned me how small {a} looks {b}.", "Sketching {a} {b} teaches more than any photograph.",
         "Observing list for tonight: {a}, {b}.", "New measurements of {a} are out, and the textbook picture moves."),
    ),
    Topic(
        "cooking",
        ("sourdough", "a slow tomato sauce", "miso butter", "pickled red onions", "a pot of lentils", "lemon tart",
         "hand-cut noodles", "roast cauliflower"),
        ("on a weeknight", "in one pan", "with whatever the market had", "for six hungry friends", "without a recipe",
         "the way my grandmother did it"),
        ("The trick with {a} is patience and more salt than you think.", "Made {a} {b}. No leftovers.",
         "If your kitchen smells of {a}, the neighbours will talk to you.", "Hot take: {a} is better the next day."),
    ),
    Topic(
        "running",
        ("hill repeats", "the long run", "a negative split", "trail shoes", "an easy ten kilometres", "track intervals",
         "the half marathon", "recovery days"),
        ("before sunrise", "in sideways rain", "with tired legs", "along the canal", "at talking pace",
         "two weeks before race day"),
        ("{A} {b}, and for once the watch agreed with the legs.", "Nobody enjoys {a}. You just go.",
         "Training note: {a} {b}, heart rate lower than last month.", "All I know about pacing I learned from {a}."),
    ),
    Topic(
        "jazz",
        ("a brushed snare", "the bridge of an old ballad", "a walking bass line", "modal piano",
         "a tenor solo that breathes", "the horn section", "a late Coltrane record", "two choruses of trumpet"),
        ("at the back of a small club", "on scratched vinyl", "long after midnight", "with the lights half down",
         "in an empty rehearsal room", "at half the tempo"),
        ("Listen to {a} {b} and tell me time is a straight line.", "Transcribed {a} today. It is all in the silences.",
         "Tonight: {a}, {b}.", "The band let {a} speak {b}, and nobody coughed."),
    ),
    Topic(
        "gardening",
        ("the tomatoes", "a rambling rose", "home-made compost", "the first broad beans", "a shady fern corner",
         "self-sown poppies", "the old pear tree", "winter kale"),
        ("after the last frost", "on a north-facing wall", "in pots on the steps", "with far too many slugs about",
         "between two showers", "at the end of a dry month"),
        ("{A} {b}: doing better than I deserve.", "Planted {a} and lost the label, as is tradition.",
         "Advice wanted: {a} {b}. Prune now or wait?", "Half of gardening is leaving {a} alone."),
    ),
    Topic(
        "chess",
        ("the Caro-Kann", "a quiet rook lift", "an opposite-coloured bishop ending", "the isolated pawn",
         "a queen sacrifice", "the Berlin endgame", "a knight on the rim", "zugzwang"),
        ("in time trouble", "against a stronger player", "on board three", "after a sleepless night",
         "in a simultaneous display", "with two minutes left"),
        ("Lost to {a} {b}. Again.", "Annotated my weekend game: {a} was the turning point.",
         "Puzzle of the day is about {a}. White to move, and there is only one move.", "People underrate {a} {b}."),
    ),
    Topic(
        "birds",
        ("a murmuration of starlings", "the first swallow", "a kingfisher", "two crested grebes", "a short-eared owl",
         "the dawn chorus", "a wren", "migrating cranes"),
        ("over the reed bed", "from the kitchen window", "at the edge of the estuary", "in a cold east wind",
         "just before dusk", "where the footpath floods"),
        ("{A} {b}. I forgot to lift the camera.", "Patch notes: {a}, {b}, and very wet boots.",
         "Counted everything this morning; {a} made the list.", "You hear {a} long before you see it."),
    ),
    Topic(
        "cinema",
        ("a long unbroken take", "the restored print", "a silent comedy", "the final shot", "a film about glaciers",
         "an unreliable narrator", "a double bill", "the score"),
        ("on a very big screen", "in an almost empty theatre", "in the original language", "with live piano",
         "twice in one week", "on a rainy Sunday"),
        ("{A} {b} is still the best evening out.", "I keep thinking about {a}, and I saw it on Tuesday.",
         "Nobody shoots {a} like that any more.", "Programme for the film club: {a}, {b}."),
    ),
    Topic(
        "cycling",
        ("a new chain", "the gravel loop", "a three-pass day", "tubeless tyres", "the commute", "a borrowed tandem",
         "a tailwind", "hand-built wheels"),
        ("up the back of the valley", "with loaded panniers", "on frozen lanes", "before work",
         "until the lights gave up", "with one working gear"),
        ("{A} {b}, and not one puncture.", "Spent the evening on {a}. The bike is silent at last.",
         "Route idea: {a} {b}, café at kilometre forty.", "There is no problem that {a} cannot improve."),
    ),
    Topic(
        "photography",
        ("a 35 mm roll", "the blue hour", "a contact sheet", "hard side light", "a pinhole camera", "a wet street",
         "a portrait of a stranger", "the darkroom"),
        ("with one lens", "at a thousandth of a second", "by the harbour", "without looking at the screen",
         "on expired film", "in thick fog"),
        ("Thirty-six frames of {a} {b}; two keepers.", "{A} {b}. I waited an hour for the dog to leave.",
         "Rule I break most: never shoot {a} at noon.", "Printed {a} today and finally saw what it was about."),
    ),
    Topic(
        "programming",
        ("a flaky test", "the event log", "a branchless loop", "a schema migration", "the type checker",
         "a memory leak", "property-based tests", "the retry queue"),
        ("on a Friday afternoon", "in production", "with two lines of code", "under load", "after deleting the cache",
         "in somebody else's repository"),
        ("Found {a} {b}. The comment said it could not happen.", "{A} {b}: write-up soon.",
         "If you only fix one thing this week, make it {a}.", "Measured it: {a} was never the slow part."),
    ),
    Topic(
        "oceans",
        ("a field of sea grass", "the tide tables", "a humpback's song", "cold-water coral", "the night shift on deck",
         "plankton under the lens", "a drifting buoy", "an octopus in a jar"),
        ("off the northern shelf", "at forty metres", "in a four-metre swell", "from the survey boat",
         "on the falling tide", "after a week of storms"),
        ("{A} {b}: the instruments agree for once.", "We logged {a} {b}, and everybody came up to look.",
         "Explain {a} to a child and you will learn three new things.", "The best hour at sea is {a}, {b}."),
    ),
)  # fmt: skip

#: Sentences that fit any topic.
COMMON = (
    "Today's small joy: {a}, {b}.",
    "I could talk about {a} all day.",
    "Does anyone else think about {a} {b}?",
    "A thread on {a}, from somebody who got it wrong for years.",
    "{A} {b}. That is all.",
    "Three things I learned from {a} {b}.",
)
#: Sentences written without care (low quality).
CARELESS = (
    "You won't believe {a}!!!",
    "{A}. Thoughts?",
    "ok but {a} though",
    "Like if you agree: {a}.",
    "so bored, may do {a} later",
)
#: Endings of a sentence; half of all tweets have one.
CLOSERS = (
    "More tomorrow.",
    "Notes in the replies.",
    "Would do it again.",
    "Ask me anything.",
    "It took three tries.",
    "Best part of the week.",
    "You had to be there.",
    "Small steps.",
    "Learning slowly.",
    "Worth the wait.",
    "Details soon.",
    "Who is with me?",
    "I stand by this.",
    "Next time with company.",
    "Old news to some, new to me.",
    "Patience pays.",
    "No regrets.",
    "The rest is practice.",
)
REPLIES = (
    "Same here: {a} {b}.",
    "This made me try {a} again.",
    "How did you manage that {b}?",
    "Disagree, {a} is overrated.",
    "Saving this for the next time I do {a}.",
)
QUOTES = (
    "Exactly this. {A} {b}.",
    "Adding to this: {a}, {b}.",
    "Everyone who cares about {a} should read this one.",
)

#: Below this quality a tweet is written carelessly.
QUALITY_CARELESS = 0.3
#: If the second topic's share is at least this, its hashtag is written too.
MIX_NAMED = 0.25


def hashtags(topic: int, second: int, mix: float) -> list[str]:
    """Hashtags of a tweet about ``topic`` with share ``mix`` and ``second`` with the rest, without ``#``."""
    tags = [TOPICS[topic].name]
    if second != topic and 1.0 - mix >= MIX_NAMED:
        tags.append(TOPICS[second].name)
    return tags


def compose(topic: int, quality: float, variant: int, sentences: tuple[str, ...] = ()) -> str:
    """A sentence about the topic. ``variant`` (any unsigned 64-bit number) chooses among the possible ones.

    ``sentences`` are used instead of the topic's own (``REPLIES``, ``QUOTES``).
    """
    vocabulary = TOPICS[topic]
    own = not sentences
    if own:
        sentences = CARELESS if quality < QUALITY_CARELESS else vocabulary.sentences + COMMON
    variant, pick = divmod(variant, len(sentences))
    variant, thing = divmod(variant, len(vocabulary.things))
    variant, setting = divmod(variant, len(vocabulary.settings))
    a = vocabulary.things[thing]
    text = sentences[pick].format(a=a, A=a[0].upper() + a[1:], b=vocabulary.settings[setting])
    if own and quality >= QUALITY_CARELESS:
        closer = variant % (2 * len(CLOSERS))
        text = f"{text[0].upper()}{text[1:]}" + (f" {CLOSERS[closer]}" if closer < len(CLOSERS) else "")
    return text


def with_tags(text: str, tags: list[str]) -> str:
    """The text with its hashtags written out at the end."""
    return " ".join([text, *(f"#{tag}" for tag in tags)])
