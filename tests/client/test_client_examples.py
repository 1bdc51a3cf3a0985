"""The examples of the README and of the docstrings run."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest
from PIL import Image

import cutstream

README = Path(cutstream.__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
MODULES = [
    module.name
    for module in pkgutil.iter_modules(cutstream.__path__, "cutstream.")
    if not module.ispkg and not module.name.startswith("cutstream.cli")
]


@pytest.fixture
def target(server, tmp_path, monkeypatch) -> str:
    """A server that answers a decodable cutout, and a photo in the current folder."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("photo.jpg")
    buffer = io.BytesIO()
    Image.new("RGBA", (518, 518)).save(buffer, format="PNG")
    cutout = server.cutout(buffer.getvalue())
    unary = server.unary

    async def script(image):
        answer = server.success(image)
        answer[0].image.cutout.CopyFrom(cutout)
        return answer

    def answer(request, call):
        response = unary(request, call)
        response.cutout.CopyFrom(cutout)
        return response

    server.script, server.unary = script, answer
    return server.target


def test_the_readme_has_its_examples():
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("code", BLOCKS)
def test_an_example_of_the_readme_runs(code, target):
    exec(compile(code.replace("localhost:50051", target), str(README), "exec"), {"__name__": "example"})


@pytest.mark.parametrize("name", ["cutstream", *MODULES])
def test_the_examples_of_a_modules_docstrings_run(name, target):
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(module, name):
        for example in test.examples:
            example.source = example.source.replace("localhost:50051", target)
        runner.run(test)
    assert runner.failures == 0


def test_both_clients_have_an_example():
    for kind in (cutstream.Client, cutstream.AsyncClient):
        assert ">>>" in (kind.__doc__ or "")
