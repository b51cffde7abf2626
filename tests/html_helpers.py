"""Reads the HTML report as a browser would, strictly, without one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "br", "path", "use", "rect", "image", "img", "hr", "input"}
REFERENCES = ("aria-labelledby", "aria-describedby", "for")


@dataclass
class Node:
    """An element: its name, its attributes, and what is in it."""

    tag: str
    attrs: dict[str, str]
    parent: Node | None = None
    inner: list[Node | str] = field(default_factory=list)

    def all(self, tag: str = "") -> list[Node]:
        """Every element below, in order."""
        found = []
        for one in self.inner:
            if isinstance(one, Node):
                found += ([one] if tag in ("", one.tag) else []) + one.all(tag)
        return found

    def text(self, lang: str = "") -> str:
        """The words below; of one language, where it is given."""
        other = {"es": "en", "en": "es"}.get(lang, "none")
        if self.tag in ("style", "script") or other in self.attrs.get("class", "").split():
            return ""
        words = [one if isinstance(one, str) else one.text(lang) for one in self.inner]
        inline = self.tag in ("span", "code", "a", "tspan")
        return "".join(words) if inline else f" {''.join(words)} "


class Page(HTMLParser):
    """A parsed page. Any tag that is not closed in order fails at once."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.root = Node("#", {})
        self._open = [self.root]
        self.feed(source)
        self.close()
        assert self._open == [self.root], f"not closed: {self._open[-1].tag}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice: <{tag} {names}>"
        node = Node(tag, {name: value or "" for name, value in attrs}, self._open[-1])
        self._open[-1].inner.append(node)
        if tag not in VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].inner.append(data)

    def text(self, lang: str = "") -> str:
        """The words that a reader of one language sees, white space made even."""
        (body,) = self.root.all("body")
        return " ".join(body.text(lang).split())


def check_page(page: Page) -> None:
    """Holds that a page is whole, safe by itself, and can be read by more than eyes."""
    nodes = page.root.all()
    ids = [node.attrs["id"] for node in nodes if "id" in node.attrs]
    assert len(ids) == len(set(ids))
    for node in nodes:
        for name, value in node.attrs.items():
            assert not name.startswith("on"), f"an event handler on <{node.tag}>"
            assert name not in ("style", "srcdoc", "srcset")
            if name in REFERENCES:
                assert set(value.split()) <= set(ids), (name, value)
            if name in ("href", "src", "action", "xlink:href"):
                assert re.match(r"(#|data:image/png;base64,|data:,$|[\w.%/~-]+$)", value), value
                assert not re.match(r"[a-z]+:(?!,|image/png)", value), value
            if value.startswith("#") and name == "href":
                assert value[1:] in ids, value
            for used in re.findall(r"url\(#([^)]+)\)", value):
                assert used in ids
    for used in re.findall(r"url\(#([^)]+)\)", page.root.all("style")[0].inner[0]):
        assert used in ids
    _check_headings(page)
    for table in page.root.all("table"):
        assert table.all("caption")[0].text().strip()
        assert all(cell.attrs.get("scope") in ("row", "col") for cell in table.all("th"))
        widths = {len(row.all("th") + row.all("td")) for row in table.all("tr")}
        assert len(widths) == 1
    for svg in page.root.all("svg"):
        assert svg.attrs["role"] == "img"
    assert [node.tag for node in nodes if node.tag in ("main", "header", "footer")] == [
        "header", "main", "footer",
    ]  # fmt: skip


def _check_headings(page: Page) -> None:
    levels = [int(node.tag[1]) for node in page.root.all() if re.fullmatch(r"h[1-6]", node.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    for before, after in pairwise(levels):
        assert after <= before + 1, "a level of headings is left out"


def check_languages(page: Page) -> None:
    """Holds that every text stands in both languages, one right behind the other."""
    for node in page.root.all():
        if "es" not in node.attrs.get("class", "").split():
            continue
        assert node.attrs["lang"] == "es"
        assert node.parent is not None
        beside = node.parent.inner
        english = beside[beside.index(node) + 1]
        assert isinstance(english, Node)
        assert (english.tag, english.attrs["lang"]) == (node.tag, "en")
        assert "en" in english.attrs["class"].split()
        assert node.text().strip() and english.text().strip()
    count = dict.fromkeys(("es", "en"), 0)
    for node in page.root.all():
        for lang in count:
            count[lang] += lang in node.attrs.get("class", "").split()
    assert count["es"] == count["en"] > 20
