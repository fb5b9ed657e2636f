"""What counts as right, what does not, and that no text can hang, break or use the grader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from running import PATIENCE
from suffice.errors import GraderError, SufficeError
from suffice.grading import Grader, Verdict, answer_part, grade, grade_answer
from suffice.grading.exact import normalise, same
from suffice.grading.extract import last_box
from suffice.grading.pool import Job, without_algebra

CORRECT, WRONG, UNPARSED, TIMEOUT = Verdict.CORRECT, Verdict.WRONG, Verdict.UNPARSED, Verdict.TIMEOUT

TOWER = r"\boxed{5^{5^{5^{5}}}}"  # late whatever the deadline
LATE = 5.0  # seconds: two hundred times what the others take


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


@pytest.fixture
def hasty() -> Iterator[Grader]:
    """For answers that may be late."""
    with Grader(deadline=1.0) as grader:
        yield grader


@pytest.fixture
def patient() -> Iterator[Grader]:
    """For answers that must not be late, however busy the machine."""
    with Grader(deadline=PATIENCE) as grader:
        yield grader


def gone(pid: int) -> bool:
    """Whether the process ends (a zombie has ended)."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


# -- where the answer is looked for


def test_the_answer_is_what_follows_the_last_close_of_thought():
    assert answer_part("<think>a</think>b</think> c") == " c"
    assert answer_part("<think>a \\boxed{5}") is None
    assert answer_part("</think>") == ""


def test_a_box_inside_the_thought_does_not_count():
    assert grade("<think>\\boxed{5}</think>It is \\boxed{6}.", "5", "math") == WRONG
    assert grade("<think>\\boxed{5}</think>", "5", "math") == UNPARSED
    assert grade("<think>\\boxed{6}</think>\\boxed{5}", "5", "math") == CORRECT


def test_a_thought_that_never_closes_is_wrong_whatever_it_holds():
    assert grade("<think>The answer is \\boxed{5}", "5", "math") == WRONG
    assert grade("\\boxed{5}", "5", "math") == WRONG
    assert grade("", "C", "choice") == WRONG


def test_an_answer_without_its_thought_has_its_own_door():
    assert grade_answer("\\boxed{5}", "5", "math") == CORRECT


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{7}", "7"),
        (r"\boxed {8}", "8"),
        (r"\boxed{3}, as asked in \boxed{}", "3"),
        (r"\boxed{3} or rather \boxed{\frac{4", "3"),
        (r"\boxed{}", None),
        ("no box", None),
    ],
)
def test_the_last_full_and_balanced_box_wins(text: str, box: str | None):
    assert last_box(text) == box


balanced = st.recursive(
    st.text("abc123+ ", max_size=5), lambda inner: st.builds("{}{{{}}}{}".format, inner, inner, inner), max_leaves=20
)


@given(balanced.map(str.strip).filter(bool), st.text(max_size=30).filter(lambda text: "box" not in text))
def test_a_box_of_any_nesting_comes_out_whole(inner: str, before: str):
    assert last_box(f"{before}\\boxed{{{inner}}}}} {{ after") == inner


# -- math: one table of answer, gold and verdict

