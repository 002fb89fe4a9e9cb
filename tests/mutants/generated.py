"""Mutants of the shell, made by cosmic-ray and by leaving out statements: which of them does no test notice?

For each package its tests are run once, to know which of them pass through which line. A mutant of a line is put into a copy
of the sources, and those tests are run on it. What nobody notices is printed, unless `equivalent.toml` gives a reason why
nobody can.
"""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from mutants.making import Mutant, mutants_of, words_of
from mutants.shell import HERE, ROOT
from mutants.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WORKERS = 3  # half of what tests take is time they wait
CORE = "packages/hakuban-core"
_OF_SHELL: Final = (
    *(
        f"{CORE}/tests/{name}"
        for name in (
            "_api",
            "_engine",
            "_loops",
            "_net",
            "_sockets",
            "_transport",
            "test_arguments.py",
            "test_descriptors.py",
            "test_handover.py",
            "test_logging.py",
            "test_states.py",
            "test_sync.py",
            "test_threads.py",
        )
    ),
    "tests/test_ended_links.py",
    "tests/test_errors.py",
)
# What is mutated, and the tests that have to notice.
GUARDS: Final = {
    **{
        f"{CORE}/src/hakuban/{room}": _OF_SHELL
        for room in ("_loops", "_engine", "_net", "_api", "_transport", "_sockets")
    },
    "packages/hakuban-ws/src": ("packages/hakuban-ws/tests",),
    "packages/hakuban-zmq/src": ("packages/hakuban-zmq/tests",),
    "packages/hakuban-router/src": ("packages/hakuban-router/tests",),
}
NEARBY = 10  # lines
SHARED = 10  # times what a word that is said by one test counts for more than a line that one passes through
# Seconds that the tests of one mutant may take without it; what none of them notices is tried again, last, on others.
LONGEST_TESTS = (12.0, 40.0)


@dataclass(frozen=True)
class _Trial:
    file: str
    mutant: Mutant
    asked: set[str]
    """Tests that have not noticed it."""

    @override
    def __str__(self) -> str:
        return (
            f"{self.file}:{self.mutant.line} {self.mutant.where} ({len(self.asked)} tests)\n"
            f"  - {self.mutant.before}\n  + {self.mutant.after}"
        )


class Guards:
    """Which tests are run on a mutant."""

    def __init__(
        self,
        lines: dict[str, dict[int, list[str]]],
        seconds: dict[str, float],
        words: dict[str, frozenset[str]],
    ) -> None:
        """Take what a run without mutants has shown, and the words of each test."""
        self._lines = lines
        self.seconds = seconds
        self._words = words
        self._speakers = Counter(word for some in words.values() for word in some)
        self._noticed: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def tests(self, trial: _Trial, longest: float) -> list[str]:
        """List tests that were not asked yet: who has noticed most in the file, then those of few like them, and quick ones.

        Whoever starts a program passes through most of it; who passes through a line nearby that few pass through is about it,
        and so is who uses a word of it that few use. A line of the module itself, or of a class, runs once, in no test: all that
        come to the file are meant there.

        :param longest: the seconds that they may take together.
        """
        file, line = trial.file, trial.mutant.line
        said = words_of(f"{trial.mutant.before} {trial.mutant.where}")
        by_line = self._lines.get(file.partition("/src/")[2], {})
        names = [] if trial.mutant.runs_once else by_line.get(line)
        if not names:
            names = list(dict.fromkeys(one for some in by_line.values() for one in some))
        rarity = defaultdict[str, float](float)
        for near in range(line - NEARBY, line + NEARBY + 1):
            for name in by_line.get(near, ()):
                rarity[name] += 1 / len(by_line[near])
        seen = Counter[str]()
        order = {}
        for name in sorted(names, key=self.seconds.__getitem__):
            function = name.partition("[")[0]
            seen[function] += 1
            shared = sum(1 / self._speakers[word] for word in said & self._words[name])
            cost = self.seconds[name] * seen[function] / (rarity[name] + SHARED * shared + 1e-6)
            order[name] = (-self._noticed[file][name], cost)
        chosen: list[str] = []
        left = longest
        for name in sorted(order.keys() - trial.asked, key=order.__getitem__):
            left -= self.seconds[name]
            if left < 0 and chosen:
                break
            chosen.append(name)
        return chosen

    def note(self, file: str, test: str) -> None:
        """Note that a test has noticed a mutant of a file."""
        if test in self.seconds:
            self._noticed[file][test] += 1


