"""reproduction.sh: its command lines, and how it runs, skips, resumes and stops them.

The programs are replaced by a stub `python` that notes its command line and makes the output it names.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
STAGES = [
    "environment",
    "glove",
    "glue",
    "wiki",
    "models",
    "pregenerate",
    "general",
    "augment",
    "teachers",
    "task_4l",
    "task_6l",
    "smart_init",
    "report",
]
TASKS = {"rte": "RTE", "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC"}
STUB = (
    rf"""#!/usr/bin/env bash
[[ "$2" == *run_status* ]] && exec env PYTHONPATH={ROOT} {sys.executable} "$@"
"""
    + r"""[[ $1 == -c ]] && exit 0   # the preflight's questions
echo "$*" >>calls
echo "working on $*"
echo "${CUDA_VISIBLE_DEVICES:-all} $*" >>places
[[ -z ${STUB_SLEEP:-} || "$*" != *$STUB_SLEEP* ]] || sleep 4
if [[ -n ${STUB_FAIL:-} && "$*" == *$STUB_FAIL* ]]; then echo "error: the stub says no"; exit 2; fi
if [[ -n ${STUB_HANG:-} && "$*" == *$STUB_HANG* ]]; then exec sleep 600; fi
previous=
for word in "$@"; do
  [[ $previous == --output_dir || $previous == -o ]] && mkdir -p "$word"
  [[ $previous == --output ]] && touch "$word"
  previous=$word
done
case "$*" in
  *"--stage glove"*) touch data/glove.txt ;;
  *"--stage glue"*) mkdir -p data/glue_data/{RTE,CoLA} ;;
  *"--stage wiki"*) touch data/enwiki-1-pages.xml.bz2 ;;
  data_augmentation*RTE*) touch data/glue_data/RTE/train_aug.tsv ;;
  data_augmentation*CoLA*) touch data/glue_data/CoLA/train_aug.tsv ;;
  tinybert_6_from_bert*) for n in rte cola base; do mkdir -p models/tinybert_6l_smart_init_direct_$n; done ;;
  *teacher_model* | finetune_teacher*) touch "$(sed 's/.*--output_dir \([^ ]*\).*/\1/' <<<"$*")/run.json" ;;
