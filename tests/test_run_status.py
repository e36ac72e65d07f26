"""benchmarks/run_status.py, run_plan.py and commands.py: what a run has to do, and what is left."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks import run_status, scaling
from benchmarks.commands import Commands, flags_of
from benchmarks.devices import StepTime
from benchmarks.run_plan import bar_left, read_events, read_plan
from benchmarks.run_status import Pace, hours, status

ROOT = Path(__file__).resolve().parent.parent
FINE_TUNE = "python finetune_teacher.py --data_dir {} --bert_model none --output_dir {}"


def plan_line(index, stage, line, phase=0, chain="", ready=0, wide=0, took="", log="", outputs=""):
    label = f"{chain}: doing {index}"
    values = ("command", index, stage, phase, chain, ready, wide, took, log, outputs, label, line)
    return "\t".join(map(str, values))


def make_run(lines, events=(), slots=1, gpus=1):
    head = [f"run\t1000\t{slots}\t{gpus}\t./reproduction.sh --profile x"]
    stages = dict.fromkeys(line.split("\t")[2] for line in lines)
    head += [f"stage\t{s}\t{n}\t1\tabout {s}" for n, s in enumerate(stages, 1)]
    run = read_plan([*head, *lines])
    read_events(run, events)
    return run


def task(folder, name, rows):
    """A task's folder with so many rows of training data."""
    path = folder / name
    path.mkdir(parents=True)
    (path / "train.tsv").write_text("a sentence of some few words\t1\n" * rows)
    (path / "dev.tsv").write_text("a sentence of some few words\t1\n" * 40)
    return path


def left(run, stage="s", now=2000.0, step=None):
    return Pace(run, now, step).left_of(run, run.of(stage))


def test_what_is_left_follows_from_the_work_and_not_from_the_number_of_commands(tmp_path):
    """Three of seconds and one short training are done; one of 40 times the rows is to come."""
    small, large = task(tmp_path, "RTE", 1_000), task(tmp_path, "SST-2", 40_000)
    lines = [plan_line(i, "s", "mkdir x") for i in range(3)]
    lines.append(plan_line(3, "s", FINE_TUNE.format(small, "a")))
    lines.append(plan_line(4, "s", FINE_TUNE.format(large, "b")))
    events = [f"1010\tfinished\t{i}\t1" for i in range(3)] + ["1050\tfinished\t3\t25"]
    real = 5 + 40 * 20  # 5 s to start, 20 s of work for the small one
    by_number = (3 * 1 + 25) / 4
    assert left(make_run(lines, events)) == pytest.approx(real, rel=0.05)
    assert real / by_number > 100


@pytest.mark.parametrize(
    ("epochs", "steps", "factor"), [(3, None, 1), (6, None, 2), (6, 32, 32 / 96), (3, 500, 1)]
)
def test_epochs_and_a_limit_of_steps_count(tmp_path, epochs, steps, factor):
    folder = task(tmp_path, "RTE", 1024)
    flags = f" --num_train_epochs {epochs}" + (f" --max_steps {steps}" if steps else "")
    line = FINE_TUNE.format(folder, "a")
    plain, other = (Commands([]).load(text).work for text in (line, line + flags))
    assert other.gflop / plain.gflop == pytest.approx(factor, rel=0.02)
    assert other.steps / plain.steps == pytest.approx(factor, rel=0.02)


def test_a_command_takes_what_it_took_before_if_it_is_run_again(tmp_path):
    line = FINE_TUNE.format(task(tmp_path, "RTE", 1000), "a")
    assert left(make_run([plan_line(0, "s", line, took=77)])) == 77
    assert left(make_run([plan_line(0, "s", line, took=77, ready=1)])) == 0


def test_nothing_is_said_before_anything_is_known_of_this_machine(tmp_path):
    lines = [plan_line(0, "s", FINE_TUNE.format(task(tmp_path, "RTE", 1000), "a"))]
    assert left(make_run(lines)) is None
    assert left(make_run(lines), step=StepTime(0.001, 1e-5)) > 0


