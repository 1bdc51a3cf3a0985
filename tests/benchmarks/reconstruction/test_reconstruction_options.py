import pytest
from benchmarks.reconstruction import evaluate


@pytest.fixture
def refuse(monkeypatch, capsys, tmp_path):
    """Runs the command, which must refuse its options, and gives what it says."""

    def run(*options):
        monkeypatch.setattr("sys.argv", ["eval-3d", "--out", str(tmp_path), *options])
        with pytest.raises(SystemExit):
            evaluate.main()
        return capsys.readouterr().err

    return run


def test_more_shapes_than_there_are_are_refused(refuse):
    assert "'13' is no whole number of 1 to 12" in refuse("--shapes", "13")


def test_a_single_view_is_refused(refuse):
    assert "'1' is no whole number of 2 to 12" in refuse("--views", "1")


def test_a_command_without_a_place_for_its_folder_is_refused(refuse):
    assert "must hold {folder}" in refuse("--downstream", "reconstruct")
