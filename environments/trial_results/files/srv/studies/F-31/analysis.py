"""The analysis registered for study F-31: python3 analysis.py runs.csv"""

import csv
import json
import statistics
import sys

with open(sys.argv[1], newline="") as table:
    values = [float(row["removal_pct"]) for row in csv.DictReader(table)]
print(
    json.dumps(
        {
            "runs": len(values),
            "mean": round(statistics.mean(values), 2),
            "sd": round(statistics.stdev(values), 2),
            "lowest": min(values),
        }
    )
)