def test_the_bar_of_a_running_command_says_what_is_left_of_it_and_gives_the_pace(tmp_path):
    folder = task(tmp_path, "RTE", 1000)
    log = tmp_path / "log"
    log.write_text(
        "training: 99% 99/100 step [01:00<00:01, 1step/s]\n"  # of an earlier command
        + (begun := "$ python\n")
        + "the teacher's logits:  50% 5/10 row [00:10<09:10, 1row/s]\n"
        "training:  25% 25/100 step [00:40<02:00,  1.6s/step, loss=1.2]\n"
    )
    os.utime(log, (2000, 2000))
    lines = [
        plan_line(0, "s", FINE_TUNE.format(folder, "a"), log=log),
        plan_line(1, "s", FINE_TUNE.format(folder, "b") + " --num_train_epochs 6"),
    ]
    events = [f"1950\tstarted\t0\t{log.read_text().index(begun)}"]
    run = make_run(lines, events)
    assert bar_left(run.commands["0"], 2010.0) == 110
    # 50 s so far and 120 to come, 5 of them to start: twice the epochs take 5 + 2 × 165 s.
    assert left(run) == pytest.approx(120 + 5 + 2 * 165, rel=0.02)
    assert left(make_run(lines, ["1950\tstarted\t0\t999999"])) is None


def test_a_command_without_a_bar_that_takes_longer_than_foreseen_is_not_said_to_be_done():
    run = make_run([plan_line(0, "s", "mkdir x", took=10)], ["1000\tstarted\t0\t0"])
    assert left(run, now=1004.0) == 6
    assert left(run, now=1200.0) == 20


def test_chains_run_side_by_side_phases_and_what_needs_all_gpus_do_not():
    def lines(**more):
        plan = [plan_line(i, "s", "mkdir x", chain=f"c{i}", took=60, **more) for i in range(4)]
        return [*plan, plan_line(9, "s", "mkdir x", phase=1, took=30)]

    assert left(make_run(lines())) == 270
    assert left(make_run(lines(), slots=2)) == 150
    assert left(make_run(lines(), slots=8)) == 90
    assert left(make_run(lines(wide=1), slots=2, gpus=2)) == 270


def test_what_is_not_on_disk_yet_is_known_from_the_command_that_makes_it(tmp_path):
    folder = task(tmp_path, "RTE", 1000)
    halve = "python tinybert_6_from_bert.py --source base --keep_layers 0,2,4 --output_dir half"
    tune = "python finetune_teacher.py --data_dir d --bert_model half --output_dir tuned"
    commands = Commands([(halve, ["half"]), (tune, ["tuned"])])
    assert commands.config("tuned").num_hidden_layers == 3
    assert commands.config("elsewhere").num_hidden_layers == 12
    smart = "python tinybert_6_from_bert.py --models_dir m --names rte"
    commands = Commands([(smart, ["m/smart"]), (tune, ["m/final_rte_teacher"]), (halve, ["half"])])
    assert commands.config("m/smart").num_hidden_layers == 1  # half of three layers
    distil = (
        f"python task_distill.py --teacher_model t --student_model s --data_dir {folder} --task_name RTE "
        "--num_train_epochs 1"
    )
    plain, augmented = (commands.load(distil + aug).work.steps for aug in ("", " --aug_train"))
    assert augmented / plain == pytest.approx(1 + 30 * 2 * 0.9, rel=0.03)  # N 30, two sentences


