"""Counts a CTest report in JUnit form: prints "passed failed skipped", then one line for each reason of a skip."""
import collections
import sys
import xml.etree.ElementTree


def reason_of(case):
    """What the test said before it skipped: the line after GoogleTest's "Skipped", else the last line."""
    lines = [line.strip() for line in (case.findtext("system-out") or "").splitlines() if line.strip()]
    for line, following in zip(lines, lines[1:]):
        if line.endswith(": Skipped") and not following.startswith("["):
            return following
    return lines[-1] if lines else "no reason given"


def main():
    passed = failed = 0
    skips = collections.defaultdict(list)
    for case in xml.etree.ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        status, name = case.get("status"), case.get("name")
        if status == "run":
            passed += 1
        elif status in ("notrun", "disabled"):
            # CTest says notrun for a skip and for a test whose program is missing; only the first is fine.
            skipped = case.find("skipped")
            message = skipped.get("message", "") if skipped is not None else ""
            if message.startswith("SKIP_"):
                skips[reason_of(case)].append(name)
            elif status == "disabled":
                skips["disabled"].append(name)
            else:
                failed += 1
        else:
            failed += 1
    print(passed, failed, sum(len(names) for names in skips.values()))
    for reason, names in skips.items():
        others = f" and {len(names) - 1} others" if len(names) > 1 else ""
        print(f"skipped: {names[0]}{others}: {reason}")


if __name__ == "__main__":
    main()