MATH = [
    # boxes
    (r"\boxed{18}", "18", CORRECT),
    (r"\boxed{17}", "18", WRONG),
    (r"First \boxed{17}, no: \boxed{18}", "18", CORRECT),
    (r"\boxed{18}, not \boxed{17}", "18", WRONG),
    (r"The answer is $\boxed{7}$, not 8.", "7", CORRECT),
    (r"\boxed{garbage!}", "18", WRONG),
    # without a box
    ("#### 18", "18", CORRECT),
    ("5 + 3 = 8\n#### 1,450,000", "1450000", CORRECT),
    ("#### $18", "18", CORRECT),
    ("\\$18", "18", CORRECT),
    ("She earns $18 a day and needs $20.", "20", CORRECT),
    ("She earns $18 a day and needs $20.", "18", WRONG),
    ("The answer is 18 dollars", "18", CORRECT),
    ("The final answer is: **18**.", "18", CORRECT),
    ("**Answer:** 18", "18", CORRECT),
    ("Answer:\n\n18", "18", CORRECT),
    ("The answer is $3$, since $1+2=3$ and not 4.", "3", CORRECT),
    (r"The answer is \(\frac{3}{4}\).", "0.75", CORRECT),
    (r"The answer is \frac{3}{4}.", "3/4", CORRECT),
    (r"Hence \[x = \frac{3}{4}.\]", "0.75", CORRECT),
    ("The answer is -7.", "-7", CORRECT),
    ("The answer is −7.", "-7", CORRECT),
    ("The answer is Evelyn.", r"\text{Evelyn}", CORRECT),
    ("Answer: p - q", "p-q", CORRECT),
    ("5 + 3 = 8", "8", CORRECT),
    ("The answer is 5 or 6.", "5", WRONG),
    ("The answer is $3$ and $5$.", "3, 5", CORRECT),
    ("5 apples and 3 pears, so 8 fruits", "8", CORRECT),
    # nothing to read
    ("", "5", UNPARSED),
    (" \n\t", "5", UNPARSED),
    ("I do not know.", "5", UNPARSED),
    (r"\boxed{}", "5", UNPARSED),
    (r"\boxed{$ $}", "5", UNPARSED),
    ("H2O and XDY2K", "2", UNPARSED),
    # plain numbers
    (r"\boxed{1,000}", "1000", CORRECT),
    (r"\boxed{1{,}000}", "1000", CORRECT),
    (r"\boxed{11,\! 111,\! 111,\! 100}", "11111111100", CORRECT),
    (r"\boxed{5.0}", "5", CORRECT),
    (r"\boxed{5.}", "5", CORRECT),
    (r"\boxed{+5}", "5", CORRECT),
    (r"\boxed{007}", "7", CORRECT),
    (r"\boxed{27}", "27.0", CORRECT),
    (r"\boxed{0.1000000000000000000000001}", "0.1", WRONG),
    (r"\boxed{1.5 \times 10^3}", "1500", CORRECT),
    (r"\boxed{1e999999999}", "5", WRONG),
    # fractions
    (r"\boxed{\frac12}", ".5", CORRECT),
    (r"\boxed{\dfrac{2}{4}}", "1/2", CORRECT),
    (r"\boxed{\frac{-1}{2}}", "-0.5", CORRECT),
    (r"\boxed{-\frac{1}{2}}", "0.5", WRONG),
    (r"\boxed{2\frac{1}{2}}", "2.5", CORRECT),
    (r"\boxed{2 1/2}", r"\frac{5}{2}", CORRECT),
    (r"\boxed{2 1/2}", "21/2", WRONG),
    (r"\boxed{0.333333}", "1/3", CORRECT),
    (r"\boxed{0.33}", "1/3", WRONG),
    (r"\boxed{1/0}", "5", WRONG),
    (r"\boxed{\frac{1}{0}}", r"\frac{1}{0}", CORRECT),
    # percent
    (r"\boxed{50\%}", "50", CORRECT),
    (r"\boxed{50\%}", "0.5", CORRECT),
    (r"\boxed{50}", r"50\%", CORRECT),
    (r"\boxed{0.5}", r"50\%", CORRECT),
    (r"\boxed{0.5}", "50", WRONG),
    (r"\boxed{50\%}", r"0.5\%", WRONG),
    # units
    (r"\boxed{\$18.90}", "18.9", CORRECT),
    (r"\boxed{90^\circ}", "90", CORRECT),
    (r"\boxed{90}", r"90^{\circ}", CORRECT),
    (r"\boxed{90\text{ degrees}}", r"90^\circ", CORRECT),
    (r"\boxed{18 \text{ cm}^2}", "18", CORRECT),
    (r"\boxed{864}", r"864 \mbox{ inches}^2", CORRECT),
    (r"\boxed{5~\text{m}}", "5", CORRECT),
    (r"\boxed{5\,\mathrm{m/s}}", "5", CORRECT),
    (r"\boxed{5\text{ million}}", "5", WRONG),
    (r"\boxed{3\pi}", "3", WRONG),
    # assignments, words, letters
    (r"\boxed{x=5}", "5", CORRECT),
    (r"\boxed{5}", "x=5", CORRECT),
    (r"\boxed{y=5}", "x=5", WRONG),
    (r"\boxed{2x+3}", "y = 2x + 3", CORRECT),
    (r"\boxed{\text{Even}}", r"\text{even}", CORRECT),
    (r"\boxed{\text{seat}}", r"\text{east}", WRONG),
    (r"\boxed{C}", r"\text{(C)}", CORRECT),
    (r"\boxed{\text{(B)}}", r"\text{(C)}", WRONG),
    # algebra
    (r"\boxed{x^2+2x+1}", "(x+1)^2", CORRECT),
    (r"\boxed{(x+1)^2}", "x^2+1", WRONG),
    (r"\boxed{\frac{3}{\sqrt{3}}}", r"\sqrt3", CORRECT),
    (r"\boxed{\frac{\pi}{2}}", r"\frac\pi2", CORRECT),
    (r"\boxed{3.14}", r"\pi", WRONG),
    (r"\boxed{2^{10}}", "1024", CORRECT),
    (r"\boxed{i+6}", "6+i", CORRECT),
    (r"\boxed{52_{8}}", "52_8", CORRECT),
    (r"\boxed{204_6}", "204_5", WRONG),
    # intervals, tuples, sets, matrices
    (r"\boxed{[1,2)}", r"\left[1,2\right)", CORRECT),
    (r"\boxed{(1,2)}", "(1,2]", WRONG),
    (r"\boxed{x \in (1,2)}", "(1,2)", CORRECT),
    (r"\boxed{1 < x < 2}", "(1,2)", CORRECT),
    (r"\boxed{(2,1)}", "(1,2)", WRONG),
    (r"\boxed{(2\sqrt{3}, 1)}", r"(\sqrt{12}, 1)", CORRECT),
    (r"\boxed{\{1,2\}}", r"\{2,1\}", CORRECT),
    (r"\boxed{2, 1}", "1,2", CORRECT),
    (r"\boxed{3 \text{ or } 4}", "3,4", CORRECT),
    (r"\boxed{3}", "3,4", WRONG),
    (r"\boxed{3,4}", "4", WRONG),
    (r"\boxed{3+2\sqrt{2}, 3-2\sqrt{2}}", r"3 \pm 2 \sqrt{2}", CORRECT),
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", CORRECT),
    (r"\boxed{\begin{pmatrix}1\\3\end{pmatrix}}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", WRONG),
    # a gold answer may come boxed, after hashes or in dollars
    (r"\boxed{5}", r"so \boxed{5}", CORRECT),
    (r"\boxed{5}", "2 + 3 = 5\n#### 5", CORRECT),
    (r"\boxed{5}", "$5$", CORRECT),
]


