#!/usr/bin/env python3
"""pull_test.py MOTE: downloads from a server of our own: resumed, redirected, changed, cut off, wrong."""
import hashlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CUT = 300_000


class Server(http.server.BaseHTTPRequestHandler):
    """/full /cut (the first answer stops early) /hop/N (redirects) /away (redirects to another host) /missing"""
    seen = []
    etag = '"one"'

    def log_message(self, *args):
        pass

    def do_GET(self):
        Server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        if self.path.startswith("/hop/"):
            n = int(self.path.split("/")[2])
            self.redirect(f"/hop/{n - 1}/x.bin" if n else "/full/x.bin")
        elif self.path.startswith("/away"):
            self.redirect("http://example.invalid/x.bin")
        elif self.path.startswith(("/full", "/cut")):
            self.content(cut=self.path.startswith("/cut"))
        else:
            self.send_error(404)

    def redirect(self, where):
        self.send_response(302)
        self.send_header("Location", where)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def content(self, cut):
        start, wanted = 0, self.headers.get("Range")
        if wanted and self.headers.get("If-Range") == Server.etag:
            start = int(wanted[6:-1])
        self.send_response(206 if start else 200)
        self.send_header("ETag", Server.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start:start + CUT] if cut and not start else CONTENT[start:])


def main():
    mote = os.path.abspath(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    failed = []

    with tempfile.TemporaryDirectory() as tmp:
        env = {**os.environ, "HOME": tmp, "MOTE_MODELS": tmp + "/models", "no_proxy": "*"}

        def pull(*args):
            done = subprocess.run([mote, "pull", *args], env=env, cwd=tmp, capture_output=True, text=True, timeout=60, check=False)
            return done.returncode, done.stdout.strip(), done.stderr

        def check(what, ok, *detail):
            if not ok:
                failed.append(f"{what}: {detail}")

        def same(path):
            with open(path, "rb") as f:
                return f.read() == CONTENT

        code, out, err = pull(base + "/full/a.bin", "--sha256", SHA256)
        check("a file", code == 0 and out == tmp + "/models/a.bin" and same(out), code, out, err)
        Server.seen.clear()
        code, out, err = pull(base + "/full/a.bin", "--sha256", SHA256.upper())
        check("what is there is not fetched again", code == 0 and not Server.seen and "already" in err, code, err)

        code, out, err = pull(base + "/cut/b.bin")
        check("a download that breaks off", code == 4 and os.path.getsize(tmp + "/models/b.bin.part") == CUT, code, err)
        check("no file under its name before it is whole", not os.path.exists(tmp + "/models/b.bin"))
        Server.seen.clear()
        code, out, err = pull(base + "/cut/b.bin", "--sha256", SHA256)
        check("resumed", code == 0 and same(out) and Server.seen == [("/cut/b.bin", f"bytes={CUT}-", '"one"')], code, Server.seen, err)

        pull(base + "/cut/c.bin")
        Server.etag = '"two"'
        code, out, err = pull(base + "/full/c.bin")
        check("a file that changed meanwhile begins anew", code == 0 and same(out), code, err)

        code, out, err = pull(base + "/full/d.bin", "--sha256", "0" * 64)
        check("a wrong hash", code == 1 and not os.path.exists(tmp + "/models/d.bin") and not os.path.exists(tmp + "/models/d.bin.part"), code, err)
        code, out, err = pull(base + "/missing/e.bin")
        check("an error of the server", code == 4 and "404" in err and not os.path.exists(tmp + "/models/e.bin.part"), code, err)
        code, out, err = pull(base + "/hop/3/x.bin", "-o", "f.bin")
        check("redirects are followed", code == 0 and same(tmp + "/f.bin"), code, err)
        code, out, err = pull(base + "/hop/9/x.bin", "-o", "g.bin")
        check("not without end", code == 4 and "redirects" in err, code, err)
        code, out, err = pull(base + "/away/x.bin")
        check("not from here to plain http elsewhere", code == 4 and "only https" in err, code, err)
        for url in ("http://example.invalid/x.bin", "file:///etc/hostname", "ftp://127.0.0.1/x.bin"):
            code, out, err = pull(url)
            check(f"{url} is refused", code == 2 and "only https" in err, code, err)
        code, out, err = pull(base + "/full/page.gguf")
        check("what is no model is not kept as one", code == 1 and not os.path.exists(tmp + "/models/page.gguf"), code, err)
        code, out, err = pull("https://127.0.0.1:1/")
        check("an address without a file name", code == 2, code, err)

    print("\n".join(failed) or "pull: all as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
