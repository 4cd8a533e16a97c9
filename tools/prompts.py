#!/usr/bin/env python3
"""prompts.py TEXTS OUT: what a teacher is asked, or goes on from, when it writes the data that a compact chat model is healed with.

TEXTS is a folder that tools/texts.py wrote. Writes
  OUT/prompts.jsonl    conversations that end in a question: passages to summarize and to rewrite (with the system prompts that SmolLM2 was taught these
                       tasks with), short e-mails, questions about many subjects
  OUT/beginnings.txt   beginnings of texts of many kinds, one a line
The same texts give the same files. `mote generate` answers them; recipes/mote-nano.yaml shows how.
"""
import json
import pathlib
import random
import re
import sys

SUBJECTS = {
    "thing": ("coral reef|glacier|volcano|honey bee|blue whale|oak tree|mushroom|lichen|monsoon|aurora|comet|asteroid belt|black hole|red dwarf star|"
          "quartz|limestone|diamond|copper|iron ore|petroleum|penicillin|vaccine|antibody|neuron|heart valve|kidney|skeleton|ribosome|chromosome|"
          "photosynthesis|osmosis|enzyme|steam engine|printing press|telescope|microscope|compass|suspension bridge|lighthouse|windmill|watermill|"
          "aqueduct|cathedral|castle|pyramid|bicycle|railway|submarine|airship|helicopter|jet engine|satellite|transistor|radio|television|telephone|"
          "typewriter|computer|internet|algorithm|prime number|calculus|probability|gravity|magnetism|electricity|semiconductor|laser|battery|"
          "solar panel|nuclear reactor|river delta|rainforest|savanna|desert|tundra|wetland|mangrove|peninsula|archipelago|fjord|bread|cheese|"
          "olive oil|chocolate|coffee|tea|rice|maize|potato|tomato|sugar|salt|pepper|wine|cotton|silk|wool|leather|paper|glass|concrete|steel|rubber|"
          "plastic|violin|piano|guitar|trumpet|drum|opera|ballet|sonnet|novel|haiku|fresco|mosaic|marathon|chess|cricket|baseball|tennis|sumo|rowing|"
          "falcon|owl|penguin|albatross|sparrow|salmon|shark|octopus|jellyfish|spider|butterfly|ant colony|elephant|giraffe|tiger|wolf|bear|otter|bat|"
          "horse|camel|tortoise|crocodile|frog|dinosaur|mammoth|trilobite").split("|"),
    "place": ("Portugal|Norway|Poland|Greece|Egypt|Kenya|Nigeria|Ghana|Morocco|South Africa|India|Nepal|Vietnam|Japan|Korea|Mongolia|Turkey|Iran|Peru|"
          "Chile|Brazil|Argentina|Mexico|Cuba|Canada|Alaska|California|Texas|Ohio|Scotland|Wales|Ireland|Cornwall|Bavaria|Sicily|Andalusia|Brittany|"
          "Lapland|Siberia|Tasmania|New Zealand|Fiji|Hawaii|London|Paris|Vienna|Prague|Istanbul|Cairo|Delhi|Kyoto|Sydney|Toronto|Chicago|Boston|"
          "New Orleans|Lima|Lisbon|Edinburgh|Dublin|Oslo|Helsinki|Warsaw|Budapest|Athens|Rome|Venice|Amsterdam").split("|"),
    "event": ("the Roman Republic|the Byzantine Empire|the Norman Conquest|the Black Death|the Hundred Years War|the Renaissance|the Reformation|"
          "the Thirty Years War|the English Civil War|the Enlightenment|the American Revolution|the French Revolution|the Napoleonic Wars|"
          "the Industrial Revolution|the American Civil War|the Franco-Prussian War|the Meiji Restoration|the First World War|the Great Depression|"
          "the Second World War|the Cold War|the Space Race|the civil rights movement|the fall of the Berlin Wall|the gold rush|the slave trade|"
          "the voyage of Magellan|the discovery of the New World|the siege of Constantinople|the great fire of London").split("|"),
    "work": ("album by an English rock band|song by an American singer|video game released for consoles|television series about detectives|"
          "science fiction film|silent film|novel about a family of farmers|episode of an animated sitcom|comic book character|Broadway musical|"
          "poem of the nineteenth century|painting of the Dutch golden age").split("|"),
    "person": ("American football player|English cricketer|Scottish engineer|French painter|German composer|Italian sculptor|Russian novelist|"
          "Japanese film director|Indian mathematician|Polish astronomer|Irish playwright|Australian swimmer|Canadian ice hockey player|"
          "British admiral|Roman emperor|medieval bishop|queen of Scotland|American senator|civil rights leader|jazz pianist|opera singer|botanist|"
          "explorer of the Arctic|naval officer|aviator|chess grandmaster").split("|"),
    "ship": ("battleship of the Imperial Japanese Navy|cruiser of the Royal Navy|destroyer built for the United States Navy|light tank|fighter aircraft|"
          "steam locomotive|state highway in Michigan|railway station in Yorkshire|tropical cyclone of the Atlantic season|"
          "species of bird in the warbler family|species of mushroom|extinct reptile|football club|college basketball team|infantry division|fort|"
          "parish church|skyscraper|river in the north of England|national park").split("|"),
}
BEGINNINGS = {
    "thing": ["The {x} is", "A {x} is", "The history of the {x} begins", "How does a {x} work?", "{X}: an introduction for students", "In this lesson, we will learn about the {x}.", "The first {x}", "Why is the {x} important?"],
    "place": ["{x} is", "The geography of {x}", "The history of {x}", "The economy of {x}", "The people of {x}", "Travellers who visit {x}"],
    "event": ["During {x},", "The causes of {x}", "{X} was", "In the years after {x},", "The people who lived through {x}"],
    "work": ["It is the third {x}", "The {x} was written by", "Critics praised the {x}", "The plot of the {x}"],
    "person": ["He was an {x} who", "She was a {x} who", "The {x} was born in", "As a child, the future {x}", "In later life, the {x}"],
    "ship": ["The {x} was", "It was the last {x} to", "Construction of the {x} began", "The {x} is known for"],
}
PLAIN = [
    "How to clean", "To make a", "To keep your", "The best way to", "A man is sitting", "A woman is seen", "Two children are",
    "The boy walked into the kitchen and", "She opened the letter and", "It was raining when", "Once upon a time", "Dear Sir,", "Question:",
    "Which of the following", "If you leave a", "Because the trophy", "People often", "The teacher asked the class", "My grandmother",
    "In the garden", "The dog", "Tom and Anna", "Steps:", "Ingredients:", "Is it true that", "According to the study,",
    "Scientists have found that", "The results of the experiment", "The government announced", "The company said on Monday",
    "Imagine that you", "In mathematics,", "In physics,", "In biology,", "In economics,", "In law,", "In music,", "The number of",
    "There are three kinds of", "Many people believe that",
]
QUESTIONS = ["Explain {x} to a ten-year-old.", "What is {x}?", "Tell me three facts about {x}.", "How would you describe {x} in one paragraph?",
             "Why does {x} matter?", "What should I know about {x}?", "Explain in simple words: {x}."]
