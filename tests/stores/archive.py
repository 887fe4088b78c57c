"""Archive classes and object lock, against moto, which knows both: packs freeze and thaw, and what is locked cannot be deleted."""

import json
import os
import re
import urllib.error
import urllib.request

AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"


def ask(server, method, path, body=None, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}/{path}", method=method, data=body)
    request.add_header("Authorization", AUTHORIZATION)
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read().decode()


def listed(server, bucket, prefix, what="list-type=2"):
    return ask(server, "GET", f"{bucket}?{what}&prefix={prefix}")[1]


def thaw_takes(server, progression):
    body = json.dumps({"model_name": "s3::keyrestore", "transition": progression}).encode()
    ask(server, "POST", "moto-api/state-manager/set-transition", body, Content_Type="application/json")


def archive(client, server, folder):
    """A tier in an archive class of the same bucket: what is there, what it says, how it comes back."""
    data = folder / "old"
    data.mkdir()
    (data / "big").write_bytes(os.urandom(3 << 20))
    first = (data / "big").read_bytes()
    client.run("backup", str(data), "--series", "old", "--time", "2026-01-01T12:00:00Z")
    (data / "big").write_bytes(b"new")
    client.run("backup", str(data), "--series", "old", "--time", "2026-06-01T12:00:00Z")
    client.run("tier", "add", "glacier", "s3://bucket/cold", "--storage-class", "GLACIER", "--thaw-class", "bulk:12:2.5:25", "--thaw-class", "standard:5:10:50")
    moved = client.summary("tier", "apply", "glacier", "--older-than", "30")["moved"]
    assert moved["packs"] >= 1, moved
    classes = re.findall("<Key>cold/packs/.*?<StorageClass>(.*?)</StorageClass>", listed(server, "bucket", "cold/packs/"), re.S)
    assert classes == ["GLACIER"] * moved["packs"], classes
    client.run("check")
    client.run("scrub")

    at = ["latest", "--series", "old", "--at", "2026-02-01"]
    plan = client.summary("restore", *at, "--plan")
    tier = plan["tiers"][0]
    assert not plan["is_ready"] and tier["frozen"]["packs"] >= 1 and {way["name"] for way in tier["classes"]} == {"bulk", "standard"}, plan
    client.run("restore", *at, "--target", str(folder / "back"), expected=15)
    # Nothing thaws before it is asked for. In moto a thaw that was asked for begins when somebody looks, a second after the object was written.
    thaw_takes(server, {"progression": "time", "seconds": 1})
    asked = client.summary("thaw", *at, "--class", "bulk", "--days", "2")
    assert asked["asked"] == tier["frozen"] and not asked["is_ready"], asked
    keys = re.findall("<Key>(cold/packs/.*?)</Key>", listed(server, "bucket", "cold/packs/"))
    assert any('ongoing-request="true"' in (ask(server, "HEAD", f"bucket/{key}")[0].get("x-amz-restore") or "") for key in keys)
    thaw_takes(server, {"progression": "manual", "times": 1_000_000})
    again = client.summary("thaw", *at, "--class", "bulk", "--days", "2")
    assert again["asked"]["packs"] == 0 and again["thawing"] == asked["thawing"], again
    client.run("restore", *at, "--target", str(folder / "back"), expected=15)
    thaw_takes(server, {"progression": "time", "seconds": 2})
    client.run("restore", *at, "--target", str(folder / "back"), "--wait")
    assert (folder / "back/old/big").read_bytes() == first
    client.run("restore", "latest", "--series", "old", "--target", str(folder / "new"))
    print(f"  {moved['packs']} packs went into GLACIER of the same bucket, were planned, thawed and restored")


def object_lock(client, server, folder):
    """A bucket with object lock: deadlines are there when the backup returns, and the store refuses to delete what they keep."""
    ask(server, "PUT", "locked", x_amz_bucket_object_lock_enabled="true")
    client.variables["ICECORE_REPOSITORY"] = "s3://locked/repository"
    client.run("init", "--new-key-file", str(folder / "key of locked"))
    client.variables["ICECORE_KEY_FILE"] = str(folder / "key of locked")
    data = folder / "locked data"
    data.mkdir()
    (data / "file").write_bytes(b"must stay" * 50_000)
    made = client.summary("backup", str(data), "--lock", "30d")
    until = made["locked_until"][:10]
    for kind in ["packs", "meta", "refs", "snapshots", "config", "keys", "holds", "closed"]:
        keys = re.findall("<Key>(.*?)</Key>", listed(server, "locked", f"repository/{kind}/"))
        said = [ask(server, "HEAD", f"locked/{key}")[0] for key in keys]
        kept = [told["x-amz-object-lock-mode"] == "COMPLIANCE" and told["x-amz-object-lock-retain-until-date"].startswith(until) for told in said]
        # Of sessions that have ended only that of the snapshot counts.
        assert keys and (all(kept) or (kind == "closed" and any(kept))), (kind, kept)
    key = re.findall("<Key>(.*?)</Key>", listed(server, "locked", "repository/packs/"))[0]
    version = re.search(f"<Key>{key}</Key>.*?<VersionId>(.*?)</VersionId>", listed(server, "locked", key, "versions"), re.S).group(1)
    try:
        ask(server, "DELETE", f"locked/{key}?versionId={version}")
        raise SystemExit("FAILED: a pack that is locked could be deleted")
    except urllib.error.HTTPError as error:
        assert error.code in (400, 403), error
    longer = client.summary("lock", "latest", "--for", "60d")
    said = ask(server, "HEAD", f"locked/{key}")[0]
    assert said["x-amz-object-lock-retain-until-date"].startswith(longer["until"][:10]) and longer["kept_objects"] > 0, longer
    print(f"  a bucket with object lock keeps a locked snapshot's objects until {until}")
