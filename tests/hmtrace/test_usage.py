"""Wrong usage is told as all other errors are: one line, and a hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmtrace.__main__ import run

FIXTURE = Path(__file__).parents[2] / "fixtures/cases/i386-leak100"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("report --split 2g x", ("report: no option --split", "'hmtrace replay', ", " have it")),
        ("--split 2g", ("no option --split", "'hmtrace layout'")),
        ("report --min-exact 9 x", ("report: no option --min-exact", "'hmtrace validate' has it")),
        ("info --no-pae x", ("info: no option --no-pae", "'hmtrace replay', ", " have it")),
        ("layout --fromat json", ("layout: no option --fromat", "did you mean '--format'?")),
        ("report --zzzz x", ("report: no option --zzzz", "'hmtrace report --help'")),
        ("repot x", ("no command repot", "did you mean 'report'?")),
        ("info", ("info: missing argument 'CAPTURE'", "'hmtrace info --help'")),
        ("info --format yaml x", ("info: invalid value for '--format': 'yaml'", "hint")),
        ("info --format jsn x", ("'jsn' is not one of", "did you mean 'json'?")),
        ("sites --sort call x", ("'call' is not one of", "did you mean 'calls'?")),
        ("recorder --bufffer", ("recorder: no option --bufffer", "'hmtrace recorder --help'")),
        ("layout --arch amr", ("architecture 'amr'", "did you mean 'arm'?")),
        ("layout --split 2gopt", ("no split '2gopt'", "did you mean '2g_opt'?")),
        ("layout --split 5g", ("no split '5g'", "one of 3g, 3g_opt, 2g, 2g_opt, 1g")),
        ("layout --machine turis-omnia", ("turis-omnia", "did you mean 'turris-omnia-2g'?")),
        (f"report --costs cortex-a14 {FIXTURE}", ("cortex-a14", "did you mean 'cortex-a15'?")),
        ("check --rule pool-exhuasted x", ("'pool-exhuasted'", "did you mean 'pool-exhausted'?")),
        ("check --ignore slow-call@x y", ("'slow-call'", "did you mean 'slow-calls'?")),
        ("sweep --axis slit=3g x", ("'slit'", "did you mean 'split'?")),
        ("sweep --axis split=3g --by ipi x", ("'ipi'", "did you mean 'ipis'?")),
        ("sweep --axis split=3g --where failure=0 x", ("'failure'", "did you mean 'failures'?")),
        ("sweep --find min:pkmp --where waits=0 x", ("'pkmp'", "did you mean 'pkmap'?")),
        ("synth pool-ful", ("'pool-ful'", "did you mean 'pool-full'?")),
        ("synth mixed --set taks=3", ("'taks'", "did you mean 'tasks'?")),
        ("convert x -o x.parqet", ("x.parqet", "did you mean '.parquet'?")),
        ("layout --ram", ("option '--ram' requires", "hint")),
        ("layout --pkmap 3", ("--pkmap: 3 is no power of 2", "hint")),
        ("info \x1b[2J --\u202e", ("info: no option --\\u202e", "hint")),
    ],
)
def test_one_style(
    words: str,
    told: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["hmtrace", *words.split(" ")])
    assert run() == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("hmtrace: ")
    assert second.startswith("  hint: ")
    for words_told in told:
        assert words_told in err
    assert err.replace("\n", "").isprintable()


def test_without_a_word_the_help_is_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["hmtrace"])
    assert run() == 2
    assert "First steps:" in capsys.readouterr().err


def test_words_end_and_codes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, code in (("--help", 0), ("--version", 0), ("layout --help", 0), ("layout", 0)):
        monkeypatch.setattr("sys.argv", ["hmtrace", *words.split()])
        assert run() == code
