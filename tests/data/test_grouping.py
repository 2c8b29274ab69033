from pathlib import Path

import numpy as np
import pytest

from sam_adapter.annotations.listing import Record
from sam_adapter.config.options import GroupOptions
from sam_adapter.data.inspection.grouping import fitting_pattern, group_names, joined
from sam_adapter.data.splitting import split
from sam_adapter.errors import ConfigError, DataError


def records(*names: str) -> list[Record]:
    return [Record(name, Path(f"images/{name}.jpg"), Path(f"masks/{name}.png")) for name in names]


def table(path: Path, text: str) -> GroupOptions:
    path.write_text(text, encoding="utf-8")
    return GroupOptions(groups=path)


def test_a_pattern_gives_its_first_group_or_all_of_the_match():
    pairs = records("day1/p07_a", "day2/p07_b", "day2/p11_a")
    assert group_names(pairs, GroupOptions(group_pattern="p([0-9]+)")) == ["07", "07", "11"]
    assert group_names(pairs, GroupOptions(group_pattern="^day.")) == ["day1", "day2", "day2"]
    assert group_names(pairs, GroupOptions()) is None


def test_all_names_without_a_group_are_reported_at_once():
    with pytest.raises(DataError, match=r"'x1'.*'x2'"):
        group_names(records("p1", "x1", "x2"), GroupOptions(group_pattern="^p"))
    with pytest.raises(ConfigError, match="regular expression"):
        GroupOptions(group_pattern="(")
    with pytest.raises(ConfigError, match="one of them"):
        GroupOptions(group_pattern="a", groups=Path("b.csv"))


@pytest.mark.parametrize(
    "text",
    [
        "image,group\na,x\nb.jpg,y\nsub/c,x\n",
        "group;note;image\nx;;a.jpg\ny;;b\nx;;sub/c.jpg\nz;;unknown\n",
        "a x\nb y\nsub/c x\n",
        "\ufeffImage\tGroup\na\tx\nb\ty\nsub\\c.jpg\tx\n",
    ],
)
def test_tables_as_people_have_them(tmp_path: Path, text: str):
    assert group_names(records("a", "b", "sub/c"), table(tmp_path / "groups.csv", text)) == ["x", "y", "x"]


@pytest.mark.parametrize(
    "text",
    [
        "image,group\n/home/me/set/images/a.jpg,x\n/home/me/set/images/sub/c.jpg,y\n/home/me/set/images/day.2/B.jpg,z\n",
        "\ufeffimage;group\nC:\\set\\images\\A.JPG;x\nC:\\set\\images\\Sub\\C.JPG;y\nC:\\set\\images\\day.2\\b.JPG;z\n",
        "\ufeffsep=;\nImage;Group\na.png;x\nc.png;y\nb.png;z\n",
        '"image","group"\n"a","x"\n"c","y"\n"b","z"\n',
        "image\tgroup\n./A\tx\n.\\sub\\c.tiff\ty\nDay.2/b\tz\n",
    ],
)
def test_images_are_named_in_any_way_that_means_one_of_them(tmp_path: Path, text: str):
    pairs = records("a", "sub/c", "day.2/B")
    assert group_names(pairs, table(tmp_path / "groups.csv", text)) == ["x", "y", "z"]


def test_rows_that_could_mean_several_images_or_another_are_not_guessed_at(tmp_path: Path):
    pairs = records("day1/a", "day2/a", "b", "B", "day1/c")
    rows = ["a.jpg,x", "b,y", "day2/c,z", "other.jpg,z"]
    with pytest.raises(DataError) as error:
        group_names(pairs, table(tmp_path / "groups.csv", "\n".join(["image,group", *rows])))
    for name in ("day1/a", "day2/a", "B", "day1/c"):
        assert f"'{name}' has no row" in str(error.value)
    assert "3 rows of it fit no image, or more than one: 'a.jpg'; 'day2/c'; 'other.jpg'" in str(error.value)
    with pytest.raises(DataError, match=r"'c' has groups \['x', 'y'\] by 'one/c.jpg', 'two/c.jpg'"):
        group_names(records("c"), table(tmp_path / "groups.csv", "image,group\none/c.jpg,x\ntwo/c.jpg,y\n"))


def test_of_whole_paths_the_row_of_this_very_folder_counts(tmp_path: Path):
    pair = Record("a", tmp_path / "train/a.jpg", tmp_path / "masks/a.png")
    rows = [f"/elsewhere/{folder}/a.jpg,{folder}" for folder in ("test", "train", "val")]
    assert group_names([pair], table(tmp_path / "groups.csv", "\n".join(["image,group", *rows]))) == ["train"]


