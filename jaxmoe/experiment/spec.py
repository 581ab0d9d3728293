"""What an experiment is about: a TOML file, checked whole before anything is computed.

    algorithm = "ppo"            # or several: ["ppo", "dqn", "sac"]
    scenario  = "queueing"       # or several, or a file that describes one: "mine.toml"
    env_steps = 262_144          # of each agent
    seeds     = 16
    [search]
    method  = "random"           # grid (the default), random or sobol
    samples = 256
    [hypers]                     # a number, or true or false, fixes it; a list or a range makes it an axis
    learning_rate = { log_uniform = [1e-4, 1e-2] }
    entropy_coef  = [0.0, 0.01, 0.03]
    [config]                     # what shapes the compiled program; lists only
    num_envs = 8
    hidden   = [64, 64]          # one value, as the key takes a list; an axis is { grid = [[16], [64, 64]] }
    [params]                     # numbers of the scenario
    latency_weight   = { uniform = [0.0, 0.05] }
    seconds_per_word = [0.02, 0.03, 0.03, 0.08]                     # one for each device; an axis is { grid = [...] }
    tx_power_dbm     = { each_episode = { uniform = [-5.0, 5.0] } } # drawn anew by every episode
    [objective]                  # what configurations are ranked by
    limits = { latency_s = 12.0 }

Where algorithms or scenarios differ, each has its own section: `[hypers.sac]`, `[config.dqn]`, `[params.queueing]`.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from jaxmoe.errors import InputError
from jaxmoe.files import with_home
from jaxmoe.names import bare, short
from jaxmoe.plugins import load_plugins
from jaxmoe.table.formats import read_toml, require_short_keys
from jaxmoe.training.job import Precision
from jaxmoe.values import DEEPEST, MOST, MOST_AGENTS, MOST_EVALUATIONS, MOST_REQUESTS, plain

Count = Annotated[int, Field(ge=1, le=MOST)]
Seed = Annotated[int, Field(ge=0, le=MOST)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _all_different(names: list[Any]) -> list[Any]:
    if len(set(names)) < len(names):
        raise PydanticCustomError("doubled", "Input should be different names, each once")
    return names


Names = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_all_different)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Search(_Section):
    """How configurations are chosen from the axes."""

    method: Literal["grid", "random", "sobol"] = "grid"
    samples: Count | None = None  # of each algorithm and scenario; a grid has all
    seed: Seed = 0


class Objective(_Section):
    """What configurations are ranked by, everywhere."""

    metric: str = "auto"  # of an evaluation; auto: normalised where there are baselines, else qos
    split: Literal["auto", "train", "validation"] = "auto"  # never test; auto: validation where a table has it
    statistic: Literal["mean", "iqm", "min"] = "mean"  # over seeds
    limits: dict[
        str, Annotated[float, Field(allow_inf_nan=False)]
    ] = {}  # a configuration above one of them is ranked after all that are not


class Stop(_Section):
    """What ends an agent's training early, by its QoS on the prompts that choose, at evaluations."""

    value: Annotated[float, Field(allow_inf_nan=False)] | None = None  # it has reached so much
    plateau: Count | None = None  # so many evaluations in a row, at equal distances, brought no better one
    min_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # by which one must be better than all before


class Devices(_Section):
    """What the plan is made for; frozen with it, so that no machine decides anything."""

    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto"  # auto: what the planning machine has
    count: Literal["auto"] | Count = "auto"  # devices
    memory_gib: Literal["auto"] | Amount = "auto"  # of one device
    agents_per_device: Literal["auto"] | Count = "auto"  # that one device trains in one batch
    agents_per_job: Literal["auto"] | Count = "auto"  # that are trained, and stored, together
    matmul_precision: Literal["auto"] | Precision = "auto"  # of products in training; auto: what the device takes
    deterministic: bool = False  # no kernel is chosen by its speed: the same bits in every process on a GPU, too


class RayJob(_Section):
    """What each job takes of a Ray cluster, as Ray counts it; nothing of it changes a result."""

    num_cpus: Amount | None = None  # 1 if absent
    num_gpus: Amount | None = None  # 1 if absent where jobs run on GPUs; less than 1 shares one
    resources: dict[str, Amount] = {}  # others, such as { TPU = 4 }


