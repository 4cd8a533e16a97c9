"""Pages and pictures of which a part is made from figures in the tree, and where a bench keeps what takes long."""
import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
END = "<!-- end -->"


def cache():
    """A folder that stays between runs."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "mote" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def filled(document, name, content):
    """The document with content between `<!-- NAME -->` and `<!-- end -->`."""
    begin = f"<!-- {name} -->\n"
    if begin not in document or END not in document.split(begin, 1)[1]:
        sys.exit(f"a document has no place for '{name}', or the place has no end")
    head, rest = document.split(begin, 1)
    return head + begin + content + "\n" + END + rest.split(END, 1)[1]


def keep(made, check):
    """made: path -> text. Writes those that are not so already; with check it says so instead. Returns an exit status."""
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is not what the figures say: run {pathlib.Path(sys.argv[0]).name} anew")
        else:
            path.write_text(made[path], encoding="utf-8")
    return 1 if check and stale else 0
