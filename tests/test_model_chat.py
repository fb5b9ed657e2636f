"""Chat templates as people have them: marks, ends of turns, options, system turns; and how a turn is read."""

from __future__ import annotations

import random

import pytest
import torch

from suffice.config import DEFAULT_INDUCER
from suffice.errors import ModelError
from suffice.evaluation.local import LocalSource
from suffice.evaluation.source import Sampling, Trace
from suffice.groups import Problem
from suffice.model.chat import NONE, Chat
from suffice.model.load import load_chat, load_model
from suffice.model.marks import FAMILIES, read_turn
from suffice.rollout import Sampler
from suffice.rollout.decode import Sampled
from tokens import CHATML, SPECIAL, checkpoint, real_template, tokenizer

R1 = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")
GLM = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
HARMONY = ("<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>")
GEMMA = ("<pad>", "<bos>", "<eos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>")
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]"
    "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
MAGISTRAL = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]")
EXAONE = (
    "{% for m in messages %}[|{{ m.role }}|]\n{{ m.content }}[|endofturn|]\n{% endfor %}{% if add_generation_prompt %}"
    "[|assistant|]\n{% if enable_thinking is defined and enable_thinking is true %}<think>\n"
    "{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}<｜User｜>{{ m.content }}"
    "{% elif m.role == 'system' %}{{ m.content }}{% else %}<｜Assistant｜></think>{{ m.content }}"
    "<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<｜Assistant｜>{% if not thinking %}</think>{% else %}<think>{% endif %}{% endif %}"
)


def chat_of(template, *, special=SPECIAL, added=("<think>", "</think>"), eos="<|im_end|>", **more) -> Chat:
    return Chat.of(tokenizer(template, special=special, added=added, eos=eos), DEFAULT_INDUCER, **more)


def written(chat: Chat, text: str) -> tuple[str, str, bool]:
    """(thought, answer, closed) of a turn that ends by itself."""
    prompt = chat.render("1 + 1 = ?")
    tokens = [*chat.tokenizer.encode(text, add_special_tokens=False), min(chat.end_ids)]
    spine = chat.read(prompt, tokens, [0.0] * len(tokens), truncated=False)
    thought = chat.thought_text(spine.tokens[spine.thought_start : spine.thought_end])
    return thought, chat.answer_text(spine.answer_tokens), spine.closed


# ------------------------------------------------------------------------------------------- how turns are read


@pytest.mark.parametrize(
    ("name", "special", "eos", "turn"),
    [
        ("qwen3", SPECIAL, "<|im_end|>", "<think>\nso 2\n</think>\n\n2"),
        ("qwen3_instruct_2507", SPECIAL, "<|im_end|>", "<think>\nso 2\n</think>\n\n2"),
        ("qwen3_5_think", SPECIAL, "<|im_end|>", "so 2\n</think>\n\n2"),
        ("qwen3_6", SPECIAL, "<|im_end|>", "so 2\n</think>\n\n2"),
        ("nemotron_3_nano", SPECIAL, "<|im_end|>", "so 2\n</think>2"),
        ("deepseek_r1_distill", R1, "<｜end▁of▁sentence｜>", "so 2\n</think>\n\n2"),
        ("deepseekv3", R1, "<｜end▁of▁sentence｜>", "so 2\n</think>\n\n2"),
        ("glm4moe", GLM, "<|endoftext|>", "\n<think>so 2</think>\n2"),
    ],
)
def test_thought_and_answer_of_a_real_templates_turn(name, special, eos, turn):
    thought, answer, closed = written(chat_of(real_template(name), special=special, eos=eos), turn)
    assert (thought.strip(), answer, closed) == ("so 2", "2", True)


def test_a_line_break_before_the_mark_is_no_part_of_the_thought():
    chat = chat_of(real_template("glm4moe"), special=GLM, eos="<|endoftext|>")
    tokens = chat.tokenizer.encode("\n<think>a b</think>7", add_special_tokens=False)
    spine = chat.read(chat.render("?"), tokens, [0.0] * len(tokens), truncated=False)
    assert spine.thought_length == len(chat.tokenizer.encode("a b", add_special_tokens=False))


@pytest.mark.parametrize("name", ["qwen3", "qwen3_instruct_2507", "qwen2_5"])
def test_a_turn_that_ends_without_marks_is_an_answer(name):
    assert written(chat_of(real_template(name)), "The answer is 2.") == ("", "The answer is 2.", True)


