"""The README's example runs and prints what the page shows; its links lead somewhere."""

import re
import subprocess
import sys

import pytest

# 5000 digits of a package are enough, and need no download. A process of its own: Gluon counts the layers it names.
FEWER_DIGITS = "import bmx.training; from bmx.training.mnist import digits; bmx.training.load_mnist = digits\n"


@pytest.fixture
def page(root):
    return (root / "README.md").read_text()


def loosely(line):
    """A pattern for a printed line: times, accuracies and predictions are other numbers each time."""
    return re.sub(r"[0-9][0-9.,e-]*", "[0-9.,e-]+", re.escape(line).replace(r"\ ", " ").replace(r"\-", "-"))


@pytest.mark.slow
def test_the_example_prints_what_the_page_shows(page, tmp_path):
    pytest.importorskip("mlxtend")
    program, printed = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL).groups()
    done = subprocess.run([sys.executable, "-c", FEWER_DIGITS + program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines, expected = (text.rstrip().splitlines() for text in (done.stdout, printed))
    assert len(lines) == len(expected)
    table = slice(1, next(i for i, line in enumerate(expected) if not line))
    assert lines[table] == expected[table]  # layers, shapes, bits, multiply-adds and bytes
    for line, wanted in zip(lines, expected):
        assert re.fullmatch(loosely(wanted), line), f"{line!r} where the page has {wanted!r}"


def test_links_of_the_readme_exist(page, root):
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert links
    assert [link for link in links if not link.startswith("http") and not (root / link).exists()] == []
