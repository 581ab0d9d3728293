"""`jaxmoe export`: trained policies that run elsewhere."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

import jaxmoe
from jaxmoe.cli.options import AsJson
from jaxmoe.cli.output import OUT, emit
from jaxmoe.errors import InputError
from jaxmoe.names import short
from jaxmoe.policy.bundle import contract_path
from jaxmoe.table.splits import SPLITS


def export(
    source: Annotated[
        str, typer.Argument(help="The folder of an experiment, or a policy exported as .safetensors before.")
    ],
    out: Annotated[Path, typer.Option(help="The file to write; its contract, a JSON file, is written beside it.")],
    agent: Annotated[
        str, typer.Option(help="Which agent: best (of the best configuration), its number, or all in one stack.")
    ] = "best",
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="The format: safetensors, stablehlo or onnx; as --out ends if absent."),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="The scenario whose best agent is meant, where there are several.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained policy that runs anywhere: with NumPy, XLA or ONNX."""
    if file_format is not None and out.suffix != f".{file_format}":
        raise InputError(f"--out {out} does not end in .{file_format}, as --format says")
    contracts = jaxmoe.export(source, out, agent=_which(agent), scenario=scenario)
    if as_json:
        listed = contracts if isinstance(contracts, list) else [contracts]
        facts = [{"algorithm": each.algorithm, "agent": each.agent, "evaluation": each.evaluation} for each in listed]
        emit({"policy": out, "contract": contract_path(out), "agents": facts})
        return
    if isinstance(contracts, list):
        OUT.print(f"{len(contracts)} policies of {', '.join(contracts[0].experts)}: {out}", soft_wrap=True)
        return
    who, scores = contracts.agent, contracts.evaluation
    qos = [f"{split} QoS {scores[split]['qos']:.3f}" for split in SPLITS if "qos" in scores.get(split, {})]
    OUT.print(
        f"{contracts.algorithm} in {contracts.scenario['name']}, agent {who['number']} (seed {who['seed']}): "
        f"{', '.join(qos)}",
        soft_wrap=True,
    )
    OUT.print(f"policy and contract: {out}, {contract_path(out)}", soft_wrap=True)


def _which(text: str) -> Any:
    if text in ("best", "all"):
        return text
    if not re.fullmatch(r"\d{1,9}", text):
        raise InputError(f"--agent {short(text)} is not best, all or the number of an agent")
    return int(text)
