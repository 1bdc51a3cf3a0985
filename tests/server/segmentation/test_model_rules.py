"""What is read from a model's configuration."""

import pytest

from cutstream_server.segmentation.model_files import ModelFileError
from cutstream_server.segmentation.model_rules import ModelRules, rules_in

CONFIG = """
name: "mine"
input [ {{ name: "image" data_type: {kind} dims: [ {batch} 3, {side}, {side} ] }} ]
output [ {{ name: "alpha" data_type: TYPE_FP32 dims: [ {batch} 1, {side}, {side} ] }} ]
"""


def parameter(key, value):
    return f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}\n'


@pytest.fixture
def rules(tmp_path):
    def read(*parameters, side="-1", batch="", kind="TYPE_UINT8"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        text = CONFIG.format(side=side, batch=batch, kind=kind) + "".join(parameter(*pair) for pair in parameters)
        (tmp_path / "mine" / "config.pbtxt").write_text(text)
        return rules_in((tmp_path / "elsewhere", tmp_path), "mine")

    return read


def test_a_configuration_that_says_nothing_is_one_of_isnets_kind(rules):
    assert rules() == ModelRules(side=1024, side_multiple=32, other_sides=True, licence="", commercial_use=None)


@pytest.mark.parametrize("batch", ["", "1,"])
def test_a_model_of_one_size_has_that_side_alone(rules, batch):
    found = rules(side="320", batch=batch)
    assert (found.side, found.other_sides) == (320, False)
    assert [found.side_for(factor) for factor in (0.75, 1.0, 1.2)] == [320, 320, 320]
    assert found.probe_side == 320


def test_the_models_own_side_and_multiple_are_taken(rules):
    found = rules(("CUTSTREAM_SIDE", "512"), ("CUTSTREAM_SIDE_MULTIPLE", "48"))
    assert [found.side_for(factor) for factor in (0.01, 0.5, 1.0)] == [48, 240, 528]
    assert found.probe_side == 96


@pytest.mark.parametrize(("word", "expected"), [("yes", True), ("no", False), ("unknown", None)])
def test_the_terms_of_use_are_told(rules, word, expected):
    found = rules(("CUTSTREAM_LICENCE", "CC-BY-NC-4.0"), ("CUTSTREAM_COMMERCIAL_USE", word))
    assert (found.licence, found.commercial_use) == ("CC-BY-NC-4.0", expected)


def test_a_model_of_another_interface_is_refused(rules):
    with pytest.raises(ModelFileError, match=r"config\.pbtxt is not of a model from image, UINT8"):
        rules(kind="TYPE_FP32")


def test_a_parameter_that_is_no_number_is_refused_with_the_file(rules):
    with pytest.raises(ModelFileError, match=r"config\.pbtxt cannot be read"):
        rules(("CUTSTREAM_SIDE", "large"))


def test_a_text_that_is_no_configuration_is_refused_with_the_file(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.pbtxt").write_text("name = mine")
    with pytest.raises(ModelFileError, match=r"config\.pbtxt cannot be read"):
        rules_in((tmp_path,), "mine")