class Trials:
    """The mutants of packages which the same tests guard.

    :ivar counts: of each file, how many of them became what.
    """

    def __init__(self, guards: Sequence[str]) -> None:
        """Begin without any."""
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._guards = guards
        self._known = equivalent()

    def run(self, files: Sequence[str]) -> None:
        """Make the mutants of some modules, and see which are noticed."""
        with ExitStack() as stack, ThreadPoolExecutor(WORKERS) as threads:
            workers = [
                stack.enter_context(worker)
                for worker in threads.map(Worker, [self._guards] * WORKERS)
            ]
            lines: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(
                lambda: defaultdict(list)
            )
            seconds: dict[str, float] = {}
            words = workers[0].tests
            parts = [list(words)[at::WORKERS] for at in range(WORKERS)]
            for found, durations in threads.map(Worker.measure, workers, parts):
                seconds |= durations
                for file, by_line in found.items():
                    for line, names in by_line.items():
                        lines[file][line] += names
            chosen = Guards({file: dict(found) for file, found in lines.items()}, seconds, words)
            left = self._different(
                (file, mutant)
                for file in files
                for mutant in mutants_of(workers[0].path(file).read_text())
            )
            for longest in LONGEST_TESTS:
                todo, left = left[::-1], []
                each = partial(self._try_some, todo=todo, left=left, guards=chosen, longest=longest)
                list(threads.map(each, workers))
        for trial in left:
            self.counts[trial.file]["alive"] += 1

    def _different(self, made: Iterable[tuple[str, Mutant]]) -> list[_Trial]:
        different = []
        for file, mutant in made:
            if (file, mutant.where, mutant.before, mutant.after) in self._known:
                self.counts[file]["equivalent"] += 1
            else:
                different.append(_Trial(file, mutant, set()))
        return different

    def _try_some(
        self,
        worker: Worker,
        *,
        todo: list[_Trial],
        left: list[_Trial],
        guards: Guards,
        longest: float,
    ) -> None:
        """Try what other workers do not; what nobody notices is left."""
        while True:
            try:
                trial = todo.pop()
            except IndexError:
                return
            if self._is_noticed(worker, trial, guards, longest):
                self.counts[trial.file]["killed"] += 1
                continue
            left.append(trial)
            print("ALIVE" if longest == LONGEST_TESTS[-1] else "not yet noticed", trial, flush=True)

    @staticmethod
    def _is_noticed(worker: Worker, trial: _Trial, guards: Guards, longest: float) -> bool:
        tests = guards.tests(trial, longest)
        if not tests:
            return False
        patience = {name: 4.0 + 3.0 * guards.seconds[name] for name in tests}
        altogether = 8.0 + 1.5 * sum(guards.seconds[name] for name in tests)
        test = worker.noticing_test(trial.file, trial.mutant, patience, altogether)
        guards.note(trial.file, test)
        trial.asked.update(tests)
        return bool(test)


def equivalent() -> dict[tuple[str, str, str, str], str]:
    """Read the mutants that make no difference: file, function, line and what became of it; and why."""
    items = tomllib.loads((HERE / "equivalent.toml").read_text()).get("mutant", [])
    return {
        (item["file"], item["where"], item["before"], item["after"]): item["reason"]
        for item in items
    }


def files_of_shell() -> list[str]:
    """List the modules of which mutants are made, below the root."""
    return sorted(
        str(file.relative_to(ROOT)) for folder in GUARDS for file in (ROOT / folder).rglob("*.py")
    )


def try_all(files: Sequence[str], tests: Sequence[str]) -> dict[str, Counter[str]]:
    """Try the mutants of some modules.

    :param tests: which have to notice; empty for all that guard a module.
    :returns: by package, how many became what.
    """
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    all_guards = dict.fromkeys(GUARDS, tuple(tests)) if tests else GUARDS
    for guards in dict.fromkeys(all_guards.values()):
        folders = [folder for folder, its_guards in all_guards.items() if its_guards == guards]
        own = {
            file: folder for file in files for folder in folders if file.startswith(f"{folder}/")
        }
        if not own:
            continue
        trials = Trials(guards)
        trials.run(list(own))
        for file, counts in sorted(trials.counts.items()):
            print(f"{file}: {figures(counts)}", flush=True)
            totals[own[file]] += counts
    return totals


def figures(total: Counter[str]) -> str:
    """Put into words how many became what."""
    different = total["killed"] + total["alive"]
    return (
        f"{total.total()} made, {total['killed']} killed, {total['equivalent']} equivalent, {total['alive']} alive: "
        f"{100 * total['killed'] / max(1, different):.1f} %"
    )
