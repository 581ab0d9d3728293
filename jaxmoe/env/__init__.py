"""The mobile edge network: rules, environment, scenarios, reference policies and their evaluation."""

from jaxmoe.devices import use_all_cores

use_all_cores()  # before gymnax is imported, which starts JAX
