#!/usr/bin/env python3
"""check_house.py CHECK: the rules of the house that a machine can keep. Prints each breach as path:line: text.

  layers    who includes whom: tools/layers.txt
  sizes     files up to 2000 lines, functions up to 150, with the ratchet tools/sizes.txt
  banned    functions that are unsafe anywhere, or that a library must not call
  names     no two source files have the same name
  readmes   every folder of src/ has a README.md of at most 40 lines
  words     no unfinished work, machine paths or package hosts anywhere in the tree
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE_MAX, FUNCTION_MAX, README_MAX = 2000, 150, 40

BANNED = ("strcpy strcat stpcpy sprintf vsprintf gets atoi atol atoll atof strtok rand srand alloca system popen "
          "mktemp tmpnam tempnam scanf sscanf setjmp longjmp").split()
BANNED_IN_LIBRARY = ("printf vprintf puts putchar perror exit _exit quick_exit abort getenv secure_getenv setenv setlocale signal "
                     "sigaction strtod strtof strtol strtoul strtoll strtoull malloc calloc realloc strdup strndup "
                     "localtime strerror_l fork").split()
LIBRARY_EXCEPTIONS = {  # file -> functions it exists to wrap
    "src/base/mem.c": {"malloc", "calloc", "realloc"},
    "src/base/str.c": {"strtoll", "strtoull"},  # independent of the locale, unlike strtod
    "src/chat/jinja_repr.c": {"strtol"},        # of digits that snprintf has just written
}
TEST_EXCEPTIONS = {"system", "sscanf"}
WORDS = [
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "unfinished work"),
    (re.compile(r"(?<![\w.])/(work|home|root|Users)/"), "a path of one machine"),
    (re.compile(r"pypi\.org|pythonhosted|registry\.npmjs|crates\.io|deb\.debian\.org|proxy\.golang"), "a package host"),
]
WORDS_EXEMPT = {"tools/check_house.py", "LICENSE"}


def tracked():
    """Every file of the tree: what git knows or would take, or, outside of git, what lies there."""
    try:
        out = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                                      stderr=subprocess.DEVNULL)
        names = out.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    return sorted({n for n in names if not n.startswith(("build/", ".git/")) and (ROOT / n).is_file()})


def sources(*folders):
    return [n for n in tracked() if n.endswith((".c", ".h", ".def")) and n.startswith(folders)]


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def without_comments(text, strings=True):
    """Comments (and string contents) become blanks; lines stay where they are."""
    def blank(m):
        s = m.group(0)
        if s[0] == "/":
            return re.sub(r"[^\n]", " ", s)
        return s[0] + " " * (len(s) - 2) + s[-1] if strings else s
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def check_layers():
    allowed = {}
    for line in text_of("tools/layers.txt").splitlines():
        if "=" in line and not line.startswith("#"):
            folder, others = line.split("=")
            allowed[folder.strip()] = set(others.split())
    for name in sources("src/"):
        folder = name.split("/")[1]
        if folder not in allowed:
            yield f"{name}:1: folder {folder} is not in tools/layers.txt"
            continue
        code = without_comments(text_of(name), strings=False)
        for m in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', code, flags=re.M):
            path, where = m.group(1), f"{name}:{line_of(code, m.start())}"
            other = path.split("/")[0] if "/" in path else folder
            if ".." in path.split("/"):
                yield f"{where}: includes by ../: \"{path}\""
            elif other not in allowed[folder] | {folder, "mote"}:
                yield f"{where}: {folder} may not include {other}: \"{path}\""
            elif other != folder and path.endswith("_int.h"):
                yield f"{where}: \"{path}\" is internal to {other}"


FUNCTION = re.compile(r"^(?!typedef|struct|union|enum|static const|const|extern|#)[A-Za-z_][^;{}=]*?\b(\w+)\s*\([^;{}]*\)\s*\{", re.M)


def functions(text):
    """(name, line, length) of each function: from its first line to the brace in column 0 that ends it."""
    code = without_comments(text)
    for m in FUNCTION.finditer(code):
        end = code.find("\n}", m.end())
        opened = code[m.start():m.end()]
        if "\n\n" in opened or end < 0:
            continue
        first, last = line_of(code, m.start()), line_of(code, end + 1)
        if not re.match(r"[^\n]*\}[ \t]*$", code[m.end() - 1:].split("\n", 1)[0]):
            yield m.group(1), first, last - first + 1


def check_sizes():
    ratchet = {}
    for line in text_of("tools/sizes.txt").splitlines():
        if line and not line.startswith("#"):
            words = line.split(None, 2)
            if len(words) < 3:
                yield f"tools/sizes.txt: no reason: {line}"
            ratchet[words[0]] = int(words[1])
    seen = set()

    def judge(key, where, n, limit):
        if n <= limit:
            return
        seen.add(key)
        if key not in ratchet:
            yield f"{where}: {key} has {n} lines, the limit is {limit}"
        elif n > ratchet[key]:
            yield f"{where}: {key} grew from {ratchet[key]} to {n} lines"
        elif n < ratchet[key]:
            yield f"{where}: {key} shrank to {n} lines: write that into tools/sizes.txt"

    for name in sources("src/", "include/", "tests/", "bench/"):
        text = text_of(name)
        if re.search(r"_tab\.[ch]$|\.def$", name):
            continue
        yield from judge(name, f"{name}:1", text.count("\n"), FILE_MAX)
        if name.startswith("src/kernel/"):  # flat loops
            continue
        for function, line, n in functions(text):
            yield from judge(f"{name}:{function}", f"{name}:{line}", n, FUNCTION_MAX)
    for key in ratchet.keys() - seen:
        yield f"tools/sizes.txt: {key} is within the limit or gone: remove its line"


def check_banned():
    anywhere = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
    library = re.compile(r"(?<![\w.>])(" + "|".join(BANNED_IN_LIBRARY) + r")\s*\(|\b(stdout|stderr)\b")
    for name in sources("src/", "include/", "tests/", "bench/"):
        code = without_comments(text_of(name))
        rules = [anywhere]
        if name.startswith(("src/", "include/")) and not name.startswith("src/cli/"):
            rules.append(library)
        for rule in rules:
            for m in rule.finditer(code):
                word = m.group(1) or m.group(2)
                allowed = TEST_EXCEPTIONS if name.startswith("tests/") else LIBRARY_EXCEPTIONS.get(name, ())
                if word in allowed:
                    continue
                why = "is unsafe" if rule is anywhere else "has no place in the library"
                yield f"{name}:{line_of(code, m.start())}: {word} {why}"


def check_names():
    first = {}
    for name in tracked():
        base = name.rsplit("/", 1)[-1]
        if not name.startswith(("src/", "include/", "tests/", "bench/")) or base in ("CMakeLists.txt", "README.md"):
            continue
        if "/corpus/" in name or "/data/" in name:
            continue
        if base in first:
            yield f"{name}:1: has the same name as {first[base]}"
        first.setdefault(base, name)


def check_readmes():
    for folder in sorted({n.split("/")[1] for n in sources("src/")}):
        name = f"src/{folder}/README.md"
        if not (ROOT / name).is_file():
            yield f"{name}:1: is missing: what the folder is for, files in reading order, invariants, how to add one"
        elif text_of(name).count("\n") > README_MAX:
            yield f"{name}:1: has more than {README_MAX} lines"


def check_words():
    for name in tracked():
        if name in WORDS_EXEMPT or "/corpus/" in name or b"\0" in (ROOT / name).read_bytes()[:8000]:
            continue
        for number, line in enumerate(text_of(name).splitlines(), 1):
            for rule, what in WORDS:
                if rule.search(line):
                    yield f"{name}:{number}: {what}: {line.strip()[:100]}"


def main():
    checks = {f[6:]: c for f, c in globals().items() if f.startswith("check_")}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    breaches = list(checks[sys.argv[1]]())
    print("\n".join(breaches) or f"{sys.argv[1]}: kept")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
