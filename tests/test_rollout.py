"""Sampling: what the decode loop draws, what it says of it, where it stops, and how groups are made of it."""

from __future__ import annotations

import copy
import random
from collections import Counter as Tally

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoTokenizer, DynamicCache

from making import CLOSE, END, INDUCER, OPEN, PAD, VOCABULARY, exact, random_tokens, tiny_model
from suffice.config import DEFAULT_INDUCER
from suffice.errors import ModelError
from suffice.grading import Grader
from suffice.groups import Branch, Group, Problem, Spine, Verdict
from suffice.lab import base_path
from suffice.model.cache import Footprint, footprint, growing_cache
from suffice.model.marks import THINK
from suffice.rollout import Ask, Chat, Count, Decoder, Sampler, grade_groups, random_exits
from suffice.rollout.decode import inverse_transform
from suffice.rollout.streams import PromptStream


def sample(model, questions, temperature=1.0, top_p=1.0, count=None):
    stream = PromptStream(model, questions, PAD)
    return Decoder(OPEN, CLOSE, frozenset([END]), temperature, top_p).run(stream, questions, count or Count())


def asks(count, seed=0, thought=30, answer=6):
    rng = random.Random(seed)
    return [Ask(random_tokens(rng, rng.randint(1, 9)), f"key/{i}", answer, thought, opens=True) for i in range(count)]


