"""Floors: right answers, laws, what is printed, and the command from end to end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_zoo
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from vozmetro.cli.roofline import commands
from vozmetro.cli.run import run
from vozmetro.errors import InputError, MeasurementError
from vozmetro.judge import roofline as judged
from vozmetro.judge.roofline import Work
from vozmetro.measure import ceilings, probe
from vozmetro.measure.ceilings import Ceilings
from vozmetro.measure.records import Item
from vozmetro.measure.roofline_records import Floor, Machine, Roofline
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.measure.workload import WorkItem, from_lengths, from_prompts
from vozmetro.models.inspection import Port
from vozmetro.planning import Options
from vozmetro.prepare.roofline import architecture_floor, parameters_floor, roofline
from vozmetro.prepare.roofline_work import PROMPT, plan, step_shapes
from vozmetro.report.roofline import claim_text, print_roofline

MACHINE = Machine(
    cpu="test",
    threads=2,
    bandwidth=40e9,
    bandwidth_median=35e9,
    bandwidths=[35e9, 40e9],
    cache_bytes=32 << 20,
    operations={"fp32": 200e9, "int8": 600e9, "int4": 500e9},
)
FAKE = Ceilings(2, 32 << 20, (35e9,), (40e9,), {"fp32": {"1x1x1": 200e9}, "int8": {"1x1x1": 6e11}})


def fake(threads: int, sizes: Sequence[Any] = ()) -> Ceilings:
    return FAKE


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nobody else used the machine, whatever else runs beside the tests."""
    monkeypatch.setattr("vozmetro.measure.environment.cores_in_use", lambda seconds=0.1: 0.0)


# Judging -----------------------------------------------------------------------------------------


def test_reading_bounds_a_token_of_four_billion_parameters() -> None:
    work = judged.parameters_work(4e9, 4)
    found = judged.floor("token", [work], MACHINE, [60.0, 62.0, 61.0], unit="decode")
    read = 2e9 - (32 << 20)
    assert found.floor_ms == pytest.approx(read / 40e9 * 1000)
    assert found.bound == "memory"
    assert found.measured_ms == 61
    assert found.ratio == pytest.approx(61 / found.floor_ms)
    assert found.bandwidth == pytest.approx(2e9 / 0.061)


def test_computing_bounds_a_prompt() -> None:
    work = Work(100 << 20, {"fp32": 10_000_000_000, "int8": 30_000_000_000})
    found = judged.floor("x", [work], MACHINE)
    assert found.floor_ms == pytest.approx((2 * 10 / 200 + 2 * 30 / 600) * 1000)
    assert found.bound == "compute"
    assert found.measured_ms is None
    assert found.ratio is None


def test_steps_add_up_and_the_longer_ones_say_what_bounds() -> None:
    encoder = Work(20 << 20, {"int8": 30_000_000_000}, name="encoder")
    token = Work(132 << 20, {"int8": 1000}, times=10, name="decode")
    found = judged.floor("x", [encoder, token], MACHINE)
    assert found.floor_ms == pytest.approx(100 + 10 * (100 << 20) / 40e9 * 1000)
    assert found.bound == "compute"
    assert found.bytes == (20 << 20) + 10 * (132 << 20)
    assert [one.name for one in found.steps] == ["encoder", "decode"]


def test_what_fits_in_the_cache_need_not_be_read_again() -> None:
    assert judged.floor("x", [Work(30 << 20, {})], MACHINE).floor_ms == 0
    unknown = MACHINE.model_copy(update={"cache_bytes": 0})
    assert judged.floor("x", [Work(60 << 20, {})], unknown).floor_ms == 0


def test_kinds_that_were_not_measured_borrow_a_rate_that_is_no_lower() -> None:
    assert judged.rate(MACHINE, "int4") == 600e9
    assert judged.rate(MACHINE, "fp16") == 400e9
    slow = MACHINE.model_copy(update={"operations": {"fp32": 2e11, "int8": 1e11, "int4": 5e10}})
    assert judged.rate(slow, "int8") == judged.rate(slow, "int4") == 2e11  # unpacked once
    assert judged.rate(MACHINE.model_copy(update={"operations": {}}), "fp32") is None


