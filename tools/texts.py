#!/usr/bin/env python3
"""texts.py OUT [--part NAME:MB]… [--ebooks DIR]… [--markdown DIR:LICENCE]… [--packages DIR] [--spaced N]: training and calibration
text whose licences are known.

Writes OUT/{prose,docs,code,glosses}.jsonl, a document a line ({"text", "source", "licence"}), and the same as plain .txt.
  prose    Jane Austen's novels (a package) and every folder given with --ebooks: checkouts of Standard Ebooks productions (public domain; their
           work is CC0)
  docs     Python's, PostgreSQL's, SQLite's, Rust's and Perl's documentation (packages) and --markdown folders
  code     Python's standard library and Go's (packages)
  glosses  what WordNet says of nouns, neighbours together (a package)
The packages are Debian's; apt-get downloads them into --packages (default: a temporary folder), nothing is installed.
Evaluation texts are in none of them. `mote data` filters, removes duplicates and decontaminates what this writes.
"""
import argparse
import html
import html.parser
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zlib

PACKAGES = {  # package: (part, folder inside, pattern, licence)
    "python3.11-doc": ("docs", "usr/share/doc/python3.11/html/_sources", "**/*.rst.txt", "PSF-2.0"),
    "postgresql-doc-15": ("docs", "usr/share/doc/postgresql-doc-15/html", "*.html", "PostgreSQL"),
    "sqlite3-doc": ("docs", "usr/share/doc/sqlite3", "*.html", "public domain"),
    "rust-doc": ("docs", "usr/share/doc/rust-doc/html/book", "*.html", "MIT OR Apache-2.0"),
    "perl-doc": ("docs", "usr/share/perl", "*/pod/*.pod", "Artistic-1.0-Perl OR GPL-1.0-or-later"),
    "r-cran-janeaustenr": ("prose", "usr/lib/R/site-library/janeaustenr/data", "Rdata.rdb", "public domain"),
    "wordnet-base": ("glosses", "usr/share/wordnet", "data.noun", "WordNet"),
    "libpython3.11-stdlib": ("code", "usr/lib/python3.11", "**/*.py", "PSF-2.0"),
    "golang-1.19-src": ("code", "usr/share/go-1.19/src", "**/*.go", "BSD-3-Clause"),
}
BLOCKS = {"p", "div", "li", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "dt", "dd", "blockquote", "section", "br"}
HIDDEN = {"script", "style", "nav", "head", "svg", "math", "footer", "header"}


class Text(html.parser.HTMLParser):
    """The text of a page: blocks as paragraphs, <pre> as it stands."""

    def __init__(self):
        super().__init__()
        self.out, self.hidden, self.pre = [], 0, 0

    def handle_starttag(self, tag, attrs):
        if tag in HIDDEN:
            self.hidden += 1
        self.pre += tag == "pre"
        if tag in BLOCKS or tag == "pre":
            self.out.append("\n" if tag in ("br", "tr", "li", "dt", "dd") else "\n\n")

    def handle_endtag(self, tag):
        if tag in HIDDEN and self.hidden:
            self.hidden -= 1
        if tag == "pre" and self.pre:
            self.pre -= 1
        if tag in ("p", "pre", "h1", "h2", "h3", "h4", "blockquote"):
            self.out.append("\n\n")

    def handle_data(self, data):
        if not self.hidden:
            self.out.append(data if self.pre else re.sub(r"\s+", " ", data))

    def text(self):
        return tidy("".join(self.out))


