#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Check that each folder of the library includes only the folders that it may know.

Usage: layers.py FOLDER
           the folder of the library; prints TAP
"""
import pathlib
import re
import sys
import tempfile

# The folders from the bottom to the top, each with the others that it may include.
# A folder may only name folders before it, so the includes make no circle.
LAYERS = {
    "base": "",
    "mapper": "base",
    "module": "base mapper",
    "kvm": "base mapper",
    "monitor": "base module",
    "gunyah": "base module",
    "vhost/wire": "base",
    "vhost/queue": "base vhost/wire",
    "vhost/frontend": "base mapper module vhost/wire",
    "vhost/backend": "base vhost/wire vhost/queue",
    # Tests of both ends.
    "vhost": "base mapper module kvm vhost/wire vhost/queue vhost/frontend vhost/backend",
    "testing": "base mapper module kvm",
    "gunyah/fuzz": "base module gunyah",
    "vhost/testing": "base vhost/wire vhost/queue vhost/frontend vhost/backend testing",
    "vhost/fuzz": "base vhost/wire vhost/queue vhost/frontend vhost/backend testing vhost/testing",
}

# Folders of doubles. Only doubles may include them, and the tests below their parent folder.
DOUBLES = ("testing", "gunyah/fuzz", "vhost/testing", "vhost/fuzz")

# An installed header belongs to the folder that has the source file of its name. These headers have
# no such file, or one in each end.
HOMES = {
    "gmem/memory_mapper.h": "mapper",
    "gmem/numa_policy.h": "base",
    "gmem/vhost/device.h": "vhost/backend",
    "gmem/vhost/frontend_handler.h": "vhost/frontend",
    "gmem/vhost/postcopy.h": "vhost/frontend",
    "gmem/vhost/protocol.h": "vhost/wire",
    "gmem/vhost/queue_calls.h": "vhost/backend",
}

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def home(root, header):
    """The folder of an installed header, "gmem/NAME.h" or "gmem/PART/NAME.h"; empty if unclear."""
    if header in HOMES:
        return HOMES[header]
    _, *part, name = header.split("/")
    parts = {path.name for path in (root / "include/gmem").iterdir() if path.is_dir()}
    found = []
    for folder in LAYERS:
        top = folder.split("/")[0]
        mine = top == part[0] if part else top not in parts
        if mine and folder not in DOUBLES and (root / folder / name).with_suffix(".cc").is_file():
            found.append(folder)
    return found[0] if len(found) == 1 else ""


def folder_of(root, file):
    """The folder that a file of the library belongs to."""
    path = file.relative_to(root)
    if path.parts[0] == "include":
        return home(root, path.relative_to("include").as_posix())
    return path.parent.as_posix()


def target_of(root, file, included):
    """The file of the library that an include means; None if it means another one."""
    for place in (file.parent, root, root / "include"):
        target = place / included
        if target.is_file():
            return target.resolve()
    return None


def may_include(file, folder, target):
    if target == folder or target in LAYERS[folder].split():
        return True
    if target not in DOUBLES or not file.name.endswith("_test.cc"):
        return False
    parent = target.rpartition("/")[0]
    return not parent or folder == parent or folder.startswith(parent + "/")


def problems(root):
    """What is wrong in the library at that path, a line each."""
    root = root.resolve()
    found = []
    files = sorted(file for file in root.rglob("*.[ch]*") if file.suffix in (".cc", ".h"))
    for file in files:
        name = file.relative_to(root).as_posix()
        # The examples see only what is installed.
        if name.startswith("example/"):
            continue
        folder = folder_of(root, file)
        if not folder:
            found.append(f"{name} has no home: no source file of its name, or several")
        elif folder not in LAYERS:
            found.append(f"{name}: the folder {folder} is no layer")
        else:
            for included in INCLUDE.findall(file.read_text()):
                target = target_of(root, file, included)
                where = folder_of(root, target) if target else folder
                # A target without a home is reported once, by itself.
                if where and not may_include(file, folder, where):
                    found.append(f"{name}: {folder} must not include {where} ({included})")
    return found


def circles():
    """Each folder that names itself, one after it, or one that doesn't exist."""
    found = []
    before = []
    for folder, others in LAYERS.items():
        found += [f"{folder} names {other}, which is not before it"
                  for other in others.split() if other not in before]
        before.append(folder)
    return found