def test_a_turn_without_marks_is_an_unclosed_thought_where_the_prompt_opened_it():
    assert written(chat_of(real_template("qwen3_5_think")), "so 2") == ("so 2", "", False)


def test_several_closes_leave_what_follows_the_last():
    chat = chat_of(CHATML)
    assert written(chat, "<think>a</think> b </think> 7") == ("a", "7", True)


@pytest.mark.parametrize(
    ("template", "special", "eos", "turn"),
    [
        (MISTRAL, MAGISTRAL, "</s>", "[THINK]so 2[/THINK]2"),
        (CHATML.replace("assistant\n", "assistant\n<seed:think>"), SPECIAL, "<|im_end|>", "so 2</seed:think>2"),
    ],
)
def test_marks_of_other_families_are_one_token_each_too(template, special, eos, turn):
    chat = chat_of(template, special=special, added=("<seed:think>", "</seed:think>"), eos=eos)
    assert written(chat, turn) == ("so 2", "2", True)
    assert chat.inducer.count(chat.close_id) == 1
    assert chat.marks.close in chat.written(chat.inducer)


# ------------------------------------------------------------------------------------------- marks that are text


def harmony(**more) -> Chat:
    return chat_of(real_template("gptoss"), special=HARMONY, added=(), eos="<|return|>", use="evaluate", **more)


def test_marks_of_several_tokens_can_be_evaluated_and_not_trained():
    chat = harmony()
    said = "<|channel|>analysis<|message|>so 2<|end|><|start|>assistant<|channel|>final<|message|>It is 2."
    assert written(chat, said) == ("so 2", "It is 2.", True)
    assert written(chat, "<|channel|>analysis<|message|>so 2") == ("so 2", "", False)
    assert written(chat, "It is 2.") == ("", "It is 2.", True)
    assert chat.written(chat.inducer).endswith("<|channel|>final<|message|>\n\n")
    with pytest.raises(ModelError, match=r"as one token .* evaluated but not trained") as error:
        chat_of(real_template("gptoss"), special=HARMONY, added=(), eos="<|return|>")
    assert "\n" not in str(error.value)


def test_gemmas_thought_begins_after_the_name_of_its_channel():
    chat = chat_of(real_template("gemma4"), special=GEMMA, added=(), eos="<eos>", use="evaluate")
    assert written(chat, "<|channel>thought\nso 2<channel|>2") == ("so 2", "2", True)
    assert min(chat.tokenizer.encode("<turn|>", add_special_tokens=False)) in chat.end_ids


def test_plain_text_marks_are_read_whatever_tokens_they_fall_into():
    chat = chat_of(CHATML + "{# <think> </think> #}", added=(), use="evaluate")
    assert chat.close_id == NONE
    assert written(chat, "<think>\nso 2\n</think>\n\n2") == ("\nso 2\n", "2", True)
    assert written(chat, "<think>so</think>2") == ("so", "2", True)
    assert written(chat, "<think></think>2") == ("", "2", True)


def test_text_is_read_as_the_rule_for_served_text_reads_it():
    """Random turns of words, blanks and marks: thought, answer and close are those of `read_turn`."""
    chat, draw = chat_of(CHATML + "{# <think> </think> #}", added=(), use="evaluate"), random.Random(0)
    single = chat_of(CHATML)
    for _ in range(200):
        text = "".join(
            draw.choice(["so ", "2", "\n", "<think>", "</think>", " I am"]) for _ in range(draw.randint(1, 6))
        )
        if text.lstrip().startswith("</think>") or text.count("<think>") > 1:
            continue  # a token that holds both sides of an edge belongs to neither
        expected = read_turn(text, begun=False)
        for each in (chat, single):
            thought, answer, closed = written(each, text)
            assert (thought.strip(), closed) == (expected.thought.strip(), expected.closed), text
            assert answer == (expected[1].rpartition("</think>")[2].strip() if closed else ""), text


