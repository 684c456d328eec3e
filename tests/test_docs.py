"""Whatever the documents name is there: links, anchors, modules, scripts, configurations, files."""
from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = (ROOT / "README.md", ROOT / "README_CN.md")
DOCUMENTS = (*READMES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
# What once was may be named where its end is told.
NAMES = tuple(path for path in DOCUMENTS if path.name != "CHANGELOG.md")
PACKAGES = ("thor", "models", "benchmarks")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
PLACE = re.compile(r"(?<![\w/.-])(?:thor|models|benchmarks|scripts|configs|docs|tests)/[a-z0-9_/.*{},-]*[a-z0-9_*/]")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(path: Path) -> str:
    """Fenced blocks and spans of a document, a span in one line."""
    text = path.read_text(encoding="utf-8")
    spans = (" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text)))
    return "\n".join([*FENCE.findall(text), *spans])


def links(path: Path) -> set[str]:
    """Targets of a document's links and pictures that are not on the web."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^\]]+\]: (\S+)$", text, re.MULTILINE)
    return {target for target in targets if "://" not in target}


def labels(path: Path) -> tuple[set[str], set[str]]:
    """Labels that a document's links use, and those it defines."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return set(re.findall(r"\]\[([^\]]+)\]", text)), set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))


def anchors(path: Path) -> set[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def expanded(pattern: str) -> list[str]:
    """``a{b,c}d`` to ``abd`` and ``acd``."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    fixed = [[",".join(part)] if i % 2 == 0 else part for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*fixed)]


def is_there(pattern: str) -> bool:
    return any(ROOT.glob(pattern.rstrip("/")))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_relative_links_resolve(path):
    missing = []
    for target in links(path):
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        if not found.exists() or anchor and anchor not in anchors(found):
            missing.append(target)
    assert sorted(missing) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_labels_of_links_are_defined_and_used(path):
    used, defined = labels(path)
    assert used == defined


@pytest.mark.parametrize("path", NAMES, ids=name_of)
def test_modules_exist(path):
    named = re.findall(r"python -m ([a-z_][\w.]*\w)", code(path)) + re.findall(r"^(benchmarks\.\w+)", code(path), re.M)
    modules = [name.replace(".", "/") for name in named if name.partition(".")[0] in PACKAGES]
    assert [name for name in modules if not is_there(f"{name}.py") and not is_there(f"{name}/__main__.py")] == []


@pytest.mark.parametrize("path", NAMES, ids=name_of)
def test_files_and_scripts_exist(path):
    named = {place for found in PLACE.findall(code(path)) for place in expanded(found)}
    assert sorted(place for place in named if not is_there(place)) == []


@pytest.mark.parametrize("path", NAMES, ids=name_of)
def test_keys_of_the_configuration_exist(path):
    from models.config import Config, config_tree

    missing = []
    for key in set(re.findall(r"--([a-z_]+(?:\.[a-z_0-9]+)+)", code(path))) - {"section.key"}:
        tree = config_tree(Config())
        for name in key.split("."):
            tree = tree.get(name, KeyError) if isinstance(tree, dict) else KeyError
        missing += [key] if tree is KeyError else []
    assert sorted(missing) == []


def test_readmes_have_the_same_structure():
    def structure(path: Path) -> tuple:
        text = path.read_text(encoding="utf-8")
        blocks = [re.sub(r" *#.*", "", block) for block in FENCE.findall(text)]  # comments are translated
        outside = FENCE.sub("", text)
        return (blocks, len(re.findall("^## ", outside, re.M)), len(re.findall(r"^\|", outside, re.M)),
                sorted(links(path) - {readme.name for readme in READMES}))

    assert structure(READMES[0]) == structure(READMES[1])


def test_readmes_have_the_same_figures():
    def figures(path: Path) -> list[str]:
        return sorted(re.findall(r"\d+\.\d+", path.read_text(encoding="utf-8")))

    assert figures(READMES[0]) == figures(READMES[1]) != []