esac
exit 0
"""
)
PROFILE = """
DATA=data MODELS=models RESULTS=results INPUTS=demo
TASKS="RTE CoLA" SEEDS=42 JOBS=2 THREADS=1 WORKERS=1
DUMP=$DATA/enwiki-1-pages.xml.bz2 GLOVE=$DATA/glove.txt
STUDENT_4L=4l STUDENT_6L=6l TEACHER_FLAGS="--num_train_epochs 1"
GENERAL_FLAGS= GENERAL_4L_FLAGS= GENERAL_6L_FLAGS= GENERAL_SMART_FLAGS= SMART_INIT_FLAGS= AUGMENT_FLAGS=
GLUE_FLAGS= MLM_FLAGS= MLM_DOUBLED_FLAGS= DOWNLOADED_FLAGS=
PREGENERATE_FLAGS= INTERMEDIATE_FLAGS= PREDICTION_FLAGS=
LABELS_ONLY_FLAGS= EVAL_FLAGS=
"""


class Checkout:
    """A copy of the script with a small profile and the stub on its PATH."""

    def __init__(self, folder: Path, finished: "Checkout | None" = None) -> None:
        self.folder = folder
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}
        if finished is not None:
            shutil.copytree(finished.folder, folder, dirs_exist_ok=True)
            return
        for name in ("reproduction.sh", "reproduction_engine.sh"):
            shutil.copy(ROOT / name, folder)
        shutil.copytree(ROOT / "profiles", folder / "profiles")
        self.write_profile(PROFILE)
        (folder / "bin").mkdir()
        (folder / "bin" / "python").write_text(STUB)
        (folder / "bin" / "python").chmod(0o755)

    def write_profile(self, text: str) -> None:
        (self.folder / "profiles" / "tiny.env").write_text(text)

    def start(self, *flags: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", "reproduction.sh", *flags],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell cannot trap what it was started without, as in the background of another.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *flags: str, status: int = 0, **environment: str) -> str:
        process = self.start(*flags, **environment)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, output
        return output

    def calls(self) -> list[str]:
        """Command lines run since this was last asked, without the two that are run every time."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith(("-W ignore", "report.py"))]


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A checkout in which everything has been run once, and what was run."""
    checkout = Checkout(tmp_path_factory.mktemp("whole"))
    checkout.run("--profile", "tiny")
    return checkout, checkout.calls()


@pytest.fixture
def finished(whole_run, tmp_path):
    """A copy of it to do further things in."""
    return Checkout(tmp_path, whole_run[0])


def script(*flags: str) -> str:
    """Output of the repository's own script, which writes nothing with these flags."""
    done = subprocess.run(
        ["bash", "reproduction.sh", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def published_commands() -> list[str]:
    """The published command lines, in one spelling of their paths and task names."""
    general = (
        "python general_distill.py --pregenerated_data data/json_wiki "
        "--teacher_model models/bert-base-uncased --reduce_memory --do_lower_case --eval_step 10000 "
    )
    commands = [
        "python download_glue.py",
        "python get_bert_models.py",
        "python prepare_data.py",
        "python -m wikiextractor.WikiExtractor data/enwiki-20251101-pages-articles-multistream.xml.bz2"
        " --json -o data/extracted_wiki",
        "python pregenerate_training_data.py --train_corpus data/wiki_for_bert.txt "
        "--bert_model models/bert-base-uncased --reduce_memory --do_lower_case "
        "--epochs_to_generate 3 --output_dir data/json_wiki",
        general + "--student_model tinybert_4l_config --train_batch_size 64 "
        "--output_dir models/distilled_tinybert_4l",
        general + "--student_model tinybert_6l_config --train_batch_size 256 "
        "--gradient_accumulation_steps 8 --output_dir models/distilled_tinybert_6l",
        general
        + "--student_model models/tinybert_6l_smart_init_direct_base --train_batch_size 256 "
        "--gradient_accumulation_steps 8 --output_dir models/distilled_tinybert_6l_smart_init "
        "--continue_train --num_train_epochs 1 --warmup_proportion 0.01",
    ]
    for key, name in TASKS.items():
        data = f"--data_dir data/glue_data/{name}"
        commands += [
            "python data_augmentation.py --pretrained_bert_model models/bert-base-uncased "
            f"--glove_embs data/glove.840B.300d.txt --glue_dir data/glue_data --task_name {name}",
            f"python finetune_teacher.py {data} --bert_model models/bert-base-uncased-{key} "
            f"--output_dir models/final_{key}_teacher --num_train_epochs 5 --train_batch_size 32 "
            "--learning_rate 2e-5",
        ]
        smart = f"tinybert_6l_smart_init_direct_{key}"
        for student, temporary, final in (
            *(
                (
                    f"distilled_tinybert_{size}",
                    f"tmp_distilled_tinybert_{size}_{key}",
                    f"distilled_tinybert_{size}_{key}",
                )
                for size in ("4l", "6l")
            ),
            (smart, f"tmp_{smart}", f"{smart}_tsd"),
            (
                "distilled_tinybert_6l_smart_init",
                f"tmp_tinybert_6l_smart_init_{key}",
                f"tinybert_6l_smart_init_{key}",
            ),
        ):
            distil = f"python task_distill.py --teacher_model models/final_{key}_teacher {data}"
            common = f"--task_name {name} --max_seq_length 128 --train_batch_size 32 --aug_train"
            commands += [
                f"{distil} {common} --student_model models/{student} --do_lower_case "
                f"--output_dir models/{temporary} --num_train_epochs 10",
                f"{distil} {common} --pred_distill --student_model models/{temporary} --do_lower_case "
                f"--output_dir models/{final} --learning_rate 3e-5 --num_train_epochs 3 "
                "--eval_step 100",
                f"python task_distill.py --do_eval --student_model models/{final} {data} "
                f"--task_name {name} --do_lower_case --eval_batch_size 32 --max_seq_length 128",
            ]
    return commands


def parts(command: str) -> tuple[str, frozenset[str]]:
    """The program, and its flags each with what follows it."""
    words = command.replace("python -m ", "python ").split()
    flags: list[str] = []
    for word in words[2:]:
        if word.startswith("-") or not flags:
            flags.append(word)
        else:
            flags[-1] += f" {word}"
    return words[1], frozenset(flags)


def test_full_profile_holds_every_published_command_with_its_numbers():
    ours = [parts(line) for line in script("--dry-run").splitlines() if line.startswith("python")]
    for command in published_commands():
        program, flags = parts(command)
        assert any(p == program and flags <= f for p, f in ours), command
    allowed = {"--output_dir", "--data_dir", "--input", "--output", "--num_workers", "--processes"}
    by_flags = {(program, flags) for program, flags in map(parts, published_commands())}
    for program, flags in ours:  # nothing is added to a published command but paths and workers
        if program in ("general_distill.py", "data_augmentation.py"):
            extra = min((flags - f for p, f in by_flags if p == program and f <= flags), key=len)
            assert {flag.split()[0] for flag in extra} <= allowed, extra


def test_full_profile_downloads_the_published_word_vectors():
    lines = script("--dry-run", "--only", "glove").splitlines()
    assert lines[1:] == [
        "python download_file.py https://nlp.stanford.edu/data/glove.840B.300d.zip --output_dir data "
        "--unpack data/glove.840B.300d.txt"
    ]


def test_a_dump_is_fetched_if_the_profile_says_from_where(checkout):
    address = "https://dumps.example/enwiki-20300101-pages.xml.bz2"
    text = (ROOT / "profiles" / "full.env").read_text()
    checkout.write_profile(text.replace("DUMP_URL=", f"DUMP_URL={address}"))
    fetch = f"python download_file.py {address} --output_dir data"
    extract = "python -m wikiextractor.WikiExtractor data/enwiki-20300101-pages.xml.bz2 "
    dry_run = ("--profile", "tiny", "--dry-run", "--only", "wiki")
    planned = checkout.run(*dry_run).splitlines()
    assert planned[1] == fetch and planned[2].startswith(extract)
    checkout.write_profile(
        text.replace("DUMP_URL=", f"DUMP_URL={address}").replace("SUM=", "SUM=12ab")
    )
    assert checkout.run(*dry_run).splitlines()[1] == f"{fetch} --checksum 12ab"
    (checkout.folder / "data" / "extracted_wiki").mkdir(parents=True)
    assert "download_file.py" not in checkout.run(*dry_run)
    assert "download_file.py" not in script("--dry-run", "--only", "wiki")


@pytest.mark.parametrize("profile", ["full", "demo"])
def test_each_profile_has_the_same_stages_and_programs(profile):
    assert [
        line.split()[0] for line in script("--list", "--profile", profile).splitlines()
    ] == STAGES
    lines = script("--dry-run", "--profile", profile).splitlines()
    assert [line.split()[3].rstrip(":") for line in lines if line.startswith("#")] == STAGES
    programs = {parts(line)[0] for line in lines if line.startswith("python")}
    assert programs >= {
        "wikiextractor.WikiExtractor",
        "prepare_data.py",
        "pregenerate_training_data.py",
        "general_distill.py",
        "data_augmentation.py",
        "fix_teacher_layers.py",
        "finetune_teacher.py",
        "task_distill.py",
        "tinybert_6_from_bert.py",
        "report.py",
    }
    for program in programs - {"wikiextractor.WikiExtractor", "torch.utils.collect_env"}:
        assert program.endswith(".py") or program.startswith("demo.")


def test_demo_profile_downloads_nothing():
    text = script("--dry-run", "--profile", "demo")
    assert not any(word in text for word in ("download_", "http", "get_bert_models"))


def test_dry_run_and_list_write_nothing(checkout):
    before = sorted(checkout.folder.rglob("*"))
    checkout.run("--profile", "tiny", "--dry-run")
    checkout.run("--profile", "tiny", "--list")
    assert sorted(checkout.folder.rglob("*")) == before


def test_dry_run_prints_exactly_what_is_run(whole_run):
    checkout, ran = whole_run
    planned = checkout.run("--profile", "tiny", "--dry-run").splitlines()
    expected = [line.removeprefix("python ") for line in planned if line.startswith("python ")]
    expected = [line for line in expected if not line.startswith(("-W ignore", "report.py"))]
    assert sorted(ran) == sorted(expected)
    assert ran.index(next(c for c in ran if c.startswith("general_distill"))) > ran.index(
        next(c for c in ran if c.startswith("prepare_data"))
    )


def test_a_finished_stage_is_not_run_again(finished):
    again = finished.run("--profile", "tiny")
    assert finished.calls() == []
    assert "task_4l: finished before, skipped" in again
    for stage in STAGES:
        assert (
            (finished.folder / "results" / "stages" / f"{stage}.seconds")
            .read_text()
            .strip()
            .isdigit()
        )


def test_a_subset_of_tasks_is_not_repeated_with_all_of_them(finished):
    finished.run("--profile", "tiny", "--tasks", "rte")
    assert finished.calls() == []
    shutil.rmtree(finished.folder / "results" / "stages" / "commands")
    finished.run("--profile", "tiny", "--tasks", "rte", "--only", "augment")
    assert [call.split()[-1] for call in finished.calls()] == ["RTE"]
    finished.run("--profile", "tiny", "--only", "augment")
    assert [call.split()[-1] for call in finished.calls()] == ["CoLA"]


def test_a_changed_profile_repeats_what_it_touches_and_what_is_built_on_that(finished):
    finished.write_profile(
        PROFILE.replace("GENERAL_6L_FLAGS=", "GENERAL_6L_FLAGS='--learning_rate 1e-4'")
    )
    finished.run("--profile", "tiny")
    calls = finished.calls()
    assert calls and all("distilled_tinybert_6l" in call for call in calls)
    assert sum("general_distill" in call for call in calls) == 1
    assert sum("--pred_distill" in call for call in calls) == 2


def test_deleted_output_is_made_again(finished):
    shutil.rmtree(finished.folder / "models" / "final_rte_teacher")
    finished.run("--profile", "tiny")
    assert [call.split()[0] for call in finished.calls()] == ["finetune_teacher.py"]


def test_force_repeats_the_chosen_stage_only(finished):
    finished.run("--profile", "tiny", "--only", "augment", "--force")
    assert {call.split()[0] for call in finished.calls()} == {"data_augmentation.py"}


def test_a_failing_command_stops_the_run_and_names_its_log(checkout):
    output = checkout.run(
        "--profile",
        "tiny",
        status=1,
        STUB_FAIL="finetune_teacher.py --data_dir data/glue_data/CoLA",
    )
    log = "results/logs/models-cola.log"
    assert f"the log is {log}" in output and "the stub says no" in output
    assert "FAILED with exit status 2" in output
    assert "the stub says no" in (checkout.folder / log).read_text()
    calls = checkout.calls()
    assert not any(call.startswith("general_distill") for call in calls)
    assert any("glue_data/RTE" in call for call in calls)  # what was running was left to finish
    assert not (checkout.folder / "results" / "stages" / "models.done").exists()

    checkout.run("--profile", "tiny", "--only", "models")
    assert [call.split()[2] for call in checkout.calls()] == ["data/glue_data/CoLA"]


def test_from_starts_at_a_stage(finished):
    output = finished.run("--profile", "tiny", "--from", "task_6l")
    assert "smart_init" in output and "task_4l" not in output


def test_an_interrupted_training_is_resumed_and_one_with_other_settings_started_again(checkout):
    target = "final_rte_teacher --num"
    process = checkout.start("--profile", "tiny", STUB_HANG=target)
    calls = checkout.folder / "calls"
    wait_until(lambda: calls.exists() and target in calls.read_text(), process)
    process.send_signal(signal.SIGTERM)
    assert "resumes from here" in process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 143
    (checkout.folder / "models" / "final_rte_teacher").mkdir(exist_ok=True)
    checkout.calls()

    checkout.run("--profile", "tiny", "--only", "teachers", status=1, STUB_FAIL=target)
    assert any(target in call and call.endswith(" --resume") for call in checkout.calls())
    checkout.write_profile(PROFILE.replace("num_train_epochs 1", "num_train_epochs 2"))
    checkout.run("--profile", "tiny", "--only", "teachers")
    assert any(
        target in call and call.endswith(" --overwrite_output_dir") for call in checkout.calls()
    )


@pytest.mark.parametrize(
    ("stage", "output"),
    [("wiki", "data/wiki_for_bert.txt"), ("augment", "data/glue_data/RTE/train_aug.tsv")],
)
def test_prepared_data_that_was_interrupted_is_gone_on_with(finished, stage, output):
    (finished.folder / output).unlink()
    (finished.folder / f"{output}.unfinished").mkdir()
    finished.run("--profile", "tiny", "--only", stage)
    (call,) = finished.calls()
    assert call.endswith(" --resume")


def test_several_seeds_repeat_task_distillation_only(checkout):
    checkout.write_profile(PROFILE.replace("SEEDS=42", "SEEDS='42 43'"))
    lines = checkout.run("--profile", "tiny", "--dry-run").splitlines()
    seeded = [line for line in lines if "--seed 43" in line]
    assert seeded and all("-seed43" in line for line in seeded)
    assert {parts(line)[0] for line in seeded} == {"task_distill.py", "finetune_teacher.py"}
    assert not any("--seed 42" in line for line in lines)
    assert any("--output_dir models/distilled_tinybert_4l_rte-seed43" in line for line in lines)


def test_seeds_given_on_the_command_line_join_those_of_the_profile(checkout):
    plain = checkout.run("--profile", "tiny", "--dry-run").splitlines()
    more = checkout.run("--profile", "tiny", "--dry-run", "--seeds", "7,42").splitlines()
    assert [line for line in more if "seed7" not in line] == plain
    assert any("--seed 7 " in f"{line} " and "_rte-seed7" in line for line in more)
    assert "expected whole numbers" in checkout.run("--seeds", "one", status=2)


def test_a_profile_is_also_found_by_its_path(checkout):
    profile = checkout.folder / "mine.env"
    profile.write_text(PROFILE)
    assert checkout.run("--profile", "mine.env", "--list") == checkout.run(
        "--profile", str(profile), "--list"
    )


def test_preflight_says_everything_that_is_missing_before_anything_starts(checkout):
    (checkout.folder / "bin" / "python").write_text(
        "#!/bin/sh\n"
        'case "$2" in *find_spec*torch*) exit 0 ;; *find_spec*) echo nltk ;; *) exit 1 ;; esac\n'
    )
    (checkout.folder / "profiles" / "big.env").write_text(
        (ROOT / "profiles" / "full.env").read_text().replace("DISK_GB=200", "DISK_GB=999999")
    )
    output = checkout.run("--profile", "big", status=2)
    for word in ("nltk", "Wikipedia dump", "999999 GB", "CUDA GPU", "a connection to https://nlp"):
        assert word in output
    assert not (checkout.folder / "results").exists() and not (checkout.folder / "data").exists()


def test_an_interrupted_run_ends_after_its_programs(checkout):
    """A training that is told to stop finishes its step first; the prompt comes back after that."""
    (checkout.folder / "bin" / "python").write_text(
        "#!/usr/bin/env bash\n[[ $1 == -c || $1 == -W ]] && exit 0\n"
        "trap 'sleep 1; touch ended; exit 143' TERM\ntouch working\nwhile :; do sleep 0.1; done\n"
    )
    process = checkout.start("--profile", "tiny", "--only", "general")
    wait_until((checkout.folder / "working").exists, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143 and "the same command resumes" in output
    assert (checkout.folder / "ended").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("RTE CoLA", "RTE FOO"), "TASKS: no task 'FOO'"),
        (("JOBS=2", "JOBS=0"), "JOBS=0: expected a whole number"),
        (("JOBS=2", "JOBS=two"), "JOBS=two: expected a whole number"),
        (("INPUTS=demo", "INPUTS=here"), "INPUTS=here: expected download or demo"),
        (("SEEDS=42", "SEEDS=four"), "expected whole numbers"),
        (("MODELS=models", ""), "no MODELS"),
        (("EVAL_FLAGS=", ""), "no EVAL_FLAGS"),
        (("\n", "\r\n"), "lines end as on Windows"),
    ],
)
def test_a_mistake_in_a_profile_is_told_before_anything_is_planned(checkout, change, message):
    checkout.write_profile(PROFILE.replace(*change))
    output = checkout.run("--profile", "tiny", "--dry-run", status=2)
    assert message in output and len(output.splitlines()) == 1


