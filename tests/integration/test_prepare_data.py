"""prepare_data.py as a person runs it."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import prepare_data
from corpus.sentences import make_splitter, split_sentences, train_punkt
from files.errors import UserError
from tests.integration.workspace import write_dump
from tests.patience import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]
# title, paragraphs of sentences; the third and fourth are dropped
ARTICLES = [
    ("Cats", [["A cat is a small animal.", "It was born in 1990."], ["It sleeps a lot!"]]),
    ("Dogs", [["Is a dog big?", "Some are."], ["They bark ."]]),
    ("Redirect", []),
    ("Birds", [["Birds"]]),
    ("中文", [["天地玄黄。", "宇宙洪荒！”", "日月。"]]),
]
EXPECTED = (
    "A cat is a small animal.\nIt was born in 1990.\nIt sleeps a lot!\n"
    "\n"
    "Is a dog big?\nSome are.\nThey bark .\n"
    "\n"
    "天地玄黄。\n宇宙洪荒！”\n日月。\n"
)


def text_of(paragraphs) -> str:
    # the blanks and tabs between sentences must vanish, the paragraphs must not run together
    joined = ["  ".join(sentences) for sentences in paragraphs]
    return "\n".join(joined).replace("a small", "a \t small").replace("。  ", "。")


def articles_as_json(articles=ARTICLES) -> str:
    return "".join(
        json.dumps({"id": "1", "title": title, "text": text_of(paragraphs)}) + "\n"
        for title, paragraphs in articles
    )


def extracted(tmp_path) -> Path:
    """What WikiExtractor writes: folders AA, AB, … of files wiki_00, wiki_01, …"""
    folder = tmp_path / "extracted_wiki"
    for place, articles in (("AA/wiki_00", ARTICLES[:2]), ("AB/wiki_00", ARTICLES[2:])):
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_text(articles_as_json(articles))
    return folder


def prepare(source, output, *flags: str) -> str:
    argv = ["--input", str(source), "--output", str(output), "--num_workers", "1", *flags]
    assert prepare_data.main(argv) == 0
    return Path(output).read_text(encoding="utf-8")


def test_extractor_output_becomes_one_sentence_a_line(tmp_path, capsys):
    assert prepare(extracted(tmp_path), tmp_path / "corpus.txt") == EXPECTED
    said = capsys.readouterr().out
    assert "3 documents, 9 sentences" in said
    assert "1 without text, 1 with a title only" in said


@pytest.mark.parametrize("store", [Path.write_bytes, bz2, gzip, lzma])
def test_json_lines_and_plain_text_may_be_compressed(tmp_path, store):
    text = "\n\n".join(text_of(paragraphs) for title, paragraphs in ARTICLES if title != "Birds")
    for name, content in (("a.jsonl", articles_as_json()), ("a.txt", "\ufeff\n\n" + text)):
        data = content.encode()
        if store is Path.write_bytes:
            (tmp_path / name).write_bytes(data)
        else:
            (tmp_path / name).write_bytes(store.compress(data))
        assert prepare(tmp_path / name, tmp_path / "corpus.txt") == EXPECTED


def test_a_dump_goes_through_wikiextractor(tmp_path, capfd):
    pages = "".join(
        f"<page><title>{title}</title><ns>0</ns><id>{number}</id><revision><id>{number}</id>"
        f'<text xml:space="preserve">{body}</text></revision></page>\n'
        for number, (title, body) in enumerate(
            [
                ("Cats", "A '''cat''' is a small [[animal]]. It was born in 1990.\n\nIt sleeps!"),
                ("Kitty", "#REDIRECT [[Cats]]"),
                ("Dogs", "== Size ==\nIs a dog big? Some are."),
            ],
            start=1,
        )
    ).replace("><", ">\n<")
    site = '<siteinfo>\n<namespace key="10">Template</namespace>\n</siteinfo>'
    xml = f"<mediawiki>\n{site}\n{pages}</mediawiki>\n"
    (tmp_path / "dump.xml.bz2").write_bytes(bz2.compress(xml.encode()))
    text = prepare(tmp_path / "dump.xml.bz2", tmp_path / "out" / "corpus.txt", "--no_templates")
    assert "A cat is a small animal.\nIt was born in 1990.\nIt sleeps!\n\n" in text
    assert "Is a dog big?\nSome are.\n" in text and "REDIRECT" not in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["corpus.txt"]
    whole = (tmp_path / "dump.xml.bz2").read_bytes()
    (tmp_path / "torn.xml.bz2").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"torn\.xml\.bz2"):
        prepare(tmp_path / "torn.xml.bz2", tmp_path / "torn.txt")
    assert not (tmp_path / "torn.txt").exists()


def test_a_dump_that_was_extracted_is_not_extracted_again(
    tmp_path, monkeypatch, capfd, stopped_after
):
    write_dump(tmp_path / "dump.xml.bz2")
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 300)
    whole = prepare(tmp_path / "dump.xml.bz2", tmp_path / "out/corpus.txt")
    files = (tmp_path / "dump.xml.bz2", tmp_path / "out/corpus.txt")
    assert stopped_after(4, lambda: prepare(*files))
    capfd.readouterr()
    assert prepare(*files, "--resume") == whole
    told = capfd.readouterr().err
    assert "was extracted by a run that was stopped" in told and "resuming after" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["corpus.txt"]


FORKING_EXTRACTOR = """
import os, time
child = os.fork()
if child:
    with open("children.part", "w") as file:
        print(os.getpid(), child, file=file)
    os.rename("children.part", "children")
