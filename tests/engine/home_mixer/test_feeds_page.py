"""docs/feeds.md names every component and reason, and says of filters and features what the code says."""

import re
from pathlib import Path

import pytest

from engine.feed import FEEDS, Product
from engine.home_mixer.config import HomeMixerConfig, NarrowConfig
from engine.home_mixer.products import build_products
from engine.pipeline.last_resort import LastResort
from engine.pipeline.late_stages import Contents, Scoring, Selection, Verification
from engine.pipeline.stages import Enrichment, Filtering, Hydration, Narrowing, Sourcing
from engine.rooms import small_rooms
from engine.state import EngineState

PAGE = (Path(__file__).parents[3] / "docs" / "feeds.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("|")]


@pytest.fixture(scope="module")
def products():
    return build_products(EngineState(small_rooms()), HomeMixerConfig(), "hash")


def stage_of(pipeline, kind):
    (stage,) = (stage for stage in (*pipeline.under_lock, *pipeline.after_lock) if isinstance(stage, kind))
    return stage


def rows_between(start, end):
    """The first cell of every row of the table between two headings' marks, and the whole rows."""
    part = PAGE[PAGE.index(start) : PAGE.index(end, PAGE.index(start))]
    return [line for line in part.splitlines() if line.startswith("| `")]


def test_the_stages(products):
    names = [re.match(r"\| `(\w+)`", row)[1] for row in rows_between("| stage |", "## For You")]
    pipeline = products[Product.FOR_YOU]
    assert names == [stage.name for stage in (*pipeline.under_lock, *pipeline.after_lock)] + ["present"]
    assert {
        stage.name for stage in (*products[Product.FOLLOWING].under_lock, *products[Product.FOLLOWING].after_lock)
    } < {*names}


def test_the_sources(products):
    names = [re.match(r"\| `(\w+)`", row)[1] for row in rows_between("**Sources**", "**Hydrators**")]
    sources = stage_of(products[Product.FOR_YOU], Sourcing).sources
    last = stage_of(products[Product.FOR_YOU], LastResort).search
    assert names == [*(source.name for source in sources), last.name]
    assert {*NarrowConfig.__struct_fields__} == {*names, "total"}, "every source has a cap"


def test_the_filters_say_what_they_drop(products):
    rows = rows_between("**Filters**", "**Narrowing**")
    assert rows == [
        f"| `{rule.name}` | {rule.drops} |" for rule in stage_of(products[Product.FOR_YOU], Filtering).filters
    ]
    for_you, following = (stage_of(products[p], Filtering).filters for p in (Product.FOR_YOU, Product.FOLLOWING))
    own = [rule for rule in following if rule not in for_you]
    assert rows_between("## Following", "Keyset") == [f"| `{rule.name}` | {rule.drops} |" for rule in own]


def test_the_features_are_those_of_the_schema(products):
    schema = stage_of(products[Product.FOR_YOU], Enrichment).schema
    rows = rows_between("**Features**", "**Score**")
    assert rows == [f"| `{f.name}` | {f.kind} | {f.meaning} |" for f in schema.features]
    assert f"version {schema.version}, hash `{schema.hash[:12]}`" in PAGE


def test_every_other_component_and_reason_is_named(products):
    for product in FEEDS:  # docs/who_to_follow.md has those of people
        pipeline = products[product]
        stages = (*pipeline.under_lock, *pipeline.after_lock)
        named = [effect.name for effect in pipeline.side_effects]
        for stage in stages:
            match stage:
                case Hydration():
                    named += [hydrator.name for hydrator in stage.hydrators]
                case Filtering():
                    named += [rule.name for rule in stage.filters]
                case Narrowing():
                    named += [stage.ranker.name, stage.reason]
                case Scoring():
                    named += [scorer.name for scorer in stage.scorers]
                case Selection():
                    named.append(stage.selector.name)
                case Contents():
                    named.append(stage.reader.name)
                case Verification():
                    named += [verifier.name for verifier in stage.verifiers]
                case LastResort():
                    named += [stage.search.name]
                case Sourcing():
                    named += [source.name for source in stage.sources]
                case Enrichment():
                    named += [enricher.name for enricher in stage.enrichers]
        assert not [name for name in named if f"`{name}`" not in PAGE]