ABOUT_A_TEXT = ["Write a title for this text:\n\n", "What is this text about?\n\n", "List the main points of this text:\n\n", "Give me five keywords for this text:\n\n"]
WHO = "a colleague|my manager|a customer|my landlord|a friend|my teacher|the whole team|a supplier|my sister|the hotel|a neighbour|the library|my doctor's office|a job applicant|the school".split("|")
WHAT = ("moving a meeting to Thursday|a late delivery|a birthday party on Saturday|a broken heater|the results of the quarterly report|a request for two days of leave|"
        "a missing invoice|the new opening hours|a thank-you for help with a project|a lost umbrella|a change of address|feedback on a presentation|a question about an order|"
        "an invitation to dinner|a reminder about a deadline|an apology for being late|a plan for a hike|a recommendation of a book|a complaint about noise|the agenda for Monday").split("|")
SYSTEM = {
    "summarize": "Provide a concise, objective summary of the input text in up to three sentences, focusing on key actions and intentions without using second or third person pronouns.",
    "formal": "You're an AI assistant for text re-writing. Rewrite the input text to make it more professional and formal while retaining its essential content.",
    "friendly": "You're an AI assistant for text re-writing. Rewrite the input text to make it more friendly and approachable while maintaining its main points.",
    "concise": "You're an AI assistant for text re-writing. Rewrite the input text to make it more concise while preserving its core meaning.",
}


def passages(path, n, rng):
    """Paragraphs of prose of a few sentences, from all over the file."""
    found = []
    texts = [json.loads(line)["text"] for line in open(path, encoding="utf-8")]
    rng.shuffle(texts)
    for text in texts:
        fit = [p for p in (re.sub(r"\s+", " ", p).strip() for p in text.split("\n\n")) if 300 < len(p) < 900 and p.count(".") >= 2 and not re.search(r"[|`]|::| [,.]", p)]
        found += rng.sample(fit, min(len(fit), 3))
    rng.shuffle(found)
    return found[:n]


def conversations(texts, rng):
    def ask(user, system=None):
        return {"messages": ([{"role": "system", "content": SYSTEM[system]}] if system else []) + [{"role": "user", "content": user}]}

    told = passages(texts / "prose.jsonl", 260, rng) + passages(texts / "docs.jsonl", 260, rng)
    rng.shuffle(told)
    yield from (ask(p, "summarize") for p in told[:250])
    for style in ("formal", "friendly", "concise"):
        yield from (ask(p, style) for p in rng.sample(told[250:430], 60))
    yield from (ask(rng.choice(ABOUT_A_TEXT) + p) for p in told[430:])
    for who in WHO:
        yield from (ask(f"Write a short email to {who} about {what}.") for what in rng.sample(WHAT, 5))
    for kind in ("thing", "place", "event"):
        for x in SUBJECTS[kind]:
            yield ask(rng.choice(QUESTIONS).format(x="the " + x if kind == "thing" and rng.random() < 0.5 else x))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    texts, out, rng = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), random.Random(9)
    out.mkdir(parents=True, exist_ok=True)
    asked = list(conversations(texts, rng))
    begun = [form.format(x=x, X=x[0].upper() + x[1:]) for kind, forms in BEGINNINGS.items() for x in SUBJECTS[kind] for form in forms]
    rng.shuffle(asked)
    begun = rng.sample(begun, 1200) + PLAIN * 8
    rng.shuffle(begun)
    (out / "prompts.jsonl").write_text("".join(json.dumps(a, ensure_ascii=False) + "\n" for a in asked), encoding="utf-8")
    (out / "beginnings.txt").write_text("\n".join(begun) + "\n", encoding="utf-8")
    print(f"{len(asked)} questions, {len(begun)} beginnings", file=sys.stderr)


if __name__ == "__main__":
    main()
