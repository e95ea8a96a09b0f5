#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""gpu_check_test.py GPU_CHECK BUILD: tools/gpu-check on the simulated driver. A measurement that
works and one that cannot must both be in the report, and the exit status must tell them apart."""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

program, build = sys.argv[1:3]


def check(*options, of=build, status_wanted=0, **settings):
    """Report and Markdown. settings: variables."""
    with tempfile.TemporaryDirectory() as folder:
        status = subprocess.call([sys.executable, program, "--build", of, "--output", folder,
                                  "--shapes", "tiny", "--repeat", "1", *options],
                                 env=dict(os.environ, **settings))
        names = sorted(glob.glob(os.path.join(folder, "*")))
        assert [os.path.splitext(name)[1] for name in names] == [".json", ".md"], names
        with open(names[0], encoding="utf-8") as data, open(names[1], encoding="utf-8") as text:
            report = json.load(data)
            assert status == status_wanted == report["exit"], status
            return report, text.read()


def is_running(number):
    """Not where it has ended and nobody has asked how."""
    try:
        with open(f"/proc/{number}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def results_of(report):
    return [step["result"] for step in report["steps"]]


if not os.path.exists(os.path.join(build, "tools", "draft")):
    print("the draft program was not built")
    sys.exit(77)

# Each kernel by itself, from a packed build.
with tempfile.TemporaryDirectory() as folder:
    packed = os.path.join(folder, "packed.tar.xz")
    subprocess.check_call([sys.executable, os.path.join(os.path.dirname(program), "gpu_pack.py"),
                           build, packed])
    assert os.path.getsize(packed) < 16 << 20
    shutil.unpack_archive(packed, folder)
    report, text = check("--only", "first", of=os.path.join(folder, "packed"))
assert all("packed/" in step["command"] for step in report["steps"]), report["steps"]
assert results_of(report) == ["passed"] * 2 and "## Each kernel by itself" in text
assert [found["result"] for found in report["first"]] == ["right"] * 3
assert all(0 < found["error"] < 2 ** -7 for found in report["first"] if "drop" in found["case"])

# A library that cannot be loaded fails there, and the rest is tried all the same; a program that
# hangs is ended, and so is what it has begun, in time for the next.
with tempfile.TemporaryDirectory() as fake:
    os.makedirs(os.path.join(fake, "tools"))
    hanging, process = os.path.join(fake, "tools", "draft"), os.path.join(fake, "process")
    with open(os.path.join(fake, "libdraft.so"), "w", encoding="utf-8") as file:
        file.write("no library")
    with open(hanging, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\nsleep 1000 &\necho $! >> '{process}'\nwait\n")
    os.chmod(hanging, 0o755)
    start = time.monotonic()
    report, text = check("--only", "first,bench", "--budget", "20", of=fake, status_wanted=1,
                         DRAFT_SIMULATOR="sm_90")
    assert time.monotonic() - start < 60
    assert [result.split(" ")[0] for result in results_of(report)[:4]] == ["failed"] * 3 + ["timed"]
    assert any("fail by themselves" in note for note in report["notes"])
    # Kernels that failed are not in what comes after.
    commands = [step["command"] for step in report["steps"][3:]]
    assert len(commands) == 4 and all("bench" in command for command in commands), commands
    assert all(command.startswith("DRAFT_KERNEL=simt,sm80 ") for command in commands), commands
    with open(process, encoding="utf-8") as file:
        for number in file.read().split():
            assert not is_running(number), "a process was left"

report, text = check("--only", "bench", "--sparsity", "0.9")
assert report["facts"]["simulated"] and "simulated driver" in text.lower()
assert results_of(report) == ["passed"] * 4
row, excess, most, plain = report["bench"]
assert [r["score"] for r in (excess, most, plain)] == ["excess", "max", "mean"]
assert (row["tail"], plain["tail"]) == ("mean", "drop") and row["density"]["tail"] > 0
assert row["case"] == "tiny" and row["sparsity"] == 0.9 and 0 < row["density"]["work"] < 0.5
assert all(stage["median_seconds"] > 0 for stage in row["stages"]) and len(row["stages"]) == 4
assert f"| tiny | 0.9 | {100 * row['density']['work']:.1f} % |" in text

report, text = check("--only", "bench", "--sparsity", "2", status_wanted=1)
assert report["steps"][0]["result"].startswith("failed") and not report["bench"]
assert "sparsity" in report["steps"][0]["output"] and "### draft bench: tiny: failed" in text

# Whatever is cut short is in the report too.
report, text = check("--only", "bench", "--sparsity", "0,0.9", "--budget", "1", status_wanted=1)
assert report["steps"][0]["result"] in ("not begun", "timed out"), report["steps"]
