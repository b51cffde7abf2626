"""The same study on a real Ray cluster of this machine, with workers that are lost."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shard_helpers import NAME, LocalEar, make_corpus, open_marking

from vozmetro.assess import sharded, study
from vozmetro.assess.options import QualityOptions
from vozmetro.assess.shard_files import about_of
from vozmetro.assess.shard_worker import Job, Part
from vozmetro.assess.sharded import Sharding
from vozmetro.assess.shards_on_ray import hushed, on_ray, workers_for
from vozmetro.cli import main
from vozmetro.errors import InputError, MissingExtraError
from vozmetro.fleet.cluster import connect
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.storage import load_quality
from vozmetro.quality.merging import merge
from vozmetro.report.quality_judged import judged_study
from vozmetro.speech import fetched

pytestmark = [
    pytest.mark.slow,
    # Ray's own: files of its processes that it leaves to the garbage collector, and its future.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]


@pytest.fixture(scope="module")
def marks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def nodes(marks: Path) -> Iterator[Any]:
    """A cluster of a head that hears nothing and three nodes of one processor each."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOZMETRO_TEST_MARKS", str(marks))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", ":".join([*sys.path, str(Path(__file__).parent)]))
        with hushed():
            found = Cluster(
                initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
            )
            for _ in range(3):
                found.add_node(num_cpus=1)
            ray.init(address=found.address, logging_level=logging.ERROR, log_to_driver=False)
        yield found
        ray.shutdown()
        found.shutdown()


def marking(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
    return on_ray(replace(job, open_ear=open_marking), files, workers)


def outcome(found: QualityStudy) -> tuple[Any, ...]:
    (system,) = found.systems
    heard = sorted((one.item, one.output) for one in system.heard)
    return found.items, heard, found.corpora


def corpora() -> str:
    """Real prompts of telephones where they are here, else a few sentences of a package."""
    both = ("es-ivr", "en-ivr")
    return ",".join(both) if all(fetched.receipt_of(one) for one in both) else "audioeval"


def test_a_real_whisper_hears_the_same_in_parts(tmp_path: Path) -> None:
    words = ["quality", "whisper-base-onnx-int8", "--corpus", corpora(), "--limit", "4",
             "--threads", "1", "--lang", "en", "--out"]  # fmt: skip
    spread = ["--executor", "ray", "--workers", "2", "--shards", "2"]
    for folder, more in (("whole", []), ("parts", spread)):
        with pytest.raises(SystemExit) as ended:
            main([*words, str(tmp_path / folder), *more])
        assert ended.value.code == 0
    whole, parts = (load_quality(tmp_path / name) for name in ("whole", "parts"))
    assert outcome(parts) == outcome(whole)
    (one,), (other,) = (judged_study(found).heard for found in (whole, parts))
    assert [row.wer for row in one.rows] == [row.wer for row in other.rows]
    assert [row.wer_exact for row in one.rows] == [row.wer_exact for row in other.rows]
    # And so do the whole numbers alone, as they are used beyond the bound.
    abouts = [about_of(path) for path in (tmp_path / "parts/shards/done-0").glob("*.parquet")]
    sums = merge(row for about in abouts for row in about.merged)[0]
    folded = one.rows[0].folded
    assert sums.folded.words == folded.words.sum()
    assert sums.folded.substitutions == folded.substitutions.sum()
    assert sums.folded.deletions == folded.deletions.sum()
    assert sums.folded.insertions == folded.insertions.sum()


@pytest.mark.usefixtures("nodes")
def test_lost_workers_and_a_lost_node_cost_nothing(
    marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    assert workers_for(1) == 3
    with pytest.raises(InputError) as caught:
        workers_for(10_000)
    assert caught.value.code == "threads_cluster"
    corpus = make_corpus(tmp_path / "corpus", 60, speakers=12)
    fatal = {"clip-0007": "kill", "clip-0033": "lose", "clip-0041": "kill"}
    for name, how in fatal.items():
        (marks / f"{how}-{name}").touch()
    options = QualityOptions(corpus=str(corpus), threads=1)
    found = sharded.quality([NAME], options, Sharding(marking, 3, 6), out=tmp_path / "out")
    assert found.status == "complete"
    assert not list(marks.glob("kill-*"))
    assert not list(marks.glob("lose-*"))
    assert sum(node["Alive"] for node in ray.nodes()) == 3
    # They were begun again by another process.
    for name in fatal:
        assert len(set((marks / name).read_text().split())) >= 2
    monkeypatch.setattr(study, "StudyWorker", LocalEar)
    at_once = study.quality([NAME], options, out=tmp_path / "whole")
    assert outcome(found) == outcome(at_once)
    assert found.systems[0].left_out == []
    assert found.shards is not None
    assert sum(found.shards.machines.values()) == len(
        list((tmp_path / "out" / "shards" / "done-0").glob("*.parquet"))
    )


def test_without_ray_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught, connect("local"):
        pass
    assert "vozmetro[fleet]" in str(caught.value)


def test_without_an_executor_ray_is_not_imported(tmp_path: Path) -> None:
    import subprocess

    corpus = make_corpus(tmp_path / "corpus", 1)
    code = (
        "import sys\nfrom vozmetro.cli import main\n"
        f"try: main(['quality', 'none', '--corpus', {str(corpus)!r}, '--out', {str(tmp_path)!r}])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('ray', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
