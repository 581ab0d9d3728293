"""What a collection asks for: settings as the user gives them, and requests made of them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxmoe.collect.answers import SCALES, Task, gate_form, gate_structure, judge_structure
from jaxmoe.collect.inputs import Expert, Prompt
from jaxmoe.collect.request_params import check_request_params, of_stage
from jaxmoe.collect.requests import BUNDLED, BUNDLED_MODEL, Endpoint, Request
from jaxmoe.collect.servers import checked_base_url, main_base_url
from jaxmoe.collect.templates import Template, Trusted, load_templates, neutral
from jaxmoe.errors import InputError
from jaxmoe.table.records import subset_index, subset_name
from jaxmoe.values import MOST, count

MOST_SAMPLES = 1_000  # of a judge, of each text


@dataclass(frozen=True)
class Settings:
    """How texts are written and judged."""

    model: str = ""  # of gate, experts and fusion
    base_url: str | None = None  # OPENAI_BASE_URL or OpenAI's if absent
    gate_model: str = ""  # the same as `model` if absent, and so below
    gate_base_url: str | None = None
    fusion_model: str = ""
    fusion_base_url: str | None = None
    judge_models: tuple[str, ...] = ()
    judge_base_urls: tuple[str, ...] = ()  # one for all judges, or one for each
    local_model: str = ""  # on the user's own device: the bundled small model if absent
    local_base_url: str | None = None
    local: bool = False  # the bundled small model does everything
    templates: Path | None = None  # folder of templates that replace shipped ones
    scoring_prompt: str = "judge"
    samples: int = 3  # judgements of each text by each judge
    scale: str = "integer"
    logprobs: bool = False  # also weight scores by their probability
    subsets: str | None = None  # which are scored, as in "local,setting,setting+action"; all if absent
    max_subset_size: int | None = None
    temperature: float = 0.7  # of texts
    judge_temperature: float = 0.7
    max_tokens: int = 2048  # of a text
    answer_tokens: int = 1024  # of the gate and of a judgement
    request_params: Mapping[str, Any] = field(
        default_factory=dict
    )  # for all stages, and by stage; see `request_params`

    def __post_init__(self) -> None:
        check_request_params(self.request_params)
        for name in ("temperature", "judge_temperature"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)}, it must be a number from 0 on")
        for name, most in (("samples", MOST_SAMPLES), ("max_tokens", MOST), ("answer_tokens", MOST)):
            count(getattr(self, name), name, most)
        if len(self.judge_base_urls) not in (0, 1, len(self.judge_models)):
            raise InputError(
                f"there are {len(self.judge_models)} judges and {len(self.judge_base_urls)} base URLs of judges; "
                "give one for all, or one for each"
            )
        if len(self.judge_base_urls) < 2 and len(set(self.judge_models)) < len(self.judge_models):
            raise InputError(f"a judge is named twice in {', '.join(self.judge_models)}; use --samples for more scores")
        if self.scale not in SCALES:
            raise InputError(f"scale = {self.scale!r}, it must be one of {', '.join(SCALES)}")
        others = (
            self.model,
            self.base_url,
            self.judge_models,
            self.judge_base_urls,
            self.gate_model,
            self.gate_base_url,
        )
        if self.local and any((*others, self.fusion_model, self.fusion_base_url)):
            raise InputError("--local lets the small model here do everything; give no other model or server with it")
        if self.logprobs and self.scale != "integer":
            raise InputError("weighting by log-probabilities needs whole scores; leave the scale at integer")

    @property
    def writer(self) -> Endpoint:
        """Who is gate, expert and fusion. Raises `InputError` if no model is named."""
        if self.local:
            return Endpoint(BUNDLED, BUNDLED_MODEL)
        if not self.model:
            raise InputError("--model says which model writes; it is missing (or say --local for the small model here)")
        return Endpoint(main_base_url(self.base_url), self.model)

    @property
    def gate(self) -> Endpoint:
        """Who splits prompts."""
        return self._own("gate", self.gate_model, self.gate_base_url)

    @property
    def fuser(self) -> Endpoint:
        """Who joins passages."""
        return self._own("fusion", self.fusion_model, self.fusion_base_url)

    @property
    def judges(self) -> tuple[Endpoint, ...]:
        """Who scores."""
        models = self.judge_models or (self.writer.model,)
        urls = [checked_base_url(url) for url in self.judge_base_urls] or [self.writer.base_url]
        return tuple(Endpoint(url, model) for url, model in zip(urls * (len(models) // len(urls)), models, strict=True))

    @property
    def local_writer(self) -> Endpoint:
        """Who writes on the user's own device."""
        if not self.local_model and not self.local_base_url:
            return Endpoint(BUNDLED, BUNDLED_MODEL)
        if not self.local_model:
            raise InputError("--local-base-url needs --local-model, the model that writes there")
        given = checked_base_url(self.local_base_url) if self.local_base_url else main_base_url(self.base_url)
        return Endpoint(given, self.local_model)

    def _own(self, stage: str, model: str, base_url: str | None) -> Endpoint:
        """A stage's model on a server of its own, or the writer."""
        if base_url and not model:
            raise InputError(f"--{stage}-base-url needs --{stage}-model, the model that is asked there")
        common = self.writer
        return Endpoint(checked_base_url(base_url) if base_url else common.base_url, model or common.model)


