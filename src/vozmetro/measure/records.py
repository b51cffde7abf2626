"""What a measurement leaves behind: versioned JSON, raw samples first.

Statistics are derived from these records when they are read; nothing here is an opinion. The
schema is described field by field in `docs/run-schema.md`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Literal[4] = 4

Kind = Literal["graph", "stt", "tts", "cascade", "lm"]
Clock = Literal["per-inference", "post-endpoint", "time-to-first-token"]
Device = Literal["cpu", "cuda"]
Status = Literal["running", "complete", "interrupted", "failed"]


class Record(BaseModel):
    """Base: immutable, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Note(Record):
    """Something a reader must know: a code of the catalogues' `notes.` section and its fields."""

    code: str
    fields: dict[str, str] = {}


class FileInfo(Record):
    """One file of a model. `sha256` in hexadecimal."""

    path: str
    bytes: int
    sha256: str


class Subject(Record):
    """What was measured.

    Attributes:
        name: As the user named it, or the catalogue's name.
        kind: `graph`, `stt` (speech to text), `tts` (text to speech), `cascade`, or `lm` (language
            model).
        clock: What a sample's latency spans: one call of the model (`per-inference`), from the end
            of the user's speech to the first audio out (`post-endpoint`), or from the prompt to
            the choice of the first token (`time-to-first-token`).
        engines: Engine names with versions, e.g. `faster-whisper 1.2.1`.
        files: Model files with their SHA-256.
        format: `ONNX`, `CTranslate2`, or `ONNX + CTranslate2` for a cascade.
        precision: Label by where most weight bytes lie: `FP32`, `FP16`, `INT8`, `INT4`.
        parameters: Number of weights in the files, None where the format does not tell.
        expected_ram: Bytes that loading is expected to need.
        claimed_parameters: What the user says it holds (`--claimed-params`), None if not said.
        languages: ISO 639-1 codes it serves; empty for any or not applicable.
        input_dtypes: dtype of each model input by name (`float32`), for fair comparison.
        options: Engine options in force (threads apart), as text.
        weights: `dummy` where the file says that its weights are random.
        model_format_version: opset and IR for ONNX, empty otherwise.
        device: Where it ran.
        architecture: What the file says it is, e.g. `qwen3-vl-4b`; empty where it does not.
        seed: Seed of dummy weights, None for real ones.
        architecture_sha256: SHA-256 of the architecture's configuration, for dummy weights.
    """

    name: str
    kind: Kind
    clock: Clock
    engines: list[str]
    files: list[FileInfo]
    format: str
    precision: str
    parameters: int | None = None
    expected_ram: int | None = None
    claimed_parameters: float | None = None
    languages: list[str] = []
    input_dtypes: dict[str, str] = {}
    options: dict[str, str] = {}
    weights: Literal["real", "dummy"] = "real"
    model_format_version: str = ""
    device: Device = "cpu"
    architecture: str = ""
    seed: int | None = None
    architecture_sha256: str = ""

    @property
    def bytes(self) -> int:
        """Total size of the files."""
        return sum(file.bytes for file in self.files)


class Settings(Record):
    """How it was asked to be measured; enough to resume.

    Attributes:
        subject: The words that name the subject, with absolute paths.
        iterations: Least number of runs per item.
        until: `decided` goes on until the gating limits are decided; `iterations` stops there.
        max_time_s: Wall-clock limit in seconds for the measuring loop.
        threads: Threads given to the engine.
        seed: Seeds the order of items and synthetic input.
        corpus: Folder, manifest or package corpus; None for synthetic audio.
        audio_seconds: Lengths asked for with `--audio-seconds`, in seconds.
        shapes: `--shape` overrides by input name.
        languages: Languages of the corpus kept; empty for all.
        limit: Most utterances taken from the corpus; None for all.
        budget: The budget in force, as in its TOML.
        claimed_parameters: As in `Subject`.
        command: The command line, for the report.
        device: Where to run; a subject's own option `provider` goes before it.
        prompt_tokens: Lengths of the prompts in tokens, for a language model.
        new_tokens: Tokens that it gives for each prompt, the first one included.
        layers: Depths of a study of depths.
        check_full: Whether such a study measures the full depth too.
        hangover_s: For a cascade that is measured in whole turns, the seconds of silence after
            which the user has finished; None where it is given whole utterances.
    """

    subject: str
    iterations: int
    until: Literal["decided", "iterations"]
    max_time_s: float
    threads: int
    seed: int = 0
    corpus: str | None = None
    audio_seconds: list[float] = []
    shapes: dict[str, list[int]] = {}
    languages: list[str] = []
    limit: int | None = None
    budget: dict[str, Any] = {}
    claimed_parameters: float | None = None
    command: list[str] = []
    device: Device = "cpu"
    prompt_tokens: list[int] = []
    new_tokens: int = 0
    layers: list[int] = []
    check_full: bool = False
    hangover_s: float | None = None


