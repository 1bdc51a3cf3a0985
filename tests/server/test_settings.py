"""The environment: types, names, and errors that name the variable."""

import pytest

from cutstream_server.options import Options
from cutstream_server.settings import OPTION_ENVIRONMENT, SettingsError, load_settings

# As the contract lists them, with their defaults.
CONTRACT_DEFAULTS = {
    "MASK_THRESHOLD": 0.8,
    "MASK_THRESHOLD_MIN": 0.5,
    "MASK_THRESHOLD_MAX": 0.95,
    "USE_ADAPTIVE_THRESHOLD": False,
    "MASK_QUANTIZATION_BITS": 0,
    "ENABLE_ANTIALIASING": True,
    "INTERPOLATION_MODE": "bilinear",
    "PADDING_PERCENTAGE": 0.2,
    "USE_SMART_PADDING": True,
    "ADAPTIVE_PADDING_FACTOR": 1.5,
    "ENABLE_EDGE_REFINEMENT": False,
    "EDGE_REFINEMENT_RADIUS": 5,
    "MIN_OBJECT_COVERAGE": 0.05,
    "MAX_OBJECT_COVERAGE": 0.95,
    "ENABLE_QUALITY_METRICS": True,
    "ENABLE_MULTI_SCALE": False,
    "MULTI_SCALE_FACTORS": (0.8, 1.0, 1.2),
    "OBJECT_VALIDATION": "flag",
    "ALPHA_FLOOR": 0.01,
}


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch):
    for name in (*CONTRACT_DEFAULTS, "EDGE_REFINEMENT_EPS", "OUTPUT_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("name", "default"), CONTRACT_DEFAULTS.items())
def test_defaults_are_those_of_the_contract(name, default):
    assert getattr(Options(), name.lower()) == default


def test_every_setting_of_the_contract_is_read_from_the_environment():
    assert set(OPTION_ENVIRONMENT) == {name.lower() for name in CONTRACT_DEFAULTS} | {"edge_refinement_eps"}


FROM_ENVIRONMENT = [
    ("MASK_THRESHOLD", "0.7", {"mask_threshold": 0.7}),
    ("USE_ADAPTIVE_THRESHOLD", "true", {"use_adaptive_threshold": True}),
    ("MASK_QUANTIZATION_BITS", "16", {"mask_quantization_bits": 16}),
    ("INTERPOLATION_MODE", "lanczos", {"interpolation_mode": "lanczos"}),
    ("MULTI_SCALE_FACTORS", "0.5, 1", {"multi_scale_factors": (0.5, 1.0)}),
    ("MULTI_SCALE_FACTORS", "[0.5, 1]", {"multi_scale_factors": (0.5, 1.0)}),
    ("OUTPUT_SIZE", "224", {"output_width_px": 224, "output_height_px": 224}),
    ("CUTSTREAM_PROFILE", "fast", {"profile": "fast"}),
    ("MASK_THRESHOLD", "", {}),
]


@pytest.mark.parametrize(("name", "text", "expected"), FROM_ENVIRONMENT)
def test_an_option_is_set_from_the_environment(monkeypatch, name, text, expected):
    monkeypatch.setenv(name, text)
    assert load_settings().option_values == expected


WRONG = [
    ("MASK_THRESHOLD", "nan"),
    ("MASK_THRESHOLD", "high"),
    ("MASK_THRESHOLD_MIN", "0.99"),
    ("MULTI_SCALE_FACTORS", "[0.5,"),
    ("MULTI_SCALE_FACTORS", "0.5,9"),
    ("OUTPUT_SIZE", "0"),
    ("MASK_QUANTIZATION_BITS", "4"),
    ("CUTSTREAM_LISTEN", "nowhere"),
    ("CUTSTREAM_MAX_IN_FLIGHT", "0"),
    ("CUTSTREAM_PROFILE", "best"),
    ("CUTSTREAM_MAX_BYTES_IN_FLIGHT", "2000000"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_wrong_value_is_one_line_that_names_the_variable(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=name) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_plain_text_on_every_interface_must_be_allowed_explicitly(monkeypatch):
    monkeypatch.setenv("CUTSTREAM_LISTEN", "0.0.0.0:50051")
    with pytest.raises(SettingsError, match="CUTSTREAM_ALLOW_INSECURE"):
        load_settings()
    monkeypatch.setenv("CUTSTREAM_ALLOW_INSECURE", "true")
    assert load_settings().listen == "0.0.0.0:50051"
