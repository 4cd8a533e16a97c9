#!/usr/bin/env python3
"""Scores of pairs of texts as the packages rouge_score and sacrebleu give them: tests/data/scores.json.

usage: tools/golden_scores.py > tests/data/scores.json      (needs rouge_score and sacrebleu; for development alone)
"""
import json

from rouge_score import rouge_scorer
from sacrebleu.metrics import CHRF

PAIRS = [
    ("The river rose by two metres overnight.", "Overnight the river rose two metres."), ("The river rose.", "The river rose by two metres overnight, and nobody slept."),
    ("a b c d e f g", "g f e d c b a"), ("a a a a", "a"), ("a", "a a a a"), ("one two one two one", "two one two one two"), ("x", "y"), ("x", "x"),
    ("", ""), ("something", ""), ("", "something"), ("...", "..."), ("!?", "ok"), ("Hello, World!", "hello world"), ("HELLO", "hello"),
    ("state-of-the-art", "state of the art"), ("It's 3.14, isn't it?", "it is 3.14 isn't it"), ("snake_case name", "snake case name"),
    ("price: $12.50", "price 12 50"), ("2+2=4", "4 = 2 + 2"), ("tab\tand\nnewline", "tab and newline"), ("  padded   text  ", "padded text"),
    ("Der Hund läuft schnell", "Der Hund lief schnell"), ("naïve café", "naive cafe"), ("Straße", "Strasse"), ("ÄÖÜ", "äöü"),
    ("снег идёт", "идёт снег"), ("今日は雪が降る", "今日は雨が降る"), ("snow ❄ falls", "snow falls ❄️"), ("e\u0301te\u0301", "été"), ("non\u00a0breaking space", "non breaking space"),
    ("The baker sang a song to the moon while the fox drew seven stones and a bear her own shadow.",
     "While a bear drew her own shadow, the fox drew seven stones; the baker sang to the moon."),
    ("Answer: 42", "The answer is 42."), ("The answer is 42. The answer is 42. The answer is 42.", "The answer is 42."),
    ("word " * 60, "word " * 50), ("alpha beta gamma delta epsilon zeta eta theta", "alpha gamma epsilon eta beta delta zeta theta"),
    ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxy"), ("abc", "abcdefgh"), ("running runner runs", "run ran running"),
    ("line one\nline two\nline three", "line three\nline two\nline one"), ("\u201cquoted\u201d \u2013 dashes", "\"quoted\" - dashes"),
]


def main():
    rouge, chrf = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"]), CHRF()
    rows = []
    for got, want in PAIRS:
        r = rouge.score(want, got)
        rows.append({"got": got, "want": want, "chrf": chrf.sentence_score(got, [want]).score / 100, **{k: v.fmeasure for k, v in r.items()}})
    print("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]")


if __name__ == "__main__":
    main()