def test_both_budgets_hold_where_the_close_is_text():
    chat = chat_of(CHATML + "{# <think> </think> #}", added=(), use="evaluate")
    sampler = Sampler(None, chat, 1.0, 1.0, max_thought_tokens=4, max_answer_tokens=3, cache_gb=1.0)
    prompt = chat.render("?")

    def read(text, truncated=False):
        tokens = chat.tokenizer.encode(text, add_special_tokens=False)
        spine = sampler.read(prompt, Sampled(tokens, [0.0] * len(tokens), truncated))
        return spine.thought_length, len(spine.answer_tokens), spine.closed, spine.truncated

    # each of these signs is a token
    assert read("<think>#$%&</think>#$%<|im_end|>") == (4, 4, True, False)  # an end of turn is not charged
    assert read("<think>#$%&#</think>$<|im_end|>") == (4, 0, False, True)
    assert read("<think>#</think>#$%&<|im_end|>") == (1, 3, True, True)
    assert read("#$%&#$%<|im_end|>") == (0, 8, True, False)  # the budgets' sum, as through a server
    assert read("#$%&#$%&<|im_end|>") == (0, 7, True, True)


@pytest.mark.parametrize("name", ["gptoss", "qwen3", "qwen3_5_think"])
def test_a_forced_answer_continues_the_prompt_the_opening_mark_the_thought_and_the_inducer(name, tmp_path):
    if name == "gptoss":
        built = tokenizer(real_template(name), special=HARMONY, eos="<|return|>", added=())
    else:
        built = tokenizer(real_template(name), special=SPECIAL, eos="<|im_end|>", added=("<think>", "</think>"))
    folder = checkpoint(tmp_path, built)
    chat, model = load_chat(str(folder), DEFAULT_INDUCER, use="evaluate"), load_model(str(folder), device="cpu")
    trace = Trace("p", 0, "so it is 2", "2", 9, 1, closed=True, truncated=False)
    problem = Problem("p", "t", "1 + 1 = ?", "2")
    source = LocalSource("it", model, chat)
    (found,) = next(
        source.force([(problem, trace)], Sampling(1, 1.0, 1.0, 64, 5), lambda trace: [0, 3], lambda n, note="": None)
    )
    thought = chat.tokenizer.encode("so it is 2", add_special_tokens=False)
    opening = "" if name == "qwen3_5_think" else chat.marks.open
    head = chat.written(chat.render(problem.prompt)) + opening
    for forced in found.forced:
        prefix = chat.tokenizer.encode(head, add_special_tokens=False) + thought[: forced.position] + chat.inducer
        said = model.generate(
            torch.tensor([prefix]), do_sample=False, max_new_tokens=5, eos_token_id=sorted(chat.end_ids), pad_token_id=0
        )[0, len(prefix) :]
        assert forced.answer == chat.answer_text(said.tolist())
    assert [forced.position for forced in found.forced] == [0, 3]


def test_a_model_without_marks_is_evaluated_on_its_answers_and_not_trained():
    chat = chat_of(real_template("qwen2_5"), added=(), use="evaluate")
    assert (chat.marks, chat.inducer) == (None, [])
    assert written(chat, "It is 2.") == ("", "It is 2.", True)
    with pytest.raises(ModelError, match="no marks of a thought"):
        chat_of(real_template("qwen2_5"), added=())
    source = LocalSource("it", None, chat)
    with pytest.raises(ModelError, match="it has no marks of a thought, so no thought can be cut"):
        next(source.sample([], Sampling(1, 1.0, 1.0, 4, 4), lambda trace: [0], lambda n, note="": None))


def test_no_text_begins_with_the_marks_of_two_families():
    opens = [marks.open.lstrip() for marks in FAMILIES]
    for i, one in enumerate(opens):
        assert not any(one.startswith(other) for other in opens[:i] + opens[i + 1 :])


# ------------------------------------------------------------------------------------------- ends of turns


@pytest.mark.parametrize(
    ("template", "special", "eos", "end"),
    [
        (CHATML, SPECIAL, "<|endoftext|>", "<|im_end|>"),  # Qwen's base tokenizer with the chat template
        (CHATML, SPECIAL, "<|im_end|>", "<|im_end|>"),
        (CHATML.replace("<|im_end|>", "<|eot_id|>"), (*SPECIAL, "<|eot_id|>"), "<|endoftext|>", "<|eot_id|>"),
        # nothing ends the last turn; the next begins with the user's mark (GLM)
        (
            "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}",
            GLM,
            "<|endoftext|>",
            "<|user|>",
        ),
    ],
)
def test_what_ends_a_turn_is_read_from_the_template(template, special, eos, end):
    chat = chat_of(template, special=special, eos=eos)
    assert chat.tokenizer.convert_tokens_to_ids(end) in chat.end_ids
    assert chat.tokenizer.convert_tokens_to_ids(eos) in chat.end_ids