def replayed(model, prefix, tokens, temperature):
    """Log-probs of `tokens` after `prefix` by one plain forward without a cache."""
    ids = torch.tensor([prefix + tokens])
    logits = model(input_ids=ids, position_ids=torch.arange(ids.shape[1])[None], use_cache=False).logits[0]
    logprobs = torch.log_softmax(logits / temperature, -1)[len(prefix) - 1 : -1]
    return logprobs.gather(-1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_behaviour_log_probs_are_those_of_a_plain_forward(kind):
    model, questions = exact(tiny_model(kind)), asks(24)
    for ask, sampled in zip(questions, sample(model, questions, temperature=0.8), strict=True):
        expected = replayed(model, ask.prefix, sampled.tokens, 0.8)
        assert sampled.logprobs == pytest.approx(expected.tolist(), abs=1e-10)


def test_greedy_tokens_are_those_of_generate():
    model, questions = exact(tiny_model()), asks(12, thought=20, answer=20)
    for ask, sampled in zip(questions, sample(model, questions, temperature=0), strict=True):
        expected = model.generate(torch.tensor([ask.prefix]), do_sample=False, max_new_tokens=21)[0, len(ask.prefix) :]
        shared = min(len(expected), len(sampled.tokens))
        assert sampled.tokens[:shared] == expected[:shared].tolist()


def test_what_a_row_samples_does_not_depend_on_its_neighbours():
    model, questions = exact(tiny_model()), asks(16)
    together = sample(model, questions)
    assert len({len(sampled.tokens) for sampled in together}) > 3  # rows leave at different times
    for i in (0, 7, 15):
        assert sample(model, [questions[i]])[0].tokens == together[i].tokens


@pytest.mark.parametrize("slots", [1, 3, 7])
@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_rows_that_take_the_places_of_finished_ones_sample_as_if_they_had_begun_at_once(kind, slots):
    """Also prompts longer than all that the others have seen, and after columns at the left were let go."""
    model, rng = exact(tiny_model(kind)), random.Random(slots)
    lengths = [*range(1, 9), 2, 90, 1, 40, 3]
    questions = [
        Ask(random_tokens(rng, n), f"key/{i}", 6, rng.choice([1, 4, 30]), opens=True) for i, n in enumerate(lengths)
    ]
    together, few = (PromptStream(model, questions, PAD, keep=True, slots=slots) for slots in (None, slots))
    decoder = Decoder(OPEN, CLOSE, frozenset([END]), 1.0, 1.0)
    for wanted, found in zip(*(decoder.run(s, questions, Count()) for s in (together, few)), strict=True):
        assert found.tokens == wanted.tokens
        assert found.logprobs == pytest.approx(wanted.logprobs, abs=1e-10)
        assert found.truncated == wanted.truncated
    assert few.width <= 4 / 3 * (90 + 38) + 1  # not the sum of all that was said
    for i, ask in enumerate(questions):
        for layer, (wanted, found) in enumerate(zip(together.kept[i], few.kept[i], strict=True)):
            assert found[0].shape[1] == wanted[0].shape[1] >= len(ask.prefix), layer
            assert torch.allclose(found[0], wanted[0], atol=1e-10)
            assert torch.allclose(found[1], wanted[1], atol=1e-10)


def test_waiting_rows_do_not_wait_for_the_longest_of_a_wave():
    """Eight rows of one long and one short in turn, two at once: 4 · 20 passes in waves, about half in places."""
    model = stubborn(tiny_model(), token=9)
    questions = [Ask([8], f"k{i}", 5, 20 if i % 2 else 2) for i in range(8)]
    passes = Tally()
    model.register_forward_hook(lambda *_: passes.update(all=1))
    Decoder(OPEN, CLOSE, frozenset([END]), 1.0, 1.0).run(
        PromptStream(model, questions, PAD, slots=2), questions, Count()
    )
    # 4·(21 + 3) tokens in two rows are at least 48 passes; every refill reads its prompts in one more; the last row
    # may run alone
    assert passes["all"] <= 48 + 7 + 21
    assert passes["all"] < 4 * 21


def test_another_key_samples_something_else():
    model = tiny_model()
    first, second = (sample(model, [Ask([9, 10], key, 6, 30, True)])[0].tokens for key in ("a", "b"))
    assert first != second


def stubborn(model, token, share=60.0):
    """The model with a head that all but always says `token`."""
    forced = copy.deepcopy(model)

    def push(module, arguments, logits):
        logits[..., token] += share
        return logits

    forced.get_output_embeddings().register_forward_hook(push)
    return forced


def test_a_thought_that_never_closes_is_cut_at_exactly_its_budget():
    sampled = sample(stubborn(tiny_model(), token=9), [Ask([8], "k", answer=5, thought=12)])[0]
    assert sampled.tokens == [9] * 12
    assert sampled.truncated
    assert len(sampled.logprobs) == 12


class Script(torch.nn.Module):
    """A stream that says given tokens, row by row, whatever is sampled."""

    waiting = 0

    def __init__(self, *rows):
        super().__init__()
        self.rows, self.at = rows, 0

    def start(self, count):
        return self.logits(), torch.arange(len(self.rows))

    def logits(self):
        found = torch.full((len(self.rows), VOCABULARY), -100.0)
        for row, tokens in enumerate(self.rows):
            found[row, tokens[min(self.at, len(tokens) - 1)]] = 0.0
        self.at += 1
        return found

    def step(self, token_B):
        return self.logits()

    def finish(self, row, result):
        pass

    def size(self, alive_B):
        return len(alive_B)  # nobody leaves


BLANK = 4


@pytest.mark.parametrize(
    ("opening", "counted"),
    [
        ([], 0),
        ([OPEN], 1),
        ([BLANK, OPEN], 2),
        ([BLANK, BLANK, OPEN], 3),
        ([BLANK], 1),  # blanks before what is no thought are not charged either
        ([BLANK, 9, OPEN], 1),  # an open mark inside a text opens nothing
        ([BLANK] * 3 + [OPEN], 2),  # the third blank and the mark are the thought's
    ],
)
def test_what_opens_a_thought_is_not_charged_to_it(opening, counted):
    decoder = Decoder(OPEN, CLOSE, frozenset([END]), 0.0, 1.0, frozenset([BLANK]))
    said = decoder.run(Script([*opening, 9]), [Ask([8], "k", 5, 12, opens=True)], Count())[0]
    assert said.tokens == ([*opening] + [9] * 20)[: 12 + counted]
    assert said.truncated


def test_an_open_mark_that_the_model_writes_is_not_charged_to_the_thought():
    model = stubborn(tiny_model(), token=9)
    assert len(sample(model, [Ask([8], "k", 5, 12, opens=True)])[0].tokens) == 12  # never opened: all is thought
    opening = stubborn(tiny_model(), token=OPEN)
    assert len(sample(opening, [Ask([8], "k", 5, 12, opens=True)])[0].tokens) == 13


def test_an_answer_is_cut_at_exactly_its_budget():
    sampled = sample(stubborn(tiny_model(), token=9), [Ask([8, CLOSE], "k", answer=5)])[0]
    assert sampled.tokens == [9] * 5
    assert sampled.truncated


def test_the_close_of_a_thought_starts_the_budget_of_the_answer():
    sampled = sample(stubborn(tiny_model(), token=CLOSE), [Ask([8], "k", answer=5, thought=12)])[0]
    assert sampled.tokens == [CLOSE] * 6  # one closes, five answer
    assert sampled.truncated


def test_an_end_of_turn_ends_a_row_within_its_budget():
    sampled = sample(stubborn(tiny_model(), token=END), [Ask([8, CLOSE], "k", answer=5)])[0]
    assert sampled.tokens == [END]
    assert not sampled.truncated


def test_tokens_pushed_through_the_model_are_counted_exactly():
    count = Count()
    results = sample(tiny_model(), questions := asks(9), count=count)
    assert count.prefill == sum(len(ask.prefix) for ask in questions)
    # a row's last token is never pushed; a cut row pushed the one it was given too many instead of its last
    assert count.decode == sum(len(s.tokens) - 1 + s.truncated for s in results)


def test_the_nucleus_holds_the_fewest_tokens_that_reach_top_p():
    probability = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    drawn = {
        int(inverse_transform(probability, torch.tensor([u], dtype=torch.float64), 0.7))
        for u in np.linspace(0, 0.999, 200)
    }
    assert drawn == {1, 3}  # 0.5 alone does not reach 0.7, 0.5 + 0.25 does
    everything = {
        int(inverse_transform(probability, torch.tensor([u], dtype=torch.float64))) for u in np.linspace(0, 0.999, 200)
    }
    assert everything == {0, 1, 2, 3}


@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0])
def test_a_large_vocabulary_is_drawn_from_as_if_it_were_sorted(spread):
    """Rows whose nucleus is far larger than what is ranked at first (spread 0.1), or smaller (12), or some of both."""
    generator = torch.Generator().manual_seed(0)
    probability = (torch.randn(64, 5000, dtype=torch.float64, generator=generator) * spread).softmax(-1)
    noise = torch.rand(64, dtype=torch.float64, generator=generator)
    ranked, index = probability.sort(-1, descending=True)
    kept = torch.zeros_like(ranked).scatter(-1, index, ranked.masked_fill(ranked.cumsum(-1) - ranked >= 0.9, 0.0))
    cumulative = kept.double().cumsum(-1)
    expected = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)[:, 0]
    assert inverse_transform(probability, noise, 0.9).tolist() == expected.tolist()


