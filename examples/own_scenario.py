"""A scenario of one's own: a campus with two replicas of each expert, a shared band, and devices that come and go.

jaxmoe sweep examples/own.toml --out runs/own
"""

import jaxmoe

jaxmoe.register_scenario(
    "campus",
    {"num_replicas": 2, "channel": "link_budget", "fading": "rayleigh", "sharing": "shared", "csi_delay": 1,
     "one_slot": False},
    {
        "tx_power_dbm": 0.0,
        "distance_min_m": 10.0,
        "distance_max_m": 60.0,
        "interference_margin_db": 38.0,
        "min_rate_bps": 1200.0,
        "deadline_s": 20.0,
        "compute_coefficient": 1e-4,
        "transmission_coefficient": 0.1,
        "latency_weight": 0.02,
        "device_up_probability": 0.8,
        "background_probability": 0.2,
    },
)  # fmt: skip