def test_a_measurement_below_the_floor_is_told() -> None:
    below = judged.floor("quick", [Work(10**9, {})], MACHINE, [5.0])
    assert [note.code for note in judged.notes([below], MACHINE)] == ["roofline_below"]
    assert judged.claim("m", "INT4", [below], MACHINE) is None
    near = judged.floor("fair", [Work(10**9, {})], MACHINE, [24.0])
    assert judged.notes([near], MACHINE) == []


def test_sizes_that_were_assumed_forbid_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vozmetro.measure.environment.cores_in_use", lambda seconds=0.1: 0.0)
    found = roofline("piper-joe-graph", floor_only=True, measure=fake)
    assert "roofline_data" in {note.code for note in found.notes}
    assert found.items[0].floor_ms > 0
    assert found.claim is None


def test_caches_of_all_cores_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two groups of two cores: each group shares a large cache, each core has a small one.
    for core in range(4):
        group = core // 2 * 2
        for index, (level, kind, size, shared) in enumerate(
            [("1", "Data", "32K", f"{core}"), ("1", "Instruction", "32K", f"{core}"),
             ("2", "Unified", "512K", f"{core}"), ("3", "Unified", "16M", f"{group}-{group + 1}")]
        ):  # fmt: skip
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            for name, text in (("level", level), ("type", kind), ("size", size),
                               ("shared_cpu_list", shared)):  # fmt: skip
                (folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(probe, "CPUS", tmp_path)
    monkeypatch.setattr(probe, "affinity", lambda: [0, 1, 2, 3])
    assert probe.cache_size() == 4 * (512 << 10) + 2 * (16 << 20)
    monkeypatch.setattr(probe, "affinity", lambda: [1])
    assert probe.cache_size() == (512 << 10) + (16 << 20)
    monkeypatch.setattr(probe, "CPUS", tmp_path / "none")
    assert probe.cache_size() == 0


def test_a_busy_machine_claims_nothing() -> None:
    busy = MACHINE.model_copy(update={"others": 1.0})
    one = judged.floor("token", [judged.parameters_work(4e9, 4)], busy, unit="decode")
    assert judged.claim("m", "INT4", [one], busy) is None
    assert [note.code for note in judged.notes([one], busy)] == ["roofline_busy"]


def test_the_claim_is_about_the_token_else_the_shortest_item() -> None:
    prompt = judged.floor("16", [Work(10**9, {})], MACHINE, unit="prefill")
    token = judged.floor("16", [Work(2 * 10**9, {})], MACHINE, unit="decode")
    found = judged.claim("m", "INT4", [prompt, token], MACHINE)
    assert found is not None
    assert found.unit == "decode"
    short = judged.floor("1 s", [Work(0, {"fp32": 10**9})], MACHINE)
    long = judged.floor("2 s", [Work(0, {"fp32": 2 * 10**9})], MACHINE)
    found = judged.claim("m", "FP32", [long, short], MACHINE)
    assert found is not None
    assert found.item == "1 s"
    assert found.rate == pytest.approx(200e9)
    assert judged.claim("m", "FP32", [judged.floor("x", [Work(0, {})], MACHINE)], MACHINE) is None


def test_what_also_computes_is_not_claimed_of_every_implementation() -> None:
    works = [Work(0, {"int8": 10**9}, name="encoder"), Work(10**9, {}, times=5, name="decode")]
    one = judged.floor("3 s", works, MACHINE)
    assert one.bound == "memory"
    found = judged.claim("m", "INT8", [one], MACHINE)
    assert found is not None
    assert found.bound == "compute"


KINDS = st.dictionaries(st.sampled_from(["fp32", "fp16", "int8", "int4"]), st.integers(0, 10**13))


@given(st.integers(0, 10**12), KINDS, st.floats(1e9, 1e12), st.integers(0, 10**10))
def test_floors_are_monotone(size: int, macs: dict[str, int], faster: float, more: int) -> None:
    base = judged.step(Work(size, macs), MACHINE)
    assert base.floor_ms == max(base.memory_ms, base.compute_ms) >= 0
    assert judged.step(Work(size + more, macs), MACHINE).floor_ms >= base.floor_ms
    added = {**macs, "fp32": macs.get("fp32", 0) + more}
    assert judged.step(Work(size, added), MACHINE).floor_ms >= base.floor_ms
    bandwidth = max(faster, MACHINE.bandwidth)
    better = MACHINE.model_copy(update={"bandwidth": bandwidth})
    assert judged.step(Work(size, macs), better).floor_ms <= base.floor_ms


@given(st.floats(0.1, 100), st.integers(1, 10**11))
def test_repeats_scale_the_floor(times: float, size: int) -> None:
    once = judged.floor("x", [Work(size, {"int8": size})], MACHINE)
    many = judged.floor("x", [Work(size, {"int8": size}, times)], MACHINE)
    assert many.floor_ms == pytest.approx(times * once.floor_ms)


# Plans -------------------------------------------------------------------------------------------


def prepared(path: Path) -> Target:
    return resolve_subject(str(path))


def test_a_graph_is_planned_for_each_length(tmp_path: Path) -> None:
    target = prepared(onnx_zoo.mel_model(tmp_path / "m.onnx"))
    found = plan(target, from_lengths([1.0, 2.0], [], 0))
    macs = [sum(one.works[0].macs.values()) for one in found.floors]
    # 100 frames a second, 8 filters of 80 x 3.
    assert macs == [100 * 8 * 80 * 3, 200 * 8 * 80 * 3]


def test_a_language_model_has_a_floor_for_the_prompt_and_for_a_token(tmp_path: Path) -> None:
    target = prepared(onnx_zoo.tokens_model(tmp_path / "m.onnx"))
    assert target.kind == "lm"
    found = plan(target, from_prompts([16, 64], 9, 0))
    assert [(one.unit, one.length) for one in found.floors] == [
        ("prefill", 16), ("decode", 16), ("prefill", 64), ("decode", 64)
    ]  # fmt: skip
    head = 16 * 32  # the zoo's head sees every token
    assert sum(found.floors[2].works[0].macs.values()) == 64 * head
    assert sum(found.floors[3].works[0].macs.values()) == head
    # 64 tokens, and 4 of the 8 after the first on average; keys and values of 2 heads of 8.
    assert found.floors[3].works[0].bytes - found.floors[1].works[0].bytes == 48 * 2 * 2 * 8 * 4


def test_a_decoder_step_has_the_shapes_of_its_ports() -> None:
    ports = [
        Port("input_ids", "int64", (1, "sequence")),
        Port("attention_mask", "int64", ("batch", "total_sequence")),
        Port("past_key_values.0.key", "float32", (1, 2, "past_sequence", 8)),
        Port("cross.0.key", "float32", (1, 2, "positions", 8)),
    ]
    assert step_shapes(ports, 3, 10, 75) == {
        "input_ids": [1, 3],
        "attention_mask": [1, 13],
        "past_key_values.0.key": [1, 2, 10, 8],
        "cross.0.key": [1, 2, 75, 8],
    }


def test_what_a_voice_said_sets_what_hangs_on_data() -> None:
    target = resolve_subject("piper-joe-graph")
    item = from_lengths([1.0], [], 0)[0]
    assumed = plan(target, [item])
    assert "roofline_data" in assumed.notes
    phonemes = 28
    resolved = [
        {"name": "input", "dtype": "int64", "shape": [1, phonemes], "rule": "token ids"},
        {"name": "input_lengths", "dtype": "int64", "shape": [1], "rule": "length"},
        {"name": "scales", "dtype": "float32", "shape": [3], "rule": "voice scales"},
    ]
    heard = Item.model_validate(
        {"id": item.id, "seconds": 1.0, "source": "synthetic", "inputs": resolved,
         "output": f"1x1x1x{256 * 168}"}
    )  # fmt: skip
    found = plan(target, [item], {item.id: heard})
    assert "roofline_data" not in found.notes
    # 168 frames instead of the assumed 84: about twice the work.
    ratio = sum(found.floors[0].works[0].macs.values()) / sum(
        assumed.floors[0].works[0].macs.values()
    )
    assert 1.8 < ratio < 2.1


def test_whisper_in_ctranslate2_counts_window_prompt_and_tokens() -> None:
    target = resolve_subject("whisper-base")
    item = WorkItem("a", 2.5, "en", "turn on the kitchen light", (), 0, True)
    found = plan(target, [item])
    encoder, prefill, decode = found.floors[0].works
    assert (encoder.times, prefill.times) == (1, 1)
    assert 5 <= decode.times <= 9
    assert encoder.macs["int8"] > 100 * decode.macs["int8"]
    assert prefill.macs["int8"] < PROMPT * decode.macs["int8"]
    longer = plan(target, [WorkItem("b", 61.0, "en", "one two three", (), 0, True)])
    assert longer.floors[0].works[0].times == 3


def test_a_cascade_is_refused() -> None:
    target = resolve_subject("whisper-base+piper-joe")
    with pytest.raises(InputError) as caught:
        plan(target, from_lengths([1.0], [], 0))
    assert caught.value.code == "roofline_cascade"


# Records -----------------------------------------------------------------------------------------


def test_floor_only_loads_nothing_and_saves_a_record(tmp_path: Path) -> None:
    path = onnx_zoo.mel_model(tmp_path / "m.onnx")
    out = tmp_path / "out"
    options = Options(threads=2, audio_seconds=[1.0])
    found = roofline(str(path), options, out=out, floor_only=True, measure=fake)
    assert found.run == ""
    assert found.items[0].measured_ms is None
    assert found.precision == "FP32"
    assert [file.name for file in out.iterdir()] == ["roofline.json"]
    assert Roofline.model_validate_json((out / "roofline.json").read_text()) == found


def test_measured_beside_its_floor(tmp_path: Path) -> None:
    path = onnx_zoo.mel_model(tmp_path / "m.onnx")
    options = Options(threads=1, audio_seconds=[1.0], iterations=2, until="iterations")
    found = roofline(str(path), options, out=tmp_path / "out", measure=fake)
    assert found.run
    item = found.items[0]
    assert item.samples == 2
    assert item.measured_ms is not None
    assert item.ratio is not None
    assert item.ratio == pytest.approx(item.measured_ms / item.floor_ms)
    assert {"roofline.json", "run.json"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_thirty_billion_parameters_at_four_bits(tmp_path: Path) -> None:
    found = parameters_floor(30e9, 4, threads=2, out=tmp_path, measure=fake)
    # 15 GB at 40 GB/s.
    assert found.items[0].floor_ms == pytest.approx((15e9 - (32 << 20)) / 40e9 * 1000)
    assert found.claim is not None
    assert found.claim.bound == "memory"
    assert json.loads((tmp_path / "roofline.json").read_text())["type"] == "roofline"


def test_a_mixture_of_experts_reads_its_active_ones() -> None:
    found = architecture_floor("qwen3-omni-30b-a3b", 4, threads=2, measure=fake)
    assert found.parameters is not None
    assert found.parameters > 35e9
    assert 1.4e9 < found.items[0].bytes < 1.7e9
    assert found.notes[0].code == "roofline_active"


@pytest.mark.parametrize("bits", [0, 65])
def test_impossible_bits_are_refused(bits: float) -> None:
    with pytest.raises(InputError) as caught:
        parameters_floor(1e9, bits, measure=fake)
    assert caught.value.code == "roofline_bits"


def test_ceilings_of_a_gpu_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        roofline("whisper-base", Options(device="cuda"), measure=fake)
    assert caught.value.code == "roofline_device"


# Ceilings ----------------------------------------------------------------------------------------


def test_ceilings_are_measured_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "SIZES", ((16, 256, 256),))
    monkeypatch.setattr(ceilings, "product_side", lambda cache, available: 1024)
    found = ceilings.measure(1, [(16, 128, 64)])
    assert set(found.operations) == {"fp32", "int8", "int4"}
    assert set(found.gemm["int4"]) == {"16x256x256", "16x128x64"}
    assert 1e8 < found.bandwidth < 1e13
    assert found.bandwidth >= found.bandwidth_median


def test_a_failed_measurement_of_ceilings_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "product_side", lambda cache, available: 1024)
    with pytest.raises(MeasurementError) as caught:
        ceilings.measure(1, kinds=["nothing"])
    assert caught.value.code == "ceilings_failed"
    assert "nothing" in str(caught.value)


