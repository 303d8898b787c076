"""docs/who_to_follow.md has every source, filter and component, and says what the code says."""

import re
from pathlib import Path

from engine.feed import Product
from engine.home_mixer.config import HomeMixerConfig
from engine.home_mixer.products import build_products
from engine.pipeline.late_stages import Verification
from engine.pipeline.stages import Filtering, Hydration, Sourcing
from engine.rooms import small_rooms
from engine.state import EngineState
from engine.who_to_follow.config import SourceWeights
from engine.who_to_follow.reasons import WORDS

PAGE = (Path(__file__).parents[3] / "docs" / "who_to_follow.md").read_text()


def rows_between(start, end):
    part = PAGE[PAGE.index(start) : PAGE.index(end, PAGE.index(start))]
    return [line for line in part.splitlines() if line.startswith("| `")]


def test_the_page_is_true():
    pipeline = build_products(EngineState(small_rooms()), HomeMixerConfig(), "hash")[Product.WHO_TO_FOLLOW]
    stages = {type(stage): stage for stage in (*pipeline.under_lock, *pipeline.after_lock)}
    names = [source.name for source in stages[Sourcing].sources]
    assert [re.match(r"\| `(\w+)`", row)[1] for row in rows_between("## Sources", "**The circle")] == names
    assert set(WORDS) == set(names) == set(SourceWeights.__struct_fields__)
    filters = [f"| `{rule.name}` | {rule.drops} |" for rule in stages[Filtering].filters]
    assert rows_between("## Who is left out", "## Order") == filters
    for part in (*stages[Hydration].hydrators, *stages[Verification].verifiers):
        assert f"`{part.name}`" in PAGE
