#!/usr/bin/env python3
"""calibration.py IN.jsonl OUT.txt: documents as plain text, two empty lines between them: what calibration reads.

The default calibration text (src/train/calib_text.txt) was made so:

    tools/teacher.py taught.jsonl --model smollm2-135m-instruct --bytes 330000
    mote data taught.jsonl -o kept.jsonl --max-repetition 0.12 --near 0.6 -e wikitext2-test.txt -e gsm8k-test.jsonl …
    tools/calibration.py kept.jsonl src/train/calib_text.txt
"""
import json
import sys


def text_of(doc):
    return doc["text"] if "text" in doc else "\n\n".join(m["content"] for m in doc["messages"])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as lines:
        texts = [text_of(json.loads(line)).strip() for line in lines]
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write("\n\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
