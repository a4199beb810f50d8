"""What the seeds say: paired differences, times, passes."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.staged_runs import ENDS, JOINT_ENDS, staged_runs
from scipy import stats

from lossweave.errors import LossweaveError
from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    EQUAL,
    JOINT,
    find,
)
from lossweave.studies.alternating_vs_joint.plots import ap_differences


def test_differences_are_paired_by_seed() -> None:
    found = find(staged_runs())
    paired = [ENDS[s] - JOINT_ENDS[s] for s in ENDS]
    ap = found.differences["after step 4 - joint"]["AP"]
    assert ap.mean == pytest.approx(np.mean(paired))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(paired), scale=stats.sem(paired))
    assert (ap.mean - ap.half_width, ap.mean + ap.half_width) == pytest.approx((low, high))
    gain = found.differences["after step 4 - after step 2"]
    assert gain["AP"].mean == pytest.approx(0.04) and gain["AP"].half_width < 1e-9
    assert found.differences["after step 2 - joint"]["AP"].mean == pytest.approx(ap.mean - 0.04)


def test_time_counts_proposal_passes_and_no_evaluation() -> None:
    found = find(staged_runs())
    # 100 + 100 + 50 + 50 of training and two passes of 10, times 1, 1.1, 1.2, over 200.
    whole = found.ratios["all steps / joint"]
    assert (whole.low, whole.mean, whole.high) == pytest.approx((1.6, 1.76, 1.92))
    assert found.ratios["steps 1 and 2 / joint"].low == pytest.approx(210 / 200)
    # 200 iterations of .4 s twice and of .2 s twice, and 20 to 24 s, over 100 of 1.6 s.
    median = found.ratios["all steps, by median iterations, / joint"]
    assert (median.low, median.high) == pytest.approx((260 / 160, 264 / 160))
    assert found.ratios["all steps / joint-equal"].low == pytest.approx(320 / 500)


def test_passes_recall_and_memory() -> None:
    found = find(staged_runs())
    assert found.image_passes == {ALTERNATING: 3200, JOINT: 1400, EQUAL: 3200}
    assert found.frozen_passes == 1600
    assert found.proposal_passes[ALTERNATING] == 400
    assert found.optimizer_steps[ALTERNATING] == 800 + 400 + 800 + 400
    assert found.recall["AR@300"].mean == pytest.approx(0.1)
    assert found.peaks[ALTERNATING].mean == 900 * 2**20


def test_trainings_of_two_places_are_no_pair() -> None:
    runs = [
        replace(run, place="elsewhere" if run.arm == JOINT and run.seed == 1 else "")
        for run in staged_runs()
    ]
    found = find(runs)
    paired = [ENDS[s] - JOINT_ENDS[s] for s in (0, 2)]
    ap = found.differences["after step 4 - joint"]["AP"]
    assert ap.count == 2 and ap.mean == pytest.approx(np.mean(paired))
    assert found.ratios["all steps / joint"].count == 2
    assert found.differences["after step 4 - joint-equal"]["AP"].count == 3
    assert found.final[JOINT]["AP"].count == 3
    rows = ap_differences(runs)
    assert list(rows["alternating - joint, papers' budget"]) == [0, 2]


def test_without_alternating_trainings_there_is_nothing_to_say() -> None:
    with pytest.raises(LossweaveError, match="lacks the results of alternating"):
        find([run for run in staged_runs() if run.arm == JOINT])
