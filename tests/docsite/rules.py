"""Pages of the rules of ``check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hmtrace.report.unknowing import EVIDENCE
from replay.rules.judge import RULES
from tests.docsite.markdown import code, table, words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from replay.rules.rule import FindingRule


def pages() -> Iterator[tuple[str, str]]:
    """Path in docs/ and text of each: the list, and one for each rule."""
    rules = sorted(RULES, key=lambda rule: rule.name)
    yield "reference/rules/index.md", _index(rules)
    for rule in rules:
        yield f"reference/rules/{rule.name}.md", _page(rule)


def _index(rules: list[FindingRule]) -> str:
    rows = [
        [f"[{code(rule.name)}](#rule-{rule.name})", ", ".join(rule.severities), words(rule.meaning)]
        for rule in rules
    ]
    names = "\n".join(rule.name for rule in rules)
    return f"""# Rules

What `hmtrace check` looks for, and what the findings of `report` are. Each rule has a page, with
what to do where it finds something. How to use them: [check](../../check.md).

{table(["rule", "severity", "what it says"], rows)}
```{{toctree}}
:hidden:

{names}
```
"""


def _page(rule: FindingRule) -> str:
    limit = ""
    if rule.limit is not None:
        usual = "N" if rule.limit.usual is None else f"{rule.limit.usual:g}"
        limit = f"""
## Limit

From {usual} {words(rule.limit.unit)} on; `--rule {rule.name}=N` sets another number.
"""
    needs = ""
    if rule.needs:
        rows = [[words(EVIDENCE[n].name), words(EVIDENCE[n].record)] for n in rule.needs]
        needs = f"""
## Needs

Without this evidence the rule says *unknown*, not *fine*.

{table(["evidence", "what records it"], rows)}"""
    return f"""(rule-{rule.name})=
# {rule.name}

{words(rule.meaning)}

- Severity: {", ".join(rule.severities)}
- Look at this rule alone: `hmtrace check CAPTURE --rule {rule.name}`
- Leave out its findings: `hmtrace check CAPTURE --ignore {rule.name}`

## What to do

{words(rule.remedy[:1].upper() + rule.remedy[1:])}.
{limit}{needs}"""