def tidy(text):
    text = text.replace("\u2060", "").replace("\ufeff", "").replace("\xa0", " ").replace("\u200a", "")
    text = re.sub(r"[ \t]+\n", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def unwrap(text):
    """A paragraph is a line; what is indented stays."""
    return "\n\n".join(p if re.search(r"(?m)^[ \t]", p) else p.replace("\n", " ") for p in text.split("\n\n"))


def page(source):
    """HTML or XHTML to text; without the manual's navigation."""
    parser = Text()
    body = re.search(r"<(main|body)\b.*", source, re.S)
    parser.feed(body.group(0) if body else source)
    return re.sub(r"(?m)^ +(?=\S)", "", parser.text()) if "<pre" not in source else parser.text()


def rst(source):
    """reStructuredText as it is written, without targets and comments."""
    source = re.sub(r"(?m)^\.\. (_[^\n]*|\S*index::.*)\n", "", source)
    return tidy(re.sub(r":[a-z:]+:`[~!]?([^`<]+?)(?: <[^`]*>)?`", r"\1", source))


def pod(source):
    """Perl's documentation without its commands."""
    source = re.sub(r"(?m)^=(?:encoding|for|begin|end|over|back|cut|pod)[^\n]*\n", "", source)
    source = re.sub(r"(?m)^=(?:head\d|item)[ \t]*", "", source)
    for _ in range(3):  # they nest
        source = re.sub(r"\b[BCFILSXZ](?:<<+ (.*?) >>+|<([^<>]*)>)", lambda m: (m.group(1) or m.group(2) or "").split("|")[0], source, flags=re.S)
    return unwrap(tidy(source.replace("E<lt>", "<").replace("E<gt>", ">")))


def r_strings(blob):
    """The lines of each character vector in a lazy-load database of R: zlib streams of XDR, a string being flags, length, bytes."""
    at = 0
    while at + 4 < len(blob):
        stream = zlib.decompressobj()
        data = stream.decompress(blob[at + 4:])
        at = len(blob) - len(stream.unused_data)
        lines, k = [], data.find(b"\x00\x00\x00\x10", 14)  # a vector of strings: its type, then how many
        count, k = int.from_bytes(data[k + 4:k + 8], "big"), k + 8
        for _ in range(count):
            n = int.from_bytes(data[k + 4:k + 8], "big", signed=True)
            lines.append(data[k + 8:k + 8 + max(n, 0)].decode("utf-8"))
            k += 8 + max(n, 0)
        yield lines


def novels(path):
    """Chapters of the novels in it."""
    for lines in r_strings(path.read_bytes()):
        chapter = []
        for line in lines + ["CHAPTER"]:
            if re.match(r"(CHAPTER|Chapter)\b", line) and chapter:
                yield unwrap(tidy("\n".join(chapter))), lines[0].title()
                chapter = []
            chapter.append(line.strip())


def glosses(path, together=12):
    """Noun by noun: "coral reef: a reef consisting of coral consolidated into limestone"."""
    lines = [line.split(" | ") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" ")]
    said = [f"{fields.split()[4].replace('_', ' ')}: {gloss.strip()}" for fields, gloss in lines]
    for i in range(0, len(said), together):
        yield "\n".join(said[i:i + together]), str(i)


def spaced(text):
    """As many corpora have it: every mark of punctuation a word of its own."""
    text = re.sub(r"(?<=\d)([,.])(?=\d)|(?<=\w)(-)(?=\w)", r" @\1\2@ ", text)
    text = re.sub(r"(?<=\w)('(?:s|t|re|ve|ll|d|m))\b", r" \1", text)
    text = re.sub(r"([.,;:!?()\[\]\"“”%])(?!@)", r" \1 ", text)
    return re.sub(r" +(\n|$)", r" \1", re.sub(r" {2,}", " ", text))


def read(path):
    try:
        return path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return None


