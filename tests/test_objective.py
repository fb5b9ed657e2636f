"""The loss on token weights against the papers' formula, written out member by member."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from making import CLOSE, END, INDUCER, OPEN, exact, random_group, tiny_model
from suffice import get_method
from suffice.groups import Branch, Group, Problem, Spine, Verdict
from suffice.objective import Objective, clipped, importance, policy_loss, row_batches, to_batch
from suffice.objective.head import Head, head_logprobs

TEMPERATURE = 0.7
CLIP_LOW, CLIP_HIGH = 0.2, 0.28


def papers_loss(model, groups, advantage_P_G, exits, aggregate, train_on, constant_length, old_noise):
    """S-GRPO's Eq. 2 as written: members, then tokens, min(ρA, clip(ρ)A), one plain forward a member."""
    members = []
    for p, group in enumerate(groups):
        g = 0
        for spine in group.spines:
            missing = exits - len(spine.branches)
            for branch in spine.branches:
                prefix = spine.tokens[: spine.thought_start + branch.exit]
                injected = {"all": [1] * 4, "sampled": [0] * 4, "sampled+close": [0, 0, 1, 0]}[train_on]
                response = prefix + INDUCER + branch.answer
                trained = [1] * len(prefix) + injected + [1] * len(branch.answer)
                members.append((group.prompt, response, trained, float(advantage_P_G[p, g])))
                g += 1
            g += missing
            members.append((group.prompt, spine.tokens, [1] * len(spine.tokens), float(advantage_P_G[p, g])))
            g += 1
    all_tokens = sum(sum(trained) for _, _, trained, _ in members)
    total = 0.0
    for prompt, response, trained, advantage in members:
        ids = torch.tensor([prompt + response])
        positions = torch.arange(ids.shape[1])[None]
        logits = model(input_ids=ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits[0]
        logprob = torch.log_softmax(logits / TEMPERATURE, -1)
        for t, token in enumerate(response):
            if not trained[t]:
                continue
            new = logprob[len(prompt) + t - 1, token]
            ratio = torch.exp(new - (new.detach() + old_noise(prompt, response[: t + 1])))
            surrogate = torch.min(ratio * advantage, ratio.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantage)
            share = {
                "sequence": 1 / (len(members) * sum(trained)),
                "constant": 1 / (len(members) * constant_length),
                "token": 1 / all_tokens,
            }[aggregate]
            total = total - surrogate * share
    return total


def off_policy(prompt, response):
    """A log-ratio in ±0.6 that depends on a token's context alone, so that shared tokens share it."""
    return random.Random(str((prompt, response))).uniform(-0.6, 0.6)


@pytest.mark.parametrize("train_on", ["all", "sampled", "sampled+close"])
@pytest.mark.parametrize("aggregate", ["sequence", "constant", "token"])
@pytest.mark.parametrize(("method", "spines", "exits"), [("s-grpo", 1, 8), ("s-grpo", 2, 3), ("grpo-lambda", 4, 0)])
def test_loss_and_gradient_are_the_papers_formula(method, spines, exits, aggregate, train_on):
    rng = random.Random(f"{method}{aggregate}{train_on}{spines}")
    model = exact(tiny_model())
    groups = [random_group(rng, spines, exits) for _ in range(4)]
    scores = get_method(method).score(to_batch(groups, spines, exits))
    assert scores.advantage.abs().max() > 0.1
    arguments = {"aggregate": aggregate, "train_on": train_on, "constant_length": 20}

    expected = papers_loss(model, groups, scores.advantage, exits, old_noise=off_policy, **arguments)
    expected.backward()
    expected_grads = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()

    found = 0.0
    objective = Objective(aggregate, train_on, CLOSE, exits, constant_length=20)
    for batch in row_batches(groups, scores.advantage, objective, 64):
        new_T, _ = batch.logprobs(model, TEMPERATURE)
        noise_T = torch.tensor([noise for row in batch.rows for noise in row_noise(row)], dtype=torch.float64)
        loss = policy_loss(
            new_T, new_T.detach() + noise_T, batch.plus, batch.minus, clip_low=CLIP_LOW, clip_high=CLIP_HIGH
        )
        loss.backward()
        found += float(loss.detach())
    assert found == pytest.approx(float(expected.detach()), abs=1e-10)
    for parameter, grad in zip(model.parameters(), expected_grads, strict=True):
        assert (parameter.grad - grad).norm() <= 1e-10 * max(1.0, float(grad.norm()))


def row_noise(row):
    start = len(row.tokens) - len(row.weight)
    prompt, response = row.tokens[:start].tolist(), row.tokens[start:].tolist()
    return [off_policy(prompt, response[: t + 1]) for t in row.weight.nonzero()[:, 0].tolist()]


def one_group(verdicts, exits=(1, 3), thought=4, answer=2):
    """A hand-made serial group: thought 8 9 10 11, exits after 1 and 3 tokens."""
    tokens = [OPEN, *range(8, 8 + thought), CLOSE, *range(20, 20 + answer), END]
    spine = Spine(tokens, [-1.0] * len(tokens), 1, 1 + thought, True, False, verdicts[-1])
    for position, verdict in zip(exits, verdicts, strict=False):
        spine.branches.append(Branch(position, [30, END], [-1.0, -1.0], False, verdict))
    return Group(Problem("p", "t", "?", "!"), [4, 4], INDUCER, [spine])


RIGHT, WRONG = Verdict.CORRECT, Verdict.WRONG


def test_members_stand_in_order_of_exit_with_the_full_thought_last():
    batch = to_batch([one_group([WRONG, RIGHT, RIGHT])], 1, 2, frozenset([END]))
    assert batch.correct.tolist() == [[False, True, True]]
    assert batch.length.tolist() == [[1 + 1, 3 + 1, 4 + 2]]  # no marks, no inducer, no end of turn
    assert batch.thought_length.tolist() == [[1, 3, 4]]


def test_missing_exits_are_invalid_columns_before_the_full_member():
    batch = to_batch([one_group([RIGHT, WRONG], exits=(1,))], 1, 3)
    assert batch.valid.tolist() == [[True, False, False, True]]
    assert batch.correct.tolist() == [[True, False, False, False]]


def rows_of(group, advantage, exits=2, aggregate="token", train_on="all", constant_length=1):
    """All rows of one group, the shortest first."""
    objective = Objective(aggregate, train_on, CLOSE, exits, constant_length)
    return [row for batch in row_batches([group], advantage, objective, 999) for row in batch.rows]


def test_the_inducer_is_trained_as_the_recipe_says():
    group, advantage = one_group([RIGHT, WRONG, WRONG]), torch.tensor([[1.0, 0.0, 0.0]])
    trained = {
        rule: (rows_of(group, advantage, train_on=rule)[0].weight != 0).tolist()
        for rule in ("all", "sampled", "sampled+close")
    }
    kept, answer = [True, True], [True, True]  # the open token and one thought token; 30 and the end of turn
    assert trained["all"] == kept + [True] * 4 + answer
    assert trained["sampled"] == kept + [False] * 4 + answer
    assert trained["sampled+close"] == [*kept, False, False, True, False, *answer]


def test_sequence_constant_and_token_weights_by_hand():
    group, advantage = one_group([RIGHT, WRONG, WRONG]), torch.tensor([[3.0, 0.0, -1.5]])
    weights = {
        rule: [float(row.weight[0]) for row in rows_of(group, advantage, aggregate=rule, constant_length=10)]
        for rule in ("sequence", "constant", "token")
    }
    # three members; the first exit's response has 2 + 4 + 2 tokens, the second's 4 + 4 + 2, the full one 9
    assert weights["sequence"] == pytest.approx([3.0 / (3 * 8), -1.5 / (3 * 9)])
    assert weights["constant"] == pytest.approx([3.0 / (3 * 10), -1.5 / (3 * 10)])
    assert weights["token"] == pytest.approx([3.0 / (8 + 10 + 9), -1.5 / (8 + 10 + 9)])


def test_token_weights_count_only_what_is_trained():
    group, advantage = one_group([RIGHT, WRONG, WRONG]), torch.tensor([[3.0, 0.0, -1.5]])
    rows = rows_of(group, advantage, aggregate="sequence", train_on="sampled")
    assert float(rows[0].weight[0]) == pytest.approx(3.0 / (3 * 4))


def test_s_grpos_shared_prefix_has_zero_net_weight_under_constant():
    """Papers §2.2 read on-policy: what every member shares cancels, what only late members have is pushed down."""
    group = one_group([RIGHT, RIGHT, RIGHT])
    advantage = get_method("s-grpo").score(to_batch([group], 1, 2)).advantage
    net = torch.zeros(9, dtype=torch.float64)
    for row in rows_of(group, advantage, aggregate="constant"):
        kept = {8: 2, 10: 4, 9: 9}[len(row.weight)]  # spine tokens each member keeps, the open one included
        net[:kept] += row.weight[:kept]
    # rewards 1, 1/2, 1/4 around their mean 7/12, a third each: 5/12, -1/12, -4/12
    assert net.tolist() == pytest.approx([0, 0, *[-5 / 36] * 2, *[-4 / 36] * 5], abs=1e-6)


def test_rows_without_advantage_are_not_computed():
    assert rows_of(one_group([RIGHT] * 3), torch.zeros(1, 3)) == []


def test_policy_loss_by_hand_on_both_sides_of_the_clip():
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1])
    plus, minus = torch.tensor([2.0, 0.0, 2.0, 0.0, 1.0]), torch.tensor([0.0, -3.0, 0.0, -3.0, -1.0])
    loss = policy_loss(ratio.log(), torch.zeros(5), plus, minus, clip_low=0.2, clip_high=0.3)
    # 2·min(1.5, 1.3), −3·max(1.5, .8), 2·min(.5, 1.3), −3·max(.5, .8), and 1.1 − 1.1 for a shared token
    assert float(loss) == pytest.approx(-(2 * 1.3 - 3 * 1.5 + 2 * 0.5 - 3 * 0.8 + 0.0), rel=1e-6)
    assert clipped(ratio.log(), torch.zeros(5), plus, minus, 0.2, 0.3).tolist() == [True, False, False, True, False]