@given(st.integers(0, 1 << 32), st.integers(1 << 28, 1 << 40))
def test_the_matrix_fits_in_ram(cache: int, available: int) -> None:
    side = ceilings.product_side(cache, available)
    assert side % 128 == 0
    assert 0 < side * side <= max(1 << 24, available // 10)


# What is printed ---------------------------------------------------------------------------------


def record(items: list[Floor], **more: Any) -> Roofline:
    return Roofline(
        id="x",
        created="2026-01-01T00:00:00+00:00",
        vozmetro="0",
        subject="a/very/long/path/to/some/qwen3-vl-4b-int4-b128-full-depth.onnx",
        precision="INT4",
        machine=MACHINE,
        items=items,
        claim=judged.claim("qwen3-vl-4b", "INT4", items, MACHINE),
        **more,
    )


@pytest.mark.parametrize("lang", ["es", "en"])
def test_eighty_columns_are_enough(lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    items = [
        judged.floor(f"{tokens} tokens", [Work(2 * 10**9, {"int4": 4 * 10**9 * tokens})], MACHINE,
                     [2e6], unit="prefill", length=tokens)
        for tokens in (16, 131072)
    ]  # fmt: skip
    items.append(judged.floor("16 tokens", [judged.parameters_work(4e9, 4)], MACHINE, [61.0],
                              unit="decode", length=16))  # fmt: skip
    items.append(judged.floor("an utterance with quite a long name", [Work(10**8, {})], MACHINE))
    found = record(items)
    print_roofline(Console(width=80), found, lang)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    sentence = {
        "es": "En esta máquina qwen3-vl-4b en INT4 tarda al menos 49.2 ms por token si cada uno lee"
        " sus 2.0 GB tan deprisa como la mejor lectura medida aquí, 40.0 GB/s",
        "en": "On this machine qwen3-vl-4b at INT4 takes at least 49.2 ms per token where each one"
        " reads its 2.0 GB as fast as the best reading measured here, 40.0 GB/s",
    }[lang]
    assert sentence in text
    assert {"es": "Un token en cada pasada", "en": "One token in each pass"}[lang] in text
    assert "1.24" in text  # 61 over 49.2
    assert text.count("…") == 1  # only the long name was cut


@pytest.mark.parametrize("lang", ["es", "en"])
def test_what_computing_bounds_is_claimed_of_such_kernels_only(lang: str) -> None:
    items = [judged.floor("2 s", [Work(0, {"fp32": 10**10})], MACHINE)]
    said = claim_text(record(items), lang)
    assert "200 GFLOP/s" in said
    assert "100.0 ms" in said
    assert ("lectura" if lang == "es" else "reading") not in said


# The command -------------------------------------------------------------------------------------


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(ceilings, "SIZES", ((16, 256, 256),))
    monkeypatch.setattr(ceilings, "product_side", lambda cache, available: 1024)

    def call(*words: object, lang: str = "es") -> tuple[int, str, str]:
        code = run(commands(lang)[0], [str(word) for word in words], lang)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_command_from_end_to_end(call: Any, tmp_path: Path) -> None:
    path = onnx_zoo.tokens_model(tmp_path / "lm.onnx")
    out = tmp_path / "out"
    words = ["--prompt-tokens", "4,8", "--new-tokens", "3", "--iterations", "2", "--threads", "1"]
    code, said, err = call(path, *words, "--out", out)
    assert (code, err) == (0, "")
    assert "prompt de 8" in said
    assert "token tras 8" in said
    found = Roofline.model_validate_json((out / "roofline.json").read_text())
    assert [one.unit for one in found.items] == ["prefill", "decode"] * 2
    assert all(one.measured_ms for one in found.items)
    assert found.machine.operations.keys() == {"fp32", "int8", "int4"}


def test_json_is_the_record(call: Any, tmp_path: Path) -> None:
    code, said, _ = call("--parameters", "30B", "--bits", "4", "--json", "--out", tmp_path)
    assert code == 0
    assert json.loads(said)["items"][0]["bytes"] == 15_000_000_000


def test_an_architecture_needs_no_file(call: Any, tmp_path: Path) -> None:
    code, said, _ = call("qwen3-vl-4b", "--floor-only", "--out", tmp_path, lang="en")
    assert code == 0
    assert "2.0 GB" in said


@pytest.mark.parametrize("words", [[], ["whisper-base", "--parameters", "30B"]])
def test_a_subject_or_parameters(call: Any, words: list[str]) -> None:
    code, _, err = call(*words)
    assert code == 2
    assert "--parameters" in err
