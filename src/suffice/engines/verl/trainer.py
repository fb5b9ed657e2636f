"""verl's synchronous trainer with two things added: methods see whole groups, and a run is a suffice run.

The actor's loss divides by the rows and tokens of verl's batch, padding rows and groups without signal included; ours
divides by the members that are trained on. The loss is linear in the advantage, so the advantage carries the ratio.
"""

from __future__ import annotations

import os
import threading
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch
import transfer_queue as tq
from omegaconf import open_dict
from tensordict import TensorDict
from verl.trainer.ppo.core_algos import get_adv_estimator_fn
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils import tensordict_utils as tu
from verl.utils.metric import reduce_metrics
from verl.utils.py_functional import rename_dict
from verl.utils.seqlen_balancing import calculate_workload, get_seqlen_balanced_partitions
from verl.workers.utils.padding import response_to_nested

from suffice.config import make_recipe
from suffice.engines.verl.agents import chat_at, problem_of
from suffice.engines.verl.estimators import Scored, loss_factor, observe, recall, score
from suffice.engines.verl.members import Member
from suffice.engines.verl.metrics import member_metrics, update_metrics
from suffice.engines.verl.publish import publish
from suffice.engines.verl.tokens import sampled
from suffice.engines.verl.translate import check
from suffice.engines.verl.trees import Tree, as_batch, padding, trees_of
from suffice.groups import Branch, Group, Spine, Verdict
from suffice.methods import get_method
from suffice.objective import importance
from suffice.rollout import Chat
from suffice.rollout.metrics import KEPT_GROUPS, rollout_line
from suffice.run.directory import Run
from suffice.run.layout import VERL_STOP
from suffice.run.records import ShownGroup, Step

ALIVE = 10.0  # seconds between two looks at the processes that sample


