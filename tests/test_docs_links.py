"""Every file, module, link and heading that a Markdown page names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = sorted(
    path.name
    for path in ROOT.iterdir()
    if path.is_dir() and path.name not in (".git", ".venv", ".nox") and not path.match(".*_cache")
)
FILES = {
    path.name
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*")
    if "__pycache__" not in path.parts
} | {path.name for path in ROOT.iterdir()}

FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
IN_FOLDER = re.compile(rf"(?:{'|'.join(map(re.escape, FOLDERS))})/[\w./@*-]*")
FILE_NAME = re.compile(r"[A-Za-z][\w@.-]*\.(?:py|md|json|png|svg|c|sh|toml|service|socket|1|8)")
MODULE = re.compile(r"python3? -m ((?:vknet|bench|demo|testbed)[\w.]*)")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCED.sub("", page.read_text())


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(page))


def links(page: Path) -> list[str]:
    """Where the links and images of a page lead, those to other sites left out."""
    found = re.findall(r"\]\(([^()\s]+)\)", prose(page))
    return [target for target in found if not target.startswith(("http://", "https://"))]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths_in(page: Path) -> set[str]:
    """What looks like a path or a file of this repository in code spans and shell blocks."""
    texts = [*code_spans(page), *SHELL.findall(page.read_text())]
    words = {word.strip(",;:()'\"") for text in texts for word in text.split()}
    # A unit is named with its instance, too.
    words = {re.sub(r"@\w+\.", "@.", word) for word in words}
    return {word for word in words if IN_FOLDER.fullmatch(word) or FILE_NAME.fullmatch(word)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    for path in paths_in(page):
        if "/" not in path:
            assert path in FILES, path
        elif "*" in path:
            assert list(ROOT.glob(path)), path
        else:
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_runs_exists(page: Path) -> None:
    for module in MODULE.findall(page.read_text()):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


def test_names_of_all_kinds_are_looked_for() -> None:
    readme = ROOT / "README.md"
    assert {"docs/vknet.1", "docs/vknetd.8"} <= paths_in(readme)
    assert {"docs/demo.svg", "docs/benchmarks.png", "docs/guide.md"} <= set(links(readme))
    assert {"vknetd.service", "systemd/*"} <= paths_in(ROOT / "docs/guide.md")
    assert "connect-the-real-lan" in anchors(ROOT / "docs/guide.md")


def test_the_readme_is_a_landing_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_links_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert {f"docs/{page.name}" for page in PAGES[1:]} <= linked
