from __future__ import annotations

import pytest

from lstmfcn.memory_probe import share_of_gpu


@pytest.mark.parametrize(("num_trials", "share"), [(0, 1.0), (1, 1.0), (2, 0.5), (3, 0.3333), (49, 0.0204)])
def test_the_share_is_one_of_rays_and_lets_all_in(num_trials: int, share: float) -> None:
    assert share_of_gpu(num_trials) == share
