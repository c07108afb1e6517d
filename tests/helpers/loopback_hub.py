"""A hub of one's own on loopback: the calls of the client, kept in memory.

It stores large files by their SHA-256, as the hub does, and can refuse one.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".ckpt", ".safetensors", ".wav")
RESOLVED = re.compile(r"/(\w+/\w+)/resolve/(\w+)/(.+)")


def git_oid(content):
    """Of a regular file, as git names it."""
    head = f"blob {len(content)}\0".encode()
    return hashlib.sha1(head + content).hexdigest()


class Hub:
    """Repositories, blobs and all that was asked, in order."""

    def __init__(self):
        self.repositories = {}
        self.blobs = {}
        self.calls = []
        self.refused = None  # SHA-256 of a blob that does not arrive
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def sent(self):
        """SHA-256 of the blobs that were sent, each time they were."""
        puts = [path for verb, path in self.calls if verb == "PUT"]
        return [path.removeprefix("/blob/") for path in puts]

    def create(self, body):
        owner = body["organization"] or "me"
        name = f"{owner}/{body['name']}"
        answer = {"url": f"{self.endpoint}/{name}", "name": name}
        if name in self.repositories:
            return 409, {**answer, "error": "You already created this repo"}
        self.repositories[name] = {
            "visibility": body.get("visibility"),
            "commits": [],
            "files": {},
            "earlier": {},
        }
        return 200, answer

    def preupload(self, name, body):
        files = self.repositories[name]["files"]
        found = []
        for file in body["files"]:
            path = file["path"]
            large = path.endswith(LARGE)
            entry = {"path": path, "shouldIgnore": False}
            entry["uploadMode"] = "lfs" if large else "regular"
            if path in files:
                known = files[path]
                oid = hashlib.sha256(known).hexdigest() if large else None
                entry["oid"] = oid or git_oid(known)
            found.append(entry)
        return 200, {"files": found}

    def batch(self, body):
        found = []
        for file in body["objects"]:
            entry = dict(file)
            if file["oid"] not in self.blobs:
                href = f"{self.endpoint}/blob/{file['oid']}"
                entry["actions"] = {"upload": {"href": href}}
            found.append(entry)
        return 200, {"transfer": "basic", "objects": found}

    def put(self, oid, content):
        if oid == self.refused or hashlib.sha256(content).hexdigest() != oid:
            return 403, {"error": "the line is cut"}
        self.blobs[oid] = content
        return 200, {}

    def commit(self, name, lines):
        repository = self.repositories[name]
        changed = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                changed[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                changed[value["path"]] = self.blobs[value["oid"]]
        repository["files"].update(changed)
        repository["commits"].append(sorted(changed))
        oid = self.revision(name)
        repository["earlier"][oid] = dict(repository["files"])
        url = f"{self.endpoint}/{name}/commit/{oid}"
        return 200, {"success": True, "commitOid": oid, "commitUrl": url}

    def revision(self, name):
        number = len(self.repositories[name]["commits"])
        return hashlib.sha1(f"{name} {number}".encode()).hexdigest()

    def commit_of(self, name, revision):
        """SHA of what a client calls by a branch or by itself."""
        earlier = self.repositories[name]["earlier"]
        return revision if revision in earlier else self.revision(name)

    def file(self, name, revision, path):
        earlier = self.repositories[name]["earlier"]
        return earlier.get(self.commit_of(name, revision), {}).get(path)

    def info(self, name, revision):
        sha = self.commit_of(name, revision)
        return 200, {"id": name, "sha": sha, "siblings": []}

    def tree(self, name):
        found = []
        for path, content in self.repositories[name]["files"].items():
            entry = {"type": "file", "path": path, "size": len(content)}
            entry["oid"] = git_oid(content)
            if path.endswith(LARGE):
                sha = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {
                    "oid": sha,
                    "size": len(content),
                    "pointerSize": 130,
                }
            found.append(entry)
        return 200, found

    def post(self, path, content):
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            lines = content.decode().splitlines()
            return self.commit(found[1], [json.loads(line) for line in lines])
        body = json.loads(content)
        if path == "/api/repos/create":
            return self.create(body)
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            return self.preupload(found[1], body)
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(body)
        return 404, {"error": path}

    def get(self, path):
        """A status and JSON, or a file's bytes."""
        if found := RESOLVED.fullmatch(path):
            file = self.file(*found.groups())
            return (200, file) if file is not None else (404, {})
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/tree/\w+", path):
            return self.tree(found[1])
        found = re.match(r"/api/models/(\w+/\w+)(?:/revision/(\w+))?", path)
        if found and found[1] in self.repositories:
            return self.info(*found.groups())
        return 404, {"error": path}

    def handler(self):
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, value):
                raw = isinstance(value, bytes)
                content = value if raw else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                if raw:
                    name, revision, _ = RESOLVED.match(self.path).groups()
                    oid = hub.commit_of(name, revision)
                    self.send_header("X-Repo-Commit", oid)
                    sha = hashlib.sha256(content).hexdigest()
                    self.send_header("ETag", f'"{sha}"')
                else:
                    self.send_header("Content-Type", "application/json")
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def serve(self):
                path = unquote(urlsplit(self.path).path)
                hub.calls.append((self.command, path))
                size = int(self.headers.get("Content-Length") or 0)
                content = self.rfile.read(size)
                if self.command == "POST":
                    self.answer(*hub.post(path, content))
                elif self.command == "PUT":
                    self.answer(*hub.put(path.split("/")[-1], content))
                else:
                    self.answer(*hub.get(path))

            do_GET = do_HEAD = do_POST = do_PUT = serve

        return Handler