def test_on_policy_gradient_is_the_weighted_score():
    new = torch.tensor([-1.0, -2.0], requires_grad=True)
    policy_loss(
        new, new.detach(), torch.tensor([0.5, 0.0]), torch.tensor([0.0, -0.25]), clip_low=0.2, clip_high=0.2
    ).backward()
    assert new.grad.tolist() == pytest.approx([-0.5, 0.25], rel=1e-6)


def test_importance_is_truncated_and_spares_injected_tokens():
    weights = importance(
        torch.tensor([-1.0, -1.0, -1.0]), torch.tensor([-1.1, -9.0, 0.0]), torch.tensor([True, True, False])
    )
    assert weights.tolist() == pytest.approx([1.1052, 2.0, 1.0], abs=1e-4)


def test_a_chunked_head_gives_the_same_log_probs_and_gradients(monkeypatch):
    torch.manual_seed(0)
    config = None
    head, target = torch.nn.Linear(8, 50, bias=False, dtype=torch.float64), torch.randint(50, (33,))
    results = []
    for limit in (10**9, 100):
        monkeypatch.setattr("suffice.objective.head.LOGITS_PER_CHUNK", limit)
        hidden = torch.linspace(-1, 1, 33 * 8, dtype=torch.float64).reshape(33, 8).requires_grad_()
        logprobs, entropy = head_logprobs(Head(head, config), hidden, target, 0.9)
        (logprobs * torch.arange(33)).sum().backward()
        results.append((logprobs, entropy, hidden.grad))
    for whole, chunks in zip(*results, strict=True):
        torch.testing.assert_close(whole, chunks, atol=1e-10, rtol=0)


