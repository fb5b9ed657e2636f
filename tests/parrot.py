"""A tiny model that has learnt a few replies by heart, each another way to think: `python tests/parrot.py FOLDER`.

It writes `<think>` itself, as Qwen3 does; with the template's argument `opened` the prompt does, as R1's. Heads are 32
wide, which is what vLLM's attention on the CPU asks for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from making import make_qwen3

REPLIES = {
    "Add two and two.": "<think>\nTwo and two, so 2 + 2 = 4.\n</think>\n\nThe sum is \\boxed{4}.",
    "Stop at once.": "<think></think>\n\nThe sum is \\boxed{5}.",
    "Answer plainly.": "The sum is \\boxed{6}.",
    "Leave the thought.": "<think>\nI have had enough of this.",
    "Never stop.": "<think>\n" + "Wait, once more. " * 16,
}
ENDLESS = "Never stop."

TEMPLATE = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if opened is defined and opened %}
        {{- '<think>' }}
    {%- endif %}
{%- endif %}
"""


def make_parrot(folder: Path, steps: int = 200) -> Path:
    """Teach it; it knows every reply by heart when the loss is near 0."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_qwen3(folder, [*REPLIES, *REPLIES.values()], vocabulary=320, width=128)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE.strip()
    tokenizer.save_pretrained(folder)
    rows = []
    for prompt, reply in REPLIES.items():
        end = "" if prompt == ENDLESS else "<|im_end|>"
        for system in ([], [{"role": "system", "content": "Be brief."}]):
            turns = [*system, {"role": "user", "content": prompt}]
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            head = tokenizer.encode(text, add_special_tokens=False)
            rows.append((head, tokenizer.encode(reply + end, add_special_tokens=False)))
    longest = max(len(head) + len(tail) for head, tail in rows)
    inputs = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), -100)
    for row, (head, tail) in enumerate(rows):
        inputs[row, : len(head) + len(tail)] = torch.tensor(head + tail)
        labels[row, len(head) : len(head) + len(tail)] = torch.tensor(tail)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1.0, 2 * (1 - step / steps))
        loss = model(input_ids=inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"{folder}: loss {loss.item():.4f}", file=sys.stderr)
    model.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    make_parrot(Path(sys.argv[1]))