class Memory(Record):
    """RAM of the worker process, in bytes. USS and PSS are None where the system has none."""

    rss: int
    uss: int | None = None
    pss: int | None = None


class ResolvedInput(Record):
    """How one model input got its shape for one item.

    Attributes:
        name: Input name in the graph.
        dtype: numpy dtype name.
        shape: The shape that the model got.
        rule: Which rule resolved it, e.g. `log-mel`, `waveform`, `shape option`.
    """

    name: str
    dtype: str
    shape: list[int]
    rule: str


class Item(Record):
    """One unit of work: an utterance, a length of synthetic audio, or a prompt.

    Attributes:
        id: Unique within the run.
        seconds: Audio length in seconds (for TTS: of the recording of the same text).
        language: ISO 639-1, empty where unknown.
        text: Reference transcript; what TTS speaks.
        source: `corpus` (recorded speech) or `synthetic` (made here, or a machine's voice).
        path: File of the utterance; empty for audio made here or cut from several files.
        inputs: Resolved model inputs, for graphs.
        output: What the model gave last: transcript for STT and cascades, token numbers of a
            language model, else shapes.
        tokens: Length of the prompt; 0 for what is no prompt.
        new_tokens: Tokens given after it, the first one included.
        cache_bytes: Keys and values held in the end, of `tokens + new_tokens - 1` tokens.
        speaker: Who speaks in the recording; empty where unknown.
    """

    id: str
    seconds: float
    language: str = ""
    text: str = ""
    source: Literal["corpus", "synthetic"]
    path: str = ""
    inputs: list[ResolvedInput] = []
    output: str = ""
    tokens: int = 0
    new_tokens: int = 0
    cache_bytes: int = 0
    speaker: str = ""


class Session(Record):
    """One life of a worker process. Times in milliseconds, memory in bytes.

    Attributes:
        started: UTC, ISO 8601.
        load_ms: From asking the engine to load until it is ready, imports apart.
        import_ms: Importing the engine's libraries.
        first_ms: First inference after load (cold start), of the item of middle length.
        warmup_ms: Every warm-up inference after the first: each item once, then repeats of the
            item of middle length.
        warmup_sufficient: Whether the warm-up had flattened out when it ended.
        idle_ms: Latencies of single inferences of the item of middle length, each after
            `idle_gap_s` seconds of silence.
        idle_gap_s: That silence in seconds.
        memory: By phase: `start`, `loaded`, `warm`, `end`.
        peak_rss: Highest RSS of the process (high-water mark of the kernel).
        cpu_s: CPU seconds used by the measured inferences, all threads.
        wall_s: Wall seconds of the measured inferences, tokens after the first included.
    """

    started: str
    load_ms: float
    import_ms: float
    first_ms: float
    warmup_ms: list[float]
    warmup_sufficient: bool
    idle_ms: list[float] = []
    idle_gap_s: float = 0.0
    memory: dict[str, Memory] = {}
    peak_rss: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0


