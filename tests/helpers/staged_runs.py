"""Runs of alternating and joint trainings, made by hand."""

from helpers.synthetic_runs import alternating_record, joint_record
from lossweave.studies.alternating_vs_joint.findings import ALTERNATING, EQUAL, JOINT, Run

ENDS = {0: 0.50, 1: 0.53, 2: 0.49}  # AP after step 4


JOINT_ENDS = {0: 0.48, 1: 0.50, 2: 0.48}


def staged_runs(joint: dict[int, float] = JOINT_ENDS) -> list[Run]:
    runs = []
    for seed, ap in ENDS.items():
        four = alternating_record(seed, (ap - 0.04, ap), speed=1 + seed / 10)
        runs.append(Run(ALTERNATING, seed, four))
        runs.append(Run(JOINT, seed, joint_record(seed, joint[seed])))
        equal = joint_record(seed, ap - 0.001 * seed, seconds=500, images=3200)
        runs.append(Run(EQUAL, seed, equal))
    return runs