def test_folders_may_have_spaces_in_their_names(checkout):
    checkout.write_profile(PROFILE.replace("RESULTS=results", 'RESULTS="my results"'))
    checkout.run("--profile", "tiny", "--only", "environment")
    assert (checkout.folder / "my results" / "environment.txt").is_file()
    assert not (checkout.folder / "my").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "nothing"], "no stage named 'nothing'"),
        (["--from", "nothing"], "no stage named 'nothing'"),
        (["--profile", "nothing"], "no profile 'nothing'"),
        (["--tasks", "RTE,nothing"], "no task 'nothing'"),
        (["--what"], "unknown option '--what'"),
        (["--only"], "--only needs a value"),
    ],
)
def test_a_mistyped_option_is_one_line_and_status_2(checkout, flags, message):
    output = checkout.run(*flags, status=2)
    assert message in output and len(output.splitlines()) == 1
    assert checkout.calls() == []


def test_a_stage_says_how_many_of_its_commands_are_done_and_how_long_the_others_take(checkout):
    checkout.write_profile(PROFILE.replace("JOBS=2", "JOBS=1"))
    slow = "--output_dir models/tmp_distilled_tinybert_4l_rte"
    output = checkout.run("--profile", "tiny", "--only", "task_4l", STUB_SLEEP=slow)
    lines = [line[9:] for line in output.splitlines() if " commands done" in line]
    done = [re.search(r"; (\d+) of 16 commands done(, about .* left)?$", line) for line in lines]
    assert all(done), lines
    assert [int(match[1]) for match in done] == list(range(1, 17))
    assert done[0][2] and not done[15][2]  # after the one that took its time
    assert "commands done" not in checkout.run("--profile", "tiny", "--only", "glue"), "it has one"
    assert not re.search(r"\d:\d\d left|finished in \d\d:", output)