@pytest.mark.parametrize(("answer", "gold", "verdict"), MATH)
def test_math_answers_are_graded_by_value(grader: Grader, answer: str, gold: str, verdict: Verdict):
    assert grader.grade(answer, gold, "math") == verdict


@given(st.integers(-(10**12), 10**12), st.integers(0, 6))
def test_a_decimal_equals_its_fraction_and_no_neighbour(digits: int, places: int):
    value = Fraction(digits, 10**places)
    sign = "-" if digits < 0 else ""
    whole, rest = divmod(abs(digits), 10**places)
    decimal = f"{sign}{whole:,}" + (f".{rest:0{places}d}" if places else "")
    fraction = rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    assert same(normalise(decimal), normalise(fraction)) is True
    assert same(normalise(decimal), normalise(f"{digits + 1}/{10**places}")) is (places == 6)  # within 10⁻⁶
    assert same(normalise(f"{digits}"), normalise(f"{digits + 1}")) is False


@given(st.text())
def test_every_text_equals_itself(text: str):
    assert same(normalise(text), normalise(text)) is True


# -- choice and exact

CHOICE = [
    ("C", CORRECT),
    ("(C)", CORRECT),
    ("C. Paris", CORRECT),
    (r"\boxed{C}", CORRECT),
    (r"\boxed{c}", CORRECT),
    (r"\boxed{\text{C}}", CORRECT),
    (r"\boxed{\textbf{(C)}\ 5}", CORRECT),
    ("The answer is (C)", CORRECT),
    ("The answer is (C).", CORRECT),
    ("The answer is $C$.", CORRECT),
    ("The answer is C because A is false.", CORRECT),
    ("Answer: C", CORRECT),
    ("**Answer: C**", CORRECT),
    ("**Answer:** C", CORRECT),
    ("Answer:\n\nC", CORRECT),
    ("**C**", CORRECT),
    ("The correct answer is **C. Paris**", CORRECT),
    ("Therefore, C is correct.", CORRECT),
    ("Option C is correct.", CORRECT),
    ("I think it is (B). No, (C).", CORRECT),
    ("Answer: B\nWait.\nAnswer: C", CORRECT),
    ("The answer is (B)", WRONG),
    (r"\boxed{42}", WRONG),
    (r"\boxed{A, C}", WRONG),
    ("", UNPARSED),
    ("No idea at all", UNPARSED),
    ("The answer is a tough one", UNPARSED),
    ("Answer: I think so", UNPARSED),
]


