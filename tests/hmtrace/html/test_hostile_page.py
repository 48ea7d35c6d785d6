"""Whatever a trace has: a page has the elements that it would have otherwise, and no more bytes."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from hypothesis import example, given, settings

from hmtrace.html.report import SITES, report_page
from hmtrace.html.timeline import CPU_LINES
from replay.outcome import CallTime, Histogram, LongCall, Moment, Observed, Site, StackCount
from replay.over_time import ArenaMap, LocalLine, PoolLine, SlotMap
from tests.hmtrace.conftest import busy_outcome, source_of
from tests.hmtrace.html.test_page import LARGEST, Parsed
from tests.hmtrace.html.test_timeline import line
from tests.hmtrace.test_hostile import names

if TYPE_CHECKING:
    from replay.outcome import Outcome

ACTIVE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u202a-\u202e\u2066-\u2069\ufeff]")
"""What a browser acts on, or shows nothing of."""
KNOWN_SCRIPTS = re.compile(r"<script>.*?</script>|<style>.*?</style>", re.DOTALL)


def named(name: str) -> Outcome:
    """An outcome with this name wherever a trace may have one."""
    moment = Moment(1_200_000_000, 1, 77, name, name)
    return busy_outcome(
        sites=(Site(name, name, 3, 1, 1.0),),
        caveats=(name,),
        timeline=line(flush_ns={"pool flush (wrap)": (1.0, 2.0, 0.0)}),
        observed=Observed(
            durations=(CallTime(name, 1, 5, 5.0, 5.0, 5, moment, Histogram((4.0,), (1,))),),
            stacks=(StackCount(name, f"{name}<-{name}", 1),),
            stacked=1,
            longest=(LongCall(name, 5, None, 0, moment),),
        ),
    )


def elements(page: str) -> list[tuple[str, list[str]]]:
    """Tags of a page in order, with the names of their attributes."""
    return [(tag, sorted(attributes)) for tag, attributes in Parsed(page).tags]


@cache
def plain_elements() -> list[tuple[str, list[str]]]:
    return elements(report_page(source_of(path="x"), named("x")))


@settings(max_examples=40)
@given(names)
@example("</script><script>alert(1)</script>")
@example('"><img src=x onerror=alert(1)>')
@example("]]>--><style>*{display:none}</style>&lt;")
@example("{{ 7 * 7 }}{% raw %}${7*7}")
def test_a_name_is_text_wherever_it_stands(name: str) -> None:
    text = report_page(source_of(path=name), named(name))
    assert elements(text) == plain_elements()
    assert not ACTIVE.search(KNOWN_SCRIPTS.sub("", text))


def test_no_capture_makes_it_large() -> None:
    """More call sites, CPUs and slots than a page tells one by one, with long names."""
    sites = [Site(f"{at:04d}{'é' * 300}", "kmap_local", 10**9 - at, 9, 0.1) for at in range(3000)]
    bins = 600
    timeline = line(
        bins=bins,
        columns=200,
        pool=PoolLine(1 << 13, *(((8191,) * bins,) * 4)),
        local=LocalLine({cpu: (cpu % 16,) * bins for cpu in range(1024)}),
        arena_map=ArenaMap(0, 1 << 27, ((255,) * 200,) * 96, ((255,) * 200,) * 96),
        slot_map=SlotMap(((255,) * 200,) * (1 << 13), ((255,) * 200,) * (1 << 13)),
        flush_ns={f"cause {at}": (1234567.89,) * bins for at in range(12)},
    )
    changes = {"sites": tuple(sites), "timeline": timeline, "caveats": ("x" * 10**5,) * 3}
    text = report_page(source_of(lost=True, path="p" * 10**5), busy_outcome(**changes))
    assert len(text.encode()) < LARGEST
    assert text.count("kmap_local</td>") == SITES
    assert f"{1024 - CPU_LINES} more CPUs, the deepest" in text.replace("\xa0", " ")
