#!/usr/bin/env python3
"""teacher.py OUT.jsonl [--mote MOTE] [--model MODEL] [--bytes N] [--tokens N] [--seed N] [--prompts FILE] [--kinds LIST] [--licence TEXT]:
text that a model writes, for healing, distillation and calibration.

Each line is one document: {"messages": [user, assistant], …} for questions, {"text": …} for continuations of an opening,
with its kind, seed and the model's name. Questions are made here from subjects and forms (public domain: CC0), or come from --prompts, one a
line. The same arguments give the same text; a run that was broken off goes on where it stopped. What the text may be used for
is what the model's licence says of its output.
"""
import argparse
import itertools
import json
import pathlib
import random
import subprocess
import sys
import tempfile

SUBJECTS = """how rain forms; the history of bread; why leaves change colour; how a bicycle stays upright; the water cycle; how vaccines work;
the causes of the First World War; photosynthesis; how to learn a language; the planets of the solar system; how glass is made; black holes;
the invention of printing; how bees make honey; supply and demand; the French Revolution; how a refrigerator works; earthquakes; the human heart;
how computers store numbers; prime numbers; the Silk Road; how to grow tomatoes; sleep; the tides; how to write a letter of application;
electricity at home; the Roman Empire; antibiotics; how maps are made; the stock market; chess openings; how paper is recycled; volcanoes;
the Great Wall of China; learning to play the piano; how bridges carry loads; sound; the immune system; saving money; deserts; how to boil an egg;
democracy; the periodic table; migration of birds; how films are made; good manners at table; coral reefs; the steam engine; gravity;
how to prepare for an interview; time zones; the Renaissance; healthy breakfasts; the Amazon river; how a camera works; inflation; DNA;
how to make a budget; ancient Egypt; wind power; the theory of evolution; how to care for a dog; algorithms; the Moon landing; knitting;
how news is made; the Industrial Revolution; fermentation; statistics in daily life; the Olympic Games; how to resolve a quarrel; oceans;
how a library is ordered; poetry; traffic in cities; the nervous system; how to pack for a journey; bacteria; trade unions; magnets;
writing a short story; the history of mathematics; how to repair a puncture; climate; painting with watercolours; rivers; probability;
how elections work; the Vikings; cooking rice; optical illusions; how to study for an exam; insects; the telephone; soil; running a marathon;
folk tales; how ships float; the brain; learning to draw; cloud computing; cheese; castles; how to give a talk; snow; the calendar""".replace("\n", " ").split("; ")
FORMS = ["Explain {} to a ten-year-old.", "Write a short article about {}.", "What are three important facts about {}?", "Give me a list of tips on {}.",
         "What do beginners get wrong about {}?", "Write a dialogue between two friends about {}.", "Summarize {} in one paragraph.", "What should I read first about {}?",
         "Write the introduction of a lesson on {}.", "Ask me five questions on {} and give the answers.", "Tell me a story in which {} plays a part.",
         "Compare two views on {}.", "Write an email to a colleague about {}.", "Why does {} matter?"]
OPENINGS = """The village lay at the end of a long road, and; In 1847, a young engineer; The following table lists the most common; Chapter One. It was late in the
autumn when; To install the program, first; The mitochondrion is; "I don't believe you," said; Scientists at the university have found that; The recipe needs two cups
of flour,; Dear Sir or Madam,; The city council voted on Tuesday; A matrix is called symmetric if; In the beginning of the century the railway; The river rises in the; She opened
the letter slowly and; According to the report, sales in the third quarter; The species is found in; The court held that; To prove the theorem, suppose that; Once upon a time,
a fox and a; Step 1: Open the; The band released its first album in; Our results show that the method; The storm had passed, but the; An electron in a magnetic field; The museum is
open from; Patients with this condition often; He was born in a small town near; The main difference between the two languages is; In economics, the term; The old clock in the
hall; Q: What is the capital of Australia? A:; The team lost the first game, but; When heated, the metal; The novel tells the story of; Question: A train leaves the station at
9:15 and; The king had three sons, and; Users can change the settings by; The battle began at dawn, when; A good teacher""".replace("\n", " ").split("; ")
CODE = """a function that reverses a string in Python; a C function that counts the words of a text; a SQL query that finds the ten best customers; a Python class for a bank account;
a JavaScript function that sorts an array of objects by a key; a shell script that renames files; a function that checks whether a number is prime; a regular expression for dates, explained;
binary search in Python with comments; a small HTML page with a form; a Python script that reads a CSV file and prints averages; a unit test for a function that adds two numbers;
a recursive function for the Fibonacci numbers and a faster one; a Makefile for a small C program; a Java class that models a stack; JSON for a shopping list; a Python generator of prime numbers;
a function that merges two sorted lists; a Dockerfile for a small web server; a Python function that finds duplicates in a list""".replace("\n", " ").split("; ")
AT_ONCE = 64
KINDS = {"chat": 10, "continue": 6, "code": 3}


