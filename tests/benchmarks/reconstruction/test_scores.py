import numpy as np
import pytest
from benchmarks.reconstruction.scores import Measures, Row, summarise


def row(shape, pipeline, iou, chamfer=1.0, silhouettes=(1.0, 1.0), vertices=10):
    return Row(
        shape=shape,
        pipeline=pipeline,
        maker="hull",
        silhouette_ious=silhouettes,
        empty_views=1,
        measures=Measures(iou, chamfer, iou, chamfer, vertices, vertices / 10, component_count=2),
        true_component_count=1,
        failure="",
    )


def test_totals_are_means_over_shapes():
    total = summarise([row("a", "ours", 0.5), row("b", "ours", 0.7)])[0]
    assert total["volume_iou"]["value"] == pytest.approx(0.6)
    assert (total["shapes"], total["empty_views"], total["components_mean"]) == (2, 2, 2)


def test_a_mesh_that_is_missing_is_infinitely_far():
    rows = [row("a", "ours", 0.5, 3.0), row("b", "ours", 0.5, 1.0), row("c", "ours", 0.0, None, vertices=0)]
    total = summarise(rows)[0]
    assert total["chamfer_percent_median"] == 3
    assert total["without_mesh"] == 1


def test_when_most_meshes_are_missing_there_is_no_median():
    rows = [row("a", "ours", 0.5, 3.0), row("b", "ours", 0.0, None), row("c", "ours", 0.0, None)]
    assert summarise(rows)[0]["chamfer_percent_median"] is None


def test_silhouettes_under_0_8_are_wrong():
    total = summarise([row("a", "ours", 0.5, silhouettes=(0.79, 0.81, 0.2))])[0]
    assert (total["wrong_silhouettes"], total["views"]) == (2, 3)
    assert total["silhouette_iou"] == pytest.approx(np.mean([0.79, 0.81, 0.2]))


def test_shapes_are_compared_with_before_one_by_one():
    rows = [row("a", "before", 0.5), row("b", "before", 0.5), row("a", "ours", 0.6), row("b", "ours", 0.4)]
    assert summarise(rows)[1]["better_than_before"] == 1


def test_without_before_nothing_is_better_than_it():
    assert summarise([row("a", "ours", 0.5)])[0]["better_than_before"] is None
