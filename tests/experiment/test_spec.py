"""Specs: what is read, and the sentence for whatever is wrong in one."""

import pytest

from jaxmoe.errors import InputError
from jaxmoe.experiment.spec import Spec, first_difference, load_spec

WHOLE = """
algorithm = "ppo"
scenario  = "queueing"
env_steps = 262_144
seeds     = 16
[search]
method = "random"
samples = 256
[hypers]
learning_rate = { log_uniform = [1e-4, 1e-2] }
entropy_coef  = { grid = [0.0, 0.01, 0.03] }
[config]
num_envs = 8
[params]
latency_weight = { uniform = [0.0, 0.05] }
"""


def test_a_file_is_read_and_written_again(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(WHOLE)
    spec = load_spec(path)
    assert (spec.algorithm, spec.scenario, spec.env_steps, spec.seeds) == (["ppo"], ["queueing"], 262_144, 16)
    assert spec.search.samples == 256
    again = tmp_path / "again.toml"
    again.write_text(spec.to_toml())
    assert load_spec(again) == spec == load_spec(spec)


def test_the_path_of_a_table_is_seen_from_the_specs_folder(tmp_path):
    (tmp_path / "spec.toml").write_text('algorithm = "ppo"\nenv_steps = 1\ntable = "mine.csv"\n')
    assert load_spec(tmp_path / "spec.toml").table == str(tmp_path / "mine.csv")


def test_overrides_change_keys_by_their_dotted_names():
    spec = load_spec(
        {"algorithm": "ppo", "env_steps": 10, "hypers": {"clip": 0.1}},
        ["seeds=[3, 5]", "hypers.clip=[0.1, 0.2]", "search.method=grid", "scenario=fading"],
    )
    assert (spec.seeds, spec.hypers, spec.search.method, spec.scenario) == (
        [3, 5],
        {"clip": [0.1, 0.2]},
        "grid",
        ["fading"],
    )
    assert load_spec(spec, {"env_steps": 20}).env_steps == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algoritm": "ppo"}, "unknown key 'algoritm'; allowed are algorithm, scenario, env_steps"),
        ({"search": {"metod": "grid"}}, "unknown key 'search.metod'; allowed are method, samples, seed"),
        (
            {"search": {"method": "gird"}},
            "search.method = 'gird' is not allowed; it must be 'grid', 'random' or 'sobol'",
        ),
        ({"env_steps": 0}, "env_steps = 0 is not allowed; it must be greater than or equal to 1"),
        ({"env_steps": "many"}, "env_steps = 'many' is not allowed; it must be a valid integer"),
        ({"seeds": -1}, "seeds = -1 is not allowed; it must be greater than or equal to 1"),
        (
            {"devices": {"agents_per_job": "many"}},
            "devices.agents_per_job = 'many' is not allowed; it must be 'auto' or a valid integer",
        ),
        ({"devices": {"lanes": 8}}, "unknown key 'devices.lanes'; allowed are platform, count, memory_gib"),
        (
            {"devices": {"matmul_precision": "half"}},
            "devices.matmul_precision = 'half' is not allowed; it must be 'auto' or",
        ),
        ({"devices": {"platform": "npu"}}, "devices.platform = 'npu' is not allowed; it must be 'auto', 'cpu', 'gpu'"),
        ({"objective": {"measure": "qos"}}, "unknown key 'objective.measure'; allowed are metric, split, statistic"),
        ({"objective": {"split": "test"}}, "objective.split = 'test' is not allowed; it must be 'auto', 'train' or"),
        ({"objective": {"statistic": "max"}}, "objective.statistic = 'max' is not allowed; it must be 'mean', 'iqm'"),
        ({"objective": {"limits": {"latency_s": "low"}}}, "objective.limits.latency_s = 'low' is not allowed"),
        ({"baselines": "some"}, "baselines = 'some' is not allowed; it must be 'all' or 'none'"),
        (
            {"baselines": ["random", "random"]},
            r"baselines = \['random', 'random'\] is not allowed; it must be .*different names",
        ),
        ({"keep_states": "yes"}, "keep_states = 'yes' is not allowed; it must be 'auto' or a valid boolean"),
        ({"seeds": [1, -1]}, r"seeds = \[1, -1\] is not allowed; it must be .* greater than or equal to 0"),
        ({"slots": 64}, "the key 'slots' is now requests"),
        ({"references": False}, "the key 'references' is now baselines, with the value 'all' or 'none'"),
        ({"chunk_width": 16}, "the key 'chunk_width' is now devices.agents_per_job"),
        ({"hypers": 3}, "hypers = 3 is not allowed; it must be a valid dictionary"),
        ({"algorithm": []}, r"algorithm = \[\] is not allowed"),
        ({"algorithm": ["ppo", "ppo"]}, r"\['ppo', 'ppo'\] is not allowed; it must be different names, each once"),
    ],
)
def test_what_is_wrong_is_named_with_its_value_and_what_is_allowed(change, message):
    with pytest.raises(InputError, match=message):
        load_spec({"algorithm": "ppo", "env_steps": 10} | change)


def test_values_that_are_left_out_are_said_by_the_spec_itself():
    spec = load_spec({"algorithm": "ppo", "env_steps": 10})
    assert (spec.scenario, spec.seeds, spec.requests, spec.baselines) == (["oneshot"], 8, 8192, "all")
    assert (spec.objective.metric, spec.objective.statistic, spec.devices.agents_per_job) == ("auto", "mean", "auto")
    assert 'metric = "auto"' in spec.to_toml()


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match="the key 'env_steps' is missing"):
        load_spec({"algorithm": "ppo"})


@pytest.mark.parametrize("text", ["seeds", "=3", "seeds="])
def test_an_override_without_key_or_value_is_refused(text):
    with pytest.raises(InputError, match="is not of the form KEY=VALUE"):
        load_spec({"algorithm": "ppo", "env_steps": 10}, [text])


def test_a_file_that_is_no_toml_or_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.toml: there is no such file"):
        load_spec(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("algorithm = = 3")
    with pytest.raises(InputError, match=r"bad.toml: this is not TOML .*line 1"):
        load_spec(tmp_path / "bad.toml")


def test_the_first_difference_of_two_specs_is_told():
    old = Spec(algorithm=["ppo"], env_steps=10, hypers={"clip": 0.1})
    assert first_difference(old, old) is None
    assert first_difference(old, load_spec(old, ["hypers.clip=0.2"])) == "hypers.clip was 0.1 and is now 0.2"
    assert first_difference(old, load_spec(old, ["params.slot_s=3"])) == "params.slot_s was absent and is now 3"
