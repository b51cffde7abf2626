"""`pipeline.toml`: what it may say, what is refused and how, and that it can be written back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.errors import InputError
from vozmetro.pipeline.config import REPLIES as REPLIES_BY_KIND
from vozmetro.pipeline.config import (
    AnswerRule,
    ChatConfig,
    EchoConfig,
    Hysteresis,
    LocalConfig,
    PipelineConfig,
    RouteRule,
    TemplateConfig,
    TierConfig,
    load,
    parse,
)
from vozmetro.pipeline.config_text import dump

TIER = '[[tiers]]\nname = "fast"\nstt = "whisper-base-onnx-int8"\ntts = "piper-joe"\n'
SLOW = TIER.replace("fast", "slow")
REPLY = TIER + "[tiers.reply]\n"
RULE = '[[tiers.reply.rules]]\nmatch = ["hola {name}", "{name} *"]\nsay = "{name} {text}"\n'


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(text, "my.toml")
    assert "my.toml" in str(caught.value)
    return caught.value


def test_one_tier_is_enough() -> None:
    config = parse(TIER, "x")
    assert config.first == "fast"
    assert config.tiers[0].reply == EchoConfig()
    assert (config.budget_p90_ms, config.ram_bytes) == (300, 4_000_000_000)


def test_a_whole_file() -> None:
    config = parse(
        'default = "slow"\nthreads = 2\nram_gb = 8\n[hysteresis]\nenough = 10\n'
        '[[rules]]\ntier = "fast"\nload_from = 2\n'
        + REPLY
        + 'kind = "template"\nfallback = "¿{text}?"\n'
        + RULE
        + SLOW
        + '[tiers.reply]\nkind = "chat"\nurl = "https://host:8000/v1"\nmodel = "m"\n',
        "x",
    )
    assert config.first == "slow"
    assert config.ram_gb == 8
    assert config.rules == (RouteRule(tier="fast", load_from=2),)
    template, chat = (tier.reply for tier in config.tiers)
    assert isinstance(template, TemplateConfig)
    assert template.rules[0].match == ("hola {name}", "{name} *")
    assert isinstance(chat, ChatConfig)
    assert chat.timeout_s == 10


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("", "tiers", "Add it"),
        ("tiers = []", "tiers", "[...]"),
        ("x = 1\n" + TIER, "x", "default, threads"),
        (TIER + "x = 1", "tiers[1].x", "name, stt, tts"),
        (TIER + SLOW + "x = 1", "tiers[2].x", "name, stt, tts"),
        ("[hysteresis]\nx = 1\n" + TIER, "hysteresis.x", "window"),
        ('[[rules]]\ntier = "fast"\nx = 1\n' + TIER, "rules[1].x", "seconds_from"),
        (REPLY + 'kind = "echo"\nx = 1', "tiers[1].reply.x", "kind"),
        (REPLY + 'kind = "echo"\nurl = "http://a"', "tiers[1].reply.url", "kind"),
        (REPLY + 'kind = "magic"', "tiers[1].reply.kind", '"echo" | "template"'),
        (REPLY, "tiers[1].reply.kind", "Add it"),
        (REPLY + 'kind = "chat"\nmodel = "m"', "tiers[1].reply.url", "Add it"),
        (REPLY + 'kind = "template"\n' + RULE, "tiers[1].reply.fallback", "Add it"),
        (TIER.replace('"fast"', "1"), "tiers[1].name", '"..."'),
        (TIER.replace("fast", "A b"), "tiers[1].name", "[a-z0-9]"),
        (TIER.replace("piper-joe", ""), "tiers[1].tts", '"..."'),
        (TIER + 'language = "Spanish"', "tiers[1].language", "[a-z]{2,3}"),
        (TIER + "pinned = 1", "tiers[1].pinned", "true | false"),
        (TIER + "ttl_s = 0", "tiers[1].ttl_s", "> 0"),
        ("ram_gb = true\n" + TIER, "ram_gb", "1.5"),
        ('ram_gb = "4"\n' + TIER, "ram_gb", "1.5"),
        ("ram_gb = nan\n" + TIER, "ram_gb", "1.5"),
        ("ram_gb = inf\n" + TIER, "ram_gb", "1.5"),
        ("ram_gb = -1\n" + TIER, "ram_gb", "> 0"),
        ("threads = 0\n" + TIER, "threads", ">= 1"),
        ("threads = 2.0\n" + TIER, "threads", "1"),
        ("[hysteresis]\nback_below = 1.1\n" + TIER, "hysteresis.back_below", "<= 1"),
        ("[hysteresis]\nenough = 60\n" + TIER, "hysteresis.enough", "<= 50"),
        ('default = "x"\n' + TIER, "default", '"fast"'),
        (TIER + TIER, "tiers[2].name", "≠"),
        ('[[rules]]\ntier = "x"\nload_from = 1\n' + TIER, "rules[1].tier", '"fast"'),
        ('[[rules]]\ntier = "fast"\n' + TIER, "rules[1]", "seconds_from = ..."),
        ("tiers = 3", "tiers", "[...]"),
        ("tiers = [3]", "tiers[1]", "{ ... }"),
        (REPLY + 'kind = "chat"\nmodel = "m"\nurl = "host:80"', "tiers[1].reply.url", "http(s)://"),
        (
            REPLY + 'kind = "chat"\nmodel = "m"\nurl = "http://me:pw@host/v1"',
            "tiers[1].reply.url",
            "http(s)://",
        ),
        (
            REPLY + 'kind = "chat"\nmodel = "m"\nurl = "http://host:99999/v1"',
            "tiers[1].reply.url",
            "http(s)://",
        ),
        (
            REPLY + 'kind = "chat"\nmodel = "m"\nurl = "http://h/v1"\napi_key_env = "sk-1"',
            "tiers[1].reply.api_key_env",
            "[A-Za-z_]",
        ),
        (
            REPLY + 'kind = "template"\nfallback = "{name}"',
            "tiers[1].reply.fallback",
            "{text}",
        ),
        (
            REPLY + 'kind = "template"\nfallback = "a"\n' + RULE.replace('"{name} *"', '"*"'),
            "tiers[1].reply.rules[1].say",
            "{text}",
        ),
        (
            REPLY + 'kind = "template"\nfallback = "a"\n' + RULE.replace("{name} *", "{name"),
            "tiers[1].reply.rules[1].match[2]",
            "hello {name}",
        ),
        (
            REPLY + 'kind = "template"\nfallback = "a"\n' + RULE + "x = 1",
            "tiers[1].reply.rules[1].x",
            "match, say",
        ),
    ],
)
def test_every_mistake_is_named_with_its_fix(text: str, what: str, fix: str) -> None:
    error = refused(text)
    assert error.code in ("pipeline_unknown_key", "pipeline_missing_key", "pipeline_bad_value")
    assert error.fields["what"] == what
    assert fix in str(error)
    assert error.message("es") != str(error)


def test_the_example_in_the_docs_is_a_configuration() -> None:
    text = (Path(__file__).parents[1] / "docs" / "tiers.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    config = parse(example, "docs/tiers.md")
    assert [tier.reply.kind for tier in config.tiers] == ["template", "local", "chat"]
    # What it says of defaults is true.
    assert config.hysteresis == Hysteresis()
    assert (config.budget_p90_ms, config.ttl_s) == (300, 300)
    rows = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert rows == ["kind", *REPLIES_BY_KIND]


def test_what_is_no_toml() -> None:
    error = refused("[[tiers]\n")
    assert error.code == "pipeline_syntax"
    assert "line 1" in str(error)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    for raw in (b"\xff\xfe", b"#" * (1 << 20) + b"\n"):
        bad.write_bytes(raw)
        with pytest.raises(InputError) as caught:
            load(bad)
        assert caught.value.code == "pipeline_unreadable"
    for path, code in ((tmp_path, "pipeline_unreadable"), (tmp_path / "no", "file_missing")):
        with pytest.raises(InputError) as caught:
            load(path)
        assert caught.value.code == code
    bad.write_text(TIER, encoding="utf-8")
    assert load(bad) == parse(TIER, "x")


WORDS = st.text(min_size=1, max_size=20)
PLAIN = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
FREE = PLAIN.filter(lambda text: "{" not in text and "}" not in text)
REPLIES = st.one_of(
    st.just(EchoConfig()),
    st.builds(
        TemplateConfig,
        rules=st.lists(
            st.builds(
                AnswerRule,
                match=st.just(("hola {x}", "adiós")),
                say=st.one_of(FREE, st.just("{text} {{}}")),
            ),
            max_size=2,
        ).map(tuple),
        fallback=FREE,
    ),
    st.builds(
        ChatConfig,
        url=st.just("http://127.0.0.1:8000/v1"),
        model=PLAIN,
        system=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
        limit_s=st.floats(0.01, 1e9),
        api_key_env=st.sampled_from(["", "MY_KEY"]),
    ),
    st.builds(LocalConfig, model=PLAIN, no_thinking=st.booleans(), turns=st.integers(0, 16)),
)
TIERS = st.lists(
    st.builds(
        TierConfig,
        name=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}", fullmatch=True),
        stt=PLAIN,
        tts=PLAIN,
        reply=REPLIES,
        language=st.sampled_from(["", "es", "eng"]),
        pinned=st.booleans(),
        ttl_s=st.none() | st.floats(1e-9, 1e12),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tier: tier.name,
).map(tuple)


@settings(max_examples=60, deadline=None)
@given(TIERS, st.floats(1e-6, 1e15), st.integers(5, 50), st.none() | st.integers(1, 64))
def test_what_is_written_is_read_back(
    tiers: tuple[TierConfig, ...], ram: float, enough: int, threads: int | None
) -> None:
    config = PipelineConfig(
        default=tiers[-1].name,
        threads=threads,
        ram_gb=ram,
        hysteresis=Hysteresis(enough=enough),
        rules=(RouteRule(tier=tiers[0].name, seconds_from=0.5, load_below=3),),
        tiers=tiers,
    )
    comments = {tiers[0].name: ["measured\nhere", "tiers = 3"], "": ["made by hand"]}
    assert parse(dump(config, comments), "x") == config


def test_a_proposed_tier_is_there_to_read_only() -> None:
    config = parse(TIER, "x")
    proposed = TierConfig(name="max", stt="a", tts="b", reply=ChatConfig(url="http://h", model="m"))
    text = dump(config, {"max": ["not measured"]}, [proposed])
    assert parse(text, "x").tiers == config.tiers
    assert '# not measured\n# [[tiers]]\n# name = "max"\n' in text
    # Without its marks it is a tier like any other.
    begin = text.index("# [[tiers]]")
    bare = text[:begin] + text[begin:].replace("# ", "")
    assert parse(bare, "x").tiers == (*config.tiers, proposed)