time.sleep(3600)
"""


@pytest.mark.parametrize(
    ("stop", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_wikiextractor_and_its_workers_end_with_the_program(tmp_path, stop, status):
    """In place of wikiextractor stands a program with a worker that never ends by itself."""
    (tmp_path / "wikiextractor").mkdir()
    (tmp_path / "wikiextractor/__init__.py").touch()
    (tmp_path / "wikiextractor/WikiExtractor.py").write_text(FORKING_EXTRACTOR)
    (tmp_path / "dump.xml").write_text("<mediawiki></mediawiki>")
    command = [sys.executable, str(ROOT / "prepare_data.py"), "--input", "dump.xml"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    # A suite started in the background of a shell ignores SIGINT, and so would the program.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        program = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    children = tmp_path / "children"
    wait_until(children.exists, program)
    pids = [int(pid) for pid in children.read_text().split()]
    assert all(map(is_running, pids))
    program.send_signal(stop)
    assert program.wait(PATIENCE) == status
    program.stderr.close()
    wait_until(lambda: not any(is_running(pid) for pid in pids))
    left = {"wikiextractor", "dump.xml", "children"}
    if stop != signal.SIGKILL:
        assert {path.name for path in tmp_path.iterdir()} == left


def is_running(pid):
    """Whether a process is there, and not only because nobody has asked for its exit status."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_without_wikiextractor_a_dump_is_refused_with_advice(tmp_path, monkeypatch):
    (tmp_path / "dump.xml").write_text("<mediawiki></mediawiki>")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        prepare(tmp_path / "dump.xml", tmp_path / "corpus.txt")


def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 700)
    monkeypatch.setattr("prepare_data.WORKER_BYTES", 700)
    lines = [f"Sentence {i} of it. Dr. No saw {i} U.S. cats!" for i in range(200)]
    for i in (3, 50, 51, 120):
        lines[i] = " "
    (tmp_path / "text.txt").write_text("\n".join(lines))
    one = prepare(tmp_path / "text.txt", tmp_path / "one.txt")
    two = prepare(tmp_path / "text.txt", tmp_path / "two.txt", "--num_workers", "2")
    assert one == two
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 1 << 20)
    assert prepare(tmp_path / "text.txt", tmp_path / "whole.txt") == one
    assert one.count("\n\n") == 3 and "\n\n\n" not in one


@pytest.mark.parametrize("kind", ["text", "json", "shard", "compressed"])
def test_a_run_stopped_anywhere_ends_with_the_bytes_and_counts_of_a_whole_one(
    tmp_path, monkeypatch, capsys, stopped_after, kind
):
    """Stopped after each of its writes in turn, and resumed."""
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 60)
    source = extracted(tmp_path) if kind in ("json", "shard") else tmp_path / "in.txt"
    if kind in ("text", "compressed"):
        text = "\n\n".join(text_of(paragraphs) for _, paragraphs in ARTICLES).encode()
        source.write_bytes(text if kind == "text" else gzip.compress(text))
    name = "out.txt.shard-1-of-2" if kind == "shard" else "out.txt"
    command = ["--input", str(source), "--num_workers", "1", "--output", str(tmp_path / "out.txt")]
    command += ["--shard", "1/2"] if kind == "shard" else []
    assert prepare_data.main(command) == 0
    whole, said = (tmp_path / name).read_bytes(), capsys.readouterr().out.splitlines()[-1]
    counted = []
    prepare = prepare_data.prepare_block
    monkeypatch.setattr("prepare_data.prepare_block", lambda *a: counted.append(1) or prepare(*a))
    blocks = []
    writes = 0
    while stopped_after(writes, lambda: prepare_data.main(command)):
        (tmp_path / name).unlink()
        counted.clear()
        assert prepare_data.main([*command, "--resume"]) == 0
        assert (tmp_path / name).read_bytes() == whole
        assert capsys.readouterr().out.splitlines()[-1] == said
        assert not list(tmp_path.glob("*.unfinished"))
        blocks.append(len(counted))
        writes += 1
    assert blocks[0] > 2 > blocks[-1] and blocks == sorted(blocks, reverse=True)