@pytest.mark.parametrize(("answer", "verdict"), CHOICE)
def test_a_choice_is_a_letter_however_it_is_put(grader: Grader, answer: str, verdict: Verdict):
    assert grader.grade(answer, "C", "choice") == verdict


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("3  1\n2", CORRECT), (" 3 1 2 ", CORRECT), ("3 12", WRONG), ("", UNPARSED), (" ", UNPARSED)],
)
def test_exact_answers_differ_by_nothing_but_space(grader: Grader, answer: str, verdict: Verdict):
    assert grader.grade(answer, "3 1 2", "exact") == verdict


# -- mistakes of the user


@pytest.mark.parametrize(
    ("gold", "kind"),
    [("", "math"), (" ", "exact"), ("", "choice"), ("$ $", "math"), ("Z", "choice"), ("42", "choice"), ("5", "regex")],
)
def test_an_unusable_gold_answer_or_kind_is_refused_in_one_line(grader: Grader, gold: str, kind: str):
    for use in (lambda: grader.grade("5", gold, kind), lambda: grade("never closed", gold, kind)):
        with pytest.raises(GraderError) as refused:
            use()
        assert isinstance(refused.value, SufficeError)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("arguments", [{"deadline": 0}, {"deadline": float("nan")}, {"workers": 0}])
def test_a_grader_out_of_range_is_refused(arguments: dict[str, float]):
    with pytest.raises(GraderError):
        Grader(**arguments)


# -- hostile answers