# For each rule, a tree that breaks it, as files with their includes, and the complaint. Each tree
# also has the files of GOOD, which break no rule.
GOOD = {
    "base/status.cc": "gmem/status.h",
    "base/status.h": "",
    "include/gmem/status.h": "",
    "include/gmem/memory_mapper.h": "gmem/status.h",
    "include/gmem/kvm/vm.h": "gmem/memory_mapper.h",
    "include/gmem/vm.h": "gmem/status.h",
    "include/gmem/vhost/protocol.h": "",
    "module/vm.cc": "gmem/vm.h",
    "kvm/vm.cc": "gmem/kvm/vm.h",
    "kvm/vm_test.cc": "testing/fake.h",
    "testing/fake.h": "near.h",
    "testing/near.h": "kvm/abi.h",
    "kvm/abi.h": "linux/kvm.h",
    "vhost/wire/message.h": "base/status.h",
    "vhost/frontend/memory.h": "vhost/wire/message.h",
    "vhost/backend/memory.h": "gmem/vhost/protocol.h",
    "vhost/backend/memory_test.cc": "vhost/testing/both_ends.h",
    "vhost/testing/both_ends.h": "vhost/frontend/memory.h",
    "vhost/both_ends_test.cc": "vhost/backend/memory.h",
    "example/describe.cc": "gmem/vm.h",
}
BAD = {
    "a folder above": ("base/status.cc", "kvm/abi.h", "base must not include kvm"),
    "an installed header of a folder above":
        ("base/status.cc", "gmem/memory_mapper.h", "base must not include mapper"),
    "an installed header that includes a folder above":
        ("include/gmem/status.h", "gmem/vm.h", "base must not include module"),
    "a folder beside": ("kvm/vm.cc", "gmem/vm.h", "kvm must not include module"),
    "front-end includes back-end": ("vhost/frontend/memory.h", "vhost/backend/memory.h",
                                    "vhost/frontend must not include vhost/backend"),
    "back-end includes front-end": ("vhost/backend/memory.h", "vhost/frontend/memory.h",
                                    "vhost/backend must not include vhost/frontend"),
    "a test includes a folder above":
        ("kvm/vm_test.cc", "vhost/wire/message.h", "kvm must not include vhost/wire"),
    "a source includes a double": ("kvm/vm.cc", "testing/fake.h", "kvm must not include testing"),
    "an installed header includes a double":
        ("include/gmem/kvm/vm.h", "testing/fake.h", "kvm must not include testing"),
    "a test includes a double from above":
        ("kvm/vm_test.cc", "vhost/testing/both_ends.h", "kvm must not include vhost/testing"),
    "a double includes a double from above":
        ("testing/near.h", "vhost/testing/both_ends.h", "testing must not include vhost/testing"),
    "a header without a home": ("include/gmem/orphan.h", "", "include/gmem/orphan.h has no home"),
    "a header with two homes": ("mapper/vm.cc", "", "include/gmem/vm.h has no home"),
    "a folder that is no layer": ("vhost/extra/x.cc", "", "the folder vhost/extra is no layer"),
    "a source beside the folders": ("x.cc", "", "the folder . is no layer"),
}


def problems_of_tree(files):
    with tempfile.TemporaryDirectory() as name:
        for path, included in files.items():
            file = pathlib.Path(name) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f'#include "{included}"\n' if included else "")
        return problems(pathlib.Path(name))


def misses(file, included, complaint):
    """What is wrong with the report about the tree with that file."""
    found = problems_of_tree({**GOOD, file: included})
    if len(found) == 1 and complaint in found[0]:
        return []
    return [f"expected: {complaint}", *(f"reported: {line}" for line in found)]


def main(arguments):
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    results = [("the order of the layers", circles()),
               ("the library keeps to its layers", problems(pathlib.Path(arguments[0]))),
               ("a tree that keeps to the layers", problems_of_tree(GOOD))]
    results += [(f"rejected: {name}", misses(*tree)) for name, tree in BAD.items()]
    print(f"# layers_test\nTAP version 13\n1..{len(results)}")
    for number, (name, wrong) in enumerate(results, 1):
        print(f"{'not ok' if wrong else 'ok'} {number} {name}")
        for line in wrong:
            print(f"# {line}")
    return any(wrong for _, wrong in results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