def test_a_stopped_run_is_gone_on_with_by_any_number_of_workers(
    tmp_path, monkeypatch, stopped_after
):
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 700)
    monkeypatch.setattr("prepare_data.WORKER_BYTES", 700)
    text = "\n".join(f"Sentence {i} of it. Dr. No saw {i} U.S. cats!" for i in range(200))
    (tmp_path / "in.txt").write_text(text)
    whole = prepare(tmp_path / "in.txt", tmp_path / "whole.txt")
    files = (tmp_path / "in.txt", tmp_path / "out.txt")
    assert stopped_after(5, lambda: prepare(*files, "--num_workers", "2"))
    assert stopped_after(2, lambda: prepare(*files, "--resume"))
    assert prepare(*files, "--resume", "--num_workers", "2") == whole


def test_local_punkt_data_is_used_and_named(tmp_path, monkeypatch, capsys):
    from nltk import data
    from nltk.tokenize.punkt import save_punkt_params

    monkeypatch.setattr(data, "path", [str(tmp_path)])
    parameters = train_punkt(["Nothing to learn."])
    parameters.abbrev_types.add("blorf")
    place = tmp_path / "nltk_data" / "tokenizers" / "punkt_tab" / "english"
    place.parent.mkdir(parents=True)
    save_punkt_params(parameters, str(place))
    (tmp_path / "text.txt").write_text("We met Blorf. Smith there. It rained.")
    trained = prepare(tmp_path / "text.txt", tmp_path / "corpus.txt")
    assert trained == "We met Blorf.\nSmith there.\nIt rained.\n"
    assert "training Punkt" in capsys.readouterr().out
    for folder in (place.parents[1], place.parent, tmp_path / "nltk_data"):
        monkeypatch.setattr(data, "path", [])
        flags = ["--punkt_dir", str(folder)]
        given = prepare(tmp_path / "text.txt", tmp_path / "corpus.txt", *flags)
        assert given == "We met Blorf. Smith there.\nIt rained.\n"
        assert str(place) in capsys.readouterr().out
    monkeypatch.setattr(data, "path", [str(tmp_path / "nltk_data")])
    assert prepare(tmp_path / "text.txt", tmp_path / "corpus.txt") == given
    with pytest.raises(UserError, match="no Punkt data for german"):
        prepare(tmp_path / "text.txt", tmp_path / "x", *flags, "--language", "german")


@pytest.mark.parametrize("training", [True, False])
def test_text_that_punkt_does_not_come_to_an_end_with_is_named(tmp_path, monkeypatch, training):
    """nltk's own limit ends with a TimeoutError, after 5 seconds of a machine that may be busy or asleep."""
    source = tmp_path / "in.txt"
    source.write_text("Fine. " * 20_000)
    parameters = train_punkt(["It is. It was."])
    monkeypatch.setattr("corpus.sentences._SECONDS", 1e-4)
    if not training:
        monkeypatch.setattr("prepare_data.train_punkt", lambda texts: parameters)
    with pytest.raises(
        UserError, match="a text of 120,000 characters that begins 'Fine. Fine.*drop"
    ):
        prepare(source, tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b'{"text": "A."}\n{"text": \n', r"in\.txt:2: is not JSON"),
        (b'{"text": "A."}\n\n' + b"[" * 100_000, r"in\.txt:3: is not JSON"),
        (b'{"text": "A."}\n{"body": "B."}\n', r'in\.txt:2: .*"text"'),
        (b'{"text": "A."}\n{"text": 3}\n', r'in\.txt:2: .*"text"'),
        (b'{"text": "A."}\n["text"]\n', r'in\.txt:2: .*"text"'),
        (b'<doc id="1" title="A">\nA\n</doc>\n', r"in\.txt:1: .*WikiExtractor with --json"),
        (b"A cat.\n\n\nA d\xe9g.\n", r"in\.txt:4: is not UTF-8"),
        (b'{"text": ""}\n', "holds no text"),
        (bz2.compress(b"A cat. " * 10_000)[:60], r"in\.txt: is damaged"),
        (gzip.compress(b"A cat. " * 10_000, mtime=0)[:60], r"in\.txt: is damaged"),
        (b"BZhello", r"in\.txt: is damaged"),
    ],
)
def test_bad_input_is_named_with_its_line(tmp_path, content, message):
    (tmp_path / "in.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare(tmp_path / "in.txt", tmp_path / "corpus.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]


