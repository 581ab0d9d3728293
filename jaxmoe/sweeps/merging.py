"""`merge`: the shards of a sweep put together; the same as if one process had trained all."""

import os
from collections.abc import Iterable
from pathlib import Path

from jaxmoe.errors import InputError
from jaxmoe.progress import SILENT, Reporter
from jaxmoe.sweeps import tables
from jaxmoe.sweeps.plan import Shard, make_plan, parse_shard
from jaxmoe.sweeps.spec import first_difference, load_spec
from jaxmoe.sweeps.store import Store, check_parts, read_manifest
from jaxmoe.sweeps.sweeping import Sweep, spec_table


def merge(shards: Iterable[str | os.PathLike[str]], out: str | os.PathLike[str], *, report: Reporter = SILENT) -> Sweep:
    """Put the folders of all shards of a sweep together in a new folder; the shards stay as they are.

    Args:
        shards: folders of the sweeps of one spec that were made with `shard="i/n"`, each i once.
        out: a new or empty folder.
        report: told how it goes.

    Raises:
        InputError: shards of different sweeps, one that is missing, doubled or unfinished, or a damaged file.
    """
    folders = [Path(folder) for folder in shards]
    if not folders:
        raise InputError("there is nothing to merge; give the folders of all shards")
    manifests = {folder: read_manifest(folder) for folder in folders}
    first = manifests[folders[0]]
    spec = load_spec(first["spec"])
    held: dict[Shard, Path] = {}
    for folder, manifest in manifests.items():
        if difference := first_difference(spec, load_spec(manifest["spec"])):
            raise InputError(f"{folders[0]} and {folder} are sweeps of different specs: {difference}")
        if manifest["table_digest"] != first["table_digest"]:
            raise InputError(f"{folders[0]} and {folder} were trained on different expert tables")
        if (shard := parse_shard(manifest["shard"])) in held:
            raise InputError(f"{held[shard]} and {folder} are both shard {shard}")
        held[shard] = folder
    count = next(iter(held)).count
    if missing := [str(shard) for i in range(count) if (shard := Shard(i, count)) not in held]:
        raise InputError(f"shard {missing[0]} is missing; give the folders of all {count} shards")
    table = spec_table(spec)
    plan = make_plan(spec, table)
    store = Store(out, spec, {"table_digest": first["table_digest"], "shard": str(Shard())})
    try:
        tables.write_agents(store, plan)
        for shard, folder in sorted(held.items()):
            report.stage(f"taking over shard {shard} from {folder}")
            for name, about in check_parts(folder, manifests[folder]).items():
                if (own := _name(name, shard)) not in store.done:
                    store.adopt(own, folder / "chunks" / name, about)
        _require_complete(store, len(plan.places) if spec.references else 0, plan.num_agents)
        report.stage("writing the tables")
        found = tables.collect(store, plan, table)
        tables.write(store, found)
    finally:
        store.close()
    return Sweep(Path(out), **found, varied=plan.varied, interrupted=False)


def _name(name: str, shard: Shard) -> str:
    """Two shards may have chunks of the same name; the references of an environment are in one of them."""
    return name if name.startswith("references") else f"{name}-shard-{shard.index}-of-{shard.count}"


def _require_complete(store: Store, places: int, agents: int) -> None:
    trained = sum(len(about.get("agents", ())) for about in store.done.values())
    evaluated = sum("agents" not in about for about in store.done.values())
    if trained < agents or evaluated < places:
        raise InputError(
            f"the shards are not finished: {trained} of {agents} agents are trained and the references of {evaluated} "
            f"of {places} environments evaluated; finish the shards, then give the same command again"
        )
