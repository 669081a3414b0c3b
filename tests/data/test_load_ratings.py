"""Ratings: read, refused, generated, grouped."""

import numpy as np
import pytest

from jaxinv.data.ratings import generated_ratings, grouped, load_ratings
from jaxinv.errors import InputError

CSV = "userId,movieId,rating,timestamp\n7,30,4.5,1\n7,10,2,2\n3,30,5,3\n"


def test_csv_and_npz_say_the_same(tmp_path):
    (tmp_path / "r.csv").write_text(CSV, encoding="utf-8")
    np.savez(
        tmp_path / "r.npz",
        user=np.array([7, 7, 3]),
        item=np.array([30, 10, 30]),
        rating=np.array([4.5, 2, 5], np.float32),
        notes=np.array(["ignored"]),
    )
    for name in ("r.csv", "r.npz"):
        found = load_ratings(tmp_path / name)
        assert (found.num_users, found.num_items) == (2, 2)
        items, ratings = found.of(1)  # 7 is the second user
        np.testing.assert_array_equal(items, [0, 1])
        np.testing.assert_array_equal(ratings, [2, 4.5])
        assert found.name == name


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected one of user"),
        ("user,item\n1,2\n", "for the rating"),
        ("user,item,rating\n", "0 rows|holds columns"),
        ("user,item,rating\n1,2,good\n", "line 2 has no number for 'rating'"),
        ("user,item,rating\n1,2\n", "line 2"),
        ("user,item,rating\n1.5,2,3\n", "user holds what is no whole number"),
        ("user,item,rating\n1,2,nan\n", "rating holds"),
        ("user,item,rating\n1,2,0\n", "rating holds"),
        ("user,item,rating\n1,2,3\n1,2,4\n", "rates an item twice"),
        ('user,item,rating\n"1,2,3\n', "not a readable .csv"),
    ],
)
def test_bad_csv_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_ratings(tmp_path / "r.csv")
    assert "\n" not in str(caught.value)


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "r.txt").write_text(CSV, encoding="utf-8")
    (tmp_path / "r.npz").write_bytes(b"PK no archive")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    np.savez(tmp_path / "shape.npz", user=np.ones((2, 2)), item=[1], rating=[1.0])
    objects = np.array([{}], object)
    np.savez(tmp_path / "objects.npz", user=objects, item=[1], rating=[1.0])
    for name, message in [
        ("r.txt", "expected a .csv or .npz"),
        ("r.npz", "not a readable .npz"),
        ("bytes.csv", "not a readable .csv"),
        ("shape.npz", "user is float64"),
        ("objects.npz", "pickled"),
    ]:
        with pytest.raises(InputError, match=message):
            load_ratings(tmp_path / name)
    with pytest.raises(OSError):
        load_ratings(tmp_path / "missing.csv")


def test_generated_ratings_are_plausible_and_the_same_again():
    one, two = generated_ratings(), generated_ratings()
    np.testing.assert_array_equal(one.rating, two.rating)
    assert np.bincount(one.user).min() >= 20
    assert set(2 * one.rating) <= set(range(1, 11)) and one.rating.std() > 0.5
    pairs = set(zip(one.user.tolist(), one.item.tolist(), strict=True))
    assert len(pairs) == len(one.user)


def test_groups_hold_every_user_once_and_little_padding():
    ratings = generated_ratings()
    groups = grouped(ratings, range(ratings.num_users), scale=5, growth=1.5)
    users = np.concatenate([group.users for group in groups])
    assert sorted(users) == list(range(ratings.num_users)) and len(groups) > 1
    for group in groups:
        counts = group.rated.sum(1)
        assert counts.max() == group.items.shape[1] <= 1.5 * counts.min()
        for row, user in enumerate(group.users):
            items, values = ratings.of(user)
            num = len(items)
            np.testing.assert_array_equal(group.items[row, :num], items)
            np.testing.assert_allclose(group.ratings[row, :num], values / 5)
            assert not group.ratings[row, num:].any()
    with pytest.raises(InputError, match="user is 99"):
        grouped(ratings, [99])


def test_a_group_of_every_item_marks_the_users_own():
    ratings = generated_ratings(num_users=8, num_items=50)
    (group,) = grouped(ratings, [5, 2, 7], scale=5, every_item=True)
    assert sorted(group.users) == [2, 5, 7]
    assert (group.items == np.arange(50)).all() and group.items.dtype == np.int32
    for user, values, rated in zip(
        group.users, group.ratings, group.rated, strict=True
    ):
        items, own = ratings.of(user)
        np.testing.assert_array_equal(np.flatnonzero(rated), items)
        np.testing.assert_allclose(values[items] * 5, own)
        assert values.sum() * 5 == pytest.approx(own.sum())


def test_a_title_of_any_length_makes_a_short_line(tmp_path):
    (tmp_path / "r.csv").write_text(f"user,{'x' * 9000}\n1,2\n", "utf-8")
    with pytest.raises(InputError) as caught:
        load_ratings(tmp_path / "r.csv")
    assert len(str(caught.value)) < 1000


def test_an_archive_whose_offsets_lie_below_zero_is_damaged(tmp_path):
    path = tmp_path / "r.npz"
    np.savez(path, user=[1, 2], item=[1, 1], rating=[1.0, 2.0])
    raw = bytearray(path.read_bytes())
    # Where the list of members begins, in the record at the end of the archive.
    place = raw.rindex(b"PK\x05\x06") + 16
    begin = int.from_bytes(raw[place : place + 4], "little") + 1000
    raw[place : place + 4] = begin.to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"not a readable \.npz archive"):
        load_ratings(path)
