"""report.html of a small run, looked at with a parser and in a browser; what is measured on its models."""

import html.parser
import json
import re
import shutil
import subprocess

import pytest
import torch

import report
from distillation.mapping import layer_mapping
from distillation.objectives.attention import attention_losses
from distillation.objectives.hidden import hidden_losses
from reporting import models as report_models
from reporting.results import read_results
from tests.patience import PATIENCE
from transformer.file_utils import VOCAB_NAME
from transformer.modeling import TinyBertForPreTraining, TinyBertForSequenceClassification

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
SENTENCES = ["the dog likes this old house", "no child reads a dull book", "rivers run"]
VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "image"}


def record(folder, name, **facts):
    folder.mkdir(parents=True, exist_ok=True)
    start = {"schema": 1, "task": "SST-2", "main_metric": "acc", "output_dir": str(folder)}
    (folder / name).write_text(json.dumps(start | facts))


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_vocab, tiny_config, randomised):
    """A folder with results and models of one task: a teacher, and a student at each of its stages."""
    root = tmp_path_factory.mktemp("run")
    models, data = root / "models", root / "SST-2"
    data.mkdir()
    rows = [f"{text}\t{i % 2}" for i, text in enumerate(SENTENCES)]
    (data / "dev.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    labels = {"id2label": ["0", "1"]}
    shapes = {
        "final_sst2_teacher": (
            TinyBertForSequenceClassification,
            {"num_hidden_layers": 4, **labels},
        ),
        "distilled_tinybert_4l": (TinyBertForPreTraining, {"hidden_size": 12, "fit_size": 24}),
    }
    for name in ("tmp_distilled_tinybert_4l_sst2", "distilled_tinybert_4l_sst2"):
        fields = {"hidden_size": 12, "fit_size": 24, **labels}
        shapes[name] = (TinyBertForSequenceClassification, fields)
    for seed, (name, (kind, fields)) in enumerate(shapes.items()):
        randomised(kind(tiny_config(**fields)), seed).save_pretrained(models / name)
        shutil.copy(tiny_vocab, models / name / VOCAB_NAME)
        lines = [{"step": s, "loss": 3.0 / s, "learning_rate": 0.1 / s} for s in (1, 2, 3)]
        (models / name / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    general, layers, last = (models / name for name in list(shapes)[1:])
    teacher = str(models / "final_sst2_teacher")
    arguments = {"layer_map": "uniform", "data_dir": str(data)}
    shared = {"arguments": arguments, "metrics": {}, "steps": 3, "seconds": 1.0, "teacher": teacher}
    record(general, "run.json", stage="general", student="config", **shared | {"task": None})
    record(layers, "run.json", stage="intermediate", student=str(general), **shared)
    record(last, "run.json", stage="prediction", student=str(layers), **shared)
    for name, score in (("final_sst2_teacher", 0.9), ("distilled_tinybert_4l_sst2", 0.8)):
        record(
            root / "results" / "eval" / name, "eval.json", stage="evaluate", student=str(models / name),
            metrics={"dev": {"acc": score}}, data={"dev": {"rows": 3}}, model={"parameters": 1000},
        )  # fmt: skip
    odd = models / "a <b> & 'c'"
    odd.mkdir()
    (odd / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    flags = ["--results", str(root / "results"), "--models", str(models)]
    assert report.main([*flags, "--sentence", "the dog eats"]) == 0
    return root


@pytest.fixture(scope="module")
def page(run):
    return (run / "results" / "report" / "report.html").read_text()


class Reader(html.parser.HTMLParser):
    """Collects tags with their attributes, and fails on tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_is_well_formed_and_holds_every_section(page):
    reader = Reader(page)
    assert reader.open == []
    assert [section["id"] for section in reader.all("section")] == [
        "results", "which-orderings-hold-in-this-run", "published-figures", "size-and-speed",
        "attention", "distance-to-the-teacher",
        "all-metrics", "training", "training-curves", "missing",
    ]  # fmt: skip
    links = {a["href"][1:] for a in reader.all("a")}
    assert links == {section["id"] for section in reader.all("section")}
    ids = [attributes["id"] for tag, attributes in reader.tags if "id" in attributes and tag != "g"]
    assert len({i for i in ids if i in links}) == len(links)


def test_the_page_needs_nothing_from_elsewhere(page):
    reader = Reader(page)
    assert not reader.all("script")
    for tag, attributes in reader.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_every_picture_says_what_it_shows(page):
    reader = Reader(page)
    assert len(reader.all("img")) == 5  # the training curves
    assert all(image["alt"] for image in reader.all("img"))
    pictures = reader.all("svg")
    assert len(pictures) == 1 + 2 + 2 + 2  # bars, latencies, attention of two layers, distances
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)


def test_text_from_outside_is_text(page):
    assert "<b>" not in page and "<summary>a &lt;b&gt; &amp; &#x27;c&#x27;</summary>" in page


def test_the_page_follows_the_readers_colours(page):
    assert "prefers-color-scheme: dark" in page and "currentColor" in page
    assert 'name="viewport" content="width=device-width' in page


FRAME = """<!DOCTYPE html><meta charset="utf-8">
<iframe id="phone" style="width: 360px; height: 700px; border: 0"></iframe><pre id="out"></pre>
<script>
phone.onload = () => {
  const page = phone.contentDocument, root = page.documentElement;
  out.textContent = JSON.stringify({
    sideways: root.scrollWidth - root.clientWidth,
    sections: page.querySelectorAll("section").length,
    tables: page.querySelectorAll("table").length,
    blank: [...page.images].filter(image => !image.naturalWidth).length,
    flat: [...page.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height < 50).length,
  });
};
phone.srcdoc = PAGE;
</script>"""


@pytest.mark.skipif(not CHROMIUM, reason="the browser's part of the checks needs Chromium")
def test_a_browser_shows_the_page_on_a_phone_without_sideways_scrolling(run, page, tmp_path):
    frame = FRAME.replace("PAGE", json.dumps(page).replace("</", r"<\/"))
    (tmp_path / "frame.html").write_text(frame, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
            f"file://{tmp_path / 'frame.html'}",
        ],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-500:]
    seen = json.loads(found.group(1))
    assert seen == {
        "sideways": 0,
        "sections": page.count("<section"),
        "tables": page.count("<table>"),
        "blank": 0,
        "flat": 0,
    }


def test_distances_are_the_training_losses_of_the_same_rows(run):
    results = read_results(run / "results")
    lineage = report_models.find_lineage(results, ["SST-2"])
    assert lineage.mapping == layer_mapping("uniform", 2, 4)
    found = report_models.distances(lineage)
    assert list(found.hidden) == [
        "fresh weights", "after general distillation", "after the layers", "after the predictions",
    ]  # fmt: skip
    student, teacher = (
        report_models.load(lineage, folder)
        for folder in (lineage.stages["after the layers"], lineage.teacher)
    )
    from corpus.token_store import encode_pairs
    from transformer.encoder import Collect
    from transformer.tokenization import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(lineage.teacher)
    batch = encode_pairs(tokenizer, SENTENCES, None, 64).collate([0, 1, 2])
    with torch.inference_mode():
        own = student(**batch, collect=Collect((0, 1, 2), (0, 1)), is_student=True)
        its = teacher(**batch, collect=Collect((0, 2, 4), (1, 3)))
    for values, losses in (
        (found.attention, attention_losses(own.scores, its.scores)),
        (found.hidden, hidden_losses(own.hidden, its.hidden)),
    ):
        assert values["after the layers"] == pytest.approx(
            [loss.item() for loss in losses], rel=1e-5
        )


def test_attention_maps_are_probabilities_over_the_sentence(run):
    lineage = report_models.find_lineage(read_results(run / "results"), ["SST-2"])
    maps = report_models.attention_maps(lineage, None)
    assert maps.tokens == ["[CLS]", *SENTENCES[0].split(), "[SEP]"]
    assert [[title for title, _ in pair] for pair in maps.pairs] == [
        ["teacher, layer 2", "student, layer 1"], ["teacher, layer 4", "student, layer 2"],
    ]  # fmt: skip
    for pair in maps.pairs:
        for _, rows in pair:
            assert torch.tensor(rows).sum(-1) == pytest.approx(torch.ones(len(maps.tokens)))


def test_latency_is_measured_once_and_read_afterwards(run, monkeypatch):
    kept = run / "results" / "report" / "latency.json"
    folders = {
        name: run / "models" / name for name in ("final_sst2_teacher", "distilled_tinybert_4l")
    }
    times = report_models.latencies(folders, kept)
    assert all(set(by_batch) == {"1", "32"} for by_batch in times.values())
    monkeypatch.setattr(report_models, "_measure", lambda shapes: pytest.fail("measured again"))
    assert report_models.latencies(folders, kept) == times


def test_a_long_name_is_shown_whole_and_leaves_room_for_the_bars():
    from reporting import plots

    name = "a_rather_long_name_of_my_very_own_student_on_sentiment_lr3e-5"
    lines = plots.wrapped(name).split("\n")
    assert "".join(lines) == name and max(map(len, lines)) <= plots.WIDTH
    assert plots.wrapped("sst2_hfhead") == "sst2_hfhead"


@pytest.mark.parametrize("scores", [[0.0], [0.0, 61.7], [50.0, 50.0]])
def test_no_axis_goes_below_zero_where_no_score_does(scores):
    from reporting import plots

    svg = plots.score_bars("CoLA", [(f"m{i}", score, None) for i, score in enumerate(scores)], {})
    points = [(f"m{i}", 1.0, score, 10.0) for i, score in enumerate(scores)]
    assert "\u2212" not in svg + plots.size_latency_score(points, 1)