class Spec(_Section):
    """What an experiment is about, as its file says it."""

    algorithm: Names
    scenario: Names = ["oneshot"]
    env_steps: Count  # of each agent, rounded up to whole iterations
    schedule_steps: Count | None = None  # over which schedules run; env_steps if absent
    seeds: (
        Annotated[int, Field(ge=1, le=MOST_AGENTS)]
        | Annotated[list[Seed], Field(min_length=1, max_length=MOST_AGENTS), AfterValidator(_all_different)]
    ) = 8  # how many, from 0 on, or these; of every configuration
    root_seed: Seed = 0
    table: str | None = None  # expert table, its path as seen from the spec's folder; the shipped one if absent
    relevance: Literal["required", "none"] = "required"
    init_from: str | None = None  # an exported policy that all agents go on from
    evaluations: Annotated[int, Field(ge=1, le=MOST_EVALUATIONS)] = (
        10  # at equal distances on the way; at the start more often
    )
    requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] = (
        8192  # that each trained agent, and each baseline, serves in the end
    )
    baselines: Literal["all", "none"] | Annotated[list[str], AfterValidator(_all_different)] = "all"
    plugins: Annotated[list[str], AfterValidator(_all_different)] = []  # files or modules that register what is used
    keep: Literal["last", "best"] = "last"  # of each agent the last policy, or the best on the prompts that choose
    stop: Stop = Stop()
    keep_states: Literal["auto"] | bool = "auto"  # final states, to go on from; auto: where all are under 2 GiB
    search: Search = Search()
    objective: Objective = Objective()
    devices: Devices = Devices()
    ray: RayJob = RayJob()
    hypers: dict[str, Any] = {}
    config: dict[str, Any] = {}
    params: dict[str, Any] = {}
    settings: dict[str, Any] = {}

    def to_toml(self) -> str:
        """The same spec as a TOML file."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


VALUES = frozenset({"grid", "uniform", "log_uniform", "each_episode"})  # of an axis or a draw, no section
SECTIONS: dict[str, type[BaseModel]] = {
    "search": Search, "objective": Objective, "stop": Stop, "devices": Devices, "ray": RayJob,
}  # fmt: skip
RENAMED = {  # keys of older specs
    "slots": "requests",
    "references": "baselines, with the value 'all' or 'none'",
    "chunk_width": "devices.agents_per_job",
}


def load_spec(
    source: str | os.PathLike[str] | Mapping[str, Any] | Spec, overrides: Iterable[str] | Mapping[str, Any] = ()
) -> Spec:
    """Read a spec from a TOML file or a mapping, and check it.

    Args:
        source: path of the file, or what it would hold.
        overrides: `key=value` texts, the key dotted and the value as in TOML, as in `hypers.learning_rate=1e-3`; or a
            mapping of dotted keys.

    Raises:
        InputError: the file cannot be read, or a key or a value in it is not allowed.
    """
    name = "the spec"
    if isinstance(source, Spec):
        content: dict[str, Any] = source.model_dump(exclude_none=True, exclude_unset=True)
    elif isinstance(source, Mapping):
        content = plain(source, "the spec")
    else:
        path = with_home(source)
        name, content = str(source), read_toml(path)
        content = plain(content, name)
        _seen_from(path.parent, content)
    if isinstance(overrides, Mapping):
        pairs: Iterable[tuple[str, Any]] = plain(overrides, "overrides").items()
    else:
        pairs = map(assignment, [overrides] if isinstance(overrides, str) else overrides)
    for key, value in pairs:
        _put(content, key, plain(value, f"--set {bare(key)}"))
    if isinstance(content.get("config"), dict):
        content["config"] = {name: _alone(value) for name, value in content["config"].items()}
    for section in ("hypers", "config", "params", "settings"):
        _require_values(section, content.get(section, {}))
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{name}: {_sentence(error)}") from None


def with_plugins(spec: Spec, plugins: Iterable[str | os.PathLike[str]] = ()) -> Spec:
    """The spec with more plugins, whose paths are seen from where the process is now.

    All of its plugins are imported, and the files of its scenarios, which may begin with one of a plugin, are read:
    the spec then says their names.
    """
    load_plugins(spec.plugins)
    more = [each.source for each in load_plugins([os.fspath(each) for each in plugins])]
    update: dict[str, Any] = {"plugins": list(dict.fromkeys([*spec.plugins, *more]))} if more else {}
    if any(name.endswith(".toml") for name in spec.scenario):
        from jaxmoe.env.scenarios import scenario_named  # which imports JAX

        update["scenario"] = _all_different(list(map(scenario_named, spec.scenario)))
    return spec.model_copy(update=update) if update else spec


def _seen_from(folder: Path, content: dict[str, Any]) -> None:
    """Paths of a spec are seen from its folder."""
    for key in ("table", "init_from"):
        if isinstance(content.get(key), str):
            content[key] = str((folder / with_home(content[key])).absolute())
    for key, suffix in (("plugins", ".py"), ("scenario", ".toml")):
        if isinstance(said := _listed(content.get(key)), list):
            content[key] = [
                str((folder / with_home(each)).absolute()) if isinstance(each, str) and each.endswith(suffix) else each
                for each in said
            ]


def first_difference(old: Spec, new: Spec) -> str | None:
    """The first key in which two specs differ, with both values; nothing if they are the same."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    for key in [*before, *(key for key in after if key not in before)]:
        if before.get(key) != after.get(key):
            old_value, new_value = (short(found[key]) if key in found else "absent" for found in (before, after))
            return f"{key} was {old_value} and is now {new_value}"
    return None


