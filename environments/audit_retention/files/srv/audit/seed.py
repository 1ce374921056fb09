"""Writes six months of audit trail: every line carries the hash of the line before it."""

import hashlib
import json
import os

USERS = ["a.meyer", "k.ito", "s.novak", "payroll-job", "r.haddad"]
ACTS = ["login", "export payroll", "change bank details", "approve invoice", "change role"]
os.makedirs("/srv/audit/trail", exist_ok=True)
last = "0" * 64
number = 0
for month in ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05", "2024-06"):
    with open(f"/srv/audit/trail/{month}.log", "w") as segment:
        for day in range(1, 29):
            number += 1
            entry = {
                "n": number,
                "day": f"{month}-{day:02}",
                "user": USERS[number % 5],
                "act": ACTS[number * 7 % 5],
                "last": last,
            }
            line = json.dumps(entry)
            last = hashlib.sha256(line.encode()).hexdigest()
            segment.write(line + "\n")
with open("/srv/audit/HEAD", "w") as head:
    head.write(json.dumps({"entries": number, "last": last}) + "\n")
os.remove("/srv/audit/seed.py")
