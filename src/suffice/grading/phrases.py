"""How an answer is announced, in the languages in which models are asked: "the answer is", "Antwort:", "答案是"."""

from __future__ import annotations

import re
from collections.abc import Iterator

_LINKS = {  # the word for an answer, by its stem, and what may stand between it and the answer besides a colon
    "ans": (r"answers?|ans", "is|are|was|be|equals?"),
    "antwort": (r"antwort(?:en)?", "ist|sind|lautet|wäre"),
    "antwoord": (r"antwoord", "is|luidt"),
    "svar": (r"svar(?:et)?", "är|er"),
    "vastaus": (r"vastaus", "on"),
    "réponse": (r"réponses?", "est|sont|serait"),
    "reponse": (r"reponses?", "est|sont|serait"),
    "respuesta": (r"respuestas?", "es|son|sería"),
    "resposta": (r"respostas?", "é|são|seria"),
    "rispost": (r"rispost[ae]", "è|sono|sarebbe"),
    "răspuns": (r"răspuns(?:ul)?", "este|e"),
    "odpowied": (r"odpowied[zź]", "to|jest|brzmi"),
    "odpov": (r"odpověď|odpoveď", "je|zní|znie"),
    "válasz": (r"válasz", "az?"),
    "ответ": (r"ответ", "это|—|–|-"),
    "відповідь": (r"відповідь", "це|—|–"),
    "απάντηση": (r"απάντηση", "είναι"),
    "ceva": (r"cevap|cevabı", "şudur"),
    "yanıt": (r"yanıt", "şudur"),
    "jawaban": (r"jawaban(?:nya)?", "adalah|ialah"),
    "đáp án": (r"đáp án", "là"),
    "תשובה": (r"ה?תשובה", "היא|הוא"),
    "إجابة": (r"(?:ال)?إجابة(?: الصحيحة)?", "هي|هو"),
    "جواب": (r"(?:ال)?جواب", "هو"),
    "پاسخ": (r"پاسخ", "است"),
    "उत्तर": (r"उत्तर", "है"),
    "উত্তর": (r"উত্তর", "হল|হলো"),
}
_CJK = ("答", "正解", "正确选项", "正確選項", "정답", "답", "คำตอบ")
_CJK_LINKS = "应该是|应是|应为|[是为為はが은는]|คือ"

COLON = r"[:：=]"
_NOT = r"\b(?:not|never|cannot|nicht|nie)\b|n['’]t\b"


def _compiled(words: str, links: str) -> re.Pattern[str]:
    link = rf"(?:{COLON}|(?<![^\W_])(?:{links})(?![^\W_]))"
    gap = rf"(?:(?!{_NOT})[^.:：=\n。]){{0,60}}?"
    return re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_]){gap}{link}[\s:：*_]*", re.IGNORECASE)


_ANNOUNCED = {stem: _compiled(*each) for stem, each in _LINKS.items()}
_ANNOUNCED["answer"] = re.compile(r"(?<![^\W_])answer[\s*_]*(?:[–—→]|-(?=\s)|->|=>)[\s*_]*|<answer>\s*", re.IGNORECASE)
_ANNOUNCED |= {
    word: re.compile(
        rf"{word}(?:案|え)?[^.:：=\n。，不非]{{0,20}}?(?:{COLON}|{_CJK_LINKS})[\s:：*_]*|{word}(?:案|え)[\s】」]*"
    )
    for word in _CJK
}
FINAL = re.compile(
    r"\bfinal\s+answer|最终答案|最終答案|endgültige antwort|réponse finale|respuesta final", re.IGNORECASE
)

_VERBS = "|".join(dict.fromkeys(links for _, links in _LINKS.values()))
VERB = rf"(?<![^\W_])(?:{_VERBS}|has|have|gives?|totals?)(?![^\W_])|{COLON}|[是为為은는]"
"""What stands before a value within a sentence."""

AND = r"(?:and|or|und|oder|et|ou|и|или)(?![^\W_])|[和或与及跟、]|&|\\(?:land|lor|wedge|vee)(?![A-Za-z])"
"""What joins two answers, besides a comma."""


def announcements(text: str) -> Iterator[int]:
    """Where answers begin that are announced, in no order."""
    lowered = text.casefold()
    for stem, pattern in _ANNOUNCED.items():
        if stem in lowered:  # a search for a stem takes no time; one for all patterns would
            yield from (found.end() for found in pattern.finditer(text))
