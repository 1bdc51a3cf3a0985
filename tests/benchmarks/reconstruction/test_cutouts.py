import numpy as np
import pytest
from benchmarks.quality.frame import Result, nothing_found
from benchmarks.reconstruction.cutouts import CutoutCache, CutView, in_view, true_result, version_of

from cutstream_server.imaging.geometry import CropBox


def grey_ramp(rows, columns):
    """Opaque; red is the pixel's column, green its row."""
    rgba = np.full((rows, columns, 4), 255, np.uint8)
    rgba[..., 0], rgba[..., 1] = np.arange(columns), np.arange(rows)[:, np.newaxis]
    return rgba


def test_a_crop_of_whole_pixels_comes_back_to_its_place():
    seen = in_view(Result(grey_ramp(20, 30), CropBox(5, 7, 30, 20)), 50, 40)
    assert seen[7 + 11, 5 + 13] * 255 == pytest.approx([13, 11, 255, 255])


def test_outside_of_its_crop_a_cutout_is_transparent():
    seen = in_view(Result(grey_ramp(20, 30), CropBox(5, 7, 30, 20)), 50, 40)
    seen[7:27, 5:35] = 0
    assert seen.max() == 0


def test_an_enlarged_crop_is_made_smaller_again():
    # 60 x 40 pixels show 30 x 20 of the view: its pixel 13 covers columns 26 and 27, whose mean is 26.5.
    seen = in_view(Result(grey_ramp(40, 60), CropBox(5, 7, 30, 20)), 50, 40)
    assert seen[18, 18, 0] * 255 == pytest.approx(26.5)


def test_a_crop_may_reach_outside_of_the_view():
    seen = in_view(Result(grey_ramp(20, 30), CropBox(-10, -5, 30, 20)), 50, 40)
    assert seen[0, 0] * 255 == pytest.approx([10, 5, 255, 255])


def test_colours_come_back_premultiplied():
    rgba = np.full((20, 30, 4), 200, np.uint8)
    rgba[..., 3] = 51
    assert in_view(Result(rgba, CropBox(0, 0, 30, 20)), 30, 20)[10, 10] * 255 == pytest.approx([40, 40, 40, 51])


def test_the_true_cutout_has_the_true_silhouette(ball_views):
    assert CutView(ball_views[0], true_result(ball_views[0])).silhouette_iou == 1


def test_a_silhouette_of_half_the_object_has_half_in_common(ball_views):
    truth = ball_views[0].truth
    covered = np.flatnonzero(truth[..., 3].max(axis=0) > 127)
    half = truth.copy()
    half[:, covered[len(covered) // 2] :] = 0
    cut = CutView(ball_views[0], Result(half, CropBox(0, 0, truth.shape[1], truth.shape[0])))
    assert cut.silhouette_iou == pytest.approx(0.5, abs=0.02)


def test_an_empty_cutout_found_nothing(ball_views):
    cut = CutView(ball_views[0], nothing_found(140, 120))
    assert not cut.found
    assert cut.silhouette_iou == 0


@pytest.fixture
def asked():
    return []


@pytest.fixture
def pipeline(asked):
    def cut(image):
        asked.append(image)
        return Result(grey_ramp(4, 6), CropBox(1.5, -2.25, 30, 20))

    return cut


def test_a_kept_cutout_comes_back_as_it_was(tmp_path, pipeline, asked):
    kept = CutoutCache(tmp_path, "1").keep("ours", pipeline)
    kept(b"photo")
    again = kept(b"photo")
    assert asked == [b"photo"]
    assert again.crop == CropBox(1.5, -2.25, 30, 20)
    assert np.array_equal(again.rgba, grey_ramp(4, 6))


def test_another_image_is_cut_anew(tmp_path, pipeline, asked):
    kept = CutoutCache(tmp_path, "1").keep("ours", pipeline)
    kept(b"photo")
    kept(b"other")
    assert asked == [b"photo", b"other"]


def test_another_pipeline_is_asked_itself(tmp_path, pipeline, asked):
    cache = CutoutCache(tmp_path, "1")
    cache.keep("ours", pipeline)(b"photo")
    cache.keep("theirs", pipeline)(b"photo")
    assert len(asked) == 2


def test_another_version_starts_anew(tmp_path, pipeline, asked):
    CutoutCache(tmp_path, "1").keep("ours", pipeline)(b"photo")
    CutoutCache(tmp_path, "2").keep("ours", pipeline)(b"photo")
    assert len(asked) == 2


def test_a_version_changes_with_any_module_of_a_package(tmp_path):
    module = tmp_path / "package" / "deep" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("a = 1")
    before = version_of(tmp_path)
    module.write_text("a = 2")
    assert version_of(tmp_path) != before