def test_halves_of_surrogate_pairs_do_not_stop_it(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "A \\ud800 cat."}\n')
    assert prepare(tmp_path / "in.jsonl", tmp_path / "corpus.txt") == "A ? cat.\n"


def test_a_folder_without_extractor_files_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="wiki_"):
        prepare(tmp_path / "empty", tmp_path / "corpus.txt")


def test_the_published_command_line_finds_its_input_in_either_place(tmp_path):
    folder = extracted(tmp_path)
    command = [sys.executable, str(ROOT / "prepare_data.py")]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "using extracted_wiki" in run.stderr
    assert (tmp_path / "wiki_for_bert.txt").read_text(encoding="utf-8") == EXPECTED
    folder.rename(tmp_path / "elsewhere")
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("error: data/extracted_wiki") and run.stderr.count("\n") == 1


def shards(source, output, count, *flags):
    for index in range(count, 0, -1):
        prepare_data.main(
            ["--input", str(source), "--output", str(output), "--num_workers", "1", *flags]
            + ["--shard", f"{index}/{count}"]
        )


@pytest.mark.parametrize("count", [1, 3, 8])
def test_merged_shards_of_articles_are_the_bytes_of_the_single_run(tmp_path, capsys, count):
    folder = extracted(tmp_path)
    (folder / "AB/wiki_01").write_bytes(gzip.compress(articles_as_json().encode()))
    whole = prepare(folder, tmp_path / "whole.txt")
    said = capsys.readouterr().out.splitlines()[-1]
    shards(folder, tmp_path / "corpus.txt", count)
    merged = prepare(folder, tmp_path / "corpus.txt", "--merge_shards", str(count))
    assert merged == whole
    assert capsys.readouterr().out.splitlines()[-1] == said.replace("whole", "corpus")
    assert not list(tmp_path.glob("*shard*"))


def test_merged_shards_of_plain_text_are_the_bytes_of_the_single_run(tmp_path):
    """Every cut of a small file: in documents, lines and characters, and between them."""
    text = "\n\nA cat. Ö dog.\nIt ran.\n\n \nBirds sing. They fly.\n\nEnd."
    (tmp_path / "in.txt").write_text(text, encoding="utf-8")
    whole = prepare(tmp_path / "in.txt", tmp_path / "whole.txt")
    for count in (2, len(text.encode())):
        shards(tmp_path / "in.txt", tmp_path / "out.txt", count)
        flags = ["--merge_shards", str(count)]
        assert prepare(tmp_path / "in.txt", tmp_path / "out.txt", *flags) == whole


def test_shards_that_do_not_belong_together_are_refused(tmp_path):
    (tmp_path / "in.txt").write_text("A cat.\n\nA dog. It ran.\n")
    output = tmp_path / "out.txt"
    shards(tmp_path / "in.txt", output, 2)
    with pytest.raises(UserError, match=r"shard-1-of-3: is missing \(there are shards of 2\)"):
        prepare(tmp_path / "in.txt", output, "--merge_shards", "3")
    with pytest.raises(UserError, match="made with language 'english', expected 'german'"):
        prepare(tmp_path / "in.txt", output, "--merge_shards", "2", "--language", "german")
    (tmp_path / "in.txt").write_text("A bat.\n\nA dog. It ran.\n")
    with pytest.raises(UserError, match="another input than"):
        prepare(tmp_path / "in.txt", output, "--merge_shards", "2")
    assert not output.exists()


def test_a_mistake_in_a_shard_is_named_with_its_line(tmp_path):
    (tmp_path / "in.txt").write_bytes(b"A cat.\n\n\nA cow.\nA d\xe9g.\n")
    with pytest.raises(UserError, match=r"in\.txt:5: is not UTF-8"):
        shards(tmp_path / "in.txt", tmp_path / "out.txt", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<mediawiki></mediawiki>", "extract it first"),
        (gzip.compress(b"A cat.", mtime=0), "unpack it"),
    ],
)
def test_what_cannot_be_cut_cannot_be_shared(tmp_path, content, message):
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(UserError, match=message):
        shards(tmp_path / "in", tmp_path / "out.txt", 2)