class Sample(Record):
    """One timed inference.

    Attributes:
        item: `Item.id`.
        session: Index into `Run.sessions`.
        block: Counts saves; samples of a block were taken without a pause.
        round: Counts passes over all the items; a round holds every item once.
        at_s: Start, in seconds since the run began (monotonic clock).
        ms: Latency on the subject's clock.
        cpu_ms: CPU time of all threads of the worker during the call, tokens after the first
            included.
        parts: Parts of the latency by name, in ms: `stt`, `tts_first_audio`, `first_audio`,
            `first_token`; of a whole turn `endpoint`, `reply` and `voice_to_voice`, of which the
            first and the last begin at the end of the speech and not with the clock, and are
            missing where the turn was cut off; and `per_token`, the mean of the tokens after the
            first, which come after the clock has stopped.
        probe_gbs: Memory bandwidth in GB/s (10^9 bytes) that the same threads read with right
            before; None where the latency does not hang on it.
    """

    item: str
    session: int
    block: int
    round: int
    at_s: float
    ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    cpu_ms: float
    parts: dict[str, float] = {}
    probe_gbs: float | None = None


class Environment(Record):
    """The machine and its state, as far as it can be read.

    Attributes:
        cpu: Model name.
        cores_physical: Physical cores, None if unknown.
        cores_logical: Logical cores of the machine.
        cores_allowed: What this process may use (affinity and cgroup quota).
        affinity: CPU numbers it may run on.
        cgroup_quota: CPUs' worth of quota, None for none.
        frequency_mhz: Current clock, None if unreadable.
        governor: Frequency governor, empty if unreadable.
        power: `mains`, `battery` or `unknown`.
        ram_total: Bytes of the machine.
        ram_available: Bytes available when the run began.
        ram_limit: cgroup limit in bytes, None for none.
        os: Name and release.
        virtualization: Hypervisor or container found, `none` if none was.
        load: 1-minute load average before measuring, None where the system has none.
        python: Version.
        versions: Installed versions of the packages that matter.
        noise: Result of the A/A check, None if it was not run.
        gpu: NVIDIA GPUs by name, empty for none.
    """

    cpu: str
    cores_physical: int | None
    cores_logical: int
    cores_allowed: int
    affinity: list[int]
    cgroup_quota: float | None
    frequency_mhz: float | None
    governor: str
    power: Literal["mains", "battery", "unknown"]
    ram_total: int
    ram_available: int
    ram_limit: int | None
    os: str
    virtualization: str
    load: float | None
    python: str
    versions: dict[str, str]
    noise: Noise | None = None
    gpu: str = ""


class Noise(Record):
    """A/A check: the same tiny graph against itself, in ABBA order.

    Attributes:
        pairs: Number of A/A pairs.
        p50_ms: Median latency of the tiny graph.
        ratio: Median A/A ratio (1 where the machine is fair).
        resolvable: Smallest relative difference that this many pairs can tell from none today:
            half the width of the 95 % interval of the median per-pair log ratio.
        spread: P99 / P50 of the tiny graph.
    """

    pairs: int
    p50_ms: float
    ratio: float
    resolvable: float
    spread: float


class Failure(Record):
    """Why a run ended early: a code of the catalogues' `errors.` section and its fields."""

    code: str
    fields: dict[str, str] = {}


class Run(Record):
    """One subject, measured. See the module's docstring."""

    schema_version: Literal[4] = SCHEMA_VERSION
    type: Literal["run"] = "run"
    id: str
    created: str
    vozmetro: str
    status: Status
    subject: Subject
    settings: Settings
    environment: Environment
    items: list[Item]
    sessions: list[Session]
    samples: list[Sample]
    notes: list[Note] = []
    failure: Failure | None = None

    def latencies_ms(self, item: str | None = None) -> list[float]:
        """Latencies in ms in the order taken, of one item or of all."""
        return [s.ms for s in self.samples if item is None or s.item == item]


class ComparisonRecord(Record):
    """Two subjects measured side by side on the same items in ABBA blocks.

    Attributes:
        mode: `interleaved` (two live workers) or `alternating` (one process at a time, because
            both did not fit in RAM together).
        unfair: Differences that make the comparison unfair, empty if it is fair.
        a: Run of the first subject; pairs share `item` and `round` with `b`.
        b: Run of the second.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    type: Literal["comparison"] = "comparison"
    id: str
    created: str
    mode: Literal["interleaved", "alternating"]
    unfair: list[Note] = []
    a: Run
    b: Run


Environment.model_rebuild()
