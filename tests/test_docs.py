"""The links in the pages of the documentation lead somewhere, and the README stays short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *DOCS,
]
# Links to other sites are not looked at.
LINK = re.compile(r"\]\((?!https?://)([^)\s]+)\)")


def anchors_of(page):
    """Return the anchors that GitHub gives the headings."""
    anchors = set()
    for heading in re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        anchors.add(words.strip().replace(" ", "-"))
    return anchors


@pytest.mark.parametrize(
    "page",
    PAGES,
    ids=lambda page: page.name,
)
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / (name or page.name)
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target), link


def test_the_readme_is_short_and_leads_to_every_page():
    readme = README.read_text()
    assert readme.count("\n") <= 150
    linked = {ROOT / link.partition("#")[0] for link in LINK.findall(readme)}
    assert linked >= set(DOCS)
