"""What DQN and SAC share: warm-up, target networks, settings that cannot be, and many agents in one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, numbers
from hypothesis import given
from hypothesis import strategies as st
from probe_envs import Contextual, ProbeParams

from jaxmoe.algorithms import off_policy
from jaxmoe.algorithms.algorithm import Clock
from jaxmoe.errors import InputError
from jaxmoe.training.program import Agents, bind, make_program

AGENTS_PER_DEVICE = 2
OFF_POLICY = {name: CASES[name] for name in ("dqn", "sac")}
each_algorithm = pytest.mark.parametrize("case", OFF_POLICY.values(), ids=OFF_POLICY.keys())


def advance(case, group, iterations=3):
    """The agents after some iterations, the first of which only collects: one flat vector of each, and who diverged."""
    program = make_program(case.module.make(Contextual(), case.config, ProbeParams()), ProbeParams())
    engine = bind(program, group, AGENTS_PER_DEVICE, jax.random.key(0))
    batches = engine.advance(engine.init(), Clock(jnp.int32(0), jnp.int32(10)), iterations)
    leaves = jax.tree.leaves(engine.policies(batches))
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1), engine.diverged(batches)


def agents(case, seeds, **hypers):
    """One agent per seed; a hyperparameter is one number for all, or a list."""
    columns = {
        name: jnp.asarray(np.broadcast_to(hypers.get(name, default), len(seeds)), jnp.float32)
        for name, default in case.hypers._asdict().items()
    }
    return Agents(jnp.array(seeds, jnp.int32), case.module.Hypers(**columns), {})


@each_algorithm
def test_the_warm_up_acts_at_random_and_does_not_learn(case):
    algorithm, hypers = case.make(), numbers(case.hypers)
    start = algorithm.init(jax.random.key(0), hypers, Contextual.numbers())
    warm, metrics = algorithm.step(start, hypers, Contextual.numbers(), Clock(jnp.int32(0), jnp.int32(10)))
    learned, _ = algorithm.step(warm, hypers, Contextual.numbers(), Clock(jnp.int32(1), jnp.int32(10)))
    networks = [jax.tree.leaves((state.policy, state.learner)) for state in (start, warm, learned)]
    assert all(np.array_equal(*pair) for pair in zip(networks[0], networks[1], strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(networks[1], networks[2], strict=True))
    assert np.isnan([value for name, value in metrics.items() if name != "reward"]).all()  # missing, not zero
    actions = np.asarray(warm.memory.outcome[:64, 0])
    assert 20 < actions.sum() < 44


def test_a_target_network_moves_a_little_at_each_update_or_becomes_a_copy_now_and_then():
    def target(tau, period, parameters):
        found = [jnp.zeros(1)]
        for number, value in enumerate(parameters):
            rates = jnp.float32(tau), jnp.float32(period)
            found.append(off_policy.moved_target(found[-1], jnp.full(1, value), *rates, jnp.int32(number)))
        return [float(value[0]) for value in found[1:]]

    assert target(0.5, 1, [1.0, 1.0, 3.0]) == [0.5, 0.75, 1.875]
    assert target(1.0, 3, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == [0.0, 0.0, 3.0, 3.0, 3.0, 6.0]


# XLA takes numbers below 1.2e-38 for 0 on a CPU: none of them can come out exactly.
NUMBERS = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


@given(NUMBERS, NUMBERS, st.floats(0, 1, width=32, allow_subnormal=False))
def test_a_target_lies_between_what_it_was_and_what_is_learned(old, new, tau):
    every = jnp.float32(1), jnp.int32(0)
    found = float(off_policy.moved_target(jnp.float32(old), jnp.float32(new), jnp.float32(tau), *every))
    assert min(old, new) - 1e-3 <= found <= max(old, new) + 1e-3
    assert tau not in (0.0, 1.0) or found == (new if tau else old)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation": "sigmoid"}, "activation = 'sigmoid' is unknown; choose one of tanh"),
        ({"replay_dtype": "int8"}, "replay_dtype = 'int8' is unknown; choose one of float32, float16, bfloat16"),
        ({"replay_capacity": 1000}, "1000 is not a multiple of num_envs [*] rollout_length = 64,"),
        ({"n_step": 17}, "n_step = 17 is more than the 16 steps of each environment .* when learning begins"),
        ({"n_step": 9, "replay_capacity": 64}, "n_step = 9 is more than the 8 steps"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CASES["dqn"].config, **values)


@each_algorithm
def test_longer_windows_learn_too(case):
    longer = case._replace(config=dataclasses.replace(case.config, n_step=3, replay_dtype="bfloat16"))
    algorithm = longer.make()
    state = algorithm.init(jax.random.key(0), numbers(case.hypers), Contextual.numbers())
    for iteration in range(60):
        state, _ = algorithm.step(
            state, numbers(case.hypers), Contextual.numbers(), Clock(jnp.int32(iteration), jnp.int32(60))
        )
    assert np.argmax(algorithm.preferences(state.policy, jnp.eye(2)), axis=1).tolist() == [0, 1]


@pytest.mark.slow
@each_algorithm
def test_no_agent_of_a_program_depends_on_another(case):
    rate = next(name for name in case.hypers._fields if name in ("learning_rate", "critic_rate"))
    alone, _ = advance(case, agents(case, [5, 5], **{rate: [1e-3, 1e-2], "discount": [0.1, 0.9]}))
    assert not np.array_equal(alone[0], alone[1])
    swapped, _ = advance(case, agents(case, [5, 5], **{rate: [1e-2, 1e-3], "discount": [0.9, 0.1]}))
    np.testing.assert_array_equal(swapped, alone[::-1])
    more = AGENTS_PER_DEVICE * jax.local_device_count()
    company, diverged = advance(
        case,
        agents(
            case,
            [5, 5, 6, *range(20, 20 + more)],
            **{rate: [1e-3, 1e-2, np.inf, *[3e-3] * more], "discount": [0.1, *[0.9] * (more + 2)]},
        ),
    )
    np.testing.assert_array_equal(company[:2], alone)
    assert diverged.tolist() == [False, False, True, *[False] * more]
    assert np.isfinite(company).all()
