"""What a user of the collection brings, and how the tests call it."""

import json

from jaxmoe.collect.client import Limits
from jaxmoe.collect.collecting import collect_table
from jaxmoe.collect.plan import Settings

EXPERTS = [
    {"expert": "setting", "system_prompt": "You write of places."},
    {"expert": "action", "system_prompt": "You write of events."},
]


class Files:
    """What a user brings, in a folder."""

    def __init__(self, folder, prompts=("a whale", "two bakers"), experts=EXPERTS):
        self.folder = folder
        self.prompts, self.experts, self.out = folder / "prompts.csv", folder / "experts.json", folder / "out"
        rows = [f"p{number:02},{'test' if number % 4 == 3 else 'train'},{text}" for number, text in enumerate(prompts)]
        self.prompts.write_text("\n".join(["prompt_id,split,prompt", *rows]) + "\n")
        self.experts.write_text(json.dumps(experts))

    def collect(
        self, server, *, concurrency=8, attempts=4, timeout_s=5.0, spending=None, retry_failed=False, **settings
    ):
        """A run in this process against a server of the tests."""
        common = {"model": "writer", "judge_models": ("judge",), "local_model": "small", "samples": 2}
        return collect_table(
            self.prompts,
            self.experts,
            self.out,
            Settings(base_url=server.base_url, **common | settings),
            limits=Limits(concurrency, attempts, timeout_s, first_pause_s=0.01),
            spending=spending,
            retry_failed=retry_failed,
        )
