"""Every scenario among Gymnasium's environments, by its id, once this module is imported.

Gymnasium imports it by itself where an id begins with its name:

>>> import gymnasium
>>> env = gymnasium.make("jaxmoe.gymnasium:jaxmoe/oneshot-v0")
>>> env.action_space
Discrete(16)

After `import jaxmoe.gymnasium` the id `jaxmoe/oneshot-v0` is enough. `gymnasium.make_vec` makes many at once, as one
program of JAX, or with `vectorization_mode="sync"` one after the other. The arguments are those of `jaxmoe.make`, and
`params` for the numbers of the scenario.
"""

import gymnasium

from jaxmoe.env.scenarios import SCENARIOS

IDS = {scenario: f"jaxmoe/{scenario}-v0" for scenario in SCENARIOS}

for _scenario, _id in IDS.items():
    gymnasium.register(
        id=_id,
        entry_point="jaxmoe.env.gymnasium_wrapper:make_one",
        vector_entry_point="jaxmoe.env.gymnasium_wrapper:make_many",
        kwargs={"scenario": _scenario},
    )
