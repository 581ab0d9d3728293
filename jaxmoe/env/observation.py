"""What the user knows before choosing, said once: the fields of the observation, in its order.

Each field is a physical quantity divided by a scale. The observation, its size and limits, the contract of a policy,
what a policy is asked in physical units, the names in Gymnasium, what is recorded of agents at work, and what a
baseline that could be deployed may read: all of it is derived from `fields_of`: `FIELDS`, then the numbers that each
episode draws anew, unless agents are not told. The order is that of the networks' inputs: whoever changes it makes
trained policies useless.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxmoe.env.actions import device_choices
from jaxmoe.env.numbers import Drawn
from jaxmoe.env.params import ABOUT_NUMBERS, EnvParams, Settings, by_episode, limits_of
from jaxmoe.env.rules import EnvState
from jaxmoe.policy import contract, legal

WORDS_SCALE = 100.0  # words
SNR_SCALE_DB = 20.0  # dB


class Field(NamedTuple):
    """Numbers of the observation that stand side by side: `value / scale`, one per expert, per device or one alone."""

    name: str
    unit: str  # of the quantity
    per: Literal["expert", "device", "user"]  # device `e * num_replicas + r` is replica r of expert e
    low: float | None  # limits of the observed number, allowed; no limit if absent
    high: float | None
    scale: Callable[[EnvParams], float | Float[Array, ""]]
    value: Callable[[EnvState, EnvParams, Settings], Float[Array, " size"]]  # the physical quantity
    default: Callable[[EnvParams, Settings], Any]  # the quantity where nobody says it; None if it must be said

    def size(self, settings: Settings) -> int:
        """How many numbers it has."""
        return {"expert": settings.num_experts, "device": settings.num_devices, "user": 1}[self.per]


def _one(params: EnvParams) -> float:
    del params
    return 1.0


def _no_default(params: EnvParams, settings: Settings) -> None:
    """It differs from request to request."""
    del params, settings


def _expected_words(state: EnvState, params: EnvParams, settings: Settings) -> Float[Array, " E"]:
    return params.words_hat if settings.observe_words == "mean" else params.table.words[state.prompt]


def _carried_words(params: EnvParams, settings: Settings) -> Any:
    """A policy takes the expected words along, unless it was trained to see the true ones."""
    return np.asarray(params.words_hat, np.float32) if settings.observe_words == "mean" else None


def _idle(params: EnvParams, settings: Settings) -> float | None:
    """No work waits where each slot is over before the next begins, and nobody else brings any."""
    longest_s = float(np.max(np.asarray(params.table.words))) * limits_of("seconds_per_word", params, settings.drawn)[1]
    quiet = limits_of("background_probability", params, settings.drawn)[1] == 0
    return 0.0 if settings.one_slot or (quiet and longest_s <= limits_of("slot_s", params, settings.drawn)[0]) else None


def _full(params: EnvParams, settings: Settings) -> float | None:
    """The battery stays full where nothing takes from it."""
    most = [limits_of(name, params, settings.drawn)[1] for name in ("joules_per_word", "radio_power_w")]
    least, largest = limits_of("battery_capacity_j", params, settings.drawn)
    return float(params.battery_capacity_j) if most == [0.0, 0.0] and least == largest else None


def _always_available(params: EnvParams, settings: Settings) -> float | None:
    return 1.0 if limits_of("device_up_probability", params, settings.drawn)[0] >= 1 else None


FIELDS = (
    Field(
        name="relevance", unit="1", per="expert", low=0.0, high=1.0,
        scale=_one,
        value=lambda state, params, _: params.table.relevance[state.prompt],
        default=_no_default,
    ),
    Field(
        name="words_hat", unit="words", per="expert", low=0.0, high=None,
        scale=lambda _: WORDS_SCALE,
        value=_expected_words,
        default=_carried_words,
    ),
    Field(
        name="snr_db", unit="dB", per="device", low=None, high=None,
        scale=lambda _: SNR_SCALE_DB,
        value=lambda state, _, __: state.observed_snr_db,
        default=_no_default,
    ),
    Field(
        name="backlog_s", unit="s", per="device", low=0.0, high=None,
        scale=lambda params: params.slot_s,
        value=lambda state, _, __: state.backlog_s,
        default=_idle,
    ),
    Field(
        name="battery_j", unit="J", per="user", low=0.0, high=1.0,
        scale=lambda params: params.battery_capacity_j,
        value=lambda state, _, __: state.battery_j[None],
        default=_full,
    ),
    Field(
        name="available", unit="1", per="device", low=0.0, high=1.0,
        scale=_one,
        value=lambda state, _, __: state.available.astype(jnp.float32),
        default=_always_available,
    ),
)  # fmt: skip


def fields_of(settings: Settings) -> tuple[Field, ...]:
    """The fields of an environment's observation, in its order."""
    drawn = {each.name: each for each in settings.drawn}
    own = tuple(_by_a_fixed_scale(field, drawn) for field in FIELDS)
    return own + tuple(_field_of(each) for each in settings.drawn if each.observed)