def test_a_template_that_shows_no_assistants_turn_leaves_what_the_files_name():
    template = "{{ messages[0].content }}{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
    assert chat_of(template).end_ids == {tokenizer().eos_token_id}


# ------------------------------------------------------------------------------------------- what a template keeps


@pytest.mark.parametrize(
    "template",
    [
        "<|im_start|>user<|im_end|>",  # nothing of it
        "{% for m in messages %}{{ m.content[0].text }}{% endfor %}",  # parts, as for pictures
        "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
        "{% for m in messages %}{{ m.content | replace('\n', ' ') }}{% endfor %}",
        "{% for m in messages %}{{ m.content | upper }}{% endfor %}",
    ],
)
def test_a_template_that_loses_the_users_words_is_refused(template):
    with pytest.raises(ModelError, match=r"leaves the user's turn out; mend its chat_template.jinja"):
        chat_of(template)


def test_a_template_that_strips_blanks_around_the_users_words_is_not():
    chat_of(CHATML.replace("m.content", "m.content | trim"))


def test_a_base_model_without_a_template_is_refused_with_what_to_do():
    with pytest.raises(ModelError, match="has no chat template, as base models have none; take its instruction-tuned"):
        chat_of(None)


def test_counting_tokens_asks_for_nothing_but_the_tokenizer():
    chat = chat_of(None, added=(), use="count")
    assert chat.tokenizer.encode("a b")
    assert chat.inducer == []
    with pytest.raises(ModelError, match="no chat template"):
        chat.render("?")


# ------------------------------------------------------------------------------------------- options, system turns


LGAI = ("[PAD]", "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]")
WORDED = CHATML.replace("assistant\n{", "assistant\n{% if mode_of_reasoning != 'high' %}<think></think>{% endif %}{")


@pytest.mark.parametrize(
    ("template", "special", "eos", "option"),
    [
        (EXAONE, LGAI, "[|endofturn|]", "enable_thinking"),
        (DEEPSEEK, R1, "<｜end▁of▁sentence｜>", "thinking"),
        (WORDED, SPECIAL, "<|im_end|>", "mode_of_reasoning"),
    ],
)
def test_a_template_that_thinks_only_when_asked_names_the_option_that_asks_it(template, special, eos, option):
    chat = chat_of(template, special=special, eos=eos)
    with pytest.raises(ModelError, match="closes an empty thought") as error:
        chat.render("1 + 1 = ?")
    assert f"model.chat_template_kwargs.{option} = " in str(error.value)
    assert "--chat-template-kwargs '{" in str(error.value)
    value = "high" if option == "mode_of_reasoning" else True
    asked = chat_of(template, special=special, eos=eos, options={option: value})
    assert "</think>" not in asked.written(asked.render("1 + 1 = ?"))


def test_qwens_template_that_thinks_only_when_asked():
    template = real_template("qwen3_5_nothink")
    with pytest.raises(ModelError, match=r"model.chat_template_kwargs.enable_thinking = true"):
        chat_of(template).render("?")
    chat = chat_of(template, options={"enable_thinking": True})
    assert chat.opened(chat.render("?"))


def test_thinking_that_was_switched_off_by_an_option_can_be_switched_on_again():
    with pytest.raises(ModelError, match="enable_thinking = true"):
        chat_of(real_template("qwen3"), options={"enable_thinking": False}).render("?")


def test_an_option_that_the_template_does_not_know_is_refused():
    with pytest.raises(ModelError, match="knows no option enable_thinkin; about thinking it has: enable_thinking"):
        chat_of(real_template("qwen3"), options={"enable_thinkin": True})


def test_a_system_turn_comes_before_the_question_and_one_that_is_left_out_is_refused():
    chat = chat_of(CHATML, system="Think hard.")
    text = chat.written(chat.render("1 + 1 = ?"))
    assert text.index("Think hard.") < text.index("1 + 1 = ?")
    with pytest.raises(ModelError, match="leaves the system turn out"):
        chat_of("{{ messages[-1].content }}<|im_end|>", system="Think hard.")
    alone = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}"
    )
    with pytest.raises(ModelError, match=r"cannot be rendered .*no system"):
        chat_of(alone, system="Think hard.")
