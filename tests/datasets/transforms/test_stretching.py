import numpy as np
import pytest

from aicore.errors import ConfigError
from aicore.registry import TRANSFORMS


def test_the_record_gets_an_image_of_the_size():
    step = TRANSFORMS.build(dict(type="aicore.Stretch", size=(8, 6)))

    record = step({"img": np.full((20, 4, 3), 7, np.uint8), "ori_shape": (20, 4)})

    assert (record["img"] == 7).all()
    assert record["img"].shape == (8, 6, 3)
    assert record["img_shape"] == (8, 6)
    assert record["ori_shape"] == (20, 4)


@pytest.mark.parametrize("size", [8, (8,), (8, 0), (8.0, 6)])
def test_a_size_that_is_none(size):
    with pytest.raises(ConfigError, match=r"Stretch: size .* expected \(height, width\)"):
        TRANSFORMS.build(dict(type="aicore.Stretch", size=size))