def all_drawn(probability, **kept):
    noise = torch.linspace(0, 0.999, 400, dtype=torch.float64)
    return set(inverse_transform(probability.expand(400, -1), noise, **kept).tolist())


def test_the_likeliest_tokens_are_kept_by_their_number_and_by_their_part_of_the_largest():
    probability = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert all_drawn(probability, top_k=2) == {1, 3}
    assert all_drawn(probability, top_k=4) == all_drawn(probability, top_k=9) == {0, 1, 2, 3}
    assert all_drawn(probability, min_p=0.28) == {1, 2, 3}  # 0.14 and more
    assert all_drawn(probability, top_k=2, min_p=0.6) == all_drawn(probability, min_p=1.0) == {1}
    # equals of the last that is kept are kept, whatever order a sort gives them
    assert all_drawn(torch.tensor([[0.2, 0.3, 0.2, 0.3]]), top_k=1) == {1, 3}


def test_the_nucleus_is_of_the_tokens_that_top_k_and_min_p_leave():
    probability = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    assert all_drawn(probability, top_p=0.55) == {1, 3}  # 0.5 does not reach 0.55
    assert all_drawn(probability, top_p=0.55, top_k=3) == {1}  # 0.5 of 0.9 does
    assert all_drawn(probability, top_p=0.6, min_p=0.4) == {1}  # 0.5 of 0.75 does