def test_pages_of_one_file_have_its_group(tmp_path: Path):
    pages = [
        Record(name, Path("images/s.tif"), Path("masks/s.tif"), page) for page, name in enumerate(["s", "s_page2"])
    ]
    assert group_names(pages, table(tmp_path / "groups.csv", "image,group\nC:\\S.TIF,x\n")) == ["x", "x"]


def test_tables_of_spreadsheets_are_read_or_told_how_to_save(tmp_path: Path):
    path = tmp_path / "groups.csv"
    path.write_text("image\tgroup\na\tMüller\n", encoding="utf-16")
    assert group_names(records("a"), GroupOptions(groups=path)) == ["Müller"]
    path.write_text("image,group\na,Müller\n", encoding="latin-1")
    with pytest.raises(ConfigError, match="CSV UTF-8"):
        group_names(records("a"), GroupOptions(groups=path))


def test_all_problems_of_a_table_are_reported_at_once(tmp_path: Path):
    options = table(tmp_path / "groups.csv", "image,group\na,x\na,y\nb,\n")
    with pytest.raises(DataError) as error:
        group_names(records("a", "b", "c"), options)
    for problem in ("row 3 gives 'a' the group 'y' after 'x'", "row 4 has no image or no group", "'c' has no row"):
        assert problem in str(error.value)
    with pytest.raises(ConfigError, match="expected 'image' and 'group'"):
        group_names(records("a"), table(tmp_path / "wrong.csv", "file,patient,date\na,x,1\n"))
    with pytest.raises(ConfigError, match="cannot be read"):
        group_names(records("a"), GroupOptions(groups=tmp_path / "absent.csv"))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_groups_stay_whole_and_the_share_is_met_as_well_as_they_allow(seed: int, fraction: float):
    sizes = np.random.default_rng(seed).integers(1, 9, 12)
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    pairs = records(*(f"{index:03}" for index in range(len(groups))))
    kept, held_out = split(pairs, fraction, seed, groups)
    assert sorted([*kept, *held_out], key=lambda record: record.name) == pairs
    names = {groups[int(record.name)] for record in held_out}
    assert names.isdisjoint(groups[int(record.name)] for record in kept)
    assert len(held_out) == max(round(len(pairs) * fraction), 1)  # sizes from 1 to 8 reach any number
    assert split(pairs, fraction, seed, groups) == (kept, held_out)


def test_the_nearest_number_of_pairs_that_groups_allow_is_held_out():
    pairs = records(*(f"{index:03}" for index in range(40)))
    groups = [str(index // 8) for index in range(40)]
    assert [len(split(pairs, fraction, 0, groups)[1]) for fraction in (0.01, 0.1, 0.35, 0.9)] == [8, 8, 16, 32]
    assert len({split(pairs, 0.1, seed, groups)[1][0].name for seed in range(20)}) > 2
    with pytest.raises(DataError, match="one group, 'all'"):
        split(pairs, 0.1, 0, ["all"] * 40)


def test_without_groups_the_split_is_the_one_it_always_was():
    pairs = records(*(f"{index:02}" for index in range(20)))
    held_out = np.random.default_rng(3).permutation(20)[:4]
    assert [record.name for record in split(pairs, 0.2, 3)[1]] == [f"{index:02}" for index in sorted(held_out)]


def test_near_copies_join_groups():
    assert joined(None, [[0, 2]], 4) == ["0", "1", "0", "3"]
    groups = joined(["a", "a", "b", "c"], [[1, 2]], 4)
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_a_pattern_is_offered_only_if_it_fits():
    names = [f"clip{clip}_{frame:02}" for clip in range(3) for frame in range(4)]
    pattern = fitting_pattern(names, [[0, 1, 2, 3], [4, 5]])
    assert pattern is not None
    assert group_names(records(*names), GroupOptions(group_pattern=pattern)) == [name[:5] for name in names]
    assert fitting_pattern([f"img_{index}" for index in range(6)], [[0, 1]]) is None
    assert fitting_pattern(names, [[0, 4]]) is None
    pages = ["a", "a_page2", "b", "b_page2"]
    pattern = fitting_pattern(pages, [[0, 1], [2, 3]])
    assert pattern is not None
    assert group_names(records(*pages), GroupOptions(group_pattern=pattern)) == ["a", "a", "b", "b"]
