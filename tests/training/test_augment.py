"""What augmentations change, and what they leave."""

import numpy as np
import pytest

import bmx
from bmx.training import Batches, augmentation
from bmx.training.augment import crop_and_flip, cut_out, jitter_colours


def random():
    return np.random.RandomState(0)


@pytest.fixture
def images():
    return np.random.RandomState(1).randint(1, 256, (40, 3, 16, 16)).astype(np.uint8)


@pytest.mark.parametrize("level", ["low", "medium", "high"])
@pytest.mark.parametrize("kind", ["photographs", "digits", "clothes"])
def test_levels_keep_shapes_and_ranges_and_repeat(images, level, kind):
    augment = augmentation(level, kind)
    result = augment(images, random())
    assert result.shape == images.shape and result.dtype in (np.uint8, np.float32)
    assert result.min() >= 0 and result.max() <= (255 if result.dtype == np.uint8 else 1.0001)
    np.testing.assert_array_equal(result, augment(images, random()))
    assert (result != augment(images, np.random.RandomState(1))).any()


def test_no_augmentation_and_no_such_level():
    assert augmentation("none") is None
    with pytest.raises(bmx.Error, match="augmentation 'most'; allowed: none, low, medium, high"):
        augmentation("most")


def test_crop_and_flip_moves_and_mirrors(images):
    result = crop_and_flip(2)(images, random())
    seen = set()
    for before, after in zip(images, result):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)))
        places = [
            (top, left, mirrored)
            for top in range(5)
            for left in range(5)
            for mirrored in (False, True)
            if (padded[:, top : top + 16, left : left + 16][:, :, :: -1 if mirrored else 1] == after).all()
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) > 15 and {mirrored for _, _, mirrored in seen} == {False, True}
    np.testing.assert_array_equal(crop_and_flip(0, flip=False)(images, random()), images)


def test_colours_change_by_at_most_their_limit(images):
    np.testing.assert_allclose(jitter_colours(0)(images, random()), images / 255, atol=1e-6)
    gray = np.full((50, 3, 4, 4), 0.5, np.float32)
    result = jitter_colours(0.2)(gray, random())
    assert 0.39 < result.min() < 0.45 and 0.55 < result.max() < 0.61


def test_cut_out_paints_squares(images):
    result = cut_out()(images, random())
    painted = (result == 0.5).all(axis=1).sum((1, 2))
    assert painted.max() == 64 and 16 <= painted.min() < 64
    assert ((result == np.float32(1 / 255) * images) | (result == 0.5)).all()


def test_small_epochs_are_windows_of_the_images(images):
    labels = np.arange(40, dtype=np.float32)
    small = Batches(images, labels, 10, train=True, small_epochs=1)
    whole = Batches(images, labels, 10, train=True)
    for (window, label), (image, same) in zip(small.epoch(1), whole.epoch(1)):
        assert window.shape == (10, 3, 12, 12) and (label == same).asnumpy().all()
        places = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if (image[:, :, top : top + 12, left : left + 12] == window).asnumpy().all()
        ]
        assert len(places) == 1
    assert next(iter(small.epoch(2)))[0].shape == (10, 3, 16, 16)


def test_workers_take_turns_at_the_batches_of_one():
    images, labels = np.zeros((24, 1, 2, 2), np.float32), np.arange(24, dtype=np.float32)
    one = [label.asnumpy() for _, label in Batches(images, labels, 8, train=True, seed=3).epoch(2)]
    parts = [
        [label.asnumpy() for _, label in Batches(images, labels, 4, train=True, seed=3, part=(rank, 2)).epoch(2)]
        for rank in (0, 1)
    ]
    for whole, *halves in zip(one, *parts):
        np.testing.assert_array_equal(whole, np.concatenate(halves))