def test_status_tells_of_a_run_that_goes_on_of_one_that_failed_and_of_one_that_finished(checkout):
    status = ("--profile", "tiny", "--status")
    assert "no run has been started" in checkout.run(*status)
    process = checkout.start("--profile", "tiny", STUB_HANG="general_distill.py")
    try:
        calls = checkout.folder / "calls"
        while not calls.exists() or calls.read_text().count("general_distill") < 2:
            assert process.poll() is None
            time.sleep(0.05)
        told = checkout.run(*status)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert "./reproduction.sh --profile tiny: running for " in told
    assert "stage 7 of 13, general: general distillation" in told and "0 of 2 commands done" in told
    for chain in ("4l", "6l"):
        assert f"{chain}: general distillation -> distilled_tinybert_{chain}: running for" in told
    assert "working on general_distill.py" in told and "expected end" in told
    assert "tiny: stopped at " in checkout.run(*status)
    checkout.run("--profile", "tiny", "--only", "general", STUB_FAIL="tinybert_6l", status=1)
    told = checkout.run(*status)
    assert "tiny --only general: failed at " in told and "failed with exit status 2" in told
    assert "error: the stub says no" in told
    checkout.run("--profile", "tiny", "--only", "general")
    assert "finished at " in checkout.run(*status)