@pytest.mark.parametrize("limit", [10**9, 100])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "config", [SimpleNamespace(), SimpleNamespace(logit_scale=0.25), SimpleNamespace(final_logit_softcapping=2)]
)
def test_a_frozen_head_passes_on_the_gradient_of_a_trained_one(monkeypatch, limit, bias, config):
    monkeypatch.setattr("suffice.objective.head.LOGITS_PER_CHUNK", limit)
    torch.manual_seed(0)
    head, target = torch.nn.Linear(8, 50, bias=bias, dtype=torch.float64), torch.randint(50, (33,))
    results = []
    for trained in (True, False):
        head.requires_grad_(trained)
        hidden = torch.linspace(-1, 1, 33 * 8, dtype=torch.float64).reshape(33, 8).requires_grad_()
        logprobs, entropy = head_logprobs(Head(head, config), hidden, target, 0.9)
        assert not entropy.requires_grad
        (logprobs * torch.arange(-16, 17)).sum().backward()
        results.append((logprobs, entropy, hidden.grad))
    for trained, frozen in zip(*results, strict=True):
        # sums of at most 50 products of numbers below 16, in float64
        torch.testing.assert_close(trained, frozen, atol=1e-12, rtol=0)


def test_a_frozen_head_works_without_gradients():
    head = torch.nn.Linear(4, 6).requires_grad_(False)
    with torch.no_grad():
        logprobs, _ = head_logprobs(Head(head, None), torch.ones(2, 4), torch.tensor([0, 5]), 1.0)
    torch.testing.assert_close(logprobs, head(torch.ones(2, 4)).log_softmax(-1)[[0, 1], [0, 5]])


def test_log_probs_do_not_depend_on_padding():
    rng, model = random.Random(3), exact(tiny_model())
    groups = [random_group(rng, 3, 0, longest=20) for _ in range(2)]
    objective = Objective("token", "all", CLOSE, 0)
    together = row_batches(groups, torch.ones(2, 3), objective, 999)
    apart = row_batches(groups, torch.ones(2, 3), objective, 1)
    assert (len(together), len(apart)) == (1, 6)
    torch.testing.assert_close(
        together[0].logprobs(model, 1.0)[0],
        torch.cat([batch.logprobs(model, 1.0)[0] for batch in apart]),
        atol=1e-10,
        rtol=0,
    )