@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0])
@pytest.mark.parametrize(
    ("top_p", "top_k", "min_p"), [(1.0, 300, 0.0), (0.9, 20, 0.0), (0.9, 400, 1e-3), (1.0, 0, 0.5)]
)
def test_a_large_vocabulary_is_cut_as_if_it_were_sorted(spread, top_p, top_k, min_p):
    generator = torch.Generator().manual_seed(0)
    probability = (torch.randn(64, 5000, dtype=torch.float64, generator=generator) * spread).softmax(-1)
    noise = torch.rand(64, dtype=torch.float64, generator=generator)
    kept = torch.zeros_like(probability)
    for row, out in zip(probability.numpy(), kept.numpy(), strict=True):
        order = [i for i in np.argsort(-row)[: top_k or None] if row[i] >= min_p * row.max()]
        before = np.cumsum(row[order]) - row[order]
        left = np.array(order)[before < top_p * row[order].sum()]
        out[left] = row[left]
    cumulative = kept.cumsum(-1)
    expected = torch.searchsorted(cumulative, (noise * cumulative[:, -1])[:, None], right=True)[:, 0]
    assert inverse_transform(probability, noise, top_p, top_k, min_p).tolist() == expected.tolist()


def test_a_presence_penalty_is_taken_once_off_the_logits_of_what_was_said():
    decoder = Decoder(OPEN, CLOSE, frozenset([END]), 0.0, 1.0, presence_penalty=float(np.log(2)))
    logits = torch.tensor([[0.5, 0.3, 0.2]] * 3, dtype=torch.float64).log()
    said = torch.tensor([[0, 0, 1], [2, -1, -1], [-1, -1, -1]])
    token, logprob = decoder.choose(logits, torch.zeros(3, dtype=torch.float64), said)
    # row 0: 0.25, 0.15, 0.2 of 0.6; row 1: 0.5, 0.3, 0.1 of 0.9; row 2 said nothing
    assert token.tolist() == [0, 0, 0]
    assert logprob.exp().tolist() == pytest.approx([0.25 / 0.6, 0.5 / 0.9, 0.5])
    none = torch.zeros(3, 0, dtype=torch.long)
    assert decoder.choose(logits, torch.zeros(3, dtype=torch.float64), none)[1].exp().tolist() == pytest.approx(
        [0.5] * 3
    )


def test_rows_are_penalised_for_their_own_tokens_alone_whatever_leaves_the_batch():
    model, questions = exact(tiny_model()), asks(24)
    decoder = Decoder(OPEN, CLOSE, frozenset([END]), 0.8, 0.9, top_k=20, presence_penalty=1.5)
    found = decoder.run(PromptStream(model, questions, PAD), questions, Count())
    assert len({len(said.tokens) for said in found}) > 5
    for ask, said in zip(questions, found, strict=True):
        ids = torch.tensor([ask.prefix + said.tokens])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(ask.prefix) - 1 : -1].detach()
        for t, token in enumerate(said.tokens):
            logits[t, list(set(said.tokens[:t]))] -= 1.5
            assert said.logprobs[t] == pytest.approx(float((logits[t] / 0.8).log_softmax(-1)[token]), abs=1e-10)
    alone = [decoder.run(PromptStream(model, [ask], PAD), [ask], Count())[0].tokens for ask in questions]
    assert alone == [said.tokens for said in found]


