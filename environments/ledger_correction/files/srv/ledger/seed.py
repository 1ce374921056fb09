"""Writes the journal of March and April 2024, the closing of March, and its report."""

import csv
import hashlib
import json
import os

ENTRIES = [
    ("J-0027", "2024-03-01", "Opening balances", [("1200", 5200000, 0), ("2400", 0, 620000), ("3000", 0, 4580000)]),
    ("J-0028", "2024-03-05", "Invoice 511", [("1400", 3125000, 0), ("4000", 0, 3125000)]),
    ("J-0029", "2024-03-12", "Invoice 511 paid", [("1200", 3125000, 0), ("1400", 0, 3125000)]),
    ("J-0030", "2024-03-15", "Wages March", [("6200", 2140000, 0), ("1200", 0, 2140000)]),
    ("J-0031", "2024-03-22", "Halden Camping, order 77", [("1200", 1840000, 0), ("4000", 0, 1840000)]),
    ("J-0032", "2024-03-26", "Invoice 512", [("1400", 4660000, 0), ("4000", 0, 4660000)]),
    ("J-0033", "2024-03-29", "Rent March", [("6000", 780000, 0), ("1200", 0, 780000)]),
    ("J-0034", "2024-04-04", "Invoice 512 paid", [("1200", 4660000, 0), ("1400", 0, 4660000)]),
    ("J-0035", "2024-04-15", "Wages April", [("6200", 2140000, 0), ("1200", 0, 2140000)]),
    ("J-0036", "2024-04-18", "Invoice 513", [("1400", 2950000, 0), ("4000", 0, 2950000)]),
    ("J-0037", "2024-04-29", "Rent April", [("6000", 780000, 0), ("1200", 0, 780000)]),
]
os.chdir("/srv/ledger")
os.makedirs("closed")
chain, line, closed = "0" * 16, 0, {}
with open("journal.csv", "w", newline="") as file:
    journal = csv.writer(file, lineterminator="\n")
    journal.writerow(["line", "entry", "date", "account", "debit", "credit", "text", "corrects", "chain"])
    for entry, date, text, parts in ENTRIES:
        for account, debit, credit in parts:
            line += 1
            amounts = [f"{cents / 100:.2f}" for cents in (debit, credit)]
            fields = [str(line), entry, date, account, *amounts, text, ""]
            chain = hashlib.sha256(";".join([chain, *fields]).encode()).hexdigest()[:16]
            journal.writerow([*fields, chain])
            if date < "2024-04":
                closed[account] = closed.get(account, 0) + debit - credit
                last = {"line": line, "chain": chain}
balances = {account: f"{cents / 100:.2f}" for account, cents in sorted(closed.items())}
with open("closed/2024-03.json", "w") as file:
    json.dump({"period": "2024-03", "last": last, "debit less credit": balances}, file, indent=2)
    file.write("\n")
os.remove("seed.py")
