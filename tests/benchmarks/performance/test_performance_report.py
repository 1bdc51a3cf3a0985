import pytest
from benchmarks.performance.comparison import Goal, ratio
from benchmarks.performance.engine import Layout
from benchmarks.performance.report import findings


def found(reports):
    return {finding.goal: finding for finding in findings(reports)}


def test_a_ratio_is_the_median_of_the_rounds():
    seconds = {"ours": [1.0, 1.0, 2.0], "theirs": [3.0, 2.0, 2.0]}
    assert ratio(seconds, Goal("ours", "theirs", 2.0)) == 2.0


def test_an_absent_contender_has_no_ratio():
    assert ratio({"ours": [1.0]}, Goal("ours", "theirs", 2.0)) is None


def test_seconds_of_several_images_are_shared_by_them():
    layout = Layout("f32", "net", batch=2, instances=2, threads=1, seconds=[8.0, 4.0, 6.0])
    assert layout.seconds_an_image == 1.5


def test_flops_grow_with_the_pixels_of_all_passes():
    # 319 GFLOP at 1024 x 1024 (docs/performance.md); 512 x 512 is a quarter of that.
    layout = Layout("f32", "net", (1024, 512), seconds=[1.0])
    assert layout.gflops == pytest.approx(319 * 1.25)


def test_what_was_not_measured_is_no_success():
    assert not any(finding.met for finding in findings({}))
    assert all("not measured" in finding.row() for finding in findings({}))


def test_cores_busy_are_the_best_windows():
    rows = [
        {"server_cpu": 0.10, "triton_cpu": 0.02, "client_cpu": 0.01, "wall": 0.13},
        {"server_cpu": 0.10, "triton_cpu": 0.02, "client_cpu": 0.01, "wall": 0.0722},
    ]
    report = found({"service_tiny": {"streams": rows, "stages_cpu_seconds": 0.1}})
    busy = report["tiny network: cores busy with server, client and Triton"]
    assert busy.found == pytest.approx(1.8, abs=0.01)
    assert busy.met


def test_the_masks_difference_is_the_mean_of_the_photos():
    report = found({"masks": {"mean_difference": {"isnet": {"a": 0.001, "b": 0.005}}}})
    finding = report["isnet: mean difference of the masks from ONNX Runtime's"]
    assert (finding.found, finding.met) == (pytest.approx(0.003), False)