def assignment(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`; the value as in TOML, or a word without quotes."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise InputError(f"--set {short(text)} is not of the form KEY=VALUE")
    require_short_keys(value, f"--set {bare(key.strip())}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    except (ValueError, RecursionError):
        raise InputError(f"--set {bare(key.strip())}: the value is too long a number, or too deep") from None
    lower = re.sub(r"\b(True|False)\b", lambda found: found.group().lower(), value)
    try:
        return key.strip(), tomllib.loads(f"value = {lower}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()  # a word without quotes


def _put(content: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    if len(sections) > DEEPEST:
        raise InputError(f"--set {bare(key)}: the key has {len(sections) + 1:,} parts; it may have {DEEPEST}")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise InputError(f"--set {bare(key)}: {bare(section)} is no section of the spec")
    content[last] = value


def _require_values(key: str, value: Any) -> None:
    """Refuse None in a list or a section, which no file can hold."""
    if value is None:
        raise InputError(f"{bare(key)} = None is no value; leave it out")
    if isinstance(value, dict | list):
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            _require_values(f"{key}.{name}", entry)


def _alone(value: Any) -> Any:
    """A list that holds one list is that list; earlier versions wrote one value so."""
    if isinstance(value, dict):
        return {name: _alone(entry) if name != "grid" else entry for name, entry in value.items()}
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return value if any(isinstance(entry, list) for entry in value[0]) else value[0]
    return value


def _sentence(error: ValidationError) -> str:
    """The first of pydantic's complaints as a sentence: key, value, what is allowed."""
    found = error.errors()[0]
    path = [str(part) for part in found["loc"] if str(part) not in ("constrained-int", "list[constrained-int]", "int")]
    path = [part for part in path if not part.startswith(("literal[", "list["))]
    key = ".".join(path)
    if found["type"] == "extra_forbidden":
        if key in RENAMED:
            return f"the key {short(key)} is now {RENAMED[key]}"
        owner = SECTIONS.get(path[0], Spec)
        return f"unknown key {short(key)}; allowed are {', '.join(owner.model_fields)}"
    if found["type"] == "missing":
        return f"the key {short(key)} is missing"
    allowed = " or ".join(
        dict.fromkeys(
            each["msg"].removeprefix("Input should be ") for each in error.errors() if each["loc"][0] == found["loc"][0]
        )
    )
    return f"{key} = {short(found['input'])} is not allowed; it must be {allowed}"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        whole = not isinstance(value, dict) or not VALUES.isdisjoint(value)
        flat |= {f"{prefix}{key}": value} if whole else _flat(value, f"{prefix}{key}.")
    return flat