def test_inverse_transform_never_draws_the_impossible():
    probability = torch.tensor([[0.0, 1.0, 0.0]])
    for u in (0.0, 0.5, 1 - 2**-53):
        assert int(inverse_transform(probability, torch.tensor([u], dtype=torch.float64))) == 1


@pytest.mark.parametrize("entries", [1, 2, 127, 128, 129, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draw_is_where_the_running_sum_passes_the_noise_and_never_the_impossible(entries, dtype):
    generator = torch.Generator().manual_seed(entries)
    probability = torch.rand(200, entries, dtype=dtype, generator=generator) ** 8
    probability = probability * (torch.rand(200, entries, generator=generator) < 0.2)
    probability[:, -1] += probability.sum(-1) == 0
    noise = torch.rand(200, dtype=torch.float64, generator=generator)
    noise[:2] = torch.tensor([0.0, 1 - 2**-53])
    drawn = inverse_transform(probability, noise)
    assert (probability.gather(-1, drawn[:, None]) > 0).all()
    upto = probability.double().cumsum(-1).numpy()
    for row, token in enumerate(drawn.tolist()):
        before, after = (upto[row, token - 1] if token else 0.0), upto[row, token]
        # sums of a thousand numbers in another order: 1000 roundings of 2**-53 of the whole
        slack, aim = 1.2e-13 * upto[row, -1], float(noise[row]) * upto[row, -1]
        assert before - slack <= aim <= after + slack


def test_under_autocast_keys_and_values_are_kept_in_the_type_in_which_attention_computes():
    model = tiny_model(dtype=torch.float32)
    ids, found = torch.tensor([[9, 10, 11, 12]]), {}
    for name, cache in (("grown", growing_cache(model)), ("plain", DynamicCache(config=model.config))):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            read = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
            found[name] = read, model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True).logits
        assert (cache.layers[0].keys.dtype == torch.bfloat16) == (name == "grown")
    assert all(torch.equal(one, other) for one, other in zip(*found.values(), strict=True))


def test_first_tokens_follow_the_models_distribution():
    model, prefix, temperature = exact(tiny_model()), [9, 10, 11], 1.3
    drawn = Tally(s.tokens[0] for s in sample(model, [Ask(prefix, f"{i}", 1, 1) for i in range(4000)], temperature))
    probability = torch.softmax(model(torch.tensor([prefix])).logits[0, -1].detach() / temperature, -1).numpy()
    # tokens of fewer than 5 expected draws are counted together
    bins = np.where(4000 * probability >= 5, np.arange(len(probability)), len(probability))
    seen, wanted = (np.bincount(bins, weights) for weights in ([drawn[i] for i in range(len(bins))], probability))
    assert stats.chisquare(seen[wanted > 0], 4000 * wanted[wanted > 0]).pvalue > 1e-3


def test_a_token_takes_its_keys_and_values_in_every_layer():
    # 2 layers × (key + value) × 2 heads × 4 wide × 4 bytes
    assert footprint(tiny_model(dtype=torch.float32)) == Footprint(row=0, token=2 * 2 * 2 * 4 * 4)
    assert footprint(tiny_model(dtype=torch.bfloat16)).token == 2 * 2 * 2 * 4 * 2


# ---------------------------------------------------------------------------------------------------- chat


@pytest.fixture(scope="module")
def chat():
    return Chat.of(AutoTokenizer.from_pretrained(base_path()), DEFAULT_INDUCER)


def with_template(chat, tail):
    tokenizer = copy.deepcopy(chat.tokenizer)
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n" + tail
    )
    return Chat.of(tokenizer, DEFAULT_INDUCER)


def read(chat, prompt, tokens):
    """(thought, answer, closed)"""
    spine = chat.read(prompt, tokens, [0.0] * len(tokens), truncated=False)
    return spine.tokens[spine.thought_start : spine.thought_end], spine.answer_tokens, spine.closed


def test_a_thought_starts_after_the_open_that_the_model_writes(chat):
    prompt = chat.render("a = 6 , b = a - 1 , a b ?")
    assert not chat.opened(prompt)
    assert read(chat, prompt, [chat.open_id, 40, 41, chat.close_id, 42]) == ([40, 41], [42], True)