@pytest.fixture(scope="module")
def full():
    """The plan of the full profile, nothing of which has been run."""
    code = (
        "source ./reproduction.sh; PROFILE=full; source profiles/full.env; RESULTS=/nowhere; "
        'COMMAND_LINE=x; FORCE=0; plan_stages "${STAGES[@]}"; write_plan "${STAGES[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return read_plan(done.stdout.splitlines())


def test_text_that_is_not_there_yet_is_as_much_as_what_it_is_made_from(tmp_path):
    dump = tmp_path / "dump.bz2"
    dump.write_bytes(bytes(1000))
    extract = f"python -m wikiextractor.WikiExtractor {dump} -o e"
    prepare = "python prepare_data.py --input e --output c"
    pregenerate = (
        "python pregenerate_training_data.py --train_corpus c --epochs_to_generate 2 --output_dir j"
    )
    commands = Commands([(extract, ["e"]), (prepare, ["c"]), (pregenerate, ["j"])])
    assert [commands.load(line).size for line in (extract, prepare, pregenerate)] == [
        4000,
        4000,
        8000,
    ]
    assert Commands([]).load(pregenerate).size == pytest.approx(2 * 2.5e9 * 5.9)
    assert Commands([("python -m demo.make", ["e"])]).load(prepare).size < 1e7


def test_the_commands_of_the_full_profile_are_the_work_of_the_scaling_page(full):
    commands = Commands((c.line, c.outputs) for c in full.commands.values())
    ours = sum(commands.load(c.line).work.gflop for c in full.commands.values())
    page = sum(stage.work.gflop for stage in scaling.full_profile())
    assert ours == pytest.approx(page, rel=0.03)
    kinds = {commands.load(c.line).kind for c in full.commands.values()}
    assert {
        "layers",
        "predictions",
        "scoring",
        "general_distill.py",
        "finetune_teacher.py",
    } <= kinds


def test_hours_are_told_where_the_gpu_is_known(full):
    known = hours(full, "NVIDIA H200")
    assert {"general", "augment", "teachers", "task_4l", "task_6l", "smart_init"} <= known.keys()
    assert "on NVIDIA H200, computed from measured steps" in known["all"]
    assert "glove" not in known
    for card, word in (("Voodoo", "on 'Voodoo'"), ("", "no GPU that nvidia-smi shows")):
        (why,) = hours(full, card).values()
        assert why.startswith("hours: not known") and word in why


LINES = [
    plan_line(0, "first", "mkdir x", took=5),
    plan_line(1, "second", "mkdir y", chain="rte", took=60),
    plan_line(2, "second", "mkdir z", chain="cola", took=600),
]
STARTED = ["1000\tstage\tfirst", "1001\tfinished\t0\t5", "1005\tstage\tsecond"]


def said(events, alive, now=1100.0):
    return "\n".join(status(make_run(LINES, [*STARTED, *events]), alive, now, Path("logs")))


def test_status_of_a_running_run_names_stage_command_time_and_end():
    text = said(["1050\tstarted\t1\t0", "1060\tstarted\t2\t0"], alive=True)
    assert "./reproduction.sh --profile x: running for 2 min, since " in text
    assert "1 of 2 stages done" in text and "stage 2 of 2, second: about second" in text
    assert "0 of 2 commands done, about 10 min left" in text
    assert "command 1, rte: doing 1: running for 50 s, about 10 s left" in text
    assert "command 2, cola: doing 2: running for 40 s, about 9 min left" in text
    assert "expected end: " in text and "in about 10 min" in text


def test_status_of_a_run_that_is_over_says_how_it_ended(tmp_path):
    done = ["1050\tfinished\t1\t60", "1060\tfinished\t2\t600", "1061\tended\t0"]
    text = said(done, alive=False)
    assert "finished at " in text and "after 61 s" in text and "2 of 2 stages done" in text
    text = said(["1050\tstarted\t1\t0", "1070\tfailed\t1\t137", "1071\tended\t1"], alive=False)
    assert "failed at " in text and "command 1, rte: doing 1: failed with exit status 137" in text
    text = said(["1050\tstarted\t1\t0", "1071\tended\t130"], alive=False)
    assert "stopped at " in text and "command 1, rte: doing 1: was interrupted" in text
    text = said(["1050\tstarted\t1\t0"], alive=False)
    assert "ended without a word" in text and "was interrupted" in text
    assert "the same command resumes from here" in text


def test_status_shows_the_last_line_of_the_log_of_each_command(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n$ mkdir y\nfirst\rsecond\n\n")
    lines = [plan_line(0, "s", "mkdir x", log=log, took=9)]
    run = make_run(lines, ["1000\tstage\ts", "1050\tstarted\t0\t7"])
    assert "      second" in status(run, True, 1051.0, Path("logs"))


def test_a_profile_without_a_run_is_said_to_have_none(tmp_path, capsys):
    run_status.main(["status", str(tmp_path), "0"])
    assert "no run has been started" in capsys.readouterr().out


def test_the_last_flag_of_a_name_holds_and_one_may_have_no_value():
    words = shlex.split("python x.py --a 1 --b --c=3 --a 2 --d")
    assert flags_of(words) == {"a": "2", "b": "", "c": "3", "d": ""}
