#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""gpu_check_test.py GPU_CHECK BUILD: tools/gpu-check on the simulated driver. A measurement that
works and one that cannot must both be in the report, and the exit status must tell them apart."""
import glob
import json
import os
import subprocess
import sys
import tempfile

program, build = sys.argv[1:3]


def check(*options):
    """Exit status, report, Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        status = subprocess.call([sys.executable, program, "--build", build, "--output", folder,
                                  "--skip-suite", "--skip-sanitizer", "--skip-compare", "--shapes",
                                  "tiny", "--repeat", "1", *options])
        names = sorted(glob.glob(os.path.join(folder, "*")))
        assert [os.path.splitext(name)[1] for name in names] == [".json", ".md"], names
        with open(names[0], encoding="utf-8") as data, open(names[1], encoding="utf-8") as text:
            return status, json.load(data), text.read()


if not os.path.exists(os.path.join(build, "tools", "draft")):
    print("the draft program was not built")
    sys.exit(77)

status, report, text = check("--sparsity", "0.9")
assert status == 0 == report["exit"], status
assert report["facts"]["simulated"] and "simulated driver" in text.lower()
assert [step["result"] for step in report["steps"]] == ["passed"] * 4
row, excess, most, plain = report["bench"]
assert [r["score"] for r in (excess, most, plain)] == ["excess", "max", "mean"]
assert (row["tail"], plain["tail"]) == ("mean", "drop") and row["density"]["tail"] > 0
assert row["case"] == "tiny" and row["sparsity"] == 0.9 and 0 < row["density"]["work"] < 0.5
assert all(stage["median_seconds"] > 0 for stage in row["stages"]) and len(row["stages"]) == 4
assert f"| tiny | 0.9 | {100 * row['density']['work']:.1f} % |" in text

status, report, text = check("--sparsity", "2")
assert status == 1 == report["exit"], status
assert report["steps"][0]["result"].startswith("failed") and not report["bench"]
assert "sparsity" in report["steps"][0]["output"] and "### draft bench: tiny: failed" in text

# Whatever is cut short is in the report too.
status, report, text = check("--sparsity", "0,0.9", "--budget", "1")
assert status == 1 and report["steps"][0]["result"] in ("not begun", "timed out"), report["steps"]