@register_trainer("suffice")
class SufficeTrainer(PPOTrainerSync):  # type: ignore[misc]
    """`trainer.v1.trainer_mode=suffice`; the recipe stands in `suffice.recipe`, the run directory in `suffice.run`."""

    total_training_steps: int

    def __init__(self, config: Any) -> None:
        recipe = make_recipe(tomllib.loads(config.suffice.recipe))
        check(config, recipe)
        self.group, self.training, self.objective = recipe.group, recipe.train, recipe.objective
        self.layout = recipe.layout_on_verl
        self.method = get_method(recipe.method.name, **recipe.method.parameters)
        self.chat = chat_at(config.suffice.recipe, config.actor_rollout_ref.model.path)
        self.run = Run(Path(config.suffice.run))
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"  # which verl asks for by name in many places
        super().__init__(config)

    def fit(self, agent_loop_manager: Any) -> None:
        watch(agent_loop_manager.agent_loop_workers + self.llm_server_manager.server_handles)
        self.since, self.synced = time.monotonic(), 0.0
        super().fit(agent_loop_manager)

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> Any:
        """A step is logged before it may be saved: a run that is killed between the two has its line nevertheless."""
        batch = super().step(metrics, timing_raw)
        began, self.since = self.since, time.monotonic()
        found = self.said | update_metrics(metrics, timing_raw, self.synced) | {"seconds": self.since - began}
        self.run.append(self.rollouts)
        self.run.append([Step.model_validate({"step": self.global_steps, **found})])
        return batch

    def _compute_old_log_prob(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Only where an update follows another: of a single one the loss has them itself."""
        return super()._compute_old_log_prob(batch, metrics) if self.training.updates_per_batch > 1 else batch

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """Score the whole step, weigh off-policy tokens, and hand verl advantages that make its loss ours."""
        once = self.training.updates_per_batch == 1
        fields = ["response_mask", "rm_scores", "rollout_log_probs", "extra_fields"]
        fields += [] if once else ["old_log_probs", "entropy"]
        fields += ["prompts", "responses"] if self.layout == "spine" else []
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        extra = data.pop("extra_fields").tolist()
        rows = [
            None if tag.get("is_padding") else Member.of_fields(found)
            for tag, found in zip(batch.tags, extra, strict=True)
        ]
        nested, nested_mask = data, data["response_mask"]
        data = data.to_padded_tensor()
        mask_B_T = data["response_mask"].bool()
        group, train = self.group, self.training
        scored = score(rows, group, self.method, drops=train.refill_cap > 0)
        advantage_B_T, _ = get_adv_estimator_fn(self.config.algorithm.adv_estimator)(
            token_level_rewards=data["rm_scores"],
            response_mask=mask_B_T,
            config=self.config.algorithm,
            scored=scored,
        )
        full = train.problems_per_step * group.members
        advantage_B_T = advantage_B_T * loss_factor(scored, mask_B_T, self.objective.aggregate, full)
        sampled_B_T = sampled(rows, mask_B_T)
        reward_B_T = torch.zeros_like(data["rm_scores"])
        last_B = nested_mask.offsets().diff() - 1
        reward_B_T[torch.arange(len(rows)), last_B] = scored.members.spread(scored.scores.reward)
        found = {
            "advantages": advantage_B_T,
            "returns": advantage_B_T,
            "token_level_rewards": reward_B_T,
        }
        behaviour_B_T = data["rollout_log_probs"]
        self.said = member_metrics(scored, group, train.problems_per_step)
        if once:
            found |= {"old_log_probs": behaviour_B_T, "rollout_is_weights": sampled_B_T}
        else:
            old_B_T, judged_B_T = data["old_log_probs"], sampled_B_T & mask_B_T
            found["rollout_is_weights"] = importance(old_B_T, behaviour_B_T, sampled_B_T)
            drift = (old_B_T - behaviour_B_T).abs()[judged_B_T]
            self.said |= {
                "mismatch": float(drift.mean()) if len(drift) else 0.0,
                "entropy": float(data["entropy"][mask_B_T].mean()),
            }
        put = {name: response_to_nested(value.float(), nested_mask) for name, value in found.items()}
        batch = tq.kv_batch_put(
            keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(put, batch_size=len(batch))
        )
        passes = train.updates_per_batch + (not once)
        pushed = passes * sum(tag["seq_len"] for tag, row in zip(batch.tags, rows, strict=True) if row)
        self.said["tokens_train"] = pushed
        if self.layout == "spine":
            room = self.config.actor_rollout_ref.actor.ppo_max_token_len_per_gpu
            self.trees = trees_of(scored, nested, sampled_B_T, self.objective, group.exits, room)
            self.said |= {"tokens_train": sum(tree.stretches.tokens for tree in self.trees), "tokens_rows": pushed}
        self.said |= observe(self.method, self.said)
        self.rollouts = self._rollouts(batch, scored)
        return batch

    def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
        """In the spine layout with one row a spine, as many of similar work for every GPU."""
        if self.layout == "rows":
            return super()._update_actor(batch, metrics)
        gpus = max(self.actor_rollout_wg._dispatch_info["actor"]) + 1
        trees = dealt(self.trees, gpus, self.tokenizer.eos_token_id)
        data, asked = as_batch(trees), self.config.actor_rollout_ref
        tu.assign_non_tensor(
            data,
            global_batch_size=len(trees),
            mini_batch_size=len(trees),
            seed=asked.actor.data_loader_seed,
            dataloader_kwargs={"shuffle": False},
            temperature=asked.rollout.temperature,
        )
        found = rename_dict(self.actor_rollout_wg.update_actor(data)["metrics"], "actor/")
        found["perf/mfu/actor"] = found.pop("actor/mfu")
        metrics.update(reduce_metrics(found))
        return batch

    def _rollouts(self, batch: Any, scored: Scored) -> list[ShownGroup]:
        """The first groups of the step as lines of rollouts.jsonl."""
        picked = [i for i, at in enumerate(scored.members.place) if at is not None and at[0] < KEPT_GROUPS]
        fields = ["prompts", "responses", "raw_prompt", "reward_model", "extra_info", "data_source"]
        data = tq.kv_batch_get(
            keys=[batch.keys[i] for i in picked], partition_id=batch.partition_id, select_fields=fields
        )
        columns = {name: list(data[name].unbind() if name in fields[:2] else data[name]) for name in fields}
        found: dict[int, list[tuple[Member, dict[str, Any]]]] = {}
        for j, i in enumerate(picked):
            member, at = scored.members.rows[i], scored.members.place[i]
            assert member
            assert at
            found.setdefault(at[0], []).append((member, {name: column[j] for name, column in columns.items()}))
        groups = [rebuild(found[p], self.chat, self.group.exits) for p in sorted(found)]
        return [rollout_line(self.global_steps, group, self.chat) for group in groups]

    def on_step_end(self) -> None:
        super().on_step_end()
        self.synced = self.timing_raw["update_weights"]
        if (self.run.path / VERL_STOP).exists() and self.global_steps < self.total_training_steps:
            if self.global_steps % self.config.trainer.save_freq:
                self._save_checkpoint()
            self.total_training_steps = self.global_steps  # the step is finished as any, and none follows

    def _save_checkpoint(self) -> None:
        super()._save_checkpoint()
        self._publish()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        if self.global_steps:
            recall(self.method, self.run.path, self.global_steps)
            self._publish()  # unless it was before the process died

    def _publish(self) -> None:
        """verl's Hugging Face folder as the run's `checkpoints/step-NNNNNN`, unless that is there already."""
        source = Path(self.config.trainer.default_local_dir) / f"global_step_{self.global_steps}/actor/huggingface"
        target = self.run.checkpoint(self.global_steps)
        if not target.exists():
            asked = self.config.actor_rollout_ref
            model, dtype = asked.model, asked.actor.fsdp_config.dtype
            scale = model.lora_alpha / model.lora_rank if model.lora_rank else 0.0
            publish(source, target, self.chat.tokenizer, dtype=dtype, scale=scale)


def rebuild(members: Sequence[tuple[Member, dict[str, Any]]], chat: Chat, exits: int) -> Group:
    """A group of `suffice.groups` from its rows, to look at: log-probs and sampling are gone."""
    _, row = members[0]
    group = Group(problem_of(row), row["prompts"].tolist(), chat.inducer, [])
    spines: dict[int, Spine] = {}
    for member, row in members:
        if member.exit is None:
            tokens = row["responses"].tolist()
            spine = chat.read(group.prompt, tokens, [], truncated=member.truncated)
            spine.verdict = Verdict(member.verdict)
            spines[member.column // (exits + 1)] = spine
    for member, row in sorted(members, key=lambda found: found[0].column):
        k = member.column // (exits + 1)
        if member.exit is not None and k in spines:
            answer = row["responses"].tolist()[member.injected[1] :]
            spines[k].branches.append(Branch(member.exit, answer, [], member.truncated, Verdict(member.verdict)))
    group.spines = [spines[k] for k in sorted(spines)]
    return group


def dealt(trees: Sequence[Tree], gpus: int, end: int) -> list[Tree]:
    """The trees in an order whose equal parts are the GPUs', made up to as many with trees of no weight."""
    trees = [*trees, *[padding(end)] * (-len(trees) % gpus if trees else gpus)]
    work = calculate_workload(torch.tensor([tree.stretches.tokens for tree in trees]))
    parts = get_seqlen_balanced_partitions(work, k_partitions=gpus, equal_size=True)
    return [trees[i] for part in parts for i in part]


def watch(actors: Sequence[Any]) -> None:
    """End this process when one that samples has died: verl would wait for its rollouts for ever."""

    def look() -> None:
        while True:
            for actor in actors:
                try:
                    ray.get(actor.__ray_ready__.remote(), timeout=ALIVE)
                except ray.exceptions.GetTimeoutError:
                    continue  # busy, not dead
                except ray.exceptions.RayError as error:
                    print(f"a process that samples has died: {type(error).__name__}", flush=True)
                    os._exit(1)
            time.sleep(ALIVE)

    threading.Thread(target=look, daemon=True).start()