def record(text, **fields):
    return json.dumps({"title": "X", "text": text, **fields}) + "\n"


ESCAPED = (
    "AT&amp;T sells R&amp;B. If a &lt; b &gt; c, stop. It&#39;s &quot;so&quot;. He wrote &amp;lt;."
)
PLAIN = 'AT&T sells R&B.\nIf a < b > c, stop.\nIt\'s "so".\nHe wrote &lt;.\n'


@pytest.mark.parametrize(
    ("name", "fields", "flags", "unescaped"),
    [
        ("wiki_00", {}, (), True),
        ("x.json", {"id": "1", "revid": "2", "url": "u"}, (), True),
        ("x.json", {}, (), False),
        ("x.json", {}, ("--entities", "unescape"), True),
        ("wiki_00", {}, ("--entities", "keep"), False),
    ],
)
def test_what_wikiextractor_escaped_is_unescaped_once(
    tmp_path, capsys, name, fields, flags, unescaped
):
    (tmp_path / name).write_text(record(ESCAPED, **fields))
    text = prepare(tmp_path / name, tmp_path / "o", *flags)
    assert text == PLAIN if unescaped else text.split() == ESCAPED.split()
    assert flags or "entities: " in capsys.readouterr().out


@pytest.mark.parametrize("second", ["1", "null", "true", "[1]", '{"text": null}', "{}"])
def test_records_without_a_text_are_refused_in_one_line(tmp_path, second):
    for text in (
        '{"text": "One."}\n' + second,
        f'[{{"text": "One."}},\n{second}]',
        f"[{second}, 1]",
    ):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=r'^[^\n]*x.json.*with a string under "text"[^\n]*$'):
            prepare(tmp_path / "x.json", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_all_that_html_names_is_unescaped_once_if_asked_for(tmp_path, capsys):
    (tmp_path / "x.txt").write_text(
        "Caf&eacute;&nbsp;&mdash; AT&amp;T, R&amp;amp;B, &copying; &x &#x41;.\n"
    )
    text = prepare(tmp_path / "x.txt", tmp_path / "o", "--entities", "unescape")
    assert text == "Café — AT&T, R&amp;B, &copying; &x A.\n"
    prepare(tmp_path / "x.txt", tmp_path / "o")
    assert "entities: the text holds some" in capsys.readouterr().out


def test_a_text_that_wikiextractor_cannot_have_escaped_stays(tmp_path):
    (tmp_path / "wiki_00").write_text(record("R&B &amp; a < b.") + record("R&amp;B."))
    assert prepare(tmp_path / "wiki_00", tmp_path / "o") == "R&B &amp; a < b.\n\nR&B.\n"
    (tmp_path / "text.txt").write_text("R&amp;B it is.")
    assert prepare(tmp_path / "text.txt", tmp_path / "o") == "R&amp;B it is.\n"


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read(tmp_path, indent):
    articles = [json.loads(line) for line in articles_as_json().splitlines()]
    (tmp_path / "a.json").write_text(json.dumps(articles, indent=indent))
    assert prepare(tmp_path / "a.json", tmp_path / "o") == EXPECTED
    with pytest.raises(UserError, match="cannot be sharded; write one object a line"):
        prepare(tmp_path / "a.json", tmp_path / "o", "--shard", "1/2")


def test_the_text_of_json_may_have_another_name(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "body": "One here. Two here."}\n')
    with pytest.raises(UserError, match="string under \"text\"; it has 'id', 'body' .--text_field"):
        prepare(tmp_path / "a.jsonl", tmp_path / "o")
    text = prepare(tmp_path / "a.jsonl", tmp_path / "o", "--text_field", "body")
    assert text == "One here.\nTwo here.\n"


WRAPPED = (
    "The quick brown fox jumps over the\nlazy dog. Then it sleeps in the warm\nsun.\n\n"
    "Next paragraph goes on and it is\nlong.\n"
)


def test_wrapped_text_is_joined_before_sentences_are_found(tmp_path, capsys, monkeypatch):
    path = tmp_path / "w.txt"
    path.write_text(WRAPPED)
    joined = (
        "The quick brown fox jumps over the lazy dog.\nThen it sleeps in the warm sun.\n\n"
        "Next paragraph goes on and it is long.\n"
    )
    assert prepare(path, tmp_path / "o") == joined
    assert capsys.readouterr().out.count("wrapped at 36 characters") == 1
    kept = prepare(path, tmp_path / "o", "--keep_line_breaks")
    assert kept == WRAPPED.replace("dog. Then", "dog.\nThen")
    path.write_text((WRAPPED + "\n") * 40)
    whole = prepare(path, tmp_path / "o")
    lines = WRAPPED.replace("the\n", "the ").replace("warm\n", "warm ").replace("is\n", "is ")
    (tmp_path / "joined.txt").write_text((lines + "\n") * 40)
    assert prepare(tmp_path / "joined.txt", tmp_path / "o") == whole
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 50)
    monkeypatch.setattr("prepare_data.WORKER_BYTES", 700)
    assert prepare(path, tmp_path / "o", "--num_workers", "2") == whole
    for index in range(1, 8):
        prepare_data.main(
            ["--input", str(path), "--output", str(tmp_path / "s"), "--shard", f"{index}/7"]
        )
    assert prepare(path, tmp_path / "s", "--merge_shards", "7") == whole


