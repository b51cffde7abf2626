"""Verifying, inspecting, and telling what a model is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_zoo as zoo
import pytest
from onnx import TensorProto, helper

from vozmetro.errors import InputError, ModelError
from vozmetro.i18n import t
from vozmetro.models import modality, receipt, verify
from vozmetro.models.checks import check_onnx
from vozmetro.models.fetch import fetch
from vozmetro.models.inspection import Inspection, Port
from vozmetro.models.overview import overview
from vozmetro.models.verify import Verification


def statuses(found: Verification) -> dict[str, str]:
    return {check.name: check.status for check in found.checks}


def reasons(found: Verification) -> dict[str, str]:
    """Codes of what failed; every sentence reads well in both languages."""
    for check in found.checks:
        for lang in ("es", "en") if check.reason else ():
            assert "{" not in t(check.reason.code, lang, **check.reason.fields)
    return {c.name: c.reason.code for c in found.checks if c.status == "fail" and c.reason}


# Verify -------------------------------------------------------------------------------------


def test_a_good_model_passes_everything(tmp_path):
    found = verify.verify(zoo.external_data_model(tmp_path / "m.onnx"))
    assert statuses(found) == {
        "files": "skip",  # nobody recorded what it should be
        "format": "pass",
        "external": "pass",
        "graph": "pass",
        "operators": "pass",
        "versions": "pass",
        "checker": "pass",
        "load": "pass",
        "run": "pass",
    }
    assert found.ok
    assert found.to_json()["ok"] is True


@pytest.mark.parametrize(
    "make",
    [
        zoo.waveform_model,
        zoo.tokens_model,
        zoo.fp16_model,
        zoo.int8_dynamic_model,
        zoo.int4_model,
        zoo.matmul_nbits_int4_model,
        zoo.branches_model,
        zoo.string_input_model,
        zoo.function_model,
        zoo.big_claim_model,
    ],
)
def test_no_good_model_is_refused(make, tmp_path):
    found = verify.verify(make(tmp_path / "m.onnx"))
    assert reasons(found) == {}
    assert statuses(found)["checker"] == statuses(found)["load"] == "pass"


def test_without_a_trial_nothing_is_loaded(tmp_path):
    found = verify.verify(zoo.waveform_model(tmp_path / "m.onnx"), trial=False)
    assert set(statuses(found)) == {"files", *verify.STATIC}


@pytest.mark.parametrize(
    ("break_it", "check", "code"),
    [
        (lambda f: (f / "m.onnx.data").unlink(), "external", "errors.external_missing"),
        (lambda f: os.truncate(f / "m.onnx.data", 9), "external", "errors.external_short"),
        (lambda f: os.truncate(f / "m.onnx", 60), "format", "errors.onnx_truncated"),
        (lambda f: (f / "m.onnx").write_bytes(b""), "format", "errors.onnx_empty"),
    ],
)
def test_what_is_broken_is_named(break_it, check, code, tmp_path):
    path = zoo.external_data_model(tmp_path / "m.onnx")
    break_it(tmp_path)
    found = verify.verify(path)
    assert not found.ok
    assert reasons(found) == {check: code}
    later = verify.STATIC[verify.STATIC.index(check) + 1 :]
    assert all(statuses(found)[name] == "skip" for name in later)


def test_a_graph_that_only_the_runtime_refuses(tmp_path):
    """A MatMul whose shapes cannot be multiplied: no static check of ours sees it."""
    path = zoo.external_data_model(tmp_path / "m.onnx")
    proto = onnx.load(path, load_external_data=False)
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 63
    path.write_bytes(proto.SerializeToString())
    found = verify.verify(path)
    assert reasons(found) == {"load": "models.trial_refused"}


def test_the_checker_of_onnx_has_its_say(tmp_path):
    path = zoo.waveform_model(tmp_path / "m.onnx")
    proto = onnx.load(path)
    proto.graph.name = ""
    path.write_bytes(proto.SerializeToString())
    found = verify.verify(path)
    assert reasons(found)["checker"] == "models.trial_checker"


def test_a_recorded_model_is_compared_with_its_record(tmp_path):
    (tmp_path / "given").mkdir()
    zoo.external_data_model(tmp_path / "given" / "m.onnx")
    path = fetch(str(tmp_path / "given" / "m.onnx"), tmp_path / "out").path
    assert statuses(verify.verify(path, trial=False))["files"] == "pass"
    data = path.with_name("m.onnx.data")
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    found = verify.verify(path)
    assert reasons(found) == {"files": "errors.fetch_damaged"}
    assert "load" not in statuses(found)  # what was changed is not loaded


def test_a_catalogue_model():
    found = verify.verify("piper-joe-graph")
    assert found.ok
    assert statuses(found)["files"] == statuses(found)["load"] == "pass"


def test_a_folder_of_graphs_has_checks_for_each(tmp_path):
    zoo.external_data_model(tmp_path / "encoder.onnx")
    zoo.tokens_model(tmp_path / "decoder.onnx")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    found = verify.verify(tmp_path, trial=False)
    assert {check.part for check in found.checks} == {"encoder.onnx", "decoder.onnx", ""}
    assert statuses(found)["pickles"] == "skip"
    (tmp_path / "decoder.onnx").write_bytes(b"")
    assert not verify.verify(tmp_path, trial=False).ok


def test_a_ctranslate2_folder(tmp_path):
    (tmp_path / "model.bin").write_bytes(
        zoo.ctranslate2_bytes([("decoder/w", np.zeros((3, 4), np.float16))])
    )
    assert statuses(verify.verify(tmp_path)) == {
        "files": "skip",
        "format": "pass",
        "load": "skip",
    }
    (tmp_path / "model.bin").write_bytes(b"\x80\x02}q\x00.")
    assert reasons(verify.verify(tmp_path)) == {"format": "errors.pickle_refused"}


def test_nothing_to_verify(tmp_path):
    with pytest.raises(InputError) as caught:
        verify.verify("no-such-thing")
    assert caught.value.code == "fetch_unknown"
    with pytest.raises(InputError) as caught:
        verify.verify(tmp_path)
    assert caught.value.code == "folder_not_a_model"


def test_a_model_that_does_not_fit_is_not_tried(tmp_path, monkeypatch):
    path = zoo.waveform_model(tmp_path / "m.onnx")
    real = verify.psutil.virtual_memory()
    monkeypatch.setattr(verify.psutil, "virtual_memory", lambda: real._replace(available=1_000_000))
    found = verify.verify(path)
    assert statuses(found)["load"] == "skip"
    assert found.ok


def test_json_of_a_verification_is_json(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"x")
    told = json.loads(json.dumps(verify.verify(tmp_path / "m.onnx").to_json()))
    assert told["schema_version"] == 1
    (failed,) = [one for one in told["checks"] if one["status"] == "fail"]
    assert failed["reason"] == "errors.onnx_invalid"


# What a model takes and gives ---------------------------------------------------------------


def graph(inputs: list[Port], outputs: list[Port] | None = None, **marks: str) -> Inspection:
    return Inspection("ONNX", "FP32", 1, {}, 0, 0, inputs=tuple(inputs),
                      outputs=tuple(outputs or ()), marks=marks)  # fmt: skip


IDS = Port("input_ids", "int64", (1, "sequence"))
LOGITS = Port("logits", "float32", (1, 1, 151936))


@pytest.mark.parametrize(
    ("port", "kind"),
    [
        (Port("audio", "float32", (1, "samples")), "audio"),
        (Port("input_features", "float32", (1, 80, 3000)), "audio"),
        (Port("x", "float32", (1, 128, "t")), "audio"),
        (Port("waveform", "int16", (1, "n")), "audio"),
        (Port("pixel_values", "float32", ("n", 1536)), "image"),
        (Port("pixel_values_videos", "float32", ("n", 1536)), "video"),
        (IDS, "text"),
        (Port("text", "string", (1, "n")), "text"),
        (Port("encoder_hidden_states", "float32", (1, 1500, 512)), "features"),
        (Port("inputs_embeds", "float32", (1, "sequence", 2560)), "features"),
        (Port("past_key_values.0.key", "float32", (1, 8, "past", 128)), None),
        (Port("attention_mask", "int64", (1, "total")), None),
        (Port("x", "float32", (1, 3)), None),
    ],
)
def test_what_an_input_is_for(port, kind, tmp_path):
    found = modality.decide(tmp_path / "m.onnx", [graph([port])])
    assert found.inputs == ((kind,) if kind else ())


def test_a_voice_takes_text_and_gives_audio(tmp_path):
    found = overview(str(zoo.piper_like(tmp_path / "m.onnx"))).modality
    assert (found.inputs, found.outputs, found.hears) == (("text",), ("audio",), False)


def test_a_waveform_model_hears(tmp_path):
    assert overview(str(zoo.waveform_model(tmp_path / "m.onnx"))).modality.hears is True


def test_where_nothing_tells_nothing_is_said(tmp_path):
    path = zoo.external_data_model(tmp_path / "m.onnx")
    found = overview(str(path), claimed="audio")
    assert found.modality.hears is None
    assert [remark.code for remark in found.remarks] == ["claim_unknown"]


QWEN3_VL = {
    "model_type": "qwen3_vl",
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "text_config": {},
    "vision_config": {},
}


@pytest.mark.parametrize(
    ("config", "marks", "name"),
    [
        (QWEN3_VL, {}, "m.onnx"),
        ({"architectures": ["Qwen3VLForConditionalGeneration"]}, {}, "m.onnx"),
        ({"model_type": "qwen2_5_vl"}, {}, "m.onnx"),
        (None, {"vozmetro.architecture": "qwen3-vl-4b"}, "m.onnx"),
        (None, {}, "Qwen3-VL-4B-Instruct.onnx"),
        (None, {}, "qwen3-vl-4b-int4.onnx"),
    ],
)
@pytest.mark.parametrize("claimed", [None, "audio"])
def test_qwen3_vl_is_told_what_it_is(config, marks, name, claimed, tmp_path):
    path = zoo.tokens_model(tmp_path / name)
    proto = onnx.load(path)
    helper.set_model_props(proto, marks)
    path.write_bytes(proto.SerializeToString())
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    found = overview(str(path), claimed=claimed)
    assert found.modality.hears is False
    assert found.modality.model_inputs == ("text", "image", "video")
    assert found.modality.model_outputs == ("text",)
    (remark,) = found.remarks
    assert remark.code == "vision_language"
    english = t("models.vision_language", "en", **remark.fields)
    assert "text, image and video" in english
    assert "cannot hear" in english
    assert "STT + this + TTS" in english
    assert "no puede oír" in t("models.vision_language", "es", **remark.fields)


def test_an_omni_model_hears_and_the_thinker_alone_does_not_take_the_audio(tmp_path):
    path = zoo.tokens_model(tmp_path / "m.onnx")
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_omni_moe"}')
    found = overview(str(path), claimed="audio")
    assert found.modality.hears is True
    assert [remark.code for remark in found.remarks] == ["claim_elsewhere"]


@pytest.mark.parametrize(
    ("model_type", "hears"),
    [("whisper", True), ("qwen3", False), ("qwen3_moe", False), ("llama", False), ("vits", False)],
)
def test_model_types(model_type, hears, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert modality.decide(tmp_path, [graph([IDS], [LOGITS])]).hears is hears


def test_unknown_models_are_told_by_the_parts_of_their_configuration(tmp_path):
    config = {"model_type": "novel", "text_config": {}, "audio_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = modality.decide(tmp_path, [graph([IDS], [LOGITS])])
    assert found.model_inputs == ("text", "audio")
    assert found.hears is True


def test_a_language_model_claimed_as_audio(tmp_path):
    path = zoo.tokens_model(tmp_path / "m.onnx")
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    found = overview(str(path), claimed="audio")
    assert [remark.code for remark in found.remarks] == ["claim_deaf"]
    assert overview(str(path)).remarks == ()


def test_graphs_of_vozmetro_say_what_they_are(tmp_path):
    marks = {"vozmetro.task": "code2wav"}
    found = modality.decide(tmp_path / "m.onnx", [graph([IDS], [LOGITS], **marks)])
    assert (found.inputs, found.outputs) == (("codes",), ("audio",))


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff", b'{"model_type": 3}']
)
def test_a_bad_configuration_says_nothing(content, tmp_path):
    (tmp_path / "config.json").write_bytes(content)
    assert modality.decide(tmp_path, [graph([IDS], [LOGITS])]).hears is False


# Inspect ------------------------------------------------------------------------------------


def test_operations_are_those_of_the_given_sizes(tmp_path):
    """One MatMul of [rows, 64] with [64, 64]."""
    path = zoo.external_data_model(tmp_path / "m.onnx")
    (part,) = overview(str(path), {"rows": 10}).parts
    assert part.operations is not None
    assert part.operations.macs == 10 * 64 * 64
    assert part.operations.dims["rows"] == 10
    (part,) = overview(str(path)).parts
    assert part.operations.assumed == ("rows",)


def test_sizes_go_to_the_graphs_that_have_them(tmp_path):
    zoo.external_data_model(tmp_path / "one.onnx")
    zoo.mel_model(tmp_path / "two.ONNX")
    found = overview(str(tmp_path), {"rows": 10, "frames": 50})
    one, two = (part.operations for part in found.parts)
    assert (one.dims["rows"], two.dims["frames"]) == (10, 50)
    assert "frames" not in one.dims
    with pytest.raises(InputError) as caught:
        overview(str(tmp_path), {"row": 10})
    assert caught.value.code == "cost_dims"


def test_more_graphs_than_a_model_has(tmp_path, monkeypatch):
    monkeypatch.setattr("vozmetro.models.overview.MOST_GRAPHS", 1)
    zoo.mel_model(tmp_path / "one.onnx")
    assert len(verify.verify(tmp_path, trial=False).checks) > 1
    zoo.mel_model(tmp_path / "two.onnx")
    for ask in (verify.verify, overview):
        with pytest.raises(InputError) as caught:
            ask(str(tmp_path))
        assert caught.value.code == "folder_graphs"
        for lang in ("es", "en"):
            assert "{" not in caught.value.message(lang)


def test_a_folder_of_weights_still_to_be_converted(tmp_path):
    header = {"w": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]}}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(64)
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_VL))
    found = overview(str(tmp_path), claimed="audio")
    assert found.weights == {"parameters": 32, "BF16": 64}
    assert [remark.code for remark in found.remarks] == ["vision_language"]


def test_a_ctranslate2_folder_hears():
    found = overview("whisper-tiny-en")
    assert found.modality.hears is True
    assert found.parts[0].inspection.format == "CTranslate2"


def test_json_of_an_overview_is_json(tmp_path):
    path = zoo.tokens_model(tmp_path / "m.onnx")
    told = json.loads(json.dumps(overview(str(path)).to_json()))
    assert told["modality"]["hears"] is False
    assert told["parts"][0]["inspection"]["parameters"] > 0


@pytest.mark.parametrize("suffix", ["", "_q8", "_q4"])
def test_tied_copies_are_no_parameters(suffix, tmp_path):
    path = zoo.external_data_model(tmp_path / "m.onnx")
    assert check_onnx(path).inspection.parameters == 64 * 64
    proto = onnx.load(path, load_external_data=False)
    copy = proto.graph.initializer.add()
    copy.CopyFrom(proto.graph.initializer[0])
    copy.name = f"embedding{suffix}"
    extra = helper.make_node("MatMul", ["y", copy.name], ["z"])
    proto.graph.node.append(extra)
    proto.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["rows", 64]))
    path.write_bytes(proto.SerializeToString())
    assert check_onnx(path).inspection.parameters == 2 * 64 * 64
    helper.set_model_props(proto, {"vozmetro.tied": "embedding"})
    path.write_bytes(proto.SerializeToString())
    found = check_onnx(path).inspection
    assert found.parameters == 64 * 64
    assert found.weight_bytes == 2 * 64 * 64 * 4


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors"])
def test_files_of_another_kind(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ModelError) as caught:
        overview(str(tmp_path / name))
    assert caught.value.code == "pickle_refused"
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(InputError) as caught:
        overview(str(tmp_path / name))
    assert caught.value.code == "not_a_model"


def test_an_incomplete_fetch_fails_the_files(tmp_path):
    path = zoo.waveform_model(tmp_path / "m.onnx")
    source = receipt.Source(
        source="hub:a/b",
        commit="c" * 40,
        fetched_at="now",
        complete=False,
        files=(receipt.FetchedFile(name="m.onnx", bytes=path.stat().st_size),),
    )
    receipt.write(tmp_path, receipt.Receipt(sources=(source,)))
    assert reasons(verify.verify(Path(path))) == {"files": "errors.fetch_incomplete"}