def test_a_thought_starts_at_once_where_the_prompt_opened_it(chat):
    opened = with_template(chat, "<think>\n")
    prompt = opened.render("a = 6 , b = a - 1 , a b ?")
    assert opened.opened(prompt)
    assert read(opened, prompt, [40, 41, opened.close_id, 42]) == ([40, 41], [42], True)


@pytest.mark.parametrize("question", ["<think> a = 6 , b = a - 1 , a b ?", "a b ? <think>", "<think>\n"])
def test_an_open_mark_in_the_question_does_not_open_the_thought(chat, question):
    assert not chat.opened(chat.render(question))
    short = with_template(chat, "")  # nothing but the end of the turn and a word follow the question
    assert not short.opened(short.render(question))


def test_a_template_that_closes_an_empty_thought_is_refused(chat):
    with pytest.raises(ModelError, match="closes an empty thought"):
        with_template(chat, "<think>\n\n</think>\n\n").render("a ?")


def test_an_unclosed_thought_is_everything_but_the_end_of_turn(chat):
    end = next(iter(chat.end_ids))
    prompt = chat.render("a = 6 , b = a - 1 , a b ?")
    assert read(chat, prompt, [chat.open_id, 40, 41, end]) == ([40, 41], [], False)
    assert read(chat, prompt, [chat.open_id, 40, 41]) == ([40, 41], [], False)
    assert read(chat, prompt, [chat.open_id, end]) == ([], [], False)
    opened = with_template(chat, "<think>\n")
    begun = opened.render("a ?")
    assert read(opened, begun, [40, 41, end]) == ([40, 41], [], False)
    assert read(opened, begun, []) == ([], [], False)


def test_a_turn_without_marks_is_an_answer_without_a_thought(chat):
    end = next(iter(chat.end_ids))
    prompt = chat.render("a = 6 , b = a - 1 , a b ?")
    assert read(chat, prompt, [40, 41, end]) == ([], [40, 41, end], True)
    assert read(chat, prompt, [end]) == ([], [end], True)
    assert read(chat, prompt, []) == ([], [], True)


def test_a_thought_that_was_never_opened_can_still_close(chat):
    prompt = chat.render("a = 6 , b = a - 1 , a b ?")
    assert read(chat, prompt, [40, chat.close_id, 42]) == ([40], [42], True)


# ---------------------------------------------------------------------------------------------------- groups


def group_of(thoughts):
    spines = [Spine([OPEN, *t, CLOSE, 20, END], [-1.0] * (len(t) + 4), 1, 1 + len(t), True, False) for t in thoughts]
    return Group(Problem("p", "t", "?", "!"), [4, 5], INDUCER, spines, key="run/p")


def test_exits_are_distinct_positions_inside_the_thought_in_order():
    group = group_of([list(range(8, 8 + n)) for n in (20, 20, 3, 1)])
    draw = random_exits(8)
    first, second, short, single = (draw(spine, f"run/{k}") for k, spine in enumerate(group.spines))
    assert len(first) == len(set(first)) == 8
    assert first == sorted(first)
    assert 1 <= first[0] <= first[-1] <= 20
    assert first != second  # every spine draws its own
    assert short == [1, 2, 3]
    assert single == [1]


def test_exits_are_uniform_over_the_thought():
    draw, seen = random_exits(2), Tally()
    for i in range(3000):
        seen.update(draw(group_of([list(range(8, 18))]).spines[0], f"run/{i}"))
    assert sorted(seen) == list(range(1, 11))
    assert stats.chisquare([seen[i] for i in range(1, 11)]).pvalue > 1e-3


def test_an_empty_thought_has_no_exits():
    assert random_exits(8)(group_of([[]]).spines[0], "run/0") == []