HOSTILE = {
    "a tower of powers": TOWER,
    "a taller one": r"\boxed{9^{9^{9^{9^9}}}}",
    "a huge power": r"\boxed{10^{999999999}}",
    "a huge factorial": r"\boxed{100000000!}",
    "a number of gigabytes": r"\boxed{1E9000000000}",
    "a sum that never ends": r"\boxed{\sum_{i=1}^{10^{10}} \frac{1}{i}}",
    "an integral without end": r"\boxed{\int_0^{\infty} e^{-x^{x^x}} dx}",
    "a megabyte of braces": "{" * 10**6,
    "a megabyte of boxed braces": "\\boxed" + "{" * 10**6,
    "ten thousand open boxes": "\\boxed{" * 10**4,
    "deep parentheses": "\\boxed{" + "(" * 4000 + "}",
    "deep fractions": "\\boxed{" + "\\frac{" * 400 + "1" + "}{2}" * 400 + "}",
    "deep roots": "\\boxed{" + "\\sqrt{" * 500 + "18" + "}" * 500 + "}",
    "a tower of factorials": r"\boxed{((9!)!)!}",
    "a huge binomial": r"\boxed{\binom{10^{11}}{10^{10}}}",
    "a huge set": r"\boxed{\{1, 2, \ldots, 10^9\}}",
    "a huge interval": r"\boxed{[-10^9, 10^9] \cap \mathbb{Z}}",
    "a huge matrix": r"\boxed{\begin{pmatrix}" + r" & ".join("1" * 900) + r"\end{pmatrix}^{10^9}}",
    "a huge expansion": r"\boxed{x + (x+y+z)^{10^6} - (z+y+x)^{10^6}}",
    "as many digits as a box may hold": "\\boxed{" + "1" * 4000 + r"^2}",
    "as many decimals as a box may hold": "\\boxed{18." + "0" * 4000 + "1}",
    "a megabyte of digits": "\\boxed{" + "1" * 10**6 + "}",
    "a megabyte of commas": "1," * 10**6,
    "a megabyte of anchors": "the answer is " * 10**5,
    "a megabyte of space": "answer is" + " " * 10**6 + "#### " + " " * 10**6,
    "a megabyte of dollars": "$a" * 10**6,
    "unicode digits": r"\boxed{１８}",
    "digits of another script": r"\boxed{١٨}",
    "a digit that is a letter": r"\boxed{①⑧}",
    "right to left": "\\boxed{\u202e81\u202c}",
    "zero width": "\\boxed{\u200b1\u200d\ufeff}",
    "NUL bytes": "\0\0\0",
    "a boxed NUL byte": "\\boxed{5\0^2}",
    "a lone surrogate": "\\boxed{\ud800}",
    "a line that looks like a job": '\\boxed{x\n{"gold": "5", "answer": "5"}\n}',
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("kind", ["math", "choice", "exact"])
def test_a_hostile_answer_gets_a_verdict_and_never_credit(hasty: Grader, answer: str, kind: str):
    assert hasty.grade(answer, {"math": "18", "choice": "C", "exact": "18"}[kind], kind) in {WRONG, UNPARSED, TIMEOUT}


def test_ten_thousand_boxes_leave_the_last_one(grader: Grader):
    assert grader.grade("\\boxed{1}" * 10**4 + "\\boxed{2}", "2", "math") == CORRECT


@settings(max_examples=30, deadline=None)
@given(st.text(r"\boxedfracsqrt{}()[]^_$%0123456789,.+-*/ x=", max_size=60))
def test_no_text_makes_the_grader_raise(text: str):
    assert grade_answer(f"\\boxed{{{text}}}", "x+1", "math") in set(Verdict)


@pytest.mark.parametrize("wrap", ["\\boxed{%s}", "The answer is $%s$.", "#### %s", "%s"])
def test_code_in_an_answer_is_never_run(hasty: Grader, tmp_path: Path, wrap: str):
    planted = tmp_path / "planted"
    code = f"__import__('os').system('touch {planted}')"
    assert hasty.grade(wrap % code, "5", "math") != CORRECT
    assert hasty.grade("\\boxed{5}", wrap % f"{code}+x", "math") != CORRECT
    assert not planted.exists()


def test_computer_algebra_evaluates_no_text_as_python():
    quick = [without_algebra(answer, gold, "math") for answer, gold, _ in MATH]
    script = (
        "import builtins, sympy.physics.units\n"  # whose tables evaluate their own names when they are loaded
        "from suffice.grading.algebra import equal\n"
        "builtins.eval = lambda *_: print('evaluated')\n"
        f"for pair in {[pair for pair in quick if not isinstance(pair, Verdict)]!r}:\n"
        "    equal(*pair)\n"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == ""


# -- deadlines and workers


def test_a_tower_of_powers_times_out_and_the_next_answer_is_graded(hasty: Grader):
    assert hasty.grade(TOWER, "5", "math") == TIMEOUT
    hasty.deadline = PATIENCE
    assert hasty.grade(r"\boxed{\sqrt{4}}", "2", "math") == CORRECT


@pytest.mark.parametrize("workers", [1, 3])
def test_many_jobs_keep_their_order_even_past_a_timeout(workers: int):
    jobs = [(rf"\boxed{{\sqrt{{{i * i}}}}}", "3", "math") for i in range(1, 7)]
    jobs.insert(2, (TOWER, "5", "math"))
    jobs.append(("Answer: C", "C", "choice"))
    with Grader(deadline=LATE, workers=workers) as grader:
        assert grader.grade_many(jobs) == [WRONG, WRONG, TIMEOUT, CORRECT, WRONG, WRONG, WRONG, CORRECT]
        assert grader.grade_many([]) == []


def test_numbers_and_letters_need_no_worker():
    with Grader() as grader:
        grader.grade("\\boxed{5}", "5", "math")
        grader.grade("C", "C", "choice")
        assert grader._pool == []


def test_a_worker_is_kept_between_jobs_and_replaced_when_killed(patient: Grader):
    def pid() -> int:
        assert patient.grade(r"\boxed{\sqrt{4}}", "2", "math") == CORRECT
        return patient._pool[0].process.pid

    first = pid()
    assert pid() == first
    os.kill(first, signal.SIGKILL)
    assert pid() != first
    assert gone(first)


def test_a_worker_killed_in_the_middle_of_a_job_is_replaced_and_the_job_tried_again():
    with Grader(deadline=LATE) as grader:
        grader.grade(r"\boxed{\sqrt{4}}", "2", "math")
        first = grader._pool[0].process.pid
        killer = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
        killer.start()
        verdicts = grader.grade_many([(TOWER, "5", "math"), (r"\boxed{\sqrt{4}}", "2", "math")])
        killer.join()
        assert verdicts == [TIMEOUT, CORRECT]


def test_workers_that_die_change_no_verdict():
    jobs: list[Job] = [(TOWER, "5", "math"), *((rf"\boxed{{\sqrt{{{i * i}}}}}", "3", "math") for i in range(1, 7))]
    with Grader(deadline=LATE, workers=2) as grader:
        grader.grade_many(jobs[1:])
        pids = [worker.process.pid for worker in grader._pool]
        killer = threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
        killer.start()
        verdicts = grader.grade_many(jobs)
        killer.join()
        assert verdicts == [TIMEOUT, WRONG, WRONG, CORRECT, WRONG, WRONG, WRONG]
        assert all(map(gone, pids))


def test_a_verdict_depends_neither_on_its_lot_nor_on_the_order():
    jobs: list[Job] = [(answer, gold, "math") for answer, gold, _ in MATH]
    verdicts = [verdict for _, _, verdict in MATH]
    with Grader(workers=2) as grader:
        assert grader.grade_many(jobs) == verdicts
        assert grader.grade_many(jobs[::-1]) == verdicts[::-1]
        assert grader.grade_many(jobs * 3) == verdicts * 3


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux is a worker's memory bounded")
def test_an_answer_that_takes_gigabytes_meets_the_bound_and_the_worker_goes_on(grader: Grader):
    assert grader.grade(r"\boxed{\sqrt{4}}", "2", "math") == CORRECT
    worker = grader._pool[0].process
    limit = next(
        line for line in Path(f"/proc/{worker.pid}/limits").read_text().splitlines() if "address space" in line
    )
    assert limit.split()[3] == str(2 << 30)
    assert grader.grade(r"\boxed{1E9000000000}", "2", "math") == WRONG  # written out, 3.5 GiB
    assert grader.grade(r"\boxed{\sqrt{9}}", "3", "math") == CORRECT
    assert grader._pool[0].process is worker


def test_a_worker_outlives_the_thread_that_started_it_or_is_replaced(patient: Grader):
    jobs = [(r"\boxed{\sqrt{4}}", "2", "math")] * 3
    verdicts: list[list[Verdict]] = []
    for _ in range(2):
        thread = threading.Thread(target=lambda: verdicts.append(patient.grade_many(jobs)))
        thread.start()
        thread.join()
    verdicts.append(patient.grade_many(jobs))
    assert verdicts == [[CORRECT] * 3] * 3


def test_threads_share_a_grader_and_get_their_own_verdicts(grader: Grader):
    verdicts: dict[int, Verdict] = {}

    def ask(i: int) -> None:
        verdicts[i] = grader.grade(rf"\boxed{{\sqrt{{{i * i}}}}}", str(i if i % 2 else i + 1), "math")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == {i: CORRECT if i % 2 else WRONG for i in range(2, 12)}


def test_close_ends_the_workers_and_a_later_job_starts_new_ones(patient: Grader):
    patient.grade(r"\boxed{\sqrt{4}}", "2", "math")
    first = patient._pool[0].process.pid
    patient.close()
    assert gone(first)
    assert patient.grade(r"\boxed{\sqrt{4}}", "2", "math") == CORRECT


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a busy child that its parent died")
@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_dies_with_its_parent(busy: bool):
    script = (
        "from suffice.grading import Grader\n"
        "grader = Grader(deadline=60)\n"
        "grader.grade(r'\\boxed{\\sqrt{4}}', '2', 'math')\n"
        "print(grader._pool[0].process.pid, flush=True)\n"
        + (f"grader.grade(r'{TOWER}', '5', 'math')" if busy else "input()")
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        time.sleep(0.5 if busy else 0)
        parent.kill()
    assert gone(worker)


def test_grading_loads_neither_torch_nor_sympy():
    script = "import sys, suffice.grading; print(sorted({'torch', 'sympy', 'math_verify'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_a_file_in_the_current_folder_does_not_shadow_the_workers_modules(tmp_path: Path):
    (tmp_path / "sympy.py").write_text("raise SystemExit")
    script = "from suffice.grading import grade_answer; print(grade_answer(r'\\boxed{\\sqrt{4}}', '2', 'math'))"
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "-P", "script.py"]
    assert subprocess.check_output(command, text=True, cwd=tmp_path).strip() == "CORRECT"
