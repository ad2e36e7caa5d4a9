#!/usr/bin/env python3
"""Example of a client: copies a tree from one Star to others over the coordinator's HTTP API.

It needs only Python's standard library. Exits with 0 if everything was copied, with 3 if some items failed, with 1 if the
job failed, and with 2 if the arguments are wrong.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid

ENDED = {
    "JOB_STATE_COMPLETED": 0,
    "JOB_STATE_PARTIALLY_COMPLETED": 3,
    "JOB_STATE_FAILED": 1,
    "JOB_STATE_CANCELLED": 1,
}


def location(text):
    star, separator, path = text.partition(":")
    if not separator:
        raise SystemExit(f"error: {text}: write STAR:/PATH")
    return {"star_id": star, "path": path}


def call(url, body=None):
    """One call. A refusal becomes an error with the coordinator's own text, which says what to do."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            return json.load(response)
    except urllib.error.HTTPError as refusal:
        raise SystemExit("error: " + json.load(refusal)["error"]["message"]) from refusal


def job_changes(coordinator):
    """The states of jobs as the coordinator reports them, by server-sent events: first every job that has not ended, then
    `None`, then each change."""
    with urllib.request.urlopen(coordinator + "/api/events?topics=jobs") as stream:
        kind = ""
        for line in stream:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind == "job":
                yield json.loads(value)
            elif name == "data" and kind == "live":
                yield None


def dead_letters(coordinator, job_id):
    """The items that were given up. A list has pages; the token of each leads to the next."""
    token = ""
    while True:
        query = urllib.parse.urlencode({"job_id": job_id, "page_token": token})
        page = call(coordinator + "/api/dead-letters?" + query)
        yield from page.get("deadLetters", [])
        token = page.get("nextPageToken", "")
        if not token:
            return


def wait(coordinator, job_id):
    """The job at its end."""
    for job in job_changes(coordinator):
        if job is None:
            # All changes from now on are in the stream. The job may have ended before.
            job = call(f"{coordinator}/api/jobs/{job_id}")["job"]
        if job["jobId"] != job_id:
            continue
        progress = job.get("progress", {})
        done = int(progress.get("itemsStored", 0)) + int(progress.get("itemsSkipped", 0))
        print(f"job {job_id}: {done} of {progress.get('itemsTotal', 0)} items", file=sys.stderr)
        if job["state"] in ENDED:
            return job
    raise SystemExit("error: the coordinator closed the stream; start this program again")


def main(arguments):
    if len(arguments) < 3:
        print("usage: copy_tree.py http://COORDINATOR:PORT STAR:/SOURCE STAR:/DESTINATION...", file=sys.stderr)
        return 2
    coordinator, source, *destinations = arguments
    spec = {"source": location(source), "destinations": [location(text) for text in destinations]}
    # The coordinator remembers the name: if the answer is lost, the same request can be sent again and returns this job.
    created = call(coordinator + "/api/jobs", {"spec": spec, "request_id": str(uuid.uuid4())})
    job = wait(coordinator, created["job"]["jobId"])
    for letter in dead_letters(coordinator, job["jobId"]):
        print(f"{letter['sourcePath']}: {letter['lastError']}", file=sys.stderr)
    if job["state"] == "JOB_STATE_FAILED":
        print("error: " + job["stateReason"], file=sys.stderr)
    return ENDED[job["state"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
