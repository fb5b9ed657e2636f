"""What works on which family of models: each as a tiny random model of its real transformers class, from end to end.

    python -m benchmarks.families --record [NAME …]    # measure, and write the table of docs/models.md

A family is sampled greedily against transformers' own `generate` while the batch shrinks, answered early against the
whole prefix pushed again, and put through the command line: doctor, eval, diagnose, train for a step in each layout,
resume for another, export. What is refused is recorded with the reason that the command gave.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForImageTextToText

from benchmarks.record import RESULTS, Json, Record, publish
from suffice.errors import SufficeError
from suffice.groups import Problem
from suffice.lab import base_path
from suffice.model.load import load_chat, load_model
from suffice.model.tokenizer import copy_tokenizer, load_tokenizer
from suffice.rollout import Ask, Count, Decoder, Sampler
from suffice.rollout.streams import PromptStream

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
TABLE = re.compile(r"(<!-- table: families -->\n).*?(?=<!-- /table -->)", re.DOTALL)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""The lab's, but the prompt opens the thought, for a random model would not."""

BASE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
}
EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "shared_expert_intermediate_size": 16,
    "moe_num_experts": 4,
    "moe_k": 2,
    "moe_topk": 2,
    "top_k_experts": 2,
}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "head_dim": None,
}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}
NEMOTRON = {
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "ssm_state_size": 8,
    "n_groups": 2,
    "moe_shared_expert_intermediate_size": 16,
}
WINDOW = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 8}
SIGHT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "depth": 1,
    "num_heads": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "embed_dim": 16,
    "deepstack_visual_indexes": [0],
}
SECTIONS = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}}


@dataclass(frozen=True)
class Family:
    """Models of one transformers type, with what its config needs to be tiny and to have a layer of every kind."""

    case: str
    models: str
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    sees: bool = False


