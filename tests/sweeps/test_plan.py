"""Who is trained, with whom, and in which shard."""

import pytest

import jaxmoe
from jaxmoe.errors import InputError
from jaxmoe.sweeps.plan import Shard, make_plan, parse_shard
from jaxmoe.sweeps.spec import load_spec

TABLE = jaxmoe.load_table()


def plan(**content):
    return make_plan(load_spec({"algorithm": "ppo", "env_steps": 10, "seeds": 2} | content), TABLE)


def test_agents_are_numbered_by_configuration_and_seed():
    found = plan(seeds=[3, 7], hypers={"clip": [0.1, 0.2]})
    rows = found.table()
    assert rows["agent"].tolist() == [0, 1, 2, 3]
    assert rows["configuration"].tolist() == [0, 0, 1, 1]
    assert rows["seed"].tolist() == [3, 7, 3, 7]
    assert rows["clip"].tolist() == [0.1, 0.1, 0.2, 0.2]
    assert rows["learning_rate"].nunique() == 1
    assert found.varied == ["clip"]


def test_numbers_share_a_program_and_shapes_do_not():
    assert len(plan(hypers={"clip": [0.1, 0.2]}, params={"latency_weight": [0.0, 0.1]}).groups) == 1
    found = plan(config={"num_envs": [8, 16]}, settings={"observe_words": ["mean", "true"]})
    assert [group.agents for group in found.groups] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert str(found.groups[0]) == "ppo in oneshot (num_envs = 8, observe_words = mean)"
    assert len(plan(scenario="queueing", params={"max_steps_in_episode": [16, 32]}).groups) == 2


def test_a_default_that_is_said_shapes_nothing_new():
    assert len(plan(config={"hidden": [[64, 64]]}).groups) == 1


def test_references_are_evaluated_once_in_every_environment():
    found = plan(hypers={"clip": [0.1, 0.2]}, params={"latency_weight": [0.0, 0.1]})
    assert [place.params for place in found.places] == [{"latency_weight": 0.0}, {"latency_weight": 0.1}]
    assert found.place_of == [0, 1, 0, 1]


def test_agents_carry_their_own_numbers():
    found = plan(seeds=[5], hypers={"clip": [0.1, 0.2]}, params={"latency_weight": [0.0, 0.5]})
    agents = found.agents(found.groups[0], [1, 2])
    assert agents.seed.tolist() == [5, 5]
    assert agents.hypers.clip.tolist() == pytest.approx([0.1, 0.2])
    assert agents.overrides["latency_weight"].tolist() == [0.5, 0.0]


def test_shards_share_out_all_items():
    shards = [parse_shard(f"{index}/3") for index in range(3)]
    assert sorted(item for shard in shards for item in shard.of(range(10))) == list(range(10))
    assert Shard(1, 3).of(range(10)) == [1, 4, 7]


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/2", "1/0", ""])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(InputError, match="is not of the form i/n with i from 0 to n - 1"):
        parse_shard(text)
