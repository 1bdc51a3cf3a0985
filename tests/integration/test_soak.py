"""Streams that behave badly, a few; `make soak` has thousands and looks at the memory too."""

from benchmarks.robustness.material import SEED
from benchmarks.robustness.soak import soak


def test_badly_behaved_streams_get_every_answer_once_and_leave_nothing(tiny_service):
    findings = soak(tiny_service, images=100, seed=SEED, phase_images=50)
    assert findings.faults == []
    assert findings.leaks() == []
    assert findings.answers["cutout"] > 40
    assert findings.samples[-1].images == 100