def jobs(kinds, seed, prompts):
    """Documents to be made, without end, in an order that depends on the seed alone."""
    rng = random.Random(seed)
    questions = [f.format(s) for s in SUBJECTS for f in FORMS] if not prompts else prompts
    rng.shuffle(questions)
    names = [k for k in kinds for _ in range(KINDS[k])]
    n = 0
    while True:
        kind = names[n % len(names)]
        if kind == "chat":
            yield n, kind, questions[n % len(questions)]
        elif kind == "continue":
            yield n, kind, OPENINGS[n // len(names) % len(OPENINGS)] if n % 2 else OPENINGS[(n * 7) % len(OPENINGS)]
        else:
            yield n, kind, "Write " + CODE[(n * 3) % len(CODE)] + "."
        n += 1


def answers(args, some):
    """What the model says to some jobs, side by side: document n with the seed args.seed * 1000003 + n."""
    lines = [{"text": prompt} if kind == "continue" else {"prompt": prompt} for _, kind, prompt in some]
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as f:
        f.write("".join(json.dumps(line) + "\n" for line in lines))
        f.flush()
        command = [args.mote, "generate", f.name, "-m", args.model, "-n", str(args.tokens), "--seed", str(args.seed * 1000003 + some[0][0]),
                   "--temp", str(args.temp), "--top-p", "0.95", "--repeat-penalty", "1.05"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode:
        sys.exit(f"teacher.py: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def whole(text):
    """Without the sentence that the limit broke off."""
    end = max(text.rfind(c) for c in (". ", ".\n", "!", "?", "```", "\n\n"))
    return text if text.endswith((".", "!", "?", "```", '"')) or end < len(text) // 2 else text[:end + 1].rstrip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--mote", default="mote")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--bytes", type=float, default=250e3, help="stop after so much text")
    parser.add_argument("--tokens", type=int, default=220, help="at most so many tokens a document")
    parser.add_argument("--temp", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompts", type=pathlib.Path)
    parser.add_argument("--licence", default="Apache-2.0", help="what stands in every line: the model's")
    parser.add_argument("--kinds", default="chat,continue,code")
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    prompts = args.prompts.read_text(encoding="utf-8").splitlines() if args.prompts else None
    have, size = 0, 0
    if args.out.exists():
        lines = args.out.read_text(encoding="utf-8").splitlines()
        have, size = len(lines), sum(len(line) for line in lines)
    name = pathlib.PurePath(args.model).name
    todo = itertools.islice(jobs(kinds, args.seed, prompts), have, None)
    with open(args.out, "a", encoding="utf-8") as out:
        while size < args.bytes:
            some = list(itertools.islice(todo, AT_ONCE))
            for (n, kind, _), doc in zip(some, answers(args, some)):
                if size >= args.bytes:
                    break
                if kind == "continue":
                    doc = {"text": whole(doc["text"])}
                else:
                    doc = {"messages": [doc["messages"][0], {"role": "assistant", "content": whole(doc["messages"][1]["content"])}]}
                line = json.dumps({**doc, "kind": kind, "source": name, "licence": args.licence, "seed": args.seed * 1000003 + n}, ensure_ascii=False)
                out.write(line + "\n")
                size += len(line)
            out.flush()
            if sys.stderr.isatty():
                print(f"\r{some[-1][0] + 1} documents, {size / 1e3:.0f} kB", end="", file=sys.stderr)
    print(f"{args.out}: {size / 1e3:.0f} kB", file=sys.stderr)


if __name__ == "__main__":
    main()
