"""Pictures from other people's folders: made anew, or not shown at all."""

import io

from PIL import Image

from jaxinv.reports.side_by_side import pictures
from jaxinv.reports.side_by_side.pictures import picture_of


def save(folder, name="example-00000.png", size=(8, 4), kind="PNG"):
    (folder / "pictures").mkdir(exist_ok=True)
    stream = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(stream, kind)
    (folder / "pictures" / name).write_bytes(stream.getvalue())
    return folder / "pictures" / name


def test_pictures_are_made_anew(tmp_path):
    path = save(tmp_path)
    path.write_bytes(path.read_bytes() + b"<script>more</script>")
    content = picture_of(tmp_path, 0)
    assert content is not None and b"script" not in content
    image = Image.open(io.BytesIO(content))
    assert image.size == (8, 4) and image.getpixel((0, 0)) == (255, 0, 0)
    save(tmp_path, size=(1300, 10))
    assert Image.open(io.BytesIO(picture_of(tmp_path, 0))).size == (640, 5)


def test_pictures_that_are_not_shown(tmp_path, monkeypatch):
    assert picture_of(tmp_path, 0) is None
    save(tmp_path, kind="GIF")
    assert picture_of(tmp_path, 0) is None
    path = save(tmp_path, size=(pictures.MAX_SIDE + 1, 1))
    assert picture_of(tmp_path, 0) is None
    whole = save(tmp_path).read_bytes()
    for cut in range(0, len(whole) // 2, 7):
        path.write_bytes(whole[:cut])
        assert picture_of(tmp_path, 0) is None
    path.write_bytes(whole)
    assert picture_of(tmp_path, 0) is not None
    monkeypatch.setattr(pictures, "MAX_BYTES", len(whole) - 1)
    assert picture_of(tmp_path, 0) is None


def test_links_lead_nowhere(tmp_path):
    """Neither a picture nor the folder of pictures may lie elsewhere."""
    secret, run, other = tmp_path / "secret", tmp_path / "run", tmp_path / "other"
    for folder in (secret, run / "pictures", other):
        folder.mkdir(parents=True)
    target = save(secret)
    (run / "pictures" / "example-00000.png").symlink_to(target)
    (other / "pictures").symlink_to(secret / "pictures")
    assert picture_of(secret, 0) is not None
    assert picture_of(run, 0) is None and picture_of(other, 0) is None
