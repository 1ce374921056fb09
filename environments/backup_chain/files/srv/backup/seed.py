"""Makes three months of backup chains with tar: a full archive each, then increments; the newest lacks two files."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import time

VOLUME, SOURCE, STATE = "/backup", "/tmp/source", "/tmp/state"
STAMP = 0
FIRST = {"2024-04": 1711936800, "2024-05": 1714528800, "2024-06": 1717207200}
chance = random.Random(6)


def put(name: str, lines: int) -> None:
    with open(f"{SOURCE}/{name}", "w") as table:
        for _ in range(lines):
            table.write(f"{chance.randrange(10**6):06},{chance.randrange(10**4):04},{chance.randrange(10**8):08}\n")
    os.utime(f"{SOURCE}/{name}", (STAMP, STAMP))


def archive(chain: str, name: str) -> None:
    global STAMP
    os.utime(SOURCE, (STAMP, STAMP))
    path = f"{VOLUME}/{chain}/{name}"
    subprocess.run(
        [
            "tar",
            "--create",
            "--file",
            path,
            "--directory",
            SOURCE,
            "--listed-incremental",
            STATE,
            "--format=posix",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=u=rwX,go=rX",
            ".",
        ],
        check=True,
    )
    os.utime(path, (STAMP, STAMP))
    with open(path, "rb") as packed, open(f"{VOLUME}/{chain}/SHA256SUMS", "a") as sums:
        sums.write(f"{hashlib.sha256(packed.read()).hexdigest()}  {name}\n")
    STAMP += 7 * 86400
    time.sleep(0.03)  # tar takes up what changed after the archive before, by the kernel's clock


catalogue = {}
for number, chain in enumerate(FIRST):
    STAMP = FIRST[chain]
    os.makedirs(f"{VOLUME}/{chain}")
    os.makedirs(SOURCE)
    tables = 9 + 2 * number
    for region in range(1, tables + 1):
        put(f"region-{region:02}.csv", 340)
    archive(chain, "full.tar")
    put("region-02.csv", 360)
    put(f"region-{tables + 1:02}.csv", 340)
    archive(chain, "inc-1.tar")
    put("region-03.csv", 390)
    os.remove(f"{SOURCE}/region-01.csv")
    archive(chain, "inc-2.tar")
    put("region-04.csv", 350)
    put("region-05.csv", 330)
    archive(chain, "inc-3.tar")
    if chain == "2024-06":
        put(f"region-{tables + 2:02}.csv", 340)
        put(f"region-{tables + 3:02}.csv", 340)
    found = sorted(os.listdir(SOURCE))
    catalogue[chain] = {
        "archives": ["full.tar", "inc-1.tar", "inc-2.tar", "inc-3.tar"],
        "files": len(found),
        "bytes": sum(os.path.getsize(f"{SOURCE}/{name}") for name in found),
    }
    shutil.rmtree(SOURCE)
    os.remove(STATE)
with open("/srv/backup/catalogue.json", "w") as listed:
    json.dump(catalogue, listed, indent=1)
    listed.write("\n")
with open("/srv/backup/drills.jsonl", "w") as drills:
    for drill, chain in (("D-4", "2024-04"), ("D-5", "2024-05")):
        line = {"drill": drill, "chain": chain, **catalogue[chain], "result": "restored"}
        del line["archives"]
        drills.write(json.dumps(line) + "\n")
os.remove("/srv/backup/seed.py")
