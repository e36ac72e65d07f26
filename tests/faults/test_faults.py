"""kill -9, full disks, read-only folders, torn files: nothing is lost and nothing false is let in.

FAULTS=20 (an environment variable) repeats the random ones twenty times for each program instead of three.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time

import pytest

from tests.faults.programs import KILLS, PROGRAMS, Running, SmallDisk, make_world, results, run


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("faults") / "world")


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """What each program leaves when nothing happens to it, and how long it takes."""
    done = {}

    def of(name):
        if name not in done:
            place = copy_of(world, tmp_path_factory.mktemp("whole") / "place")
            began = time.monotonic()
            outcome = run(PROGRAMS[name].line, place)
            assert outcome.status == 0, outcome.output
            done[name] = results(place), time.monotonic() - began
        return done[name]

    return of


@pytest.fixture
def place(world, tmp_path):
    return copy_of(world, tmp_path / "place")


def copy_of(world, place):
    shutil.copytree(world, place)
    return place


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_killed_at_random_moments_ends_as_if_it_had_not_been(name, whole, place):
    """The moments are spread over the run's length, its start and its end included."""
    expected, seconds = whole(name)
    line, again, _ = PROGRAMS[name]
    for _ in range(KILLS):
        Running(f"{line} {again}", place).kill_after(random.uniform(0, seconds))
    outcome = run(f"{line} {again}", place)
    assert outcome.status == 0, outcome.output
    assert results(place) == expected
    assert not list(place.rglob("*.unfinished"))


@pytest.mark.parametrize("name", ["finetune_teacher", "task_distill"])
def test_the_record_speaks_of_the_model_that_is_there_whatever_the_evaluation_steps(
    name, whole, place
):
    """Killed and resumed with other ones, between checkpoints that are far apart."""
    _, seconds = whole(name)
    line = f"{PROGRAMS[name].line} --save_steps 5 --resume"
    for eval_step in random.choices((1, 2, 3, 4), k=KILLS):
        Running(f"{line} --eval_step {eval_step}", place).kill_after(
            random.uniform(0.3, 1) * seconds
        )
    outcome = run(f"{line} --eval_step 6", place)
    if "found a finished run" not in outcome.output:  # the last one was killed too late
        assert outcome.status == 0, outcome.output
    record = json.loads((place / "out/new/run.json").read_text())
    lines = map(json.loads, (place / "out/new/metrics.jsonl").read_text().splitlines())
    scores = {line["step"]: line["dev"] for line in lines if "dev" in line}
    assert scores[record["best_step"]] == record["metrics"]
    assert max(dev["dev"]["acc"] for dev in scores.values()) == record["metrics"]["dev"]["acc"]
    scored = run(
        "task_distill.py --do_eval --data_dir glue/RTE --task_name RTE --student_model out/new "
        "--output_dir out/scores",
        place,
    )
    assert scored.status == 0, scored.output
    found = json.loads((place / "out/scores/eval.json").read_text())["metrics"]
    assert found == record["metrics"]


@pytest.mark.skipif(not SmallDisk.possible(), reason="no file system can be made here")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_full_disk_is_one_line_and_with_more_room_the_program_goes_on(name, whole, place):
    """A disk of a few KB that grows between the runs."""
    expected, _ = whole(name)
    line, again, _ = PROGRAMS[name]
    folder = place / ("glue/RTE" if name == "data_augmentation" else "out")
    folder.mkdir(exist_ok=True)
    inputs = {path.name: path.read_bytes() for path in folder.iterdir()}
    used = sum(4 * -(-len(content) // 4096) for content in inputs.values())
    disk = SmallDisk(folder, used + 4)
    try:
        for file, content in inputs.items():
            path = disk.path(folder) / file
            path.write_bytes(content)
            os.utime(path, ns=(0, 0))
        for room in (4, *sorted(random.sample(range(8, 600, 4), KILLS - 1))):
            disk.grow(used + room)
            outcome = run(f"{line} {again}", place, seen_by=disk.pid)
            assert outcome.status == 0 or outcome.says_one_line(), outcome.output
            if outcome.status:
                assert "No space left" in outcome.error_lines[0], outcome.output
            assert not list(disk.path(folder).rglob("*.part")), "nothing half-written is left"
        disk.grow(1 << 16)
        outcome = run(f"{line} {again}", place, seen_by=disk.pid)
        assert outcome.status == 0, outcome.output
        assert results(disk.path(place)) == expected
    finally:
        disk.close()


@pytest.mark.skipif(KILLS <= 3 and SmallDisk.possible(), reason="a disk is filled instead")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_limit_on_files_is_one_line_and_without_it_the_program_goes_on(name, whole, place):
    """No file can grow beyond so many bytes: the next best where no disk can be filled."""
    expected, _ = whole(name)
    line, again, _ = PROGRAMS[name]
    for limit in random.sample([1, 100, 1000, 5000, 20_000, 50_000], min(KILLS, 6)):
        outcome = run(f"{line} {again}", place, file_bytes=limit)
        assert outcome.status == 0 or outcome.says_one_line(), outcome.output
        assert not list(place.rglob("*.part")), "nothing half-written is left"
    outcome = run(f"{line} {again}", place)
    assert outcome.status == 0, outcome.output
    assert results(place) == expected
    assert not list(place.rglob("*.unfinished"))


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "data_augmentation"])
def test_an_output_folder_that_cannot_be_written_is_one_line(name, whole, place):
    """Without the right to write in it (root gives up its own), then a file in the folder's place."""
    expected, _ = whole(name)
    line = PROGRAMS[name].line
    (place / "out/new").mkdir(parents=True)
    for folder in (place / "out", place / "out/new"):
        folder.chmod(0o555)
    outcome = run(line, place, plain_user=1)
    assert outcome.says_one_line() and "out" in outcome.error_lines[0], outcome.output
    for folder in (place / "out", place / "out/new"):
        folder.chmod(0o755)
    assert os.listdir(place / "out/new") == []
    shutil.rmtree(place / "out")
    (place / "out").write_text("somebody's")
    outcome = run(line, place)
    assert outcome.says_one_line() and "out" in outcome.error_lines[0], outcome.output
    assert (place / "out").read_text() == "somebody's"
    (place / "out").unlink()
    assert run(line, place).status == 0
    assert results(place) == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_torn_input_is_one_line_or_harmless_and_mended_the_program_succeeds(name, whole, place):
    """Each file it reads is cut short and has bytes flipped, at random places."""
    expected, _ = whole(name)
    line, _, reads = PROGRAMS[name]
    for file in reads:
        path = place / file
        content, times = path.read_bytes(), path.stat()
        for damage in damages(content):
            path.write_bytes(damage)
            outcome = run(line, place)
            complete = outcome.status == 0 and results(place).keys() == expected.keys()
            assert complete or outcome.says_one_line(), f"{file}\n{outcome.output}"
            # A flipped weight may be finite and yet too large to train on: known after the first steps.
            if not complete and "is not finite; metrics.jsonl names" not in outcome.output:
                assert not results(place), f"{file}: something was written"
            shutil.rmtree(place / "out", ignore_errors=True)
            (place / "glue/RTE/train_aug.tsv").unlink(missing_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # it tells versions apart
    assert run(line, place).status == 0
    assert results(place) == expected


def damages(content: bytes):
    """A file cut short, and with a byte flipped, in turn."""
    for number in range(max(2, KILLS - 1)):
        spot = random.randrange(len(content))
        if number % 2:
            yield (
                content[:spot]
                + bytes([content[spot] ^ random.randrange(1, 256)])
                + content[spot + 1 :]
            )
        else:
            yield content[:spot]