def from_packages(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for package, (part, inside, pattern, licence) in PACKAGES.items():
        debs = sorted(folder.glob(f"{package}_*.deb"))
        if not debs:
            subprocess.run(["apt-get", "download", "-q", package], cwd=folder, check=False, stdout=sys.stderr)
            debs = sorted(folder.glob(f"{package}_*.deb"))
        if not debs:
            print(f"texts.py: no package {package}; left out", file=sys.stderr)
            continue
        root = folder / package
        if not root.exists():
            subprocess.run(["dpkg-deb", "-x", debs[0], root], check=True)
        for path in sorted((root / inside).glob(pattern)):
            if re.search(r"(^|/)(test|tests|testdata|idlelib|lib2to3|encodings|vendor|unicode|LICENSE|changelog|print\.html|go/api|pod/perl\d|pod/perl(delta|toc|hist|uniprops))", str(path.relative_to(root / inside))):
                continue
            pieces = {".rdb": novels, ".noun": glosses}.get(path.suffix)
            if pieces:
                yield from ((part, text, f"{package}:{where}", licence) for text, where in pieces(path))
                continue
            source = read(path)
            if not source:
                continue
            name = f"{package}:{path.relative_to(root)}"
            if path.suffix == ".html":
                yield part, page(source), name, licence
            elif path.suffix == ".pod":
                yield part, pod(source), name, licence
            elif part == "docs":
                yield part, rst(source), name, licence
            else:
                yield part, source.strip(), name, licence


def from_ebook(folder):
    """A Standard Ebooks production: its chapters, without title page and imprint. Bare git folders are read too."""
    if (folder / "src/epub/text").is_dir():
        names = sorted((folder / "src/epub/text").glob("*.xhtml"), key=natural)
        pages = [(p.name, p.read_text(encoding="utf-8")) for p in names]
    else:
        git = ["git", "-C", str(folder)]
        listed = subprocess.run([*git, "ls-tree", "--name-only", "HEAD", "src/epub/text/"], capture_output=True, text=True, check=True)
        names = sorted((pathlib.PurePath(n) for n in listed.stdout.split()), key=natural)
        pages = [(n.name, subprocess.run([*git, "show", f"HEAD:{n}"], capture_output=True, text=True, check=True).stdout) for n in names]
    skip = r"^(colophon|imprint|titlepage|uncopyright|halftitlepage|endnotes|loi|dedication|epigraph)"
    for name, source in pages:
        if not re.match(skip, name):
            yield page(source), name


def natural(path):
    return [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", path.name)]


def from_markdown(folder):
    if (folder / "HEAD").is_file():
        git = ["git", "-C", str(folder)]
        listed = subprocess.run([*git, "ls-tree", "-r", "--name-only", "HEAD"], capture_output=True, text=True, check=True)
        for n in listed.stdout.split("\n"):
            if n.endswith(".md") and not n.startswith("."):
                yield tidy(subprocess.run([*git, "show", f"HEAD:{n}"], capture_output=True, text=True, check=True).stdout), n
    else:
        for path in sorted(folder.rglob("*.md")):
            source = read(path)
            if source:
                yield tidy(source), str(path.relative_to(folder))


def documents(args, packages):
    for folder in args.ebooks:
        for text, name in from_ebook(folder):
            yield "prose", text, f"{folder.parent.name if folder.name == 'repo' else folder.name}:{name}", "CC0-1.0"
    for given in args.markdown:
        folder, _, licence = given.rpartition(":")
        folder = pathlib.Path(folder)
        for text, name in from_markdown(folder):
            yield "docs", text, f"{folder.parent.name if folder.name == 'repo' else folder.name}:{name}", licence
    yield from from_packages(packages)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--part", action="append", default=[], metavar="NAME:MB", help="at most MB megabytes of a part")
    parser.add_argument("--ebooks", action="append", default=[], type=pathlib.Path)
    parser.add_argument("--markdown", action="append", default=[])
    parser.add_argument("--spaced", type=int, default=0, metavar="N", help="of prose, docs and glosses every Nth with its punctuation apart, as many corpora have it")
    parser.add_argument("--packages", type=pathlib.Path)
    args = parser.parse_args()
    most = {name: float(mb) * 1e6 for name, _, mb in (p.partition(":") for p in args.part)}
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        parts = {}
        for part, text, source, licence in documents(args, args.packages or pathlib.Path(scratch)):
            if len(text) >= 200:
                parts.setdefault(part, []).append({"text": html.unescape(text), "source": source, "licence": licence})
    for part, docs in parts.items():
        if args.spaced and part != "code":
            for doc in docs[::args.spaced]:
                doc["text"] = spaced(doc["text"])
        total = sum(len(d["text"]) for d in docs)
        share = min(1.0, most.get(part, total) / total)
        kept, want, have = [], 0.0, 0  # evenly through the sources, not the first ones alone
        for doc in docs:
            want += len(doc["text"]) * share
            if have < want:
                kept.append(doc)
                have += len(doc["text"])
        with open(args.out / f"{part}.jsonl", "w", encoding="utf-8") as lines, open(args.out / f"{part}.txt", "w", encoding="utf-8") as plain:
            for doc in kept:
                lines.write(json.dumps(doc, ensure_ascii=False) + "\n")
                plain.write(doc["text"] + "\n\n\n")
        print(f"{part}: {len(kept)} documents, {sum(len(d['text']) for d in kept) / 1e6:.1f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
