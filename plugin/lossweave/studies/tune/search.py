"""The search: trials that Optuna's study holds, raced under a budget, by one worker or several."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lossweave.errors import LossweaveError
from lossweave.host.lock import locked, make_work_dir
from lossweave.studies.ledger.book import Book, LedgerOptions
from lossweave.studies.ledger.result import hashed
from lossweave.studies.tune.racing import Course, Race
from lossweave.studies.tune.sampling import distributions, optuna_module, suggest
from lossweave.studies.tune.setting import Setting
from lossweave.studies.tune.space import Point, Space
from lossweave.studies.tune.trainings import train_rungs, wanted

__all__ = ["STUDY_FILE", "Search", "Tuning"]

#: Optuna's journal; its dashboard takes it.
STUDY_FILE = "study.log"
_NAME = "lossweave"
#: What a search may go over its budget for a training that is nearly done.
_OVER = 1.1
#: Below this part of it, even what was stopped is trained to its end.
_UNDER = 0.9
_GLANCE = 2.0


@dataclass(frozen=True)
class Tuning:
    """What a search is.

    Args:
        setting: what all its trainings share.
        space: the points.
        fractions: of a training, where it is looked at before its end.
        budget: in full trainings.
        metric: which score is maximised: 'ap', 'ap50' or 'ap75'.
        sampler: who suggests points: 'gp', 'tpe' or 'random'.
        sampler_seed: of the suggestions.
        work_dir: where everything is written.
        ledger: where results are.
        race: whether trainings are stopped before their end.

    Raises:
        LossweaveError: a budget below 2.
    """

    setting: Setting
    space: Space
    fractions: tuple[float, ...] = (0.75,)
    budget: float = 8.0
    metric: str = "ap"
    sampler: str = "gp"
    sampler_seed: int = 0
    work_dir: str = "work_dirs/tune"
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    race: bool = True

    def __post_init__(self) -> None:
        if not self.budget >= 2:
            raise LossweaveError(
                f"--budget {self.budget:g} is below 2 full trainings: the config's own and another"
            )
        if not self.space.names:
            raise LossweaveError("--search: nothing is searched")

    @property
    def rungs(self) -> tuple[int, ...]:
        """Where trainings are looked at; the last is their end."""
        return self.setting.rungs(self.fractions if self.race else ())

    @property
    def first(self) -> dict[str, float]:
        """The config's own weights and rate, or the starting weights, as a trial's parameters."""
        return {name: 0.0 for name in self.space.names}

    def identity(self) -> dict[str, Any]:
        """What a study file must be of, to be gone on with."""
        return dict(
            config=self.setting.config,
            hash=self.setting.hash,
            options=list(self.setting.options),
            seed=self.setting.seed,
            metric=self.metric,
            rungs=list(self.rungs),
            terms=list(self.space.terms),
            start=list(self.space.start),
            bounds={name: list(self.space.bounds(name)) for name in self.space.names},
            steps=self.space.steps,
            sampler=[self.sampler, self.sampler_seed],
        )


class Search:
    """One worker of a search.

    Every decision follows from what the study file and the ledger hold, under a lock; the trial
    that a killed worker has left is gone on with from its last rung.

    Args:
        tuning: what is searched.
        resume: whether there may be a study that is gone on with, or joined.

    Raises:
        LossweaveError: there is a study and it was not asked to be gone on with, or it is one of
            another config.
    """

    def __init__(self, tuning: Tuning, resume: bool = False) -> None:
        self.tuning = tuning
        self.home = make_work_dir(tuning.work_dir)
        self.book = Book(tuning.ledger, tuning.work_dir)
        self.study = self._opened(resume)
        self._course_of: dict[tuple[str, int], tuple[float, ...]] = {}

    def run(self, progress: bool = True) -> Race:
        """Search until the budget is spent.

        Returns:
            What is known then.
        """
        budget = self.tuning.budget
        form = "{l_bar}{bar}| {n:.2f} of {total:g} trainings [{elapsed}<{remaining}{postfix}]"
        with tqdm(total=budget, desc="tune", bar_format=form, disable=not progress) as bar:
            while True:
                with ExitStack() as held:
                    with self._decisions():
                        trial = self._next()
                        if trial is not None:  # held before anybody can take it for left alone
                            held.enter_context(locked(self._lock_of(trial)))
                    if trial is not None:
                        self._race(trial, bar)
                if trial is None:
                    if not self._others():
                        break
                    time.sleep(_GLANCE)
                self._show(bar)
        return self.race()

    def race(self) -> Race:
        """What is known: every point that was tried, at the rungs that it reached."""
        merged: dict[str, Course] = {}
        for trial in self.study.get_trials(deepcopy=False):
            params = _params(trial)
            if not params or trial.state.name == "FAIL":
                continue
            key = json.dumps(params, sort_keys=True)
            scores = {int(rung): float(v) for rung, v in trial.intermediate_values.items()}
            before = merged.get(key)
            if before is not None:
                scores = {**before.scores, **scores}
            left_out = {rung: self._left_out(params, rung) for rung in scores}
            number = trial.number if before is None else before.number
            merged[key] = Course(number, params, scores, left_out)
        return Race(list(merged.values()), self.tuning.rungs)

    def point(self, course: Course) -> Point:
        """The weights and the rate of what was tried."""
        return self.tuning.space.point(course.params)

    def _next(self) -> Any | None:
        """The trial to go on with, or a new one; None where there is nothing to do."""
        race, tuning = self.race(), self.tuning
        running = [t for t in self.study.get_trials(deepcopy=False) if t.state.name == "RUNNING"]
        for trial in running:
            if not self._is_free(trial):
                continue
            if set(trial.params) == set(tuning.space.names):
                return self._handle(trial)
            # Its worker was killed while it was being asked for.
            self.study.tell(trial.number, state=optuna_module().trial.TrialState.FAIL)
        taken = [_params(trial) for trial in running]
        spent = self._committed()
        if not race.courses:
            return self._ask(tuning.first, whole=True)
        # A point is begun only where it could be finished.
        if spent < tuning.budget - 1e-9 and spent + 1 <= _OVER * tuning.budget + 1e-9:
            return self._ask(suggest(tuning.space, race, tuning.sampler, tuning.sampler_seed))
        for course in race.waiting():
            left = 1 - course.reached / tuning.rungs[-1]
            if course.params in taken or spent + left > _OVER * tuning.budget:
                continue
            hopeful = not race.verdict(course, course.reached).stop
            if spent < tuning.budget - 1e-9 if hopeful else spent < _UNDER * tuning.budget:
                return self._ask(dict(course.params), whole=True)
        return None

    def _race(self, trial: Any, bar: Any) -> None:
        """Train a trial from rung to rung, as far as it is worth it."""
        tuning = self.tuning
        params = _params(trial)
        point = tuning.space.point(params)
        folder = self.home / "points" / f"{_safe(point.method)}_lr{point.rate:g}"
        for rung in tuning.rungs:
            self._reserve(trial, rung)
            (result,) = train_rungs(tuning.setting, point, [rung], folder, self.book)
            score = result.scores[tuning.metric]
            trial.report(score, rung)
            if rung == tuning.rungs[-1]:
                self.study.tell(trial, score)
                return
            self._show(bar)
            if trial.user_attrs.get("whole"):
                continue
            race = self.race()
            (course,) = [c for c in race.courses if c.params == params]
            verdict = race.verdict(course, rung)
            trial.set_user_attr(f"verdict_{rung}", [verdict.difference, verdict.error])
            if verdict.stop:
                self.study.tell(trial, state=optuna_module().trial.TrialState.PRUNED)
                return

    def _ask(self, params: Mapping[str, float], whole: bool = False) -> Any:
        self.study.enqueue_trial(dict(params), user_attrs={"whole": whole})
        trial = self.study.ask(distributions(self.tuning.space))
        self._reserve(trial, self.tuning.rungs[0])
        return trial

    def _handle(self, frozen: Any) -> Any:
        """A trial of a worker that is no more, to be gone on with."""
        return optuna_module().trial.Trial(self.study, frozen._trial_id)

    def _reserve(self, trial: Any, rung: int) -> None:
        trial.set_user_attr("reserved", rung)

    def _committed(self) -> float:
        """What is spent, with what running trials are about to spend, in full trainings."""
        reached: dict[str, int] = {}
        for trial in self.study.get_trials(deepcopy=False):
            key = json.dumps(_params(trial), sort_keys=True)
            rung = max([*map(int, trial.intermediate_values), trial.user_attrs.get("reserved", 0)])
            reached[key] = max(reached.get(key, 0), rung)
        return sum(reached.values()) / self.tuning.rungs[-1]

    def _left_out(self, params: Mapping[str, float], rung: int) -> tuple[float, ...]:
        key = (json.dumps(params, sort_keys=True), rung)
        if key not in self._course_of:
            asked = wanted(self.tuning.setting, self.tuning.space.point(params), rung)
            found = self.book.found(asked) or self.book.reread().found(asked)
            values = (found.details.get("left_out") or {}) if found else {}
            self._course_of[key] = tuple(values.get(self.tuning.metric, ()))
        return self._course_of[key]

    def _others(self) -> bool:
        """Whether other workers are still at it."""
        return any(t.state.name == "RUNNING" for t in self.study.get_trials(deepcopy=False))

    def _lock_of(self, trial: Any) -> Path:
        return self.home / "workers" / f"trial_{trial.number}"

    def _is_free(self, trial: Any) -> bool:
        try:
            with locked(self._lock_of(trial)):
                return True
        except LossweaveError:
            return False

    @contextmanager
    def _decisions(self) -> Iterator[None]:
        """One worker decides at a time."""
        with open(self.home / ".decisions", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _show(self, bar: Any) -> None:
        race = self.race()
        bar.n = min(race.spent(), bar.total)
        best = race.best
        said = "" if best is None else f", best {best.scores[race.rungs[-1]]:.3f}"
        bar.set_postfix_str(f"{len(race.courses)} points{said}")

    def _opened(self, resume: bool) -> Any:
        optuna = optuna_module()
        path, own = self.home / STUDY_FILE, self.tuning.identity()
        if path.is_file():
            _mend(path)
        begun = path.is_file() and path.stat().st_size > 0
        if begun and not resume:
            raise LossweaveError(
                f"{path} is a search that was begun; --resume goes on with it, or joins it; "
                "or choose another --work-dir"
            )
        journal = optuna.storages.journal
        storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
        with self._decisions():
            study = optuna.create_study(
                storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True
            )
            noted = study.user_attrs.get("of")
            if noted is None:
                study.set_user_attr("of", own)
            elif hashed(noted) != hashed(own):
                wrong = next(key for key in own if hashed(noted.get(key)) != hashed(own[key]))
                raise LossweaveError(
                    f"{path} is a study of another search: {wrong} is {noted.get(wrong)!r} there, "
                    f"not {own[wrong]!r}; choose another --work-dir"
                )
        return study


def _mend(path: Path) -> None:
    """Take away a torn last line, which a machine that broke down may have left."""
    with open(path, "rb+") as file:
        content = file.read()
        if content and not content.endswith(b"\n"):
            file.truncate(content.rfind(b"\n") + 1)


def _params(trial: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trial.params.items()}


def _safe(text: str) -> str:
    kept = "".join(c if c.isalnum() or c == "." else "-" for c in text)
    return "-".join(part for part in kept.split("-") if part)