def lab_sampler(chat, **changes):
    from suffice.model.load import load_model

    model = exact(load_model(str(base_path()), device="cpu"))
    budgets = {"max_thought_tokens": 256, "max_answer_tokens": 8, "cache_gb": 1.0}
    return Sampler(model, chat, temperature=1.0, top_p=1.0, **budgets | changes)


def lab_problems(count):
    from suffice.tasks import load_task

    return load_task("arithmetic", split="test", limit=count)


def test_answers_at_exits_are_not_penalised_where_they_have_a_temperature_of_their_own(chat):
    def answers(**changes):
        sampler = lab_sampler(chat, answer_temperature=0.0, **changes)
        groups = lab_sampler(chat).groups(lab_problems(4), 1, "s")
        sampler.answer_recorded(groups, lambda spine, key: [0, spine.thought_length])
        return [branch.answer for group in groups for branch in group.spines[0].branches]

    assert answers(presence_penalty=2.0) == answers()


@pytest.mark.parametrize("reuse", [True, False])
def test_branches_leave_their_own_thought_at_their_exit(chat, reuse):
    sampler = lab_sampler(chat, reuse=reuse)
    groups = sampler.groups(lab_problems(6), 2, "seed", random_exits(4))
    assert any(group.spines[0].tokens != group.spines[1].tokens for group in groups)
    for group in groups:
        assert len(group.spines) == 2
        for spine in group.spines:
            assert [b.exit for b in spine.branches] == sorted({b.exit for b in spine.branches})
            for branch in spine.branches:
                prefix = group.prompt + spine.tokens[: spine.thought_start + branch.exit] + group.inducer
                expected = replayed(sampler.model, prefix, branch.answer, 1.0)
                assert branch.logprobs == pytest.approx(expected.tolist(), abs=1e-10)


def words(kind):
    """A sampler of a random model over plain numbers: thoughts of up to 30 tokens, answers of up to 9."""

    class Numbers:
        open_id, close_id, end_ids, pad_id, inducer = OPEN, CLOSE, frozenset([END]), PAD, INDUCER
        marks, blank_ids = THINK, frozenset()
        render = staticmethod(lambda prompt: [int(word) for word in prompt.split()])
        opened = staticmethod(lambda prompt: True)
        read, _parts, after_open = Chat.read, Chat._parts, Chat.after_open

    return Sampler(exact(tiny_model(kind)), Numbers(), 1.0, 1.0, 30, 9, cache_gb=1.0)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "qwen2", "phi"])
@pytest.mark.parametrize(("spines", "exits"), [(1, 8), (3, 2)])
def test_reused_keys_and_values_give_what_pushing_every_prefix_again_gives(kind, spines, exits):
    rng = random.Random(0)
    problems = [Problem(str(i), "t", " ".join(map(str, random_tokens(rng, rng.randint(1, 9)))), "!") for i in range(7)]
    found = {}
    for reuse in (True, False):
        sampler = words(kind)
        sampler.reuse = reuse
        found[reuse] = sampler.groups(problems, spines, "seed", random_exits(exits)), sampler.count
    pairs = [
        (ours, theirs)
        for mine, plain in zip(found[True][0], found[False][0], strict=True)
        for spine, other in zip(mine.spines, plain.spines, strict=True)
        for ours, theirs in zip(spine.branches, other.branches, strict=True)
    ]
    assert len({len(ours.answer) for ours, _ in pairs}) > 3  # branches leave at different times
    for ours, theirs in pairs:
        assert (ours.exit, ours.answer, ours.truncated) == (theirs.exit, theirs.answer, theirs.truncated)
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-10)
    # pushed: every distinct prompt once, each branch's inducer, and every sampled token that another follows
    groups, count = found[True]
    branches = [branch for group in groups for spine in group.spines for branch in spine.branches]
    members = [(spine.tokens, spine.truncated) for group in groups for spine in group.spines]
    members += [(branch.answer, branch.truncated) for branch in branches]
    assert count.prefill == sum(len(g.prompt) for g in groups) + len(INDUCER) * len(branches)
    assert count.decode == sum(len(tokens) - 1 + truncated for tokens, truncated in members)
    assert found[False][1].prefill > count.prefill