def test_a_killed_run_is_not_said_to_be_running(checkout):
    process = checkout.start("--profile", "tiny", STUB_HANG="--stage glove")
    calls = checkout.folder / "calls"
    while not calls.exists() or "--stage glove" not in calls.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert "ended without a word" in checkout.run("--profile", "tiny", "--status")


WIDE = "-m torch.distributed.run --standalone --nproc_per_node 2 "


def test_on_several_gpus_heavy_commands_use_all_and_tasks_have_one_each(checkout):
    checkout.write_profile(PROFILE.replace("JOBS=2", "JOBS=1"))
    stages = ("general", "augment", "teachers")
    planned = [
        line.removeprefix("python ")
        for stage in stages
        for line in checkout.run(
            "--profile", "tiny", "--gpus", "2", "--dry-run", "--only", stage
        ).splitlines()
        if line.startswith("python ")
    ]
    heavy = [line for line in planned if line.startswith(WIDE)]
    assert [line.split()[5] for line in heavy] == ["general_distill.py"] * 2 + [
        "data_augmentation.py"
    ] * 2
    (checkout.folder / "models/bert-base-uncased-rte").mkdir(parents=True)
    for stage in stages:
        checkout.run("--profile", "tiny", "--gpus", "2", "--only", stage)
    places = [line.split(" ", 1) for line in (checkout.folder / "places").read_text().splitlines()]
    assert sorted(command for _, command in places) == sorted(planned)
    assert {gpu for gpu, command in places if command.startswith(WIDE)} == {"all"}
    for task in TASKS.keys() & {"rte", "cola"}:
        gpus = {gpu for gpu, command in places if f"final_{task}_teacher" in command}
        assert len(gpus) == 1 and gpus < {"0", "1"}


