"""``make kills``: every kind of training, killed in every named moment and gone on with."""

import sys
import tempfile
import time
from pathlib import Path

from helpers.kills.chain import Chain, assert_same_end
from helpers.kills.configs import write_config
from helpers.kills.moments import KINDS, moments
from helpers.mmdet_toy import write_data


def main(kinds: list[str]) -> None:
    """Run the kinds that are named, all if none is; the exit status says whether all were right."""
    wrong = total = 0
    for kind in kinds or KINDS:
        begin, made = time.perf_counter(), tempfile.TemporaryDirectory(prefix="kills-")
        folder = Path(made.name)
        data = write_data(folder / "data")
        chain = Chain(kind, write_config(kind, data, folder), data, folder)
        traps = moments(kind)
        try:
            assert_same_end(chain.whole(), chain.killed(traps, "killed", lambda line: print(line)))
            said = "bit-identical end"
        except AssertionError as error:
            said, wrong = f"WRONG: {error}", wrong + 1
        finally:
            chain.close()
            made.cleanup()
        total += len(traps)
        print(
            f"{kind}: {len(traps)} kills, {said} ({time.perf_counter() - begin:.0f} s)", flush=True
        )
    print(f"{total} kills in all, {wrong} of {len(kinds or KINDS)} trainings wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
