#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only
"""Check the JSON that gmemctl printed in its test by gmemctl.schema.json, and the schema by it.

Usage: json-test.py FILE. FILE is the output of gmemctl-test.sh, which has each JSON text in a
comment. Prints TAP. The schema lets later versions add members; here each member must be in it.
"""
import json
import os
import re
import sys

import jsonschema

SCHEMA = os.path.join(os.path.dirname(__file__), "gmemctl.schema.json")
# Members that need hardware, an older module or an accident.
UNSEEN = {"labels", "error", "lost"}


def strict(schema, defs):
    """Returns the schema without the permission for members that it doesn't name."""
    if isinstance(schema, list):
        return [strict(part, defs) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            value = {name: strict(part, defs) for name, part in value.items()}
        elif key in ("items", "oneOf"):
            value = strict(value, defs)
        result[key] = value
    if ("properties" in schema or "allOf" in schema) and "additionalProperties" not in schema:
        result["unevaluatedProperties"] = False
    # In allOf, the whole names all members, and no part does.
    if "allOf" in schema:
        result["allOf"] = [open_part(part, defs) for part in schema["allOf"]]
    return result


def open_part(part, defs):
    """Returns a part of allOf, with its reference resolved, which allows other members."""
    if "$ref" in part:
        part = defs[part["$ref"].rsplit("/", 1)[1]]
    closed = strict(part, defs)
    closed.pop("unevaluatedProperties", None)
    if "allOf" in part:
        closed["allOf"] = [open_part(inner, defs) for inner in part["allOf"]]
    return closed


def all_members(schema):
    """Returns the names of all members that the schema describes, anywhere."""
    found = set()
    if isinstance(schema, dict):
        found |= set(schema.get("properties", {}))
        for key, value in schema.items():
            if key in ("properties", "$defs"):
                for part in value.values():
                    found |= all_members(part)
            else:
                found |= all_members(value)
    elif isinstance(schema, list):
        for part in schema:
            found |= all_members(part)
    return found


def used_members(value):
    """Returns the names of all members of a JSON value."""
    if isinstance(value, list):
        return set().union(*map(used_members, value))
    if isinstance(value, dict):
        return set(value).union(*map(used_members, value.values()))
    return set()


def main(file):
    with open(SCHEMA, encoding="utf-8") as text:
        schema = json.load(text)
    with open(file, encoding="utf-8") as lines:
        printed = re.findall(r"^# json ([a-z]+): (.*)$", lines.read(), re.M)
    results = []
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        results.append(("the schema is one", ""))
    except jsonschema.SchemaError as error:
        results.append(("the schema is one", error.message))

    closed = strict(schema, schema["$defs"])
    commands = ["info", "list", "stats", "monitor", "top", "faults", "map", "reclaim", "policy"]
    seen = set()
    for command in commands:
        validator = jsonschema.Draft202012Validator(
            {"$ref": f"#/$defs/{command}", "$defs": closed["$defs"]})
        texts = [text for name, text in printed if name == command]
        why = "" if texts else "the test printed none"
        for text in texts:
            value = json.loads(text)
            seen |= used_members(value)
            error = jsonschema.exceptions.best_match(validator.iter_errors(value))
            if error:
                why = f"{error.json_path}: {error.message}"
                break
        results.append((f"{command} -j is as the schema says, {len(texts)} times", why))
    others = {name for name, _ in printed} - set(commands)
    results.append(("the schema has every subcommand", f"it lacks {others}" if others else ""))
    unused = all_members(schema) - seen - UNSEEN
    results.append(("every member was seen", f"not seen: {unused}" if unused else ""))

    print(f"TAP version 13\n1..{len(results)}")
    for number, (name, why) in enumerate(results, 1):
        print(f"{'not ok' if why else 'ok'} {number} {name}")
        if why:
            print(f"# {why}")
    return 1 if any(why for _, why in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
