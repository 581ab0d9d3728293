"""`~` is the home folder wherever a path enters from Python; nothing makes a folder of that name."""

import pytest

import jaxmoe
from jaxmoe.collect.plan import Settings
from jaxmoe.errors import InputError
from jaxmoe.table import build_table


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    (folder / "here").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(tmp_path)
    yield folder
    assert not (tmp_path / "~").exists()


def test_tables_are_saved_and_read_at_home(home):
    table = jaxmoe.load_table()
    table.save("~/here/table.parquet")
    assert (home / "here" / "table.parquet").is_file()
    assert jaxmoe.load_table("~/here/table.parquet").meta == table.meta
    with pytest.raises(InputError, match=r"home/here/none\.csv: there is no such file"):
        jaxmoe.load_table("~/here/none.csv")
    with pytest.raises(InputError, match=r"home/here"):
        build_table("~/here")


def test_a_collection_is_estimated_at_home(home):
    (home / "here" / "prompts.csv").write_text("prompt_id,prompt\n1,Write about a whale.\n")
    (home / "here" / "experts.json").write_text('[{"expert": "setting", "system_prompt": "Of places."}]')
    settings = Settings(model="small", judge_models=("small",))
    found, _ = jaxmoe.estimate_collection("~/here/prompts.csv", "~/here/experts.json", "~/here/out", settings)
    assert found
    assert not (home / "here" / "out").exists()


@pytest.mark.usefixtures("home")
def test_the_home_of_nobody_is_one_sentence():
    with pytest.raises(InputError, match="there is no home folder of such a user"):
        jaxmoe.load_policy("~nobody_such/policy.safetensors")