@dataclass(frozen=True)
class Plan:
    """All that is needed to make requests."""

    prompts: tuple[Prompt, ...]
    experts: tuple[Expert, ...]
    settings: Settings
    templates: dict[str, Template]
    subsets: tuple[int, ...]  # that are scored

    @property
    def names(self) -> tuple[str, ...]:
        """Of the experts."""
        return tuple(expert.name for expert in self.experts)

    @property
    def singles(self) -> tuple[int, ...]:
        """Subsets of one expert, whose passages have to be written: those that are scored or part of one that is."""
        needed = 0
        for subset in self.subsets:
            needed |= subset
        return tuple(1 << expert for expert in range(len(self.experts)) if needed >> expert & 1)

    @property
    def max_experts(self) -> int | None:
        """The most experts of a subset that is scored, if larger ones are left out on purpose."""
        largest = self.settings.max_subset_size
        return None if largest is None or largest >= len(self.experts) else largest

    @property
    def endpoints(self) -> set[Endpoint]:
        """All models that are asked."""
        own = {self._writer_of(expert) for expert in self.experts}
        return own | {self.settings.gate, self.settings.fuser, *self.settings.judges, self.settings.local_writer}

    def counts(self) -> dict[str, int]:
        """Requests of each stage, if all go well."""
        fused = sum(1 for subset in self.subsets if subset.bit_count() > 1)
        judged = len(self.subsets) * len(self.settings.judges) * self.settings.samples
        each = {
            "gate": int(bool(self.singles)),
            "expert": len(self.singles),
            "fusion": fused,
            "local": int(0 in self.subsets),
            "judge": judged,
        }
        return {stage: count * len(self.prompts) for stage, count in each.items()}

    def gate(self, prompt: Prompt) -> Request:
        """Split the prompt."""
        about = Trusted("\n".join(f"- {expert.name}: {expert.system_prompt}" for expert in self.experts))
        messages = self.templates["gate"].messages(experts=about, prompt=prompt.text, form=gate_form(self.names))
        structure = gate_structure(self.names)
        parameters = self._parameters("gate", self.settings.answer_tokens, 0.0)
        return Request("gate", prompt.prompt_id, "", 1, self.settings.gate, messages, parameters, structure)

    def passage(self, prompt: Prompt, expert: Expert, task: Task) -> Request:
        """One expert's part."""
        messages = self.templates["expert"].messages(
            system_prompt=Trusted(expert.system_prompt), prompt=prompt.text, subtask=task.subtask
        )
        return self._text("expert", prompt, expert.name, self._writer_of(expert), messages)

    def fusion(self, prompt: Prompt, subset: int, passages: Iterable[str]) -> Request:
        """The passages of a subset as one text."""
        joined = Trusted("\n".join(f"<passage>\n{neutral(passage)}\n</passage>" for passage in passages))
        messages = self.templates["fusion"].messages(prompt=prompt.text, passages=joined)
        return self._text("fusion", prompt, subset_name(subset, self.names), self.settings.fuser, messages)

    def local(self, prompt: Prompt) -> Request:
        """What the user's own device writes."""
        messages = self.templates["local"].messages(prompt=prompt.text)
        return self._text("local", prompt, "local", self.settings.local_writer, messages)

    def judgement(self, prompt: Prompt, subset: int, text: str, judge: Endpoint, sample: int) -> Request:
        """One score of a text. How it was written is not said."""
        messages = self.templates["judge"].messages(prompt=prompt.text, text=text, scale=SCALES[self.settings.scale])
        parameters = self._parameters("judge", self.settings.answer_tokens, self.settings.judge_temperature, sample)
        if self.settings.logprobs:
            parameters["logprobs"] = True
        structure, name = judge_structure(self.settings.scale), subset_name(subset, self.names)
        return Request("judge", prompt.prompt_id, name, sample, judge, messages, parameters, structure)

    def _text(
        self, stage: str, prompt: Prompt, experts: str, endpoint: Endpoint, messages: list[dict[str, str]]
    ) -> Request:
        parameters = self._parameters(stage, self.settings.max_tokens, self.settings.temperature)
        return Request(stage, prompt.prompt_id, experts, 1, endpoint, messages, parameters)

    def _parameters(self, stage: str, max_tokens: int, temperature: float, seed: int = 1) -> dict[str, Any]:
        own = of_stage(self.settings.request_params, stage)
        return {"max_tokens": max_tokens, "temperature": temperature, "seed": seed} | own

    def _writer_of(self, expert: Expert) -> Endpoint:
        common = self.settings.writer
        if self.settings.local:
            return common
        return Endpoint(expert.base_url or common.base_url, expert.model or common.model)


def make_plan(prompts: tuple[Prompt, ...], experts: tuple[Expert, ...], settings: Settings) -> Plan:
    """Check the settings against the experts. Raises `InputError` for what does not fit."""
    templates = load_templates(settings.templates, settings.scoring_prompt)
    return Plan(prompts, experts, settings, templates, _subsets(tuple(expert.name for expert in experts), settings))


def judge_name(judge: Endpoint, judges: tuple[Endpoint, ...], sample: int) -> str:
    """How a judgement is called in a table: the sample's number, after the model's name if there are several judges."""
    if len(judges) == 1:
        return str(sample)
    same = sum(other.model == judge.model for other in judges) > 1
    return f"{judge} {sample}" if same else f"{judge.model} {sample}"


def _subsets(names: tuple[str, ...], settings: Settings) -> tuple[int, ...]:
    if settings.subsets is None:
        chosen = list(range(1 << len(names)))
    else:
        chosen = sorted({subset_index(part.strip(), names) for part in settings.subsets.split(",") if part.strip()})
    if settings.max_subset_size is not None:
        if settings.max_subset_size < 0:
            raise InputError(f"max_subset_size = {settings.max_subset_size}, it must be at least 0")
        chosen = [subset for subset in chosen if subset.bit_count() <= settings.max_subset_size]
    if not any(chosen):
        raise InputError(
            "no subset with an expert is left to be scored; name some in --subsets or raise --max-subset-size"
        )
    return tuple(chosen)