def test_wrapped_text_within_json_is_joined(tmp_path):
    (tmp_path / "w.json").write_text(record(WRAPPED))
    assert prepare(tmp_path / "w.json", tmp_path / "o").startswith(
        "The quick brown fox jumps over the lazy dog.\nThen it sleeps in the warm sun.\nNext"
    )


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("यह एक है। यह दो है।यह तीन है।", ["यह एक है।", "यह दो है।", "यह तीन है।"]),
        ("राम ॥ १ ॥ सीता ॥ २ ॥", ["राम ॥ १ ॥", "सीता ॥ २ ॥"]),
        ('उसने कहा, "यह है।" फिर गया।', ['उसने कहा, "यह है।"', "फिर गया।"]),
        ("ما هذا؟ هذا كتاب. نعم!", ["ما هذا؟", "هذا كتاب.", "نعم!"]),
        ("یہ ایک ہے۔ یہ دو ہے۔", ["یہ ایک ہے۔", "یہ دو ہے۔"]),
        ("这是。他说：“好！”走了？！「行。」", ["这是。", "他说：“好！”", "走了？！", "「行。」"]),
        ("圆周率是３．１４。好．", ["圆周率是３．１４。", "好．"]),
        ("Սա է։ Դա է։", ["Սա է։", "Դա է։"]),
        ("ሰላም። እንዴት ነህ፧ ደህና።", ["ሰላም።", "እንዴት ነህ፧", "ደህና።"]),
        ("នេះ។ នោះ។", ["នេះ។", "នោះ។"]),
        ("ဒါ၊ က။ ဟို။", ["ဒါ၊ က။", "ဟို။"]),
        ("བོད། །སྐད།", ["བོད། །", "སྐད།"]),
        ("Café “Hi!” he said. Why – no?! Yes…", ["Café “Hi!”", "he said.", "Why – no?!", "Yes…"]),
    ],
)
def test_sentences_end_where_their_script_ends_them(text, sentences):
    splitter = make_splitter(train_punkt(["It was Dr. No. He came."]))
    found = split_sentences(splitter, text)
    if not text.startswith("Café"):
        assert found == sentences
    else:
        assert found == [" ".join(part.split()) for part in splitter.tokenize(text)], "as Punkt's"


def test_a_dump_that_wikiextractor_cannot_unpack_is_refused(tmp_path):
    for name, data, message in (
        ("dump.xml.xz", lzma.compress(b"<mediawiki></mediawiki>"), "compressed with xz; unpack it"),
        ("dump.xml", bz2.compress(b"<mediawiki></mediawiki>"), "a name that ends in .bz2"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=message):
            prepare(tmp_path / name, tmp_path / "o")


def test_work_of_another_command_is_refused_and_kept(tmp_path, monkeypatch, stopped_after):
    monkeypatch.setattr("prepare_data.BLOCK_BYTES", 60)
    (tmp_path / "in.txt").write_text("\n\n".join(text_of(p) for _, p in ARTICLES))
    files = (tmp_path / "in.txt", tmp_path / "out.txt")
    whole = prepare(*files)
    assert stopped_after(3, lambda: prepare(*files))
    for flags in (("--entities", "keep", "--resume"), ("--entities", "keep"), ()):
        with pytest.raises(
            UserError, match="entities 'auto', expected 'keep'|--resume continues it"
        ):
            prepare(*files, *flags)
    assert prepare(*files, "--resume") == whole
