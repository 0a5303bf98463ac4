#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Read the metrics of "gmemctl stats" with Prometheus's parsers.

Usage: metrics-test.py FILE. FILE is the output of gmemctl-test.sh, which has the metrics in
comments. Prints TAP.
"""
import re
import sys

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

PARSERS = {
    "prometheus": parser.text_string_to_metric_families,
    "openmetrics": openmetrics_parser.text_string_to_metric_families,
}
COUNTERS = {"gmem_lends", "gmem_reclaims", "gmem_refused", "gmem_vm_refused"}
GAUGES = {"gmem_vms", "gmem_guestmems", "gmem_bindings", "gmem_lent_pages", "gmem_leaked_pages",
          "gmem_vm_bindings", "gmem_vm_lent_pages"}


def problem(text, parse, has_vm):
    """Returns the mistakes of the text; empty if there are none."""
    try:
        families = list(parse(text))
    except ValueError as error:
        return f"it can't be read: {error}"
    types = {family.name: family.type for family in families}
    wanted = {name: "counter" for name in COUNTERS} | {name: "gauge" for name in GAUGES}
    if types != wanted:
        return f"metrics: {types}"
    for family in families:
        if not family.documentation:
            return f"{family.name} has no help"
        of_vms = family.name.startswith("gmem_vm_")
        if len(family.samples) != (has_vm if of_vms else 1):
            return f"{family.name} has the samples {family.samples}"
        for sample in family.samples:
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = {"vm", "name", "pid", "comm"} if of_vms else set()
            if sample.name != name or set(sample.labels) != labels:
                return f"sample {sample}"
            if of_vms and sample.labels["comm"] != r'a"\ b':
                return f"the VM's process is {sample.labels['comm']}"
            if of_vms and sample.labels["name"] != r'n"\ m':
                return f"the VM is called {sample.labels['name']}"
    return ""


def main(file):
    with open(file, encoding="utf-8") as lines:
        printed = lines.read()
    failed = False
    print(f"TAP version 13\n1..{2 * len(PARSERS)}")
    number = 0
    for name, parse in PARSERS.items():
        for has_vm, mark in ((0, ""), (1, ", VM")):
            number += 1
            found = re.findall(f"^# {name}{mark}: (.*\n)", printed, re.M)
            why = problem("".join(found), parse, has_vm)
            failed = failed or why
            print(f"{'not ok' if why else 'ok'} {number} stats --{name}{mark}")
            if why:
                print(f"# {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