@pytest.mark.parametrize("gold", [False, True])
def test_a_slow_model_is_asked_in_small_lots_for_what_it_says_at_once(gold, monkeypatch):
    problems = [Problem(str(i), "t", " ".join(["9"] * (i + 1)), "!") for i in range(9)]
    sampled, largest = [], []
    for tokens in (2**14, 24):
        sampler = words("qwen3")
        sampler.gold, sampler.chat.answer = gold, lambda text: [7, 8]
        monkeypatch.setattr("suffice.model.device.WORK", tokens * sampler.model.num_parameters())
        pushed = []
        sampler.model.register_forward_pre_hook(
            lambda module, args, kwargs, pushed=pushed: pushed.append(kwargs["input_ids"].numel()), with_kwargs=True
        )
        sampled.append(sampler.groups(problems, 2, "seed", random_exits(3)))
        largest.append(max(pushed))
    assert largest[0] > 48
    assert largest[1] <= 24
    for group, other in zip(*sampled, strict=True):
        for spine, same in zip(group.spines, other.spines, strict=True):
            assert spine.tokens == same.tokens
            for branch, alike in zip(spine.branches, same.branches, strict=True):
                assert branch.answer == alike.answer
                assert branch.logprobs == pytest.approx(alike.logprobs, abs=1e-10)
                assert branch.value == (pytest.approx(alike.value, rel=1e-10) if gold else None)


def test_small_waves_sample_what_one_wave_samples():
    problems = [Problem(str(i), "t", "9 10 11", "!") for i in range(6)]
    whole, small = words("qwen3"), words("qwen3")
    small.cache_gb = 1e-6
    assert len(list(small.waves([Ask([9], "k", 3, 30)] * 4, branching=True))) == 4
    sampled = [sampler.groups(problems, 2, "seed", random_exits(3)) for sampler in (whole, small)]
    tokens = [[(s.tokens, [b.answer for b in s.branches]) for g in groups for s in g.spines] for groups in sampled]
    assert tokens[0] == tokens[1]


def test_the_same_seed_samples_the_same_groups_and_a_repeated_problem_is_sampled_anew(chat):
    sampler, problem = lab_sampler(chat), lab_problems(2)[0]
    first, again = (sampler.groups([problem, problem], 1, "seed") for _ in range(2))
    assert [g.spines[0].tokens for g in first] == [g.spines[0].tokens for g in again]
    assert first[0].spines[0].tokens != first[1].spines[0].tokens


def test_an_answer_inside_the_thought_a_cut_answer_and_an_open_thought_are_wrong(chat):
    def spine(text, *, closed=True, truncated=False):
        tokens = [chat.open_id, *chat.tokenizer.encode(text, add_special_tokens=False)]
        found = chat.read([1], tokens, [0.0] * len(tokens), truncated=truncated)
        assert found.closed == closed
        return found

    problem = Problem("p", "t", "?", "5 0", kind="exact")
    spines = [
        spine("so 5 0 .\n</think>\n\n5 0"),
        spine("so 5 0 .\n</think>\n\n3 1"),
        spine("so 5 0 .\n</think>\n\n5 0", truncated=True),
        spine("so 5 0 .", closed=False, truncated=True),
        spine("so 5 0 .\n</think>\n\n"),
    ]
    spines[0].branches.append(Branch(2, chat.tokenizer.encode("5 0", add_special_tokens=False), [0.0] * 2, False))
    group = Group(problem, [1], chat.inducer, spines)
    with Grader() as grader:
        grade_groups([group], chat, grader)
    assert [s.verdict for s in spines] == [
        Verdict.CORRECT,
        Verdict.WRONG,
        Verdict.WRONG,
        Verdict.WRONG,
        Verdict.UNPARSED,
    ]
    assert spines[0].branches[0].verdict is Verdict.CORRECT
