import dataclasses

import pytest

from jupyter_portproxy.project_file.model import ProjectFile


@pytest.mark.parametrize(("folder", "name"), [("/home/ann/shop", "shop"), ("/home/ann/shop/", "shop"), ("/", "/")])
def test_the_name_of_a_folder_is_its_last_part(folder, name):
    assert ProjectFile(folder).name == name


def test_what_was_read_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ProjectFile("/shop").digest = "0"
