"""`hmtrace check`: what it finds, judged by the truth of synthetic traces, and when it fails."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from collectors.errors import HmtraceError
from collectors.synthetic.scenarios import SCENARIOS
from hmtrace.cli import app
from hmtrace.cli.finding import Goal, Quest
from replay.rules.evidence import missing
from replay.rules.judge import RULES, look
from replay.rules.rule import SEVERITIES, Case
from tests.schemas import errors_of, read, strict, title_of

if TYPE_CHECKING:
    from click.testing import Result

    from replay.machine.model import Machine

FIXTURES = Path(__file__).parents[2] / "fixtures"
PATHOLOGIES: dict[str, dict[str, set[str]]] = {
    "minix-walk": {"info": {"kmap-nested", "mapping-cost"}},
    "page-cache": {"info": {"local-over-switch", "mapping-cost"}},
    "zram-swap": {"info": {"mapping-cost"}},
    "fork-exec": {"info": {"mapping-cost"}},
    "map-ram": {"warning": {"purge-storm", "mapping-cost"}},
    "mixed": {
        "warning": {"purge-storm", "flush-storm", "flush-unused-idle", "mapping-cost"},
        "info": {"kmap-nested", "local-over-switch"},
    },
    "module-storm": {
        "warning": {"flush-storm", "flush-unused-idle", "purge-storm", "mapping-cost"}
    },
    "pool-full": {
        "problem": {"pool-exhausted"},
        "warning": {"kmap-nested", "flush-storm", "mapping-cost"},
    },
    "kmap-deadlock": {"problem": {"kmap-deadlock", "pool-exhausted"}},
    "kmap-leak": {"problem": {"kmap-held"}, "info": {"kmap-nested", "mapping-cost"}},
    "local-order": {"problem": {"local-order"}, "info": {"local-over-switch", "mapping-cost"}},
    "vmap-fragment": {
        "problem": {"arena-exhausted"},
        "warning": {"arena-fragmented", "mapping-cost"},
    },
    "purge-storm": {"problem": {"mapping-cost"}, "warning": {"purge-storm"}},
}
"""What each scenario is about, by the words that it describes itself with, and what is worth a
remark besides: `minix-walk` walks two directories at once. Workloads that do nothing but map cost
much of all CPU time, and a few milliseconds of map-ram and of mixed, which has all in it, purge as
often as a machine does in minutes."""
NOT_BESIDE = {"arena-exhausted-log", "kmap-warnings-log", "ram-log", "lowmem-oom"}
NOT_BESIDE |= {"lowmem-stalled", "lowmem-low"}
"""Rules whose files no scenario has."""


def check(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, words)])


def document(*words: str | Path) -> dict[str, Any]:
    done = check(*words, "--format", "json")
    assert done.exit_code in (0, 1), done.output
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["failed"] is (done.exit_code == 1)
    return told


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenarios")
    for name in SCENARIOS:
        made = CliRunner().invoke(app, ["synth", name, "-o", str(folder / name)])
        assert made.exit_code == 0, made.output
    return folder


@cache
def checked(folder: Path) -> dict[str, Any]:
    return document(folder)


def truth(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "truth.json").read_text())
    return told


def of_rule(told: dict[str, Any], rule: str) -> dict[str, Any]:
    (found,) = (f for f in told["findings"] if f["rule"] == rule)
    return dict(found)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_pathology_of_every_scenario_is_found_and_no_other(scenarios: Path, name: str) -> None:
    told = checked(scenarios / name)
    found: dict[str, set[str]] = {}
    for one in told["findings"]:
        found.setdefault(one["severity"], set()).add(one["rule"])
    assert found == PATHOLOGIES[name]
    assert {u["rule"] for u in told["unknown"]} == NOT_BESIDE


def test_counts_are_those_of_the_truth(scenarios: Path) -> None:
    told, really = (read(scenarios / "kmap-leak") for read in (checked, truth))
    leak = of_rule(told, "kmap-held")
    assert leak["count"] == really["pool"]["used_at_end"] > 100
    assert leak["first"]["comm"] == "leaky"
    assert leak["first"]["site"].startswith("kunmap_missing+")
    told, really = (read(scenarios / "kmap-deadlock") for read in (checked, truth))
    assert of_rule(told, "kmap-deadlock")["count"] == len(really["pool"]["waiting"])
    told, really = (read(scenarios / "pool-full") for read in (checked, truth))
    assert of_rule(told, "pool-exhausted")["count"] == really["pool"]["waits"]
    told, really = (read(scenarios / "local-order") for read in (checked, truth))
    assert of_rule(told, "local-order")["count"] == really["local"]["out_of_order"] > 100
    told, really = (read(scenarios / "vmap-fragment") for read in (checked, truth))
    assert of_rule(told, "arena-exhausted")["count"] == really["arena"]["failures"]
    pieces = of_rule(told, "arena-fragmented")["figures"]
    assert pieces["hole"] < pieces["asked"] <= pieces["free"] < really["arena"]["peak_used"]
    told, really = (read(scenarios / "purge-storm") for read in (checked, truth))
    assert of_rule(told, "purge-storm")["count"] == really["arena"]["hulls"]


def test_rules_are_told_apart_and_explained() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.meaning.endswith(".")
        assert rule.remedy
        assert list(rule.severities) == sorted(rule.severities, key=SEVERITIES.index)
    listed = check("--rules")
    assert listed.exit_code == 0
    assert all(rule.name in listed.stdout for rule in RULES if not rule.is_advice)
    rules = json.loads(check("--rules", "--format", "json").stdout)["rules"]
    assert {r["rule"] for r in rules} == {rule.name for rule in RULES if not rule.is_advice}


@pytest.mark.parametrize(
    "name", ["i386-hog-d-local-pae-smp2", "i386-hog-e-vmapfail-pae-smp1", "arm-61-1g-minix"]
)
def test_check_and_report_find_the_same(name: str) -> None:
    shown = CliRunner().invoke(app, ["report", "--format", "json", str(FIXTURES / name)])
    reported = {f["rule"]: f for f in json.loads(shown.stdout)["findings"]}
    told = document(FIXTURES / name)
    assert {f["rule"] for f in told["findings"]} == reported.keys() - {"split", "fine"}
    for found in told["findings"]:
        same = found | {"evidence": reported[found["rule"]]["evidence"]}
        assert same.items() >= reported[found["rule"]].items()
        if found["rule"] != "arena-exhausted":  # check searches what would have been enough, too
            assert found == same


def test_the_vmalloc_that_would_have_been_enough_is_that_of_a_search() -> None:
    hog = FIXTURES / "i386-hog-e-vmapfail-pae-smp1"
    told = of_rule(document(hog, "--rule", "arena-exhausted"), "arena-exhausted")
    words = ["sweep", str(hog), "--find", "min:vmalloc", "--where", "failures=0"]
    found = CliRunner().invoke(app, [*words, "--format", "json"])
    (answer,) = json.loads(found.stdout)["answers"]
    assert told["figures"]["enough"] == answer["value"] > told["figures"]["size"]
    assert answer["value_sense"] == "least"
    assert f"at least vmalloc={answer['value'] >> 20}M is needed" in told["evidence"]


def test_a_document_is_bounded_however_many_tasks_there_are(tmp_path: Path) -> None:
    """400 tasks wait for each other: the first of them are named, and how many there are."""
    crowd = tmp_path / "crowd"
    words = ["synth", "kmap-deadlock", "--set", "tasks=400", "-o", str(crowd)]
    assert CliRunner().invoke(app, words).exit_code == 0
    told = document(crowd)
    graph = of_rule(told, "kmap-deadlock")["figures"]["graph"]
    assert graph["sleepers"] == 400
    assert len(graph["edges"]) == 64 < graph["edges_all"]
    assert len(graph["tasks"]) <= 32
    assert len(json.dumps(told)) < 64_000
    assert len(check(crowd).stdout) < 8_000


def test_findings_have_the_severities_that_their_rules_declare(scenarios: Path) -> None:
    declared = {rule.name: rule.severities for rule in RULES}
    for name in SCENARIOS:
        for found in checked(scenarios / name)["findings"]:
            assert found["severity"] in declared[found["rule"]]


def test_what_fails() -> None:
    hog = FIXTURES / "i386-hog-d-local-pae-smp2"
    assert check(hog).exit_code == 1
    warned = FIXTURES / "arm-61-1g-minix"
    assert check(warned).exit_code == 0
    assert check(warned, "--fail-on", "warning").exit_code == 1
    assert check(warned, "--fail-on", "warning", "--rule", "kmap-held").exit_code == 0
    both = check(warned, hog, "--format", "json")
    assert both.exit_code == 1
    assert {f["capture"] for f in json.loads(both.stdout)["findings"]} == {str(hog), str(warned)}


def test_limits() -> None:
    hog = FIXTURES / "i386-hog-a-waiters-pae-smp2"
    usual = document(hog, "--rule", "local-depth")
    assert (usual["findings"], [r["rule"] for r in usual["rules"]]) == ([], ["local-depth"])
    strict = document(hog, "--rule", "local-depth=2")
    assert of_rule(strict, "local-depth")["count"] == 2
    assert strict["rules"][0]["limit"]["value"] == 2
    every = document(hog, "--rule", "all,local-depth=2")
    assert len(every["rules"]) == sum(not rule.is_advice for rule in RULES)


@pytest.mark.parametrize(
    "words",
    [
        ["--rule", "kmap-leek"],
        ["--rule", "kmap-held=3"],
        ["--rule", "local-depth=many"],
        ["--rule", "local-depth=-1"],
        ["--rule", "local-depth=nan"],
        ["--ignore", "kmap-leek@perl"],
        ["--ignore", "kmap-held@perl until tomorrow"],
        ["--ignore-file", "no-such-file.txt"],
        ["--baseline", "no-such-file.json"],
        ["--rules", "--format", "junit"],
    ],
)
def test_wrong_usage(words: list[str]) -> None:
    done = check(FIXTURES / "cases", *words)
    assert isinstance(done.exception, HmtraceError)
    assert done.exception.exit_code == 2
    assert isinstance(check().exception, HmtraceError)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": "hmtrace/report/1"}', '{"schema": "hmtrace/check/1"}']
    + ['{"schema": "hmtrace/check/1", "findings": ' + f + "}" for f in ("3", "[3]", "[{}]")]
    + ['{"schema": "hmtrace/check/1", "findings": [{"fingerprint": [], "severity": "info"}]}']
    + ['{"schema": "hmtrace/check/1", "findings": [{"fingerprint": "a", "severity": "bad"}]}'],
)
def test_what_is_no_baseline_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "known.json"
    file.write_text(content)
    done = check(FIXTURES / "i386-hog-d-local-pae-smp2", "--baseline", file)
    assert isinstance(done.exception, HmtraceError)
    assert done.exception.exit_code == 2


def test_what_is_known_does_not_fail_and_what_became_worse_does(tmp_path: Path) -> None:
    hog = FIXTURES / "i386-hog-d-local-pae-smp2"
    known = tmp_path / "known.json"
    assert check(hog, "--format", "json", "-o", known).exit_code == 1
    again = check(hog, "--baseline", known)
    assert again.exit_code == 0
    assert "local-depth (baseline)" in again.stdout
    told = json.loads(known.read_text())
    for found in told["findings"]:
        if found["rule"] == "local-depth":
            assert found["severity"] == "problem"
            found["severity"] = "warning"
    known.write_text(json.dumps(told))
    assert check(hog, "--baseline", known).exit_code == 1


def test_documents_are_as_their_schema_says(scenarios: Path, tmp_path: Path) -> None:
    schema = strict(read("check"))
    assert schema["title"] == title_of("check")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 5000)
    known = tmp_path / "known.json"
    assert check(scenarios / "kmap-leak", "--format", "json", "-o", known).exit_code == 1
    ways: list[list[str | Path]] = [
        *([scenarios / name] for name in SCENARIOS),
        *([FIXTURES / name] for name in ("i386-lost-overrun-pae-smp2", "arm-61-1g-minix")),
        [FIXTURES / "i386-hog-e-vmapfail-pae-smp1", broken],
        [scenarios / "minix-walk", "--baseline", known, "--ignore", "kmap-held until 2020-01-31"],
        ["--rules"],
    ]
    for words in ways:
        told = json.loads(check(*words, "--format", "json").stdout)
        assert errors_of(told, schema) == [], words
        spoilt = told | {"rules": [told["rules"][0] | {"remedy": 3}], "more": 1}
        assert len(errors_of(spoilt, schema)) == 2


def test_what_is_excused_for_nothing_is_said(scenarios: Path, tmp_path: Path) -> None:
    leak, clean, known = scenarios / "kmap-leak", scenarios / "minix-walk", tmp_path / "known.json"
    assert check(leak, "--rule", "kmap-held", "--format", "json", "-o", known).exit_code == 1
    told = document(clean, "--baseline", known)["excuses"]
    assert told["baseline_gone"] == {"count": 1, "fingerprints": ["kmap-held:kunmap_missing"]}
    assert "found no more: kmap-held:kunmap_missing" in check(clean, "--baseline", known).stdout
    elsewhere = document(clean, "--baseline", known, "--rule", "local-depth")["excuses"]
    assert elsewhere["baseline_gone"]["count"] == 0
    assert elsewhere["baseline_unknown"]["fingerprints"] == ["kmap-held:kunmap_missing"]
    lossy = document(FIXTURES / "i386-lost-overrun-pae-smp2", "--baseline", known)["excuses"]
    assert lossy["baseline_unknown"]["count"] == 1, "what was lost may have been it"
    again = document(leak, "--baseline", known)["excuses"]
    assert again["baseline_gone"]["count"] == again["baseline_unknown"]["count"] == 0
    nothing = check(clean, "--ignore", "kmap-held@nobody*")
    assert "nothing like it is found: kmap-held@nobody*" in nothing.stdout


@pytest.mark.parametrize(
    ("until", "code", "said"),
    [("2020-01-31", 1, "which is over: kmap-held counts again"), ("2999-12-31", 0, "")],
)
def test_findings_are_ignored_up_to_a_day(
    scenarios: Path, tmp_path: Path, until: str, code: int, said: str
) -> None:
    done = check(scenarios / "kmap-leak", "--ignore", f"kmap-held until {until}")
    assert done.exit_code == code
    assert said in done.stdout
    file = tmp_path / "known.txt"
    file.write_text(f"# leaks that are known\n\nkmap-held@leak* until {until}  # as #17 says\n")
    assert check(scenarios / "kmap-leak", "--ignore-file", file).exit_code == code


@pytest.mark.parametrize("line", ["kmap-leek", "kmap-held until soon", "kmap-held leaky", "\xff"])
def test_wrong_lines_of_a_file_are_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "known.txt"
    file.write_bytes(b"# fine\n" + line.encode("latin-1"))
    done = check(FIXTURES / "i386-minix-pae-smp2", "--ignore-file", file)
    assert isinstance(done.exception, HmtraceError)
    assert done.exception.exit_code == 2
    assert str(file) in f"{done.exception} {done.exception.source}"


def test_findings_are_ignored_by_function_and_task(scenarios: Path) -> None:
    leak = scenarios / "kmap-leak"
    assert check(leak).exit_code == 1
    for pattern, code in (("", 0), ("@kunmap_missing", 0), ("@leak*", 0), ("@minix*", 1)):
        assert check(leak, "--ignore", f"kmap-held{pattern}").exit_code == code
    told = document(leak, "--ignore", "kmap-held")
    assert of_rule(told, "kmap-held")["excused"] == "ignored"


def test_a_rule_without_evidence_says_that_it_does_not_know(tmp_path: Path) -> None:
    told = document(FIXTURES / "i386-lost-overrun-pae-smp2")
    reasons = {u["rule"]: u["reason"] for u in told["unknown"]}
    assert reasons["kmap-held"] == "tracing lost events"
    assert "slow-calls" not in reasons, "a time that was seen is a time"
    told = document(FIXTURES / "i386-func-minix-pae-smp2")
    reasons = {u["rule"]: u["reason"] for u in told["unknown"]}
    assert reasons["kmap-deadlock"] == "the trace has no page arguments"
    whole = document(FIXTURES / "i386-minix-pae-smp2")
    assert "kmap-held" not in {u["rule"] for u in whole["unknown"]}
    strict = check(FIXTURES / "i386-lost-overrun-pae-smp2", "--fail-on-unknown")
    assert strict.exit_code == 1
    trace = tmp_path / "trace"
    made = CliRunner().invoke(app, ["synth", "zram-swap", "--events", "300", "-o", str(trace)])
    assert made.exit_code == 0
    (trace / "kprobe_events").unlink()
    reasons = {u["rule"]: u["reason"] for u in document(trace)["unknown"]}
    assert "no file tells whether they were traced" in reasons["kmap-held"]


def test_a_finding_stands_though_evidence_is_missing() -> None:
    told = document(FIXTURES / "i386-lost-overrun-pae-smp2")
    assert of_rule(told, "events-lost")["count"] == 77468
    assert not {f["rule"] for f in told["findings"]} & {u["rule"] for u in told["unknown"]}


def test_a_capture_that_cannot_be_read_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 5000)
    done = check(broken, FIXTURES / "i386-hog-d-local-pae-smp2", "--format", "json")
    assert done.exit_code == 3
    told = json.loads(done.stdout)
    assert [bool(c.get("error")) for c in told["captures"]] == [True, False]
    assert of_rule(told, "local-depth")["count"] == 15


def test_every_kind_of_evidence_can_be_asked_for(outcomes: Any) -> None:
    from collectors.snapshot import Snapshot

    outcome = outcomes.busy_outcome()
    case = Case(outcome, Snapshot(), None, outcome)
    for rule in RULES:
        assert {m.evidence for m in missing(rule.needs, case)} <= set(rule.needs)
    names = {one.rule.name for one in look(outcome, Snapshot(), None, RULES)}
    assert names == {rule.name for rule in RULES}


def test_a_search_that_no_kernel_answers_ends() -> None:
    """Where no kernel can have most of the values, they are told one after another."""

    def refuse(_values: dict[str, Any]) -> Machine:
        raise HmtraceError("no such kernel", exit_code=2)

    goal = Goal("vmalloc", is_least=True, values=range(5000), word=str, words="min:vmalloc")
    quest = Quest({}, {}, goal, refuse, lambda _machine: True)
    assert quest.wanted() == []
    assert quest.result.value is None
    assert len(quest.tried) > 1000