def _field_of(drawn: Drawn) -> Field:
    """A number that each episode draws anew, by a scale that does not depend on how it is drawn."""
    about, (low, high) = ABOUT_NUMBERS[drawn.name], drawn.limits()

    def value(state: EnvState, params: EnvParams, settings: Settings) -> Float[Array, " size"]:
        del params
        return jnp.broadcast_to(state.drawn[drawn.name], (settings.num_devices if about.by_device else 1,))

    return Field(
        drawn.name, about.unit, "device" if about.by_device else "user", low / about.scale, high / about.scale,
        lambda _: about.scale, value, _no_default,
    )  # fmt: skip


_SCALED_BY = {"backlog_s": "slot_s", "battery_j": "battery_capacity_j"}


def _by_a_fixed_scale(field: Field, drawn: Mapping[str, Drawn]) -> Field:
    """A field whose scale is a number: where that is drawn, by a scale that does not depend on how it is drawn."""
    number = _SCALED_BY.get(field.name, "")
    if number not in drawn:
        return field
    scale = ABOUT_NUMBERS[number].scale
    return field._replace(high=None, scale=lambda _: scale)


def observe(state: EnvState, params: EnvParams, settings: Settings) -> Float[Array, " O"]:
    """What the user knows before choosing: all fields, one after the other, each divided by its scale."""
    return jnp.concatenate(
        [field.value(state, params, settings) / field.scale(params) for field in fields_of(settings)]
    )


def quantities(state: EnvState, params: EnvParams, settings: Settings) -> dict[str, Float[Array, " size"]]:
    """The same in physical units, by the names of the fields: all that a deployable baseline may read of a state."""
    return {field.name: field.value(state, params, settings) for field in fields_of(settings)}


def told_params(state: EnvState, params: EnvParams, settings: Settings) -> EnvParams:
    """The numbers as a deployable baseline may know them: of drawn ones what the observation says, else the mean."""
    return by_episode(params, {each.name: state.drawn[each.name] for each in settings.drawn if each.observed})


def legal_actions(observation: Float[Array, "*batch O"], settings: Settings) -> Bool[Array, "*batch A"]:
    """Actions that ask only devices which the observation calls available; the rule of exported policies."""
    number = [field.name for field in FIELDS].index("available")
    begin = sum(field.size(settings) for field in FIELDS[:number])
    asked = device_choices(settings).T.astype(np.float32)
    return legal.legal_actions(legal.Mask(slice(begin, begin + len(asked)), asked), observation, jnp)


def observation_size(settings: Settings) -> int:
    """Length of the observation."""
    return sum(field.size(settings) for field in fields_of(settings))


def observation_names(settings: Settings) -> tuple[str, ...]:
    """A name for each number of the observation.

    >>> observation_names(Settings(num_experts=1, num_replicas=2))[:4]
    ('relevance[0]', 'words_hat[0]', 'snr_db[0]', 'snr_db[1]')
    """
    return tuple(f"{field.name}[{number}]" for field in fields_of(settings) for number in range(field.size(settings)))


def observation_limits(settings: Settings) -> tuple[Float[np.ndarray, " O"], Float[np.ndarray, " O"]]:
    """Least and largest value of each number of the observation, infinite where nothing bounds it."""
    fields = fields_of(settings)

    def repeated(limits: list[float]) -> Float[np.ndarray, " O"]:
        return np.repeat(np.array(limits, np.float32), [field.size(settings) for field in fields])

    low = repeated([-np.inf if field.low is None else field.low for field in fields])
    high = repeated([np.inf if field.high is None else field.high for field in fields])
    drawn = slice(sum(field.size(settings) for field in FIELDS), None)  # rounded as the limits are, or otherwise
    low[drawn], high[drawn] = np.nextafter(low[drawn], -np.inf), np.nextafter(high[drawn], np.inf)
    return low, high


def observation_fields(params: EnvParams, settings: Settings) -> tuple[contract.Field, ...]:
    """The fields as the contract of a policy says them, in physical units.

    What cannot vary where the policy was trained has a default.
    """
    return tuple(_in_contract(field, params, settings) for field in fields_of(settings))


def scales(fields: tuple[contract.Field, ...]) -> Float[np.ndarray, " O"]:
    """By what each number of the observation has been divided."""
    return np.concatenate([np.full(field.size, field.scale, np.float32) for field in fields])


def _in_contract(field: Field, params: EnvParams, settings: Settings) -> contract.Field:
    size, scale, default = field.size(settings), float(field.scale(params)), field.default(params, settings)
    if default is not None:
        default = tuple(np.broadcast_to(np.asarray(default, np.float64), size).tolist())
    low, high = (None if limit is None else limit * scale for limit in (field.low, field.high))
    return contract.Field(field.name, field.unit, field.per, size, scale, low, high, default)