def test_gpus_are_those_that_the_environment_leaves(checkout):
    checkout.run(
        "--profile", "tiny", "--gpus", "2", "--only", "teachers", CUDA_VISIBLE_DEVICES="5,7"
    )
    places = (checkout.folder / "places").read_text().splitlines()
    assert {line.split()[0] for line in places} <= {"5", "7"}


def test_what_is_finished_stays_so_with_another_number_of_gpus(finished):
    finished.run("--profile", "tiny", "--gpus", "2")
    assert finished.calls() == []
    shutil.rmtree(finished.folder / "models/distilled_tinybert_4l")
    finished.run("--profile", "tiny", "--gpus", "2")
    (call,) = finished.calls()
    assert call.startswith(WIDE + "general_distill.py")


def test_an_interrupted_training_is_resumed_on_another_number_of_gpus(checkout):
    process = checkout.start("--profile", "tiny", "--only", "general", STUB_HANG="tinybert_4l")
    calls = checkout.folder / "calls"
    while not calls.exists() or "tinybert_4l" not in calls.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    (checkout.folder / "models/distilled_tinybert_4l").mkdir(parents=True, exist_ok=True)
    checkout.calls()
    checkout.run("--profile", "tiny", "--only", "general", "--gpus", "2")
    call = next(call for call in checkout.calls() if "tinybert_4l" in call)
    assert call.startswith(WIDE) and call.endswith("--resume")