FAMILIES = (
    Family("Qwen3", "Qwen3, its 2507 variants", "qwen3"),
    Family("Qwen3 MoE", "Qwen3-30B-A3B", "qwen3_moe", {"mlp_only_layers": [], "decoder_sparse_step": 1}),
    Family("Qwen2", "QwQ, DeepSeek-R1-Distill-Qwen, MiMo, Hunyuan's kin", "qwen2"),
    Family("Qwen2 MoE", "Qwen1.5-MoE", "qwen2_moe", {"mlp_only_layers": [], "decoder_sparse_step": 1}),
    Family("Llama", "DeepSeek-R1-Distill-Llama, Nemotron-Nano 8B, EXAONE Deep's kin", "llama"),
    Family("Mistral", "Magistral, Ministral", "mistral", {"sliding_window": None}),
    Family("Mistral, sliding window", "Mistral 7B v0.1", "mistral", {"sliding_window": 8}),
    Family("Ministral 3", "Ministral 3 Reasoning", "ministral3"),
    Family("Mixtral", "Mixtral 8x7B", "mixtral", {"sliding_window": None}),
    Family("Phi-3", "Phi-4-reasoning, Phi-4-mini-reasoning", "phi3"),
    Family("SmolLM3", "SmolLM3-3B", "smollm3"),
    Family("OLMo 2", "OLMo 2", "olmo2"),
    Family("OLMo 3", "OLMo 3 Think", "olmo3", WINDOW),
    Family("Granite", "Granite 3.3", "granite"),
    Family("Nemotron", "Minitron", "nemotron"),
    Family("Gemma 2", "Gemma 2", "gemma2", {"sliding_window": 8}),
    Family("Gemma 3", "Gemma 3 1B", "gemma3_text", WINDOW),
    Family(
        "Gemma 4", "Gemma 4, text", "gemma4_text", WINDOW | {"hidden_size_per_layer_input": 8, "global_head_dim": 8}
    ),
    Family("GLM-4", "GLM-Z1", "glm4"),
    Family("GLM-4 MoE", "GLM-4.5, 4.6, 4.7", "glm4_moe"),
    Family("GLM-4 MoE Lite", "GLM-4.7-Flash", "glm4_moe_lite", LATENT),
    Family("EXAONE 4", "EXAONE 4.0", "exaone4", WINDOW),
    Family("gpt-oss", "gpt-oss-20b", "gpt_oss", WINDOW),
    Family("Hunyuan dense", "Hunyuan-7B-Instruct", "hunyuan_v1_dense"),
    Family("Hunyuan MoE", "Hunyuan-A13B", "hunyuan_v1_moe"),
    Family("ERNIE 4.5", "ERNIE-4.5-Thinking", "ernie4_5"),
    Family("Seed-OSS", "Seed-OSS-36B", "seed_oss"),
    Family("Cohere 2", "Command A Reasoning", "cohere2", WINDOW),
    Family("Apertus", "Apertus", "apertus"),
    Family("MiniMax M2", "MiniMax-M2", "minimax_m2"),
    Family("MiniMax", "MiniMax-M1", "minimax"),
    Family("DeepSeek V2", "DeepSeek-V2-Lite", "deepseek_v2", LATENT),
    Family("DeepSeek V3", "DeepSeek-R1, V3.1, Kimi K2", "deepseek_v3", LATENT),
    Family("Youtu", "Youtu-LLM", "youtu", LATENT),
    Family("Qwen3-Next", "Qwen3-Next-Thinking", "qwen3_next", LINEAR | {"mlp_only_layers": []}),
    Family("Qwen3.5", "Qwen3.5, text", "qwen3_5_text", LINEAR),
    Family("Qwen3.5 MoE", "Qwen3.5-A3B, text", "qwen3_5_moe_text", LINEAR),
    Family("Qwen3.5, sees", "Qwen3.5, 3.6", "qwen3_5", LINEAR, sees=True),
    Family("Qwen3-VL", "Qwen3-VL-Thinking", "qwen3_vl", SECTIONS, sees=True),
    Family("Mistral 3, sees", "Magistral Small 2509", "mistral3", {"sliding_window": None}, sees=True),
    Family("Gemma 3, sees", "Gemma 3 4B and larger", "gemma3", WINDOW, sees=True),
    Family("LFM2", "LFM2, LFM2.5-Thinking", "lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    Family(
        "LFM2 MoE",
        "LFM2-8B-A1B",
        "lfm2_moe",
        {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    ),
    Family(
        "Granite hybrid",
        "Granite 4.0",
        "granitemoehybrid",
        MAMBA | {"layer_types": ["mamba", "attention"] * 2, "shared_intermediate_size": 16},
    ),
    Family("Falcon-H1", "Falcon-H1R", "falcon_h1", MAMBA | {"mamba_d_ssm": 64}),
    Family("Bamba", "Bamba", "bamba", MAMBA | {"attn_layer_indices": [1, 3]}),
    Family(
        "Jamba",
        "Jamba Reasoning 3B",
        "jamba",
        {
            "attn_layer_offset": 1,
            "attn_layer_period": 2,
            "expert_layer_offset": 1,
            "expert_layer_period": 2,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
        },
    ),
    Family("Nemotron-H", "Nemotron Nano v2", "nemotron_h", NEMOTRON | {"hybrid_override_pattern": "M-M*"}),
    Family("Nemotron-H MoE", "Nemotron 3", "nemotron_h", NEMOTRON | {"hybrid_override_pattern": "MEM*"}),
    Family(
        "Zamba 2",
        "Zamba2",
        "zamba2",
        {
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "mamba_d_state": 8,
            "mamba_ngroups": 1,
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "num_mem_blocks": 1,
            "attention_head_dim": 16,
        },
    ),
    Family("Mamba", "Falcon Mamba's kin", "mamba"),
    Family("RecurrentGemma", "RecurrentGemma", "recurrent_gemma"),
)


def make(family: Family, folder: Path) -> Path:
    """A random checkpoint of a family with the lab's tokenizer, whose prompt opens the thought."""
    tokenizer = load_tokenizer(str(base_path()))
    model = random_model(family, len(tokenizer), tokenizer.eos_token_id)
    model.save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def random_model(family: Family, vocabulary: int, end: int) -> Any:
    """A model of a family with weights large enough that every token matters."""
    ids = {"vocab_size": vocabulary, "bos_token_id": None, "pad_token_id": 0, "eos_token_id": end}
    values, kind = BASE | EXPERTS | ids | family.config, CONFIG_MAPPING[family.kind]
    if family.sees:
        whole = kind()
        text, sight = known(type(whole.text_config), values), known(type(whole.vision_config), SIGHT)
        config = kind(text_config=text, vision_config=sight)
    else:
        more = {name: value for name, value in family.config.items() if name not in kind.__dataclass_fields__}
        config = kind(**known(kind, values), **{name: value for name, value in more.items() if value is not None})
    torch.manual_seed(0)
    model = (AutoModelForImageTextToText if family.sees else AutoModelForCausalLM).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.generation_config.eos_token_id = end
    return model.eval()


def known(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values that a config class has fields for; no `head_dim` leaves that to the class."""
    names = set(kind.__dataclass_fields__)
    return {name: value for name, value in values.items() if name in names and (name, value) != ("head_dim", None)}


def greedy(model: Any) -> str:
    """Whether rows of several lengths that leave at different times are what `generate` writes for each by itself."""
    draw = random.Random(1)
    rows = len(model.get_input_embeddings().weight)
    lengths = zip(PROMPTS, ANSWERS, strict=True)
    asks = [Ask([draw.randrange(6, rows) for _ in range(prompt)], "", answer) for prompt, answer in lengths]
    said = Decoder(-1, -1, frozenset(), 0.0, 1.0).run(PromptStream(model, asks, 0), asks, Count())
    for ask, found in zip(asks, said, strict=True):
        # no end of turn, so that rows leave by their budgets alone
        theirs = model.generate(
            torch.tensor([ask.prefix]), do_sample=False, max_new_tokens=ask.answer, eos_token_id=None, pad_token_id=0
        )
        if found.tokens != theirs[0, len(ask.prefix) :].tolist():
            return "other tokens than generate's"
    return "yes"


def rendered(page: str) -> str:
    """The page with the table of what was recorded."""
    found = json.loads((RESULTS / "families.json").read_text(encoding="utf-8"))
    uses = ("evaluate", "diagnose", "spine", "rows", "verl")
    lines = [
        "| family | for example | evaluate | diagnose | train, spine | train, rows | verl |",
        "|---|---|:---:|:---:|:---:|:---:|:---:|",
    ]
    reasons: dict[str, list[str]] = {}
    for row in sorted(found["rows"], key=lambda row: [family.case for family in FAMILIES].index(row["case"])):
        answers = {use: row.get(use, "untried") for use in uses}
        cells = [{"yes": "yes", "untried": ""}.get(answers[use], "–") for use in uses]
        lines.append(f"| {row['case']} | {row['models']} | {' | '.join(cells)} |")
        for said in answers.values():
            if said not in ("yes", "untried") and "spine layout" not in said:
                reasons.setdefault(said.partition(";")[0], []).append(row["case"])
    said = [f"- {', '.join(dict.fromkeys(cases))}: {reason}." for reason, cases in reasons.items()]
    place = f"`{found['command']}`, {found['date']}: torch {found['machine']['torch']}, transformers "
    text = "\n".join([*lines, "", *said, "", f"{place}{found['machine']['transformers']}", ""])
    return TABLE.sub(lambda match: f"{match[1]}{text}", page)


ON_VERL = ("Qwen3", "Qwen3 MoE", "Qwen2", "Llama", "Mistral", "Gemma 3", "GLM-4 MoE", "Qwen3.5", "Nemotron-H", "LFM2")
"""A verl run takes a minute: one of each kind of attention, cache and experts."""

PROMPTS, ANSWERS = (3, 9, 1, 14, 6, 9), (4, 20, 9, 14, 2, 20)


def early(folder: Path, model: Any) -> str:
    """Whether answers forced from a thought's keys and values are those of the whole prefix pushed again."""
    from suffice.objective.spine import check_model

    try:
        check_model(model)
    except ValueError:
        return "yes"  # every prefix is pushed again
    chat = load_chat(str(folder), "Time is limited, stop thinking and start answering.\n</think>\n\n")
    found = []
    for reuse in (True, False):
        sampler = Sampler(model, chat, 1.0, 1.0, 24, 6, 1.0, answer_temperature=0.0, reuse=reuse)
        problems = [Problem(str(i), "t", " ".join(["1"] * (i + 1)), "!") for i in range(4)]
        groups = sampler.groups(problems, 1, "k", lambda spine, key: range(0, spine.thought_length + 1, 5))
        found.append([[b.answer for b in spine.branches] for group in groups for spine in group.spines])
    return "yes" if found[0] == found[1] else "other answers than from whole prefixes"


def command(*arguments: str) -> str:
    """A command of suffice; "yes", or the line with which it refused."""
    from suffice import cli

    before, sys.argv = sys.argv, ["suffice", *arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as stop:
        if stop.code:
            return (said.getvalue().strip() or "?").splitlines()[-1].removeprefix("error: ")
    finally:
        sys.argv = before
    return "yes"


def tried(family: Family) -> dict[str, Any]:
    """A family's row: for each use "yes", or why not."""
    row: dict[str, Any] = {"case": family.case, "models": family.models, "type": family.kind}
    with tempfile.TemporaryDirectory() as place:
        run = Path(place)
        folder = make(family, run / "model")
        budgets = ["--max-thought-tokens", "24", "--max-answer-tokens", "6", "--samples", "2", "--device", "cpu"]
        asked = [str(folder), "--task", "arithmetic", "--problems", "4", *budgets]
        row["evaluate"] = command("eval", *asked, "--out", str(run / "eval"))
        row["diagnose"] = command("diagnose", *asked, "--out", str(run / "diagnose"))
        if row["evaluate"] == "yes":
            model = load_model(str(folder), device="cpu")
            row["evaluate"], row["diagnose"] = greedy(model), early(folder, load_model(str(folder), device="cpu"))
        for layout in ("spine", "rows"):
            row[layout] = trained(folder, run / layout, layout)
        if family.case in ON_VERL:
            row["verl"] = trained_on_verl(folder, run / "verl")
        return {key: value.replace(str(folder), "it") for key, value in row.items()}


def settings(folder: Path, layout: str) -> list[str]:
    """Two tiny steps of a method which learns from wrong answers too."""
    changes = {
        "model.path": folder,
        "model.device": "cpu",
        "method.name": "kimi-length",
        "group.spines": 4,
        "group.exits": 0,
        "rollout.max_thought_tokens": 24,
        "rollout.max_answer_tokens": 6,
        "objective.layout": layout,
        "train.problems_per_step": 4,
        "train.refill_cap": 0,
        "train.eval_every": 0,
        "train.checkpoint_every": 1,
        "train.steps": 2,
    }
    return [text for key, value in changes.items() for text in ("--set", f"{key}={value}")]


def trained_on_verl(folder: Path, run: Path) -> str:
    """Two steps of verl, on the processors: "yes", or the line with which it ended."""
    asked = [sys.executable, "-m", "verl_cpu", "lab-s-grpo", "--out", str(run), *settings(folder, "rows")]
    path = os.pathsep.join(filter(None, (str(Path("tests").resolve()), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(asked, check=False, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    if done.returncode:
        return (done.stderr.strip() or "?").splitlines()[-1].removeprefix("error: ")
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return "yes" if any(step.get("grad_norm") for step in steps) else "no gradient"


def trained(folder: Path, run: Path, layout: str) -> str:
    """One step, another after resuming, and the model exported and loaded: "yes", or why not."""
    asked = settings(folder, layout)
    found = command("train", "lab-s-grpo", "--out", str(run), *asked)
    if found == "yes" and command("doctor", "lab-s-grpo", *asked) != "yes":
        return "doctor refuses what is trained"
    if found == "yes":  # as if it had been killed after its first step
        shutil.rmtree(run / "checkpoints" / "step-000002")
        found = command("train", "--resume", str(run))
    if found != "yes":
        return found
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if not any(step.get("grad_norm") for step in steps):
        return "no gradient"
    worst = max(step.get("mismatch", 0.0) for step in steps)
    if worst > 1e-3:
        return f"sampler and trainer differ by {worst:.2g}"
    found = command("export", str(run), "--out", str(run / "out"))
    if found != "yes":
        return found
    ours, theirs = (load_model(str(at), device="cpu") for at in (run / "checkpoints" / "step-000002", run / "out"))
    same = all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    return "yes" if same else "the export is not the checkpoint"


def main(
    names: Annotated[list[str] | None, typer.Argument()] = None, as_json: Json = False, record: Record = False
) -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    chosen = [family for family in FAMILIES if not names or family.case in names]
    publish("families", rows(chosen), as_json=as_json, record=record)
    if record:
        PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def rows(chosen: list[Family]) -> Iterator[dict[str, Any]]:
    for family in chosen:
        try:
            yield tried(family)
        except SufficeError as error:
            yield {"case": family.case, "models": family.models, "type": family.kind, "evaluate": str(error)}


if __name__ == "__main__":
    typer.run(main)