def test_the_number_of_gpus_is_a_number_and_may_stand_in_the_profile(checkout):
    assert "--gpus two" in checkout.run("--profile", "tiny", "--gpus", "two", status=2)
    checkout.write_profile(PROFILE + "GPUS=2\n")
    assert WIDE in checkout.run("--profile", "tiny", "--dry-run", "--only", "general")


def test_teachers_of_further_tasks_are_downloaded_one_by_one(checkout):
    text = (ROOT / "profiles" / "full.env").read_text()
    checkout.write_profile(text.replace("RTE CoLA SST-2 MRPC", "RTE MNLI STS-B", 1))
    lines = checkout.run("--profile", "tiny", "--dry-run", "--only", "models").splitlines()
    fetch = "python get_bert_models.py --output_dir models"
    assert lines[1:4] == [fetch, f"{fetch} --tasks MNLI", f"{fetch} --tasks STS-B"]


def test_every_command_has_a_title_in_plain_words():
    check = (
        "source ./reproduction.sh; PROFILE=x; for f in demo full; do source profiles/$f.env; "
        'plan_stages "${STAGES[@]}"; done; printf "%s\\n" "${PLAN_TITLE[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", check], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE
    )
    titles = set(done.stdout.splitlines())
    assert {"making folders", "distilling the predictions", "scoring"} <= titles, done.stderr
    assert not [title for title in titles if re.search(r"\.py|bash|python|mkdir", title)]


def test_a_second_run_on_the_same_results_is_refused_and_a_dead_ones_place_taken(tmp_path):
    checkout = Checkout(tmp_path)
    first = checkout.start("--profile", "tiny", STUB_HANG="general_distill")
    try:
        wait_until((tmp_path / "results" / "writer").exists, first)
        output = checkout.run("--profile", "tiny", status=2)
        assert f"error: results: process {first.pid} is writing there" in output.splitlines()[-1]
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=PATIENCE)
    assert "done in" in checkout.run("--profile", "tiny")
